r"""A lossless compressor: a trained run, or a code that learns as it decodes.

python -m launch.compress --run=RUN export test test.npy
python -m launch.compress --run=RUN encode test.npy test.bpc
python -m launch.compress --run=RUN decode test.bpc again.npy
python -m launch.compress --run=RUN verify test.npy
python -m launch.compress --run=MASKED_DIFFUSION [--order=raster] [--steps=16] verify test.npy
python -m launch.compress --run=RUN --mode=adaptive verify test.npy
python -m launch.compress --mode=prequential --config=experiments/digits.py encode IN.npy OUT
python -m launch.compress --mode=prequential decode IN OUT.npy
python -m launch.compress --mode=counting --config=experiments/digits.py encode IN.npy OUT

IN is a NumPy file of examples of the run's data set (tokens, any integer dtype), or any file where
the run's data are bytes of a file. `verify` takes either: what it can decode it decodes and checks,
anything else it encodes, decodes and compares. --mode=prequential is the counting code and networks
in one mixture, --mode=counting the first alone, --mode=adaptive a run's network as it is and as it
learns from what it has coded, and the counting code (`codes.adaptive`). Runs that fill in symbols
(masked and block diffusion, BERT) code in any order, runs of other diffusions not at all: each says
why. docs/format.md: the stream.
"""

from collections.abc import Sequence
import functools
import os

from absl import flags

from launch import entry
from runs.errors import UserError

# Flags that say nothing outside these modes.
_FILLS = ('order', 'steps')
_LEARNS = ('chunk', 'growing')
_TRAINS = ('updates', 'learning_rates', 'seeds', 'average', 'calibrated', 'counts', 'replay')
_IDLE = {
  'network': (*_LEARNS, *_TRAINS),
  'adaptive': _FILLS,
  'prequential': _FILLS,
  'counting': (*_FILLS, *_TRAINS),
}
_COMMANDS = {'encode': 2, 'decode': 2, 'verify': 1, 'export': 2}


def main(argv: Sequence[str], overrides: Sequence[str]) -> None:
  command, paths = _parse(argv, overrides)
  from codes import container
  from runs import compressing, learning
  from training import preemption

  preemption.end_at_once()
  chosen = flags.FLAGS
  how = learning.Learning(
    chosen.mode != 'counting', chosen.counts or chosen.mode == 'counting', chosen.chunk,
    chosen.growing, _numbers('updates', int), _numbers('learning_rates', float), chosen.seeds,
    chosen.average, chosen.calibrated, chosen.replay,
  )  # fmt: skip
  coder = compressing.Coder(
    chosen.run or None, chosen.checkpoint == 'best', chosen.config or None, tuple(overrides),
    chosen.data_dir, chosen.batch, how, chosen.order, chosen.steps, chosen.mode == 'adaptive',
  )  # fmt: skip
  try:
    print('\n'.join(getattr(compressing, command)(coder, *paths)))
  except container.StreamError as error:
    raise UserError(f'{paths[0]}: {error}') from error


def _numbers(name: str, kind: type) -> tuple:
  given = flags.FLAGS[name].value
  return tuple(entry.numbers(name, given, kind)) if given else ()


def _parse(argv: Sequence[str], overrides: Sequence[str]) -> tuple[str, Sequence[str]]:
  """The command and its files, or UserError."""
  usage = 'encode IN OUT, decode IN OUT, verify IN, or export SPLIT OUT'
  if len(argv) < 2 or argv[1] not in _COMMANDS:
    raise UserError(f'what to do is missing: {usage}' if len(argv) < 2 else
                    f"'{argv[1]}' is unknown: {usage}")  # fmt: skip
  command, paths = argv[1], argv[2:]
  if len(paths) != _COMMANDS[command]:
    raise UserError(f'{command} takes {_COMMANDS[command]} arguments, not {len(paths)}: {usage}')
  mode, learns = flags.FLAGS.mode, flags.FLAGS.mode in ('prequential', 'counting')
  if learns and flags.FLAGS.run:
    raise UserError(f'--mode={mode} ships no weights: it takes --config, not --run')
  if not learns and not flags.FLAGS.run:
    raise UserError('--run=DIR (a finished run) is needed, or --mode=prequential or counting')
  if not learns and (flags.FLAGS.config or overrides):
    raise UserError('--config is for --mode=prequential and counting; a run has its own')
  if learns and command in ('encode', 'export') and not flags.FLAGS.config:
    raise UserError(f'--mode={mode} {command} needs --config')
  for name in _IDLE[mode]:
    if flags.FLAGS[name].present:
      raise UserError(f'--{name} does nothing with --mode={mode}')
  if min(flags.FLAGS.chunk, flags.FLAGS.seeds, flags.FLAGS.average + 1) < 1:
    raise UserError('--chunk and --seeds must be at least 1, --average at least 0')
  if flags.FLAGS.steps < 0:
    raise UserError(f'--steps must not be negative, not {flags.FLAGS.steps}')
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
  several = functools.partial(flags.DEFINE_list, flag_values=values)
  switch = functools.partial(flags.DEFINE_bool, flag_values=values)
  text('run', None, 'A finished run that reads symbols in turn or fills them in.')
  one_of('checkpoint', 'last', ['last', 'best'], 'The headline, or the best on validation.')
  modes = ['network', 'adaptive', 'prequential', 'counting']
  words = 'A trained run; one that goes on learning; train while decoding; or count alone.'
  one_of('mode', 'network', modes, words)
  text('config', None, 'Of a code that learns: config of its data, and of a network.')
  text('data_dir', '~/tensorflow_datasets', 'Prepared data sets.')
  whole('batch', None, 'Examples computed at a time; default: up to 256, by their number.')
  whole('chunk', 64, 'Of a code that learns: examples coded between trainings, at most.')
  switch('growing', True, 'Batches of a 32nd of what was before, up to --chunk.')
  words = 'Of a training after --chunk examples, a network for each; default: 40, of a run 4.'
  several('updates', [], words)
  several('learning_rates', [], "A network for each; default: the config's, or a tenth of a run's.")
  whole('seeds', 1, 'As many networks of each rate and number of updates.')
  whole('average', 100, 'Updates that the moving average of parameters reaches back; 0: none.')
  switch('calibrated', True, 'A temperature follows what was coded.')
  switch('counts', True, 'The counting code is in the mixture.')
  switch('replay', True, 'Train on all examples so far, not only on the last chunk.')
  one_of('order', 'random', ['random', 'raster'], 'In which a run that fills in codes.')
  whole('steps', 0, 'Of such a run: passes an example; 0: one a symbol.')
  switch('force', False, 'Overwrite OUT.')


if __name__ == '__main__':
  define_flags()
  entry.run(main, takes_config=True)
