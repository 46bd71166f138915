"""Substitution ciphers of sources whose law, and so its symmetries, are known exactly."""

from collections.abc import Callable, Iterator, Sequence
import dataclasses
import functools
from typing import Any

import numpy as np

from codes import cipher
from data import hierarchy, markov, retellings
from data.dataset import Examples
from runs import finished, measured

SYMBOLS, LENGTH = 8, 32
_CONCENTRATION = 0.5
_TEXT_LENGTH = 64
# X and Y are parts of one stream; keys and texts have streams of their own.
_STREAM, _KEY, _TEXT = 1, 0x6B6579, 0x74657874


@dataclasses.dataclass(frozen=True)
class Source:
  """A law of sequences.

  Attributes:
    symbols: V.
    draw: count -> that many sequences (count, T).
    placed: whether places differ, so that moments are taken at each.
    order: of the counting model of X.
    symmetries: permutations of the symbols that leave the law as it is; all of them.
  """

  symbols: int
  draw: Callable[[int], np.ndarray]
  placed: bool
  order: int
  symmetries: Callable[[], list[np.ndarray]]

  def moments(self, tokens_NxT: np.ndarray) -> np.ndarray:
    """What `cipher.match` compares, (K, V, V)."""
    if self.placed:
      return cipher.placed(tokens_NxT, self.symbols)
    return cipher.lagged(tokens_NxT, self.symbols, range(1, self.order + 2))


# Sources.


def get(name: str, seed: int, depth: int = 4) -> Source:
  """'markov', 'markov2' (order 2), 'copy', 'hierarchy' (of this depth) or 'text', of a seed.

  Raises:
    ValueError: unknown name.
  """
  if name in ('markov', 'copy'):
    return _chain(name, seed)
  if name == 'markov2':
    return _second_order(seed)
  if name == 'hierarchy':
    return _hierarchy(seed, depth)
  if name == 'text':
    return _text(seed)
  raise ValueError(f"unknown source '{name}'")


def _chain(name: str, seed: int) -> Source:
  if name == 'markov':
    chain = markov.draw_chain(seed, SYMBOLS, LENGTH, _CONCENTRATION)
  else:
    chain = markov.copy_chain(SYMBOLS, LENGTH, 1, 0.1)
  # With the transitions a permutation keeps what is stationary, too.
  return Source(
    SYMBOLS,
    lambda count: markov.sample(chain, _stream(seed), 0, count).tokens_NxT,
    False,
    1,
    lambda: list(cipher.symmetries(chain.transition_VxV[None])),
  )


def _stream(seed: int) -> int:
  return _STREAM + (seed << 8)


def _second_order(seed: int) -> Source:
  """p(x_t | x_{t-2}, x_{t-1}) of random rows, after two uniform symbols."""
  rng = np.random.default_rng((_STREAM, seed))
  table_VxVxV = rng.dirichlet(np.full(SYMBOLS, _CONCENTRATION), (SYMBOLS, SYMBOLS))
  edges_VxVxV = np.cumsum(table_VxVxV, -1)

  def draw(count: int) -> np.ndarray:
    rng = np.random.default_rng((_STREAM, seed, count))
    tokens_NxT = np.empty((count, LENGTH), np.int64)
    tokens_NxT[:, :2] = rng.integers(0, SYMBOLS, (count, 2))
    for t in range(2, LENGTH):
      edges_NxV = edges_VxVxV[tokens_NxT[:, t - 2], tokens_NxT[:, t - 1]]
      drawn = (edges_NxV < rng.uniform(size=(count, 1))).sum(1)
      tokens_NxT[:, t] = np.minimum(drawn, SYMBOLS - 1)
    return tokens_NxT

  def keeps(image_V: np.ndarray) -> bool:
    return np.allclose(table_VxVxV[np.ix_(image_V, image_V, image_V)], table_VxVxV, atol=1e-9)

  # Moments that a symmetry keeps: what follows on a symbol, and on one before it.
  known = np.stack([table_VxVxV.mean(0), table_VxVxV.mean(1)])
  return Source(SYMBOLS, draw, False, 2, lambda: list(cipher.symmetries(known, keeps)))


def strings_of(grammar: hierarchy.Grammar) -> np.ndarray:
  """Every string that a grammar makes, (V M^((T-1)/(S-1)), T); each is there once."""
  made = [np.array([[symbol]]) for symbol in range(grammar.vocabulary)]
  for rules_VxMxS in grammar.rules_LxVxMxS[::-1]:
    made = [
      np.concatenate([functools.reduce(_joined, [made[b] for b in production]) for production in a])
      for a in rules_VxMxS
    ]
  return np.concatenate(made)


