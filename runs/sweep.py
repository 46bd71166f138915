"""The points of a grid, and the runs of every point."""

from collections.abc import Sequence
import dataclasses
import itertools
import json
import os
import re
import shlex
import sys

from runs import configs, lock, plan, pool
from runs.errors import UserError


def _values(text: str) -> list[str]:
  """'1,2' -> 1 and 2; commas inside brackets belong to a value: "('a','b'),()" are two."""
  values, depth = [''], 0
  for letter in text:
    depth += (letter in '([{') - (letter in ')]}')
    if letter == ',' and depth == 0:
      values.append('')
    else:
      values[-1] += letter
  return values


def expand(grid: Sequence[str]) -> list[tuple[str, tuple[str, ...]]]:
  """('config.a.b=1,2', ...) -> (directory, overrides) of every point; [('', ())] without a grid."""
  axes, seen = [], set()
  for axis in grid:
    found = re.fullmatch(r'(?:--)?(config\.[\w.]+)=(.+)', axis)
    if not found:
      raise UserError(f'--grid={axis} must be config.FIELD=VALUE,VALUE,...')
    field, values = found[1], _values(found[2])
    name = field.rsplit('.', 1)[1]
    labels = [f'{name}{re.sub(r"[^A-Za-z0-9_.+-]+", "_", value)}' for value in values]
    if field in seen or len(set(labels)) != len(labels) or '' in values:
      raise UserError(f'--grid={axis}: every field once, and every value once, told apart by name')
    if field == 'config.training.seed':
      raise UserError('--grid=config.training.seed: give --seeds')
    seen.add(field)
    axes.append(
      [(label, f'--{field}={value}') for label, value in zip(labels, values, strict=True)]
    )
  points = [tuple(zip(*point, strict=True)) for point in itertools.product(*axes)]
  return [('-'.join(point[0]), point[1]) if point else ('', ()) for point in points]


def planned(
  path: str,
  objectives: Sequence[str] | None,
  seeds: Sequence[int] | None,
  sizes: Sequence[str] | None,
  grid: Sequence[str],
  overrides: Sequence[str],
  workdir: str,
  data_dir: str,
  build: bool,
) -> list[plan.PlannedRun]:
  """Every run of every point, as `plan.make` of each; what it has to say goes to stderr."""
  runs, points = [], {}
  if not build:
    print('the data is not looked at: a run that does not suit it fails there', file=sys.stderr)
  for point, fields in expand(grid):
    where = '/'.join(part for part in (workdir.rstrip('/'), point) if part)
    some, notes = plan.make(
      path,
      objectives,
      seeds,
      None,
      [*overrides, *fields],
      where,
      data_dir,
      sizes=sizes,
      build=build,
    )
    for note in notes:
      print(note, file=sys.stderr)
    for run in some:
      same = points.setdefault(json.dumps(configs.plain(run.config), sort_keys=True), point)
      if same != point:
        raise UserError(f'--grid: {same} and {point} are the same run, {run.name}')
    label = f'{point}/' if point else ''
    runs += [dataclasses.replace(run, name=f'{label}{run.name}') for run in some]
  return runs


def run_here(
  runs: Sequence[plan.PlannedRun],
  workdir: str,
  environment: dict[str, str],
  jobs: int | None,
  dry_run: bool,
) -> int:
  """Runs everything on this machine, or prints the commands; returns the exit code."""
  if dry_run:
    for run in runs:
      print(shlex.join(run.command))
    return 0
  with lock.held(workdir):
    plan.write_manifest(runs, workdir)
    cache = os.path.join(workdir, 'compilation_cache')
    failures = pool.run_all(runs, pool.with_cache(environment, cache), jobs)
    code = pool.tell_failures(failures)
    print(f'{len(runs) - len(failures)} of {len(runs)} runs are done: {workdir}')
  return code
