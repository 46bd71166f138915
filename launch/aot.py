r"""Compiles a run for a TPU slice without having one: does it fit, what does it send.

python -m launch.aot --config=experiments/igpt_l.py:autoregressive --topology=v5e:16x16

    --what=probe --rows=1281167   features and the linear probe of so many training rows

It needs libtpu (`pip install -e '.[aot]'`), no TPU and no data set. docs/aot.md says what each
number means and what it does not.
"""

from collections.abc import Sequence
import json
import os

from absl import flags

from launch import entry
from runs.errors import UserError

# libtpu must neither look for a TPU nor for the host that it would belong to, and JAX itself must
# not take one that is there.
_ENVIRONMENT = {
  'JAX_PLATFORMS': 'cpu',
  'TPU_SKIP_MDS_QUERY': '1',
  'ALLOW_MULTIPLE_LIBTPU_LOAD': '1',
  'TPU_WORKER_HOSTNAMES': 'localhost',
  'TPU_ACCELERATOR_TYPE': 'v5litepod-8',
  'TPU_MIN_LOG_LEVEL': '3',
  'TPU_STDERR_LOG_LEVEL': '3',
}


def main(argv: Sequence[str], overrides: Sequence[str]) -> None:
  entry.no_arguments(argv)
  needed = (('config', 'experiments/igpt_l.py:autoregressive'), ('topology', 'v5e:16x16'))
  for name, example in needed:
    if flags.FLAGS[name].value is None:
      raise UserError(f'--{name} is needed, as in --{name}={example}')
  if (flags.FLAGS.vocabulary is None) != (flags.FLAGS.length is None):
    raise UserError('--vocabulary and --length are given together')
  if (flags.FLAGS.what == 'probe') != (flags.FLAGS.rows is not None):
    raise UserError('--what=probe and --rows=N, its training rows, are given together')
  os.environ.update(_ENVIRONMENT)
  from pods import compiled, probe
  from runs import configs

  config = configs.load_named(flags.FLAGS.config, overrides)
  space = compiled.space(config, flags.FLAGS.vocabulary, flags.FLAGS.length)
  slices = compiled.Slices(flags.FLAGS.topology, flags.FLAGS.num_slices)
  if flags.FLAGS.what == 'probe':
    report = probe.report(config, space, slices, flags.FLAGS.rows)
    lines = probe.lines(report)
  else:
    report = compiled.report(config, space, slices)
    lines = compiled.lines(report)
  print('\n'.join(lines))
  if flags.FLAGS.out:
    with open(flags.FLAGS.out, 'w', encoding='utf-8') as file:
      json.dump(
        {'config': flags.FLAGS.config, 'overrides': list(overrides), **report}, file, indent=1
      )


def define_flags() -> None:
  flags.DEFINE_string('config', None, 'Config file, then a colon and the objective.')
  flags.DEFINE_string('topology', None, 'Chip and chips along each axis: v5e:16x16.')
  flags.DEFINE_integer('num_slices', 1, 'How many such slices.')
  flags.DEFINE_integer('vocabulary', None, 'V, where the config does not tell.')
  flags.DEFINE_integer('length', None, 'T, where the config does not tell.')
  flags.DEFINE_enum('what', 'train', ['train', 'probe'], 'The training step, or the linear probe.')
  flags.DEFINE_integer('rows', None, 'Training rows of the probe.', lower_bound=1)
  flags.DEFINE_string('out', None, 'FILE.json for all numbers.')


if __name__ == '__main__':
  define_flags()
  entry.run(main, takes_config=True)
