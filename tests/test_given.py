"""Anyone's data by path: arrays in a file, pictures in directories."""

from fractions import Fraction
import os
import subprocess
import sys
import types

import ml_collections
import numpy as np
from PIL import Image
import pytest

from data import arrays, given, image_folder, kept, sources, tokenizers
from data.dataset import Dataset
from experiments import arrays as arrays_config
from experiments import cifar10_palette
from runs import experiment, preparing
from runs.errors import UserError

RNG = np.random.default_rng(0)
PICTURES = RNG.integers(0, 256, (40, 4, 4, 3)).astype(np.uint8)
LABELS = np.arange(40) % 4
PALETTE = RNG.uniform(-1, 1, (9, 3)).astype(np.float32)
TOKENS = RNG.integers(0, 9, (40, 16)).astype(np.uint16)


def load(path, **settings) -> Dataset:
  config = ml_collections.ConfigDict(arrays_config.get_config().data)
  config.update(path=str(path), **settings)
  return sources.load(config, os.path.join(os.path.dirname(str(path)), 'data'))


def save(tmp_path, packed=False, **named) -> str:
  (np.savez_compressed if packed else np.savez)(tmp_path / 'mine.npz', **named)
  return str(tmp_path / 'mine.npz')


def splits(values: np.ndarray, kind: str) -> dict[str, np.ndarray]:
  parts = zip(kept.SPLITS, np.split(values, (25, 30)), strict=True)
  return {f'{split}_{kind}': part for split, part in parts}


# Arrays.


@pytest.mark.parametrize('packed', [False, True])
def test_images_split_by_a_seed(tmp_path, packed, monkeypatch):
  monkeypatch.setattr(arrays, 'CHUNK', 300)  # six pictures at a time
  path = save(tmp_path, packed, images=PICTURES, labels=LABELS.astype(np.uint8))
  dataset = load(path, validation=6)
  assert {name: len(split) for name, split in dataset.splits.items()} == {
    'train': 30, 'validation': 6, 'test': 4
  }  # fmt: skip
  assert (dataset.name, dataset.vocabulary, dataset.classes) == ('arrays', 256, 4)
  assert dataset.pixels == (4, 4, 3) and dataset.lossless and dataset.kept is not None
  assert 'mine.npz, validation: 6, test: 4, at random (seed 0)' in dataset.note
  place = {picture.tobytes(): row for row, picture in enumerate(PICTURES.astype(np.int32))}
  rows = {}
  for name, split in dataset.splits.items():
    rows[name] = [place[tokens.tobytes()] for tokens in split.tokens_NxT]
    assert rows[name] == sorted(rows[name])  # the file's own order
    np.testing.assert_array_equal(split.labels_N, LABELS[rows[name]])
  assert sorted(sum(rows.values(), [])) == list(range(40))
  assert load(path, validation=6).digest == dataset.digest
  other = load(path, validation=6, split_seed=1)
  assert [place[t.tobytes()] for t in other.test.tokens_NxT] != rows['test']


def test_the_tokenisers_are_those_of_image_sets(tmp_path):
  path = save(tmp_path, **splits(PICTURES, 'images'))
  small = load(path, size=2)
  np.testing.assert_array_equal(
    small.train.tokens_NxT, tokenizers.Bytes((4, 4), (2, 2), 3)(PICTURES[:25])
  )
  assert small.classes is None and not small.lossless and 'mine.npz, splits as given' in small.note
  fitted = load(path, tokens='palette', clusters=5)
  assert fitted.values_VxK.shape == (5, 3) and ', mean colour error ' in fitted.note
  np.testing.assert_array_equal(
    fitted.test.tokens_NxT, tokenizers.Palette((4, 4), (4, 4), fitted.values_VxK)(PICTURES[30:])
  )
  grey = save(tmp_path, **splits(PICTURES[..., 0], 'images'))
  dataset = load(grey, tokens='grey', levels=7)
  np.testing.assert_array_equal(
    dataset.test.tokens_NxT, PICTURES[30:, ..., 0].reshape(10, -1).astype(int) * 7 // 256
  )
  assert dataset.shape == (4, 4) and dataset.ordinal


