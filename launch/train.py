r"""Trains, scores and probes one run.

python -m launch.train --config=experiments/digits.py:masked_diffusion --workdir=/tmp/run
"""

from collections.abc import Sequence

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
  from training import preemption

  preemption.install()
  run.open_workdir(_WORKDIR.value, config)
  if run.read_record(_WORKDIR.value):
    print(f'{_WORKDIR.value} is finished; python -m launch.report {_WORKDIR.value} shows it')
    return
  experiment = experiment_lib.build(config, _DATA_DIR.value)
  record = run.execute(experiment, _WORKDIR.value, _RESTORE.value)
  print(run.summary(record))


if __name__ == '__main__':
  entry.run(main, takes_config=True)
