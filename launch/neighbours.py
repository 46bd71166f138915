r"""Classification by compression: gzip and other codes beside a trained network's own.

python -m launch.neighbours --workdir=RUN --compressor=gzip,xz --train_rows=200 --test_rows=300

Every classifier has the same labelled training rows, validation rows and test rows;
`codes.neighbours` says which classifiers there are.
"""

from collections.abc import Sequence

from absl import flags

from launch import entry, output
from runs.errors import UserError


def main(argv: Sequence[str]) -> None:
  entry.no_arguments(argv)
  chosen = flags.FLAGS
  if chosen.workdir is None:
    raise UserError('--workdir=DIR (a finished run) is needed')
  from codes import compressors

  unknown = [name for name in chosen.compressor if name not in compressors.COMPRESSORS]
  if unknown:
    known = ', '.join(compressors.COMPRESSORS)
    raise UserError(f"--compressor: '{unknown[0]}' is unknown; known: {known}")
  sizes = entry.numbers('step_sizes', chosen.step_sizes, float)
  class_sizes = entry.numbers('class_step_sizes', chosen.class_step_sizes, float)
  if not all(0 < size < float('inf') for size in sizes + class_sizes):
    raise UserError('step sizes must be positive and finite')
  output.check(chosen.out)
  from reports import codes_text
  from runs import neighbours

  made = neighbours.classify(
    chosen.workdir,
    chosen.data_dir,
    compressors=chosen.compressor,
    counts=(chosen.train_rows, chosen.validation_rows, chosen.test_rows),
    seed=chosen.seed,
    sizes=sizes,
    class_sizes=class_sizes,
    class_steps=chosen.class_steps,
    symmetric=chosen.symmetric,
  )
  print(codes_text.neighbours(made))
  output.write(chosen.out, made)
  if made['left_out']:
    raise UserError(made['left_out'])


def define_flags() -> None:
  flags.DEFINE_string('workdir', None, 'Directory of a finished run whose code is exact.')
  flags.DEFINE_string('data_dir', '~/tensorflow_datasets', 'Prepared data sets.')
  flags.DEFINE_list('compressor', ['gzip', 'bzip2', 'xz', 'zstd'], 'Compressors beside it.')
  flags.DEFINE_integer('train_rows', 200, 'Labelled training rows.', lower_bound=1)
  flags.DEFINE_integer('validation_rows', 100, 'Rows that choose.', lower_bound=1)
  flags.DEFINE_integer('test_rows', 300, 'Rows that are judged.', lower_bound=1)
  flags.DEFINE_integer('seed', 0, 'Of the choice of rows.', lower_bound=0)
  flags.DEFINE_list('step_sizes', ['3e-6', '1e-5', '3e-5'], 'Of one step on one row, in nats.')
  flags.DEFINE_list(
    'class_step_sizes', ['1e-3', '2e-3', '4e-3'], 'Of steps on the mean of a class.'
  )
  flags.DEFINE_integer('class_steps', 20, 'Steps on each class.', lower_bound=1)
  flags.DEFINE_bool('symmetric', False, 'Also from test row to training row; twice the time.')
  flags.DEFINE_string('out', None, 'Write everything here, as JSON.')


if __name__ == '__main__':
  define_flags()
  entry.run(main)
