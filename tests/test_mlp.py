"""The MLP probe against a NumPy network and AdamW, the certified linear probe, and itself."""

import dataclasses

import ml_collections
import numpy as np
import pytest
from sklearn import metrics

from probes import hidden_layer, logistic, mlp, selection
from probes.features import Features

ROWS, DIMS = 240, 6
TESTED = {'accuracy', 'stderr', 'cross_entropy'}
TESTED |= {'usable_bits', 'usable_bits_stderr', 'usable_accuracy'}


def config(**changes):
  fields = {
    'hidden': 32,
    'steps': 320,
    'batch_size': 64,
    'learning_rate': 1e-2,
    'weight_decay': (0.1, 1.0),
    'checkpoints': 8,
    'l2': (1e-3, 1e-2, 1e-1),
  }
  return ml_collections.ConfigDict(fields | changes)


def split(x, y, classes=2):
  """Features of float32 (layers, 3 ROWS, D), a third in each split."""
  parts = (slice(0, ROWS), slice(ROWS, 2 * ROWS), slice(2 * ROWS, None))
  x = np.asarray(x, np.float32)
  return Features(*(x[:, s] for s in parts), *(y[s] for s in parts), classes)


def exclusive_or(seed=0):
  """Layer 0 is noise; in layer 1 the label is the exclusive or of the signs of two features."""
  rng = np.random.default_rng(seed)
  x = rng.normal(size=(2, 3 * ROWS, DIMS))
  x[1, :, :2] = rng.choice([-1, 1], size=(3 * ROWS, 2)) + 0.1 * rng.normal(size=(3 * ROWS, 2))
  return split(x, (x[1, :, 0] * x[1, :, 1] > 0).astype(int))


def linear(seed=0):
  """Labels drawn from a logistic model of layer 1."""
  rng = np.random.default_rng(seed)
  x = rng.normal(size=(2, 3 * ROWS, DIMS))
  chance = 1 / (1 + np.exp(-2 * x[1] @ [1, -1, 1, 0, 0, 0.5]))
  return split(x, (rng.random(3 * ROWS) < chance).astype(int))


def certified(features, l2):
  """Validation and test cross-entropy (layers, l2) of the linear probe, nats."""
  mean, scale = selection.moments(features.train)
  x, held_out, test = (
    selection.standardise(getattr(features, name), mean, scale)
    for name in ('train', 'validation', 'test')
  )
  fits = logistic.fit(x, features.labels_train, l2, classes=2, gap=mlp.LINEAR_GAP)
  return (
    logistic.cross_entropy(logistic.logits(rows[:, None], fits.weights, fits.bias), labels).mean(-1)
    for rows, labels in ((held_out, features.labels_validation), (test, features.labels_test))
  )


@pytest.fixture(scope='module')
def xor():
  return mlp.evaluate(exclusive_or(), config(), 0)


def test_exclusive_or(xor):
  features = exclusive_or()
  results, arrays = xor
  cell = results['all']
  assert cell['layer'] == 1 and cell['accuracy'] > 0.95 and cell['usable_bits'] > 0.8
  assert cell['by_layer_validation'][1] > 0.95 and cell['by_layer_validation'][0] < 0.65
  assert cell['start'] in ('zero', 'linear') and cell['step'] in range(40, 321, 40)
  held_out, test = certified(features, config().l2)
  labels, _ = features.labels_test, held_out
  assert test[1].min() > 0.65  # log 2 = .69: nothing to see for a linear probe.
  assert cell['accuracy'] == (arrays['all/predictions'] == labels).mean()
  assert arrays['all/nats'].mean() == pytest.approx(cell['cross_entropy'], rel=1e-5)
  a = cell['accuracy']
  assert cell['stderr'] == pytest.approx(np.sqrt(a * (1 - a) / ROWS))
  terms = arrays['all/usable_bits']
  assert terms.mean() == pytest.approx(cell['usable_bits'], abs=1e-6)
  assert terms.std(ddof=1) / np.sqrt(ROWS) == pytest.approx(cell['usable_bits_stderr'], rel=1e-5)
  assert cell['usable_accuracy'] > 0.95 and cell['usable_layer'] == 1


