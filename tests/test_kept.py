"""Tokens on disk: rows read when asked for, and what is found of them once."""

import collections
import hashlib
import os
import resource
import signal
import subprocess
import sys
import types

import numpy as np
import originals
import pytest

from codes import histogram
from data import dataset, facts, images, kept, mnist, pipeline, sources, tokenizers
from data.dataset import Examples
from data.rows import Rows
from experiments import text_file
from runs import experiment
from runs.errors import UserError

RNG = np.random.default_rng(0)
TOKENS = RNG.integers(0, 300, (50, 7)).astype(np.uint16)


@pytest.fixture
def rows(tmp_path) -> Rows:
  np.save(tmp_path / 'tokens.npy', TOKENS)
  return Rows.of_npy(str(tmp_path / 'tokens.npy'))


MASK = np.arange(50) % 3 == 0
INDICES = (
  *(3, -1, np.int64(5), slice(2, 9), slice(None), slice(20, 3, -2), MASK),
  *(np.array([4, 4, 0, 49, -2]), np.arange(0), np.array([[1, 2], [3, 7]])),
)


@pytest.mark.parametrize('index', INDICES)
def test_rows_are_those_of_an_array(rows, index):
  expected = TOKENS.astype(np.int32)
  order = np.array([5, 1, 1, 40, *range(10, 56)]) % 50
  for found, array in ((rows, expected), (rows.only(order), expected[order])):
    for key in (index, (index, slice(None, 5))):
      np.testing.assert_array_equal(found[key], array[key], strict=True)
    assert (found.shape, len(found), found.size, found.dtype) == ((50, 7), 50, 350, np.int32)
  np.testing.assert_array_equal(rows.only(order).only(MASK)[:], expected[order][MASK], strict=True)
  np.testing.assert_array_equal(np.asarray(rows), expected, strict=True)


def test_rows_that_are_not_there_and_another_file(rows, tmp_path):
  path = tmp_path / 'tokens.npy'
  taken = rows[10:20]
  for beyond in (50, -51, [3, 50]):
    with pytest.raises(IndexError):
      rows[beyond]
  assert len(list(rows)) == 50
  np.save(path, TOKENS + 1)
  with pytest.raises(OSError, match='It has changed since it was opened'):
    rows[0]
  np.testing.assert_array_equal(taken, TOKENS[10:20])
  longer = Rows(str(path), np.uint16, (60, 7), 128)
  np.testing.assert_array_equal(longer[:50], TOKENS + 1)
  with pytest.raises(OSError, match='It is cut short'):
    longer[[49, 50]]
  path.unlink()
  with pytest.raises(FileNotFoundError):
    rows[0]


def _splits(tmp_path, sizes=(40, 12, 9)) -> dict[str, Examples]:
  """Of tokens that repeat often, on disk."""
  splits = {}
  for name, size in zip(kept.SPLITS, sizes, strict=True):
    np.save(tmp_path / f'{name}.npy', RNG.integers(0, 3, (size, 3)).astype(np.uint8))
    labels = RNG.integers(0, 4, size).astype(np.int32)
    splits[name] = Examples(Rows.of_npy(str(tmp_path / f'{name}.npy')), labels)
  return splits


def test_facts_by_definition_whatever_the_chunks(tmp_path, monkeypatch):
  monkeypatch.setattr(dataset, 'CHUNK', 16)
  splits = _splits(tmp_path)
  assert len(list(splits['train'].chunks())) == 8
  facts.write(str(tmp_path), splits, vocabulary=3, dims=2, classes=5, colour_error=None)
  found = facts.read(str(tmp_path))
  held = {name: np.load(tmp_path / f'{name}.npy').astype('<i4') for name in splits}

  # As it was when data sets were in memory: records hold it.
  digest = hashlib.sha256(b'3 2')
  for name, split in splits.items():
    for array in (held[name], split.labels_N):
      digest.update(f' {array.shape} '.encode() + array.tobytes())
  assert found.digest == digest.hexdigest()

  counts_TxV = np.zeros((2, 3), int)
  np.add.at(counts_TxV, (np.arange(2)[None], held['train'][:, :2]), 1)
  np.testing.assert_array_equal(found.counts_TxV, counts_TxV)

  rows = {name: collections.Counter(map(tuple, array)) for name, array in held.items()}
  assert found.duplicates == {
    **{name: sum(count - 1 for count in rows[name].values()) for name in rows},
    **{
      f'{name} in {other}': sum(count for row, count in rows[name].items() if row in rows[other])
      for name, other in (('validation', 'train'), ('test', 'train'), ('test', 'validation'))
    },
  }
  assert found.balance == {
    name: [int(np.sum(split.labels_N == k)) for k in range(5)] for name, split in splits.items()
  }
  assert found.more == {'colour_error': None}


