"""Data sets by name: what `config.data` may ask for, as arrays of tokens and labels."""

from collections.abc import Callable
import contextlib
import dataclasses
import difflib
import functools
import hashlib
import io
import os
import sys
from typing import Any, Protocol

import numpy as np


class Records(Protocol):
  """Random access to training examples: {'tokens': int32 (T,), 'label': int32 ()}."""

  def __len__(self) -> int: ...

  def __getitem__(self, index: int) -> dict[str, np.ndarray]: ...


# Which training examples probes keep where they may not have all.
_FEWER_SEED = 0


@dataclasses.dataclass(frozen=True)
class Examples:
  """A whole split in memory. Labels are -1 where there are none."""

  tokens_NxT: np.ndarray
  labels_N: np.ndarray

  def __len__(self) -> int:
    return len(self.tokens_NxT)

  def __getitem__(self, index: int) -> dict[str, np.ndarray]:
    return {'tokens': self.tokens_NxT[index], 'label': self.labels_N[index]}


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


def _read_split(builder: Any, split: str) -> Examples:
  """Reads a split of {'image', 'label', 'row'} records; rows sorted so that order is fixed."""
  records = sorted(builder.as_data_source(split=split), key=lambda record: int(record['row']))
  images = np.stack([record['image'] for record in records])
  labels = np.array([record['label'] for record in records], np.int32)
  return Examples(images.reshape(len(images), -1).astype(np.int32), labels)


def prepare(builder: Any) -> None:
  """Writes the data set to disk unless it is there; safe against another process doing the same."""
  from etils import epath
  import tensorflow_datasets as tfds

  if epath.Path(builder.data_dir).exists():
    return
  if not sys.stderr.isatty():
    tfds.disable_progress_bar()
  try:
    # TFDS announces the preparation on stdout, which belongs to the results.
    with contextlib.redirect_stdout(sys.stderr if sys.stderr.isatty() else io.StringIO()):
      builder.download_and_prepare()
  except Exception:
    # Two processes may prepare at once; the loser's rename fails and the winner's copy is good.
    if not epath.Path(builder.data_dir).exists():
      # What was written is gone already; leave no empty directory either.
      with contextlib.suppress(OSError):
        os.rmdir(os.path.dirname(builder.data_dir))
      raise


def _digits(config: Any, data_dir: str) -> Dataset:
  del config
  from data import digits

  builder = digits.BitsAndProbesDigits(data_dir=data_dir, file_format='array_record')
  prepare(builder)
  splits = {split: _read_split(builder, split) for split in digits.SPLITS}
  for split, size in digits.SPLITS.items():
    if len(splits[split]) != size:
      raise ValueError(
        f'{builder.data_dir}: split {split} holds {len(splits[split])} examples, not {size}; '
        'delete the directory and it is prepared again'
      )
    digits.check_balance(splits[split].labels_N, split)
  return Dataset(
    name='digits',
    vocabulary=digits.LEVELS,
    dims=64,
    length=64,
    shape=(8, 8),
    classes=digits.CLASSES,
    ordinal=True,
    note='8x8 pixels of 17 grey levels, raster order, lossless',
    lossless=True,
    **splits,
  )


def _noise(config: Any, data_dir: str) -> Dataset:
  """Uniform tokens: nothing to learn, so no likelihood may go below log2 V."""
  del data_dir
  vocabulary, length, held_out = config.vocabulary, config.length, config.held_out
  for field in ('vocabulary', 'length', 'held_out'):
    if config[field] < 1:
      raise ValueError(f'data.{field} must be at least 1, not {config[field]}')

  def draw(seed: int, index: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng((seed, index))
    tokens_T = rng.integers(0, vocabulary, length, dtype=np.int32)
    return {'tokens': tokens_T, 'label': np.int32(-1)}

  def split(seed: int) -> Examples:
    # Negative labels: there are none. The seeds lie outside the range of training seeds.
    tokens = np.stack([draw(seed, i)['tokens'] for i in range(held_out)])
    return Examples(tokens, np.full(held_out, -1, np.int32))

  return Dataset(
    name='noise',
    vocabulary=vocabulary,
    dims=length,
    length=length,
    shape=(),
    classes=None,
    ordinal=True,
    note=f'{length} independent uniform tokens of {vocabulary} values, drawn afresh',
    lossless=True,
    train=draw,
    validation=split(2**40),
    test=split(2**40 + 1),
  )


def _hierarchy(config: Any, data_dir: str) -> Dataset:
  del data_dir
  from data import hierarchy

  return hierarchy.load(config)


def _markov(config: Any, data_dir: str) -> Dataset:
  del data_dir
  from data import markov

  return markov.load(config)


def _copy(config: Any, data_dir: str) -> Dataset:
  del data_dir
  from data import markov

  return markov.load_copy(config)


def _image_set(config: Any, data_dir: str) -> Dataset:
  from data import images

  return images.load(config, data_dir)


def _text_file(config: Any, data_dir: str) -> Dataset:
  del data_dir
  from data import text

  return text.load(config)


DATASETS: dict[str, Callable[[Any, str], Dataset]] = {
  'digits': _digits,
  'noise': _noise,
  'hierarchy': _hierarchy,
  'markov': _markov,
  'copy': _copy,
  'fashion_mnist': _image_set,
  'mnist': _image_set,
  'cifar10': _image_set,
  'text_file': _text_file,
}


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
  return dataclasses.replace(
    dataset,
    train=Examples(dataset.train.tokens_NxT[kept], dataset.train.labels_N[kept]),
    latents=latents,
  )


def load(config: Any, data_dir: str) -> Dataset:
  """The data set that `config` (a ConfigDict with `name`) asks for.

  A name that is not in DATASETS is that of an image set which TFDS has prepared in `data_dir`.

  Raises:
    ValueError: unknown name (lists the known), not prepared, a damaged copy, or a bad setting.
    OSError: `data_dir` can't be read or written.
  """
  data_dir = os.path.expanduser(data_dir)
  if config.name in DATASETS:
    return DATASETS[config.name](config, data_dir)
  from data import prepared

  if prepared.directory(config.name, data_dir) is None:
    near = difflib.get_close_matches(config.name, DATASETS, 1)
    hint = f'; did you mean {near[0]}?' if near else ''
    command = prepared.build_command(config.name or 'NAME', data_dir)
    raise ValueError(
      f"unknown data set '{config.name}'; known: {', '.join(DATASETS)}{hint}; an image set of TFDS "
      f'is prepared first, where TensorFlow is installed: {command}'
    )
  return _image_set(config, data_dir)
