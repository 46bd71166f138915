"""Objectives against enumerable sources: every number has a second derivation here.

The tiny source has V = 3 values and T = 4 tokens: 81 sequences, 16 masks, 24 orders.
"""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import transformer
from models.config import ModelConfig
import objectives
from objectives import base, scoring

V, T = 3, 4
SPACE = base.Space(vocabulary=V, length=T, dims=T)
SEQUENCES = np.array(list(itertools.product(range(V), repeat=T)))
MASK = V


def _source(seed: int = 0) -> np.ndarray:
  """Probabilities of all 81 sequences, far from independent."""
  logits = np.random.default_rng(seed).normal(size=len(SEQUENCES)) * 1.5
  p = np.exp(logits)
  return p / p.sum()


def _conditionals(p: np.ndarray) -> dict[tuple, np.ndarray]:
  """Exact p(x_i | visible tokens) for every masked sequence; (T, V)."""
  tables = {}
  for visible in itertools.product([False, True], repeat=T):
    for sequence in SEQUENCES:
      key = tuple(int(s) if v else MASK for s, v in zip(sequence, visible, strict=True))
      if key in tables:
        continue
      agree = np.all([(SEQUENCES[:, i] == k) | (k == MASK) for i, k in enumerate(key)], axis=0)
      table = np.zeros((T, V))
      for i in range(T):
        for v in range(V):
          table[i, v] = p[agree & (SEQUENCES[:, i] == v)].sum()
      tables[key] = table / p[agree].sum()
  return tables


def _predictor(tables: dict[tuple, np.ndarray]):
  """A stand-in for the backbone that looks its answer up: any set of conditionals at all."""
  flat = np.zeros(((V + 1) ** T, T, V), np.float32)
  for key, table in tables.items():
    flat[np.ravel_multi_index(key, (V + 1,) * T)] = np.log(np.maximum(table, 1e-30))
  flat = jnp.asarray(flat)

  def apply(params, inputs, *, pattern, shift=False, time_B=None):
    del params, pattern, shift, time_B
    index = sum(inputs[:, i] * (V + 1) ** (T - 1 - i) for i in range(T))
    return transformer.Outputs(flat[index], None)

  return apply


def _uniform(params, inputs, **arguments):
  return transformer.Outputs(jnp.zeros((*inputs.shape, V)), jnp.zeros((*inputs.shape, 2)))


PARAMS = {'backbone': {}, 'objective': {}}


def _evaluate(objective, apply, sequences, draws, seed=0, space=SPACE):
  evaluate = jax.jit(scoring.make_evaluation(objective, apply, space, draws))
  batch = {
    'tokens': jnp.asarray(sequences, jnp.int32),
    'label': jnp.zeros(len(sequences), jnp.int32),
    'index': jnp.arange(len(sequences)),
  }
  return {k: np.asarray(v) for k, v in evaluate(PARAMS, batch, jax.random.key(seed)).items()}


def _exact_bound(tables, sequence) -> float:
  """The masked bound by the sum over all masks, from its definition."""
  total = 0.0
  for k in range(1, T + 1):
    for hidden in itertools.combinations(range(T), k):
      key = tuple(MASK if i in hidden else int(s) for i, s in enumerate(sequence))
      ce = -sum(math.log(tables[key][i, sequence[i]]) for i in hidden)
      total += ce * (T / k) / (T * math.comb(T, k))
  return total


def _order_nats(tables, sequence) -> np.ndarray:
  """-log p of the chain rule in each of the T! orders."""
  nats = []
  for order in itertools.permutations(range(T)):
    key, value = [MASK] * T, 0.0
    for i in order:
      value -= math.log(tables[tuple(key)][i, sequence[i]])
      key[i] = int(sequence[i])
    nats.append(value)
  return np.array(nats)


