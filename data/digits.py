"""scikit-learn's 1,797 handwritten digits as a TFDS builder: 8x8 pixels, 17 grey levels.

The images are those of the UCI set «Optical Recognition of Handwritten Digits» (Alpaydin and
Kaynak 1998); they come inside scikit-learn, so preparing them needs no network.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from data import prepared
from data.dataset import Dataset, Examples

SPLITS = {'train': 1197, 'validation': 300, 'test': 300}
LEVELS = 17
CLASSES = 10
_SHUFFLE_SEED = 20240


def split_indices(labels: np.ndarray) -> dict[str, np.ndarray]:
  """Rows of scikit-learn's file in each split.

  The file's order is by writer, not exchangeable, hence a fixed permutation; sorting it by each
  row's quantile inside its class spreads every class evenly over the splits.
  """
  order = np.random.default_rng(_SHUFFLE_SEED).permutation(len(labels))
  quantile = np.empty(len(labels))
  for label in range(CLASSES):
    members = order[labels[order] == label]
    quantile[members] = (np.arange(len(members)) + 0.5) / len(members)
  order = order[np.argsort(quantile[order], kind='stable')]
  ends = np.cumsum(list(SPLITS.values()))
  train, validation, test, _ = np.split(order, ends)
  return {'train': train, 'validation': validation, 'test': test}


def check_balance(labels: np.ndarray, split: str) -> None:
  """Raises ValueError if a class is more than a third off its even share of the split."""
  counts = np.bincount(labels, minlength=CLASSES)
  even = len(labels) / CLASSES
  if counts.min() < even * 2 / 3 or counts.max() > even * 4 / 3:
    raise ValueError(f'digits: the {split} split is out of balance: {counts.tolist()}')


class BitsAndProbesDigits(tfds.core.GeneratorBasedBuilder):
  """8x8 images with values 0..16 and their labels 0..9."""

  name = 'bits_and_probes_digits'
  VERSION = tfds.core.Version('1.0.0')
  RELEASE_NOTES = {'1.0.0': 'Fixed shuffled split 1197/300/300.'}

  def _info(self) -> tfds.core.DatasetInfo:
    return tfds.core.DatasetInfo(
      builder=self,
      description='Handwritten digits, 8x8 pixels, 17 grey levels.',
      features=tfds.features.FeaturesDict(
        {
          'image': tfds.features.Tensor(shape=(8, 8, 1), dtype=np.uint8),
          'label': tfds.features.ClassLabel(num_classes=CLASSES),
          'row': tfds.features.Scalar(dtype=np.int32),
        }
      ),
      homepage='https://archive.ics.uci.edu/dataset/80',
    )

  def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict:
    del dl_manager
    return {split: self._generate_examples(split) for split in SPLITS}

  def _generate_examples(self, split: str) -> Iterator[tuple[int, dict]]:
    from sklearn import datasets

    digits = datasets.load_digits()
    rows = split_indices(digits.target)[split]
    check_balance(digits.target[rows], split)
    for row in rows.tolist():
      image = digits.images[row].astype(np.uint8)[..., None]
      yield row, {'image': image, 'label': int(digits.target[row]), 'row': row}


def load(config: Any, data_dir: str) -> Dataset:
  """The digits, prepared in `data_dir` unless they are there.

  Raises:
    ValueError: a damaged copy.
  """
  del config
  builder = BitsAndProbesDigits(data_dir=data_dir, file_format='array_record')
  prepared.prepare(builder)
  splits = {split: _read_split(builder, split) for split in SPLITS}
  for split, size in SPLITS.items():
    if len(splits[split]) != size:
      raise ValueError(
        f'{builder.data_dir}: split {split} holds {len(splits[split])} examples, not {size}; '
        'delete the directory and it is prepared again'
      )
    check_balance(splits[split].labels_N, split)
  return Dataset(
    name='digits',
    vocabulary=LEVELS,
    dims=64,
    length=64,
    shape=(8, 8),
    classes=CLASSES,
    ordinal=True,
    note='8x8 pixels of 17 grey levels, raster order, lossless',
    lossless=True,
    **splits,
  )


def _read_split(builder: Any, split: str) -> Examples:
  """Reads a split of {'image', 'label', 'row'} records; rows sorted so that order is fixed."""
  records = sorted(builder.as_data_source(split=split), key=lambda record: int(record['row']))
  images = np.stack([record['image'] for record in records])
  labels = np.array([record['label'] for record in records], np.int32)
  return Examples(images.reshape(len(images), -1).astype(np.int32), labels)
