"""How far every run of a comparison or a sweep is; `launch.status` says what the states mean."""

from collections.abc import Iterator, Mapping, Sequence
import concurrent.futures
import contextlib
import json
from typing import Any

from etils import epath

from reports.errors import ReportError

STATES = ('done', 'running', 'silent', 'preempted', 'failed', 'waiting')
_AT_ONCE = 32
_TAIL_BYTES = 2**15


def survey(top: str, silent_seconds: float, now: float) -> list[dict[str, Any]]:
  """One row a run: name, state, step, steps, seconds_left (None if unknown), reason.

  Args:
    top: a run, a comparison, a sweep, or a directory of comparisons; also in a bucket.
    silent_seconds: without a sign of life, after which a running run is called silent.
    now: seconds since the epoch.

  Raises:
    ReportError: `top` does not exist, or holds no run and no plan, or a damaged one.
  """
  path = epath.Path(top)
  if not path.exists():
    raise ReportError(f'{top} does not exist')
  places = {str(where): (name, None) for name, where in _directories(path)}
  for planned in sweep_rows(path):
    places[str(path / planned['workdir'])] = (planned['name'], planned['steps'])

  def look(item: tuple[str, tuple[str, int | None]]) -> dict[str, Any]:
    where, (name, steps) = item
    return {'name': name, **_state(epath.Path(where), steps, silent_seconds, now)}

  # In a bucket every look takes a round trip.
  with concurrent.futures.ThreadPoolExecutor(_AT_ONCE) as pool:
    rows = sorted(pool.map(look, places.items()), key=lambda row: row['name'])
  if not rows:
    raise ReportError(f'{top} holds no run and no sweep.json')
  return rows


def sweep_rows(top: Any) -> list[dict[str, Any]]:
  """The runs that TOP/sweep.json plans, as `runs.plan` writes them; [] where there is none.

  Raises:
    ReportError: it is damaged.
  """
  path = top / 'sweep.json'
  if not path.exists():
    return []
  try:
    rows = json.loads(path.read_text())['runs']
    for row in rows:
      if not {'name', 'workdir', 'steps'} <= row.keys():
        raise KeyError(row)
  except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
    raise ReportError(
      f'{path} cannot be read; the command that planned the runs writes it again'
    ) from error
  return rows


def _directories(top: Any) -> Iterator[tuple[str, Any]]:
  """(name, directory) of every run that has begun: top, in it, in runs/ and in POINT/runs/."""
  if (top / 'config.json').exists():
    yield top.name, top
    return
  for pattern in ('*/config.json', 'runs/*/config.json', '*/runs/*/config.json'):
    for found in top.glob(pattern):
      point = found.parent.parent.parent
      prefix = f'{point.name}/' if pattern.startswith('*/runs') else ''
      yield f'{prefix}{found.parent.name}', found.parent


def _json(path: Any) -> Mapping[str, Any]:
  """A small JSON object; an empty one where there is none, half of one or something else."""
  try:
    found = json.loads(path.read_text())
  except (OSError, ValueError):
    return {}
  return found if isinstance(found, dict) else {}


def _state(where: Any, steps: int | None, silent_seconds: float, now: float) -> dict[str, Any]:
  if steps is None:
    steps = _json(where / 'config.json').get('config', {}).get('training', {}).get('steps')
  row = {'state': 'waiting', 'step': 0, 'steps': steps, 'seconds_left': None, 'reason': ''}
  if (where / 'run.json').exists():
    if not _json(where / 'run.json'):
      return {**row, 'state': 'failed', 'reason': 'run.json can not be read'}
    return {**row, 'state': 'done', 'step': steps}
  said = _json(where / 'state.json')
  if not said and not (where / 'config.json').exists():
    return row
  curve = _last_rows(where / 'metrics.jsonl')
  row |= {'state': said.get('state', 'running'), 'reason': said.get('reason', '')}
  row['step'] = max((int(line['step']) for line in curve), default=0)
  if row['state'] in ('running', 'done'):
    # 'done' without a record: it was removed, or is just being written.
    written = ('metrics.jsonl', 'state.json', 'config.json', 'log.txt', 'parts')
    newest = max(_written(where / name) for name in written)
    row['state'] = 'running' if now - newest <= silent_seconds else 'silent'
    if row['state'] == 'silent':
      row['reason'] = f'nothing written for {_duration(now - newest)}'
    row['seconds_left'] = seconds_left(curve, steps)
  return row


def _last_rows(path: Any) -> list[dict[str, float]]:
  """The rows at the end of a metrics.jsonl, whatever its length; none if there is no such file."""
  try:
    with path.open('rb') as file:
      file.seek(max(0, file.seek(0, 2) - _TAIL_BYTES))
      lines = file.read().splitlines()
  except OSError:
    return []
  rows = []
  for line in lines:  # The first and the last may be cut.
    with contextlib.suppress(ValueError):
      rows.append(json.loads(line))
  return [row for row in rows if isinstance(row, dict) and 'step' in row]


def _written(path: Any) -> float:
  try:
    return float(path.stat().mtime)
  except OSError:
    return 0.0


def seconds_left(curve: Sequence[Mapping[str, float]], steps: int | None) -> float | None:
  """Training time left at the pace of the last rows, evaluations included; None if unknown."""
  timed = [row for row in curve if 'wall' in row][-50:]
  if steps is None or len(timed) < 2 or timed[-1]['step'] <= timed[0]['step']:
    return None
  pace = (timed[-1]['wall'] - timed[0]['wall']) / (timed[-1]['step'] - timed[0]['step'])
  return max(0.0, pace * (steps - timed[-1]['step']))


def _duration(seconds: float) -> str:
  minutes = round(seconds / 60)
  if minutes < 60:
    return f'{minutes} min'
  return f'{minutes // 60} h {minutes % 60:02d}' if minutes < 48 * 60 else f'{minutes // 1440} d'


def table(rows: Sequence[Mapping[str, Any]]) -> str:
  """The rows for a terminal, and a line of counts."""
  width = max(len(row['name']) for row in rows)
  lines = []
  for row in rows:
    step, steps = ('?' if row[name] is None else row[name] for name in ('step', 'steps'))
    left = '' if row['seconds_left'] is None else f'{_duration(row["seconds_left"])} of training'
    note = row['reason'] or left
    lines.append(f'{row["name"]:<{width}}  {row["state"]:<9}  {step}/{steps}  {note}'.rstrip())
  counts = [(sum(row['state'] == state for row in rows), state) for state in STATES]
  return '\n'.join([*lines, ', '.join(f'{count} {state}' for count, state in counts if count)])
