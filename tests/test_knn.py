"""Nearest neighbours against brute force, scikit-learn, and cases with ties known by hand."""

import dataclasses
import math

import ml_collections
import numpy as np
import pytest
from sklearn import datasets, neighbors

from probes import knn, selection
from probes.features import Features


def config(**changes):
  fields = {'neighbours': (1, 5, 20), 'temperature': 0.07, 'labels': (100,), 'draws': 3}
  return ml_collections.ConfigDict(fields | changes)


def digits():
  """Raw pixels, before and after growing noise."""
  data = datasets.load_digits()
  rng = np.random.default_rng(0)
  order = rng.permutation(len(data.data))
  noise = rng.normal(size=(2, *data.data.shape)) * np.array([6, 0])[:, None, None]
  x, y = (data.data + noise)[:, order].astype(np.float32), data.target[order]
  a, b = 1197, 1497
  return Features(x[:, :a], x[:, a:b], x[:, b:], y[:a], y[a:b], y[b:], 10)


def clusters(layers=3, rows=120, dims=5, classes=4):
  """The class shows in the last layer only."""
  rng = np.random.default_rng(0)
  y = rng.permutation(np.arange(3 * rows) % classes)
  x = rng.normal(size=(layers, 3 * rows, dims)).astype(np.float32)
  x[-1, :, :classes] += 2 * np.eye(classes)[y]
  split = (slice(0, rows), slice(rows, 2 * rows), slice(2 * rows, None))
  return Features(*(x[:, s] for s in split), *(y[s] for s in split), classes)


def brute_force(queries, bank, labels, classes, k, temperature, exclude_self=False):
  """One query at a time, by the definition: whole groups of equal similarity, best first."""

  def cosine(a, b):
    size = math.sqrt(math.fsum(a * a)) * math.sqrt(math.fsum(b * b))
    return math.fsum(a * b) / size if size else 0.0

  shares = np.zeros((len(queries), classes))
  for q, query in enumerate(queries):
    groups = {}
    for i, row in enumerate(bank):
      if not (exclude_self and i == q):
        groups.setdefault(round(cosine(query, row), 11), []).append(labels[i])
    left = k
    for similarity in sorted(groups, reverse=True):
      members = groups[similarity]
      for label in members:
        place = min(1, left / len(members))
        shares[q, label] += place * math.exp((similarity - 1) / temperature)
      left = max(0, left - len(members))
  return shares / shares.sum(1, keepdims=True)


def problem(seed=0, queries=30, bank=60, dims=4, classes=3):
  rng = np.random.default_rng(seed)
  labels = rng.permutation(np.arange(bank) % classes)
  return rng.normal(size=(queries, dims)), rng.normal(size=(bank, dims)), labels


@pytest.mark.parametrize('k', [1, 2, 7, 59, 60])
@pytest.mark.parametrize('temperature', [0.07, 1.0])
def test_equals_brute_force(k, temperature):
  queries, bank, labels = problem()
  expected = brute_force(queries, bank, labels, 3, k, temperature)
  found = knn.votes(queries, bank, labels, 3, k, temperature)
  np.testing.assert_allclose(found, expected, atol=1e-9)


@pytest.mark.parametrize('k', [1, 2, 3, 5, 9, 40])
@pytest.mark.parametrize('exclude_self', [False, True])
def test_equals_brute_force_with_many_ties(k, exclude_self):
  """Integer features in two dimensions: most similarities occur many times, some rows are zero."""
  rng = np.random.default_rng(3)
  bank = rng.integers(-1, 2, size=(50, 2)) * rng.integers(1, 4, size=(50, 1)) * 0.1
  labels = rng.integers(0, 4, size=50)
  assert (bank == 0).all(1).any()
  queries = bank if exclude_self else np.concatenate([bank[:9], rng.normal(size=(9, 2))])
  expected = brute_force(queries, bank, labels, 4, k, 0.07, exclude_self)
  found = knn.votes(queries, bank, labels, 4, k, 0.07, exclude_self)
  np.testing.assert_allclose(found, expected, atol=1e-8)
  several = knn.votes_by_k(queries, bank, labels, 4, (k, 1, 12), 0.07, exclude_self)
  np.testing.assert_allclose(several[0], found, atol=1e-14)


@pytest.mark.parametrize('k', [1, 5, 20])
def test_equals_scikit_learn(k):
  queries, bank, labels = problem(1, queries=200, bank=300, dims=16, classes=5)
  model = neighbors.KNeighborsClassifier(
    k, metric='cosine', weights=lambda distance: np.exp((1 - distance) / 0.07)
  )
  expected = model.fit(bank, labels).predict_proba(queries)
  found = knn.votes(queries, bank, labels, 5, k, 0.07)
  np.testing.assert_allclose(found, expected, atol=1e-10)
  np.testing.assert_array_equal(knn.predictions(found), model.predict(queries))


