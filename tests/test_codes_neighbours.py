"""Classification by compression: NCD, ties, and adapted code lengths written out a second time."""

import gzip
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codes import adapted, compressors, distances, neighbours
from codes.errors import CodeError
from data.dataset import Dataset, Examples
from models import transformer
from models.config import ModelConfig
import objectives

GZIP = compressors.COMPRESSORS['gzip'].compress


def text(seed, size=2000):
  return np.random.default_rng(seed).integers(0, 256, size).astype(np.uint8).tobytes()


def test_ncd_is_the_formula():
  x, y, z = b'abab' * 20, b'abab' * 20 + b'c', text(0)
  size = [len(gzip.compress(part, 9)) for part in (x, y, z)]
  found = distances.ncd(GZIP, [x, z], [x, y, z])
  assert found.shape == (2, 3)
  for i, (one, alone) in enumerate(((x, size[0]), (z, size[2]))):
    for j, (other, beside) in enumerate(zip((x, y, z), size, strict=True)):
      both = len(gzip.compress(one + other, 9))
      expected = (both - min(alone, beside)) / max(alone, beside)
      assert found[i, j] == expected


@pytest.mark.parametrize('name', ['gzip', 'xz', 'zstd', 'lzma'])
def test_ncd_of_the_same_and_of_strangers(name):
  """Noise has nothing in common with other noise, and everything with itself; either way round."""
  strings = [text(seed) for seed in range(3)]
  found = distances.ncd(compressors.COMPRESSORS[name].compress, strings, strings)
  same = np.eye(3, dtype=bool)
  assert (found[same] < 0.06).all() and (found[~same] > 0.9).all()
  np.testing.assert_allclose(found, found.T, atol=0.03)
  assert found.max() < 1.05


def test_a_tie_is_not_right_because_the_truth_is_in_it():
  """The first publication's k=2: a tie of two labels counted as right if either was."""
  labels = np.array([0, 1, 0, 1])
  far = np.array([[0.1, 0.2, 0.8, 0.9], [0.2, 0.1, 0.8, 0.9], [0.1, 0.7, 0.2, 0.9]])
  truth = np.array([1, 1, 0])

  def either_counts(far_N, label):
    near = labels[np.argsort(far_N)[:2]]
    counts = np.bincount(near, minlength=2)
    return label in np.flatnonzero(counts == counts.max())

  published = np.mean([either_counts(*pair) for pair in zip(far, truth, strict=True)])
  votes = distances.votes(far, labels, 2, 2)
  np.testing.assert_allclose(votes, [[0.5, 0.5], [0.5, 0.5], [1, 0]])
  accuracy, tied = distances.score(votes, truth)
  assert published == 1.0
  assert accuracy == pytest.approx(2 / 3) and tied == pytest.approx(2 / 3)
  # On labels that mean nothing the published rule is far above chance, ours at it.
  rng = np.random.default_rng(0)
  labels, truth = rng.integers(0, 2, 40), rng.integers(0, 2, 4000)
  far = rng.random((4000, 40))
  published = np.mean([either_counts(*pair) for pair in zip(far, truth, strict=True)])
  ours, _ = distances.score(distances.votes(far, labels, 2, 2), truth)
  assert published > 0.7 and abs(ours - 0.5) < 4 * 0.5 / math.sqrt(4000)


def test_votes_when_distances_tie():
  """Four rows at the same distance share two places; the order of the rows is of no account."""
  labels = np.array([0, 1, 1, 1, 2])
  far = np.array([[5, 5, 5, 5, 9.0], [1, 2, 2, 3, 0]])
  votes = distances.votes(far, labels, 3, 2)
  np.testing.assert_allclose(votes, [[0.25, 0.75, 0], [0.5, 0, 0.5]])
  votes = distances.votes(far, labels, 3, 3)
  np.testing.assert_allclose(votes[1], [1 / 3, 1 / 3, 1 / 3])
  order = np.random.default_rng(0).permutation(5)
  np.testing.assert_allclose(distances.votes(far[:, order], labels[order], 3, 3), votes)
  np.testing.assert_allclose(distances.votes(far, labels, 3, 99)[0], [0.2, 0.6, 0.2])
  np.testing.assert_allclose(distances.cheapest(np.array([[3, 1, 1.0]])), [[0, 0.5, 0.5]])


def test_choice_and_standard_error():
  truth = np.array([0, 1, 1, 0])
  good, bad = np.eye(2)[truth], np.eye(2)[1 - truth]
  half = np.array([[1, 0], [0, 1], [1, 0], [1, 0]], float)
  best, accuracy = distances.choose([({}, bad), ({}, good), ({}, half)], truth)
  assert (best, accuracy) == (1, 1.0)
  judged = distances.judge(half, truth, accuracy, {'k': 1})
  assert judged.accuracy == 0.75 and judged.stderr == pytest.approx(math.sqrt(0.75 * 0.25 / 4))


