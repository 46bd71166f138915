r"""Probes a finished run again.

python -m launch.probe --workdir=RUN --config.probe.linear.draws=10
"""

from collections.abc import Sequence
import os

from absl import flags

from launch import entry
from launch.errors import UserError

_WORKDIR = flags.DEFINE_string('workdir', None, 'Directory of a finished run.')
_DATA_DIR = flags.DEFINE_string('data_dir', '~/tensorflow_datasets', 'Prepared data sets.')
_CHECKPOINT = flags.DEFINE_enum(
  'checkpoint', 'last', ['last', 'best'], 'The last one (the headline) or the best on validation.'
)


def main(argv: Sequence[str], overrides: Sequence[str]) -> None:
  if len(argv) > 1:
    raise UserError(f"'{argv[1]}' is not a flag; flags start with --")
  if _WORKDIR.value is None:
    raise UserError('--workdir=DIR is needed')
  for override in overrides:
    if not override.startswith('--config.probe.'):
      raise UserError(f'{override}: only config.probe.* can change after training')
  from launch import assessment, configs, experiment, run
  from training import preemption
  from training import state as state_lib

  preemption.install()
  workdir = _WORKDIR.value
  saved = configs.from_plain(configs.read_saved(workdir)['config'])
  record = run.read_record(workdir)
  if record is None:
    raise UserError(f'{workdir} is not finished; launch.train goes on with it')
  built = experiment.build(configs.override(saved, overrides), _DATA_DIR.value)
  state, _ = run.restore(built, workdir, best=_CHECKPOINT.value == 'best')
  probes, arrays = assessment.probe(built, state.params)
  if _CHECKPOINT.value == 'best' and built.objective.trains:
    best = {'step': int(state.step), 'bits_per_dim': None, 'bits_per_dim_stderr': None}
    record['at_best'] = {**(record['at_best'] or best), 'probes': probes}
    arrays = {}
  else:
    record['probes'] = probes
  record['parameters'] = state_lib.count(state.params)
  arrays = {**run.read_arrays(workdir), **arrays}
  run.write_record(workdir, record, arrays)
  run.to_tensorboard(built, workdir, record, arrays.get('samples'))
  print(run.summary({**record, 'probes': probes}))
  print(f'python -m launch.report {os.path.abspath(workdir)} shows it')


if __name__ == '__main__':
  entry.run(main, takes_config=True)
