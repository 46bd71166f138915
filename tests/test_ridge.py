"""Ridge regression against scikit-learn and its own normal equations."""

import dataclasses

import ml_collections
import numpy as np
import pytest
from sklearn import datasets, linear_model

from probes import ridge, selection
from probes.features import Features

GRID = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)


def config(**changes):
  return ml_collections.ConfigDict({'l2': GRID} | changes)


def digits(layers=1):
  """Raw pixels; further layers are the same under growing noise."""
  data = datasets.load_digits()
  rng = np.random.default_rng(0)
  order = rng.permutation(len(data.data))
  noise = rng.normal(size=(layers, *data.data.shape)) * 2 * np.arange(layers)[:, None, None]
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


def problem(rows, dims, groups=2, classes=5, seed=0):
  """Correlated features, standardised, and labels that depend on them."""
  rng = np.random.default_rng(seed)
  x = rng.normal(size=(groups, rows, dims)) @ rng.normal(size=(dims, dims)) + 3
  labels = (x[0] @ rng.normal(size=(dims, classes))).argmax(1)
  labels[:classes] = np.arange(classes)
  return selection.standardise(x, *selection.moments(x)), labels


def scikit_learn(x, targets, l2):
  model = linear_model.Ridge(alpha=len(x) * l2, solver='svd').fit(x, targets)
  return model.coef_, model.intercept_


@pytest.mark.parametrize(('rows', 'dims'), [(300, 40), (40, 40), (41, 40), (40, 120)])
def test_equals_scikit_learn(rows, dims):
  x, labels = problem(rows, dims)
  weights, bias = ridge.path(x, labels, GRID, 5)
  assert weights.shape == (2, 7, 5, dims) and bias.shape == (2, 7, 5)
  for g in range(2):
    for j, l2 in enumerate(GRID):
      expected = scikit_learn(x[g], np.eye(5)[labels], l2)
      np.testing.assert_allclose(weights[g, j], expected[0], rtol=0, atol=1e-8)
      np.testing.assert_allclose(bias[g, j], expected[1], rtol=0, atol=1e-8)


@pytest.mark.parametrize(('rows', 'dims'), [(200, 20), (30, 60)])
@pytest.mark.parametrize('offset', [0.3, 1e3])
def test_features_with_a_mean(rows, dims, offset):
  x, labels = problem(rows, dims)
  weights, bias = ridge.path(x + offset, labels, GRID, 5)
  expected = ridge.path(x, labels, GRID, 5)
  np.testing.assert_allclose(weights, expected[0], rtol=0, atol=1e-8)
  shift = offset * expected[0].sum(-1)
  np.testing.assert_allclose(bias, expected[1] - shift, rtol=0, atol=1e-8 * (1 + offset))


@pytest.mark.parametrize(('rows', 'dims'), [(200, 20), (30, 60)])
@pytest.mark.parametrize('offset', [0.3, 1e3])
def test_constants_against_scikit_learn(rows, dims, offset):
  x, labels = problem(rows, dims)
  x = np.concatenate([x + offset, np.full((2, rows, 1), 3.3), np.zeros((2, rows, 1))], 2)
  weights, bias = ridge.path(x, labels, GRID, 5)
  for j, l2 in enumerate(GRID):
    expected = scikit_learn(x[1], np.eye(5)[labels], l2)
    np.testing.assert_allclose(weights[1, j], expected[0], rtol=0, atol=1e-8)
    np.testing.assert_allclose(bias[1, j], expected[1], rtol=0, atol=1e-8 * (1 + offset))
  np.testing.assert_allclose(weights[..., -2:], 0, atol=1e-10)


