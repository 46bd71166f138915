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

from reports import choice, comparison_files, summary
from reports.comparison_files import PLAN
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
  notes: Sequence[str],
) -> dict[str, Any]:
  """Writes the plan; after the first result an earlier one stays, and another is put behind it.

  Args:
    runs: the results, all of them, also where this machine trains a share.
    workdir: of the comparison.
    command, rates, clips, pilot_seeds: as in `comparison.compare`.
    notes: of the plan, for the reader of the report.

  Returns:
    What the plan says, for `choose`.

  Raises:
    ReportError: an earlier plan cannot be read.
  """
  path = os.path.join(workdir, PLAN)
  pattern = os.path.join(glob.escape(workdir), 'runs', '*', 'run.json')
  before = len(glob.glob(pattern))
  earlier = comparison_files.plans_of(path) if before and os.path.lexists(path) else []
  grids = {'learning_rates': list(rates or ()), 'clip_norms': list(clips or ())}
  made: dict[str, Any] = {
    'rows': list({run.kind: _row(run, grids) for run in runs}.values()),
    'replicates': _once([_replicate(run) for run in runs]),
    **grids,
    'pilot_seeds': list(pilot_seeds or ()),
    'primary': dict(zip(('probe', 'labels'), summary.PRIMARY, strict=True)),
  }
  said = dict(made)
  if any(comparison_files.same_plan(one, said, said) for one in earlier):
    return said
  now = datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds')
  made |= {'command': command, 'notes': list(notes), 'written': now, 'results_before': before}
  made['chosen'] = []  # Until pilots have.
  os.makedirs(workdir, exist_ok=True)
  write_atomically(path, json.dumps({'plans': [*earlier, made]}, indent=1) + '\n')
  return said


def choose(said: Mapping[str, Any], runs: Sequence[plan.PlannedRun], workdir: str) -> None:
  """Adds to the plan at what its runs are, once pilots have chosen; `said` as `write` gave it."""
  path = os.path.join(workdir, PLAN)
  rows = []
  for run in {run.kind: run for run in runs if run.steps}.values():
    tuning = {name: run.config.optimizer[name] for name in choice.GRID}
    rows.append({'objective': run.objective, 'size': sizes.name(run.config.model)} | tuning)
  plans = comparison_files.plans_of(path)
  same = [one for one in plans if comparison_files.same_plan(one, said, said)]
  if not same:
    raise UserError(f'{path} is not what it was when this comparison began: its plan is gone')
  for one in same:
    one['chosen'] = rows
  write_atomically(path, json.dumps({'plans': plans}, indent=1) + '\n')


def _row(run: plan.PlannedRun, grids: Mapping[str, Sequence]) -> dict[str, Any]:
  """An objective as reports name it, its size, its updates, and the config's rate and clip norm;
  None where a grid has them or nothing is trained."""
  row = {'objective': run.objective, 'size': sizes.name(run.config.model), 'steps': run.steps}
  of_config = [name for name in choice.GRID if run.steps and not grids[f'{name}s']]
  return row | {n: run.config.optimizer[n] if n in of_config else None for n in choice.GRID}


def _replicate(run: plan.PlannedRun) -> dict[str, Any]:
  grammar = choice.grammar_of({'settings_of_data': experiment.source(run.config)})
  return {'grammar': grammar, 'seed': run.config.training.seed}


def _once(values: Sequence[dict]) -> list[dict]:
  return [value for place, value in enumerate(values) if value not in values[:place]]