def test_places_at_the_kth_similarity_are_shared():
  """Similarity 1, then three at 1/sqrt(2): with k = 2 each of them has a third of a place."""
  bank = np.array([[1.0, 0.0], [1.0, 1.0], [2.0, 2.0], [1.0, -1.0], [-1.0, 0.0]])
  found = knn.votes(np.array([[3.0, 0.0]]), bank, np.array([0, 1, 1, 2, 2]), 3, 2, 0.5)[0]
  w = np.exp((np.sqrt(0.5) - 1) / 0.5)
  np.testing.assert_allclose(found, np.array([1, 2 / 3 * w, w / 3]) / (1 + w), atol=1e-12)


def test_a_tied_vote_is_worth_a_half():
  """Scoring 'the truth is among the best two', or in favour of the truth, would give 1.0."""
  bank = np.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 0.0]])
  queries, labels = np.array([[2.0, 0.0]] * 3), np.array([0, 1, 2])
  for k in (1, 2):  # One shared place, and two whole ones.
    found = knn.votes(queries, bank, labels, 3, k, 0.07)
    np.testing.assert_allclose(found, [[0.5, 0.5, 0.0]] * 3, atol=1e-12)
    assert knn.credit(found, labels).tolist() == [0.5, 0.5, 0.0]
    assert knn.predictions(found).tolist() == [0, 0, 0]


def test_credit():
  votes = np.array([[0.4, 0.4, 0.2], [0.2, 0.4, 0.4 - 1e-13], [1 / 3] * 3, [0.3, 0.3, 0.4]])
  assert knn.credit(votes, np.array([2, 2, 1, 2])).tolist() == [0, 0.5, 1 / 3, 1]
  assert knn.predictions(votes).tolist() == [0, 1, 0, 2]
  # Several k at once, as in a choice.
  np.testing.assert_array_equal(
    knn.credit(np.stack([votes, votes]), np.array([2, 2, 1, 2])), [[0, 0.5, 1 / 3, 1]] * 2
  )


def test_order_of_the_bank_changes_nothing():
  """Labels at random on few distinct rows, where nearly every vote hangs on how ties are cut."""
  rng = np.random.default_rng(5)
  distinct = rng.normal(size=(6, 300))
  bank, labels = distinct[rng.integers(0, 6, 90)], rng.integers(0, 3, 90)
  queries = rng.normal(size=(40, 300))
  ks = (1, 3, 20, 77)
  first = knn.votes_by_k(queries, bank, labels, 3, ks, 0.07)
  for seed in range(5):
    order = np.random.default_rng(seed).permutation(90)
    again = knn.votes_by_k(queries, bank[order], labels[order], 3, ks, 0.07)
    np.testing.assert_allclose(again, first, atol=1e-10)
    truth = rng.integers(0, 3, 40)
    np.testing.assert_array_equal(knn.credit(again, truth), knn.credit(first, truth))


def test_own_row_is_excluded_by_index_and_copies_stay():
  bank = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [-1.0, -1.0]])
  labels = np.array([0, 1, 0, 1, 2])
  own = knn.votes(bank, bank, labels, 3, 1, 0.07, exclude_self=True)
  # The copy has the other label; the last row's neighbours are all four, equally far.
  np.testing.assert_allclose(
    own, [[0, 1, 0], [1, 0, 0], [0, 1, 0], [1, 0, 0], [0.5, 0.5, 0]], atol=1e-12
  )
  seen = knn.votes(bank, bank, labels, 3, 1, 0.07)
  np.testing.assert_allclose(seen[:2], [[0.5, 0.5, 0]] * 2, atol=1e-12)


def test_whole_bank_where_k_is_larger():
  queries, bank, labels = problem()
  whole = knn.votes(queries, bank, labels, 3, 60, 0.07)
  np.testing.assert_array_equal(knn.votes(queries, bank, labels, 3, 1000, 0.07), whole)
  own = knn.votes(bank, bank, labels, 3, 59, 0.07, exclude_self=True)
  np.testing.assert_array_equal(knn.votes(bank, bank, labels, 3, 60, 0.07, True), own)


def test_chunks_change_nothing(monkeypatch):
  _, bank, labels = problem()
  whole = knn.votes_by_k(bank, bank, labels, 3, (1, 5), 0.07, True)
  monkeypatch.setattr(knn, 'CHUNK_BYTES', 8 * 60 * 7)
  parts = knn.votes_by_k(bank, bank, labels, 3, (1, 5), 0.07, True)
  np.testing.assert_allclose(parts, whole, atol=1e-12)


