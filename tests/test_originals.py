"""Original files of image sets: what is read from them, and what is said when they are damaged."""

import gzip
import hashlib
import io
import os
import pickle
import struct
import sys
import tarfile

import ml_collections
import numpy as np
import pytest

from data import cifar, idx, images, mnist, prepared, sources


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


def left_behind(data_dir) -> set[str]:
  return set(os.listdir(data_dir)) - {'downloads'}


def test_idx_by_hand():
  data = bytes([0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3]) + bytes([1, 2, 3, 4, 5, 255])
  np.testing.assert_array_equal(idx.parse(data, 'x'), [[1, 2, 3], [4, 5, 255]])
  assert idx.parse(bytes([0, 0, 8, 1, 0, 0, 0, 0]), 'x').shape == (0,)
  for bad in (b'', b'\0\0', bytes([0, 0, 13, 1, 0, 0, 0, 0]), data[:7], data[:-1], data + b'\0'):
    with pytest.raises(ValueError, match='^x is '):
      idx.parse(bad, 'x')


@pytest.mark.parametrize('kind', [mnist.Mnist, mnist.FashionMnist])
def test_idx_sets_end_to_end(kind, tmp_path, monkeypatch):
  arrays = idx_arrays()
  monkeypatch.setattr(kind, 'checksums', write_idx(tmp_path, arrays))
  dataset = sources.load(image_config(kind.name), str(tmp_path))
  assert 'tensorflow' not in sys.modules
  assert (dataset.dims, dataset.vocabulary, dataset.classes) == (784, 256, 10)
  assert dataset.lossless and dataset.ordinal and '10 of train' in dataset.note
  seen = [(t.tobytes(), y) for s in (dataset.train, dataset.validation)
          for t, y in zip(s.tokens_NxT, s.labels_N, strict=True)]  # fmt: skip
  pictures = arrays['train-images-idx3-ubyte.gz'].reshape(40, -1).astype(np.int32)
  assert sorted(seen) == sorted((p.tobytes(), i % 10) for i, p in enumerate(pictures))
  assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (30, 10, 12)
  # Whatever TFDS itself would read it with sees the stock set's features.
  info = prepared.ImageSet(str(tmp_path / kind.name / '3.0.1'))
  assert info.shape == (28, 28, 1) and info.splits == {'train': 40, 'test': 12}
  assert left_behind(tmp_path) == {kind.name, 'bits_and_probes'}


def test_the_registry_of_tfds_is_left_alone():
  import tensorflow_datasets as tfds

  assert tfds.core.registered._DATASET_REGISTRY.get('cifar10') is not cifar.Cifar10


IMAGES, LABELS = 'train-images-idx3-ubyte.gz', 't10k-labels-idx1-ubyte.gz'


@pytest.mark.parametrize(
  'file, change, message',
  [
    (IMAGES, None, 'train-images-idx3-ubyte.gz is missing; it is expected in .*downloads/manual'),
    (IMAGES, lambda raw: raw[:-20], 'train-images.*gz is corrupt'),
    (IMAGES, lambda raw: b'not gzip', 'train-images.*gz is corrupt'),
    (IMAGES, np.zeros((40, 27, 28), np.uint8), r'holds \(40, 27, 28\), not images of \(28, 28\)'),
    (LABELS, np.zeros(11, np.uint8), r't10k-labels.*holds \(11,\), not labels of 12 images'),
    (LABELS, np.full(12, 10, np.uint8), 't10k-labels.*has a label 10, outside 0..9'),
    (LABELS, np.zeros(12, np.uint8), 't10k-labels.*not the original: another checksum'),
  ],
)
def test_damaged_idx_files_cost_one_line(file, change, message, tmp_path, monkeypatch):
  monkeypatch.setattr(mnist.Mnist, 'checksums', write_idx(tmp_path, idx_arrays()))
  path = tmp_path / 'downloads' / 'manual' / file
  if change is None:
    path.unlink()
  elif isinstance(change, np.ndarray):
    write_idx(tmp_path, {file: change})
  else:
    path.write_bytes(change(path.read_bytes()))
  with pytest.raises(ValueError, match=message) as caught:
    sources.load(image_config('mnist'), str(tmp_path))
  assert '\n' not in str(caught.value)
  assert f'launch.prepare --name=mnist --data_dir={tmp_path} --download' in str(caught.value)
  assert left_behind(tmp_path) == set()


