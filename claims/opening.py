"""Finished runs opened again, for what their records do not hold: their network, further probes."""

from collections.abc import Mapping, Sequence
import operator
from typing import Any

import numpy as np

from claims.base import Finished

# The label code of few labels by linear probes, in one order: a few seconds a network.
LABEL_CODE = {
  'probe.prequential.mlp': None,
  'probe.prequential.orders': 1,
  'probe.prequential.rows': 640,
  'probe.prequential.l2': (1e-4, 1e-2, 1.0),
}


def network(
  run: Finished, data_dir: str, settings: Mapping[str, Any] | None = None
) -> tuple[Any, Any]:
  """The experiment of a run and its last parameters.

  Args:
    run: finished.
    data_dir: prepared data sets.
    settings: fields of its config, without 'config.', that are changed first.
  """
  from runs import experiment, finished
  from runs import run as run_lib

  config, _ = finished.read(run.workdir)
  for field, value in (settings or {}).items():
    section, _, name = field.rpartition('.')
    operator.attrgetter(section)(config)[name] = value
  built = experiment.build(config, data_dir, run.workdir)
  state, _ = run_lib.restore(built, run.workdir, best=False)
  return built, state.params


def probes(
  run: Finished, data_dir: str, names: Sequence[str], settings: Mapping[str, Any] | None = None
) -> tuple[dict[str, Any], dict[str, Any]]:
  """Results of probes and their arrays, as a record has them; `settings` as of `network`.

  Raises:
    UserError: one fails.
  """
  from runs import assessment

  built, params = network(run, data_dir, settings)
  found = assessment.fit_probes(lambda: built.probe_features(params), built.config, tuple(names))
  return assessment.all_probed(found)


def right(arrays: Mapping[str, np.ndarray], probe: str, labels: str) -> np.ndarray:
  """Of each test example the share of label draws by which `probes` had it right, (N,)."""
  predicted_DxN = np.atleast_2d(arrays[f'{probe}/{labels}/predictions'])
  return (predicted_DxN == arrays['labels'][None]).mean(0)
