"""Numbers of a report as text, the same on the page and in the terminal."""

from collections.abc import Mapping, Sequence
import math

from probes.measures import Measure, at

# Of a measure's unit: factor from the stored value to the printed one, decimals, and its name.
UNITS = {
  'fraction': (100, 1, '%'),
  'points': (100, 1, 'points'),
  'bits': (1, 2, 'bits'),
  'ratio': (1, 2, ''),
  'dimensions': (1, 1, 'dimensions'),
}


def bits_text(value: float | None, code: str) -> str:
  """'1.903', '≤ 2.213', '≈ 2.05', or 'n/a': see `no_bits_text`."""
  if value is None:
    return 'n/a'
  sign = {'upper_bound': '≤ ', 'estimate': '≈ '}.get(code, '')
  return f'{sign}{value:.3f}'


def no_bits_text(entries: Sequence[Mapping]) -> str:
  """Why some of them have no bits: 'no likelihood', 'not measured on test', or both; '' if none."""
  codes = [entry['code'] for entry in entries if entry['bits_per_dim'] is None]
  reasons = {'no likelihood': 'none' in codes, 'not measured on test': set(codes) - {'none'}}
  return ' or '.join(reason for reason, there in reasons.items() if there)


def percent_text(value: float | None) -> str:
  """A fraction as a percentage with one decimal, '–' if absent."""
  return '–' if value is None else f'{100 * value:.1f}'


def spread_text(
  entry: Mapping, name: str, prefix: str, scale: float, decimals: int, short: bool = False
) -> str:
  """What stands under a mean: its 95 % interval from 5 seeds, the range below, '' for one.

  Where some of the runs lack it: 'range 20.0–30.0, 2 of 5 runs', in short 'range … of 2'.
  """
  if entry.get(name) is None:
    return ''
  ends, runs, some = entry.get(f'{prefix}_ci95'), entry['replicates'], count_text(entry, prefix)
  count = entry.get(f'{prefix}_count', runs)
  word = 'range ' if some and ends is None else ''
  if ends is None and count > 1:
    ends = entry.get(f'{prefix}_min'), entry.get(f'{prefix}_max')
  said = ends and word + '–'.join(rounded(scale * end, decimals) for end in ends)
  if short and some:
    return f'{said or ""} of {count}'.strip()
  return ', '.join(filter(None, (said, some)))


def count_text(entry: Mapping, prefix: str) -> str:
  """'2 of 5 runs' of a mean that some of the runs lack, else ''."""
  runs = entry['replicates']
  count = entry.get(f'{prefix}_count', runs)
  return f'{count} of {runs} runs' if count < runs else ''


def rounded(value: float, decimals: int) -> str:
  """A number with so many decimals; below zero they round tens, hundreds and so on."""
  return f'{round(value, decimals):.{max(decimals, 0)}f}'


def code_text(code: str) -> str:
  """The code as a reader's word."""
  return {'upper_bound': 'bound'}.get(code, code)


def also_text(name: str, part: Mapping) -> str:
  """How else the same weights were scored: 'by masked diffusion\'s bound'."""
  words = name.replace('_', ' ')
  text = f"by {words}'s bound" if part['code'] == 'upper_bound' else f'by {words}'
  return f'{text}, {part["examples"]:,} test examples' if part.get('examples') else text


def stderr_text(entry: Mapping) -> str:
  """The standard error of bits and the draws an example, '' where there is none."""
  if entry['bits_stderr'] is None:
    return ''
  draws = entry.get('evaluation_draws') or 1
  return f'± {entry["bits_stderr"]:.3f}, {draws} draw{"s" if draws > 1 else ""}'


def levels_text(entry: Mapping) -> str:
  """The levels that validation chose: 'at 0.15', 'at 0.15 (2 of 3), clean (1 of 3)'."""
  chosen = ['clean' if level is None else f'at {level:g}' for level in entry['linear_best_levels']]
  if len(set(chosen)) < 2:
    return ''.join(chosen[:1])
  return ', '.join(
    f'{name} ({chosen.count(name)} of {len(chosen)})' for name in dict.fromkeys(chosen)
  )


def regret_text(value: float | None, kind: str | None) -> str:
  """'0.0131', '≤ 0.0131' or '–'."""
  if value is None:
    return '–'
  return f'≤ {value:.4f}' if kind == 'bound' else f'{value:.4f}'


def decimals_of(value: float, unit: str, spread: float | None = None) -> int:
  """Decimals that a measure is printed with: none that its spread, in the same unit, makes idle."""
  scale, decimals, _ = UNITS[unit]
  decimals = 0 if abs(scale * value) >= 1000 else decimals
  if spread:
    decimals = min(decimals, -math.floor(math.log10(scale * spread)))
  return decimals


def value_text(value: float | None, unit: str, decimals: int | None = None) -> str:
  """A measure as text in the unit that people read, '–' if absent."""
  if value is None:
    return '–'
  return rounded(UNITS[unit][0] * value, decimals_of(value, unit) if decimals is None else decimals)


def measure_texts(
  measure: Measure, value: float, stderr: float | None = None, spread: float | None = None
) -> tuple[str, str, int]:
  """A measure, what is said of its error, and its decimals: ('500', '± 20 over orders', -1)."""
  decimals = decimals_of(value, measure.unit, spread)
  if measure.spread and spread is None:
    decimals = min(decimals, 0)  # One order is one draw: what follows the point says nothing.
  error = ''
  if stderr is not None:
    error = f'± {value_text(stderr, measure.unit, max(decimals, 0))}'
  if measure.spread:
    some = spread is not None
    error = f'± {value_text(spread, measure.unit, decimals)} over orders' if some else 'one order'
  return value_text(value, measure.unit, decimals), error, decimals


def beside_text(measure: Measure, values: Sequence[float | None]) -> str:
  """What is printed beside a measure: 'error 12.3'; nothing of what a run does not have."""
  decimals = 0 if measure.spread else None
  return ', '.join(
    f'{path[-1].removesuffix("_bits").replace("_", " ")} '
    f'{value_text(value, measure.unit, decimals)}'
    for path, value in zip(measure.beside, values, strict=True)
    if value is not None
  )


def of_labels_text(measure: Measure, counts: Sequence[float]) -> str:
  """'n = 300' of a measure that says of how many labels it is, 'n = 100 to 300' of several."""
  ends = dict.fromkeys((min(counts), max(counts))) if measure.labels and counts else ()
  return 'n = ' + ' to '.join(f'{count:,.0f}' for count in ends) if ends else ''


def flag_text(measure: Measure, probes: Mapping) -> str:
  """The flag of one set of features, such as 'vacuous'; '' where it is not raised."""
  return flag_name(measure) if measure.flag and at(probes, measure.flag) else ''


def flag_name(measure: Measure) -> str:
  """'vacuous', 'above 1'."""
  return measure.flag[-1].replace('_', ' ')


def length_text(value: float | None, sign: bool = False) -> str:
  """A code's length in bits as people read it: '1,137', '-12.3', 'n/a' where there are none."""
  if value is None:
    return 'n/a'
  decimals = 0 if abs(value) >= 100 else 1
  return f'{value:{"+" if sign else ""},.{decimals}f}'


def lengths_text(row: Mapping) -> str:
  """The interval of a row's codes, their range without one, '' for one run."""
  if row['bits_ci95'] is not None:
    low, high = row['bits_ci95']
  elif row['replicates'] > 1:
    low, high = row['bits_min'], row['bits_max']
  else:
    return ''
  return f'{length_text(low)}–{length_text(high)}'
