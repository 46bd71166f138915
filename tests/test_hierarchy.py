"""The random hierarchy model against enumeration of every string and every mask."""

import dataclasses
import itertools
import math

import chains
import jax
import ml_collections
import numpy as np
import pytest
from scipy import stats

from data import hierarchy, synthetic

# (depth, branching, symbols, productions); each small enough to enumerate.
SIZES = {
  'T=4': (2, 2, 3, 2),
  'ternary T=9': (2, 3, 2, 2),
  'T=8': (3, 2, 3, 2),
  'three productions': (2, 2, 4, 3),
  'one production': (2, 2, 3, 1),
  'every tuple used': (1, 3, 2, 4),
  'unary': (3, 1, 4, 1),
}


@dataclasses.dataclass(frozen=True)
class World:
  """Every derivation of a grammar, found by recursion, in float64."""

  grammar: hierarchy.Grammar
  strings_KxT: np.ndarray
  levels: tuple[np.ndarray, ...]
  p_K: np.ndarray

  def masks(self) -> np.ndarray:
    """All 2^T visibilities."""
    return np.array(list(itertools.product([False, True], repeat=self.grammar.dims)))

  def posterior(self, visible_T: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """p(derivation | what is visible of string k), (K, K), and p(visible part of k), (K,)."""
    seen = self.strings_KxT[:, visible_T]
    joint = np.all(seen[:, None] == seen[None], axis=-1) * self.p_K
    return joint / joint.sum(axis=1, keepdims=True), joint.sum(axis=1)

  def marginals(self, posterior_KxK: np.ndarray, values_KxN: np.ndarray) -> np.ndarray:
    return np.einsum('ij,jnv->inv', posterior_KxK, np.eye(self.grammar.vocabulary)[values_KxN])


def _derivations(grammar, level, symbol):
  """(probability, symbols at each level from this one on) of every expansion of one symbol."""
  rules = grammar.rules_LxVxMxS
  if level == len(rules):
    return [(1.0, [[symbol]])]
  found = []
  for production in rules[level, symbol]:
    parts = [_derivations(grammar, level + 1, int(child)) for child in production]
    for combination in itertools.product(*parts):
      probability = np.prod([p for p, _ in combination]) / rules.shape[2]
      below = [sum(rows, []) for rows in zip(*(rows for _, rows in combination), strict=True)]
      found.append((probability, [[symbol], *below]))
  return found


def make_world(size, seed=0) -> World:
  grammar = hierarchy.draw_grammar(seed, *size)
  found = []
  for root in range(grammar.vocabulary):
    found += [(p / grammar.vocabulary, rows) for p, rows in _derivations(grammar, 0, root)]
  levels = [np.array([rows[i] for _, rows in found]) for i in range(grammar.depth + 1)]
  return World(grammar, levels[-1], tuple(levels[:-1]), np.array([p for p, _ in found]))


@pytest.fixture(scope='module', params=list(SIZES))
def world(request) -> World:
  return make_world(SIZES[request.param])


def test_a_string_has_one_derivation_and_entropy_is_the_closed_form(world):
  assert len(np.unique(world.strings_KxT, axis=0)) == len(world.strings_KxT)
  assert world.p_K.sum() == pytest.approx(1, abs=1e-12)
  entropy = -np.sum(world.p_K * np.log2(world.p_K))
  assert world.grammar.entropy_bits() == pytest.approx(entropy, abs=1e-10)
  assert world.grammar.entropy_bits_per_dim() * world.grammar.dims == pytest.approx(entropy)


def test_entropy_by_hand():
  # log2 8 + 15 log2 2, the default of the experiments; and one root with five expansions of 3.
  assert hierarchy.entropy_bits(4, 2, 8, 2) == 18
  assert hierarchy.entropy_bits(2, 4, 4, 3) == pytest.approx(2 + 5 * np.log2(3))
  assert hierarchy.entropy_bits(3, 1, 4, 1) == 2


def test_every_conditional_of_every_mask_is_the_enumerated_one(world):
  grammar, strings = world.grammar, world.strings_KxT
  for visible_T in world.masks():
    posterior, evidence = world.posterior(visible_T)
    visible = np.broadcast_to(visible_T, strings.shape)
    # What stands at hidden positions must have no influence.
    shown = np.where(visible, strings, (strings + 1) % grammar.vocabulary)
    belief = grammar.infer(shown, visible)
    np.testing.assert_allclose(belief.log_likelihood_B, np.log(evidence), atol=1e-5)
    exact = world.marginals(posterior, strings)
    np.testing.assert_allclose(belief.tokens_BxTxV, exact, atol=2e-6)
    np.testing.assert_array_equal(np.asarray(belief.tokens_BxTxV) == 0, exact == 0)
    for latent, level in zip(belief.latents, world.levels, strict=True):
      np.testing.assert_allclose(latent, world.marginals(posterior, level), atol=2e-6)


def test_masked_bound_of_exact_conditionals_is_the_entropy(world):
  dims = world.grammar.dims
  total = 0.0
  for visible_T in world.masks()[:-1]:
    hidden = int(dims - visible_T.sum())
    masks = np.broadcast_to(~visible_T, world.strings_KxT.shape)
    ce = world.grammar.conditional_cross_entropy(world.strings_KxT, masks)
    assert np.all(np.asarray(ce)[~masks] == 0)
    # k is uniform on 1..T, and the mask uniform among the sets of k.
    weight = 1 / dims * dims / hidden / math.comb(dims, hidden)
    total += weight * np.sum(world.p_K * np.asarray(ce, np.float64).sum(1))
  assert total / np.log(2) == pytest.approx(world.grammar.entropy_bits(), abs=1e-5)


@pytest.mark.parametrize('size', ['T=8', 'ternary T=9'])
def test_chain_rule_in_any_order(size):
  world = make_world(SIZES[size])
  entropy = world.grammar.entropy_bits() * np.log(2)
  np.testing.assert_allclose(world.grammar.nats(world.strings_KxT), entropy, atol=1e-5)
  dims = world.grammar.dims
  for order in (np.arange(dims), np.random.default_rng(0).permutation(dims)):
    p, possible = chains.chain(world.grammar, world.strings_KxT, order)
    assert np.all(possible)
    for step, position in enumerate(order):
      visible = np.isin(np.arange(dims), order[:step])
      exact = world.marginals(world.posterior(visible)[0], world.strings_KxT)
      np.testing.assert_allclose(p[:, position], exact[:, position], atol=2e-6)
    picked = np.take_along_axis(np.asarray(p, np.float64), world.strings_KxT[..., None], -1)
    np.testing.assert_allclose(-np.log(picked).sum((1, 2)), entropy, atol=1e-5)
    nats = np.asarray(chains.chain_nats(world.grammar, world.strings_KxT, order), np.float64)
    np.testing.assert_allclose(nats.sum(1), entropy, atol=1e-5)


def test_divergence_is_the_expected_excess_of_a_model_over_the_truth():
  world = make_world(SIZES['T=4'])
  rng = np.random.default_rng(0)
  strings = world.strings_KxT
  # A model that looks at visible tokens only: its logits are a function of them.
  table = {}
  for visible_T in world.masks()[:-1]:
    hidden = np.broadcast_to(~visible_T, strings.shape)
    logits = np.stack(
      [table.setdefault(tuple(k), rng.normal(size=(4, 3))) for k in np.where(hidden, -1, strings)]
    ).astype(np.float32)
    model = -np.take_along_axis(np.asarray(jax.nn.log_softmax(logits)), strings[..., None], -1)
    exact = np.asarray(world.grammar.conditional_cross_entropy(strings, hidden))
    kl = np.asarray(chains.kl(world.grammar, strings, hidden, logits))
    assert np.all(kl[~hidden] == 0) and np.all(kl >= -1e-6)
    excess = np.sum(world.p_K * np.sum(hidden * (model[..., 0] - exact), 1))
    assert np.sum(world.p_K * kl.sum(1)) == pytest.approx(excess, abs=1e-5)
  logits = np.log(np.maximum(np.asarray(chains.chain(world.grammar, strings)[0]), 1e-30))
  np.testing.assert_allclose(chains.chain_kl(world.grammar, strings, logits), 0, atol=1e-5)
  uniform = np.zeros((len(strings), 4, 3), np.float32)
  kl = np.asarray(chains.chain_kl(world.grammar, strings, uniform))
  regret = np.mean(kl.sum(1)) / np.log(2)
  assert regret == pytest.approx(4 * np.log2(3) - world.grammar.entropy_bits(), abs=1e-5)


def test_impossible_strings_are_called_impossible():
  world = make_world(SIZES['T=4'])
  known = {tuple(s) for s in world.strings_KxT}
  everything = np.array(list(itertools.product(range(3), repeat=4)))
  nats = np.asarray(world.grammar.nats(everything))
  np.testing.assert_array_equal(np.isfinite(nats), [tuple(s) in known for s in everything])
  chain = np.asarray(chains.chain_nats(world.grammar, everything))
  assert not np.any(np.isnan(chain))
  np.testing.assert_allclose(chain.sum(1), nats, atol=1e-5)
  bad = everything[np.isinf(nats)]
  assert np.all(np.isnan(world.grammar.infer(bad, np.ones(bad.shape, bool)).tokens_BxTxV))


def test_long_sequences_stay_exact():
  """T = 256 tokens in float32 against float64, and strings that cost their entropy."""
  grammar = hierarchy.draw_grammar(0, depth=4, branching=4, symbols=8, productions=4)
  tokens = hierarchy.sample(grammar, 0, 0, 20).tokens_NxT
  visible = np.random.default_rng(0).random(tokens.shape) < 0.3
  visible[:10] = True
  belief = grammar.infer(tokens, visible)
  np.testing.assert_allclose(
    -belief.log_likelihood_B[:10], grammar.entropy_bits() * np.log(2), rtol=1e-6
  )
  with jax.enable_x64(True):
    precise = jax.tree.map(np.asarray, grammar.infer(tokens, visible))
  assert precise.tokens_BxTxV.dtype == np.float64
  np.testing.assert_allclose(belief.log_likelihood_B, precise.log_likelihood_B, rtol=1e-6)
  np.testing.assert_allclose(belief.tokens_BxTxV, precise.tokens_BxTxV, atol=2e-6)
  for latent, exact in zip(belief.latents, precise.latents, strict=True):
    np.testing.assert_allclose(latent, exact, atol=2e-6)
    np.testing.assert_allclose(np.sum(latent, -1), 1, atol=2e-6)


def test_grammar_is_drawn_from_its_seed():
  rules = hierarchy.draw_grammar(3, 4, 2, 8, 2).rules_LxVxMxS
  np.testing.assert_array_equal(rules, hierarchy.draw_grammar(3, 4, 2, 8, 2).rules_LxVxMxS)
  assert np.any(rules != hierarchy.draw_grammar(4, 4, 2, 8, 2).rules_LxVxMxS)
  for level in rules:
    assert len(np.unique(level.reshape(-1, 2), axis=0)) == 16
  # Over many grammars, every symbol is as likely in every place.
  many = [hierarchy.draw_grammar(i, 1, 2, 3, 2).rules_LxVxMxS.reshape(-1, 2) for i in range(300)]
  for place in range(2):
    counts = np.bincount(np.concatenate(many)[:, place], minlength=3)
    assert stats.chisquare(counts).pvalue > 1e-3


def test_strings_and_choices_are_uniform():
  world = make_world(SIZES['T=8'])
  draw = hierarchy.sample(world.grammar, 5, 0, 40_000)
  lookup = {tuple(s): k for k, s in enumerate(world.strings_KxT)}
  found = np.array([lookup[tuple(s)] for s in draw.tokens_NxT])  # all are grammatical
  assert stats.chisquare(np.bincount(found, minlength=len(lookup))).pvalue > 1e-3
  for level, exact in zip(draw.levels, world.levels, strict=True):
    np.testing.assert_array_equal(level, exact[found])
  np.testing.assert_array_equal(draw.labels_N, world.levels[0][found, 0])


def test_parsing_recovers_the_sampled_latents():
  grammar = hierarchy.draw_grammar(1, depth=4, branching=2, symbols=8, productions=2)
  draw = hierarchy.sample(grammar, 0, 0, 200)
  belief = grammar.infer(draw.tokens_NxT, np.ones(draw.tokens_NxT.shape, bool))
  for posterior, level in zip(belief.latents, draw.levels, strict=True):
    np.testing.assert_allclose(posterior, np.eye(8)[level], atol=1e-5)


def test_an_example_is_a_function_of_seed_and_index():
  grammar = hierarchy.draw_grammar(0, 4, 2, 8, 2)
  batch = hierarchy.sample(grammar, 7, 100, 50)
  for index in (0, 13, 49):
    one = hierarchy.sample(grammar, 7, 100 + index, 1)
    np.testing.assert_array_equal(one.tokens_NxT[0], batch.tokens_NxT[index])
    assert one.labels_N[0] == batch.labels_N[index]
  assert np.any(hierarchy.sample(grammar, 8, 100, 50).tokens_NxT != batch.tokens_NxT)
  far = hierarchy.sample(grammar, 2**40, 2**61, 1)
  np.testing.assert_array_equal(
    far.tokens_NxT, hierarchy.sample(grammar, 2**40, 2**61, 3).tokens_NxT[:1]
  )
  # Neighbouring seeds and indices have nothing in common: uniform pairs of roots.
  roots = np.stack([hierarchy.sample(grammar, s, 0, 4000).labels_N for s in range(2)])
  for first, second in ((roots[0], roots[1]), (roots[0, ::2], roots[0, 1::2])):
    assert stats.chisquare(np.bincount(first * 8 + second, minlength=64)).pvalue > 1e-3


def _config(**changes):
  settings = dict(depth=2, branching=2, symbols=3, productions=2, grammar_seed=0)
  return ml_collections.ConfigDict({**settings, 'examples': 0, 'held_out': 30, **changes})


@pytest.mark.parametrize('examples', [0, 40])
def test_data_set(examples):
  dataset = hierarchy.load(_config(examples=examples))
  assert (dataset.dims, dataset.length, dataset.vocabulary, dataset.classes) == (4, 5, 3, 3)
  assert not dataset.ordinal and dataset.truth.entropy_bits() == pytest.approx(np.log2(24))
  assert dataset.epoch == (examples or None)
  seeds = {'validation': synthetic.VALIDATION_SEED, 'test': synthetic.TEST_SEED}
  if examples:
    seeds['train'] = synthetic.TRAIN_SEED
  else:
    record = dataset.train(3, 11)
    expected = hierarchy.sample(dataset.truth, 3, 11, 1)
    np.testing.assert_array_equal(record['tokens'], [*expected.tokens_NxT[0], 0])
    assert record['tokens'].dtype == np.int32 and record['label'] == expected.labels_N[0]
  assert set(dataset.latents) == set(seeds)
  for split, seed in seeds.items():
    held = getattr(dataset, split)
    expected = hierarchy.sample(dataset.truth, seed, 0, len(held))
    np.testing.assert_array_equal(held.tokens_NxT[:, :4], expected.tokens_NxT)
    assert np.all(held.tokens_NxT[:, 4] == 0)
    assert list(dataset.latents[split]) == ['level0/0', 'level1/0', 'level1/1']
    np.testing.assert_array_equal(dataset.latents[split]['level0/0'], held.labels_N)
    np.testing.assert_array_equal(dataset.latents[split]['level1/1'], expected.levels[1][:, 1])


@pytest.mark.parametrize(
  'changes, message',
  [
    ({'productions': 4}, 'needs 12 distinct tuples, but 3 symbols make only 9.* at most 3'),
    ({'branching': 1}, 'at most 1 productions'),
    ({'depth': 0}, 'depth must be at least 1'),
    ({'symbols': 1}, 'symbols must be at least 2'),
    ({'productions': 0}, 'productions must be at least 1'),
    ({'branching': 64}, '2.63 or more'),
    ({'grammar_seed': -1}, 'must not be negative'),
    ({'held_out': 0}, 'held_out must be at least 1'),
    ({'examples': -1}, 'examples must be at least 0'),
  ],
)
def test_impossible_settings_are_refused_in_one_line(changes, message):
  with pytest.raises(ValueError, match=message) as error:
    hierarchy.load(_config(**changes))
  assert '\n' not in str(error.value)


def test_the_end_token_is_not_part_of_a_sequence():
  dataset = hierarchy.load(_config())
  with pytest.raises(ValueError, match='end token'):
    dataset.truth.nats(dataset.test.tokens_NxT)
