"""Ridge probe: least squares on one-hot labels, every l2 from one eigendecomposition a layer.

For features x_i and targets y_i (one-hot labels), with an unpenalised bias,

    f(W, b) = mean_i ||y_i - W x_i - b||^2 / 2 + l2/2 ||W||^2,

so that l2 is scikit-learn's alpha / N. The bias drops out by centring: with Gram matrix
S = mean_i (x_i - m)(x_i - m)' = U diag(e) U' and C = mean_i (y_i - mean y)(x_i - m)',

    W(l2) = C U diag(1 / (e + l2)) U',    b(l2) = mean y - W(l2) m.

Only the diagonal depends on l2. Where N < D the N x N matrix of inner products takes the place of
S: W(l2) = Y' V diag(1 / (e + l2)) V' X / N, with X and Y centred and XX'/N = V diag(e) V'. The
result is a closed form: exact up to float64 (on TPU float32), without steps or a tolerance. It is
the same subspace of linear readouts that the logistic probe searches, under another loss.
"""

from collections.abc import Sequence
from concurrent import futures
import os

import numpy as np
from threadpoolctl import threadpool_limits

from probes import logistic, selection, sums
from probes import mesh as mesh_lib
from probes.layers import Layers, standardised


def evaluate(features, config, seed: int) -> tuple[dict, dict]:
  """Ridge regression on every layer's standardised features, with all training labels.

  Args:
      features: probes.features.Features.
      config: l2, the grid of penalties on the mean loss.
      seed: unused, there is nothing random.

  Returns:
      results: {'all': layer, l2, accuracy, stderr (binomial, over test examples), squared_error
          (test, mean over examples of the sum over classes), by_layer_validation (each layer's
          best accuracy over l2)}. Layer and l2 have the best validation accuracy, ties go to the
          lower squared error.
      arrays: 'all/predictions' (N_test,) int32.

  Raises:
      ValueError: features that are not finite, shapes that do not match, a class without training
          examples, a penalty that is not positive.
  """
  del seed
  selection.check(features, ('train', 'validation', 'test'))
  labels, classes = np.asarray(features.labels_train), features.classes
  selection.largest_balanced(labels, classes)  # Raises where a class is missing.
  if isinstance(features.train, Layers):
    return _on_mesh(features, config)
  accuracy, error, fitted = [], [], []
  for train, validation in zip(features.train, features.validation, strict=True):
    mean, scale = selection.moments(train)
    z_1xNxD = selection.standardise(train, mean, scale)[None]
    weights_JxKxD, bias_JxK = (part[0] for part in path(z_1xNxD, labels, config.l2, classes))
    held_out = selection.standardise(validation, mean, scale)
    outputs_JxNxK = logistic.logits(held_out, weights_JxKxD, bias_JxK)
    accuracy.append((outputs_JxNxK.argmax(-1) == features.labels_validation).mean(-1))
    error.append(squared_error(outputs_JxNxK, features.labels_validation).mean(-1))
    fitted.append((weights_JxKxD, bias_JxK, mean, scale))
  accuracy = np.stack(accuracy)
  layer, j = selection.choose(accuracy, np.stack(error))
  weights, bias, mean, scale = fitted[layer]
  test = selection.standardise(features.test[layer], mean, scale)
  outputs_NxK = logistic.logits(test, weights[j], bias[j])
  predictions = outputs_NxK.argmax(-1).astype(np.int32)
  wrong = squared_error(outputs_NxK, features.labels_test)
  return _told(features, config, accuracy, layer, j, predictions, wrong)


def _told(features, config, accuracy, layer, j, predictions, wrong) -> tuple[dict, dict]:
  """Results and arrays, from predictions and squared errors (N_test,) of the choice."""
  correct = float((predictions == features.labels_test).mean())
  result = {
    'layer': layer,
    'l2': float(config.l2[j]),
    'accuracy': correct,
    'stderr': float(np.sqrt(correct * (1 - correct) / len(predictions))),
    'squared_error': float(wrong.mean()),
    'by_layer_validation': accuracy.max(1).tolist(),
  }
  return {'all': result}, {'all/predictions': predictions}


def _on_mesh(features, config) -> tuple[dict, dict]:
  """The same with the rows of each layer split over a mesh: sums are made there, the rest here."""
  labels, classes, mesh = np.asarray(features.labels_train), features.classes, features.train.mesh
  level_K = np.bincount(labels, minlength=classes) / len(labels)
  accuracy, error, best = [], [], None
  for layer in range(len(features.train)):
    rows, *moments = standardised(features.train, layer, mesh)
    rotated_KxD = sums.class_sums(rows, labels, classes) / len(labels)
    eigenvalues, basis = np.linalg.eigh(sums.gram(rows, mesh_lib.widest(mesh)))
    weights = _shrunk(rotated_KxD @ basis, eigenvalues, np.asarray(config.l2)) @ basis.T
    weights, bias = mesh_lib.agreed(weights), np.tile(level_K, (len(config.l2), 1))
    held_out, *_ = standardised(features.validation, layer, mesh, moments)
    wrong, predicted = sums.judge(held_out, features.labels_validation, weights, bias, True)
    accuracy.append((predicted == features.labels_validation).mean(-1))
    error.append(wrong.astype(np.float64).mean(-1))
    chosen, j = selection.choose(np.stack(accuracy), np.stack(error))
    if chosen == layer:
      best = weights[j : j + 1], bias[j : j + 1], moments
  weights, bias, moments = best
  test, *_ = standardised(features.test, chosen, mesh, moments)
  wrong, predicted = sums.judge(test, features.labels_test, weights, bias, True)
  wrong = wrong[0].astype(np.float64)
  return _told(features, config, np.stack(accuracy), chosen, j, predicted[0], wrong)