def test_accuracy_and_bits_have_each_their_choice(xor, monkeypatch):
  """Recomputed from what training yields: by accuracy as the linear probe, and by cross-entropy."""
  features, settings = exclusive_or(), config(checkpoints=4)
  seen, original = [], hidden_layer.train

  def kept(x, *arguments, **named):
    for step, params in original(x, *arguments, **named):
      seen.append((step, {k: v.copy() for k, v in params.items()}, named['offset_GxJxNxK']))
      yield step, params

  monkeypatch.setattr(hidden_layer, 'train', kept)
  cell = mlp.evaluate(features, settings, 0)[0]['all']
  mean, scale = selection.moments(features.train)
  held_out, test = (
    selection.standardise(x, mean, scale) for x in (features.validation, features.test)
  )
  fits = logistic.fit(
    selection.standardise(features.train, mean, scale),
    features.labels_train, settings.l2, classes=2, gap=mlp.LINEAR_GAP,
  )  # fmt: skip
  nats = logistic.cross_entropy(
    logistic.logits(held_out[:, None], fits.weights, fits.bias), features.labels_validation
  ).mean(-1)
  j = nats.argmin(1)
  w, b = fits.weights[[0, 1], j], fits.bias[[0, 1], j]
  share = np.bincount(features.labels_train) / ROWS
  rows = []
  for step, params, _ in seen:
    for layer, k in np.ndindex(2, 4):
      own = {name: p[layer, k][None, None] for name, p in params.items()}
      scores = []
      for x in (held_out, test):
        offset = (k >= 2) * logistic.logits(x[layer], w[layer], b[layer])
        scores.append(hidden_layer.logits(own, x[layer][None], offset[None, None])[0, 0])
      p = [np.exp(s) / np.exp(s).sum(1, keepdims=True) for s in scores]
      p = [(ROWS * q + share / 2) / (ROWS + 0.5) for q in p]
      correct = (scores[0].argmax(1) == features.labels_validation).sum()
      plain = metrics.log_loss(
        features.labels_validation, np.exp(scores[0]) / np.exp(scores[0]).sum(1, keepdims=True)
      )
      mixed = metrics.log_loss(features.labels_validation, p[0])
      rows.append((correct, plain, mixed, layer, step, scores[1], p[1]))
  by_accuracy = min(rows, key=lambda row: (-row[0], row[1]))
  by_nats = min(rows, key=lambda row: row[2])
  assert (cell['layer'], cell['step']) == by_accuracy[3:5]
  assert cell['accuracy'] == (by_accuracy[5].argmax(1) == features.labels_test).mean()
  assert (cell['usable_layer'], cell['usable_step']) == by_nats[3:5]
  assert cell['usable_accuracy'] == (by_nats[5].argmax(1) == features.labels_test).mean()
  # V-information by scikit-learn: the training frequencies' log-loss less the member's.
  entropy = metrics.log_loss(features.labels_test, np.tile(share, (ROWS, 1)))
  expected = (entropy - metrics.log_loss(features.labels_test, by_nats[6])) / np.log(2)
  assert cell['usable_bits'] == pytest.approx(expected, abs=1e-6)


def test_plain_json_numbers(xor):
  for value in xor[0]['all'].values():
    for part in value if isinstance(value, list) else [value]:
      assert type(part) in (int, float, str)


@pytest.mark.parametrize('seed', range(3))
def test_not_below_the_linear_probe(seed):
  """Never on validation, and by little on test, on data that a linear probe describes best."""
  features = linear(seed)
  cell = mlp.evaluate(features, config(), 0)[0]['all']
  held_out, test = certified(features, config().l2)
  layer, j = np.unravel_index(held_out.argmin(), held_out.shape)
  share = np.bincount(features.labels_train) / ROWS
  entropy = -np.log2(share[features.labels_validation]).mean()
  by_layer = entropy - held_out.min(1) / np.log(2)
  # A member gives half a label's weight to the frequencies.
  most = np.log2(1 + 0.5 / ROWS)
  assert (np.array(cell['usable_bits_by_layer_validation']) >= by_layer - most).all()
  assert cell['usable_layer'] == cell['layer'] == layer == 1
  share = np.bincount(features.labels_train) / ROWS
  best = -np.log2(share[features.labels_test]).mean() - test[layer, j] / np.log(2)
  assert cell['usable_bits'] >= best - 0.045


def test_starts_at_the_certified_linear_probe():
  features = linear()
  settings = config(learning_rate=1e-12)
  cell = mlp.evaluate(features, settings, 0)[0]['all']
  held_out, test = certified(features, settings.l2)
  layer, j = np.unravel_index(held_out.argmin(), held_out.shape)
  assert (cell['layer'], cell['start']) == (layer, 'linear')
  assert cell['cross_entropy'] == pytest.approx(test[layer, j], abs=1e-6)


def test_no_information_in_permuted_labels():
  features = exclusive_or()
  rng = np.random.default_rng(1)
  labels = {
    name: rng.permutation(getattr(features, name))
    for name in ('labels_train', 'labels_validation', 'labels_test')
  }
  cell = mlp.evaluate(dataclasses.replace(features, **labels), config(), 0)[0]['all']
  assert -0.02 < cell['usable_bits'] < 0.01
  assert min(cell['usable_bits_by_layer_validation']) >= 0
  assert abs(cell['accuracy'] - 0.5) < 4 * np.sqrt(0.25 / ROWS)


