"""Writes small files of weights byte by byte: reading them is tested without PyTorch."""

from collections.abc import Mapping
import json
import os
import zipfile

import ml_dtypes
import numpy as np

_KINDS = {
  np.dtype(np.float64): ('F64', 'DoubleStorage'),
  np.dtype(np.float32): ('F32', 'FloatStorage'),
  np.dtype(np.float16): ('F16', 'HalfStorage'),
  np.dtype(ml_dtypes.bfloat16): ('BF16', 'BFloat16Storage'),
}


def safetensors(path: str | os.PathLike, tensors: Mapping[str, np.ndarray]) -> None:
  header, data = {'__metadata__': {'format': 'pt'}}, b''
  for name, tensor in tensors.items():
    start, data = len(data), data + tensor.tobytes()
    kind = _KINDS[tensor.dtype][0]
    header[name] = {'dtype': kind, 'shape': tensor.shape, 'data_offsets': [start, len(data)]}
  text = json.dumps(header).encode()
  with open(path, 'wb') as file:
    file.write(len(text).to_bytes(8, 'little') + text + data)


# Pickle's letters, protocol 2: c a global, X a text, J an integer, ( to t a tuple, Q what lies in
# the archive, R a call, s an item of the dict, \x89 False.


def text(value: str) -> bytes:
  return b'X' + len(value).to_bytes(4, 'little') + value.encode()


def _numbers(values: tuple[int, ...]) -> bytes:
  return b'(' + b''.join(b'J' + v.to_bytes(4, 'little', signed=True) for v in values) + b't'


def _name(module: str, name: str) -> bytes:
  return f'c{module}\n{name}\n'.encode()


def call(module: str, name: str, argument: str) -> bytes:
  return _name(module, name) + b'(' + text(argument) + b'tR'


def tensor(key: str, shape: tuple[int, ...], strides: tuple[int, ...], storage: str) -> bytes:
  """What torch.save pickles of a tensor."""
  where = b'(' + text('storage') + _name('torch', storage) + text(key) + text('cpu')
  where += b'J' + (0).to_bytes(4, 'little') + b'tQ'
  layout = b'J' + (0).to_bytes(4, 'little') + _numbers(shape) + _numbers(strides)
  hooks = b'\x89' + _name('collections', 'OrderedDict') + b')R'
  return _name('torch._utils', '_rebuild_tensor_v2') + b'(' + where + layout + hooks + b'tR'


def torch_zip(
  path: str | os.PathLike, tensors: Mapping[str, np.ndarray], bodies: Mapping[str, bytes] = ()
) -> None:
  """A state dict as torch.save writes it; `bodies` replaces the pickles of some tensors."""
  content = b'\x80\x02' + _name('collections', 'OrderedDict') + b')R'
  with zipfile.ZipFile(path, 'w') as archive:
    for key, (name, values) in enumerate(tensors.items()):
      strides = tuple(s // values.itemsize for s in values.strides)
      body = tensor(str(key), values.shape, strides, _KINDS[values.dtype][1])
      content += text(name) + dict(bodies).get(name, body) + b's'
      archive.writestr(f'archive/data/{key}', values.tobytes())
    archive.writestr('archive/data.pkl', content + b'.')
    archive.writestr('archive/byteorder', b'little')