def squared_error(outputs_NxK: np.ndarray, labels_N: np.ndarray) -> np.ndarray:
  """||y - output||^2 against one-hot labels, summed over classes: (..., N) of (..., N, K)."""
  return ((outputs_NxK - np.eye(outputs_NxK.shape[-1])[labels_N]) ** 2).sum(-1)


def path(
  features_GxNxD: np.ndarray, labels: np.ndarray, l2: Sequence[float], classes: int
) -> tuple[np.ndarray, np.ndarray]:
  """Minimises f for every group (layer) and every l2.

  Args:
      features_GxNxD: finite. Float64 features are read in place; features whose mean outweighs
          their deviation (not so after standardisation) are copied to be centred.
      labels: (N,) integers in [0, classes), or (N, K) real targets with K = classes.
      l2: (J,) positive penalties.
      classes: K.

  Returns:
      weights (G, J, K, D) and bias (G, J, K), float64. A constant feature has weight zero; a class
      without examples has output zero.

  Raises:
      ValueError: bad shapes, NaN or infinity, labels out of range, a penalty that is not positive.
  """
  features, targets_NxK, l2_J = _checked(features_GxNxD, labels, l2, classes)
  groups, rows, dims = features.shape
  level_K = targets_NxK.mean(0)
  centred_NxK = targets_NxK - level_K
  solve = _dual if rows < dims else _primal
  weights = np.empty((groups, len(l2_J), classes, dims))
  bias = np.empty(weights.shape[:3])

  def solve_group(g: int) -> None:
    x_NxD = np.asarray(features[g], np.float64)
    if not np.isfinite(x_NxD).all():
      raise ValueError(f'features of group {g} hold NaN or infinity')
    mean_D = x_NxD.mean(0)
    weights[g] = solve(x_NxD, mean_D, centred_NxK, l2_J)
    bias[g] = level_K - weights[g] @ mean_D

  # A group a core with single-threaded BLAS, whose own threads can be slower than one.
  with threadpool_limits(1, 'blas'), futures.ThreadPoolExecutor(_cores()) as pool:
    list(pool.map(solve_group, range(groups)))
  return weights, bias


def _cores() -> int:
  if hasattr(os, 'sched_getaffinity'):
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1


def _primal(x_NxD, mean_D, y_NxK, l2_J) -> np.ndarray:
  """Weights (J, K, D) from the eigenvectors of the D x D covariance; y is centred."""
  rows = len(x_NxD)
  gram = x_NxD.T @ x_NxD / rows
  if (mean_D**2 <= gram.diagonal() / 2).all():
    gram -= np.outer(mean_D, mean_D)
  else:  # The subtraction would lose digits, all of them for a constant feature.
    x_NxD = x_NxD - mean_D
    gram = x_NxD.T @ x_NxD / rows
  eigenvalues, basis = np.linalg.eigh(gram)
  # The targets are centred, so that the features need not be here.
  rotated_KxD = (y_NxK.T @ x_NxD / rows) @ basis
  return _shrunk(rotated_KxD, eigenvalues, l2_J) @ basis.T


def _dual(x_NxD, mean_D, y_NxK, l2_J) -> np.ndarray:
  """Weights (J, K, D) from the eigenvectors of the N x N inner products; y is centred."""
  x_NxD = x_NxD - mean_D
  eigenvalues, basis = np.linalg.eigh(x_NxD @ x_NxD.T / len(x_NxD))
  rotated_KxN = (y_NxK.T @ basis) / len(x_NxD)
  return _shrunk(rotated_KxN, eigenvalues, l2_J) @ basis.T @ x_NxD


def _shrunk(rotated_KxR, eigenvalues_R, l2_J) -> np.ndarray:
  # A covariance has no negative eigenvalue, but its rounding has.
  return rotated_KxR / (np.maximum(eigenvalues_R, 0) + l2_J[:, None])[:, None]


def _checked(features, labels, l2, classes):
  features, labels = np.asarray(features), np.asarray(labels)
  if features.ndim != 3 or 0 in features.shape:
    raise ValueError(f'features must be groups x rows x dimensions, not {features.shape}')
  if len(labels) != features.shape[1]:
    raise ValueError(f'{len(labels)} labels for {features.shape[1]} rows')
  if labels.ndim == 1:
    if classes < 2:
      raise ValueError(f'a probe needs at least 2 classes, not {classes}')
    if not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0 or labels.max() >= classes:
      raise ValueError(f'labels must be integers from 0 to {classes - 1}')
    labels = np.eye(classes)[labels]
  if labels.shape[1:] != (classes,) or not np.isfinite(labels).all():
    raise ValueError(f'targets must be finite, rows x {classes}, not {labels.shape}')
  l2 = np.asarray(l2, np.float64).reshape(-1)
  if not len(l2) or not (np.isfinite(l2).all() and (l2 > 0).all()):
    raise ValueError('l2 must be positive and finite')
  return features, labels.astype(np.float64), l2
