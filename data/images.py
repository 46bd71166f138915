"""Image sets that TFDS has prepared, as tokens; a few of them we can prepare ourselves.

Settings of `config.data`:
  name: of the TFDS set, with '/CONFIG' and ':VERSION' where it has several.
  tokens: 'grey', 'palette' or 'bytes' (data/tokenizers.py); '' is bytes.
  size: pixels a side, by area means; 0 leaves the image as it is.
  levels: of grey.
  clusters, palette: the number of colours, and a .npy file that has them; '' fits them to train.
  validation: examples of train held out, where a set has no split for each purpose.

Tokens are kept in DATA_DIR/bits_and_probes, so that only the first run decodes images.
"""

from collections.abc import Callable
import contextlib
import hashlib
import json
import os
from typing import Any
import zipfile

import numpy as np

from data import palette, prepared, tokenizers
from data.dataset import Dataset, Examples

_SPLIT_SEED = 20251
# Part of what the kept tokens are named by: raise it when tokens would come out different.
_FORMAT = 1
_DEFAULTS = {
  'tokens': '', 'size': 0, 'levels': 256, 'clusters': palette.CLUSTERS, 'palette': '',
  'validation': 5000,
}  # fmt: skip


def builder(name: str, data_dir: str, download: bool = False) -> Any:
  """Our builder of a set, None if we have none."""
  from data import cifar, mnist

  known = (mnist.Mnist, mnist.FashionMnist, cifar.Cifar10)
  kind = next((one for one in known if one.name == name), None)
  arguments = {'data_dir': data_dir, 'file_format': 'array_record', 'download': download}
  return kind and kind(**arguments)


def find(name: str, data_dir: str) -> str:
  """The directory of a set, prepared by us if need be and if its files are there.

  Raises:
    ValueError: it is not prepared; the message has the command that does it.
  """
  found = prepared.directory(name, data_dir)
  if found is not None:
    return found
  ours = builder(name, data_dir)
  if ours is None:
    command = prepared.build_command(name, data_dir)
    raise ValueError(f"data set '{name}' is not prepared; where TensorFlow is installed: {command}")
  try:
    prepared.prepare(ours)
  except ValueError as error:
    command = f'python -m launch.prepare --name={name} --data_dir={data_dir} --download'
    raise ValueError(f'{name} can not be prepared: {error}; or download it: {command}') from error
  return str(ours.data_dir)


def settings_of(config: Any) -> dict[str, Any]:
  """The settings of the module's text, with the defaults of those that `config` leaves out."""
  return {name: config.get(name, default) for name, default in _DEFAULTS.items()}


def load(config: Any, data_dir: str) -> Dataset:
  """The data set of `config`; see the module's text.

  Raises:
    ValueError: not prepared, damaged, or a bad setting.
  """
  settings = settings_of(config)
  images = prepared.ImageSet(find(config.name, data_dir))
  store = Store(os.path.join(data_dir, 'bits_and_probes', *config.name.split('/')), images.path)
  tokenizer = _tokenizer(settings, images, store)
  parts, note = _parts(images, settings['validation'])
  key = {'tokens': tokenizer.note, 'parts': parts}
  arrays = store.get('tokens', key, lambda: _tokenize(images, tokenizer, parts))
  splits = {
    split: Examples(arrays[f'{split}/tokens'].astype(np.int32), arrays[f'{split}/labels'])
    for split in ('train', 'validation', 'test')
  }
  raw = isinstance(tokenizer, tokenizers.Bytes)
  return Dataset(
    name=config.name,
    vocabulary=tokenizer.vocabulary,
    dims=tokenizer.dims,
    length=tokenizer.dims,
    shape=tokenizer.shape,
    classes=images.classes,
    ordinal=tokenizer.ordinal,
    note=f'{tokenizer.note}; {note}',
    lossless=tokenizer.lossless,
    values_VxK=tokenizer.values_VxK,
    pixels=(*tokenizer.size, 3) if raw and tokenizer.channels == 3 else None,
    **splits,
  )


def _tokenizer(
  settings: dict[str, Any], images: prepared.ImageSet, store: 'Store'
) -> tokenizers.Tokenizer:
  *source, channels = images.shape
  source, kind = tuple(source), settings['tokens'] or 'bytes'
  size = (settings['size'],) * 2 if settings['size'] else source
  if kind == 'bytes':
    return tokenizers.Bytes(source, size, channels)
  if kind == 'grey':
    if channels != 1:
      raise ValueError(f"{images.path} holds colour images; data.tokens is 'palette' or 'bytes'")
    return tokenizers.GreyLevels(source, size, settings['levels'])
  if kind != 'palette':
    raise ValueError(f"data.tokens is 'grey', 'palette' or 'bytes', not '{kind}'")
  if channels != 3:
    raise ValueError(f"{images.path} holds grey images; data.tokens is 'grey' or 'bytes'")
  if settings['palette']:
    return tokenizers.Palette(source, size, palette.read(settings['palette']))

  def fit() -> dict[str, np.ndarray]:
    pixels = images.splits['train'] * source[0] * source[1]
    sample = palette.sample((some for some, _ in images.chunks('train')), pixels)
    return {'centres': palette.fit(sample, settings['clusters'])}

  centres_Vx3 = store.get('palette', {'clusters': settings['clusters']}, fit)['centres']
  return tokenizers.Palette(source, size, centres_Vx3)


