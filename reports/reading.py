"""Finds finished runs and reads what they left: records, controls, curves, samples.

A directory that holds run.json is a finished run; one with only config.json is unfinished and is
listed, never averaged. The same directory named twice counts once. Absent is None, never NaN.
"""

from collections.abc import Iterable, Mapping, Sequence
import dataclasses
import json
import math
import os
import pathlib
import tokenize
import types
from typing import Any
import zipfile
import zlib

import numpy as np

from probes.measures import at
from reports import compute
from reports.errors import ReportError

SCHEMA = 1
CODES = ('exact', 'upper_bound', 'estimate', 'none')
# Directory of a comparison's pilot runs, and the .json of what they chose.
PILOTS = 'pilots'
# What a comparison said beforehand that it would measure.
PLAN = 'plan.json'
HASHES = ('data_hash', 'probe_data_hash')  # of a run's data, and of those it is probed on
_TUNING = ('learning_rate', 'clip_norm')
_LISTS = {'learning_rates': list, 'clip_norms': list}
_OF_A_PLAN = {'rows': list, 'replicates': list, **_LISTS, 'pilot_seeds': list, 'primary': dict,
              'command': str, 'notes': list, 'written': str, 'results_before': int}  # fmt: skip
_OF_A_ROW = {'objective': str, 'size': str | None, 'steps': int}
_OF_A_CHOICE = {'objective': str, 'size': str | None}
_OF_A_CHOICE |= dict.fromkeys(_TUNING, float | int | None)
_OF_PILOTS = {**_OF_A_CHOICE, **_LISTS, 'of': list}
_OF_A_PILOT = ('learning_rate', 'clip_norm', 'loss', *compute.SPENT)  # numbers, or not known
# In reasons that say nothing of the run, where state.json does not tell.
_GOES_ON = ('No space left', 'quota exceeded', 'disk full?', 'File too large', 'the same command ')
_GOES_ON += ('Input/output error',)
_KILLED = ('SIGKILL', 'SIGTERM', 'SIGINT', 'SIGHUP', 'SIGQUIT', 'SIGXCPU')
# Controls without a network: the input itself, and two features of it as wide as the network.
RAW_CONTROLS = ('raw', 'pca', 'random_relu')
_OF_CONTROLS = ('of', 'raw_by_seed', 'raw_latents', 'majority', 'failed', *RAW_CONTROLS)


# What damage to an .npz raises, wherever it hits.
DAMAGED = (OSError, ValueError, EOFError, TypeError, RuntimeError, zipfile.BadZipFile)
DAMAGED += (zlib.error, tokenize.TokenError)

Curves = Mapping[str, Sequence[Mapping[str, Any]]]  # points of a training curve, by workdir


@dataclasses.dataclass
class Found:
  """What a set of directories holds.

  Attributes:
    runs: the records of finished runs; `workdir` is where each was found.
    unfinished: {'name', 'log', 'reason'} for every run that has no readable record.
    begun: the configs of those.
    failed: the configs of those among them that say that they failed.
    plans: the plans of the comparison directories (`reports.planned`).
    controls: the merged controls.json of the comparison directories.
    measured: whether there is any, also of other data.
    raw: the raw input with the labels of every seed, as records of runs as far as that goes.
    pilots: the rows of pilots.json of the comparison directories.
    notes: one line for everything the reader of the report should know about the reading.
  """

  runs: list[dict] = dataclasses.field(default_factory=list)
  unfinished: list[dict] = dataclasses.field(default_factory=list)
  begun: list[dict] = dataclasses.field(default_factory=list)
  failed: list[dict] = dataclasses.field(default_factory=list)
  plans: list[dict] = dataclasses.field(default_factory=list)
  controls: dict = dataclasses.field(default_factory=dict)
  measured: bool = False
  raw: list[dict] = dataclasses.field(default_factory=list)
  pilots: list[dict] = dataclasses.field(default_factory=list)
  notes: list[str] = dataclasses.field(default_factory=list)


def plain(value: Any) -> Any:
  """`value` as plain JSON: numpy scalars and arrays unwrapped, anything not finite None."""
  if isinstance(value, Mapping):
    return {str(key): plain(item) for key, item in value.items()}
  if isinstance(value, list | tuple):
    return [plain(item) for item in value]
  if hasattr(value, 'tolist'):
    return plain(value.tolist())
  if isinstance(value, float) and not math.isfinite(value):
    return None
  return value


