"""Anyone's arrays as a data set: an .npz file, or a directory of .npy files.

Arrays in it, by name:
  images: uint8 (N, H, W) or (N, H, W, 3); or tokens: integers (N, T), of pictures also (N, H, W).
  labels: integers (N,) from 0 on; may be left out.
  train_images, train_labels, validation_images, ...: the same, split by split. Without those of
    validation some examples of train are held out.
  palette: the colours that tokens stand for, floats (V, 3) in [-1, 1]; may be left out.

Settings of `config.data`:
  path: of the file or the directory.
  tokens, size, levels, clusters, palette: what images become, as in data/images.py. Of tokens with
    a palette `size` makes smaller pictures, by area means of the colours.
  ordinal: whether given tokens are levels of a scale.
  validation, test, split_seed: how many examples are held out (0: a tenth), and their choice.
"""

from collections.abc import Iterator
import contextlib
import json
import math
import os
from typing import Any, BinaryIO
import zipfile
import zlib

import numpy as np

from data import given, images, kept, tokenizers
from data.dataset import Dataset
from data.rows import CHUNK, stamp

NAME = 'arrays'
_KINDS = ('images', 'tokens')
# Alphabets beyond this are taken for a mistake: a table of T x V is held.
_LARGEST_ALPHABET = 2**16
_UNREADABLE = (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError)


