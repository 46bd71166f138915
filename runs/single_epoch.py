"""The single-epoch code of a run, its structure and its noise, from the training log."""

from typing import Any

from codes import training_time
from objectives import Code
from reports import reading
from runs.experiment import Experiment


def measure(experiment: Experiment, workdir: str) -> dict[str, Any]:
  """`codes.training_time.first_epoch`, or why there is none."""
  config, objective = experiment.config, experiment.objective
  curve, reason = (), None
  if objective.code not in (Code.EXACT, Code.UPPER_BOUND):
    reason = 'the objective has no likelihood'
  elif len(objective.members()) > 1:
    reason = 'some rows of a batch are learnt from and not coded'
  elif config.training.init_from:
    # Its weights had learned before, and would have to be sent.
    reason = 'its training started from the weights of another run'
  else:
    curve = reading.read_curve(workdir, (training_time.CURVE,))
  found = training_time.first_epoch(
    curve,
    batch_size=config.training.batch_size,
    epoch=experiment.dataset.epoch,
    log_every=config.training.log_every,
    dims=experiment.dataset.dims,
  )
  return found | ({'reason': reason} if reason else {})
