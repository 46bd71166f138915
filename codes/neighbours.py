"""Classification by compression: gzip and other codes beside a trained network's own.

Every classifier has the same labelled training rows (balanced by class), the same validation
rows, which choose k and step sizes, and the same test rows, which are read once. The classifiers:

  pixels, kNN: Euclidean distance of the raw tokens (of their values where a token is a colour).
  gzip, kNN: normalised compression distance, see `codes.distances`.
  gzip, by class: the class after whose training rows the test row adds the fewest bytes.
  network, kNN: the distance C(y | x_i) - C(y), C(y | x_i) being the code length of y after one
    plain gradient step on -log p(x_i); exact, see `codes.adapted`. Symmetric: the mean of both
    directions.
  network, by class: the least C(y | X_c) after some steps on the mean of class c.

The network has been trained on the training split without labels before, which the compressors
have not; its bits on test are the record's, not these.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from codes import adapted, compressors, distances
from codes.errors import CodeError
from data.dataset import Dataset, Examples
from probes import selection

NEIGHBOURS = (1, 2, 3, 5, 10, 20)


class Rows(NamedTuple):
  """What every classifier is given.

  Attributes:
    train, validation, test: tokens (N, T) as the network sees them; `labels_*` theirs, (N,).
    classes: K.
    vocabulary, ordinal, values_VxK: see `data.dataset.Dataset`.
  """

  train: np.ndarray
  labels_train: np.ndarray
  validation: np.ndarray
  labels_validation: np.ndarray
  test: np.ndarray
  labels_test: np.ndarray
  classes: int
  vocabulary: int
  ordinal: bool
  values_VxK: np.ndarray | None


def choose_rows(dataset: Dataset, train: int, validation: int, test: int, seed: int) -> Rows:
  """Balanced training rows, and random validation and test rows; all of a split that has fewer.

  Raises:
    CodeError: no labels, an endless training split, or no balanced subset so large.
  """
  if dataset.classes is None:
    raise CodeError(f"'{dataset.name}' has no labels")
  if not isinstance(dataset.train, Examples):
    raise CodeError(f"'{dataset.name}' draws its training examples for ever")
  labels = np.asarray(dataset.train.labels_N)
  try:
    kept = selection.balanced_subset(labels, train, dataset.classes, seed)
  except ValueError as error:
    raise CodeError(str(error)) from error
  arrays = [dataset.train.tokens_NxT[kept], labels[kept]]
  for part, count in ((dataset.validation, validation), (dataset.test, test)):
    some = np.sort(np.random.default_rng(seed).permutation(len(part))[:count])
    arrays += [part.tokens_NxT[some], part.labels_N[some]]
  of = (dataset.classes, dataset.vocabulary, dataset.ordinal, dataset.values_VxK)
  return Rows(*arrays, *of)


def by_neighbours(
  rows: Rows, candidates: Sequence[tuple[dict[str, float], Callable[[np.ndarray], np.ndarray]]]
) -> distances.Accuracy:
  """kNN under the best of some distances (tokens (Q, T) -> (Q, N)) and the best k."""
  tried = []
  for place, (settings, distance) in enumerate(candidates):
    far_QxN = distance(rows.validation)
    if not np.isfinite(far_QxN).all():
      continue  # The network diverged.
    tried += [
      (settings | {'k': k, 'place': place}, _votes(far_QxN, rows, k))
      for k in NEIGHBOURS
      if k <= len(rows.train)
    ]
  best, validation = distances.choose(tried, rows.labels_validation)
  chosen = dict(tried[best][0])
  far_QxN = candidates[chosen.pop('place')][1](rows.test)
  if not np.isfinite(far_QxN).all():
    raise distances.NoneFinite('the best step size gives code lengths that are not finite on test')
  votes = _votes(far_QxN, rows, int(chosen['k']))
  return distances.judge(votes, rows.labels_test, validation, chosen)


def _votes(distance_QxN: np.ndarray, rows: Rows, k: int) -> np.ndarray:
  return distances.votes(distance_QxN, rows.labels_train, rows.classes, k)


def by_class(
  rows: Rows, candidates: Sequence[tuple[dict[str, float], Callable[[np.ndarray], np.ndarray]]]
) -> distances.Accuracy:
  """The cheapest class under the best of some costs (tokens (Q, T) -> (Q, K))."""
  # Validation and test together: to learn the classes is most of the work. The choice is by
  # the labels of validation, among networks that did not diverge on any row.
  both, cut = np.concatenate([rows.validation, rows.test]), len(rows.validation)
  costs = [(settings, cost(both)) for settings, cost in candidates]
  tried = [(s, distances.cheapest(c)) for s, c in costs if np.isfinite(c).all()]
  halves = [(settings, votes[:cut]) for settings, votes in tried]
  best, validation = distances.choose(halves, rows.labels_validation)
  settings, votes = tried[best]
  return distances.judge(votes[cut:], rows.labels_test, validation, settings)


def pixels(rows: Rows) -> distances.Accuracy:
  """kNN on the raw tokens: levels as numbers, colours by their values, else one-hot."""
  table = rows.values_VxK
  if table is None:
    table = np.arange(rows.vocabulary)[:, None] if rows.ordinal else np.eye(rows.vocabulary)

  def flat(tokens: np.ndarray) -> np.ndarray:
    return table[tokens].reshape(len(tokens), -1)

  return by_neighbours(rows, [({}, lambda y: distances.squared(flat(y), flat(rows.train)))])


def classical(rows: Rows, short: str) -> Iterator[tuple[str, distances.Accuracy]]:
  """A compressor's two rows."""
  compress = compressors.COMPRESSORS[short].compress
  dtype = np.uint8 if rows.vocabulary <= 256 else np.dtype('<u2')

  def files(tokens: np.ndarray) -> list[bytes]:
    return [row.astype(dtype).tobytes() for row in tokens]

  bank = files(rows.train)
  yield (
    f'{short}, kNN',
    by_neighbours(rows, [({}, lambda y: distances.ncd(compress, files(y), bank))]),
  )

  def cost(tokens: np.ndarray) -> np.ndarray:
    return distances.by_class(compress, files(tokens), bank, rows.labels_train, rows.classes)

  yield f'{short}, by class', by_class(rows, [({}, cost)])


def neural(
  rows: Rows,
  lengths: adapted.Lengths,
  sizes: Sequence[float],
  class_sizes: Sequence[float],
  class_steps: int,
  symmetric: bool,
) -> Iterator[tuple[str, distances.Accuracy]]:
  """The network's two rows."""

  def distance(size: float) -> Callable[[np.ndarray], np.ndarray]:
    def far(y_QxT: np.ndarray) -> np.ndarray:
      there = lengths.after_each(rows.train, y_QxT, size) - lengths.alone(y_QxT)[:, None]
      if not symmetric:
        return there
      back = lengths.after_each(y_QxT, rows.train, size) - lengths.alone(rows.train)[:, None]
      return (there + back.T) / 2

    return far

  name = 'network, kNN' + (', symmetric' if symmetric else '')
  yield name, by_neighbours(rows, [({'step': size}, distance(size)) for size in sizes])

  def cost(size: float) -> Callable[[np.ndarray], np.ndarray]:
    settings = (rows.labels_train, rows.classes)
    return lambda y: lengths.after_class(rows.train, *settings, y, size, class_steps)

  steps = {'steps': class_steps}
  yield 'network, by class', by_class(rows, [(steps | {'step': s}, cost(s)) for s in class_sizes])
