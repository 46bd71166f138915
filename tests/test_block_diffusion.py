"""Block diffusion against enumeration: V = 3 values, T = 4 tokens, blocks of 2, or of 3 and 1."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special
import test_masking
import test_objectives as tiny_source
import test_sampling

from models import decoding, transformer
from models.config import ModelConfig
import objectives
from objectives import base, block_diffusion, scoring

V, T, SPACE = tiny_source.V, tiny_source.T, tiny_source.SPACE
SEQUENCES, MASK = tiny_source.SEQUENCES, tiny_source.MASK
RASTER = 'chain rule in raster order'


def _blocks(block: int) -> list[list[int]]:
  return [list(range(start, min(start + block, T))) for start in range(0, T, block)]


def _halves_predictor(tables, block):
  """Looks up what each noisy slot says of its own block, the clean past and nothing else."""
  look_up = tiny_source._predictor(tables)

  def apply(params, inputs, *, pattern, shift, positions_T, time_B=None):
    assert pattern == ('noisy_blocks', block, T) and not shift
    assert list(positions_T) == [*range(T), *range(T)]
    noisy, clean = inputs[:, :T], inputs[:, T:]
    logits = jnp.zeros((len(inputs), 2 * T, V))
    for own in _blocks(block):
      place = jnp.arange(T)[None]
      seen = jnp.where(place < own[0], clean, jnp.where(place <= own[-1], noisy, MASK))
      found = look_up(params, seen, pattern=pattern).logits_BxTxV
      logits = logits.at[:, np.array(own)].set(found[:, np.array(own)])
    return transformer.Outputs(logits, None)

  return apply


def _seen(sequence, own, hidden) -> tuple[int, ...]:
  """What block `own` sees of a sequence whose positions `hidden`, all its own, are hidden."""
  return tuple(
    MASK if i in hidden or i > own[-1] else int(token) for i, token in enumerate(sequence)
  )


def _mask_cost(tables, sequence, own, hidden) -> float:
  table = tables[_seen(sequence, own, hidden)]
  return -sum(math.log(table[i, sequence[i]]) for i in hidden)


def _exact_bound(tables, sequence, block) -> float:
  total = 0.0
  for own in _blocks(block):
    for k in range(1, len(own) + 1):
      sets = list(itertools.combinations(own, k))
      total += sum(_mask_cost(tables, sequence, own, s) for s in sets) / len(sets) / k
  return total


def _by_orders(tables, sequence, block) -> list[np.ndarray]:
  """-log p of each block given its past, in each of its orders; the first order is raster."""
  return [
    np.array(
      [
        sum(
          -math.log(tables[_seen(sequence, own, order[n:])][i, sequence[i]])
          for n, i in enumerate(order)
        )
        for order in itertools.permutations(own)
      ]
    )
    for own in _blocks(block)
  ]


@pytest.mark.parametrize('block', [1, 2, 3, 4])
def test_the_bound_is_the_mean_over_the_orders_inside_blocks(block):
  tables = tiny_source._wrong_tables(1)
  for sequence in SEQUENCES[::9]:
    orders = _by_orders(tables, sequence, block)
    bound = _exact_bound(tables, sequence, block)
    assert bound == pytest.approx(sum(nats.mean() for nats in orders), rel=1e-12)
    mixture = sum(-special.logsumexp(-nats) + math.log(len(nats)) for nats in orders)
    assert bound >= mixture - 1e-12


@pytest.mark.parametrize('block', [2, 3])
def test_views_estimate_that_bound(block):
  tables = tiny_source._wrong_tables(1)
  objective, sequences = objectives.get('block_diffusion', block=block), SEQUENCES[::9]
  predictor = _halves_predictor(tables, block)
  found = tiny_source._evaluate(objective, predictor, sequences, draws=3000)['nats']
  expected = [_exact_bound(tables, s, block) for s in sequences]
  np.testing.assert_allclose(found, expected, rtol=0.03)
  np.testing.assert_allclose(found.mean(), np.mean(expected), rtol=0.006)


@pytest.mark.parametrize('block', [1, 2, 3])
def test_the_chain_rule_in_as_many_passes_as_a_block_has_tokens(block):
  tables = tiny_source._wrong_tables(4)
  other = block_diffusion.RasterInBlocks(block)
  assert other.code is base.Code.EXACT and other.draws(64, SPACE) == block
  nats = tiny_source._evaluate(other, _halves_predictor(tables, block), SEQUENCES, 64)['nats']
  expected = [sum(o[0] for o in _by_orders(tables, s, block)) for s in SEQUENCES]
  np.testing.assert_allclose(nats, expected, rtol=1e-5)
  assert np.exp(-nats.astype(np.float64)).sum() == pytest.approx(1, abs=1e-5)
  if block > 1:
    assert objectives.get('block_diffusion', block=block).also(SPACE) == {RASTER: other}


def test_every_block_hides_exactly_k_and_each_k_as_often():
  """Lengths 12 and an end token in blocks of 5, 5 and 2: strata are the blocks' own."""
  space = base.Space(vocabulary=5, length=13, dims=12)
  tokens, view = tiny_source._views('block_diffusion', 20, space=space, block=5)
  inputs, weights = np.asarray(view.inputs), np.asarray(view.weights_T)
  noisy, clean = inputs[:, :13], inputs[:, 13:]
  np.testing.assert_array_equal(clean, tokens)
  np.testing.assert_array_equal(view.targets_T, np.tile(tokens, 2))
  np.testing.assert_array_equal(noisy == 5, weights[:, :13] > 0)
  np.testing.assert_array_equal(noisy[noisy != 5], np.asarray(tokens)[noisy != 5])
  assert not weights[:, 12:].any()
  for start, size in ((0, 5), (5, 5), (10, 2)):
    counts = (noisy[:, start : start + size] == 5).sum(1)
    # Moved on by a third, twenty strata still have each of 5 values four times, within one.
    found = np.bincount(counts, minlength=size + 1)
    assert found[0] == 0 and np.abs(found[1:] - 20 / size).max() <= 1
    np.testing.assert_allclose(weights[:, start : start + size].sum(1), size, rtol=1e-6)
  # k is uniform in every block, and so are the sets of k.
  strata = jax.random.uniform(jax.random.key(3), (6000,))
  _, view = tiny_source._views('block_diffusion', 6000, space=space, strata=strata, block=5)
  hidden = np.asarray(view.weights_T)[:, :12] > 0
  for block in (hidden[:, :5], hidden[:, 5:10]):
    counts = np.bincount(block.sum(1), minlength=6)[1:]
    assert np.sum((counts - 1200) ** 2 / 1200) < 18.5  # 0.1 % point, 4 degrees of freedom
    pairs = block[block.sum(1) == 2]
    sets = np.array([np.sum(pairs[:, i] & pairs[:, j]) for i in range(5) for j in range(i)])
    assert np.sum((sets - len(pairs) / 10) ** 2 / (len(pairs) / 10)) < 27.9  # 9 degrees


