"""What earlier examples that are near say of the next level, and what a linear regression says.

Two kernels weigh earlier examples by the squared distance of their part so far to ours: one of all
of it alike, one of what lies near the next symbol. Their votes are one expectation each, the
regression's another, and the regression with the errors that it makes on the near ones.

Shape suffixes: B rows of a batch, N earlier rows, T slots, V vocabulary.
"""

from typing import NamedTuple

import numpy as np

from codes import regression

# Earlier examples that vote: the newest.
_MEMORY = 8192
# Reach of the kernels on the picture, None for all alike; width of both, in variances of an error.
_REACHES = (None, 1.0)
_WIDTH = 0.4
# Of the two regressions' shrinkage, in examples; the first one's errors are looked up.
_STRENGTHS = (8.0, 40.0)
_LEAST_DEVIATION = 0.25


class Expected(NamedTuple):
  """Of the next symbol.

  Attributes:
    p: probabilities (B, V), by expert.
    means: levels (B,): by the two regressions, by them corrected by the kernels, by the kernels.
  """

  p: list[np.ndarray]
  means: list[np.ndarray]


class Near:
  """Goes along with rows as an expert does; `expect` is told the rows so far.

  Args:
    places_Tx3: row, column and channel of every slot.
    vocabulary: V.
  """

  inputs = len(_STRENGTHS) + 2 * len(_REACHES)

  def __init__(self, places_Tx3: np.ndarray, vocabulary: int):
    apart_TxTx3 = places_Tx3[:, None] - places_Tx3[None]
    self._distance_TxT = np.sqrt((apart_TxTx3.astype(np.float64) ** 2).sum(-1))
    self._vocabulary = vocabulary
    self._regressions = [
      regression.Regression(self._distance_TxT, 0.15 * vocabulary, vocabulary / 4, strength)
      for strength in _STRENGTHS
    ]
    length = len(places_Tx3)
    self._images_NxT = np.zeros((0, length), np.float32)
    self._histogram_TxV = np.full((length, vocabulary), 0.5)

  def start(self, rows: int) -> None:
    for one in self._regressions:
      one.start(rows)
    self._slot = 0
    if len(self._images_NxT):
      self._errors_NxT = self._regressions[0].errors(self._images_NxT)
    self._apart_BxN = np.zeros((rows, len(self._images_NxT)), np.float32)

  def expect(self, rows_BxT: np.ndarray) -> Expected:
    own = [one.expect() for one in self._regressions]
    p = [regression.levels(mean_B, deviation, self._vocabulary) for mean_B, deviation in own]
    means = [mean_B for mean_B, _ in own]
    votes, corrected = [], []
    for reach in _REACHES:
      weights_BxN = self._kernel(rows_BxT, reach)
      vote_BxV = self._vote(weights_BxN)
      mean_B, deviation_B = self._correct(weights_BxN, *own[0])
      p += [vote_BxV, regression.levels(mean_B, deviation_B, self._vocabulary)]
      votes.append(vote_BxV @ np.arange(self._vocabulary))
      corrected.append(mean_B)
    return Expected(p, means + corrected + votes)

  def _kernel(self, rows_BxT: np.ndarray, reach: float | None) -> np.ndarray:
    """Weights (B, N) of earlier rows, 1 for the nearest."""
    slot = self._slot
    if not len(self._images_NxT):
      return np.zeros((len(rows_BxT), 0))
    if reach is None:
      apart_BxN, size = self._apart_BxN, slot
    else:
      root_S = np.exp(-self._distance_TxT[slot, :slot] / (2 * reach))
      near_S = np.flatnonzero(root_S > 0.03)
      root_S = root_S[near_S].astype(np.float32)
      ours_BxS = rows_BxT[:, near_S] * root_S
      theirs_NxS = self._images_NxT[:, near_S] * root_S
      squares = (ours_BxS**2).sum(1)[:, None] + (theirs_NxS**2).sum(1)
      apart_BxN, size = squares - 2 * (ours_BxS @ theirs_NxS.T), (root_S**2).sum()
    width = _WIDTH * self._regressions[0].variance * max(size, 0.25) ** 0.5
    nearest_Bx1 = apart_BxN.min(1, keepdims=True)
    return np.exp((nearest_Bx1 - apart_BxN) / np.float32(width))

  def _vote(self, weights_BxN: np.ndarray) -> np.ndarray:
    """Probabilities (B, V): the kernel's and half an example of the slot's histogram."""
    prior_V = self._histogram_TxV[self._slot] / self._histogram_TxV[self._slot].sum()
    is_NxV = self._images_NxT[:, self._slot, None] == np.arange(self._vocabulary)
    votes_BxV = (weights_BxN @ is_NxV.astype(np.float32)).astype(np.float64)
    return (votes_BxV + 0.5 * prior_V) / (votes_BxV.sum(1, keepdims=True) + 0.5)

  def _correct(
    self, weights_BxN: np.ndarray, mean_B: np.ndarray, deviation: float
  ) -> tuple[np.ndarray, np.ndarray]:
    """The regression's mean and deviation (B,), with the errors on rows that are near."""
    if not len(self._images_NxT):
      return mean_B, np.full(len(mean_B), deviation)
    errors_N, total_B = self._errors_NxT[:, self._slot], weights_BxN.sum(1) + 1.0
    shift_B = weights_BxN @ errors_N / total_B
    square_B = (weights_BxN @ errors_N**2 + deviation**2) / total_B
    variance_B = np.maximum(square_B - shift_B**2, _LEAST_DEVIATION**2)
    return mean_B + shift_B, np.sqrt(variance_B)

  def see(self, symbols_B: np.ndarray) -> None:
    for one in self._regressions:
      one.see(symbols_B)
    if len(self._images_NxT):
      ours_Bx1 = symbols_B[:, None].astype(np.float32)
      self._apart_BxN += (ours_Bx1 - self._images_NxT[:, self._slot]) ** 2
    self._slot += 1

  def finish(self, rows_BxT: np.ndarray) -> None:
    for one in self._regressions:
      one.finish(rows_BxT)
    slots_T = np.arange(rows_BxT.shape[1])
    np.add.at(self._histogram_TxV, (slots_T, rows_BxT), 1)
    images = np.concatenate([self._images_NxT, rows_BxT.astype(np.float32)])
    self._images_NxT = images[-_MEMORY:]


def contexts(expected: Expected, slot: int, west_B: np.ndarray, north_B: np.ndarray) -> list[tuple]:
  """Contexts of a count that are made of expected levels, rounded."""

  def steps(mean_B: np.ndarray, scale: int) -> np.ndarray:
    return np.round(scale * np.clip(mean_B, -1e6, 1e6)).astype(np.int64)

  plain, _, all_alike, local, vote, local_vote = expected.means
  return [
    (steps(plain, 3),),
    (steps(plain, 1), slot),
    (steps(all_alike, 3),),
    (steps(local, 1), steps(local_vote, 1)),
    (steps(vote, 2), slot),
    (steps(plain, 1), west_B // 3, north_B // 3),
  ]
