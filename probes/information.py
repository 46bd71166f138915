"""Usable information: how many bits about the label a family of probes can read.

I_V(X -> Y) = H_V(Y) - H_V(Y|X), the cross-entropy of the family's best member that sees no features
less that of its best member (Xu et al., 2020, V-information). Families here:

*   The best member without features gives the frequencies p of the training labels. It belongs to
    the family like any other, as the definition asks ("optional ignorance"): the lower
    cross-entropy on validation chooses, so that usable information is never below zero there.
*   A fit q to n labels predicts (n q + p / 2) / (n + 1/2): half a label's weight is the
    frequencies', as in the label code (`mixture.smooth`). That costs at most log2(1 + 1/2n) bits an
    example, and keeps one far outlier of the test split from costing more than log2((2n + 1) / p).
"""

import numpy as np

PSEUDOCOUNT = 0.5


class Family:
  """A family of probes fitted to n labels, with its featureless member."""

  def __init__(self, labels_train: np.ndarray, classes: int):
    """Takes the (N,) labels that the probes are fitted on, integers in [0, classes)."""
    self._rows = len(labels_train)
    self._prior = np.bincount(labels_train, minlength=classes) / self._rows

  def blind(self, labels_N: np.ndarray) -> np.ndarray:
    """Nats (N,) that the featureless member pays for each label.

    Raises:
        ValueError: a label that the training labels lack: its code would be infinite.
    """
    share = self._prior[np.asarray(labels_N)]
    if (share == 0).any():
      raise ValueError(f'class {np.asarray(labels_N)[share == 0][0]} has no training example')
    return -np.log(share)

  def nats(self, cross_entropy: np.ndarray, labels_N: np.ndarray) -> np.ndarray:
    """Nats (..., N) that fits of these cross-entropies (..., N) pay as members of the family.

    Raises:
        ValueError: as `blind`.
    """
    least = PSEUDOCOUNT * np.exp(-self.blind(labels_N))
    return np.log(self._rows + PSEUDOCOUNT) - np.log(self._rows * np.exp(-cross_entropy) + least)


def usable(nats_N: np.ndarray, blind_N: np.ndarray) -> tuple[float, float | None, np.ndarray]:
  """Usable information, its standard error over examples, and its terms (N,), all in bits.

  Args:
      nats_N: what the chosen member pays for each label.
      blind_N: what the featureless member pays.
  """
  terms = (blind_N - nats_N) / np.log(2)
  return float(terms.mean()), mean_error(terms), terms


def mean_error(values_N: np.ndarray) -> float | None:
  """Standard error of a mean over independent examples; None for one, which shows none."""
  if len(values_N) < 2:
    return None
  return float(np.std(values_N, ddof=1) / np.sqrt(len(values_N)))


def share(part_N: np.ndarray, whole_N: np.ndarray) -> tuple[float, float | None]:
  """mean(part) / mean(whole) of the same N examples, and its standard error by the delta method.

  To first order the ratio r moves with an example's part - r whole, over the mean of the whole.
  """
  whole = float(np.mean(whole_N))
  ratio = float(np.mean(part_N)) / whole
  error = mean_error(np.asarray(part_N) - ratio * np.asarray(whole_N))
  return ratio, None if error is None else error / abs(whole)
