"""What a probe may look at: standardisation, balanced label subsets, folds, and the choice.

Everything here is a function of the training rows in use (and, for `choose`, of validation scores):
nothing takes a test split.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from probes.measures import QUICK_LABELS

# Below this share of its root mean square, a feature's deviation is float32 rounding, or, of
# features that come as float64, the rounding of their mean.
CONSTANT = 1e-7
CONSTANT_64 = 1e-13


def moments(
  features: np.ndarray, weights: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
  """Mean and scale of each feature over the rows in use.

  Args:
      features: (..., N, D), finite. Their type says how precise they are: float64 from a file may
          have an offset a million times its spread, in float32 that is rounding.
      weights: (..., N), zero for rows not in use; default all in use.

  Returns:
      mean and scale, both (..., 1, D) float64. The scale is infinite for a feature that is
      constant over the rows in use: standardising gives zero for it, also on other rows.

  Raises:
      ValueError: NaN or infinity in a feature, or no row in use.
  """
  given = np.asarray(features).dtype
  features = np.asarray(features, np.float64)
  if not np.isfinite(features).all():
    raise ValueError('features hold NaN or infinity')
  weights = np.ones(features.shape[:-1]) if weights is None else np.asarray(weights, np.float64)
  total = weights.sum(-1, keepdims=True)
  if not (total > 0).all():
    raise ValueError('standardisation needs at least one row')
  share = (weights / total)[..., None, :]  # (..., 1, N)
  mean = share @ features
  deviation = np.sqrt(share @ (features - mean) ** 2)
  rounding = CONSTANT_64 if given == np.float64 else CONSTANT
  constant = deviation <= rounding * np.sqrt(share @ features**2)
  return mean, np.where(constant, np.inf, deviation)


def standardise(features: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
  """(features - mean) / scale in float64, zero where the scale is infinite."""
  features = np.asarray(features, np.float64)
  if not np.isfinite(features).all():
    raise ValueError('features hold NaN or infinity')
  return (features - mean) / scale


def largest_balanced(labels: np.ndarray, classes: int) -> int:
  """Rows of the largest subset balanced within one: the rarest class, and one more of the others.

  Raises:
      ValueError: a class has no row, or a label lies outside [0, classes).
  """
  counts = _counts(labels, classes)
  return int(np.minimum(counts, counts.min() + 1).sum())


def quick(labels: np.ndarray, classes: int) -> np.ndarray:
  """Rows of the quick probe: a balanced subset of at most 250, or one a class where these are more.

  Raises:
      ValueError: as `largest_balanced`.
  """
  size = min(max(QUICK_LABELS, classes), largest_balanced(labels, classes))
  return np.sort(balanced_subset(labels, size, classes, 0))


def fitting(
  labels: np.ndarray, sizes: Sequence[int], classes: int
) -> tuple[list[int], dict[str, str]]:
  """Which numbers of labels have a balanced subset, and for each of the others, as text, why not.

  Raises:
      ValueError: as `largest_balanced`.
  """
  most, counts = largest_balanced(labels, classes), _counts(labels, classes)
  reasons = {}
  for size in sizes:
    if size < classes:
      reasons[str(size)] = f'fewer than the {classes} classes'
    elif size > len(labels):
      reasons[str(size)] = f'there are only {len(labels)} training labels'
    elif size > most:
      reasons[str(size)] = (
        f'the largest balanced subset has {most}, for the rarest class has only {counts.min()}'
      )
  return [size for size in sizes if str(size) not in reasons], reasons


def balanced_subset(labels: np.ndarray, size: int, classes: int, seed) -> np.ndarray:
  """Row indices of a class-balanced random subset, nested in all larger ones of the same seed.

  Rows are shuffled inside each class and dealt in rounds, one row of each class a round, the
  classes in a new random order each round; the subset is the first `size` rows dealt.

  Args:
      labels: (N,) integers in [0, classes).
      size: rows wanted.
      classes: number of classes.
      seed: an integer or a sequence of them.

  Returns:
      (size,) unique indices into labels; class counts differ by at most one.

  Raises:
      ValueError: a class is missing, size < classes, or a class has too few rows.
  """
  counts = _counts(labels, classes)
  _check_size(counts, size)
  return _dealt(labels, counts, seed)[:size]


def disjoint_subsets(labels: np.ndarray, size: int, classes: int) -> int:
  """How many balanced subsets of `size` rows, as `disjoint_subset` takes them, share no row."""
  return max(1, int(_counts(labels, classes).min()) // -(-size // classes))


def disjoint_subset(
  labels: np.ndarray, size: int, classes: int, seed: int, number: int
) -> np.ndarray:
  """Row indices of one of many class-balanced random subsets that share no row.

  The rows are dealt as in `balanced_subset`, and subset after subset takes the next whole rounds
  of the deal: as many as it needs, the last one in part. When a class runs out, all rows are dealt
  anew, in another order: subsets of one deal are disjoint, those of two deals are not.

  Args:
      labels, size, classes: as for `balanced_subset`.
      seed: of the deals.
      number: which subset, from 0; the first `disjoint_subsets` of them are of the first deal.

  Returns:
      (size,) unique indices into labels; class counts differ by at most one.

  Raises:
      ValueError: as `balanced_subset`.
  """
  counts = _counts(labels, classes)
  _check_size(counts, size)
  deal, place = divmod(number, disjoint_subsets(labels, size, classes))
  # Rounds are whole, of one row of every class, as long as the rarest class lasts.
  start = place * -(-size // classes) * classes
  return _dealt(labels, counts, (seed, deal))[start : start + size]


def subset_numbers(features: Any, draws: int) -> list[int]:
  """Which of the disjoint subsets the draws of this network's pretraining seed are."""
  return [features.pretraining_seed * draws + draw for draw in range(draws)]


