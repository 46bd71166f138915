"""Tokens that somebody else made, and how examples are split where nobody did.

`Given` and `Recoloured` are called with tokens where those of data/tokenizers.py are with images.
"""

import dataclasses
from typing import Any

import numpy as np

from data import tokenizers

# Means of colours whose distances to all centres are held at once.
_COLOURS = 256


@dataclasses.dataclass(frozen=True, eq=False)
class Given:
  """Tokens (N, T) or (N, H, W) as they are; the attributes are those of a tokeniser.

  Attributes:
    vocabulary: V.
    size: (T,) or (H, W).
    ordinal: whether token values are levels of a scale.
    values_VxK: colours of the tokens in [-1, 1], None if they have none.
  """

  vocabulary: int
  size: tuple[int, ...]
  ordinal: bool = False
  values_VxK: np.ndarray | None = None

  lossless = True

  def __post_init__(self):
    """Raises ValueError for colours that can't be."""
    if self.values_VxK is not None:
      tokenizers.check_centres(self.values_VxK)

  @property
  def dims(self) -> int:
    return int(np.prod(self.size))

  @property
  def shape(self) -> tuple[int, ...]:
    return self.size if self.ordinal and len(self.size) == 2 else ()

  @property
  def note(self) -> str:
    size, what = 'x'.join(map(str, self.size)), f'tokens of {self.vocabulary} values'
    if self.values_VxK is not None:
      what = f'pixels of {tokenizers.palette_name(self.values_VxK)}'
    return f'{size} {what}, as given, lossless'

  def __call__(self, tokens: np.ndarray) -> np.ndarray:
    return tokens.reshape(len(tokens), -1)

  def distances(self, given: np.ndarray, tokens: np.ndarray) -> None:
    """Nothing was changed."""


class Recoloured(tokenizers.Palette):
  """Pictures of a palette made smaller: the area mean of their colours, then the nearest colour.

  Means are of the palette's own numbers, in float64; nearest is as in `Palette`.
  """

  def _means(self, tokens: np.ndarray) -> np.ndarray:
    """Mean colours in [-1, 1], float64 (n, 3), raster order."""
    colours = self.centres_Vx3.astype(np.float64)[tokens.reshape(-1, *self.source)]
    sums, parts = tokenizers.area_sums(colours, *self.size)
    return (sums / parts).reshape(-1, 3)

  def __call__(self, tokens: np.ndarray) -> np.ndarray:
    means = self._means(tokens)
    parts = [
      tokenizers.nearest(means[first : first + _COLOURS], self.centres_Vx3)
      for first in range(0, len(means), _COLOURS)
    ]
    return np.concatenate(parts).astype(np.uint16).reshape(len(tokens), -1)

  def distances(self, given: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """From each pixel's mean to its token's colour, (N * T,), in levels of 256."""
    difference = self._means(given) - self.centres_Vx3[tokens.ravel()]
    return 127.5 * np.sqrt(np.square(difference).sum(axis=1))


def sizes_of(config: Any) -> tuple[dict[str, int], int]:
  """How many examples `config` wants in validation and in test, and the seed of their choice.

  Raises:
    ValueError: a negative one.
  """
  sizes, seed = {n: config.get(n, 0) for n in ('validation', 'test')}, config.get('split_seed', 0)
  for name, value in {**sizes, 'split_seed': seed}.items():
    if value < 0:
      raise ValueError(f'data.{name} must not be negative, not {value}')
  return sizes, seed


def split_rows(count: int, sizes: dict[str, int], seed: int, what: str) -> dict[str, np.ndarray]:
  """Which of `count` rows go where: a random choice by `seed`, rows in order.

  Args:
    count: of rows.
    sizes: of the splits beside train; 0 is a tenth of the rows.
    seed: of the choice.
    what: the rows are of, for the message.

  Raises:
    ValueError: too few rows.
  """
  sizes = {name: size or max(1, round(count / 10)) for name, size in sizes.items()}
  if sum(sizes.values()) >= count:
    wanted = ' and '.join(f'{size} of {name}' for name, size in sizes.items())
    raise ValueError(f'{what} has {count} examples: too few for {wanted} beside train')
  order, found = np.random.default_rng(seed).permutation(count), {}
  for name, size in sizes.items():
    order, found[name] = order[:-size], np.sort(order[-size:])
  return {'train': np.sort(order), **found}


def check_labels(labels: dict[str, np.ndarray], what: str) -> int:
  """The number of classes: labels are 0, 1, ... in all splits, and train has every one.

  Raises:
    ValueError: they are not.
  """
  every = np.concatenate(list(labels.values()))
  if every.min() < 0:
    raise ValueError(f'{what} has a label {every.min()}: labels are 0, 1, 2, ...')
  classes = int(every.max()) + 1
  present = np.unique(labels['train'])
  if len(present) < classes:
    absent = int(np.argmin(np.isin(np.arange(len(present) + 1), present)))
    raise ValueError(f'{what}: labels go up to {classes - 1}, but no example of train has {absent}')
  return classes
