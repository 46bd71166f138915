"""Numbers and findings as text, the same on the page and in the terminal."""

from collections.abc import Mapping, Sequence
import math

from probes.measures import Measure, at
from reports import choice, intervals, styles

PUBLISHED = (
  'For context: published figures for equal likelihood are 16 times the compute of an '
  'autoregressive model for masked diffusion and 64 times for Gaussian diffusion; the talk behind '
  'this project guesses 10 to 15. They come from other data and larger models, and predict nothing '
  'here.'
)

# Pairs that are named one by one.
_FEW_PAIRS = 6
LOWER_BOUND = (
  'Regret is a lower bound: the mean length of a code minus the least mean of all learners tried '
  'on the same labels; a learner that nobody tried may do better.'
)
# Of a measure's unit: factor from the stored value to the printed one, decimals, and its name.
UNITS = {
  'fraction': (100, 1, '%'),
  'points': (100, 1, 'points'),
  'bits': (1, 2, 'bits'),
  'ratio': (1, 2, ''),
  'dimensions': (1, 1, 'dimensions'),
}


def bits_text(value: float | None, code: str) -> str:
  """'1.903', '≤ 2.213', '≈ 2.05', or 'n/a' where there is no likelihood."""
  if value is None:
    return 'n/a'
  sign = {'upper_bound': '≤ ', 'estimate': '≈ '}.get(code, '')
  return f'{sign}{value:.3f}'


def percent_text(value: float | None) -> str:
  """A fraction as a percentage with one decimal, '–' if absent."""
  return '–' if value is None else f'{100 * value:.1f}'


def spread_text(
  entry: Mapping, name: str, prefix: str, scale: float, decimals: int, short: bool = False
) -> str:
  """What stands under a mean: its 95 % interval from 5 seeds, the range below, '' for one.

  Where some of the runs lack it: 'range 20.0–30.0, 2 of 5 runs', in short '20.0–30.0 of 2'.
  """
  if entry.get(name) is None:
    return ''
  ends, runs, some = entry.get(f'{prefix}_ci95'), entry['replicates'], count_text(entry, prefix)
  count = entry.get(f'{prefix}_count', runs)
  word = 'range ' if some and ends is None and not short else ''
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


def tuning_text(results: Mapping) -> str:
  """One clause on how the learning rates came about."""
  trained = [entry for entry in results['summary'] if entry.get('trained', True)]
  if not any(entry['tuned'] for entry in trained):
    return 'learning rate untuned'
  state = 'each objective by its own validation loss'
  if not all(entry['tuned'] for entry in trained):
    state += '; untuned: ' + ', '.join(e['objective'] for e in trained if not e['tuned'])
  pilots = dict.fromkeys(name for entry in trained for name in entry.get('pilots_of') or ())
  if pilots:
    apart = '' if choice.pilots_among(results['runs']) else ' that no result includes'
    state += f'; on pilots{apart} ({"; ".join(pilots)})'
  return f'learning rate tuned, {state}'


def names(results: Mapping) -> list[str]:
  """The objective of each summary entry, with its size where there are several."""
  return [style.label for style in styles.styles(results).values()]


def verdict_lines(made: Sequence[Mapping]) -> list[str]:
  """Verdicts as sentences, with the size where there are several."""
  several = len({verdict['size'] for verdict in made}) > 1
  return [(f'{one["size"]}: ' if several else '') + one['verdict'] for one in made]


def other_verdicts_text() -> str:
  """What the verdicts on other measures are."""
  return (
    'Beside it, on measures that decide nothing, each with a family of its own (the labels of the '
    'attentive probe are the same for all seeds: nothing is said of others):'
  )


