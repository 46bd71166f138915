"""What reports read of a comparison, copied: to keep it, or to carry it to where it goes on.

A copy of some hundred kilobytes a run, without checkpoints, logs, paths of the machine and what no
report looks at. Reports of it are those of the comparison, and `launch.compare` goes on from it.
"""

from collections.abc import Mapping
import fnmatch
import io
import json
import os
import pathlib
import shutil

import numpy as np

from reports import reading
from reports.errors import ReportError

_WHOLE = ('config.json', 'spent.json')
_ARRAYS = ('labels', 'nats', 'also/*/nats', 'also/*/rows', '*/predictions', '*/order', 'samples')
_ARRAYS += ('geometry/features',)
_OF_ALL = (reading.PLAN, f'{reading.PILOTS}.json', 'controls.json')


def keep(top: str | os.PathLike, out: str | os.PathLike) -> list[str]:
  """Copies the finished runs of the comparison in `top`, its plan, pilots' choice and controls.

  What stands in `out` is replaced, run by run; what only `out` has stays.

  Returns:
    The names of the runs copied.

  Raises:
    ReportError: `top` is no comparison with finished runs, or `out` is not writable.
  """
  top, out = pathlib.Path(top), pathlib.Path(out)
  if not (top / reading.PLAN).exists():
    raise ReportError(f'{top} is no comparison: it has no {reading.PLAN}')
  runs = reading.find([top]).runs
  if not runs:
    raise ReportError(f'no finished run in {top}')
  try:
    for run in runs:
      _copy(pathlib.Path(run['workdir']), out / 'runs')
    for name in _OF_ALL:
      if (top / name).exists():
        shutil.copyfile(top / name, out / name)
    if (top / 'controls').is_dir():
      shutil.copytree(top / 'controls', out / 'controls', dirs_exist_ok=True)
  except OSError as error:
    raise ReportError(f'records cannot be written to {out}: {error.strerror}') from error
  return [os.path.basename(run['workdir']) for run in runs]


def _copy(source: pathlib.Path, runs: pathlib.Path) -> None:
  """One run: run.json comes last, and means that all of it is there."""
  place = runs / source.name
  place.mkdir(parents=True, exist_ok=True)
  for name in _WHOLE:
    if (source / name).exists():
      shutil.copyfile(source / name, place / name)
  points = reading.read_curve(source, ('validation/', 'probe/'))
  (place / 'metrics.jsonl').write_text(''.join(json.dumps(one) + '\n' for one in points))
  (place / 'arrays.npz').write_bytes(_packed(source))
  record = json.loads((source / 'run.json').read_text()) | {'workdir': f'runs/{source.name}'}
  part = place / 'run.json.part'
  part.write_text(json.dumps(record, indent=1, allow_nan=False) + '\n')
  os.replace(part, place / 'run.json')


def _packed(source: pathlib.Path) -> bytes:
  """Those of arrays.npz that reports read, as small as they get without changing a value."""
  with np.load(source / 'arrays.npz') as arrays:
    read = [name for name in arrays if any(fnmatch.fnmatch(name, one) for one in _ARRAYS)]
    kept: Mapping[str, np.ndarray] = {name: _narrow(arrays[name]) for name in read}
  buffer = io.BytesIO()
  np.savez_compressed(buffer, **kept)
  return buffer.getvalue()


def _narrow(values: np.ndarray) -> np.ndarray:
  if values.dtype.kind not in 'iu' or not values.size:
    return values
  return values.astype(np.promote_types(np.min_scalar_type(values.min()),
                                        np.min_scalar_type(values.max())))  # fmt: skip