def _wrong_tables(seed: int) -> dict[tuple, np.ndarray]:
  """Conditionals that belong to no joint distribution: different sources for different masks."""
  rng = np.random.default_rng(seed)
  sources = [_conditionals(_source(100 + i)) for i in range(3)]
  return {key: sources[rng.integers(3)][key] for key in sources[0]}


def test_masked_bound_is_the_mean_over_all_orders():
  tables = _wrong_tables(1)
  for sequence in SEQUENCES[::9]:
    by_masks = _exact_bound(tables, sequence)
    by_orders = _order_nats(tables, sequence)
    assert by_masks == pytest.approx(by_orders.mean(), rel=1e-12)
    mixture = -np.log(np.mean(np.exp(-by_orders)))
    assert by_masks >= mixture


def test_masked_diffusion_estimates_that_bound():
  tables = _wrong_tables(1)
  objective = objectives.get('masked_diffusion')
  sequences = SEQUENCES[::9]
  found = _evaluate(objective, _predictor(tables), sequences, draws=4000)['nats']
  expected = [_exact_bound(tables, s) for s in sequences]
  np.testing.assert_allclose(found, expected, rtol=0.03)
  np.testing.assert_allclose(found.mean(), np.mean(expected), rtol=0.008)


def test_exact_conditionals_reach_the_entropy():
  p = _source()
  tables = _conditionals(p)
  entropy = -np.sum(p * np.log(p))
  bound = sum(q * _exact_bound(tables, s) for q, s in zip(p, SEQUENCES, strict=True))
  assert bound == pytest.approx(entropy, rel=1e-12)
  found = _evaluate(objectives.get('masked_diffusion'), _predictor(tables), SEQUENCES, 500)['nats']
  assert np.sum(p * found) == pytest.approx(entropy, rel=0.01)


def test_a_wrong_predictor_is_charged_above_mixture_and_entropy():
  p, tables = _source(), _wrong_tables(2)
  entropy = -np.sum(p * np.log(p))
  orders = np.stack([_order_nats(tables, s) for s in SEQUENCES])
  mean_order = np.sum(p * orders.mean(1))
  mixture = np.sum(p * -np.log(np.mean(np.exp(-orders), axis=1)))
  assert mean_order > mixture > entropy


def test_uniform_predictor_costs_log_v_with_zero_variance():
  for name in ('autoregressive', 'masked_diffusion'):
    nats = _evaluate(objectives.get(name), _uniform, SEQUENCES, draws=7)['nats']
    np.testing.assert_allclose(nats, T * math.log(V), rtol=1e-6)


def test_autoregressive_charges_the_chain_rule_and_sums_to_one():
  config = ModelConfig(vocabulary=V, length=T, width=8, layers=2, heads=2)
  params = transformer.init(config, jax.random.key(0))
  params['output_DxV'] = jax.random.normal(jax.random.key(1), (8, V))
  apply = transformer.make_apply(config)

  def with_params(_, inputs, **arguments):
    return apply(params, inputs, **arguments)

  nats = _evaluate(objectives.get('autoregressive'), with_params, SEQUENCES, 1)['nats']
  assert np.exp(-nats.astype(np.float64)).sum() == pytest.approx(1, abs=1e-6)
  # The chain rule, one token at a time, with a garbage future.
  sequence, chain = SEQUENCES[50], 0.0
  forward = jax.jit(lambda x: apply(params, x, pattern=('causal',), shift=True).logits_BxTxV)
  for t in range(T):
    prefix = np.concatenate([sequence[:t], np.full(T - t, 1)])[None]
    logits = forward(jnp.asarray(prefix))[0, t]
    chain -= float(jax.nn.log_softmax(logits)[sequence[t]])
  assert nats[50] == pytest.approx(chain, rel=1e-5)


