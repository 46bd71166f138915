r"""Prepares an image set, from the files in DATA_DIR/downloads/manual or from the network.

python -m launch.prepare --name=fashion_mnist --download
"""

from collections.abc import Sequence
import os

from absl import flags

from launch import entry
from runs.errors import UserError


def main(argv: Sequence[str]) -> None:
  entry.no_arguments(argv)
  if flags.FLAGS.name is None:
    raise UserError('--name=SET is needed, as in --name=fashion_mnist')
  from data import images, prepared

  data_dir = os.path.abspath(os.path.expanduser(flags.FLAGS.data_dir))
  try:
    builder = images.builder(flags.FLAGS.name, data_dir, flags.FLAGS.download)
    if builder is not None and prepared.directory(flags.FLAGS.name, data_dir) is None:
      prepared.prepare(builder)
    print(images.find(flags.FLAGS.name, data_dir))
  except ValueError as error:
    raise UserError(str(error)) from error


def define_flags() -> None:
  flags.DEFINE_string('name', None, 'The set: mnist, fashion_mnist or cifar10.')
  flags.DEFINE_string('data_dir', '~/tensorflow_datasets', 'Prepared data sets.')
  flags.DEFINE_bool('download', False, 'Fetch the files instead of looking for them.')


if __name__ == '__main__':
  define_flags()
  entry.run(main)
