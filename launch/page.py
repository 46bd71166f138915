"""The report as one self-contained HTML page: no scripts, no requests, opens from disk."""

import base64
from collections.abc import Iterable, Mapping, Sequence
import html
from typing import Any

from launch import figures
from launch import results as results_lib

_STYLE = """
:root { color-scheme: light dark; --ink: #1d1d1f; --soft: #6b6b70; --line: #dcdce0;
  --back: #ffffff; --tint: #f5f5f7; --flag: #9a4a00; }
@media (prefers-color-scheme: dark) { :root { --ink: #ececee; --soft: #a0a0a6; --line: #3a3a3e;
  --back: #18181a; --tint: #222225; --flag: #f0a860; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 66rem; background: var(--back);
  color: var(--ink); font: 16px/1.55 system-ui, -apple-system, "Segoe UI", sans-serif; }
h1 { font-size: 1.7rem; font-weight: 600; margin: 0 0 .4rem; }
h2 { font-size: 1.15rem; font-weight: 600; margin: 2.8rem 0 .6rem; }
p, li { max-width: 46rem; } p { margin: .5rem 0; }
ul { padding-left: 1.2rem; } li { margin: .3rem 0; }
code, pre { font: .88em/1.5 ui-monospace, Menlo, Consolas, monospace; }
pre { background: var(--tint); padding: .7rem .9rem; border-radius: 6px; overflow-x: auto; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums; }
.wide > table { min-width: 100%; }
th, td { padding: .4rem .8rem .4rem 0; text-align: right; vertical-align: top;
  border-bottom: 1px solid var(--line); white-space: nowrap; }
thead th { font-weight: 500; color: var(--soft); vertical-align: bottom; }
th:first-child, td:first-child { text-align: left; font-weight: 500; position: sticky; left: 0;
  background: var(--back); }
td.text, th.text { text-align: left; }
tbody tr.control > td { background: var(--tint); }
small { display: block; color: var(--soft); font-size: .8rem; line-height: 1.35; font-weight: 400; }
.flag { color: var(--flag); } .soft { color: var(--soft); }
.swatch { display: inline-block; width: .65em; height: .65em; border-radius: 50%;
  margin-right: .5em; }
figure { margin: 1.2rem 0 2.2rem; }
figure .wide { background: #ffffff; border-radius: 6px; border: 1px solid var(--line); }
figure img { display: block; width: 100%; min-width: 34rem; max-width: 62rem; height: auto;
  margin: 0 auto; padding: .6rem; }
figcaption { margin-top: .5rem; font-size: .9rem; color: var(--soft); max-width: 46rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1.2rem; font-size: .92rem;
  margin: 1rem 0; } dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
"""

_CAPTIONS = {
  'bits_against_accuracy': (
    'Bits against the probe',
    'One marker a run. Filled: exact code. Open with an arrow: an upper bound, the code is at '
    'most this long. Objectives without a likelihood stand apart; they have no place on the axis '
    'of bits.',
  ),
  'accuracy_by_layer': (
    'Accuracy by layer',
    'Linear probe on all labels, accuracy on the validation split, which also chooses the layer. '
    'Lines are means over seeds, bands reach from the lowest to the highest seed.',
  ),
  'accuracy_by_labels': (
    'Accuracy by number of labels',
    'Test accuracy with nested balanced subsets of labels; layer and penalty come from inside the '
    'subset. Means over draws and seeds, bands from the lowest to the highest seed.',
  ),
  'training_curves': (
    'Training',
    'On the validation split, against updates (left) and analytic training FLOPs (right). The '
    'same number of updates is not the same compute. Means over seeds, bands are ranges.',
  ),
  'accuracy_during_training': (
    'The probe during training',
    'Validation accuracy of a small linear probe fitted while training goes on, to show the '
    'course; the table holds the full probe of the last checkpoint.',
  ),
}


def _text(value: Any) -> str:
  return html.escape(str(value))


# Numbers as text, shared with the terminal's table.


