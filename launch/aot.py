r"""Compiles a run for a TPU slice without having one: does it fit, what does it send.

python -m launch.aot --config=experiments/igpt_l.py:autoregressive --topology=v5e:16x16

It needs libtpu (`pip install -e '.[aot]'`), no TPU and no data set. docs/aot.md says what each
number means and what it does not.
"""

from collections.abc import Sequence
import json
import os

from absl import flags

from launch import entry
from launch.errors import UserError

_CONFIG = flags.DEFINE_string('config', None, 'Config file, then a colon and the objective.')
_TOPOLOGY = flags.DEFINE_string('topology', None, 'Chip and chips along each axis: v5e:16x16.')
_SLICES = flags.DEFINE_integer('num_slices', 1, 'How many such slices.')
_VOCABULARY = flags.DEFINE_integer('vocabulary', None, 'V, where the config does not tell.')
_LENGTH = flags.DEFINE_integer('length', None, 'T, where the config does not tell.')
_OUT = flags.DEFINE_string('out', None, 'FILE.json for all numbers.')

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
  if len(argv) > 1:
    raise UserError(f"'{argv[1]}' is not a flag; flags start with --")
  needed = ((_CONFIG, 'experiments/igpt_l.py:autoregressive'), (_TOPOLOGY, 'v5e:16x16'))
  for flag, example in needed:
    if flag.value is None:
      raise UserError(f'--{flag.name} is needed, as in --{flag.name}={example}')
  if (_VOCABULARY.value is None) != (_LENGTH.value is None):
    raise UserError('--vocabulary and --length are given together')
  os.environ.update(_ENVIRONMENT)
  from launch import compiled, configs

  path, _, objective = _CONFIG.value.partition(':')
  config = configs.load(path, objective or None, overrides)
  space = compiled.space(config, _VOCABULARY.value, _LENGTH.value)
  slices = compiled.Slices(_TOPOLOGY.value, _SLICES.value)
  report = compiled.report(config, space, slices)
  print('\n'.join(compiled.lines(report)))
  if _OUT.value:
    with open(_OUT.value, 'w', encoding='utf-8') as file:
      json.dump({'config': _CONFIG.value, 'overrides': list(overrides), **report}, file, indent=1)


if __name__ == '__main__':
  entry.run(main, takes_config=True)
