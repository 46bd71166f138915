"""Prepares sets with TFDS and reads image sets prepared as array_record: no TensorFlow."""

from collections.abc import Iterator
import contextlib
import io
import json
import os
import sys
from typing import Any

import numpy as np

from data import png

_FORMAT = 'array_record'
_CHUNK = 1000


def directory(name: str, data_dir: str) -> str | None:
  """Where 'set', 'set/config' or 'set:1.2.3' is prepared, None if it is not.

  Without a version the highest one counts.

  Raises:
    ValueError: it is prepared in another format, or has several configs and `name` says none.
  """
  path, _, version = name.partition(':')
  if not path:
    return None
  folder = os.path.join(data_dir, *path.split('/'))
  found = [one for one in _folders(folder) if _is_prepared(os.path.join(folder, one))]
  found = [one for one in found if version in ('', one)]
  if not found:
    inside = [one for one in _folders(folder) if _folders(os.path.join(folder, one))]
    configs = [one for one in inside if directory(f'{path}/{one}', data_dir)]
    if not configs or version:
      return None
    raise ValueError(f"data set '{name}' is prepared as {', '.join(configs)}: name {path}/CONFIG")
  chosen = os.path.join(folder, max(found, key=_version_order))
  with open(os.path.join(chosen, 'dataset_info.json'), encoding='utf-8') as file:
    kept = json.load(file).get('fileFormat', 'tfrecord')
  if kept != _FORMAT:
    raise ValueError(
      f'{chosen} is prepared as {kept}, which needs TensorFlow; to prepare it as {_FORMAT} '
      f'elsewhere: {build_command(name, "DIR")}'
    )
  return chosen


def build_command(name: str, data_dir: str) -> str:
  """The command that makes TFDS prepare a set (where TensorFlow is installed) in our format."""
  return f'tfds build {name} --data_dir={data_dir} --file_format={_FORMAT}'


def _folders(path: str) -> list[str]:
  if not os.path.isdir(path):
    return []
  return sorted(one for one in os.listdir(path) if os.path.isdir(os.path.join(path, one)))


def _is_prepared(path: str) -> bool:
  # TFDS writes into a directory of another name and renames it.
  here = not os.path.basename(path).startswith('incomplete')
  return here and os.path.exists(os.path.join(path, 'dataset_info.json'))


def _version_order(version: str) -> list[int]:
  return [int(part) if part.isdigit() else -1 for part in version.split('.')]


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


class ImageSet:
  """The splits of a prepared set of images of one size.

  Attributes:
    path: its directory.
    shape: (H, W, C).
    classes: number of classes, None without labels.
    splits: name -> number of examples.
  """

  def __init__(self, path: str):
    """Raises ValueError if it is not a set of uint8 images of one size."""
    import tensorflow_datasets as tfds

    self.path = path
    try:
      self._builder = tfds.builder_from_directory(path)
      features = dict(self._builder.info.features.items())
    except Exception as error:
      raise ValueError(f'{path} can not be read: {error}; prepare it again') from error
    image, label = features.get('image'), features.get('label')
    self.shape = tuple(image.shape) if image is not None else ()
    if len(self.shape) != 3 or None in self.shape or image.np_dtype != np.uint8:
      raise ValueError(
        f'{path} is not a set of uint8 images (H, W, C) of one size: {sorted(features)}'
      )
    self._encoded = isinstance(image, tfds.features.Image)
    labelled = isinstance(label, tfds.features.ClassLabel)
    self.classes = label.num_classes if labelled else None
    self.splits = {name: info.num_examples for name, info in self._builder.info.splits.items()}

  def chunks(self, split: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(images uint8 (n, H, W, C), labels int32 (n,), -1 without any), the whole split in order.

    Raises:
      ValueError: a record that can't be read, an image of another size, a label out of range.
    """
    import tensorflow_datasets as tfds

    decoders = {'image': tfds.decode.SkipDecoding()} if self._encoded else None
    try:
      source = self._builder.as_data_source(split=split, decoders=decoders)
      for first in range(0, len(source), _CHUNK):
        records = source.__getitems__(list(range(first, min(first + _CHUNK, len(source)))))
        yield self._images(records), self._labels(records)
    except Exception as error:
      raise ValueError(f'{self.path}: split {split}: {error}') from error

  def _images(self, records: list[dict[str, Any]]) -> np.ndarray:
    images = [record['image'] for record in records]
    if self._encoded:
      images = [png.decode(image, self.shape[-1]) for image in images]
    wrong = next((image.shape for image in images if image.shape != self.shape), None)
    if wrong is not None:
      raise ValueError(f'an image is {wrong}, not {self.shape}')
    return np.stack(images)

  def _labels(self, records: list[dict[str, Any]]) -> np.ndarray:
    if self.classes is None:
      return np.full(len(records), -1, np.int32)
    labels = np.array([record['label'] for record in records], np.int32)
    if labels.min() < 0 or labels.max() >= self.classes:
      wrong = labels.min() if labels.min() < 0 else labels.max()
      raise ValueError(f'a label is {wrong}, outside 0..{self.classes - 1}')
    return labels
