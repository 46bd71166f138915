"""The pieces of one pre-norm Transformer block, in iGPT's form.

Shape suffixes: B batch, T tokens, D width, H heads, K width of a head, F width of the MLP, S state
of a recurrent layer, N = B*T.
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
  values, total, _ = _sums(q_BHxTxK, k_BHxTxK, v_BHxTxK, mask_1xTxT)
  return (values / total).astype(v_BHxTxK.dtype)


def noisy_block_attention(
  q_BHxTxK: jax.Array, k_BHxTxK: jax.Array, v_BHxTxK: jax.Array, size: int
) -> jax.Array:
  """`attention` under models.patterns.NoisyBlocks, with half of the products.

  Clean slots see clean ones alone, noisy slots the clean ones and their own block: two softmaxes
  over disjoint keys, joined by their sums.
  """
  heads, tokens = q_BHxTxK.shape[0], q_BHxTxK.shape[1] // 2
  noisy, clean = (
    [x[:, half] for x in (q_BHxTxK, k_BHxTxK, v_BHxTxK)]
    for half in (slice(None, tokens), slice(tokens, None))
  )
  number_1xT, rest = jnp.arange(tokens)[None] // size, -tokens % size
  own = [
    jnp.pad(x, ((0, 0), (0, rest), (0, 0))).reshape(heads, -1, size, x.shape[2]) for x in noisy
  ]
  real_1xNx1xS = (jnp.arange(tokens + rest) < tokens).reshape(1, -1, 1, size) if rest else None
  here = [x.reshape(heads, tokens + rest, -1)[:, :tokens] for x in _sums(*own, real_1xNx1xS)]
  before = _sums(noisy[0], *clean[1:], number_1xT[:, :, None] > number_1xT[:, None])
  top = jnp.maximum(here[2], before[2])
  values, total = (
    one * jnp.exp(here[2] - top) + other * jnp.exp(before[2] - top)
    for one, other in zip(here[:2], before[:2], strict=True)
  )
  read = attention(*clean, number_1xT[:, :, None] >= number_1xT[:, None])
  return jnp.concatenate([(values / total).astype(v_BHxTxK.dtype), read], axis=1)


def _sums(
  q_xTxK: jax.Array, k_xSxK: jax.Array, v_xSxK: jax.Array, mask_xTxS: jax.Array | None
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """sum_s w_s v_s (..., T, K), sum_s w_s (..., T, 1) and c (..., T, 1) where w_s = exp(q k_s - c).

  All float32; c is the largest logit, and no gradient is taken of it.
  """
  scale = 1.0 / math.sqrt(q_xTxK.shape[-1])
  logits = jnp.einsum(
    '...tk,...sk->...ts',
    q_xTxK * scale,
    k_xSxK,
    precision=PRECISION,
    preferred_element_type=jnp.float32,
  )
  if mask_xTxS is not None:
    # A sum and no choice: on a CPU it becomes part of the product, and its gradient is free.
    logits += jnp.where(mask_xTxS, 0.0, -1e30)
  top = jax.lax.stop_gradient(jnp.max(logits, axis=-1, keepdims=True))
  weights = jnp.exp(logits - top)
  total = jnp.sum(weights, axis=-1, keepdims=True)
  values = jnp.einsum(
    '...ts,...sk->...tk',
    weights.astype(v_xSxK.dtype),
    v_xSxK,
    precision=PRECISION,
    preferred_element_type=jnp.float32,
  )
  return values, total, top


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


def linear_recurrence(a_BxTxS: jax.Array, v_BxTxS: jax.Array) -> jax.Array:
  """h_t = a_t h_{t-1} + v_t from h_{-1} = 0, for all t at once; BxTxS.

  In O(log T) steps (jax.lax.associative_scan). Products of numbers from 0 to 1 may underflow and
  do no harm: nothing is divided by them.
  """

  def join(earlier: tuple, later: tuple) -> tuple:
    return earlier[0] * later[0], later[0] * earlier[1] + later[1]

  return jax.lax.associative_scan(join, (a_BxTxS, v_BxTxS), axis=1)[1]


class Recurrence(nnx.Module):
  """A gated linear recurrence where attention would be, in the manner of Griffin's RG-LRU.

      a_t = sigmoid(W_a x_t + b)
      h_t = a_t h_{t-1} + sqrt(1 - a_t^2) W_u x_t
      y_t = W_o (h_t * quick_gelu(W_g x_t))

  elementwise in S numbers (De et al. 2024, arXiv 2402.19427, section 2.4). The square root keeps
  the variance of h at that of W_u x whatever a is. Theirs has a convolution before it, and a gate
  that is a power of a learned number. b starts where memories of 1/(1-a) tokens are spread evenly
  by their logarithms from 2 to T (after Tallec & Ollivier 2018, arXiv 1804.11188). Gates and state
  are float32 always.
  """

  def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs, place: Any = Nowhere):
    width, state = config.width, config.state
    self.place = place
    self.in_Dx3S = normal(rngs, (width, 3 * state), 1 / math.sqrt(width))
    self.out_SxD = normal(rngs, (state, width), 1 / math.sqrt(state * config.layers))
    memories_S = jnp.exp(jnp.linspace(math.log(2), math.log(max(2, config.length)), state))
    self.bias_S = nnx.Param(jnp.log(memories_S - 1))

  def __call__(self, x_NxD: jax.Array, batch: int) -> jax.Array:
    """What the recurrence brings to N = B*T rows, NxD in the dtype of `x_NxD`."""
    a_NxS, v_NxS, gate_NxS = self._gates(x_NxD)
    shape = (batch, -1, a_NxS.shape[-1])
    h_BxTxS = linear_recurrence(a_NxS.reshape(shape), v_NxS.reshape(shape))
    return self._read(self.place.rows(h_BxTxS).reshape(gate_NxS.shape), gate_NxS, x_NxD.dtype)

  def step(self, x_BxD: jax.Array, h_BxS: jax.Array) -> tuple[jax.Array, jax.Array]:
    """One token of each row after the state `h_BxS`: what it brings, BxD, and the next state."""
    a_BxS, v_BxS, gate_BxS = self._gates(x_BxD)
    h_BxS = a_BxS * h_BxS + v_BxS
    return self._read(h_BxS, gate_BxS, x_BxD.dtype), h_BxS

  def _gates(self, x_NxD: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """a, sqrt(1 - a^2) W_u x and quick_gelu(W_g x), each NxS float32."""
    z_NxS, u_NxS, g_NxS = jnp.split(self.place.linear(x_NxD, self.in_Dx3S[...], jnp.float32), 3, 1)
    bias_S = self.place.whole(self.bias_S[...], jnp.float32)
    log_a_NxS = -jax.nn.softplus(-(z_NxS + bias_S[None]))
    # 1 - a^2 without cancellation; where it is 0 in float32 its root has no derivative.
    rest_NxS = jnp.sqrt(jnp.maximum(-jnp.expm1(2 * log_a_NxS), 1e-20))
    return jnp.exp(log_a_NxS), rest_NxS * u_NxS, quick_gelu(g_NxS)

  def _read(self, h_NxS: jax.Array, gate_NxS: jax.Array, dtype: Any) -> jax.Array:
    return self.place.linear((h_NxS * gate_NxS).astype(dtype), self.out_SxD[...])


def dropout(x_NxD: jax.Array, keys_B: jax.Array, rate: float) -> jax.Array:
  """Zeroes this share of the numbers and divides the rest by what is left.

  Each of the B examples has its own key, so that its zeros do not depend on the others.
  """
  shape = (x_NxD.shape[0] // len(keys_B), x_NxD.shape[1])
  kept_BxTxD = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - rate, shape))(keys_B)
  return jnp.where(kept_BxTxD.reshape(x_NxD.shape), x_NxD / (1 - rate), jnp.zeros_like(x_NxD))


# What a branch brings and which of the two it is, 0 mixer and 1 MLP -> what of it is added.
Drop = Callable[[jax.Array, int], jax.Array]


class Block(nnx.Module):
  """h + mixer(norm(h)), then h + mlp(norm(h)); `place` says where arrays live.

  Without `config.residual` h is left out of both sums; `config.norm` 'post' is norm(h + mixer(h))
  and norm(h + mlp(h)), 'none' has no norm.
  """

  def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs, place: Any = Nowhere):
    width, ratio, epsilon = config.width, config.mlp_ratio, config.norm_epsilon
    self.heads, self.place = config.heads, place
    self.norm, self.residual = config.norm, config.residual
    if config.norm != 'none':
      self.norm_attention = RMSNorm(width, epsilon)
      self.norm_mlp = RMSNorm(width, epsilon)
    if config.mixer == 'recurrent':
      self.recurrence = Recurrence(config, rngs=rngs, place=place)
    else:
      self.qkv_Dx3D = normal(rngs, (width, 3 * width), 1 / math.sqrt(width))
      self.out_DxD = normal(rngs, (width, width), 1 / math.sqrt(width * config.layers))
    self.mlp_in_DxF = normal(rngs, (width, ratio * width), 0.02)
    self.mlp_out_FxD = normal(rngs, (ratio * width, width), 0.02)

  def __call__(
    self,
    h_NxD: jax.Array,
    batch: int,
    attend: Callable[[jax.Array, jax.Array, jax.Array], jax.Array],
    drop: Drop | None = None,
  ) -> tuple[jax.Array, jax.Array]:
    """Runs the block on N = B*T rows; `attend` mixes the values, BHxTxK.

    Returns:
      The residual stream after the block, and the block's input (what probes read), normalised
      unless `config.norm` says otherwise.
    """
    x_NxD = self.enter(h_NxD, 'norm_attention')
    if hasattr(self, 'recurrence'):
      brought_NxD = self.recurrence(x_NxD, batch)
    else:
      brought_NxD = self.leave(attend(*self.project(x_NxD, batch)), batch)
    return self.finish(h_NxD, brought_NxD, drop), x_NxD

  def enter(self, h_NxD: jax.Array, norm: str) -> jax.Array:
    """What a branch reads."""
    return getattr(self, norm)(h_NxD) if self.norm == 'pre' else h_NxD

  def _join(self, h_NxD: jax.Array, brought_NxD: jax.Array, norm: str) -> jax.Array:
    """The residual stream after a branch."""
    h_NxD = h_NxD + brought_NxD if self.residual else brought_NxD
    return getattr(self, norm)(h_NxD) if self.norm == 'post' else h_NxD

  def project(self, normed_NxD: jax.Array, batch: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Queries, keys and values of N = B*T rows, each BHxTxK."""
    rows, width = normed_NxD.shape
    tokens, head_width = rows // batch, width // self.heads
    qkv = self.place.linear(normed_NxD, self.qkv_Dx3D[...]).reshape(
      batch, tokens, 3, self.heads, head_width
    )
    q, k, v = qkv.transpose(2, 0, 3, 1, 4).reshape(3, batch * self.heads, tokens, head_width)
    return q, k, v

  def leave(self, mixed_BHxTxK: jax.Array, batch: int) -> jax.Array:
    """What attention brings, NxD, of the mixed values."""
    mixed = mixed_BHxTxK.reshape(batch, self.heads, -1, mixed_BHxTxK.shape[-1])
    rows = batch * mixed_BHxTxK.shape[1]
    mixed_NxD = mixed.transpose(0, 2, 1, 3).reshape(rows, -1)
    return self.place.linear(mixed_NxD, self.out_DxD[...])

  def finish(self, h_NxD: jax.Array, brought_NxD: jax.Array, drop: Drop | None = None) -> jax.Array:
    """Adds what the mixer brought, then the MLP; returns the residual stream, NxD."""
    drop = drop or (lambda x, branch: x)
    h_NxD = self._join(h_NxD, drop(brought_NxD, 0), 'norm_attention')
    x_NxD = self.enter(h_NxD, 'norm_mlp')
    hidden_NxF = quick_gelu(self.place.linear(x_NxD, self.mlp_in_DxF[...]))
    brought_NxD = self.place.linear(hidden_NxF, self.mlp_out_FxD[...])
    return self._join(h_NxD, drop(brought_NxD, 1), 'norm_mlp')
