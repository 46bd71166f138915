r"""Runs and judges the statements of the theory.

  python -m launch.claims --list
  python -m launch.claims --claim=NAME,... --workdir=DIR [--budget=quick]
  python -m launch.claims --all --workdir=DIR
  python -m launch.claims --claim=NAME --judge

Training runs and evaluations are processes of their own, each in its directory below DIR; what is
finished is recognised, what was interrupted goes on, and what several claims ask for runs once. A
quick budget is for trying: it gives no verdict. --judge reads the committed records and trains
nothing. --publish takes over full records from DIR and writes experiments/results/claims and
docs/claims.md; without --workdir it writes both pages again. --pilots tunes the learning rates of
the runs that claims share.
"""

from collections.abc import Sequence
import os

from absl import flags

from launch import entry
from runs.errors import UserError

_MODES = ('list', 'judge', 'publish', 'pilots')


def main(argv: Sequence[str]) -> int | None:
  entry.no_arguments(argv)
  chosen = flags.FLAGS
  modes = [name for name in _MODES if chosen[name].value]
  if len(modes) > 1:
    raise UserError(f'--{modes[0]} and --{modes[1]} are two things: give one')
  mode = modes[0] if modes else ''
  if chosen.all and chosen.claim:
    raise UserError('--all and --claim: give one')
  if mode in ('', 'judge') and not (chosen.all or chosen.claim):
    raise UserError('name claims, --claim=NAME,..., or --all; --list shows them')
  if mode in ('', 'pilots') and chosen.workdir is None:
    raise UserError('--workdir=DIR is needed')
  if chosen.jobs is not None and chosen.jobs < 1:
    raise UserError(f'--jobs must be at least 1, not {chosen.jobs}')
  if mode == 'publish' and chosen.budget == 'quick':
    raise UserError('--publish: a quick budget has no verdict')
  environment = dict(os.environ)
  if not chosen.piece:
    # This process only reads and judges; accelerators are left to the runs.
    os.environ['JAX_PLATFORMS'] = 'cpu'
  from claims import CLAIMS, command, running

  names = chosen.claim or [str(number) for number in CLAIMS]
  claims = command.find(names)
  places = None
  if chosen.workdir is not None:
    workdir = os.path.abspath(os.path.expanduser(chosen.workdir))
    places = running.Places(workdir, chosen.data_dir, chosen.budget)
  if chosen.piece:
    return running.run_piece(claims[0], chosen.piece, places)
  if mode == 'list':
    return command.listing()
  if mode == 'judge':
    return command.judge(claims)
  if mode == 'publish':
    return command.publish(claims, places)
  if mode == 'pilots':
    return command.tune(places, environment, chosen.jobs)
  return command.run(claims, places, environment, chosen.jobs)


def define_flags() -> None:
  flags.DEFINE_bool('list', False, 'Show every statement and its outcome.')
  flags.DEFINE_list('claim', [], 'Names or numbers of claims.')
  flags.DEFINE_bool('all', False, 'All claims that are written.')
  flags.DEFINE_string('workdir', None, 'Directory of runs, pieces and records.')
  flags.DEFINE_string('data_dir', '~/tensorflow_datasets', 'Prepared data sets.')
  flags.DEFINE_enum('budget', 'full', ['quick', 'full'], 'quick: minutes, and no verdict.')
  flags.DEFINE_bool('judge', False, 'Judge the committed records; nothing is trained.')
  flags.DEFINE_bool('publish', False, 'Take over records of --workdir; write both pages.')
  flags.DEFINE_bool('pilots', False, 'Tune the learning rates of shared runs.')
  flags.DEFINE_integer('jobs', None, 'Processes at a time; default: one a core on CPU.')
  flags.DEFINE_string('piece', '', 'Internal: compute one piece of a claim and end.')


if __name__ == '__main__':
  define_flags()
  entry.run(main, keeps=True)
