"""What the fairness table shows: all that differed between objectives beside the objective."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from probes.measures import at
from reports import numbers, styles, summary

Runs = Sequence[Mapping]
Show = Callable[[float], str]


class Cell(NamedTuple):
  """A text, line by line, and in small print under it how it varies over runs."""

  text: str
  spread: str = ''
  flag: bool = False


def sameness(results: Mapping) -> dict[str, bool]:
  """Whether all trained runs had as many updates, and whether they differ in the input scale."""
  groups = styles.grouped(results).values()
  trained = [run for runs in groups for run in runs if run.get('trained', True)]
  scales = {run.get('input_scale') for run in trained} - {None}
  return {
    'same_updates': len({run['steps'] for run in trained}) < 2,
    'scales_differ': len(scales) > 1,
  }


def rows(results: Mapping) -> dict[str, list[Cell]]:
  """Cells by the row's name, one an entry of the summary; a row without any value is left out."""
  groups = list(styles.grouped(results).values())

  def over(show: Show, *path: str) -> list[Cell]:
    return [_over_runs(runs, lambda run: at(run, path), show) for runs in groups]

  def text(name: str) -> list[Cell]:
    return [Cell(runs[0].get(name) or '–') for runs in groups]

  short, loss, best = '{:.4g}'.format, '{:.4f}'.format, summary.at_best
  found = {
    'size': text('size'),
    'trained on': text('trained_on'),
    'settings': [Cell(_settings(runs[0])) for runs in groups],
    'parameters': over(_whole, 'parameters'),
    'of them backbone': over(_whole, 'parameters_backbone'),
    'starts from': text('started_from'),
    'FLOPs a step': over(styles.scientific, 'flops_per_step'),
    'FLOPs in total': over(styles.scientific, 'train_flops'),
    'of them before its start': over(styles.scientific, 'init_from', 'train_flops'),
    'steps': over(_whole, 'steps'),
    'tokens seen': over(_whole, 'tokens_seen'),
    'tokens seen before its start': over(_whole, 'init_from', 'tokens_seen'),
    'tokens scored': over(_whole, 'tokens_scored'),
    'order of the data': [_order(runs, groups) for runs in groups],
    'epochs': over('{:.1f}'.format, 'epochs'),
    'learning rate': over(short, 'learning_rate'),
    'chosen from': [Cell(_grid(entry, 'learning_rate')) for entry in results['summary']],
    'clip norm': over(short, 'clip_norm'),
    'clip norm chosen from': [Cell(_grid(entry, 'clip_norm')) for entry in results['summary']],
    'input scale': over(short, 'input_scale'),
    'clipped updates': over('{:.1%}'.format, 'clipped_fraction'),
    'own validation loss, last': over(loss, 'validation', 'loss'),
    'own validation loss, best': over(loss, 'validation', 'best_loss'),
    'step of the best': over(_whole, 'validation', 'best_step'),
    'fit': [_fit(runs) for runs in groups],
    'loss unit': text('loss_unit'),
    'bits, last training batches': _bits(groups, lambda run: run.get('train_bits_per_dim')),
    'log Z on test': [_normaliser(runs) for runs in groups],
    'bits on validation': _bits(groups, lambda run: at(run, ('validation', 'bits_per_dim'))),
    'at the FLOPs of the cheapest: step': over(_whole, 'at_equal_flops', 'step'),
    'at the FLOPs of the cheapest: share of them': over('{:.0%}'.format, 'at_equal_flops', 'share'),
    'at the FLOPs of the cheapest: bits on validation': _bits(
      groups, lambda run: at(run, ('at_equal_flops', 'bits_per_dim'))
    ),
    'at the FLOPs of the cheapest: small probe': over(
      numbers.percent_text, 'at_equal_flops', 'accuracy'
    ),
    'at the FLOPs of the cheapest: step of the small probe': [
      _over_runs(runs, _another_step, _whole) for runs in groups
    ],
    'wall seconds': over(_whole, 'wall_seconds'),
    'test bits at the best step': _bits(groups, lambda run: best(run).get('bits_per_dim')),
    f'{" ".join(summary.PRIMARY)} at the best step': [
      _over_runs(runs, _primary_at_best, numbers.percent_text) for runs in groups
    ],
  }
  return {name: cells for name, cells in found.items() if set(cells) != {Cell('–')}}


def _over_runs(runs: Runs, value: summary.Read, show: Show) -> Cell:
  """The mean over runs, with the range underneath where they differ."""
  values = [item for item in map(value, runs) if item is not None]
  if not values:
    return Cell('–')
  low, high = (show(value).lstrip('≤≈ ') for value in (min(values), max(values)))
  if len(values) > 1 and low != high:
    return Cell(show(sum(values) / len(values)), f'{low}–{high}')
  return Cell(show(values[0]))


def _whole(value: float) -> str:
  return f'{value:,.0f}'


def _bits(groups: Sequence[Runs], value: summary.Read) -> list[Cell]:
  """Bits of each group, with ≤ in front of bounds and ≈ in front of estimates."""
  return [
    _over_runs(runs, value, lambda bits, code=runs[0]['code']: numbers.bits_text(bits, code))
    for runs in groups
  ]


def _order(runs: Runs, groups: Sequence[Runs]) -> Cell:
  """In which order training saw its data, where that is not the same shuffling for all."""
  orders = [members[0].get('data_order') or 'shuffled' for members in groups]
  own = runs[0].get('data_order') or 'shuffled'
  return Cell('–' if set(orders) == {'shuffled'} else own.replace(', ', '\n'))


def _normaliser(runs: Runs) -> Cell:
  """log Z of an estimate in nats, beside what training learned of it; of the first run."""
  found = runs[0].get('normaliser')
  if not found:
    return Cell('–')
  error = f' ± {found["stderr"]:.2f}' if found['stderr'] else ''
  return Cell(f'{found["log_z"]:.2f}{error}\nlearned {found["learned"]:.2f}', found['how'])


def _another_step(run: Mapping) -> float | None:
  """Of the small probe at equal FLOPs, where it is not that of the bits."""
  found = run.get('at_equal_flops') or {}
  step = found.get('accuracy_step')
  return None if step == found.get('step') else step


def _primary_at_best(run: Mapping) -> float | None:
  return summary.primary(summary.at_best(run)) if run.get('trained', True) else None


def _fit(runs: Runs) -> Cell:
  counts = {state: sum(run['fit'] == state for run in runs) for state in ('overfit', 'underfit')}
  shown = [f'{state} ({count} of {len(runs)})' for state, count in counts.items() if count]
  if shown:
    return Cell(', '.join(shown), flag=True)
  return Cell('ok' if all(run['fit'] == 'ok' for run in runs) else '–')


def _settings(run: Mapping) -> str:
  """The objective's own settings, one a line."""

  def shown(value: Any) -> str:
    return ', '.join(map(str, value)) if isinstance(value, list | tuple) else str(value)

  lines = (f'{name} {shown(value)}' for name, value in (run.get('settings') or {}).items())
  return '\n'.join(lines) or '–'


def _grid(entry: Mapping, name: str) -> str:
  if not entry.get('trained', True):
    return '–'
  grid = entry.get(f'{name}_grid')
  return '\n'.join(f'{value:g}' for value in grid) if grid else 'untuned'
