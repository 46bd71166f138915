"""Pilot runs, by which each objective chooses its learning rate and clip norm.

No result includes their seeds. They stand in WORKDIR/pilots, and no report averages them.
WORKDIR/pilots.json says what was tried and chosen; reports read it. Kept beside results, it chooses
for a comparison that trains no pilots of its own.
"""

from collections.abc import Collection, Mapping, Sequence
import dataclasses
import json
import math
import os
import pathlib
from typing import Any

from reports import choice, compute, finding, reading
from reports.comparison_files import PILOTS
from runs import experiment, plan, sizes
from runs.errors import UserError
from training.metrics import write_atomically

_GRIDS = tuple(f'{name}s' for name in choice.GRID)
# What a pilot leaves out: the choice is by validation loss alone.
_OVERRIDES = (
  '--config.probe.suite=()',
  '--config.evaluators.probe.every=0',
  '--config.evaluators.label_code.every=0',
  '--config.evaluators.samples.every=0',
  '--config.probe.levels=False',
  '--config.evaluation.samples=0',
  '--config.evaluation.test=False',
)


@dataclasses.dataclass(frozen=True)
class Asked:
  """What a comparison asked of its pilots, as it was given; None for what was not."""

  learning_rates: Sequence[float] | None
  clip_norms: Sequence[float] | None
  pilot_seeds: Sequence[int]


@dataclasses.dataclass(frozen=True)
class Kept:
  """What pilots of an earlier comparison chose: its pilots.json.

  Attributes:
    path: of the file.
    found: what it holds.
  """

  path: str
  found: Mapping[str, Any]

  @property
  def asked(self) -> Asked:
    """What that comparison asked; what its rows had to choose from where the file does not say."""
    if 'asked' in self.found:
      return Asked(**self.found['asked'])
    rows = self.found[PILOTS]
    grids = ([row[f'{name}s'] for row in rows] for name in choice.GRID)
    searched = (sorted({one for grid in own if len(grid) > 1 for one in grid}) for own in grids)
    seeds = sorted({one['seed'] for row in rows for one in row['tried']})
    return Asked(*(grid or None for grid in searched), seeds)

  def tuned(self, runs: Sequence[plan.PlannedRun]) -> dict[str, plan.Tuning]:
    """`PlannedRun.tuning` by `PlannedRun.kind`; what was not searched is left to the config.

    Raises:
      UserError: there is no choice for one of `runs`, or a result has the seed of a pilot.
    """
    rows = {(row['objective'], row['size']): row for row in self.found[PILOTS]}
    told = {name for row in rows.values() for name in row['of']}
    tuned = {}
    for run in runs:
      if not run.steps:
        continue
      name = run.objective
      size = sizes.name(run.config.model)
      if (name, size) not in rows:
        raise UserError(f'--pilots={self.path} chose nothing for {name} ({size})')
      _refuse({_replicate(run)} if choice.replicate_text(_replicate(run)) in told else ())
      tuned[run.kind] = tuple(self._field(rows[name, size], run, field) for field in choice.GRID)
    return tuned

  def _field(self, row: Mapping[str, Any], run: plan.PlannedRun, field: str) -> float | None:
    own = run.config.optimizer[field]
    if getattr(self.asked, f'{field}s'):
      return row[field]
    if row[field] != own:
      raise UserError(
        f'--pilots={self.path}: {field} was {row[field]:g} in all pilots of {run.kind}, here it is '
        f'{own:g}: give --config.optimizer.{field}={row[field]:g}'
      )
    return None

  def write(self, workdir: str, runs: Sequence[plan.PlannedRun]) -> None:
    """WORKDIR/pilots.json; UserError where there is one that chose otherwise for these runs."""
    path = os.path.join(workdir, f'{PILOTS}.json')
    if not os.path.exists(path):
      os.makedirs(workdir, exist_ok=True)
      write_atomically(path, json.dumps(self.found, indent=1) + '\n')
      return
    planned = {(run.objective, sizes.name(run.config.model)) for run in runs if run.steps}
    rows = [
      [row for row in found.get(PILOTS, ()) if _is_row(row) and _kind(row) in planned]
      for found in (self.found, reading.read_json(path))
    ]
    if not all(row in rows[1] for row in rows[0]):
      raise UserError(f'{path} is of other pilots than --pilots={self.path}: use another --workdir')


