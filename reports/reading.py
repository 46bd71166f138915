"""Reads what a run left: its record, config and state, its curve, its arrays.

Absent is None, never NaN.
"""

from collections.abc import Iterable, Mapping, Sequence
import json
import math
import os
import pathlib
import tokenize
from typing import Any
import zipfile
import zlib

import numpy as np

SCHEMA = 1
CODES = ('exact', 'upper_bound', 'estimate', 'none')
# Fields of a record that are more than shown.
_KINDS = {'objective': str, 'seed': int, 'size': str, 'variant': str, 'dataset': str, 'code': str}
_KINDS |= dict.fromkeys(
  ('bits_per_dim', 'bits_per_dim_stderr', 'train_bits_per_dim', 'token_accuracy', 'learning_rate')
  + ('clip_norm', 'input_scale', 'parameters', 'parameters_backbone', 'train_flops', 'epochs')
  + ('flops_per_step', 'steps', 'tokens_seen', 'tokens_scored', 'clipped_fraction')
  + ('wall_seconds', 'alphabet', 'dims', 'classes', 'evaluation_draws'),
  float | int,
)
_KINDS |= dict.fromkeys(
  ('terms', 'test_loss', 'masked_cross_entropy', 'also', 'truth', 'normaliser', 'probes')
  + ('probes_by_level', 'latents', 'probes_failed', 'settings', 'settings_of_results')
  + ('settings_of_data', 'majority', 'validation', 'init_from', 'at_best', 'versions'),
  dict,
)
HASHES = ('data_hash', 'probe_data_hash')  # of a run's data, and of those it is probed on
AT_BEST = ' at best'  # behind the name of a probe that failed at the best checkpoint
# In reasons that say nothing of the run, where state.json does not tell.
_GOES_ON = ('No space left', 'quota exceeded', 'disk full?', 'File too large', 'the same command ')
_GOES_ON += ('Input/output error',)
_KILLED = ('SIGKILL', 'SIGTERM', 'SIGINT', 'SIGHUP', 'SIGQUIT', 'SIGXCPU')

# What damage to an .npz raises, wherever it hits.
DAMAGED = (OSError, ValueError, EOFError, TypeError, RuntimeError, zipfile.BadZipFile)
DAMAGED += (zlib.error, tokenize.TokenError)

Curves = Mapping[str, Sequence[Mapping[str, Any]]]  # points of a training curve, by workdir


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


def config_of(workdir: str | os.PathLike) -> dict[str, Any]:
  """The config that a run began with; {} where there is none."""
  config = read_json(pathlib.Path(workdir) / 'config.json').get('config')
  return config if isinstance(config, dict) else {}


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
  for name, kind in _KINDS.items():
    if record.get(name) is not None and not isinstance(record[name], kind):
      return f'run.json has the {name} {json.dumps(record[name])[:40]}'
  if not are_numbers((record.get('validation') or {}).values()):
    return 'run.json has a validation that is no number'
  if not are_probes(record.get('probes') or {}):
    return 'run.json has probes that are not accuracies by numbers of labels'
  if record['code'] == 'none' and record.get('bits_per_dim') is not None:
    return 'run.json gives bits per dimension although its code is none'
  return None


def are_numbers(values: Iterable[Any]) -> bool:
  """Whether all of them are; None, which is not known, counts."""
  return all(isinstance(value, float | int | None) for value in values)


def are_probes(probes: Any) -> bool:
  """Whether it is {probe: {number of labels: {'accuracy', 'draws', …}}}."""
  found = probes.values() if isinstance(probes, dict) else [None]
  return all(
    isinstance(cells, dict)
    and all(
      isinstance(cell, dict)
      and are_numbers([cell.get('accuracy')])
      and isinstance(cell.get('draws') or [], list)
      and are_numbers(cell.get('draws') or ())
      for cell in cells.values()
    )
    for cells in found
  )


def failed_of_itself(workdir: str | os.PathLike) -> bool:
  """Whether a run has ended by a failure of its own; one that was stopped from outside goes on."""
  said = read_json(pathlib.Path(workdir) / 'state.json')
  reason = str(said.get('reason'))
  goes_on = said.get('goes_on')
  if not isinstance(goes_on, bool):
    goes_on = reason.startswith(_KILLED) or any(words in reason for words in _GOES_ON)
  return said.get('state') == 'failed' and not goes_on


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
