"""The part of the page that holds every measure of the probes beside the headline."""

from collections.abc import Mapping, Sequence

from probes.measures import Measure, at, headline
from reports import canvas, wording
from reports.markup import escape, listed, small, table
from reports.tidy import RAW_CONTROLS

_CONTROL_NAMES = {'raw': 'raw input', 'pca': 'PCA of raw', 'random_relu': 'random ReLU of raw'}
# Factor from the stored value to the printed one, decimals, and the unit as a column's small print.
UNITS = {
  'fraction': (100, 1, '%'),
  'points': (100, 1, 'points'),
  'bits': (1, 2, 'bits'),
  'ratio': (1, 2, ''),
  'dimensions': (1, 1, 'dimensions'),
}


def value_text(value: float | None, unit: str) -> str:
  """A measure as text in the unit that people read, '–' if absent."""
  scale, decimals, _ = UNITS[unit]
  if value is None:
    return '–'
  decimals = 0 if abs(scale * value) >= 1000 else decimals
  return f'{scale * value:.{decimals}f}'


def probes_section(results: Mapping) -> str:
  """One row a measure, one column an objective or control, and what each measure means."""
  controls = {name: results['controls'].get(name) or {} for name in RAW_CONTROLS}
  shown = [
    measure
    for measure in headline()
    if any(measure.name in entry['measures'] for entry in results['summary'])
  ]
  if not shown:
    return ''
  head, columns = ['measure'], []
  looks = canvas.styles(results)
  for entry in results['summary']:
    style = looks[canvas.kind_of(entry)]
    swatch = f'<span class="swatch" style="background:{style.colour}"></span>'
    saw = small('saw all labels', 'flag') if entry.get('saw_labels') else ''
    head.append(swatch + escape(style.label) + saw)
    columns.append([_cell(entry, measure) for measure in shown])
  for name, probes in controls.items():
    if probes:
      head.append(escape(wording.raw_text(results) if name == 'raw' else _CONTROL_NAMES[name]))
      columns.append([_control_cell(probes, measure) for measure in shown])
  rows = [
    ('', [escape(measure.title) + small(UNITS[measure.unit][2]), *cells])
    for measure, cells in zip(shown, zip(*columns, strict=True), strict=True)
  ]
  meanings = listed(f'{measure.title}: {measure.meaning}' for measure in shown)
  lead = (
    'All on the clean input and the last checkpoint. One measure was declared primary before; '
    'these are beside it, and no verdict is drawn from them.'
  )
  return f'<h2>Every probe</h2><p class="soft">{lead}</p>{table(head, rows)}{meanings}'


def _cell(entry: Mapping, measure: Measure) -> str:
  found = entry['measures'].get(measure.name)
  if found is None:
    return '–'
  scale, decimals, _ = UNITS[measure.unit]
  decimals = 0 if abs(scale * found['mean']) >= 1000 else decimals
  spread = wording.spread_text(found, 'mean', 'mean', scale, decimals)
  flag = f'{measure.flag[-1]} in {found["flagged"]}' if found.get('flagged') else ''
  if flag and found['flagged'] == found['replicates']:
    flag = measure.flag[-1]
  cell = value_text(found['mean'], measure.unit) + small(spread) + small(flag, 'flag')
  return cell + small(_beside_text(measure, found.get('beside')))


def _control_cell(probes: Mapping, measure: Measure) -> str:
  value = at(probes, measure.path)
  if value is None:
    return '–'
  flagged = bool(measure.flag) and at(probes, measure.flag)
  cell = value_text(value, measure.unit) + small(measure.flag[-1] if flagged else '', 'flag')
  return cell + small(_beside_text(measure, at(probes, measure.beside)))


def _beside_text(measure: Measure, value: float | None) -> str:
  if not measure.beside or value is None:
    return ''
  return f'{measure.beside[-1].replace("_", " ")} {value_text(value, measure.unit)}'


def terminal_lines(probes: Mapping, measures: Sequence[Measure]) -> list[str]:
  """One line a measure of one set of features, for the terminal."""
  lines = []
  for measure in measures:
    value = at(probes, measure.path)
    if value is None:
      continue
    flagged = bool(measure.flag) and at(probes, measure.flag)
    extra = [measure.flag[-1]] if flagged else []
    if beside := _beside_text(measure, at(probes, measure.beside)):
      extra.append(beside)
    unit = UNITS[measure.unit][2]
    lines.append(
      f'{measure.title:28} {value_text(value, measure.unit):>8} {unit}'
      + (f' ({", ".join(extra)})' if extra else '')
    )
  return lines