def kept(path: str) -> Kept:
  """Reads the pilots.json of an earlier comparison; UserError for anything else."""
  found = reading.read_json(path)
  rows, notes = found.get(PILOTS), found.get('notes', [])
  if not isinstance(rows, list) or not rows:
    raise UserError(f'--pilots={path} is no pilots.json')
  if not all(map(_is_row, rows)) or not isinstance(notes, list):
    raise UserError(f'--pilots={path} is no pilots.json of this version, or damaged')
  names = [(row['objective'], row['size']) for row in rows]
  if len(set(names)) < len(names):
    raise UserError(f'--pilots={path} has two choices for one objective and size')
  if 'asked' in found and not _is_asked(found['asked']):
    raise UserError(f'--pilots={path} does not say what was asked of its pilots')
  return Kept(path, found)


def _is_row(row: Any) -> bool:
  if not isinstance(row, dict):
    return False
  tried, of = row.get('tried'), row.get('of')
  return (
    all(isinstance(row.get(name), str) for name in ('objective', 'size'))
    and all(_is_grid(row.get(f'{name}s')) and row.get(name) in row[f'{name}s']
            for name in choice.GRID)
    and isinstance(of, list) and bool(of) and all(isinstance(one, str) for one in of)
    and isinstance(tried, list) and bool(tried)
    and all(isinstance(one, dict) and type(one.get('seed')) is int for one in tried)
  )  # fmt: skip


def _is_asked(asked: Any) -> bool:
  if not isinstance(asked, dict) or set(asked) != {*_GRIDS, 'pilot_seeds'}:
    return False
  seeds = asked['pilot_seeds']
  whole = isinstance(seeds, list) and bool(seeds) and all(type(one) is int for one in seeds)
  grids = [asked[name] for name in _GRIDS]
  return whole and any(grids) and all(grid is None or _is_grid(grid) for grid in grids)


def _is_grid(values: Any) -> bool:
  return isinstance(values, list) and bool(values) and all(
    type(value) in (int, float) and 0 < value < math.inf for value in values
  )  # fmt: skip


def overrides(given: Sequence[str]) -> list[str]:
  """Those of a comparison as its pilots have them; tuples given twice would be joined."""
  own = tuple(text.split('=')[0] + '=' for text in _OVERRIDES)
  return [text for text in given if not text.startswith(own)] + list(_OVERRIDES)


def directory(workdir: str) -> str:
  """Where the pilots of a comparison are."""
  return os.path.join(workdir, PILOTS)


def refuse_results(pilots: Sequence[plan.PlannedRun], results: Sequence[plan.PlannedRun]) -> None:
  """UserError where a pilot would have the seed and the draw of the data of a result.

  It starts from the same parameters and sees the same batches, also where it is shorter.
  """
  _refuse(set(map(_replicate, pilots)) & set(map(_replicate, results)))


def _refuse(both: Collection[choice.Replicate]) -> None:
  if both:
    first = choice.replicate_text(min(both, key=choice.replicate_order))
    raise UserError(f'{first} is a pilot and among the results; pilots must not be')


def _replicate(run: plan.PlannedRun) -> choice.Replicate:
  source = {'settings_of_data': experiment.source(run.config)}
  return choice.replicate(source | {'seed': run.config.training.seed})


