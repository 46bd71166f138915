"""Networks that fill in as files: lengths in every order, bounds, steps of several symbols."""

import functools
import io
import itertools

import jax
import numpy as np
import pytest
from scipy import stats

from codes import any_order, codec, container, filling
from models import transformer
from models.config import ModelConfig
import objectives
from objectives import gaussian_diffusion, scoring

V, T = 3, 5
# One more place than symbols: an end token, which is never coded and always seen.
MODEL = ModelConfig(V, T + 1, 16, 2, 2)
SPACE = objectives.Space(V, T + 1, T)
WHOLE = objectives.get('masked_diffusion')
# The second block is shorter; the end token lies in it.
BLOCKS = objectives.get('block_diffusion', block=3)
KINDS = pytest.mark.parametrize('objective', [WHOLE, BLOCKS])


@pytest.fixture(scope='module')
def params():
  made = transformer.init(MODEL, jax.random.key(0))
  made['output_DxV'] = jax.random.normal(jax.random.key(1), made['output_DxV'].shape)
  return {'backbone': made, 'objective': {}}


def _predictor(params, order='random', steps=(1,) * T, objective=WHOLE, batch=4):
  settings = any_order.Settings(order, 7, steps)
  return any_order.AnyOrder(objective, MODEL, SPACE, params, batch, settings)


def _tokens(rows):
  return np.random.default_rng(0).integers(0, V, (rows, T))


@functools.partial(jax.jit, static_argnums=0)
def _logits(objective, params, inputs):
  asked = objective.backbone(SPACE)
  places = {} if asked.positions is None else {'positions_T': np.array(asked.positions)}
  apply = transformer.make_apply(MODEL)
  return apply(params['backbone'], inputs, pattern=asked.pattern, **places).logits_BxTxV


def _log_p(params, objective, row_T, known):
  """log p (T, V) of every place when these are known, by one pass over whole examples."""
  noisy = np.append(np.where(np.isin(np.arange(T), list(known)), row_T, V), 0)
  inputs = noisy if objective is WHOLE else np.concatenate([noisy, row_T, [0]])
  logits = _logits(objective, params, inputs[None])[0, :T]
  return np.asarray(jax.nn.log_softmax(logits), np.float64)


def _nats(params, row_T, order, steps=(1,) * T, objective=WHOLE):
  """Of a row in an order, by passes of its own."""
  total, slot = 0.0, 0
  for size in steps:
    log_p_TxV = _log_p(params, objective, row_T, order[:slot])
    total -= sum(log_p_TxV[place, row_T[place]] for place in order[slot : slot + size])
    slot += size
  return total


def _blocks(objective):
  return [range(T)] if objective is WHOLE else [range(3), range(3, T)]


def _every_order(objective):
  inside = [itertools.permutations(block) for block in _blocks(objective)]
  return [sum(parts, ()) for parts in itertools.product(*inside)]


def _encode(predictor, tokens):
  flat = tokens.reshape(-1)
  fields = {'kind': container.ARRAY, 'total': len(tokens), 'dtype': '<i4', 'shape': (T,)}
  header, out = container.Header(**fields, **predictor.claims()), io.BytesIO()
  sizes = codec.encode(predictor, codec.Source(flat.size, lambda a, b: flat[a:b]), header, out)
  out.seek(0)
  return sizes, out


@pytest.mark.bits
@KINDS
@pytest.mark.parametrize('order', any_order.ORDERS)
@pytest.mark.parametrize('steps', [(1,) * T, (1, 2, 2)])
def test_a_file_has_the_length_of_its_orders(params, objective, order, steps):
  tokens = _tokens(10)
  sizes, out = _encode(_predictor(params, order, steps, objective), tokens)
  expected = 0.0
  for number, row in enumerate(tokens):
    places = np.arange(T)
    if order == 'random':
      drawn = np.random.default_rng((7, number)).permutation(T)
      places = np.concatenate([[p for p in drawn if p in block] for block in _blocks(objective)])
    expected += _nats(params, row, places, steps, objective)
  assert sizes.ideal_bits == pytest.approx(expected / np.log(2), rel=1e-5)
  reader, other = container.Reader(out), _predictor(params, order, steps, objective)
  assert any_order.unpack(reader.header.settings, T, other.block) == other.settings
  other.check(reader.header)
  found = np.concatenate(list(codec.decode(other, tokens.size, reader)))
  np.testing.assert_array_equal(found, tokens.reshape(-1))


