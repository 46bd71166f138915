"""Writes the report of any finished runs: results.json, results.csv, report.html and pictures."""

from collections.abc import Iterable, Mapping, Sequence
import io
import json
import os
import pathlib

from reports import figures, page
from reports import results as results_lib
from reports.errors import ReportError
from reports.terminal import terminal_table

__all__ = ['build', 'terminal_table']


def build(
  dirs: Sequence[str | os.PathLike],
  out: str | os.PathLike,
  *,
  command: str | None = None,
  failures: Iterable[Mapping] = (),
  notes: Iterable[str] = (),
) -> dict:
  """Reads every run below `dirs` and writes the report to `out`.

  Args:
    dirs: run directories, comparison directories, or directories above them.
    out: where results.json, results.csv, report.html and report/ go; made if need be.
    command: the command that makes these results again, printed on the page.
    failures: {'name', 'log', 'reason'} for each run that failed.
    notes: lines for the reader, such as what was left out and why.

  Returns:
    The content of results.json.

  Raises:
    ReportError: nothing to report, data that do not belong in one table, or `out` not writable.
  """
  results = results_lib.assemble(
    results_lib.find(dirs), command=command, failures=failures, notes=notes
  )
  curves = {
    run['workdir']: results_lib.read_curve(run['workdir'], only=('validation/', 'probe/'))
    for run in results['runs']
    if run['selected']
  }
  saved = {
    run['workdir']: results_lib.read_arrays(run['workdir'], ('samples', 'geometry/features'))
    for run in results['runs']
    if run['selected']
  }
  drawn = {
    run['workdir']: saved[run['workdir']]['samples']
    for run in results['runs']
    if run.get('sample_shape') and 'samples' in saved.get(run['workdir'], {})
  }
  features = {
    workdir: arrays['geometry/features']
    for workdir, arrays in saved.items()
    if 'geometry/features' in arrays
  }
  pictures = {}
  for name, picture in figures.draw_all(results, curves, drawn, features).items():
    buffer = io.BytesIO()
    picture.savefig(buffer, format='png', metadata={'Software': None})
    pictures[name] = buffer.getvalue()
  try:
    _write(pathlib.Path(out), results, pictures)
  except OSError as error:
    raise ReportError(f'the report cannot be written to {out}: {error.strerror}') from error
  return results


def _write(out: pathlib.Path, results: Mapping, pictures: Mapping[str, bytes]) -> None:
  (out / 'report').mkdir(parents=True, exist_ok=True)
  _replace(out / 'results.json', json.dumps(results, indent=1, allow_nan=False).encode() + b'\n')
  rows = results_lib.tidy_rows(results['runs'], results['controls'])
  results_lib.write_csv(rows, out / 'results.csv.part')
  os.replace(out / 'results.csv.part', out / 'results.csv')
  for name in figures.NAMES:
    if name in pictures:
      _replace(out / 'report' / f'{name}.png', pictures[name])
    else:
      (out / 'report' / f'{name}.png').unlink(missing_ok=True)  # of an earlier report
  _replace(out / 'report.html', page.render(results, pictures).encode())


def _replace(path: pathlib.Path, content: bytes) -> None:
  """Writes a file whole or not at all."""
  part = path.with_name(path.name + '.part')
  part.write_bytes(content)
  os.replace(part, path)
