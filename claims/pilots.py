"""Learning rates of the shared sets, on a seed that no claim uses."""

import os

import pandas as pd

from claims import running, sets
from claims.running import Places
from claims.sets import Spec
from runs import configs, plan, pool


def specs(name: str, objective: str) -> list[tuple[float, Spec]]:
  """(rate, run) of one set and objective."""
  return [(rate, sets.pilot(name, objective, rate)) for rate in sets.GRID]


def execute(places: Places, environment: dict[str, str], jobs: int | None) -> list[pool.Failure]:
  """Trains every pilot that is not there yet."""
  runs = {}
  for name, (_, objectives) in sets.PILOTS.items():
    for objective in objectives:
      for _, spec in specs(name, objective):
        planned = running.planned_run(spec, places)
        runs[planned.workdir] = planned
  plan.write_manifest(list(runs.values()), places.workdir)
  cache = os.path.join(places.workdir, 'compilation_cache')
  environment = pool.with_cache(environment, cache)
  return pool.run_all(list(runs.values()), environment, jobs, running.timed(runs, pool.trained))


def losses(places: Places) -> pd.DataFrame:
  """The last validation loss of every pilot that is finished; columns as `sets.TRIED` has."""
  rows = []
  for name, (_, objectives) in sets.PILOTS.items():
    for objective in objectives:
      for rate, spec in specs(name, objective):
        record = configs.read_record(running.planned_run(spec, places).workdir)
        if record is not None:
          loss = round(record['validation']['loss'], 4)
          rows.append((name, objective, rate, loss))
  return pd.DataFrame(rows, columns=('set', 'objective', 'learning_rate', 'validation_loss'))


def text(found: pd.DataFrame) -> str:
  """A line a set and objective: the rate of the lowest loss, and whether others would be tried."""
  lines = []
  for (name, objective), rate in sets.chosen(found).items():
    edge = ' (at the edge of the grid)' if rate in (min(sets.GRID), max(sets.GRID)) else ''
    lines.append(f'{name} {objective}: {rate:g}{edge}')
  return '\n'.join(lines)
