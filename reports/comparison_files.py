"""Reads what a comparison wrote in its directory: plans, what its pilots chose, controls."""

from collections.abc import Iterable, Mapping
import dataclasses
import json
import os
import pathlib
import types
from typing import Any

from reports import compute, reading
from reports.errors import ReportError

# Directory of a comparison's pilot runs, and the .json of what they chose.
PILOTS = 'pilots'
# What a comparison said beforehand that it would measure.
PLAN = 'plan.json'
# What makes a plan the same as another.
PLANNED = ('rows', 'replicates', 'learning_rates', 'clip_norms', 'pilot_seeds', 'primary')
# Controls without a network: the input itself, and two features of it as wide as the network.
RAW_CONTROLS = ('raw', 'pca', 'random_relu')
_TUNING = ('learning_rate', 'clip_norm')
_LISTS = {'learning_rates': list, 'clip_norms': list}
_OF_A_PLAN = {'rows': list, 'replicates': list, **_LISTS, 'pilot_seeds': list, 'primary': dict}
_OF_A_PLAN |= {'command': str, 'notes': list, 'written': str, 'results_before': int, 'chosen': list}
_OF_A_CHOICE = {'objective': str, 'size': str, **dict.fromkeys(_TUNING, float | int | None)}
_OF_A_ROW = {**_OF_A_CHOICE, 'steps': int}
_OF_PILOTS = {**_OF_A_CHOICE, **_LISTS, 'of': list, 'tried': list, 'notes': list}
_KIND = ('objective', 'size', 'comparison')
_OF_A_PILOT = ('learning_rate', 'clip_norm', 'loss', *compute.SPENT)  # numbers, or not known
_BITS = ('histogram_bits_per_dim', 'uniform_bits_per_dim')
_WHY = ': it is damaged, or of an earlier version'
_OF_CONTROLS = ('of', 'raw_by_seed', 'raw_latents', 'majority', 'failed', *RAW_CONTROLS)


@dataclasses.dataclass
class Written:
  """What comparisons wrote in their directories.

  Attributes:
    plans: their plans (`reports.planned`); `workdir` is where each was found.
    controls: the merged controls.json.
    measured: whether there is any, also of other data.
    width: of its PCA and random ReLU features; None where it is not known.
    raw: the raw input with the labels of every seed, as records of runs as far as that goes.
    pilots: the rows of every pilots.json; `workdir` is where each was found.
    notes: one line for everything the reader of the report should know about the reading.
  """

  plans: list[dict] = dataclasses.field(default_factory=list)
  controls: dict = dataclasses.field(default_factory=dict)
  measured: bool = False
  width: int | None = None
  raw: list[dict] = dataclasses.field(default_factory=list)
  pilots: list[dict] = dataclasses.field(default_factory=list)
  notes: list[str] = dataclasses.field(default_factory=list)


def read_comparison(path: pathlib.Path, found: Written, controls: dict) -> None:
  """What a comparison wrote in its directory."""
  _read_plans(path / PLAN, found)
  if os.path.lexists(path / f'{PILOTS}.json'):
    rows = pilots_in(path / f'{PILOTS}.json')
    found.pilots += [row | {'workdir': str(path)} for row in rows]
  _read_controls(path / 'controls.json', controls)


def same_plan(one: Mapping[str, Any], other: Mapping[str, Any], names: Iterable[str]) -> bool:
  """Whether two plans agree in these names."""
  return all(one.get(name) == other.get(name) for name in names)


def plans_of(path: str | os.PathLike) -> list[dict]:
  """The plans in a plan.json, the earliest first; ReportError where they cannot be read."""
  plans = reading.plain(reading.read_json(path).get('plans'))
  parts = {'rows': _OF_A_ROW, 'replicates': {'grammar': int | str | None, 'seed': int}}
  parts['chosen'] = _OF_A_CHOICE
  whole = _are_rows(plans, _OF_A_PLAN) and all(
    _are_rows(plan[name], of) for plan in plans for name, of in parts.items()
  )
  whole = whole and all(map(_is_tuning, plans)) and bool(plans)
  if not whole or not all(_are([*plan['primary'].values()], str) for plan in plans):
    raise ReportError(f'{path} cannot be read, and it says whether there may be a verdict{_WHY}')
  return plans


