"""Made-up sets in the formats of the originals."""

import gzip
import hashlib
import io
import os
import pickle
import struct
import tarfile

import ml_collections
import numpy as np

from data import cifar


def idx_bytes(array: np.ndarray) -> bytes:
  """By the format's description, not by the code under test."""
  head = struct.pack('>BBBB', 0, 0, 8, array.ndim)
  return head + b''.join(struct.pack('>I', n) for n in array.shape) + bytes(array.ravel().tolist())


def write_idx(data_dir, arrays: dict[str, np.ndarray]) -> dict[str, str]:
  """Writes .gz files to downloads/manual and returns their contents' checksums."""
  folder = os.path.join(data_dir, 'downloads', 'manual')
  os.makedirs(folder, exist_ok=True)
  for name, array in arrays.items():
    with gzip.open(os.path.join(folder, name), 'wb') as file:
      file.write(idx_bytes(array))
  return {name: hashlib.md5(idx_bytes(array)).hexdigest() for name, array in arrays.items()}


def idx_arrays(train: int = 40, test: int = 12) -> dict[str, np.ndarray]:
  rng = np.random.default_rng(0)
  arrays = {}
  for prefix, count in {'train': train, 't10k': test}.items():
    pictures = rng.integers(0, 256, (count, 28, 28)).astype(np.uint8)
    arrays[f'{prefix}-images-idx3-ubyte.gz'] = pictures
    arrays[f'{prefix}-labels-idx1-ubyte.gz'] = (np.arange(count) % 10).astype(np.uint8)
  return arrays


class _Python2Pickler(pickle._Pickler):
  """Strings as Python 2 wrote them, which is how the originals are."""

  dispatch = dict(pickle._Pickler.dispatch)

  def _save_string(self, value):
    data = value.encode('latin1') if isinstance(value, str) else value
    self.write(pickle.BINSTRING + struct.pack('<i', len(data)) + data)
    self.memoize(value)

  dispatch[bytes] = dispatch[str] = _save_string


def batch_bytes(data, labels) -> bytes:
  buffer = io.BytesIO()
  content = {b'batch_label': b'made up', b'labels': labels, b'data': data, b'filenames': [b'a.png']}
  _Python2Pickler(buffer, 2).dump(content)
  return buffer.getvalue().replace(b'numpy._core', b'numpy.core')


def write_tar(data_dir, batches: dict[str, bytes]) -> dict[str, str]:
  folder = os.path.join(data_dir, 'downloads', 'manual')
  os.makedirs(folder, exist_ok=True)
  with tarfile.open(os.path.join(folder, 'cifar-10-python.tar.gz'), 'w:gz') as tar:
    for name, content in {**batches, 'readme.html': b'made up'}.items():
      member = tarfile.TarInfo(f'cifar-10-batches-py/{name}')
      member.size = len(content)
      tar.addfile(member, io.BytesIO(content))
  return {name: hashlib.md5(content).hexdigest() for name, content in batches.items()}


def cifar_batches() -> dict[str, tuple[np.ndarray, list[int]]]:
  rng = np.random.default_rng(1)
  return {
    name: (rng.integers(0, 256, (8, 3072)).astype(np.uint8), rng.integers(0, 10, 8).tolist())
    for name in cifar.Cifar10.checksums
  }


def image_config(name: str, **settings) -> ml_collections.ConfigDict:
  return ml_collections.ConfigDict({'name': name, 'validation': 10, **settings})
