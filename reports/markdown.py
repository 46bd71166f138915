"""A report's tables as Markdown, from results.json alone: what a README shows of it."""

from collections.abc import Mapping, Sequence

from probes.measures import Measure, at, headline
from reports import (
  compute,
  fairness,
  numbers,
  pairs,
  planned,
  predictions,
  styles,
  summary,
  wording,
)

_TUNING = ('learning rate', 'clip norm', 'FLOPs in total')
_VIEWED = (
  'At the FLOPs of the cheapest: the last point of every curve within them. Of a longer run it '
  'lies inside the schedule, where the learning rate has not fallen yet, so a run of that length '
  'would reach more; bits and small probe are on validation. The best step is that of the lowest '
  'validation loss of its own. In brackets the range over seeds.'
)
_VIEWS = ('at the FLOPs of the cheapest', 'at the best step')


def text(results: Mapping) -> str:
  """Tables of results, other probes, regret, views; verdicts, plan, compute, notes, command."""
  parts = [_table(*_results(results)), _table(*_probes(results)), _table(*_regrets(results))]
  if views := _table(*_views(results)):
    parts += [views, _VIEWED]
  parts.append(
    f'{_sentence(wording.tuning_text(results))} {wording.intervals_text(results)}'.strip()
  )
  measured = [(predictions.PRIMARY.name, results['verdicts'])]
  measured += [(other['measure'], other['verdicts']) for other in results['beside']]
  for name, verdicts in measured:
    if verdicts:
      rows = _table(pairs.HEAD, pairs.rows(verdicts, name))
      parts.append(f'Verdicts on {name}:\n\n{rows}\n\n{" ".join(pairs.notes(verdicts, name))}')
  if not results['verdicts']:
    parts.append(f'No verdicts: {results["no_verdicts"]}.')
  told = [*planned.lines(results.get('plan')), *compute.lines(results.get('compute'))]
  parts.append(' '.join(map(_sentence, told)))
  errors = [f'ERROR: {error}' for error in results['errors']]
  parts.append('\n'.join(f'- {_sentence(line)}' for line in [*errors, *results['notes']]))
  if results['command']:
    parts.append(f'```sh\n{results["command"]}\n```')
  return '\n\n'.join(filter(None, parts)) + '\n'


def _sentence(line: str) -> str:
  return f'{line[:1].upper()}{line[1:]}.'


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
  if not rows or len(head) < 2:
    return ''
  lines = [head, ['---'] * len(head), *rows]
  return '\n'.join(
    f'| {" | ".join(cell.replace("|", "/").replace(chr(10), " ") for cell in line)} |'
    for line in lines
  )


def _results(results: Mapping) -> tuple[list[str], list[list[str]]]:
  """What the result table of the page has: bits, other codes, the linear probe."""
  probed = summary.probe_counts(results['runs'], results['controls'].get('raw'))
  also = any(entry['also'] for entry in results['summary'])
  counts = [labels if labels == 'all' else f'{labels} labels' for _, labels in probed]
  head = [f'{results["dataset"]}, test', 'bits/dim', *(['by another code'] * also), *counts]
  rows = []
  for label, entry in zip(wording.names(results), results['summary'], strict=True):
    cells = [label, _bits(entry)]
    if also:
      cells.append('; '.join(
        f'{_bits(other)} {numbers.also_text(name, other)}'
        for name, other in entry['also'].items()
      ))  # fmt: skip
    for probe, labels in probed:
      name = f'{probe}_{labels}'
      star = r'\*' if entry.get('saw_labels') and labels != 'all' else ''
      spread = numbers.spread_text(entry, name, name, 100, 1)
      cells.append(numbers.percent_text(entry.get(name)) + star + _in_brackets(spread))
    rows.append([*cells, wording.repetitions_text(entry)])
  blank = [''] * also
  if raw := results['controls'].get('raw'):
    values = [numbers.percent_text(at(raw, (*pair, 'accuracy'))) for pair in probed]
    rows.append([wording.raw_text(results), '', *blank, *values, ''])
  if guess := results['controls'].get('majority'):
    values = [numbers.percent_text(guess['accuracy'])] * len(probed)
    rows.append(['majority class', '', *blank, *values, ''])
  for name, label in (('histogram', 'per-position histogram'), ('uniform', 'uniform')):
    if (bits := results['controls'].get(f'{name}_bits_per_dim')) is not None:
      rows.append([label, numbers.bits_text(bits, 'exact'), *blank, *[''] * len(probed), ''])
  return [*head, wording.unit_word(results)], rows