def bits_text(value: float | None, code: str) -> str:
  """'1.903', '≤ 2.213', or 'n/a' where there is no likelihood."""
  if value is None:
    return 'n/a'
  return f'≤ {value:.3f}' if code == 'upper_bound' else f'{value:.3f}'


def percent_text(value: float | None) -> str:
  """A fraction as a percentage with one decimal, '–' if absent."""
  return '–' if value is None else f'{100 * value:.1f}'


def spread_text(entry: Mapping, name: str, prefix: str, scale: float, decimals: int) -> str:
  """What stands under a mean: its 95 % interval from 5 seeds, the range below, '' for one."""
  interval = entry.get(f'{prefix}_ci95')
  low, high = entry.get(f'{prefix}_min'), entry.get(f'{prefix}_max')
  if interval is not None:
    low, high = interval
  elif entry.get(name) is None or entry['seeds'] < 2:
    return ''
  return f'{scale * low:.{decimals}f}–{scale * high:.{decimals}f}'


def code_text(code: str) -> str:
  """The code as a reader's word."""
  return {'exact': 'exact', 'upper_bound': 'bound', 'none': 'none'}[code]


def tuning_text(results: Mapping) -> str:
  """One clause on how the learning rates came about."""
  trained = [entry for entry in results['summary'] if entry.get('trained', True)]
  if not any(entry['tuned'] for entry in trained):
    return 'learning rate untuned'
  state = 'each objective by its own validation loss'
  if not all(entry['tuned'] for entry in trained):
    state += '; untuned: ' + ', '.join(e['objective'] for e in trained if not e['tuned'])
  return f'learning rate tuned, {state}'


def names(results: Mapping) -> list[str]:
  """The objective of each summary entry, with its size where there are several."""
  return [style.label for style in figures.styles(results).values()]


def verdict_lines(results: Mapping) -> list[str]:
  """The verdicts as sentences, with the size where there are several."""
  several = len({verdict['size'] for verdict in results['verdicts']}) > 1
  return [
    (f'{verdict["size"]}: ' if several else '') + verdict['verdict']
    for verdict in results['verdicts']
  ]


# Pieces of the page.


def _table(head: Sequence[str], rows: Iterable[tuple[str, Sequence[str]]], left: int = 1) -> str:
  """A table in its own scrolling container; cells are HTML, `left` columns are text."""
  parts = ['<div class="wide"><table><thead><tr>']
  parts += [f'<th{_class("text", i < left)}>{cell}</th>' for i, cell in enumerate(head)]
  parts.append('</tr></thead><tbody>')
  for kind, cells in rows:
    parts.append(f'<tr class="{kind}">' if kind else '<tr>')
    parts += [f'<td{_class("text", i < left)}>{cell}</td>' for i, cell in enumerate(cells)]
    parts.append('</tr>')
  return ''.join(parts) + '</tbody></table></div>'


def _class(name: str, wanted: bool) -> str:
  return f' class="{name}"' if wanted else ''


def _small(text: str, flag: bool = False) -> str:
  return f'<small{_class("flag", flag)}>{_text(text)}</small>' if text else ''


def _header(results: Mapping) -> str:
  sentence = (
    f'{results["dataset"]}: {results["dims"]} dimensions an example, {results["alphabet"]} values '
    'each.'
  )
  lossless = results.get('lossless')
  of = results.get('note') or results['dataset']
  if lossless is False:
    of += ' (the quantised data, not the original)'
  probed = results.get('probe_dataset')
  if probed and probed != results['dataset']:
    sentence += f' Probed on {probed}.'
  primary = results['primary']
  rows = {
    'Bits are of': of,
    'Primary measure': f'{primary["probe"]} probe, {primary["labels"]} labels, test accuracy',
    'Tuning': tuning_text(results),
    'Runs': f'{len(results["runs"])} finished'
    + _counted(results['failures'], 'failed') + _counted(results['unfinished'], 'unfinished'),
    'Git': results.get('git') or 'unknown',
    'Versions': ', '.join(f'{k} {v}' for k, v in results['versions'].items()) or 'unknown',
  }  # fmt: skip
  listed = ''.join(f'<dt>{_text(k)}</dt><dd>{_text(v)}</dd>' for k, v in rows.items())
  command = results.get('command')
  again = f'<p>To make this page again:</p><pre>{_text(command)}</pre>' if command else ''
  return f'<h1>Bits &amp; Probes</h1><p>{_text(sentence)}</p><dl>{listed}</dl>{again}'


