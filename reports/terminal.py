"""The report as plain text for the terminal, at most 100 columns wide."""

from collections.abc import Mapping, Sequence
import textwrap

from reports import results as results_lib
from reports import wording

_WIDTH = 100


def terminal_table(results: Mapping) -> str:
  """The result table as plain text, at most 100 columns wide."""
  raw = results['controls'].get('raw') or {}
  pairs = [pair for pair in results_lib.probe_counts(results['runs'], raw) if pair[0] == 'linear']
  head = ['objective', 'code', 'bits/dim', *(labels for _, labels in pairs)]
  head.append('g × seeds' if any(entry['grammars'] for entry in results['summary']) else 'seeds')
  rows = [row for label, entry in zip(wording.names(results), results['summary'], strict=True)
          for row in _entry_rows(label, entry, pairs)]  # fmt: skip
  if raw:
    values = [(raw.get(p) or {}).get(n, {}).get('accuracy') for p, n in pairs]
    rows.append([wording.raw_text(results), '', '', *map(wording.percent_text, values), ''])
  for name, label in (('histogram', 'per-pixel histogram'), ('uniform', 'uniform')):
    bits = results['controls'].get(f'{name}_bits_per_dim')
    if bits is not None:
      rows.append([label, 'exact', f'{bits:.3f}', *[''] * (len(head) - 3)])
  return '\n'.join([_title(results), '', *_aligned([head, *rows]), '', *_foot(results)])


def _entry_rows(
  label: str, entry: Mapping, pairs: Sequence[tuple[str, str]]
) -> list[list[str] | str]:
  """The means, their ranges or intervals, then a line for whatever else belongs to these runs."""
  first = [label, wording.code_text(entry['code']), _bits(entry)]
  under = ['  interval' if entry['units'] >= results_lib.MINIMUM_SEEDS else '  range', '']
  under.append(wording.spread_text(entry, 'bits_per_dim', 'bits', 1, 3))
  for probe, labels in pairs:
    name = f'{probe}_{labels}'
    star = '*' if entry.get('saw_labels') and labels != 'all' else ''
    first.append(wording.percent_text(entry.get(name)) + star)
    under.append(wording.spread_text(entry, name, name, 100, 1))
  rows: list[list[str] | str] = [[*first, wording.repetitions_text(entry)]]
  rows += [[*under, '']] if any(under[2:]) else []
  rows += [
    f'  also: {_bits(other)} {wording.also_text(name, other["code"])}'
    for name, other in entry['also'].items()
  ]
  if entry['linear_best_levels']:
    best = wording.percent_text(entry['linear_best_level'])
    rows.append(f'  best level, all labels: {best} {wording.levels_text(entry)}')
  return rows


def _bits(entry: Mapping) -> str:
  bits = wording.bits_text(entry['bits_per_dim'], entry['code'])
  return bits if entry['bits_stderr'] is None else f'{bits} ±{entry["bits_stderr"]:.3f}'


def _aligned(rows: Sequence[Sequence[str] | str]) -> list[str]:
  """Columns two apart, the first two to the left; the first is shortened if need be. A string
  among the rows is a line without columns."""
  widths = [max(map(len, column)) for column in zip(*_cells(rows), strict=True)]
  gap = 2 if sum(widths) + 2 * (len(widths) - 1) <= _WIDTH else 1
  widths[0] = max(8, min(widths[0], _WIDTH - sum(widths[1:]) - gap * (len(widths) - 1)))
  lines = []
  for row in rows:
    if isinstance(row, str):
      lines.append(row)
      continue
    first = row[0] if len(row[0]) <= widths[0] else row[0][: widths[0] - 1] + '…'
    cells = [first.ljust(widths[0]), row[1].ljust(widths[1])]
    cells += [cell.rjust(width) for cell, width in zip(row[2:], widths[2:], strict=True)]
    lines.append((' ' * gap).join(cells).rstrip())
  return [lines[0], '-' * max(map(len, lines)), *lines[1:]]


def _cells(rows: Sequence[Sequence[str] | str]) -> list[Sequence[str]]:
  return [row for row in rows if not isinstance(row, str)]


def _title(results: Mapping) -> str:
  primary = results['primary']
  return _wrapped(
    f'{results["dataset"]}, {results["dims"]} dimensions of {results["alphabet"]} values; '
    f'{wording.tuning_text(results)}; linear probe, test accuracy in % by number of labels '
    f'(primary: {primary["labels"]})'
  )


def _wrapped(text: str) -> str:
  return '\n'.join(textwrap.wrap(text, _WIDTH, subsequent_indent='  ', break_on_hyphens=False))


def _foot(results: Mapping) -> list[str]:
  summary = results['summary']
  lines = [f'ERROR: {error}' for error in results['errors']]
  if any(entry['code'] == 'upper_bound' for entry in summary):
    lines.append('≤: an upper bound, not comparable with an exact code. n/a: no likelihood.')
  for label, entry in zip(wording.names(results), summary, strict=True):
    lines += _about(label, entry)
  if any(entry.get('saw_labels') for entry in summary):
    lines.append('*: saw all labels.')
  lines += wording.equal_regret_lines(results)
  if results['equal_regret']:
    lines.append(wording.PUBLISHED)
  if results['verdicts']:
    lines += wording.verdict_lines(results)
  else:
    unit = wording.unit_word(results)
    lines.append(f'No verdicts: fewer than {results_lib.MINIMUM_SEEDS} common {unit}.')
  lines += wording.indistinct_lines(results)
  lines += results['notes']
  for state in ('failures', 'unfinished'):
    word = 'failed' if state == 'failures' else 'unfinished'
    lines += [f'{word}: {run["name"]} ({run.get("reason") or "unknown"}), log {run.get("log")}'
              for run in results[state]]  # fmt: skip
  return [_wrapped(line) for line in lines]


def _about(label: str, entry: Mapping) -> list[str]:
  """Lines on one objective under the table."""
  lines = []
  for text, part in [(label, entry)] + [
    (f'{label}, {wording.also_text(name, other["code"])}', other)
    for name, other in entry['also'].items()
  ]:
    if part.get('no_context_learned'):
      lines.append(f'{text}: no context learned (within 0.05 bits of the per-pixel histogram).')
    if part['regret'] is not None:
      stderr = '' if part['regret_stderr'] is None else f' ±{part["regret_stderr"]:.4f}'
      spread = wording.spread_text(part, 'regret', 'regret', 1, 4)
      lines.append(
        f'{text}: regret {wording.regret_text(part["regret"], part["regret_kind"])}{stderr} bits '
        f'per dimension above the true {part["entropy_bits_per_dim"]:.3f}'
        + (f' ({spread} over runs).' if spread else '.')
      )
  if entry.get('masked_cross_entropy_bits') is not None:
    histogram = entry.get('masked_cross_entropy_histogram_bits')
    beside = '' if histogram is None else f', per-pixel histogram {histogram:.3f}'
    bits = entry['masked_cross_entropy_bits']
    lines.append(f'{label}: {bits:.3f} bits a masked token{beside}.')
  if entry['terms']:
    parts = ', '.join(f'{name} {value:.4f}' for name, value in entry['terms'].items())
    lines.append(f'{label}: terms of its bound {parts}.')
  return lines
