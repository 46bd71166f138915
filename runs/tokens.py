"""What single tokens cost a network that reads from left to right."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from objectives import autoregressive, base
from runs.assembled import Experiment
from runs.errors import UserError

_CHUNK = 256


def make_nats(built: Experiment) -> Callable[[Any, np.ndarray], np.ndarray]:
  """A function of parameters and rows (N, T), of any N, that gives the nats of every token (N, T).

  Raises:
    UserError: the objective does not predict tokens in the order in which they stand.
  """
  objective = built.objective
  if not isinstance(objective, autoregressive.Autoregressive) or objective.order != 'raster':
    raise UserError('nats of single tokens are those of an autoregressive run in raster order')

  @jax.jit
  def compute(params: Any, tokens_BxT: jax.Array) -> jax.Array:
    backbone, pattern = params['backbone'], objective.attention
    out = built.apply(backbone, tokens_BxT, pattern=pattern, shift=True)
    return base.cross_entropy(out.logits_BxTxV, tokens_BxT)

  def nats(params: Any, tokens_NxT: np.ndarray) -> np.ndarray:
    found = []
    for start in range(0, len(tokens_NxT), _CHUNK):
      part = np.asarray(tokens_NxT[start : start + _CHUNK], np.int32)
      padded = np.pad(part, ((0, _CHUNK - len(part)), (0, 0)), mode='edge')
      found.append(np.asarray(compute(params, padded), np.float64)[: len(part)])
    return np.concatenate(found)

  return nats