def _counted(items: Sequence, word: str) -> str:
  return f', {len(items)} {word}' if items else ''


def _result_table(results: Mapping) -> str:
  raw = results['controls'].get('raw') or {}
  pairs = results_lib.probe_counts(results['runs'], raw)
  head = ['objective', 'code', 'bits per dimension<small>test</small>']
  for probe, labels in pairs:
    primary = (probe, labels) == results_lib.PRIMARY
    number = 'all labels' if labels == 'all' else f'{labels} labels'
    head.append(f'{_text(probe)}<br>{_text(number)}' + _small('primary' if primary else ''))
  rows = []
  looks = figures.styles(results)
  for entry in results['summary']:
    style = looks[figures.kind_of(entry)]
    swatch = f'<span class="swatch" style="background:{style.colour}"></span>'
    cells = [swatch + _text(style.label), code_text(entry['code']), _bits_cell(entry)]
    for probe, labels in pairs:
      name = f'{probe}_{labels}'
      cell = percent_text(entry.get(name)) + _small(spread_text(entry, name, name, 100, 1))
      if entry.get('saw_labels') and labels != 'all':
        cell += _small('saw all labels', flag=True)
      cells.append(cell)
    rows.append(('' if entry.get('trained', True) else 'control', [*cells, str(entry['seeds'])]))
  if raw:
    values = [(raw.get(p) or {}).get(n, {}).get('accuracy') for p, n in pairs]
    rows.append(('control', ['raw input', '', '', *map(percent_text, values), '']))
  for name, label in (('histogram', 'per-pixel histogram'), ('uniform', 'uniform')):
    bits = results['controls'].get(f'{name}_bits_per_dim')
    if bits is not None:
      cells = [label, 'exact', bits_text(bits, 'exact'), *[''] * len(pairs), '']
      rows.append(('control', cells))
  return _table([*head, 'seeds'], rows, left=2)


def _bits_cell(entry: Mapping) -> str:
  cell = bits_text(entry['bits_per_dim'], entry['code'])
  if entry['bits_per_dim'] is None:
    return cell
  cell += _small(spread_text(entry, 'bits_per_dim', 'bits', 1, 3))
  if entry['bits_stderr'] is not None:
    draws = entry.get('evaluation_draws') or 1
    cell += _small(f'± {entry["bits_stderr"]:.3f}, {draws} draw{"s" if draws > 1 else ""}')
  if entry.get('no_context_learned'):
    cell += _small('no context learned', flag=True)
  return cell


def _reading(results: Mapping) -> str:
  """The lines directly under the result table: units, then verdicts or why there are none."""
  lines = [
    'Probe columns are test accuracy in percent. Small figures: the 95 % t interval over seeds '
    'from 5 seeds, the lowest and highest seed below that; for bits also the standard error over '
    'test examples and the draws an example.'
  ]
  for label, entry in zip(names(results), results['summary'], strict=True):
    bits = entry.get('masked_cross_entropy_bits')
    if bits is not None:
      line = f'{label} has no likelihood; a masked token costs it {bits:.3f} bits on average'
      histogram = entry.get('masked_cross_entropy_histogram_bits')
      if histogram is not None:
        line += f', any token costs the per-pixel histogram {histogram:.3f}'
      lines.append(line + '.')
  body = ''.join(f'<p class="soft">{_text(line)}</p>' for line in lines)
  verdicts = results['verdicts']
  primary = results['primary']
  measure = f'{primary["probe"]} probe at {primary["labels"]} labels'
  if not verdicts:
    few = results_lib.MINIMUM_SEEDS
    return body + f'<p>No verdicts: fewer than {few} common seeds for every pair.</p>'
  listed = ''.join(f'<li>{_text(line)}</li>' for line in verdict_lines(results))
  return body + (
    f'<h2>Verdicts</h2><p>On the {_text(measure)}: paired t over seeds, ± is the 95 % interval of '
    f'a pair, Holm over all {len(verdicts)} pairs decides.</p><ul>{listed}</ul>'
  )


