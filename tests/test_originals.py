"""Original files of image sets: what is read from them, and what is said when they are damaged."""

import os
import pickle
import subprocess
import sys

import numpy as np
import originals
import pytest

from data import cifar, images, mnist, prepared, sources


def left_behind(data_dir) -> set[str]:
  return set(os.listdir(data_dir)) - {'downloads'}


def test_idx_by_hand():
  data = bytes([0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3]) + bytes([1, 2, 3, 4, 5, 255])
  np.testing.assert_array_equal(mnist.parse(data, 'x'), [[1, 2, 3], [4, 5, 255]])
  assert mnist.parse(bytes([0, 0, 8, 1, 0, 0, 0, 0]), 'x').shape == (0,)
  for bad in (b'', b'\0\0', bytes([0, 0, 13, 1, 0, 0, 0, 0]), data[:7], data[:-1], data + b'\0'):
    with pytest.raises(ValueError, match='^x is '):
      mnist.parse(bad, 'x')


@pytest.mark.parametrize('kind', [mnist.Mnist, mnist.FashionMnist])
def test_idx_sets_end_to_end(kind, tmp_path, monkeypatch):
  arrays = originals.idx_arrays()
  monkeypatch.setattr(kind, 'checksums', originals.write_idx(tmp_path, arrays))
  dataset = sources.load(originals.image_config(kind.name), str(tmp_path))
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
  monkeypatch.setattr(
    mnist.Mnist, 'checksums', originals.write_idx(tmp_path, originals.idx_arrays())
  )
  path = tmp_path / 'downloads' / 'manual' / file
  if change is None:
    path.unlink()
  elif isinstance(change, np.ndarray):
    originals.write_idx(tmp_path, {file: change})
  else:
    path.write_bytes(change(path.read_bytes()))
  with pytest.raises(ValueError, match=message) as caught:
    sources.load(originals.image_config('mnist'), str(tmp_path))
  assert '\n' not in str(caught.value)
  assert f'launch.prepare --name=mnist --data_dir={tmp_path} --download' in str(caught.value)
  assert left_behind(tmp_path) == set()


def test_the_real_checksums_reject_made_up_files(tmp_path):
  originals.write_idx(tmp_path, originals.idx_arrays())
  with pytest.raises(ValueError, match='not the original'):
    sources.load(originals.image_config('fashion_mnist'), str(tmp_path))


def test_cifar_end_to_end(tmp_path, monkeypatch):
  batches = originals.cifar_batches()
  written = {name: originals.batch_bytes(*batch) for name, batch in batches.items()}
  monkeypatch.setattr(cifar.Cifar10, 'checksums', originals.write_tar(tmp_path, written))
  dataset = sources.load(originals.image_config('cifar10'), str(tmp_path))
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
    (originals.batch_bytes([1, 2], [1]), 'data_batch_2 holds list, not uint8'),
    (originals.batch_bytes(np.zeros((2, 3071), np.uint8), [1, 2]), 'data_batch_2 holds uint8'),
    (
      originals.batch_bytes(np.zeros((2, 3072), np.uint8), [1]),
      r'data_batch_2 holds \(1,\) labels of 2',
    ),
    (
      originals.batch_bytes(np.zeros((2, 3072), np.uint8), [1, 10]),
      'data_batch_2 has labels outside 0..9',
    ),
    (
      originals.batch_bytes(np.zeros((2, 3072), np.uint8), [1, 9]),
      'data_batch_2 is not the original',
    ),
  ],
)
def test_damaged_tarballs_cost_one_line(batch, message, tmp_path, monkeypatch):
  written = {name: originals.batch_bytes(*made) for name, made in originals.cifar_batches().items()}
  monkeypatch.setattr(cifar.Cifar10, 'checksums', originals.write_tar(tmp_path, written))
  written['data_batch_2'] = batch
  originals.write_tar(
    tmp_path, {name: content for name, content in written.items() if content is not None}
  )
  with pytest.raises(ValueError, match=message) as caught:
    sources.load(originals.image_config('cifar10'), str(tmp_path))
  assert '\n' not in str(caught.value)
  assert left_behind(tmp_path) == set()


def test_a_tarball_cut_short(tmp_path):
  originals.write_tar(
    tmp_path,
    {name: originals.batch_bytes(*made) for name, made in originals.cifar_batches().items()},
  )
  path = tmp_path / 'downloads' / 'manual' / 'cifar-10-python.tar.gz'
  path.write_bytes(path.read_bytes()[:-1000])
  with pytest.raises(ValueError, match='tar.gz is corrupt'):
    sources.load(originals.image_config('cifar10'), str(tmp_path))


def test_a_set_of_tfds_that_nobody_prepared(tmp_path):
  with pytest.raises(ValueError, match='tfds build cifar100 --data_dir=.* --file_format=array_rec'):
    sources.load(originals.image_config('cifar100'), str(tmp_path))


def test_kept_tokens_are_used_checked_and_void_once_prepared_again(tmp_path, monkeypatch):
  monkeypatch.setattr(
    mnist.Mnist, 'checksums', originals.write_idx(tmp_path, originals.idx_arrays())
  )
  first = sources.load(originals.image_config('mnist'), str(tmp_path))
  monkeypatch.setattr(images, '_keep', None)  # It is not called again.
  assert sources.load(originals.image_config('mnist'), str(tmp_path)).digest == first.digest
  (directory,) = (tmp_path / 'bits_and_probes' / 'mnist').iterdir()
  for name in ('test.npy', 'train_labels.npy', 'facts.json'):
    content = (directory / name).read_bytes()
    (directory / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=f'{directory.name} is damaged; delete it'):
      sources.load(originals.image_config('mnist'), str(tmp_path))
    (directory / name).write_bytes(content)
  os.utime(tmp_path / 'mnist' / '3.0.1' / 'dataset_info.json', (1, 1))
  with pytest.raises(TypeError):
    sources.load(originals.image_config('mnist'), str(tmp_path))


def test_sets_whose_files_have_the_same_names_can_stand_side_by_side(tmp_path, monkeypatch):
  checksums = originals.write_idx(tmp_path, originals.idx_arrays())
  monkeypatch.setattr(mnist.Mnist, 'checksums', checksums)
  manual = tmp_path / 'downloads' / 'manual'
  (manual / 'mnist').mkdir()
  for name in checksums:
    (manual / name).rename(manual / 'mnist' / name)
  originals.write_idx(tmp_path, originals.idx_arrays(train=30))  # somebody else's
  assert len(sources.load(originals.image_config('mnist'), str(tmp_path)).test) == 12


def test_preparing_by_command(tmp_path):
  """Prints where the set is, or one line on why not."""

  def prepare(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, '-m', 'launch.prepare', f'--data_dir={tmp_path}', *arguments]
    return subprocess.run(command, capture_output=True, text=True)

  result = prepare('--name=cifar10')
  assert result.returncode == 2 and result.stdout == ''
  expected = f'cifar-10-python.tar.gz is missing; it is expected in {tmp_path}/downloads/manual'
  assert expected in result.stderr and result.stderr.count('\n') == 1
  result = prepare('--name=cifar100')
  assert result.returncode == 2 and 'tfds build cifar100' in result.stderr
