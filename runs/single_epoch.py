"""The single-epoch code of a run, its structure and its noise, from the training log."""

from typing import Any

from codes import training_time
from objectives import Code
from reports import reading
from runs import ordering
from runs.assembled import Experiment


def no_code(experiment: Experiment) -> str | None:
  """Why the losses of training are no code of its examples; None where they are."""
  config, objective = experiment.config, experiment.objective
  if objective.code is Code.ESTIMATE:
    return 'its bits in training are by a learned normaliser, and probabilities need not sum to 1'
  if objective.code not in (Code.EXACT, Code.UPPER_BOUND):
    return 'the objective has no likelihood'
  if config.training.init_from:
    # Its weights had learned before, and would have to be sent.
    return 'its training started from the weights of another run'
  if len(objective.members()) > 1:
    return 'the bits in its log are of a share of the examples alone'
  if config.data.get('order', ordering.SHUFFLED) != ordering.SHUFFLED:
    return 'its examples came in an order that the receiver would have to be told'
  return None


def measure(experiment: Experiment, workdir: str) -> dict[str, Any]:
  """`codes.training_time.first_epoch`, or why there is none."""
  config, reason = experiment.config, no_code(experiment)
  found = training_time.first_epoch(
    () if reason else reading.read_curve(workdir, (training_time.CURVE,)),
    batch_size=config.training.batch_size,
    epoch=experiment.dataset.epoch,
    log_every=config.training.log_every,
    dims=experiment.dataset.dims,
  )
  return found | ({'reason': reason} if reason else {})
