"""A temperature that follows what was coded: forward calibration.

A fit to n labels says with some confidence what the next ones are. Once they are coded, the power
of its probabilities that would have coded them best is known, and the next fit, to all of them, is
used at that power: no label has a part in the power that predicts it (Bornschein and others, 2022,
arXiv 2210.07931).

Shape suffixes: N labels, K classes, x whatever stands before.
"""

import numpy as np

# Powers are sought between these, and held at 1 as by one label more.
_LEAST, _MOST, _HALVINGS = 1 / 8, 8.0, 24


def power(logits_xxNxK: np.ndarray, labels_N: np.ndarray) -> np.ndarray:
  """The power (...,) of softmax(logits) that codes the labels in the fewest nats.

  Of the convex sum over labels of log sum exp(b z) - b z_label, and of (b - 1)^2 / 2, in b between
  1/8 and 8: by halving, on the sign of its slope.
  """
  logits = np.asarray(logits_xxNxK, np.float64)
  picked_xx = np.take_along_axis(
    logits, np.broadcast_to(labels_N[:, None], (*logits.shape[:-1], 1)), -1
  ).sum((-2, -1))
  low_xx = np.full(picked_xx.shape, np.log(_LEAST))
  high_xx = np.full(picked_xx.shape, np.log(_MOST))
  for _ in range(_HALVINGS):
    middle_xx = (low_xx + high_xx) / 2
    power_xx = np.exp(middle_xx)
    p = softmax(power_xx[..., None, None] * logits)
    slope_xx = (p * logits).sum((-2, -1)) - picked_xx + power_xx - 1
    low_xx = np.where(slope_xx < 0, middle_xx, low_xx)
    high_xx = np.where(slope_xx < 0, high_xx, middle_xx)
  return np.exp((low_xx + high_xx) / 2)


def softmax(logits_xK: np.ndarray) -> np.ndarray:
  """Probabilities over the last axis."""
  p = np.exp(logits_xK - logits_xK.max(-1, keepdims=True))
  return p / p.sum(-1, keepdims=True)


class Powers:
  """The powers of fits that are made again and again, each for the labels of a block.

  Of every block `both` gives probabilities twice, plain and at the powers that would have coded
  the block before best; plain both times where no block stood before.
  """

  def __init__(self):
    self._stop, self._logits = -1, []

  def begin(self, labels_N: np.ndarray) -> None:
    """A block follows these labels: powers are fitted to the last of them."""
    self._powers = []
    if self._stop == len(labels_N):
      self._powers = [power(logits, labels_N[-logits.shape[-2] :]) for logits in self._logits]
    self._stop, self._logits = len(labels_N), []

  def both(self, logits_xxNxK: np.ndarray, axis: int = 0) -> np.ndarray:
    """Probabilities of a block's labels, those at their powers after the plain ones on `axis`.

    The first call after `begin` is of the same fits as the first one before it, and so on.
    """
    number = len(self._logits)
    power_xx = self._powers[number] if self._powers else np.ones(logits_xxNxK.shape[:-2])
    self._logits.append(logits_xxNxK.astype(np.float32))
    if number == 0:
      self._stop += logits_xxNxK.shape[-2]
    plain = softmax(logits_xxNxK)
    return np.concatenate([plain, softmax(power_xx[..., None, None] * logits_xxNxK)], axis)
