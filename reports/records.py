"""What reports read of a comparison, copied: to keep it, or to carry it to where it goes on.

A copy of some hundred kilobytes a run, without checkpoints, logs and what no report looks at. Its
report is that of the comparison, and `launch.compare` goes on from it, where its unfinished runs
begin anew. Configs are as they were, with the paths that they name.
"""

import fnmatch
import io
import json
import os
import pathlib
import secrets
import shutil

import numpy as np

from reports import comparison_files, finding, reading, status
from reports.comparison_files import PILOTS, PLAN
from reports.errors import ReportError

_ARRAYS = ('labels', 'nats', 'also/*/nats', 'also/*/rows', '*/predictions', '*/order', 'samples')
_ARRAYS += ('geometry/features',)
_OF_RUN = ('config.json', 'state.json', 'spent.json')
_CONTROLS = 'controls.json'
_OF_ALL = (PLAN, f'{PILOTS}.json', _CONTROLS)


def keep(top: str | os.PathLike, out: str | os.PathLike) -> tuple[int, list[str]]:
  """Copies the runs of the comparison in `top`, its plan, pilots and controls.

  What stands in `out` is replaced, run by run; runs that only `out` has stay, and one that is
  finished in both becomes that of `top`. A place where the comparison has gone on since is refused:
  finished runs and plans would be lost there.

  Returns:
    How many finished runs there are, and a line on each array file that can't be read.

  Raises:
    ReportError: `top` is no comparison with finished runs, or has runs elsewhere than in runs/;
      `out` is not writable, or is, holds or lies in `top`.
  """
  source, target = pathlib.Path(top).resolve(), pathlib.Path(out).resolve()
  if not str(out) or source.is_relative_to(target) or target.is_relative_to(source):
    raise ReportError(f'records of {top} can go to a directory beside it, not to {out or "none"}')
  if not (source / PLAN).exists():
    raise ReportError(f'{top} is no comparison: it has no {PLAN}')
  found = finding.find([source])
  if not found.runs:
    raise ReportError(f'no finished run in {top}')
  for run in found.runs:
    if pathlib.Path(run['workdir']).parent != source / 'runs':
      raise ReportError(
        f'{run["workdir"]} is no run of {top} itself: records are of one comparison'
      )
  _refuse_younger(source, target)
  planned = status.sweep_rows(source)
  try:
    notes = _copy_runs(source, target)
    _copy_runs(source / PILOTS, target / PILOTS, arrays=False)
    (target / _CONTROLS).unlink(missing_ok=True)  # Of the predictions that are replaced here.
    if (source / 'controls').is_dir():
      shutil.copytree(source / 'controls', target / 'controls', dirs_exist_ok=True)
    for name in _OF_ALL:
      _copy(source / name, target / name)
    rows = [{name: value for name, value in row.items() if name != 'command'} for row in planned]
    write(target / 'sweep.json', json.dumps({'runs': rows}, indent=1).encode())
  except OSError as error:
    raise ReportError(f'records cannot be written to {out}: {error.strerror}') from error
  return len(found.runs), notes


def _refuse_younger(source: pathlib.Path, target: pathlib.Path) -> None:
  for record in sorted(target.glob('**/runs/*/run.json')):
    own = source / record.relative_to(target)
    if own.parent.exists() and not reading.read_json(own):
      raise ReportError(f'{record} is of a run that {source} has not finished: records stay there')
  plan = target / PLAN
  try:
    kept = comparison_files.plans_of(plan) if plan.exists() else []
  except ReportError as error:
    raise ReportError(f'{error}: records need another directory') from error
  own = comparison_files.plans_of(source / PLAN)
  names = {name for one in kept for name in one} - {'chosen'}
  if len(own) < len(kept) or not all(
    comparison_files.same_plan(*pair, names) for pair in zip(kept, own, strict=False)
  ):
    raise ReportError(f'{target} has the records of another plan: records need another directory')


def _copy_runs(source: pathlib.Path, target: pathlib.Path, arrays: bool = True) -> list[str]:
  """All of SOURCE/runs, also the unfinished and the failed: a report counts them."""
  notes = []
  for config in sorted(source.glob('runs/*/config.json')):
    run, place = config.parent, target / 'runs' / config.parent.name
    place.mkdir(parents=True, exist_ok=True)
    (place / 'run.json').unlink(missing_ok=True)
    for name in _OF_RUN:
      _copy(run / name, place / name)
    record = reading.plain(reading.read_json(run / 'run.json'))  # It comes last: all is there.
    if arrays and record:
      points = reading.read_curve(run, ('validation/', 'probe/'))
      write(place / 'metrics.jsonl', ''.join(json.dumps(one) + '\n' for one in points).encode())
      packed = _packed(run)
      if packed is None:
        notes.append(f'{run.name}: arrays.npz cannot be read and is left out')
        (place / 'arrays.npz').unlink(missing_ok=True)
      else:
        write(place / 'arrays.npz', packed)
    if record:
      record |= {'workdir': f'runs/{run.name}'}
      write(place / 'run.json', json.dumps(record, indent=1, allow_nan=False).encode() + b'\n')
  return notes


def _copy(source: pathlib.Path, target: pathlib.Path) -> None:
  """A file as it is, or none where there is none."""
  if source.exists():
    write(target, source.read_bytes())
  else:
    target.unlink(missing_ok=True)


def write(path: pathlib.Path, content: bytes) -> None:
  """Writes a file whole or not at all, and its directory; of two writers at once the last stays."""
  path.parent.mkdir(parents=True, exist_ok=True)
  part = path.with_name(f'.writing-{secrets.token_hex(8)}')
  try:
    part.write_bytes(content)
    os.replace(part, path)
  finally:
    part.unlink(missing_ok=True)


def _packed(run: pathlib.Path) -> bytes | None:
  """Those of arrays.npz that reports read, without a value changed; None where it is damaged."""
  try:
    with np.load(run / 'arrays.npz') as arrays:
      read = [name for name in arrays if any(fnmatch.fnmatch(name, one) for one in _ARRAYS)]
      kept = {name: _narrow(arrays[name]) for name in read}
  except reading.DAMAGED:
    return None
  buffer = io.BytesIO()
  np.savez_compressed(buffer, **kept)
  return buffer.getvalue()


def _narrow(values: np.ndarray) -> np.ndarray:
  """Integers in the fewest bytes that hold them."""
  if values.dtype.kind not in 'iu' or not values.size:
    return values
  least, most = map(np.min_scalar_type, (values.min(), values.max()))
  return values.astype(np.promote_types(least, most))