def _read_plans(path: pathlib.Path, found: Written) -> None:
  for plan in plans_of(path) if os.path.lexists(path) else ():
    plan = {**plan, 'workdir': str(path.parent)}
    if plan not in found.plans:
      found.plans.append(plan)
      found.notes += [note for note in plan['notes'] if note not in found.notes]


def pilots_in(path: str | os.PathLike) -> list[dict]:
  """The rows of a pilots.json; ReportError where they cannot be read."""
  rows = reading.plain(reading.read_json(path).get(PILOTS))
  whole = _are_rows(rows, _OF_PILOTS) and all(
    _are_rows(row['tried'], {})
    and _are([one.get(name) for one in row['tried'] for name in _OF_A_PILOT], float | int | None)
    for row in rows
  )
  if not whole or not all(map(_is_tuning, rows)):
    raise ReportError(f'{path} cannot be read, and it says what chose the learning rates{_WHY}')
  return rows


def joined(rows: Iterable[Mapping[str, Any]]) -> tuple[list[dict], list[str]]:
  """What pilots chose in all directories, each choice and each pilot once, and notes.

  Parts of a comparison have the same, or a note says that they have not.
  """
  made: list[dict] = []
  notes: list[str] = []
  for row in rows:
    kind = [row.get(name) for name in _KIND]
    same = [one for one in made if [one.get(name) for name in _KIND] == kind]
    if any(other[key] != row[key] for other in same for key in _TUNING):
      path = os.path.join(row['workdir'], f'{PILOTS}.json')
      notes.append(
        f'{path} chose otherwise for {row["objective"]} than an earlier {PILOTS}.json: its runs '
        'are not of one tuning'
      )
    # The same pilots may be told with another time.
    known = [_pilot(one) for other in same for one in other['tried']]
    fresh = [one for one in row['tried'] if _pilot(one) not in known]
    alike = [other for other in same if all(other[key] == row[key] for key in _TUNING)]
    if alike:
      alike[0]['tried'] += fresh
      for name in ('of', 'learning_rates', 'clip_norms'):
        alike[0][name] = sorted({*alike[0][name], *row[name]})
    else:
      made.append({**row, 'tried': fresh})
    notes += row['notes']
  return made, list(dict.fromkeys(notes))


def _read_controls(path: pathlib.Path, found: dict[pathlib.Path, dict]) -> None:
  if not os.path.lexists(path) or path.resolve() in map(pathlib.Path.resolve, found):
    return
  try:
    controls = reading.plain(json.loads(path.read_text()))
  except (OSError, ValueError) as error:
    raise ReportError(f'{path} cannot be read: {error}') from error
  whole = isinstance(controls, dict) and all(
    isinstance(controls.get(name), dict | None) for name in _OF_CONTROLS
  )
  whole = whole and isinstance((controls.get('of') or {}).get('data_hash', []), list)
  by_seed = (controls.get('raw_by_seed') or {}) if whole else {}
  raw = [controls.get(name) or {} for name in RAW_CONTROLS if whole]
  whole = whole and all(map(reading.are_probes, [by_seed, *raw]))
  if whole and controls.get('majority'):
    whole = isinstance(controls['majority'].get('accuracy'), float | int)
  whole = whole and reading.are_numbers(map(controls.get, _BITS))
  seeds = list(by_seed)
  if not whole or not all(seed.isascii() and seed.isdecimal() for seed in seeds):
    raise ReportError(f'{path} cannot be read: it is not what a comparison writes')
  found[path] = {name: value for name, value in controls.items() if value is not None}


def add_controls(path: pathlib.Path, controls: Mapping[str, Any], found: Written) -> None:
  """Those of other data than the runs' are left out, and what disagrees with earlier ones."""
  of = controls.get('of', {})
  hashes = of.get('data_hash')
  for name, own in zip(reading.HASHES, hashes if isinstance(hashes, list) else (), strict=False):
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
  wide = {'pca', 'random_relu'}
  if wide & {*controls} and not wide & {*found.controls}:
    found.width = of.get('width') if isinstance(of.get('width'), int) else None
  for name, value in controls.items():
    if name in found.controls and found.controls[name] != value:
      found.notes.append(f'{path} disagrees with an earlier controls.json about {name}; kept that')
    found.controls.setdefault(name, value)


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
  return tuple(tried.get(name) for name in (*_TUNING, 'seed', 'loss', 'train_flops'))
