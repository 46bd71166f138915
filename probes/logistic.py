"""Many multinomial logistic regressions in one program, each with a certificate.

Problem p = (group, l2): a group is one matrix of features with labels and weights (one layer, or
one layer and one fold), and every group is fitted for every l2. The objective, in nats, is

    f(W, b) = sum_i w_i CE_i / sum_i w_i + l2/2 ||W||^2 + bias_l2/2 ||b||^2

with the logits W x + b. The bias has its own small fixed penalty (`BIAS_L2`), which makes f
strongly convex in every parameter, so that the gradient g bounds the distance to the optimum
without knowing it:

    f - f* <= sum_i g_i^2 / (2 lambda_i)          (the certificate; lambda_i: the penalty of i)

because f(t) >= f + g.(t - theta) + sum_i lambda_i (t_i - theta_i)^2 / 2 for all t; minimise both
sides over t. It is recomputed in float64 from the weights that are returned and the features that
were passed, independently of the path the solver took. An uncertified fit is never returned.

How it is solved: rotate the features to the eigenvectors of their Gram matrix (first to N
dimensions by a QR decomposition where N < D, which is exact: the optimum lies in the span of the
rows), precondition with (kappa * eigenvalue + l2)^-1, then L-BFGS over all problems at once, where
all l2 of a group share one wide matrix product. Logits are linear in the parameters, so the line
search needs no matrix product. Steps and stopping are per problem. Problems that are still open
after a segment get a new preconditioner from the Hessian weighted by the probabilities reached so
far, which is what separable data needs. One that is open after `DENSE_AFTER` iterations and whose
Hessian is small enough to form goes to Newton's method; what is open at the end to a second solver.
The iteration is JAX; rotation, preconditioner and certificate are NumPy, which needs no
compilation. Everything is float64 on the CPU, whatever the process's default precision and device.
"""

from collections.abc import Sequence
import dataclasses

import jax
import numpy as np

from probes import lbfgs, newton
from probes.certificate import certify

BIAS_L2 = 1e-6  # Penalty of the bias: a bias of 10 costs 5e-5 nats.
GAP = 1e-6  # Default bound on f - f*, in nats.
SINGLE_GAP = 1e-5  # From this gap on, the first iterations run in float32.
DENSE_AFTER = 72  # Iterations after which a problem with a small Hessian gets that instead.
CHUNK_BYTES = 12 * 2**20  # Working set of one batched solve: fits the last-level cache.


@dataclasses.dataclass(frozen=True)
class Fits:
  """Certified fits of G groups for J penalties.

  Attributes:
      weights: (G, J, K, D) float64.
      bias: (G, J, K) float64.
      objective: (G, J) nats, the penalised objective at these weights.
      certificate: (G, J) nats, an upper bound on objective - optimum; at most the gap asked for.
      iterations: (G, J) iterations of the solver.
      converged: (G, J) bool; always true, since an uncertified fit raises instead.
      polished: (G, J) bool; true where the second solver had to finish the fit.
  """

  weights: np.ndarray
  bias: np.ndarray
  objective: np.ndarray
  certificate: np.ndarray
  iterations: np.ndarray
  converged: np.ndarray
  polished: np.ndarray


def logits(features: np.ndarray, weights: np.ndarray, bias: np.ndarray) -> np.ndarray:
  """Logits (..., N, K) of features (..., N, D) under weights (..., K, D) and bias (..., K)."""
  product = np.asarray(features, np.float64) @ np.swapaxes(weights, -1, -2)
  return product + np.expand_dims(bias, -2)


def cross_entropy(logits_NxK: np.ndarray, labels_N: np.ndarray) -> np.ndarray:
  """Cross-entropy in nats, (..., N), of logits (..., N, K) against integer labels (..., N)."""
  top = logits_NxK.max(-1, keepdims=True)
  normaliser = np.log(np.exp(logits_NxK - top).sum(-1)) + top[..., 0]
  labels = np.broadcast_to(labels_N, normaliser.shape)
  return normaliser - np.take_along_axis(logits_NxK, labels[..., None], -1)[..., 0]


