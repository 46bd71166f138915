"""General-purpose lossless compressors, each as a pair of functions on bytes.

Sizes are those of whole files: container, header and checksum included, as the command-line tools
write them (gzip without a file name or time). Windows are as large as the data, so that nothing
that was read is out of reach, except for gzip (32 kB) and bzip2 (blocks of 900 kB), whose formats
end there.
"""

import bz2
from collections.abc import Callable
import gzip
import lzma
from typing import NamedTuple

import zstandard

# What the formats and their encoders allow: LZMA 1.5 GB, zstd 2 GB.
LARGEST = 2**30
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


COMPRESSORS = {
  'gzip': Compressor('gzip -9', lambda data: gzip.compress(data, 9, mtime=0), gzip.decompress),
  'bzip2': Compressor('bzip2 -9', lambda data: bz2.compress(data, 9), bz2.decompress),
  'xz': Compressor('xz -9e', _xz, lzma.decompress),
  'lzma': Compressor('lzma, tuned lc/lp/pb', _lzma, lzma.decompress),
  'zstd': Compressor('zstd -22', _zstd, _unzstd),
}
