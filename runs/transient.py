"""Runs that are trained one after another in this process, and of which only numbers are kept."""

from collections.abc import Iterable, Iterator, Sequence
import tempfile
from typing import Any

import numpy as np

from runs import configs, experiment, recorded, run


def records(
  path: str, objective: str, runs: Iterable[Sequence[str]], data_dir: str
) -> Iterator[tuple[dict[str, Any], dict[str, np.ndarray]]]:
  """Record and arrays of every run, as `launch.train` would leave them.

  It saves the start of a process where networks are small; what was trained is lost if it is
  interrupted.

  Args:
    path: config file.
    objective: which.
    runs: overrides of each, '--config.a.b=value'.
    data_dir: prepared data sets.

  Raises:
    UserError: a setting that can't be.
    TrainingError: a loss that is not finite.
  """
  for overrides in runs:
    config = configs.load(path, objective, overrides)
    built = experiment.build(config, data_dir)
    with tempfile.TemporaryDirectory() as workdir:
      record = run.execute(built, workdir)
      yield record, recorded.read_arrays(workdir)