def read_json(path: str | os.PathLike) -> dict[str, Any]:
  """The object in a JSON file; an empty one where there is none, or something else."""
  try:
    found = json.loads(pathlib.Path(path).read_text(encoding='utf-8'))
  except (OSError, ValueError):
    return {}
  return found if isinstance(found, dict) else {}


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
      _read_comparison(place, found, controls)
    for where, names, files in os.walk(top):
      path = pathlib.Path(where)
      names.sort()
      _read_comparison(path, found, controls)
      if f'{PILOTS}.json' in files or PLAN in files:  # they may not have chosen yet
        names[:] = [name for name in names if name != PILOTS]
      if 'run.json' in files or 'config.json' in files:
        names.clear()  # checkpoints can be large trees, and hold no runs
        if path.resolve() not in seen:
          seen.add(path.resolve())
          _read_run(path, found)
  found.measured = bool(controls)
  for path, content in controls.items():
    _add_controls(path, content, found)
  return found


def _read_comparison(path: pathlib.Path, found: Found, controls: dict) -> None:
  """What a comparison wrote in its directory; what it plans is at what its own pilots chose."""
  _read_plans(path / PLAN, found, _read_pilots(path / f'{PILOTS}.json', found))
  _read_controls(path / 'controls.json', controls)


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


def tell_apart(runs: Iterable[dict], fields: Sequence[str]) -> None:
  """Adds the values of config fields to the names of objectives: 'masked weight_decay=0.1'.

  Raises:
    ReportError: a run whose config.json lacks a field.
  """
  for run in runs:
    config = config_of(run['workdir'])
    for field in fields:
      names = field.removeprefix('config.').split('.')
      value = at(config, names)
      if value is None:
        raise ReportError(f'--by={field}: {run["workdir"]} has no such field in its config')
      run.setdefault('objective_of_plan', run['objective'])
      run['objective'] += f' {names[-1]}={value}'


def read_run(path: str | os.PathLike) -> dict | None:
  """The record of a finished run, as reports name it; None where there is none to read."""
  found = Found()
  _read_run(pathlib.Path(path), found)
  return found.runs[0] if found.runs else None


def config_of(workdir: str | os.PathLike) -> dict[str, Any]:
  """The config that a run began with; {} where there is none."""
  config = read_json(pathlib.Path(workdir) / 'config.json').get('config')
  return config if isinstance(config, dict) else {}


def _read_run(path: pathlib.Path, found: Found) -> None:
  reason = 'not finished'
  if (path / 'run.json').exists():
    try:
      record = plain(json.loads((path / 'run.json').read_text()))
      reason = fault(record)
    except (OSError, ValueError) as error:
      reason = f'run.json cannot be read: {error}'
    if reason is None:
      if record.get('variant'):
        record['objective'] += f' {record["variant"]}'
      spent = read_json(path / 'spent.json').get('cpu_seconds')
      found.runs.append({**record, 'cpu_seconds': spent, 'workdir': str(path)})
      return
  logs = [*sorted(path.glob('*.log')), *sorted(path.glob('log*.txt'))]
  logs += [path.parent / f'{path.name}.log', path.parent.parent / 'logs' / f'{path.name}.log']
  log = next((str(log) for log in logs if log.exists()), str(path))
  found.unfinished.append({'name': path.name, 'log': log, 'reason': reason})
  found.begun.append(config_of(path))
  if found.begun[-1] and failed_of_itself(path):
    size = read_json(path / 'config.json').get('size')
    found.failed.append(found.begun[-1] | ({'size': size} if size else {}))


def failed_of_itself(workdir: str | os.PathLike) -> bool:
  """Whether a run has ended by a failure of its own; one that was stopped from outside goes on."""
  said = read_json(pathlib.Path(workdir) / 'state.json')
  reason = str(said.get('reason'))
  goes_on = said.get('goes_on')
  if not isinstance(goes_on, bool):
    goes_on = reason.startswith(_KILLED) or any(words in reason for words in _GOES_ON)
  return said.get('state') == 'failed' and not goes_on


def fault(record: Any) -> str | None:
  """Why a record cannot be used, or None."""
  if not isinstance(record, dict):
    return 'run.json is not an object'
  if record.get('schema') != SCHEMA:
    return f'run.json has schema {record.get("schema")}, this version reads {SCHEMA}'
  missing = [name for name in ('objective', 'seed', 'code') if record.get(name) is None]
  if missing:
    return f'run.json lacks {", ".join(missing)}'
  if record['code'] not in CODES:
    return f'run.json has the unknown code {record["code"]!r}'
  if record['code'] == 'none' and record.get('bits_per_dim') is not None:
    return 'run.json gives bits per dimension although its code is none'
  return None


