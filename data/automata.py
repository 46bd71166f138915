"""Structured noise: every example is what a small computation of its own made of random bits.

The computation is an elementary cellular automaton (Wolfram 1983): a rule of eight bits says what a
cell becomes from itself and its two neighbours, on a ring. An example draws one of the 256 rules,
the cells of its first row, and which two of the V symbols stand for 0 and 1, all uniform; its rows
are the states one after the other. Nothing in it is of the world, but it compresses: whoever finds
rule, row and symbols pays 8 + width + log2(V (V-1)) bits for it, and no more is ever needed.
"""

from typing import Any

import numpy as np

from data.dataset import Dataset, Examples


def run(rule_8: np.ndarray, first_W: np.ndarray, rows: int) -> np.ndarray:
  """The first `rows` states of an automaton on a ring, (rows, W), of 0 and 1.

  rule_8[4 left + 2 self + right] is what a cell becomes.
  """
  states = [first_W]
  for _ in range(rows - 1):
    cells_W = states[-1]
    states.append(rule_8[4 * np.roll(cells_W, 1) + 2 * cells_W + np.roll(cells_W, -1)])
  return np.stack(states)


def description_bits(vocabulary: int, width: int) -> float:
  """Bits that describe an example: rule, first row, and an ordered pair of symbols."""
  return 8 + width + float(np.log2(vocabulary * (vocabulary - 1)))


def load(config: Any, data_dir: str = '') -> Dataset:
  """The source of `config`: vocabulary, rows, width, held_out examples of each held-out split.

  Raises:
    ValueError: a bad setting.
  """
  del data_dir
  least = {'vocabulary': 2, 'rows': 1, 'width': 1, 'held_out': 1}
  for field, smallest in least.items():
    if config[field] < smallest:
      raise ValueError(f'data.{field} must be at least {smallest}, not {config[field]}')
  vocabulary, rows, width = config.vocabulary, config.rows, config.width

  def draw(seed: int, index: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng((seed, index))
    symbols_2 = rng.choice(vocabulary, 2, replace=False)
    states_RxW = run(rng.integers(0, 2, 8), rng.integers(0, 2, width), rows)
    return {'tokens': symbols_2[states_RxW].astype(np.int32).ravel(), 'label': np.int32(-1)}

  def split(seed: int) -> Examples:
    # Negative labels: there are none. The seeds lie outside the range of training seeds.
    tokens = np.stack([draw(seed, i)['tokens'] for i in range(config.held_out)])
    return Examples(tokens, np.full(config.held_out, -1, np.int32))

  bits = description_bits(vocabulary, width)
  return Dataset(
    name='automata',
    vocabulary=vocabulary,
    dims=rows * width,
    length=rows * width,
    shape=(rows, width),
    classes=None,
    ordinal=True,
    note=f'{rows} states of an elementary automaton of {width} cells with a rule and two of '
    f'{vocabulary} symbols of its own, at most {bits:.1f} bits each, drawn afresh',
    lossless=True,
    train=draw,
    validation=split(2**40),
    test=split(2**40 + 1),
  )
