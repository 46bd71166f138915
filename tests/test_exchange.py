"""Features of other models: the file, what is refused, and what goes missing without options."""

import os

import numpy as np
import pytest
from sklearn import datasets
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from experiments import base
from probes import exchange, rows, suite
from probes.features import SPLITS, Features
from runs import foreign


def arrays(**changes):
  rng = np.random.default_rng(0)
  splits = np.repeat(np.arange(3), [12, 6, 5])
  order = rng.permutation(23)
  return {
    'features': rng.normal(size=(2, 23, 4)),
    'labels': np.arange(23)[order] % 3,
    'splits': splits[order],
  } | changes


LABELS = np.arange(23) % 3


def save(tmp_path, **changes):
  path = tmp_path / 'features.npz'
  np.savez(path, **{k: v for k, v in arrays(**changes).items() if v is not None})
  return path


def test_rows_go_to_their_splits(tmp_path):
  given = arrays()
  found = exchange.read(save(tmp_path))
  for number, split in enumerate(SPLITS):
    rows = given['splits'] == number
    np.testing.assert_array_equal(getattr(found, split), given['features'][:, rows])
    np.testing.assert_array_equal(getattr(found, f'labels_{split}'), given['labels'][rows])
  assert (found.classes, found.last, found.inputs, found.sequences) == (3, None, None, None)
  assert found.names == ('0', '1', '2')
  assert found.unseen == ('validation', 'test')


def test_names_and_numbers_of_splits_are_the_same(tmp_path):
  by_number = exchange.read(save(tmp_path))
  by_name = exchange.read(save(tmp_path, splits=np.array(SPLITS)[arrays()['splits']]))
  np.testing.assert_array_equal(by_number.test, by_name.test)


def test_what_is_written_is_read(tmp_path, monkeypatch):
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

  def stopped(file, **arrays):
    file.write(b'half')
    raise KeyboardInterrupt

  with monkeypatch.context() as patch:
    patch.setattr(np, 'savez_compressed', stopped)
    with pytest.raises(KeyboardInterrupt):
      exchange.write(tmp_path / 'g.npz', made)
  assert [path.name for path in tmp_path.iterdir()] == ['f.npz']
  # Two writers at once: each writes a file of its own, and the last one stays, whole.
  with exchange.whole(tmp_path / 'f.npz') as one, exchange.whole(tmp_path / 'f.npz') as two:
    for file, value in ((one, 1), (two, 2)):
      np.savez_compressed(file, x=np.full(1000, value))
  assert [path.name for path in tmp_path.iterdir()] == ['f.npz']
  assert set(np.load(tmp_path / 'f.npz')['x']) == {1}
  umask = os.umask(0o077)
  try:
    exchange.write(tmp_path / 'own.npz', made)
  finally:
    os.umask(umask)
  assert (tmp_path / 'own.npz').stat().st_mode & 0o777 == 0o600
  with pytest.raises(OSError, match='none/f.npz'):
    exchange.write(tmp_path / 'none' / 'f.npz', made)