# The network.


def unigram(params, tokens_BxT):
  """Independent tokens of one distribution, softmax(params)."""
  return -jnp.sum(jax.nn.log_softmax(params)[tokens_BxT], axis=-1)


def test_adapted_lengths_of_a_unigram_by_hand():
  """The gradient of nats is T p - counts; three steps on two rows by a loop in NumPy."""
  rng = np.random.default_rng(0)
  theta, bank, queries = rng.normal(size=4), rng.integers(0, 4, (3, 5)), rng.integers(0, 4, (7, 5))
  lengths = adapted.Lengths(unigram, jnp.asarray(theta, jnp.float32), chunk=3, together=2)

  def nats(theta, row):
    return -sum(theta[t] - np.log(np.exp(theta).sum()) for t in row)

  def adapt(rows, size, steps):
    moved = theta.copy()
    for _ in range(steps):
      p = np.exp(moved) / np.exp(moved).sum()
      gradient = np.mean([5 * p - np.bincount(row, minlength=4) for row in rows], axis=0)
      moved = moved - size * gradient
    return moved

  expected = [[nats(adapt([x], 0.3, 1), y) for x in bank] for y in queries]
  np.testing.assert_allclose(lengths.after_each(bank, queries, 0.3), expected, rtol=1e-5)
  np.testing.assert_allclose(lengths.alone(queries), [nats(theta, y) for y in queries], rtol=1e-5)
  # Classes of unequal size: 0 has two rows, 1 has one.
  found = lengths.after_class(bank, np.array([0, 1, 0]), 2, queries, 0.2, 3)
  members = ([bank[0], bank[2]], [bank[1]])
  expected = [[nats(adapt(rows, 0.2, 3), y) for rows in members] for y in queries]
  np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_adapted_lengths_of_a_transformer_in_a_plain_loop():
  """Against one gradient, one subtraction and one forward pass for each pair."""
  space = objectives.Space(3, 4, 4)
  config = ModelConfig(vocabulary=3, length=4, width=8, layers=1, heads=2)
  apply = transformer.make_apply(config)
  rng = np.random.default_rng(0)
  shapes = jax.eval_shape(lambda: transformer.init(config, jax.random.key(0)))
  # The output table starts at zero, from which one step would move nothing else.
  backbone = jax.tree.map(lambda p: 0.5 * rng.normal(size=p.shape).astype(np.float32), shapes)
  bank = rng.integers(0, 3, (3, 4))
  queries = np.concatenate([bank, rng.integers(0, 3, (2, 4))])

  def nats(backbone, row_T):
    logits_TxV = apply(backbone, row_T[None], pattern=('causal',), shift=True).logits_BxTxV[0]
    p_TxV = jnp.exp(logits_TxV) / jnp.exp(logits_TxV).sum(-1, keepdims=True)
    return -sum(jnp.log(p_TxV[t, row_T[t]]) for t in range(4))

  @jax.jit  # Of one pair: nothing is batched here.
  def pair(backbone, x_T, y_T):
    gradient = jax.grad(nats)(backbone, x_T)
    moved = jax.tree.map(lambda p, g: p - 0.05 * g, backbone, gradient)
    squared = sum((g**2).sum() for g in jax.tree.leaves(gradient))
    return nats(backbone, y_T), nats(moved, y_T), squared

  by_hand = np.array([[pair(backbone, x, y) for x in bank] for y in queries], np.float64)
  exact = adapted.make_nats(objectives.get('autoregressive'), apply, space)
  params = {'backbone': backbone, 'objective': {}}
  # Three networks at once; two rows at once, and one of padding.
  lengths = adapted.Lengths(exact, params, chunk=2, together=3)
  found, alone = lengths.after_each(bank, queries, 0.05), lengths.alone(queries)
  np.testing.assert_allclose(alone, by_hand[:, 0, 0], rtol=2e-5)
  np.testing.assert_allclose(found, by_hand[:, :, 1], rtol=2e-5)
  # It learns: a row costs less after itself, and the change is not the first-order one.
  assert (np.diag(found[:3]) < alone[:3]).all()
  assert abs(found[0, 0] - alone[0] + 0.05 * by_hand[0, 0, 2]) > 1e-3
  with pytest.raises(CodeError, match='exact code'):
    adapted.make_nats(objectives.get('masked_diffusion'), apply, space)


# Everything together.


def separable(seed=0):
  """Class 0 writes with tokens 0 and 1, class 1 with 2 and 3; 200 tokens each."""
  rng = np.random.default_rng(seed)
  splits = []
  for count in (40, 20, 30):
    labels = np.arange(count) % 2
    tokens = rng.integers(0, 2, (count, 200)) + 2 * labels[:, None]
    splits.append(Examples(tokens.astype(np.int32), labels.astype(np.int32)))
  return Dataset('toy', 4, 200, 200, (), 2, True, 'made up', True, *splits)


