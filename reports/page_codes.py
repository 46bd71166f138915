"""What codes of the labels say of representations: regret, and bits against label codes."""

from collections.abc import Mapping, Sequence
import textwrap

from reports.markup import escape, listed, small, table
from reports.wording import code_text

_WIDTH = 100
_LOWER_BOUND = (
  'Regret is a lower bound: the length of a code minus that of the best of all learners tried on '
  'the same labels; a learner that nobody tried may do better.'
)


def bits_text(value: float | None, sign: bool = False) -> str:
  """Bits as people read them: '1,137', '-12.3', 'n/a' where there are none."""
  if value is None:
    return 'n/a'
  decimals = 0 if abs(value) >= 100 else 1
  return f'{value:{"+" if sign else ""},.{decimals}f}'


def rho_text(value: float | None) -> str:
  """A correlation, 'n/a' where there is none."""
  return 'n/a' if value is None else f'{value:+.2f}'


# Regret of representations.


def _heading(found: Mapping) -> str:
  return (
    f'{found["dataset"] or "features"}: {found["labels"]:,} labels in the order of seed '
    f'{found["seed"]}, the first {found["first"]} uniformly; uniform '
    f'{bits_text(found["uniform_bits"])} bits'
  )


def _about(found: Mapping) -> list[str]:
  """What the numbers of one set of labels are measured against."""
  best, own = found['best'], found['scratch']
  lines = [
    f'Best of the {best["tried"]} codes tried: {bits_text(best["bits"])} bits ({best["name"]}).'
  ]
  for size, scratch in own.items():
    where = f' ({size})' if len(own) > 1 else ''
    if scratch is None:
      lines.append(f'From scratch{where}: n/a, no untrained backbone and no raw input.')
      continue
    lines.append(
      f'From scratch{where}: {bits_text(scratch["bits"])} bits ({scratch["name"]})'
      + ('.' if scratch['fine_tuned'] else ', for no untrained backbone was fine-tuned.')
    )
  if found['without_pretraining']:
    without = found['without_pretraining']
    lines.append(
      f'Best without pretraining: {bits_text(without["bits"])} bits ({without["name"]}).'
    )
  if found['truth_bits'] is not None:
    lines.append(
      f'Under the true law the labels cost {bits_text(found["truth_bits"])} bits given the whole '
      'input: true regret is measured against that.'
    )
  return lines


def _spread(row: Mapping) -> str:
  if row['bits_ci95'] is not None:
    low, high = row['bits_ci95']
  elif row['replicates'] > 1:
    low, high = row['bits_min'], row['bits_max']
  else:
    return ''
  return f'{bits_text(low)}–{bits_text(high)}'


def _true_regret(found: Mapping, row: Mapping) -> float | None:
  return None if found['truth_bits'] is None else row['bits'] - found['truth_bits']


def _name(row: Mapping) -> str:
  return row['of'] + (f' ({row["size"]})' if row['size'] else '')


def regret_lines(made: Mapping) -> list[str]:
  """`codes.regret.tables` for the terminal: blocks of text."""
  blocks = []
  for found in made['sets']:
    known = found['truth_bits'] is not None
    head = ['', 'learner', 'runs', 'bits', 'interval' if _intervals(found) else 'range']
    head += ['regret ≥'] + ['true regret'] * known + ['saved', 'over best']
    rows = []
    for row in found['rows']:
      pretrained = row['kind'] == 'pretrained'
      cells = [_name(row), row['learner'], str(row['replicates']), bits_text(row['bits'])]
      cells += [_spread(row), bits_text(row['regret'])]
      cells += [bits_text(_true_regret(found, row))] * known
      saved = [bits_text(row[name], True) for name in ('saved', 'saved_in_all')]
      rows.append([*cells, *(saved if pretrained else ['', ''])])
    lines = [_heading(found), '', *aligned([head, *rows], 2), '', *_about(found)]
    blocks.append('\n'.join(map(wrapped, lines)))
  foot = [
    _LOWER_BOUND,
    'Saved: bits fewer than learning from scratch; over best: than the best code without '
    'pretraining, so below zero pretraining did not pay. Interval (95 % t over runs) from 5 runs, '
    'range below that.',
  ]
  return [*blocks, '\n'.join(map(wrapped, [*foot, *made['notes']]))]


def _intervals(found: Mapping) -> bool:
  return any(row['bits_ci95'] is not None for row in found['rows'])


