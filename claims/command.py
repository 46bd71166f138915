"""What `launch.claims` does: list, run, judge, publish, tune."""

from collections.abc import Sequence
import pathlib

from claims import CLAIMS, pilots, publishing, records, running, sets
from claims.base import FULL, QUICK, Claim, Verdict
from claims.running import Places
from claims.statements import STATEMENTS
from reports.errors import ReportError
from runs import pool
from runs.errors import UserError


def find(names: Sequence[str]) -> list[Claim]:
  """Claims by name or number; UserError for one that is unknown or not written."""
  numbers = {name: number for number, (name, _) in STATEMENTS.items()}
  found = []
  for name in names:
    number = int(name) if name.isdigit() else numbers.get(name)
    if number not in STATEMENTS:
      raise UserError(f'--claim={name}: unknown; launch.claims --list shows all')
    if number not in CLAIMS:
      raise UserError(f'--claim={name}: {STATEMENTS[number][0]} is not written yet')
    found.append(CLAIMS[number])
  return list({claim.number: claim for claim in found}.values())


def listing() -> None:
  """Every statement with its outcome."""
  made = publishing.rows(CLAIMS)
  print(publishing.table(made))
  counted = publishing.counts(made)
  print(', '.join(f'{count} {outcome}' for outcome, count in counted.items()))


def run(
  chosen: Sequence[Claim], places: Places, environment: dict[str, str], jobs: int | None
) -> int:
  """Runs what is missing, then judges every claim whose records are whole; the exit code."""
  failures = running.execute(chosen, places, environment, jobs)
  code = pool.tell_failures(failures)
  for claim in chosen:
    try:
      path = running.gather(claim, places)
    except UserError as lacking:
      print(f'{claim.number} {claim.name}: not judged: {lacking}')
      code = 1
      continue
    try:
      tell(claim, claim.judge(records.read_csv(path)), places.budget)
      records.write(path.with_suffix('.png'), publishing.picture(claim, path))
    except (ValueError, KeyError) as error:  # Such as a measure that is not finite.
      print(f'{claim.number} {claim.name}: not judged: {error!r}')
      code = 1
    print(f'  records {path}')
  return code


def tell(claim: Claim, verdict: Verdict, budget: str) -> None:
  """Prints a verdict; of a quick budget its number alone."""
  number = publishing.numbers(verdict)
  if budget == QUICK:
    print(f'{claim.number} {claim.name}: quick: no verdict; {number or "no number"}')
    return
  print(f'{claim.number} {claim.name}: {verdict.outcome}; {number}')
  print(f'  {claim.statement}\n  {verdict.text}\n  Overturned by: {verdict.overturn}')


def judge(chosen: Sequence[Claim]) -> None:
  """Judges committed records again; UserError for a claim that has none, if it was named alone."""
  for claim in chosen:
    verdict = publishing.judged(claim)
    if verdict is None:
      if len(chosen) == 1:
        raise UserError(f'{claim.name} has no records yet in {records.COMMITTED}')
      print(f'{claim.number} {claim.name}: {publishing.NOT_RUN}')
      continue
    tell(claim, verdict, FULL)


def publish(chosen: Sequence[Claim], places: Places | None) -> None:
  """Takes over the full records of a workdir, where one is named, and writes both pages."""
  for claim in chosen if places else ():
    try:
      publishing.commit(claim, running.gather(claim, places))
    except (UserError, ReportError, ValueError, KeyError) as lacking:
      print(f'{claim.number} {claim.name}: kept as it was: {lacking}')
  for path in publishing.publish(CLAIMS):
    print(pathlib.Path(path))


def tune(places: Places, environment: dict[str, str], jobs: int | None) -> int:
  """Runs the pilots and prints what they say of learning rates."""
  failures = pilots.execute(places, environment, jobs)
  found, path = pilots.losses(places), pathlib.Path(places.workdir, 'pilots.csv')
  records.write(path, found.to_csv(index=False))
  print(f'{pilots.text(found)}\n{path}: they count once they are {sets.TRIED}')
  return pool.tell_failures(failures)
