r"""A lossless compressor: a trained autoregressive run, or a network that learns as it decodes.

python -m launch.compress --run=RUN export test test.npy
python -m launch.compress --run=RUN encode test.npy test.bpc
python -m launch.compress --run=RUN decode test.bpc again.npy
python -m launch.compress --run=RUN verify test.npy
python -m launch.compress --mode=prequential --config=experiments/digits.py encode IN.npy OUT
python -m launch.compress --mode=prequential decode IN OUT.npy

IN is a NumPy file of examples of the run's data set (tokens, any integer dtype), or any file where
the run's data are bytes of a file. `verify` takes either: what it can decode it decodes and checks,
anything else it encodes, decodes and compares. `codes.container` describes the stream.
"""

from collections.abc import Sequence
import functools
import os

from absl import flags

from launch import entry
from runs.errors import UserError

_COMMANDS = {'encode': 2, 'decode': 2, 'verify': 1, 'export': 2}


def main(argv: Sequence[str], overrides: Sequence[str]) -> None:
  command, paths = _parse(argv, overrides)
  from codes import container
  from runs import compressing
  from training import preemption

  preemption.end_at_once()
  chosen = flags.FLAGS
  coder = compressing.Coder(
    chosen.run or None, chosen.checkpoint == 'best', chosen.config or None, tuple(overrides),
    chosen.data_dir, chosen.batch, chosen.chunk, chosen.updates, chosen.replay,
  )  # fmt: skip
  try:
    print('\n'.join(getattr(compressing, command)(coder, *paths)))
  except container.StreamError as error:
    raise UserError(f'{paths[0]}: {error}') from error


def _parse(argv: Sequence[str], overrides: Sequence[str]) -> tuple[str, Sequence[str]]:
  """The command and its files, or UserError."""
  usage = 'encode IN OUT, decode IN OUT, verify IN, or export SPLIT OUT'
  if len(argv) < 2 or argv[1] not in _COMMANDS:
    raise UserError(f'what to do is missing: {usage}' if len(argv) < 2 else
                    f"'{argv[1]}' is unknown: {usage}")  # fmt: skip
  command, paths = argv[1], argv[2:]
  if len(paths) != _COMMANDS[command]:
    raise UserError(f'{command} takes {_COMMANDS[command]} arguments, not {len(paths)}: {usage}')
  prequential = flags.FLAGS.mode == 'prequential'
  if prequential and flags.FLAGS.run:
    raise UserError('--mode=prequential ships no weights: it takes --config, not --run')
  if not prequential and not flags.FLAGS.run:
    raise UserError('--run=DIR (a finished run) is needed')
  if not prequential and (flags.FLAGS.config or overrides):
    raise UserError('--config is for --mode=prequential; a run has its own')
  if prequential and command in ('encode', 'export') and not flags.FLAGS.config:
    raise UserError(f'--mode=prequential {command} needs --config')
  if flags.FLAGS.batch is not None and not 1 <= flags.FLAGS.batch < 2**32:
    raise UserError(f'--batch must be at least 1, not {flags.FLAGS.batch}')
  if command != 'verify' and os.path.exists(paths[1]) and not flags.FLAGS.force:
    raise UserError(f'{paths[1]} exists; --force overwrites it')
  if command != 'export' and not os.path.isfile(paths[0]):
    raise UserError(f'{paths[0]} is not a file')
  return command, paths


def define_flags(values: flags.FlagValues = flags.FLAGS) -> None:
  text = functools.partial(flags.DEFINE_string, flag_values=values)
  whole = functools.partial(flags.DEFINE_integer, flag_values=values)
  one_of = functools.partial(flags.DEFINE_enum, flag_values=values)
  switch = functools.partial(flags.DEFINE_bool, flag_values=values)
  text('run', None, 'Directory of a finished autoregressive run.')
  one_of('checkpoint', 'last', ['last', 'best'], 'The headline, or the best on validation.')
  one_of('mode', 'network', ['network', 'prequential'], 'A trained run, or train while decoding.')
  text('config', None, 'Prequential: config of the network that learns, and of its data.')
  text('data_dir', '~/tensorflow_datasets', 'Prepared data sets.')
  whole('batch', None, 'Examples computed at a time; default: up to 256, by their number.')
  whole('chunk', 16, 'Prequential: examples coded between trainings.')
  whole('updates', 10, 'Prequential: updates of a training.')
  switch('replay', True, 'Prequential: train on all examples so far, not only on the last chunk.')
  switch('force', False, 'Overwrite OUT.')


if __name__ == '__main__':
  define_flags()
  entry.run(main, takes_config=True)