def _parts(images: prepared.ImageSet, held_out: int) -> tuple[dict[str, Any], str]:
  """Which stored split serves as what, how many of train are held out, and that for people."""
  have = set(images.splits)
  if 'train' not in have or not have & {'test', 'validation'}:
    raise ValueError(f'{images.path} has the splits {sorted(have)}: train and test are needed')
  if have >= {'validation', 'test'}:
    return {'test': 'test', 'validation': 'validation', 'held_out': 0}, "the set's own splits"
  size = images.splits['train']
  if not 1 <= held_out < size:
    raise ValueError(f'data.validation must lie in 1..{size - 1}, not {held_out}')
  test = 'test' if 'test' in have else 'validation'
  note = f'validation: {held_out} of train at random, test: {test}'
  return {'test': test, 'validation': None, 'held_out': held_out}, note


def _tokenize(
  images: prepared.ImageSet, tokenizer: tokenizers.Tokenizer, parts: dict[str, Any]
) -> dict[str, np.ndarray]:
  train = _read(images, 'train', tokenizer)
  if parts['held_out']:
    # The last of a fixed permutation. Rows stand in the order of their hashes, so the choice does
    # not depend on the order in which somebody's preparation stored them.
    order = np.random.default_rng(_SPLIT_SEED).permutation(len(train[0]))
    rows, held = np.sort(order[: -parts['held_out']]), np.sort(order[-parts['held_out'] :])
    validation = tuple(array[held] for array in train)
    train = tuple(array[rows] for array in train)
  else:
    validation = _read(images, parts['validation'], tokenizer)
  by_split = {
    'train': train, 'validation': validation, 'test': _read(images, parts['test'], tokenizer)
  }  # fmt: skip
  return {
    f'{split}/{kind}': array
    for split, both in by_split.items()
    for kind, array in zip(('tokens', 'labels'), both, strict=True)
  }


def _read(
  images: prepared.ImageSet, split: str, tokenizer: tokenizers.Tokenizer
) -> tuple[np.ndarray, np.ndarray]:
  """Tokens and labels of a stored split, by the hash of image and label."""
  tokens, labels, hashes = [], [], []
  for some, their_labels in images.chunks(split):
    tokens.append(tokenizer(some))
    labels.append(their_labels)
    for image, label in zip(some, their_labels, strict=True):
      hashes.append(hashlib.sha256(image.tobytes() + label.astype('<i4').tobytes()).digest())
  if not tokens:
    raise ValueError(f'{images.path}: split {split} is empty')
  order = np.argsort(np.array(hashes, 'S32'), kind='stable')
  return np.concatenate(tokens)[order], np.concatenate(labels)[order]


class Store:
  """What was computed from a prepared set, kept beside it."""

  def __init__(self, folder: str, path: str):
    """`path` is the prepared set; preparing it again makes everything kept of it void."""
    self._folder = folder
    info = os.path.join(path, 'dataset_info.json')
    with open(info, 'rb') as file:
      content = hashlib.sha256(file.read()).hexdigest()
    self._of = {'format': _FORMAT, 'info': content, 'time': os.stat(info).st_mtime_ns}

  def get(
    self, kind: str, key: dict[str, Any], make: Callable[[], dict[str, np.ndarray]]
  ) -> dict[str, np.ndarray]:
    """The arrays kept under (kind, key), made and kept if there are none.

    Raises:
      ValueError: the file is damaged.
    """
    text = json.dumps([self._of, key], sort_keys=True)
    name = f'{kind}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.npz'
    path = os.path.join(self._folder, name)
    if os.path.exists(path):
      try:
        with np.load(path) as arrays:
          return dict(arrays)
      except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f'{path} is damaged; delete it and it is made again') from error
    arrays = make()
    os.makedirs(self._folder, exist_ok=True)
    unfinished = f'{path}.{os.getpid()}.unfinished'
    try:
      with open(unfinished, 'wb') as file:
        np.savez(file, **arrays)
      os.replace(unfinished, path)
    except BaseException:
      with contextlib.suppress(FileNotFoundError):
        os.unlink(unfinished)
      raise
    return arrays
