"""The very batches of a seed, pinned: whoever shuffles otherwise, we or a library, is noticed."""

import hashlib

import numpy as np
import originals
import pytest

from data import mnist, pipeline, sources
from experiments import digits, hierarchy, noise, text_file

# Also beyond the first epoch of every finite set.
STEPS = (0, 1, 7, 500)


def _digits(tmp_path, data_dir, monkeypatch):
  return sources.load(digits.get_config().data, data_dir)


def _noise(tmp_path, data_dir, monkeypatch):
  return sources.load(noise.get_config().data, '')


def _hierarchy(tmp_path, data_dir, monkeypatch, examples=0):
  config = hierarchy.get_config().data
  config.update(examples=examples, held_out=10)
  return sources.load(config, '')


def _few_strings(tmp_path, data_dir, monkeypatch):
  return _hierarchy(tmp_path, data_dir, monkeypatch, 50)


def _images(tmp_path, data_dir, monkeypatch):
  checksums = originals.write_idx(tmp_path, originals.idx_arrays())
  monkeypatch.setattr(mnist.FashionMnist, 'checksums', checksums)
  config = originals.image_config('fashion_mnist', tokens='grey', size=14, levels=16)
  return sources.load(config, str(tmp_path))


def _text(tmp_path, data_dir, monkeypatch):
  np.random.default_rng(0).integers(0, 256, 3007).astype(np.uint8).tofile(tmp_path / 'some.bin')
  config = text_file.get_config().data
  config.update(path=str(tmp_path / 'some.bin'), length=10, validation=0.1, test=0.1)
  return sources.load(config, str(tmp_path))


# Of the batches, and of the whole data set: `Dataset.digest`, which records hold.
PINNED = {
  '_digits': ('a1d734537f45b4df', 'd559281f46ce9799'),
  '_noise': ('716e9c8f8d95fd4d', '222a0b2e51fe8cf2'),
  '_hierarchy': ('b46c14f3ea3e72d8', '83c561d9058f1348'),
  '_few_strings': ('64a4d75071083010', 'b3befb0fc307773a'),
  '_images': ('8f5cd1556afd2565', 'c4fd48e28960ff2b'),
  '_text': ('bd238cfe5bb78bcb', 'e99a2127b9930889'),
}


@pytest.mark.parametrize('make', [_digits, _noise, _hierarchy, _few_strings, _images, _text])
def test_batches_of_a_seed_are_those_of_old(make, tmp_path, data_dir, monkeypatch):
  dataset = make(tmp_path, data_dir, monkeypatch)
  batches = pipeline.Batches(dataset, seed=3, batch_size=12)
  found = hashlib.sha256()
  for step in STEPS:
    for name, kind in (('tokens', '<i4'), ('label', '<i4')):
      found.update(np.ascontiguousarray(batches[step][name], kind).tobytes())
  assert (found.hexdigest()[:16], dataset.digest[:16]) == PINNED[make.__name__]
