"""Some tokens at a time: sampling with a cache.

The network is the causal, shifted one: position t is fed token t-1, position 0 the start vector.
A step computes one position and looks the others' keys and values up, so that token t costs
2 N_matmul + 4 L D t multiplications and additions instead of the t-fold of a whole forward pass.
Shapes are static, which would make every token pay for all T; the cache therefore grows in a few
pieces, and a token pays for the pieces begun. A recurrent backbone carries its state instead, and
every token costs it the same.

Blocks go another way: `extend` computes several positions that see each other, as often as their
tokens change, and the cache has all slots from the start.

Shape suffixes: B batch, T tokens, Q positions computed at once, S slots of the cache or numbers of
a recurrent layer's state, V vocabulary, D width, L layers, H heads, K width of a head, N = B*Q.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from flax import nnx
import jax
import jax.numpy as jnp

from models import layers, patterns, transformer
from models.config import ModelConfig

Params = Any
Pattern = patterns.Full | tuple

# Every piece is a program of its own to compile, and four leave 62 % of the work of one.
_PIECES = 4
_SHORTEST_PIECE = 64


class LayerCache(NamedTuple):
  """A layer's keys and values of the positions so far, in the compute dtype; zero elsewhere."""

  k_BHxSxK: jax.Array
  v_BHxSxK: jax.Array


# By layer; a recurrent one has its state BxS, float32. One array for all layers would be copied,
# slice by slice, at every token.
Cache = tuple[LayerCache | jax.Array, ...]


