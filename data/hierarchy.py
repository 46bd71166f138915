"""The random hierarchy model: a generative grammar of which everything is known.

Cagnetta, Petrini, Tomasini, Favero and Wyart 2024, «How deep neural networks learn compositional
data: the random hierarchy model». The root, which is the label, is uniform over V symbols. Each
symbol is replaced by one of its M productions, uniformly; a production is a tuple of S symbols of
the next level, and no two symbols of a level share one, so a string has exactly one derivation.
After `depth` levels there are T = S^depth tokens.

Hence every string that the grammar makes is equally likely, and -log p(x) is the entropy for each.
"""

import dataclasses
import functools
from typing import Any

import jax
import numpy as np

from data import belief, synthetic
from data.dataset import Dataset

# Keeps the numbers that draw a grammar apart from all others made of the same seed.
_GRAMMAR_STREAM = 0x6772616D


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Grammar(belief.Truth):
  """The rules, and exact inference under them.

  Attributes:
    rules_LxVxMxS: int32; rules[k, a, j] are the S symbols of level k + 1 that the j-th production
      of symbol a of level k makes. Level 0 is the root, level L the tokens.
  """

  rules_LxVxMxS: np.ndarray

  @property
  def depth(self) -> int:
    return self.rules_LxVxMxS.shape[0]

  @property
  def vocabulary(self) -> int:
    return self.rules_LxVxMxS.shape[1]

  @property
  def productions(self) -> int:
    return self.rules_LxVxMxS.shape[2]

  @property
  def branching(self) -> int:
    return self.rules_LxVxMxS.shape[3]

  @property
  def dims(self) -> int:
    return self.branching**self.depth

  def entropy_bits(self) -> float:
    return entropy_bits(self.depth, self.branching, self.vocabulary, self.productions)

  def _infer(self, evidence_BxTxV: jax.Array) -> belief.Belief:
    return belief.tree_belief(jax.numpy.asarray(self.rules_LxVxMxS), evidence_BxTxV)


def entropy_bits(depth: int, branching: int, symbols: int, productions: int) -> float:
  """Bits per sequence: log2 V for the root and log2 M for each of the (T-1)/(S-1) expansions."""
  expansions = sum(branching**level for level in range(depth))
  return float(np.log2(symbols) + expansions * np.log2(productions))


def draw_grammar(seed: int, depth: int, branching: int, symbols: int, productions: int) -> Grammar:
  """A random grammar: at each level symbols x productions distinct tuples, in random order.

  Raises:
    ValueError: a setting that no grammar can have, in one line.
  """
  for name, value in (('depth', depth), ('branching', branching), ('productions', productions)):
    if value < 1:
      raise ValueError(f'data.{name} must be at least 1, not {value}')
  if symbols < 2:
    raise ValueError(f'data.symbols must be at least 2, not {symbols}')
  if seed < 0:
    raise ValueError(f'data.grammar_seed must not be negative, not {seed}')
  tuples = symbols**branching
  if productions * symbols > tuples:
    raise ValueError(
      f'data.productions = {productions} needs {productions * symbols} distinct tuples, but '
      f'{symbols} symbols make only {tuples} tuples of {branching}; '
      f'at most {tuples // symbols} productions a symbol'
    )
  if tuples >= 2**63:
    raise ValueError(f'{symbols} symbols make too many tuples of {branching}: 2^63 or more')
  rng = np.random.default_rng((_GRAMMAR_STREAM, seed))
  powers_S = np.array([symbols**place for place in range(branching)], np.int64)
  levels = []
  for _ in range(depth):
    chosen = rng.choice(tuples, productions * symbols, replace=False)
    digits = chosen[:, None] // powers_S % symbols
    levels.append(digits.reshape(symbols, productions, branching))
  return Grammar(np.stack(levels).astype(np.int32))


def sample(grammar: Grammar, seed: int, first: int, count: int) -> synthetic.Draw:
  """Strings first..first+count-1 of stream `seed`, their roots as labels, and all latents.

  Levels hold the symbols of level 0 (the root) to depth-1, int32 (N, S^level).
  """
  nodes = [grammar.branching**level for level in range(grammar.depth)]
  words = synthetic.random_words(seed, first, count, 1 + sum(nodes)) >> np.uint64(32)

  def below(limit: int, start: int, stop: int) -> np.ndarray:
    """Uniform on 0..limit-1, off by less than limit / 2^32."""
    return (words[:, start:stop] * np.uint64(limit)) >> np.uint64(32)

  symbols = below(grammar.vocabulary, 0, 1).astype(np.int32)
  levels, used = [], 1
  for rules_VxMxS, width in zip(grammar.rules_LxVxMxS, nodes, strict=True):
    levels.append(symbols)
    choices = below(grammar.productions, used, used + width)
    used += width
    symbols = rules_VxMxS[symbols, choices].reshape(count, -1)
  return synthetic.Draw(symbols, levels[0][:, 0], tuple(levels))


def load(config: Any, data_dir: str = '') -> Dataset:
  """The data set of `config`: depth, branching, symbols, productions, grammar_seed, examples,
  held_out. ValueError for a bad setting."""
  del data_dir
  grammar = draw_grammar(
    config.grammar_seed, config.depth, config.branching, config.symbols, config.productions
  )
  note = (
    f'random hierarchy model {config.grammar_seed}: {grammar.dims} tokens, depth {config.depth}, '
    f'branching {config.branching}, {config.symbols} symbols, {config.productions} productions'
  )
  sampler = functools.partial(sample, grammar)
  return synthetic.build('hierarchy', sampler, grammar, config, config.symbols, note)