def _pictures(pictures: Mapping[str, bytes]) -> str:
  parts = []
  for name, data in pictures.items():
    title, caption = _CAPTIONS[name]
    source = 'data:image/png;base64,' + base64.b64encode(data).decode('ascii')
    parts.append(
      f'<h2>{_text(title)}</h2><figure><div class="wide"><img alt="{_text(title)}" src="{source}">'
      f'</div><figcaption>{_text(caption)}</figcaption></figure>'
    )
  return ''.join(parts)


# The fairness table.


def _over_seeds(runs: Sequence[Mapping], value: Any, show: Any) -> str:
  """The mean over seeds, with the range underneath where seeds differ."""
  values = [value(run) for run in runs]
  values = [item for item in values if item is not None]
  if not values:
    return '–'
  if len(values) > 1 and show(min(values)) != show(max(values)):
    return show(sum(values) / len(values)) + _small(f'{show(min(values))}–{show(max(values))}')
  return show(values[0])


def _whole(value: float) -> str:
  return f'{value:,.0f}'


def _fit_cell(runs: Sequence[Mapping]) -> str:
  counts = {state: sum(run['fit'] == state for run in runs) for state in ('overfit', 'underfit')}
  shown = [f'{state} ({count} of {len(runs)})' for state, count in counts.items() if count]
  if shown:
    return f'<span class="flag">{", ".join(shown)}</span>'
  return 'ok' if all(run['fit'] == 'ok' for run in runs) else '–'


def _fairness(results: Mapping) -> str:
  groups = [
    [run for run in results['runs'] if run['selected'] and figures.kind_of(run) == kind]
    for kind in figures.styles(results)
  ]

  def over(name: str, show: Any, inside: str = '') -> list[str]:
    read = (lambda run: (run.get(inside) or {}).get(name)) if inside else lambda run: run.get(name)
    return [_over_seeds(runs, read, show) for runs in groups]

  short = '{:.4g}'.format
  rows = {
    'size': [_text(runs[0].get('size') or '–') for runs in groups],
    'parameters': over('parameters', _whole),
    'of them backbone': over('parameters_backbone', _whole),
    'FLOPs a step': over('flops_per_step', figures.scientific),
    'FLOPs in total': over('train_flops', figures.scientific),
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
    'loss unit': [_text(runs[0].get('loss_unit') or '–') for runs in groups],
    'bits on train': _bits_row(groups, lambda run: run.get('train_bits_per_dim')),
    'bits on validation': _bits_row(
      groups, lambda run: (run.get('validation') or {}).get('bits_per_dim')
    ),
    'wall seconds': over('wall_seconds', _whole),
    **_best_rows(groups),
  }
  shown = [('', [_text(name), *cells]) for name, cells in rows.items() if set(cells) != {'–'}]
  steps = {run['steps'] for runs in groups for run in runs if run.get('trained', True)}
  updates = 'the same number of updates' if len(steps) < 2 else 'different numbers of updates'
  return (
    '<h2>Was it fair?</h2><p>Training starts from the same parameters and takes the same examples '
    f'in the same order for a seed; here with {updates}. The rest differs as follows; means over '
    'seeds, ranges where seeds differ.</p>'
    + _table(['', *map(_text, names(results))], shown)
    + '<p class="soft">Overfit: the last validation loss is more than 2 % above the best. '
    'Underfit: the best is the last and still fell by more than 1 % over the last tenth.</p>'
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
      _over_seeds(runs, primary, percent_text) for runs in groups
    ],
  }