@KINDS
def test_the_mean_over_orders_is_the_bound(params, objective):
  """All orders (inside blocks) against all masks: what training estimates, by its own weights."""
  for row in _tokens(3):
    orders = [_nats(params, row, order, objective=objective) for order in _every_order(objective)]
    bound = 0.0
    for block in _blocks(objective):
      before, size = set(range(block[0])), len(block)
      for count in range(1, size + 1):
        masks = list(itertools.combinations(block, count))
        for hidden in masks:
          log_p = _log_p(params, objective, row, before | set(block) - set(hidden))
          nats = -sum(log_p[place, row[place]] for place in hidden)
          bound += nats * (size / count) / len(masks) / size
    assert np.mean(orders) == pytest.approx(bound, rel=1e-5)


@KINDS
def test_raster_order_is_the_chain_rule_of_the_record(params, objective):
  tokens = _tokens(6)
  apply, chain = transformer.make_apply(MODEL), objective.also(SPACE)['chain rule in raster order']
  rows = np.arange(6, dtype=np.int32)
  padded = np.pad(tokens, ((0, 0), (0, 1))).astype(np.int32)
  batch = {'tokens': padded, 'label': rows, 'index': rows}
  evaluate = scoring.make_evaluation(chain, apply, SPACE, chain.draws(1, SPACE))
  nats = np.asarray(evaluate(params, batch, jax.random.key(0))['nats'])
  sizes, _ = _encode(_predictor(params, 'raster', objective=objective), tokens)
  assert sizes.ideal_bits == pytest.approx(nats.sum() / np.log(2), rel=1e-5)


class _EveryOrder(any_order.AnyOrder):
  """Row after row in another of all orders, instead of drawn ones."""

  def orders(self, start, stop):
    every = np.array(_every_order(WHOLE if self.block == T else BLOCKS))
    return every[np.arange(start, stop) % len(every)]


@KINDS
@pytest.mark.parametrize('count', [2, 3])
def test_the_price_of_fewer_passes_by_enumeration(params, objective, count):
  """Expected lengths over all orders, in all ways to make so many steps; the file has the best."""
  rows, every = _tokens(2), _every_order(objective)
  settings = any_order.Settings('random', 7, (1,) * T)
  predictor = _EveryOrder(objective, MODEL, SPACE, params, 64, settings)
  tokens = np.repeat(rows, len(every), 0)

  def expected(steps):
    return np.mean([_nats(params, row, o, steps, objective) for row in rows for o in every])

  ways = [s for s in itertools.product(range(1, T + 1), repeat=count) if sum(s) == T]
  if objective is BLOCKS:
    ways = [s for s in ways if 3 in itertools.accumulate(s)]
  lengths = {steps: expected(steps) / np.log(2) for steps in ways}
  predictor.choose_steps(count, tokens, tokens)
  price, least = predictor.price, min(lengths.values())
  assert price.bits_per_dim * T == pytest.approx(least, rel=1e-5)
  assert price.one_by_one * T == pytest.approx(expected((1,) * T) / np.log(2), rel=1e-5)
  assert lengths[predictor.settings.steps] == pytest.approx(least, rel=1e-9)
  # Of a network that learned nothing the price may have either sign.
  assert abs(least - price.one_by_one * T) > 1e-3 and (price.passes, price.of) == (count, T)
  sizes, _ = _encode(predictor, tokens)
  assert sizes.ideal_bits == pytest.approx(len(tokens) * least, rel=1e-5)
  # Other examples say the price of the steps that these chose.
  other = np.repeat(_tokens(3)[2:], len(every), 0)
  predictor.choose_steps(count, tokens, other)
  row, steps = other[0], predictor.settings.steps
  found = np.mean([_nats(params, row, o, steps, objective) for o in every]) / np.log(2)
  assert lengths[steps] == pytest.approx(least) and predictor.price.examples == len(every)
  assert predictor.price.bits_per_dim * T == pytest.approx(found, rel=1e-5)


def test_in_raster_order_steps_cost_what_their_places_do(params):
  rows = _tokens(7)
  predictor = _predictor(params, 'raster')
  costs = predictor.costs(rows)
  for known in range(T):
    for place in range(T):
      nats = [-_log_p(params, WHOLE, row, range(known))[place, row[place]] for row in rows]
      expected = np.mean(nats) if place >= known else np.inf
      assert costs[known, place] == pytest.approx(expected, rel=1e-5)


