"""The noise that an objective contrasts data with: `objective.noise`."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from objectives import Network, Objective, Space
from objectives.base import Code
from objectives.energy import Noise, independent
from objectives.scoring import make_evaluation
from runs.errors import UserError
from training import keys

_NAMED = ('uniform', 'histogram')


def run_of(objective: Objective) -> str | None:
  """The directory of the run that an objective's noise comes from; None for every other noise."""
  return None if objective.contrast in (None, *_NAMED) else objective.contrast


def of(made: Any) -> Noise:
  """The noise of an experiment; where there are no data, to compile alone, the uniform one.

  Raises:
    UserError: no such noise, none of these data, or a run that gives none; one line.
  """
  asked, space = made.objective.contrast, made.space
  uniform = np.full((space.dims, space.vocabulary), math.log(space.vocabulary))
  if asked == 'uniform' or made.dataset is None:
    return independent(uniform, space)
  if asked == 'histogram':
    if made.histogram is None:
      raise UserError(
        "objective.noise 'histogram' needs a training set, and this source draws its examples "
        "afresh for ever: 'uniform', or the directory of a finished run"
      )
    return independent(made.histogram * math.log(2), space)
  return _of_run(asked, made, uniform)


def _of_run(workdir: str, made: Any, sites_TxV: np.ndarray) -> Noise:
  """A finished run's own distribution; chains propose uniformly."""
  # Opening a run makes its experiment, and that may ask for noise in turn.
  from runs import experiment, finished, run

  try:
    config, record = finished.read(workdir)
  except UserError as error:
    raise UserError(
      f"objective.noise is 'uniform', 'histogram' or the directory of a finished run: {error}"
    ) from error
  space = made.space
  for name, ours in (('alphabet', space.vocabulary), ('dims', space.dims),
                     ('length', space.length)):  # fmt: skip
    if record.get(name) != ours:
      raise UserError(
        f'objective.noise: {workdir} is of data with {name} {record.get(name)}, here it is {ours}'
      )
  own = Space(space.vocabulary, space.length, space.dims, shape=space.shape)
  built = experiment.assemble(config, own, made.mesh)
  if built.objective.code is not Code.EXACT or built.objective.slots(own) is None:
    raise UserError(
      f"objective.noise: {workdir} (objective '{record['objective']}') gives no exact code that "
      'can be drawn from'
    )
  state, _ = run.restore(built, workdir, best=False)
  params = jax.tree.map(jnp.asarray, jax.device_get(state.params))
  evaluate = make_evaluation(built.objective, built.apply, own, 1)
  bound = (functools.partial(f, params['backbone']) for f in (built.apply, built.decode))
  network = Network(*bound)

  def draw(key: jax.Array, count: int) -> jax.Array:
    return built.objective.sample(network, key, count, own)

  def nats(tokens_NxT: jax.Array) -> jax.Array:
    index_N = jnp.arange(len(tokens_NxT))
    batch = {'tokens': tokens_NxT, 'label': -jnp.ones_like(index_N), 'index': index_N}
    return jax.lax.stop_gradient(evaluate(params, batch, keys.key(0))['nats'])

  flops = built.objective.cost(built.model, own).flops
  return Noise(draw, nats, jnp.asarray(sites_TxV, jnp.float32), flops)
