"""The linear probe with all labels on a mesh, and what decides that it is there."""

from collections.abc import Iterator

from jax.sharding import Mesh
import numpy as np

from probes import mesh as mesh_lib
from probes import mesh_logistic, sums
from probes.layers import Layers, standardised

ENGINES = ('auto', 'host', 'mesh')
HOST_BYTES = 256 * 2**20  # Of the float64 solver; what needs more goes to the mesh.


def engine(config, shape: tuple[int, int, int], classes: int) -> str:
  """'host' or 'mesh': which solver fits all labels, by size unless the config says it.

  Args:
      config: l2; engine, 'auto' where it is not there.
      shape: layers, rows, dimensions.
      classes: their number.

  Raises:
      ValueError: an unknown engine.
  """
  asked = config.get('engine', 'auto')
  if asked not in ENGINES:
    raise ValueError(f"unknown engine '{asked}'; known: {', '.join(ENGINES)}")
  _, rows, dims = shape
  needed = 8 * rows * (9 * len(config.l2) * classes + 4 * dims)
  return asked if asked != 'auto' else 'mesh' if needed > HOST_BYTES else 'host'


def mesh_of(features, config) -> Mesh | None:
  """Where all labels are fitted; None for the host. Features that are on a mesh stay there."""
  if isinstance(features.train, Layers):
    return features.train.mesh
  if engine(config, features.train.shape, features.classes) == 'host':
    return None
  return mesh_lib.default()


def fits(features, config, mesh: Mesh) -> Iterator[tuple]:
  """For each layer its fits, accuracy (l2,) and nats (l2, N) on validation, largest certificate."""
  validation = np.asarray(features.labels_validation)
  for layer in range(len(features.train)):
    train, *moments = standardised(features.train, layer, mesh)
    found = mesh_logistic.fit(
      train,
      features.labels_train,
      config.l2,
      classes=features.classes,
      name=f'layer {layer}, all labels',
    )
    held_out, *_ = standardised(features.validation, layer, mesh, moments)
    nats, predicted = sums.judge(held_out, validation, found.weights, found.bias)
    right = (predicted == validation).mean(-1)
    fit = (found.weights, found.bias, *moments)
    yield fit, right, nats.astype(np.float64), found.certificate.max()


def judged(
  array: Layers, layer: int, labels: np.ndarray, weights, bias, mean, scale
) -> tuple[float, np.ndarray, np.ndarray]:
  """Accuracy, and cross-entropy (nats) and prediction of every example, of one fit."""
  rows, *_ = standardised(array, layer, array.mesh, (mean, scale))
  nats, predictions = (part[0] for part in sums.judge(rows, labels, weights[None], bias[None]))
  return float((predictions == labels).mean()), nats.astype(np.float64), predictions
