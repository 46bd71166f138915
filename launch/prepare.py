r"""Prepares an image set, from the files in DATA_DIR/downloads/manual or from the network.

python -m launch.prepare --name=fashion_mnist --download
"""

from collections.abc import Sequence
import os

from absl import flags

from launch import entry
from launch.errors import UserError

_NAME = flags.DEFINE_string('name', None, 'The set: mnist, fashion_mnist or cifar10.')
_DATA_DIR = flags.DEFINE_string('data_dir', '~/tensorflow_datasets', 'Prepared data sets.')
_DOWNLOAD = flags.DEFINE_bool('download', False, 'Fetch the files instead of looking for them.')


def main(argv: Sequence[str]) -> None:
  if len(argv) > 1:
    raise UserError(f"'{argv[1]}' is not a flag; flags start with --")
  if _NAME.value is None:
    raise UserError('--name=SET is needed, as in --name=fashion_mnist')
  from data import images, prepared, sources

  data_dir = os.path.abspath(os.path.expanduser(_DATA_DIR.value))
  try:
    builder = images.builder(_NAME.value, data_dir, _DOWNLOAD.value)
    if builder is not None and prepared.directory(_NAME.value, data_dir) is None:
      sources.prepare(builder)
    print(images.find(_NAME.value, data_dir))
  except ValueError as error:
    raise UserError(str(error)) from error


if __name__ == '__main__':
  entry.run(main)
