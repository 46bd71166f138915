"""Any file as bytes: three contiguous parts, cut into windows."""

import os
from typing import Any

import numpy as np

from data import facts, kept
from data.dataset import Dataset, Examples
from data.rows import Rows, stamp

NAME = 'text_file'


def is_text(config: Any) -> bool:
  """Whether examples are windows of a file."""
  return config.name == NAME


def load(config: Any, data_dir: str = '') -> Dataset:
  """The bytes of `config.path` in windows of `length`; the last `validation` and `test` of them
  (shares of the file, in this order) are held out. There are no labels.

  The file itself is what is read. Its digest and counts are kept in DATA_DIR/bits_and_probes, until
  it changes; without a `data_dir` they are found when asked for.

  Raises:
    ValueError: a missing or short file, or a bad setting.
  """
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
    with open(path, 'rb'):
      of = {'path': os.path.realpath(path), **stamp(path)}
  except OSError as error:
    raise ValueError(f'data.path {path} can not be read: {error.strerror}') from error
  windows, left = divmod(of['size'], length)
  counts = [round(share * windows) for share in shares]
  counts.insert(0, windows - sum(counts))
  if min(counts) < 1:
    raise ValueError(f'data.path {path} has {of["size"]} bytes: too few windows of {length}')
  splits, first = {}, 0
  for name, count in zip(kept.SPLITS, counts, strict=True):
    tokens_NxT = Rows(path, np.uint8, (count, length), first * length)
    splits[name], first = Examples(tokens_NxT, np.full(count, -1, np.int32)), first + count
  sizes = ', '.join(f'{name} {len(split) * length}' for name, split in splits.items())
  dropped = f'; the last {left} bytes fill no window and are left out' if left else ''
  found = None
  if data_dir:
    found = _facts(os.path.join(data_dir, 'bits_and_probes', NAME), of, splits, length)
    dropped += facts.duplicates_note(found.duplicates)
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
    kept=found,
    **splits,
  )


def _facts(
  folder: str, of: dict[str, Any], splits: dict[str, Examples], length: int
) -> facts.Facts:
  """What is kept of the file in windows of `length`; found now if it is not there."""
  key = {'length': length, 'splits': [len(split) for split in splits.values()]}
  store = kept.Store(folder, lambda: of)  # Rows look themselves whether it has changed.
  return facts.read(
    store.get('facts', key, lambda where: facts.write(where, splits, 256, length, None))
  )
