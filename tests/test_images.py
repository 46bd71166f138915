"""Image sets that TFDS has prepared: found, read, tokenised, held out."""

import functools
import http.server
import json
import os
import threading

import numpy as np
import originals
import pytest
import tensorflow_datasets as tfds

from data import cifar, images, mnist, pipeline, png, prepared, sources, tokenizers
from data.dataset import Dataset
from experiments import cifar10, fashion_mnist, imagenet_resized
from experiments import mnist as mnist_config
from runs import experiment, plan

PICTURES = np.random.default_rng(0).integers(0, 256, (60, 4, 4, 3)).astype(np.uint8)


def prepare(data_dir, name='toy', *, splits=None, config=None, **changes) -> str:
  """Has TFDS prepare a little set; returns its directory."""
  splits = splits or {'train': range(40), 'test': range(40, 60)}
  options = {'shape': (4, 4, 3), 'labelled': True, 'format': 'array_record', 'tensor': False}
  options |= changes

  class Toy(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    VERSION = tfds.core.Version('1.0.0')
    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=config)] if config else []

    def _info(self):
      kind = tfds.features.Tensor if options['tensor'] else tfds.features.Image
      extra = {'dtype': np.uint8} if options['tensor'] else {}
      features = {'image': kind(shape=options['shape'], **extra)}
      if options['labelled']:
        features['label'] = tfds.features.ClassLabel(num_classes=10)
      return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
      return {split: self._generate_examples(rows) for split, rows in splits.items()}

    def _generate_examples(self, rows):
      for row in rows:
        image = PICTURES[row] if options['tensor'] else png.encode(PICTURES[row])
        yield row, {'image': image} | ({'label': row % 10} if options['labelled'] else {})

  Toy.name = name
  builder = Toy(data_dir=str(data_dir), file_format=options['format'])
  prepared.prepare(builder)
  return str(builder.data_dir)


def load(data_dir, name='toy', **settings) -> Dataset:
  return sources.load(originals.image_config(name, **settings), str(data_dir))


@pytest.mark.parametrize('tensor', [False, True])
def test_any_prepared_set_by_its_name(tmp_path, tensor):
  prepare(tmp_path, tensor=tensor)
  dataset = load(tmp_path)
  assert (dataset.name, dataset.classes, dataset.shape) == ('toy', 10, ())
  expected = {p.tobytes(): i % 10 for i, p in enumerate(PICTURES.astype(np.int32))}
  for split, size in {'train': 30, 'validation': 10, 'test': 20}.items():
    examples = getattr(dataset, split)
    assert len(examples) == size and examples.tokens_NxT.dtype == np.int32
    for tokens, label in zip(examples.tokens_NxT, examples.labels_N, strict=True):
      assert expected.pop(tokens.tobytes()) == label
  assert not expected
  batch = pipeline.Batches(dataset, 0, 8)[3]
  assert batch['tokens'].shape == (8, 48) and batch['label'].dtype == np.int32


def test_the_split_does_not_depend_on_who_prepared_the_set(tmp_path):
  prepare(tmp_path / 'one')
  prepare(tmp_path / 'other', splits={'train': range(39, -1, -1), 'test': range(40, 60)})
  prepare(tmp_path / 'third', splits={'train': range(40), 'test': range(41, 60)})
  first = load(tmp_path / 'one')
  assert first.digest == load(tmp_path / 'other').digest
  assert first.digest != load(tmp_path / 'third').digest
  assert first.digest != load(tmp_path / 'one', validation=11).digest


def test_splits_of_their_own_and_sets_without_test(tmp_path):
  parts = {'train': range(20), 'validation': range(20, 30), 'test': range(30, 60)}
  prepare(tmp_path, 'complete', splits=parts)
  complete = load(tmp_path, 'complete', validation=0)
  assert [len(s) for s in (complete.train, complete.validation, complete.test)] == [20, 10, 30]
  assert "the set's own splits" in complete.note
  prepare(tmp_path, 'imagenet', splits={'train': range(20), 'validation': range(20, 25)})
  other = load(tmp_path, 'imagenet', validation=6)
  assert [len(s) for s in (other.train, other.validation, other.test)] == [14, 6, 5]
  assert 'validation: 6 of train at random, test: validation' in other.note
  for held_out in (0, 20):
    with pytest.raises(ValueError, match=r'data.validation must lie in 1..19'):
      load(tmp_path, 'imagenet', validation=held_out)
  prepare(tmp_path, 'lone', splits={'train': range(20)})
  with pytest.raises(ValueError, match='train and test are needed'):
    load(tmp_path, 'lone')