def verdicts_text(results: Mapping) -> str:
  """What the verdicts are about, and how they come about."""
  pairs = [v for v in results['verdicts'] if v['p'] is not None and not v['control']]
  if unit_word(results) == 'grammars':
    about = (
      'Verdicts are about new grammars, with new seeds, labels and test examples: ± is the 95 % '
      'interval of a mean paired difference, t over grammars.'
    )
  else:
    about = (
      'Verdicts are about new seeds, new label draws and new test images: ± is the 95 % interval '
      'of a mean paired difference, from the variance over seeds (each with labels of its own, the '
      'same for all objectives) plus that over test examples, t with the degrees of freedom of '
      'Satterthwaite.'
    )
  word = 'pair' if len(pairs) == 1 else 'pairs'
  about += f' Holm over the {len(pairs)} tested {word} of trained objectives decides.'
  if any(verdict['control'] for verdict in results['verdicts']):
    about += ' A control stands apart, with its own interval.'
  return about


def intervals_text(results: Mapping) -> str:
  """What the 95 % intervals of accuracies are about; '' where there is none or over grammars."""
  over = intervals.of(results)
  whole = 'new seeds, new label draws and new test examples (with all labels, these labels)'
  alone = 'other seeds and label draws, on these test examples'
  if over == ['seeds and examples']:
    return f'Intervals of accuracies are about {whole}.'
  if over == ['seeds']:
    return f'Intervals of accuracies are over seeds: {alone}.'
  if over:
    return (
      f'Intervals of accuracies are about {whole} where every run tells its predictions and which '
      f'labels it had, and over seeds elsewhere: {alone}.'
    )
  return ''


def unit_word(results: Mapping) -> str:
  """What an interval or a verdict counts: 'grammars' where there are several, else 'seeds'."""
  grammars = {grammar for entry in results['summary'] for grammar in entry['grammars']}
  return 'grammars' if len(grammars) > 1 else 'seeds'


def repetitions_text(entry: Mapping) -> str:
  """'2', or '3 × 1' grammars and seeds."""
  if not entry['grammars']:
    return str(entry['seeds'])
  return f'{len(entry["grammars"])} × {entry["seeds"]}'


def raw_text(results: Mapping) -> str:
  """What the raw input's row is called; with several grammars, which of them it is measured on."""
  data = ((results['controls'].get('of') or {}).get('data')) or {}
  grammar = choice.grammar_of({'settings_of_data': data})
  if unit_word(results) == 'seeds' or grammar is None:
    return 'raw input'
  return f'raw input (g {grammar})'


def few_labels_of_raw(results: Mapping) -> str:
  """Which few labels the raw input is probed with; '' where it is not."""
  counts = (results['controls'].get('raw') or {}).get('linear') or {}
  if not set(counts) - {'all'}:
    return ''
  seeds = [int(seed) for seed in results['controls'].get('raw_by_seed') or (0,)]
  of = f'seed {seeds[0]}' if len(seeds) == 1 else f'each of the {len(seeds)} seeds'
  return f'The raw input has no pretraining seed: its few labels are those of {of}.'


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


def _prefix(results: Mapping, size: str | None) -> str:
  return f'{size}: ' if len({entry['size'] for entry in results['summary']}) > 1 else ''


def _and(names: Sequence[str]) -> str:
  return ' and '.join([', '.join(names[:-1]), names[-1]] if len(names) > 1 else names)


def indistinct_lines(results: Mapping) -> list[str]:
  """In plain words, which objectives can't be told apart, on what, and which nobody tested.

  Where it is neither all pairs nor few of them, how many: the tables say which.
  """
  lines = []
  for found in results['indistinct']:
    several, pairs = found['objectives'], found['pairs']
    of_all = len(several) * (len(several) - 1) // 2
    every, many = len(pairs) == of_all, len(pairs) > _FEW_PAIRS
    who = _and(several) if every else '; '.join(map(_and, pairs))
    if many and not every:
      who = f'{len(pairs)} of the {of_all} pairs of {len(several)} objectives'
    start = f'{_prefix(results, found["size"])}on {found["measure"]}, '
    if found['tested']:
      none = every and len(several) > 2
      who = f'none of {who} can' if none else f'{who} can not'
      lines.append(f'{start}{who} be told apart: the paired test finds no difference.')
    else:
      seen = 'there is but one run of each'
      if found['replicates'] > 1:
        seen = f'their ranges over {unit_word(results)} overlap'
      lines.append(f'{start}{who}: not tested ({found["reason"]}), {seen}.')
  return [line[0].upper() + line[1:] for line in lines]


