"""A directory of PNG and JPEG files, one directory a class.

PATH/CLASS/FILE, split by a seed; or PATH/train/CLASS/FILE and PATH/test/CLASS/FILE, with
PATH/validation/CLASS/FILE or examples of train held out. Classes are numbered in the order of their
names; of one class alone there are no labels. Files whose names begin with a dot do not count.

Settings of `config.data`: `path`, and all others as in data/arrays.py.
"""

from collections.abc import Iterator
import dataclasses
import hashlib
import json
import os
from typing import Any

import numpy as np
from PIL import Image

from data import given, images, kept
from data.dataset import Dataset
from data.rows import CHUNK, stamp

NAME = 'image_folder'
_SUFFIXES = ('.png', '.jpg', '.jpeg')
_CHANNELS = {'1': 1, 'L': 1, 'RGB': 3, 'P': 3}


def _listed(path: str) -> tuple[list[str], list[str]]:
  """Names of the directories and of the files in a directory, sorted."""
  try:
    found = sorted((one for one in os.scandir(path) if one.name[0] != '.'), key=lambda o: o.name)
  except OSError as error:
    raise ValueError(f'data.path {path} can not be read: {error.strerror}') from error
  folders = [one.name for one in found if one.is_dir()]
  return folders, [one.name for one in found if not one.is_dir()]


def _classes(path: str) -> dict[str, list[str]]:
  """Class -> its files, with their paths."""
  folders, files = _listed(path)
  if files or not folders:
    found = f'a file, {files[0]}' if files else 'nothing'
    raise ValueError(f'{path} holds {found}: it should hold one directory of images a class')
  classes = {}
  for name in folders:
    where = os.path.join(path, name)
    inside, files = _listed(where)
    wrong = inside + [file for file in files if not file.lower().endswith(_SUFFIXES)]
    if wrong:
      hint = ', but a directory: splits are train and test, perhaps validation' if inside else ''
      raise ValueError(f'{os.path.join(where, wrong[0])} is no PNG or JPEG file{hint}')
    if not files:
      raise ValueError(f'class {name} is empty: {where} holds no images')
    classes[name] = [os.path.join(where, file) for file in files]
  return classes


def _open(file: str) -> Image.Image:
  """The image, of which only the head was read."""
  try:
    image = Image.open(file, formats=('PNG', 'JPEG'))
  except Exception as error:  # A damaged file can raise anything.
    if isinstance(error, OSError) and error.strerror:  # It is not there, or closed to us.
      raise
    raise ValueError(f'{file} is no PNG or JPEG file, or is damaged') from error
  if 'transparency' in image.info:
    raise ValueError(f'{file} has transparent pixels: save it without transparency')
  if image.mode not in _CHANNELS:
    raise ValueError(f'{file} is of mode {image.mode}: save it as grey or RGB, 8 bits a channel')
  return image


