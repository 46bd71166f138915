"""Controls from the raw input against scikit-learn and a written-out formula."""

import dataclasses

import ml_collections
import numpy as np
import pytest
from sklearn import datasets, decomposition, dummy

from probes import baselines, linear
from probes.features import SPLITS, Features


def made(inputs, labels, classes):
  """Features with nothing in them but raw inputs, three splits (N, P) and their labels."""
  empty = {split: np.zeros((2, len(x), 3), np.float32) for split, x in inputs.items()}
  truth = {f'labels_{split}': labels[split] for split in SPLITS}
  return Features(
    **empty,
    **truth,
    classes=classes,
    last=empty,
    inputs=inputs,
    sequences=lambda split, layer, rows: None,
    unseen=SPLITS,
  )


def synthetic(train=40, dims=6, rank=None, seed=0):
  rng = np.random.default_rng(seed)
  mix = rng.normal(size=(rank or dims, dims)) * np.arange(1, dims + 1)
  sizes = {'train': train, 'validation': 7, 'test': 9}
  inputs = {s: rng.normal(size=(n, len(mix))) @ mix + 5 for s, n in sizes.items()}
  labels = {s: np.arange(n) % 2 for s, n in sizes.items()}
  return made({s: x.astype(np.float32) for s, x in inputs.items()}, labels, 2)


def digits():
  data = datasets.load_digits()
  order = np.random.default_rng(0).permutation(len(data.data))
  x, y = data.data[order].astype(np.float32), data.target[order]
  rows = dict(zip(SPLITS, np.split(np.arange(len(x)), [1197, 1497]), strict=True))
  return made({s: x[r] for s, r in rows.items()}, {s: y[r] for s, r in rows.items()}, 10)


@pytest.mark.parametrize('train, dims', [(40, 6), (12, 30)])  # The second: more inputs than rows.
def test_pca_against_scikit_learn(train, dims):
  features = synthetic(train, dims)
  width = 5
  found = baselines.pca(features, width)
  reference = decomposition.PCA(width, svd_solver='full')
  reference.fit(features.inputs['train'].astype(np.float64))
  for split in SPLITS:
    expected = reference.transform(features.inputs[split].astype(np.float64))
    actual = getattr(found, split)[0]
    assert actual.dtype == np.float32 and actual.shape == expected.shape
    signs = np.sign((actual * expected).sum(0))
    np.testing.assert_allclose(actual * signs, expected, rtol=1e-4, atol=1e-4)


