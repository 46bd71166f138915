"""Features that stay on a mesh, a group of layers at a time, in the place of arrays.

`Features.train` and its like are arrays (layers, N, D), or, of a large set, `Layers` of the same
shape: the rows of a layer are split over devices, and what is asked for by number comes to the
host. A probe that does not know of meshes works on declared rows of either.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
from jax.sharding import Mesh
import numpy as np

from probes import mesh as mesh_lib
from probes import selection, sums

HOST_BYTES = 2**30  # That one request may bring to the host.


class Groups:
  """Several arrays of the same layers, made for one group of them at a time; the last is kept."""

  def __init__(self, make: Callable[[int, int], Mapping[Any, jax.Array]], layers: int, size: int):
    """Takes what makes groups, and their size.

    Args:
      make: (first layer, layers) -> by name (layers, devices n, D) float32, split over the rows.
      layers: of all groups.
      size: layers of a group that fit in memory.
    """
    self.layers, self.size = layers, size
    self._make, self._first, self._made = make, None, {}

  def at(self, name: Any, layer: int) -> jax.Array:
    """(devices n, D) of one layer."""
    first = layer - layer % self.size
    if first != self._first:
      self._made, self._first = {}, None  # Before there are others.
      self._made = self._make(first, min(self.size, self.layers - first))
      self._first = first
    return self._made[name][layer - first]


class Layers:
  """(layers, N, D) float32 on a mesh.

  `array[layer]`, `array[layers]` and `array[layers, rows]` bring numbers to the host.
  """

  ndim = 3
  dtype = np.dtype(np.float32)

  def __init__(self, groups: Groups, name: Any, rows: int, dims: int, mesh: Mesh):
    self._groups, self._name, self.mesh = groups, name, mesh
    self.shape = (groups.layers, rows, dims)

  def __len__(self) -> int:
    return self.shape[0]

  def on_mesh(self, layer: int) -> mesh_lib.Rows:
    return mesh_lib.Rows(self._groups.at(self._name, int(layer)), self.shape[1], self.mesh)

  def __getitem__(self, index: Any) -> np.ndarray:
    """Raises ValueError where that is more than a host should hold at once."""
    layers, rows = index if isinstance(index, tuple) else (index, slice(None))
    if np.ndim(layers) == 0 and not isinstance(layers, slice):
      if not -len(self) <= layers < len(self):
        raise IndexError(f'no layer {layers} of {len(self)}')
      return self._brought([layers], rows)[0]
    return self._brought(np.arange(len(self))[layers], rows)

  def _brought(self, layers: Any, rows: Any) -> np.ndarray:
    which = np.arange(self.shape[1])[rows]
    size = 4 * len(layers) * len(which) * self.shape[2]
    if size > HOST_BYTES:
      raise ValueError(
        f'{len(which)} rows of {len(layers)} layers are {size / 2**30:.1f} GiB of features on a '
        f'host, more than {HOST_BYTES / 2**30:g}: name fewer rows or leave this probe out'
      )
    out = np.empty((len(layers), len(which), self.shape[2]), np.float32)
    for number, layer in enumerate(layers):
      if len(which):
        out[number] = sums.take(self.on_mesh(layer % len(self)), which)
    return out

  def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
    del copy
    return self[:].astype(dtype or self.dtype)


class Beside(Layers):
  """Features side by side: (layers, N, the sum of their D)."""

  def __init__(self, *parts: Layers):
    self._parts, self.mesh = parts, parts[0].mesh
    self.shape = (*parts[0].shape[:2], sum(part.shape[2] for part in parts))

  def on_mesh(self, layer: int) -> mesh_lib.Rows:
    rows = [part.on_mesh(layer) for part in self._parts]
    x = jax.numpy.concatenate([one.x for one in rows], 1)
    return mesh_lib.Rows(x, self.shape[1], self.mesh)


def rows_of(array: np.ndarray | Layers, layers: Any, rows: np.ndarray) -> np.ndarray:
  """(layers, rows, D) on the host."""
  return array[layers, rows] if isinstance(array, Layers) else array[layers][:, rows]


def one_layer(array: np.ndarray | Layers, layer: int, rows: np.ndarray) -> np.ndarray:
  """(rows, D) of one layer on the host."""
  return array[layer, rows] if isinstance(array, Layers) else array[layer][rows]


def moments(array: np.ndarray | Layers) -> tuple[np.ndarray, np.ndarray]:
  """Mean and scale (layers, 1, D) over all rows, as `selection.moments`."""
  if not isinstance(array, Layers):
    return selection.moments(array)
  found = [sums.moments(array.on_mesh(layer)) for layer in range(len(array))]
  mean, scale = (np.stack(part)[:, None] for part in zip(*found, strict=True))
  return mean, scale


def standardised(
  array: np.ndarray | Layers, layer: int, mesh: Mesh, by: tuple | None = None
) -> tuple[mesh_lib.Rows, np.ndarray, np.ndarray]:
  """One layer on the mesh, standardised by its own moments or `by` given ones (D,); with them.

  Raises:
    ValueError: NaN or infinity in a feature.
  """
  if isinstance(array, Layers):
    rows = array.on_mesh(layer)
  elif array.dtype == np.float64:  # Float32 would lose what an offset hides.
    mean, scale = selection.moments(array[layer]) if by is None else by
    z = selection.standardise(array[layer], mean, scale)
    return mesh_lib.place_rows(z, mesh), np.ravel(mean), np.ravel(scale)
  else:
    rows = mesh_lib.place_rows(array[layer], mesh)
  mean, scale = sums.moments(rows) if by is None else map(np.ravel, by)
  return sums.standardise(rows, mean, scale), mean, scale
