r"""Bits per dimension of classical lossless compressors on the tokens of a data set.

python -m launch.baselines --config=experiments/digits.py:autoregressive --split=test
python -m launch.baselines --workdir=RUN --out=baselines.json

`codes.baselines` says what the sizes include, and what they leave out.
"""

from collections.abc import Sequence
import sys

from absl import flags

from launch import entry, output
from runs.errors import UserError


def main(argv: Sequence[str], overrides: Sequence[str]) -> None:
  entry.no_arguments(argv)
  chosen = flags.FLAGS
  if (chosen.config is None) == (chosen.workdir is None):
    raise UserError('either --config=FILE:OBJECTIVE or --workdir=DIR (a finished run) is needed')
  if chosen.workdir is not None and chosen.split != 'test':
    raise UserError('the record of a run has bits of the test split alone: --split=test')
  output.check(chosen.out)
  from reports import codes_text
  from runs import baselines

  made = baselines.measure(
    chosen.config, chosen.workdir, overrides, chosen.split, chosen.data_dir, _tell
  )
  output.write(chosen.out, made)
  print(codes_text.baselines(made, chosen.markdown))


def _tell(name: str) -> None:
  """Says what is being compressed, where somebody watches: large splits take minutes."""
  if sys.stderr.isatty():
    print(f'\r\033[K{name}', end='', file=sys.stderr, flush=True)


def define_flags() -> None:
  flags.DEFINE_string('config', None, 'Config file, then a colon and the objective.')
  flags.DEFINE_string('workdir', None, 'Directory of a finished run, for its own row.')
  flags.DEFINE_enum('split', 'test', ['train', 'validation', 'test'], 'What is compressed.')
  flags.DEFINE_string('data_dir', '~/tensorflow_datasets', 'Prepared data sets.')
  flags.DEFINE_string('out', None, 'Write every packing of every compressor here, as JSON.')
  flags.DEFINE_bool('markdown', False, 'Print the table in Markdown.')


if __name__ == '__main__':
  define_flags()
  entry.run(main, takes_config=True)