def _backbone(length=T, seed=3):
  config = ModelConfig(vocabulary=V, length=length, width=8, layers=2, heads=2)
  return config, test_sampling._moved(config, seed=seed)


def _bound(config, params):
  apply = transformer.make_apply(config)
  return lambda _, inputs, **arguments: apply(params, inputs, **arguments)


def test_the_ends_of_the_axis_are_the_other_objectives():
  ends = {block: objectives.get('block_diffusion', block=block) for block in (1, 2, T, 9)}
  assert ends[1].on(SPACE) == objectives.get('autoregressive')
  assert ends[T].on(SPACE) == ends[9].on(SPACE) == objectives.get('masked_diffusion')
  assert ends[2].on(SPACE) is ends[2]
  # Also by the two halves themselves: with one block the clean one is looked at by nobody.
  apply = _bound(*_backbone())
  halves = tiny_source._evaluate(ends[T], apply, SEQUENCES, 5)['nats']
  whole = tiny_source._evaluate(objectives.get('masked_diffusion'), apply, SEQUENCES, 5)['nats']
  np.testing.assert_allclose(halves, whole, rtol=1e-5)
  # With blocks of one token there is no slack, though the parametrisation is not that of a shift.
  nats = tiny_source._evaluate(ends[1], apply, SEQUENCES, 1)['nats']
  assert np.exp(-nats.astype(np.float64)).sum() == pytest.approx(1, abs=1e-5)
  with pytest.raises(ValueError, match='objective.block must be at least 1, not 0'):
    objectives.get('block_diffusion', block=0)


