"""Image sets that TFDS has prepared, as tokens; a few of them we can prepare ourselves.

Settings of `config.data`:
  name: of the TFDS set, with '/CONFIG' and ':VERSION' where it has several.
  tokens: 'grey', 'palette' or 'bytes' (data/tokenizers.py); '' is bytes.
  size: pixels a side, by area means; 0 leaves the image as it is.
  levels: of grey.
  clusters, palette: the number of colours, and a .npy file that has them; '' fits them to train.
  validation: examples of train held out, where a set has no split for each purpose.

Tokens are kept in DATA_DIR/bits_and_probes, so that only the first run decodes images.

`tokenizer`, `tokenized` and `dataset` also serve images from elsewhere (arrays, image_folder): a
source of them has a `path`, the `shape` (H, W, C) of an image, `classes`, the number of examples in
each of `splits`, and `chunks(split)`, which gives images (n, H, W, C) and labels (n,) in order.
"""

from collections.abc import Iterator
import hashlib
import os
from typing import Any

import numpy as np

from data import facts, kept, palette, prepared, tokenizers
from data.dataset import Dataset, Examples
from data.rows import Rows

_SPLIT_SEED = 20251
_DEFAULTS = {
  'tokens': '', 'size': 0, 'levels': 256, 'clusters': palette.CLUSTERS, 'palette': '',
  'validation': 5000,
}  # fmt: skip
_CENTRES = 'centres.npy'


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
  folder = os.path.join(data_dir, 'bits_and_probes', *config.name.split('/'))
  store = kept.Store(folder, lambda: _preparation(images.path))
  to_tokens = tokenizer(settings, images, store)
  parts, note = _parts(images, settings['validation'])
  key = {'tokens': to_tokens.note, 'parts': parts}
  directory = store.get('tokens', key, lambda where: _keep(where, images, to_tokens, parts))
  return dataset(config.name, directory, to_tokens, note, images.classes)


def _preparation(path: str) -> dict[str, Any]:
  """What tells a prepared set; preparing it again makes everything kept of it void."""
  info = os.path.join(path, 'dataset_info.json')
  with open(info, 'rb') as file:
    content = hashlib.sha256(file.read()).hexdigest()
  return {'info': content, 'time': os.stat(info).st_mtime_ns}


def dataset(
  name: str,
  directory: str,
  to_tokens: tokenizers.Tokenizer,
  note: str,
  classes: int | None,
  class_names: tuple[str, ...] | None = None,
) -> Dataset:
  """The data set of what `kept.write` left in a directory; `note` says what the splits are."""
  splits, found = kept.read(directory)
  error = found.more.get('colour_error')
  colours = '' if error is None else f', mean colour error {error:.1f} of 255'
  raw = isinstance(to_tokens, tokenizers.Bytes)
  return Dataset(
    name=name,
    vocabulary=to_tokens.vocabulary,
    dims=to_tokens.dims,
    length=to_tokens.dims,
    shape=to_tokens.shape,
    classes=classes,
    ordinal=to_tokens.ordinal,
    note=f'{to_tokens.note}{colours}; {note}{facts.duplicates_note(found.duplicates)}',
    lossless=to_tokens.lossless,
    values_VxK=to_tokens.values_VxK,
    pixels=(*to_tokens.size, 3) if raw and to_tokens.channels == 3 else None,
    class_names=class_names,
    kept=found,
    **splits,
  )


def tokenizer(settings: dict[str, Any], images: Any, store: kept.Store) -> tokenizers.Tokenizer:
  """What `settings` ask for of a source of images; a palette is fitted to train and kept.

  Raises:
    ValueError: the images are of another kind, or a setting can't be.
  """
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

  if not 2 <= settings['clusters'] < 2**15:
    raise ValueError(f'data.clusters must be 2 to 32767, not {settings["clusters"]}')

  def fit(directory: str) -> None:
    pixels = images.splits['train'] * source[0] * source[1]
    sample = palette.sample((some for some, _ in images.chunks('train')), pixels)
    np.save(os.path.join(directory, _CENTRES), palette.fit(sample, settings['clusters']))

  where = store.get('palette', {'clusters': settings['clusters']}, fit)
  return tokenizers.Palette(source, size, palette.read(os.path.join(where, _CENTRES)))


