"""Controls from the raw input and the labels: what a probe reads where nothing was learned.

`pca` and `random_relu` give features of one layer, as wide as a network's layers, from which the
same probes are fitted: principal components (linear, so no more separable than the input, but as
narrow as the network) and random ReLU features (wider than the input where one likes, nonlinear,
and untrained). Where the features are raw inputs on a mesh, so are these. `majority` is what
guessing gets.
A network whose probe does not beat them has not been shown to compute anything for the task.
"""

import dataclasses

import numpy as np

from probes import baselines_mesh, selection, sums
from probes.features import SPLITS, Features
from probes.layers import Layers
from probes.mesh import widest

BIAS_STD = 0.1  # Of random biases, beside pre-activations of variance about 1.


def majority(labels_train: np.ndarray, labels_test: np.ndarray) -> dict[str, int | float]:
  """What always guessing the commonest training class (of equals the first) gets on test.

  Returns:
    class, accuracy, stderr (binomial, over test examples). An accuracy says no more of features
    than it is above this.
  """
  guess = int(np.bincount(labels_train).argmax())
  accuracy = float((np.asarray(labels_test) == guess).mean())
  stderr = float(np.sqrt(accuracy * (1 - accuracy) / len(labels_test)))
  return {'class': guess, 'accuracy': accuracy, 'stderr': stderr}


def pca(features: Features, width: int) -> Features:
  """The top principal components of the train inputs, for every split.

  x -> V^T (x - mean), V (P, width) the eigenvectors of the train inputs' covariance with the
  largest eigenvalues, in falling order, the largest entry of each in absolute value positive.

  Args:
    features: with `inputs`, split -> (N, P).
    width: components wanted. There are fewer where the train inputs' covariance has a lower rank
      (at most P and N - 1): directions without variance hold rounding alone, which a probe that
      standardises would blow up.

  Returns:
    Features of one layer, float32 (1, N, components), with the labels and inputs of `features`;
    `unseen` has no 'train', whose inputs made them; where `features` have it, only 'test': a
    certificate would be from fewer labels than those beside it.

  Raises:
    ValueError: no inputs, inputs that are not finite or do not match, all train inputs equal.
  """
  if isinstance(features.train, Layers):
    rows, mean = baselines_mesh.centred(features.train.on_mesh(0))
    rounding = baselines_mesh.ROUNDING[widest(rows.mesh)]
    components = _largest(baselines_mesh.covariance(rows), width, rows.count, rounding)
    moved = baselines_mesh.moved(features, mean, np.ones_like(mean))
    return _one_layer(baselines_mesh.projected(features, moved, components))
  inputs = _inputs(features, width)
  mean = inputs['train'].mean(0)
  components = _components(inputs['train'] - mean, width)
  return _replaced(features, {split: (x - mean) @ components for split, x in inputs.items()})


def random_relu(features: Features, width: int, seed: int) -> Features:
  """Random ReLU features relu(W z + b) of the standardised inputs z.

  z has mean 0 and variance 1 over the train inputs (0 where an input is constant there); W is
  (width, P) normal with variance 1/P, b (width,) normal with standard deviation `BIAS_STD`.

  Args:
    features: with `inputs`, split -> (N, P).
    width: number of features.
    seed: of W and then b, both from `np.random.default_rng(seed)`.

  Returns:
    Features of one layer, float32 (1, N, width), otherwise as `pca`.

  Raises:
    ValueError: no inputs, inputs that are not finite or do not match.
  """
  rng = np.random.default_rng(seed)
  if isinstance(features.train, Layers):
    dims = features.train.shape[2]
  else:
    inputs = _inputs(features, width)
    dims = inputs['train'].shape[1]
  weights = rng.normal(size=(width, dims)) / np.sqrt(dims)
  bias = BIAS_STD * rng.normal(size=width)
  if isinstance(features.train, Layers):
    moved = baselines_mesh.moved(features, *sums.moments(features.train.on_mesh(0)))
    return _one_layer(baselines_mesh.projected(features, moved, weights.T, bias))
  mean, scale = selection.moments(inputs['train'])
  made = {
    split: np.maximum(selection.standardise(x, mean, scale) @ weights.T + bias, 0)
    for split, x in inputs.items()
  }
  return _replaced(features, made)


def _components(centred_NxP: np.ndarray, width: int) -> np.ndarray:
  """Orthonormal eigenvectors (P, at most width) of the covariance, the largest first."""
  rows, dims = centred_NxP.shape
  if dims <= rows:
    return _largest(centred_NxP.T @ centred_NxP, width, rows)
  # The same non-zero spectrum from the smaller matrix: X X^T u = s^2 u gives v = X^T u / s.
  eigenvalues, vectors = _spectrum(centred_NxP @ centred_NxP.T, width, dims)
  return _signed(centred_NxP.T @ (vectors / np.sqrt(eigenvalues)))


def _largest(
  covariance_PxP: np.ndarray, width: int, rows: int, rounding: float = 0.0
) -> np.ndarray:
  """The same of x'x of so many centred rows, whose entries are right up to a share `rounding`."""
  return _signed(_spectrum(covariance_PxP, width, rows, rounding)[1])


def _spectrum(
  matrix: np.ndarray, width: int, other: int, rounding: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
  """At most `width` of the largest eigenvalues above rounding, and their vectors in columns.

  `other` is the side of the matrix of which this is the square that is not this one's.
  """
  eigenvalues, vectors = np.linalg.eigh(matrix)
  order = np.argsort(eigenvalues)[::-1][:width]
  # A squared matrix's spectrum is exact up to this share of its largest value.
  share = max(len(matrix), other) * np.finfo(np.float64).eps + len(matrix) * rounding
  floor = eigenvalues.max() * share
  order = order[eigenvalues[order] > floor]
  if not len(order):
    raise ValueError('all train inputs are equal: they have no principal component')
  return eigenvalues[order], vectors[:, order]


def _signed(vectors: np.ndarray) -> np.ndarray:
  """The largest entry of each column in absolute value is positive."""
  largest = np.abs(vectors).argmax(0)
  return vectors * np.sign(vectors[largest, np.arange(vectors.shape[1])])


def _inputs(features: Features, width: int) -> dict[str, np.ndarray]:
  """The raw inputs of every split in float64, checked."""
  if features.inputs is None:
    raise ValueError('a baseline from the raw input needs features.inputs')
  if width < 1:
    raise ValueError(f'a baseline needs a width of at least 1, not {width}')
  inputs = {split: np.asarray(features.inputs[split], np.float64) for split in SPLITS}
  for split, x in inputs.items():
    labels = getattr(features, f'labels_{split}')
    if x.ndim != 2 or len(x) != len(labels) or x.shape[1:] != inputs['train'].shape[1:]:
      raise ValueError(f'{split} inputs {x.shape} do not match labels {np.shape(labels)} or train')
    if not np.isfinite(x).all():
      raise ValueError(f'{split} inputs hold NaN or infinity')
  return inputs


def _replaced(features: Features, by_split: dict[str, np.ndarray]) -> Features:
  layers = {split: x[None].astype(np.float32) for split, x in by_split.items()}
  return _one_layer(dataclasses.replace(features, **layers))


def _one_layer(features: Features) -> Features:
  """These, made of the train inputs, with nothing that only their network or layers had."""
  unseen = ('test',) if 'train' in features.unseen else features.unseen
  return dataclasses.replace(features, last=None, sequences=None, unseen=unseen)
