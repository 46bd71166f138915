"""The linear probe on real digits and on features with known answers."""

import dataclasses
from types import SimpleNamespace

import ml_collections
import numpy as np
import pytest
from sklearn import datasets

from probes import linear, logistic, selection, suite
from probes.features import Features


def config(**changes):
  fields = {
    'labels': (10, 40, 100, 250),
    'draws': 3,
    'folds': 3,
    'l2': (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0),
    'few_l2': (1e-4, 1e-3, 1e-2, 1e-1, 1.0),
    'single_l2': 1e-2,
  }
  return ml_collections.ConfigDict(fields | changes)


def small(**changes):
  return config(
    **({'labels': (10, 40), 'draws': 2, 'l2': (1e-2, 1.0), 'few_l2': (1e-2, 1.0)} | changes)
  )


def digits(layers=1):
  """Raw pixels; further layers are the same under growing noise."""
  data = datasets.load_digits()
  rng = np.random.default_rng(0)
  order = rng.permutation(len(data.data))
  noise = rng.normal(size=(layers, *data.data.shape)) * 2 * np.arange(layers)[:, None, None]
  x, y = (data.data + noise)[:, order].astype(np.float32), data.target[order]
  a, b = 1197, 1497
  return Features(x[:, :a], x[:, a:b], x[:, b:], y[:a], y[a:b], y[b:], 10)


def clusters(layers=3, rows=120, dims=5, classes=4, seed=0):
  """The class shows in the last layer only."""
  rng = np.random.default_rng(seed)
  y = rng.permutation(np.arange(3 * rows) % classes)
  x = rng.normal(size=(layers, 3 * rows, dims)).astype(np.float32)
  x[-1, :, :classes] += 2 * np.eye(classes)[y]
  split = (slice(0, rows), slice(rows, 2 * rows), slice(2 * rows, None))
  return Features(*(x[:, s] for s in split), *(y[s] for s in split), classes)


@pytest.fixture(scope='module')
def raw():
  return linear.evaluate(digits(), config(), 0)


def test_registered():
  assert suite.PROBES['linear'] is linear


def test_digits_from_raw_pixels(raw):
  results, arrays = raw
  assert 0.94 <= results['all']['accuracy'] <= 0.99
  assert set(results) == {'all', '10', '40', '100', '250'}
  accuracies = [results[n]['accuracy'] for n in ('10', '40', '100', '250', 'all')]
  assert accuracies == sorted(accuracies)
  assert accuracies[0] > 0.4 and accuracies[3] > 0.88
  labels = digits().labels_test
  assert results['all']['accuracy'] == (arrays['all/predictions'] == labels).mean()
  for n in ('10', '40', '100', '250'):
    assert arrays[f'{n}/predictions'].shape == (3, 300)
    expected = (arrays[f'{n}/predictions'] == labels).mean(1)
    assert results[n]['draws'] == expected.tolist()
    assert results[n]['accuracy'] == pytest.approx(expected.mean())
    assert results[n]['stderr'] == pytest.approx(expected.std(ddof=1) / np.sqrt(3))
    assert results[n]['certificate'] <= logistic.GAP
  everything = results['all']
  a = everything['accuracy']
  assert everything['stderr'] == pytest.approx(np.sqrt(a * (1 - a) / 300))
  assert everything['by_layer_validation'][0] > 0.94


def test_plain_json_numbers(raw):
  def check(value):
    if isinstance(value, dict):
      assert all(isinstance(key, str) for key in value)
      return [check(v) for v in value.values()]
    if isinstance(value, list):
      return [check(v) for v in value]
    assert value is None or type(value) in (int, float, str)

  check(raw[0])