def test_the_error_of_the_price_is_that_of_its_examples(params):
  """In raster order, example by example: all symbols one by one, and in two steps."""
  rows = _tokens(9)
  predictor = _predictor(params, 'raster')
  predictor.choose_steps(2, rows, rows)
  first, _ = predictor.settings.steps
  nats_RxTxT = np.array(
    [[-_log_p(params, WHOLE, row, range(k))[range(T), row] for k in range(T)] for row in rows]
  )
  one_by_one = nats_RxTxT[:, range(T), range(T)].sum(1)
  steps = nats_RxTxT[:, 0, :first].sum(1) + nats_RxTxT[:, first, first:].sum(1)
  price, unit = predictor.price, T * np.log(2)
  assert price.bits_per_dim - price.one_by_one == pytest.approx(
    (steps - one_by_one).mean() / unit, abs=1e-6
  )
  expected = (steps - one_by_one).std(ddof=1) / 3 / unit
  assert expected > 1e-4 and price.stderr == pytest.approx(expected, rel=1e-4)
  predictor.choose_steps(2, rows, rows[:1])
  assert predictor.price.stderr is None


@pytest.mark.parametrize('count', range(1, 7))
def test_no_other_steps_cost_less(count):
  costs = np.random.default_rng(count).uniform(0, 3, (6, 6))
  costs[np.tril_indices(6, -1)] = np.inf
  if count > 1:
    costs[:4, 4:] = np.inf  # Two blocks.

  def cost(steps):
    begins = np.cumsum([0, *steps[:-1]])
    parts = zip(steps, begins, strict=True)
    return sum(costs[begin, begin : begin + size].sum() for size, begin in parts)

  every = [s for s in itertools.product(range(1, 7), repeat=count) if sum(s) == 6]
  found, nats = any_order.best_steps(costs, count)
  assert sum(found) == 6 and len(found) == count
  assert cost(found) == pytest.approx(min(map(cost, every))) == pytest.approx(nats)


def test_bad_settings_are_refused(params):
  good = _predictor(params).settings
  assert any_order.unpack(good.pack(), T, T) == good
  for wrong in (
    b'', b'{}', b'[1]', b'{"order":"up","seed":0,"steps":[5]}',
    b'{"order":"raster","seed":-1,"steps":[5]}', b'{"order":"raster","seed":0,"steps":[6]}',
    b'{"order":"raster","seed":0,"steps":[6,-1]}', b'{"order":"raster","seed":0,"steps":5}',
    b'{"order":"raster","seed":0,"steps":[1e999]}',
  ):  # fmt: skip
    with pytest.raises(container.StreamError, match='settings in the header'):
      any_order.unpack(wrong, T, T)
  over = any_order.Settings('random', 0, (2, 2, 1)).pack()
  assert any_order.unpack(over, T, T) and any_order.unpack(over, T, 2)
  with pytest.raises(container.StreamError, match='settings in the header'):
    any_order.unpack(over, T, 3)
  costs = _predictor(params, objective=BLOCKS).costs(_tokens(2))
  with pytest.raises(ValueError, match='from 2 to 5 steps decide 5 symbols, not 1'):
    any_order.best_steps(costs, 1)
  stranger = _predictor(jax.tree.map(lambda x: x + 1, params))
  fields = {'kind': container.ARRAY, 'total': 1, 'dtype': '<i4', 'shape': (T,)}
  header = container.Header(**fields, **_predictor(params).claims())
  with pytest.raises(container.StreamError, match='another network'):
    stranger.check(header)


def test_who_fills_in():
  kinds = {name: filling.filler(objectives.get(name), SPACE) for name in objectives.OBJECTIVES}
  able = {name for name, found in kinds.items() if found is not None}
  assert able == {'masked_diffusion', 'block_diffusion', 'masked', 'dual'}
  assert kinds['masked'] == WHOLE


def test_the_price_of_bits_back():
  """Entropies of two normal variables in cells, summed over the cells."""
  vocabulary, steps, cell = 17, 256, 8 / 2**16
  low, high = gaussian_diffusion.endpoints(vocabulary)
  alpha, sigma = gaussian_diffusion.alpha_sigma(np.array([low, low + (high - low) / steps]))
  # z_s = (alpha_s / alpha_0) z_0 + noise, whose variance makes up for what is lacking of sigma_s.
  deviations = [sigma[0], np.sqrt(sigma[1] ** 2 - (alpha[1] / alpha[0] * sigma[0]) ** 2)]
  edges, expected = np.arange(-4, 4 + cell / 2, cell), 0.0
  for deviation in deviations:
    p = np.diff(stats.norm.cdf(edges, scale=float(deviation)))
    expected -= (p[p > 0] * np.log2(p[p > 0])).sum()
  found = gaussian_diffusion.initial_bits(vocabulary, steps)
  assert found == pytest.approx(expected, rel=1e-4)
  said = objectives.get('gaussian_diffusion').no_file(objectives.Space(vocabulary, 64, 64))
  assert f'some {64 * expected:,.0f} before' in said and '256 steps of 64 numbers' in said
