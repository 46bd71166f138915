r"""Trains, scores and probes one run.

python -m launch.train --config=experiments/digits.py:masked_diffusion --workdir=/tmp/run
"""

from collections.abc import Sequence
import json
from typing import Any

from absl import flags

from launch import entry
from runs.errors import UserError


def main(argv: Sequence[str], overrides: Sequence[str]) -> None:
  entry.no_arguments(argv)
  if flags.FLAGS.config is None:
    raise UserError('--config=FILE:OBJECTIVE is needed, as in experiments/digits.py:autoregressive')
  # Heavy imports come after the flags are known to be good.
  from runs import configs

  config = configs.load_named(flags.FLAGS.config, overrides)
  if flags.FLAGS.print_config:
    print(configs.describe(config))
    return
  if flags.FLAGS.workdir is None:
    raise UserError('--workdir=DIR is needed')
  from runs import lock
  from training import distributed

  _join()
  distributed.check_equal('config', json.dumps(configs.plain(config), sort_keys=True))
  with lock.held(flags.FLAGS.workdir):
    _train(config, flags.FLAGS.workdir)


def _train(config: Any, workdir: str) -> None:
  """Trains in a directory that this process holds, or finds that it is done."""
  from runs import compiled, configs, recorded, run
  from runs import experiment as experiment_lib
  from training import distributed, profile

  run.open_workdir(workdir, config)
  if configs.read_record(workdir):
    if distributed.is_primary():
      print(f'{workdir} is finished; python -m launch.report {workdir} shows it')
    return
  compiled.keep(workdir)
  with run.telling(workdir):
    experiment = experiment_lib.build(config, flags.FLAGS.data_dir, workdir)
    profiled = profile.parse(flags.FLAGS.profile_steps, config.training.steps)
    record = run.execute(experiment, workdir, flags.FLAGS.restore_step, profiled=profiled)
  if distributed.is_primary():
    print(recorded.summary(record))


def _join() -> None:
  """Finds the other processes, if there are any; must come before anything is computed."""
  from training import distributed

  where = (flags.FLAGS.coordinator_address, flags.FLAGS.num_processes, flags.FLAGS.process_id)
  asked = flags.FLAGS['distributed'].present > 0
  distributed.check_settings(flags.FLAGS.distributed, asked, *where)
  distributed.initialize(
    flags.FLAGS.distributed,
    *where,
    flags.FLAGS.connect_seconds,
    flags.FLAGS.wait_seconds,
  )


def define_flags() -> None:
  flags.DEFINE_string('config', None, 'Config file, then a colon and the objective.')
  flags.DEFINE_string('workdir', None, 'Directory of the run; resumed if it holds one.')
  flags.DEFINE_string('data_dir', '~/tensorflow_datasets', 'Prepared data sets.')
  flags.DEFINE_bool('print_config', False, 'List every field, its value and type, and stop.')
  flags.DEFINE_integer(
    'restore_step', None, 'Go on from this checkpoint; newer ones are set aside.'
  )
  flags.DEFINE_enum(
    'distributed',
    'none',
    ['none', 'auto', 'explicit'],
    'One process; all processes that Cloud TPU, Slurm, MPI or Kubernetes started; or as given.',
  )
  flags.DEFINE_string('coordinator_address', None, 'HOST:PORT of process 0.')
  flags.DEFINE_integer('num_processes', None, 'How many processes make the run.')
  flags.DEFINE_integer('process_id', None, 'Which of them this is, from 0.')
  flags.DEFINE_integer('connect_seconds', 300, 'How long processes wait for each other to come.')
  flags.DEFINE_integer(
    'wait_seconds', 1800, 'And later, as for the first one to prepare the data.', lower_bound=1
  )
  flags.DEFINE_string(
    'profile_steps', None, "FIRST:LAST: a trace of these steps, for TensorBoard's profiler."
  )


if __name__ == '__main__':
  define_flags()
  entry.run(main, takes_config=True, keeps=True)