@pytest.mark.parametrize(('rows', 'dims'), [(300, 40), (40, 120)])
def test_gradient_of_the_objective_is_zero(rows, dims):
  x, labels = problem(rows, dims)
  weights, bias = ridge.path(x, labels, GRID, 5)
  for g in range(2):
    for j, l2 in enumerate(GRID):
      residual = x[g] @ weights[g, j].T + bias[g, j] - np.eye(5)[labels]
      np.testing.assert_allclose(residual.T @ x[g] / rows + l2 * weights[g, j], 0, atol=1e-12)
      np.testing.assert_allclose(residual.mean(0), 0, atol=1e-12)


def test_equal_features_share_a_weight():
  """A singular covariance: two equal features count as one of sqrt(2) times the size."""
  x, labels = problem(100, 4)
  twice, _ = ridge.path(np.concatenate([x, x], 2), labels, GRID, 5)
  once, _ = ridge.path(np.sqrt(2) * x, labels, GRID, 5)
  np.testing.assert_allclose(twice[..., :4], once / np.sqrt(2), atol=1e-9)
  np.testing.assert_allclose(twice[..., 4:], once / np.sqrt(2), atol=1e-9)


def test_one_feature_by_hand():
  """x = -1, 1 and y = 0, 1: variance 1 and covariance 1/2 with the one-hot second class."""
  weights, bias = ridge.path(np.array([[[-1.0], [1.0]]]), np.array([0, 1]), (1.0, 0.25), 2)
  np.testing.assert_allclose(weights[0, :, :, 0], [[-1 / 4, 1 / 4], [-0.4, 0.4]], atol=1e-15)
  np.testing.assert_allclose(bias[0], 0.5, atol=1e-15)


def test_real_targets_float32_and_absent_class():
  x, labels = problem(60, 8)
  weights, bias = ridge.path(x, labels, GRID, 5)
  again = ridge.path(x, np.eye(5)[labels], GRID, 5)
  np.testing.assert_array_equal(again[0], weights)
  np.testing.assert_array_equal(again[1], bias)
  single = ridge.path(x.astype(np.float32), labels, (1.0,), 5)
  double = ridge.path(x.astype(np.float32).astype(float), labels, (1.0,), 5)
  np.testing.assert_array_equal(single[0], double[0])
  more = ridge.path(x, labels, GRID, 6)
  np.testing.assert_allclose(more[0][:, :, :5], weights, atol=1e-12)
  np.testing.assert_array_equal(more[0][:, :, 5], 0)
  np.testing.assert_array_equal(more[1][:, :, 5], 0)


def test_features_are_left_alone():
  x, labels = problem(60, 8)
  before = x.copy()
  ridge.path(x, labels, GRID, 5)
  np.testing.assert_array_equal(x, before)


def test_choice_and_test_scores_against_scikit_learn():
  """Every layer and penalty refitted one by one leads to the same choice and the same numbers."""
  features = digits(3)
  results, arrays = ridge.evaluate(features, config(), 0)
  cell, targets = results['all'], np.eye(10)[features.labels_train]
  best, by_layer = None, []
  for layer in range(3):
    x = features.train[layer].astype(float)
    mean, deviation = x.mean(0), x.std(0)
    deviation[deviation == 0] = np.inf
    scores = []
    for l2 in GRID:
      model = linear_model.Ridge(alpha=1197 * l2).fit((x - mean) / deviation, targets)
      outputs = model.predict((features.validation[layer] - mean) / deviation)
      accuracy = (outputs.argmax(1) == features.labels_validation).mean()
      error = ((np.eye(10)[features.labels_validation] - outputs) ** 2).sum()
      scores.append(accuracy)
      if best is None or (accuracy, -error) > best[0]:
        test = model.predict((features.test[layer] - mean) / deviation)
        best = ((accuracy, -error), layer, l2, test)
    by_layer.append(max(scores))
  assert (cell['layer'], cell['l2']) == best[1:3]
  assert cell['by_layer_validation'] == pytest.approx(by_layer)
  correct = best[3].argmax(1) == features.labels_test
  np.testing.assert_array_equal(arrays['all/predictions'], best[3].argmax(1))
  assert cell['accuracy'] == pytest.approx(correct.mean())
  assert cell['stderr'] == pytest.approx(correct.std() / np.sqrt(300))
  error = ((np.eye(10)[features.labels_test] - best[3]) ** 2).sum(1).mean()
  assert cell['squared_error'] == pytest.approx(error, rel=1e-9)
  assert 0.90 <= cell['accuracy'] <= 0.97  # Least squares on raw digits.


