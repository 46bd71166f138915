r"""Probes a finished run again, or the features of any other model.

python -m launch.probe --workdir=RUN --config.probe.linear.draws=10
python -m launch.probe --workdir=RUN --export=FILE.npz
python -m launch.probe --features=FILE.npz --label=NAME --pooling=cls --out=DIR

`probes/exchange.py` describes the file.
"""

from collections.abc import Sequence

from absl import flags

from launch import entry
from runs.errors import UserError


def main(argv: Sequence[str], overrides: Sequence[str]) -> None:
  entry.no_arguments(argv)
  chosen = flags.FLAGS
  if (chosen.workdir is None) == (chosen.features is None):
    raise UserError('either --workdir=DIR (a finished run) or --features=FILE.npz is needed')
  if chosen.workdir is None and chosen.export is not None:
    raise UserError('--export writes the features of a run: it needs --workdir')
  if chosen.features is None and chosen.out is not None:
    raise UserError('--out is for --features: the probes of a run go into its record')
  if chosen.features is not None and chosen.checkpoint != 'last':
    raise UserError('--checkpoint is of a run: --features are what they are')
  if chosen.features is None and (chosen.label is not None or chosen.pooling != 'mean'):
    raise UserError('--label and --pooling choose from a file: they need --features')
  for override in overrides:
    if not override.startswith('--config.probe.'):
      raise UserError(f'{override}: only config.probe.* can change after training')
  from runs import probing
  from training import preemption

  preemption.end_at_once()
  best = chosen.checkpoint == 'best'
  if chosen.features is not None:
    said = probing.of_file(chosen.features, chosen.out, overrides, chosen.label, chosen.pooling)
  elif chosen.export is not None:
    said = probing.export(chosen.workdir, chosen.data_dir, overrides, best, chosen.export)
  else:
    said = probing.of_run(chosen.workdir, chosen.data_dir, overrides, best)
  print('\n'.join(said))


def define_flags() -> None:
  flags.DEFINE_string('workdir', None, 'Directory of a finished run.')
  flags.DEFINE_string('data_dir', '~/tensorflow_datasets', 'Prepared data sets.')
  flags.DEFINE_enum(
    'checkpoint', 'last', ['last', 'best'], 'The last one (the headline) or the best on validation.'
  )
  flags.DEFINE_string('export', None, "Write the run's features here and do not probe.")
  flags.DEFINE_string('features', None, 'Probe the features in this .npz, of any model.')
  flags.DEFINE_string('label', None, 'Which column of labels, where --features has several.')
  flags.DEFINE_enum(
    'pooling', 'mean', ['mean', 'last', 'cls'], 'Which pooling of --features is probed.'
  )
  flags.DEFINE_string(
    'out', None, 'With --features: where the results go; default: FILE_probes beside the file.'
  )


if __name__ == '__main__':
  define_flags()
  entry.run(main, takes_config=True)
