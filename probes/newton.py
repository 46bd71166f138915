"""The second solvers of the linear probe, for problems that the batched one leaves open.

Small problems go to Newton's method with the whole Hessian, large ones to Newton-CG.
"""

import numpy as np
import scipy.linalg

from probes.certificate import certify

DENSE_SIZE = 1500  # Parameters (classes x (rank + 1)) up to which the Hessian is formed.
DENSE_FLOPS = 1e9  # And the cost of forming it: rows x parameters^2.
_FACTORS = 12  # Hessians formed at most.
_CHORDS = 16  # Steps with one factor at most.


def is_dense(rows: int, rank: int, classes: int) -> bool:
  """Whether forming the Hessian is cheaper than many more gradients."""
  size = classes * (rank + 1)
  return size <= DENSE_SIZE and rows * size**2 <= DENSE_FLOPS


def rotate(x, w):
  """Orthonormal basis (G, D, R), features with the constant (G, R+1, N), eigenvalues (G, R+1)."""
  basis = None
  if x.shape[1] < x.shape[2]:
    basis, r = np.linalg.qr(np.swapaxes(x, 1, 2))  # x = r^T basis^T
    x = np.swapaxes(r, 1, 2)
  scaled = x * np.sqrt(w)[:, :, None]
  # One matrix and its own transpose: half the work, where BLAS sees it.
  gram = np.stack([one.T @ one for one in scaled])
  eigenvalues, vectors = np.linalg.eigh(gram)
  basis = vectors if basis is None else basis @ vectors
  z = np.ones((len(x), x.shape[2] + 1, x.shape[1]))
  np.matmul(np.swapaxes(vectors, 1, 2), np.swapaxes(x, 1, 2), out=z[:, :-1])
  return basis, z, np.append(np.maximum(eigenvalues, 0), w.sum(1)[:, None], 1)


def polish(x, labels, w, theta, l2, bias_l2, gap):
  """Second solver, for one problem: SciPy's Newton-CG in a trust region, preconditioned alike.

  Returns theta (K, D+1), objective, certificate and iterations; the caller judges the certificate.
  """
  basis, z, eigenvalues = rotate(x[None].astype(np.float64), w[None])
  z, classes = z[0], len(theta)
  penalty = np.append(np.full(len(z) - 1, l2), bias_l2)
  scale = ((1 - 1 / classes) / classes * eigenvalues[0] + penalty) ** -0.5
  truth = np.arange(classes)[:, None] == labels

  def unpack(u):
    parameters = u.reshape(classes, -1) * scale
    logits = parameters @ z
    return parameters, logits - logits.max(0)

  def value_and_gradient(u):
    parameters, logits = unpack(u)
    normaliser = np.exp(logits).sum(0)
    loss = (np.log(normaliser) - np.where(truth, logits, 0).sum(0)) @ w
    residual = (np.exp(logits) / normaliser - truth) * w
    gradient = (residual @ z.T + penalty * parameters) * scale
    return loss + (penalty * parameters**2).sum() / 2, gradient.ravel()

  def hessian_product(u, v):
    p = np.exp(unpack(u)[1])
    p /= p.sum(0)
    v = v.reshape(classes, -1) * scale
    moved = v @ z
    curved = p * (moved - (p * moved).sum(0)) * w
    return ((curved @ z.T + penalty * v) * scale).ravel()

  start = np.concatenate([theta[:, :-1] @ basis[0], theta[:, -1:]], 1) / scale
  # sum g^2 / (2 penalty) <= |scaled gradient|^2 max(1 / (penalty scale^2)) / 2.
  tolerance = np.sqrt(gap * (penalty * scale**2).min())
  import scipy.optimize  # A fifth of a second of every start otherwise.

  result = scipy.optimize.minimize(
    value_and_gradient,
    start.ravel(),
    jac=True,
    hessp=hessian_product,
    method='trust-ncg',
    options={'gtol': tolerance, 'maxiter': 500},
  )
  solved = result.x.reshape(classes, -1) * scale
  theta = np.concatenate([solved[:, :-1] @ basis[0].T, solved[:, -1:]], 1)
  objective, certificate = certify(x, labels, w, theta[None], np.array([l2]), bias_l2)
  return theta, objective[0], certificate[0], result.nit


def finish(rotated, labels, w, theta, l2, bias_l2, gap):
  """Newton's method with a line search for one small problem, from where L-BFGS stopped.

  A Hessian is factored once and used for as many steps as it keeps shrinking the certificate
  (near the optimum it hardly changes), so that most steps cost one gradient.

  Args:
      rotated: basis (D, R) and features with the constant (R+1, N), one group of `rotate`.
      labels: (N,) integers.
      w: (N,) weights of sum 1.
      theta: (K, D+1) start, the bias last.
      l2, bias_l2: penalties.
      gap: certificate to reach, nats.

  Returns:
      theta (K, D+1) and the number of steps; the caller judges the certificate.
  """
  basis, z = rotated
  classes = len(theta)
  penalty = np.append(np.full(len(z) - 1, l2), bias_l2)
  truth = np.arange(classes)[:, None] == labels
  theta = np.concatenate([theta[:, :-1] @ basis, theta[:, -1:]], 1)

  def state(theta):
    logits = theta @ z
    top = logits.max(0)
    p = np.exp(logits - top)
    normaliser = p.sum(0)
    nats = np.log(normaliser) + top - np.where(truth, logits, 0).sum(0)
    p /= normaliser
    return nats @ w + (penalty * theta**2).sum() / 2, p, ((p - truth) * w) @ z.T + penalty * theta

  def bound(gradient):
    return (gradient**2 / (2 * penalty)).sum()

  value, p, gradient = state(theta)
  steps = 0
  for _ in range(_FACTORS):
    if bound(gradient) <= gap:
      break
    factor = scipy.linalg.cho_factor(_hessian(z, p, w, penalty), overwrite_a=True)
    for _ in range(_CHORDS):
      direction = -scipy.linalg.cho_solve(factor, gradient.ravel()).reshape(theta.shape)
      slope, t = (gradient * direction).sum(), 1.0
      before = bound(gradient)
      while True:
        trial = state(theta + t * direction)
        if trial[0] <= value + 1e-4 * t * slope + 1e-14 * abs(value) or t < 1e-6:
          break
        t /= 2
      if t < 1e-6:
        break
      theta, (value, p, gradient), steps = theta + t * direction, trial, steps + 1
      # A full step that gains less than two digits (squared gradient) wants a new Hessian.
      if bound(gradient) <= gap or bound(gradient) > 0.01 * before:
        break
  return np.concatenate([theta[:, :-1] @ basis.T, theta[:, -1:]], 1), steps


def _hessian(z, p, w, penalty):
  """(K(R+1), K(R+1)): blocks Z diag(w p_k (delta_kl - p_l)) Z' and the penalty."""
  classes, size = len(p), len(z)
  stacked = ((p * np.sqrt(w))[:, None] * z).reshape(classes * size, -1)
  hessian = -(stacked @ stacked.T)
  for k in range(classes):
    block = slice(k * size, (k + 1) * size)
    hessian[block, block] += (z * (w * p[k])) @ z.T
  hessian.flat[:: classes * size + 1] += np.tile(penalty, classes)
  return hessian
