"""The report as one self-contained HTML page: no scripts, no requests, opens from disk."""

import base64
from collections.abc import Mapping, Sequence

from reports import canvas, fairness, page_codes, page_probes, page_truth, wording
from reports import results as results_lib
from reports.captions import CAPTIONS
from reports.markup import STYLE, escape, listed, small, table
from reports.wording import bits_text, code_text, percent_text, spread_text, tuning_text


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
    **_grammars(results),
    'Runs': f'{len(results["runs"])} finished'
    + _counted(results['failures'], 'failed') + _counted(results['unfinished'], 'unfinished'),
    'Git': results.get('git') or 'unknown',
    'Versions': ', '.join(f'{k} {v}' for k, v in results['versions'].items()) or 'unknown',
  }  # fmt: skip
  fields = ''.join(f'<dt>{escape(k)}</dt><dd>{escape(v)}</dd>' for k, v in rows.items())
  command = results.get('command')
  again = f'<p>To make this page again:</p><pre>{escape(command)}</pre>' if command else ''
  return f'<h1>Bits &amp; Probes</h1><p>{escape(sentence)}</p><dl>{fields}</dl>{again}'


def _grammars(results: Mapping) -> dict[str, str]:
  """A line that lists every draw of the source."""
  summary = results['summary']
  grammars = dict.fromkeys(str(grammar) for entry in summary for grammar in entry['grammars'])
  seeds = dict.fromkeys(str(seed) for entry in summary for seed in entry['seed_values'])
  return {'Grammars': f'{", ".join(grammars)}; seeds {", ".join(seeds)}'} if grammars else {}


def _errors(results: Mapping) -> str:
  """Numbers that can't be true, above everything else."""
  lines = ''.join(f'<p class="wrong">{escape(line)}</p>' for line in results['errors'])
  return f'<h2 class="wrong">Impossible numbers</h2>{lines}' if lines else ''


def _counted(items: Sequence, word: str) -> str:
  return f', {len(items)} {word}' if items else ''


def _result_table(results: Mapping) -> str:
  raw = results['controls'].get('raw') or {}
  pairs = results_lib.probe_counts(results['runs'], raw)
  summary, looks = results['summary'], canvas.styles(results)
  also = any(entry['also'] for entry in summary)
  levels = any(entry['linear_best_levels'] for entry in summary)
  tokens = any(entry['token_accuracy'] is not None for entry in summary)
  head = ['objective', 'code', 'bits per dimension<small>test</small>']
  head += ['by another code' + small('same weights')] * also
  head += ['tokens<br>predicted' + small('test, %')] * tokens
  head += _probe_heads(pairs, levels)
  rows = []
  for entry in summary:
    style = looks[canvas.kind_of(entry)]
    swatch = f'<span class="swatch" style="background:{style.colour}"></span>'
    cells = [swatch + escape(style.label), code_text(entry['code']), _bits_cell(entry)]
    cells += [_also_cell(entry)] * also + [_token_cell(entry)] * tokens
    cells += _probe_cells(entry, pairs, levels)
    cells.append(wording.repetitions_text(entry))
    rows.append(('' if entry.get('trained', True) else 'control', cells))
  if raw:
    cells = []
    for p, n in pairs:
      cells.append(percent_text((raw.get(p) or {}).get(n, {}).get('accuracy')))
      cells += [''] * (levels and (p, n) == ('linear', 'all'))
    cells = [''] * (2 + also + tokens) + cells
    rows.append(('control', [escape(wording.raw_text(results)), *cells, '']))
  for name, label in (('histogram', 'per-pixel histogram'), ('uniform', 'uniform')):
    bits = results['controls'].get(f'{name}_bits_per_dim')
    if bits is not None:
      cells = [label, 'exact', bits_text(bits, 'exact')]
      rows.append(('control', cells + [''] * (len(head) - len(cells) + 1)))
  last = 'grammars<br>× seeds' if any(entry['grammars'] for entry in summary) else 'seeds'
  return table([*head, last], rows, left=2)


