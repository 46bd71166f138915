"""Opens a finished run for what needs its network and not its data."""

from typing import Any

import jax

from codes import network, prequential
import objectives
from runs import configs, experiment, run
from runs.errors import UserError
from training import sharding


def load(
  workdir: str, data_dir: str, best: bool = False
) -> tuple[experiment.Experiment, network.Reading, Any]:
  """An autoregressive run: the experiment, how it reads an example, the backbone's parameters.

  The data set is not opened, but for runs that did not record all of its sizes.

  Raises:
    UserError: not a finished run, or one whose objective gives no code that decodes.
  """
  config = configs.with_new_probes(configs.from_plain(configs.read_saved(workdir)['config']))
  record = run.read_record(workdir)
  if record is None:
    raise UserError(f'{workdir} is not finished; launch.train goes on with it')
  if 'length' in record:
    space = objectives.Space(
      record['alphabet'], record['length'], record['dims'], shape=tuple(record['sample_shape'])
    )
    built = experiment.assemble(config, space, sharding.make_mesh())
  else:
    built = experiment.build(config, data_dir)
  try:
    reading = prequential.reading(built.objective, built.model, built.space)
  except ValueError as error:
    raise UserError(f"{workdir} (objective '{record['objective']}'): {error}") from error
  state, _ = run.restore(built, workdir, best=best)
  # On one device: a code must not depend on how many there are.
  params = jax.device_put(jax.device_get(state.params['backbone']), jax.devices()[0])
  return built, reading, params
