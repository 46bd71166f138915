"""Usable information: how many bits about the label a family of probes can read."""

import numpy as np


def usable_bits(
  cross_entropy: float, labels_train: np.ndarray, labels: np.ndarray, classes: int
) -> float:
  """I_V(X -> Y) = H_V(Y) - H_V(Y|X) in bits an example (Xu et al., 2020, V-information).

  H_V(Y) is the cross-entropy on `labels` of the best probe of the family that sees no features: the
  frequencies of the training labels.

  Args:
      cross_entropy: of the probe on `labels`, nats an example.
      labels_train: (N,) labels that the probe was fitted on.
      labels: (M,) labels that it is judged on.
      classes: K.

  Raises:
      ValueError: a label that the training labels lack: its code would be infinite.
  """
  frequencies = np.bincount(labels_train, minlength=classes) / len(labels_train)
  share = frequencies[np.asarray(labels)]
  if (share == 0).any():
    missing = np.asarray(labels)[share == 0][0]
    raise ValueError(f'class {missing} has no training example')
  return float(-np.log2(share).mean() - cross_entropy / np.log(2))
