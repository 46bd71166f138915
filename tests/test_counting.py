"""The counting code: it learns what there is, charges what it must, and both sides agree."""

import io
import itertools
import math

import numpy as np
import pytest
from sklearn import datasets

from codes import adaptive, codec, container, counting, decisions, experts, files, near, regression
from data import markov


def _bits(layout, rows, **settings):
  return adaptive.Adaptive(adaptive.Settings(layout, **settings), rows.size).bits(rows)


def _digits(rows):
  images = datasets.load_digits().images[:rows].astype(np.int64)
  return images.reshape(rows, 64), counting.Layout(17, 64, (8, 8, 1), True)


@pytest.mark.bits
def test_images_come_back_at_the_length_that_was_foretold():
  rows, layout = _digits(30)
  predictor = adaptive.Adaptive(adaptive.Settings(layout), rows.size)
  bits = predictor.bits(rows).sum()
  predictor = adaptive.Adaptive(adaptive.Settings(layout), rows.size)
  fields = {'kind': container.ARRAY, 'total': 30, 'dtype': '|u1', 'shape': (8, 8)}
  header = container.Header(**fields, **predictor.claims())
  out, again, flat = io.BytesIO(), io.BytesIO(), rows.reshape(-1)
  sizes = codec.encode(predictor, codec.Source(rows.size, lambda a, b: flat[a:b]), header, out)
  assert sizes.ideal_bits == pytest.approx(bits, rel=1e-6)
  assert bits <= sizes.payload_bits <= bits * 1.001 + 64
  out.seek(0)
  reader = container.Reader(out)
  files.decode(adaptive.from_header(reader.header), reader, again)
  again.seek(0)
  np.testing.assert_array_equal(np.load(again).reshape(30, 64), rows)


def test_it_is_far_below_the_histogram_on_digits():
  rows, layout = _digits(120)
  histogram = experts.Histogram(64, 17)
  total = 0.0
  for start, stop in experts.chunks(120, 64):
    histogram.start(stop - start)
    for slot in range(64):
      symbols_B = rows[start:stop, slot]
      total -= np.log2(histogram.expect()[np.arange(stop - start), symbols_B]).sum()
      histogram.see(symbols_B)
    histogram.finish()
  assert _bits(layout, rows).sum() < 0.9 * total


@pytest.mark.parametrize('ordinal', [False, True])
def test_no_code_is_shorter_than_the_entropy(ordinal):
  """Noise costs its entropy and little more; the chance to save s bits is 2^-s."""
  rows = np.random.default_rng(0).integers(0, 5, (150, 12))
  entropy = rows.size * math.log2(5)
  bits = _bits(counting.Layout(5, 12, None, ordinal), rows).sum()
  assert entropy - 40 < bits < 1.1 * entropy


def test_a_chain_costs_its_entropy_in_the_end():
  chain = markov.draw_chain(1, 5, 8, 1.0)
  rows = markov.sample(chain, 0, 0, 1500).tokens_NxT
  bits_N = _bits(counting.Layout(5, 8), rows)
  late = bits_N[750:]
  entropy = chain.entropy_bits()
  assert entropy - 4 * late.std() / math.sqrt(750) < late.mean() < 1.1 * entropy


def test_probabilities_are_those_of_every_possible_row():
  """After the same past the code's probabilities of all rows add up to one."""
  layout = counting.Layout(3, 4, (2, 2, 1), True)
  past = np.random.default_rng(0).integers(0, 3, (5, 4))
  total = 0.0
  for row in itertools.product(range(3), repeat=4):
    # The last batch is the last row alone.
    total += 2.0 ** -_bits(layout, np.concatenate([past, [row]]))[-1]
  assert total == pytest.approx(1.0, abs=1e-9)


def test_the_future_changes_nothing():
  rows, layout = _digits(40)
  other = rows.copy()
  other[20:] = 16 - other[20:]
  one, two = _bits(layout, rows), _bits(layout, other)
  np.testing.assert_array_equal(one[:20], two[:20])
  assert (one[20:] != two[20:]).any()


def test_a_text_is_coded_in_lanes_and_windows():
  text = np.frombuffer(b'the cat sat on the mat and the dog sat on the cat. ' * 200, np.uint8)
  layout = counting.Layout(256, 32, continued=True)
  predictor = adaptive.Adaptive(adaptive.Settings(layout), text.size)
  assert predictor.batch == 2 and predictor.dims == 5100
  fields = {'kind': container.BYTES, 'total': text.size}
  header = container.Header(**fields, **predictor.claims())
  out, again = io.BytesIO(), io.BytesIO()
  sizes = codec.encode(predictor, codec.Source(text.size, lambda a, b: text[a:b]), header, out)
  assert sizes.file_bytes < len(text) / 12
  expert = counting.Counting(layout, predictor._windows)
  assert adaptive.text_bits(expert, text, 32) == pytest.approx(sizes.ideal_bits, rel=1e-5)
  out.seek(0)
  reader = container.Reader(out)
  files.decode(adaptive.from_header(reader.header), reader, again)
  assert again.getvalue() == text.tobytes()


@pytest.mark.parametrize('vocabulary', [1, 2, 3, 16, 17, 256])
@pytest.mark.parametrize('ends', [False, True])
def test_decisions_are_a_distribution(vocabulary, ends):
  tree = decisions.Tree(vocabulary, ends)
  p_BxV = np.random.default_rng(0).dirichlet(np.ones(vocabulary), 6)
  found_BxV = tree.probabilities(tree.odds(p_BxV))
  np.testing.assert_allclose(found_BxV, p_BxV, rtol=1e-3, atol=1e-5)
  odds_BxM = np.random.default_rng(1).normal(size=(6, tree.nodes))
  found_BxV = tree.probabilities(odds_BxM)
  # Decision by decision.
  symbols_B = np.arange(6) % vocabulary
  rows_P, nodes_P, bits_P = tree.made(symbols_B)
  p_P = decisions.squash(odds_BxM[rows_P, nodes_P])
  expected_B = np.ones(6)
  np.multiply.at(expected_B, rows_P, np.where(bits_P, p_P, 1 - p_P))
  np.testing.assert_allclose(found_BxV[np.arange(6), symbols_B], expected_B, rtol=1e-9)


