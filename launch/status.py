"""How far every run of a comparison or a sweep is.

python -m launch.status DIR

State of a run: done, if it left its record; else what it, or the process that started it, last
said in state.json: preempted (stopped on request: the same command goes on), failed, running. A
run that says it runs but has written nothing for --silent_minutes is `silent`: killed, or in a
long compilation or evaluation; from here that looks the same. `waiting`: planned (sweep.json),
never started. Time left is of training alone.
"""

from collections.abc import Sequence
import time

from absl import flags

from launch import entry
from runs.errors import UserError


def define_flags() -> None:
  flags.DEFINE_float('silent_minutes', 10.0, 'A running run silent for longer is suspect.')


def main(argv: Sequence[str]) -> None:
  """Prints a line a run, and how many are done."""
  from reports import status

  if len(argv) != 2:
    raise UserError('one directory is needed: python -m launch.status DIR')
  print(status.table(status.survey(argv[1], flags.FLAGS.silent_minutes * 60, time.time())))


if __name__ == '__main__':
  define_flags()
  entry.run(main)