def fit(
  features: np.ndarray,
  labels: np.ndarray,
  l2: Sequence[float],
  *,
  classes: int,
  weights: np.ndarray | None = None,
  gap: float = GAP,
  bias_l2: float = BIAS_L2,
  max_iterations: int = 480,
  names: Sequence[str] | None = None,
) -> Fits:
  """Fits every group for every l2 to a certified gap.

  Args:
      features: (G, N, D), finite; standardise them before.
      labels: (N,) for all groups or (G, N), integers in [0, classes). A class without examples is
          allowed: its bias goes to where the penalty stops it.
      l2: (J,) positive penalties on the weights, on the mean loss (not its sum).
      classes: K >= 2.
      weights: (G, N) non-negative weights of the rows, zero for rows that are absent; default 1.
      gap: the certificate to reach, nats.
      bias_l2: penalty of the bias, positive.
      max_iterations: of L-BFGS, before a problem goes to the second solver.
      names: (G,) names of the groups for error messages.

  Returns:
      The fits.

  Raises:
      ValueError: bad input, or a problem that neither solver could certify.
  """
  features, labels, weights, l2 = _checked(features, labels, weights, l2, classes, gap, bias_l2)
  groups, rows, dims = features.shape
  padded_rows = bucket(rows, 16)
  chunk = _chunk_size(groups, padded_rows, min(padded_rows, dims), dims, classes, len(l2))
  dense = newton.is_dense(rows, min(rows, dims), classes)
  if dense:
    max_iterations = min(max_iterations, DENSE_AFTER)
  parts = []
  cpu = jax.local_devices(backend='cpu')[0]
  for start in range(0, groups, chunk):
    used = min(chunk, groups - start)
    pad = ((0, chunk - used), (0, padded_rows - rows))
    x = np.zeros((chunk, padded_rows, dims))
    x[:used, :rows] = features[start : start + used]
    y = np.pad(labels[start : start + used], pad)
    w = weights[start : start + used]
    w = np.pad(w / w.sum(1, keepdims=True), pad)
    with jax.enable_x64(True), jax.default_device(cpu):
      part = _solve(x, y, w, l2, bias_l2, classes, gap, max_iterations)
    parts.append([array[:used] for array in part])
  theta, objective, certificate, iterations = (np.concatenate(a) for a in zip(*parts, strict=True))
  polished = ~(certificate <= gap)
  problem = (features, labels, weights, l2, bias_l2, gap)
  for g in np.flatnonzero(polished.any(1)):
    for j, solved in _finish(problem, g, np.flatnonzero(polished[g]), theta[g], dense):
      theta[g, j], objective[g, j], certificate[g, j], more = solved
      iterations[g, j] += more
      if not certificate[g, j] <= gap:
        name = names[g] if names is not None else f'group {g}'
        raise ValueError(
          f'logistic regression of {name} with l2={l2[j]:g} stopped {certificate[g, j]:.1e} '
          f'nats from its optimum, not within {gap:.1e}'
        )
  return Fits(
    weights=theta[..., :-1],
    bias=theta[..., -1],
    objective=objective,
    certificate=certificate,
    iterations=iterations,
    converged=certificate <= gap,
    polished=polished,
  )


def _finish(problem, g: int, open_ones: np.ndarray, theta_JxKxD: np.ndarray, dense: bool):
  """Yields j and (theta, objective, certificate, iterations) of a group's open problems."""
  features, labels, weights, l2, bias_l2, gap = problem
  x, w = features[g].astype(np.float64), weights[g] / weights[g].sum()
  if dense:
    rotated = [part[0] for part in newton.rotate(x[None], w[None])[:2]]
  for j in open_ones:
    start, steps, certificate = theta_JxKxD[j], 0, np.inf
    if dense:
      # A little inside the gap: the last word has the certificate from the unrotated features.
      start, steps = newton.finish(rotated, labels[g], w, start, l2[j], bias_l2, gap / 2)
      found = certify(x, labels[g], w, start[None], l2[j : j + 1], bias_l2)
      objective, certificate = (values[0] for values in found)
    if certificate <= gap:
      yield j, (start, objective, certificate, steps)
    else:
      *solved, more = newton.polish(x, labels[g], w, start, l2[j], bias_l2, gap)
      yield j, (*solved, steps + more)


