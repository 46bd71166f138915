"""From a plan to rows: training runs and pieces as processes side by side, resumed where they were.

WORKDIR/runs/NAME-DIGEST      a training run, shared by all claims that ask for its settings
WORKDIR/pieces/NAME-DIGEST    rows.csv of a piece
WORKDIR/claims/NAME           records of a budget, once everything is there, and their figure
"""

from collections.abc import Callable, Iterable, Sequence
import dataclasses
import functools
import hashlib
import json
import os
import pathlib
import sys
import time
from typing import Any

from claims import records
from claims.base import Claim, Finished, Piece, Plan, Row, Work
from claims.sets import Spec
from runs import checks, configs, plan, pool
from runs.errors import UserError


@dataclasses.dataclass(frozen=True)
class Places:
  """Where a command reads and writes."""

  workdir: str
  data_dir: str
  budget: str


@dataclasses.dataclass(frozen=True)
class PlannedPiece:
  """One process to start, as `runs.pool` takes it."""

  name: str
  workdir: str
  command: list[str]
  steps: int = 0

  @property
  def log(self) -> str:
    return os.path.join(self.workdir, 'log.txt')

  @property
  def rows(self) -> pathlib.Path:
    return pathlib.Path(self.workdir, 'rows.csv')


def _digest(*content: Any) -> str:
  text = json.dumps(content, sort_keys=True, default=str)
  return hashlib.sha256(text.encode()).hexdigest()[:10]


@functools.cache
def planned_run(spec: Spec, places: Places) -> plan.PlannedRun:
  """The process of a training run.

  Its directory follows from its config file, its objective and where it differs from what the file
  says: fields that are younger than a run do not move it.

  Raises:
    UserError: settings that can't be, in one line.
  """
  path = records.ROOT / 'experiments' / f'{spec.config}.py'
  config = configs.load(str(path), spec.objective, spec.overrides)
  checks.check_run(config)
  plain = dict(configs.fields(configs.load(str(path), spec.objective, ())))
  asked = {n: value for n, value in configs.fields(config) if plain.get(n) != value}
  name = f'{spec.name}-{_digest(spec.config, spec.objective, asked)}'
  workdir = os.path.join(places.workdir, 'runs', name)
  command = [sys.executable, '-m', 'launch.train', f'--config={path}:{spec.objective}']
  command += [f'--workdir={workdir}', f'--data_dir={places.data_dir}', *spec.overrides]
  return plan.PlannedRun(name, workdir, config, command)


def check_finished(planned: plan.PlannedRun) -> None:
  """UserError if a finished run had other settings than are asked for now.

  Settings of probes that it does not fit are of no account; a run that is not finished is checked
  where it goes on.
  """
  if configs.read_record(planned.workdir) is None:
    return
  suite = planned.config.probe.suite
  idle = tuple(f'probe.{name}.' for name in planned.config.probe if name not in suite)
  saved = dict(configs.fields(configs.from_plain(configs.read_saved(planned.workdir)['config'])))
  asked = dict(configs.fields(configs.from_plain(configs.plain(planned.config))))
  for field in sorted(saved.keys() | asked.keys()):
    if saved.get(field) != asked.get(field) and not field.startswith(idle):
      raise UserError(
        f'{planned.workdir} was trained with {field} {saved.get(field)}, now it is '
        f'{asked.get(field)}: move it away to train it again'
      )


def planned_piece(claim: Claim, piece: Piece, places: Places) -> PlannedPiece:
  """The process of a piece; its directory follows from its function, settings and runs."""
  runs = [planned_run(spec, places).name for spec in piece.of]
  function = f'{piece.make.__module__}.{piece.make.__qualname__}'
  name = f'{claim.name}-{piece.name}-{_digest(function, dict(piece.settings), runs)}'
  command = [sys.executable, '-m', 'launch.claims', f'--claim={claim.name}', f'--piece={name}']
  command += [f'--workdir={places.workdir}', f'--data_dir={places.data_dir}']
  command += [f'--budget={places.budget}']
  return PlannedPiece(name, os.path.join(places.workdir, 'pieces', name), command)


def run_piece(claim: Claim, name: str, places: Places) -> None:
  """Computes one piece and writes its rows; UserError if the plan has none of this name."""
  for piece in claim.plan(places.budget).pieces:
    planned = planned_piece(claim, piece, places)
    if planned.name == name:
      work = Work(tuple(finished(spec, places) for spec in piece.of), places.data_dir)
      records.write(planned.rows, records.to_csv(piece.make(work, **piece.settings)))
      return
  raise UserError(f'--piece={name}: {claim.name} has no such piece at this budget')


