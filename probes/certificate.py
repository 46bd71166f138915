"""How far a fit can be from its optimum, told from the gradient alone."""

import numpy as np


def certify(
  x: np.ndarray, labels: np.ndarray, w: np.ndarray, theta: np.ndarray, l2, bias_l2: float
) -> tuple[np.ndarray, np.ndarray]:
  """Objective and certificate (J,), nats, of one group, in NumPy and from unrotated features.

  Args:
      x: (N, D) features.
      labels: (N,) integers.
      w: (N,) weights of sum 1.
      theta: (J, K, D+1) weights, the bias last.
      l2: (J,) penalties.
      bias_l2: penalty of the bias.
  """
  weights, bias = theta[..., :-1], theta[..., -1]
  z = weights @ x.T + bias[..., None]  # (J, K, N)
  z -= z.max(1, keepdims=True)
  rows = np.arange(len(labels))
  loss = -z[:, labels, rows]
  p = np.exp(z, out=z)
  normaliser = p.sum(1, keepdims=True)
  loss += np.log(normaliser[:, 0])
  objective = loss @ w + l2 * (weights**2).sum((1, 2)) / 2 + bias_l2 * (bias**2).sum(1) / 2
  residual = np.divide(p, normaliser, out=p)
  residual[:, labels, rows] -= 1
  residual *= w
  gradient = residual @ x + l2[:, None, None] * weights
  gradient_bias = residual.sum(2) + bias_l2 * bias
  certificate = (gradient**2).sum((1, 2)) / (2 * l2)
  return objective, certificate + (gradient_bias**2).sum(1) / (2 * bias_l2)
