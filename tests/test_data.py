"""Digits as prepared on disk, noise, and batches as a function of the step."""

import hashlib
import os
import sys
import types

import ml_collections
import numpy as np
import pytest
from sklearn import datasets
import tiny

from codes import histogram
from data import digits, pipeline, sources
from data.dataset import Dataset
from experiments import digits as digits_config
from experiments import hierarchy as hierarchy_config
from experiments import noise as noise_config
from runs.errors import UserError


@pytest.fixture(scope='module')
def dataset(data_dir) -> Dataset:
  return sources.load(digits_config.get_config().data, data_dir)


def test_digits_are_scikit_learns_every_one_once(dataset):
  reference = datasets.load_digits()
  rows = digits.split_indices(reference.target)
  assert sorted(np.concatenate(list(rows.values()))) == list(range(1797))
  for split, size in {'train': 1197, 'validation': 300, 'test': 300}.items():
    examples = getattr(dataset, split)
    assert len(examples) == size
    order = np.sort(rows[split])
    np.testing.assert_array_equal(examples.tokens_NxT, reference.images[order].reshape(-1, 64))
    np.testing.assert_array_equal(examples.labels_N, reference.target[order])
    counts = np.bincount(examples.labels_N, minlength=10)
    even = np.bincount(reference.target) * size / 1797
    assert np.abs(counts - even).max() <= 2
  assert dataset.vocabulary == 17 and dataset.test.tokens_NxT.max() == 16
  # The split is part of every published number: it must never move.
  digest = hashlib.sha256(np.sort(rows['test']).astype('<i8').tobytes()).hexdigest()
  assert digest[:16] == TEST_ROWS_DIGEST


TEST_ROWS_DIGEST = '3f8e09d9c4f6dc75'


def test_reading_needs_neither_tensorflow_nor_a_second_preparation(dataset, data_dir):
  assert 'tensorflow' not in sys.modules
  stamp = {p: os.stat(os.path.join(data_dir, p)).st_mtime_ns for p in os.listdir(data_dir)}
  again = sources.load(digits_config.get_config().data, data_dir)
  np.testing.assert_array_equal(again.train.tokens_NxT, dataset.train.tokens_NxT)
  assert stamp == {p: os.stat(os.path.join(data_dir, p)).st_mtime_ns for p in os.listdir(data_dir)}


def test_imbalance_is_noticed():
  labels = np.repeat(np.arange(10), [47, 29, 21, 24, 29, 26, 37, 26, 25, 36])
  with pytest.raises(ValueError, match='out of balance'):
    digits.check_balance(labels, 'validation')


def test_every_epoch_holds_every_example_once_in_a_new_order(dataset):
  batches = pipeline.Batches(dataset, seed=3, batch_size=57)  # 21 batches an epoch
  epochs = []
  for epoch in range(2):
    tokens = np.concatenate([batches[21 * epoch + i]['tokens'] for i in range(21)])
    epochs.append(tokens)
    np.testing.assert_array_equal(
      np.sort(tokens.view('i4,' * 63 + 'i4'), axis=0),
      np.sort(dataset.train.tokens_NxT.view('i4,' * 63 + 'i4'), axis=0),
    )
  assert np.any(epochs[0] != epochs[1])


def test_a_batch_is_a_function_of_seed_and_step(dataset):
  first, second = (pipeline.Batches(dataset, seed=1, batch_size=32) for _ in range(2))
  forwards = [first[i]['tokens'] for i in range(40)]
  for step in reversed(range(40)):
    np.testing.assert_array_equal(second[step]['tokens'], forwards[step])
  other = pipeline.Batches(dataset, seed=2, batch_size=32)
  assert np.any(other[0]['tokens'] != forwards[0])
  # Processes that each ask for their rows see the global batch, in order.
  parts = [first.rows(7, range(start, start + 8))['tokens'] for start in range(0, 32, 8)]
  np.testing.assert_array_equal(np.concatenate(parts), forwards[7])


def test_labels_travel_with_their_images(dataset):
  lookup = {
    t.tobytes(): y for t, y in zip(dataset.train.tokens_NxT, dataset.train.labels_N, strict=True)
  }
  batch = pipeline.Batches(dataset, seed=0, batch_size=64)[5]
  assert all(lookup[t.tobytes()] == y for t, y in zip(batch['tokens'], batch['label'], strict=True))


def test_noise_is_uniform_fresh_and_unlabelled():
  noise = sources.load(noise_config.get_config().data, '')
  batches = pipeline.Batches(noise, seed=0, batch_size=32)
  tokens = np.concatenate([batches[i]['tokens'] for i in range(50)])
  assert len(np.unique(tokens, axis=0)) == len(tokens)
  counts = np.bincount(tokens.ravel(), minlength=17)
  expected = tokens.size / 17
  assert np.sum((counts - expected) ** 2 / expected) < 39.3  # 0.1 % point, 16 degrees of freedom
  assert noise.classes is None and noise.epoch is None
  held_out = np.concatenate([noise.validation.tokens_NxT, noise.test.tokens_NxT])
  assert len(np.unique(held_out, axis=0)) == 600
  np.testing.assert_array_equal(tokens[:32], pipeline.Batches(noise, 0, 32)[0]['tokens'])


