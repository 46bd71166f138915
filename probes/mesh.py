"""Rows split over a mesh, and what sums over them are made of.

Letters: N rows, n rows of one device, D features, J penalties, K classes. An array of rows is split
over the mesh's axis `data`, padded to the same n on every device; sums skip the padding. Every sum
over rows is made block by block on each device, the blocks in two-part (compensated) sums, and then
over the devices in one reduction. Products are float32 at full precision, or all of it is float64
where `wide` says so: see `widest`.
"""

from collections.abc import Callable
import contextlib
import dataclasses
import functools
import os
import pathlib
from typing import Any

import jax
from jax.experimental import multihost_utils
import jax.numpy as jnp
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
import numpy as np

AXIS = 'data'
ROWS, SAME = PartitionSpec(AXIS), PartitionSpec()
# Working set of one block of rows: of a CPU's cache, or large enough to keep an accelerator busy.
BLOCK_BYTES = {'cpu': 8 * 2**20, 'other': 256 * 2**20}
_HIGHEST = jax.lax.Precision.HIGHEST


def default() -> Mesh:
  """All devices of all processes."""
  return jax.make_mesh((jax.device_count(),), (AXIS,), axis_types=(AxisType.Auto,))


def platform(mesh: Mesh) -> str:
  return mesh.devices.flat[0].platform


def widest(mesh: Mesh) -> str:
  """The type of the last word on a gradient: float64, but on TPU, whose float64 is emulated."""
  return 'float32' if platform(mesh) == 'tpu' else 'float64'


def precision(mesh: Mesh) -> str:
  """The same for people."""
  return {'float32': 'float32, compensated sums', 'float64': 'float64'}[widest(mesh)]


def allowing(wide: str) -> contextlib.AbstractContextManager:
  """Programs of the body may hold `wide` numbers."""
  return jax.enable_x64(wide == 'float64')


@dataclasses.dataclass(frozen=True, eq=False)
class Rows:
  """Rows of one layer on a mesh.

  Attributes:
    x: (devices n, D) float32, split over rows; the padding may hold anything finite.
    count: N.
    mesh: where.
  """

  x: jax.Array
  count: int
  mesh: Mesh

  @functools.cached_property
  def mask(self) -> jax.Array:
    """(devices n,) float32: 0 for padding."""
    return place(np.ones(self.count, np.float32), self.mesh)


def padded(count: int, mesh: Mesh) -> int:
  return count + -count % mesh.size


def place(values: np.ndarray, mesh: Mesh) -> jax.Array:
  """(N, ...) numbers that every process holds -> (devices n, ...) split over rows, zeros behind."""
  total = padded(len(values), mesh)

  def part(index: tuple) -> np.ndarray:
    start, stop, _ = index[0].indices(total)
    rows = values[start : min(stop, len(values))]
    return np.pad(rows, ((0, stop - start - len(rows)), *((0, 0),) * (values.ndim - 1)))

  shape = (total, *values.shape[1:])
  return jax.make_array_from_callback(shape, NamedSharding(mesh, ROWS), part)


def everywhere(values: Any, mesh: Mesh) -> jax.Array:
  """Numbers that every process holds, on every device."""
  values = np.asarray(values)
  return jax.make_array_from_callback(
    values.shape, NamedSharding(mesh, SAME), lambda index: values[index]
  )


def agreed(values: np.ndarray) -> np.ndarray:
  """The first process's: other hosts may round otherwise, and decide otherwise by it."""
  if jax.process_count() == 1:
    return values
  # As integers, for JAX would round float64 on the way.
  sent = np.ascontiguousarray(values).reshape(-1).view(np.int32)
  sent = np.asarray(multihost_utils.broadcast_one_to_all(sent))
  return sent.view(values.dtype).reshape(values.shape)


def place_rows(features_NxD: np.ndarray, mesh: Mesh) -> Rows:
  """Features in float32, rows dealt out over the mesh, and how many of them are real."""
  return Rows(place(np.asarray(features_NxD, np.float32), mesh), len(features_NxD), mesh)


def add(total: tuple[jax.Array, jax.Array], x: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Adds to a sum in two parts, of which the second takes what rounding leaves (Knuth)."""
  high, low = total
  now = high + x
  back = now - high
  return now, low + ((high - (now - back)) + (x - back))


def product(a: jax.Array, b: jax.Array) -> jax.Array:
  """a b with no term rounded to less than the type of a and b."""
  return jnp.matmul(a, b, precision=_HIGHEST)


def block_rows(n: int, row_bytes: int, where: str) -> int:
  """Rows of a block on one device whose working set is `row_bytes` a row."""
  most = BLOCK_BYTES.get(where, BLOCK_BYTES['other']) // max(1, row_bytes)
  most = max(64, most - most % 8)
  blocks = -(-n // most)
  size = -(-n // blocks)
  return min(n, size + -size % 8)


def over_blocks(n: int, size: int, body: Callable[..., Any], start: Any) -> Any:
  """Inside shard_map: `body(first, fresh, carry)` for all blocks of a device's rows, in order.

  `first` is where the block of `size` rows begins. The last one begins early enough to be whole;
  `fresh` (size,) is False for those of its rows that were seen.
  """

  def one(i: jax.Array, carry: Any) -> Any:
    first = jnp.minimum(i * size, n - size)
    return body(first, first + jnp.arange(size) >= i * size, carry)

  return jax.lax.fori_loop(0, -(-n // size), one, start)


def part(x: jax.Array, first: jax.Array, size: int) -> jax.Array:
  return jax.lax.dynamic_slice_in_dim(x, first, size, 0)


def total(parts: tuple[jax.Array, jax.Array]) -> jax.Array:
  """Inside shard_map: two-part sums over all devices, in one reduction."""
  return jax.lax.psum(parts[0] + parts[1], AXIS)


def zeros(shape: tuple[int, ...], dtype: Any) -> tuple[jax.Array, jax.Array]:
  return jnp.zeros(shape, dtype), jnp.zeros(shape, dtype)


def mapped(function: Callable, mesh: Mesh, inside: Any, outside: Any) -> Callable:
  return jax.shard_map(function, mesh=mesh, in_specs=inside, out_specs=outside, check_vma=False)


def memory(mesh: Mesh) -> int:
  """Bytes that a device may have, the same on every process: its own, or a share of the host's."""
  device = next(iter(mesh.local_devices))
  stats = device.memory_stats() if platform(mesh) != 'cpu' else None
  if stats and stats.get('bytes_limit'):
    found = stats['bytes_limit']
  else:
    # Half the host, for there is more than one program.
    found = _host_memory() // (2 * len(mesh.local_devices))
  return int(agreed(np.asarray(found // 2**20, np.int32))) * 2**20


def _host_memory() -> int:
  """Bytes of this machine, or what its container may have of them."""
  found = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
  try:
    limit = pathlib.Path('/sys/fs/cgroup/memory.max').read_text().strip()
  except OSError:
    return found
  return min(found, int(limit)) if limit.isdigit() else found
