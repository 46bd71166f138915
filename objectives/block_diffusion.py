"""Masked diffusion inside blocks that follow each other from left to right (Arriola et al. 2025).

Suffixes beside those of base.py: N blocks, Q tokens of a block.
"""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from objectives import base
from objectives.autoregressive import Autoregressive
from objectives.base import Example, Key, Network, Space, View
from objectives.masked_diffusion import MaskedDiffusion


@dataclasses.dataclass(frozen=True)
class _Halves(base.Objective):
  """The network sees every example twice, noisy and clean; nothing is charged in the clean half."""

  block: int = 4

  stochastic: ClassVar[bool] = True

  def __post_init__(self):
    if self.block < 1:
      raise ValueError(f'objective.block must be at least 1, not {self.block}')

  def backbone(self, space: Space) -> base.Backbone:
    return dataclasses.replace(
      super().backbone(space),
      pattern=('noisy_blocks', self.block, space.length),
      positions=tuple(range(space.length)) * 2,
    )

  def sizes(self, space: Space) -> np.ndarray:
    """Charged tokens of every block, int (N,); the last may be shorter."""
    starts_N = np.arange(0, space.dims, self.block)
    return np.minimum(self.block, space.dims - starts_N)

  def halves(
    self, tokens_T: jax.Array, hidden_T: jax.Array, weights_T: jax.Array, space: Space
  ) -> View:
    noisy_T = jnp.where(hidden_T, space.mask_token, tokens_T)
    return View(
      jnp.concatenate([noisy_T, tokens_T]),
      jnp.concatenate([tokens_T, tokens_T]),
      jnp.concatenate([weights_T, jnp.zeros_like(weights_T)]),
    )


