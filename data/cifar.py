"""CIFAR-10 (Krizhevsky 2009) as a TFDS builder that needs no TensorFlow."""

from collections.abc import Mapping
import hashlib
import io
import os
import pickle
import tarfile
from typing import Any
import zlib

import numpy as np
import tensorflow_datasets as tfds

from data import originals

_ARCHIVE = 'cifar-10-python.tar.gz'
_FOLDER = 'cifar-10-batches-py'
SIDE = 32
CLASSES = 10
# All that the original pickles refer to, under the names of old and new NumPy.
_ALLOWED = {
  ('numpy', 'ndarray'),
  ('numpy', 'dtype'),
  ('numpy.core.multiarray', '_reconstruct'),
  ('numpy._core.multiarray', '_reconstruct'),
  ('_codecs', 'encode'),
}
_BATCHES = {
  'train': tuple(f'data_batch_{number}' for number in range(1, 6)),
  'test': ('test_batch',),
}


class _Unpickler(pickle.Unpickler):
  """Makes arrays, numbers, strings and containers of them, and nothing else."""

  def find_class(self, module: str, name: str) -> Any:
    if (module, name) not in _ALLOWED:
      raise pickle.UnpicklingError(f'it refers to {module}.{name}')
    return super().find_class(module.replace('numpy.core', 'numpy._core'), name)


class Cifar10(originals.FromOriginals, skip_registration=True):
  """Photographs of ten kinds of things.

  Attributes:
    checksums: MD5 of every batch in the archive.
  """

  name = 'cifar10'
  VERSION = tfds.core.Version('3.0.2')
  RELEASE_NOTES = {'3.0.2': 'As in TFDS.'}
  url = 'https://www.cs.toronto.edu/~kriz/'
  files = (_ARCHIVE,)
  checksums = {
    'data_batch_1': 'c99cafc152244af753f735de768cd75f',
    'data_batch_2': 'd4bba439e000b95fd0a9bffe97cbabec',
    'data_batch_3': '54ebc095f3ab1f0389bbae665268c751',
    'data_batch_4': '634d18415352ddfa80567beed471001a',
    'data_batch_5': '482c414d41f54cd18b22e5b47cb7c3cb',
    'test_batch': '40351d587109b95175f43aff81a1287e',
  }

  def _info(self) -> tfds.core.DatasetInfo:
    names = ['airplane', 'automobile', 'bird', 'cat', 'deer', 'dog', 'frog', 'horse', 'ship']
    return tfds.core.DatasetInfo(
      builder=self,
      description='32x32 colour photographs in ten classes.',
      features=tfds.features.FeaturesDict(
        {
          'id': tfds.features.Text(),
          'image': tfds.features.Image(shape=(SIDE, SIDE, 3)),
          'label': tfds.features.ClassLabel(names=[*names, 'truck']),
        }
      ),
      supervised_keys=('image', 'label'),
      homepage='https://www.cs.toronto.edu/~kriz/cifar.html',
    )

  def record(self, split: str, row: int) -> dict[str, Any]:
    return {'id': f'{split}_{row:05d}'}

  def read(
    self, paths: Mapping[str, str | os.PathLike]
  ) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    path = os.fspath(paths[_ARCHIVE])
    contents = _members(path)
    splits = {}
    for split, names in _BATCHES.items():
      batches = [parse(contents[name], f'{path}: {name}') for name in names]
      splits[split] = tuple(map(np.concatenate, zip(*batches, strict=True)))
    for name, content in contents.items():
      if hashlib.md5(content).hexdigest() != self.checksums[name]:
        raise ValueError(f'{path}: {name} is not the original: another checksum')
    return splits


def _members(path: str) -> dict[str, bytes]:
  """The content of every batch in the archive, by name."""
  wanted = {f'{_FOLDER}/{name}': name for names in _BATCHES.values() for name in names}
  contents = {}
  archive = originals.read_file(path)
  try:
    with tarfile.open(fileobj=io.BytesIO(archive), mode='r:gz') as tar:
      for member in tar:
        name = wanted.get(member.name)
        if name is not None and member.isfile():
          contents[name] = tar.extractfile(member).read()
  except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
    raise ValueError(f'{path} is corrupt: {error}') from error
  missing = [member for member, name in wanted.items() if name not in contents]
  if missing:
    raise ValueError(f'{path} lacks {", ".join(missing)}')
  return contents


def parse(content: bytes, source: str) -> tuple[np.ndarray, np.ndarray]:
  """Images uint8 (N, 32, 32, 3) and labels uint8 (N,) of one pickled batch.

  Raises:
    ValueError: not such a batch; the message starts with `source`.
  """
  try:
    batch = _Unpickler(io.BytesIO(content), encoding='bytes').load()
    data, labels = batch[b'data'], np.asarray(batch[b'labels'])
  except Exception as error:  # A damaged pickle can raise anything.
    raise ValueError(f'{source} is no batch of images: {type(error).__name__} {error}') from error
  size = 3 * SIDE**2
  if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.shape[1:] != (size,):
    found = f'{data.dtype} {data.shape}' if isinstance(data, np.ndarray) else type(data).__name__
    raise ValueError(f'{source} holds {found}, not uint8 images of {size} bytes')
  if labels.shape != data.shape[:1] or labels.dtype.kind not in 'iu':
    raise ValueError(f'{source} holds {labels.shape} labels of {len(data)} images')
  if len(labels) and not (0 <= labels.min() and labels.max() < CLASSES):
    raise ValueError(f'{source} has labels outside 0..{CLASSES - 1}')
  images = data.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)
  return np.ascontiguousarray(images), labels.astype(np.uint8)
