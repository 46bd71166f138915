"""Pilot runs, by which each objective chooses its learning rate and clip norm.

No result includes their seeds. They stand in WORKDIR/pilots, and no report averages them.
WORKDIR/pilots.json says what was tried and chosen; reports read it. Kept beside results, it chooses
for a comparison that trains no pilots of its own.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
import dataclasses
import json
import math
import os
import pathlib
from typing import Any

from reports import choice, comparison_files, compute, finding, reading
from reports.comparison_files import PILOTS
from reports.errors import ReportError
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
  """What pilots of an earlier comparison chose.

  Attributes:
    path: of its pilots.json.
    rows: by objective and size.
  """

  path: str
  rows: dict[tuple[str, str], dict[str, Any]]

  def asked(self, runs: Sequence[plan.PlannedRun]) -> Asked:
    """What was asked of the pilots that choose for `runs`."""
    asked = [row['asked'] for row in self._of(runs) or self.rows.values()]
    if all(one == asked[0] for one in asked):
      return Asked(**asked[0])
    lists = ({one for own in asked for one in own[name] or ()} for name in (*_GRIDS, 'pilot_seeds'))
    return Asked(*(sorted(values) or None for values in lists))

  def tuned(self, runs: Sequence[plan.PlannedRun]) -> dict[str, plan.Tuning]:
    """`PlannedRun.tuning` by `PlannedRun.kind`; what was not searched is left to the config.

    Raises:
      UserError: there is no choice for one of `runs`, or a result has the seed of a pilot.
    """
    told = {name for row in self._of(runs) for name in row['of']}
    tuned, asked = {}, self.asked(runs)
    for run in runs:
      if not run.steps:
        continue
      if _kind_of(run) not in self.rows:
        raise UserError('--pilots={} chose nothing for {} ({})'.format(self.path, *_kind_of(run)))
      _refuse({_replicate(run)} if choice.replicate_text(_replicate(run)) in told else ())
      tuned[run.kind] = tuple(self._field(run, field, asked) for field in choice.GRID)
    return tuned

  def _field(self, run: plan.PlannedRun, field: str, asked: Asked) -> float | None:
    row, own = self.rows[_kind_of(run)], run.config.optimizer[field]
    if row['asked'][f'{field}s']:
      return row[field]
    if row[field] != own:
      if getattr(asked, f'{field}s'):  # of others: no override may say it
        return row[field]
      raise UserError(
        f'--pilots={self.path}: {field} was {row[field]:g} in all pilots of {run.kind}, here it is '
        f'{own:g}: give --config.optimizer.{field}={row[field]:g}'
      )
    return None

  def write(self, workdir: str, runs: Sequence[plan.PlannedRun]) -> None:
    """Their rows to WORKDIR/pilots.json; UserError where it chose otherwise for these runs."""
    there, path = rows_in(workdir), os.path.join(workdir, f'{PILOTS}.json')
    rows = {_kind(row): row for row in self._of(runs)}
    said = ('of', *_GRIDS, *choice.GRID)
    if any(row[name] != rows[kind][name] for kind, row in there.items() if kind in rows
           for name in said):  # fmt: skip
      raise UserError(f'{path} is of other pilots than --pilots={self.path}: use another --workdir')
    if rows:
      os.makedirs(workdir, exist_ok=True)
      _write(path, {**rows, **there}.values())

  def _of(self, runs: Sequence[plan.PlannedRun]) -> list[Mapping[str, Any]]:
    kinds = dict.fromkeys(_kind_of(run) for run in runs if run.steps)
    return [self.rows[kind] for kind in kinds if kind in self.rows]


def kept(path: str, told: str | None = None) -> Kept:
  """Reads the pilots.json of a comparison; UserError, which tells of `told`, for anything else."""
  told = told or f'--pilots={path}'
  try:
    rows = comparison_files.pilots_in(path)
  except ReportError:
    rows = []
  if not rows or not all(map(_is_whole, rows)):
    raise UserError(f'{told} is no pilots.json of this version, or damaged')
  by_kind = {_kind(row): row for row in rows}
  if len(by_kind) < len(rows):
    raise UserError(f'{told} has two choices for one objective and size')
  return Kept(path, by_kind)


def rows_in(workdir: str) -> dict[tuple[str, str], dict[str, Any]]:
  """Those of WORKDIR/pilots.json; UserError where it is damaged: what it has would be lost."""
  path = os.path.join(workdir, f'{PILOTS}.json')
  return kept(path, path).rows if os.path.exists(path) else {}


def _write(path: str, rows: Iterable[Mapping[str, Any]]) -> None:
  write_atomically(path, json.dumps({PILOTS: reading.plain(list(rows))}, indent=1) + '\n')


def _is_whole(row: Mapping[str, Any]) -> bool:
  """Whether a row that reports can read is one that can choose."""
  return (
    _is_asked(row.get('asked')) and bool(row['of']) and bool(row['tried'])
    and all(_is_grid(row[f'{name}s']) and row[name] in row[f'{name}s'] for name in choice.GRID)
    and all(type(one.get('seed')) is int for one in row['tried'])
  )  # fmt: skip


def _is_asked(asked: Any) -> bool:
  if not isinstance(asked, dict) or set(asked) != {*_GRIDS, 'pilot_seeds'}:
    return False
  seeds = asked['pilot_seeds']
  whole = isinstance(seeds, list) and bool(seeds) and all(type(one) is int for one in seeds)
  grids = [asked[name] for name in _GRIDS]
  return whole and all(grid is None or _is_grid(grid) for grid in grids)


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
    UserError: a kind of run has no finished pilot; there is a pilots.json that is damaged.
  """
  found: dict[str, list[tuple[plan.PlannedRun, dict | None]]] = {}
  for run in runs:
    found.setdefault(run.kind, []).append((run, finding.read_run(run.workdir)))
  missing = [kind for kind, pairs in found.items() if all(record is None for _, record in pairs)]
  if missing:
    raise UserError(f'no pilot of {", ".join(sorted(missing))} is finished; see {workdir}/pilots')
  earlier, chosen, rows = _earlier(runs, workdir), {}, []
  for kind, pairs in found.items():
    done = [(run, record) for run, record in pairs if record is not None]
    lost = [run for run, record in pairs if record is None]
    records = [record for _, record in done]
    notes = choice.select(records, [reading.config_of(run.workdir) for run in lost])
    notes += [f'{run.name} has no result: it failed' for run in lost]
    run, record = next(pair for pair in done if pair[1]['selected'])
    chosen[kind] = run.tuning
    beside = [one for one in earlier if _kind(one) == _kind(record)]
    if beside:
      words = sorted({choice.tuning_text(choice.tuning_of(one)) for one in beside})
      notes.append(
        f'{record["objective"]} ({record["size"]}): other pilots were tried and chose nothing: '
        + '; '.join(words)
      )
    row = _row(record, [run for run, _ in pairs], records, beside)
    told = {'asked': dataclasses.asdict(asked), 'notes': [f'pilots: {note}' for note in notes]}
    rows.append(row | told)
  others = {kind: row for kind, row in rows_in(workdir).items() if kind not in map(_kind, rows)}
  _write(os.path.join(workdir, f'{PILOTS}.json'), [*others.values(), *rows])
  return chosen, list(dict.fromkeys(note for row in rows for note in row['notes']))


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


def _kind_of(run: plan.PlannedRun) -> tuple[str, str | None]:
  return run.objective, sizes.name(run.config.model)
