"""What a data set is: tokens and labels of three splits, and what they mean."""

from collections.abc import Callable, Iterator
import dataclasses
import functools
from typing import Any

import numpy as np

from data import facts
from data.rows import CHUNK, Rows

# Which training examples probes keep where they may not have all.
_FEWER_SEED = 0


@dataclasses.dataclass(frozen=True)
class Examples:
  """A split, in memory or on disk: whoever wants tokens asks for rows of them.

  Attributes:
    tokens_NxT: int32 to who indexes it; `Rows` read from the disk what is asked for, and
      `np.asarray` of them reads all.
    labels_N: int32, always in memory; -1 where there are none.
  """

  tokens_NxT: np.ndarray | Rows
  labels_N: np.ndarray

  def __len__(self) -> int:
    return len(self.tokens_NxT)

  def __getitem__(self, rows: Any) -> dict[str, np.ndarray]:
    """{'tokens': int32 (..., T), 'label': int32 (...)} of a row, or of an array of them."""
    return {'tokens': self.tokens_NxT[rows], 'label': self.labels_N[rows]}

  def take(self, rows: np.ndarray) -> 'Examples':
    """These rows alone; what is on disk stays there."""
    tokens, labels = self.tokens_NxT, np.asarray(self.labels_N)[rows]
    return Examples(tokens.only(rows) if isinstance(tokens, Rows) else tokens[rows], labels)

  def held(self) -> 'Examples':
    """The same in memory."""
    return Examples(np.asarray(self.tokens_NxT), self.labels_N)

  def chunks(self) -> Iterator[np.ndarray]:
    """All tokens in order, a few at a time: int32 (n, T)."""
    size = max(1, CHUNK // max(1, self.tokens_NxT.shape[1]))
    for first in range(0, len(self), size):
      yield self.tokens_NxT[first : first + size]


@dataclasses.dataclass(frozen=True)
class Dataset:
  """Clean tokens of three splits and what they mean.

  Attributes:
    name: as in `config.data.name`.
    vocabulary: V, token values 0..V-1.
    dims: tokens an example that are charged.
    length: tokens an example that a backbone sees; more than `dims` only with an end token.
    shape: how to draw an example as a picture, () for none.
    classes: number of classes, None without labels.
    ordinal: whether token values are levels of a scale.
    note: what the bits are of, for people.
    lossless: whether the original can be recovered from the tokens.
    train: `Examples`, or a function of (seed, index) for a source drawn afresh for ever.
    validation, test: held-out examples.
    latents: labels beside the class where a source has them: split -> name -> (N,).
    truth: the source's probabilities (data.belief.Truth) where they are known.
    values_VxK: each token as numbers where its own value does not serve (a colour, say).
    pixels: rows, columns and channels where every token is one byte of a colour image, channels
      last, which `shape` can't say.
    class_names: of the classes, where they have names.
    kept: what was found when the tokens were made; None: it is found when asked for.
  """

  name: str
  vocabulary: int
  dims: int
  length: int
  shape: tuple[int, ...]
  classes: int | None
  ordinal: bool
  note: str
  lossless: bool
  train: Examples | Callable[[int, int], dict[str, np.ndarray]]
  validation: Examples
  test: Examples
  latents: dict[str, dict[str, np.ndarray]] | None = None
  truth: Any = None
  values_VxK: np.ndarray | None = None
  pixels: tuple[int, int, int] | None = None
  class_names: tuple[str, ...] | None = None
  kept: facts.Facts | None = None

  @property
  def epoch(self) -> int | None:
    """Training examples an epoch, None for an endless source."""
    return len(self.train) if isinstance(self.train, Examples) else None

  @property
  def splits(self) -> dict[str, Examples]:
    """Those that have an end."""
    every = {name: getattr(self, name) for name in ('train', 'validation', 'test')}
    return {name: split for name, split in every.items() if isinstance(split, Examples)}

  @functools.cached_property
  def digest(self) -> str:
    """SHA-256 of all tokens and labels of `splits`, as little-endian int32."""
    return self.kept.digest if self.kept else facts.digest(self.splits, self.vocabulary, self.dims)

  @functools.cached_property
  def counts_TxV(self) -> np.ndarray | None:
    """How often train has each value at each charged position; None for an endless source."""
    if self.epoch is None:
      return None
    return self.kept.counts_TxV if self.kept else self.counts('train')

  def counts(self, split: str) -> np.ndarray:
    """How often a split has each value at each charged position, uint32 (T, V)."""
    return facts.counts(getattr(self, split).chunks(), self.vocabulary, self.dims)

  @functools.cached_property
  def duplicates(self) -> dict[str, int]:
    """Examples that are equal, as `facts.duplicates`."""
    return self.kept.duplicates if self.kept else facts.duplicates(self.splits, self.vocabulary)

  @functools.cached_property
  def balance(self) -> dict[str, list[int]] | None:
    """Examples of every class by split, None without labels."""
    return self.kept.balance if self.kept else facts.balance(self.splits, self.classes)


def with_fewer(dataset: Dataset, rows: int) -> Dataset:
  """The data set with at most `rows` random training examples, always the same ones.

  An endless source, and one with no more than that, stay as they are.
  """
  if not isinstance(dataset.train, Examples) or len(dataset.train) <= rows:
    return dataset
  total = len(dataset.train)
  kept = np.sort(np.random.default_rng(_FEWER_SEED).permutation(total)[:rows])
  latents = dataset.latents
  if latents and 'train' in latents:
    latents = latents | {'train': {k: values[kept] for k, values in latents['train'].items()}}
  return dataclasses.replace(dataset, train=dataset.train.take(kept), latents=latents, kept=None)