@pytest.mark.parametrize('kind', [np.uint8, np.int64])
def test_tokens_with_a_validation_held_out(tmp_path, kind):
  both = {'train_tokens': TOKENS[:30].astype(kind), 'test_tokens': TOKENS[30:].astype(kind)}
  path = save(tmp_path, **both)
  dataset = load(path, validation=5, split_seed=3)
  assert 'validation: 5 of train at random (seed 3)' in dataset.note
  np.testing.assert_array_equal(dataset.test.tokens_NxT, TOKENS[30:])
  found = np.concatenate([dataset.train.tokens_NxT, dataset.validation.tokens_NxT])
  assert sorted(map(tuple, found)) == sorted(map(tuple, TOKENS[:30]))
  assert (dataset.vocabulary, dataset.dims, dataset.classes, dataset.shape) == (9, 16, None, ())
  assert dataset.lossless and not dataset.ordinal and dataset.values_VxK is None
  levels = load(save(tmp_path, tokens=TOKENS.reshape(-1, 4, 4)), ordinal=True)
  assert levels.ordinal and levels.shape == (4, 4) and levels.dims == 16


def test_a_directory_of_files_and_another_content(tmp_path):
  folder = tmp_path / 'files'
  folder.mkdir()
  for name, array in {**splits(TOKENS, 'tokens'), **splits(LABELS, 'labels')}.items():
    np.save(folder / f'{name}.npy', array)
  dataset = load(folder)
  assert dataset.digest == load(save(tmp_path, **splits(TOKENS, 'tokens'),
                                     **splits(LABELS, 'labels'))).digest  # fmt: skip
  np.save(folder / 'train_tokens.npy', TOKENS[:25][::-1])
  assert load(folder).digest != dataset.digest


def test_rows_of_test_that_stand_in_train(tmp_path):
  path = save(tmp_path, train_tokens=TOKENS, validation_tokens=TOKENS[:1] + 1,
              test_tokens=np.concatenate([TOKENS[3:5], TOKENS[:4] + 2]))  # fmt: skip
  dataset = load(path)
  assert dataset.note.endswith('; 2 test rows also stand in train')
  lines = list(preparing.describe(dataset))
  assert lines[0] == f'arrays: {dataset.note}'
  assert lines[1] == 'train: 40 examples of 16 tokens; no labels'
  assert lines[3] == 'test: 6 examples of 16 tokens, 2 also stand in train; no labels'
  assert lines[4] == f'digest {dataset.digest}; kept in {dataset.kept.directory}'


@pytest.mark.parametrize('size', [4, 3])  # 3: pixels are cut
def test_cifar_in_given_colours_and_smaller(tmp_path, size):
  """The config's file, in little: 16x16 by area means of the colours, then the nearest colour."""
  tokens = RNG.integers(0, 9, (16, 64)).astype(np.uint16)
  path = save(tmp_path, train_tokens=tokens[:12], test_tokens=tokens[12:], palette=PALETTE,
              train_labels=np.arange(12) % 3, test_labels=np.arange(4) % 3)  # fmt: skip
  config = cifar10_palette.get_config().data
  config.update(path=path, validation=2)
  whole = sources.load(config, str(tmp_path))
  assert (whole.vocabulary, whole.dims, whole.classes, whole.lossless) == (9, 64, 3, True)
  np.testing.assert_array_equal(whole.values_VxK, PALETTE)
  np.testing.assert_array_equal(whole.test.tokens_NxT, tokens[12:])
  assert '64 pixels of 9 colours (palette ' in whole.note and 'colour error' not in whole.note

  config.size = size
  small = sources.load(config, str(tmp_path))
  expected, errors = np.zeros((16, size**2), int), np.zeros((16, size**2))
  for n, pixel in np.ndindex(16, size**2):
    mean = np.zeros(3)
    for i, j in np.ndindex(8, 8):
      # The share of the old pixel (i, j) that lies in the new one, both squares of the plane.
      tall, wide = (
        max(0, min((new + 1) * Fraction(8, size), old + 1) - max(new * Fraction(8, size), old))
        for new, old in zip(divmod(pixel, size), (i, j), strict=True)
      )
      mean += float(tall * wide * size**2 / 64) * PALETTE[tokens[n, 8 * i + j]].astype(float)
    distances = [np.linalg.norm(mean - colour) for colour in PALETTE.astype(float)]
    expected[n, pixel], errors[n, pixel] = np.argmin(distances), 127.5 * min(distances)
  np.testing.assert_array_equal(small.test.tokens_NxT, expected[12:])
  train = small.train.tokens_NxT[:]
  at = [np.flatnonzero((expected == row).all(1))[0] for row in train]
  assert sorted(at + [np.flatnonzero((expected == row).all(1))[0]
                      for row in small.validation.tokens_NxT]) == list(range(12))  # fmt: skip
  assert small.kept.more['colour_error'] == pytest.approx(errors[at].mean())
  assert not small.lossless and f'{size}x{size} pixels (area means of 8x8)' in small.note