def test_histogram_bits_by_hand():
  train = np.array([[0, 1], [0, 1], [0, 0], [1, 1]])
  test = np.array([[0, 0], [1, 1]])
  # With one added to each count: position 0 has (4, 2)/6, position 1 (2, 4)/6.
  expected = -np.mean(np.log2([4 / 6, 2 / 6, 2 / 6, 4 / 6]))
  assert histogram.position_bits(train, test, 2) == pytest.approx(expected)
  assert histogram.uniform_bits(17) == pytest.approx(4.0874628)


def test_digits_histogram_is_where_it_should_be(dataset):
  bits = histogram.position_bits(dataset.train.tokens_NxT, dataset.test.tokens_NxT, 17)
  assert 2.38 < bits < 2.46


def test_names():
  with pytest.raises(ValueError, match='unknown data set .*known: digits, noise, .*mean digits'):
    sources.load(types.SimpleNamespace(name='digit'), '')


def test_training_may_have_fewer_examples_always_the_same_ones(data_dir):
  def load(name, **settings):
    return sources.load(ml_collections.ConfigDict({'name': name, **settings}), str(data_dir))

  whole, fewer = load('digits'), load('digits', train_rows=100)
  assert len(fewer.train) == fewer.epoch == 100
  rows = [
    np.flatnonzero((whole.train.tokens_NxT == row).all(1))[0] for row in fewer.train.tokens_NxT
  ]
  assert len(set(rows)) == 100 and rows == sorted(rows) and max(rows) > len(whole.train) / 2
  np.testing.assert_array_equal(fewer.train.labels_N, whole.train.labels_N[rows])
  np.testing.assert_array_equal(fewer.train.labels_N, load('digits', train_rows=100).train.labels_N)
  np.testing.assert_array_equal(fewer.test.tokens_NxT, whole.test.tokens_NxT)
  assert fewer.counts_TxV.sum() == 100 * fewer.dims
  assert sum(fewer.balance['train']) == 100 and fewer.digest != whole.digest
  assert fewer.note == f'{whole.note}; 100 of {len(whole.train)} training examples'
  assert load('digits', train_rows=0).digest == whole.digest
  assert load('digits', train_rows=len(whole.train)).digest == whole.digest
  for wrong in (-1, len(whole.train) + 1, 1e2, '10', True):
    match = f'train_rows must lie in 0..{len(whole.train)} .* not {wrong!r}'
    with pytest.raises(ValueError, match=match):
      load('digits', train_rows=wrong)
  hierarchy = hierarchy_config.get_config('autoregressive').data
  with pytest.raises(ValueError, match="train_rows: 'hierarchy' is drawn afresh"):
    load(**hierarchy, train_rows=5)


def test_the_note_of_fewer_examples_counts_duplicates_of_those_that_are_kept(tmp_path):
  tokens = np.random.default_rng(0).integers(0, 4, (80, 12))
  labels = np.arange(80) % 2
  path = tmp_path / 'doubled.npz'
  np.savez(
    path, train_tokens=tokens, train_labels=labels,
    test_tokens=tokens[:40], test_labels=labels[:40],
    validation_tokens=tokens[:0:-9], validation_labels=labels[:0:-9],
  )  # fmt: skip
  settings = {'name': 'arrays', 'path': str(path)}
  whole, fewer = (
    sources.load(ml_collections.ConfigDict(settings | more), str(tmp_path))
    for more in ({}, {'train_rows': 30})
  )
  kept = {tuple(row) for row in fewer.train.tokens_NxT[np.arange(30)]}
  shared = sum(tuple(row) in kept for row in tokens[:40])
  assert 0 < shared < 30 and '; 40 test rows also stand in train' in whole.note
  assert '; 30 of 80 training examples' in fewer.note
  assert f'; {shared} test rows also stand in train' in fewer.note
  assert fewer.note.count('test rows also stand in train') == 1


def test_probes_may_have_fewer_labels_and_training_keeps_all(data_dir):
  whole = tiny.build(data_dir)
  fewer = tiny.build(data_dir, 'masked_diffusion', '--config.probe.train_rows=100')
  total = len(whole.dataset.train)
  assert len(fewer.dataset.train) == total and len(fewer.probe_dataset.train) == 100
  kept, given = fewer.probe_dataset.train, whole.dataset.train
  rows = [np.flatnonzero((given.tokens_NxT == row).all(1))[0] for row in kept.tokens_NxT]
  assert len(set(rows)) == 100 and rows == sorted(rows) and max(rows) > total / 2
  np.testing.assert_array_equal(kept.labels_N, given.labels_N[rows])
  assert fewer.note.endswith('; probes have 100 training labels') and 'probes' not in whole.note
  same = tiny.build(data_dir, 'masked_diffusion', f'--config.probe.train_rows={total}')
  assert same.probe_dataset is same.dataset
  with pytest.raises(UserError, match='probe.train_rows'):
    tiny.build(data_dir, 'masked_diffusion', '--config.probe.train_rows=-1')
