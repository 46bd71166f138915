"""Pairs of data X, Y whose shared information is of interest, or known."""

import dataclasses
from typing import Any

import numpy as np

from codes.errors import CodeError
from data import markov
from data.dataset import Dataset

# Of what these pairs draw at random.
_SEED = 0


@dataclasses.dataclass(frozen=True)
class Pair:
  """X and Y, example by example.

  Attributes:
    name: as on the command line.
    x_NxT, y_NxT: tokens; as many rows, but for data sets (`joined` False).
    vocabulary: of both.
    note: what they are.
    joined: whether row i of Y belongs to row i of X; else Y is a data set that follows X.
    truth: I(X; Y) in bits over all rows, where it is known.
    realised: sum over these very rows of log2 p(y|x) / p(y), where the source is known.
    ordinal: whether tokens are levels of a scale.
  """

  name: str
  x_NxT: np.ndarray
  y_NxT: np.ndarray
  vocabulary: int
  note: str
  joined: bool = True
  truth: float | None = None
  realised: float | None = None
  ordinal: bool = False


def labels(dataset: Dataset, rows: int) -> Pair:
  x, y = _labelled(dataset, rows)
  note = f'labels given images: {dataset.name}, {len(x)} training images in random order'
  return Pair('labels', x, y, _both(dataset), note, ordinal=dataset.ordinal)


def permuted_labels(dataset: Dataset, rows: int) -> Pair:
  x, y = _labelled(dataset, rows)
  y = np.random.default_rng((_SEED, 1)).permutation(y)
  note = f'the same with the labels of other images: {dataset.name}'
  return Pair('permuted_labels', x, y, _both(dataset), note, truth=0.0, ordinal=dataset.ordinal)


def halves(dataset: Dataset, rows: int) -> Pair:
  x = _tokens(dataset, rows)
  middle = dataset.dims // 2
  note = f'first and second half of each example: {dataset.name}, {len(x)} examples'
  return Pair(
    'halves', x[:, :middle], x[:, middle:], dataset.vocabulary, note, ordinal=dataset.ordinal
  )


def sets(dataset: Dataset, rows: int, other: Dataset | None = None) -> Pair:
  """Two data sets, or the halves of one."""
  x = _tokens(dataset, rows)
  if other is not None:
    y = _tokens(other, rows)
    note = f'two data sets: {len(x)} examples of {dataset.name} and {len(y)} of {other.name}'
    return Pair('sets', x, y, dataset.vocabulary, note, False, ordinal=dataset.ordinal)
  half = len(x) // 2
  note = (
    f'two data sets of one source: {half} and {len(x) - half} examples of {dataset.name}; they '
    'share what made them, so they are not independent'
  )
  return Pair('sets', x[:half], x[half:], dataset.vocabulary, note, False, ordinal=dataset.ordinal)


def image_itself(dataset: Dataset, rows: int) -> Pair:
  x = _tokens(dataset, rows)
  note = f'X with itself: {dataset.name}, {len(x)} examples'
  return Pair('image_itself', x, x, dataset.vocabulary, note, ordinal=dataset.ordinal)


def noise(rows: int, length: int = 8, vocabulary: int = 16) -> Pair:
  x, y = np.random.default_rng((_SEED, 2)).integers(0, vocabulary, (2, rows, length))
  note = f'independent uniform tokens of {vocabulary} values, {length} and {length} a row'
  return Pair('noise', x, y, vocabulary, note, truth=0.0, realised=0.0)


def chain(rows: int, length: int = 4, symbols: int = 8) -> Pair:
  made = markov.draw_chain(_SEED, symbols, length, 0.1)
  tokens = markov.sample(made, _SEED, 0, rows).tokens_NxT
  middle = length // 2
  note = f'halves of {length} tokens of a Markov chain over {symbols} symbols, {rows} rows'
  known = rows * made.mutual_information_bits(middle)
  x, y = tokens[:, :middle], tokens[:, middle:]
  # Given x, y begins by a transition; alone, by what is stationary. The rest is the same.
  given_N = made.transition_VxV[x[:, -1], y[:, 0]]
  realised = float(np.log2(given_N / made.stationary_V[y[:, 0]]).sum())
  return Pair('chain', x, y, symbols, note, truth=known, realised=realised)


def itself(rows: int, length: int = 16, symbols: int = 8) -> Pair:
  """X twice. What X tells of itself is its entropy."""
  made = markov.draw_chain(_SEED, symbols, length, 1.0)
  tokens = markov.sample(made, _SEED, 0, rows).tokens_NxT
  note = f'X with itself: {length} tokens of a Markov chain over {symbols} symbols, {rows} rows'
  p_N = made.stationary_V[tokens[:, 0]]
  for before, after in zip(tokens.T[:-1], tokens.T[1:], strict=True):
    p_N = p_N * made.transition_VxV[before, after]
  known, realised = rows * made.entropy_bits(), float(-np.log2(p_N).sum())
  return Pair('itself', tokens, tokens, symbols, note, truth=known, realised=realised)


LABELLED = ('labels', 'permuted_labels')
OF_DATA = {
  'labels': labels,
  'permuted_labels': permuted_labels,
  'halves': halves,
  'sets': sets,
  'image_itself': image_itself,
}
MADE_UP = {'noise': noise, 'chain': chain, 'itself': itself}
# The network needs more of the chain until learning its reverse costs under 5 % of what is shared.
_MADE_UP_ROWS = {'noise': 40_000, 'chain': 100_000, 'itself': 40_000}


def make(name: str, rows: int, dataset: Dataset | None, other: Dataset | None = None) -> Pair:
  """A pair by its name.

  Args:
    name: in MADE_UP or OF_DATA.
    rows: examples; 0 for all of a data set, 40,000 or 100,000 made up.
    dataset: what a pair in OF_DATA is of.
    other: the second of two data sets; None for the halves of one.

  Raises:
    CodeError: a data set without labels or without an end.
  """
  if name in MADE_UP:
    return MADE_UP[name](rows or _MADE_UP_ROWS[name])
  try:
    more = (other,) if name == 'sets' else ()
    return OF_DATA[name](dataset, rows, *more)
  except CodeError as error:
    raise CodeError(f'{name}: {error}') from error


def _tokens(dataset: Dataset, rows: int) -> np.ndarray:
  """Training examples, in a random order that is always the same."""
  train = _train(dataset)
  return train.tokens_NxT[_order(len(train), rows), : dataset.dims]


def _labelled(dataset: Dataset, rows: int) -> tuple[np.ndarray, np.ndarray]:
  if dataset.classes is None:
    raise CodeError(f"'{dataset.name}' has no labels")
  labels = _train(dataset).labels_N
  return _tokens(dataset, rows), labels[_order(len(labels), rows)][:, None]


def _order(count: int, rows: int) -> np.ndarray:
  order = np.random.default_rng((_SEED, 0)).permutation(count)
  return order[:rows] if rows else order


def _train(dataset: Dataset) -> Any:
  if dataset.epoch is None:
    raise CodeError(f"'{dataset.name}' is drawn afresh for ever; pairs need a training set")
  return dataset.train


def _both(dataset: Dataset) -> int:
  """Labels are the first few of the tokens' values."""
  return max(dataset.vocabulary, dataset.classes)