def test_zero_vectors_and_small_temperatures():
  queries, bank, labels = problem()
  frequency = np.bincount(labels) / len(labels)
  zero = np.zeros((1, 4))
  np.testing.assert_allclose(knn.votes(zero, bank, labels, 3, 5, 0.07)[0], frequency, atol=1e-12)
  nothing = knn.votes(queries, bank * 0, labels, 3, 5, 0.07)
  np.testing.assert_allclose(nothing, np.tile(frequency, (30, 1)), atol=1e-12)
  nearest = knn.votes(queries, bank, labels, 3, 1, 0.07)
  np.testing.assert_allclose(knn.votes(queries, bank, labels, 3, 20, 1e-5), nearest, atol=1e-9)


def rotation(dims, seed=0):
  return np.linalg.qr(np.random.default_rng(seed).normal(size=(dims, dims)))[0]


def test_evaluate_against_brute_force():
  """The whole of it again with loops: centring, choice on validation, test accuracy."""
  features = clusters(layers=2, rows=60)
  settings = config(neighbours=(1, 4), labels=(20,), draws=2)
  results, arrays = knn.evaluate(features, settings, 7)
  best = None
  for layer in range(2):
    mean = features.train[layer].astype(float).mean(0)
    bank = features.train[layer] - mean
    for k in (1, 4):
      shares = brute_force(
        features.validation[layer] - mean, bank, features.labels_train, 4, k, 0.07
      )
      accuracy = (shares.argmax(1) == features.labels_validation).mean()
      error = ((np.eye(4)[features.labels_validation] - shares) ** 2).sum()
      if best is None or (accuracy, -error) > best[0]:
        shares = brute_force(features.test[layer] - mean, bank, features.labels_train, 4, k, 0.07)
        best = ((accuracy, -error), layer, k, shares.argmax(1))
  cell = results['all']
  assert (cell['layer'], cell['neighbours']) == best[1:3]
  np.testing.assert_array_equal(arrays['all/predictions'], best[3])
  correct = best[3] == features.labels_test
  assert cell['accuracy'] == pytest.approx(correct.mean())
  assert cell['stderr'] == pytest.approx(correct.std() / np.sqrt(60))
  assert cell['by_layer_validation'][cell['layer']] == pytest.approx(best[0][0])

  few = results['20']
  for draw in range(2):
    rows = selection.disjoint_subset(features.labels_train, 20, 4, 7, draw)
    y, best = features.labels_train[rows], None
    for layer in range(2):
      x = features.train[layer, rows].astype(float)
      mean = x.mean(0)
      for k in (1, 4):
        shares = brute_force(x - mean, x - mean, y, 4, k, 0.07, exclude_self=True)
        score = ((shares.argmax(1) == y).mean(), -((np.eye(4)[y] - shares) ** 2).sum())
        if best is None or score > best[0]:
          test = brute_force(features.test[layer] - mean, x - mean, y, 4, k, 0.07)
          best = (score, layer, k, test.argmax(1))
    assert (few['layer'][draw], few['neighbours'][draw]) == best[1:3]
    np.testing.assert_array_equal(arrays['20/predictions'][draw], best[3])
    assert few['draws'][draw] == pytest.approx((best[3] == features.labels_test).mean())
  assert few['accuracy'] == pytest.approx(np.mean(few['draws']))
  assert few['stderr'] == pytest.approx(np.std(few['draws'], ddof=1) / np.sqrt(2))
  assert max(few['by_layer_cv'][:1]) < few['by_layer_cv'][1]


def test_digits_from_raw_pixels():
  features = digits()
  results, arrays = knn.evaluate(features, config(), 0)
  assert set(results) == {'all', '100'}
  assert results['all']['layer'] == 1 and 0.96 <= results['all']['accuracy'] <= 1
  assert 0.80 <= results['100']['accuracy'] < results['all']['accuracy']
  assert results['100']['layer'] == [1, 1, 1]
  assert arrays['all/predictions'].shape == (300,) and arrays['100/credit'].shape == (3, 300)
  for name in ('all', '100'):
    assert arrays[f'{name}/predictions'].dtype == np.int32
    assert arrays[f'{name}/credit'].mean() == pytest.approx(results[name]['accuracy'], abs=1e-6)

  def check(value):
    if isinstance(value, dict):
      assert all(isinstance(key, str) for key in value)
      return [check(v) for v in value.values()]
    if isinstance(value, list):
      return [check(v) for v in value]
    assert value is None or type(value) in (int, float)

  check(results)


