"""Markov chains of known entropy: an order-1 chain, and a noisy copy at a distance.

Both are chains in which x_t depends on x_{t - stride} alone: the copy is `stride` interleaved
chains that mostly stay where they are. Every token has the same distribution.
"""

import dataclasses
import functools
from typing import Any

import jax
import numpy as np

from data import belief, synthetic
from data.dataset import Dataset

_TRANSITION_STREAM = 0x6D61726B


def _entropy_bits(p_xV: np.ndarray) -> np.ndarray:
  """Entropy over the last axis, in bits."""
  return -np.sum(p_xV * np.log2(np.where(p_xV > 0, p_xV, 1)), axis=-1)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Chain(belief.Truth):
  """A stationary chain, and exact inference under it.

  Attributes:
    stationary_V: distribution of every token, float64.
    transition_VxV: p(x_t = column | x_{t - stride} = row), float64.
    length: T.
    stride: how far back a token looks.
  """

  stationary_V: np.ndarray
  transition_VxV: np.ndarray
  length: int = dataclasses.field(metadata={'static': True})
  stride: int = dataclasses.field(default=1, metadata={'static': True})

  @property
  def vocabulary(self) -> int:
    return self.stationary_V.shape[0]

  @property
  def dims(self) -> int:
    return self.length

  def entropy_rate_bits(self) -> float:
    """h, bits per token once the one it depends on is known."""
    return float(self.stationary_V @ _entropy_bits(self.transition_VxV))

  def entropy_bits(self) -> float:
    """min(T, stride) H(x_1) + (T - stride)+ h, bits per sequence."""
    first = min(self.length, self.stride)
    marginal = float(_entropy_bits(self.stationary_V))
    return first * marginal + (self.length - first) * self.entropy_rate_bits()

  def mutual_information_bits(self, boundary: int | None = None) -> float:
    """I(x_{<boundary}; x_{>=boundary}) in bits; `boundary` is T // 2 unless given.

    The past tells about the future only through pairs (x_{t - stride}, x_t) that the boundary
    parts; each of them carries H(x_1) - h, and they are independent of one another.
    """
    boundary = self.length // 2 if boundary is None else boundary
    if not 0 <= boundary <= self.length:
      raise ValueError(f'boundary must lie in 0..{self.length}, not {boundary}')
    first, last = max(boundary, self.stride), min(boundary + self.stride, self.length)
    pair = float(_entropy_bits(self.stationary_V)) - self.entropy_rate_bits()
    return max(0, last - first) * pair

  def _infer(self, evidence_BxTxV: jax.Array) -> belief.Belief:
    initial_V = jax.numpy.asarray(self.stationary_V, jax.numpy.float32)
    transition_VxV = jax.numpy.asarray(self.transition_VxV, jax.numpy.float32)
    return belief.chain_belief(initial_V, transition_VxV, self.stride, evidence_BxTxV)


def _check(symbols: int, length: int) -> None:
  if symbols < 2:
    raise ValueError(f'data.symbols must be at least 2, not {symbols}')
  if length < 1:
    raise ValueError(f'data.length must be at least 1, not {length}')


def draw_chain(seed: int, symbols: int, length: int, concentration: float) -> Chain:
  """An order-1 chain whose rows are Dirichlet(concentration); small means predictable.

  Raises:
    ValueError: a bad setting, or rows so peaked that the chain has no one stationary distribution.
  """
  _check(symbols, length)
  if not 0 < concentration < np.inf:
    raise ValueError(f'data.concentration must be positive and finite, not {concentration}')
  if seed < 0:
    raise ValueError(f'data.chain_seed must not be negative, not {seed}')
  rng = np.random.default_rng((_TRANSITION_STREAM, seed))
  transition_VxV = rng.dirichlet(np.full(symbols, concentration), symbols)
  # pi P = pi with sum(pi) = 1 has one solution exactly if P has one closed class.
  system = np.concatenate([transition_VxV.T - np.eye(symbols), np.ones((1, symbols))])
  target = np.append(np.zeros(symbols), 1.0)
  stationary_V, _, rank, _ = np.linalg.lstsq(system, target, rcond=None)
  if rank < symbols or not np.all(stationary_V > 0):
    raise ValueError(
      f'data.concentration = {concentration} gave a chain that never reaches some of its symbols; '
      'raise it or change data.chain_seed'
    )
  return Chain(stationary_V / stationary_V.sum(), transition_VxV, length)


def copy_chain(symbols: int, length: int, distance: int, epsilon: float) -> Chain:
  """x_t = x_{t - distance}, except that with probability epsilon it is uniform over the others.

  The first `distance` tokens are uniform.

  Raises:
    ValueError: a bad setting.
  """
  _check(symbols, length)
  if not 1 <= distance < length:
    raise ValueError(f'data.distance must lie in 1..length-1 = {length - 1}, not {distance}')
  if not 0 <= epsilon <= 1:
    raise ValueError(f'data.epsilon must lie in 0..1, not {epsilon}')
  transition_VxV = np.full((symbols, symbols), epsilon / (symbols - 1))
  np.fill_diagonal(transition_VxV, 1 - epsilon)
  return Chain(np.full(symbols, 1 / symbols), transition_VxV, length, distance)


def sample(chain: Chain, seed: int, first: int, count: int) -> synthetic.Draw:
  """Sequences first..first+count-1 of stream `seed`; there are no labels and no latents."""
  symbols, stride = chain.vocabulary, chain.stride
  words = synthetic.random_words(seed, first, count, chain.length)
  # 40 bits, so that adding a row number below is exact.
  uniform_TxN = (words.T >> np.uint64(24)) * 2.0**-40
  # All rows of cumulative probabilities on one line, row a at a..a+1; the last row is the start's.
  rows = np.cumsum(np.concatenate([chain.transition_VxV, chain.stationary_V[None]]), axis=1)
  line = (rows / rows[:, -1:] + np.arange(symbols + 1)[:, None]).ravel()
  tokens_TxN = np.empty((chain.length, count), np.int32)
  previous = np.full((stride, count), symbols)
  for start in range(0, chain.length, stride):
    uniform = uniform_TxN[start : start + stride]
    previous = previous[: len(uniform)]
    previous = line.searchsorted(previous + uniform, 'right') - previous * symbols
    tokens_TxN[start : start + stride] = previous
  tokens_NxT = np.ascontiguousarray(tokens_TxN.T)
  return synthetic.Draw(tokens_NxT, np.full(count, -1, np.int32), ())


def load(config: Any, data_dir: str = '') -> Dataset:
  """The chain of `config`: symbols, length, concentration, chain_seed, examples, held_out.

  Raises:
    ValueError: a bad setting.
  """
  del data_dir
  chain = draw_chain(config.chain_seed, config.symbols, config.length, config.concentration)
  note = (
    f'order-1 Markov chain {config.chain_seed}: {config.length} tokens, {config.symbols} values'
  )
  sampler = functools.partial(sample, chain)
  return synthetic.build('markov', sampler, chain, config, None, note)


def load_copy(config: Any, data_dir: str = '') -> Dataset:
  """The noisy copy of `config`: symbols, length, distance, epsilon, examples, held_out.

  Raises:
    ValueError: a bad setting.
  """
  del data_dir
  chain = copy_chain(config.symbols, config.length, config.distance, config.epsilon)
  note = (
    f'copy at distance {config.distance} with error {config.epsilon}: {config.length} tokens, '
    f'{config.symbols} values'
  )
  sampler = functools.partial(sample, chain)
  return synthetic.build('copy', sampler, chain, config, None, note)