def _grid_cell(entry: Mapping) -> str:
  if not entry.get('trained', True):
    return '–'
  if not entry['tuned']:
    return 'untuned'
  return '<br>'.join(f'{rate:g}' for rate in entry['learning_rate_grid'])


# What the numbers mean, what went wrong, and the page.


def _meaning(results: Mapping) -> str:
  summary = results['summary']
  codes = {entry['code'] for entry in summary}
  lines = []
  if 'exact' in codes:
    lines.append('Exact bits are −log₂ p(x) over all dimensions, the first one included.')
  if 'upper_bound' in codes:
    lines.append(
      'Bits with ≤ are an upper bound on −log₂ p(x): the truth is lower by an unknown amount, so '
      'a bound above an exact code does not show that its model compresses worse.'
    )
    margin = results_lib.NO_CONTEXT_MARGIN
    lines.append(
      f'A bound within {margin:g} bits of the per-pixel histogram is marked “no context learned”.'
    )
  if 'none' in codes:
    lines.append('n/a: the objective defines no likelihood; no number would be comparable.')
  lines.append(
    'Probes read features of the clean input, causal or full as trained. Objectives that train on '
    'noised or masked input have rarely or never seen a clean one.'
  )
  predicts = [e for e in summary if e.get('trained', True) and not e.get('saw_labels')]
  if any(entry.get('causal') for entry in predicts):
    lines.append(
      'A causal model that predicts the next value never used the last one in training, so its '
      'features there are untrained for it.'
    )
  if any(entry.get('saw_labels') for entry in summary):
    lines.append(
      'Supervised runs saw all labels before the probe did: their few-label columns are marked '
      '“saw all labels” and are no few-label result.'
    )
  lines.append(
    'Layer and penalty are chosen on validation, with few labels inside the subset, and with the '
    'fewest beforehand. The headline is the last checkpoint for all; the best by its own '
    'validation loss is in the fairness table. Nothing is chosen on test.'
  )
  lines.append(
    f'Below {results_lib.MINIMUM_SEEDS} seeds there is no interval and no verdict: a range of a '
    'few seeds says little about the next one. The ± of bits covers test examples, not seeds.'
  )
  listed = ''.join(f'<li>{_text(line)}</li>' for line in lines)
  return f'<h2>What the numbers mean</h2><ul>{listed}</ul>'


def _troubles(results: Mapping) -> str:
  parts = []
  if results['notes']:
    listed = ''.join(f'<li>{_text(note)}</li>' for note in results['notes'])
    parts.append(f'<h2>Notes</h2><ul>{listed}</ul>')
  runs = [('failed', run) for run in results['failures']]
  runs += [('unfinished', run) for run in results['unfinished']]
  if runs:
    rows = [
      ('', [_text(run['name']), state, _text(run.get('reason') or ''),
            f'<code>{_text(run.get("log") or "")}</code>'])
      for state, run in runs
    ]  # fmt: skip
    table = _table(['run', 'state', 'reason', 'log'], rows, left=4)
    parts.append(f'<h2>Runs that are not in the tables</h2>{table}')
  return ''.join(parts)


def render(results: Mapping, pictures: Mapping[str, bytes]) -> str:
  """The whole page.

  Args:
    results: the content of results.json.
    pictures: PNG bytes by the names of `launch.figures.draw_all`.
  """
  body = (
    _header(results) + '<h2>Results</h2>' + _result_table(results) + _reading(results)
    + _pictures(pictures) + _fairness(results) + _meaning(results) + _troubles(results)
  )  # fmt: skip
  title = _text(f'Bits & Probes: {results["dataset"]}')
  return (
    '<!doctype html><html lang="en"><head><meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width, initial-scale=1">'
    f'<link rel="icon" href="data:,"><title>{title}</title><style>{_STYLE}</style></head>'
    f'<body>{body}</body></html>\n'
  )
