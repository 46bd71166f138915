"""The file around a code: what made it, where it ends, and whether it is whole. docs/format.md.

    header: magic, version, mode, kind, sizes, digests, words on the program, settings, check
    frame:  examples, words, digest of all symbols so far, check, then the words of a range coder
    frame ...
    end:    a mark, the number of frames, the chain

A chain of SHA-256 runs from the header through every frame to the end. A check is eight bytes of
the chain with what it covers, so that a frame belongs to everything before it and the end to the
whole. `Reader` walks through all of it before anything is decoded. The digests are of decoded
symbols: what is decoded wrongly is refused, not returned. Numbers are little-endian.
"""

from collections.abc import Iterator
import dataclasses
import hashlib
import math
import os
import struct
from typing import Any, BinaryIO
import zlib

import numpy as np

from codes.errors import CodeError

MAGIC = b'BPcz'
VERSION = 2
NETWORK, ADAPTIVE, GOES_ON = 0, 1, 2
BYTES, ARRAY = 0, 1
_HEAD = struct.Struct('<4sBBBBIQ8s8sBHII')
_FRAME = struct.Struct('<II8s')
_END, _END_MARK = struct.Struct('<4sI16s'), b'BPc.'
_CHECK = 8
_DTYPES = ('|i1', '|u1', '<i2', '<u2', '<i4', '<u4', '<i8', '<u8')
_NO_DTYPE = 255
# Limits of a header. Whatever is beyond them is refused before anything is made of its size.
MOST_BATCH, MOST_SYMBOLS, MOST_AXES = 2**16, 2**40, 8
MOST_PROGRAM, MOST_SETTINGS = 512, 2**16


class StreamError(CodeError):
  """A file that can't be decoded here; one line."""