@pytest.mark.parametrize('block', [2, 3])
def test_a_block_sees_its_own_noisy_tokens_and_the_clean_past(block):
  """Through the real backbone, for every token that could be another one."""
  config, params = _backbone()
  objective, apply = objectives.get('block_diffusion', block=block), transformer.make_apply(config)
  params = {'backbone': params}
  rows, keys = 12, jax.random.split(jax.random.key(0), 12)
  strata = (jnp.arange(rows) + 0.5) / rows
  tokens = jax.random.randint(jax.random.key(1), (rows, T), 0, V)

  @jax.jit
  def run(tokens):
    examples = base.Example(tokens, jnp.zeros(rows, int), strata, keys, jnp.ones(rows))
    view = scoring.batch_view(objective, SPACE, examples)
    return view, objective.run(apply, params, view, SPACE).logits_BxTxV[:, :T]

  view, before = run(tokens)
  hidden = np.asarray(view.weights_T)[:, :T] > 0
  blocks = np.arange(T) // block
  seen_once = False
  for j in range(T):
    _, after = run(tokens.at[:, j].set((tokens[:, j] + 1) % V))
    changed = np.abs(np.asarray(after - before)).max(-1) > 0
    expected = (blocks > blocks[j])[None] | ((blocks == blocks[j])[None] & ~hidden[:, [j]])
    np.testing.assert_array_equal(changed, expected)
    seen_once |= bool(expected.any() and not expected.all())
  assert seen_once


def test_regret_is_zero_for_the_truth_and_the_gap_for_others():
  p = tiny_source._source()
  tables, wrong = tiny_source._conditionals(p), tiny_source._wrong_tables(3)
  objective, truth = objectives.get('block_diffusion', block=3), test_masking._Truth(p, tables)
  batch = {
    'tokens': jnp.asarray(SEQUENCES, jnp.int32),
    'label': jnp.zeros(81, jnp.int32),
    'index': jnp.arange(81),
  }

  def evaluate(tables, draws):
    predictor = _halves_predictor(tables, 3)
    function = scoring.make_evaluation(objective, predictor, SPACE, draws, truth)
    found = jax.jit(function)(tiny_source.PARAMS, batch, jax.random.key(0))
    # Numbers of hidden tokens are no split of it: they are not equally likely.
    assert 'regret_by_count' not in found
    return {k: np.asarray(v, np.float64) for k, v in found.items()}

  np.testing.assert_allclose(evaluate(tables, 8)['regret'], 0, atol=1e-5)
  found = evaluate(wrong, 1000)
  expected = [_exact_bound(wrong, s, 3) - _exact_bound(tables, s, 3) for s in SEQUENCES]
  assert p @ found['regret'] == pytest.approx(p @ np.array(expected), rel=0.02)
  # In mean over the source the truth pays its entropy.
  entropy = -np.sum(p * np.log(p))
  paid = np.array([_exact_bound(tables, s, 3) for s in SEQUENCES])
  assert p @ paid == pytest.approx(entropy, rel=1e-12)


def test_both_halves_are_paid_for():
  space, model = base.Space(5, 13, 12), ModelConfig(5, 13, 8, 2, 2)
  objective = objectives.get('block_diffusion', block=5)
  cost = objective.cost(model, space)
  assert cost.scored == (5 + 1) / 2 * 2 + (2 + 1) / 2
  # Blocks of 5, 5 and 3 slots: each sees itself in both halves, and in both its clean past.
  seen = 2 * (5 * 5 + 5 * 10 + 3 * 13)
  weights = 2 * model.matmul_parameters() * 26
  assert cost.flops == pytest.approx(weights + 4 * 2 * 8 * seen)


def test_probes_read_the_clean_half():
  """Which is what the noisy one sees of the past: a clean slot's features in both are equal."""
  config, params = _backbone()
  objective, apply = objectives.get('block_diffusion', block=2), transformer.make_apply(config)
  tokens = jnp.asarray(SEQUENCES[[5, 50]], jnp.int32)
  reading, params = objective.reading(), {'backbone': params}
  clean = jax.vmap(lambda x: reading.probe_view(x, SPACE, None, None))(tokens)
  keep = dict(read=lambda x: x)
  alone = reading.run(apply, params, clean, SPACE, **keep).reads
  examples = base.Example(
    tokens, jnp.zeros(2, int), jnp.full(2, 0.9), jax.random.split(jax.random.key(0), 2), jnp.ones(2)
  )
  view = scoring.batch_view(objective, SPACE, examples)
  both = objective.run(apply, params, view, SPACE, **keep).reads
  np.testing.assert_allclose(alone, both[:, :, T:], atol=1e-5)
  assert np.abs(alone - both[:, :, :T]).max() > 0.1


