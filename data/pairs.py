"""Documents of items and their labels, each with a law of its own: what a prompt of examples is.

A document draws for each of I items a distribution over L labels, Dirichlet(concentration) each, a
subset of the items, of 1, 2, 4, ... or I of them, then pairs of a uniform item of these and a label
by its distribution. Items are tokens 0..I-1, labels I..I+L-1. What is best to expect of a label is
known, `bayes_bits`. Documents of few items are there because a network learns from them first what
examples are good for.
"""

from typing import Any

import numpy as np

from data.dataset import Dataset, Examples


def document(rng: np.random.Generator, config: Any) -> np.ndarray:
  """One document, int32 (length,); `config` as in `load`."""
  count, rate = config.length // 2, np.full(config.labels, config.concentration)
  laws_IxL = rng.dirichlet(rate, config.inputs)
  sizes = [2**power for power in range(config.inputs.bit_length())]
  used = rng.permutation(config.inputs)[: rng.choice([*sizes, config.inputs])]
  items = rng.choice(used, count)
  edges = np.cumsum(laws_IxL, 1)[items]
  labels = np.minimum((edges < rng.uniform(size=(count, 1))).sum(1), config.labels - 1)
  return np.stack([items, config.inputs + labels], 1).reshape(-1).astype(np.int32)


def bayes_bits(
  items_N: np.ndarray, labels_N: np.ndarray, labels: int, concentration: float, window: int
) -> np.ndarray:
  """Bits (N,) of each label by the posterior predictive of the last `window` pairs before it.

  (count of the label with this item + concentration) / (count of the item + L concentration).
  """
  bits = np.empty(len(items_N))
  for i, (item, label) in enumerate(zip(items_N, labels_N, strict=True)):
    start = max(0, i - window)
    same = labels_N[start:i][items_N[start:i] == item]
    mass = (same == label).sum() + concentration
    bits[i] = -np.log2(mass / (len(same) + labels * concentration))
  return bits


def load(config: Any, data_dir: str = '') -> Dataset:
  """The source of `config`: inputs (items), labels, length (even), concentration, held_out.

  Raises:
    ValueError: a bad setting.
  """
  del data_dir
  for field, smallest in (('inputs', 1), ('labels', 2), ('length', 2), ('held_out', 1)):
    if config[field] < smallest:
      raise ValueError(f'data.{field} must be at least {smallest}, not {config[field]}')
  if config.length % 2:
    raise ValueError(f'data.length is of whole pairs, so even, not {config.length}')
  if not 0 < config.concentration < np.inf:
    raise ValueError(f'data.concentration must be positive and finite, not {config.concentration}')

  def draw(seed: int, index: int) -> dict[str, np.ndarray]:
    tokens = document(np.random.default_rng((seed, index)), config)
    return {'tokens': tokens, 'label': np.int32(-1)}

  def split(seed: int) -> Examples:
    tokens = np.stack([draw(seed, index)['tokens'] for index in range(config.held_out)])
    return Examples(tokens, np.full(config.held_out, -1, np.int32))

  return Dataset(
    name='pairs',
    vocabulary=config.inputs + config.labels,
    dims=config.length,
    length=config.length,
    shape=(),
    classes=None,
    ordinal=False,
    note=f'{config.length // 2} pairs of {config.inputs} items and {config.labels} labels by a law '
    'of each document, drawn afresh',
    lossless=True,
    train=draw,
    validation=split(2**40),
    test=split(2**40 + 1),
  )
