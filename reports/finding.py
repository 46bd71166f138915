"""Finds runs, and what comparisons wrote, below directories.

A directory that holds run.json is a finished run; one with only config.json is unfinished and is
listed, never averaged. The same directory named twice counts once.
"""

from collections.abc import Iterable, Mapping
import dataclasses
import json
import os
import pathlib
from typing import Any

from reports import choice, comparison_files, reading
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


def places(found: Found, runs: Iterable[Mapping[str, Any]]) -> list[pathlib.Path | None]:
  """For every run the nearest directory with a plan above it; it may be a link."""
  planned = {pathlib.Path(plan['workdir']).resolve() for plan in found.plans}

  def place(path: pathlib.Path) -> pathlib.Path | None:
    above = (top.resolve() for top in (*path.absolute().parents, *path.resolve().parents))
    return next((top for top in above if top in planned), None)

  return [place(pathlib.Path(run['workdir'])) for run in runs]


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
  config = reading.config_of(path)
  config = config if choice.key_of(config) else {}  # damaged
  if config:
    config |= {'workdir': str(path), 'size': reading.read_json(path / 'config.json').get('size')}
    found.failed += [config] * reading.failed_of_itself(path)
  found.begun.append(config)