def test_configs_and_versions(tmp_path):
  prepare(tmp_path, 'resized', config='32x32')
  found = prepared.directory('resized/32x32', str(tmp_path))
  assert found.endswith(os.path.join('resized', '32x32', '1.0.0'))
  assert prepared.directory('resized/32x32:1.0.0', str(tmp_path)) == found
  assert prepared.directory('resized/32x32:2.0.0', str(tmp_path)) is None
  assert prepared.directory('resized/64x64', str(tmp_path)) is None
  assert prepared.directory('', str(tmp_path)) is None
  with pytest.raises(ValueError, match='is prepared as 32x32: name resized/CONFIG'):
    load(tmp_path, 'resized')
  assert load(tmp_path, 'resized/32x32').classes == 10
  later = os.path.join(os.path.dirname(found), '1.10.0')
  os.rename(found, later)
  prepare(tmp_path, 'resized', config='32x32')
  assert prepared.directory('resized/32x32', str(tmp_path)) == later


def test_what_can_not_be_read(tmp_path):
  path = prepare(tmp_path, 'records')
  info = os.path.join(path, 'dataset_info.json')
  with open(info, encoding='utf-8') as file:
    content = json.load(file)
  with open(info, 'w', encoding='utf-8') as file:
    json.dump({**content, 'fileFormat': 'tfrecord'}, file)
  with pytest.raises(
    ValueError, match='prepared as tfrecord, which needs TensorFlow; .*tfds build'
  ):
    load(tmp_path, 'records')
  prepare(tmp_path, 'any_size', shape=(None, None, 3))
  with pytest.raises(ValueError, match='is not a set of uint8 images .* of one size'):
    load(tmp_path, 'any_size')
  prepare(tmp_path, 'wrong', shape=(5, 4, 3))
  with pytest.raises(ValueError, match=r'split train: an image is \(4, 4, 3\), not \(5, 4, 3\)'):
    load(tmp_path, 'wrong')
  prepare(tmp_path, 'grey', shape=(4, 4, 1))
  with pytest.raises(ValueError, match='split train: an image is uint8 .* not uint8 of 1 channels'):
    load(tmp_path, 'grey')
  assert not (tmp_path / 'bits_and_probes').exists() or not any(
    files for _, _, files in os.walk(tmp_path / 'bits_and_probes')
  )


def test_labels_out_of_range(tmp_path):
  path = prepare(tmp_path)
  with open(os.path.join(path, 'features.json'), encoding='utf-8') as file:
    text = file.read()
  assert '"numClasses": "10"' in text
  with open(os.path.join(path, 'features.json'), 'w', encoding='utf-8') as file:
    file.write(text.replace('"numClasses": "10"', '"numClasses": "7"'))
  with pytest.raises(ValueError, match='split train: a label is 9, outside 0..6'):
    load(tmp_path)


def test_damaged_records(tmp_path):
  path = prepare(tmp_path)
  shard = next(name for name in os.listdir(path) if 'train' in name)
  with open(os.path.join(path, shard), 'r+b') as file:
    file.truncate(100)
  with pytest.raises(ValueError, match='1.0.0: split train: ') as caught:
    load(tmp_path)
  assert '\n' not in str(caught.value)


def test_sets_without_labels(tmp_path):
  prepare(tmp_path, labelled=False)
  dataset = load(tmp_path)
  assert dataset.classes is None and set(dataset.train.labels_N) == {-1}


def test_the_nearest_colour_is_the_first_of_equally_near_ones():
  # Sixteenths: every square is exact, so that whole numbers tell the same.
  rng = np.random.default_rng(0)
  centres, colours = (rng.integers(-16, 17, (n, 3)) for n in (40, 2000))
  centres = np.concatenate([centres, centres[::-1]])
  squares = [[sum((a - b) ** 2 for a, b in zip(x, c, strict=True)) for c in centres.tolist()]
             for x in colours.tolist()]  # fmt: skip
  found = tokenizers.nearest(colours / 16, (centres / 16).astype(np.float32))
  assert found.tolist() == [row.index(min(row)) for row in squares]


def test_a_palette_is_fitted_to_train_once(tmp_path, monkeypatch):
  prepare(tmp_path)
  dataset = load(tmp_path, tokens='palette', clusters=9)
  assert (dataset.vocabulary, dataset.dims, dataset.shape) == (9, 16, ())
  assert not dataset.lossless and not dataset.ordinal and '9 colours' in dataset.note
  centres = dataset.values_VxK
  by_hand = tokenizers.nearest(tokenizers.scaled(PICTURES[:40].reshape(-1, 3)), centres)
  rows = {tokens.tobytes() for tokens in by_hand.reshape(40, -1).astype(np.int32)}
  read = np.concatenate([dataset.train.tokens_NxT, dataset.validation.tokens_NxT])
  assert {tokens.tobytes() for tokens in read} == rows
  monkeypatch.setattr(images.palette, 'fit', None)
  smaller = load(tmp_path, tokens='palette', clusters=9, size=2)
  np.testing.assert_array_equal(smaller.values_VxK, centres)
  np.save(tmp_path / 'own.npy', centres[::-1])
  other = load(tmp_path, tokens='palette', palette=str(tmp_path / 'own.npy'))
  np.testing.assert_array_equal(other.test.tokens_NxT, 8 - dataset.test.tokens_NxT[:])
  assert other.digest != dataset.digest and other.note != dataset.note


