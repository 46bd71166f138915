"""What autoregression may do in training alone: masked inputs, orders from random to raster."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from models import transformer
from models.config import ModelConfig
import objectives
from objectives import base, scoring
from runs import run

V, T = 3, 4
SPACE = base.Space(vocabulary=V, length=T, dims=T)
SEQUENCES = np.array(list(itertools.product(range(V), repeat=T)))
CONFIG = ModelConfig(vocabulary=V, length=T, width=16, layers=2, heads=2)


def _network(config: ModelConfig = CONFIG):
  """A network far from uniform, its positions and MASK included."""
  params = transformer.init(config, jax.random.key(0))
  shape = (config.width, config.vocabulary)
  params['output_DxV'] = jax.random.normal(jax.random.key(1), shape)
  params['position_table'] = jax.random.normal(jax.random.key(2), (config.length, config.width))
  params['token_table'] = jax.random.normal(
    jax.random.key(3), (config.vocabulary + 1, config.width)
  )
  table = jax.random.normal(jax.random.key(6), (config.length, config.width))
  own = {'fed_from_TxD': table}
  return {'backbone': params, 'objective': own}, transformer.make_apply(config)


PARAMS, APPLY = _network()


def _views(objective, tokens, progress, seed=0, space=SPACE):
  rows = len(tokens)
  draw = scoring.draw(jax.random.key(seed), rows, progress)
  tokens, labels = jnp.asarray(tokens, jnp.int32), jnp.zeros(rows, jnp.int32)
  examples = base.Example(tokens, labels, draw['stratum'], draw['key'], draw['progress'])
  return jax.jit(lambda examples: scoring.batch_view(objective, space, examples))(examples)


def _run(objective, view, space=SPACE):
  return np.asarray(jax.jit(lambda v: objective.run(APPLY, PARAMS, v, space).logits_BxTxV)(view))


def _evaluated(objective):
  evaluate = jax.jit(scoring.make_evaluation(objective, APPLY, SPACE, 1))
  index = jnp.arange(len(SEQUENCES))
  batch = {'tokens': jnp.asarray(SEQUENCES, jnp.int32), 'label': 0 * index, 'index': index}
  return np.asarray(evaluate(PARAMS, batch, jax.random.key(0))['nats'])


@pytest.mark.parametrize('changes', [{'input_mask': 0.4}, {'order': 'annealed'}])
def test_an_evaluation_is_that_of_plain_autoregression_to_the_last_bit(changes):
  """Though training looks different at its very end too, as masks do."""
  plain = _evaluated(objectives.get('autoregressive'))
  objective = objectives.get('autoregressive', **changes)
  np.testing.assert_array_equal(_evaluated(objective), plain)
  assert np.exp(-plain.astype(np.float64)).sum() == pytest.approx(1, abs=1e-6)
  assert objective.slots(SPACE).tolist() == [0, 1, 2, 3]
  batch = {'tokens': jnp.asarray(SEQUENCES, jnp.int32), 'label': jnp.zeros(81, jnp.int32)}
  loss = scoring.make_loss(objective, APPLY, SPACE)
  early = loss(PARAMS, {**batch, **scoring.draw(jax.random.key(0), 81, 0.0)})[0]
  assert abs(float(early) - plain.mean() / T) > 1e-3


def test_the_share_of_masked_inputs_and_nothing_else_changes():
  space = base.Space(vocabulary=5, length=33, dims=32)
  tokens = np.asarray(jax.random.randint(jax.random.key(5), (400, 33), 0, 5))
  view = _views(objectives.get('autoregressive', input_mask=0.3), tokens, 1.0, space=space)
  masked = np.asarray(view.inputs) == 5
  n = 400 * 32
  assert masked[:, :32].mean() == pytest.approx(0.3, abs=4 * math.sqrt(0.21 / n))
  # Each on its own: neighbours are masked together as often as chance says.
  both = (masked[:, :31] & masked[:, 1:32]).mean()
  assert both == pytest.approx(0.09, abs=5 * math.sqrt(0.09 / n))
  assert not masked[:, 32].any()  # The end token.
  np.testing.assert_array_equal(np.asarray(view.inputs)[~masked], tokens[~masked])
  np.testing.assert_array_equal(view.targets_T, tokens)
  np.testing.assert_array_equal(view.weights_T, np.tile(base.charged(space), (400, 1)))


def test_the_start_vector_is_never_masked():
  """With every input masked, slot 0 says what it always says, and all others what MASK says."""
  objective = objectives.get('autoregressive', input_mask=1.0)
  logits = _run(objective, _views(objective, SEQUENCES[:9], 0.5))
  clean = jnp.full((9, T), V)
  forward = jax.jit(lambda x: APPLY(PARAMS['backbone'], x, pattern=('causal',), shift=True))
  np.testing.assert_allclose(logits, forward(clean).logits_BxTxV, rtol=1e-5, atol=1e-5)
  seen = forward(jnp.asarray(SEQUENCES[:9])).logits_BxTxV
  np.testing.assert_allclose(logits[:, 0], seen[:, 0], rtol=1e-5, atol=1e-5)
  assert np.abs(logits[:, 1:] - seen[:, 1:]).max() > 0.1


@pytest.mark.parametrize('changes', [{'input_mask': 0.4}, {'order': 'annealed', 'input_mask': 0.2}])
def test_a_slot_depends_on_earlier_slots_alone(changes):
  objective = objectives.get('autoregressive', **changes)
  tokens = np.asarray(jax.random.randint(jax.random.key(4), (40, T), 0, V))
  view = _views(objective, tokens, 0.6)
  logits = _run(objective, view)
  places = np.tile(np.arange(T), (40, 1)) if view.positions_T is None else view.positions_T
  changed_something = 0
  for place in range(T):
    other = tokens.copy()
    other[:, place] = (other[:, place] + 1) % V
    moved = _run(objective, _views(objective, other, 0.6))
    slot = np.argmax(np.asarray(places) == place, axis=1)
    upto = np.arange(T)[None] <= slot[:, None]
    np.testing.assert_array_equal(moved[upto], logits[upto])
    changed_something += np.abs(moved - logits)[~upto].max(initial=0) > 1e-3
  assert changed_something == (T - 1 if view.positions_T is None else T)  # Nobody sees the last.


@pytest.mark.parametrize('progress,share', [(0.0, 1), (0.5, 1), (0.6, 0.6), (0.7, 0.2), (0.75, 0)])
def test_random_orders_give_way_to_raster(progress, share):
  objective = objectives.get('autoregressive', order='annealed')
  rows = 4800
  tokens = SEQUENCES[np.arange(rows) % 81]
  view = _views(objective, tokens, progress)
  places = np.asarray(view.positions_T)
  orders, counts = np.unique(places, axis=0, return_counts=True)
  count = {tuple(o): c for o, c in zip(orders, counts, strict=True)}
  raster = count.pop((0, 1, 2, 3), 0)
  expected = np.array([1 - share * 23 / 24, *[share / 24] * 23]) * rows
  found = np.array([raster, *(count.get(o, 0) for o in itertools.permutations(range(T)))])
  found = np.delete(found, 1)  # Raster comes first among the permutations too.
  if share:
    chi2 = ((found - expected) ** 2 / expected).sum()
    assert chi2 < 49.7  # 0.1 % point of chi-squared with 23 degrees of freedom
  else:
    assert raster == rows
  seen = np.take_along_axis(tokens, places, axis=1)
  np.testing.assert_array_equal(view.inputs, seen)
  np.testing.assert_array_equal(view.targets_T, seen)


def test_each_random_order_is_a_chain_rule_that_sums_to_one():
  """All 81 sequences under the order of one key: a distribution, of each of several orders."""
  objective = objectives.get('autoregressive', order='annealed')

  @jax.jit
  def nats(key):
    keys = jnp.broadcast_to(key, (81,))
    rows = (jnp.asarray(SEQUENCES, jnp.int32), jnp.zeros(81, jnp.int32), jnp.zeros(81), keys)
    view = scoring.batch_view(objective, SPACE, base.Example(*rows, jnp.zeros(81)))
    outputs = objective.run(APPLY, PARAMS, view, SPACE)
    return objective.score(PARAMS, view, outputs, SPACE).nats_B, view.positions_T[0]

  by_order = {}
  for key in jax.random.split(jax.random.key(7), 12):
    values, order = nats(key)
    values = np.asarray(values, np.float64)
    assert np.exp(-values).sum() == pytest.approx(1, abs=1e-6)
    by_order[tuple(order.tolist())] = values
  assert len(by_order) > 5
  # The network's own positions tell the orders apart: it is no one joint distribution.
  assert np.ptp([values[40] for values in by_order.values()]) > 0.1


def test_positions_of_each_row_are_those_of_the_rows_alone():
  tokens = jnp.asarray(SEQUENCES[:6], jnp.int32)
  orders = jnp.asarray([[2, 0, 3, 1], [0, 1, 2, 3]] * 3)
  run_ = jax.jit(lambda x, p: APPLY(PARAMS['backbone'], x, pattern=('causal',), positions_T=p))
  together = run_(tokens, orders).logits_BxTxV
  for row in range(6):
    alone = run_(tokens[row : row + 1], orders[row]).logits_BxTxV
    np.testing.assert_allclose(together[row], alone[0], rtol=1e-5, atol=1e-5)
  plain = jax.jit(lambda x: APPLY(PARAMS['backbone'], x, pattern=('causal',)))(tokens)
  np.testing.assert_allclose(together[1], plain.logits_BxTxV[1], rtol=1e-5, atol=1e-5)


def test_a_slot_knows_where_its_token_came_from_in_random_orders_alone():
  """Logits by hand, from the table of what slots are fed; raster rows of training have none."""
  objective = objectives.get('autoregressive', order='annealed')
  tokens = SEQUENCES[::4]
  view = _views(objective, tokens, 0.6)
  random = np.asarray(view.extra['random'])
  assert 0 < random.sum() < len(tokens)
  table = np.asarray(PARAMS['objective']['fed_from_TxD'])
  places = np.asarray(view.positions_T)
  added = np.zeros((len(tokens), T, CONFIG.width), np.float32)
  for row, slot in itertools.product(np.flatnonzero(random), range(1, T)):
    added[row, slot] = table[places[row, slot - 1]]
  forward = jax.jit(
    lambda x, p, a: (
      APPLY(
        PARAMS['backbone'], x, pattern=('causal',), shift=True, positions_T=p, added_BxTxD=a
      ).logits_BxTxV
    )
  )
  found = _run(objective, view)
  np.testing.assert_allclose(found, forward(view.inputs, places, added), rtol=1e-4, atol=1e-5)
  without = np.asarray(forward(view.inputs, places, 0 * added))
  np.testing.assert_allclose(found[~random], without[~random], rtol=1e-4, atol=1e-5)
  assert np.abs(found - without)[random][:, 1:].max() > 0.1


def test_alphabets_follow_the_tokens_of_a_random_order():
  sizes = (1, 2, 3, 3)
  space = base.Space(vocabulary=V, length=T, dims=T, alphabets=sizes)
  objective = objectives.get('autoregressive', order='annealed')
  config = ModelConfig(V, T, 16, 1, 2, alphabets=objective.backbone(space).alphabets)
  params, apply = _network(config)
  tokens = np.stack([np.arange(40) % size for size in sizes], axis=1)
  view = _views(objective, tokens, 0.0, space=space)
  logits = np.asarray(objective.run(apply, params, view, space).logits_BxTxV)
  allowed = (logits > -1e20).sum(-1)
  np.testing.assert_array_equal(allowed, np.array(sizes)[np.asarray(view.positions_T)])


@pytest.mark.parametrize(
  'changes,words',
  [
    ({'input_mask': 1.5}, r'objective.input_mask must be in \[0, 1\]'),
    ({'anneal_from': 0.8}, 'must be shares of training'),
    ({'anneal_to': 1.5}, 'must be shares of training'),
    ({'order': 'spiral'}, 'known: raster, reversed, random, annealed'),
  ],
)
def test_settings_that_can_not_be(changes, words):
  with pytest.raises(ValueError, match=words):
    objectives.get('autoregressive', **changes)


def test_a_run_says_what_it_was_trained_on(data_dir, tmp_path):
  settings = ('--config.objective.input_mask=0.1', '--config.objective.order=annealed')
  experiment = tiny.build(data_dir, 'autoregressive', *settings)
  record = run.execute(experiment, str(tmp_path))
  assert record['trained_on'] == (
    'cross-entropy, orders from random to raster, 10 % of the inputs masked'
  )
  assert record['code'] == 'exact' and record['settings']['input_mask'] == 0.1
  assert record['parameters'] - record['parameters_backbone'] == 64 * 16
  assert record['bits_per_dim'] < math.log2(17)