@dataclasses.dataclass(frozen=True)
class BlockDiffusion(_Halves):
  """sum_b E_k E_M (|b|/k) sum_{i in M} -log p(x_i | x_{b \\ M}, all earlier blocks) >= -log p(x).

  In every block b of consecutive tokens k is uniform on 1..|b| and M a uniformly random set of
  exactly k of its positions, all shown as MASK: inside a block the mean over its orders, between
  blocks the chain rule. One pass over a noisy and a clean half scores all blocks.

  The blocks of an example share its stratum, moved on by 1/N from block to block: each k is uniform
  and stratified as if it were the only one, and an example's masks add up to nearly the same number
  in every draw. The sum over blocks does not care how their masks go together.

  Settings:
    block: tokens a block. With 1 this is `autoregressive`, with all of them `masked_diffusion`.
  """

  code: ClassVar[base.Code] = base.Code.UPPER_BOUND
  trained_on = 'the bound'

  def on(self, space: Space) -> base.Objective:
    """The two ends of the axis, without a second half that nothing would look at or need."""
    if self.block == 1:
      return Autoregressive()
    return MaskedDiffusion() if self.block >= space.dims else self

  def reading(self) -> base.Objective:
    return _Clean(self.block)

  def view(self, example: Example, space: Space) -> View:
    sizes_N = self.sizes(space)
    blocks = len(sizes_N)
    strata_N = (example.stratum + jnp.arange(blocks) / blocks) % 1.0
    # In float32 a stratum times a size may round up to the size, hence the clip.
    counts_N = 1 + jnp.minimum((strata_N * sizes_N).astype(jnp.int32), sizes_N - 1)
    # Ranks of all charged tokens in one random order; those inside a block order it uniformly.
    rank_dims = jax.random.permutation(example.key, space.dims)
    padding = (0, blocks * self.block - space.dims)
    rank_NxQ = jnp.pad(rank_dims, padding, constant_values=space.dims).reshape(blocks, self.block)
    inside_NxQ = jnp.argsort(jnp.argsort(rank_NxQ, axis=1), axis=1)
    hidden_NxQ = inside_NxQ < counts_N[:, None]
    weights_NxQ = hidden_NxQ * (sizes_N / counts_N)[:, None]

    def to_slots(x_NxQ: jax.Array) -> jax.Array:
      return jnp.pad(x_NxQ.reshape(-1)[: space.dims], (0, space.length - space.dims))

    return self.halves(example.tokens_T, to_slots(hidden_NxQ), to_slots(weights_NxQ), space)

  def scored(self, space: Space) -> float:
    return float(np.sum(self.sizes(space) + 1)) / 2

  def fills(self, space: Space) -> int:
    return self.block

  def also(self, space: Space) -> dict[str, base.Objective]:
    return {'chain rule in raster order': RasterInBlocks(self.block)}

  def reference(self, truth: Any, tokens_BxT: jax.Array, view: View, space: Space) -> jax.Array:
    """Block by block: everything later is hidden from it, everything earlier is not."""
    tokens_BxT, weights_BxT = tokens_BxT[:, : space.dims], view.weights_T[:, : space.dims]
    blocks_1xT = (jnp.arange(space.dims) // self.block)[None]

    def cost(number: jax.Array) -> jax.Array:
      own_BxT = jnp.where(blocks_1xT == number, weights_BxT, 0.0)
      exact = truth.conditional_cross_entropy(tokens_BxT, (own_BxT > 0) | (blocks_1xT > number))
      return jnp.sum(own_BxT * exact, axis=-1)

    return jnp.sum(jax.lax.map(cost, jnp.arange(len(self.sizes(space)))), axis=0)

  def sample(self, network: Network, key: Key, count: int, space: Space) -> jax.Array:
    """Block by block, each revealed one token a pass in a random order of each example's own.

    What is finished stays in a key/value cache: a token costs as many passes over its own block as
    the block is long, and one more when all of the block is known.
    """
    charged_T = base.charged(space) > 0
    whole, rest = divmod(space.dims, self.block)
    pattern = ('blocks', self.block)

    def fill(cache: Any, start: jax.Array, key: Key, size: int) -> tuple[Any, jax.Array]:
      order_key, token_key = jax.random.split(key)
      charged_Q = jax.lax.dynamic_slice_in_dim(charged_T, start, size)
      order_BxQ = jax.vmap(lambda k: jax.random.permutation(k, size))(
        jax.random.split(order_key, count)
      )
      hidden_Q = jnp.where(charged_Q, space.mask_token, 0).astype(jnp.int32)

      def reveal(tokens_BxQ: jax.Array, step: Any) -> tuple[jax.Array, None]:
        place_B, step_key = step
        _, logits_BxQxV = network.extend(cache, tokens_BxQ, start, pattern)
        here_BxV = jnp.take_along_axis(logits_BxQxV, place_B[:, None, None], axis=1)[:, 0]
        drawn_B = jnp.where(charged_Q[place_B], base.draw_tokens(step_key, here_BxV), 0)
        return tokens_BxQ.at[jnp.arange(count), place_B].set(drawn_B), None

      tokens_BxQ = jnp.broadcast_to(hidden_Q[None], (count, size))
      steps = (order_BxQ.T, jax.random.split(token_key, size))
      tokens_BxQ, _ = jax.lax.scan(reveal, tokens_BxQ, steps)
      return network.extend(cache, tokens_BxQ, start, pattern)[0], tokens_BxQ

    keys = jax.random.split(key, whole + 1)
    cache, tokens_NxBxQ = jax.lax.scan(
      lambda cache, block: fill(cache, *block, self.block),
      network.cache(count),
      (self.block * jnp.arange(whole), keys[:whole]),
    )
    tokens_BxT = jnp.swapaxes(tokens_NxBxQ, 0, 1).reshape(count, -1)
    if rest:
      # An end token, where there is one, lies in the same block and was seen in training.
      start = whole * self.block
      size = min(self.block, space.length - start)
      _, last_BxQ = fill(cache, jnp.int32(start), keys[whole], size)
      tokens_BxT = jnp.concatenate([tokens_BxT, last_BxQ], axis=1)
    return jnp.pad(tokens_BxT, ((0, 0), (0, space.length - tokens_BxT.shape[1])))


@dataclasses.dataclass(frozen=True)
class RasterInBlocks(_Halves):
  """The chain rule in raster order by the same network: as many passes as a block has tokens.

  Draw number i hides every block from its token i on and charges that token alone, in all blocks at
  once, `block`-fold; the mean over exactly `block` draws is therefore sum_t -log p(x_t | x_<t).
  """

  code: ClassVar[base.Code] = base.Code.EXACT
  numbered: ClassVar[bool] = True

  def draws(self, wanted: int, space: Space) -> int:
    return self.block

  def scored(self, space: Space) -> float:
    return space.dims / self.block

  def view(self, example: Example, space: Space) -> View:
    number = jnp.minimum((example.stratum * self.block).astype(jnp.int32), self.block - 1)
    inside_T, charged_T = jnp.arange(space.length) % self.block, base.charged(space) > 0
    weights_T = jnp.where((inside_T == number) & charged_T, float(self.block), 0.0)
    return self.halves(example.tokens_T, (inside_T >= number) & charged_T, weights_T, space)


@dataclasses.dataclass(frozen=True)
class _Clean(base.Objective):
  """The clean half alone: what the past of a block is read as."""

  block: int = 4

  @property
  def attention(self) -> tuple:
    return ('blocks', self.block)
