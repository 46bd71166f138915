"""Where a network's arrays live while it runs: rows stay split, parameters are gathered for use.

The partitioner would guess otherwise. Parameters split by width make it split activations by width
too, and then it sums or gathers whole activations in every layer, which for iGPT-L on 256 chips
needs twice the memory there is.
"""

import dataclasses
import functools
import math
from typing import Any

import jax
from jax.ad_checkpoint import checkpoint_name
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from training import sharding

_GATHERED = 'gathered'
# A tile of float32 in a TPU's memory: rows, columns.
_TILE = (8, 128)
_ROWS = PartitionSpec('data')
# As models/layers.py: float32 is meant where it is said.
_PRECISION = jax.lax.Precision.HIGHEST


@dataclasses.dataclass(frozen=True)
class Placement:
  """What a network calls on its arrays, on more than one device.

  A parameter is cast to the dtype of its use first and gathered then; its gradient is summed over
  devices in its own dtype, straight into shards (reduce-scatter).

  Attributes:
    mesh: with the axis `data`.
    layers: how many layers are stacked, which decides what is sharded.
  """

  mesh: jax.sharding.Mesh
  layers: int

  def rows(self, x: jax.Array) -> jax.Array:
    """The same array, its leading axis (examples, or examples times tokens) split over `data`."""
    return jax.lax.with_sharding_constraint(x, sharding.batch_sharding(self.mesh))

  def whole(self, parameter: jax.Array, dtype: Any) -> jax.Array:
    """A parameter (of one layer) in `dtype`, on every device."""
    return _whole(parameter, jnp.dtype(dtype), self)

  def linear(self, x_NxD: jax.Array, w_DxF: jax.Array, dtype: Any = None) -> jax.Array:
    """x w in the dtype of x, or `dtype`; NxF, split as x is."""
    return _linear(x_NxD, w_DxF, dtype, self)

  @property
  def policy(self) -> Any:
    """For jax.checkpoint: keep all but gathered parameters, which are gathered again."""
    return jax.checkpoint_policies.save_anything_except_these_names(_GATHERED)


def make_placement(mesh: jax.sharding.Mesh, layers: int) -> Placement | None:
  """None on one device, where there is nothing to place."""
  return Placement(mesh, layers) if mesh.size > 1 else None


def _spec(shape: tuple[int, ...], place: Placement) -> PartitionSpec:
  """How one layer of a stacked parameter is split."""
  stacked = sharding.partition_spec((place.layers, *shape), place.mesh.size, stacked=True)
  return PartitionSpec(*tuple(stacked)[1:])


def _split_axis(shape: tuple[int, ...], place: Placement) -> int | None:
  spec = tuple(_spec(shape, place))
  return spec.index('data') if 'data' in spec else None