BAD = [
  (dict(arr_0=TOKENS), 'has arr_0; known: images or tokens, or train_images'),
  ({}, 'has no arrays; known: images or tokens'),
  (dict(images=PICTURES, tokens=TOKENS), 'has both images and tokens'),
  (dict(images=PICTURES, train_images=PICTURES), 'has both images and images by splits'),
  (dict(train_tokens=TOKENS), 'has no test_tokens; known'),
  (dict(images=PICTURES / 255), r'images is float64 \(40, 4, 4, 3\); images are uint8'),
  (dict(images=PICTURES[..., :2]), r'images is uint8 \(40, 4, 4, 2\); images are uint8'),
  (dict(images=PICTURES[:0]), r'images is uint8 \(0, 4, 4, 3\): it is empty'),
  (dict(tokens=TOKENS / 1.0), r'tokens is float64 .*; tokens are integers \(N, T\)'),
  (dict(tokens=TOKENS[0]), 'tokens are integers'),
  (dict(tokens=TOKENS.astype(int) - 1), 'has a token -1, outside the 65536 values 0..65535'),
  (dict(tokens=TOKENS.astype(int) * 70000), 'has a token .*, outside the 65536 values'),
  (dict(tokens=TOKENS, palette=PALETTE[:5]), 'has a token [5-8], outside the 5 colours 0..4'),
  (dict(tokens=TOKENS, palette=(PALETTE + 1) / 2), r'seems to be on the scale of \[0, 1\]'),
  (dict(tokens=TOKENS, palette=np.rint(127 * (PALETTE + 1))), r'a palette lie in \[-1, 1\]'),
  (dict(images=PICTURES, palette=PALETTE), 'a palette stands beside tokens; of images: --config'),
  (dict(tokens=TOKENS, labels=LABELS[1:]), r'labels is int64 \(39,\); labels are integers \(40,\)'),
  (dict(tokens=TOKENS, labels=LABELS * 1.0), 'labels is float64'),
  (dict(tokens=TOKENS, labels=LABELS - 1), 'has a label -1: labels are 0, 1, 2'),
  (dict(tokens=TOKENS, labels=LABELS * 2), 'labels go up to 6, but no example of train has 1'),
  (dict(train_tokens=TOKENS, test_tokens=TOKENS, train_labels=LABELS),
   'has labels, but no test_labels'),
  (dict(train_tokens=TOKENS, test_tokens=TOKENS[:, :5]), r'test is of \(5,\), but train of \(16'),
  (dict(tokens=np.array([[1, 'a']], object)), 'tokens can not be used: it holds Python objects'),
  (dict(tokens=np.asfortranarray(TOKENS)), 'stored by columns; save np.ascontiguousarray'),
  (dict(images=PICTURES, label=LABELS), 'has label, which is not read beside images; known: im'),
  (dict(images=PICTURES, train_labels=LABELS), 'has train_labels, which is not read'),
  (dict(train_images=PICTURES, test_images=PICTURES, labels=LABELS), 'has labels, which is not'),
  (dict(train_tokens=TOKENS, test_tokens=TOKENS, val_tokens=TOKENS), 'has val_tokens, which is'),
  (dict(train_tokens=TOKENS, test_tokens=TOKENS, train_labels=LABELS, test_labels=LABELS,
        validation_labels=LABELS), 'has validation_labels, which is not read beside tokens'),
  (dict(tokens=0 * TOKENS), 'every token is 0, nothing is left to predict'),
  (dict(tokens=TOKENS[:2]), 'has 2 examples: too few for 1 of validation and 1 of test beside'),
]  # fmt: skip


@pytest.mark.parametrize('named, message', BAD)
def test_arrays_that_are_no_data_set(tmp_path, named, message):
  with pytest.raises(ValueError, match=message) as caught:
    load(save(tmp_path, **named))
  assert '\n' not in str(caught.value) and 'mine.npz' in str(caught.value)


