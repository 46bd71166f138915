"""Pairs of items and labels, and the best code of labels."""

import itertools

import numpy as np
import pytest
import scipy.special

from data import pairs, pipeline, sources
from experiments import pairs as config_file
from runs import configs


def _config(*overrides):
  return configs.override(config_file.get_config(), overrides).data


def test_documents_have_laws_of_their_own():
  source = sources.load(_config('--config.data.concentration=0.01'), '')
  rows = pipeline.Batches(source, seed=0, batch_size=300)[0]['tokens']
  items, labels = rows[:, ::2], rows[:, 1::2]
  assert items.max() == 15 and labels.min() == 16 and labels.max() == 25
  used = np.array([len(set(row)) for row in items])
  assert set(used) >= {1, 2, 4, 8} and used.max() > 12
  both = [both for both in zip(items, labels, strict=True) if 3 in both[0]]
  same = [len(set(row_l[row_i == 3])) for row_i, row_l in both]
  assert np.mean(same) < 1.5  # Nearly every item has one label in a document,
  found = [row_l[row_i == 3][0] for row_i, row_l in both]
  assert len(set(found)) == 10  # and any one over documents.
  for setting, message in (
    ('length=7', 'whole pairs'),
    ('concentration=0.0', 'positive and finite'),
    ('labels=1', 'at least 2'),
  ):
    with pytest.raises(ValueError, match=message):
      sources.load(_config(f'--config.data.{setting}'), '')


def test_the_best_code_is_the_integral_over_laws():
  rng = np.random.default_rng(0)
  items, labels = rng.integers(0, 2, 9), rng.integers(0, 3, 9)
  # Of each item Beta functions: int prod p_l^(n_l) Dirichlet(p) dp.
  nats = 0.0
  for item in range(2):
    counts = np.bincount(labels[items == item], minlength=3)
    nats -= scipy.special.gammaln(counts + 0.3).sum() - scipy.special.gammaln(counts.sum() + 0.9)
    nats += 3 * scipy.special.gammaln(0.3) - scipy.special.gammaln(0.9)
  found = pairs.bayes_bits(items, labels, 3, 0.3, window=9)
  assert found.sum() == pytest.approx(nats / np.log(2))
  near = pairs.bayes_bits(items, labels, 3, 0.3, window=2)
  for i, (a, b) in itertools.product(range(2, 9), [(0, 2)]):
    alone = pairs.bayes_bits(items[i - 2 : i + 1], labels[i - 2 : i + 1], 3, 0.3, 9)[b - a]
    assert near[i] == pytest.approx(alone)