def finished(spec: Spec, places: Places) -> Finished:
  return Finished(spec, planned_run(spec, places).workdir)


def coded_piece(planned: PlannedPiece) -> str | None:
  """One line on a piece whose rows are there, None while they are not."""
  return f'{planned.name}: rows are there' if planned.rows.is_file() else None


def execute(
  chosen: Sequence[Claim], places: Places, environment: dict[str, str], jobs: int | None
) -> list[pool.Failure]:
  """Runs everything that the plans of some claims ask for, each thing once."""
  plans = {claim.name: claim.plan(places.budget) for claim in chosen}
  runs = {}
  for spec in (spec for made in plans.values() for spec in made.all_runs):
    planned = planned_run(spec, places)
    runs.setdefault(planned.workdir, planned)
  for planned in runs.values():
    check_finished(planned)
  pieces = {}
  for claim in chosen:
    for piece in plans[claim.name].pieces:
      planned = planned_piece(claim, piece, places)
      if planned.workdir in pieces:
        raise UserError(f'{claim.name} has two pieces {piece.name} of the same settings')
      pieces[planned.workdir] = planned
  print(f'{len(chosen)} claims, {places.budget}: {len(runs)} training runs, {len(pieces)} pieces')
  untuned = _untuned(plans.values())
  if untuned:
    print(f'untuned, at the rate of the config: {", ".join(untuned)}')
  cache = os.path.join(places.workdir, 'compilation_cache')
  environment = pool.with_cache(environment, cache)
  failures = []
  if runs:
    plan.write_manifest(list(runs.values()), places.workdir)
    failures += pool.run_all(list(runs.values()), environment, jobs, timed(runs, pool.trained))
  if pieces:
    failures += pool.run_all(list(pieces.values()), environment, jobs, timed(pieces, coded_piece))
  return failures


def _untuned(plans: Iterable[Plan]) -> list[str]:
  every = (spec for made in plans for spec in made.all_runs)
  return list(dict.fromkeys(f'{s.config} {s.objective}' for s in every if not s.tuned))


def timed(
  planned: dict[str, Any], done: Callable[[Any], str | None]
) -> Callable[[Any], str | None]:
  """`done` whose lines say, of what was finished now, how long the rest will take at this pace."""
  began, asked, before, ended = time.monotonic(), set(), set(), set()

  def line(one: Any) -> str | None:
    first = one.workdir not in asked  # Before any of them is started.
    asked.add(one.workdir)
    text = done(one)
    if text is not None:
      (before if first else ended).add(one.workdir)
    if text is None or one.workdir in before:
      return text
    left = len(planned) - len(before) - len(ended)
    minutes = (time.monotonic() - began) / len(ended) * left / 60
    return f'{text}; {minutes:.0f} min left' if left else text

  return line


def missing(claim: Claim, places: Places) -> list[str]:
  """What a claim's plan asks for and is not there: names of runs and pieces."""
  made = claim.plan(places.budget)
  names = [
    one.name
    for one in (planned_run(spec, places) for spec in made.all_runs)
    if configs.read_record(one.workdir) is None
  ]
  pieces = (planned_piece(claim, piece, places) for piece in made.pieces)
  return names + [piece.name for piece in pieces if not piece.rows.is_file()]


def gather(claim: Claim, places: Places) -> pathlib.Path:
  """Writes all rows of a claim, WORKDIR/claims/NAME/BUDGET.csv and .json, and says where.

  Raises:
    UserError: something of its plan is not there.
  """
  lacking = missing(claim, places)
  if lacking:
    raise UserError(
      f'{claim.name}: {len(lacking)} runs and pieces are not there, such as {lacking[0]}'
    )
  made = claim.plan(places.budget)
  rows: list[Row] = []
  for one in (finished(spec, places) for spec in made.runs if claim.read):
    rows += [one.spec.columns | row for row in claim.read(one)]
  for piece in made.pieces:
    frame = records.read_csv(planned_piece(claim, piece, places).rows)
    rows += frame.astype(object).where(frame.notna(), None).to_dict('records')
  path = pathlib.Path(places.workdir, 'claims', claim.name, f'{places.budget}.csv')
  every = [finished(spec, places) for spec in made.all_runs]
  about = records.describe(places.budget, every, len(made.pieces))
  records.write(path.with_suffix('.json'), json.dumps(about, indent=1) + '\n')
  records.write(path, records.to_csv(rows))
  return path
