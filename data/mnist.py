"""MNIST and Fashion-MNIST as TFDS builders that need no TensorFlow."""

from collections.abc import Mapping
import os

import numpy as np
import tensorflow_datasets as tfds

from data import idx, originals

SHAPE = (28, 28)
CLASSES = 10


class _Idx(originals.FromOriginals, skip_registration=True):
  """What the sets have in common.

  Attributes:
    checksums: MD5 of the four files' uncompressed content.
    names: of the classes, None for digits.
    homepage: where the set is described.
  """

  VERSION = tfds.core.Version('3.0.1')
  RELEASE_NOTES = {'3.0.1': 'As in TFDS.'}
  files = idx.FILES
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
    return idx.read(paths, self.checksums, SHAPE, CLASSES)


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
