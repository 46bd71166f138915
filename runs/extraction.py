"""Features of large sets, written where they are made: rows stay on the device that made them.

The rows of a split are dealt to devices in stretches, of which every batch takes the next few of
each device. So no feature leaves its device, no process reads rows of others, and the whole never
stands on one host. Layers go in groups as large as memory allows, one pass of the network a group.
"""

from collections.abc import Callable, Mapping, Sequence
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec
import numpy as np

from probes import features as features_lib
from probes import mesh as mesh_lib
from probes.layers import Groups, Layers
from training import distributed, preemption, sharding

SHARE = 0.25  # Of a device's memory, for features.
_BUFFER = PartitionSpec(None, 'data')


def tokens_of(examples: Any, rows: np.ndarray) -> np.ndarray:
  """Tokens (len(rows), T) of these examples."""
  return examples.tokens_NxT[rows]


def group_size(counts: Sequence[int], layers: int, width: int, devices: int, memory: int) -> int:
  """Layers whose rows, of all arrays of so many rows, fit devices of so many bytes; at least 1."""
  rows = sum(-(-count // devices) for count in counts)
  return max(1, min(layers, int(SHARE * memory) // (4 * rows * width)))


def make_write(extract: Callable[..., jax.Array], mesh: Mesh) -> Callable[..., Any]:
  """Builds the jitted `write(buffers, params, batch, key, first, start) -> buffers`.

  Args:
    extract: of `features.make_extract`: (B, layers, 2, D) of a batch.
    mesh: of batch and buffers.

  The buffers, one a pooling, are (layers of a group, devices n, D) and given up; `first` is the
  group's first layer, `start` where each device's rows of the batch belong among its n.
  """

  @functools.partial(jax.jit, donate_argnums=0)
  def write(buffers, params, batch, key, first, start):
    found = extract(params, batch, key)
    found = jax.lax.dynamic_slice_in_dim(found, first, buffers[0].shape[0], 1)

    def local(buffers, found_mxLxPxD, start):
      zero = jnp.zeros_like(start)
      return tuple(
        jax.lax.dynamic_update_slice(
          buffer, jnp.swapaxes(found_mxLxPxD[:, :, pooling], 0, 1), (zero, start, zero)
        )
        for pooling, buffer in enumerate(buffers)
      )

    specs = (_BUFFER, PartitionSpec('data'), PartitionSpec())
    return mesh_lib.mapped(local, mesh, specs, _BUFFER)(buffers, found, start)

  return write


@functools.partial(jax.jit, static_argnames=('layers', 'count', 'width', 'poolings', 'mesh'))
def empty(*, layers: int, count: int, width: int, poolings: int, mesh: Mesh) -> tuple:
  """Buffers of zeros (layers, devices n, D), one a pooling, split over rows."""
  zeros = jnp.zeros((layers, mesh_lib.padded(count, mesh), width), jnp.float32)
  split = NamedSharding(mesh, _BUFFER)
  return tuple(jax.lax.with_sharding_constraint(zeros, split) for _ in range(poolings))


def fill(
  write: Callable[..., Any],
  buffers: tuple[jax.Array, ...],
  examples: Any,
  batch_size: int,
  mesh: Mesh,
  first: int,
  progress: Callable[[int], None] | None = None,
) -> tuple[jax.Array, ...]:
  """Writes all rows of a split: `write(buffers, batch, first, start)`.

  Raises:
    Preempted: a stop was requested; it is looked for before every batch.
  """
  count, n = len(examples), buffers[0].shape[1] // mesh.size
  each = min(n, -(-batch_size // mesh.size))
  owned = sharding.local_rows(each * mesh.size, mesh)
  for begin in range(0, n, each):
    preemption.check()
    start = min(begin, n - each)  # The last batch is whole too.
    rows = np.minimum(owned // each * n + start + owned % each, count - 1)
    local = {'tokens': tokens_of(examples, rows), 'index': rows.astype(np.int32)}
    with distributed.waiting('features'):
      batch = sharding.place_batch(local, mesh)
      numbers = (mesh_lib.everywhere(np.int32(i), mesh) for i in (first, start))
      buffers = write(buffers, batch, *numbers)
      jax.block_until_ready(buffers)
    if progress:
      progress(min(count, (begin + each) * mesh.size) - min(count, begin * mesh.size))
  return buffers


def layers_of(
  write: Callable[..., Any],
  params: Any,
  splits: Mapping[str, Any],
  keys: Mapping[str, jax.Array],
  *,
  layers: int,
  width: int,
  poolings: int,
  batch_size: int,
  mesh: Mesh,
  size: int | None = None,
  progress: Callable[[int], None] | None = None,
) -> dict[str, tuple[Layers, ...]]:
  """`Layers` of every split under the first poolings of `features.pool`.

  Args:
    write: of `make_write`.
    params: of the network.
    splits, keys: examples of a split, and the key of its noise.
    layers, width: of the features.
    poolings: 1, the mean, or 2, the last position too.
    batch_size: global; rounded up to whole rows a device.
    mesh: with the axis `data`.
    size: layers of a group; default as many as fit.
    progress: called with the number of examples done in each batch of the first group.
  """
  counts = [len(examples) for examples in splits.values() for _ in range(poolings)]
  size = size or group_size(counts, layers, width, mesh.size, mesh_lib.memory(mesh))

  def make(first: int, count: int) -> dict[Any, jax.Array]:
    made = {}
    for split, examples in splits.items():
      buffers = empty(layers=count, count=len(examples), width=width, poolings=poolings, mesh=mesh)
      told = progress if not first else None

      def one(buffers, batch, first, start, split=split):
        return write(buffers, params, batch, keys[split], first, start)

      filled = fill(one, buffers, examples, batch_size, mesh, first, told)
      made |= {(split, pooling): buffer for pooling, buffer in enumerate(filled)}
    return made

  groups = Groups(make, layers, size)
  return {
    split: tuple(
      Layers(groups, (split, pooling), len(examples), width, mesh) for pooling in range(poolings)
    )
    for split, examples in splits.items()
  }


def raw(
  dataset: Any, mesh: Mesh, batch_size: int, unseen: tuple[str, ...] | None = None
) -> features_lib.Features:
  """As `features.raw`, of a large set: tokens are read and sent, numbers made where they stay.

  Args:
    dataset: the probed one.
    mesh: with the axis `data`.
    batch_size: examples that are read at a time.
    unseen: as in `features.raw`.
  """

  def extract(params: Any, batch: dict[str, jax.Array], key: Any) -> jax.Array:
    del params, key
    return features_lib.flat(dataset, batch['tokens'], jnp)[:, None, None]

  splits = {split: getattr(dataset, split) for split in features_lib.SPLITS}
  made = layers_of(
    make_write(extract, mesh),
    {},
    splits,
    dict.fromkeys(splits, np.int32(0)),  # There is no noise.
    layers=1,
    width=features_lib.flat_width(dataset),
    poolings=1,
    batch_size=batch_size,
    mesh=mesh,
  )
  return features_lib.assemble(
    dataset,
    {split: layers for split, (layers,) in made.items()},
    inputs={split: Inputs(dataset, split) for split in splits},
    unseen=features_lib.SPLITS if unseen is None else unseen,
  )


class Inputs:
  """Raw inputs (N, P) of a split, made when rows of them are asked for."""

  def __init__(self, dataset: Any, split: str):
    self._dataset, self._examples = dataset, getattr(dataset, split)
    self.shape = (len(self), self[np.arange(1)].shape[1])

  def __len__(self) -> int:
    return len(self._examples)

  def __getitem__(self, rows: Any) -> np.ndarray:
    which = np.arange(len(self))[rows]
    return features_lib.flat(self._dataset, tokens_of(self._examples, which))

  def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
    del copy
    return self[:].astype(dtype or np.float32)
