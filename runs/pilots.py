"""Pilot runs, by which each objective chooses its learning rate and clip norm.

No result includes their seeds. They stand in WORKDIR/pilots, and no report averages them.
WORKDIR/pilots.json says what was tried and chosen; reports read it. Kept beside results, it chooses
for a comparison that trains no pilots of its own.
"""

from collections.abc import Collection, Mapping, Sequence
import dataclasses
import json
import os
import pathlib
from typing import Any

from reports import choice, compute, reading
from runs import experiment, plan, sizes
from runs.errors import UserError
from training.metrics import write_atomically

# What a pilot leaves out: the choice is by validation loss alone.
_OVERRIDES = (
  '--config.probe.suite=()',
  '--config.evaluators.probe.every=0',
  '--config.evaluators.label_code.every=0',
  '--config.evaluators.samples.every=0',
  '--config.probe.levels=False',
  '--config.evaluation.samples=0',
  '--config.evaluation.draws=1',
)


_GRIDS = tuple(f'{name}s' for name in choice.GRID)
_OF_A_ROW = ('objective', 'size', *choice.GRID, *_GRIDS, 'of', 'tried')


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
  def rows(self) -> list[dict[str, Any]]:
    return self.found[reading.PILOTS]

  @property
  def seeds(self) -> list[int]:
    return sorted({one['seed'] for row in self.rows for one in row['tried']})

  def grid(self, name: str) -> list[float]:
    """All values of 'learning_rate' or 'clip_norm' that one of them had to choose from."""
    grids = [row[f'{name}s'] for row in self.rows]
    return sorted({value for grid in grids if len(grid) > 1 for value in grid})

  def tuned(self, runs: Sequence[plan.PlannedRun]) -> dict[str, plan.Tuning]:
    """`PlannedRun.tuning` by `PlannedRun.kind`.

    Raises:
      UserError: there is no choice for one of `runs`, or a result has the seed of a pilot.
    """
    rows = {(row['objective'], row['size']): row for row in self.rows}
    tuned = {}
    for run in runs:
      if not run.steps:
        continue
      name = ' '.join(filter(None, (run.config.objective.name, run.config.variant)))
      size = sizes.name(run.config.model)
      if (name, size) not in rows:
        raise UserError(f'--pilots={self.path} chose nothing for {name} ({size})')
      _refuse([replicate for replicate in [_replicate(run)] if self._among(replicate)])
      # What was not searched and is the config's own stands in no directory's name.
      row, own = rows[name, size], run.config.optimizer
      tuned[run.kind] = tuple(
        None if row[f'{field}s'] == [own[field]] else row[field] for field in choice.GRID
      )
    return tuned

  def write(self, workdir: str) -> None:
    """WORKDIR/pilots.json."""
    text = json.dumps(self.found, indent=1)
    write_atomically(os.path.join(workdir, f'{reading.PILOTS}.json'), text + '\n')

  def _among(self, replicate: choice.Replicate) -> bool:
    return any(choice.replicate_text(replicate) in row['of'] for row in self.rows)


def kept(path: str) -> Kept:
  """Reads the pilots.json of an earlier comparison; UserError for anything else."""
  found = reading.read_json(path)
  rows = found.get(reading.PILOTS)
  if not isinstance(rows, list) or not rows:
    raise UserError(f'--pilots={path} is no pilots.json')
  for row in rows:
    if not isinstance(row, dict) or not set(_OF_A_ROW) <= set(row):
      raise UserError(
        f'--pilots={path} lacks what a row of pilots.json has: {", ".join(_OF_A_ROW)}'
      )
  return Kept(path, found)


def overrides(given: Sequence[str]) -> list[str]:
  """Those of a comparison as its pilots have them; tuples given twice would be joined."""
  own = tuple(text.split('=')[0] + '=' for text in _OVERRIDES)
  return [text for text in given if not text.startswith(own)] + list(_OVERRIDES)


def directory(workdir: str) -> str:
  """Where the pilots of a comparison are."""
  return os.path.join(workdir, reading.PILOTS)


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
  runs: Sequence[plan.PlannedRun], workdir: str
) -> tuple[dict[str, plan.Tuning], list[str]]:
  """Reads finished pilots, writes WORKDIR/pilots.json.

  Args:
    runs: the pilots, as planned.
    workdir: of the comparison.

  Returns:
    `PlannedRun.tuning` by `PlannedRun.kind`, and notes: as of `choice.select`, on pilots that
    failed, and on those of an earlier plan, which choose nothing.

  Raises:
    UserError: a kind of run has no finished pilot.
  """
  found, lost = [], []
  for run in runs:
    record = reading.read_run(run.workdir)
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
  text = json.dumps({'pilots': reading.plain(rows), 'notes': notes}, indent=1)
  write_atomically(os.path.join(workdir, f'{reading.PILOTS}.json'), text + '\n')
  return chosen, notes


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
  records = [reading.read_run(one.parent) for one in places if one.parent.name not in known]
  return [record for record in records if record is not None]


def _kind(record: Mapping[str, Any]) -> tuple[str, str | None]:
  return record['objective'], record.get('size')