def test_choice_with_all_labels_against_scikit_learn():
  """The grid refitted one by one in scikit-learn leads to the same choice and test accuracy."""
  from sklearn.linear_model import LogisticRegression
  from sklearn.preprocessing import StandardScaler

  features, grid = digits(2), (1e-3, 1e-1)
  results, arrays = linear.evaluate(features, config(labels=(), l2=grid), 0)
  best, sharpest = None, None
  for layer in range(2):
    scaler = StandardScaler().fit(features.train[layer].astype(float))
    for l2 in grid:
      model = LogisticRegression(C=1 / (1197 * l2), tol=1e-8, max_iter=2000)
      model.fit(scaler.transform(features.train[layer]), features.labels_train)
      held_out = scaler.transform(features.validation[layer])
      accuracy = model.score(held_out, features.labels_validation)
      nats = model.predict_log_proba(held_out)[np.arange(300), features.labels_validation]
      score = (accuracy, nats.mean())
      tested = model.predict_log_proba(scaler.transform(features.test[layer]))
      if best is None or score > best[0]:
        best = (score, layer, l2, tested.argmax(1))
      if sharpest is None or nats.mean() > sharpest[0]:
        chosen = tested[np.arange(300), features.labels_test].mean()
        sharpest = (nats.mean(), layer, l2, chosen)
  assert (results['all']['layer'], results['all']['l2']) == best[1:3]
  assert (arrays['all/predictions'] == best[3]).mean() >= 0.99
  found = results['all']
  assert (found['usable_layer'], found['usable_l2']) == sharpest[1:3]
  frequencies = np.bincount(features.labels_train) / 1197
  entropy = -np.log2(frequencies[features.labels_test]).mean()
  assert found['usable_bits'] == pytest.approx(entropy + sharpest[3] / np.log(2), abs=2e-3)


def test_finds_the_informative_layer():
  results, _ = linear.evaluate(clusters(), small(), 0)
  assert results['all']['layer'] == 2
  assert results['40']['layer'] == [2, 2]
  assert results['40']['by_layer_cv'][2] > 0.7
  assert max(results['40']['by_layer_cv'][:2]) < 0.5
  # At ten labels nothing is chosen: the middle layer, which knows nothing here.
  assert results['10']['layer'] == [1, 1] and results['10']['l2'] == [0.01, 0.01]
  assert results['10']['by_layer_cv'] is None


def test_test_split_changes_no_choice():
  features = clusters()
  rng = np.random.default_rng(1)
  corrupted = dataclasses.replace(
    features,
    test=rng.normal(size=features.test.shape).astype(np.float32),
    labels_test=rng.permutation(features.labels_test),
  )
  clean, _ = linear.evaluate(features, small(), 0)
  dirty, _ = linear.evaluate(corrupted, small(), 0)
  for n in ('all', '10', '40'):
    for key in clean[n].keys() - {
      'accuracy',
      'stderr',
      'cross_entropy',
      'draws',
      'usable_bits',
      'usable_bits_stderr',
      'usable_accuracy',
    }:
      assert clean[n][key] == dirty[n][key]
  assert dirty['all']['accuracy'] < 0.5 < clean['all']['accuracy']


def test_validation_split_changes_no_few_label_result():
  features = clusters()
  other = dataclasses.replace(features, validation=-3 * features.validation)
  first, second = (linear.evaluate(f, small(), 0)[0] for f in (features, other))
  assert first['40'] == second['40'] and first['10'] == second['10']


