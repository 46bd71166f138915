"""The report and its parts as plain text for the terminal, at most 100 columns wide."""

from collections.abc import Collection, Mapping, Sequence
import textwrap

from probes.measures import Measure, at
from reports import compute, label_text, numbers, pairs, planned, predictions, summary, wording

WIDTH = 100
_NAME = 21  # letters of an objective in a table of pairs


def terminal_table(results: Mapping) -> str:
  """The result table as plain text, at most 100 columns wide."""
  raw = results['controls'].get('raw') or {}
  pairs = [pair for pair in summary.probe_counts(results['runs'], raw) if pair[0] == 'linear']
  head = ['objective', 'code', 'bits/dim', *(labels for _, labels in pairs)]
  head.append('g × seeds' if any(entry['grammars'] for entry in results['summary']) else 'seeds')
  rows = [row for label, entry in zip(wording.names(results), results['summary'], strict=True)
          for row in _entry_rows(label, entry, pairs)]  # fmt: skip
  if raw:
    values = [(raw.get(p) or {}).get(n, {}).get('accuracy') for p, n in pairs]
    rows.append([wording.raw_text(results), '', '', *map(numbers.percent_text, values), ''])
  if majority := results['controls'].get('majority'):
    guess = numbers.percent_text(majority['accuracy'])
    rows.append(['majority class', '', '', *[guess] * len(pairs), ''])
  for name, label in (('histogram', 'per-position histogram'), ('uniform', 'uniform')):
    bits = results['controls'].get(f'{name}_bits_per_dim')
    if bits is not None:
      rows.append([label, 'exact', f'{bits:.3f}', *[''] * (len(head) - 3)])
  table = aligned([head, *rows], left=(0, 1), width=WIDTH)
  top = [_title(results), *map(wrapped, planned.lines(results.get('plan')))]
  return '\n'.join([*top, '', *table, '', *_foot(results)])


def _entry_rows(
  label: str, entry: Mapping, pairs: Sequence[tuple[str, str]]
) -> list[list[str] | str]:
  """The means, their ranges or intervals, then a line for whatever else belongs to these runs."""
  first = [label, numbers.code_text(entry['code']), _bits(entry)]
  under = ['  interval' if entry['units'] >= summary.MINIMUM_SEEDS else '  range', '']
  under.append(numbers.spread_text(entry, 'bits_per_dim', 'bits', 1, 3, short=True))
  for probe, labels in pairs:
    name = f'{probe}_{labels}'
    star = '*' if entry.get('saw_labels') and labels != 'all' else ''
    first.append(numbers.percent_text(entry.get(name)) + star)
    under.append(numbers.spread_text(entry, name, name, 100, 1, short=True))
  rows: list[list[str] | str] = [[*first, wording.repetitions_text(entry)]]
  rows += [[*under, '']] if any(under[2:]) else []
  rows += [_also(name, other) for name, other in entry['also'].items()]
  if entry['linear_best_levels']:
    best = numbers.percent_text(entry['linear_best_level'])
    rows.append(f'  best level, all labels: {best} {numbers.levels_text(entry)}')
  return rows


def _also(name: str, other: Mapping) -> str:
  some = numbers.count_text(other, 'bits')
  return f'  also: {_bits(other)} {numbers.also_text(name, other)}' + (f', {some}' if some else '')


def _bits(entry: Mapping) -> str:
  bits = numbers.bits_text(entry['bits_per_dim'], entry['code'])
  return bits if entry['bits_stderr'] is None else f'{bits} ±{entry["bits_stderr"]:.3f}'


def _title(results: Mapping) -> str:
  title = (
    f'{results["dataset"]}, {results["dims"]} dimensions of {results["alphabet"]} values; '
    f'{wording.tuning_text(results)}'
  )
  if results['classes'] is not None:
    labels = results['primary']['labels']
    title += f'; linear probe, test accuracy in % by number of labels (primary: {labels})'
  return wrapped(title)


