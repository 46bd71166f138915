r"""Prepares data before a run asks for them: an image set by its name, or the data of a config.

python -m launch.prepare --name=fashion_mnist --download
python -m launch.prepare --config=experiments/arrays.py --config.data.path=FILE.npz

Of a config it also prints what its tokens are, and counts, duplicates and balance of the splits.
"""

from collections.abc import Sequence
import os

from absl import flags

from launch import entry
from runs.errors import UserError


def main(argv: Sequence[str], overrides: Sequence[str]) -> None:
  entry.no_arguments(argv)
  name, config = flags.FLAGS.name, flags.FLAGS.config
  if (name is None) == (config is None):
    raise UserError('either --name=SET or --config=FILE is needed, as in --name=fashion_mnist')
  if config is not None and flags.FLAGS.download:
    raise UserError('--download is for --name=SET')
  if name is not None and overrides:
    raise UserError(f'{overrides[0]} changes a config, and --name={name} is none: give --config')
  from runs import configs, preparing

  data_dir = os.path.abspath(os.path.expanduser(flags.FLAGS.data_dir))
  if name is not None:
    print(preparing.named(name, data_dir, flags.FLAGS.download))
    return
  print('\n'.join(preparing.of_config(configs.load_named(config, overrides), data_dir)))


def define_flags() -> None:
  flags.DEFINE_string('name', None, 'The set: mnist, fashion_mnist or cifar10.')
  flags.DEFINE_string('config', None, 'Config file; its data are prepared and described.')
  flags.DEFINE_string('data_dir', '~/tensorflow_datasets', 'Prepared data sets.')
  flags.DEFINE_bool('download', False, 'Fetch the files instead of looking for them.')


if __name__ == '__main__':
  define_flags()
  entry.run(main, takes_config=True)
