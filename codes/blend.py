"""Several experts as one: their logistic mixture, and a Bayes mixture of it and of each alone.

Shape suffixes: B rows, V vocabulary, K experts.
"""

from collections.abc import Sequence

import numpy as np

from codes import counting, decisions, experts

_RATES = {'rate': 0.02, 'least': 0.002, 'half': 20_000.0}


class Blend:
  """Mixes log-odds of binary decisions, with weights that it learns (`decisions.Mixer`).

  Args:
    count: K.
    layout: of the rows.
  """

  def __init__(self, count: int, layout: counting.Layout):
    self._tree = decisions.Tree(layout.vocabulary, layout.ordinal)
    self._slots = 1 if layout.continued else layout.length
    sizes = (self._tree.nodes, self._slots, 1)
    # All experts alike at first, as in a geometric mean.
    self._mixer = decisions.Mixer(count, sizes, self._tree.nodes, first=1 / count, **_RATES)

  def mix(self, p_KxBxV: np.ndarray, slot: int) -> np.ndarray:
    """Probabilities (B, V)."""
    odds_KxBxM = np.stack([self._tree.odds(p_BxV) for p_BxV in p_KxBxV])
    nodes, here = np.arange(self._tree.nodes)[None], np.full((1, 1), slot % self._slots)
    sets = (nodes, here, np.zeros((1, 1), np.int64))
    levels = np.zeros(odds_KxBxM.shape, np.int64)
    return self._tree.probabilities(self._mixer.mix(odds_KxBxM, levels, sets))

  def learn(self, symbols_B: np.ndarray) -> None:
    self._mixer.learn(*self._tree.made(symbols_B))


class Mixture(experts.FixedShare):
  """Experts and their blend under a switching prior."""

  def __init__(self, members: Sequence[experts.Expert], together: Blend, share: float):
    super().__init__(members, share, extra=1)
    self._together, self._slot = together, 0

  def start(self, rows: int) -> None:
    super().start(rows)
    self._slot = 0

  def expectations(self) -> np.ndarray:
    p_KxBxV = super().expectations()
    return np.concatenate([p_KxBxV, self._together.mix(p_KxBxV, self._slot)[None]])

  def see(self, symbols_B: np.ndarray) -> None:
    super().see(symbols_B)
    self._together.learn(symbols_B)
    self._slot += 1