@pytest.mark.parametrize(
  'changes,message',
  [
    ({'labels': None}, 'lacks labels'),
    ({'features': np.zeros((23, 4))}, 'layers x N x D'),
    ({'features': np.full((2, 23, 4), np.nan)}, 'NaN'),
    ({'features': np.full((2, 23, 4), 1j)}, 'features must be integers or floats, not complex128'),
    ({'features': np.full((2, 23, 4), 'a')}, 'features must be integers or floats'),
    ({'labels': np.arange(22) % 3}, '23 whole numbers'),
    ({'labels': np.arange(23) % 3 + 0.5}, 'whole numbers, booleans or strings, not float64'),
    ({'labels': np.where(np.arange(23) < 3, np.nan, 1.0)}, 'whole numbers'),
    ({'labels': np.eye(3)[np.arange(23) % 3]}, 'labels.argmax(1)'),
    ({'labels': np.zeros(23, int)}, 'at least 2 classes'),
    ({'labels': arrays()['splits']}, "label '1' has no row in split 'train'"),
    ({'splits': np.full(23, b'dev')}, "unknown split 'dev'"),
    ({'splits': np.full(23, b'\xff')}, 'splits holds bytes that are no UTF-8'),
    ({'splits': np.zeros(23, int)}, "belongs to split 'validation'"),
    ({'splits': np.full(23, 3)}, '0 (train)'),
    ({'splits': np.full(23, 'dev')}, "unknown split 'dev'"),
    ({'splits': np.zeros(4, int)}, 'each of 23'),
    ({'splits': None}, 'lacks splits'),
    ({'splits': None, 'groups': np.arange(4)}, 'a group for each of 23'),
    ({'splits': None, 'groups': np.zeros(23, int)}, "no example belongs to split 'validation'"),
    ({'groups': np.array(['anna'] * 23)}, "group 'anna' is in train and in validation"),
    ({'labels': None, 'labels/a': LABELS, 'labels/b': LABELS}, 'choose one of a, b'),
    ({'sequences/0': np.zeros((23, 5, 4))}, 'sequences must be sequences/0 to sequences/1'),
    ({f'sequences/{i}': np.zeros((22, 5, 4)) for i in range(2)}, 'all be 23 x T x 4'),
    ({f'sequences/{i}': np.zeros((23, 5 + i, 4)) for i in range(2)}, 'all be 23 x T x 4'),
    ({'last': np.zeros((2, 22, 4))}, 'last'),
    ({'inputs': np.full((23, 2), np.inf)}, 'inputs holds NaN'),
    ({'unseen': np.array(['nothing'])}, 'unseen names nothing'),
    ({'pretraining_seed': np.array(-1)}, 'one integer from 0'),
    ({'choices': np.array(0)}, 'choices must be one integer'),
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


@pytest.mark.parametrize(
  'values,names',
  [
    (np.array([1, 2, 3]), ('1', '2', '3')),
    (np.array([-5, 0, 700]), ('-5', '0', '700')),
    (np.array([False, True, True]), ('False', 'True')),
    (np.array(['cat', 'dog', 'eel']), ('cat', 'dog', 'eel')),
    (np.array([b'cat', b'dog', b'eel']), ('cat', 'dog', 'eel')),
    (np.array([1, 2, 3], np.uint8), ('1', '2', '3')),
    (np.array([0.0, 1.0, 2.0]), ('0.0', '1.0', '2.0')),
    (np.array([10.0, -2.0, 9.0], np.float32), ('-2.0', '9.0', '10.0')),
  ],
)
def test_labels_are_classes_by_sorted_value(tmp_path, values, names):
  given = arrays()
  labels = values[given['labels']]
  found = exchange.read(save(tmp_path, labels=labels))
  assert found.names == names and found.classes == len(names)
  for number, split in enumerate(SPLITS):
    own = [v.decode() if isinstance(v, bytes) else str(v) for v in labels]
    own = [name for name, s in zip(own, given['splits'], strict=True) if s == number]
    assert [names[k] for k in getattr(found, f'labels_{split}')] == own
  shown = foreign.about(found, {})
  assert shown and shown[0].startswith(f"labels by sorted value: '{names[0]}' is 0")
  assert foreign.about(exchange.read(save(tmp_path)), {}) == []


def test_bytes_are_names_of_splits(tmp_path):
  by_number = exchange.read(save(tmp_path))
  names = np.array([b'train', b'validation', b'test'])[arrays()['splits']]
  found = exchange.read(save(tmp_path, splits=names, unseen=np.array([b'test'])))
  np.testing.assert_array_equal(by_number.test, found.test)
  assert found.unseen == ('test',)


@pytest.mark.parametrize('offset', [0.0, 1e6, 1e9])
def test_an_offset_costs_nothing(tmp_path, offset):
  """Float64 with a large offset, as of timestamps: float32 would keep no digit of the rest."""
  digits = datasets.load_digits()
  order = np.random.default_rng(0).permutation(1797)
  x, y = digits.data[order], digits.target[order]
  splits = np.repeat(SPLITS, [1197, 300, 300])
  np.savez(tmp_path / 'f.npz', features=x[None] / 16 + offset, labels=y, splits=splits)
  features = exchange.read(tmp_path / 'f.npz')
  settings = base.get_base('untrained').probe
  with settings.unlocked():
    settings.linear.labels, settings.linear.l2 = (), (1e-3, 1e-2)
  names = ('linear', 'knn', 'ridge', 'geometry')
  found, made = suite.run(features, settings, 0, names)
  scaler = StandardScaler().fit(x[:1197])
  model = LogisticRegression(C=1 / (1197 * 1e-2), max_iter=2000).fit(
    scaler.transform(x[:1197]), y[:1197]
  )
  expected = model.score(scaler.transform(x[1497:]), y[1497:])
  assert abs(found['linear']['all']['accuracy'] - expected) < 0.015
  assert found['knn']['all']['accuracy'] > 0.95 and found['ridge']['all']['accuracy'] > 0.9
  spread = made['geometry/features'][0].std(0)
  np.testing.assert_allclose(spread, (x[1497:] / 16).std(0), atol=1e-5)


@pytest.mark.parametrize('kind,kept', [('f2', 'f4'), ('i2', 'f4'), ('i4', 'f8'), ('f8', 'f8')])
def test_no_type_is_narrowed(tmp_path, kind, kept):
  given = (100 * arrays()['features']).astype(kind)
  found = exchange.read(save(tmp_path, features=given))
  assert found.train.dtype == np.dtype(kept)
  np.testing.assert_array_equal(found.test, given[:, arrays()['splits'] == 2])
  # Poolings stand side by side: one type for both.
  found = exchange.read(save(tmp_path, features=given, last=arrays()['features']))
  assert {found.train.dtype, found.last['test'].dtype} == {np.dtype(np.float64)}


def test_rows_in_two_splits_are_counted(tmp_path):
  given = arrays()
  train, test = (np.flatnonzero(given['splits'] == k) for k in (0, 2))
  given['features'][:, test[:3]] = given['features'][:, train[[0, 0, 1]]]
  given['features'][1, test[3]] = given['features'][1, train[2]]  # In one layer alone.
  found = exchange.read(save(tmp_path, **given))
  repeated = exchange.repeated_rows(found)
  assert repeated == {'test in train': 3, 'validation in train': 0, 'test in validation': 0}
  assert foreign.about(found, repeated) == ['3 of 5 test rows stand in train too']
  # With inputs these decide: negative zero is zero.
  inputs = np.arange(46.0).reshape(23, 2)
  inputs[test[0]], inputs[train[0]] = (0.0, 7.0), (-0.0, 7.0)
  found = exchange.read(save(tmp_path, **given, inputs=inputs))
  assert exchange.repeated_rows(found)['test in train'] == 1


# Columns of labels, groups, poolings, sequences.


def test_one_of_several_columns_of_labels_is_chosen(tmp_path):
  given = arrays()
  colours = np.array(['red', 'blue'])[np.arange(23) % 2]
  several = {'labels/colour': colours, 'labels/shape': given['labels']}
  path = save(tmp_path, **several)
  # The plain one is the default where it is there, the only one where it is alone.
  assert exchange.read(path).names == ('0', '1', '2')
  assert exchange.read(path, 'colour').names == ('blue', 'red')
  assert exchange.read(path, 'label').names == ('0', '1', '2')
  test = given['splits'] == 2
  np.testing.assert_array_equal(exchange.read(path, 'colour').labels_test, colours[test] == 'red')
  with pytest.raises(ValueError, match="no labels 'size'; it has label, colour, shape"):
    exchange.read(path, 'size')
  path = save(tmp_path, labels=None, **{'labels/colour': colours})
  assert exchange.read(path).names == ('blue', 'red')


def test_groups_are_dealt_whole_and_near_the_shares(tmp_path):
  rng = np.random.default_rng(0)
  groups = np.repeat(np.arange(200), rng.integers(1, 9, 200))
  rng.shuffle(groups)
  splits = rows.deal(groups)
  assert all(len(set(splits[groups == group])) == 1 for group in range(200))
  for split, share in (('train', 0.7), ('validation', 0.15), ('test', 0.15)):
    assert np.mean(splits == split) == pytest.approx(share, abs=8 / len(groups))
  np.testing.assert_array_equal(splits, rows.deal(groups))
  assert np.any(splits != rows.deal(groups, seed=1))
  # In a file: instead of splits, and said.
  names = np.array([f'film {k}' for k in np.arange(23) % 10])
  path = save(tmp_path, splits=None, groups=names)
  found = exchange.read(path)
  assert exchange.dealt(path)
  lines = foreign.about(found, {}, True)
  sizes = [getattr(found, split).shape[1] for split in SPLITS]
  assert sum(sizes) == 23 and min(sizes) > 0
  assert lines == [
    'whole groups were dealt to the splits: {} train, {} validation, {} test rows'.format(*sizes)
  ]
  # Beside splits that keep groups whole they change nothing.
  given = arrays()
  path = save(tmp_path, groups=given['splits'] * 10 + given['labels'])
  assert not exchange.dealt(path)
  np.testing.assert_array_equal(
    exchange.read(path).test, given['features'][:, given['splits'] == 2]
  )


def test_poolings_and_sequences_are_read_when_they_are_asked_for(tmp_path):
  rng, given = np.random.default_rng(0), arrays()
  cls, last = rng.normal(size=(2, 2, 23, 4)).astype(np.float32)
  path = save(tmp_path, last=last)
  with pytest.raises(ValueError, match="no pooling 'cls'; it has mean, last"):
    exchange.read(path, pooling='cls')
  sequences = rng.normal(size=(2, 23, 5, 4)).astype(np.float32)
  path = save(
    tmp_path, last=last, cls=cls, **{f'sequences/{i}': z for i, z in enumerate(sequences)}
  )
  test = np.flatnonzero(given['splits'] == 2)
  for pooling, array in (('mean', given['features']), ('last', last), ('cls', cls)):
    found = exchange.read(path, pooling=pooling)
    np.testing.assert_array_equal(found.test, array[:, test])
    assert (found.last is None) == (pooling != 'mean')
    np.testing.assert_array_equal(
      found.sequences('test', 1, np.array([3, 0])), sequences[1, test[[3, 0]]]
    )
  with pytest.raises(ValueError, match=r'cls \(2, 23, 3\) is not of the shape'):
    exchange.read(save(tmp_path, cls=cls[..., :3]), pooling='cls')
