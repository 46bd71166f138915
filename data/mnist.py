"""MNIST and Fashion-MNIST as TFDS builders that need no TensorFlow.

They come in the idx format, four gzip files of images and labels. A file is two zero bytes, a type
(8: unsigned bytes), the number of dimensions, each dimension as a big-endian 32-bit integer, and
the values in row-major order (LeCun, Cortes and Burges 1998).
"""

from collections.abc import Mapping
import gzip
import hashlib
import math
import os
import zlib

import numpy as np
import tensorflow_datasets as tfds

from data import originals

SHAPE = (28, 28)
CLASSES = 10
_UNSIGNED_BYTE = 8
# split -> the files of its images and of its labels
_SPLITS = {
  'train': ('train-images-idx3-ubyte.gz', 'train-labels-idx1-ubyte.gz'),
  'test': ('t10k-images-idx3-ubyte.gz', 't10k-labels-idx1-ubyte.gz'),
}
FILES = sum(_SPLITS.values(), ())


def parse(data: bytes, source: str) -> np.ndarray:
  """The uint8 array that an (uncompressed) idx file holds.

  Raises:
    ValueError: not such a file, or of another length than it says; the message starts with
      `source`.
  """
  if len(data) < 4 or data[:3] != bytes([0, 0, _UNSIGNED_BYTE]):
    raise ValueError(f'{source} is not an idx file of unsigned bytes')
  start = 4 + 4 * data[3]
  shape = np.frombuffer(data[4:start], '>u4').tolist() if len(data) >= start else []
  if len(shape) != data[3] or len(data) != start + math.prod(shape):
    raise ValueError(f'{source} is cut short or too long for the shape that it states')
  return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def _content(path: str | os.PathLike) -> bytes:
  try:
    return originals.read_file(path, gzip.open)
  except (OSError, EOFError, zlib.error) as error:
    raise ValueError(f'{os.fspath(path)} is corrupt: {error}') from error


class _Idx(originals.FromOriginals, skip_registration=True):
  """What the sets have in common.

  Attributes:
    checksums: MD5 of the four files' uncompressed content: the same content is in circulation under
      several gzip headers.
    names: of the classes, None for digits.
    homepage: where the set is described.
  """

  VERSION = tfds.core.Version('3.0.1')
  RELEASE_NOTES = {'3.0.1': 'As in TFDS.'}
  files = FILES
  checksums: dict[str, str]
  names: list[str] | None = None
  homepage: str

  def _info(self) -> tfds.core.DatasetInfo:
    label = {'names': self.names} if self.names else {'num_classes': CLASSES}
    return tfds.core.DatasetInfo(
      builder=self,
      description='28x28 pixels of 256 grey levels in ten classes.',
      features=tfds.features.FeaturesDict(
        {
          'image': tfds.features.Image(shape=(*SHAPE, 1)),
          'label': tfds.features.ClassLabel(**label),
        }
      ),
      supervised_keys=('image', 'label'),
      homepage=self.homepage,
    )

  def read(
    self, paths: Mapping[str, str | os.PathLike]
  ) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    contents = {name: _content(paths[name]) for name in FILES}
    splits = {}
    for split, names in _SPLITS.items():
      where = [os.fspath(paths[name]) for name in names]
      images, labels = (parse(contents[name], at) for name, at in zip(names, where, strict=True))
      if images.ndim != 3 or images.shape[1:] != SHAPE:
        raise ValueError(f'{where[0]} holds {images.shape}, not images of {SHAPE}')
      if labels.shape != images.shape[:1]:
        raise ValueError(f'{where[1]} holds {labels.shape}, not labels of {len(images)} images')
      if len(labels) and labels.max() >= CLASSES:
        raise ValueError(f'{where[1]} has a label {labels.max()}, outside 0..{CLASSES - 1}')
      splits[split] = images, labels
    for name, content in contents.items():
      if hashlib.md5(content).hexdigest() != self.checksums[name]:
        raise ValueError(f'{os.fspath(paths[name])} is not the original: another checksum')
    return splits


class Mnist(_Idx, skip_registration=True):
  """Handwritten digits (LeCun, Cortes and Burges 1998)."""

  name = 'mnist'
  url = 'https://storage.googleapis.com/cvdf-datasets/mnist/'
  homepage = 'http://yann.lecun.com/exdb/mnist/'
  checksums = {
    'train-images-idx3-ubyte.gz': '6bbc9ace898e44ae57da46a324031adb',
    'train-labels-idx1-ubyte.gz': 'a25bea736e30d166cdddb491f175f624',
    't10k-images-idx3-ubyte.gz': '2646ac647ad5339dbf082846283269ea',
    't10k-labels-idx1-ubyte.gz': '27ae3e4e09519cfbb04c329615203637',
  }


class FashionMnist(_Idx, skip_registration=True):
  """Pictures of clothes (Xiao, Rasul and Vollgraf 2017)."""

  name = 'fashion_mnist'
  url = 'http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/'
  homepage = 'https://github.com/zalandoresearch/fashion-mnist'
  names = (
    ['T-shirt/top', 'Trouser', 'Pullover', 'Dress', 'Coat']
    + ['Sandal', 'Shirt', 'Sneaker', 'Bag', 'Ankle boot']
  )  # fmt: skip
  checksums = {
    'train-images-idx3-ubyte.gz': 'f4a8712d7a061bf5bd6d2ca38dc4d50a',
    'train-labels-idx1-ubyte.gz': '9018921c3c673c538a1fc5bad174d6f9',
    't10k-images-idx3-ubyte.gz': '8181f5470baa50b63fa0f6fddb340f0a',
    't10k-labels-idx1-ubyte.gz': '15d484375f8d13e6eb1aabb0c3f46965',
  }