def _probe_heads(pairs: Sequence[tuple[str, str]], levels: bool) -> list[str]:
  head = []
  for probe, labels in pairs:
    primary = (probe, labels) == results_lib.PRIMARY
    number = 'all labels' if labels == 'all' else f'{labels} labels'
    head.append(f'{escape(probe)}<br>{escape(number)}' + small('primary' if primary else ''))
    if levels and (probe, labels) == ('linear', 'all'):
      head.append('all labels,<br>best level')
  return head


def _probe_cells(entry: Mapping, pairs: Sequence[tuple[str, str]], levels: bool) -> list[str]:
  cells = []
  for probe, labels in pairs:
    name = f'{probe}_{labels}'
    cell = percent_text(entry.get(name)) + small(spread_text(entry, name, name, 100, 1))
    if entry.get('saw_labels') and labels != 'all':
      cell += small('saw all labels', 'flag')
    cells.append(cell)
    if levels and (probe, labels) == ('linear', 'all'):
      best = 'linear_best_level'
      cell = percent_text(entry[best]) + small(spread_text(entry, best, best, 100, 1))
      cells.append(cell + small(wording.levels_text(entry)))
  return cells


def _bits_cell(entry: Mapping) -> str:
  cell = bits_text(entry['bits_per_dim'], entry['code'])
  if entry['bits_per_dim'] is None:
    return cell
  if entry.get('wrong'):
    cell = f'<span class="wrong">{cell}</span>' + small('impossible, see the top', 'wrong')
  cell += small(spread_text(entry, 'bits_per_dim', 'bits', 1, 3)) + small(
    wording.stderr_text(entry)
  )
  if entry.get('no_context_learned'):
    cell += small('no context learned', 'flag')
  return cell


def _also_cell(entry: Mapping) -> str:
  """Other codes of the same weights; never part of the objective's own column."""
  cells = [
    _bits_cell(other) + small(wording.also_text(name, other['code']))
    for name, other in entry['also'].items()
  ]
  return '<br>'.join(cells)


def _token_cell(entry: Mapping) -> str:
  """Token accuracy, and of which tokens; '–' for an objective that predicts none."""
  name = 'token_accuracy'
  if entry[name] is None:
    return '–'
  spread = small(spread_text(entry, name, name, 100, 1))
  return percent_text(entry[name]) + spread + small(entry['token_accuracy_of'] or '')


def _reading(results: Mapping) -> str:
  """The lines directly under the result table: units, then what may be said of differences."""
  unit, few = wording.unit_word(results), results_lib.MINIMUM_SEEDS
  lines = [
    f'Probe columns are test accuracy in percent. Small figures: the 95 % t interval over {unit} '
    f'from {few} {unit}, the lowest and highest run below that; for bits also the standard error '
    'over test examples and the draws an example.'
  ]
  if any(entry['linear_best_levels'] for entry in results['summary']):
    lines.append(
      'Best level: test accuracy at the noise level or mask ratio that validation chose, the clean '
      'input among them; the headline beside it is the clean input.'
    )
  if any(entry['token_accuracy'] is not None for entry in results['summary']):
    lines.append(
      'Tokens predicted: how often the most probable token is the right one, mean over examples. '
      'The next token, given all before it, and hidden tokens, given the others, are different '
      'questions: objectives do not compare on it, sizes of one objective do.'
    )
  for label, entry in zip(wording.names(results), results['summary'], strict=True):
    bits = entry.get('masked_cross_entropy_bits')
    if bits is not None:
      line = f'{label} has no likelihood; a masked token costs it {bits:.3f} bits on average'
      histogram = entry.get('masked_cross_entropy_histogram_bits')
      if histogram is not None:
        line += f', any token costs the per-pixel histogram {histogram:.3f}'
      lines.append(line + '.')
  body = ''.join(f'<p class="soft">{escape(line)}</p>' for line in lines)
  same = listed(wording.indistinct_lines(results)) if results['indistinct'] else ''
  if not results['verdicts']:
    verdict = (
      f'<p>No verdicts: fewer than {few} common {unit} for every pair. Ranges of so few that do '
      'not overlap are no verdict either.</p>'
    )
    return body + '<h2>What can be told apart</h2>' + verdict + same
  primary, count = results['primary'], len(results['verdicts'])
  measure = escape(f'{primary["probe"]} probe at {primary["labels"]} labels')
  return body + (
    f'<h2>Verdicts</h2><p>On the {measure}: paired t over {unit}, ± is the 95 % interval of a '
    f'pair, Holm over all {count} pairs decides.</p>{listed(wording.verdict_lines(results))}{same}'
  )