def test_duplicates_in_words():
  tokens = np.array([[0, 1], [1, 1], [1, 0], [0, 0]])
  splits = {
    name: Examples(tokens[rows], np.full(len(rows), -1))
    for name, rows in {'train': [0, 0, 1], 'validation': [2], 'test': [1, 2, 2, 3]}.items()
  }
  found = facts.duplicates(splits, 2)
  assert found['train'] == 1 and found['validation'] == 0 and found['test'] == 1
  note = facts.duplicates_note(found)
  assert note == '; 1 test rows also stand in train; 2 test rows also stand in validation'
  assert facts.duplicates_note({'train': 3, 'test in train': 0}) == ''
  assert facts.balance(splits, None) is None


def test_tokens_are_kept_as_narrow_as_they_can_be(tmp_path):
  labels = np.arange(4, dtype=np.int32) % 2
  for vocabulary, kind in ((17, np.uint8), (256, np.uint8), (257, np.uint16)):
    where = tmp_path / str(vocabulary)
    where.mkdir()
    tokens = RNG.integers(0, vocabulary, (4, 5)).astype(np.uint16)
    chunks = [(tokens[:3], labels[:3]), (tokens[3:], labels[3:])]
    kept.write(str(where), {name: (4, chunks) for name in kept.SPLITS}, vocabulary, 2)
    assert np.load(where / 'train.npy').dtype == kind
    splits, found = kept.read(str(where))
    for split in splits.values():
      np.testing.assert_array_equal(split.tokens_NxT[:], tokens)
      np.testing.assert_array_equal(split.labels_N, labels)
    assert found.duplicates['test in train'] == 4


def test_what_could_not_be_made_leaves_nothing(tmp_path):
  store = kept.Store(str(tmp_path / 'kept'), lambda: {'of': 1})

  def broken(directory: str) -> None:
    np.save(f'{directory}/some.npy', TOKENS)
    raise ValueError('full')

  with pytest.raises(ValueError, match='full'):
    store.get('tokens', {}, broken)
  assert not list((tmp_path / 'kept').iterdir())

  def beaten(directory: str) -> None:
    """Another process makes the same meanwhile: in another container, of the same number."""
    np.save(f'{directory}/some.npy', TOKENS)
    store.get('tokens', {}, lambda other: np.save(f'{other}/first.npy', TOKENS))
    assert os.listdir(directory) == ['some.npy']

  where = store.get('tokens', {}, beaten)
  assert [path.name for path in (tmp_path / 'kept').iterdir()] == [where.rsplit('/', 1)[1]]
  assert [path.name for path in (tmp_path / 'kept').glob('*/*')] == ['first.npy']


def test_what_a_killed_process_left_is_deleted(tmp_path):
  program = """
import os, signal, sys
from data import kept
def make(directory):
  open(f'{directory}/half.npy', 'wb').write(b'half')
  os.kill(os.getpid(), signal.SIGKILL)
kept.Store(sys.argv[1], lambda: {}).get('tokens', {}, make)
"""
  root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
  done = subprocess.run([sys.executable, '-c', program, str(tmp_path)], cwd=root)
  assert done.returncode == -signal.SIGKILL
  assert [path.name for path in tmp_path.glob('*.unfinished/*')] == ['half.npy']
  where = kept.Store(str(tmp_path), lambda: {}).get(
    'tokens', {}, lambda directory: np.save(f'{directory}/whole.npy', TOKENS)
  )
  assert [str(path) for path in tmp_path.iterdir()] == [where]
  assert os.listdir(where) == ['whole.npy']


def test_what_changes_while_it_is_read_is_not_kept(tmp_path):
  content = [1]
  store = kept.Store(str(tmp_path / 'kept'), lambda: {'of': content[0]})
  with pytest.raises(ValueError, match='the data changed while tokens were made of them'):
    store.get('tokens', {}, lambda directory: content.append(content.pop() + 1))
  assert not list((tmp_path / 'kept').iterdir())


@pytest.mark.parametrize('writes', ['numpy', 'us'])
def test_a_full_disk_is_told_by_its_folder(tmp_path, writes):
  """A limit on files instead, which fails in the same places."""
  store = kept.Store(str(tmp_path / 'kept'), lambda: {})
  values = np.zeros(20000, np.uint8)

  def make(directory: str) -> None:
    if writes == 'numpy':
      np.save(f'{directory}/some.npy', values)
    else:
      with open(f'{directory}/some.npy', 'wb') as file:
        kept.write_rows(file, [values], 20000)

  limits = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (8192, limits[1]))
  try:
    with pytest.raises(OSError) as caught:
      store.get('tokens', {}, make)
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
  # What launch.entry prints.
  assert caught.value.filename == str(tmp_path / 'kept') and caught.value.strerror
  assert not list((tmp_path / 'kept').iterdir())