def bucket(size: int, smallest: int = 1) -> int:
  """The size to pad to: four sizes an octave, so that shapes, and compilations, are few."""
  octave = smallest
  while 2 * octave < size:
    octave *= 2
  steps = (octave + max(1, octave // 4) * i for i in range(5))
  return next(step for step in steps if step >= size)


def _checked(features, labels, weights, l2, classes, gap, bias_l2):
  features = np.asarray(features)
  if features.ndim != 3 or 0 in features.shape:
    raise ValueError(f'features must be groups x rows x dimensions, not {features.shape}')
  shape = features.shape[:2]
  labels = np.broadcast_to(np.asarray(labels), shape)
  weights = np.ones(shape) if weights is None else np.asarray(weights, np.float64)
  l2 = np.asarray(l2, np.float64).reshape(-1)
  if weights.shape != shape:
    raise ValueError(f'weights must be {shape}, not {weights.shape}')
  if not np.isfinite(features).all():
    bad = np.flatnonzero(~np.isfinite(features).all((1, 2)))
    raise ValueError(f'features of group {bad[0]} hold NaN or infinity')
  if not (np.isfinite(weights).all() and (weights >= 0).all() and (weights.sum(1) > 0).all()):
    raise ValueError('weights must be finite and non-negative, with a positive sum in each group')
  if classes < 2:
    raise ValueError(f'a probe needs at least 2 classes, not {classes}')
  if not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0 or labels.max() >= classes:
    raise ValueError(f'labels must be integers from 0 to {classes - 1}')
  positive = np.append(l2, [gap, bias_l2])
  if not len(l2) or not (np.isfinite(positive).all() and (positive > 0).all()):
    raise ValueError('l2, bias_l2 and gap must be positive and finite')
  return features, labels.astype(np.int32), weights, l2


def _chunk_size(groups: int, rows: int, rank: int, dims: int, classes: int, penalties: int) -> int:
  """Groups solved together: as many as fit the working set, evenly spread, in few shapes."""
  problem = classes * ((2 * lbfgs.MEMORY + 10) * rank + 6 * rows) + 2 * rank * rank
  most = max(1, CHUNK_BYTES // (8 * (penalties * problem + rows * (rank + dims))))
  count = -(-groups // most)
  size = bucket(-(-groups // count))
  return size if size <= most else max(1, most)


def _solve(x, y, w, l2, bias_l2, classes, gap, max_iterations):
  """One chunk: [theta (G, J, K, D+1), objective, certificate, iterations (G, J)]."""
  basis, z, eigenvalues = newton.rotate(x, w)
  penalty = np.repeat(l2[:, None], z.shape[1], 1)
  penalty[:, -1] = bias_l2  # (J, R+1): the last parameter is the bias.
  # The curvature of the loss at uniform probabilities, where every problem starts.
  kappa = (1 - 1 / classes) / classes
  diagonal = 1 / (kappa * eigenvalues[:, None] + penalty)
  inverse = diagonal[..., None] * np.eye(z.shape[1])
  shape = (len(x), len(l2), classes)
  theta, logits = np.zeros((*shape, z.shape[1])), np.zeros((*shape, z.shape[2]))
  done = np.broadcast_to(w.sum(1)[:, None] == 0, shape[:2])  # Padding.
  iterations = np.zeros(shape[:2], np.int32)
  data = (z, y, w, penalty[None, :, None])

  def segment(dtype):
    # A little inside the gap: the last word has the certificate from the unrotated features.
    floats = (*data, inverse, theta, logits, np.asarray(0.9 * gap))
    z, _, w, penalty, *rest = (a.astype(dtype, copy=False) for a in floats)
    *state, gap_ = rest
    found = lbfgs.segment((z, y, w, penalty), *state, done, gap_)
    theta_, logits_, done_, used = (np.asarray(a) for a in found)
    return theta_.astype(np.float64), logits_.astype(np.float64), done_, iterations + used

  if gap >= SINGLE_GAP:
    # Half the bytes; what that brings is judged in float64, and goes on in float64.
    theta, logits, _, iterations = segment(np.float32)
    solved = _judge(basis, theta, x, y, w, l2, bias_l2)
    done = done | (solved[2] <= gap)
    if done.all():
      return *solved, iterations
    logits = (theta.reshape(len(x), -1, z.shape[1]) @ z).reshape(logits.shape)
    inverse = _reprecondition(z, w, penalty, inverse, logits, done)
  data = (jax.device_put(z), *data[1:])
  for _ in range(0, max_iterations, lbfgs.SEGMENT):
    theta, logits, done, iterations = segment(np.float64)
    if done.all():
      break
    inverse = _reprecondition(z, w, penalty, inverse, logits, done)
  return *_judge(basis, theta, x, y, w, l2, bias_l2), iterations


def _judge(basis, theta, x, y, w, l2, bias_l2):
  """Rotates theta (G, J, K, R+1) back to the features; with objective and certificate (G, J)."""
  weights = theta[..., :-1] @ np.swapaxes(basis, 1, 2)[:, None]
  theta = np.concatenate([weights, theta[..., -1:]], -1)
  parts = [certify(*args, l2, bias_l2) for args in zip(x, y, w, theta, strict=True)]
  objective, certificate = (np.stack(a) for a in zip(*parts, strict=True))
  return theta, objective, certificate


def _reprecondition(z, w, penalty, inverse, logits, done):
  """Replaces the preconditioners of the open problems by one for their present probabilities.

  It is the inverse of the Hessian's block for one class, averaged over the classes.
  """
  inverse = np.array(inverse)
  for g, j in zip(*np.nonzero(~done), strict=True):
    p = np.exp(logits[g, j] - logits[g, j].max(0))
    p /= p.sum(0)
    weight = w[g] * (1 - (p**2).sum(0)) / (len(p) - 1)
    inverse[g, j] = np.linalg.inv((z[g] * weight) @ z[g].T + np.diag(penalty[j]))
  return inverse
