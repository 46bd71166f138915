"""An upper bound on K(X), the length of the shortest program that prints X.

X is the tokens of a split, one byte each, or two, in their order. A program is a driver in Python,
the file that it reads, and what of our modules it loads (`codes.program`): the bound is the
shortest of those that are there, of raw digits among them, so that it is never above these and a
constant. The machine is Python and the packages that the driver and its modules import, none of
which ships X.
"""

from collections.abc import Sequence
import lzma
import math
import platform
from typing import Any, NamedTuple

from codes import program

# Packages that hold a data set, by its name.
_SHIPS = {'digits': ('sklearn', 'torchvision', 'tensorflow_datasets')}
_READ = "import sys;d=open(sys.argv[1],'rb').read()\n"
_WRITE = "open(sys.argv[2],'wb').write(x)\n"
# Of a number in base V, with a 1 before its digits.
_RAW = "n=int.from_bytes(d,'big');x=[]\nwhile n>1:n,r=divmod(n,{vocabulary});x.append(r)\n"
_TOKENS = "import numpy;x=numpy.array(x,'{dtype}').tobytes()\n"
_LIBRARY = {
  'gzip -9': 'import gzip;x=gzip.decompress(d)\n',
  'bzip2 -9': 'import bz2;x=bz2.decompress(d)\n',
  'xz -9e': 'import lzma;x=lzma.decompress(d)\n',
  'lzma, tuned lc/lp/pb': 'import lzma;x=lzma.decompress(d)\n',
  'zstd -22': 'import zstandard;x=zstandard.ZstdDecompressor().decompress(d)\n',
  'brotli -q11': 'import brotli;x=brotli.decompress(d)\n',
}
_TURN = "import numpy;x=numpy.frombuffer(x,'{dtype}').reshape({dims},-1).T.tobytes()\n"
_LAYOUTS = {
  'example by example, bytes': '',
  'example by example, 16 bits': '',
  'pixel-major, bytes': _TURN,
  'pixel-major, 16 bits': _TURN,
}


class Description(NamedTuple):
  """A program that prints X.

  Attributes:
    name: of the code.
    file_bits: that it reads.
    program_bits: of the driver and of our modules.
    packages: beside Python.
    driver: its source; argument 1 is the file, argument 2 where X goes.
  """

  name: str
  file_bits: int
  program_bits: int
  packages: tuple[str, ...]
  driver: str

  @property
  def bits(self) -> int:
    return self.file_bits + self.program_bits


def of_source(name: str, file_bits: int, driver: str) -> Description:
  """A driver that loads nothing of ours: its source, or that packed where it is shorter."""
  source = driver.encode()
  packed = len(lzma.compress(source, lzma.FORMAT_ALONE, preset=9 | lzma.PRESET_EXTREME))
  size = 8 * min(len(source), packed)
  packages = tuple(p for p in ('brotli', 'numpy', 'zstandard') if f'import {p}' in driver)
  return Description(name, file_bits, size, packages, driver)


def raw(symbols: int, vocabulary: int) -> Description:
  """So many digits in base V."""
  file_bits = 8 * math.ceil((symbols * math.log2(vocabulary) + 1) / 8)
  driver = _READ + _RAW.format(vocabulary=vocabulary) + _tokens(vocabulary) + _WRITE
  return of_source('raw', file_bits, driver)


def raw_file(tokens: Any, vocabulary: int) -> bytes:
  """What `raw`'s driver reads."""
  number = 1
  for token in tokens.reshape(-1)[::-1].tolist():
    number = number * vocabulary + token
  return number.to_bytes((number.bit_length() + 7) // 8, 'big')


def _tokens(vocabulary: int) -> str:
  return 'x=bytes(x)\n' if vocabulary <= 256 else _TOKENS.format(dtype='<u2')


def library(name: str, packing: str, bits: float, dims: int, vocabulary: int) -> Description | None:
  """A file of a compressor, its decompressor a call; None where no driver is written down."""
  if name not in _LIBRARY or packing not in _LAYOUTS:
    return None
  dtype = 'u1' if vocabulary <= 256 else '<u2'
  turn = _LAYOUTS[packing].format(dtype=dtype, dims=dims)
  return of_source(f'{name}, {packing}', int(bits), _READ + _LIBRARY[name] + turn + _WRITE)


def ours(name: str, file_bits: int, driver: str) -> Description:
  """A file of `launch.compress` that needs no trained network."""
  made = program.of_driver(driver)
  return Description(name, file_bits, made.bits, made.packages, driver)


def shortest(found: Sequence[Description], dataset: str) -> Description:
  """The one with the fewest bits, of those whose machine does not hold the data."""
  ships = _SHIPS.get(dataset, ())
  return min((d for d in found if not set(ships) & set(d.packages)), key=lambda d: d.bits)


def machine(packages: Sequence[str]) -> str:
  """Python and packages, with their versions."""
  import importlib.metadata

  known = {'ml_collections': 'ml-collections'}
  versions = [f'{p} {importlib.metadata.version(known.get(p, p))}' for p in packages]
  return ', '.join([f'Python {platform.python_version()}', *versions])