def stratified_folds(labels: np.ndarray, folds: int, seed) -> np.ndarray:
  """Fold of each row, (N,) integers in [0, folds); sizes differ by at most one, also by class.

  Rows are ordered by class, at random inside each, and dealt in turn. A class with at least two
  rows is therefore in the training part (the other folds) of every fold.

  Raises:
      ValueError: fewer than 2 folds, or fewer rows than folds.
  """
  labels = np.asarray(labels)
  if folds < 2 or len(labels) < folds:
    raise ValueError(f'{len(labels)} rows cannot make {folds} folds')
  rng = np.random.default_rng(seed)
  order = rng.permutation(len(labels))
  order = order[np.argsort(labels[order], kind='stable')]
  assigned = np.empty(len(labels), np.int64)
  assigned[order] = (np.arange(len(labels)) + rng.integers(folds)) % folds
  return assigned


def choose(accuracy: np.ndarray, cross_entropy: np.ndarray) -> tuple[int, ...]:
  """Index of the highest accuracy; ties go to the lower cross-entropy, then to the first.

  Args:
      accuracy: validation (or cross-validation) accuracies, any shape.
      cross_entropy: nats, the same shape.

  Raises:
      ValueError: shapes differ, or a score is NaN.
  """
  accuracy, cross_entropy = np.asarray(accuracy), np.asarray(cross_entropy)
  if accuracy.shape != cross_entropy.shape or accuracy.size == 0:
    raise ValueError(f'scores of shapes {accuracy.shape} and {cross_entropy.shape}')
  if np.isnan(accuracy).any() or np.isnan(cross_entropy).any():
    raise ValueError('cannot choose among scores that are NaN')
  # Accuracies are counts over one split: equal up to the rounding of a mean means equal.
  tied = accuracy >= accuracy.max() - 1e-12
  best = np.where(tied, cross_entropy, np.inf).argmin()
  return tuple(int(i) for i in np.unravel_index(best, accuracy.shape))


def check(features: Any, splits: Sequence[str]) -> None:
  """Raises ValueError, one line, unless these splits can be probed.

  Shapes and labels must match, features be finite and labels lie in [0, classes).
  """
  for split in splits:
    array, labels = getattr(features, split), np.asarray(getattr(features, f'labels_{split}'))
    if array.ndim != 3 or 0 in array.shape or labels.shape != array.shape[1:2]:
      raise ValueError(f'{split} features {array.shape} do not match labels {labels.shape}')
    if array.shape[::2] != features.train.shape[::2]:
      raise ValueError(f'{split} features {array.shape} differ in layers or width from train')
    # Those on a mesh are looked at layer by layer, when they are standardised.
    if isinstance(array, np.ndarray) and not np.isfinite(array).all():
      raise ValueError(f'{split} features hold NaN or infinity')
    if labels.min() < 0 or labels.max() >= features.classes:
      raise ValueError(f'{split} labels must lie from 0 to {features.classes - 1}')


def _dealt(labels: np.ndarray, counts: np.ndarray, seed) -> np.ndarray:
  """All rows in rounds: one row of each class a round, while the class lasts."""
  rng, classes = np.random.default_rng(seed), len(counts)
  rows = [rng.permutation(np.flatnonzero(np.asarray(labels) == k)) for k in range(classes)]
  rounds = (rng.permutation(classes) for _ in range(counts.max()))
  return np.array([rows[k][i] for i, order in enumerate(rounds) for k in order if i < counts[k]])


def _check_size(counts: np.ndarray, size: int) -> None:
  classes = len(counts)
  if size < classes:
    raise ValueError(f'a balanced subset of {classes} classes needs {classes} rows, not {size}')
  if size > np.minimum(counts, -(-size // classes)).sum() or counts.min() < size // classes:
    raise ValueError(
      f'no balanced subset of {size} rows: class {counts.argmin()} has only {counts.min()}'
    )


def _counts(labels: np.ndarray, classes: int) -> np.ndarray:
  labels = np.asarray(labels)
  if labels.size and (labels.min() < 0 or labels.max() >= classes):
    raise ValueError(f'labels must lie from 0 to {classes - 1}')
  counts = np.bincount(labels, minlength=classes)
  if counts.min() == 0:
    raise ValueError(f'class {counts.argmin()} has no training example')
  return counts
