"""The idx format of MNIST and its successors: four gzip files of images and labels.

A file is two zero bytes, a type (8: unsigned bytes), the number of dimensions, each dimension as a
big-endian 32-bit integer, and the values in row-major order (LeCun, Cortes and Burges 1998).
"""

from collections.abc import Mapping
import gzip
import hashlib
import math
import os
import zlib

import numpy as np

from data import originals

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


def read(
  paths: Mapping[str, str | os.PathLike],
  checksums: Mapping[str, str],
  shape: tuple[int, int],
  classes: int,
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
  """Both splits of a set: (images (N, H, W), labels (N,)), all uint8.

  Args:
    paths: name in `FILES` -> where it is.
    checksums: MD5 of every file's uncompressed content: the same content is in circulation under
      several gzip headers.
    shape: (H, W).
    classes: labels lie in 0..classes-1.

  Raises:
    ValueError: a missing, corrupt or unexpected file, in one line that names it.
  """
  contents = {name: _content(paths[name]) for name in FILES}
  splits = {}
  for split, names in _SPLITS.items():
    where = [os.fspath(paths[name]) for name in names]
    images, labels = (parse(contents[name], at) for name, at in zip(names, where, strict=True))
    if images.ndim != 3 or images.shape[1:] != shape:
      raise ValueError(f'{where[0]} holds {images.shape}, not images of {shape}')
    if labels.shape != images.shape[:1]:
      raise ValueError(f'{where[1]} holds {labels.shape}, not labels of {len(images)} images')
    if len(labels) and labels.max() >= classes:
      raise ValueError(f'{where[1]} has a label {labels.max()}, outside 0..{classes - 1}')
    splits[split] = images, labels
  for name, content in contents.items():
    if hashlib.md5(content).hexdigest() != checksums[name]:
      raise ValueError(f'{os.fspath(paths[name])} is not the original: another checksum')
  return splits


def _content(path: str | os.PathLike) -> bytes:
  try:
    return originals.read_file(path, gzip.open)
  except (OSError, EOFError, zlib.error) as error:
    raise ValueError(f'{os.fspath(path)} is corrupt: {error}') from error
