"""Sequential Bayes mixtures of predictors of labels, and the featureless predictor.

A mixture of E experts with prior w predicts p(y) = sum_e w_e p_e(y) and then multiplies every w_e
by what expert e gave to the label that came. Its code length telescopes:

    -log p(y_1..y_n) = -log sum_e w_e p_e(y_1..y_n) <= min_e [-log p_e(y_1..y_n) - log w_e]

so with a uniform prior it costs at most log2 E bits more than the best expert: the choice of the
expert is paid for.
"""

import math

import numpy as np

PSEUDOCOUNT = 0.5  # Krichevsky-Trofimov, and the mass of the uniform in `smooth`.


class Mixture:
  """A mixture that predicts one label at a time."""

  def __init__(self, experts: int):
    self._nats = np.zeros(experts)  # Every expert's code length so far; the prior is uniform.

  def probabilities(self, experts_ExK: np.ndarray) -> np.ndarray:
    """The mixture's probabilities (K,) from the experts' for the next label."""
    weights = np.exp(self._nats.min() - self._nats)
    return weights @ experts_ExK / weights.sum()

  def observe(self, experts_E: np.ndarray) -> None:
    """Takes in the probabilities (E,) that the experts gave to the label that came."""
    self._nats = self._nats - np.log(experts_E)


def code_lengths(nats_ExN: np.ndarray) -> np.ndarray:
  """Bits (N,) a label of the mixture, given every expert's nats a label, as `Mixture` would.

  The difference of successive -log mean_e exp(-code length of e so far).
  """
  total = np.cumsum(nats_ExN, axis=1)
  best = total.min(axis=0)
  mixed = best - np.log(np.exp(best - total).mean(axis=0))
  return np.diff(mixed, prepend=0.0) / math.log(2)


def krichevsky_trofimov(counts: np.ndarray) -> np.ndarray:
  """Probabilities (..., K) of the next label after counts (..., K): (count + 1/2) / (n + K/2)."""
  mass = counts + PSEUDOCOUNT
  return mass / mass.sum(-1, keepdims=True)


def smooth(probabilities: np.ndarray, counts_K: np.ndarray) -> np.ndarray:
  """Probabilities (..., K) of a fit to n labels, with mass for what those n labels lack.

      p = (n p_fit + s u + 1/2 v) / (n + s + 1/2)

  where v is uniform over all classes, u over the classes that have not been seen, and s, the
  number of classes seen exactly once, is Good and Turing's estimate s / n of the share of labels
  of unseen classes (s = 0 once every class has been seen). A fit to n labels gives unseen
  classes next to nothing, so without u the first of their labels would cost log2 (2 n K) bits each
  until the next fit, however many are to come; without v a confident error could cost any number.
  Where every label is the same, s = 0 and the smoothing costs .7 bits whenever n doubles.

  Args:
      probabilities: (..., K) of the fit.
      counts_K: of each class among the labels fitted.
  """
  total, classes = counts_K.sum(), len(counts_K)
  unseen = counts_K == 0
  once = (counts_K == 1).sum() if unseen.any() else 0
  share = PSEUDOCOUNT / classes + (once / unseen.sum() * unseen if once else 0)
  return (total * probabilities + share) / (total + once + PSEUDOCOUNT)
