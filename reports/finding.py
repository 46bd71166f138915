"""Finds runs, and what comparisons wrote, below directories.

A directory that holds run.json is a finished run; one with only config.json is unfinished and is
listed, never averaged. The same directory named twice counts once.
"""

from collections.abc import Iterable, Mapping, Sequence
import dataclasses
import itertools
import json
import os
import pathlib
from typing import Any

from probes.measures import at
from reports import choice, comparison_files, reading
from reports.comparison_files import PILOTS, PLAN, PLANNED
from reports.errors import ReportError

# What a plan varies by itself.
_VARIED = ('training.seed', 'objective.name', 'model.preset')
_VARIED += tuple(f'data.{name}' for name in choice.GRAMMAR_SETTINGS)


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


def tell_apart(found: Found, fields: Sequence[str]) -> None:
  """Adds the values of config fields to the names of objectives: 'masked weight_decay=0.1'.

  Where plans are equal but runs of one kind have other values, they are of other comparisons: the
  runs of the one are not those that the other planned. So plans, runs and the configs of failed
  ones get the number of theirs as `comparison`.

  Raises:
    ReportError: a run whose config.json lacks a field.
  """
  if not fields:
    return
  places, begun = _places(found, found.runs), [config for config in found.begun if config]
  seen: list[tuple[pathlib.Path | None, tuple, Mapping]] = []
  for run, place in zip(found.runs, places, strict=True):
    config = reading.config_of(run['workdir'])
    if lacking := [field for field in fields if _value(config, field) is None]:
      raise ReportError(f'--by={lacking[0]}: {run["workdir"]} has no such field in its config')
    seen.append((place, (run['objective'], run.get('size')), config))
    added = ''.join(f' {field.split(".")[-1]}={_value(config, field)}' for field in fields)
    run |= {'objective_of_plan': run['objective'], 'objective': run['objective'] + added}
  of_begun = _places(found, begun)
  for config, place in zip(begun, of_begun, strict=True):
    if key := choice.key_of(config):
      seen.append((place, key[:2], config))
  numbers = _comparisons_of(found.plans, seen, fields)
  alone = 0 if set(numbers.values()) == {0} else None
  for run, place in zip([*found.runs, *begun], [*places, *of_begun], strict=True):
    run['comparison'] = numbers.get(place, alone)


def _value(config: Mapping[str, Any], field: str) -> Any:
  return at(config, field.removeprefix('config.').split('.'))


def _comparisons_of(
  plans: Sequence[dict],
  seen: Sequence[tuple[pathlib.Path | None, tuple, Mapping[str, Any]]],
  fields: Sequence[str],
) -> dict[pathlib.Path, int]:
  """Numbers the comparisons that plans are of, in place.

  Parts of one have equal plans, and runs of one kind (objective, size) agree in what a plan does
  not vary itself.

  Args:
    plans: of all directories.
    seen: directory of the plan, kind and config of every run.
    fields: of configs.
  """
  by_place: dict[pathlib.Path, list[dict]] = {}
  for plan in plans:
    by_place.setdefault(pathlib.Path(plan['workdir']).resolve(), []).append(plan)
  numbers: dict[pathlib.Path, int] = {}
  comparisons: list[tuple[list[dict], dict[tuple, set]]] = []
  for place, own in by_place.items():
    varied = {*_VARIED} | {f'optimizer.{name}' for name in choice.GRID if own[0][f'{name}s']}
    fixed = [field for field in fields if field.removeprefix('config.') not in varied]
    values: dict[tuple, set] = {}
    for where, kind, config in seen:
      if where == place:
        values.setdefault(kind, set()).add(str([_value(config, field) for field in fixed]))
    fitting = []
    for number, (others, known) in enumerate(comparisons):
      shared = known.keys() & values.keys()
      alike = known and values and all(known[kind] & values[kind] for kind in shared)
      pairs = itertools.product(own, others)
      if alike and any(comparison_files.same_plan(*pair, PLANNED) for pair in pairs):
        fitting.append((len(shared), number))
    numbers[place] = max(fitting)[1] if fitting else len(comparisons)
    if not fitting:
      comparisons.append(([], {}))
    others, known = comparisons[numbers[place]]
    others += own
    for kind, found in values.items():
      known.setdefault(kind, set()).update(found)
    for plan in own:
      plan['comparison'] = numbers[place]
  return numbers


def _places(found: Found, runs: Iterable[Mapping[str, Any]]) -> list[pathlib.Path | None]:
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
  if config:
    config |= {'workdir': str(path), 'size': reading.read_json(path / 'config.json').get('size')}
    found.failed += [config] * reading.failed_of_itself(path)
  found.begun.append(config)
