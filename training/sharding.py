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
  return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: jax.sharding.Mesh) -> NamedSharding:
  return NamedSharding(mesh, PartitionSpec('data'))


def local_rows(global_rows: int) -> tuple[int, int]:
  """The rows start..stop of a global batch that this process must supply."""
  if global_rows % jax.device_count():
    raise ValueError(
      f'a batch of {global_rows} does not split evenly over {jax.device_count()} devices'
    )
  share = global_rows // jax.process_count()
  return jax.process_index() * share, (jax.process_index() + 1) * share


def place_batch(local: dict[str, np.ndarray], mesh: jax.sharding.Mesh) -> dict[str, jax.Array]:
  """This process's rows of a global batch -> global arrays split over `data`."""
  sharding = batch_sharding(mesh)
  return {
    name: jax.make_array_from_process_local_data(sharding, np.asarray(rows))
    for name, rows in local.items()
  }
