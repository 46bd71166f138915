"""A symbol as a path of binary decisions, and logistic mixing of what experts expect of each.

A tree halves the ordered alphabet again and again; the lowest and the highest value, where levels
are clipped, may come first. Experts give the log-odds of 'right' at every node, a mixer adds them
up with weights that follow the gradient of the code length (Mattern 2012, after Mahoney's PAQ), and
the product of the decisions along a path is the probability of the symbol at its end.

Shape suffixes: B rows, V vocabulary, M = V - 1 nodes, K experts, S sets of weights, P decisions
made (of all rows), D decisions of the longest path.
"""

from collections.abc import Sequence

import numpy as np

# Log-odds beyond this are cut: no decision costs more than 17 bits.
_CUT = 12.0
# Counts of contexts: how strongly either side is expected before the first.
_BEFORE = 0.4
# How much a count rests on, in classes; each has a weight of its own.
_LEVELS = 8
_LEVEL_OF = np.minimum(np.floor(np.log2(np.arange(257) + 1)), _LEVELS - 1).astype(np.int64)
# The weights of a node before anything was learnt: their sum, the most of one; the bias.
_WEIGHT_SUM, _MOST_WEIGHT, _BIAS = 3.0, 0.3, 0.3
# Rows whose steps are added up in full.
_TOGETHER = 32
_ODD, _MULTIPLIER = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD6E8FEB86659FD93)


def squash(odds: np.ndarray) -> np.ndarray:
  """Probabilities of log-odds."""
  return 1 / (1 + np.exp(-odds))