def same_plan(one: Mapping[str, Any], other: Mapping[str, Any], names: Iterable[str]) -> bool:
  """Whether two plans agree in these names; earlier versions did not write `of_size` of a row."""
  if any(one.get(name) != other.get(name) for name in names if name != 'rows'):
    return False
  rows = [plan.get('rows') or [] for plan in (one, other)]
  return len(rows[0]) == len(rows[1]) and all(
    {**a, **b} == {**b, **a} and {**a, 'of_size': 0} == {**b, 'of_size': 0}
    for a, b in zip(*rows, strict=True)
  )


def _read_plans(path: pathlib.Path, found: Found, chosen: Sequence[Mapping]) -> None:
  """Adds the plans of a comparison, each with what its pilots chose."""
  if not path.exists():
    return
  plans = read_json(path).get('plans')
  parts = {'rows': _OF_A_ROW, 'replicates': {'grammar': object, 'seed': int}}
  parts['chosen'] = _OF_A_CHOICE
  whole = _are_rows(plans, _OF_A_PLAN) and all(
    _are_rows(plan.get(name, []), of) for plan in plans for name, of in parts.items()
  )
  if not whole or not all(map(_is_tuning, plans)):
    raise ReportError(f'{path} cannot be read, and it says whether there may be a verdict')
  # An earlier version did not write them into the plan.
  chosen = [{name: row[name] for name in _OF_A_CHOICE} for row in chosen]
  for plan in plans:
    plan = {'chosen': chosen} | plan
    if plan not in found.plans:
      found.plans.append(plan)
      found.notes += [note for note in plan['notes'] if note not in found.notes]


def _read_pilots(path: pathlib.Path, found: Found) -> list[dict]:
  """What pilots chose, row by row; parts of a comparison have the same, or a note says that they
  have not."""
  if not path.exists():
    return []
  content = read_json(path)
  rows, notes = content.get(PILOTS), content.get('notes', [])
  whole = _are_rows(rows, _OF_PILOTS) and _are(notes, str)
  whole = whole and all(
    _are_rows(row.setdefault('tried', []), {})
    and _are([one.get(name) for one in row['tried'] for name in _OF_A_PILOT], float | int | None)
    for row in rows
  )
  if not whole or not all(map(_is_tuning, rows)):
    raise ReportError(f'{path} cannot be read, and it says what chose the learning rates')
  for row in rows:
    same = [
      other
      for other in found.pilots
      if all(other.get(name) == row.get(name) for name in ('objective', 'size'))
    ]
    if any(other.get(key) != row.get(key) for other in same for key in _TUNING):
      told = (
        f'{path} chose otherwise for {row["objective"]} than an earlier {path.name}: its runs are '
        'not of one tuning'
      )
      found.notes += [told] * (told not in found.notes)
    # The same pilots may be told with another time.
    known = [_pilot(one) for other in same for one in other['tried']]
    fresh = [one for one in row['tried'] if _pilot(one) not in known]
    alike = [other for other in same if all(other.get(key) == row.get(key) for key in _TUNING)]
    if alike:
      alike[0]['tried'] += fresh
      for name in ('of', 'learning_rates', 'clip_norms'):
        alike[0][name] = sorted({*alike[0][name], *row[name]})
    else:
      found.pilots.append(row | {'tried': fresh})
  found.notes += [note for note in notes if note not in found.notes]
  return rows


def _are_rows(rows: Any, kinds: Mapping[str, type | types.UnionType]) -> bool:
  """Whether it is a list of objects that have all of these names, with values of these kinds."""
  return isinstance(rows, list) and all(
    isinstance(row, dict)
    and all(name in row and isinstance(row[name], kind) for name, kind in kinds.items())
    for row in rows
  )


def _are(values: Any, kind: type | types.UnionType) -> bool:
  return isinstance(values, list) and all(isinstance(value, kind) for value in values)


def _is_tuning(row: Mapping[str, Any]) -> bool:
  """Whether the grids of a plan, or of pilots, are numbers, and so on for what else it lists."""
  kinds = {'learning_rates': float | int, 'clip_norms': float | int, 'pilot_seeds': int}
  kinds |= {'of': str, 'notes': str}
  return all(_are(row[name], kind) for name, kind in kinds.items() if name in row)