def _views(name, rows, seed=0, space=SPACE, strata=None, **settings):
  objective = objectives.get(name, **settings)
  key = jax.random.key(seed)
  tokens = jax.random.randint(key, (rows, space.length), 0, space.vocabulary)
  strata = base.training_strata(key, rows) if strata is None else strata
  keys = jax.random.split(key, rows)
  labels = jnp.zeros(rows, jnp.int32)
  view = jax.jit(lambda examples: scoring.batch_view(objective, space, examples))
  return tokens, view(base.Example(tokens, labels, strata, keys, jnp.ones(rows)))


def test_hidden_tokens_change_nothing():
  space = base.Space(vocabulary=5, length=9, dims=9)
  config = ModelConfig(vocabulary=5, length=9, width=16, layers=2, heads=2)
  params = transformer.init(config, jax.random.key(0))
  params['output_DxV'] = jax.random.normal(jax.random.key(1), (16, 5))
  apply = transformer.make_apply(config)
  objective = objectives.get('masked_diffusion')
  tokens, view = _views('masked_diffusion', 6, space=space)
  hidden = np.asarray(view.weights_T) > 0
  other = jnp.where(hidden, (tokens + 1) % 5, tokens)
  key = jax.random.key(0)
  strata, keys = base.training_strata(key, 6), jax.random.split(key, 6)
  view_of = jax.jit(lambda examples: scoring.batch_view(objective, space, examples))
  labels = jnp.zeros(6, jnp.int32)
  again = view_of(base.Example(other, labels, strata, keys, jnp.ones(6)))
  run = jax.jit(lambda v: objective.run(apply, {'backbone': params}, v, space).logits_BxTxV)
  a, b = run(view), run(again)
  np.testing.assert_array_equal(a, b)


def test_masked_diffusion_hides_exactly_k_and_weighs_t_over_k():
  space = base.Space(vocabulary=5, length=16, dims=16)
  tokens, view = _views('masked_diffusion', 16, space=space)
  inputs, weights = np.asarray(view.inputs), np.asarray(view.weights_T)
  counts = (inputs == 5).sum(1)
  # Sixteen strata over 1..16: every count appears exactly once in the global batch.
  assert sorted(counts) == list(range(1, 17))
  np.testing.assert_array_equal(inputs == 5, weights > 0)
  np.testing.assert_allclose(weights.sum(1), 16, rtol=1e-6)
  np.testing.assert_array_equal(inputs[inputs != 5], np.asarray(tokens)[inputs != 5])


def test_masks_are_uniform_over_positions_and_sets():
  positions = np.zeros(T)
  sets: dict[tuple, int] = {}
  _, view = _views('masked_diffusion', 6000, strata=jnp.full(6000, 0.3))
  for row in np.asarray(view.weights_T) > 0:
    positions += row
    sets[tuple(row)] = sets.get(tuple(row), 0) + 1
  assert len(sets) == math.comb(T, 2)
  expected = 6000 / math.comb(T, 2)
  chi2 = sum((n - expected) ** 2 / expected for n in sets.values())
  assert chi2 < 20.5  # 0.1 % point of chi-squared with 5 degrees of freedom


@pytest.mark.parametrize('ratio,length,expected', [(0.15, 64, 10), (0.01, 20, 1), (1.0, 8, 8)])
def test_bert_chooses_exactly_its_share(ratio, length, expected):
  space = base.Space(vocabulary=7, length=length, dims=length)
  _, view = _views('masked', 50, space=space, ratio=ratio)
  weights = np.asarray(view.weights_T)
  np.testing.assert_array_equal((weights > 0).sum(1), expected)
  np.testing.assert_allclose(weights.sum(1), 1, rtol=1e-6)


def test_bert_corrupts_80_10_10():
  space = base.Space(vocabulary=7, length=64, dims=64)
  tokens, view = _views('masked', 3000, space=space)
  chosen = np.asarray(view.weights_T) > 0
  seen, clean = np.asarray(view.inputs)[chosen], np.asarray(tokens)[chosen]
  n = chosen.sum()
  share_mask, share_same = (seen == 7).mean(), (seen == clean).mean()
  assert share_mask == pytest.approx(0.8, abs=4 * math.sqrt(0.16 / n))
  assert share_same == pytest.approx(0.1 + 0.1 / 7, abs=4 * math.sqrt(0.1 / n))
  np.testing.assert_array_equal(np.asarray(view.inputs)[~chosen], np.asarray(tokens)[~chosen])
  _, view = _views('masked', 100, space=space, corruption='mask')
  chosen = np.asarray(view.weights_T) > 0
  assert np.all(np.asarray(view.inputs)[chosen] == 7)