def test_test_split_changes_no_choice(xor):
  features = exclusive_or()
  rng = np.random.default_rng(1)
  corrupted = dataclasses.replace(
    features,
    test=rng.normal(size=features.test.shape).astype(np.float32),
    labels_test=rng.permutation(features.labels_test),
  )
  clean, dirty = xor[0]['all'], mlp.evaluate(corrupted, config(), 0)[0]['all']
  for key in clean.keys() - TESTED:
    assert clean[key] == dirty[key]
  assert dirty['accuracy'] < 0.7


def test_same_inputs_same_numbers(xor):
  again, arrays = mlp.evaluate(exclusive_or(), config(), 0)
  assert again == xor[0]
  for name, array in arrays.items():
    np.testing.assert_array_equal(array, xor[1][name])
  other, _ = mlp.evaluate(exclusive_or(), config(), 1)
  assert other['all']['cross_entropy'] != again['all']['cross_entropy']


def test_layers_in_batches_give_the_same(xor, monkeypatch):
  """Four layers in two batches: what two layers give, twice, and the first of equals is chosen."""
  features = exclusive_or()
  doubled = {
    name: np.concatenate([getattr(features, name)] * 2) for name in ('train', 'validation', 'test')
  }
  sizes = []
  original = hidden_layer.train
  monkeypatch.setattr(
    hidden_layer, 'train', lambda x, *a, **k: sizes.append(len(x)) or original(x, *a, **k)
  )
  monkeypatch.setattr(mlp, 'BATCH_BYTES', 120_000)
  cell = mlp.evaluate(dataclasses.replace(features, **doubled), config(), 0)[0]['all']
  assert sizes == [2, 2]
  for name, value in xor[0]['all'].items():
    assert cell[name] == (value * 2 if isinstance(value, list) else value)


SETTINGS = {
  'classes': 3,
  'hidden': 5,
  'steps': 6,
  'batch_size': 8,
  'learning_rate': 0.05,
  'checkpoints': 2,
  'seed': 3,
}


def small():
  """Two groups of 20 rows with labels, weights and offsets of their own."""
  rng = np.random.default_rng(0)
  return {
    'features_GxNxD': rng.normal(size=(2, 20, 4)),
    'labels': rng.integers(0, 3, (2, 20)),
    'weights': rng.integers(1, 4, (2, 20)),
    'offset_GxJxNxK': rng.normal(size=(2, 2, 20, 3)),
    'rows': np.arange(3, 17),
    'weight_decay': (0.0, 0.5),
  }


def forward(p, x, offset):
  """Logits (B, K) and hidden activations of one problem, and gelu's derivative there."""
  a = x @ p['U'] + p['c']
  t = np.tanh(np.sqrt(2 / np.pi) * (a + 0.044715 * a**3))
  slope = (1 + t) / 2 + a / 2 * (1 - t**2) * np.sqrt(2 / np.pi) * (1 + 3 * 0.044715 * a**2)
  hidden = a / 2 * (1 + t)
  return offset + x @ p['W'] + p['b'] + hidden @ p['V'], hidden, slope


def gradient(p, x, y, w, offset):
  """Gradient of mean_i w_i CE_i by hand."""
  scores, hidden, slope = forward(p, x, offset)
  residual = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
  residual[np.arange(len(y)), y] -= 1
  residual *= w[:, None] / len(y)
  back = residual @ p['V'].T * slope
  return {
    'U': x.T @ back,
    'c': back.sum(0),
    'V': hidden.T @ residual,
    'W': x.T @ residual,
    'b': residual.sum(0),
  }


