"""Experts: what to expect of the next symbol of a batch of rows, learnt from what is known by then.

An expert goes through rows of T symbols in batches, slot by slot: it says what it expects of every
row's next symbol, then sees the symbols. It may learn at once or once the batch is whole; whoever
does the same again expects the same, to the last bit on the same machine.

Shape suffixes: B rows of a batch, T slots, V vocabulary, K experts.
"""

from collections.abc import Sequence

import numpy as np


class Expert:
  """See above. Rows follow each other in their order; a batch has as many as `start` is told."""

  def start(self, rows: int) -> None:
    """A batch of so many rows follows."""
    raise NotImplementedError

  def expect(self) -> np.ndarray:
    """Probabilities (B, V) float64 of the next symbol, none of them zero."""
    raise NotImplementedError

  def see(self, symbols_B: np.ndarray) -> None:
    """The symbols of the slot that was just expected."""
    raise NotImplementedError

  def finish(self) -> None:
    """The batch is whole, and others may follow."""


class Uniform(Expert):
  """Knows nothing."""

  def __init__(self, vocabulary: int):
    self._vocabulary, self._rows = vocabulary, 0

  def start(self, rows: int) -> None:
    self._rows = rows

  def expect(self) -> np.ndarray:
    return np.full((self._rows, self._vocabulary), 1 / self._vocabulary)

  def see(self, symbols_B: np.ndarray) -> None:
    pass


class Histogram(Expert):
  """One histogram a slot, of all rows of earlier batches, half a count of each value before any.

  Krichevsky and Trofimov, 1981.
  """

  def __init__(self, length: int, vocabulary: int):
    self._counts_TxV = np.full((length, vocabulary), 0.5)
    self._slot = self._rows = 0

  def start(self, rows: int) -> None:
    self._slot, self._rows = 0, rows
    # What the rows of a batch teach is for the next one.
    self._p_TxV = self._counts_TxV / self._counts_TxV.sum(1, keepdims=True)

  def expect(self) -> np.ndarray:
    return np.repeat(self._p_TxV[self._slot][None], self._rows, 0)

  def see(self, symbols_B: np.ndarray) -> None:
    np.add.at(self._counts_TxV[self._slot], symbols_B, 1)
    self._slot += 1


class FixedShare(Expert):
  """A Bayes mixture of experts among which the best one changes.

  Every row has posterior weights of its own, which start from those where the rows of the batch
  before ended, on average. After every symbol a share of all weight is given to all experts alike
  (Herbster and Warmuth, 1998): a row costs at most what the best sequence of experts costs, plus
  the price of its changes.

  Args:
    experts: that are mixed.
    share: of the weight that all get alike after a symbol.
    extra: expectations that `expectations` of a subclass adds.

  Attributes:
    spent_K: nats of every expert alone, so far.
  """

  def __init__(self, experts: Sequence[Expert], share: float, extra: int = 0):
    self._experts, self._share = experts, share
    count = len(experts) + extra
    self._start_K = np.full(count, 1 / count)
    self.spent_K = np.zeros(count)

  def start(self, rows: int) -> None:
    for expert in self._experts:
      expert.start(rows)
    self._weights_KxB = np.repeat(self._start_K[:, None], rows, 1)

  def expect(self) -> np.ndarray:
    self._p_KxBxV = self.expectations()
    return (self._weights_KxB[..., None] * self._p_KxBxV).sum(0)

  def expectations(self) -> np.ndarray:
    """Of every expert, (K, B, V)."""
    return np.stack([expert.expect() for expert in self._experts])

  def see(self, symbols_B: np.ndarray) -> None:
    p_KxB = self._p_KxBxV[:, np.arange(len(symbols_B)), symbols_B]
    self.spent_K -= np.log(p_KxB).sum(1)
    weights_KxB = self._weights_KxB * p_KxB
    weights_KxB = weights_KxB / weights_KxB.sum(0)
    self._weights_KxB = (1 - self._share) * weights_KxB + self._share / len(self.spent_K)
    for expert in self._experts:
      expert.see(symbols_B)

  def finish(self) -> None:
    self._start_K = self._weights_KxB.mean(1)
    for expert in self._experts:
      expert.finish()


def chunks(examples: int, most: int, part: int = 32) -> list[tuple[int, int]]:
  """(start, stop) of batches that grow: a `part`-th of what was before, 1 to `most` rows."""
  found, start = [], 0
  while start < examples:
    stop = min(start + min(max(1, start // part), most), examples)
    found.append((start, stop))
    start = stop
  return found
