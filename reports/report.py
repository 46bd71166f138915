"""Writes the report of any finished runs: results.json, results.csv, report.html and pictures."""

from collections.abc import Iterable, Mapping, Sequence
import json
import os
import pathlib
from typing import Any

from reports import apart, finding, page, pictures, predictions, reading, records, results, tidy
from reports.errors import ReportError


def build(
  dirs: Sequence[str | os.PathLike],
  out: str | os.PathLike,
  *,
  command: str | None = None,
  failures: Iterable[Mapping] = (),
  notes: Iterable[str] = (),
  by: Sequence[str] = (),
) -> dict:
  """Reads every run below `dirs` and writes the report to `out`.

  Args:
    dirs: run directories, comparison directories, or directories above them.
    out: where results.json, results.csv, report.html and report/ go; made if need be.
    command: the command that makes these results again, printed on the page.
    failures: {'name', 'log', 'reason'} for each run that failed.
    notes: lines for the reader, such as what was left out and why.
    by: config fields whose values tell objectives apart, such as optimizer.weight_decay.

  Returns:
    The content of results.json.

  Raises:
    ReportError: nothing to report, data that do not belong in one table, or `out` not writable.
  """
  found = finding.find(dirs)
  apart.tell(found, by)
  curves = reading.read_curves(found.runs)
  made = results.assemble(found, curves, command=command, failures=failures, notes=notes)
  pngs, marks = pictures.draw(made, curves, pathlib.Path(out) / 'report')
  try:
    _write(pathlib.Path(out), made, pngs, marks)
  except OSError as error:
    raise ReportError(f'the report cannot be written to {out}: {error.strerror}') from error
  return made


def read(path: str | os.PathLike) -> dict:
  """A results.json as `build` returned it; ReportError where it is none of this version."""
  found = reading.read_json(path)
  needed = ('schema', 'dataset', 'alphabet', 'dims', 'classes', 'command', 'plan', 'compute')
  needed += ('primary', 'runs', 'controls', 'summary', 'no_verdicts', 'verdicts', 'beside')
  needed += ('indistinct', 'equal_regret', 'errors', 'failures', 'unfinished', 'notes')
  lacking = [name for name in needed if name not in found]
  of_plan = found.get('plan') or {'groups': [], 'unchosen': []}
  lacking += [f'plan.{name}' for name in ('groups', 'unchosen') if name not in of_plan]
  if lacking:
    raise ReportError(f'{path} is no results.json of this version: it lacks {", ".join(lacking)}')
  known = {measure.name for measure in predictions.BESIDE}
  if others := {one['measure'] for one in found['beside']} - known:
    raise ReportError(
      f'{path} is no results.json of this version: it has verdicts on {min(others)}; '
      'launch.report on its runs or records makes it again'
    )
  if found.get('formula') != results.FORMULA and _has_intervals(found):
    raise ReportError(
      f'{path} is no results.json of this version: its intervals are of another formula; '
      'launch.report on its runs or records makes it again'
    )
  return found


def _has_intervals(found: Any) -> bool:
  """Whether any part has one; of repeated grammars or a single seed there is none."""
  if isinstance(found, dict):
    own = [value for name, value in found.items() if name.endswith(('ci95', 'half_width'))]
    return any(value is not None for value in own) or any(map(_has_intervals, found.values()))
  return isinstance(found, list) and any(map(_has_intervals, found))


def _write(
  out: pathlib.Path, made: Mapping, pngs: Mapping[str, bytes], marks: Mapping[str, list]
) -> None:
  folder = out / 'report'
  folder.mkdir(parents=True, exist_ok=True)
  records.write(out / 'results.json', json.dumps(made, indent=1, allow_nan=False).encode() + b'\n')
  table = tidy.tidy(made['runs'], made['controls'])
  records.write(out / 'results.csv', tidy.as_csv(table).encode())
  for name in pictures.PICTURES:
    if name in pngs:
      records.write(folder / f'{name}.png', pngs[name])
    else:
      (folder / f'{name}.png').unlink(missing_ok=True)  # of an earlier report
  records.write(folder / 'pictures.json', json.dumps(marks, indent=1).encode() + b'\n')
  records.write(out / 'report.html', page.render(made, pngs).encode())
