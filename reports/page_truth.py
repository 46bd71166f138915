"""Parts of the page on what the law of the source and other codes say of the same weights."""

from collections.abc import Mapping, Sequence

from reports import canvas, choice, wording
from reports.markup import escape, listed, small, table

_MANY = 8  # grammars up to which each has a column


def terms_table(results: Mapping) -> str:
  """The terms of every bound that has several, '' if none has."""
  summary = [entry for entry in results['summary'] if entry['terms']]
  if not summary:
    return ''
  names = list(dict.fromkeys(name for entry in summary for name in entry['terms']))
  looks, rows = canvas.styles(results), []
  for entry in summary:
    values = [entry['terms'].get(name) for name in names]
    cells = ['–' if value is None else f'{value:.4f}' for value in values]
    total = wording.bits_text(entry['bits_per_dim'], entry['code'])
    rows.append(('', [escape(looks[canvas.kind_of(entry)].label), *cells, total]))
  return (
    '<h2>The bound by its terms</h2>'
    + table(['', *map(escape, names), 'bound'], rows)
    + '<p class="soft">Bits per dimension on test, means over runs.</p>'
  )


def regret_section(results: Mapping) -> str:
  """Regret, compute to equal regret, and what they mean; '' where the source's law is unknown."""
  summary = [entry for entry in results['summary'] if _has_regret(entry)]
  if not summary:
    return ''
  lines = wording.equal_regret_lines(results)
  equal = (
    f'<h2>Compute to equal regret</h2>{listed(lines)}<p class="soft">At the lowest regret on '
    'validation that all runs of both objectives reach and that can be told from zero; training '
    'FLOPs interpolated between logarithms on the lowest regret so far, run by run, with the '
    'geometric mean and the range over runs. Points before the end of a run are not the best that '
    'their compute allows, since the learning rate was planned for the whole run. '
    f'{escape(wording.PUBLISHED)}</p>'
    if lines
    else ''
  )
  return '<h2>Regret</h2>' + _regret_table(results, summary) + _regret_meaning(summary) + equal


def _has_regret(entry: Mapping) -> bool:
  return any(part['regret'] is not None for part in (entry, *entry['also'].values()))


def _regret_table(results: Mapping, summary: Sequence[Mapping]) -> str:
  grammars = list(dict.fromkeys(g for entry in summary for g in entry['grammars']))
  shown = grammars if 1 < len(grammars) <= _MANY else []
  head = ['', 'code', 'bits', 'true entropy', 'regret<small>bits per dimension</small>']
  head += [f'grammar {escape(grammar)}' for grammar in shown]
  head += ['of it slack', 'samples that<br>the source allows', 'test strings<br>seen in training']
  looks, groups, rows = canvas.styles(results), canvas.grouped(results), []
  for entry in summary:
    kind = canvas.kind_of(entry)
    parts = {looks[kind].label: (entry, None)}
    parts |= {f'{looks[kind].label}, {wording.also_text(name, other["code"])}': (other, name)
              for name, other in entry['also'].items()}  # fmt: skip
    for label, (part, name) in parts.items():
      if part['regret'] is not None:
        by_grammar = [_of_grammar(groups[kind], grammar, name) for grammar in shown]
        cells = _regret_cells(part, by_grammar, bool(entry['wrong']))
        rows.append(('', [escape(label), *cells]))
  filled = [i for i in range(len(head)) if i < 2 or any(row[i] != '–' for _, row in rows)]
  return table([head[i] for i in filled], [(k, [row[i] for i in filled]) for k, row in rows], 2)


def _regret_cells(part: Mapping, by_grammar: Sequence[float | None], wrong: bool) -> list[str]:
  value = wording.regret_text(part['regret'], part['regret_kind'])
  if wrong:
    value = f'<span class="wrong">{value}</span>' + small('impossible, see the top', 'wrong')
  value += small(wording.spread_text(part, 'regret', 'regret', 1, 4))
  if part['regret_stderr'] is not None:
    value += small(f'± {part["regret_stderr"]:.4f}')
  cells = [wording.code_text(part['code']), wording.bits_text(part['bits_per_dim'], part['code'])]
  cells += [f'{part["entropy_bits_per_dim"]:.3f}', value]
  cells += [wording.regret_text(regret, part['regret_kind']) for regret in by_grammar]
  cells.append('–' if part['regret_slack'] is None else f'{part["regret_slack"]:.4f}')
  for name in ('grammatical_samples', 'expected_overlap'):
    cells.append('–' if part[name] is None else f'{100 * part[name]:.1f} %')
  return cells


def _of_grammar(runs: Sequence[Mapping], grammar: int, name: str | None) -> float | None:
  """Mean regret of one grammar, of the runs' own code or of the other code `name`."""
  values = [
    ((run if name is None else (run.get('also') or {}).get(name, {})).get('truth') or {}).get(
      'regret_bits_per_dim'
    )
    for run in runs
    if choice.grammar_of(run) == grammar
  ]
  values = [value for value in values if value is not None]
  return sum(values) / len(values) if values else None


def _regret_meaning(summary: Sequence[Mapping]) -> str:
  lines = [
    'Regret is what the model charges above the true entropy of the source, on the same test '
    'examples and masks as the exact conditionals. Small figures: the range over runs, and the '
    'standard error over test examples. A regret below zero by more than three standard errors is '
    'impossible and would be marked as an error.'
  ]
  if any(entry['regret_kind'] == 'bound' for entry in summary):
    lines.append(
      'With ≤, the regret of a bound: slack is the part that even the exact conditionals would '
      'show, the rest is the error of the model.'
    )
  return ''.join(f'<p class="soft">{line}</p>' for line in lines)