def choose(
  runs: Sequence[plan.PlannedRun], workdir: str, asked: Asked
) -> tuple[dict[str, plan.Tuning], list[str]]:
  """Reads finished pilots, writes WORKDIR/pilots.json.

  Args:
    runs: the pilots, as planned.
    workdir: of the comparison.
    asked: what the grid was given as.

  Returns:
    `PlannedRun.tuning` by `PlannedRun.kind`, and notes: as of `choice.select`, on pilots that
    failed, and on those of an earlier plan, which choose nothing.

  Raises:
    UserError: a kind of run has no finished pilot.
  """
  found, lost = [], []
  for run in runs:
    record = finding.read_run(run.workdir)
    if record is None:
      lost.append(run)
    else:
      found.append((run, record))
  missing = {run.kind for run in runs} - {run.kind for run, _ in found}
  if missing:
    raise UserError(f'no pilot of {", ".join(sorted(missing))} is finished; see {workdir}/pilots')
  records = [record for _, record in found]
  notes = choice.select(records, [reading.config_of(run.workdir) for run in lost])
  notes += [f'{run.name} has no result: it failed' for run in lost]
  earlier, chosen, rows = _earlier(runs, workdir), {}, []
  for run, record in found:
    if record['selected'] and run.kind not in chosen:
      chosen[run.kind] = run.tuning
      planned = [other for other in runs if other.kind == run.kind]
      alike = [other for planned, other in found if planned.kind == run.kind]
      beside = [one for one in earlier if _kind(one) == _kind(record)]
      rows.append(_row(record, planned, alike, beside))
      if beside:
        words = sorted({choice.tuning_text(choice.tuning_of(one)) for one in beside})
        notes.append(
          f'{record["objective"]} ({record["size"]}): other pilots were tried and chose nothing: '
          + '; '.join(words)
        )
  notes = [f'pilots: {note}' for note in notes]
  path = os.path.join(workdir, f'{PILOTS}.json')
  others, said = _of_others(path, [_kind(row) for row in rows])
  found = {'pilots': reading.plain([*others, *rows]), 'notes': list(dict.fromkeys(said + notes))}
  if not others:  # Else the rows say what each of them had to choose from.
    found['asked'] = dataclasses.asdict(asked)
  write_atomically(path, json.dumps(found, indent=1) + '\n')
  return chosen, notes


def _of_others(path: str, kinds: Collection[tuple[str, str]]) -> tuple[list[dict], list[str]]:
  """What pilots.json says of other kinds of runs than these, which a later call did not plan."""
  found = reading.read_json(path)
  rows, notes = found.get(PILOTS), found.get('notes', [])
  if not isinstance(rows, list) or not isinstance(notes, list):
    return [], []
  rows = [row for row in rows if _is_row(row) and _kind(row) not in kinds]
  names = [f'{row["objective"]} ({row["size"]})' for row in rows]
  about = tuple(f'pilots: {name}: ' for name in names)
  told = [note for note in notes if isinstance(note, str) and note.startswith(about)]
  for name, row in zip(names, rows, strict=True):  # What is told of several at once.
    tried = set(map(choice.tuning_of, row['tried']))
    told += [f'pilots: {note}' for note in choice.edges(name, choice.tuning_of(row), tried)]
  return rows, told


def _row(
  chosen: Mapping[str, Any],
  planned: Sequence[plan.PlannedRun],
  alike: Sequence[Mapping[str, Any]],
  beside: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
  """What pilots.json says of one kind of run.

  Args:
    chosen: a record of the choice.
    planned: the grid.
    alike: records of its finished runs.
    beside: records of other pilots of this kind.
  """
  row = {name: chosen[name] for name in ('objective', 'size', *choice.GRID)}
  row |= {f'{name}s': sorted({one.config.optimizer[name] for one in planned})
          for name in choice.GRID}  # fmt: skip
  kinds = sorted({choice.replicate(one) for one in alike}, key=choice.replicate_order)
  row['of'] = list(map(choice.replicate_text, kinds))
  row['tried'] = [
    {name: one[name] for name in (*choice.GRID, 'seed')}
    | {'loss': (one.get('validation') or {}).get('loss')}
    | compute.of_run(one)
    for one in [*alike, *beside]
  ]
  return row


def _earlier(runs: Sequence[plan.PlannedRun], workdir: str) -> list[dict]:
  """Records of finished pilots that stand there and are not planned any longer."""
  known = {run.name for run in runs}
  places = sorted(pathlib.Path(directory(workdir), 'runs').glob('*/run.json'))
  records = [finding.read_run(one.parent) for one in places if one.parent.name not in known]
  return [record for record in records if record is not None]


def _kind(record: Mapping[str, Any]) -> tuple[str, str | None]:
  return record['objective'], record.get('size')