@dataclasses.dataclass(frozen=True)
class Header:
  """What is known before the first symbol.

  Attributes:
    mode: NETWORK (a trained one is needed), ADAPTIVE (the decoder learns while it decodes) or
      GOES_ON (a trained one is needed and goes on learning).
    kind: BYTES (a file) or ARRAY (examples of some shape).
    batch: examples that the step computes at a time, or the most of a growing batch.
    total: bytes of the file, or examples of the array.
    model: fingerprint of the network, zeros without one.
    canary: digest of what is computed on made-up examples.
    program: what computes, in words: printable ASCII.
    dtype: of the array; '' for bytes.
    shape: of one example of the array; () for bytes.
    settings: JSON for codes that learn and for a network that codes in any order, else empty.
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
    program, settings = _printable(self.program).encode(), zlib.compress(self.settings, 9)
    head = _HEAD.pack(
      MAGIC, VERSION, self.mode, self.kind, dtype, self.batch, self.total, self.model, self.canary,
      len(self.shape), len(program), len(settings), len(self.settings),
    )  # fmt: skip
    packed = head + struct.pack(f'<{len(self.shape)}I', *self.shape) + program + settings
    return packed + Chain().check(packed)

  def symbols(self, dims: int) -> int:
    """How many are coded; StreamError unless examples are of `dims` symbols."""
    if self.kind == BYTES:
      return self.total
    if math.prod(self.shape) != dims:
      raise StreamError(f'holds examples of shape {self.shape}; this network knows {dims} tokens')
    return self.total * dims


class Chain:
  """A digest of everything so far."""

  def __init__(self):
    self._found = hashlib.sha256(b'codes.container')

  def check(self, part: bytes) -> bytes:
    """Takes a part in; eight bytes for the whole up to its end."""
    self._found.update(len(part).to_bytes(8, 'little') + part)
    return self._found.digest()[:_CHECK]

  def end(self) -> bytes:
    return self._found.digest()[:16]


def dtype_of(dtype: np.dtype) -> str:
  """The name by which a header knows an integer dtype; ValueError for any other."""
  name = dtype.newbyteorder('<').str
  if name not in _DTYPES:
    raise ValueError(f'an array of {dtype} can not be coded, only one of integers')
  return name


class Writer:
  """Writes a file frame by frame; StreamError for a header beyond the limits.

  Attributes:
    size: bytes so far.
  """

  def __init__(self, out: BinaryIO, header: Header):
    self._out, self._chain, self._frames, self.size = out, Chain(), 0, 0
    _check_limits(header)  # What no decoder takes is not begun.
    packed = header.pack()
    self._chain.check(packed[:-_CHECK])
    self._write(packed)

  def _write(self, data: bytes) -> None:
    self._out.write(data)
    self.size += len(data)

  def frame(self, examples: int, digest: bytes, words: bytes) -> None:
    head = _FRAME.pack(examples, len(words) // 4, digest)
    self._write(head + self._chain.check(head + words) + words)
    self._frames += 1

  def end(self) -> None:
    self._write(_END.pack(_END_MARK, self._frames, self._chain.end()))


class Reader:
  """Reads a file, all of which has been checked against its chain when this is made.

  Args:
    file: at its beginning; one that can seek.

  Attributes:
    header: of the file.

  Raises:
    StreamError: not such a file, of another version, beyond the limits, cut short or damaged.
  """

  def __init__(self, file: BinaryIO):
    self._file, self._chain, self._frames = file, Chain(), 0
    start = file.tell()
    self._left = file.seek(0, os.SEEK_END) - start
    file.seek(start)
    self.header = self._read_header()
    self._first, examples = file.tell(), 0
    # Examples are bounded here, symbols an example only once it is known who decodes.
    while self._left > _END.size:
      count, length, _ = self._frame_head()
      examples += count
      self._read(4 * length, f'frame {self._frames - 1}')
    self._check_end()
    self._examples = examples
    file.seek(self._first)

  def _read_header(self) -> Header:
    start = self._file.read(_HEAD.size)
    if start[: len(MAGIC)] != MAGIC:
      raise StreamError('not a file that launch.compress wrote')
    if len(start) > 4 and start[4] != VERSION:
      raise StreamError(f'format version {start[4]}; this program reads version {VERSION}')
    if len(start) < _HEAD.size:
      raise StreamError('cut short inside the header')
    self._left -= len(start)
    _, _, mode, kind, dtype, batch, total, model, canary, axes, words, packed, length = (
      _HEAD.unpack(start)
    )
    if axes > MOST_AXES or words > MOST_PROGRAM or max(packed, length) > MOST_SETTINGS:
      raise StreamError('the header claims more than the format allows')
    body = self._read(4 * axes + words + packed, 'the header')
    if self._read(_CHECK, 'the header') != self._chain.check(start + body):
      raise StreamError('the header is damaged')
    shape = struct.unpack(f'<{axes}I', body[: 4 * axes])
    program = body[4 * axes : 4 * axes + words].decode('latin-1')
    header = Header(
      mode, kind, batch, total, model, canary, program, _dtype(dtype), shape,
      _inflated(body[4 * axes + words :], length),
    )  # fmt: skip
    _check_limits(header)
    return header

  def _frame_head(self) -> tuple[int, int, bytes]:
    """Examples, words and digest of the next frame, whose check is right."""
    number, head = self._frames, self._read(_FRAME.size, f'frame {self._frames}')
    count, length, digest = _FRAME.unpack(head)
    check = self._read(_CHECK, f'frame {number}')
    if 4 * length > self._left:
      raise StreamError(f'cut short inside frame {number}, or its length is damaged')
    place = self._file.tell()
    if not count or check != self._chain.check(head + self._file.read(4 * length)):
      raise StreamError(f'frame {number} is damaged or of another file')
    self._file.seek(place)
    self._frames += 1
    return count, length, digest

  def _check_end(self) -> None:
    mark, frames, chain = _END.unpack(self._read(_END.size, 'the end'))
    if (mark, frames, chain) != (_END_MARK, self._frames, self._chain.end()):
      raise StreamError('the end is damaged, or of another file')

  def _read(self, size: int, where: str) -> bytes:
    if size > self._left:
      raise StreamError(f'cut short inside {where}')
    self._left -= size
    return self._file.read(size)

  def check_examples(self, examples: int) -> None:
    """StreamError unless the frames hold so many."""
    if examples != self._examples:
      raise StreamError(f'holds {self._examples:,} examples, its header claims {examples:,}')

  def frames(self, examples: int, dims: int) -> Iterator[tuple[int, bytes, bytes]]:
    """Examples, digest and words of every frame.

    Args:
      examples: that the header stands for.
      dims: symbols of one of them.

    Raises:
      StreamError: frames that can't be those of so many examples.
    """
    self.check_examples(examples)
    self._file.seek(self._first)
    for number in range(self._frames):
      count, length, digest = _FRAME.unpack(self._file.read(_FRAME.size))
      self._file.seek(_CHECK, os.SEEK_CUR)
      if length > count * dims + 4:
        raise StreamError(f'frame {number} is longer than its symbols allow')
      yield count, digest, self._file.read(4 * length)


def _dtype(number: int) -> str:
  if number != _NO_DTYPE and number >= len(_DTYPES):
    raise StreamError(f'the header names the unknown dtype {number}')
  return '' if number == _NO_DTYPE else _DTYPES[number]


def _inflated(packed: bytes, length: int) -> bytes:
  """The settings; StreamError unless they are of the length that the header says."""
  inflate = zlib.decompressobj()
  try:
    settings = inflate.decompress(packed, length + 1)
  except zlib.error as error:
    raise StreamError('the settings in the header are damaged') from error
  if len(settings) != length or not inflate.eof or inflate.unused_data:
    raise StreamError('the settings in the header are damaged')
  return settings


def _check_limits(header: Header) -> None:
  """StreamError for a header that no encoder wrote."""
  if header.mode not in (NETWORK, ADAPTIVE, GOES_ON):
    raise StreamError(f'the header names the unknown mode {header.mode}')
  if header.kind not in (BYTES, ARRAY):
    raise StreamError(f'the header names the unknown kind {header.kind}')
  if (header.kind == ARRAY) != bool(header.dtype) or (header.kind == ARRAY) != bool(header.shape):
    raise StreamError('the header gives a file of bytes a shape, or an array none')
  if not 1 <= header.batch <= MOST_BATCH:
    raise StreamError(f'the header claims batches of {header.batch:,} examples')
  if header.total * math.prod(header.shape) > MOST_SYMBOLS or 0 in header.shape:
    raise StreamError('the header claims more symbols than the format allows, or empty examples')
  if _printable(header.program) != header.program:
    raise StreamError('the header says in unprintable words what wrote it')
  if header.mode != NETWORK and not header.settings:
    raise StreamError('the header has no settings where it needs them')
  if len(header.shape) > MOST_AXES or len(header.settings) > MOST_SETTINGS:
    raise StreamError('the header claims more than the format allows')


def check_whole(made: Any) -> None:
  """ValueError unless every field of a dataclass that is to be a whole number is one."""
  for field in dataclasses.fields(made):
    value = getattr(made, field.name)
    if field.type is int and type(value) is not int:
      raise ValueError(f'{field.name} must be a whole number, not {value}')


def _printable(text: str) -> str:
  return ''.join(c if ' ' <= c <= '~' else '?' for c in text)[:MOST_PROGRAM]


class Digest:
  """Eight bytes of a digest of all symbols so far."""

  def __init__(self):
    self._found = hashlib.sha256()

  def of(self, symbols: np.ndarray) -> bytes:
    self._found.update(np.ascontiguousarray(symbols, '<i4').tobytes())
    return self._found.digest()[:8]


def slices(count: int, size: int) -> Iterator[tuple[int, int]]:
  """(start, stop) of parts of `size` that cover 0..count-1; the last may be shorter."""
  for start in range(0, count, size):
    yield start, min(start + size, count)
