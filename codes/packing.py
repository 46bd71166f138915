"""Tokens as bytes and as pictures, laid out in every way that may suit a compressor.

A packing is an order of the tokens and a way to store them. The orders: example by example;
pixel-major, the first pixel of every image, then the second; column-major inside each image; one
sheet of tiles, read row by row; channel by channel for colours; and the difference from the pixel
to the left where tokens are levels of a scale (what PNG's filters do). Stored in the 1, 2 or 4
bits that suffice, in bytes, or in two bytes for more than 256 values.

Everything decodes: `unpack(pack(tokens))` is `tokens`.
"""

from collections.abc import Callable
import math
from typing import Any, NamedTuple

import numpy as np

from codes.errors import CodeError


class Layout(NamedTuple):
  """What of a data set decides how its tokens can be laid out.

  Attributes:
    vocabulary: V, tokens are 0..V-1.
    dims: T, tokens an example.
    picture: rows, columns and channels of an example, None if it is no picture.
    ordinal: whether tokens are levels of a scale.
  """

  vocabulary: int
  dims: int
  picture: tuple[int, int, int] | None = None
  ordinal: bool = False


class Packing(NamedTuple):
  """One way of writing N examples as bytes, or a half of one: by a stream of values between them.

  Attributes:
    name: for people.
    pack: tokens (N, T) -> bytes.
    unpack: bytes -> tokens (N, T) int32.
  """

  name: str
  pack: Callable[[Any], Any]
  unpack: Callable[[Any], Any]


def layout(dataset: Any) -> Layout:
  """The layout of a `data.dataset.Dataset`."""
  picture = dataset.pixels
  if picture is None and len(dataset.shape) == 2:
    picture = (*dataset.shape, 1)
  return Layout(dataset.vocabulary, dataset.dims, picture, dataset.ordinal)


def packings(of: Layout, count: int) -> list[Packing]:
  """Every packing of `count` examples of this layout."""
  stores = _stores(of.vocabulary, count * of.dims)
  return [_join(order, store) for order in _orders(of, count) for store in stores]


def _join(order: Packing, store: Packing) -> Packing:
  return Packing(
    f'{order.name}, {store.name}',
    lambda tokens: store.pack(order.pack(tokens)),
    lambda data: order.unpack(store.unpack(data)).astype(np.int32),
  )


def _transposed(name: str, shape: tuple[int, ...], axes: tuple[int, ...], dims: int) -> Packing:
  """Tokens seen as an array of `shape`, written with its axes in another order."""
  moved = tuple(shape[axis] for axis in axes)
  inverse = tuple(int(axis) for axis in np.argsort(axes))
  return Packing(
    name,
    lambda tokens: tokens.reshape(shape).transpose(axes).reshape(-1),
    lambda stream: stream.reshape(moved).transpose(inverse).reshape(-1, dims),
  )


def _orders(of: Layout, count: int) -> list[Packing]:
  dims = of.dims
  orders = [_transposed('example by example', (count, dims), (0, 1), dims)]
  if of.picture is None:
    return orders
  height, width, channels = of.picture
  whole = (count, height, width, channels)
  orders.append(_transposed('pixel-major', (count, dims), (1, 0), dims))
  orders.append(_transposed('column-major', whole, (0, 2, 1, 3), dims))
  across = divisor_near_root(count)
  tiles = (count // across, across, height, width * channels)
  orders.append(_transposed(f'sheet {across} across', tiles, (0, 2, 1, 3), dims))
  if channels > 1:
    orders.append(_transposed('channel by channel', whole, (3, 0, 1, 2), dims))
  if of.ordinal:
    orders.append(_differences(of))
  return orders


def _differences(of: Layout) -> Packing:
  """Each pixel minus the one to its left in the same channel, modulo V."""
  height, width, channels = of.picture
  rows = (-1, height, width, channels)

  def forth(tokens_NxT: np.ndarray) -> np.ndarray:
    differences = np.diff(tokens_NxT.reshape(rows).astype(np.int64), axis=2, prepend=0)
    return (differences % of.vocabulary).reshape(-1)

  def back(stream: np.ndarray) -> np.ndarray:
    sums = np.cumsum(stream.reshape(rows).astype(np.int64), axis=2) % of.vocabulary
    return sums.reshape(-1, of.dims)

  return Packing('differences', forth, back)


def _stores(vocabulary: int, size: int) -> list[Packing]:
  """Ways to store `size` values below `vocabulary`."""
  if vocabulary > 2**16:
    raise CodeError(f'{vocabulary} token values do not fit 16 bits')
  if vocabulary > 256:
    split = Packing(
      'high bytes, then low',
      lambda values: np.concatenate([values >> 8, values & 255]).astype(np.uint8).tobytes(),
      lambda data: np.frombuffer(data, np.uint8).reshape(2, -1).astype(np.int32).T @ [256, 1],
    )
    return [_plain('16 bits', np.dtype('<u2')), split]
  stores = [_plain('bytes', np.dtype(np.uint8))]
  if vocabulary <= 16:
    stores.append(_bits(depth(vocabulary), size))
  return stores


def _plain(name: str, dtype: np.dtype) -> Packing:
  return Packing(
    name,
    lambda values: values.astype(dtype).tobytes(),
    lambda data: np.frombuffer(data, dtype),
  )


def _bits(bits: int, size: int) -> Packing:
  """8 / bits values a byte, the first in the highest bits; the last byte is filled with zeros."""

  def forth(values: np.ndarray) -> bytes:
    return np.packbits(binary(values, bits)).tobytes()

  def back(data: bytes) -> np.ndarray:
    flat = np.unpackbits(np.frombuffer(data, np.uint8), count=size * bits)
    return flat.reshape(-1, bits) @ (1 << np.arange(bits)[::-1])

  return Packing(f'{bits} bit' + 's' * (bits > 1), forth, back)


def depth(vocabulary: int) -> int:
  """The fewest of 1, 2, 4, 8 or 16 bits that hold a token."""
  return next(bits for bits in (1, 2, 4, 8, 16) if vocabulary <= 1 << bits)


def binary(values: np.ndarray, bits: int) -> np.ndarray:
  """Binary digits of values (...,) along a new last axis, highest first; uint8."""
  return (values[..., None] >> np.arange(bits)[::-1] & 1).astype(np.uint8)


def divisor_near_root(count: int) -> int:
  """The divisor of `count` nearest to its square root, at least 1."""
  return min(
    (d for d in range(1, math.isqrt(count) + 1) if count % d == 0),
    key=lambda d: abs(d - math.sqrt(count)),
    default=1,
  )