class _Files:
  """The arrays of an .npz file or of a directory of .npy files, read in pieces."""

  def __init__(self, path: str):
    """Raises ValueError if there is no such file or it is of another kind."""
    self.path = path
    self._zip = None
    try:
      if os.path.isdir(path):
        found = os.listdir(path)
      else:
        self._zip = zipfile.ZipFile(path)
        found = self._zip.namelist()
    except zipfile.BadZipFile as error:
      raise ValueError(f'data.path {path} is no .npz file: {error}') from error
    except OSError as error:
      raise ValueError(f'data.path {path} can not be read: {error.strerror}') from error
    self.names = sorted(name[:-4] for name in found if name.endswith('.npy'))

  def _open(self, name: str) -> BinaryIO:
    member = f'{name}.npy'
    return self._zip.open(member) if self._zip else open(os.path.join(self.path, member), 'rb')

  def _size(self, name: str) -> int:
    """Bytes of a .npy file."""
    member = f'{name}.npy'
    if self._zip:
      return self._zip.getinfo(member).file_size
    return os.path.getsize(os.path.join(self.path, member))

  @contextlib.contextmanager
  def _reading(self, name: str) -> Iterator[tuple[BinaryIO, tuple[int, ...], np.dtype]]:
    """The array's values in a file, after its head; shape and dtype."""
    try:
      with self._open(name) as file:
        version = np.lib.format.read_magic(file)
        one = version == (1, 0)
        head = np.lib.format.read_array_header_1_0 if one else np.lib.format.read_array_header_2_0
        shape, by_columns, kind = head(file)
        if kind.hasobject:
          raise ValueError('it holds Python objects; arrays of numbers are needed')
        if by_columns and len(shape) > 1:
          raise ValueError('it is stored by columns; save np.ascontiguousarray of it')
        extra = self._size(name) - file.tell() - math.prod(shape) * kind.itemsize
        if extra:
          raise ValueError('it is cut short' if extra < 0 else 'it is longer than its head says')
        yield file, shape, kind
    except _UNREADABLE as error:
      raise ValueError(f'{self.path}: {name} can not be used: {error}') from error

  def head(self, name: str) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and dtype."""
    with self._reading(name) as (_, shape, kind):
      return shape, kind

  def chunks(self, name: str) -> Iterator[np.ndarray]:
    """The array's rows in order, some at a time."""
    with self._reading(name) as (file, shape, kind):
      values = math.prod(shape[1:])
      size = max(1, CHUNK // max(1, values))
      for first in range(0, shape[0], size):
        count = min(size, shape[0] - first)
        content = file.read(count * values * kind.itemsize)
        if len(content) < count * values * kind.itemsize:
          raise ValueError('it is cut short')
        yield np.frombuffer(content, kind).reshape(count, *shape[1:])

  def whole(self, name: str) -> np.ndarray:
    """The array."""
    shape, kind = self.head(name)
    return np.concatenate([np.zeros((0, *shape[1:]), kind), *self.chunks(name)])


class Arrays:
  """A source of images, or of tokens, as data/images.py asks for one.

  Attributes:
    path: of the file.
    kind: 'images' or 'tokens'.
    shape: (H, W, C) of images, (T,) or (H, W) of tokens.
    classes: number of classes, None without labels.
    splits: number of examples, by name.
    palette: float32 (V, 3), None without.
    note: what the splits are, for people.
  """

  def __init__(self, path: str, sizes: dict[str, int], seed: int):
    """`sizes` of validation and test, and the seed of their choice, where there are none.

    Raises:
      ValueError: what is in the file is no data set, in one line that says why.
    """
    self._files, self.path = _Files(path), path
    self._stored, self.kind = self._find()
    heads = {split: self._check(split) for split in self._stored}
    first, (_, self.shape) = next(iter(heads.items()))
    for split, (_, shape) in heads.items():
      if shape != self.shape:
        raise ValueError(f'{path}: {split} is of {shape}, but {first} of {self.shape}')
    counts = {split: count for split, (count, _) in heads.items()}
    self._rows, self.note = self._split(counts, sizes, seed)
    self.splits = {split: len(rows) for split, (_, rows) in self._rows.items()}
    self.palette = self._palette()
    self._labels = self._read_labels(counts)
    self._check_names()
    self.classes = None
    if self._labels is not None:
      of_splits = {name: self._labels[stored][rows] for name, (stored, rows) in self._rows.items()}
      self.classes = given.check_labels(of_splits, path)

  def _find(self) -> tuple[list[str], str]:
    """The stored splits, [''] for one that is still to be split, and the kind of arrays."""
    have = set(self._files.names)
    kinds = [k for k in _KINDS if any(n == k or n.endswith(f'_{k}') for n in have)]
    known = 'images or tokens, or train_images, test_images and so on'
    if len(kinds) != 1:
      found = ', '.join(self._files.names) or 'no arrays'
      raise ValueError(
        f'{self.path} has {"both images and tokens" if kinds else found}; known: {known}'
      )
    (kind,) = kinds
    if kind in have:
      if any(f'{split}_{kind}' in have for split in kept.SPLITS):
        raise ValueError(f'{self.path} has both {kind} and {kind} by splits: one is enough')
      return [''], kind
    stored = [split for split in kept.SPLITS if f'{split}_{kind}' in have]
    missing = [f'{split}_{kind}' for split in ('train', 'test') if split not in stored]
    if missing:
      raise ValueError(f'{self.path} has no {" and no ".join(missing)}; known: {known}')
    return stored, kind

  def _name(self, split: str, kind: str) -> str:
    return f'{split}_{kind}' if split else kind

  def _check(self, split: str) -> tuple[int, tuple[int, ...]]:
    """How many examples, and the shape of one."""
    name = self._name(split, self.kind)
    shape, kind = self._files.head(name)
    where = f'{self.path}: {name} is {kind} {shape}'
    if self.kind == 'images':
      grey, colour = len(shape) == 3, len(shape) == 4 and shape[3] in (1, 3)
      if kind != np.uint8 or not (grey or colour):
        raise ValueError(f'{where}; images are uint8 (N, H, W) or (N, H, W, 3)')
      shape = (*shape, 1) if grey else shape
    elif kind.kind not in 'iu' or len(shape) not in (2, 3):
      raise ValueError(f'{where}; tokens are integers (N, T) or (N, H, W)')
    if 0 in shape:
      raise ValueError(f'{where}: it is empty')
    return shape[0], shape[1:]

  def _split(
    self, counts: dict[str, int], sizes: dict[str, int], seed: int
  ) -> tuple[dict[str, tuple[str, np.ndarray]], str]:
    """By split, the stored one that it is part of and which rows of it; and that for people."""
    rows = {split: (split, np.arange(count)) for split, count in counts.items()}
    if 'validation' in counts:
      return rows, 'splits as given'
    stored = 'train' if 'train' in counts else ''
    asked = {name: size for name, size in sizes.items() if name not in counts}
    what = f'{self.path}: {stored}' if stored else self.path
    made = given.split_rows(counts[stored], asked, seed, what)
    rows = {name: (stored, some) for name, some in made.items()} | rows
    rows = {name: made_of for name, made_of in rows.items() if name}
    if stored:
      rows['train'] = stored, made['train']
      note = f'validation: {len(made["validation"])} of train at random (seed {seed})'
    else:
      held = ', '.join(f'{name}: {len(made[name])}' for name in asked)
      note = f'{held}, at random (seed {seed})'
    return {split: rows[split] for split in kept.SPLITS}, note

  def _read_labels(self, counts: dict[str, int]) -> dict[str, np.ndarray] | None:
    names = {split: self._name(split, 'labels') for split in counts}
    missing = [name for name in names.values() if name not in self._files.names]
    if len(missing) == len(names):
      return None
    if missing:
      raise ValueError(f'{self.path} has labels, but no {missing[0]}')
    labels = {}
    for split, name in names.items():
      shape, kind = self._files.head(name)
      if kind.kind not in 'iu' or shape != (counts[split],):
        raise ValueError(
          f'{self.path}: {name} is {kind} {shape}; labels are integers ({counts[split]},)'
        )
      labels[split] = self._files.whole(name).astype(np.int64)
    return labels

  def _check_names(self) -> None:
    """Nothing is left out in silence: labels under another name would be no labels."""
    known = {self._name(split, kind) for split in self._stored for kind in (self.kind, 'labels')}
    known |= {'palette'} if self.kind == 'tokens' else set()
    if unknown := sorted(set(self._files.names) - known):
      raise ValueError(
        f'{self.path} has {", ".join(unknown)}, which is not read beside {self.kind}; known: '
        f'{", ".join(sorted(known))}'
      )

  def _palette(self) -> np.ndarray | None:
    if 'palette' not in self._files.names:
      return None
    if self.kind == 'images':
      raise ValueError(
        f'{self.path}: a palette stands beside tokens; of images: --config.data.palette=FILE.npy'
      )
    centres_Vx3 = self._files.whole('palette')
    try:
      tokenizers.check_centres(centres_Vx3)
    except ValueError as error:
      raise ValueError(f'{self.path}: {error}') from error
    return centres_Vx3.astype(np.float32)

  def chunks(self, split: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Images or tokens, and int32 labels, -1 without any; the whole split in order."""
    stored, rows = self._rows[split]
    first = 0
    for some in self._files.chunks(self._name(stored, self.kind)):
      own = rows[np.searchsorted(rows, first) : np.searchsorted(rows, first + len(some))]
      labels = np.full(len(own), -1) if self._labels is None else self._labels[stored][own]
      if len(own):
        yield some[own - first].reshape(len(own), *self.shape), labels.astype(np.int32)
      first += len(some)

  def alphabet(self) -> int:
    """V of given tokens: the palette's, or one more than the highest; reads all of them.

    Raises:
      ValueError: a token below 0, or above what there are colours for.
    """
    largest = _LARGEST_ALPHABET if self.palette is None else len(self.palette)
    highest = 0
    for stored in self._stored:
      name = self._name(stored, self.kind)
      for some in self._files.chunks(name):
        low, high = int(some.min()), int(some.max())
        if low < 0 or high >= largest:
          wrong, of = low if low < 0 else high, 'colours' if self.palette is not None else 'values'
          raise ValueError(
            f'{self.path}: {name} has a token {wrong}, outside the {largest} {of} 0..{largest - 1}'
          )
        highest = max(highest, high)
    if not highest:
      raise ValueError(f'{self.path}: every token is 0, nothing is left to predict')
    return highest + 1 if self.palette is None else largest


def load(config: Any, data_dir: str) -> Dataset:
  """The data set of `config`; see the module's text.

  Raises:
    ValueError: no such file, what is in it is no data set, or a bad setting.
  """
  if not config.path:
    raise ValueError('data.path is empty: name a file, --config.data.path=FILE.npz')
  path = os.path.expanduser(config.path)
  sizes, seed = given.sizes_of(config)
  folder = os.path.join(data_dir, 'bits_and_probes', NAME)
  try:
    # Before it is opened: what another file put in its place is not kept as of this one.
    store = kept.Store(folder, lambda: {**_of(path), 'sizes': sizes, 'seed': seed})
  except OSError as error:
    raise ValueError(f'data.path {path} can not be read: {error.strerror}') from error
  source = Arrays(path, sizes, seed)
  settings = images.settings_of(config)
  if source.kind == 'images':
    to_tokens = images.tokenizer(settings, source, store)
  else:
    to_tokens = _of_tokens(settings, bool(config.get('ordinal', False)), source, store)
  return images.from_source(NAME, source, to_tokens, store)


def _of(path: str) -> dict[str, Any]:
  """What tells the file, or the files of the directory."""
  where = os.path.realpath(path)
  if not os.path.isdir(path):
    return {'path': where, **stamp(path)}
  files = sorted(name for name in os.listdir(path) if name.endswith('.npy'))
  return {'path': where, 'files': {name: stamp(os.path.join(path, name)) for name in files}}


def _of_tokens(
  settings: dict[str, Any], ordinal: bool, source: Arrays, store: kept.Store
) -> given.Given | given.Recoloured:
  if settings['tokens'] or settings['palette']:
    field = 'tokens' if settings['tokens'] else 'palette'
    raise ValueError(f'data.{field} is for images; {source.path} has tokens')

  def find(directory: str) -> None:
    with open(os.path.join(directory, 'alphabet.json'), 'w', encoding='utf-8') as file:
      json.dump(source.alphabet(), file)

  shape, size = source.shape, settings['size']
  side = math.isqrt(math.prod(shape))
  pictures = shape if len(shape) == 2 else (side, side)
  if size and (size, size) != pictures:
    if source.palette is None:
      raise ValueError(f'data.size is for images and for tokens with a palette: {source.path}')
    if math.prod(pictures) != math.prod(shape):
      raise ValueError(f'{source.path}: {shape[0]} tokens are no square picture to average')
  with open(os.path.join(store.get('alphabet', {}, find), 'alphabet.json'), 'rb') as file:
    vocabulary = json.load(file)
  if size and (size, size) != pictures:
    return given.Recoloured(pictures, (size, size), source.palette)
  return given.Given(vocabulary, shape, ordinal, source.palette)