def _foot(results: Mapping) -> list[str]:
  entries = results['summary']
  lines = [f'ERROR: {error}' for error in results['errors']]
  if any(entry['code'] == 'upper_bound' for entry in entries):
    lines.append('≤: an upper bound, not comparable with an exact code.')
  if any(entry['code'] == 'estimate' for entry in entries):
    lines.append('≈: its normaliser is estimated, and it may lie on either side: not ranked.')
  if reason := numbers.no_bits_text(entries):
    lines.append(f'n/a: {reason}.')
  if any(entry.get('bits_stderr') for entry in entries):
    lines.append('± beside bits: the standard error over test examples.')
  for label, entry in zip(wording.names(results), entries, strict=True):
    lines += _about(label, entry)
  if any(entry.get('saw_labels') for entry in entries):
    lines.append('*: saw all labels.')
  lines += filter(None, [wording.intervals_text(results), wording.few_labels_of_raw(results)])
  lines += wording.equal_regret_lines(results)
  if results['equal_regret']:
    lines.append(wording.PUBLISHED)
  if results['verdicts']:
    lines += [wording.verdicts_text(results)]
    lines += _verdicts(results['verdicts'], predictions.PRIMARY.name)
  else:
    lines.append(f'No verdicts: {results["no_verdicts"]}.')
  if results['beside']:
    lines.append(wording.other_verdicts_text())
  for other in results['beside']:
    lines += _verdicts(other['verdicts'], other['measure'], f'{other["measure"]}: ')
  lines += wording.indistinct_lines(results)
  lines += [*results['notes'], *compute.lines(results.get('compute'))]
  for state in ('failures', 'unfinished'):
    word = 'failed' if state == 'failures' else 'unfinished'
    lines += [f'{word}: {run["name"]} ({run.get("reason") or "unknown"}), see {run.get("log")}'
              for run in results[state]]  # fmt: skip
  return [wrapped(line) for line in lines]


def _verdicts(made: Sequence[Mapping], measure: str, start: str = '') -> list[str]:
  """Sentences; where there are many a table."""
  if not pairs.are_many(made):
    return [start + line for line in wording.verdict_lines(made)]
  rows = [
    [*(pairs.shortened(name, _NAME) for name in row[:2]), *row[2:]]
    for row in (pairs.HEAD, *pairs.rows(made, measure))
  ]
  return [*filter(None, [start.rstrip()]), '', *aligned(rows, left=(0, 1, 6), width=WIDTH), ''] + (
    pairs.notes(made, measure)
  )


def _about(label: str, entry: Mapping) -> list[str]:
  """Lines on one objective under the table."""
  lines = []
  for text, part in [(label, entry)] + [
    (f'{label}, {numbers.also_text(name, other)}', other) for name, other in entry['also'].items()
  ]:
    if part.get('no_context_learned'):
      lines.append(f'{text}: no context learned (within 0.05 bits of the per-position histogram).')
    if part['regret'] is not None:
      stderr = '' if part['regret_stderr'] is None else f' ±{part["regret_stderr"]:.4f}'
      spread = numbers.spread_text(part, 'regret', 'regret', 1, 4)
      lines.append(
        f'{text}: regret {numbers.regret_text(part["regret"], part["regret_kind"])}{stderr} bits '
        f'per dimension above the true {part["entropy_bits_per_dim"]:.3f}'
        + (f' ({spread} over runs).' if spread else '.')
      )
  if entry.get('masked_cross_entropy_bits') is not None:
    histogram = entry.get('masked_cross_entropy_histogram_bits')
    beside = '' if histogram is None else f', per-position histogram {histogram:.3f}'
    bits = entry['masked_cross_entropy_bits']
    lines.append(f'{label}: {bits:.3f} bits a masked token{beside}.')
  if entry['terms']:
    parts = ', '.join(f'{name} {value:.4f}' for name, value in entry['terms'].items())
    lines.append(f'{label}: terms of its bits {parts}.')
  return lines


def majority_lines(majority: Mapping | None) -> list[str]:
  """What guessing gets, as a line among accuracies."""
  if not majority:
    return []
  return [f'{"majority class (a guess)":28} {100 * majority["accuracy"]:8.1f} %']