def test_the_end_token_is_never_masked_or_charged():
  space = base.Space(vocabulary=V, length=T + 1, dims=T)
  for name in ('autoregressive', 'masked', 'masked_diffusion'):
    tokens, view = _views(name, 200, space=space)
    assert not np.any(np.asarray(view.weights_T)[:, T])
    np.testing.assert_array_equal(np.asarray(view.inputs)[:, T], np.asarray(tokens)[:, T])
  nats = _evaluate(
    objectives.get('masked_diffusion'),
    _uniform,
    np.pad(SEQUENCES, ((0, 0), (0, 1))),
    draws=3,
    space=space,
  )['nats']
  np.testing.assert_allclose(nats, T * math.log(V), rtol=1e-6)


def test_training_strata_cover_the_global_batch_in_random_order():
  strata = np.stack([base.training_strata(jax.random.key(i), 32) for i in range(300)])
  assert np.all((strata >= 0) & (strata < 1))
  np.testing.assert_array_equal(
    np.sort(np.floor(strata * 32), axis=1), np.tile(range(32), (300, 1))
  )
  # Rows are exchangeable: no row is tied to a stratum.
  assert np.abs(strata.mean(0) - 0.5).max() < 5 * math.sqrt(1 / 12 / 300)


def test_evaluation_strata_cover_each_examples_own_draws():
  strata = np.asarray(base.evaluation_strata(jax.random.key(0), 16))
  np.testing.assert_array_equal(np.floor(strata * 16), np.arange(16))


def test_evaluation_does_not_depend_on_its_company():
  objective, predictor = objectives.get('masked_diffusion'), _predictor(_wrong_tables(3))
  evaluate = jax.jit(scoring.make_evaluation(objective, predictor, SPACE, 3))

  def rows(index):
    tokens = jnp.asarray(SEQUENCES[index], jnp.int32)
    batch = {'tokens': tokens, 'label': jnp.zeros(len(index), jnp.int32), 'index': index}
    return np.asarray(evaluate(PARAMS, batch, jax.random.key(0))['nats'])

  whole = rows(jnp.arange(81))
  np.testing.assert_array_equal(rows(jnp.array([5, 40, 77])), whole[[5, 40, 77]])
  assert np.array_equal(whole, rows(jnp.arange(81)))
  other = _evaluate(objective, predictor, SEQUENCES, 3, seed=1)['nats']
  assert np.abs(other - whole).max() > 1e-3


def test_losses_are_nats_per_predicted_dimension():
  batch = {'tokens': jnp.asarray(SEQUENCES, jnp.int32), 'label': jnp.zeros(81, jnp.int32)}
  batch |= scoring.draw(jax.random.key(0), 81, 1.0)
  for name in ('autoregressive', 'masked', 'masked_diffusion'):
    objective = objectives.get(name)
    loss, metrics = scoring.make_loss(objective, _uniform, SPACE)(PARAMS, batch)
    assert float(loss) == pytest.approx(math.log(V), rel=1e-6)
    scored = {'autoregressive': 81 * 4, 'masked': 81}.get(name)
    if scored:
      assert int(metrics['scored']) == scored
    has_bits = objective.code is not base.Code.NONE
    assert ('bits_per_dim' in metrics) == has_bits
    if has_bits:
      assert float(metrics['bits_per_dim']) == pytest.approx(math.log2(V), rel=1e-6)


