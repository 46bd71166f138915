r"""Probes a finished run again, or the features of any other model.

python -m launch.probe --workdir=RUN --config.probe.linear.draws=10
python -m launch.probe --workdir=RUN --export=FILE.npz
python -m launch.probe --features=FILE.npz --out=DIR

`probes/exchange.py` describes the file.
"""

from collections.abc import Sequence
import os

from absl import flags

from launch import entry
from runs.errors import UserError


def main(argv: Sequence[str], overrides: Sequence[str]) -> None:
  if len(argv) > 1:
    raise UserError(f"'{argv[1]}' is not a flag; flags start with --")
  if (flags.FLAGS.workdir is None) == (flags.FLAGS.features is None):
    raise UserError('either --workdir=DIR (a finished run) or --features=FILE.npz is needed')
  for override in overrides:
    if not override.startswith('--config.probe.'):
      raise UserError(f'{override}: only config.probe.* can change after training')
  from training import preemption

  preemption.install()
  if flags.FLAGS.features is not None:
    if flags.FLAGS.export is not None:
      raise UserError('--export writes the features of a run: it needs --workdir')
    _probe_features(flags.FLAGS.features, overrides)
  else:
    _probe_run(flags.FLAGS.workdir, overrides)


def _probe_run(workdir: str, overrides: Sequence[str]) -> None:
  from probes import exchange
  from runs import assessment, configs, experiment, run
  from training import state as state_lib

  saved = configs.with_new_probes(configs.from_plain(configs.read_saved(workdir)['config']))
  record = run.read_record(workdir)
  if record is None:
    raise UserError(f'{workdir} is not finished; launch.train goes on with it')
  built = experiment.build(configs.override(saved, overrides), flags.FLAGS.data_dir)
  if not built.probed:
    raise UserError(f"'{built.probe_dataset.name}' has no labels to probe")
  state, _ = run.restore(built, workdir, best=flags.FLAGS.checkpoint == 'best')
  if flags.FLAGS.export is not None:
    exchange.write(flags.FLAGS.export, built.probe_features(state.params))
    print(f'{flags.FLAGS.export}')
    return
  if record['probes'] and record.get('probe_data_hash') not in (None, built.probe_dataset.digest):
    # Curves, fine-tuning and the best checkpoint would stay those of the run's own labels.
    raise UserError(
      f'these are other labels than those of {workdir}: write its features with --export, and '
      'probe them with --features'
    )
  probes, arrays = assessment.probe(built, state.params)
  if flags.FLAGS.checkpoint == 'best' and built.objective.trains:
    best = {'step': int(state.step), 'bits_per_dim': None, 'bits_per_dim_stderr': None}
    record['at_best'] = {**(record['at_best'] or best), 'probes': probes}
    arrays = {}
  else:
    # Fine-tuning took longer than all of these; it stays until it is asked for again.
    kept = {name: record['probes'][name] for name in ('finetune',) if name in record['probes']}
    record['probes'] = kept | probes
    record['probe_data_hash'] = built.probe_dataset.digest
  record['parameters'] = state_lib.count(state.params)
  arrays = {**run.read_arrays(workdir), **arrays}
  run.write_record(workdir, record, arrays)
  run.to_tensorboard(built, workdir, record, arrays.get('samples'))
  print(run.summary({**record, 'probes': probes}))
  _print_measures(probes)
  print(f'python -m launch.report {os.path.abspath(workdir)} shows it')


def _probe_features(path: str, overrides: Sequence[str]) -> None:
  """Runs the suite on a file of features; results.json, arrays.npz and TensorBoard in --out."""
  from experiments import base
  from probes import exchange
  from runs import assessment, configs, foreign

  config = configs.override(base.get_base('untrained'), overrides)
  try:
    features = exchange.read(path)
  except ValueError as error:
    raise UserError(str(error)) from error
  out = flags.FLAGS.out or f'{os.path.splitext(path)[0]}_probes'
  foreign.make_directory(out)
  probes, arrays = assessment.fit_probes(features, config)
  written = foreign.write(out, path, features, configs.plain(config.probe), probes, arrays)
  _print_linear(probes)
  _print_measures(probes)
  print(written)


def _print_linear(probes) -> None:
  for labels, cell in probes.get('linear', {}).items():
    name = 'linear, all labels' if labels == 'all' else f'linear, {labels} labels'
    print(f'{name:28} {100 * cell["accuracy"]:8.1f} %')


def _print_measures(probes) -> None:
  from probes.measures import headline
  from reports import terminal

  for line in terminal.probe_lines(probes, headline()):
    print(line)


def define_flags() -> None:
  flags.DEFINE_string('workdir', None, 'Directory of a finished run.')
  flags.DEFINE_string('data_dir', '~/tensorflow_datasets', 'Prepared data sets.')
  flags.DEFINE_enum(
    'checkpoint', 'last', ['last', 'best'], 'The last one (the headline) or the best on validation.'
  )
  flags.DEFINE_string('export', None, "Write the run's features here and do not probe.")
  flags.DEFINE_string('features', None, 'Probe the features in this .npz, of any model.')
  flags.DEFINE_string(
    'out', None, 'With --features: where the results go; default: FILE_probes beside the file.'
  )


if __name__ == '__main__':
  define_flags()
  entry.run(main, takes_config=True)
