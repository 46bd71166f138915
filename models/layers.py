"""The pieces of one pre-norm Transformer block, in iGPT's form.

Shape suffixes: B batch, T tokens, D width, H heads, K width of a head, F width of the MLP.
Activations travel as one (B*T)xD matrix: XLA's CPU gradient of a 3-D product is two to three times
slower than that of the same product flattened, and accelerators see the same program either way.
"""

from collections.abc import Callable
import math
from typing import Any

from flax import nnx
import jax
import jax.numpy as jnp

from models.config import ModelConfig

# float32 is meant where it is said: by default a TPU multiplies bfloat16 instead, a GPU TF32. What
# is bfloat16 already stays as fast as it is.
PRECISION = jax.lax.Precision.HIGHEST


def normal(rngs: nnx.Rngs, shape: tuple[int, ...], std: float) -> nnx.Param:
  """A float32 parameter drawn from N(0, std^2)."""
  return nnx.Param(std * jax.random.normal(rngs.params(), shape, jnp.float32))


def quick_gelu(x: jax.Array) -> jax.Array:
  """x * sigmoid(1.702 x), the approximation of GELU that iGPT was trained with."""
  return x * jax.nn.sigmoid(1.702 * x)


class RMSNorm(nnx.Module):
  """Divides by the root mean square over D and multiplies by a learned gain; no bias."""

  def __init__(self, width: int, epsilon: float):
    self.scale = nnx.Param(jnp.ones((width,), jnp.float32))
    self.epsilon = epsilon

  def __call__(self, x: jax.Array) -> jax.Array:
    """Normalises over the last axis in float32 and returns the dtype of `x`."""
    x32 = x.astype(jnp.float32)
    inverse = jax.lax.rsqrt(jnp.mean(x32 * x32, axis=-1, keepdims=True) + self.epsilon)
    scale = jnp.expand_dims(self.scale[...], tuple(range(x.ndim - 1)))
    return (x32 * inverse * scale).astype(x.dtype)


def attention(
  q_BHxTxK: jax.Array, k_BHxTxK: jax.Array, v_BHxTxK: jax.Array, mask_1xTxT: jax.Array | None
) -> jax.Array:
  """Softmax attention with the heads folded into the batch; softmax in float32.

  The row sum is divided out after the value product, on TxK numbers instead of TxT.

  Returns:
    BHxTxK in the dtype of v.
  """
  scale = 1.0 / math.sqrt(q_BHxTxK.shape[-1])
  logits = jnp.einsum(
    'btk,bsk->bts',
    q_BHxTxK * scale,
    k_BHxTxK,
    precision=PRECISION,
    preferred_element_type=jnp.float32,
  )
  if mask_1xTxT is not None:
    logits = jnp.where(mask_1xTxT, logits, -1e30)
  logits -= jax.lax.stop_gradient(jnp.max(logits, axis=-1, keepdims=True))
  weights = jnp.exp(logits)
  total = jnp.sum(weights, axis=-1, keepdims=True)
  values = jnp.einsum(
    'bts,bsk->btk',
    weights.astype(v_BHxTxK.dtype),
    v_BHxTxK,
    precision=PRECISION,
    preferred_element_type=jnp.float32,
  )
  return (values / total).astype(v_BHxTxK.dtype)


class Nowhere:
  """Where arrays live on one device: nothing is moved, parameters only get the dtype of their use.

  training.placement.Placement says the same of several devices.
  """

  policy = None

  @staticmethod
  def rows(x: jax.Array) -> jax.Array:
    return x

  @staticmethod
  def whole(parameter: jax.Array, dtype: Any) -> jax.Array:
    return parameter.astype(dtype)

  @staticmethod
  def linear(x_NxD: jax.Array, w_DxF: jax.Array, dtype: Any = None) -> jax.Array:
    w_DxF = w_DxF.astype(x_NxD.dtype)
    return jnp.matmul(x_NxD, w_DxF, precision=PRECISION, preferred_element_type=dtype)


class Block(nnx.Module):
  """h + attention(norm(h)), then h + mlp(norm(h)); `place` says where arrays live."""

  def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs, place: Any = Nowhere):
    width, ratio, epsilon = config.width, config.mlp_ratio, config.norm_epsilon
    self.heads, self.place = config.heads, place
    self.norm_attention = RMSNorm(width, epsilon)
    self.norm_mlp = RMSNorm(width, epsilon)
    self.qkv_Dx3D = normal(rngs, (width, 3 * width), 1 / math.sqrt(width))
    self.out_DxD = normal(rngs, (width, width), 1 / math.sqrt(width * config.layers))
    self.mlp_in_DxF = normal(rngs, (width, ratio * width), 0.02)
    self.mlp_out_FxD = normal(rngs, (ratio * width, width), 0.02)

  def __call__(
    self,
    h_NxD: jax.Array,
    batch: int,
    attend: Callable[[jax.Array, jax.Array, jax.Array], jax.Array],
  ) -> tuple[jax.Array, jax.Array]:
    """Runs the block on N = B*T rows; `attend` mixes the values, BHxTxK.

    Returns:
      The residual stream after the block, and the block's normalised input (what probes read).
    """
    normed_NxD = self.norm_attention(h_NxD)
    q, k, v = self.project(normed_NxD, batch)
    return self.finish(h_NxD, attend(q, k, v), batch), normed_NxD

  def project(self, normed_NxD: jax.Array, batch: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Queries, keys and values of N = B*T rows, each BHxTxK."""
    rows, width = normed_NxD.shape
    tokens, head_width = rows // batch, width // self.heads
    qkv = self.place.linear(normed_NxD, self.qkv_Dx3D[...]).reshape(
      batch, tokens, 3, self.heads, head_width
    )
    q, k, v = qkv.transpose(2, 0, 3, 1, 4).reshape(3, batch * self.heads, tokens, head_width)
    return q, k, v

  def finish(self, h_NxD: jax.Array, mixed_BHxTxK: jax.Array, batch: int) -> jax.Array:
    """Adds what attention brought, then the MLP; returns the residual stream, NxD."""
    mixed = mixed_BHxTxK.reshape(batch, self.heads, -1, mixed_BHxTxK.shape[-1])
    mixed_NxD = mixed.transpose(0, 2, 1, 3).reshape(h_NxD.shape)
    h_NxD += self.place.linear(mixed_NxD, self.out_DxD[...])
    hidden_NxF = quick_gelu(self.place.linear(self.norm_mlp(h_NxD), self.mlp_in_DxF[...]))
    return h_NxD + self.place.linear(hidden_NxF, self.mlp_out_FxD[...])
