"""The backbone: one decoder-shaped Transformer that has never heard of an objective.

It follows ImageGPT (Chen et al. 2020): pre-norm RMS scale, no bias, learned positions, a learned
start vector for the causal shift, untied input and output tables. Causal or full attention and
the shift are call arguments, so every objective has the same parameters.

Shape suffixes: B batch, T tokens, V vocabulary, D width, L layers, N = B*T.
"""

from collections.abc import Callable
import math
from typing import Any, NamedTuple

from flax import nnx
import jax
import jax.numpy as jnp

from models import kernels, layers
from models.config import ModelConfig

Params = Any

_REMAT_POLICIES = {
  'full': None,
  'dots': jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
}


class Outputs(NamedTuple):
  """What one forward pass returns.

  Attributes:
    logits_BxTxV: float32.
    final_BxTxD: the final norm's output, float32.
    reads: `read` applied to the normalised input of every block and to the final norm's output,
      stacked on a leading axis of L+1; None without `read`.
    residuals: the residual stream before every block and after the last, (L+1)xBxTxD; None unless
      asked for.
  """

  logits_BxTxV: jax.Array
  final_BxTxD: jax.Array
  reads: Any = None
  residuals: jax.Array | None = None


class Transformer(nnx.Module):
  """Holds the parameters; `apply` runs them."""

  def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs):
    c = config
    self.config = c
    self.token_table = layers.normal(rngs, (c.vocabulary + 1, c.width), c.token_init)
    self.position_table = layers.normal(rngs, (c.length, c.width), c.position_init)
    self.start_D = layers.normal(rngs, (c.width,), c.token_init)
    self.norm_final = layers.RMSNorm(c.width, c.norm_epsilon)
    self.output_DxV = nnx.Param(jnp.zeros((c.width, c.vocabulary), jnp.float32))

    def block_state(key: jax.Array):
      block = layers.Block(
        c.width, c.heads, c.mlp_ratio, c.layers, c.norm_epsilon, rngs=nnx.Rngs(params=key)
      )
      return nnx.split(block)

    keys = jax.random.split(rngs.params(), c.layers)
    self.blocks = nnx.merge(block_state(keys[0])[0], jax.vmap(lambda k: block_state(k)[1])(keys))
    if c.time_input:
      self.time_DxD = nnx.Param(jnp.zeros((c.width, c.width), jnp.float32))

  def embed(
    self,
    inputs: jax.Array,
    *,
    shift: bool,
    time_B: jax.Array | None = None,
    place: Any = layers.Nowhere,
  ) -> jax.Array:
    """Token ids BxT or soft tokens BxTx(V+1) -> BxTxD before the first block.

    With `shift` position t carries token t-1, and position 0 the start vector.
    """
    table = place.whole(self.token_table[...], jnp.float32)
    h = table[inputs] if inputs.ndim == 2 else inputs @ table
    if shift:
      start = jnp.broadcast_to(self.start_D[...][None, None], (h.shape[0], 1, h.shape[2]))
      h = jnp.concatenate([start, h[:, :-1]], axis=1)
    h = h + place.whole(self.position_table[...], jnp.float32)[None, : h.shape[1]]
    if time_B is not None:
      if not self.config.time_input:
        raise ValueError('this backbone was built without a time input')
      time_DxD = place.whole(self.time_DxD[...], jnp.float32)
      h = h + (time_features(time_B, self.config.width) @ time_DxD)[:, None]
    return h.astype(self.config.compute_dtype)

  def __call__(
    self,
    inputs: jax.Array,
    *,
    causal: bool,
    shift: bool = False,
    time_B: jax.Array | None = None,
    read: Callable[[jax.Array], Any] | None = None,
    residuals: bool = False,
    window: int | None = None,
    attend: kernels.Attend | None = None,
    place: Any = layers.Nowhere,
  ) -> Outputs:
    """Runs the backbone.

    Args:
      inputs: token ids BxT or soft tokens BxTx(V+1).
      causal: attention to the present and the past only, else to everything.
      shift: feed every position its predecessor's token.
      time_B: noise level, if the backbone has a time input.
      read: applied to every block's normalised input, BxTxD float32, inside the scan.
      residuals: return the residual stream too.
      window: with `causal`, how many inputs (the position's own among them) may influence a
        position through the whole network. The layers share it: were each to look back so far,
        the network would look back L times as far.
      attend: a fused kernel instead of `layers.attention`; it has no window.
      place: where arrays live (layers.Nowhere, training.placement.Placement).
    """
    h_BxTxD = place.rows(self.embed(inputs, shift=shift, time_B=time_B, place=place))
    batch, tokens, width = h_BxTxD.shape
    distance_1xTxT = (jnp.arange(tokens)[:, None] - jnp.arange(tokens)[None])[None]
    if window is not None and not causal:
      raise ValueError('a window needs causal attention')
    if window is not None and attend is not None:
      raise ValueError(f"model.attention '{self.config.attention}' has no window; 'xla' has")
    windows_L = share_window(window, tokens, self.config.layers)
    graphdef, stacked = nnx.split(self.blocks)

    def unflatten(x_NxD: jax.Array) -> jax.Array:
      return x_NxD.reshape(batch, tokens, width).astype(jnp.float32)

    def step(h_NxD, layer):
      state, window_ = layer
      block = nnx.merge(graphdef, state)

      def mix(q_BHxTxK: jax.Array, k_BHxTxK: jax.Array, v_BHxTxK: jax.Array) -> jax.Array:
        if attend is not None:
          return attend(q_BHxTxK, k_BHxTxK, v_BHxTxK, batch, causal)
        mask_1xTxT = None
        if causal:
          mask_1xTxT = (distance_1xTxT >= 0) & (distance_1xTxT < window_)
        return layers.attention(q_BHxTxK, k_BHxTxK, v_BHxTxK, mask_1xTxT)

      after_NxD, normed_NxD = block(h_NxD, batch, mix, place)
      seen = (
        None if read is None else read(unflatten(normed_NxD)),
        unflatten(h_NxD) if residuals else None,
      )
      return place.rows(after_NxD), seen

    if self.config.remat:
      step = jax.checkpoint(
        step, prevent_cse=False, policy=_REMAT_POLICIES[self.config.remat_policy]
      )
    elif place.policy is not None:
      step = jax.checkpoint(step, prevent_cse=False, policy=place.policy)
    h_NxD, (reads, stream) = jax.lax.scan(
      step, h_BxTxD.reshape(-1, width), (stacked, windows_L), unroll=self.config.unroll
    )
    normed_NxD, logits_NxV = self.readout(h_NxD, place)
    final_BxTxD = unflatten(normed_NxD)

    def append(stack: jax.Array, last: jax.Array) -> jax.Array:
      return jnp.concatenate([stack, last[None]])

    return Outputs(
      logits_BxTxV=place.rows(logits_NxV.reshape(batch, tokens, -1)),
      final_BxTxD=final_BxTxD,
      reads=None if read is None else jax.tree.map(append, reads, read(final_BxTxD)),
      residuals=append(stream, unflatten(h_NxD)) if residuals else None,
    )

  def readout(self, h_NxD: jax.Array, place: Any = layers.Nowhere) -> tuple[jax.Array, jax.Array]:
    """The final norm's output NxD, and logits NxV in float32."""
    normed_NxD = self.norm_final(h_NxD)
    return normed_NxD, place.linear(normed_NxD, self.output_DxV[...], jnp.float32)