# Sampling.


def _whole_pass(config, params, noisy, clean, block):
  """Logits of the noisy half, without a cache."""
  length = config.length
  inputs = jnp.concatenate([jnp.asarray(noisy), jnp.asarray(clean)], axis=1)
  return transformer.make_apply(config)(
    params,
    inputs,
    pattern=('noisy_blocks', block, length),
    positions_T=np.tile(np.arange(length), 2),
  ).logits_BxTxV[:, :length]


@pytest.mark.parametrize('block,length', [(2, 6), (4, 7)])
def test_cached_blocks_equal_those_of_a_whole_pass(block, length):
  config = ModelConfig(vocabulary=5, length=length, width=16, layers=3, heads=2)
  params = test_sampling._moved(config)
  rng = np.random.default_rng(0)
  clean = rng.integers(0, 5, (3, length))
  noisy = np.where(rng.random((3, length)) < 0.5, 5, clean)
  whole = np.asarray(jax.jit(functools.partial(_whole_pass, config, block=block))(
    params, noisy, clean
  ))  # fmt: skip
  extend = jax.jit(decoding.make_extend(config), static_argnums=4)
  cache = decoding.make_cache(config)(3)
  for start in range(0, length, block):
    own = slice(start, min(start + block, length))
    # Another noisy state of the block before, which must leave no trace.
    cache, _ = extend(params, cache, jnp.full_like(clean[:, own], 5), start, ('blocks', block))
    cache, found = extend(params, cache, noisy[:, own], start, ('blocks', block))
    np.testing.assert_allclose(found, whole[:, own], atol=1e-4)
    cache, _ = extend(params, cache, clean[:, own], start, ('blocks', block))
  assert np.std(whole) > 0.5


def _model_probabilities(config, params, block, charged=T) -> np.ndarray:
  """Of every sequence, as the sampler draws it: every block in every order of its own."""
  states, rows = [], []
  for sequence in SEQUENCES:
    padded = np.pad(sequence, (0, config.length - T))
    for own in _blocks(block):
      for k in range(len(own)):
        for kept in itertools.combinations(own, k):
          noisy = [MASK if i < T and i not in kept else int(padded[i]) for i in range(len(padded))]
          states.append((tuple(sequence), own[0], kept))
          rows.append((noisy, padded))
  noisy, clean = (np.array(x) for x in zip(*rows, strict=True))
  logits = jax.jit(functools.partial(_whole_pass, config, block=block))(params, noisy, clean)
  log_p = dict(
    zip(states, special.log_softmax(np.asarray(logits, np.float64), axis=-1), strict=True)
  )
  p = []
  for sequence in SEQUENCES:
    total = 1.0
    for own in _blocks(block):
      paths = [
        math.exp(sum(
          log_p[tuple(sequence), own[0], tuple(sorted(order[:n]))][i, sequence[i]]
          for n, i in enumerate(order)
        ))
        for order in itertools.permutations(own)
      ]  # fmt: skip
      total *= np.mean(paths)
    p.append(total)
  return np.array(p)


@pytest.mark.parametrize('block,length', [(2, T), (3, T), (2, T + 1), (3, T + 1)])
def test_samples_follow_the_model(block, length):
  config, params = _backbone(length)
  space = base.Space(vocabulary=V, length=length, dims=T)
  objective = objectives.get('block_diffusion', block=block)
  p = _model_probabilities(config, params, block)
  assert p.sum() == pytest.approx(1, abs=1e-5) and p.max() / p.min() > 10

  @jax.jit
  def draw(key):
    extend = functools.partial(decoding.make_extend(config), params)
    network = base.Network(None, None, decoding.make_cache(config), extend)
    return objective.sample(network, key, 10_000, space)

  samples = np.asarray(draw(jax.random.key(0)))
  assert samples.dtype == np.int32 and samples.shape == (10_000, length)
  assert not samples[:, T:].any()
  assert test_sampling._p_value(samples[:, :T], p) > 0.001
  # The test has teeth: another block's model is told apart.
  other = _model_probabilities(config, params, 5 - block)
  assert test_sampling._p_value(samples[:, :T], other) < 1e-6