def test_draws_follow_the_pretraining_seed_and_not_the_features(monkeypatch):
  seen = []
  original = selection.disjoint_subset

  def recorded(*arguments):
    seen.append(original(*arguments))
    return seen[-1]

  monkeypatch.setattr(selection, 'disjoint_subset', recorded)
  base, other = clusters(), clusters(seed=1)
  other = dataclasses.replace(other, labels_train=base.labels_train)
  next_seed = dataclasses.replace(base, pretraining_seed=1)
  cells = [
    linear.evaluate(features, small(labels=(20,)), seed)[0]['20']
    for features, seed in ((base, 0), (other, 0), (next_seed, 0), (base, 1))
  ]
  first, second, third, fourth = seen[:2], seen[2:4], seen[4:6], seen[6:]
  np.testing.assert_array_equal(first, second)
  # Two draws of two seeds share no row: a subset takes 5 of the rarest class's rows.
  assert len(set(np.concatenate([*first, *third]).tolist())) == 80
  assert set(first[0]) != set(fourth[0])
  assert [cell['subsets'] for cell in cells] == [[0, 1], [0, 1], [2, 3], [0, 1]]
  assert {cell['disjoint'] for cell in cells} == {np.bincount(base.labels_train).min() // 5}


def test_cross_validation_against_a_loop():
  """by_layer_cv recomputed fold by fold from gathered rows."""
  features, settings = clusters(), small(labels=(40,), draws=1)
  results, _ = linear.evaluate(features, settings, 5)
  rows = selection.disjoint_subset(features.labels_train, 40, 4, 5, 0)
  y = features.labels_train[rows]
  folds = selection.stratified_folds(y, 3, (5, 0, 40))
  for layer in range(3):
    x = features.train[layer, rows].astype(float)
    right = np.zeros(2)
    for fold in range(3):
      train = folds != fold
      mean, deviation = x[train].mean(0), x[train].std(0)
      z = (x - mean) / deviation
      fits = logistic.fit(z[None, train], y[train], settings.few_l2, classes=4)
      scores = logistic.logits(z[~train], fits.weights[0], fits.bias[0])
      right += (scores.argmax(-1) == y[~train]).sum(1)
    assert results['40']['by_layer_cv'][layer] == pytest.approx(right.max() / 40)


def test_layers_in_batches_give_the_same(monkeypatch):
  first, _ = linear.evaluate(clusters(), small(labels=(40,)), 0)
  monkeypatch.setattr(linear, 'BATCH_BYTES', 1)
  second, _ = linear.evaluate(clusters(), small(labels=(40,)), 0)
  for n in first:
    assert first[n]['accuracy'] == second[n]['accuracy']
    assert first[n]['layer'] == second[n]['layer']


def test_random_labels_give_chance():
  features = digits()
  rng = np.random.default_rng(2)
  shuffled = dataclasses.replace(
    features,
    labels_train=rng.permutation(features.labels_train),
    labels_validation=rng.permutation(features.labels_validation),
    labels_test=rng.permutation(features.labels_test),
  )
  results, _ = linear.evaluate(shuffled, small(labels=(40,), l2=(1e-2, 1.0)), 0)
  # Four standard errors of 300 test examples at 10 %.
  assert abs(results['all']['accuracy'] - 0.1) < 0.07
  assert abs(results['40']['accuracy'] - 0.1) < 0.07


def test_odd_features():
  features = clusters()
  train, validation, test = (
    np.concatenate([x, x, np.full_like(x[..., :1], 3.3)], 2)
    for x in (features.train, features.validation, features.test)
  )
  doubled = dataclasses.replace(features, train=train, validation=validation, test=test)
  results, _ = linear.evaluate(doubled, small(labels=()), 0)
  plain, _ = linear.evaluate(features, small(labels=()), 0)
  assert abs(results['all']['accuracy'] - plain['all']['accuracy']) < 0.1
  assert np.isfinite(results['all']['cross_entropy'])


def test_bad_input():
  features = clusters()
  broken = features.train.copy()
  broken[0, 0, 0] = np.nan
  with pytest.raises(ValueError, match='train features hold NaN'):
    linear.evaluate(dataclasses.replace(features, train=broken), small(), 0)
  missing = dataclasses.replace(features, labels_train=features.labels_train % 3)
  with pytest.raises(ValueError, match='class 3 has no training example'):
    linear.evaluate(missing, small(), 0)
  with pytest.raises(ValueError, match='do not match labels'):
    linear.evaluate(dataclasses.replace(features, labels_test=np.zeros(3, int)), small(), 0)


def test_numbers_of_labels_that_do_not_fit_are_named():
  results, arrays = linear.evaluate(clusters(), small(labels=(3, 10, 500)), 0)
  assert set(results) == {'all', '10', 'left_out'} and '500/predictions' not in arrays
  assert results['left_out'] == {
    '3': 'fewer than the 4 classes',
    '500': 'there are only 120 training labels',
  }
  assert 'left_out' not in linear.evaluate(clusters(), small(labels=(10,)), 0)[0]


def test_quick():
  features = digits(3)
  without_test = SimpleNamespace(
    **{k: v for k, v in vars(features).items() if k not in ('test', 'labels_test')}
  )
  accuracy = linear.quick(without_test, config())
  assert 0.88 <= accuracy <= 0.99
  rows = np.sort(selection.balanced_subset(features.labels_train, 250, 10, 0))
  changed = features.train.copy()
  changed[:, np.setdiff1d(np.arange(1197), rows)] = 1e6
  without_test.train = changed
  assert linear.quick(without_test, config()) == accuracy