def test_results_are_plain():
  results, arrays = ridge.evaluate(clusters(), config(), 0)
  assert set(results) == {'all'}
  assert {k: type(v) for k, v in results['all'].items()} == {
    'layer': int,
    'l2': float,
    'accuracy': float,
    'stderr': float,
    'squared_error': float,
    'by_layer_validation': list,
  }
  assert all(type(v) is float for v in results['all']['by_layer_validation'])
  assert arrays['all/predictions'].dtype == np.int32


def test_finds_the_informative_layer():
  cell = ridge.evaluate(clusters(), config(), 0)[0]['all']
  assert cell['layer'] == 2 and cell['accuracy'] > 0.75
  assert max(cell['by_layer_validation'][:2]) < 0.5


def test_test_split_changes_no_choice():
  features = clusters()
  rng = np.random.default_rng(1)
  swapped = dataclasses.replace(features, labels_test=rng.permutation(features.labels_test))
  corrupted = dataclasses.replace(swapped, test=rng.normal(size=features.test.shape))
  clean, arrays = ridge.evaluate(features, config(), 0)
  for other in (swapped, corrupted):
    results, _ = ridge.evaluate(other, config(), 0)
    for key in ('layer', 'l2', 'by_layer_validation'):
      assert results['all'][key] == clean['all'][key]
    assert results['all']['accuracy'] < clean['all']['accuracy'] - 0.3
  _, same = ridge.evaluate(swapped, config(), 0)
  np.testing.assert_array_equal(same['all/predictions'], arrays['all/predictions'])


def test_constant_features_give_the_most_frequent_class():
  features = clusters(layers=1)
  flat = {s: np.full_like(getattr(features, s), 3.3) for s in ('train', 'validation', 'test')}
  labels = features.labels_train.copy()
  labels[np.flatnonzero(labels == 1)[:5]] = 2
  results, arrays = ridge.evaluate(
    dataclasses.replace(features, **flat, labels_train=labels), config(), 0
  )
  assert (arrays['all/predictions'] == 2).all()
  share = np.bincount(labels) / len(labels)
  error = (share**2).sum() + np.mean([1 - 2 * share[y] for y in features.labels_test])
  assert results['all']['squared_error'] == pytest.approx(error)


def test_bad_input():
  features = clusters()
  broken = features.train.copy()
  broken[0, 0, 0] = np.nan
  with pytest.raises(ValueError, match='train features hold NaN'):
    ridge.evaluate(dataclasses.replace(features, train=broken), config(), 0)
  missing = dataclasses.replace(features, labels_train=features.labels_train % 3)
  with pytest.raises(ValueError, match='class 3 has no training example'):
    ridge.evaluate(missing, config(), 0)
  with pytest.raises(ValueError, match='l2 must be positive'):
    ridge.evaluate(features, config(l2=(0.0,)), 0)
  x, labels = problem(20, 3)
  with pytest.raises(ValueError, match='at least 2 classes'):
    ridge.path(x, labels * 0, GRID, 1)
  with pytest.raises(ValueError, match='integers from 0 to 3'):
    ridge.path(x, labels, GRID, 4)
  with pytest.raises(ValueError, match='19 labels for 20 rows'):
    ridge.path(x, labels[1:], GRID, 5)
  x[1, 0, 0] = np.inf
  with pytest.raises(ValueError, match='group 1 hold NaN'):
    ridge.path(x, labels, GRID, 5)
