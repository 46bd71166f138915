"""Features of other models: the file, what is refused, and what goes missing without options."""

import numpy as np
import pytest

from probes import exchange
from probes.features import SPLITS, Features


def arrays(**changes):
  rng = np.random.default_rng(0)
  splits = np.repeat(np.arange(3), [12, 6, 5])
  order = rng.permutation(23)
  return {
    'features': rng.normal(size=(2, 23, 4)),
    'labels': np.arange(23)[order] % 3,
    'splits': splits[order],
  } | changes


def save(tmp_path, **changes):
  path = tmp_path / 'features.npz'
  np.savez(path, **{k: v for k, v in arrays(**changes).items() if v is not None})
  return path


def test_rows_go_to_their_splits(tmp_path):
  given = arrays()
  found = exchange.read(save(tmp_path))
  for number, split in enumerate(SPLITS):
    rows = given['splits'] == number
    np.testing.assert_array_equal(
      getattr(found, split), given['features'][:, rows].astype(np.float32)
    )
    np.testing.assert_array_equal(getattr(found, f'labels_{split}'), given['labels'][rows])
  assert (found.classes, found.last, found.inputs, found.sequences) == (3, None, None, None)
  assert found.unseen == ('validation', 'test')


def test_names_and_numbers_of_splits_are_the_same(tmp_path):
  by_number = exchange.read(save(tmp_path))
  by_name = exchange.read(save(tmp_path, splits=np.array(SPLITS)[arrays()['splits']]))
  np.testing.assert_array_equal(by_number.test, by_name.test)


def test_what_is_written_is_read(tmp_path):
  rng = np.random.default_rng(1)
  sizes = {'train': 7, 'validation': 4, 'test': 3}

  def some(*shape):
    return {s: rng.normal(size=(*shape[:-1], n, shape[-1])).astype('f4') for s, n in sizes.items()}

  made = Features(
    **some(2, 5),
    **{f'labels_{s}': np.arange(n, dtype=np.int32) % 3 for s, n in sizes.items()},
    classes=3,
    last=some(2, 5),
    inputs=some(9),
    unseen=SPLITS,
    pretraining_seed=3,
  )
  exchange.write(tmp_path / 'f.npz', made)
  found = exchange.read(tmp_path / 'f.npz')
  for split in SPLITS:
    np.testing.assert_array_equal(getattr(found, split), getattr(made, split))
    np.testing.assert_array_equal(found.last[split], made.last[split])
    np.testing.assert_array_equal(found.inputs[split], made.inputs[split])
  assert (found.classes, found.unseen, found.pretraining_seed) == (3, SPLITS, 3)
  assert [path.name for path in tmp_path.iterdir()] == ['f.npz']


@pytest.mark.parametrize(
  'changes,message',
  [
    ({'labels': None}, 'lacks labels'),
    ({'features': np.zeros((23, 4))}, 'layers x N x D'),
    ({'features': np.full((2, 23, 4), np.nan)}, 'NaN'),
    ({'labels': np.arange(22) % 3}, '23 integers'),
    ({'labels': np.zeros(23)}, '23 integers'),
    ({'labels': np.zeros(23, int)}, 'at least 2 classes'),
    ({'labels': np.arange(23) % 3 - 1}, 'from 0'),
    ({'splits': np.zeros(23, int)}, "belongs to split 'validation'"),
    ({'splits': np.full(23, 3)}, '0 (train)'),
    ({'splits': np.full(23, 'dev')}, "unknown split 'dev'"),
    ({'splits': np.zeros(4, int)}, 'each of 23'),
    ({'last': np.zeros((2, 22, 4))}, 'last'),
    ({'inputs': np.full((23, 2), np.inf)}, 'inputs holds NaN'),
    ({'unseen': np.array(['nothing'])}, 'unseen names nothing'),
    ({'pretraining_seed': np.array(-1)}, 'one integer from 0'),
  ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path, changes, message):
  with pytest.raises(ValueError) as caught:
    exchange.read(save(tmp_path, **changes))
  assert message in str(caught.value) and '\n' not in str(caught.value)
  assert 'features.npz' in str(caught.value)


def test_files_that_are_no_archive(tmp_path):
  path = tmp_path / 'features.npz'
  path.write_bytes(b'PK\x03\x04 cut short')
  with pytest.raises(ValueError, match='features.npz is no .npz'):
    exchange.read(path)
  np.save(tmp_path / 'one.npy', np.zeros(3))
  with pytest.raises(ValueError, match='one array'):
    exchange.read(tmp_path / 'one.npy')
  np.savez(path, **arrays(labels=np.array([{}] * 23, object)))
  with pytest.raises(ValueError, match='plain arrays'):
    exchange.read(path)
