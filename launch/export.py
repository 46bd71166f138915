r"""Writes an autoregressive run as a checkpoint of Hugging Face's ImageGPT.

python -m launch.export --run=RUN --out=DIR

DIR is new and holds config.json and model.safetensors. transformers' ImageGPTForCausalImageModeling
loads it and computes the same logits where it is fed the start token, V, and then the tokens but
the last. A run that the format can't hold is refused: another objective, order, window, mixer or
norm than ImageGPT's.
"""

from collections.abc import Sequence

from absl import flags

from launch import entry
from runs.errors import UserError


def main(argv: Sequence[str]) -> None:
  entry.no_arguments(argv)
  for name in ('run', 'out'):
    if flags.FLAGS[name].value is None:
      raise UserError(f'--{name} is needed')
  from runs import exported

  chosen = flags.FLAGS
  best = chosen.checkpoint == 'best'
  print(exported.imagegpt_directory(chosen.run, chosen.data_dir, chosen.out, best))


def define_flags() -> None:
  flags.DEFINE_string('run', None, 'Directory of a finished autoregressive run.')
  flags.DEFINE_string('out', None, 'Directory to write, which must not be there yet.')
  flags.DEFINE_string('data_dir', '~/tensorflow_datasets', 'Prepared data sets.')
  flags.DEFINE_enum(
    'checkpoint', 'last', ['last', 'best'], 'The last one (the headline) or the best on validation.'
  )


if __name__ == '__main__':
  define_flags()
  entry.run(main)
