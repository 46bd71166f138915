"""The fairness table: what differed between objectives beside the objective."""

from collections.abc import Mapping, Sequence
from typing import Any

from reports import canvas, wording
from reports import results as results_lib
from reports.markup import escape, small, table


def _over_seeds(runs: Sequence[Mapping], value: Any, show: Any) -> str:
  """The mean over runs, with the range underneath where they differ."""
  values = [value(run) for run in runs]
  values = [item for item in values if item is not None]
  if not values:
    return '–'
  if len(values) > 1 and show(min(values)) != show(max(values)):
    return show(sum(values) / len(values)) + small(f'{show(min(values))}–{show(max(values))}')
  return show(values[0])


def _whole(value: float) -> str:
  return f'{value:,.0f}'


def _fit_cell(runs: Sequence[Mapping]) -> str:
  counts = {state: sum(run['fit'] == state for run in runs) for state in ('overfit', 'underfit')}
  shown = [f'{state} ({count} of {len(runs)})' for state, count in counts.items() if count]
  if shown:
    return f'<span class="flag">{", ".join(shown)}</span>'
  return 'ok' if all(run['fit'] == 'ok' for run in runs) else '–'


def fairness(results: Mapping) -> str:
  groups = [
    [run for run in results['runs'] if run['selected'] and canvas.kind_of(run) == kind]
    for kind in canvas.styles(results)
  ]

  def over(name: str, show: Any, inside: str = '') -> list[str]:
    read = (lambda run: (run.get(inside) or {}).get(name)) if inside else lambda run: run.get(name)
    return [_over_seeds(runs, read, show) for runs in groups]

  short = '{:.4g}'.format
  rows = {
    'size': [escape(runs[0].get('size') or '–') for runs in groups],
    'trained on': [escape(runs[0].get('trained_on') or '–') for runs in groups],
    'settings': [_settings_cell(runs[0]) for runs in groups],
    'parameters': over('parameters', _whole),
    'of them backbone': over('parameters_backbone', _whole),
    'FLOPs a step': over('flops_per_step', canvas.scientific),
    'FLOPs in total': over('train_flops', canvas.scientific),
    'steps': over('steps', _whole),
    'tokens seen': over('tokens_seen', _whole),
    'tokens scored': over('tokens_scored', _whole),
    'epochs': over('epochs', '{:.1f}'.format),
    'learning rate': over('learning_rate', short),
    'chosen from': [_grid_cell(entry) for entry in results['summary']],
    'input scale': over('input_scale', short),
    'clipped updates': over('clipped_fraction', '{:.1%}'.format),
    'own validation loss, last': over('loss', '{:.4f}'.format, 'validation'),
    'own validation loss, best': over('best_loss', '{:.4f}'.format, 'validation'),
    'step of the best': over('best_step', _whole, 'validation'),
    'fit': [_fit_cell(runs) for runs in groups],
    'loss unit': [escape(runs[0].get('loss_unit') or '–') for runs in groups],
    'bits on train': _bits_row(groups, lambda run: run.get('train_bits_per_dim')),
    'bits on validation': _bits_row(
      groups, lambda run: (run.get('validation') or {}).get('bits_per_dim')
    ),
    'wall seconds': over('wall_seconds', _whole),
    **_best_rows(groups),
  }
  shown = [('', [escape(name), *cells]) for name, cells in rows.items() if set(cells) != {'–'}]
  steps = {run['steps'] for runs in groups for run in runs if run.get('trained', True)}
  updates = 'the same number of updates' if len(steps) < 2 else 'different numbers of updates'
  return (
    '<h2>Was it fair?</h2><p>Training starts from the same parameters and takes the same examples '
    f'in the same order for a seed; here with {updates}. {_scales(groups)}The rest differs as '
    'follows; means over runs, ranges where runs differ.</p>'
    + table(['', *map(escape, wording.names(results))], shown)
    + '<p class="soft">Overfit: the last validation loss is more than 2 % above the best. '
    'Underfit: the best is the last and still fell by more than 1 % over the last tenth.</p>'
  )


def _settings_cell(run: Mapping) -> str:
  """The objective's own settings, one a line."""
  settings = run.get('settings') or {}
  lines = (f'{name} {_setting(value)}' for name, value in settings.items())
  return '<br>'.join(map(escape, lines)) or '–'


def _setting(value: Any) -> str:
  return ', '.join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _scales(groups: Sequence[Sequence[Mapping]]) -> str:
  """A sentence on the input scale where objectives have different ones."""
  trained = [run for runs in groups for run in runs if run.get('trained', True)]
  scales = {run.get('input_scale') for run in trained} - {None}
  if len(scales) < 2:
    return ''
  return (
    'The input scale (standard deviation of initial tokens and positions) differs: each objective '
    'has the one chosen on its own validation loss, drawn from the same key. '
  )


def _bits_row(groups: Sequence[Sequence[Mapping]], value: Any) -> list[str]:
  """Bits of each group, with ≤ in front of bounds."""
  cells = []
  for runs in groups:
    cell = _over_seeds(runs, value, '{:.3f}'.format)
    bound = runs[0]['code'] == 'upper_bound' and cell != '–'
    cells.append('≤ ' + cell if bound else cell)
  return cells


def _best_rows(groups: Sequence[Sequence[Mapping]]) -> dict[str, list[str]]:
  """Test bits and primary probe at each run's lowest own validation loss, by row name."""

  def primary(run: Mapping) -> float | None:
    trained = run.get('trained', True)
    return results_lib.accuracy(results_lib.at_best(run), *results_lib.PRIMARY) if trained else None

  bits = _bits_row(groups, lambda run: results_lib.at_best(run).get('bits_per_dim'))
  return {
    'test bits at the best step': bits,
    f'{" ".join(results_lib.PRIMARY)} at the best step': [
      _over_seeds(runs, primary, wording.percent_text) for runs in groups
    ],
  }


def _grid_cell(entry: Mapping) -> str:
  if not entry.get('trained', True):
    return '–'
  if not entry['tuned']:
    return 'untuned'
  return '<br>'.join(f'{rate:g}' for rate in entry['learning_rate_grid'])
