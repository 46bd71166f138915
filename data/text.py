"""Any file as bytes: three contiguous parts, cut into windows."""

import os
from typing import Any

import numpy as np

from data.dataset import Dataset, Examples

NAME = 'text_file'


def is_text(config: Any) -> bool:
  """Whether examples are windows of a file."""
  return config.name == NAME


def load(config: Any, data_dir: str = '') -> Dataset:
  """The bytes of `config.path` in windows of `length`; the last `validation` and `test` of them
  (shares of the file, in this order) are held out. There are no labels.

  Raises:
    ValueError: a missing or short file, or a bad setting.
  """
  del data_dir
  length, shares = config.length, (config.validation, config.test)
  if length < 1:
    raise ValueError(f'data.length must be at least 1, not {length}')
  if min(shares) <= 0 or sum(shares) >= 1:
    raise ValueError(
      f'data.validation and data.test are shares of the file above 0 and below 1 together, not '
      f'{shares[0]} and {shares[1]}'
    )
  if not config.path:
    raise ValueError('data.path is empty: name a file, --config.data.path=FILE')
  path = os.path.expanduser(config.path)
  try:
    content = np.fromfile(path, np.uint8)
  except OSError as error:
    raise ValueError(f'data.path {path} can not be read: {error.strerror}') from error
  windows_NxT = content[: len(content) // length * length].reshape(-1, length).astype(np.int32)
  counts = [round(share * len(windows_NxT)) for share in shares]
  train = len(windows_NxT) - sum(counts)
  if min(train, *counts) < 1:
    raise ValueError(f'data.path {path} has {len(content)} bytes: too few windows of {length}')
  parts = np.split(windows_NxT, np.cumsum([train, counts[0]]))
  splits = [Examples(part, np.full(len(part), -1, np.int32)) for part in parts]
  sizes = ', '.join(
    f'{name} {len(part) * length}'
    for name, part in zip(('train', 'validation', 'test'), parts, strict=True)
  )
  left = len(content) % length
  dropped = f'; the last {left} bytes fill no window and are left out' if left else ''
  return Dataset(
    name=NAME,
    vocabulary=256,
    dims=length,
    length=length,
    shape=(),
    classes=None,
    ordinal=False,
    note=f'bytes of {os.path.basename(path)} in windows of {length}, each coded by itself, '
    f'lossless; contiguous parts in bytes: {sizes}{dropped}',
    lossless=True,
    train=splits[0],
    validation=splits[1],
    test=splits[2],
  )
