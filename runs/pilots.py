"""Pilot runs, by which each objective chooses its learning rate and clip norm.

No result includes their seeds. They stand in WORKDIR/pilots, and no report averages them.
WORKDIR/pilots.json says what was tried and chosen; reports read it.
"""

from collections.abc import Sequence
import json
import os

from reports import choice, compute, reading
from runs import experiment, plan
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
  both = set(map(_replicate, pilots)) & set(map(_replicate, results))
  if both:
    first = choice.replicate_text(min(both, key=choice.replicate_order))
    raise UserError(f'--pilot_seeds: {first} is among the results; pilots must not be')


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
    `PlannedRun.tuning` by `PlannedRun.kind`, and notes as of `choice.select`.

  Raises:
    UserError: a kind of run has no finished pilot.
  """
  found = []
  for run in runs:
    record = reading.read_run(run.workdir)
    if record is not None:
      found.append((run, record))
  missing = {run.kind for run in runs} - {run.kind for run, _ in found}
  if missing:
    raise UserError(f'no pilot of {", ".join(sorted(missing))} is finished; see {workdir}/pilots')
  records = [record for _, record in found]
  notes = [f'pilots: {note}' for note in choice.select(records)]
  chosen, rows = {}, []
  for run, record in found:
    if record['selected'] and run.kind not in chosen:
      chosen[run.kind] = run.tuning
      alike = [other for planned, other in found if planned.kind == run.kind]
      row = {name: record[name] for name in ('objective', 'size', 'learning_rate', 'clip_norm')}
      row |= {f'{name}s': sorted({other[name] for other in alike} - {None}) for name in choice.GRID}
      row['of'] = [
        choice.replicate_text(kind)
        for kind in sorted({choice.replicate(other) for other in alike}, key=choice.replicate_order)
      ]
      row['tried'] = [
        {name: other[name] for name in (*choice.GRID, 'seed')}
        | {'loss': (other.get('validation') or {}).get('loss')}
        | compute.of_run(other)
        for other in alike
      ]
      rows.append(row)
  text = json.dumps({'pilots': reading.plain(rows), 'notes': notes}, indent=1)
  write_atomically(os.path.join(workdir, f'{reading.PILOTS}.json'), text + '\n')
  return chosen, notes
