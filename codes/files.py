"""Files that are coded: NumPy arrays of examples, and bytes."""

from collections.abc import Iterator
import os
from typing import BinaryIO
import zipfile

import numpy as np

from codes import codec, container
from codes.errors import CodeError
import objectives


def source(path: str, space: objectives.Space, windows: bool) -> tuple[codec.Source, dict]:
  """What to code of a file, and the header's fields that describe it.

  Args:
    path: of the file.
    space: of the run's examples.
    windows: whether examples are windows of a file: then any file will do, as its bytes.

  Raises:
    CodeError: a file that isn't of this space, or can't be read.
  """
  if windows:
    size = os.path.getsize(path)

    def read(start: int, stop: int) -> np.ndarray:
      count = min(stop * space.dims, size) - start * space.dims
      return np.fromfile(path, np.uint8, count, offset=start * space.dims)

    return codec.Source(size, read), {'kind': container.BYTES, 'total': size}
  array = open_array(path)
  if array.ndim < 2 or np.prod(array.shape[1:]) != space.dims:
    shape = ' x '.join(map(str, space.shape)) or space.dims
    raise CodeError(
      f'{path} has shape {array.shape}; the run knows N examples of {space.dims} tokens ({shape})'
    )
  try:
    dtype = container.dtype_of(array.dtype)
  except ValueError as error:
    raise CodeError(f'{path}: {error}') from error
  count, *shape = array.shape
  fields = {'kind': container.ARRAY, 'total': count, 'dtype': dtype, 'shape': tuple(shape)}
  source = codec.Source(count * space.dims, lambda a, b: array[a:b].reshape(-1))
  return source, fields


def open_array(path: str) -> np.ndarray:
  try:
    try:
      array = np.load(path, mmap_mode='r', allow_pickle=False)
    except ValueError:
      array = np.load(path, allow_pickle=False)  # Empty arrays can't be mapped.
  except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    raise CodeError(f'{path} is not a NumPy file (.npy) of examples: {reason}') from error
  if not isinstance(array, np.ndarray):
    raise CodeError(f'{path} is not a NumPy file (.npy) of examples: it holds several arrays')
  return array


def decode(
  predictor: codec.Predictor,
  header: container.Header,
  seal: int,
  file: BinaryIO,
  out: BinaryIO,
  progress: codec.Progress = lambda symbols: None,
) -> int:
  """Writes the file that was coded; returns its number of symbols.

  Args:
    predictor: what encoded.
    header, seal: as `container.read_header` gives them.
    file: after its header.
    out: where the decoded file goes.
    progress: told of symbols decoded.

  Raises:
    StreamError: cut short, damaged, or encoded by something else.
  """
  total = header.symbols(predictor.reading.dims)
  predictor.check(header)
  write(header, codec.decode(predictor, total, file, seal, progress), out)
  return total


def write(header: container.Header, parts: Iterator[np.ndarray], out: BinaryIO) -> None:
  """Writes decoded symbols as the file they were."""
  dtype = np.dtype(np.uint8)
  if header.kind == container.ARRAY:
    dtype, shape = np.dtype(header.dtype), (header.total, *header.shape)
    described = {'descr': np.lib.format.dtype_to_descr(dtype), 'fortran_order': False}
    np.lib.format.write_array_header_1_0(out, {**described, 'shape': shape})
  for part in parts:
    out.write(part.astype(dtype).tobytes())


def same(path: str, other: str) -> bool:
  """Whether two files hold the same bytes, or equal arrays of one shape and dtype."""
  with open(path, 'rb') as one, open(other, 'rb') as two:
    while (part := one.read(2**20)) == two.read(2**20):
      if not part:
        return True
  try:
    left, right = open_array(path), open_array(other)
  except CodeError:
    return False
  same_type = left.dtype.newbyteorder('=') == right.dtype.newbyteorder('=')
  return same_type and left.shape == right.shape and np.array_equal(left, right)
