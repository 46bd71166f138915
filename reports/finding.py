"""Finds runs, and what comparisons wrote, below directories.

A directory that holds run.json is a finished run; one with only config.json is unfinished and is
listed, never averaged. The same directory named twice counts once.
"""

from collections.abc import Iterable, Mapping, Sequence
import dataclasses
import json
import os
import pathlib
from typing import Any

from probes.measures import at
from reports import comparison_files, reading
from reports.comparison_files import PILOTS, PLAN
from reports.errors import ReportError


@dataclasses.dataclass
class Found(comparison_files.Written):
  """What a set of directories holds; beside what comparisons wrote:

  Attributes:
    runs: the records of finished runs; `workdir` is where each was found.
    unfinished: {'name', 'log', 'reason'} for every run that has no readable record.
    begun: the configs of those.
    failed: the configs of those among them that say that they failed.
  """

  runs: list[dict] = dataclasses.field(default_factory=list)
  unfinished: list[dict] = dataclasses.field(default_factory=list)
  begun: list[dict] = dataclasses.field(default_factory=list)
  failed: list[dict] = dataclasses.field(default_factory=list)


def find(dirs: Iterable[str | os.PathLike]) -> Found:
  """Reads every run below `dirs` (run directories, comparison directories, or any above them).

  Raises:
    ReportError: a directory does not exist, or what a comparison wrote there cannot be read.
  """
  found, seen, controls = Found(), set(), {}
  for top in dirs:
    top = pathlib.Path(top)
    if not top.is_dir():
      raise ReportError(f'{top} is not a directory')
    for place in _comparisons(top):
      comparison_files.read_comparison(place, found, controls)
    for where, names, files in os.walk(top):
      path = pathlib.Path(where)
      names.sort()
      comparison_files.read_comparison(path, found, controls)
      if f'{PILOTS}.json' in files or PLAN in files:  # they may not have chosen yet
        names[:] = [name for name in names if name != PILOTS]
      if 'run.json' in files or 'config.json' in files:
        names.clear()  # checkpoints can be large trees, and hold no runs
        if path.resolve() not in seen:
          seen.add(path.resolve())
          _read_run(path, found)
  _add_sizes(found)
  found.measured = bool(controls)
  for path, content in controls.items():
    comparison_files.add_controls(path, content, found)
  return found


def _comparisons(top: pathlib.Path) -> list[pathlib.Path]:
  """Above a run, or the runs, of a comparison: where it wrote what holds of all of them."""
  found = {}
  for here in (pathlib.Path(os.path.abspath(top)), top.resolve()):
    if here.parent.name == 'runs' and _is_run(here):
      found[here.parent.parent] = None
    if here.name == 'runs' and not (here / PLAN).exists() and any(map(_is_run, here.iterdir())):
      found[here.parent] = None
  return list(found)


def _is_run(path: pathlib.Path) -> bool:
  return (path / 'run.json').exists() or (path / 'config.json').exists()


def tell_apart(found: Found, fields: Sequence[str]) -> None:
  """Adds the values of config fields to the names of objectives: 'masked weight_decay=0.1'.

  What a comparison planned is then of the values that the runs in its directory have.

  Raises:
    ReportError: a run whose config.json lacks a field.
  """
  if not fields:
    return
  planned: dict[pathlib.Path | None, dict[str, None]] = {}
  for run, place in zip(found.runs, _places(found), strict=True):
    config = reading.config_of(run['workdir'])
    if lacking := [field for field in fields if _value(config, field) is None]:
      raise ReportError(f'--by={lacking[0]}: {run["workdir"]} has no such field in its config')
    values = _values(config, fields)
    run |= {'objective_of_plan': run['objective'], 'objective': run['objective'] + values}
    planned.setdefault(place, {})[values] = None
  for config in found.failed:
    config['variant'] = f'{config.get("variant") or ""}{_values(config, fields)}'.strip()
  found.plans = [
    plan | {part: [_of_values(row, values) for row in plan[part]] for part in ('rows', 'chosen')}
    for plan in found.plans
    for values in planned.get(pathlib.Path(plan['workdir']).resolve(), [''])
  ]


def _value(config: Mapping[str, Any], field: str) -> Any:
  return at(config, field.removeprefix('config.').split('.'))


def _values(config: Mapping[str, Any], fields: Sequence[str]) -> str:
  return ''.join(f' {field.split(".")[-1]}={_value(config, field)}' for field in fields)


def _of_values(row: Mapping[str, Any], values: str) -> dict[str, Any]:
  return {**row, 'objective': row['objective'] + values}


def _add_sizes(found: Found) -> None:
  """Tells rows of plans that do not say it, of earlier versions, of which size their runs are."""
  if all(row['size'] or row.get('of_size') for plan in found.plans for row in plan['rows']):
    return
  sizes: dict[tuple, set] = {}
  for run, place in zip(found.runs, _places(found), strict=True):
    sizes.setdefault((place, run['objective']), set()).add(run.get('size'))
  for plan in found.plans:
    place, rows = pathlib.Path(plan['workdir']).resolve(), []
    for row in plan['rows']:
      (size, *others) = sizes.get((place, row['objective']), {None})
      known = row['size'] or row.get('of_size') or others or size is None
      rows.append(row if known else row | {'of_size': size})
    plan['rows'] = rows


def _places(found: Found) -> list[pathlib.Path | None]:
  """For every run the nearest directory with a plan above it; it may be a link."""
  planned = {pathlib.Path(plan['workdir']).resolve() for plan in found.plans}

  def place(path: pathlib.Path) -> pathlib.Path | None:
    above = (top.resolve() for top in (*path.absolute().parents, *path.resolve().parents))
    return next((top for top in above if top in planned), None)

  return [place(pathlib.Path(run['workdir'])) for run in found.runs]


def read_run(path: str | os.PathLike) -> dict | None:
  """The record of a finished run, as reports name it; None where there is none to read."""
  found = Found()
  _read_run(pathlib.Path(path), found)
  return found.runs[0] if found.runs else None


def _read_run(path: pathlib.Path, found: Found) -> None:
  reason = 'not finished'
  if (path / 'run.json').exists():
    try:
      record = reading.plain(json.loads((path / 'run.json').read_text()))
      reason = reading.fault(record)
    except (OSError, ValueError) as error:
      reason = f'run.json cannot be read: {error}'
    if reason is None:
      if record.get('variant'):
        record['objective'] += f' {record["variant"]}'
      spent = reading.read_json(path / 'spent.json').get('cpu_seconds')
      found.runs.append({**record, 'cpu_seconds': spent, 'workdir': str(path)})
      return
  logs = [*sorted(path.glob('*.log')), *sorted(path.glob('log*.txt'))]
  logs += [path.parent / f'{path.name}.log', path.parent.parent / 'logs' / f'{path.name}.log']
  log = next((str(log) for log in logs if log.exists()), str(path))
  found.unfinished.append({'name': path.name, 'log': log, 'reason': reason})
  found.begun.append(reading.config_of(path))
  if found.begun[-1] and reading.failed_of_itself(path):
    size = reading.read_json(path / 'config.json').get('size')
    found.failed.append(found.begun[-1] | ({'size': size} if size else {}))
