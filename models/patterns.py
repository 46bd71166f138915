"""Attention patterns: frozen values that say which position may look at which.

A pattern gives its mask, the form in which a fused kernel knows it, its share of the T x T products
and whether it decodes token by token. Whoever must not import this room names one by a tuple,
('causal', 8) for Causal(8).

Shape suffixes: Q query positions, S key positions, L layers.
"""

import dataclasses
from typing import Any, ClassVar

import jax
import numpy as np


@dataclasses.dataclass(frozen=True)
class Full:
  """Everything looks at everything; the base of all patterns.

  Attributes:
    kernel: the form in which fused kernels know it, 'causal' or 'full'; None if they don't.
    decodes: whether a position's output is final once it is computed from those before it, so that
      tokens can be drawn one by one with a key/value cache.
  """

  kernel: ClassVar[str | None] = 'full'
  decodes: ClassVar[bool] = False

  def by_layer(self, tokens: int, layers: int) -> Any:
    """What differs between layers, arrays with a leading axis of L; None if nothing does."""
    del tokens, layers
    return None

  def mask(self, queries_Q: jax.Array, keys_S: jax.Array, layer: Any) -> jax.Array | None:
    """Which keys each query sees, bool QxS; None for all. `layer` is its slice of `by_layer`."""
    del queries_Q, keys_S, layer
    return None

  def share(self, tokens: int, layers: int) -> float:
    """Pairs of positions that see each other, over T^2: the attention work that is asked for."""
    positions_T, owns = np.arange(tokens), self.by_layer(tokens, layers)
    shares = []
    for layer in range(1 if owns is None else layers):
      own = None if owns is None else owns[layer]
      mask_TxT = self.mask(positions_T, positions_T, own)
      shares.append(1.0 if mask_TxT is None else float(np.mean(mask_TxT)))
    return float(np.mean(shares))


@dataclasses.dataclass(frozen=True)
class Causal(Full):
  """The present and the past.

  Attributes:
    window: how many inputs (the position's own among them) may influence a position through the
      whole network, None for all. The layers share it: were each to look back so far, the network
      would look back L times as far.
  """

  window: int | None = None

  decodes: ClassVar[bool] = True

  def __post_init__(self):
    if self.window is not None and self.window < 1:
      raise ValueError(f'a window needs at least one token, not {self.window}')

  @property
  def kernel(self) -> str | None:
    return 'causal' if self.window is None else None

  def by_layer(self, tokens: int, layers: int) -> np.ndarray | None:
    """Window of each layer such that 1 + sum(window_l - 1) is min(window, tokens); int32 (L,), None
    without a window."""
    if self.window is None:
      return None
    share, rest = divmod(min(self.window, tokens) - 1, layers)
    return (1 + share + (np.arange(layers) < rest)).astype(np.int32)

  def mask(self, queries_Q: jax.Array, keys_S: jax.Array, layer: Any) -> jax.Array:
    distance_QxS = queries_Q[:, None] - keys_S[None]
    seen_QxS = distance_QxS >= 0
    return seen_QxS if layer is None else seen_QxS & (distance_QxS < layer)


@dataclasses.dataclass(frozen=True)
class Prefix(Full):
  """The first `size` positions see each other, the others the present and the past."""

  size: int = 0

  kernel: ClassVar[None] = None

  def mask(self, queries_Q: jax.Array, keys_S: jax.Array, layer: Any) -> jax.Array:
    return (queries_Q[:, None] >= keys_S[None]) | (keys_S[None] < self.size)


@dataclasses.dataclass(frozen=True)
class Blocks(Full):
  """Blocks of `size` positions see themselves and the blocks before them."""

  size: int = 1

  kernel: ClassVar[None] = None

  def mask(self, queries_Q: jax.Array, keys_S: jax.Array, layer: Any) -> jax.Array:
    return queries_Q[:, None] // self.size >= keys_S[None] // self.size


@dataclasses.dataclass(frozen=True)
class NoisyBlocks(Full):
  """Every example twice: `tokens` slots of a noisy copy, then those of the clean one.

  Noisy blocks of `size` see themselves and the clean blocks before them, clean blocks what `Blocks`
  lets them see: each block is met as if all before it were known (Arriola et al. 2025).
  """

  size: int = 1
  tokens: int = 1

  kernel: ClassVar[None] = None

  def mask(self, queries_Q: jax.Array, keys_S: jax.Array, layer: Any) -> jax.Array:
    query_Qx1, key_1xS = queries_Q[:, None], keys_S[None]
    clean_1xS = key_1xS >= self.tokens
    block_Qx1, block_1xS = (x % self.tokens // self.size for x in (query_Qx1, key_1xS))
    same_QxS = (block_1xS == block_Qx1) & (clean_1xS == (query_Qx1 >= self.tokens))
    return same_QxS | (clean_1xS & (block_1xS < block_Qx1))


PATTERNS = {
  'full': Full,
  'causal': Causal,
  'prefix': Prefix,
  'blocks': Blocks,
  'noisy_blocks': NoisyBlocks,
}


def of(pattern: Full | tuple) -> Full:
  """The pattern that a tuple of name and arguments stands for; a pattern stays itself."""
  if isinstance(pattern, Full):
    return pattern
  name, *arguments = pattern
  return PATTERNS[name](*arguments)