def share_window(window: int | None, tokens: int, layers: int) -> jax.Array:
  """Window of each layer such that 1 + sum(window_l - 1) is `window`; int32 (L,).

  Without a window every layer sees all `tokens`.
  """
  if window is None:
    return jnp.full((layers,), tokens, jnp.int32)
  if window < 1:
    raise ValueError(f'a window needs at least one token, not {window}')
  share, rest = divmod(min(window, tokens) - 1, layers)
  return 1 + share + (jnp.arange(layers, dtype=jnp.int32) < rest)


def time_features(time_B: jax.Array, width: int) -> jax.Array:
  """Sines and cosines of a noise level in [0, 1], BxD, from a third of a turn to sixteen turns."""
  half = width // 2
  frequencies = jnp.exp(jnp.linspace(math.log(2.0), math.log(100.0), half))
  angles = time_B[:, None] * frequencies[None]
  features = jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)
  return jnp.pad(features, ((0, 0), (0, width - 2 * half)))


def init(config: ModelConfig, key: jax.Array) -> Params:
  """The parameter tree (pure state) of a fresh backbone; equal keys give equal parameters."""
  return nnx.to_pure_dict(nnx.split(Transformer(config, rngs=nnx.Rngs(params=key)))[1])


def make_bind(config: ModelConfig) -> Callable[[Params], Transformer]:
  """Builds the module once and returns `bind(params)`, the module with these parameters.

  `params` is the tree from `init`.
  """
  module = nnx.eval_shape(lambda: Transformer(config, rngs=nnx.Rngs(params=0)))
  graphdef, abstract = nnx.split(module)

  def bind(params: Params) -> Transformer:
    state = jax.tree.map(lambda x: x, abstract)
    nnx.replace_by_pure_dict(state, params)
    return nnx.merge(graphdef, state)

  return bind


def make_apply(
  config: ModelConfig, mesh: jax.sharding.Mesh | None = None, place: Any = None
) -> Callable[..., Outputs]:
  """Builds the module once and returns `apply(params, inputs, *, causal, shift=False, ...)`.

  The returned function is pure: `params` is the tree from `init`. `mesh` is what the batch is split
  over, where `config.attention` must know it; `place` is that of `Transformer.__call__`, None for
  one device.
  """
  bind, attend = make_bind(config), kernels.make(config.attention, mesh)
  place = place or layers.Nowhere

  def apply(params: Params, inputs: jax.Array, **arguments) -> Outputs:
    return bind(params)(inputs, attend=attend, place=place, **arguments)

  return apply
