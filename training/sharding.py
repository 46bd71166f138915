"""One mesh axis, `data`: batches are split over it, parameters too by one shape rule (FSDP)."""

from typing import Any

import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec
import numpy as np

# Smaller arrays are cheaper to replicate than to gather.
_SHARD_FROM = 2**14
# Leaves under this key are stacked by layer; that axis is scanned over and never sharded.
_STACKED = 'blocks'


def make_mesh() -> jax.sharding.Mesh:
  """All devices of all processes on the axis `data`; one device is the trivial mesh."""
  return jax.make_mesh((jax.device_count(),), ('data',), axis_types=(AxisType.Auto,))


def partition_spec(shape: tuple[int, ...], devices: int, stacked: bool) -> PartitionSpec:
  """Splits the largest axis that `devices` divides (the last of equals); else replicates."""
  axes = [a for a in range(1 if stacked else 0, len(shape)) if shape[a] % devices == 0]
  if devices == 1 or not axes or np.prod(shape) < _SHARD_FROM:
    return PartitionSpec()
  axis = max(axes, key=lambda a: (shape[a], a))
  return PartitionSpec(*('data' if a == axis else None for a in range(len(shape))))


def tree_shardings(tree: Any, mesh: jax.sharding.Mesh) -> Any:
  """A NamedSharding for every leaf of a tree of arrays or shapes."""

  def leaf(path: tuple, x: Any) -> NamedSharding:
    stacked = any(getattr(entry, 'key', None) == _STACKED for entry in path)
    return NamedSharding(mesh, partition_spec(x.shape, mesh.size, stacked))

  return jax.tree_util.tree_map_with_path(leaf, tree)


def replicated(mesh: jax.sharding.Mesh) -> NamedSharding:
  """The whole array on every device."""
  return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: jax.sharding.Mesh) -> NamedSharding:
  """Rows, the first axis, dealt out over the mesh."""
  return NamedSharding(mesh, PartitionSpec('data'))


def check_batch(rows: int, microbatches: int, devices: int) -> None:
  """Raises ValueError unless every device gets the same number of rows of every microbatch."""
  if microbatches < 1:
    raise ValueError(f'training.microbatches must be at least 1, not {microbatches}')
  if rows % (devices * microbatches):
    parts = f' in {microbatches} microbatches' if microbatches > 1 else ''
    raise ValueError(f'a batch of {rows}{parts} does not split evenly over {devices} devices')


def local_rows(global_rows: int, mesh: jax.sharding.Mesh) -> np.ndarray:
  """The numbers, ascending, of the rows of a global batch that this process must supply.

  A mesh that follows the wires of a pod need not list one process's devices side by side, so they
  need not be one stretch.
  """
  check_batch(global_rows, 1, mesh.size)
  owned = batch_sharding(mesh).addressable_devices_indices_map((global_rows,)).values()
  return np.unique([np.arange(global_rows)[index] for index in owned])


def place_flag(flag: int, mesh: jax.sharding.Mesh) -> jax.Array:
  """int32 (devices,): this process's answer on each of its devices."""
  flags = np.full(len(local_rows(mesh.size, mesh)), flag, np.int32)
  return jax.make_array_from_process_local_data(batch_sharding(mesh), flags)


def place_batch(local: dict[str, np.ndarray], mesh: jax.sharding.Mesh) -> dict[str, jax.Array]:
  """This process's rows (`local_rows`) of a global batch -> global arrays split over `data`."""
  sharding = batch_sharding(mesh)
  return {
    name: jax.make_array_from_process_local_data(sharding, np.asarray(rows))
    for name, rows in local.items()
  }
