"""Reads tensors that PyTorch users save, without PyTorch: safetensors and torch.save's zip format.

torch.save writes a zip archive of one pickle, which says how tensors lie in their storages, and the
storages' bytes. Unpickling may run whatever a file asks for, so the unpickler here knows only how
to rebuild tensors and refuses all else.
"""

import collections
import io
import json
import math
import os
import pickle
from typing import Any
import zipfile

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open

_STORAGES = {
  'DoubleStorage': np.float64,
  'FloatStorage': np.float32,
  'HalfStorage': np.float16,
  'BFloat16Storage': ml_dtypes.bfloat16,
  'LongStorage': np.int64,
  'IntStorage': np.int32,
  'ByteStorage': np.uint8,
  'BoolStorage': np.bool_,
}
# In the order in which they are looked for; an index lists the files of weights saved in pieces.
_NAMES = (
  ('model.safetensors', 'model.safetensors.index.json')
  + ('pytorch_model.bin', 'pytorch_model.bin.index.json')
)  # fmt: skip


def find(path: str) -> list[str]:
  """The files that hold the weights of `path`, a directory or one of these files itself.

  Raises:
    ValueError: there are none, or the index is damaged.
  """
  if os.path.isdir(path):
    found = [name for name in _NAMES if os.path.isfile(os.path.join(path, name))]
    if not found:
      raise ValueError(f'{path} holds neither model.safetensors nor pytorch_model.bin')
    path = os.path.join(path, found[0])
  if not os.path.isfile(path):
    raise ValueError(f'{path} does not exist')
  if not path.endswith('.index.json'):
    return [path]
  index = read_json(path).get('weight_map')
  if not isinstance(index, dict) or not index:
    raise ValueError(f'{path} has no weight_map')
  files = [os.path.join(os.path.dirname(path), name) for name in sorted(set(index.values()))]
  for file in files:
    if not os.path.isfile(file):
      raise ValueError(f'{path} names {os.path.basename(file)}, which does not exist')
  return files


def read_json(path: str) -> dict[str, Any]:
  """The object in a JSON file; ValueError, one line, if there is none."""
  try:
    with open(path, encoding='utf-8') as file:
      values = json.load(file)
  except FileNotFoundError as error:
    raise ValueError(f'{path} does not exist') from error
  except (OSError, ValueError) as error:
    raise ValueError(f'{path} can not be read: {error}') from error
  if not isinstance(values, dict):
    raise ValueError(f'{path} holds no JSON object')
  return values


def read(path: str) -> dict[str, np.ndarray]:
  """Tensors by name, in the dtypes and shapes they were saved in.

  Args:
    path: *.safetensors, or any other name for what torch.save wrote.

  Raises:
    ValueError: the file is damaged or asks for more than tensors; the message is one line.
  """
  return read_safetensors(path) if path.endswith('.safetensors') else read_torch(path)


def read_safetensors(path: str) -> dict[str, np.ndarray]:
  """The tensors of a safetensors file.

  Raises:
    ValueError: as in `read`.
  """
  try:
    # bfloat16 is a dtype of NumPy's once ml_dtypes has been imported.
    with safe_open(path, framework='np') as file:
      return {name: file.get_tensor(name) for name in file.keys()}
  except (SafetensorError, OSError, AttributeError, TypeError, ValueError) as error:
    # The last three: a dtype that NumPy lacks.
    reason = ' '.join(str(error).split())
    raise ValueError(f'{path} is damaged, or not a safetensors file: {reason}') from error


def read_torch(path: str) -> dict[str, np.ndarray]:
  """The tensors of a state dict that torch.save wrote (zip format, PyTorch 1.6 or later).

  Raises:
    ValueError: as in `read`.
  """
  if not zipfile.is_zipfile(path):
    raise ValueError(
      f'{path} is not in the zip format of torch.save (PyTorch 1.6 or later), or it is cut short; '
      'weights saved as model.safetensors are read too'
    )
  try:
    with zipfile.ZipFile(path) as archive:
      tensors = _Unpickler(archive).load()
  except Exception as error:  # A damaged pickle can raise anything.
    raise ValueError(f'{path} can not be read: {type(error).__name__}: {error}') from error
  if not isinstance(tensors, dict) or not all(
    isinstance(x, np.ndarray) and isinstance(name, str) for name, x in tensors.items()
  ):
    raise ValueError(f'{path} holds something else than tensors by name')
  return dict(tensors)


def _rebuild_tensor(
  storage: np.ndarray, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: Any
) -> np.ndarray:
  """A view of a storage; `offset` and `strides` count elements."""
  if len(shape) != len(strides) or min((offset, *shape, *strides)) < 0:
    raise ValueError('a tensor has an impossible layout')
  last = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
  if math.prod(shape) and last >= len(storage):
    raise ValueError('a tensor lies outside its storage')
  steps = tuple(s * storage.itemsize for s in strides)
  return np.lib.stride_tricks.as_strided(storage[offset:], shape, steps, writeable=False)


def _rebuild_parameter(data: np.ndarray, *_: Any) -> np.ndarray:
  return data


_ALLOWED = {
  ('collections', 'OrderedDict'): collections.OrderedDict,
  ('torch._utils', '_rebuild_tensor_v2'): _rebuild_tensor,
  ('torch._utils', '_rebuild_parameter'): _rebuild_parameter,
}


class _Unpickler(pickle.Unpickler):
  """Rebuilds tensors as NumPy arrays and refuses every other name."""

  def __init__(self, archive: zipfile.ZipFile):
    names = [name for name in archive.namelist() if name.rpartition('/')[2] == 'data.pkl']
    if len(names) != 1:
      raise ValueError('the archive has no data.pkl')
    self._archive, self._root = archive, names[0].removesuffix('data.pkl')
    if f'{self._root}byteorder' in archive.namelist():
      if archive.read(f'{self._root}byteorder') != b'little':
        raise ValueError('its bytes are not in little-endian order')
    super().__init__(io.BytesIO(archive.read(names[0])))

  def find_class(self, module: str, name: str) -> Any:
    if (module, name) in _ALLOWED:
      return _ALLOWED[module, name]
    if module == 'torch' and name in _STORAGES:
      return np.dtype(_STORAGES[name])
    raise pickle.UnpicklingError(f'it asks for {module}.{name}, which is not needed for weights')

  def persistent_load(self, pid: tuple) -> np.ndarray:
    _, dtype, key, _, _ = pid
    return np.frombuffer(self._archive.read(f'{self._root}data/{key}'), dtype)
