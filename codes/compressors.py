"""General lossless compressors: bytes in, number of bytes out."""

import bz2
from collections.abc import Callable
import gzip
import lzma

import zstandard

_ZSTD = 22
_ZSTD_WINDOW = 27  # log2 of the bytes it looks back: as far as xz at its highest setting.


def _gzip(data: bytes) -> bytes:
  return gzip.compress(data, 9, mtime=0)


def _bzip2(data: bytes) -> bytes:
  return bz2.compress(data, 9)


def _xz(data: bytes) -> bytes:
  return lzma.compress(data, preset=9 | lzma.PRESET_EXTREME)


def _zstd(data: bytes) -> bytes:
  settings = zstandard.ZstdCompressionParameters.from_level(
    _ZSTD, source_size=len(data), window_log=_ZSTD_WINDOW, enable_ldm=True
  )
  return zstandard.ZstdCompressor(compression_params=settings).compress(data)


COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
  'gzip': _gzip,
  'bzip2': _bzip2,
  'xz': _xz,
  'zstd': _zstd,
}

# The same, undone.
EXPANDERS: dict[str, Callable[[bytes], bytes]] = {
  'gzip': gzip.decompress,
  'bzip2': bz2.decompress,
  'xz': lzma.decompress,
  'zstd': lambda data: zstandard.ZstdDecompressor().decompress(data),
}
