"""Distances by compression, and a vote of nearest neighbours that is blind to the truth.

The normalised compression distance (Cilibrasi and Vitanyi, 2005) is
NCD(x, y) = (C(xy) - min(C(x), C(y))) / max(C(x), C(y)), C being the bytes of a compressed file.

Jiang et al. ('Low-resource text classification: a parameter-free classification method with
compressors', 2023) classify by the 2 nearest neighbours in it, and their program counts a tie of
two labels as right if either is: its accuracy is a top-2 accuracy (Ken Schutte found this). Here
neighbours that tie at the k-th distance share the remaining places equally, and classes that tie
for the most votes share the credit: the expected accuracy of breaking the tie by lot. Lengths are
whole bytes, so that on small images ties are the rule and not the exception.

Shape suffixes: Q queries, N rows of the bank, K classes.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from codes.errors import CodeError
from probes import knn, selection

Compress = Callable[[bytes], bytes]


def ncd(compress: Compress, queries: Sequence[bytes], bank: Sequence[bytes]) -> np.ndarray:
  """NCD of each query with each row of the bank, (Q, N) float64; the query stands first."""
  alone_Q = np.array([len(compress(x)) for x in queries], np.float64)[:, None]
  alone_N = np.array([len(compress(y)) for y in bank], np.float64)[None]
  both_QxN = np.array([[len(compress(x + y)) for y in bank] for x in queries], np.float64)
  least_QxN, most_QxN = np.minimum(alone_Q, alone_N), np.maximum(alone_Q, alone_N)
  return (both_QxN - least_QxN) / most_QxN


def by_class(
  compress: Compress,
  queries: Sequence[bytes],
  bank: Sequence[bytes],
  labels_N: np.ndarray,
  classes: int,
) -> np.ndarray:
  """C(X_c y) - C(X_c) in bytes: each query after all rows of a class, (Q, K) float64."""
  costs = []
  for label in range(classes):
    rows = b''.join(bank[i] for i in np.flatnonzero(labels_N == label))
    costs.append([len(compress(rows + y)) - len(compress(rows)) for y in queries])
  return np.array(costs, np.float64).T


def votes(distance_QxN: np.ndarray, labels_N: np.ndarray, classes: int, k: int) -> np.ndarray:
  """Share of the vote of each class among the k nearest, (Q, K) float64; rows sum to 1.

  Neighbours as near as the k-th share the places that are left equally.
  """
  k = min(k, distance_QxN.shape[1])
  kth_Qx1 = np.sort(distance_QxN, axis=1)[:, k - 1 : k]
  nearer, tied = distance_QxN < kth_Qx1, distance_QxN == kth_Qx1
  left_Qx1 = (k - nearer.sum(1, keepdims=True)) / tied.sum(1, keepdims=True)
  return (nearer + tied * left_Qx1) @ np.eye(classes)[labels_N] / k


def cheapest(cost_QxK: np.ndarray) -> np.ndarray:
  """All of the vote to the class of the least cost, shared among those that tie, (Q, K)."""
  least = cost_QxK == cost_QxK.min(1, keepdims=True)
  return least / least.sum(1, keepdims=True)


class Accuracy(NamedTuple):
  """Of a classifier on test rows, and what validation chose for it.

  Attributes:
    accuracy: on test, expected over ties broken by lot.
    stderr: binomial.
    validation: accuracy on validation of the choice, the best among all tried.
    chosen: the settings by name.
    tied: share of the test rows on which several classes had the most votes.
  """

  accuracy: float
  stderr: float
  validation: float
  chosen: dict[str, float]
  tied: float


def score(votes_QxK: np.ndarray, truth_Q: np.ndarray) -> tuple[float, float]:
  """Expected accuracy with ties broken by lot, and the share of rows that are tied."""
  credit_Q = knn.credit(votes_QxK, truth_Q)
  most_Qx1 = votes_QxK.max(1, keepdims=True) * (1 - knn.VOTE_TIE)
  return float(credit_Q.mean()), float(((votes_QxK >= most_Qx1).sum(1) > 1).mean())


class NoneFinite(CodeError):
  """Every candidate gave numbers that are not finite: a step too large, say."""


def choose(
  validation: Sequence[tuple[dict[str, float], np.ndarray]], truth_Q: np.ndarray
) -> tuple[int, float]:
  """Which candidate (its settings, its votes) is best on validation rows, and its accuracy there.

  Ties go to the lower squared error of the votes, then to the first.

  Raises:
    NoneFinite: there is no candidate.
  """
  if not validation:
    raise NoneFinite('no step size gave finite code lengths; smaller ones may')
  accuracy = np.array([score(votes_QxK, truth_Q)[0] for _, votes_QxK in validation])
  error = [
    ((votes_QxK - np.eye(votes_QxK.shape[1])[truth_Q]) ** 2).sum(1).mean()
    for _, votes_QxK in validation
  ]
  (best,) = selection.choose(accuracy, np.array(error))
  return best, float(accuracy[best])


def judge(
  votes_QxK: np.ndarray, truth_Q: np.ndarray, validation: float, chosen: dict[str, float]
) -> Accuracy:
  """The chosen candidate on test rows."""
  accuracy, tied = score(votes_QxK, truth_Q)
  stderr = float(np.sqrt(accuracy * (1 - accuracy) / len(truth_Q)))
  return Accuracy(accuracy, stderr, validation, chosen, tied)


def squared(queries_QxD: np.ndarray, bank_NxD: np.ndarray) -> np.ndarray:
  """Squared Euclidean distances, (Q, N) float64."""
  queries, bank = np.asarray(queries_QxD, np.float64), np.asarray(bank_NxD, np.float64)
  # Row by row and not by the binomial formula, so that equal distances come out equal.
  return np.stack([((bank - query) ** 2).sum(1) for query in queries])