def test_the_real_checksums_reject_made_up_files(tmp_path):
  write_idx(tmp_path, idx_arrays())
  with pytest.raises(ValueError, match='not the original'):
    sources.load(image_config('fashion_mnist'), str(tmp_path))


def test_cifar_end_to_end(tmp_path, monkeypatch):
  batches = cifar_batches()
  written = {name: batch_bytes(*batch) for name, batch in batches.items()}
  monkeypatch.setattr(cifar.Cifar10, 'checksums', write_tar(tmp_path, written))
  dataset = sources.load(image_config('cifar10'), str(tmp_path))
  assert (dataset.dims, dataset.vocabulary, dataset.lossless) == (3072, 256, True)
  # Pixel by pixel: the originals are plane by plane.
  data, labels = batches['test_batch']
  expected = {}
  for row, label in zip(data, labels, strict=True):
    pixels = [row[1024 * c + i] for i in range(1024) for c in range(3)]
    expected[np.array(pixels, np.int32).tobytes()] = label
  found = {t.tobytes(): y for t, y in zip(dataset.test.tokens_NxT, dataset.test.labels_N,
                                         strict=True)}  # fmt: skip
  assert found == expected
  assert len(dataset.train) + len(dataset.validation) == 40


@pytest.mark.parametrize(
  'batch, message',
  [
    (None, 'lacks cifar-10-batches-py/data_batch_2'),
    (b'\x80\x02}', 'data_batch_2 is no batch of images'),
    (pickle.dumps({'f': os.system}, 2), r'data_batch_2 is no batch.*refers to \w+\.system'),
    (batch_bytes([1, 2], [1]), 'data_batch_2 holds list, not uint8'),
    (batch_bytes(np.zeros((2, 3071), np.uint8), [1, 2]), 'data_batch_2 holds uint8'),
    (batch_bytes(np.zeros((2, 3072), np.uint8), [1]), r'data_batch_2 holds \(1,\) labels of 2'),
    (batch_bytes(np.zeros((2, 3072), np.uint8), [1, 10]), 'data_batch_2 has labels outside 0..9'),
    (batch_bytes(np.zeros((2, 3072), np.uint8), [1, 9]), 'data_batch_2 is not the original'),
  ],
)
def test_damaged_tarballs_cost_one_line(batch, message, tmp_path, monkeypatch):
  written = {name: batch_bytes(*made) for name, made in cifar_batches().items()}
  monkeypatch.setattr(cifar.Cifar10, 'checksums', write_tar(tmp_path, written))
  written['data_batch_2'] = batch
  write_tar(tmp_path, {name: content for name, content in written.items() if content is not None})
  with pytest.raises(ValueError, match=message) as caught:
    sources.load(image_config('cifar10'), str(tmp_path))
  assert '\n' not in str(caught.value)
  assert left_behind(tmp_path) == set()


def test_a_tarball_cut_short(tmp_path):
  write_tar(tmp_path, {name: batch_bytes(*made) for name, made in cifar_batches().items()})
  path = tmp_path / 'downloads' / 'manual' / 'cifar-10-python.tar.gz'
  path.write_bytes(path.read_bytes()[:-1000])
  with pytest.raises(ValueError, match='tar.gz is corrupt'):
    sources.load(image_config('cifar10'), str(tmp_path))


def test_a_set_of_tfds_that_nobody_prepared(tmp_path):
  with pytest.raises(ValueError, match='tfds build cifar100 --data_dir=.* --file_format=array_rec'):
    sources.load(image_config('cifar100'), str(tmp_path))


def test_kept_tokens_are_used_checked_and_void_once_prepared_again(tmp_path, monkeypatch):
  monkeypatch.setattr(mnist.Mnist, 'checksums', write_idx(tmp_path, idx_arrays()))
  first = sources.load(image_config('mnist'), str(tmp_path))
  monkeypatch.setattr(images, '_tokenize', None)  # It is not called again.
  assert sources.load(image_config('mnist'), str(tmp_path)).digest == first.digest
  kept = next((tmp_path / 'bits_and_probes' / 'mnist').iterdir())
  content = kept.read_bytes()
  kept.write_bytes(content[: len(content) // 2])
  with pytest.raises(ValueError, match='is damaged; delete it'):
    sources.load(image_config('mnist'), str(tmp_path))
  os.utime(tmp_path / 'mnist' / '3.0.1' / 'dataset_info.json', (1, 1))
  with pytest.raises(TypeError):
    sources.load(image_config('mnist'), str(tmp_path))