def probe_lines(probes: Mapping, measures: Sequence[Measure]) -> list[str]:
  """One line a measure of one set of features, then one for every number of labels left out."""
  lines = []
  for measure in measures:
    value = at(probes, measure.path)
    if value is None:
      continue
    text, error, _ = numbers.measure_texts(
      measure, value, _at(probes, measure.stderr), _at(probes, measure.spread)
    )
    beside = numbers.beside_text(measure, [at(probes, path) for path in measure.beside])
    flag = numbers.flag_text(measure, probes)
    counts = [_at(probes, measure.labels)]
    of = numbers.of_labels_text(measure, [count for count in counts if count is not None])
    extra = list(filter(None, (error, flag, beside, of)))
    unit = numbers.UNITS[measure.unit][2]
    lines.append(
      f'{measure.title:28} {text:>8} {unit}' + (f' ({", ".join(extra)})' if extra else '')
    )
  return [*lines, *wording.left_out_lines(probes)]


def _at(probes: Mapping, path: Sequence[str]) -> float | None:
  """What is at a path; None also where there is no path."""
  return at(probes, path) if path else None


def label_regret_lines(made: Mapping) -> list[str]:
  """`label_regret.tables` as blocks of text."""
  blocks = []
  for found in made['sets']:
    known = found['truth_bits'] is not None
    intervals = any(row['bits_ci95'] is not None for row in found['rows'])
    head = ['', 'learner', 'runs', 'bits', 'interval' if intervals else 'range']
    head += ['regret ≥'] + ['true regret'] * known + ['saved', 'over best']
    rows = []
    for row in found['rows']:
      cells = [label_text.learned_from(row), row['learner'], str(row['replicates'])]
      cells += [numbers.length_text(row['bits']), numbers.lengths_text(row)]
      cells.append(numbers.length_text(row['regret']))
      cells += [numbers.length_text(label_text.true_regret(found, row))] * known
      for name in ('saved', 'saved_in_all'):
        cells.append(numbers.length_text(row[name], True) if row['kind'] == 'pretrained' else '')
      rows.append(cells)
    about = label_text.labels_lines(found)
    lines = [label_text.labels_text(found), '', *aligned([head, *rows], left=(0, 1)), '', *about]
    blocks.append('\n'.join(map(wrapped, lines)))
  foot = (
    'Saved: bits fewer than learning from scratch; over best: than the best code without '
    'pretraining, so below zero pretraining did not pay. Interval (95 % t over runs) from 5 runs, '
    'range below that.'
  )
  return [*blocks, '\n'.join(map(wrapped, [label_text.LOWER_BOUND, foot, *made['notes']]))]


def wrapped(text: str) -> str:
  """The text in lines of at most 100 columns; a shorter one as it is."""
  if len(text) <= WIDTH:
    return text
  return '\n'.join(textwrap.wrap(text, WIDTH, subsequent_indent='  ', break_on_hyphens=False))


def aligned(
  rows: Sequence[Sequence[str] | str], left: Collection[int] = (0,), width: int | None = None
) -> list[str]:
  """Columns two apart, those numbered in `left` to the left, the first row underlined.

  A string among the rows is a line without columns. To stay within `width` columns are one apart
  and the first is shortened, if need be.
  """
  columns = zip(*(row for row in rows if not isinstance(row, str)), strict=True)
  widths, gap = [max(map(len, column)) for column in columns], 2
  if width is not None:
    gap = 2 if sum(widths) + 2 * (len(widths) - 1) <= width else 1
    widths[0] = max(8, min(widths[0], width - sum(widths[1:]) - gap * (len(widths) - 1)))
  lines = []
  for row in rows:
    if isinstance(row, str):
      lines.append(row)
      continue
    first = pairs.shortened(row[0], widths[0])
    padded = [
      cell.ljust(size) if i in left else cell.rjust(size)
      for i, (cell, size) in enumerate(zip([first, *row[1:]], widths, strict=True))
    ]
    lines.append((' ' * gap).join(padded).rstrip())
  return [lines[0], '-' * max(map(len, lines)), *lines[1:]]
