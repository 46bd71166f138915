r"""Makes a finished run of an ImageGPT checkpoint, scored and probed like one trained here.

python -m launch.import_imagegpt --checkpoint=DIR --config=experiments/igpt_s.py --workdir=RUN

DIR holds config.json and model.safetensors or pytorch_model.bin, as Hugging Face saves them. The
config says which data are compressed and probed and how; what it says of the backbone's sizes is
replaced by the checkpoint's. A palette must be the one that the checkpoint was trained with
(--config.data.palette=FILE): other colours by the same numbers can not be told from it.
launch.probe and launch.report work on RUN.
"""

from collections.abc import Sequence
import os

from absl import flags

from launch import entry
from runs.errors import UserError


def main(argv: Sequence[str], overrides: Sequence[str]) -> None:
  entry.no_arguments(argv)
  for name in ('checkpoint', 'config', 'workdir'):
    if flags.FLAGS[name].value is None:
      raise UserError(f'--{name} is needed')
  from runs import configs, imported, recorded

  config = configs.load_named(flags.FLAGS.config, overrides)
  workdir = flags.FLAGS.workdir
  record = imported.import_run(flags.FLAGS.checkpoint, config, workdir, flags.FLAGS.data_dir)
  print(recorded.summary(record))
  print(f'python -m launch.report {os.path.abspath(workdir)} shows it')


def define_flags() -> None:
  flags.DEFINE_string('checkpoint', None, 'Directory or file of the weights.')
  flags.DEFINE_string('config', None, 'Config file; after a colon, the objective.')
  flags.DEFINE_string('workdir', None, 'Directory of the run; gone on with if begun.')
  flags.DEFINE_string('data_dir', '~/tensorflow_datasets', 'Prepared data sets.')


if __name__ == '__main__':
  define_flags()
  entry.run(main, takes_config=True, keeps=True)