def test_settings_and_files_that_can_not_be(tmp_path):
  path = save(tmp_path, tokens=TOKENS)
  for settings, message in (
    ({'validation': -1}, 'data.validation must not be negative'),
    ({'split_seed': -1}, 'data.split_seed must not be negative'),
    ({'validation': 30, 'test': 10}, 'has 40 examples: too few for 30 of validation and 10 of'),
    ({'tokens': 'grey'}, 'data.tokens is for images; .* has tokens'),
    ({'palette': 'some.npy'}, 'data.palette is for images'),
    ({'size': 2}, 'data.size is for images and for tokens with a palette'),
  ):
    with pytest.raises(ValueError, match=message):
      load(path, **settings)
  for clusters in (0, 1, 2**15):
    with pytest.raises(ValueError, match=f'data.clusters must be 2 to 32767, not {clusters}'):
      load(save(tmp_path, images=PICTURES), tokens='palette', clusters=clusters)
  save(tmp_path, tokens=TOKENS)
  with pytest.raises(ValueError, match='15 tokens are no square picture'):
    load(save(tmp_path, tokens=TOKENS[:, :15], palette=PALETTE), size=2)
  with pytest.raises(ValueError, match='4x4 pixels can not be averaged to 5x5'):
    load(save(tmp_path, tokens=TOKENS, palette=PALETTE), size=5)
  with pytest.raises(ValueError, match='data.path is empty: name a file'):
    load('')
  with pytest.raises(ValueError, match='none.npz can not be read: No such file'):
    load(tmp_path / 'none.npz')
  (tmp_path / 'text.npz').write_bytes(b'hello' * 100)
  with pytest.raises(ValueError, match='text.npz is no .npz file'):
    load(tmp_path / 'text.npz')
  content = bytearray(open(save(tmp_path, tokens=TOKENS), 'rb').read())
  content[400] ^= 255
  (tmp_path / 'broken.npz').write_bytes(content)
  with pytest.raises(ValueError, match='broken.npz: tokens can not be used: Bad CRC-32'):
    load(tmp_path / 'broken.npz')
  assert not any(files for _, _, files in os.walk(tmp_path / 'data') if 'train.npy' in files)


def test_arrays_that_are_cut_short_or_longer_are_found_before_the_work(tmp_path):
  folder = tmp_path / 'files'
  folder.mkdir()
  np.save(folder / 'tokens.npy', TOKENS)
  content = (folder / 'tokens.npy').read_bytes()
  rows = str(9 * 10**13).encode()  # Too many to number; the head keeps its length.
  many = content.replace(b'(40, 16), }' + 12 * b' ', b'(' + rows + b', 16), }')
  assert len(many) == len(content) and rows in many
  for wrong, message in ((content[:-1], 'is cut short'), (many, 'is cut short'),
                         (content + b'0', 'is longer than its head says')):  # fmt: skip
    (folder / 'tokens.npy').write_bytes(wrong)
    with pytest.raises(ValueError, match=f'files: tokens can not be used: it {message}'):
      load(folder)


def test_rows_of_a_split_are_disjoint_and_all():
  rows = given.split_rows(100, {'validation': 0, 'test': 25}, 7, 'some')
  assert [len(rows[name]) for name in kept.SPLITS] == [65, 10, 25]
  np.testing.assert_array_equal(np.sort(np.concatenate(list(rows.values()))), np.arange(100))


# Directories of images.


def write(path, picture, **options) -> None:
  os.makedirs(os.path.dirname(path), exist_ok=True)
  Image.fromarray(picture).save(path, **options)


def folder(tmp_path, name='pictures', pictures=PICTURES) -> str:
  for row, picture in enumerate(pictures):
    write(tmp_path / name / ('cat', 'dog')[row % 2] / f'{row:03d}.png', picture)
  return str(tmp_path / name)


def load_folder(path, **settings) -> Dataset:
  return load(path, name='image_folder', **settings)


