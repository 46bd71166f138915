"""Labels of images by a network that is shown examples, and by one that is fitted to them."""

import dataclasses
import math
from typing import Any

import numpy as np

from codes import joint
from data import pairs
from data.dataset import Dataset
from probes import mixture
from runs import tokens
from runs.assembled import Experiment

_FITTED_BATCH = 64


def clustered(dataset: Dataset, items: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
  """(item, label) of every image that training did not see, in an order of the seed.

  An image's item is its cluster, k-means of the training images' tokens.
  """
  from sklearn import cluster

  made = cluster.KMeans(items, n_init=4, random_state=seed)
  made.fit(np.asarray(dataset.train.tokens_NxT, np.float64))
  unseen = dataset.validation, dataset.test
  images = np.concatenate([np.asarray(split.tokens_NxT, np.float64) for split in unseen])
  labels_N = np.concatenate([split.labels_N for split in unseen])
  return made.predict(images), labels_N


def conditioned(
  built: Experiment, params: Any, items_N: np.ndarray, labels_N: np.ndarray
) -> np.ndarray:
  """Bits (N,) of each label by a run on `pairs` that is shown as many pairs before it as fit."""
  config, room = built.config.data, built.space.length // 2
  stream = np.stack([items_N, config.inputs + labels_N], 1)
  rows = np.zeros((len(stream), room, 2), np.int64)
  place_N = np.minimum(np.arange(len(stream)), room - 1)
  for row, last in enumerate(place_N):
    rows[row, : last + 1] = stream[row - last : row + 1]
  nats = tokens.make_nats(built)(params, rows.reshape(len(stream), -1))
  return nats[np.arange(len(stream)), 2 * place_N + 1] / math.log(2)


def ideal(built: Experiment, items_N: np.ndarray, labels_N: np.ndarray, window: int) -> np.ndarray:
  """Bits (N,) by the best expectation under the law of `pairs` of so many pairs before."""
  config = built.config.data
  return pairs.bayes_bits(items_N, labels_N, config.labels, config.concentration, window)


def fitted(
  built: Experiment, items_N: np.ndarray, labels_N: np.ndarray, updates: int, seed: int
) -> np.ndarray:
  """Bits (N,) of the prequential code of a fresh network of the run's shape that is fitted.

  Sequences of an item and its label; before each block of labels it makes so many updates on those
  sent, and a predictor that sees no items is mixed in: `codes.joint`.
  """
  config = built.config.data
  model = dataclasses.replace(
    built.model, vocabulary=max(config.inputs, config.labels), length=2, alphabets=None
  )
  optimizer = built.config.optimizer.copy_and_resolve_references()
  optimizer.update({'end_fraction': 1.0, 'warmup_steps': 10})
  network = joint.Network(model, config.labels, 1.0, optimizer, seed)
  nats = joint.expected(
    items_N[:, None],
    labels_N,
    np.arange(len(items_N)),
    [network],
    classes=config.labels,
    first=10,
    steps=0,
    updates=updates,
    batch=_FITTED_BATCH,
    seed=seed,
  )
  return mixture.code_lengths(nats)
