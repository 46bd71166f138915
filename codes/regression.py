"""A pixel as a linear function of those before it, recursively: one Gaussian of whole images.

The covariance of the images so far is shrunk towards one in which pixels agree the more the nearer
they are. Its Cholesky factor L holds every regression at once: given x_1..x_{t-1} the mean of x_t
is m_t + sum_{s<t} L_ts z_s and its deviation L_tt, where z = L^-1 (x - m) is known up to t.

Shape suffixes: N images seen, B rows of a batch, T pixels.
"""

import numpy as np

# The shrunk correlation of pixels at distance 1 is exp(-1 / _REACH), plus noise of its own.
_REACH, _NOISE = 2.0, 0.05
_LEAST_VARIANCE = 0.05


class Regression:
  """Means and deviations of every pixel given those before it.

  Args:
    distance_TxT: of pixels on the picture.
    middle: what is expected of a pixel before the first image.
    spread: the deviation before the first image.
    strength: of the shrinkage, in images.

  Attributes:
    variance: of an error, the mean over pixels.
  """

  def __init__(self, distance_TxT: np.ndarray, middle: float, spread: float, strength: float):
    length = len(distance_TxT)
    self._near_TxT = np.exp(-distance_TxT / _REACH) + _NOISE * np.eye(length)
    self._middle, self._spread, self._strength = middle, spread, strength
    self._count = 0
    self._sum_T, self._products_TxT = np.zeros(length), np.zeros((length, length))

  def start(self, rows: int) -> None:
    """Takes the images of earlier batches in."""
    count, length = self._count, len(self._sum_T)
    self._mean_T = mean_T = (self._sum_T + self._middle) / (count + 1)
    cross_TxT = np.outer(mean_T, self._sum_T)
    scatter_TxT = self._products_TxT - cross_TxT - cross_TxT.T + count * np.outer(mean_T, mean_T)
    variance = self._spread**2
    if count:
      variance = max(np.trace(scatter_TxT) / (length * count), _LEAST_VARIANCE)
    prior_TxT = self._strength * variance * self._near_TxT
    self._factor_TxT = np.linalg.cholesky((scatter_TxT + prior_TxT) / (count + self._strength))
    self.variance = float(np.mean(np.diag(self._factor_TxT) ** 2))
    self._known_BxT = np.zeros((rows, length))
    self._slot = 0

  def expect(self) -> tuple[np.ndarray, float]:
    """Mean (B,) and deviation of the next pixel."""
    slot, factor_TxT = self._slot, self._factor_TxT
    self._mean_B = self._mean_T[slot] + self._known_BxT[:, :slot] @ factor_TxT[slot, :slot]
    return self._mean_B, factor_TxT[slot, slot]

  def see(self, pixels_B: np.ndarray) -> None:
    slot = self._slot
    self._known_BxT[:, slot] = (pixels_B - self._mean_B) / self._factor_TxT[slot, slot]
    self._slot += 1

  def errors(self, images_NxT: np.ndarray) -> np.ndarray:
    """What every pixel of earlier images is above its mean, (N, T), by today's regressions."""
    known_TxN = np.linalg.solve(self._factor_TxT, (images_NxT - self._mean_T).T)
    return known_TxN.T * np.diag(self._factor_TxT)

  def finish(self, images_BxT: np.ndarray) -> None:
    images_BxT = images_BxT.astype(np.float64)
    self._count += len(images_BxT)
    self._sum_T += images_BxT.sum(0)
    self._products_TxT += images_BxT.T @ images_BxT


def levels(mean_B: np.ndarray, deviation: np.ndarray | float, vocabulary: int) -> np.ndarray:
  """Probabilities (B, V) of levels: a logistic density between the midpoints, tails at the ends."""
  edges = np.arange(vocabulary - 1) + 0.5
  # A logistic of deviation 1 has scale sqrt(3) / pi.
  scaled = (edges - mean_B[:, None]) / np.reshape(deviation, (-1, 1)) * (np.pi / np.sqrt(3))
  below = 1 / (1 + np.exp(-np.clip(scaled, -40, 40)))
  p_BxV = np.diff(below, axis=1, prepend=0, append=1) + 1e-5
  return p_BxV / p_BxV.sum(1, keepdims=True)
