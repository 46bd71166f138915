"""Opens finished runs."""

from collections.abc import Sequence
from typing import Any

import jax
import ml_collections

from codes import filling
import objectives
from runs import configs, experiment, run
from runs.errors import UserError
from training import sharding


def config_of(workdir: str, overrides: Sequence[str] = ()) -> ml_collections.ConfigDict:
  """A run's config, with the default entry of every probe that is younger than the run.

  Raises:
    UserError: no run directory, or an override as in `configs.load`.
  """
  saved = configs.from_plain(configs.read_saved(workdir)['config'])
  return configs.override(saved, overrides) if overrides else saved


def read(
  workdir: str, overrides: Sequence[str] = ()
) -> tuple[ml_collections.ConfigDict, dict[str, Any]]:
  """The config and the record of a finished run; UserError as in `config_of`, or unfinished."""
  configs.read_saved(workdir)  # What is no run at all is not unfinished.
  record = configs.read_record(workdir)
  if record is None:
    raise UserError(f'{workdir} is not finished; launch.train goes on with it')
  return config_of(workdir, overrides), record


def opened(workdir: str, data_dir: str) -> tuple[experiment.Experiment, Any]:
  """The experiment of a finished run and its parameters at the last checkpoint; UserError as in
  `read`, or for other data than it was trained on."""
  config, _ = read(workdir)
  built = experiment.build(config, data_dir, workdir)
  return built, run.restore(built, workdir, best=False)[0].params


def coded(workdir: str, data_dir: str, best: bool = False) -> tuple[experiment.Experiment, Any]:
  """A run whose network gives a code that decodes: the experiment, its parameters on one device.

  The data set is not opened, but for runs that did not record all of its sizes.

  Raises:
    UserError: not a finished run, or one of an objective that codes no file.
  """
  config, record = read(workdir)
  if 'length' in record:
    # Whether tokens are levels was asked when it was trained: it says nothing of how it codes.
    space = objectives.Space(
      record['alphabet'], record['length'], record['dims'], shape=tuple(record['sample_shape']),
      ordinal=True,
    )  # fmt: skip
    built = experiment.assemble(config, space, sharding.make_mesh())
  else:
    built = experiment.build(config, data_dir, workdir)
  objective, space = built.objective, built.space
  if objective.slots(space) is None and filling.filler(objective, space) is None:
    raise UserError(f"{workdir} (objective '{record['objective']}'): {objective.no_file(space)}")
  state, _ = run.restore(built, workdir, best=best)
  # On one device: a code must not depend on how many there are.
  return built, jax.device_put(jax.device_get(state.params), jax.devices()[0])
