r"""Trains, scores and probes every objective, then writes one report.

python -m launch.compare --config=experiments/digits.py --workdir=/tmp/digits

Each run is a process of its own with a log and a directory of its own. What is finished is
recognised, what was interrupted goes on, and one failed run costs only itself.
"""

from collections.abc import Sequence
import os
import re
import shlex

from absl import flags

from launch import entry
from runs.errors import UserError


def main(argv: Sequence[str], overrides: Sequence[str]) -> int:
  entry.no_arguments(argv)
  chosen = flags.FLAGS
  if chosen.workdir is None:
    raise UserError('--workdir=DIR is needed')
  if chosen.jobs is not None and chosen.jobs < 1:
    raise UserError(f'--jobs must be at least 1, not {chosen.jobs}')
  seeds, pilots = (
    entry.numbers(name, chosen[name].value, int) if chosen[name].value is not None else None
    for name in ('seeds', 'pilot_seeds')
  )
  rates, clips = (_grid(name) for name in ('learning_rates', 'clip_norms'))
  if pilots is not None and not (rates or clips):
    raise UserError('--pilot_seeds: pilots choose from --learning_rates or --clip_norms: give one')
  if chosen.pilots is not None and (pilots is not None or rates or clips):
    raise UserError(
      '--pilots has chosen: no --pilot_seeds, --learning_rates or --clip_norms with it'
    )
  environment = dict(os.environ)
  # The parent only reads, probes raw inputs and draws; accelerators are left to the runs.
  os.environ['JAX_PLATFORMS'] = 'cpu'
  from runs import comparison
  from runs import pilots as pilots_lib

  return comparison.compare(
    chosen.config,
    chosen.objectives,
    seeds,
    rates,
    clips,
    chosen.sizes,
    overrides,
    os.path.abspath(os.path.expanduser(chosen.workdir)),
    chosen.data_dir,
    command=_command(overrides),
    environment=environment,
    jobs=chosen.jobs,
    cache=chosen.compilation_cache,
    pilot_seeds=pilots,
    kept=pilots_lib.kept(chosen.pilots) if chosen.pilots is not None else None,
    part=_part(chosen.part),
  )


def _part(text: str | None) -> tuple[int, int] | None:
  """'2/3' -> (2, 3)."""
  if text is None:
    return None
  found = re.fullmatch(r'([1-9]\d*)/([1-9]\d*)', text)
  if not found or int(found[1]) > int(found[2]):
    raise UserError(f'--part={text} must be I/N, the I-th of N parts, such as 1/2')
  return int(found[1]), int(found[2])


def _grid(name: str) -> list[float] | None:
  """The values of a flag that is a list of positive numbers; None where it is not given."""
  if flags.FLAGS[name].value is None:
    return None
  values = entry.numbers(name, flags.FLAGS[name].value, float)
  if not all(0 < value < float('inf') for value in values):
    raise UserError(f'--{name} must be above 0 and finite, not {min(values):g}')
  return values


def _command(overrides: Sequence[str]) -> str:
  """The command that makes these results again, without paths of this machine."""
  words = ['python', '-m', 'launch.compare', f'--config={flags.FLAGS.config}', '--workdir=DIR']
  lists = ('objectives', 'seeds', 'learning_rates', 'clip_norms', 'pilot_seeds', 'sizes')
  for name in lists:
    if flags.FLAGS[name].value:
      words.append(f'--{name}={",".join(flags.FLAGS[name].value)}')
  if flags.FLAGS.pilots:
    words.append(f'--pilots={flags.FLAGS.pilots}')
  return shlex.join([*map(_anywhere, words), *map(_anywhere, overrides)])


def _anywhere(word: str) -> str:
  """'--name=/here/F' -> '--name=F'."""
  name, equals, value = word.partition('=')
  return f'{name}{equals}{os.path.basename(value) if os.path.isabs(value) else value}'


def define_flags() -> None:
  flags.DEFINE_string('config', 'experiments/digits.py', 'Config file, without objective.')
  flags.DEFINE_string('workdir', None, 'Directory of the comparison.')
  flags.DEFINE_string('data_dir', '~/tensorflow_datasets', 'Prepared data sets.')
  flags.DEFINE_list(
    'objectives',
    None,
    "Objectives to compare, such as masked,masked+ratio=0.5; default: the config file's COMPARE.",
  )
  flags.DEFINE_list(
    'seeds',
    None,
    "Pretraining seeds; from 5 there are intervals. Default: the config file's SEEDS.",
  )
  flags.DEFINE_list(
    'learning_rates',
    None,
    'A grid; each objective takes the rate with the lowest validation loss of its own. '
    "Default: the config's one rate, printed as untuned.",
  )
  flags.DEFINE_list('clip_norms', None, 'The same for the norm at which gradients are clipped.')
  flags.DEFINE_list(
    'pilot_seeds',
    None,
    'Seeds of runs apart, which choose from these grids; results are trained at the choice alone.',
  )
  flags.DEFINE_string(
    'pilots', None, 'pilots.json of an earlier comparison: its choices are taken, none is trained.'
  )
  flags.DEFINE_list(
    'sizes', None, "Presets of the backbone, each trained and tuned; default: the config's own."
  )
  flags.DEFINE_string(
    'part', None, 'I/N: trains the I-th of N shares of the runs, each machine in its own --workdir.'
  )
  flags.DEFINE_integer(
    'jobs', None, 'Runs at a time; default: one a core on CPU, one in all on accelerators.'
  )
  flags.DEFINE_string(
    'compilation_cache', None, 'Directory of compiled programs; default: WORKDIR/compilation_cache.'
  )


if __name__ == '__main__':
  define_flags()
  entry.run(main, takes_config=True, keeps=True)
