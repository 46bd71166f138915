"""Sequential mixtures of predictors of labels, and predictors that see no features.

A mixture of E experts under a switching prior (fixed share: Herbster and Warmuth, 1998) predicts
p(y) = sum_e w_e p_e(y), multiplies every w_e by what expert e gave to the label that came, and then
gives a share of all weight to all experts alike, so that another expert may be the best from there
on. After n labels the share is 1 / (n + 1). What is coded is so a Bayes mixture over all sequences
of experts: with any one expert throughout it costs at most

    min_e [-log2 p_e(y_1..y_N)] + log2 E + log2 N

bits, and a sequence of experts log2 (n + 1) + log2 E bits more for each change after n labels: the
choice is paid for.
"""

import math

import numpy as np

# What records say of codes of this mixture; those without the word are of a plain Bayes mixture.
PRIOR = 'switching'
PSEUDOCOUNT = 0.5  # Krichevsky-Trofimov, and the mass of the uniform in `smooth`.


def share(seen: int) -> float:
  """Of all weight, what all experts get alike once so many labels were seen."""
  return 1 / (seen + 1)


class Mixture:
  """A mixture that predicts one label at a time.

  Args:
    experts: E.
    seen: labels before the first that is predicted, in which all experts are alike.
  """

  def __init__(self, experts: int, seen: int = 0):
    self._weights_E, self._seen = np.full(experts, 1 / experts), seen

  def probabilities(self, experts_ExK: np.ndarray) -> np.ndarray:
    """The mixture's probabilities (K,) from the experts' for the next label."""
    return self._weights_E @ experts_ExK

  def observe(self, experts_E: np.ndarray) -> None:
    """Takes in the probabilities (E,) that the experts gave to the label that came."""
    self._seen += 1
    self._weights_E = _after(self._weights_E, experts_E / experts_E.max(), self._seen)


def _after(weights_xE: np.ndarray, gave_xE: np.ndarray, seen: int) -> np.ndarray:
  """Weights of the next label, from those of the last and what the experts gave to it."""
  posterior_xE = weights_xE * gave_xE
  posterior_xE = posterior_xE / posterior_xE.sum(-1, keepdims=True)
  return (1 - share(seen)) * posterior_xE + share(seen) / weights_xE.shape[-1]


def code_lengths(nats_xExN: np.ndarray) -> np.ndarray:
  """Bits (..., N) a label of the mixture, given every expert's nats a label, as `Mixture` would.

  Mixtures of as many experts are computed side by side, along leading axes.
  """
  least_xN = nats_xExN.min(-2)
  # No sum of weights times these is 0: the best expert's is 1, and no weight is.
  gave_NxxE = np.moveaxis(np.exp(least_xN[..., None, :] - nats_xExN), -1, 0)
  mixed_Nxx = np.zeros(gave_NxxE.shape[:-1])
  weights_xE = np.full(gave_NxxE.shape[1:], 1 / gave_NxxE.shape[-1])
  for i, gave_xE in enumerate(gave_NxxE):
    mixed_Nxx[i] = (weights_xE * gave_xE).sum(-1)
    weights_xE = _after(weights_xE, gave_xE, i + 1)
  return (least_xN - np.log(np.moveaxis(mixed_Nxx, 0, -1))) / math.log(2)


def krichevsky_trofimov(counts: np.ndarray) -> np.ndarray:
  """Probabilities (..., K) of the next label after counts (..., K): (count + 1/2) / (n + K/2)."""
  mass = counts + PSEUDOCOUNT
  return mass / mass.sum(-1, keepdims=True)


def frequencies(counts: np.ndarray) -> np.ndarray:
  """Probabilities (..., K) of the next label by its frequency so far, as `smooth` smooths a fit.

  Where classes never come it costs less than `krichevsky_trofimov`: some bits in all if every
  label is the same, rather than (K - 1)/2 log2 n.
  """
  return smooth(counts / counts.sum(-1, keepdims=True), counts)


def smooth(probabilities: np.ndarray, counts: np.ndarray) -> np.ndarray:
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
      counts: of each class among the labels fitted, (K,) or an array of such rows.
  """
  total, unseen = counts.sum(-1, keepdims=True), counts == 0
  unseens = unseen.sum(-1, keepdims=True)
  once = (counts == 1).sum(-1, keepdims=True) * (unseens > 0)
  lacking = PSEUDOCOUNT / counts.shape[-1] + once / np.maximum(unseens, 1) * unseen
  return (total * probabilities + lacking) / (total + once + PSEUDOCOUNT)
