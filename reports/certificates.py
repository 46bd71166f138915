"""What certificates pay for the choices that a report makes among finished runs.

A run's own certificate (`probes.pac`) cannot know that it is one of several learning rates, of
which validation loss keeps one. Validation examples are those that the certificate counts, so the
network depends on them, and by Occam's bound over all rates

    kl(train error || bound) <= (complexity + ln(rates)) / n.

Nothing is fitted again: the classifier stays, its bound rises.
"""

from collections.abc import Mapping, Sequence
import math

import scipy.special

from probes.measures import at

_NEEDED = ('n', 'train_error', 'complexity_nats', 'majority_error')


def pay(run: dict, rates: int) -> None:
  """Raises the bound of a run that is one of so many learning rates, in place, once.

  `choices` of the cell then counts them; complexity_nats stays that of the run itself.
  """
  cell = at(run, ('probes', 'pac', 'all')) or {}
  if rates < 2 or any(cell.get(name) is None for name in _NEEDED):
    return
  before = cell.get('rates', 1)
  paid = {**cell, 'rates': rates, 'choices': cell.get('choices', 1) // before * rates}
  paid['bound'] = _bound(cell['train_error'], cell['complexity_nats'], rates, cell['n'])
  paid['vacuous'] = paid['bound'] >= cell['majority_error']
  layers = zip(
    cell.get('by_layer_train_error') or (), cell.get('by_layer_complexity_nats') or (), strict=True
  )
  if found := [_bound(error, nats, rates, cell['n']) for error, nats in layers]:
    paid['by_layer_bound'] = found
  run['probes'] = {**run['probes'], 'pac': {**run['probes']['pac'], 'all': paid}}


def _bound(train_error: float, complexity_nats: float, rates: int, n: int) -> float:
  """The largest e with n kl(train_error || e) <= complexity + ln(rates), by bisection."""
  budget = (complexity_nats + math.log(rates)) / n
  low, high = float(train_error), 1.0
  while low < (middle := (low + high) / 2) < high:
    kl = scipy.special.rel_entr(train_error, middle)
    kl += scipy.special.rel_entr(1 - train_error, 1 - middle)
    low, high = (middle, high) if kl <= budget else (low, middle)
  return high


def notes(runs: Sequence[Mapping], controls: Mapping) -> list[str]:
  """A line where certificates of one table are from different numbers of labels."""
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