def from_source(name: str, source: Any, to_tokens: Any, store: kept.Store) -> Dataset:
  """The data set of a source that has its three splits, in the source's own order.

  It also has a `note` on them, and may have `class_names`.
  """

  def make(directory: str) -> None:
    made = Tokenized(source, to_tokens)
    splits = {split: (source.splits[split], made.chunks(split)) for split in kept.SPLITS}
    kept.write(directory, splits, to_tokens.vocabulary, source.classes, made.facts)

  directory = store.get('tokens', {'tokens': to_tokens.note}, make)
  note = f'{os.path.basename(os.path.normpath(source.path))}, {source.note}'
  names = getattr(source, 'class_names', None)
  return dataset(name, directory, to_tokens, note, source.classes, names)


class Tokenized:
  """Images of a source as tokens, and what that does to colours.

  Attributes:
    colour_error: of each split that was walked through, the mean distance between a pixel and its
      colour, where channels go from 0 to 255; nothing for tokens without colours.
  """

  def __init__(self, images: Any, to_tokens: tokenizers.Tokenizer):
    self._images, self._to_tokens = images, to_tokens
    self.colour_error: dict[str, float] = {}

  def chunks(self, split: str) -> kept.Chunks:
    """Tokens and labels of a split in the source's order."""
    for tokens, labels, _ in self.with_images(split):
      yield tokens, labels

  def with_images(self, split: str) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Tokens, labels and images of a split in the source's order."""
    total, count = 0.0, 0
    for images, labels in self._images.chunks(split):
      tokens = self._to_tokens(images)
      distances = self._to_tokens.distances(images, tokens)
      if distances is not None:
        total, count = total + float(distances.sum()), count + distances.size
        self.colour_error[split] = total / count
      yield tokens, labels, images

  def facts(self) -> dict[str, Any]:
    """Beside what is true of the tokens: the colour error on train, if there is one."""
    return {'colour_error': self.colour_error.get('train')}


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


def _keep(
  directory: str,
  images: prepared.ImageSet,
  to_tokens: tokenizers.Tokenizer,
  parts: dict[str, Any],
) -> None:
  made = Tokenized(images, to_tokens)
  stored = {
    split: _by_hash(directory, images, made, split)
    for split in ('train', parts['validation'], parts['test'])
    if split
  }
  train = stored['train']
  if parts['held_out']:
    # The last of a fixed permutation. Rows stand in the order of their hashes, so the choice does
    # not depend on the order in which somebody's preparation stored them.
    order = np.random.default_rng(_SPLIT_SEED).permutation(len(train))
    held = np.sort(order[-parts['held_out'] :])
    train, validation = train.take(np.sort(order[: -parts['held_out']])), train.take(held)
  else:
    validation = stored[parts['validation']]
  splits = {'train': train, 'validation': validation, 'test': stored[parts['test']]}
  kept.write(
    directory,
    {name: (len(split), _both(split)) for name, split in splits.items()},
    to_tokens.vocabulary,
    images.classes,
    made.facts,
  )
  for split in stored:
    os.unlink(_stored(directory, split))


def _stored(directory: str, split: str) -> str:
  return os.path.join(directory, f'stored_{split}.npy')


def _by_hash(directory: str, images: prepared.ImageSet, made: Tokenized, split: str) -> Examples:
  """A stored split, by the hash of image and label; its tokens wait in a file for their order."""
  if not images.splits[split]:
    raise ValueError(f'{images.path}: split {split} is empty')
  labels, hashes = [], bytearray()

  def tokens() -> Iterator[np.ndarray]:
    for some, their_labels, their_images in made.with_images(split):
      labels.append(their_labels)
      for image, label in zip(their_images, their_labels, strict=True):
        content = image.tobytes() + label.astype('<i4').tobytes()
        hashes.extend(hashlib.sha256(content).digest())
      yield some

  path = _stored(directory, split)
  with open(path, 'wb') as file:
    kept.write_rows(file, tokens(), images.splits[split])
  order = np.argsort(np.frombuffer(hashes, 'S32'), kind='stable')
  return Examples(Rows.of_npy(path).only(order), np.concatenate(labels)[order])


def _both(split: Examples) -> kept.Chunks:
  """Tokens and labels of a split in chunks."""
  first = 0
  for tokens in split.chunks():
    yield tokens, split.labels_N[first : first + len(tokens)]
    first += len(tokens)