def test_the_mixer_descends_the_gradient_of_its_code_length():
  """Against differences, of one decision of one row."""
  rng = np.random.default_rng(0)
  odds_KxBxM = rng.normal(size=(3, 1, 1))
  levels = rng.integers(0, 8, (3, 1, 1))
  sets = [np.zeros((1, 1), np.int64)]

  def made():
    return decisions.Mixer(3, (1,), 1, rate=0.1, least=0.0, half=1e9)

  def nats(mixer):
    return np.log1p(np.exp(-mixer.mix(odds_KxBxM, levels, sets)[0, 0]))

  mixer, change = made(), 1e-5
  nats(mixer)
  before = mixer._weights[0].copy()
  mixer.learn(np.array([0]), np.array([0]), np.array([1]))
  step = mixer._weights[0] - before
  for place in range(3):
    moved = made()
    moved._weights[0][0, place, levels[place, 0, 0]] += change
    slope = (nats(moved) - nats(made())) / change
    assert step[0, place, levels[place, 0, 0]] == pytest.approx(-0.1 * slope, rel=1e-3)


def test_counts_by_hand():
  counts = decisions.Counts(1, 2, 100, limit=3)
  context = np.array([[7]], np.uint64)
  for bit in (1, 1, 0):
    counts.look(context)
    counts.learn(np.array([0]), np.array([1]), np.array([bit]))
  odds, levels = counts.look(context)
  np.testing.assert_allclose(odds[0, 0], [0.0, math.log(2.4 / 1.4)], rtol=1e-6)
  np.testing.assert_array_equal(levels[0, 0], [0, 2])
  counts.learn(np.array([0]), np.array([1]), np.array([1]))  # Now 3 of 4, halved to 1 of 2.
  odds, _ = counts.look(context)
  assert odds[0, 0, 1] == pytest.approx(0.0, abs=1e-6)


def test_the_recursive_regression_is_the_conditional_gaussian():
  """Against the textbook's formula for every pixel, and its errors against each other."""
  rng = np.random.default_rng(0)
  images = rng.normal(size=(30, 5)) @ rng.normal(size=(5, 5)) + 3
  apart = np.abs(np.arange(5)[:, None] - np.arange(5.0))
  made = regression.Regression(apart, 2.0, 1.0, 4.0)
  made.start(1)
  made.finish(images)
  made.start(3)
  mean_T = (images.sum(0) + 2.0) / 31
  centred = images - mean_T
  near_TxT = np.exp(-apart / 2) + 0.05 * np.eye(5)
  scatter_TxT = centred.T @ centred
  variance = np.trace(scatter_TxT) / (5 * 30)
  covariance = (scatter_TxT + 4 * variance * near_TxT) / 34
  rows = rng.normal(size=(3, 5)) + 3
  for slot in range(5):
    mean_B, deviation = made.expect()
    cross = np.linalg.solve(covariance[:slot, :slot], covariance[:slot, slot])
    expected_B = mean_T[slot] + (rows[:, :slot] - mean_T[:slot]) @ cross
    np.testing.assert_allclose(mean_B, expected_B, rtol=1e-9)
    expected = covariance[slot, slot] - covariance[slot, :slot] @ cross
    assert deviation**2 == pytest.approx(expected, rel=1e-9)
    np.testing.assert_allclose(made.errors(rows)[:, slot], rows[:, slot] - expected_B, atol=1e-9)
    made.see(rows[:, slot])


def test_levels_are_the_logistic_between_midpoints():
  p_BxV = regression.levels(np.array([1.3]), 0.7, 4)
  scale = 0.7 * math.sqrt(3) / math.pi
  edges = [1 / (1 + math.exp(-(e - 1.3) / scale)) for e in (0.5, 1.5, 2.5)]
  expected = np.diff([0, *edges, 1]) + 1e-5
  np.testing.assert_allclose(p_BxV[0], expected / expected.sum(), rtol=1e-9)


def test_votes_by_hand():
  """Two earlier rows: the nearer one weighs 1, the other what its distance leaves it."""
  places = np.stack([np.zeros(2), np.arange(2), np.zeros(2)], 1)
  made = near.Near(places, 4)
  made.start(2)
  for column in ([0, 3], [1, 2]):
    made.expect(np.zeros((2, 2), np.int64))
    made.see(np.array(column))
  made.finish(np.array([[0, 1], [3, 2]]))
  made.start(1)
  made.expect(np.zeros((1, 2), np.int64))
  made.see(np.array([1]))
  expected = made.expect(np.array([[1, 0]]))
  width = 0.4 * made._regressions[0].variance
  far = math.exp((1 - 4) / width)
  prior_V = np.array([0.5, 1.5, 1.5, 0.5]) / 4
  votes_V = np.array([0, 1, far, 0])
  np.testing.assert_allclose(
    expected.p[2][0], (votes_V + 0.5 * prior_V) / (1 + far + 0.5), rtol=1e-6
  )


def test_batches_grow():
  found = experts.chunks(1000, 16)
  assert found[:3] == [(0, 1), (1, 2), (2, 3)] and found[-1][1] == 1000
  sizes = [b - a for a, b in found]
  assert max(sizes) == 16 and all(b[0] == a[1] for a, b in itertools.pairwise(found))
  assert experts.chunks(0, 16) == []
