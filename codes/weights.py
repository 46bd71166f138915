"""Weights as bytes: what a decoder needs beside the code of the data, and the weights it reads.

A quantised tensor is coded by itself, on 2^b equally spaced values from its smallest to its
largest:

    kind (1 byte), lowest and highest (float32 each), then
    kind CODED: counts of the 2^b values as Elias gamma codes of count + 1, the number of words of
      the range coder (uint32) and these words (uint32 each), by the tensor's own histogram;
    kind PLAIN: b bits a weight, where the histogram costs more than it saves;
    kind CONSTANT: nothing more, all weights are the lowest.

All is little-endian, parts are padded to bytes, tensors stand one after another in the order of the
tree. Their names and shapes belong to the program, as the network's code does.
"""

from collections.abc import Sequence
import struct

from constriction import stream
import numpy as np

CODED, PLAIN, CONSTANT = 0, 1, 2
_HEAD = struct.Struct('<Bff')
_WORDS = struct.Struct('<I')


def quantise(tensor: np.ndarray, bits: int) -> tuple[np.ndarray, float, float]:
  """Nearest of 2^bits equally spaced values: indices (tensor.size,) int32, lowest, highest.

  Raises:
    ValueError: bits outside 1..16, an empty tensor, or weights that are not finite.
  """
  if not 1 <= bits <= 16:
    raise ValueError(f'bits must lie from 1 to 16, not {bits}')
  flat = np.asarray(tensor, np.float32).ravel()
  if not flat.size or not np.isfinite(flat).all():
    raise ValueError('only finite weights can be coded, at least one')
  low, high = float(flat.min()), float(flat.max())
  if low == high:
    return np.zeros(flat.size, np.int32), low, high
  scaled = (flat.astype(np.float64) - low) / (high - low) * (2**bits - 1)
  return np.rint(scaled).astype(np.int32), low, high


def dequantise(
  indices: np.ndarray, low: float, high: float, bits: int, shape: Sequence[int]
) -> np.ndarray:
  """float32 weights of a shape; off by half a step, (high - low) / (2^bits - 1), at most."""
  values = low + (high - low) * (np.arange(2**bits) / (2**bits - 1))
  return values.astype(np.float32)[indices].reshape(shape)


def encode(tensors: Sequence[np.ndarray], bits: int) -> bytes:
  """The file that holds these tensors, quantised to `bits` bits each."""
  return b''.join(_encode(*quantise(tensor, bits), bits) for tensor in tensors)


def decode(code: bytes, shapes: Sequence[Sequence[int]], bits: int) -> list[np.ndarray]:
  """The quantised tensors, float32, that `encode` wrote; ValueError if the file is no such one."""
  tensors, start = [], 0
  for shape in shapes:
    try:
      tensor, start = _decode(code, start, shape, bits)
    except (struct.error, IndexError) as error:
      raise ValueError('the code of the weights is cut short') from error
    tensors.append(tensor)
  if start != len(code):
    raise ValueError(f'{len(code) - start} bytes behind the last tensor')
  return tensors


def _encode(indices: np.ndarray, low: float, high: float, bits: int) -> bytes:
  if low == high:
    return _HEAD.pack(CONSTANT, low, high)
  counts = np.bincount(indices, minlength=2**bits)
  encoder = stream.queue.RangeEncoder()
  encoder.encode(indices, _model(counts))
  words = encoder.get_compressed().astype('<u4')
  histogram = np.packbits(_gamma(counts + 1)).tobytes()
  coded = histogram + _WORDS.pack(len(words)) + words.tobytes()
  places = np.arange(bits - 1, -1, -1)
  plain = np.packbits((indices[:, None] >> places & 1).astype(np.uint8).ravel()).tobytes()
  kind, body = (CODED, coded) if len(coded) < len(plain) else (PLAIN, plain)
  return _HEAD.pack(kind, low, high) + body


def _decode(code: bytes, start: int, shape: Sequence[int], bits: int) -> tuple[np.ndarray, int]:
  kind, low, high = _HEAD.unpack_from(code, start)
  start += _HEAD.size
  size = int(np.prod(shape))
  if kind == CONSTANT:
    return np.full(shape, low, np.float32), start
  if kind == PLAIN:
    stop = start + -(-size * bits // 8)
    found = np.unpackbits(np.frombuffer(code[start:stop], np.uint8))[: size * bits]
    if len(found) < size * bits:
      raise IndexError
    indices = found.reshape(size, bits) @ (1 << np.arange(bits - 1, -1, -1))
    return dequantise(indices, low, high, bits, shape), stop
  if kind != CODED:
    raise ValueError(f'unknown kind of tensor {kind}')
  counts, start = _read_gamma(code, start, 2**bits)
  counts = counts - 1
  if counts.sum() != size:
    raise ValueError(f'a histogram of {counts.sum()} weights for a tensor of {size}')
  (count,) = _WORDS.unpack_from(code, start)
  start += _WORDS.size
  stop = start + 4 * count
  if stop > len(code):
    raise IndexError
  words = np.frombuffer(code[start:stop], '<u4').astype(np.uint32)
  indices = stream.queue.RangeDecoder(words).decode(_model(counts), size)
  return dequantise(indices, low, high, bits, shape), stop


def _model(counts: np.ndarray) -> stream.model.Categorical:
  return stream.model.Categorical(counts / counts.sum(), perfect=False)


def _gamma(numbers: np.ndarray) -> np.ndarray:
  """Elias gamma codes of positive integers: as many zeros as the number has further bits, it."""
  text = ''.join('0' * (int(n).bit_length() - 1) + f'{int(n):b}' for n in numbers)
  return np.frombuffer(text.encode(), np.uint8) - ord('0')


def _read_gamma(code: bytes, start: int, count: int) -> tuple[np.ndarray, int]:
  """`count` numbers, and the byte behind them; IndexError where the code ends too early."""
  # No number has more than 64 bits, so that a damaged code ends somewhere.
  found = np.unpackbits(np.frombuffer(code[start : start + 16 * count], np.uint8))
  numbers, place = [], 0
  for _ in range(count):
    zeros = 0
    while not found[place]:
      place, zeros = place + 1, zeros + 1
    if place + zeros >= len(found):
      raise IndexError
    numbers.append(int(''.join(map(str, found[place : place + zeros + 1])), 2))
    place += zeros + 1
  return np.array(numbers, np.int64), start + -(-place // 8)
