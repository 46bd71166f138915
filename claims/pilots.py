"""Learning rates of the shared sets: every set at every rate, on a seed that no claim uses."""

from collections.abc import Callable
import dataclasses
from functools import partial
import os

import pandas as pd

from claims import running, sets
from claims.running import Places
from claims.sets import Spec
from runs import configs, plan, pool

SEED = 100
GRID = (1e-3, 3e-3, 1e-2, 3e-2)
_AR = ('autoregressive',)
# By the name in `sets.RATES`: the run of an objective, a seed and a budget; the objectives.
SETS: dict[str, tuple[Callable[..., Spec], tuple[str, ...]]] = {
  'digits': (sets.digits, sets.TRAINED),
  'digits_deep': (sets.digits_deep, ('autoregressive', 'masked')),
  'digits_w16': (partial(sets.digits_wide, width=16), _AR),
  'digits_w32': (partial(sets.digits_wide, width=32), _AR),
  'digits_simple': (partial(sets.digits, tuned_as='digits_simple'), ('gaussian_simple',)),
  'digits_shared': (sets.digits_shared, _AR),
  **{
    f'digits_small_{name}': (partial(sets.digits_small, network=name, order='shuffled'), _AR)
    for name in sets.NETWORKS
  },
  'hierarchy': (sets.hierarchy, sets.OF_SYMBOLS),
  'hierarchy_w8': (partial(sets.hierarchy_wide, width=8), _AR),
  'hierarchy_w16': (partial(sets.hierarchy_wide, width=16), _AR),
  'hierarchy_w32': (partial(sets.hierarchy_wide, width=32), _AR),
  'hierarchy_shared': (sets.hierarchy_shared, _AR),
  'hierarchy_tiny': (sets.hierarchy_tiny, _AR),
  'hierarchy_recurrent': (partial(sets.hierarchy_recurrent, state=64), _AR),
  'markov': (sets.markov, ('autoregressive', 'energy')),
  'copy_w8': (partial(sets.copy, width=8), _AR),
  'copy_w16': (partial(sets.copy, width=16), _AR),
  'copy_w32': (partial(sets.copy, width=32), _AR),
  'copy_far': (sets.copy_far, _AR),
  'copy_recurrent': (partial(sets.copy_recurrent, state=128), _AR),
  'repeats': (partial(sets.repeats, repeating='words'), _AR),
  'pairs': (sets.pairs, _AR),
  'retellings': (sets.retellings, _AR),
}


def pilot(name: str, objective: str, rate: float) -> Spec:
  """The full run of a set at one rate, with little measured beside its validation loss."""
  made = SETS[name][0](objective, SEED, 'full')
  ours = ('optimizer.learning_rate=', 'probe.suite=', 'evaluators.probe.', 'evaluation.draws=')
  kept = [text for text in made.overrides if not text.removeprefix('--config.').startswith(ours)]
  little = {
    'optimizer.learning_rate': rate,
    'probe.suite': ('ridge',),
    'evaluation.test': False,
    **sets.NO_PROBE,
  }
  overrides = (*kept, *sets.flags(little))
  return dataclasses.replace(made, overrides=overrides, tags=(('set', name), ('lr', rate)))


def specs(name: str, objective: str) -> list[tuple[float, Spec]]:
  """(rate, run) of one set and objective."""
  return [(rate, pilot(name, objective, rate)) for rate in GRID]


def execute(places: Places, environment: dict[str, str], jobs: int | None) -> list[pool.Failure]:
  """Trains every pilot that is not there yet."""
  runs = {}
  for name, (_, objectives) in SETS.items():
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
  for name, (_, objectives) in SETS.items():
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
    edge = ' (at the edge of the grid)' if rate in (min(GRID), max(GRID)) else ''
    lines.append(f'{name} {objective}: {rate:g}{edge}')
  return '\n'.join(lines)