def equal_regret_lines(results: Mapping) -> list[str]:
  """The compute to equal regret, a sentence an objective."""
  lines = []
  for found in results['equal_regret']:
    start = f'{_prefix(results, found["size"])}{found["objective"]}'
    if found['ratio'] is None:
      lines.append(
        f'{start}: equal regret not reached, its curve and that of {found["reference"]} do not '
        'overlap.'
      )
      continue
    spread = ''
    if found['compared'] > 1:
      spread = f', {found["minimum"]:.3g}–{found["maximum"]:.3g} over {found["compared"]} runs'
    if found['compared'] < found['replicates']:
      spread += f'; {found["replicates"] - found["compared"]} of {found["replicates"]} not reached'
    lines.append(
      f'{start} takes {found["ratio"]:.3g} times the FLOPs of {found["reference"]} to a regret of '
      f'{found["regret"]:.2g} bits per dimension{spread}.'
    )
  return lines


# Measures of the probes.


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


def left_out_lines(probes: Mapping, only: Sequence[str] | None = None) -> list[str]:
  """'linear probe with 500 labels is left out: …', a line a number of labels that did not fit."""
  return [
    f'{probe} probe with {count} labels is left out: {reason}'
    for probe, reasons in (probes.get('left_out') or {}).items()
    if only is None or probe in only
    for count, reason in reasons.items()
  ]


# Codes of labels.


def length_text(value: float | None, sign: bool = False) -> str:
  """A code's length in bits as people read it: '1,137', '-12.3', 'n/a' where there are none."""
  if value is None:
    return 'n/a'
  decimals = 0 if abs(value) >= 100 else 1
  return f'{value:{"+" if sign else ""},.{decimals}f}'


def labels_text(found: Mapping) -> str:
  """Which labels the codes of one set are of."""
  return (
    f'{found["dataset"] or "features"}: {found["labels"]:,} labels in the order of seed '
    f'{found["seed"]}, the first {found["first"]} uniformly; uniform '
    f'{length_text(found["uniform_bits"])} bits'
  )


def labels_lines(found: Mapping) -> list[str]:
  """What the numbers of one set of labels are measured against."""
  best, own = found['best'], found['scratch']
  lines = [
    f'Best of the {best["tried"]} learners tried, by mean length: {length_text(best["bits"])} bits '
    f'({best["name"]}).'
  ]
  for size, scratch in own.items():
    where = f' ({size})' if len(own) > 1 else ''
    if scratch is None:
      lines.append(f'From scratch{where}: n/a, no untrained backbone and no raw input.')
      continue
    lines.append(
      f'From scratch{where}: {length_text(scratch["bits"])} bits ({scratch["name"]})'
      + ('.' if scratch['fine_tuned'] else ', for no untrained backbone was fine-tuned.')
    )
  if found['without_pretraining']:
    without = found['without_pretraining']
    lines.append(
      f'Best without pretraining: {length_text(without["bits"])} bits ({without["name"]}).'
    )
  if found['truth_bits'] is not None:
    lines.append(
      f'Under the true law the labels cost {length_text(found["truth_bits"])} bits given the whole '
      'input: true regret is measured against that.'
    )
  return lines


def lengths_text(row: Mapping) -> str:
  """The interval of a row's codes, their range without one, '' for one run."""
  if row['bits_ci95'] is not None:
    low, high = row['bits_ci95']
  elif row['replicates'] > 1:
    low, high = row['bits_min'], row['bits_max']
  else:
    return ''
  return f'{length_text(low)}–{length_text(high)}'


def true_regret(found: Mapping, row: Mapping) -> float | None:
  """Bits above what a perfect learner pays; None where that is not known."""
  return None if found['truth_bits'] is None else row['bits'] - found['truth_bits']


def learned_from(row: Mapping) -> str:
  """'autoregressive (nano)'."""
  return row['of'] + (f' ({row["size"]})' if row['size'] else '')
