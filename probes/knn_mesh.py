"""Nearest neighbours in a bank whose rows are split over a mesh.

Every device finds the nearest of its own rows for a chunk of queries; the host joins them and
counts votes as `probes.knn` does. Similarities are float32, of rows that were centred and given
length 1 in the best precision there is: what differs by less than their rounding is a tie. Where
more may tie with the last one that votes than a device has kept (`SPARE`), it is asked for more.
"""

from collections.abc import Iterator
import dataclasses
import functools

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
import numpy as np

from probes import mesh as mesh_lib
from probes import sums
from probes.mesh import ROWS, SAME, Rows, everywhere

CHUNK_BYTES = {'cpu': 64 * 2**20, 'other': 512 * 2**20}  # Similarities a device holds at once.
SPARE = 16  # Neighbours kept a device beyond those that vote.


@functools.partial(jax.jit, static_argnames='wide')
def _directions(x, shift_D, rest_D, varies_D, shortest, *, wide):
  given = x.astype(wide)
  moved = jnp.where(varies_D[None], given - shift_D.astype(wide)[None] - rest_D[None], 0)
  mean = jnp.linalg.norm(shift_D.astype(wide) + rest_D)
  length = jnp.linalg.norm(moved, axis=1, keepdims=True)
  short = length <= shortest * (jnp.linalg.norm(given, axis=1, keepdims=True) + mean)
  x = jnp.where(short, 0, moved / jnp.where(short, 1, length)).astype(jnp.float32)
  return x, jnp.isfinite(given).all()


def directions(rows: Rows, mean_D: np.ndarray, scale_D: np.ndarray, shortest: float) -> Rows:
  """Rows minus the mean, of length 1; zero where what is left is rounding.

  Raises:
    ValueError: NaN or infinity in a feature.
  """
  mesh, wide = rows.mesh, mesh_lib.widest(rows.mesh)
  shift_D = mean_D.astype(np.float32)
  if wide == 'float32':
    shortest = max(shortest, 8 * float(np.finfo(np.float32).eps))
  with mesh_lib.allowing(wide):
    rest_D, limit = (np.asarray(a, wide) for a in (mean_D - shift_D, shortest))
    sent = (everywhere(a, mesh) for a in (shift_D, rest_D, np.isfinite(scale_D), limit))
    x, finite = _directions(rows.x, *sent, wide=wide)
  if not np.asarray(finite):
    raise ValueError('features hold NaN or infinity')
  return dataclasses.replace(rows, x=x)


@functools.partial(jax.jit, static_argnames=('mesh', 'kept'))
def _nearest(bank, labels, mask, queries_QxD, *, mesh, kept):
  def local(bank_nxD, labels_n, mask_n, queries_QxD):
    similarity = mesh_lib.product(queries_QxD, bank_nxD.T)
    similarity = jnp.where(mask_n[None] > 0, similarity, -2.0)
    best, index = jax.lax.top_k(similarity, kept)
    return best, labels_n[index]

  split = PartitionSpec(None, mesh_lib.AXIS)
  found = mesh_lib.mapped(local, mesh, (ROWS, ROWS, ROWS, SAME), (split, split))(
    bank, labels, mask, queries_QxD
  )
  everywhere_ = jax.sharding.NamedSharding(mesh, SAME)
  return jax.lax.with_sharding_constraint(found, everywhere_)


def nearest(
  queries: Rows, bank: Rows, labels_N: np.ndarray, most: int, tie: float
) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
  """Similarities (Q, M) and labels (Q, M) of candidates that hold the `most` nearest; by chunks.

  They hold all that are no further than the last of these by more than `tie` too. Both are rows of
  `directions`. Padding has a similarity below -1.

  Yields:
    slice of the queries, similarities float64, labels.
  """
  mesh, n = bank.mesh, bank.x.shape[0] // bank.mesh.size
  labels, kept = mesh_lib.place(np.asarray(labels_N, np.int32), mesh), min(n, most + SPARE)
  limit = CHUNK_BYTES.get(mesh_lib.platform(mesh), CHUNK_BYTES['other'])
  size = max(1, min(queries.count, limit // (4 * n)))
  for start in range(0, queries.count, size):
    # The last chunk is filled with the last query, so that every shape is compiled once.
    which = np.minimum(np.arange(start, start + size), queries.count - 1)
    some = everywhere(sums.take(queries, which), mesh)
    while True:
      best, own = _nearest(bank.x, labels, bank.mask, some, mesh=mesh, kept=kept)
      best = np.asarray(best, np.float64)
      kth_Q = np.partition(best, -most, axis=1)[:, -most]
      furthest_QxP = best.reshape(size, mesh.size, kept)[..., -1]  # That a device has kept.
      if kept == n or not (furthest_QxP >= kth_Q[:, None] - tie).any():
        break
      kept = min(n, 4 * kept)
    used = min(size, queries.count - start)
    yield slice(start, start + used), best[:used], np.asarray(own)[:used]
