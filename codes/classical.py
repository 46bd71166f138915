"""Compressors that know nothing of images or of this data, on a whole split at once.

One stream holds all examples, in whichever order is shorter: example after example, or position
after position. Nothing is charged for saying which.
"""

import bz2
from collections.abc import Callable
import gzip
import io
import lzma
import math

import numpy as np
from PIL import Image

_COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
  'gzip': lambda data: gzip.compress(data, 9, mtime=0),
  'bzip2': lambda data: bz2.compress(data, 9),
  'xz': lambda data: lzma.compress(data, preset=9 | lzma.PRESET_EXTREME),
}
_PICTURES = {
  'PNG': {'optimize': True},
  'WebP': {'lossless': True, 'quality': 100, 'method': 6},
}
_MOST_VALUES = 2**16
_WEBP_SIDE = 2**14 - 1  # pixels that the format allows


def bits_per_dim(
  tokens_NxT: np.ndarray, vocabulary: int, shape: tuple[int, ...] = ()
) -> dict[str, float]:
  """Bits per token of every compressor, by name; {} for tokens of more than two bytes.

  Args:
    tokens_NxT: the examples.
    vocabulary: token values are below it; up to 256 a token is one byte.
    shape: rows and columns of an example that is a picture: then PNG and lossless WebP take part,
      on one sheet of all examples.
  """
  if vocabulary > _MOST_VALUES:
    return {}
  narrow = vocabulary <= 256
  tokens_NxT = np.ascontiguousarray(tokens_NxT, np.uint8 if narrow else '<u2')
  orders = (tokens_NxT.tobytes(), np.ascontiguousarray(tokens_NxT.T).tobytes())
  found = {
    name: min(len(compress(data)) for data in orders) for name, compress in _COMPRESSORS.items()
  }
  if narrow and len(shape) == 2:
    sheet = Image.fromarray(tile(tokens_NxT, shape))
    for name, settings in _PICTURES.items():
      if name == 'WebP' and max(sheet.size) > _WEBP_SIDE:
        continue
      buffer = io.BytesIO()
      sheet.save(buffer, format=name, **settings)
      found[name] = buffer.tell()
  return {name: 8 * size / tokens_NxT.size for name, size in found.items()}


def tile(tokens_NxT: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
  """All pictures on one nearly square sheet, row by row; places left over are 0."""
  count, (rows, columns) = len(tokens_NxT), shape
  across = math.ceil(math.sqrt(count * rows / columns))
  down = -(-count // across)
  padded = np.zeros((down * across, rows, columns), tokens_NxT.dtype)
  padded[:count] = tokens_NxT.reshape(count, rows, columns)
  return padded.reshape(down, across, rows, columns).swapaxes(1, 2).reshape(down * rows, -1)
