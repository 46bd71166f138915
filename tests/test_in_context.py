"""Labels coded by a network that is shown pairs, and by one that is fitted to them."""

import numpy as np
import pytest
import tiny

from data import pairs
from experiments import pairs as config_file
from runs import configs, experiment, in_context, tokens


@pytest.fixture(scope='module')
def built():
  small = ('model.width=16', 'model.layers=1', 'model.heads=2', 'data.length=8', 'data.inputs=3')
  small += ('data.labels=2', 'optimizer.learning_rate=0.01')
  return experiment.build(
    configs.override(config_file.get_config(), [f'--config.{text}' for text in small]), ''
  )


def test_labels_are_conditioned_on_the_pairs_before_them_as_far_as_they_fit(built):
  params = built.task.init(built.task.key)
  rng = np.random.default_rng(0)
  params['backbone']['output_DxV'] = rng.normal(0, 1, (16, 5)).astype(np.float32)
  items, labels = rng.integers(0, 3, 7), rng.integers(0, 2, 7)
  found = in_context.conditioned(built, params, items, labels)
  nats = tokens.make_nats(built)
  for i in range(7):
    seen = range(max(0, i - 3), i + 1)  # Four pairs fit, the last is the one to be coded.
    row = [token for k in seen for token in (items[k], 3 + labels[k])]
    padded = np.pad(row, (0, 8 - len(row)))[None]
    expected = nats(params, padded)[0, len(row) - 1] / np.log(2)
    assert found[i] == pytest.approx(expected, rel=1e-5)
  best = in_context.ideal(built, items, labels, 3)
  assert best == pytest.approx(pairs.bayes_bits(items, labels, 2, 0.1, 3))


def test_what_is_fitted_learns_which_label_an_item_has(built):
  rng = np.random.default_rng(0)
  items = rng.integers(0, 3, 100)
  labels = np.array([0, 1, 1])[items]
  bits = in_context.fitted(built, items, labels, 30, seed=0)
  assert bits.shape == (100,) and bits[:10] == pytest.approx(np.ones(10))
  assert bits[80:].mean() < 0.2


def test_items_are_clusters_of_images(data_dir):
  dataset = tiny.build(data_dir, 'autoregressive').dataset
  items, labels = in_context.clustered(dataset, 10, seed=0)
  assert len(items) == len(labels) == 600 and set(items) == set(range(10))
  table = np.zeros((10, 10))
  np.add.at(table, (items, labels), 1)
  assert table.max(1).sum() / 600 > 0.6  # A cluster is mostly of one digit.