def _pictures(pictures: Mapping[str, bytes]) -> str:
  parts = []
  for name, data in pictures.items():
    title, caption = CAPTIONS[name]
    source = 'data:image/png;base64,' + base64.b64encode(data).decode('ascii')
    title = escape(title)
    # A PNG names its width in bytes 16 to 20. No larger than drawn: letters keep their size.
    size = f'style="max-width: {int.from_bytes(data[16:20]) * 96 / canvas.DPI:.0f}px"'
    parts.append(
      f'<h2>{title}</h2><figure><div class="wide"><img {size} alt="{title}" src="{source}"></div>'
      f'<figcaption>{escape(caption)}</figcaption></figure>'
    )
  return ''.join(parts)


# What the numbers mean, what went wrong, and the page.


def _meaning(results: Mapping) -> str:
  summary = results['summary']
  codes, unit = {entry['code'] for entry in summary}, wording.unit_word(results)
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
  if any(entry['also'] for entry in summary):
    lines.append(
      'Where the same weights can be scored by another code, that number has a column of its own: '
      'the objective was not trained for it, and it is never averaged with its own.'
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
    f'Below {results_lib.MINIMUM_SEEDS} {unit} there is no interval and no verdict: a range of a '
    f'few {unit} says little about the next one. The ± of bits covers test examples, not {unit}.'
  )
  if unit == 'grammars':
    lines.append(
      'A run is one grammar and one seed. Every grammar is a source of its own; seeds of one '
      'grammar are averaged before an interval or a verdict, because they share it.'
    )
  return f'<h2>What the numbers mean</h2>{listed(lines)}'


def _troubles(results: Mapping) -> str:
  parts = []
  if results['notes']:
    parts.append(f'<h2>Notes</h2>{listed(results["notes"])}')
  runs = [('failed', run) for run in results['failures']]
  runs += [('unfinished', run) for run in results['unfinished']]
  if runs:
    rows = [
      ('', [escape(run['name']), state, escape(run.get('reason') or ''),
            f'<code>{escape(run.get("log") or "")}</code>'])
      for state, run in runs
    ]  # fmt: skip
    runs_table = table(['run', 'state', 'reason', 'log'], rows, left=4)
    parts.append(f'<h2>Runs that are not in the tables</h2>{runs_table}')
  return ''.join(parts)


def render(results: Mapping, pictures: Mapping[str, bytes]) -> str:
  """The whole page.

  Args:
    results: the content of results.json.
    pictures: PNG bytes by the names of `reports.canvas.draw_all`.
  """
  body = (
    _header(results) + _errors(results) + '<h2>Results</h2>' + _result_table(results)
    + _reading(results) + page_probes.probes_section(results)
    + page_codes.regret_section(results) + page_truth.regret_section(results)
    + page_truth.terms_table(results) + _pictures(pictures) + page_codes.theory_section(results)
    + fairness.fairness(results) + _meaning(results) + _troubles(results)
  )  # fmt: skip
  title = escape(f'Bits & Probes: {results["dataset"]}')
  return (
    '<!doctype html><html lang="en"><head><meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width, initial-scale=1">'
    f'<link rel="icon" href="data:,"><title>{title}</title><style>{STYLE}</style></head>'
    f'<body>{body}</body></html>\n'
  )