def test_pca_keeps_the_most_variance():
  """Kept variance is the sum of the largest eigenvalues; what is lost, the error of rebuilding."""
  features = synthetic()
  x = features.inputs['train'].astype(np.float64)
  eigenvalues = np.sort(np.linalg.eigvalsh(np.cov(x.T, bias=True)))[::-1]
  for width in (1, 3, 6):
    kept = baselines.pca(features, width).train[0].astype(np.float64)
    np.testing.assert_allclose(kept.var(0), eigenvalues[:width], rtol=1e-4)
    np.testing.assert_allclose(kept.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(np.cov(kept.T, bias=True), np.diag(kept.var(0)).squeeze(), atol=1e-3)
    # Least squares from the components rebuilds all but the remaining eigenvalues.
    _, residual, _, _ = np.linalg.lstsq(kept, x - x.mean(0))
    lost = residual.sum() / len(x) if len(residual) else 0.0
    assert lost == pytest.approx(eigenvalues[width:].sum(), rel=1e-4, abs=1e-6)


def test_pca_signs_are_determined():
  """Each component's largest entry is positive: reflected inputs give reflected features."""
  features = synthetic()
  first, second = baselines.pca(features, 4), baselines.pca(features, 4)
  np.testing.assert_array_equal(first.test, second.test)
  reflected = {s: -v for s, v in features.inputs.items()}
  mirrored = baselines.pca(dataclasses.replace(features, inputs=reflected), 4)
  np.testing.assert_allclose(mirrored.test, -first.test, rtol=1e-5, atol=1e-5)
  x = {s: v.astype(np.float64) for s, v in features.inputs.items()}
  components, *_ = np.linalg.lstsq(x['train'] - x['train'].mean(0), first.train[0].astype(float))
  assert (components[np.abs(components).argmax(0), np.arange(4)] > 0).all()


def test_pca_leaves_out_directions_without_variance():
  assert baselines.pca(synthetic(40, 6, rank=3), 6).train.shape == (1, 40, 3)
  assert baselines.pca(synthetic(5, 30), 30).train.shape == (1, 5, 4)  # N - 1 after centring.
  # Three pixels of the digits are always empty.
  assert baselines.pca(digits(), 64).train.shape[2] == 61


def test_random_relu_is_the_formula():
  features = synthetic()
  features.inputs['train'][:, 2] = features.inputs['train'][0, 2]  # Constant in train: zero.
  found = baselines.random_relu(features, 8, 3)
  x = features.inputs['train'].astype(np.float64)
  rng = np.random.default_rng(3)
  weights = rng.normal(size=(8, 6)) / np.sqrt(6)
  bias = 0.1 * rng.normal(size=8)
  kept = np.arange(6) != 2
  for split in SPLITS:
    z = (features.inputs[split][:, kept] - x[:, kept].mean(0)) / x[:, kept].std(0)
    expected = np.maximum(np.einsum('np,wp->nw', z, weights[:, kept]) + bias, 0)
    assert getattr(found, split).shape == (1, len(z), 8)
    np.testing.assert_allclose(getattr(found, split)[0], expected, rtol=1e-4, atol=1e-5)


def test_random_relu_depends_on_the_seed_alone():
  features = synthetic()
  first, same, other = (baselines.random_relu(features, 8, seed).test for seed in (0, 0, 1))
  np.testing.assert_array_equal(first, same)
  assert not np.allclose(first, other)


@pytest.mark.parametrize('make', [baselines.pca, lambda f, w: baselines.random_relu(f, w, 0)])
def test_the_rest_is_carried_over(make):
  features = synthetic()
  found = make(features, 4)
  assert found.last is None and found.sequences is None and found.inputs is features.inputs
  assert found.classes == 2
  # Made of train inputs: no certificate where those beside it have train labels for theirs.
  assert features.unseen == SPLITS and found.unseen == ('test',)
  beside = dataclasses.replace(features, unseen=('validation', 'test'))
  assert make(beside, 4).unseen == ('validation', 'test')
  for split in SPLITS:
    labels = f'labels_{split}'
    np.testing.assert_array_equal(getattr(found, labels), getattr(features, labels))
  # Nothing but the train inputs makes the features, and each example only its own.
  changed = {**features.inputs, 'test': features.inputs['test'][::-1]}
  again = make(dataclasses.replace(features, inputs=changed), 4)
  np.testing.assert_array_equal(again.train, found.train)
  np.testing.assert_allclose(again.test[:, ::-1], found.test, rtol=1e-5, atol=1e-5)
  with pytest.raises(ValueError, match='needs features.inputs'):
    make(dataclasses.replace(features, inputs=None), 4)
  with pytest.raises(ValueError, match='width of at least 1'):
    make(features, 0)
  broken = {**features.inputs, 'test': np.full_like(features.inputs['test'], np.nan)}
  with pytest.raises(ValueError, match='test inputs hold NaN'):
    make(dataclasses.replace(features, inputs=broken), 4)
  short = {**features.inputs, 'validation': features.inputs['validation'][:3]}
  with pytest.raises(ValueError, match='do not match labels'):
    make(dataclasses.replace(features, inputs=short), 4)


def test_constant_inputs():
  features = synthetic()
  flat = {split: np.ones_like(x) for split, x in features.inputs.items()}
  with pytest.raises(ValueError, match='no principal component'):
    baselines.pca(dataclasses.replace(features, inputs=flat), 2)
  # Standardised to zero: every example gets relu(b).
  found = baselines.random_relu(dataclasses.replace(features, inputs=flat), 5, 0)
  assert (found.test == found.test[:, :1]).all()


def test_random_relu_on_digits():
  """512 random features make digits linear, which 64 pixels do not quite."""
  settings = ml_collections.ConfigDict({'labels': (), 'l2': (1e-3,)})
  results, _ = linear.evaluate(baselines.random_relu(digits(), 512, 0), settings, 0)
  assert results['all']['accuracy'] > 0.965


def test_majority_is_the_guess_of_the_commonest_training_class():
  """99 to 1: nearest neighbours' 98 % are the guess's, against scikit-learn's dummy."""
  rng = np.random.default_rng(0)
  train, test = (rng.random(n) < 0.02 for n in (500, 300))
  train, test = train.astype(int), test.astype(int)
  found = baselines.majority(train, test)
  guess = dummy.DummyClassifier().fit(train[:, None], train)
  expected = guess.score(test[:, None], test)
  assert found['class'] == 0 and found['accuracy'] == pytest.approx(expected) != 0.5
  assert found['stderr'] == pytest.approx(np.sqrt(expected * (1 - expected) / 300))
  assert baselines.majority(np.array([2, 1, 1, 2]), np.array([1, 1, 2]))['class'] == 1
