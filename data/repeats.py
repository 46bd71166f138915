"""Text that repeats, and text that doesn't: every document has a small dictionary of its own.

A document draws `words` words of its own, each of `shortest` to `longest` letters, all uniform, and
strings words together, each drawn uniformly, until it is full. With probability 1 - `repeating` it
has no dictionary: its letters are uniform and independent. Every letter is uniform in both, so that
nothing can be predicted but what repeats.
"""

from typing import Any

import numpy as np

from data.dataset import Dataset, Examples


def document(rng: np.random.Generator, config: Any) -> np.ndarray:
  """One document, int32 (length,); `config` as in `load`."""
  length, symbols = config.length, config.symbols
  if rng.random() >= config.repeating:
    return rng.integers(0, symbols, length, dtype=np.int32)
  sizes = rng.integers(config.shortest, config.longest + 1, config.words)
  dictionary = [rng.integers(0, symbols, size) for size in sizes]
  picked = rng.integers(0, config.words, -(-length // config.shortest))
  return np.concatenate([dictionary[word] for word in picked])[:length].astype(np.int32)


def load(config: Any, data_dir: str = '') -> Dataset:
  """The source of `config`: symbols, length, words, shortest, longest, repeating, held_out.

  Raises:
    ValueError: a bad setting.
  """
  del data_dir
  least = {'symbols': 2, 'length': 1, 'words': 1, 'shortest': 1, 'held_out': 1}
  least['longest'] = config.shortest
  for field, smallest in least.items():
    if config[field] < smallest:
      raise ValueError(f'data.{field} must be at least {smallest}, not {config[field]}')
  if not 0 <= config.repeating <= 1:
    raise ValueError(f'data.repeating must lie in 0..1, not {config.repeating}')

  def draw(seed: int, index: int) -> dict[str, np.ndarray]:
    tokens = document(np.random.default_rng((seed, index)), config)
    return {'tokens': tokens, 'label': np.int32(-1)}

  def split(seed: int) -> Examples:
    tokens = np.stack([draw(seed, index)['tokens'] for index in range(config.held_out)])
    return Examples(tokens, np.full(config.held_out, -1, np.int32))

  return Dataset(
    name='repeats',
    vocabulary=config.symbols,
    dims=config.length,
    length=config.length,
    shape=(),
    classes=None,
    ordinal=False,
    note=f'{config.length} letters of {config.symbols}; {100 * config.repeating:g} % of the '
    f'documents are of {config.words} words of their own, drawn afresh',
    lossless=True,
    train=draw,
    validation=split(2**40),
    test=split(2**40 + 1),
  )
