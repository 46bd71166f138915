"""Learning rates of the shared sets, on a seed that no claim uses."""

import os

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


def losses(name: str, objective: str, places: Places) -> dict[float, float]:
  """Rate -> validation loss at the last step of every pilot that is finished."""
  found = {}
  for rate, spec in specs(name, objective):
    record = configs.read_record(running.planned_run(spec, places).workdir)
    if record is not None:
      found[rate] = record['validation']['loss']
  return found


def text(places: Places) -> str:
  """A line a set and objective: the losses by rate, and the lowest as a line of `sets.RATES`."""
  lines = []
  for name, (_, objectives) in sets.PILOTS.items():
    for objective in objectives:
      found = losses(name, objective, places)
      if not found:
        continue
      best = min(found, key=found.get)
      shown = ', '.join(f'{rate:g}: {loss:.4f}' for rate, loss in found.items())
      edge = ' (at the edge of the grid)' if best in (min(found), max(found)) else ''
      lines.append(f"('{name}', '{objective}'): {best:g},  # {shown}{edge}")
  return '\n'.join(lines)
