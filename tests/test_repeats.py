"""Text that repeats, and text that doesn't."""

import numpy as np
import pytest

from data import pipeline, repeats, sources
from experiments import repeats as config_file
from runs import configs


def _config(*overrides):
  return configs.override(config_file.get_config(), overrides).data


def _words_of(row: np.ndarray, length: int) -> set[tuple]:
  return {tuple(row[i : i + length].tolist()) for i in range(0, len(row), length)}


def test_documents_are_made_of_words_of_their_own():
  config = _config('--config.data.shortest=4', '--config.data.longest=4')
  rng = np.random.default_rng(0)
  documents = [repeats.document(rng, config) for _ in range(200)]
  counts = [len(_words_of(row, 4)) for row in documents]
  assert max(counts) == 3 and min(counts) >= 1
  assert len(set().union(*(_words_of(row, 4) for row in documents))) > 500
  config = _config('--config.data.repeating=0.0')
  counts = [len(_words_of(repeats.document(rng, config), 4)) for _ in range(200)]
  assert min(counts) == 8


def test_letters_are_uniform_whether_they_repeat_or_not():
  for overrides in ((), ('--config.data.repeating=0.0',)):
    source = sources.load(_config(*overrides), '')
    rows = pipeline.Batches(source, seed=0, batch_size=1500)[0]['tokens']
    assert rows.shape == (1500, 32) and source.vocabulary == 16
    shares = np.bincount(rows.ravel(), minlength=16) / rows.size
    assert np.abs(shares - 1 / 16).max() < 0.01
  with pytest.raises(ValueError, match='data.longest must be at least 2'):
    sources.load(_config('--config.data.longest=1'), '')
  with pytest.raises(ValueError, match='data.repeating must lie in 0..1'):
    sources.load(_config('--config.data.repeating=1.5'), '')
