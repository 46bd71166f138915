"""The second solver of the linear probe, for problems that the batched one leaves open."""

import numpy as np
import scipy.optimize

from probes.certificate import certify


def rotate(x, w):
  """Orthonormal basis (G, D, R), features with the constant (G, R+1, N), eigenvalues (G, R+1)."""
  basis = None
  if x.shape[1] < x.shape[2]:
    basis, r = np.linalg.qr(np.swapaxes(x, 1, 2))  # x = r^T basis^T
    x = np.swapaxes(r, 1, 2)
  gram = np.swapaxes(x * w[:, :, None], 1, 2) @ x
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
