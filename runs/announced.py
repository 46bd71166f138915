"""WORKDIR/plan.json: what a comparison is going to measure, written before its first result.

Who adds seeds until a difference shows, or stops at one, gets differences where there are none.
So reports hold a comparison against this file (`reports.planned`): until all of it is done there is
no verdict, and what was added once results were there is said.
"""

from collections.abc import Mapping, Sequence
import datetime
import glob
import json
import os
from typing import Any

from reports import choice, reading, summary
from runs import experiment, plan, sizes
from runs.errors import UserError
from training.metrics import write_atomically


def write(
  runs: Sequence[plan.PlannedRun],
  workdir: str,
  *,
  command: str,
  rates: Sequence[float] | None,
  clips: Sequence[float] | None,
  pilot_seeds: Sequence[int] | None,
  sizes: Sequence[str] | None,
  notes: Sequence[str],
) -> None:
  """Writes the plan; after the first result an earlier one stays, and another is put behind it.

  Args:
    runs: the results, all of them, also where this machine trains a share.
    workdir: of the comparison.
    command, rates, clips, pilot_seeds, sizes: as in `comparison.compare`.
    notes: of the plan, for the reader of the report.
  """
  path = os.path.join(workdir, reading.PLAN)
  pattern = os.path.join(glob.escape(workdir), 'runs', '*', 'run.json')
  before = len(glob.glob(pattern))
  earlier = reading.read_json(path).get('plans') if before and os.path.exists(path) else []
  if not isinstance(earlier, list):
    raise UserError(f'{path} can not be read, and it says what was planned before the results')
  grids = {'learning_rates': list(rates or ()), 'clip_norms': list(clips or ())}
  made: dict[str, Any] = {
    'rows': list({run.kind: _row(run, bool(sizes)) for run in runs}.values()),
    'replicates': _once([_replicate(run) for run in runs]),
    **grids,
    'pilot_seeds': list(pilot_seeds or ()),
    'primary': dict(zip(('probe', 'labels'), summary.PRIMARY, strict=True)),
  }
  if any(_same(one, made) for one in earlier):
    return
  now = datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds')
  made |= {'command': command, 'notes': list(notes), 'written': now, 'results_before': before}
  os.makedirs(workdir, exist_ok=True)
  write_atomically(path, json.dumps({'plans': [*earlier, made]}, indent=1) + '\n')


def _row(run: plan.PlannedRun, sized: bool) -> dict[str, Any]:
  """An objective as reports name it, its size (None: nobody asked for it; then `of_size` has it),
  its updates."""
  name = ' '.join(filter(None, (run.config.objective.name, run.config.variant)))
  size = sizes.name(run.config.model)
  row = {'objective': name, 'size': size if sized else None, 'steps': run.steps}
  return row if sized else row | {'of_size': size}


def _same(earlier: Mapping[str, Any], made: Mapping[str, Any]) -> bool:
  """Whether an earlier plan is this one; earlier versions did not write `of_size`."""
  if any(earlier.get(name) != value for name, value in made.items() if name != 'rows'):
    return False
  rows, own = earlier.get('rows', []), made['rows']
  return len(rows) == len(own) and all(
    {**new, **old} == new for old, new in zip(rows, own, strict=True)
  )


def _replicate(run: plan.PlannedRun) -> dict[str, Any]:
  grammar = choice.grammar_of({'settings_of_data': experiment.source(run.config)})
  return {'grammar': grammar, 'seed': run.config.training.seed}


def _once(values: Sequence[dict]) -> list[dict]:
  return [value for place, value in enumerate(values) if value not in values[:place]]