def test_supervised_is_the_cross_entropy_of_a_mean_pooled_head():
  space = base.Space(vocabulary=V, length=T, dims=T, classes=3)
  objective = objectives.get('supervised')
  rng = np.random.default_rng(0)
  final = rng.normal(size=(5, T, 6)).astype(np.float32)
  labels = np.array([0, 1, 2, 1, 0])
  own = {'head_DxC': rng.normal(size=(6, 3)).astype(np.float32), 'bias_C': np.array([0.1, -1, 2])}
  view = base.View(None, jnp.asarray(labels), jnp.ones(5))
  outputs = transformer.Outputs(None, jnp.asarray(final))
  own_jax = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), own)
  nats = objective.score({'objective': own_jax}, view, outputs, space).nats_B
  logits = final.mean(1) @ own['head_DxC'] + own['bias_C']
  expected = np.log(np.exp(logits).sum(1)) - logits[np.arange(5), labels]
  np.testing.assert_allclose(nats, expected, rtol=1e-5)
  with pytest.raises(ValueError, match='labels'):
    objective.check(SPACE)


def test_parameters_are_the_same_for_every_objective_of_a_seed(data_dir):
  from experiments import digits
  from runs import experiment

  trees = {}
  for name in objectives.OBJECTIVES:
    built = experiment.build(digits.get_config(name), data_dir)
    trees[name] = built.task.init(jax.random.key(3))
  first = trees['autoregressive']['backbone']
  for name, tree in trees.items():
    scale = objectives.input_scale(name)
    backbone = dict(tree['backbone'])
    # One D x D time projection for those that need a noise level, silent at first.
    assert ('time_DxD' in backbone) == objectives.OBJECTIVES[name].time_input
    assert not np.any(backbone.pop('time_DxD', 0))
    for leaf in ('token_table', 'position_table', 'start_D') if scale else ():
      # The same draw under the declared scale.
      old = 0.01 if leaf == 'position_table' else 0.02
      backbone[leaf] = backbone[leaf] * (old / scale)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), first, backbone)
    own = sum(leaf.size for leaf in jax.tree.leaves(tree['objective']))
    known = {'supervised': 64 * 10 + 10, 'gaussian_diffusion': 32, 'energy': 64 + 1}
    assert own == known.get(name, 0)


def test_names_and_settings():
  with pytest.raises(ValueError, match='unknown objective .*known: autoregressive.*mean masked'):
    objectives.get('maskd')
  assert objectives.settings('masked') == {
    'ratio': 0.15,
    'corruption': 'bert',
    'pattern': 'random',
  }
  with pytest.raises(ValueError, match='objective.ratio'):
    objectives.get('masked', ratio=0.0)
  with pytest.raises(ValueError, match='objective.corruption'):
    objectives.get('masked', corruption='noise')


@pytest.mark.parametrize(
  'name, settings',
  [
    ('autoregressive', {}),
    ('masked', {}),
    ('masked', {'pattern': 'block', 'ratio': 0.3}),
    ('masked', {'pattern': 'half_plane', 'ratio': 0.3}),
    ('masked_diffusion', {}),
    ('masked_diffusion', {'form': 'bernoulli'}),
    ('masked_diffusion', {'form': 'bernoulli', 'schedule': 'cosine'}),
    ('masked_diffusion', {'form': 'bernoulli', 'schedule': 'polynomial'}),
    ('uniform_diffusion', {}),
    ('denoising', {}),
    ('supervised', {}),
  ],
)
def test_the_number_of_scored_predictions_is_what_views_score(name, settings):
  space = base.Space(5, 13, 12, classes=3, ordinal=True, shape=(3, 4))
  objective = objectives.get(name, **settings)
  _, view = _views(name, 4000, space=space, **settings)
  weights = np.asarray(view.weights_T).reshape(4000, -1)
  counts = (weights > 0).sum(1)
  cost = objective.cost(ModelConfig(5, 13, 8, 2, 2), space)
  assert cost.scored == pytest.approx(counts.mean(), abs=4 * counts.std() / math.sqrt(4000) + 1e-9)
  causal = ('causal', None) if name == 'autoregressive' else ('full',)
  read = name != 'supervised'
  assert cost.flops == ModelConfig(5, 13, 8, 2, 2).forward_flops(causal, logits=read)


