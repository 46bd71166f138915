"""The file around a code: what made it, where it ends, and whether it is whole.

    header: magic, version, mode, kind, sizes, digests, words on the program, settings, checksum
    frame:  examples, words, digest of the symbols, checksum, then the words of a range coder
    frame ...

A frame's checksum covers its head, its words, its number and the header's checksum: frames can't
be damaged, swapped, left out or taken from another file unnoticed. The digest is of the decoded
symbols: what is decoded wrongly is refused, not returned. Numbers are little-endian.
"""

from collections.abc import Iterator
import dataclasses
import hashlib
import struct
from typing import BinaryIO
import zlib

import numpy as np

from codes.errors import CodeError

MAGIC = b'BPcz'
VERSION = 1
NETWORK, PREQUENTIAL = 0, 1
BYTES, ARRAY = 0, 1
_HEAD = struct.Struct('<4sBBBBIQ8s8sBI')
_FRAME = struct.Struct('<II8sI')
_CHECK = struct.Struct('<I')
_DTYPES = ('|i1', '|u1', '<i2', '<u2', '<i4', '<u4', '<i8', '<u8')
_NO_DTYPE = 255
_MOST_SETTINGS = 2**20


class StreamError(CodeError):
  """A file that can't be decoded here; one line."""


@dataclasses.dataclass(frozen=True)
class Header:
  """What is known before the first symbol.

  Attributes:
    mode: NETWORK (a trained one is needed) or PREQUENTIAL (trained while decoding).
    kind: BYTES (a file) or ARRAY (examples of some shape).
    batch: examples that the step computes at a time.
    total: bytes of the file, or examples of the array.
    model: fingerprint of the network, zeros without one.
    canary: digest of what its step computes on made-up examples.
    program: what compiled the step, in words.
    dtype: of the array; '' for bytes.
    shape: of one example of the array; () for bytes.
    settings: JSON for the prequential mode, else empty.
  """

  mode: int
  kind: int
  batch: int
  total: int
  model: bytes
  canary: bytes
  program: str
  dtype: str = ''
  shape: tuple[int, ...] = ()
  settings: bytes = b''

  def pack(self) -> bytes:
    dtype = _DTYPES.index(self.dtype) if self.dtype else _NO_DTYPE
    program, settings = self.program.encode(), zlib.compress(self.settings, 9)
    head = _HEAD.pack(
      MAGIC, VERSION, self.mode, self.kind, dtype, self.batch, self.total, self.model, self.canary,
      len(self.shape), len(settings),
    )  # fmt: skip
    body = struct.pack(f'<{len(self.shape)}IH', *self.shape, len(program)) + program + settings
    return head + body + _CHECK.pack(zlib.crc32(head + body))

  def symbols(self, dims: int) -> int:
    """How many are coded; StreamError unless examples are of `dims` symbols."""
    if self.kind == BYTES:
      return self.total
    if np.prod(self.shape, dtype=np.int64) != dims:
      raise StreamError(f'holds examples of shape {self.shape}; this network knows {dims} tokens')
    return self.total * dims


def dtype_of(dtype: np.dtype) -> str:
  """The name by which a header knows an integer dtype; ValueError for any other."""
  name = dtype.newbyteorder('<').str
  if name not in _DTYPES:
    raise ValueError(f'an array of {dtype} can not be coded, only one of integers')
  return name


def read_header(file: BinaryIO) -> tuple[Header, int]:
  """The header and its checksum, which frames carry on.

  Raises:
    StreamError: not such a file, of another version, cut short or damaged.
  """
  start = file.read(_HEAD.size)
  if start[: len(MAGIC)] != MAGIC:
    raise StreamError('not a file that launch.compress wrote')
  if len(start) > 4 and start[4] != VERSION:
    raise StreamError(f'format version {start[4]}; this program reads version {VERSION}')
  if len(start) < _HEAD.size:
    raise StreamError('cut short inside the header')
  _, _, mode, kind, dtype, batch, total, model, canary, axes, length = _HEAD.unpack(start)
  if length > _MOST_SETTINGS:
    raise StreamError('the header is damaged')
  middle = _exactly(file, 4 * axes + 2, 'header')
  *shape, words = struct.unpack(f'<{axes}IH', middle)
  rest = _exactly(file, words + length, 'header')
  (check,) = _CHECK.unpack(_exactly(file, _CHECK.size, 'header'))
  if check != zlib.crc32(start + middle + rest):
    raise StreamError('the header is damaged')
  header = Header(
    mode=mode,
    kind=kind,
    batch=batch,
    total=total,
    model=model,
    canary=canary,
    program=rest[:words].decode(),
    dtype='' if dtype == _NO_DTYPE else _DTYPES[dtype],
    shape=tuple(shape),
    settings=zlib.decompress(rest[words:]),
  )
  return header, check


def pack_frame(symbols: np.ndarray, examples: int, words: bytes, number: int, seal: int) -> bytes:
  """One frame; `seal` is the header's checksum."""
  head = struct.pack('<II8s', examples, len(words) // 4, digest(symbols))
  return head + _CHECK.pack(_checksum(head, words, number, seal)) + words


def read_frame(
  file: BinaryIO, number: int, seal: int, examples: int, symbols: int
) -> tuple[int, bytes, bytes]:
  """The number of examples, the digest of their symbols, and the words of the next frame.

  Args:
    file: at the frame's beginning.
    number: of the frame, from 0.
    seal: the header's checksum.
    examples: that are still to come.
    symbols: of one example, which bounds what a damaged length can make us read.

  Raises:
    StreamError: cut short or damaged.
  """
  start = _exactly(file, _FRAME.size, f'frame {number}')
  count, length, wanted, check = _FRAME.unpack(start)
  if not 0 < count <= examples or length > count * symbols + 4:
    raise StreamError(f'frame {number} is damaged')
  words = _exactly(file, 4 * length, f'frame {number}')
  if check != _checksum(start[: -_CHECK.size], words, number, seal):
    raise StreamError(f'frame {number} is damaged')
  return count, wanted, words


def digest(symbols: np.ndarray) -> bytes:
  """Eight bytes of a digest of symbols."""
  return hashlib.sha256(np.ascontiguousarray(symbols, '<i4').tobytes()).digest()[:8]


def check_end(file: BinaryIO) -> None:
  """StreamError if anything follows the last frame."""
  if file.read(1):
    raise StreamError('something follows the last frame')


def slices(count: int, size: int) -> Iterator[tuple[int, int]]:
  """(start, stop) of parts of `size` that cover 0..count-1; the last may be shorter."""
  for start in range(0, count, size):
    yield start, min(start + size, count)


def _checksum(head: bytes, words: bytes, number: int, seal: int) -> int:
  return zlib.crc32(words, zlib.crc32(head, zlib.crc32(struct.pack('<II', number, seal))))


def _exactly(file: BinaryIO, size: int, where: str) -> bytes:
  found = file.read(size)
  if len(found) < size:
    raise StreamError(f'cut short inside {where if where[-1].isdigit() else "the " + where}')
  return found