def test_rotation_shift_and_scale_change_nothing():
  features = clusters()
  turn = rotation(5)

  def moved(x):
    return (x @ turn) * 10 + np.arange(5) * 7

  other = dataclasses.replace(
    features, **{s: moved(getattr(features, s)) for s in ('train', 'validation', 'test')}
  )
  first, second = (knn.evaluate(f, config(labels=(40,)), 0)[0] for f in (features, other))
  for n in ('all', '40'):
    assert first[n]['accuracy'] == pytest.approx(second[n]['accuracy'], abs=1e-9)
    assert first[n]['layer'] == second[n]['layer']
    assert first[n]['neighbours'] == second[n]['neighbours']


def test_test_split_changes_no_choice():
  features = clusters()
  rng = np.random.default_rng(1)
  corrupted = dataclasses.replace(
    features,
    test=rng.normal(size=features.test.shape).astype(np.float32),
    labels_test=rng.permutation(features.labels_test),
  )
  clean, _ = knn.evaluate(features, config(labels=(40,)), 0)
  results, _ = knn.evaluate(corrupted, config(labels=(40,)), 0)
  for n, curve in (('all', 'by_layer_validation'), ('40', 'by_layer_cv')):
    for key in ('layer', 'neighbours', curve):
      assert results[n][key] == clean[n][key]
    assert results[n]['accuracy'] < clean[n]['accuracy'] - 0.2


def test_few_labels_see_nothing_else():
  features = clusters()
  settings = config(labels=(40,), draws=1)
  first = knn.evaluate(features, settings, 3)[0]['40']
  rows = selection.disjoint_subset(features.labels_train, 40, 4, 3, 0)
  others = np.setdiff1d(np.arange(120), rows)
  changed = features.train.copy()
  changed[:, others] = 1e3
  rng = np.random.default_rng(0)
  second = dataclasses.replace(
    features,
    train=changed,
    validation=rng.normal(size=features.validation.shape),
    labels_validation=rng.permutation(features.labels_validation),
  )
  assert knn.evaluate(second, settings, 3)[0]['40'] == first
  assert first['stderr'] is None


def test_one_label_a_class_and_sizes_that_do_not_fit():
  results, arrays = knn.evaluate(clusters(), config(labels=(3, 4, 500), draws=2), 0)
  assert set(results) == {'all', '4', 'left_out'} and '500/predictions' not in arrays
  assert set(results['left_out']) == {'3', '500'}
  assert results['4']['layer'] == [1, 1] and results['4']['neighbours'] == [1, 1]
  assert results['4']['by_layer_cv'] is None


def test_constant_features():
  """All equal: every example is a neighbour of every other, and classes in balance tie."""
  features = clusters(layers=1)
  flat = {s: np.full_like(getattr(features, s), 3.3) for s in ('train', 'validation', 'test')}
  balanced = dataclasses.replace(features, **flat, labels_train=np.arange(120) % 4)
  cell = knn.evaluate(balanced, config(labels=()), 0)[0]['all']
  assert cell['accuracy'] == pytest.approx(1 / 4)
  # One more feature that is constant in training changes nothing, whatever it does elsewhere.
  wide = {
    s: np.pad(getattr(features, s), ((0, 0), (0, 0), (0, 1)), constant_values=3.3) for s in flat
  }
  wide['test'][..., -1] = np.arange(120)
  plain = knn.evaluate(features, config(labels=()), 0)[0]
  assert knn.evaluate(dataclasses.replace(features, **wide), config(labels=()), 0)[0] == plain


def test_bad_input():
  features = clusters()
  broken = features.train.copy()
  broken[0, 0, 0] = np.nan
  with pytest.raises(ValueError, match='train features hold NaN'):
    knn.evaluate(dataclasses.replace(features, train=broken), config(), 0)
  missing = dataclasses.replace(features, labels_train=features.labels_train % 3)
  with pytest.raises(ValueError, match='class 3 has no training example'):
    knn.evaluate(missing, config(), 0)
  queries, bank, labels = problem()
  for k, temperature in ((0, 0.07), (1, 0.0)):
    with pytest.raises(ValueError, match='must be positive'):
      knn.votes(queries, bank, labels, 3, k, temperature)
  with pytest.raises(ValueError, match='integers from 0 to 1'):
    knn.votes(queries, bank, labels, 2, 1, 0.07)
  with pytest.raises(ValueError, match='at least 2 classes'):
    knn.votes(queries, bank, labels * 0, 1, 1, 0.07)
  with pytest.raises(ValueError, match='30 queries are not the bank of 60'):
    knn.votes(queries, bank, labels, 3, 1, 0.07, exclude_self=True)
  with pytest.raises(ValueError, match='no neighbour'):
    knn.votes(bank[:1], bank[:1], labels[:1], 3, 1, 0.07, exclude_self=True)
  with pytest.raises(ValueError, match='NaN'):
    knn.votes(queries * np.inf, bank, labels, 3, 1, 0.07)
