"""Masked diffusion as a file: its length in every order, the bound, steps of several symbols."""

import io
import itertools

import jax
import numpy as np
import pytest

from codes import any_order, codec, container
from models import transformer
from models.config import ModelConfig
import objectives
from objectives import masked_diffusion, scoring

pytestmark = pytest.mark.bits

V, T = 3, 4
MODEL = ModelConfig(V, T, 16, 2, 2)
SPACE = objectives.Space(V, T, T)


@pytest.fixture(scope='module')
def params():
  made = transformer.init(MODEL, jax.random.key(0))
  made['output_DxV'] = jax.random.normal(jax.random.key(1), made['output_DxV'].shape)
  return {'backbone': made, 'objective': {}}


def _predictor(params, order='random', steps=(1,) * T, batch=4):
  objective = objectives.get('masked_diffusion')
  settings = any_order.Settings(order, 7, steps)
  return any_order.AnyOrder(objective, MODEL, SPACE, params, batch, settings)


def _tokens(rows):
  return np.random.default_rng(0).integers(0, V, (rows, T))


@jax.jit
def _logits(params, inputs_BxT):
  apply = transformer.make_apply(MODEL)
  return apply(params['backbone'], inputs_BxT, pattern=('full',)).logits_BxTxV


def _log_p(params, inputs_BxT):
  """log p (B, T, V) by the whole forward pass."""
  return np.asarray(jax.nn.log_softmax(_logits(params, inputs_BxT)), np.float64)


def _nats(params, row_T, order, steps=(1,) * T):
  """Of a row in an order, by passes of its own."""
  inputs_T, total, slot = np.full(T, V), 0.0, 0
  for size in steps:
    log_p_TxV = _log_p(params, inputs_T[None])[0]
    for place in order[slot : slot + size]:
      total -= log_p_TxV[place, row_T[place]]
    inputs_T[list(order[slot : slot + size])] = row_T[list(order[slot : slot + size])]
    slot += size
  return total


@pytest.mark.parametrize('order', any_order.ORDERS)
@pytest.mark.parametrize('steps', [(1,) * T, (1, 3)])
def test_a_file_has_the_length_of_its_orders(params, order, steps):
  tokens, flat = _tokens(10), _tokens(10).reshape(-1)
  predictor = _predictor(params, order, steps)
  fields = {'kind': container.ARRAY, 'total': 10, 'dtype': '<i4', 'shape': (T,)}
  header, out = container.Header(**fields, **predictor.claims()), io.BytesIO()
  sizes = codec.encode(predictor, codec.Source(flat.size, lambda a, b: flat[a:b]), header, out)
  expected = 0.0
  for number, row in enumerate(tokens):
    places = np.arange(T)
    if order == 'random':
      places = np.random.default_rng((7, number)).permutation(T)
    expected += _nats(params, row, places, steps)
  assert sizes.ideal_bits == pytest.approx(expected / np.log(2), rel=1e-5)
  out.seek(0)
  reader = container.Reader(out)
  assert any_order.unpack(reader.header.settings, T) == predictor.settings
  other = _predictor(params, order, steps)
  other.check(reader.header)
  found = np.concatenate(list(codec.decode(other, flat.size, reader)))
  np.testing.assert_array_equal(found, flat)


def test_the_mean_over_orders_is_the_bound(params):
  """All 4! orders against all masks: E_k E_M (T/k) sum over M, which training estimates."""
  for row in _tokens(3):
    orders = [_nats(params, row, order) for order in itertools.permutations(range(T))]
    bound = 0.0
    for count in range(1, T + 1):
      masks = list(itertools.combinations(range(T), count))
      for hidden in masks:
        inputs = row.copy()
        inputs[list(hidden)] = V
        log_p = _log_p(params, inputs[None])[0]
        nats = -sum(log_p[place, row[place]] for place in hidden)
        bound += nats * (T / count) / len(masks) / T
    assert np.mean(orders) == pytest.approx(bound, rel=1e-5)


def test_raster_order_is_the_chain_rule_of_the_record(params):
  tokens = _tokens(6)
  predictor = _predictor(params, 'raster')
  apply = transformer.make_apply(MODEL)
  evaluate = scoring.make_evaluation(masked_diffusion.FixedOrder(), apply, SPACE, 1)
  rows = np.arange(6, dtype=np.int32)
  batch = {'tokens': tokens.astype(np.int32), 'label': rows, 'index': rows}
  nats = np.asarray(evaluate(params, batch, jax.random.key(0))['nats'])
  assert predictor.profile(tokens).sum() == pytest.approx(nats.mean(), rel=1e-5)


@pytest.mark.parametrize('count', range(1, 7))
def test_no_other_steps_cost_less(count):
  profile = np.sort(np.random.default_rng(count).uniform(0, 3, 6))[::-1]

  def cost(steps):
    begins = np.cumsum([0, *steps[:-1]])
    return sum(size * profile[begin] for size, begin in zip(steps, begins, strict=True))

  every = [s for s in itertools.product(range(1, 7), repeat=count) if sum(s) == 6]
  found = any_order.best_steps(profile, count)
  assert sum(found) == 6 and len(found) == count
  assert cost(found) == pytest.approx(min(map(cost, every)))


def test_bad_settings_are_refused(params):
  good = _predictor(params).settings
  assert any_order.unpack(good.pack(), T) == good
  for wrong in (
    b'', b'{}', b'[1]', b'{"order":"up","seed":0,"steps":[4]}',
    b'{"order":"raster","seed":-1,"steps":[4]}', b'{"order":"raster","seed":0,"steps":[5]}',
    b'{"order":"raster","seed":0,"steps":[5,-1]}', b'{"order":"raster","seed":0,"steps":4}',
  ):  # fmt: skip
    with pytest.raises(container.StreamError, match='settings in the header'):
      any_order.unpack(wrong, T)
  with pytest.raises(ValueError, match='from 1 to 4 steps decide 4 symbols, not 5'):
    any_order.best_steps(np.ones(4), 5)
  stranger = _predictor(jax.tree.map(lambda x: x + 1, params))
  fields = {'kind': container.ARRAY, 'total': 1, 'dtype': '<i4', 'shape': (T,)}
  header = container.Header(**fields, **_predictor(params).claims())
  with pytest.raises(container.StreamError, match='another network'):
    stranger.check(header)