def aligned(rows: Sequence[Sequence[str]], left: int = 1) -> list[str]:
  """Columns two apart, the first `left` of them to the left, the first row underlined."""
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  lines = [
    '  '.join(
      cell.ljust(width) if i < left else cell.rjust(width)
      for i, (cell, width) in enumerate(zip(row, widths, strict=True))
    ).rstrip()
    for row in rows
  ]
  return [lines[0], '-' * max(map(len, lines)), *lines[1:]]


def wrapped(text: str) -> str:
  """The text in lines of at most 100 columns; a shorter one as it is."""
  if len(text) <= _WIDTH:
    return text
  return '\n'.join(textwrap.wrap(text, _WIDTH, subsequent_indent='  ', break_on_hyphens=False))


def regret_section(results: Mapping) -> str:
  """Regret of every backbone on the labels; '' without codes that can be compared."""
  made = results.get('label_regret') or {'sets': ()}
  if not made['sets']:
    return ''
  parts = ['<h2>Regret on the labels</h2>']
  for found in made['sets']:
    head = ['', 'learner', 'runs', 'label code' + small('bits'), 'regret' + small('≥, bits')]
    head += ['saved<br>over scratch' + small('bits')]
    head += ['over the best<br>without pretraining' + small('bits')]
    rows = []
    for row in found['rows']:
      pretrained = row['kind'] == 'pretrained'
      cells = [escape(_name(row)), row['learner'], str(row['replicates'])]
      cells += [bits_text(row['bits']) + small(_spread(row)), bits_text(row['regret'])]
      saved = [bits_text(row[name], True) for name in ('saved', 'saved_in_all')]
      rows.append(('' if pretrained else 'control', [*cells, *(saved if pretrained else ['', ''])]))
    note = f': {found["note"]}' if len(made['sets']) > 1 and found['note'] else ''
    parts.append(f'<p>{escape(_heading(found) + note)}</p>{table(head, rows, left=2)}')
    parts.append(listed(_about(found)))
  lines = [_LOWER_BOUND, *made['notes']]
  return ''.join(parts) + ''.join(f'<p class="soft">{escape(line)}</p>' for line in lines)


# Bits against codes of the labels.


def theory_section(results: Mapping) -> str:
  """Correlations of bits per dimension with label codes, '' where no run has both."""
  entries = results.get('theory') or ()
  if not entries:
    return ''
  head = ['objective', 'code', 'label code', 'runs', 'checkpoints', 'between runs', 'within runs']
  rows, reasons = [], {}
  for entry in entries:
    between, within = entry['between'], entry['within']
    count = sum(len(run['points']) for run in entry['runs'])
    name = f'{entry["objective"]}, {entry["learner"]}'
    for kind, found in (('between', between), ('within', within)):
      if found['reason']:
        reasons.setdefault(f'n/a {kind} runs: {found["reason"]}', []).append(name)
    cells = [escape(entry['objective']), code_text(entry['code']), entry['learner']]
    cells += [str(len(entry['runs'])), str(count), rho_text(between['rho']) + small(_p(between))]
    rows.append(('', [*cells, rho_text(within['rho']) + small(_range(within))]))
  lines = [
    f'{reason}' + ('.' if len(names) == len(entries) else f' ({"; ".join(names)}).')
    for reason, names in reasons.items()
  ]
  lead = (
    'Spearman’s correlation of validation bits per dimension with the length of the label code; '
    'above zero: fewer bits go with a shorter label code. Between runs: of the means of runs over '
    'the checkpoints that all of them have. Within runs: along each run by itself, mean over runs; '
    'checkpoints of a run are not independent, and both numbers tend to fall with training. No p '
    'below 5 runs; from 5 on, by permutation of the runs, not corrected for the number of rows.'
  )
  return (
    f'<h2>Bits against codes of the labels, in numbers</h2><p class="soft">{lead}</p>'
    f'{table(head, rows, left=3)}{listed(lines)}'
  )


def _p(found: Mapping) -> str:
  if found['rho'] is None:
    return ''
  return f'{found["runs"]} runs' + ('' if found['p'] is None else f', p = {found["p"]:.3f}')


def _range(found: Mapping) -> str:
  if found['rho'] is None:
    return ''
  count = f'{found["runs"]} run' + ('s' if found['runs'] > 1 else '')
  if found['runs'] < 2:
    return count
  return f'{found["minimum"]:+.2f} to {found["maximum"]:+.2f}, {count}'