def _bits(part: Mapping) -> str:
  spread = numbers.spread_text(part, 'bits_per_dim', 'bits', 1, 3)
  return numbers.bits_text(part['bits_per_dim'], part['code']) + _in_brackets(spread)


def _in_brackets(spread: str) -> str:
  return f' ({spread})' if spread else ''


def _probes(results: Mapping) -> tuple[list[str], list[list[str]]]:
  """Every other probe, with its interval or range."""
  entries = results['summary']
  taken = [one for one in headline() if any(one.name in e['measures'] for e in entries)]
  head = ['every other probe']
  head += [f'{one.title}, {_unit(one)}{_labels(one, entries)}' for one in taken]
  rows = [
    [label, *(_mean(entry['measures'].get(one.name), one) for one in taken)]
    for label, entry in zip(wording.names(results), entries, strict=True)
  ]
  if (raw := results['controls'].get('raw')) and taken:
    values = [numbers.value_text(at(raw, one.path), one.unit) for one in taken]
    rows.append([wording.raw_text(results), *values])
  return head, rows


def _regrets(results: Mapping) -> tuple[list[str], list[list[str]]]:
  """Of a source whose law is known: what every code costs above it, and FLOPs to equal regret."""
  runs, ratios = styles.grouped(results), {}
  for found in results['equal_regret']:
    kind = found['objective'], found['size']
    ratios[kind] = 'not reached'
    if found['ratio'] is not None:
      spread = f'{found["minimum"]:.3g}–{found["maximum"]:.3g}' if found['compared'] > 1 else ''
      ratios[kind] = f'{found["ratio"]:.3g}{_in_brackets(spread)} at {found["regret"]:.2g}'
  names = ' / '.join(dict.fromkeys(found['reference'] for found in results['equal_regret']))
  head = ['regret', 'updates', 'training FLOPs', 'bits/dim above the source', 'by another code']
  rows = []
  for label, entry in zip(wording.names(results), results['summary'], strict=True):
    others = {name: part for name, part in entry['also'].items() if part['regret'] is not None}
    if entry['regret'] is None and not others:
      continue
    first = runs[styles.kind_of(entry)][0]
    also = '; '.join(
      f'{_regret(part)} {numbers.also_text(name, part)}' for name, part in others.items()
    )
    cells = [f'{first["steps"]:,}', f'{first["train_flops"]:.3g}', _regret(entry), also]
    rows.append([label, *cells, ratios.get((entry['objective'], entry['size']), '')])
  return [*head, f'FLOPs to equal regret, times those of {names}' if names else ''], rows


def _views(results: Mapping) -> tuple[list[str], list[list[str]]]:
  """Every objective at the FLOPs of the cheapest and at its own best step, as the page has them."""
  found = {name: cells for name, cells in fairness.rows(results).items()
           if name in _TUNING or any(word in name for word in _VIEWS)}  # fmt: skip
  if not any(word in name for name in found for word in _VIEWS):
    return [], []
  head = ['other views', *(name.replace('cheapest: ', 'cheapest, ') for name in found)]
  rows = [
    [label, *(cell.text + _in_brackets(cell.spread) for cell in cells)]
    for label, *cells in zip(wording.names(results), *found.values(), strict=True)
  ]
  return head, rows


def _regret(part: Mapping) -> str:
  spread = numbers.spread_text(part, 'regret', 'regret', 1, 4)
  return numbers.regret_text(part['regret'], part['regret_kind']) + _in_brackets(spread)


def _labels(measure: Measure, entries: Sequence[Mapping]) -> str:
  """', n = 2,000' where a measure says of how many labels it is."""
  found = [entry['measures'].get(measure.name, {}).get('labels') or () for entry in entries]
  told = numbers.of_labels_text(measure, [count for counts in found for count in counts])
  return told and f', {told}'


def _unit(measure: Measure) -> str:
  return numbers.UNITS[measure.unit][2] or 'ratio'


def _mean(found: Mapping | None, measure: Measure) -> str:
  if found is None:
    return '–'
  mean, _, decimals = numbers.measure_texts(
    measure, found['mean'], found.get('stderr'), found.get('spread')
  )
  scale = numbers.UNITS[measure.unit][0]
  return mean + _in_brackets(numbers.spread_text(found, 'mean', 'mean', scale, decimals))