def test_soft_inputs_are_charged_for_their_product_with_the_table():
  space, model = base.Space(5, 4, 4, ordinal=True), ModelConfig(5, 4, 8, 2, 2, time_input=True)
  cost = objectives.get('gaussian_diffusion').cost(model, space)
  assert cost == (model.forward_flops() + 2 * 6 * 8 * 4, 4)


def test_the_chain_rule_charges_every_position_once_whatever_the_random_bits(monkeypatch):
  """Exact slots: no offset, however near to the next stratum, may move a draw into it."""
  highest = np.nextafter(np.float32(1), np.float32(0))
  monkeypatch.setattr(jax.random, 'uniform', lambda key, shape=(), **_: jnp.full(shape, highest))
  for draws in (3, 49, 64, 784, 1024):
    strata = base.evaluation_strata(jax.random.key(0), draws, midpoints=True)
    slots = np.floor(np.asarray(strata) * np.float32(draws)).astype(int)
    np.testing.assert_array_equal(slots, np.arange(draws))
  space = base.Space(vocabulary=5, length=64, dims=64)
  chain = objectives.get('masked_diffusion').also(space)['chain rule in raster order']
  assert chain.numbered and chain.draws(2, space) == 64
  evaluate = jax.jit(scoring.make_evaluation(chain, _by_position, space, 64))
  batch = {
    'tokens': jnp.zeros((200, 64), jnp.int32),
    'label': jnp.zeros(200, jnp.int32),
    'index': jnp.arange(200),
  }
  nats = evaluate(PARAMS, batch, jax.random.key(0))['nats']
  # Position t pays log(4 e^-t' + 1) with t' = t / 10: twice the one and never the other would show.
  expected = sum(np.log(4 * np.exp(-t / 10) + 1) for t in range(64))
  np.testing.assert_allclose(nats, expected, rtol=1e-5)


def _by_position(params, inputs, *, pattern, shift=False, time_B=None):
  """Token 0 has the logit t / 10 at position t, every other token 0."""
  logits = jnp.arange(64.0)[:, None] / 10 * jax.nn.one_hot(0, 5)[None]
  return transformer.Outputs(jnp.broadcast_to(logits[None], (len(inputs), 64, 5)), None)


@pytest.mark.parametrize('pattern', ['random', 'block', 'half_plane'])
def test_another_code_is_charged_on_the_very_positions_that_were_hidden(pattern):
  """The table's cost, by hand from the views of the same keys."""
  space = base.Space(5, 12, 12, shape=(3, 4))
  objective = objectives.get('masked', pattern=pattern, ratio=0.3, corruption='mask')
  table = np.random.default_rng(0).uniform(0, 9, (12, 5))
  tokens = np.random.default_rng(1).integers(0, 5, (6, 12)).astype(np.int32)
  evaluate = jax.jit(scoring.make_evaluation(objective, _uniform, space, 3, table_TxV=table))
  labels, index = jnp.zeros(6, jnp.int32), jnp.arange(6)
  values = evaluate(PARAMS, {'tokens': tokens, 'label': labels, 'index': index}, jax.random.key(7))
  for row in range(6):
    _, view_key = jax.random.split(jax.random.fold_in(jax.random.key(7), row))
    costs = []
    for key in jax.random.split(view_key, 3):
      view = objective.view(base.Example(jnp.asarray(tokens[row]), 0, 0.0, key), space)
      hidden = np.flatnonzero(np.asarray(view.inputs) == 5)
      costs.append(np.mean([table[t, tokens[row, t]] for t in hidden]))
    assert float(values['table'][row]) == pytest.approx(np.mean(costs), rel=1e-5)