def _pilot(tried: Mapping) -> tuple:
  return tuple(tried.get(name) for name in ('learning_rate', 'clip_norm', 'seed', 'grammar'))


def _read_controls(path: pathlib.Path, found: dict[pathlib.Path, dict]) -> None:
  if not path.exists() or path.resolve() in map(pathlib.Path.resolve, found):
    return
  try:
    controls = plain(json.loads(path.read_text()))
  except (OSError, ValueError) as error:
    raise ReportError(f'{path} cannot be read: {error}') from error
  whole = isinstance(controls, dict) and all(
    isinstance(controls.get(name) or {}, dict) for name in _OF_CONTROLS
  )
  whole = whole and isinstance((controls.get('of') or {}).get('data_hash', []), list)
  by_seed = (controls.get('raw_by_seed') or {}) if whole else {}
  whole = whole and all(isinstance(cells, dict) for cells in by_seed.values())
  seeds = list(by_seed)
  if not whole or not all(seed.isascii() and seed.isdecimal() for seed in seeds):
    raise ReportError(f'{path} cannot be read: it is not what a comparison writes')
  found[path] = {name: value for name, value in controls.items() if value is not None}


def _add_controls(path: pathlib.Path, controls: Mapping[str, Any], found: Found) -> None:
  """Those of other data than the runs' are left out, and what disagrees with earlier ones."""
  of = controls.get('of', {})
  hashes = of.get('data_hash')
  for name, own in zip(HASHES, hashes if isinstance(hashes, list) else (), strict=False):
    known = [run[name] for run in found.runs if run.get(name) is not None]
    if own is not None and known and own not in known:
      found.notes.append(f'{path} is of other data than the runs ({name}): left out')
      return
  for what, why in controls.get('failed', {}).items():
    told = f'control {what} FAILED: {why}; the same launch.compare tries it again'
    found.notes += [told] * (told not in found.notes)
  controls = {name: value for name, value in controls.items() if name != 'failed'}
  if 'raw_by_seed' not in found.controls:
    for seed, cells in controls.get('raw_by_seed', {}).items():
      where = path.parent / 'controls' / f'seed{seed}'
      raw = {'seed': int(seed), 'probes': {'linear': cells}, 'workdir': str(where)}
      found.raw.append(raw | {'settings_of_results': of})
  for name, value in controls.items():
    if name in found.controls and found.controls[name] != value:
      found.notes.append(f'{path} disagrees with an earlier controls.json about {name}; kept that')
    found.controls.setdefault(name, value)


def read_curve(workdir: str | os.PathLike, only: Sequence[str] = ()) -> list[dict]:
  """The training curve of a run, by step; `only` keeps lines that hold one of these key prefixes.

  A step written twice (by a run that was resumed) counts as last written; a line cut short by a
  kill is skipped.
  """
  try:
    text = (pathlib.Path(workdir) / 'metrics.jsonl').read_text(errors='replace')
  except OSError:
    return []
  points: dict[int, dict] = {}
  for line in text.splitlines():
    if only and not any(f'"{prefix}' in line for prefix in only):
      continue
    try:
      point = plain(json.loads(line))
      points[int(point['step'])] = {**points.get(int(point['step']), {}), **point}
    except (ValueError, KeyError, TypeError):
      continue
  return [points[step] for step in sorted(points)]


def read_curves(runs: Iterable[Mapping]) -> Curves:
  """The points of training curves at which validation or a probe was measured."""
  only = ('validation/', 'probe/')
  return {run['workdir']: read_curve(run['workdir'], only) for run in runs}


def read_arrays(workdir: str | os.PathLike, names: Sequence[str]) -> dict[str, np.ndarray]:
  """Those of the named arrays that a run saved; {} where it saved none or they are unreadable."""
  try:
    with np.load(pathlib.Path(workdir) / 'arrays.npz') as arrays:
      return {name: np.asarray(arrays[name]) for name in names if name in arrays}
  except DAMAGED:
    return {}


def mark_of_array(workdir: str | os.PathLike, name: str) -> tuple[int, int] | None:
  """Checksum and bytes of an array that a run saved, without reading it; None if it has none."""
  try:
    with zipfile.ZipFile(pathlib.Path(workdir) / 'arrays.npz') as file:
      member = file.getinfo(f'{name}.npy')
      return member.CRC, member.file_size
  except (*DAMAGED, KeyError):
    return None