def test_training_against_numpy():
  """Every problem's parameters at both checkpoints against float64 backpropagation and AdamW."""
  given = small()
  trained = list(hidden_layer.train(**given, **SETTINGS))
  assert [step for step, _ in trained] == [0, 3, 6]
  order = given['rows'][hidden_layer.row_order(14, 6, 8, 3)]
  for g in range(2):
    x, y = given['features_GxNxD'][g], given['labels'][g]
    w = given['weights'][g] / given['weights'][g, given['rows']].mean()
    for j, decay in enumerate(given['weight_decay']):
      p = {k: v[g, j].astype(np.float64) for k, v in trained[0][1].items()}
      assert not any(p[name].any() for name in 'cVWb')
      first, second = ({k: np.zeros_like(v) for k, v in p.items()} for _ in range(2))
      for step, rows in enumerate(order):
        slopes = gradient(p, x[rows], y[rows], w[rows], given['offset_GxJxNxK'][g, j, rows])
        rate = 0.05 * (1 + np.cos(np.pi * step / 6)) / 2
        for k, slope in slopes.items():
          first[k] = 0.9 * first[k] + 0.1 * slope
          second[k] = hidden_layer.BETA2 * second[k] + (1 - hidden_layer.BETA2) * slope**2
          top = first[k] / (1 - 0.9 ** (step + 1))
          update = top / (np.sqrt(second[k] / (1 - hidden_layer.BETA2 ** (step + 1))) + 1e-8)
          p[k] = p[k] - rate * (update + (decay * p[k] if k in 'UVW' else 0))
        if step + 1 in (3, 6):
          params = trained[(step + 1) // 3][1]
          for k, v in p.items():
            np.testing.assert_allclose(params[k][g, j], v, atol=2e-5)
          scores = hidden_layer.logits(params, given['features_GxNxD'], given['offset_GxJxNxK'])
          expected, _, _ = forward(p, x, given['offset_GxJxNxK'][g, j])
          np.testing.assert_allclose(scores[g, j], expected, atol=2e-4)


def test_gradient_by_hand_is_the_derivative():
  """Guards the reference above: central differences of the loss."""
  rng = np.random.default_rng(4)
  p = {
    k: rng.normal(size=s)
    for k, s in {'U': (4, 5), 'c': 5, 'V': (5, 3), 'W': (4, 3), 'b': 3}.items()
  }
  x, y, w, offset = rng.normal(size=(8, 4)), rng.integers(0, 3, 8), rng.random(8), np.zeros((8, 3))

  def loss(p):
    return (w * logistic.cross_entropy(forward(p, x, offset)[0], y)).mean()

  slopes = gradient(p, x, y, w, offset)
  for k, v in p.items():
    direction = rng.normal(size=v.shape)
    ends = [loss(p | {k: v + sign * 1e-5 * direction}) for sign in (1, -1)]
    assert (ends[0] - ends[1]) / 2e-5 == pytest.approx((slopes[k] * direction).sum(), abs=1e-8)


def test_batched_equals_solo():
  given = small()
  *_, (_, batched) = hidden_layer.train(**given, **SETTINGS)
  for g in range(2):
    for j in range(2):
      alone = {
        k: v[g : g + 1] if k not in ('rows', 'weight_decay') else v for k, v in given.items()
      }
      alone['offset_GxJxNxK'] = alone['offset_GxJxNxK'][:, j : j + 1]
      alone['weight_decay'] = given['weight_decay'][j : j + 1]
      *_, (_, solo) = hidden_layer.train(**alone, **SETTINGS)
      for k, v in solo.items():
        np.testing.assert_allclose(batched[k][g, j], v[0, 0], atol=1e-5)


def test_only_the_rows_named_train():
  given = small()
  *_, (_, expected) = hidden_layer.train(**given, **SETTINGS)
  others = np.setdiff1d(np.arange(20), given['rows'])
  given['features_GxNxD'][:, others] = 1e3
  given['labels'][:, others] = 0
  given['weights'][:, others] = 7
  *_, (_, params) = hidden_layer.train(**given, **SETTINGS)
  for k, v in expected.items():
    np.testing.assert_array_equal(params[k], v)


def test_order_of_rows():
  order = hidden_layer.row_order(10, 7, 4, 5)
  assert order.shape == (7, 4)
  passes = order.ravel()[:20].reshape(2, 10)
  np.testing.assert_array_equal(np.sort(passes, 1), np.tile(np.arange(10), (2, 1)))
  np.testing.assert_array_equal(
    order[:3], hidden_layer.row_order(10, 3, 4, 5)
  )  # Whatever comes later.
  assert (order != hidden_layer.row_order(10, 7, 4, 6)).any()


def test_bad_input():
  features = exclusive_or()
  broken = features.train.copy()
  broken[0, 0, 0] = np.nan
  with pytest.raises(ValueError, match='train features hold NaN'):
    mlp.evaluate(dataclasses.replace(features, train=broken), config(), 0)
  absent = dataclasses.replace(features, labels_train=np.zeros(ROWS, int))
  with pytest.raises(ValueError, match='class 1 has no training example'):
    mlp.evaluate(absent, config(), 0)
  with pytest.raises(ValueError, match='7 checkpoints do not divide 320 steps'):
    mlp.evaluate(features, config(checkpoints=7), 0)
  with pytest.raises(ValueError, match='diverged'):
    mlp.evaluate(features, config(learning_rate=1e30), 0)
