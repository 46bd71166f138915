"""Masks, orders, schedules and regret, against enumeration on the source of test_objectives."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import test_objectives as tiny_source

from models import transformer
from models.config import ModelConfig
import objectives
from objectives import base, masked_diffusion, scoring

V, T, SPACE = tiny_source.V, tiny_source.T, tiny_source.SPACE
SEQUENCES, PARAMS = tiny_source.SEQUENCES, tiny_source.PARAMS


def _mask_costs(tables, sequence) -> dict[tuple, float]:
  """Sum of cross-entropies on the hidden positions, for every set of hidden positions."""
  costs = {}
  for k in range(1, T + 1):
    for hidden in itertools.combinations(range(T), k):
      key = tuple(tiny_source.MASK if i in hidden else int(s) for i, s in enumerate(sequence))
      costs[hidden] = -sum(math.log(tables[key][i, sequence[i]]) for i in hidden)
  return costs


@pytest.mark.parametrize('schedule', ['linear', 'cosine', 'polynomial'])
def test_every_bernoulli_schedule_has_the_mean_of_exact_k(schedule):
  """The integral over t by quadrature, with the rates that the objective uses."""
  nodes, weights = np.polynomial.legendre.leggauss(60)
  with jax.enable_x64(True):
    m, ratio = masked_diffusion.mask_rate(schedule, jnp.asarray((nodes + 1) / 2, jnp.float64))
  m, ratio = np.asarray(m), np.asarray(ratio)
  tables = tiny_source._wrong_tables(1)
  for sequence in SEQUENCES[::20]:
    total = 0.0
    for hidden, cost in _mask_costs(tables, sequence).items():
      k = len(hidden)
      total += cost * np.sum(weights / 2 * ratio * m**k * (1 - m) ** (T - k))
    assert total == pytest.approx(tiny_source._exact_bound(tables, sequence), rel=1e-6)


def test_bernoulli_views_follow_their_rate():
  space = base.Space(vocabulary=5, length=20, dims=20)
  strata = jnp.full(4000, 0.3)
  for schedule, m, slope in [
    ('linear', 0.3, 1.0),
    ('cosine', 1 - math.cos(0.15 * math.pi), math.pi / 2 * math.sin(0.15 * math.pi)),
    ('polynomial', 0.09, 0.6),
  ]:
    settings = {'form': 'bernoulli', 'schedule': schedule}
    _, view = tiny_source._views('masked_diffusion', 4000, space=space, strata=strata, **settings)
    weights = np.asarray(view.weights_T)
    assert (weights > 0).mean() == pytest.approx(m, abs=0.008)
    np.testing.assert_allclose(weights[weights > 0], slope / m, rtol=1e-4)
  # At time zero nothing is masked and nothing is infinite.
  _, view = tiny_source._views(
    'masked_diffusion', 9, space=space, strata=jnp.zeros(9), form='bernoulli'
  )
  assert np.all(np.isfinite(view.weights_T)) and np.sum(view.weights_T) < 1e8


def test_bernoulli_estimates_the_same_bound_with_more_variance():
  tables = tiny_source._wrong_tables(1)
  predictor = tiny_source._predictor(tables)
  expected = np.mean([tiny_source._exact_bound(tables, s) for s in SEQUENCES])
  uniform = {}
  for form in ('exact_k', 'bernoulli'):
    objective = objectives.get('masked_diffusion', form=form)
    nats = tiny_source._evaluate(objective, predictor, SEQUENCES, 1500)['nats']
    assert nats.mean() == pytest.approx(expected, rel=0.02)
    uniform[form] = tiny_source._evaluate(objective, tiny_source._uniform, SEQUENCES, 7)['nats']
  assert uniform['exact_k'].std() < 1e-5 < 0.05 < uniform['bernoulli'].std()


def test_fixed_order_is_the_chain_rule_of_raster_order():
  tables = tiny_source._wrong_tables(4)
  other = objectives.get('masked_diffusion').also(SPACE)['chain rule in raster order']
  assert other.code is base.Code.EXACT
  nats = tiny_source._evaluate(other, tiny_source._predictor(tables), SEQUENCES, draws=3)['nats']
  # The first of the orders that the reference walks through is the raster one.
  expected = [tiny_source._order_nats(tables, s)[0] for s in SEQUENCES]
  np.testing.assert_allclose(nats, expected, rtol=1e-5)
  assert np.exp(-nats.astype(np.float64)).sum() == pytest.approx(1, abs=1e-5)


def test_berts_weights_are_scored_by_the_bound_of_masked_diffusion():
  predictor = tiny_source._predictor(tiny_source._wrong_tables(2))
  other = objectives.get('masked').also(SPACE)['masked_diffusion']
  same = objectives.get('masked_diffusion')
  a, b = (tiny_source._evaluate(o, predictor, SEQUENCES, 5)['nats'] for o in (other, same))
  np.testing.assert_array_equal(a, b)


def test_the_hiding_form_of_bert_shows_nothing_of_what_it_charges():
  hiding = objectives.get('masked', ratio=0.5).hiding()
  assert hiding == objectives.get('masked', ratio=0.5, corruption='mask')
  assert objectives.get('masked_diffusion').hiding() is None


@pytest.mark.parametrize('order', ['raster', 'reversed', 'random'])
def test_orders_permute_the_data_and_charge_the_same_tokens(order):
  config = ModelConfig(vocabulary=V, length=T, width=8, layers=1, heads=2)
  params = transformer.init(config, jax.random.key(0))
  params['output_DxV'] = jax.random.normal(jax.random.key(1), (8, V))
  apply = transformer.make_apply(config)
  objective = objectives.get('autoregressive', order=order, order_seed=3)
  permutation = objective.permutation(SPACE)
  assert sorted(permutation) == list(range(T))

  def bound(_, inputs, **arguments):
    return apply(params, inputs, **arguments)

  nats = tiny_source._evaluate(objective, bound, SEQUENCES, 1)['nats']
  raster = tiny_source._evaluate(
    objectives.get('autoregressive'), bound, SEQUENCES[:, permutation], 1
  )['nats']
  np.testing.assert_allclose(nats, raster, rtol=1e-6)
  assert np.exp(-nats.astype(np.float64)).sum() == pytest.approx(1, abs=1e-6)
  probed = objective.probe_view(jnp.arange(T), SPACE, None, None).inputs
  np.testing.assert_array_equal(probed, permutation)


def test_an_end_token_stays_last_in_every_order():
  space = base.Space(vocabulary=V, length=6, dims=5)
  for order in ('reversed', 'random'):
    permutation = objectives.get('autoregressive', order=order).permutation(space)
    assert permutation[5] == 5 and sorted(permutation) == list(range(6))


def test_a_limited_context_is_a_markov_model():
  config = ModelConfig(vocabulary=V, length=6, width=8, layers=3, heads=2)
  params = transformer.init(config, jax.random.key(0))
  leaves, tree = jax.tree.flatten(params)
  keys = jax.random.split(jax.random.key(1), len(leaves))
  noisy = [x + 0.3 * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)]
  params = {'backbone': jax.tree.unflatten(tree, noisy)}
  apply = transformer.make_apply(config)
  space = base.Space(vocabulary=V, length=6, dims=6)
  objective = objectives.get('autoregressive', context=2)
  tokens = jnp.array([[0, 1, 2, 0, 1, 2]])

  @jax.jit
  def logits(tokens):
    keys = jax.random.split(jax.random.key(0), 1)
    example = base.Example(tokens, jnp.zeros(1, int), jnp.zeros(1), keys, jnp.ones(1))
    view = scoring.batch_view(objective, space, example)
    return objective.run(apply, params, view, space).logits_BxTxV[0]

  before = np.asarray(logits(tokens))
  for j in range(6):
    after = np.asarray(logits(tokens.at[0, j].set((tokens[0, j] + 1) % V)))
    changed = np.flatnonzero(np.abs(after - before).max(-1) > 0)
    np.testing.assert_array_equal(changed, [t for t in (j + 1, j + 2) if t < 6])


def test_block_and_half_plane_masks_on_pictures():
  space = base.Space(vocabulary=5, length=64, dims=64, shape=(8, 8))
  for pattern, ratio in [('block', 0.25), ('half_plane', 0.5)]:
    _, view = tiny_source._views('masked', 200, space=space, ratio=ratio, pattern=pattern)
    weights = np.asarray(view.weights_T)
    np.testing.assert_allclose(weights.sum(1), 1, rtol=1e-6)
    seen = set()
    for mask in (weights > 0).reshape(-1, 8, 8):
      rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
      # A filled rectangle and nothing else.
      assert mask.sum() == len(rows) * len(columns) == round(ratio * 64)
      assert np.ptp(rows) + 1 == len(rows) and np.ptp(columns) + 1 == len(columns)
      seen.add((rows[0], columns[0], len(rows)))
      if pattern == 'half_plane':
        assert 8 in (len(rows), len(columns)) and 4 in (len(rows), len(columns))
    assert len(seen) == (4 if pattern == 'half_plane' else 25)
  with pytest.raises(ValueError, match='half_plane.*needs pictures'):
    objectives.get('masked', pattern='half_plane').check(base.Space(5, 16, 16))
  _, view = tiny_source._views(
    'masked', 50, space=base.Space(5, 16, 16), ratio=0.25, pattern='block'
  )
  for mask in np.asarray(view.weights_T) > 0:
    assert mask.sum() == 4 and np.ptp(np.flatnonzero(mask)) == 3


def test_denoising_replaces_uniformly_and_charges_all():
  space = base.Space(vocabulary=5, length=31, dims=30)
  tokens, view = tiny_source._views('denoising', 2000, space=space, ratio=0.5)
  differs = np.asarray(view.inputs) != np.asarray(tokens)
  assert differs[:, :30].mean() == pytest.approx(0.5 * 4 / 5, abs=0.01)
  assert not differs[:, 30].any()
  np.testing.assert_array_equal(np.asarray(view.weights_T)[:, :30], 1)
  assert np.asarray(view.inputs).max() < 5


class _Truth:
  """The exact conditionals of the enumerable source, in the form that objectives ask for."""

  def __init__(self, p, tables):
    index = [np.ravel_multi_index(s, (V,) * T) for s in SEQUENCES]
    self._log_p = jnp.zeros(V**T).at[jnp.asarray(index)].set(jnp.log(jnp.asarray(p)))
    self._predict = tiny_source._predictor(tables)

  def nats(self, tokens):
    return -self._log_p[sum(tokens[:, i] * V ** (T - 1 - i) for i in range(T))]

  def conditional_cross_entropy(self, tokens, hidden):
    seen = jnp.where(hidden, tiny_source.MASK, tokens)
    logits = self._predict(None, seen, pattern=('full',)).logits_BxTxV
    return jnp.where(hidden, base.cross_entropy(logits, tokens), 0.0)


def test_regret_is_zero_for_the_truth_and_the_gap_for_others():
  p = tiny_source._source()
  tables, wrong = tiny_source._conditionals(p), tiny_source._wrong_tables(3)
  truth = _Truth(p, tables)
  objective = objectives.get('masked_diffusion')
  batch = {
    'tokens': jnp.asarray(SEQUENCES, jnp.int32),
    'label': jnp.zeros(81, jnp.int32),
    'index': jnp.arange(81),
  }

  def evaluate(predictor, draws):
    function = scoring.make_evaluation(objective, predictor, SPACE, draws, truth)
    found = jax.jit(function)(PARAMS, batch, jax.random.key(0))
    return {k: np.asarray(v, np.float64) for k, v in found.items()}

  exact = evaluate(tiny_source._predictor(tables), 8)
  np.testing.assert_allclose(exact['regret'], 0, atol=1e-5)
  found = evaluate(tiny_source._predictor(wrong), 1500)
  expected = [
    tiny_source._exact_bound(wrong, s) - tiny_source._exact_bound(tables, s) for s in SEQUENCES
  ]
  assert p @ found['regret'] == pytest.approx(p @ np.array(expected), rel=0.03)
  np.testing.assert_allclose(found['regret_by_count'].sum(1), found['regret'], atol=1e-4)
  # By k: the mean over masks of that size alone.
  by_k = p @ found['regret_by_count'] * T
  for k in range(1, T + 1):
    gap = 0.0
    for q, sequence in zip(p, SEQUENCES, strict=True):
      costs, best = _mask_costs(wrong, sequence), _mask_costs(tables, sequence)
      sized = [costs[h] - best[h] for h in costs if len(h) == k]
      gap += q * np.mean(sized) * T / k
    assert by_k[k - 1] == pytest.approx(gap, rel=0.12, abs=0.01)


def _by_confidence(tables, sequence) -> float:
  """-log p in the order that a reader of the tables would choose, who knows what came so far."""
  key, nats = [tiny_source.MASK] * T, 0.0
  for _ in range(T):
    table = tables[tuple(key)]
    spread = [
      -np.sum(p * np.log(p)) if k == tiny_source.MASK else np.inf
      for p, k in zip(table, key, strict=True)
    ]
    i = int(np.argmin(spread))
    nats -= math.log(table[i, sequence[i]])
    key[i] = int(sequence[i])
  return nats


@pytest.mark.parametrize('end', [False, True])
def test_the_order_of_confidence_is_a_code(end):
  """Every sequence's own order by hand; they add up to 1 since none depends on what is hidden."""
  tables = tiny_source._wrong_tables(4)
  space = base.Space(vocabulary=V, length=T + end, dims=T)
  other = objectives.get('masked_diffusion').also(space)['chain rule in order of confidence']
  assert other.code is base.Code.EXACT
  # One draw, but as many passes as the chain rule beside it: the limit of passes holds for both.
  assert other.draws(64, space) == 1 and other.passes(64, space) == T
  assert objectives.get('masked_diffusion').passes(64, space) == 64
  look_up = tiny_source._predictor(tables)

  def predictor(params, inputs, **arguments):
    found = look_up(params, inputs[:, :T], **arguments).logits_BxTxV
    return transformer.Outputs(jnp.pad(found, ((0, 0), (0, int(end)), (0, 0))), None)

  sequences = np.pad(SEQUENCES, ((0, 0), (0, int(end))))
  nats = tiny_source._evaluate(other, predictor, sequences, draws=3, space=space)['nats']
  expected = [_by_confidence(tables, s) for s in SEQUENCES]
  np.testing.assert_allclose(nats, expected, rtol=1e-5)
  assert np.exp(-nats.astype(np.float64)).sum() == pytest.approx(1, abs=1e-5)
  raster = [tiny_source._order_nats(tables, s)[0] for s in SEQUENCES]
  assert np.abs(np.array(raster) - expected).max() > 0.5
