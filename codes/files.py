"""Files that are coded: NumPy arrays of examples, and bytes."""

from collections.abc import Iterator
import math
import os
from typing import Any, BinaryIO

import numpy as np

from codes import codec, container
from codes.errors import CodeError


def source(path: str, space: Any, windows: bool) -> tuple[codec.Source, dict]:
  """What to code of a file, and the header's fields that describe it.

  Args:
    path: of the file.
    space: of the run's examples (`objectives.Space`).
    windows: whether examples are windows of a file: then any file will do, as its bytes.

  Raises:
    CodeError: a file that isn't of this space, or can't be read.
  """
  if windows:
    size = os.path.getsize(path)

    def read(start: int, stop: int) -> np.ndarray:
      return np.fromfile(path, np.uint8, stop - start, offset=start)

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
  flat = array.reshape(-1)
  source = codec.Source(flat.size, lambda a, b: flat[a:b])
  return source, fields


def open_array(path: str) -> np.ndarray:
  """The array of a .npy file, mapped; CodeError for anything else."""
  try:
    with open(path, 'rb') as file:
      _check_npy(file)
    try:
      array = np.load(path, mmap_mode='r', allow_pickle=False)
    except ValueError:
      array = np.load(path, allow_pickle=False)  # Empty arrays can't be mapped.
  except Exception as error:  # Whatever anyone may have written there.
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    reason = ''.join(c if c.isprintable() else '?' for c in reason[:200])
    raise CodeError(f'{path} is not a NumPy file (.npy) of examples: {reason}') from error
  if not isinstance(array, np.ndarray):
    raise CodeError(f'{path} is not a NumPy file (.npy) of examples: it holds several arrays')
  return array


def _check_npy(file: BinaryIO) -> None:
  """ValueError if a .npy file's header claims more than the file holds."""
  read = np.lib.format
  if file.read(len(read.MAGIC_PREFIX)) != read.MAGIC_PREFIX:
    return
  file.seek(0)
  version = read.read_magic(file)
  readers = {(1, 0): read.read_array_header_1_0, (2, 0): read.read_array_header_2_0}
  if version not in readers:
    raise ValueError(f'of version {version[0]}.{version[1]}')
  shape, _, dtype = readers[version](file)
  claimed, start = math.prod(shape) * dtype.itemsize, file.tell()
  held = file.seek(0, os.SEEK_END) - start
  if min(shape, default=0) < 0 or claimed > held:
    raise ValueError(f'its header claims {claimed:,} bytes, the file has {held:,}')


def decode(
  predictor: codec.Predictor,
  reader: container.Reader,
  out: BinaryIO,
  progress: codec.Progress = lambda symbols: None,
) -> int:
  """Writes the file that was coded; returns its number of symbols.

  Args:
    predictor: what encoded.
    reader: of the coded file.
    out: where the decoded file goes.
    progress: told of symbols decoded.

  Raises:
    StreamError: damaged, or encoded by something else.
  """
  total = reader.header.symbols(predictor.dims)
  reader.check_examples(codec.count_examples(total, predictor.dims))
  try:
    predictor.check(reader.header)
    write(reader.header, codec.decode(predictor, total, reader, progress), out)
  except ValueError as error:  # A network that diverges, as a header may have it.
    raise container.StreamError(f'can not be decoded: {error}') from error
  return total


def write(header: container.Header, parts: Iterator[np.ndarray], out: BinaryIO) -> None:
  """Writes decoded symbols as the file they were."""
  dtype = np.dtype(np.uint8)
  if header.kind == container.ARRAY:
    dtype, shape = np.dtype(header.dtype), (header.total, *header.shape)
    described = {'descr': np.lib.format.dtype_to_descr(dtype), 'fortran_order': False}
    np.lib.format.write_array_header_1_0(out, {**described, 'shape': shape})
  for part in parts:
    if part.max(initial=0) > np.iinfo(dtype).max:
      raise container.StreamError(f'holds symbols that are no {dtype}')
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