class Folder:
  """A source of images, as data/images.py asks for one.

  Attributes:
    path: its directory.
    shape: (H, W, C); with several sizes, of the first one.
    classes: number of classes, None for a single one.
    class_names: of them.
    splits: number of examples, by name.
    note: what the splits are, for people.
    store: what is kept of it.
  """

  def __init__(self, path: str, size: int, sizes: dict[str, int], seed: int, folder: str):
    """`size` as asked for, `sizes` of validation and test and the seed of their choice.

    Raises:
      ValueError: it holds something else than images, in one line that names the file.
    """
    self.path = path
    folders, _ = _listed(path)
    stored = [split for split in kept.SPLITS if split in folders]
    if not ({'train', 'test'} <= set(stored) == set(folders)):
      stored = ['']
    found = {split: _classes(os.path.join(path, split)) for split in stored}
    names = list(found[stored[0]])
    for split, classes in found.items():
      if strange := sorted(set(classes) - set(names)):
        raise ValueError(f'{path}: {split} has a class {strange[0]} that train has not')
    pairs = {
      split: [(file, names.index(name)) for name, files in classes.items() for file in files]
      for split, classes in found.items()
    }
    self.store = kept.Store(folder, lambda: {**self._stamp(pairs), 'sizes': sizes, 'seed': seed})
    self._files, self.note = self._split(pairs, sizes, seed)
    self.splits = {split: len(files) for split, files in self._files.items()}
    self.class_names = tuple(names) if len(names) > 1 else None
    self.classes = len(names) if len(names) > 1 else None
    if self.classes:
      labels = {s: np.array([label for _, label in some]) for s, some in self._files.items()}
      given.check_labels(labels, path)
    self.shape, self.sizes = self._sizes(pairs, size)

  def _stamp(self, pairs: dict[str, list[tuple[str, int]]]) -> dict[str, Any]:
    found = hashlib.sha256()
    for some in pairs.values():
      for file, _ in some:
        found.update(json.dumps([os.path.relpath(file, self.path), stamp(file)]).encode())
    return {'path': os.path.realpath(self.path), 'files': found.hexdigest()}

  def _split(
    self, pairs: dict[str, list[tuple[str, int]]], sizes: dict[str, int], seed: int
  ) -> tuple[dict[str, list[tuple[str, int]]], str]:
    if 'validation' in pairs:
      return pairs, 'splits as given'
    stored = 'train' if 'train' in pairs else ''
    asked = {name: size for name, size in sizes.items() if name not in pairs}
    rows = given.split_rows(len(pairs[stored]), asked, seed, os.path.join(self.path, stored))
    made = pairs | {name: [pairs[stored][row] for row in some] for name, some in rows.items()}
    held = ', '.join(f'{name}: {len(rows[name])}' for name in asked)
    note = f'{held}{" of train" if stored else ","} at random (seed {seed})'
    return {split: made[split] for split in kept.SPLITS}, note

  def _sizes(
    self, pairs: dict[str, list[tuple[str, int]]], size: int
  ) -> tuple[tuple[int, int, int], int]:
    """Shape of an image, and how many sizes there are; heads of all files are read once."""

    def scan(directory: str) -> None:
      sizes, channels = {}, 1
      for some in pairs.values():
        for file, _ in some:
          with _open(file) as image:
            sizes.setdefault((image.height, image.width), file)
            channels = max(channels, _CHANNELS[image.mode])
      with open(os.path.join(directory, 'sizes.json'), 'w', encoding='utf-8') as file:
        json.dump({'channels': channels, 'sizes': [[*k, v] for k, v in sizes.items()]}, file)

    where = self.store.get('sizes', {}, scan)
    with open(os.path.join(where, 'sizes.json'), 'rb') as file:
      found = json.load(file)
    (height, width, first), *others = found['sizes']
    if others and not size:
      (tall, wide, file), *_ = others
      raise ValueError(
        f'{file} is {tall}x{wide} pixels, {first} {height}x{width}: make them of one size, or give '
        '--config.data.size=S, which is at most the smallest'
      )
    for tall, wide, file in found['sizes']:
      if size > min(tall, wide):
        raise ValueError(f'{file}: {tall}x{wide} pixels can not be averaged to {size}x{size}')
    return (height, width, found['channels']), len(found['sizes'])

  def chunks(self, split: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(images uint8 (n, H, W, C) of one size, labels int32 (n,)), the whole split in order."""
    mode = 'RGB' if self.shape[2] == 3 else 'L'
    some, labels = [], []
    for file, label in self._files[split]:
      with _open(file) as image:
        try:
          pixels = np.asarray(image.convert(mode)).reshape(image.height, image.width, -1)
        except Exception as error:
          raise ValueError(f'{file} can not be read: {error}') from error
      if some and (some[0].shape != pixels.shape or sum(one.size for one in some) > CHUNK):
        yield np.stack(some), np.array(labels, np.int32)
        some, labels = [], []
      some.append(pixels)
      labels.append(label if self.classes else -1)
    yield np.stack(some), np.array(labels, np.int32)


def load(config: Any, data_dir: str) -> Dataset:
  """The data set of `config`; see the module's text.

  Raises:
    ValueError: it holds something else than images of one size, or a bad setting.
  """
  if not config.path:
    raise ValueError('data.path is empty: name a directory, --config.data.path=DIR')
  settings = images.settings_of(config)
  sizes, seed = given.sizes_of(config)
  folder = os.path.join(data_dir, 'bits_and_probes', NAME)
  source = Folder(os.path.expanduser(config.path), settings['size'], sizes, seed, folder)
  to_tokens = images.tokenizer(settings, source, source.store)
  made = images.from_source(NAME, source, to_tokens, source.store)
  if source.sizes == 1:
    return made
  note = f'{made.note}; the images are of {source.sizes} sizes'
  return dataclasses.replace(made, lossless=False, note=note)
