"""A function of batches over a whole split: padded at the end, padding dropped, nothing else."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from training import distributed, preemption, sharding


def whole_batch(batch_size: int, mesh: jax.sharding.Mesh) -> int:
  """The next multiple of the device count."""
  return batch_size + -batch_size % mesh.size


def over_split(
  function: Callable[..., Any],
  arrays: dict[str, np.ndarray],
  batch_size: int,
  mesh: jax.sharding.Mesh,
  progress: Callable[[int], None] | None = None,
  part: tuple[int, int] | None = None,
) -> Any:
  """Applies `function(batch)` to consecutive batches and concatenates what it returns.

  Args:
    function: jitted; a dict of arrays with a leading batch axis -> a tree of the same, replicated.
    arrays: the split, as anything with a length that gives rows by their numbers: each process
      takes its own rows of a batch when it comes to it. 'index', the row's number, is added.
    batch_size: global; rounded up to a multiple of the device count.
    mesh: where batches are placed.
    progress: called with the number of rows done in each batch.
    part: the first row and the one after the last; None for all.

  Returns:
    A tree of NumPy arrays with N leading rows, or as many as the part has.

  Raises:
    Preempted: a stop was requested; it is looked for before every batch.
  """
  size = len(next(iter(arrays.values())))
  start, stop = part or (0, size)
  batch_size = whole_batch(min(batch_size, size), mesh)
  owned = sharding.local_rows(batch_size, mesh)
  results = []
  for first in range(start, stop, batch_size):
    preemption.check()
    # The last batch is filled up with the last row so that every shape is compiled once.
    rows = np.minimum(first + owned, stop - 1)
    local = {name: values[rows] for name, values in arrays.items()}
    local['index'] = rows.astype(np.int32)
    with distributed.waiting('an evaluation'):
      out = jax.tree.map(np.asarray, function(sharding.place_batch(local, mesh)))
    kept = min(batch_size, stop - first)
    results.append(jax.tree.map(lambda value, kept=kept: value[:kept], out))
    if progress:
      progress(kept)
  return jax.tree.map(lambda *parts: np.concatenate(parts), *results)
