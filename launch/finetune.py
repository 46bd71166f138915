r"""Fine-tunes finished runs with few labels, with all and block by block, for a code of the labels.

python -m launch.finetune --workdir=/tmp/digits
python -m launch.finetune --workdir=/tmp/run --config.probe.finetune.layer=best

DIR is a run, or a comparison, whose runs are fine-tuned side by side. The numbers go into each
run's record and into TensorBoard; launch.report shows them.
"""

from collections.abc import Sequence
import os

from absl import flags

from launch import entry
from runs.errors import UserError

_SECTION = '--config.probe.finetune.'


def main(argv: Sequence[str], overrides: Sequence[str]) -> int:
  entry.no_arguments(argv)
  if flags.FLAGS.workdir is None:
    raise UserError('--workdir=DIR is needed')
  if flags.FLAGS.jobs is not None and flags.FLAGS.jobs < 1:
    raise UserError(f'--jobs must be at least 1, not {flags.FLAGS.jobs}')
  for override in overrides:
    if not override.startswith(_SECTION):
      raise UserError(f'{override}: only {_SECTION.lstrip("-")}* can be set here')
  from runs import finetuning

  workdir = os.path.abspath(os.path.expanduser(flags.FLAGS.workdir))
  if not os.path.exists(os.path.join(workdir, 'config.json')):
    return finetuning.every(workdir, flags.FLAGS.data_dir, overrides, flags.FLAGS.jobs)
  print('\n'.join(finetuning.one(workdir, flags.FLAGS.data_dir, overrides)))
  return 0


def define_flags() -> None:
  flags.DEFINE_string('workdir', None, 'A finished run, or a comparison.')
  flags.DEFINE_string('data_dir', '~/tensorflow_datasets', 'Prepared data sets.')
  flags.DEFINE_integer(
    'jobs', None, 'Runs at a time; default: one a core on CPU, one in all on accelerators.'
  )


if __name__ == '__main__':
  define_flags()
  entry.run(main, takes_config=True, keeps=True)
