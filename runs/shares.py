"""One comparison on several machines: which runs each of them trains."""

from collections.abc import Sequence
import os

from reports import finding, reading
from reports.comparison_files import PILOTS
from runs import configs, plan
from runs.errors import UserError

Part = tuple[int, int]  # (I, N): the I-th of N parts, from 1


def share(runs: Sequence[plan.PlannedRun], part: Part | None) -> list[plan.PlannedRun]:
  """The runs of one part, in the order of the plan; all of them without a part.

  Runs that differ in nothing but seed, and so cost the same, are dealt out in turn, and the next
  kind goes on where the last one ended: no part has two runs more than another, neither of any kind
  nor in all.

  Raises:
    UserError: there are fewer runs than parts.
  """
  if part is None:
    return list(runs)
  number, parts = part
  if parts > len(runs):
    raise UserError(f'--part={number}/{parts}: there are only {len(runs)} runs to share')
  alike = sorted(runs, key=lambda run: (run.kind, str(run.tuning)))
  own = {run.name for run in alike[number - 1 :: parts]}
  return [run for run in runs if run.name in own]


def need_pilots(pilots: Sequence[plan.PlannedRun], part: Part | None, workdir: str) -> None:
  """UserError while pilots have not ended, or those of other parts are not here.

  The choice is by all of them; one that failed of itself has ended.
  """
  own = {run.name for run in share(pilots, part)}
  open_ = [run for run in pilots if not _ended(run.workdir)]
  stopped = [run for run in open_ if run.name in own]
  if stopped:
    raise UserError(
      f'{len(stopped)} pilots have not ended, {stopped[0].name} first'
      f'{_why(stopped[0].workdir)}: nothing is chosen without them, and the same command goes on '
      'with them'
    )
  if open_:
    number, parts = part or (1, 1)
    raise UserError(
      f'the pilots of part {number} of {parts} are done, {len(open_)} of the others are not here '
      f'or have not ended, {open_[0].name} first{_why(open_[0].workdir)}: once every part is done '
      f'with its own, copy the directory {PILOTS} of every part into {workdir} '
      '(checkpoints may be left out), then start the same command again, on every machine'
    )


def note(part: Part) -> str:
  """What the report of a part says of itself."""
  return (
    f'THIS IS PART {part[0]} OF {part[1]} of a comparison: launch.report on the directories of all '
    'parts makes the report of the whole'
  )


def _why(workdir: str) -> str:
  """What is known of a run that has not ended, in brackets."""
  try:
    configs.read_record(workdir)
  except UserError as error:
    return f' ({error})'
  reason = reading.read_json(os.path.join(workdir, 'state.json')).get('reason')
  return f' ({reason})' if reason else ''


def _ended(workdir: str) -> bool:
  """Whether a run is finished, or failed of itself."""
  return finding.read_run(workdir) is not None or reading.failed_of_itself(workdir)
