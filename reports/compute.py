"""What a comparison cost in all: results and pilots, whichever of them a table shows."""

from collections.abc import Mapping, Sequence
from typing import Any

from reports import styles

# What is added up of every run; of pilots it stands in pilots.json.
SPENT = ('train_flops', 'tokens_seen', 'wall_seconds', 'cpu_seconds')


def of_run(run: Mapping) -> dict[str, float | None]:
  """What one run itself cost, without the one that it started from.

  train_flops are analytic, tokens_seen those it was trained on; wall_seconds are of training alone,
  cpu_seconds of all that the run did, evaluation and probes too, on all cores. None: not known.
  """
  parent = run.get('init_from') or {}
  found = {name: run.get(name) for name in SPENT}
  for name in ('train_flops', 'tokens_seen'):
    if found[name] is not None:
      found[name] -= parent.get(name) or 0
  return found


def total(runs: Sequence[Mapping], pilots: Sequence[Mapping]) -> dict[str, Any]:
  """Sums over finished runs, and over pilots.

  Args:
    runs: records.
    pilots: rows of pilots.json.

  Returns:
    {'results', 'pilots'}, each with 'runs' and `SPENT`; a sum is None where a part is not known.
  """
  tried = [one for row in pilots for one in row.get('tried', ())]
  return {'results': _sum([of_run(run) for run in runs]), 'pilots': _sum(tried)}


def _sum(parts: Sequence[Mapping]) -> dict[str, Any]:
  sums: dict[str, Any] = {'runs': len(parts)}
  for name in SPENT:
    values = [part.get(name) for part in parts]
    sums[name] = None if None in values else sum(values)
  return sums


def lines(found: Mapping[str, Any] | None) -> list[str]:
  """What it cost, a line for results and one for pilots."""
  told = []
  for name, sums in (found or {}).items():
    if not sums['runs']:
      continue
    parts = []
    if sums['train_flops'] is not None:
      parts.append(f'{styles.scientific(sums["train_flops"])} training FLOPs')
    if sums['tokens_seen'] is not None:
      parts.append(f'{sums["tokens_seen"]:,.0f} tokens')
    if sums['wall_seconds'] is not None:
      parts.append(f'{_hours(sums["wall_seconds"])} hours of training')
    if sums['cpu_seconds'] is not None:
      parts.append(f'{_hours(sums["cpu_seconds"])} core-hours with evaluation and probes')
    else:
      parts.append('core-hours not known')
    told.append(f'compute of {name} ({sums["runs"]} runs): {", ".join(parts)}')
  return told


def _hours(seconds: float) -> str:
  hours = seconds / 3600
  return f'{hours:.1f}' if hours >= 1 else f'{hours:.2g}'