def empty_cache(config: ModelConfig, batch: int) -> Cache:
  """A cache with no slots yet."""
  if config.mixer == 'recurrent':
    # Arrays of their own: each is given away to the step, and none can be given twice.
    return tuple(jnp.zeros((batch, config.state), jnp.float32) for _ in range(config.layers))
  shape = (batch * config.heads, 0, config.width // config.heads)
  zeros = jnp.zeros(shape, config.compute_dtype)
  return (LayerCache(zeros, zeros),) * config.layers


def grow(cache: Cache, slots: int) -> Cache:
  """The cache with this many more slots; a state has none."""

  def wider(layer: LayerCache | jax.Array) -> LayerCache | jax.Array:
    if not isinstance(layer, LayerCache):
      return layer
    return LayerCache(*(jnp.pad(x, ((0, 0), (0, slots), (0, 0))) for x in layer))

  return tuple(map(wider, cache))


def step(
  module: transformer.Transformer,
  cache: Cache,
  token_B: jax.Array,
  position: jax.Array,
  pattern: patterns.Full,
) -> tuple[Cache, jax.Array]:
  """Computes one position.

  Args:
    module: the backbone with its parameters.
    cache: of the positions before; must have a slot for this one.
    token_B: the token before this position; ignored at position 0, which is fed the start vector.
    position: int32 ().
    pattern: of the attention; one that decodes.

  Returns:
    The cache with this position in it, and logits BxV in float32.
  """
  start_1xD = module.start_D[...][None]
  h_BxD = jnp.where(position == 0, start_1xD, module.token_table[...][token_B])
  cache, logits_Bx1xV = _advance(module, cache, h_BxD[:, None], position, pattern)
  return cache, logits_Bx1xV[:, 0]


def _advance(
  module: transformer.Transformer,
  cache: Cache,
  h_BxQxD: jax.Array,
  start: jax.Array,
  pattern: patterns.Full,
) -> tuple[Cache, jax.Array]:
  """Computes the positions from `start` on, given what their tokens are embedded as.

  Returns:
    The cache with these positions in it, and logits BxQxV in float32.
  """
  config, (batch, count, width) = module.config, h_BxQxD.shape
  config.check_pattern(pattern)
  h_BxQxD += jax.lax.dynamic_slice_in_dim(module.position_table[...], start, count)[None]
  h_NxD = h_BxQxD.reshape(-1, width).astype(config.compute_dtype)
  by_layer = pattern.by_layer(config.length, config.layers)
  graphdef, stacked = nnx.split(module.blocks)
  written = []
  for number, layer in enumerate(cache):
    own = 0 if config.shared_layers else number
    block = nnx.merge(graphdef, jax.tree.map(lambda x, own=own: x[own], stacked))
    x_NxD = block.enter(h_NxD, 'norm_attention')
    if config.mixer == 'recurrent':
      brought_NxD, layer = block.recurrence.step(x_NxD, layer)
    else:
      window = None if by_layer is None else by_layer[number]
      positions_Q = start + jnp.arange(count)
      brought_NxD, layer = _attend(block, x_NxD, layer, positions_Q, pattern, window)
    h_NxD = block.finish(h_NxD, brought_NxD)
    written.append(layer)
  logits_BxQxV = module.readout(h_NxD)[1].reshape(batch, count, -1)
  if config.alphabets is not None:
    sizes_Q = jax.lax.dynamic_slice_in_dim(jnp.array(config.alphabets), start, count)
    logits_BxQxV = transformer.restrict(logits_BxQxV, sizes_Q)
  return tuple(written), logits_BxQxV


def _attend(
  block: layers.Block,
  x_NxD: jax.Array,
  layer: LayerCache,
  positions_Q: jax.Array,
  pattern: patterns.Full,
  own: Any,
) -> tuple[jax.Array, LayerCache]:
  """What attention brings to these positions, NxD, and the cache of its layer with them.

  `own` is the layer's slice of `pattern.by_layer`.
  """
  batch = len(x_NxD) // len(positions_Q)
  q_BHxQxK, k_BHxQxK, v_BHxQxK = block.project(x_NxD, batch)
  layer = LayerCache(
    jax.lax.dynamic_update_slice(layer.k_BHxSxK, k_BHxQxK, (0, positions_Q[0], 0)),
    jax.lax.dynamic_update_slice(layer.v_BHxSxK, v_BHxQxK, (0, positions_Q[0], 0)),
  )
  slots_S = jnp.arange(layer.k_BHxSxK.shape[1])
  mask_QxS = pattern.mask(positions_Q, slots_S, own)
  mixed_BHxQxK = layers.attention(q_BHxQxK, *layer, mask_QxS[None])
  return block.leave(mixed_BHxQxK, batch), layer


def make_cache(config: ModelConfig) -> Callable[[int], Cache]:
  """Builds `cache(batch)`: an empty cache with a slot for every position."""
  return lambda batch: grow(empty_cache(config, batch), config.length)


def make_extend(config: ModelConfig) -> Callable[..., tuple[Cache, jax.Array]]:
  """Builds `extend(params, cache, tokens_BxQ, start, pattern) -> (cache, logits BxQxV float32)`.

  The Q positions from `start` on show these tokens, unshifted; they see what is in the cache, and
  each other, as far as the pattern lets them. It must not let them see what comes later: those
  slots hold nothing. Called again, it overwrites what these positions showed before.
  """
  bind = transformer.make_bind(config)

  def extend(
    params: Params, cache: Cache, tokens_BxQ: jax.Array, start: jax.Array | int, pattern: Pattern
  ) -> tuple[Cache, jax.Array]:
    module = bind(params)
    h_BxQxD = module.token_table[...][tokens_BxQ]
    return _advance(module, cache, h_BxQxD, jnp.asarray(start), patterns.of(pattern))

  return extend


def make_decode(config: ModelConfig) -> Callable[..., jax.Array]:
  """Builds `decode(params, key, count, pattern=Causal()) -> tokens (count, T) int32`.

  The samples are exact: softmax of float32 logits, at temperature 1. `params` is the backbone's
  tree; `count` and `pattern` are static.
  """
  bind = transformer.make_bind(config)

  def decode(
    params: Params, key: jax.Array, count: int, pattern: Pattern = ('causal',)
  ) -> jax.Array:
    def draw(logits_BxV: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
      # The default mode's float32 Gumbel noise ends near 16 nats: rare tokens would never come.
      token_B = jax.random.categorical(key, logits_BxV, mode='high').astype(jnp.int32)
      return token_B, token_B

    keys_T = jax.random.split(key, config.length)
    return _walk(config, bind(params), count, pattern, keys_T, draw).T

  return decode


def _walk(
  config: ModelConfig,
  module: transformer.Transformer,
  batch: int,
  pattern: Pattern,
  inputs_Tx: jax.Array,
  choose: Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]],
) -> jax.Array:
  """Runs all positions from left to right.

  Args:
    config: the backbone's.
    module: the backbone with its parameters.
    batch: B.
    pattern: of the attention.
    inputs_Tx: what `choose` gets at each position.
    choose: (logits_BxV, input) -> the tokens (B,) at this position, and what to return of it.

  Returns:
    What `choose` returned, stacked over positions.

  Raises:
    ValueError: a pattern whose positions can't be computed one after the other.
  """
  pattern = patterns.of(pattern)
  if not pattern.decodes:
    raise ValueError(f'{pattern} does not decode token by token')

  def advance(carry, scanned):
    cache, token_B = carry
    position, input_ = scanned
    cache, logits_BxV = step(module, cache, token_B, position, pattern)
    token_B, kept = choose(logits_BxV, input_)
    return (cache, token_B), kept

  cache, token_B, kept = empty_cache(config, batch), jnp.zeros((batch,), jnp.int32), []
  edges = piece_edges(config.length)
  for start, end in zip(edges[:-1], edges[1:], strict=True):
    cache = grow(cache, end - start)
    scanned = (jnp.arange(start, end, dtype=jnp.int32), inputs_Tx[start:end])
    (cache, token_B), part = jax.lax.scan(advance, (cache, token_B), scanned)
    kept.append(part)
  return jnp.concatenate(kept)


def piece_edges(length: int) -> list[int]:
  """Where the cache grows: 0, ..., length."""
  piece = max(_SHORTEST_PIECE, -(-length // _PIECES))
  return [*range(0, length, piece), length]
