"""Files that launch.compress codes: NumPy arrays of examples, and bytes."""

from collections.abc import Iterator
import os
from typing import BinaryIO
import zipfile

import numpy as np

from codes import codec, container
import objectives
from runs.errors import UserError


def source(path: str, space: objectives.Space, windows: bool) -> tuple[codec.Source, dict]:
  """What to code of a file, and the header's fields that describe it.

  Args:
    path: of the file.
    space: of the run's examples.
    windows: whether examples are windows of a file: then any file will do, as its bytes.

  Raises:
    UserError: a file that isn't of this space, or can't be read.
  """
  if windows:
    size = os.path.getsize(path)

    def read(start: int, stop: int) -> np.ndarray:
      count = min(stop * space.dims, size) - start * space.dims
      return np.fromfile(path, np.uint8, count, offset=start * space.dims)

    return codec.Source(size, read), {'kind': container.BYTES}
  array = open_array(path)
  if array.ndim < 2 or np.prod(array.shape[1:]) != space.dims:
    shape = ' x '.join(map(str, space.shape)) or space.dims
    raise UserError(
      f'{path} has shape {array.shape}; the run knows N examples of {space.dims} tokens ({shape})'
    )
  try:
    dtype = container.dtype_of(array.dtype)
  except ValueError as error:
    raise UserError(f'{path}: {error}') from error
  total = array.shape[0] * space.dims
  fields = {'kind': container.ARRAY, 'dtype': dtype, 'shape': array.shape[1:]}
  return codec.Source(total, lambda start, stop: array[start:stop].reshape(-1)), fields


def open_array(path: str) -> np.ndarray:
  try:
    try:
      array = np.load(path, mmap_mode='r', allow_pickle=False)
    except ValueError:
      array = np.load(path, allow_pickle=False)  # Empty arrays can't be mapped.
  except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    raise UserError(f'{path} is not a NumPy file (.npy) of examples: {reason}') from error
  if not isinstance(array, np.ndarray):
    raise UserError(f'{path} is not a NumPy file (.npy) of examples: it holds several arrays')
  return array


def check_shape(header: container.Header, dims: int) -> None:
  """StreamError unless the examples are of so many tokens."""
  if header.kind == container.ARRAY and np.prod(header.shape, dtype=np.int64) != dims:
    raise container.StreamError(
      f'holds examples of shape {header.shape}; this network knows {dims} tokens'
    )


def symbols(header: container.Header, dims: int) -> int:
  return header.total if header.kind == container.BYTES else header.total * dims


def examples(header: container.Header, dims: int) -> int:
  return codec.count_examples(symbols(header, dims), dims)


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
  except UserError:
    return False
  same_type = left.dtype.newbyteorder('=') == right.dtype.newbyteorder('=')
  return same_type and left.shape == right.shape and np.array_equal(left, right)


def describe(path: str, space: objectives.Space, windows: bool, sizes: codec.Sizes) -> list[str]:
  """What was coded and what it took, for people."""
  raw = os.path.getsize(path)
  unit = 'bits/byte' if windows else 'bits/dim'

  def row(name: str, bits: float, words: str) -> str:
    rate = f'{bits / sizes.symbols:8.4f} {unit}' if sizes.symbols else 'n/a'
    return f'{name:13} {bits / 8:12,.0f} bytes  {rate}  {words}'

  uniform = sizes.symbols * np.log2(space.vocabulary)
  return [
    f'{path}: {sizes.symbols:,} symbols of {space.vocabulary} values; the file has {raw:,} bytes',
    row('stream', 8 * sizes.file_bytes, 'all that is written'),
    row('code', sizes.payload_bits, 'without header and frames'),
    row('ideal', sizes.ideal_bits, '-Σ log2 p'),
    row('uniform', uniform, f'log2 {space.vocabulary} a symbol'),
  ]
