"""General-purpose lossless compressors, each as a pair of functions on bytes.

Sizes are those of whole files: container, header and checksum included, as the command-line tools
write them (gzip without a file name or time). Windows are as large as the data, so that nothing
that was read is out of reach, except for gzip (32 kB) and bzip2 (blocks of 900 kB), whose formats
end there, and brotli (16 MB).

brotli and PPMd (variant I, by pyppmd) are optional: `pip install '.[baselines]'`.
"""

import bz2
from collections.abc import Callable
import gzip
import importlib.util
import lzma
from typing import NamedTuple

import zstandard

# What the formats and their encoders allow: LZMA 1.5 GB, zstd 2 GB.
LARGEST = 2**30
# Where that is not as much as there is.
WINDOWS = {'brotli -q11': 2**24 - 16}
# Literal contexts, literal positions, positions. xz's own are (3, 0, 2), meant for text and code
# of 32 bits; tokens of one byte want no alignment, or that of a row of eight.
_LZMA_SETTINGS = ((3, 0, 2), (0, 0, 0), (3, 0, 0), (4, 0, 0), (0, 0, 3))
_ZSTD_DEFAULT_WINDOW = 27
_ZSTD_LARGEST_WINDOW = 31


class Compressor(NamedTuple):
  """A lossless code of bytes.

  Attributes:
    name: as on the command line.
    compress, decompress: bytes -> bytes, one the inverse of the other.
  """

  name: str
  compress: Callable[[bytes], bytes]
  decompress: Callable[[bytes], bytes]


def _window(size: int) -> int:
  """The power of two that holds `size` bytes, in LZMA's limits."""
  return 1 << max(12, (size - 1).bit_length())


def _xz(data: bytes) -> bytes:
  preset = 9 | lzma.PRESET_EXTREME
  filters = [{'id': lzma.FILTER_LZMA2, 'preset': preset, 'dict_size': _window(len(data))}]
  return lzma.compress(data, lzma.FORMAT_XZ, filters=filters)


def _lzma(data: bytes) -> bytes:
  """The shortest .lzma file over a few settings."""

  def one(lc: int, lp: int, pb: int) -> bytes:
    preset = 9 | lzma.PRESET_EXTREME
    chosen = {'id': lzma.FILTER_LZMA1, 'preset': preset, 'dict_size': _window(len(data))}
    filters = [chosen | {'lc': lc, 'lp': lp, 'pb': pb}]
    return lzma.compress(data, lzma.FORMAT_ALONE, filters=filters)

  return min((one(*settings) for settings in _LZMA_SETTINGS), key=len)


def _zstd(data: bytes) -> bytes:
  if len(data) <= 1 << _ZSTD_DEFAULT_WINDOW:
    return zstandard.ZstdCompressor(level=22).compress(data)
  parameters = zstandard.ZstdCompressionParameters.from_level(
    22,
    source_size=len(data),
    window_log=min(_ZSTD_LARGEST_WINDOW, (len(data) - 1).bit_length()),
    enable_ldm=True,
  )
  return zstandard.ZstdCompressor(compression_params=parameters).compress(data)


def _unzstd(data: bytes) -> bytes:
  decompressor = zstandard.ZstdDecompressor(max_window_size=1 << _ZSTD_LARGEST_WINDOW)
  return decompressor.decompress(data)


# PPMd's orders, of which the best is kept in a byte before its stream, and its memory.
_PPMD_ORDERS, _PPMD_MEMORY = (2, 3, 4, 5, 6, 8, 12, 16), 2**26


def _brotli(data: bytes) -> bytes:
  import brotli

  return brotli.compress(data, quality=11, lgwin=24)


def _unbrotli(data: bytes) -> bytes:
  import brotli

  return brotli.decompress(data)


def _ppmd(data: bytes) -> bytes:
  """The order, and the shortest stream over a few orders."""
  import pyppmd

  def one(order: int) -> bytes:
    return bytes([order]) + pyppmd.compress(data, max_order=order, mem_size=_PPMD_MEMORY)

  return min(map(one, _PPMD_ORDERS), key=len)


def _unppmd(data: bytes) -> bytes:
  import pyppmd

  return pyppmd.decompress(data[1:], max_order=data[0], mem_size=_PPMD_MEMORY)


# Module, package, and the compressor by its short name.
_OPTIONAL = {
  'brotli': ('brotli', 'brotli', Compressor('brotli -q11', _brotli, _unbrotli)),
  'ppmd': ('pyppmd', 'pyppmd', Compressor('PPMd, tuned order', _ppmd, _unppmd)),
}
COMPRESSORS = {
  'gzip': Compressor('gzip -9', lambda data: gzip.compress(data, 9, mtime=0), gzip.decompress),
  'bzip2': Compressor('bzip2 -9', lambda data: bz2.compress(data, 9), bz2.decompress),
  'xz': Compressor('xz -9e', _xz, lzma.decompress),
  'lzma': Compressor('lzma, tuned lc/lp/pb', _lzma, lzma.decompress),
  'zstd': Compressor('zstd -22', _zstd, _unzstd),
}
COMPRESSORS |= {
  short: compressor
  for short, (module, _, compressor) in _OPTIONAL.items()
  if importlib.util.find_spec(module)
}
# Names of those that are not installed, and why they are missing.
MISSING = {
  compressor.name: f"{package} is not installed: pip install '.[baselines]'"
  for short, (_, package, compressor) in _OPTIONAL.items()
  if short not in COMPRESSORS
}
