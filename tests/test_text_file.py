"""Bytes of any file: contiguous parts in windows."""

import ml_collections
import numpy as np
import pytest

from data import sources
from experiments import text_file


def config(file, **settings) -> ml_collections.ConfigDict:
  made = text_file.get_config().data
  made.update({'path': str(file), **settings})
  return made


def test_windows_in_order(tmp_path):
  content = np.random.default_rng(0).integers(0, 256, 1007).astype(np.uint8)
  content.tofile(tmp_path / 'some.bin')
  dataset = sources.load(config(tmp_path / 'some.bin', length=10, validation=0.1, test=0.2), '')
  parts = [getattr(dataset, split).tokens_NxT for split in ('train', 'validation', 'test')]
  assert [len(part) for part in parts] == [70, 10, 20]
  np.testing.assert_array_equal(np.concatenate(parts).ravel(), content[:1000])
  assert parts[0].dtype == np.int32
  assert (dataset.vocabulary, dataset.dims, dataset.classes) == (256, 10, None)
  assert dataset.lossless and not dataset.ordinal and 'bytes of some.bin' in dataset.note
  assert 'train 700, validation 100, test 200' in dataset.note
  assert dataset.note.endswith('; the last 7 bytes fill no window and are left out')
  assert set(dataset.test.labels_N) == {-1}


@pytest.mark.parametrize(
  'settings, message',
  [
    ({'path': ''}, '--config.data.path=FILE'),
    ({'path': '/none/such'}, 'data.path /none/such can not be read: No such file'),
    ({'length': 0}, 'data.length must be at least 1'),
    ({'length': 500}, 'has 1000 bytes: too few windows of 500'),
    ({'test': 0.0}, 'are shares of the file'),
    ({'test': 0.95}, 'are shares of the file'),
  ],
)
def test_bad_settings(settings, message, tmp_path):
  (tmp_path / 'some.txt').write_bytes(b'0123456789' * 100)
  with pytest.raises(ValueError, match=message):
    sources.load(config(tmp_path / 'some.txt', **settings), '')


def test_a_directory_is_no_file(tmp_path):
  with pytest.raises(ValueError, match='can not be read: Is a directory'):
    sources.load(config(tmp_path), '')
