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
import dataclasses

import numpy as np

from codes import adapted, compressors, distances
from codes.errors import CodeError
from data.dataset import Dataset, Examples
from probes import selection

NEIGHBOURS = (1, 2, 3, 5, 10, 20)
_NOT_ON_TEST = 'the best step size gives code lengths that are not finite on test'


def choose_rows(dataset: Dataset, train: int, validation: int, test: int, seed: int) -> Dataset:
  """The data set with balanced training rows, and random validation and test rows.

  Of a split that has fewer, all rows.

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
  parts = {'train': dataset.train.take(kept)}
  for split, count in (('validation', validation), ('test', test)):
    part = getattr(dataset, split)
    order = np.random.default_rng(seed).permutation(len(part))
    parts[split] = part.take(np.sort(order[:count]))
  held = {split: part.held() for split, part in parts.items()}
  return dataclasses.replace(dataset, **held, latents=None, kept=None)


def by_neighbours(
  rows: Dataset, candidates: Sequence[tuple[dict[str, float], Callable[[np.ndarray], np.ndarray]]]
) -> distances.Accuracy:
  """kNN under the best of some distances (tokens (Q, T) -> (Q, N)) and the best k."""
  tried = []
  for place, (settings, distance) in enumerate(candidates):
    far_QxN = distance(rows.validation.tokens_NxT)
    if not np.isfinite(far_QxN).all():
      continue  # The network diverged.
    tried += [
      (settings | {'k': k, 'place': place}, _votes(far_QxN, rows, k))
      for k in NEIGHBOURS
      if k <= len(rows.train)
    ]
  best, validation = distances.choose(tried, rows.validation.labels_N)
  chosen = dict(tried[best][0])
  far_QxN = candidates[chosen.pop('place')][1](rows.test.tokens_NxT)
  if not np.isfinite(far_QxN).all():
    raise distances.NoneFinite(_NOT_ON_TEST)
  votes = _votes(far_QxN, rows, int(chosen['k']))
  return distances.judge(votes, rows.test.labels_N, validation, chosen)


def _votes(distance_QxN: np.ndarray, rows: Dataset, k: int) -> np.ndarray:
  return distances.votes(distance_QxN, rows.train.labels_N, rows.classes, k)


def by_class(
  rows: Dataset, candidates: Sequence[tuple[dict[str, float], Callable[[np.ndarray], np.ndarray]]]
) -> distances.Accuracy:
  """The cheapest class under the best of some costs (tokens (Q, T) -> (Q, K))."""
  # Validation and test together: to learn the classes is most of the work. The choice is by
  # the labels of validation, among networks that did not diverge there.
  both = np.concatenate([rows.validation.tokens_NxT, rows.test.tokens_NxT])
  cut = len(rows.validation)
  costs = [(settings, cost(both)) for settings, cost in candidates]
  tried = [(settings, cost) for settings, cost in costs if np.isfinite(cost[:cut]).all()]
  halves = [(settings, distances.cheapest(cost[:cut])) for settings, cost in tried]
  best, validation = distances.choose(halves, rows.validation.labels_N)
  settings, cost = tried[best]
  if not np.isfinite(cost).all():
    raise distances.NoneFinite(_NOT_ON_TEST)
  votes = distances.cheapest(cost[cut:])
  return distances.judge(votes, rows.test.labels_N, validation, settings)


def pixels(rows: Dataset) -> distances.Accuracy:
  """kNN on the raw tokens: levels as numbers, colours by their values, else one-hot."""
  table = rows.values_VxK
  if table is None:
    table = np.arange(rows.vocabulary)[:, None] if rows.ordinal else np.eye(rows.vocabulary)

  def flat(tokens: np.ndarray) -> np.ndarray:
    return table[tokens].reshape(len(tokens), -1)

  bank = flat(rows.train.tokens_NxT)
  return by_neighbours(rows, [({}, lambda y: distances.squared(flat(y), bank))])


def classical(rows: Dataset, short: str) -> Iterator[tuple[str, distances.Accuracy]]:
  """(name, accuracy) of a compressor: by kNN, and by one code a class.

  distances.NoneFinite: no distance of any candidate is finite.
  """
  compress = compressors.COMPRESSORS[short].compress
  dtype = np.uint8 if rows.vocabulary <= 256 else np.dtype('<u2')

  def files(tokens: np.ndarray) -> list[bytes]:
    return [row.astype(dtype).tobytes() for row in tokens]

  bank = files(rows.train.tokens_NxT)
  yield (
    f'{short}, kNN',
    by_neighbours(rows, [({}, lambda y: distances.ncd(compress, files(y), bank))]),
  )

  def cost(tokens: np.ndarray) -> np.ndarray:
    return distances.by_class(compress, files(tokens), bank, rows.train.labels_N, rows.classes)

  yield f'{short}, by class', by_class(rows, [({}, cost)])


def neural(
  rows: Dataset,
  lengths: adapted.Lengths,
  sizes: Sequence[float],
  class_sizes: Sequence[float],
  class_steps: int,
  symmetric: bool,
) -> Iterator[tuple[str, distances.Accuracy]]:
  """The network's two rows."""
  bank, labels = rows.train.tokens_NxT, rows.train.labels_N

  def distance(size: float) -> Callable[[np.ndarray], np.ndarray]:
    def far(y_QxT: np.ndarray) -> np.ndarray:
      there = lengths.after_each(bank, y_QxT, size) - lengths.alone(y_QxT)[:, None]
      if not symmetric:
        return there
      back = lengths.after_each(y_QxT, bank, size) - lengths.alone(bank)[:, None]
      return (there + back.T) / 2

    return far

  name = 'network, kNN' + (', symmetric' if symmetric else '')
  yield name, by_neighbours(rows, [({'step': size}, distance(size)) for size in sizes])

  def cost(size: float) -> Callable[[np.ndarray], np.ndarray]:
    learnt = (bank, labels, rows.classes)
    return lambda y: lengths.after_class(*learnt, y, size, class_steps)

  steps = {'steps': class_steps}
  yield 'network, by class', by_class(rows, [(steps | {'step': s}, cost(s)) for s in class_sizes])
