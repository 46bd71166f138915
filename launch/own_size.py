r"""A compressor's own size: weights and data together, and the code that sends no weights.

python -m launch.own_size --workdir=RUN [--requential] [--out=FILE.json]

`codes.own_size` says what is counted; the training-time code is `codes.training_time`. With
--requential the network is trained once more, and a student beside it from what it draws:
`codes.requential`.
"""

from collections.abc import Sequence

from absl import flags

from launch import entry, output
from runs.errors import UserError


def main(argv: Sequence[str]) -> None:
  entry.no_arguments(argv)
  if flags.FLAGS.workdir is None:
    raise UserError('--workdir=RUN is needed')
  output.check(flags.FLAGS.out)
  from reports import size_text
  from runs import own_size, requential
  from training import preemption

  if flags.FLAGS.average < 0:
    raise UserError(f'--average must not be negative, not {flags.FLAGS.average}')
  preemption.end_at_once()
  where = flags.FLAGS.workdir, flags.FLAGS.data_dir
  made = {'requential': None}
  if flags.FLAGS.requential:
    made['requential'] = requential.measure(*where, flags.FLAGS.average)
  made |= own_size.measure(*where)
  output.write(flags.FLAGS.out, made)
  print('\n'.join(size_text.lines(made)))


def define_flags() -> None:
  flags.DEFINE_string('workdir', None, 'Directory of a finished run.')
  flags.DEFINE_string('data_dir', '~/tensorflow_datasets', 'Prepared data sets.')
  flags.DEFINE_bool('requential', False, 'Also the requential code: trains two networks.')
  flags.DEFINE_integer('average', 50, 'Updates that their moving averages reach back; 0: none.')
  flags.DEFINE_string('out', None, 'JSON with everything that is printed.')


if __name__ == '__main__':
  define_flags()
  entry.run(main)
