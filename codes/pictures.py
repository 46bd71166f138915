"""Tokens as PNG and lossless WebP pictures: one sheet for all examples, in many shapes.

A sheet shows the images as tiles, so many across; or one image a row, or one a column, of which
the other direction is the same pixel of the next image. Tiles that are left over are zero.

PNG is written here and not by a library, with everything an optimiser tries: the smallest bit
depth, each of the five filters for the whole sheet as well as the choice row by row by the least
sum of absolute differences, and both deflate strategies. WebP is libwebp's slowest setting, which
finds palettes and packs their indices by itself; its sides end at 16,383 pixels. JPEG XL is
libjxl's lossless mode at effort 9, by a plug-in of Pillow's that is optional.
"""

from collections.abc import Callable
import importlib.util
import io
import math
import struct
from typing import NamedTuple
import zlib

import numpy as np
from PIL import Image

from codes import packing
from codes.packing import Layout

# A sheet of a few small images repays trying many shapes; those of a large one take minutes each.
_MANY_SHAPES = 2**20
_WEBP_SIDE = 16_383


class Sheet(NamedTuple):
  """One way of showing N examples as a picture.

  Attributes:
    name: for people.
    draw: tokens (N, T) -> pixels (rows, columns, channels).
    read: the inverse.
  """

  name: str
  draw: Callable[[np.ndarray], np.ndarray]
  read: Callable[[np.ndarray], np.ndarray]


def sheets(of: Layout, count: int) -> list[Sheet]:
  """Sheets of `count` examples of a layout with a picture."""
  height, width, channels = of.picture
  many = count * of.dims <= _MANY_SHAPES
  root = math.isqrt(count)
  wanted = {1, 2, 4, 8, 16, 32, root, packing.divisor_near_root(count), count} if many else {root}
  found = [_tiles(of, count, across) for across in sorted(wanted) if across <= count]
  rows = (count, height * width, channels)
  found.append(Sheet('an image a row', lambda t: t.reshape(rows), lambda x: x.reshape(count, -1)))
  found.append(
    Sheet(
      'an image a column',
      lambda tokens: tokens.reshape(rows).swapaxes(0, 1),
      lambda pixels: pixels.swapaxes(0, 1).reshape(count, -1),
    )
  )
  return found


def _tiles(of: Layout, count: int, across: int) -> Sheet:
  height, width, channels = of.picture
  down = -(-count // across)

  def draw(tokens_NxT: np.ndarray) -> np.ndarray:
    filled = np.pad(tokens_NxT, ((0, down * across - count), (0, 0)))
    tiles = filled.reshape(down, across, height, width, channels)
    return tiles.swapaxes(1, 2).reshape(down * height, across * width, channels)

  def read(pixels: np.ndarray) -> np.ndarray:
    tiles = pixels.reshape(down, height, across, width, channels).swapaxes(1, 2)
    return tiles.reshape(down * across, of.dims)[:count]

  return Sheet(f'sheet {across} across', draw, read)


def png(pixels: np.ndarray, vocabulary: int) -> bytes:
  """The smallest PNG file of pixels (rows, columns, 1 or 3) below `vocabulary`."""
  rows, columns, channels = pixels.shape
  bits = packing.depth(vocabulary)
  flat = pixels.reshape(rows, columns * channels)
  if bits == 16:
    lines = np.ascontiguousarray(flat, '>u2').view(np.uint8)
  elif bits == 8:
    lines = flat.astype(np.uint8)
  else:
    lines = np.packbits(packing.binary(flat, bits).reshape(rows, -1), axis=1)
  body = min(_scanlines(lines, max(1, channels * bits // 8)), key=len)
  header = struct.pack('>IIBBBBB', columns, rows, bits, 0 if channels == 1 else 2, 0, 0, 0)
  parts = [(b'IHDR', header), (b'IDAT', body), (b'IEND', b'')]
  return b'\x89PNG\r\n\x1a\n' + b''.join(_chunk(*part) for part in parts)


def _chunk(kind: bytes, content: bytes) -> bytes:
  check = zlib.crc32(kind + content)
  return struct.pack('>I', len(content)) + kind + content + struct.pack('>I', check)


def _scanlines(lines_HxW: np.ndarray, lag: int) -> list[bytes]:
  """Lines of bytes, filtered and deflated in every way; `lag` bytes to the same channel left."""
  x = lines_HxW.astype(np.int16)
  left = np.pad(x, ((0, 0), (lag, 0)))[:, :-lag]
  up = np.pad(x, ((1, 0), (0, 0)))[:-1]
  corner = np.pad(x, ((1, 0), (lag, 0)))[:-1, :-lag]
  estimate = left + up - corner
  distance = [np.abs(estimate - near) for near in (left, up, corner)]
  first = (distance[0] <= distance[1]) & (distance[0] <= distance[2])
  paeth = np.where(first, left, np.where(distance[1] <= distance[2], up, corner))
  predictions = (np.zeros_like(x), left, up, (left + up) >> 1, paeth)
  filtered_FxHxW = np.stack([(x - near).astype(np.uint8) for near in predictions])
  sums_FxH = np.abs(filtered_FxHxW.view(np.int8).astype(np.int32)).sum(-1)
  choices = [np.full(len(x), kind) for kind in range(5)] + [sums_FxH.argmin(0)]
  found = []
  for choice_H in choices:
    chosen_HxW = filtered_FxHxW[choice_H, np.arange(len(x))]
    raw = np.concatenate([choice_H[:, None].astype(np.uint8), chosen_HxW], axis=1).tobytes()
    for strategy in (zlib.Z_DEFAULT_STRATEGY, zlib.Z_FILTERED):
      deflate = zlib.compressobj(9, zlib.DEFLATED, 15, 9, strategy)
      found.append(deflate.compress(raw) + deflate.flush())
  return found


def webp(pixels: np.ndarray, vocabulary: int) -> bytes | None:
  """The smallest lossless WebP file of pixels (rows, columns, 1 or 3), None if it is too large."""
  rows, columns, channels = pixels.shape
  if max(rows, columns) > _WEBP_SIDE:
    return None
  if channels == 3:
    coloured = [pixels]
  elif vocabulary > 256:
    coloured = [np.concatenate([pixels >> 8, pixels & 255, 0 * pixels], axis=2)]
  else:
    # Grey, and in green alone, which saves the other channels where libwebp does not see it.
    coloured = [pixels.repeat(3, axis=2), np.pad(pixels, ((0, 0), (0, 0), (1, 1)))]
  found = []
  for colours in coloured:
    buffer = io.BytesIO()
    image = Image.fromarray(colours.astype(np.uint8), 'RGB')
    image.save(buffer, 'WEBP', lossless=True, quality=100, method=6, exact=True)
    found.append(buffer.getvalue())
  return min(found, key=len)


NO_JXL = (
  None
  if importlib.util.find_spec('pillow_jxl')
  else "pillow-jxl-plugin is not installed: pip install '.[baselines]'"
)
_JXL_EFFORT = 9


def jxl(pixels: np.ndarray, vocabulary: int) -> bytes | None:
  """A lossless JPEG XL file of pixels (rows, columns, 1 or 3); None for more than 256 levels."""
  import pillow_jxl  # noqa: F401 - registers the format.

  if vocabulary > 256:
    return None
  buffer = io.BytesIO()
  picture = pixels.astype(np.uint8)
  image = Image.fromarray(picture[..., 0] if picture.shape[2] == 1 else picture)
  image.save(buffer, 'JXL', lossless=True, effort=_JXL_EFFORT)
  return buffer.getvalue()
