"""The distribution of a finished run over all sequences of a small source."""

import math
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from codes import densities
from data.dataset import Examples
from objectives import Code
from runs import measured
from runs.errors import UserError


class Densities(NamedTuple):
  """Natural logarithms over all N sequences.

  Attributes:
    tokens_NxT: the sequences.
    p_N: of the source.
    q_N: of the run, with the normaliser that it learned where its code is an estimate.
    noise_N: of the noise that it was told from, uniform where there is none.
  """

  tokens_NxT: np.ndarray
  p_N: np.ndarray
  q_N: np.ndarray
  noise_N: np.ndarray


def of(built: Any, params: Any) -> Densities:
  """Of the parameters of an experiment.

  Raises:
    UserError: too many sequences, a source whose law is not known, or an objective that gives no
      probability of a whole sequence.
  """
  dataset, space = built.dataset, built.space
  if dataset.truth is None:
    raise UserError(f"the law of '{dataset.name}' is not known")
  if built.objective.code not in (Code.EXACT, Code.ESTIMATE):
    raise UserError(f"'{built.config.objective.name}' gives no probability of a whole sequence")
  try:
    tokens_NxT = densities.sequences(space.vocabulary, space.dims)
  except ValueError as error:
    raise UserError(str(error)) from error
  whole_NxT = np.pad(tokens_NxT, ((0, 0), (0, space.length - space.dims)))
  examples = Examples(whole_NxT, np.full(len(whole_NxT), -1, np.int32))
  nats_N = built.per_example(params, examples, 1, measured.TEST)['nats']
  if space.noise is None:
    noise_N = np.full(len(tokens_NxT), -space.dims * math.log(space.vocabulary))
  else:
    noise_N = -np.asarray(space.noise.nats(jnp.asarray(whole_NxT)), np.float64)
  p_N = -np.asarray(dataset.truth.nats(jnp.asarray(tokens_NxT)), np.float64)
  return Densities(tokens_NxT, p_N, -np.asarray(nats_N, np.float64), noise_N)