def _stack_shards(x: jax.Array, axis: int, devices: int) -> jax.Array:
  """The shards along `axis`, on a new leading axis.

  That axis lies outside the tiles in which a TPU keeps the last two, so that shards of any size are
  gathered and scattered as they are; along `axis` itself XLA sums zero-padded shards instead.
  """
  shape = (*x.shape[:axis], devices, x.shape[axis] // devices, *x.shape[axis + 1 :])
  return jnp.moveaxis(x.reshape(shape), axis, 0)


def _join_shards(shards: jax.Array, axis: int) -> jax.Array:
  x = jnp.moveaxis(shards, 0, axis)
  return x.reshape(*x.shape[:axis], -1, *x.shape[axis + 2 :])


def _stages(mesh: jax.sharding.Mesh) -> tuple[int, ...]:
  """Factors of the device count, one for each reduce-scatter or all-gather in a row.

  XLA for TPU turns a reduce-scatter over a whole torus of two or three dimensions into an
  all-reduce, twice the bytes, and so an all-gather over three (over two it depends on the shape);
  two in a row, the one that goes on or starts with a fraction, stay what they are.
  """
  devices = mesh.size
  if mesh.devices.flat[0].platform != 'tpu':
    return (devices,)
  factor = max(f for f in range(1, math.isqrt(devices) + 1) if devices % f == 0)
  return (devices // factor, factor) if factor > 1 else (devices,)


def _groups(stages: tuple[int, ...]) -> list[list[list[int]] | None]:
  """For every stage the devices that it joins; None is all of them."""
  if len(stages) == 1:
    return [None]
  first, second = stages
  apart = [[p * second + q for p in range(first)] for q in range(second)]
  side_by_side = [[p * second + q for q in range(second)] for p in range(first)]
  return [apart, side_by_side]


def scatter_sum(parts: jax.Array, stages: tuple[int, ...], axis: int = 0) -> jax.Array:
  """Inside shard_map: device i of `data` gets part i, summed over devices.

  In two stages a part that does not fill its tiles, as 12 or 4 columns of a matrix, is laid out in
  rows of whole tiles first: XLA for TPU sums it with an all-reduce otherwise.

  Args:
    parts: (devices, ...), this device's summands.
    stages: one or two factors of `devices`.
    axis: the axis of a part to lay rows along, best its shortest.
  """
  if len(stages) == 1:
    return jax.lax.psum_scatter(parts, 'data')
  parts = jnp.moveaxis(parts, 1 + axis, 1)
  shape = parts.shape[1:]
  rows, rest = divmod(math.prod(shape), _TILE[1])
  as_it_is = shape[0] % _TILE[0] == 0 or rest
  parts = parts.reshape(*stages, *(shape if as_it_is else (rows, _TILE[1])))
  for groups in _groups(stages):
    parts = jax.lax.psum_scatter(parts, 'data', axis_index_groups=groups)
  return jnp.moveaxis(parts.reshape(shape), 0, axis)


def gather_parts(part: jax.Array, stages: tuple[int, ...]) -> jax.Array:
  """Inside shard_map: (devices, ...), the parts of all devices of `data`, on every device."""
  parts = part
  for groups in reversed(_groups(stages)):
    parts = jax.lax.all_gather(parts, 'data', axis_index_groups=groups)
  return parts.reshape(-1, *part.shape)


def _gather(x: jax.Array, dtype: Any, place: Placement) -> jax.Array:
  axis = _split_axis(x.shape, place)
  if axis is None:
    everywhere = sharding.replicated(place.mesh)
    return jax.lax.with_sharding_constraint(x.astype(dtype), everywhere)
  gather = jax.shard_map(
    functools.partial(gather_parts, stages=_stages(place.mesh)),
    mesh=place.mesh,
    in_specs=_spec(x.shape, place),
    out_specs=PartitionSpec(),
    check_vma=False,
  )
  return checkpoint_name(_join_shards(gather(x.astype(dtype)), axis), _GATHERED)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _whole(x: jax.Array, dtype: Any, place: Placement) -> jax.Array:
  return _gather(x, dtype, place)


def _whole_forward(x: jax.Array, dtype: Any, place: Placement) -> tuple[jax.Array, Any]:
  return _gather(x, dtype, place), jnp.zeros((0,), x.dtype)


def _whole_backward(dtype: Any, place: Placement, like: jax.Array, dx: jax.Array) -> tuple:
  # Autodiff's own transpose would ask for the gradient on every device.
  del dtype
  spec = _spec(dx.shape, place)
  split = jax.sharding.NamedSharding(place.mesh, spec)
  return (jax.lax.with_sharding_constraint(dx.astype(like.dtype), split),)


_whole.defvjp(_whole_forward, _whole_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _linear(x_NxD: jax.Array, w_DxF: jax.Array, dtype: Any, place: Placement) -> jax.Array:
  return _linear_forward(x_NxD, w_DxF, dtype, place)[0]


def _linear_forward(
  x_NxD: jax.Array, w_DxF: jax.Array, dtype: Any, place: Placement
) -> tuple[jax.Array, tuple]:
  whole_DxF = _gather(w_DxF, x_NxD.dtype, place)
  y_NxF = jnp.matmul(x_NxD, whole_DxF, precision=_PRECISION, preferred_element_type=dtype)
  return y_NxF, (x_NxD, whole_DxF, jnp.zeros((0,), w_DxF.dtype))


def _linear_backward(dtype: Any, place: Placement, kept: tuple, dy_NxF: jax.Array) -> tuple:
  del dtype
  x_NxD, whole_DxF, like = kept
  dx_NxD = jnp.matmul(dy_NxF, whole_DxF.T, precision=_PRECISION, preferred_element_type=jnp.float32)
  spec = _spec(whole_DxF.shape, place)
  axis = _split_axis(whole_DxF.shape, place)

  # Each device's own sum, then one reduce-scatter: left to the partitioner it may be an all-reduce.
  def shard(x_nxD: jax.Array, dy_nxF: jax.Array) -> jax.Array:
    dw_DxF = jnp.matmul(x_nxD.T, dy_nxF, precision=_PRECISION, preferred_element_type=like.dtype)
    if axis is None:
      return jax.lax.psum(dw_DxF, 'data')
    return scatter_sum(_stack_shards(dw_DxF, axis, place.mesh.size), _stages(place.mesh), axis)

  scatter = jax.shard_map(
    shard, mesh=place.mesh, in_specs=(_ROWS, _ROWS), out_specs=spec, check_vma=False
  )
  return dx_NxD.astype(x_NxD.dtype), scatter(x_NxD, dy_NxF)


_linear.defvjp(_linear_forward, _linear_backward)
