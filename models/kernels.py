"""Attention by fused kernels of kept libraries, for the platforms that have them.

They never hold the T x T weights. `layers.attention` (model.attention 'xla') is what they must
equal within rounding; it runs everywhere, and alone knows every pattern.

Shape suffixes: B batch, T tokens, H heads, K width of a head.
"""

from collections.abc import Callable
import functools

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
import numpy as np

# (q_BHxTxK, k_BHxTxK, v_BHxTxK, batch, form) -> BHxTxK, where form is a pattern's `kernel`.
Attend = Callable[[jax.Array, jax.Array, jax.Array, int, str], jax.Array]

_PLATFORMS = {'cudnn': 'gpu', 'tpu': 'tpu'}
# The kernel's blocks of queries and of keys: the largest of these that divides the padded length.
_BLOCKS = (512, 256, 128)


def check(name: str, platform: str) -> None:
  """Raises ValueError if this implementation does not run on the platform."""
  if _PLATFORMS.get(name, platform) != platform:
    raise ValueError(
      f"model.attention '{name}' runs on {_PLATFORMS[name]} only, and this is {platform}; "
      "'xla' runs everywhere"
    )


def make(name: str, mesh: jax.sharding.Mesh | None = None) -> Attend | None:
  """The attention of that name; None for 'xla', which needs nothing but a mask.

  Args:
    name: as `ModelConfig.attention`.
    mesh: over all of whose axes the batch is split. The compiler can't split 'tpu' by itself, so
      this one needs it as soon as there are several devices.
  """
  if name == 'xla':
    return None
  if name == 'cudnn':
    return cudnn
  return tpu if mesh is None or mesh.size == 1 else functools.partial(_split, mesh)


def cudnn(
  q_BHxTxK: jax.Array,
  k_BHxTxK: jax.Array,
  v_BHxTxK: jax.Array,
  batch: int,
  form: str,
  implementation: str = 'cudnn',
) -> jax.Array:
  """cuDNN's flash attention through `jax.nn.dot_product_attention`."""

  def heads_inside(x_BHxTxK: jax.Array) -> jax.Array:
    x_BxHxTxK = x_BHxTxK.reshape(batch, -1, *x_BHxTxK.shape[1:])
    return x_BxHxTxK.transpose(0, 2, 1, 3)

  mixed_BxTxHxK = jax.nn.dot_product_attention(
    *(heads_inside(x) for x in (q_BHxTxK, k_BHxTxK, v_BHxTxK)),
    is_causal=form == 'causal',
    implementation=implementation,
  )
  return mixed_BxTxHxK.transpose(0, 2, 1, 3).reshape(q_BHxTxK.shape)


def tpu(
  q_BHxTxK: jax.Array,
  k_BHxTxK: jax.Array,
  v_BHxTxK: jax.Array,
  batch: int,
  form: str,
  interpret: bool = False,
) -> jax.Array:
  """JAX's own splash attention, a Pallas kernel; `interpret` runs it anywhere, slowly.

  Sequences are padded to whole blocks. Nothing looks at the padding: it is later than every
  query, or masked.
  """
  del batch
  tokens, width = q_BHxTxK.shape[1:]
  padding = -tokens % _BLOCKS[-1]
  kernel = _kernel(tokens, tokens + padding, form == 'causal', interpret)

  def one(q_TxK: jax.Array, k_TxK: jax.Array, v_TxK: jax.Array) -> jax.Array:
    return kernel(q_TxK[None], k_TxK[None], v_TxK[None])[0]

  q, k, v = (
    jnp.pad(x, ((0, 0), (0, padding), (0, 0))) for x in (q_BHxTxK * width**-0.5, k_BHxTxK, v_BHxTxK)
  )
  return jax.vmap(one)(q, k, v)[:, :tokens].astype(v_BHxTxK.dtype)


def _kernel(tokens: int, padded: int, causal: bool, interpret: bool) -> Callable[..., jax.Array]:
  """Splash attention of one head over `padded` positions, of which `tokens` are real."""
  # Imported where it is used: no other run should depend on an experimental module.
  from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as splash
  from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as splash_mask

  block = next(size for size in _BLOCKS if padded % size == 0)
  shape = (padded, padded)
  if causal:
    mask = splash_mask.CausalMask(shape)
  elif tokens == padded:
    mask = splash_mask.FullMask(shape)
  else:
    mask = splash_mask.NumpyMask(np.broadcast_to(np.arange(padded) < tokens, shape))
  names = ('q', 'kv', 'kv_compute', 'q_dkv', 'kv_dkv', 'kv_dkv_compute', 'q_dq', 'kv_dq')
  sizes = splash.BlockSizes(**{f'block_{name}': block for name in names})
  return splash.make_splash_mha(
    splash_mask.MultiHeadMask([mask]),
    head_shards=1,
    q_seq_shards=1,
    block_sizes=sizes,
    interpret=interpret,
  )


def _split(
  mesh: jax.sharding.Mesh,
  q_BHxTxK: jax.Array,
  k_BHxTxK: jax.Array,
  v_BHxTxK: jax.Array,
  batch: int,
  form: str,
  interpret: bool = False,
) -> jax.Array:
  """`tpu` on every device's own examples."""
  if batch % mesh.size:
    raise ValueError(
      f"model.attention 'tpu' can't split {batch} examples evenly over {mesh.size} devices"
    )
  rows = PartitionSpec(mesh.axis_names)

  def local(*qkv: jax.Array) -> jax.Array:
    return tpu(*qkv, batch // mesh.size, form, interpret)

  # The kernel says nothing of how its result varies over the mesh, hence no check of it.
  split = jax.shard_map(local, mesh=mesh, in_specs=(rows,) * 3, out_specs=rows, check_vma=False)
  return split(q_BHxTxK, k_BHxTxK, v_BHxTxK)