def test_everything_solves_what_is_separable():
  rows = neighbours.choose_rows(separable(), 20, 20, 20, 0)
  assert np.bincount(rows.train.labels_N).tolist() == [10, 10]
  found = dict([('pixels', neighbours.pixels(rows)), *neighbours.classical(rows, 'gzip')])
  lengths = adapted.Lengths(unigram, jnp.zeros(4))
  for symmetric in (False, True):
    found |= dict(neighbours.neural(rows, lengths, [1e-3, 1e-2], [1e-3], 3, symmetric))
  assert len(found) == 6
  for name, accuracy in found.items():
    assert accuracy.accuracy == accuracy.validation == 1.0, name
    assert accuracy.stderr == 0.0
  assert found['network, by class'].chosen == {'steps': 3, 'step': 1e-3}


def test_nothing_is_found_where_there_is_nothing():
  """Labels drawn by lot: every classifier within four standard errors of chance."""
  data = separable()
  rng = np.random.default_rng(1)
  noise = [
    Examples(rng.integers(0, 4, (n, 40)).astype(np.int32), np.arange(n, dtype=np.int32) % 2)
    for n in (40, 50, 200)
  ]
  data = Dataset('toy', 4, 40, 40, (), 2, True, data.note, True, *noise)
  rows = neighbours.choose_rows(data, 20, 50, 200, 0)
  found = dict(neighbours.classical(rows, 'gzip'))
  for name, accuracy in found.items():
    assert abs(accuracy.accuracy - 0.5) < 4 * math.sqrt(0.25 / 200), name
  assert found['gzip, by class'].tied > 0.05


def test_validation_chooses_and_test_does_not():
  """The candidate that is right on validation is kept, though another one is right on test."""
  rows = neighbours.choose_rows(separable(), 12, 10, 20, 0)
  right = np.eye(2)[rows.train.labels_N][:, 1]

  def distance(truth):
    return lambda y: np.abs(truth[len(y)][:, None] - right[None])

  labels = {10: rows.validation.labels_N, 20: rows.test.labels_N}
  on_validation = {10: labels[10], 20: 1 - labels[20]}
  on_test = {10: 1 - labels[10], 20: labels[20]}
  candidates = [({'c': 0}, distance(on_test)), ({'c': 1}, distance(on_validation))]
  found = neighbours.by_neighbours(rows, candidates)
  assert found.validation == 1.0 and found.accuracy == 0.0 and found.chosen['c'] == 1


def test_rows_that_can_not_be():
  data = separable()
  with pytest.raises(CodeError, match='no balanced subset'):
    neighbours.choose_rows(data, 100, 1, 1, 0)
  unlabelled = Dataset('toy', 4, 200, 200, (), None, True, '', True, *[data.test] * 3)
  with pytest.raises(CodeError, match='no labels'):
    neighbours.choose_rows(unlabelled, 4, 1, 1, 0)


def test_a_step_that_diverges_is_no_candidate():
  rows = neighbours.choose_rows(separable(), 20, 20, 20, 0)

  def far(tokens):
    return distances.squared(tokens, rows.train.tokens_NxT)

  def cost(tokens):
    classes = [far(tokens)[:, rows.train.labels_N == k].min(1) for k in range(rows.classes)]
    return np.stack(classes, 1)

  def nowhere(tokens):
    return np.full((len(tokens), len(rows.train)), np.nan)

  def infinite(tokens):
    return np.full((len(tokens), rows.classes), np.inf)

  for choose, good, bad in (
    (neighbours.by_neighbours, far, nowhere),
    (neighbours.by_class, cost, infinite),
  ):
    expected = choose(rows, [({'step': 1.0}, good)])
    assert expected.accuracy == 1.0
    assert choose(rows, [({'step': 9.0}, bad), ({'step': 1.0}, good)]) == expected
    with pytest.raises(distances.NoneFinite, match='no step size'):
      choose(rows, [({'step': 9.0}, bad)])


def test_rows_of_test_take_no_part_in_the_choice_of_a_step():
  """What is finite on validation and not on test is chosen, and told; it is not passed over."""
  rows = neighbours.choose_rows(separable(), 20, 20, 20, 0)

  def cost(tokens, spoilt):
    far = distances.squared(tokens, rows.train.tokens_NxT)
    made = np.stack([far[:, rows.train.labels_N == k].min(1) for k in range(rows.classes)], 1)
    made[len(rows.validation) :] += np.inf if spoilt else 0.0
    return made

  def worse(tokens):  # On validation: all classes cost the same.
    return np.zeros((len(tokens), rows.classes))

  candidates = [({'step': 1.0}, lambda y: cost(y, True)), ({'step': 2.0}, worse)]
  with pytest.raises(distances.NoneFinite, match='not finite on test'):
    neighbours.by_class(rows, candidates)
