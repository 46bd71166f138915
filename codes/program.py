"""The size of the program that decodes, and the machine that it runs on.

The rule: the source of every module of this code base that a fresh Python has loaded once it has
run the imports of a driver, without comments and docstrings, in the order of their names, each
after its name, and the driver itself, compressed by xz -9e. The machine is Python and the packages
that these modules import; `description` checks that none of them ships the data.
"""

import ast
from collections.abc import Mapping
import json
import lzma
import os
import subprocess
import sys
from typing import NamedTuple

# Python that turns IN into OUT, arguments 1 and 2, by code that learns; with networks and without.
COUNTING = """
import sys
from codes import adaptive, container, files
with open(sys.argv[1], 'rb') as stream, open(sys.argv[2], 'wb') as out:
  reader = container.Reader(stream)
  files.decode(adaptive.from_header(reader.header), reader, out)
"""
NETWORKS = COUNTING.replace('adaptive,', 'adaptive, prequential,')
# After it, of an array: its tokens, one or two bytes each, in their order.
_TOKENS = """import numpy
numpy.load(sys.argv[2]){turned}.astype('{dtype}').tofile(sys.argv[2])
"""


class Program(NamedTuple):
  """What decodes.

  Attributes:
    bits: of its source, compressed.
    modules: of this code base, how many.
    packages: that these import, which are the machine beside Python itself.
  """

  bits: int
  modules: int
  packages: tuple[str, ...]


def printing(vocabulary: int, columns: tuple[int, int, int] | None = None) -> str:
  """COUNTING for an array of tokens: prints these and no .npy.

  Args:
    vocabulary: V.
    columns: (height, width, channels) where pictures were coded column by column.
  """
  height, width, channels = columns or (0, 0, 0)
  turned = f'.reshape(-1, {width}, {height}, {channels}).swapaxes(1, 2)' if columns else ''
  return COUNTING + _TOKENS.format(turned=turned, dtype='u1' if vocabulary <= 256 else '<u2')


def of_driver(driver: str) -> Program:
  """The program of a driver: its own source and that of all of our modules that it loads."""
  found = {'': driver}
  for name, path in sorted(_loaded(driver).items()):
    with open(path, encoding='utf-8') as file:
      found[name] = stripped(file.read())
  text = '\n'.join(f'{name}\n{source}' for name, source in found.items())
  size = 8 * len(lzma.compress(text.encode(), preset=9 | lzma.PRESET_EXTREME))
  return Program(size, len(found) - 1, _packages(found))


def _packages(sources: Mapping[str, str]) -> tuple[str, ...]:
  """Packages that are neither ours nor Python's and that these sources import."""
  own = {name.partition('.')[0] for name in sources} | set(sys.stdlib_module_names)
  found = set()
  for source in sources.values():
    for node in ast.walk(ast.parse(source)):
      if isinstance(node, ast.Import):
        found |= {name.name.partition('.')[0] for name in node.names}
      elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
        found.add(node.module.partition('.')[0])
  return tuple(sorted(found - own))


_LIST = """
import json, os, sys
root = {root!r}
paths = {{name: getattr(module, '__file__', None) for name, module in sys.modules.items()}}
own = {{name: os.path.abspath(path) for name, path in paths.items() if path}}
print(json.dumps({{k: v for k, v in own.items() if os.path.dirname(os.path.dirname(v)) == root}}))
"""


def _loaded(driver: str) -> dict[str, str]:
  """Modules of this code base that the driver's imports load, and their files."""
  root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
  environment = {**os.environ, 'PYTHONPATH': root, 'JAX_PLATFORMS': 'cpu'}
  imports = [line for line in driver.splitlines() if line.startswith(('import ', 'from '))]
  script = '\n'.join([*imports, _LIST.format(root=root)])
  done = subprocess.run(
    [sys.executable, '-c', script], env=environment, capture_output=True, text=True, check=True
  )
  return json.loads(done.stdout)


def stripped(source: str) -> str:
  """The same program without comments and docstrings."""
  tree = ast.parse(source)
  for node in ast.walk(tree):
    if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
      if ast.get_docstring(node, clean=False) is not None:
        node.body = node.body[1:] or [ast.Pass()]
  return ast.unparse(tree)
