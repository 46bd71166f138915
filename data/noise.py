"""Uniform tokens: nothing to learn, so no likelihood may go below log2 V."""

from typing import Any

import numpy as np

from data.dataset import Dataset, Examples


def load(config: Any, data_dir: str = '') -> Dataset:
  """The source of `config`: vocabulary, length, and held_out examples of each held-out split."""
  del data_dir
  vocabulary, length, held_out = config.vocabulary, config.length, config.held_out
  for field in ('vocabulary', 'length', 'held_out'):
    if config[field] < 1:
      raise ValueError(f'data.{field} must be at least 1, not {config[field]}')

  def draw(seed: int, index: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng((seed, index))
    tokens_T = rng.integers(0, vocabulary, length, dtype=np.int32)
    return {'tokens': tokens_T, 'label': np.int32(-1)}

  def split(seed: int) -> Examples:
    # Negative labels: there are none. The seeds lie outside the range of training seeds.
    tokens = np.stack([draw(seed, i)['tokens'] for i in range(held_out)])
    return Examples(tokens, np.full(held_out, -1, np.int32))

  return Dataset(
    name='noise',
    vocabulary=vocabulary,
    dims=length,
    length=length,
    shape=(),
    classes=None,
    ordinal=True,
    note=f'{length} independent uniform tokens of {vocabulary} values, drawn afresh',
    lossless=True,
    train=draw,
    validation=split(2**40),
    test=split(2**40 + 1),
  )
