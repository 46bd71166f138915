"""The backbone: one decoder-shaped Transformer that has never heard of an objective.

It follows ImageGPT (Chen et al. 2020): pre-norm RMS scale, no bias, learned positions, a learned
start vector for the causal shift, untied input and output tables. The attention pattern, the
positions and the shift are call arguments, so every objective has the same parameters.

Shape suffixes: B batch, T tokens, V vocabulary, D width, L layers, N = B*T.
"""

from collections.abc import Callable
import functools
import math
from typing import Any, NamedTuple

from flax import nnx
import jax
import jax.numpy as jnp

from models import kernels, layers, patterns
from models.config import ModelConfig

Params = Any

# The parameters that are weight matrices, by the last part of their names; weight decay is theirs.
MATRICES = (
  ('qkv_Dx3D', 'out_DxD', 'in_Dx3S', 'out_SxD', 'mlp_in_DxF', 'mlp_out_FxD')
  + ('output_DxV', 'time_DxD')
)  # fmt: skip
_PRECISION = layers.PRECISION
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
  """Holds the parameters; `make_apply` runs them.

  Args:
    config: its sizes and switches.
    rngs: with the stream `params`.
    attend: a fused kernel (models/kernels.py) instead of `layers.attention`.
    place: where arrays live (layers.Nowhere, training.placement.Placement).
  """

  def __init__(
    self,
    config: ModelConfig,
    *,
    rngs: nnx.Rngs,
    attend: kernels.Attend | None = None,
    place: Any = layers.Nowhere,
  ):
    c = config
    self.config, self.attend, self.place = c, attend, place
    self.token_table = layers.normal(rngs, (c.vocabulary + 1, c.width), c.token_init)
    self.position_table = layers.normal(rngs, (c.length, c.width), c.position_init)
    self.start_D = layers.normal(rngs, (c.width,), c.token_init)
    if c.norm == 'pre':
      self.norm_final = layers.RMSNorm(c.width, c.norm_epsilon)
    self.output_DxV = nnx.Param(jnp.zeros((c.width, c.vocabulary), jnp.float32))

    def block_state(key: jax.Array):
      return nnx.split(layers.Block(c, rngs=nnx.Rngs(params=key), place=place))

    keys = jax.random.split(rngs.params(), c.stacked_layers)
    self.blocks = nnx.merge(block_state(keys[0])[0], jax.vmap(lambda k: block_state(k)[1])(keys))
    if c.time_input:
      self.time_DxD = nnx.Param(jnp.zeros((c.width, c.width), jnp.float32))

  def embed(
    self,
    inputs: jax.Array,
    *,
    shift: bool,
    positions_T: jax.Array | None = None,
    time_B: jax.Array | None = None,
    added_BxTxD: jax.Array | None = None,
  ) -> jax.Array:
    """Token ids BxT or soft tokens BxTx(V+1) -> BxTxD before the first block.

    With `shift` slot t carries token t-1, and slot 0 the start vector. Positions are the same for
    all rows (T,), or each row's own (B, T).
    """
    table = self.place.whole(self.token_table[...], jnp.float32)
    h = table[inputs] if inputs.ndim == 2 else jnp.matmul(inputs, table, precision=_PRECISION)
    if shift:
      start = jnp.broadcast_to(self.start_D[...][None, None], (h.shape[0], 1, h.shape[2]))
      h = jnp.concatenate([start, h[:, :-1]], axis=1)
    table = self.place.whole(self.position_table[...], jnp.float32)
    placed = table[: h.shape[1]] if positions_T is None else table[positions_T]
    h = h + (placed if placed.ndim == 3 else placed[None])
    if added_BxTxD is not None:
      h = h + added_BxTxD
    if time_B is not None:
      if not self.config.time_input:
        raise ValueError('this backbone was built without a time input')
      time_DxD = self.place.whole(self.time_DxD[...], jnp.float32)
      features = time_features(time_B, self.config.width)
      h = h + jnp.matmul(features, time_DxD, precision=_PRECISION)[:, None]
    return h.astype(self.config.compute_dtype)

  def __call__(
    self,
    inputs: jax.Array,
    *,
    pattern: patterns.Full | tuple,
    shift: bool = False,
    positions_T: jax.Array | None = None,
    time_B: jax.Array | None = None,
    added_BxTxD: jax.Array | None = None,
    read: Callable[[jax.Array], Any] | None = None,
    residuals: bool = False,
    dropout_B: jax.Array | None = None,
  ) -> Outputs:
    """Runs the backbone.

    Args:
      inputs: token ids BxT or soft tokens BxTx(V+1).
      pattern: who looks at whom, between slots (models/patterns.py).
      shift: feed every slot its predecessor's token.
      positions_T: which row of the position table each slot gets, (T,) for all or (B, T); default
        0, 1, ...
      time_B: noise level, if the backbone has a time input.
      added_BxTxD: float32, added to what each slot is fed.
      read: applied to every block's normalised input, BxTxD float32, inside the scan.
      residuals: return the residual stream too.
      dropout_B: a key for each example, for the config's dropout; None, as in every evaluation, for
        none of it.
    """
    place, pattern = self.place, patterns.of(pattern)
    self.config.check_pattern(pattern)
    h_BxTxD = self.embed(
      inputs, shift=shift, positions_T=positions_T, time_B=time_B, added_BxTxD=added_BxTxD
    )
    h_BxTxD = place.rows(h_BxTxD)
    batch, tokens, width = h_BxTxD.shape
    if self.attend is not None and pattern.kernel is None:
      name = self.config.attention
      raise ValueError(f"model.attention '{name}' does not know {pattern}; 'xla' does")
    slots_T = jnp.arange(tokens)
    graphdef, stacked = nnx.split(self.blocks)
    shared = jax.tree.map(lambda x: x[0], stacked) if self.config.shared_layers else None

    h_NxD, drop = h_BxTxD.reshape(-1, width), None
    if dropout_B is not None and self.config.dropout:

      def drop(x_NxD: jax.Array, number: jax.Array | int) -> jax.Array:
        keys_B = jax.vmap(lambda key: jax.random.fold_in(key, number))(dropout_B)
        return layers.dropout(x_NxD, keys_B, self.config.dropout)

      h_NxD = drop(h_NxD, 0)

    def unflatten(x_NxD: jax.Array) -> jax.Array:
      return x_NxD.reshape(batch, tokens, width).astype(jnp.float32)

    def step(h_NxD, layer):
      state, own, number = layer
      block = nnx.merge(graphdef, state if shared is None else shared)
      numbered = drop and (lambda x_NxD, branch: drop(x_NxD, 1 + 2 * number + branch))

      def mix(q_BHxTxK: jax.Array, k_BHxTxK: jax.Array, v_BHxTxK: jax.Array) -> jax.Array:
        if self.attend is not None:
          return self.attend(q_BHxTxK, k_BHxTxK, v_BHxTxK, batch, pattern.kernel)
        if isinstance(pattern, patterns.NoisyBlocks):
          return layers.noisy_block_attention(q_BHxTxK, k_BHxTxK, v_BHxTxK, pattern.size)
        mask_TxT = pattern.mask(slots_T, slots_T, own)
        mask_1xTxT = None if mask_TxT is None else mask_TxT[None]
        return layers.attention(q_BHxTxK, k_BHxTxK, v_BHxTxK, mask_1xTxT)

      after_NxD, normed_NxD = block(h_NxD, batch, mix, numbered)
      seen = (
        None if read is None else read(unflatten(normed_NxD)),
        unflatten(h_NxD) if residuals else None,
      )
      return place.rows(after_NxD), seen

    if self.config.remat or place.policy is not None:
      policy = _REMAT_POLICIES[self.config.remat_policy] if self.config.remat else place.policy
      step = jax.checkpoint(step, prevent_cse=False, policy=policy)
    h_NxD, (reads, stream) = jax.lax.scan(
      step,
      h_NxD,
      (
        stacked if shared is None else None,
        pattern.by_layer(tokens, self.config.layers),
        None if drop is None else jnp.arange(self.config.layers),
      ),
      length=self.config.layers,
      unroll=self.config.unroll,
    )
    normed_NxD, logits_NxV = self.readout(h_NxD)
    final_BxTxD = unflatten(normed_NxD)

    def append(stack: jax.Array, last: jax.Array) -> jax.Array:
      return jnp.concatenate([stack, last[None]])

    logits_BxTxV = place.rows(logits_NxV.reshape(batch, tokens, -1))
    if self.config.alphabets is not None:
      sizes_T = jnp.array(self.config.alphabets)
      sizes_T = sizes_T[:tokens] if positions_T is None else sizes_T[positions_T]
      logits_BxTxV = restrict(logits_BxTxV, sizes_T)
    return Outputs(
      logits_BxTxV=logits_BxTxV,
      final_BxTxD=final_BxTxD,
      reads=None if read is None else jax.tree.map(append, reads, read(final_BxTxD)),
      residuals=append(stream, unflatten(h_NxD)) if residuals else None,
    )

  def readout(self, h_NxD: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The final norm's output NxD, and logits NxV in float32."""
    normed_NxD = self.norm_final(h_NxD) if self.config.norm == 'pre' else h_NxD
    return normed_NxD, self.place.linear(normed_NxD, self.output_DxV[...], jnp.float32)


def restrict(logits_xV: jax.Array, sizes: jax.Array) -> jax.Array:
  """Logits with those of values from `sizes` on at -1e30; `sizes` is a number or one a slot."""
  sizes_x1 = jnp.reshape(
    sizes, (1,) * (logits_xV.ndim - 1 - jnp.ndim(sizes)) + (*jnp.shape(sizes), 1)
  )
  values_xV = jax.lax.broadcasted_iota(jnp.int32, logits_xV.shape, logits_xV.ndim - 1)
  return jnp.where(values_xV < sizes_x1, logits_xV, -1e30)


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


def make_bind(config: ModelConfig, **bound: Any) -> Callable[[Params], Transformer]:
  """Builds the module once and returns `bind(params)`, the module with the tree from `init`.

  `bound` holds `attend` and `place` of `Transformer`.
  """
  module = nnx.eval_shape(lambda: Transformer(config, rngs=nnx.Rngs(params=0), **bound))
  return functools.partial(nnx.merge, nnx.graphdef(module))


def make_apply(
  config: ModelConfig, mesh: jax.sharding.Mesh | None = None, place: Any = None
) -> Callable[..., Outputs]:
  """Builds the module once and returns `apply(params, inputs, *, pattern, shift=False, ...)`.

  The returned function is pure: `params` is the tree from `init`. `mesh` is what the batch is split
  over, where `config.attention` must know it; `place` is that of `Transformer`, None for one
  device.
  """
  attend = kernels.make(config.attention, mesh)
  bind = make_bind(config, attend=attend, place=place or layers.Nowhere)

  def apply(params: Params, inputs: jax.Array, **arguments: Any) -> Outputs:
    return bind(params)(inputs, **arguments)

  return apply