def test_batches_read_their_own_rows_alone(tmp_path, monkeypatch):
  checksums = originals.write_idx(tmp_path, originals.idx_arrays())
  monkeypatch.setattr(mnist.Mnist, 'checksums', checksums)
  made = sources.load(originals.image_config('mnist'), str(tmp_path))
  asked = []
  inner = Rows.__getitem__
  monkeypatch.setattr(
    Rows, '__getitem__', lambda self, key: asked.append(np.size(key)) or inner(self, key)
  )
  batches = pipeline.Batches(made, 0, 8)
  half = batches.rows(2, range(4, 8))
  assert asked == [4] and half['tokens'].shape == (4, 784)
  np.testing.assert_array_equal(half['tokens'], batches[2]['tokens'][4:])


def _text(path, data_dir, **settings):
  config = text_file.get_config().data
  config.update(path=str(path), length=10, validation=0.1, test=0.1, **settings)
  return sources.load(config, str(data_dir))


def test_a_text_is_walked_through_once_until_it_changes(tmp_path, monkeypatch):
  content = RNG.integers(0, 256, 1000).astype(np.uint8)
  content[950:960] = content[:10]
  content.tofile(tmp_path / 'some.bin')
  first = _text(tmp_path / 'some.bin', tmp_path)
  alone = _text(tmp_path / 'some.bin', '')  # Nothing is kept without a directory.
  assert alone.kept is None and alone.digest == first.digest and alone.duplicates['test in train']
  np.testing.assert_array_equal(alone.counts_TxV, first.counts_TxV)
  assert first.note.endswith('; 1 test rows also stand in train')
  assert histogram.split_bits(first, 'test') == pytest.approx(
    histogram.position_bits(first.train.tokens_NxT[:], first.test.tokens_NxT[:], 256)
  )
  walked = []
  inner = facts.digest
  monkeypatch.setattr(facts, 'digest', lambda *args: walked.append(1) or inner(*args))
  assert _text(tmp_path / 'some.bin', tmp_path).digest == first.digest and not walked
  content[500] ^= 1
  content.tofile(tmp_path / 'some.bin')
  assert _text(tmp_path / 'some.bin', tmp_path).digest != first.digest and walked
  with pytest.raises(OSError, match='It has changed'):
    first.train[0]


def test_the_colour_error_is_that_of_the_pixels(tmp_path):
  """In its own words: the mean over pixels of the distance in RGB."""
  pictures = RNG.integers(0, 256, (6, 4, 4, 3)).astype(np.uint8)
  centres = RNG.uniform(-1, 1, (5, 3)).astype(np.float32)
  source = types.SimpleNamespace(
    chunks=lambda split: iter(
      [(pictures[:4], np.zeros(4, np.int32)), (pictures[4:], np.zeros(2, np.int32))]
    )
  )
  made = images.Tokenized(source, tokenizers.Palette((4, 4), (4, 4), centres))
  tokens = np.concatenate([some for some, _ in made.chunks('train')])
  shown = (centres[tokens].reshape(6, 4, 4, 3).astype(float) + 1) * 127.5
  expected = np.mean(np.linalg.norm(pictures - shown, axis=-1))
  assert made.facts()['colour_error'] == pytest.approx(expected, rel=1e-5)
  grey = images.Tokenized(source, tokenizers.Bytes((4, 4), (4, 4), 3))
  assert len(list(grey.chunks('train'))) == 2 and grey.facts()['colour_error'] is None


def test_a_run_sees_that_its_text_is_another_one(tmp_path):
  (tmp_path / 'some.txt').write_bytes(b'0123456789' * 100)
  config = text_file.get_config()
  config.data.update(path=str(tmp_path / 'some.txt'), length=10)
  data, _ = experiment.load_datasets(config, str(tmp_path))
  (tmp_path / 'run').mkdir()
  (tmp_path / 'run' / 'config.json').write_text(
    '{"config": {}, "data_hash": "%s", "probe_data_hash": "%s"}' % ((data.digest,) * 2)
  )
  experiment.load_datasets(config, str(tmp_path), str(tmp_path / 'run'))
  (tmp_path / 'some.txt').write_bytes(b'0123456788' * 100)
  with pytest.raises(UserError, match='is of other data'):
    experiment.load_datasets(config, str(tmp_path), str(tmp_path / 'run'))