def _joined(first_NxT: np.ndarray, second_MxT: np.ndarray) -> np.ndarray:
  """Every row of the one before every row of the other."""
  left = np.repeat(first_NxT, len(second_MxT), 0)
  return np.concatenate([left, np.tile(second_MxT, (len(first_NxT), 1))], 1)


def _hierarchy(seed: int, depth: int) -> Source:
  """The grammar of the shared runs at depth 4."""
  grammar = hierarchy.draw_grammar(seed, depth, 2, SYMBOLS, 2)

  def symmetries() -> list[np.ndarray]:
    strings = strings_of(grammar)
    keeps = cipher.keeps_strings(strings, SYMBOLS)
    return list(cipher.symmetries(cipher.placed(strings, SYMBOLS), keeps))

  return Source(
    SYMBOLS,
    lambda count: hierarchy.sample(grammar, _stream(seed), 0, count).tokens_NxT,
    True,
    1,
    symmetries,
  )


def letters() -> str:
  """Those of the words of stories, and the space."""
  return ' ' + ''.join(sorted(set(''.join(retellings.WORDS[1:])) - set('.,:?')))


def _text(seed: int) -> Source:
  """Windows of stories without their points, letter by letter."""
  known = letters()
  ids = {letter: number for number, letter in enumerate(known)}

  def draw(count: int) -> np.ndarray:
    rng, text, least = np.random.default_rng((_TEXT, seed, count)), [], count * _TEXT_LENGTH
    while sum(map(len, text)) < least:
      fact = retellings.draw_fact(rng, str(rng.choice(retellings.NAMES)))
      words = retellings.told(rng, fact, 'story', 32)
      text.append(' '.join(word for word in words if word != '.') + ' ')
    tokens = np.array([ids[letter] for letter in ''.join(text)[:least]])
    return tokens.reshape(count, _TEXT_LENGTH)

  def symmetries() -> list[np.ndarray]:
    # Whatever keeps the law keeps the set of words, and with it how often letters are neighbours.
    words = {f' {word} ' for word in retellings.WORDS[1:] if word.isalpha()}
    coded = [np.array([ids[letter] for letter in word]) for word in words]
    pairs = np.zeros((len(known), len(known)))
    for word in coded:
      np.add.at(pairs, (word[:-1], word[1:]), 1)
    as_set = {tuple(word.tolist()) for word in coded}

    def keeps(image_V: np.ndarray) -> bool:
      return {tuple(image_V[word].tolist()) for word in coded} == as_set

    return list(cipher.symmetries(pairs[None], keeps))

  return Source(len(known), draw, False, 2, symmetries)


# Recovery.


def recover(
  source: Source, seed: int, counts: Sequence[int], model: Callable | None = None
) -> Iterator[dict[str, Any]]:
  """Accuracy of the key by moments, and after exchanges by bits, for numbers of sequences.

  Args:
    source: of X and of Y, of which there are equally many.
    seed: of the key.
    counts: sequences of each.
    model: Y (N, T) -> a function of keys (J, V) that gives bits (J,); by default the frequencies of
      X.

  Yields:
    sequences, method ('moments' or 'bits') and accuracy.
  """
  key_V = np.random.default_rng((_KEY, seed)).permutation(source.symbols)
  tokens = source.draw(2 * max(counts))
  for count in counts:
    x, y = tokens[:count], key_V[tokens[-count:]]
    found = cipher.match(source.moments(x), source.moments(y), seed)
    yield {'sequences': count, 'method': 'moments', 'accuracy': cipher.accuracy(found, key_V)}
    if model is None:
      tables = [cipher.counts(part, source.symbols, source.order) for part in (x, y)]
      cost = functools.partial(cipher.bits, *tables)
    else:
      cost = model(y)
    found = cipher.exchanged(cost, found)
    yield {'sequences': count, 'method': 'bits', 'accuracy': cipher.accuracy(found, key_V)}


def by_network(workdir: str, data_dir: str, most: int) -> Callable:
  """A `model` for `recover`: bits of at most so many sequences by a finished autoregressive run."""
  built, params = finished.opened(workdir, data_dir)
  length = built.dataset.length

  def model(y_NxT: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    y_NxT = y_NxT[:most]

    def cost(keys_JxV: np.ndarray) -> np.ndarray:
      tokens = np.concatenate([cipher.deciphered(y_NxT, key_V) for key_V in keys_JxV])
      padded = np.pad(tokens, ((0, 0), (0, length - tokens.shape[1]))).astype(np.int32)
      examples = Examples(padded, np.full(len(padded), -1, np.int32))
      nats_N = built.per_example(params, examples, 1, measured.VALIDATION)['nats']
      return nats_N.reshape(len(keys_JxV), -1).sum(1) / np.log(2)

    return cost

  return model