def test_one_directory_a_class(tmp_path):
  path = folder(tmp_path)
  (tmp_path / 'pictures' / 'cat' / '.DS_Store').write_bytes(b'')
  dataset = load_folder(path)
  assert (dataset.name, dataset.classes, dataset.class_names) == ('image_folder', 2, ('cat', 'dog'))
  assert dataset.lossless and dataset.pixels == (4, 4, 3)
  found = {}
  for split in dataset.splits.values():
    for tokens, label in zip(split.tokens_NxT, split.labels_N, strict=True):
      found[tokens.tobytes()] = label
  assert found == {p.tobytes(): row % 2 for row, p in enumerate(PICTURES.astype(np.int32))}
  lines = list(preparing.describe(dataset))
  assert lines[3].startswith('test: 4 examples of 48 tokens; by class cat: ')
  # The same pictures as an array are the same tokens.
  rows = np.argsort(np.arange(40) % 2, kind='stable')
  assert dataset.digest == load(save(tmp_path, images=PICTURES[rows], labels=rows % 2)).digest
  write(tmp_path / 'pictures' / 'cat' / '000.png', PICTURES[0] ^ 1)
  assert load_folder(path).digest != dataset.digest


def test_directories_of_splits_and_of_one_class(tmp_path):
  for split, rows in {
    'train': range(20),
    'test': range(20, 30),
    'validation': range(30, 40),
  }.items():
    folder(tmp_path / 'parts', split, PICTURES[list(rows)])
  dataset = load_folder(tmp_path / 'parts')
  assert [len(split) for split in dataset.splits.values()] == [20, 10, 10]
  assert 'parts, splits as given' in dataset.note
  for row, picture in enumerate(PICTURES):
    write(tmp_path / 'alone' / 'all' / f'{row}.png', picture[..., 0])
  alone = load_folder(tmp_path / 'alone', tokens='grey', levels=16)
  assert alone.classes is None and alone.class_names is None and set(alone.train.labels_N) == {-1}
  assert alone.shape == (4, 4) and alone.vocabulary == 16


def test_jpeg_grey_and_palette_among_colours_and_several_sizes(tmp_path):
  path = folder(tmp_path)
  large = np.kron(PICTURES[0], np.ones((2, 2, 1), np.uint8))
  write(tmp_path / 'pictures' / 'cat' / 'grey.png', PICTURES[1][..., 0])
  write(tmp_path / 'pictures' / 'cat' / 'some.JPG', PICTURES[2], format='JPEG')
  Image.fromarray(PICTURES[3]).quantize(8).save(tmp_path / 'pictures' / 'cat' / 'few.png')
  assert load_folder(path).dims == 48
  write(tmp_path / 'pictures' / 'dog' / 'large.png', large)
  with pytest.raises(ValueError, match='dog/large.png is 8x8 pixels, .*cat/000.png 4x4: make them'):
    load_folder(path)
  with pytest.raises(ValueError, match='000.png: 4x4 pixels can not be averaged to 5x5'):
    load_folder(path, size=5)
  dataset = load_folder(path, size=4)
  assert not dataset.lossless and dataset.note.endswith('; the images are of 2 sizes')
  every = [row.tobytes() for split in dataset.splits.values() for row in split.tokens_NxT]
  assert every.count(PICTURES[0].astype(np.int32).tobytes()) == 2
  assert np.repeat(PICTURES[1][..., :1], 3, -1).astype(np.int32).tobytes() in every