class Tree:
  """Binary decisions that lead to one of V symbols.

  Args:
    vocabulary: V.
    ends: whether the lowest and the highest symbol are decided first.

  Attributes:
    nodes: M.
  """

  def __init__(self, vocabulary: int, ends: bool):
    self.nodes = vocabulary - 1
    spans_Mx3, paths, todo = [], [[] for _ in range(vocabulary)], [(0, vocabulary)]
    while todo:
      low, high = todo.pop()
      if high - low < 2:
        continue
      middle = (low + high) // 2
      if ends and high == vocabulary and low < 2:
        middle = 1 if low == 0 else vocabulary - 1
      for symbol in range(low, high):
        paths[symbol].append((len(spans_Mx3), int(symbol >= middle)))
      spans_Mx3.append((low, middle, high))
      todo += [(middle, high), (low, middle)]
    self._low_M, self._middle_M, self._high_M = np.array(spans_Mx3, np.int64).reshape(-1, 3).T
    depth = max(map(len, paths))
    self._path_VxD = np.full((vocabulary, depth), -1)
    self._bit_VxD = np.zeros((vocabulary, depth), np.int64)
    for symbol, path in enumerate(paths):
      for place, (node, bit) in enumerate(path):
        self._path_VxD[symbol, place], self._bit_VxD[symbol, place] = node, bit
    # Of a row of all left sides, all right sides, and a zero for where a path has ended.
    side_VxD = self._path_VxD + self.nodes * self._bit_VxD
    self._side_VxD = np.where(self._path_VxD < 0, 2 * self.nodes, side_VxD)

  def odds(self, p_BxV: np.ndarray) -> np.ndarray:
    """Log-odds (B, M) of 'right' at every node, of probabilities of symbols."""
    sums_BxV = np.pad(np.cumsum(p_BxV, 1), ((0, 0), (1, 0)))
    right = np.maximum(sums_BxV[:, self._high_M] - sums_BxV[:, self._middle_M], 0)
    left = np.maximum(sums_BxV[:, self._middle_M] - sums_BxV[:, self._low_M], 0)
    return np.clip(np.log(right + 1e-12) - np.log(left + 1e-12), -_CUT, _CUT)

  def probabilities(self, odds_BxM: np.ndarray) -> np.ndarray:
    """Probabilities (B, V) of symbols, of the log-odds at every node."""
    # log of squash, either side, without overflow.
    right_BxM, left_BxM = -np.logaddexp(0, -odds_BxM), -np.logaddexp(0, odds_BxM)
    sides_BxS = np.concatenate([left_BxM, right_BxM, np.zeros((len(odds_BxM), 1))], 1)
    p_BxV = np.exp(sides_BxS[:, self._side_VxD].sum(-1))
    return p_BxV / p_BxV.sum(1, keepdims=True)

  def made(self, symbols_B: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, nodes and outcomes (P,) of the decisions that led to these symbols."""
    path_BxD = self._path_VxD[symbols_B]
    rows_P, places_P = np.nonzero(path_BxD >= 0)
    return rows_P, path_BxD[rows_P, places_P], self._bit_VxD[symbols_B][rows_P, places_P]


class Counts:
  """How often each decision went right in each of some contexts, in hashed tables.

  Args:
    contexts: how many contexts a symbol has.
    nodes: M of the tree.
    decisions: about as many as will be counted, which decides the size of the tables.
    limit: counts beyond it are halved: what was long ago weighs less.
  """

  def __init__(self, contexts: int, nodes: int, decisions: int, limit: int):
    self._bits = min(max(int(2 * decisions).bit_length(), 14), 22)
    self._limit = limit
    self._right = np.zeros((contexts, 1 << self._bits), np.uint16)
    self._all = np.zeros((contexts, 1 << self._bits), np.uint16)
    self._node_M = np.arange(nodes, dtype=np.uint64) * _ODD
    self._context_Cx1x1 = np.arange(contexts)[:, None, None]

  def look(self, contexts_CxB: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Log-odds (C, B, M) and how much they rest on, 0 to 7.

    Args:
      contexts_CxB: uint64, of every row; kept until `learn`.
    """
    hashed = (contexts_CxB[..., None] + self._node_M) * _MULTIPLIER
    self._place_CxBxM = (hashed >> np.uint64(64 - self._bits)).astype(np.int64)
    right = self._right[self._context_Cx1x1, self._place_CxBxM].astype(np.float32)
    total = self._all[self._context_Cx1x1, self._place_CxBxM]
    odds = np.log((right + _BEFORE) / (total - right + _BEFORE))
    return odds.astype(np.float64), _LEVEL_OF[np.minimum(total, len(_LEVEL_OF) - 1)]

  def learn(self, rows_P: np.ndarray, nodes_P: np.ndarray, bits_P: np.ndarray) -> None:
    """Counts decisions made, as `Tree.made` gives them."""
    place_CxP = self._place_CxBxM[:, rows_P, nodes_P]
    context_CxP = np.broadcast_to(self._context_Cx1x1[..., 0], place_CxP.shape)
    np.add.at(self._right, (context_CxP, place_CxP), bits_P.astype(np.uint16))
    np.add.at(self._all, (context_CxP, place_CxP), np.uint16(1))
    full = self._all[context_CxP, place_CxP] > self._limit
    if full.any():
      where = (context_CxP[full], place_CxP[full])
      # The same place may be there several times: it is halved once.
      self._right[where], self._all[where] = self._right[where] >> 1, self._all[where] >> 1


def hashed(*parts: np.ndarray | int) -> np.ndarray:
  """One uint64 of integers (B,), the same for the same integers."""
  found = np.zeros(1, np.uint64)
  for part in parts:
    found = (found ^ (np.asarray(part, np.int64).astype(np.uint64) + np.uint64(1))) * _MULTIPLIER
    found = found ^ (found >> np.uint64(29))
  return found


class Mixer:
  """Adds up log-odds, with weights chosen by several selectors; their results are added up again.

  Args:
    inputs: K, one more is made for a bias.
    sizes: of each selector, how many values it has.
    nodes: M; every node has its own weights of the second step.
    rate: of learning at first.
    least: of learning in the end.
    half: symbols after which the rate is halved.
    first: every weight before anything was learnt; None for one that suits their number.
  """

  def __init__(
    self,
    inputs: int,
    sizes: Sequence[int],
    nodes: int,
    *,
    rate: float,
    least: float,
    half: float,
    first: float | None = None,
  ):
    first = min(_MOST_WEIGHT, _WEIGHT_SUM / inputs) if first is None else first
    inputs += 1
    self._weights = [np.full((size, inputs, _LEVELS), first) for size in sizes]
    self._second_MxS = np.full((nodes, len(sizes)), 1 / len(sizes))
    self._rate, self._least, self._half, self._seen = rate, least, half, 0
    self._input_Kx1x1 = np.arange(inputs)[:, None, None]

  def mix(
    self, odds_KxBxM: np.ndarray, levels_KxBxM: np.ndarray, sets: Sequence[np.ndarray]
  ) -> np.ndarray:
    """Log-odds (B, M).

    Args:
      odds_KxBxM: of the experts; kept until `learn`.
      levels_KxBxM: how much each rests on, 0 to 7, which has weights of its own.
      sets: of each selector its value, broadcast to (B, M).
    """
    bias = np.full((1, *odds_KxBxM.shape[1:]), _BIAS)
    self._odds = np.concatenate([odds_KxBxM, bias])
    self._levels = np.concatenate([levels_KxBxM, np.zeros(bias.shape, np.int64)])
    self._sets = [np.broadcast_to(chosen, bias.shape[1:]) for chosen in sets]
    mixed = []
    for weights, chosen in zip(self._weights, self._sets, strict=True):
      used = weights[chosen[None], self._input_Kx1x1, self._levels]
      mixed.append(np.clip(np.einsum('kbm,kbm->bm', used, self._odds), -_CUT, _CUT))
    self._mixed_BxMxS = np.stack(mixed, -1)
    self._odds_BxM = np.clip((self._mixed_BxMxS * self._second_MxS).sum(-1), -_CUT, _CUT)
    return self._odds_BxM

  def learn(self, rows_P: np.ndarray, nodes_P: np.ndarray, bits_P: np.ndarray) -> None:
    """One step of every weight that had a say, down the gradient of the decisions' nats."""
    rate = max(self._least, self._rate / (1 + self._seen / self._half))
    rows = self._odds.shape[1]
    # Many rows that ask for the same at once would overshoot.
    rate *= min(1.0, _TOGETHER / rows)
    self._seen += rows
    odds_KxP, levels_KxP = self._odds[:, rows_P, nodes_P], self._levels[:, rows_P, nodes_P]
    input_KxP = np.broadcast_to(self._input_Kx1x1[..., 0], odds_KxP.shape)
    for place, (weights, chosen) in enumerate(zip(self._weights, self._sets, strict=True)):
      error_P = bits_P - squash(self._mixed_BxMxS[rows_P, nodes_P, place])
      chosen_KxP = np.broadcast_to(chosen[rows_P, nodes_P], odds_KxP.shape)
      np.add.at(weights, (chosen_KxP, input_KxP, levels_KxP), rate * error_P * odds_KxP)
    error_P = bits_P - squash(self._odds_BxM[rows_P, nodes_P])
    steps_PxS = 0.1 * rate * error_P[:, None] * self._mixed_BxMxS[rows_P, nodes_P]
    np.add.at(self._second_MxS, nodes_P, steps_PxS)
