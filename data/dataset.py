"""What a data set is: tokens and labels of three splits, and what they mean."""

from collections.abc import Callable
import dataclasses
import functools
import hashlib
from typing import Any

import numpy as np

# Which training examples probes keep where they may not have all.
_FEWER_SEED = 0


@dataclasses.dataclass(frozen=True)
class Examples:
  """A whole split in memory: {'tokens': int32 (T,), 'label': int32 ()} by index.

  Labels are -1 where there are none.
  """

  tokens_NxT: np.ndarray
  labels_N: np.ndarray

  def __len__(self) -> int:
    return len(self.tokens_NxT)

  def __getitem__(self, index: int) -> dict[str, np.ndarray]:
    return {'tokens': self.tokens_NxT[index], 'label': self.labels_N[index]}

  def take(self, rows: np.ndarray) -> 'Examples':
    """These rows alone."""
    return Examples(np.asarray(self.tokens_NxT)[rows], np.asarray(self.labels_N)[rows])


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

  @property
  def epoch(self) -> int | None:
    """Training examples an epoch, None for an endless source."""
    return len(self.train) if isinstance(self.train, Examples) else None

  @functools.cached_property
  def digest(self) -> str:
    """SHA-256 of all tokens and labels that are held in memory, as little-endian int32.

    Of an endless source that is validation and test.
    """
    found = hashlib.sha256(f'{self.vocabulary} {self.dims}'.encode())
    for split in (self.train, self.validation, self.test):
      for array in (split.tokens_NxT, split.labels_N) if isinstance(split, Examples) else ():
        found.update(f' {array.shape} '.encode())
        found.update(np.ascontiguousarray(array, '<i4'))
    return found.hexdigest()


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
  return dataclasses.replace(dataset, train=dataset.train.take(kept), latents=latents)