def test_directories_that_are_no_data_set(tmp_path):
  path = folder(tmp_path)
  cat = tmp_path / 'pictures' / 'cat'

  def refused(message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
      load_folder(path)
    assert '\n' not in str(caught.value)

  (cat / 'notes.txt').write_text('hello')
  refused('cat/notes.txt is no PNG or JPEG file')
  (cat / 'notes.txt').rename(cat / 'notes.png')
  refused('cat/notes.png is no PNG or JPEG file, or is damaged')
  (cat / 'notes.png').unlink()
  Image.fromarray(np.dstack([PICTURES[0], PICTURES[0][..., :1]])).save(cat / 'alpha.png')
  refused('cat/alpha.png is of mode RGBA: save it as grey or RGB')
  (cat / 'alpha.png').unlink()
  few = Image.fromarray(PICTURES[0]).quantize(8)
  for picture, clear in ((few, 0), (few.convert('RGB'), (1, 2, 3)), (few.convert('L'), 3)):
    picture.save(cat / 'clear.png', transparency=clear)
    refused('cat/clear.png has transparent pixels: save it without transparency')
  (cat / 'clear.png').unlink()
  content = (cat / '000.png').read_bytes()
  (cat / '000.png').write_bytes(content[:60])
  refused('cat/000.png can not be read: ')
  (cat / '000.png').write_bytes(content)
  (cat / 'deeper').mkdir()
  refused('cat/deeper is no PNG or JPEG file, but a directory: splits are train and test')
  (cat / 'deeper').rmdir()
  (tmp_path / 'pictures' / 'bird').mkdir()
  refused('class bird is empty')
  (tmp_path / 'pictures' / 'bird').rmdir()
  (cat / 'gone.png').symlink_to(cat / 'none.png')
  for gone in (lambda: load_folder(path), lambda: image_folder._open(str(cat / 'gone.png'))):
    with pytest.raises(FileNotFoundError) as caught:  # Of which launch.entry makes one line.
      gone()
    assert caught.value.filename == str(cat / 'gone.png')
  (cat / 'gone.png').unlink()
  (tmp_path / 'pictures' / 'readme').write_text('hello')
  refused('holds a file, readme: it should hold one directory of images a class')
  for none, message in (('none', 'can not be read: No such file'), ('empty', 'holds nothing')):
    (tmp_path / 'empty').mkdir(exist_ok=True)
    with pytest.raises(ValueError, match=message):
      load_folder(tmp_path / none)
  folder(tmp_path / 'parts', 'train', PICTURES[:20])
  folder(tmp_path / 'parts', 'test', PICTURES[20:])
  write(tmp_path / 'parts' / 'test' / 'cow' / '1.png', PICTURES[0])
  with pytest.raises(ValueError, match='test has a class cow that train has not'):
    load_folder(tmp_path / 'parts')


# In a run.


def test_what_is_probed_is_dealt_as_what_is_compressed(tmp_path):
  config = arrays_config.get_config()
  path = save(tmp_path, tokens=TOKENS, labels=LABELS)
  for data in (config.data, config.probe_data):
    data.update(name='arrays', path=path)
  dataset, probed = experiment.load_datasets(config, str(tmp_path))
  assert dataset is probed
  config.probe_data.split_seed = 1
  made = sources.load(config.probe_data, str(tmp_path))
  trained = {row.tobytes() for row in dataset.train.tokens_NxT}
  assert any(row.tobytes() in trained for row in made.test.tokens_NxT)
  with pytest.raises(UserError, match='value to data.split_seed and probe_data.split_seed$'):
    experiment.load_datasets(config, str(tmp_path))
  # Where the file says what is held out, these fields say nothing.
  path = save(tmp_path, **splits(TOKENS, 'tokens'), **splits(LABELS, 'labels'))
  dataset, probed = experiment.load_datasets(config, str(tmp_path))
  assert dataset.digest == probed.digest


# The command.


def test_preparing_by_command(tmp_path):
  def prepare(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, '-m', 'launch.prepare', f'--data_dir={tmp_path}', *arguments]
    return subprocess.run(command, capture_output=True, text=True)

  path = save(tmp_path, tokens=TOKENS, labels=LABELS)
  result = prepare('--config=experiments/arrays.py', f'--config.data.path={path}')
  assert result.returncode == 0, result.stderr
  assert 'train: 32 examples of 16 tokens; by class 0: ' in result.stdout
  assert 'digest ' in result.stdout and str(tmp_path) in result.stdout
  result = prepare('--config=experiments/arrays.py', f'--config.data.path={path}x')
  assert result.returncode == 2 and result.stderr.count('\n') == 1
  assert 'mine.npzx can not be read: No such file or directory' in result.stderr


@pytest.mark.parametrize(
  'name, said',
  [
    ('digits', 'digits needs no preparation: it is made when it is asked for'),
    ('noise', 'noise needs no preparation'),
    (
      'image_folder',
      'prepared by its config: --config=experiments/arrays.py --config.data.name=im',
    ),
    ('text_file', 'prepared by its config: --config=experiments/text_file.py'),
    ('cifar100', 'tfds build cifar100'),
  ],
)
def test_preparing_by_name(tmp_path, name, said):
  try:
    found = preparing.named(name, str(tmp_path), False)
  except UserError as error:
    found = str(error)
  assert said in found and not list(tmp_path.iterdir())


def test_what_is_said_of_many_classes():
  balance = {'test': [3, 5, *[4] * 28]}
  made = types.SimpleNamespace(classes=30, balance=balance, class_names=None)
  assert preparing._balance(made, 'test') == '; 30 classes of 3 to 5'