def test_tokens_that_do_not_fit_the_images(tmp_path, monkeypatch):
  prepare(tmp_path)
  with pytest.raises(ValueError, match="holds colour images; data.tokens is 'palette' or 'bytes'"):
    load(tmp_path, tokens='grey')
  with pytest.raises(ValueError, match="data.tokens is 'grey', 'palette' or 'bytes', not 'gray'"):
    load(tmp_path, tokens='gray')
  with pytest.raises(ValueError, match='4x4 pixels can not be averaged to 5x5'):
    load(tmp_path, size=5)
  monkeypatch.setattr(
    mnist.Mnist, 'checksums', originals.write_idx(tmp_path, originals.idx_arrays())
  )
  with pytest.raises(ValueError, match="holds grey images; data.tokens is 'grey' or 'bytes'"):
    load(tmp_path, 'mnist', tokens='palette')
  small = load(tmp_path, 'mnist', tokens='grey', size=14, levels=16)
  assert (small.shape, small.dims, small.vocabulary) == ((14, 14), 196, 16)


def test_cifar_in_colours(tmp_path, monkeypatch):
  batches = originals.cifar_batches()
  written = {name: originals.batch_bytes(*batch) for name, batch in batches.items()}
  monkeypatch.setattr(cifar.Cifar10, 'checksums', originals.write_tar(tmp_path, written))
  dataset = load(tmp_path, 'cifar10', tokens='palette')
  data = batches['test_batch'][0].reshape(-1, 3, 1024).transpose(0, 2, 1)
  distance = ((data[:, :, None] / 127.5 - 1 - dataset.values_VxK.astype(np.float64)) ** 2).sum(-1)
  expected = {tokens.tobytes() for tokens in distance.argmin(-1).astype(np.int32)}
  assert {tokens.tobytes() for tokens in dataset.test.tokens_NxT} == expected
  assert dataset.vocabulary == 512 and dataset.pixels is None
  raw = load(tmp_path, 'cifar10', tokens='bytes')
  planes = raw.test.tokens_NxT[:].reshape(-1, *raw.pixels).transpose(0, 3, 1, 2)
  stored = {row.tobytes() for row in batches['test_batch'][0].astype(np.int32)}
  assert {image.tobytes() for image in planes} == stored


def test_download_on_request_alone(tmp_path, monkeypatch):
  checksums = originals.write_idx(tmp_path / 'server', originals.idx_arrays())
  folder = tmp_path / 'server' / 'downloads' / 'manual'
  handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
  monkeypatch.setattr(http.server.SimpleHTTPRequestHandler, 'log_message', lambda *_: None)
  with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(mnist.Mnist, 'url', f'http://127.0.0.1:{server.server_port}/')
    monkeypatch.setattr(mnist.Mnist, 'checksums', checksums)
    with pytest.raises(ValueError, match='is missing'):
      load(tmp_path / 'data', 'mnist')
    prepared.prepare(images.builder('mnist', str(tmp_path / 'data'), download=True))
    server.shutdown()
  assert len(load(tmp_path / 'data', 'mnist').test) == 12


def test_configs_of_real_sets(tmp_path, monkeypatch):
  for kind in (mnist.Mnist, mnist.FashionMnist):
    checksums = originals.write_idx(tmp_path, originals.idx_arrays())
    monkeypatch.setattr(kind, 'checksums', checksums)
  config = fashion_mnist.get_config()
  config.data.validation = config.probe_data.validation = 10
  assert config.training.steps * config.training.batch_size == 2 * config.data.train_rows
  config.data.train_rows = 20
  config.probe_data.name = 'mnist'
  dataset, probed = experiment.load_datasets(config, str(tmp_path))
  assert (dataset.name, probed.name) == ('fashion_mnist', 'mnist')
  assert (dataset.dims, dataset.vocabulary, probed.classes) == (196, 16, 10)
  assert len(dataset.train) == 20 < len(probed.train)
  config.probe_data.name, config.data.train_rows = '', 0
  config.data.size, config.data.levels = 28, 256
  dataset, probed = experiment.load_datasets(config, str(tmp_path))
  assert dataset.lossless and (dataset.dims, probed) == (784, dataset)
  names = [made.get_config().data.name for made in (mnist_config, cifar10, imagenet_resized)]
  assert names == ['mnist', 'cifar10', 'imagenet_resized/32x32']
  # "As Fashion-MNIST is" holds of what is compared, too.
  assert plan.defaults('experiments/mnist.py') == plan.defaults('experiments/fashion_mnist.py')
