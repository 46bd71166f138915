r"""Trains, scores and probes one run.

python -m launch.train --config=experiments/digits.py:masked_diffusion --workdir=/tmp/run
"""

from collections.abc import Sequence
import json

from absl import flags

from launch import entry
from launch.errors import UserError

_CONFIG = flags.DEFINE_string('config', None, 'Config file, then a colon and the objective.')
_WORKDIR = flags.DEFINE_string('workdir', None, 'Directory of the run; resumed if it holds one.')
_DATA_DIR = flags.DEFINE_string('data_dir', '~/tensorflow_datasets', 'Prepared data sets.')
_PRINT = flags.DEFINE_bool('print_config', False, 'List every field, its value and type, and stop.')
_RESTORE = flags.DEFINE_integer(
  'restore_step', None, 'Go on from this checkpoint; newer ones are set aside.'
)
_DISTRIBUTED = flags.DEFINE_enum(
  'distributed',
  'none',
  ['none', 'auto', 'explicit'],
  'One process; all processes that Cloud TPU, Slurm, MPI or Kubernetes started; or as given below.',
)
_COORDINATOR = flags.DEFINE_string('coordinator_address', None, 'HOST:PORT of process 0.')
_PROCESSES = flags.DEFINE_integer('num_processes', None, 'How many processes make the run.')
_PROCESS = flags.DEFINE_integer('process_id', None, 'Which of them this is, from 0.')
_CONNECT = flags.DEFINE_integer('connect_seconds', 300, 'How long processes wait for each other.')
_PROFILE = flags.DEFINE_string(
  'profile_steps', None, "FIRST:LAST: a trace of these steps, for TensorBoard's profiler."
)


def main(argv: Sequence[str], overrides: Sequence[str]) -> None:
  if len(argv) > 1:
    raise UserError(f"'{argv[1]}' is not a flag; flags start with --")
  if _CONFIG.value is None:
    raise UserError('--config=FILE:OBJECTIVE is needed, as in experiments/digits.py:autoregressive')
  # Heavy imports come after the flags are known to be good.
  from launch import configs

  path, _, objective = _CONFIG.value.partition(':')
  config = configs.load(path, objective or None, overrides)
  if _PRINT.value:
    print(configs.describe(config))
    return
  if _WORKDIR.value is None:
    raise UserError('--workdir=DIR is needed')
  from launch import experiment as experiment_lib
  from launch import run
  from training import distributed, preemption, profile

  _join()
  preemption.install()
  distributed.check_equal('config', json.dumps(configs.plain(config), sort_keys=True))
  run.open_workdir(_WORKDIR.value, config)
  if run.read_record(_WORKDIR.value):
    if distributed.is_primary():
      print(f'{_WORKDIR.value} is finished; python -m launch.report {_WORKDIR.value} shows it')
    return
  with run.telling(_WORKDIR.value):
    experiment = experiment_lib.build(config, _DATA_DIR.value)
    profiled = profile.parse(_PROFILE.value, config.training.steps)
    record = run.execute(experiment, _WORKDIR.value, _RESTORE.value, profiled=profiled)
  if distributed.is_primary():
    print(run.summary(record))


def _join() -> None:
  """Finds the other processes, if there are any; must come before anything is computed."""
  from training import distributed

  where = (_COORDINATOR.value, _PROCESSES.value, _PROCESS.value)
  asked = flags.FLAGS['distributed'].present > 0
  distributed.check_settings(_DISTRIBUTED.value, asked, *where)
  distributed.initialize(_DISTRIBUTED.value, *where, _CONNECT.value)


if __name__ == '__main__':
  entry.run(main, takes_config=True)
