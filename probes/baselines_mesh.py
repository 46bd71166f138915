"""The controls of `probes.baselines` for raw inputs that stay on a mesh.

The same numbers but for rounding: rows are float32 there, sums over them as `probes.sums` makes
them, and only what has the size of P x P or P x width comes to a host.
"""

from collections.abc import Callable
import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from probes import sums
from probes.features import SPLITS, Features
from probes.layers import Groups, Layers
from probes.mesh import Rows, agreed, everywhere, product, widest

# Share of an entry of `covariance` that is rounding, by the type of its sums: of centred float32
# rows, squared, or of the sums themselves.
ROUNDING = {
  'float64': 4 * float(np.finfo(np.float32).eps) ** 2,
  'float32': float(np.finfo(np.float32).eps),
}


def centred(rows: Rows) -> tuple[Rows, np.ndarray]:
  """Rows less their mean, and the mean (P,)."""
  mean, _ = sums.moments(rows)
  return sums.standardise(rows, mean, np.ones_like(mean)), mean


def covariance(rows: Rows) -> np.ndarray:
  """x'x (P, P) float64 of centred rows, in the best precision there is, the same on every host."""
  return agreed(sums.gram(rows, widest(rows.mesh)) * rows.count)


def moved(features: Features, mean: np.ndarray, scale: np.ndarray) -> Callable[[str], Rows]:
  """split -> its rows less the mean, over the scale (0 where that is infinite)."""
  return lambda split: sums.standardise(getattr(features, split).on_mesh(0), mean, scale)


@functools.partial(jax.jit, static_argnames='rectified')
def _product(x, weights_PxD, bias_D, *, rectified):
  found = product(x, weights_PxD) + bias_D[None]
  return jnp.maximum(found, 0) if rectified else found


def projected(
  features: Features,
  rows: Callable[[str], Rows],
  weights_PxD: np.ndarray,
  bias_D: np.ndarray | None = None,
) -> Features:
  """Features of one layer, x W of the rows of every split, or relu(x W + b), on their mesh."""
  rectified, width = bias_D is not None, weights_PxD.shape[1]
  bias_D = bias_D if rectified else np.zeros(width)

  def make(first: int, count: int) -> dict[str, list[jax.Array]]:
    del first, count
    made = {}
    for split in SPLITS:
      found = rows(split)
      sent = (everywhere(part.astype(np.float32), found.mesh) for part in (weights_PxD, bias_D))
      made[split] = [_product(found.x, *sent, rectified=rectified)]
    return made

  groups = Groups(make, 1, 1)
  by_split = {
    split: Layers(groups, split, getattr(features, split).shape[1], width, features.train.mesh)
    for split in SPLITS
  }
  return dataclasses.replace(features, **by_split)
