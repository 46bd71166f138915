"""What certificates pay for the choices that a report makes among finished runs.

A run's own certificate (`probes.pac`) cannot know that it is one of several tunings (learning rates
and clip norms), of which validation loss keeps one. Validation examples are those that the
certificate counts, so the network depends on them, and by Occam's bound over all tunings

    kl(train error || bound) <= (complexity + ln(tunings)) / n.

Nothing is fitted again: the classifier stays, its bound rises. A report chooses by nothing else:
runs that differ in another field, the input scale for one, are refused, or with `--by` are rows of
their own.
"""

from collections.abc import Mapping, Sequence
import json
import math

import scipy.special

from probes.measures import at
from reports import reading

_NEEDED = ('n', 'train_error', 'complexity_nats', 'majority_error')
_TUNING = ('learning_rate', 'clip_norm')


def tried(grid: Mapping[tuple, Sequence[Mapping]], begun: Sequence[Mapping]) -> set[tuple]:
  """Which tunings were tried: those of finished runs, and of runs that failed or are not done.

  That one failed was seen as well, and a choice among what is left is a choice among all.

  Args:
    grid: the finished runs of one objective and size by (learning rate, clip norm).
    begun: configs of runs without a record. Those count that differ from a finished one in nothing
      but tuning, seed and draw of the data.
  """
  tunings = set(grid)
  if begun:
    alike = {_kind(reading.config_of(run['workdir'])) for runs in grid.values() for run in runs}
    for config in begun:
      if config and _kind(config) in alike:
        tunings.add(tuple(at(config, ('optimizer', name)) for name in _TUNING))
  return tunings


def _kind(config: Mapping) -> str:
  """What a config trains, but for tuning, seed and draw of the data."""
  trains = {name: config.get(name) for name in ('objective', 'model', 'optimizer', 'training')}
  left = {'optimizer': _TUNING, 'training': ('seed',)}
  for section, names in left.items():
    own = trains[section] if isinstance(trains[section], Mapping) else {}
    trains[section] = {k: v for k, v in own.items() if k not in names}
  return json.dumps(trains | {'data': at(config, ('data', 'name'))}, sort_keys=True)


def pay(run: dict, tunings: int) -> None:
  """Raises the bound of a run that is one of so many tunings, in place, once.

  `choices` of the cell then counts them; complexity_nats stays that of the run itself.
  """
  cell = at(run, ('probes', 'pac', 'all')) or {}
  if tunings < 2 or any(cell.get(name) is None for name in _NEEDED):
    return
  before = cell.get('rates', 1)
  paid = {**cell, 'rates': tunings, 'choices': cell.get('choices', 1) // before * tunings}
  paid['bound'] = _bound(cell['train_error'], cell['complexity_nats'], tunings, cell['n'])
  paid['vacuous'] = paid['bound'] >= cell['majority_error']
  layers = zip(
    cell.get('by_layer_train_error') or (), cell.get('by_layer_complexity_nats') or (), strict=True
  )
  if found := [_bound(error, nats, tunings, cell['n']) for error, nats in layers]:
    paid['by_layer_bound'] = found
  run['probes'] = {**run['probes'], 'pac': {**run['probes']['pac'], 'all': paid}}


def _bound(train_error: float, complexity_nats: float, tunings: int, n: int) -> float:
  """The largest e with n kl(train_error || e) <= complexity + ln(tunings), by bisection."""
  budget = (complexity_nats + math.log(tunings)) / n
  low, high = float(train_error), 1.0
  while low < (middle := (low + high) / 2) < high:
    kl = scipy.special.rel_entr(train_error, middle)
    kl += scipy.special.rel_entr(1 - train_error, 1 - middle)
    low, high = (middle, high) if kl <= budget else (low, middle)
  return high


def notes(runs: Sequence[Mapping], controls: Mapping) -> list[str]:
  """One line, or none: where certificates of one table are from different numbers of labels."""
  cells = {run['objective']: at(run, ('probes', 'pac', 'all', 'n')) for run in runs}
  cells |= {name: at(found, ('pac', 'all', 'n')) for name, found in controls.items()}
  counts: dict[int, list[str]] = {}
  for name, count in cells.items():
    if count is not None:
      counts.setdefault(count, []).append(name)
  if len(counts) < 2:
    return []
  listed = '; '.join(f'{n:,} of {", ".join(names)}' for n, names in sorted(counts.items()))
  return [
    f'certified errors are from different numbers of labels ({listed}) and do not compare: '
    'launch.probe makes those of older runs again'
  ]
