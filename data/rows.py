"""Tokens in a file, of which rows are read when they are asked for.

Shape suffixes: N examples, T tokens.
"""

import errno
import os
from typing import Any

import numpy as np

# Tokens that whoever walks over all rows has in memory at once.
CHUNK = 2**22


def stamp(path: str) -> dict[str, Any]:
  """What tells a file from another content of it without reading it: size and time of change."""
  found = os.stat(path)
  return {'size': found.st_size, 'time': found.st_mtime_ns}


class Rows:
  """An int32 array (N, T) to whoever asks, narrower integers on disk.

  Any index of rows, alone or with one of columns (`rows[index]`, `rows[index, :dims]`), reads those
  rows and no others; `np.asarray` reads all. They are read, not mapped: pages of a mapped file
  count as the process's own, and many more of them are mapped than were asked for.
  """

  dtype, ndim = np.dtype(np.int32), 2

  def __init__(self, path: str, kind: Any, shape: tuple[int, int], offset: int = 0):
    """`shape` numbers of dtype `kind` from byte `offset` on, row after row."""
    self._path, self._kind, self._stored = path, np.dtype(kind), tuple(shape)
    self._offset, self._only = offset, None
    self._stamp = stamp(path)

  @classmethod
  def of_npy(cls, path: str) -> 'Rows':
    """The rows of a .npy file; ValueError or EOFError if it is damaged."""
    found = np.load(path, mmap_mode='r')
    return cls(path, found.dtype, found.shape, found.offset)

  @property
  def shape(self) -> tuple[int, int]:
    return self._stored if self._only is None else (len(self._only), self._stored[1])

  @property
  def size(self) -> int:
    return self.shape[0] * self.shape[1]

  def __len__(self) -> int:
    return self.shape[0]

  def only(self, rows_M: np.ndarray) -> 'Rows':
    """These rows, in this order; nothing is read."""
    made = object.__new__(Rows)
    rows_M = _numbers(rows_M, len(self))
    made.__dict__ |= self.__dict__ | {'_only': rows_M if self._only is None else self._only[rows_M]}
    return made

  def __getitem__(self, key: Any) -> np.ndarray:
    """The tokens of these rows, int32; OSError if the file is gone or is another one by now."""
    rows, columns = key if isinstance(key, tuple) else (key, slice(None))
    rows = _numbers(rows, len(self))
    if self._only is not None:
      rows = self._only[rows]
    found = self._read(rows.ravel()).reshape(*rows.shape, self._stored[1])
    return found[..., columns].astype(np.int32)

  def _read(self, rows_M: np.ndarray) -> np.ndarray:
    """Stored rows; such as follow each other at once."""
    found_MxT = np.empty((len(rows_M), self._stored[1]), self._kind)
    if stamp(self._path) != self._stamp:
      raise OSError(errno.ESTALE, 'It has changed since it was opened', self._path)
    width = self._stored[1] * self._kind.itemsize
    begins = np.flatnonzero(np.diff(rows_M, prepend=-2) != 1)
    ends = np.flatnonzero(np.diff(rows_M, append=-2) != 1) + 1
    with open(self._path, 'rb') as file:
      for first, end in zip(begins, ends, strict=True):
        file.seek(self._offset + int(rows_M[first]) * width)
        if file.readinto(found_MxT[first:end]) < (end - first) * width:
          raise OSError(errno.EIO, 'It is cut short', self._path)
    return found_MxT

  def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
    del copy
    return self[:].astype(dtype or np.int32, copy=False)


def _numbers(index: Any, count: int) -> np.ndarray:
  """What an index of `count` rows stands for: int64, of the index's shape; IndexError beyond."""
  if isinstance(index, slice):
    return np.arange(*index.indices(count))
  index = np.asarray(index)
  if index.dtype == bool:
    return np.arange(count)[index]
  if index.size and not (-count <= index.min() and index.max() < count):
    raise IndexError(f'a row is beyond the {count} that there are')
  return np.where(index < 0, index + count, index).astype(np.int64)
