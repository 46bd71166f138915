"""Findings as sentences, the same on the page and in the terminal."""

from collections.abc import Mapping, Sequence

from reports import choice, intervals, styles

PUBLISHED = (
  'For context: published figures for equal likelihood are 16 times the compute of an '
  'autoregressive model for masked diffusion and 64 times for Gaussian diffusion; the talk behind '
  'this project guesses 10 to 15. They come from other data and larger models, and predict nothing '
  'here.'
)
# Pairs that are named one by one.
_FEW_PAIRS = 6


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
      'same for all objectives) and that over test examples, each with the t of its own degrees of '
      'freedom (Banerjee).'
    )
  word = 'pair' if len(pairs) == 1 else 'pairs'
  about += f' Holm over the {len(pairs)} tested {word} of trained objectives decides.'
  if any(verdict['control'] for verdict in results['verdicts']):
    about += ' A control stands apart, with its own interval.'
  return about


def intervals_text(results: Mapping) -> str:
  """What the 95 % intervals are about; '' where there is none or over grammars."""
  said = _accuracies_text(intervals.of(results), intervals.over_seeds(results))
  if said and any(entry['bits_ci95'] for entry in results['summary']):
    said += ' Those of bits are over seeds alone, on these test examples.'
  return said


def _accuracies_text(over: Sequence[str], columns: Sequence[str]) -> str:
  whole = 'new seeds, new label draws and new test examples (with all labels and the attentive '
  whole += "probe's, these labels)"
  alone = 'other seeds and label draws, on these test examples'
  if over == ['seeds and examples']:
    return f'Intervals of accuracies are about {whole}.'
  if over == ['seeds']:
    return f'Intervals of accuracies are over seeds: {alone}.'
  if over:
    return (
      f'Intervals of accuracies are about {whole}; some are over seeds ({"; ".join(columns)}): '
      f'{alone}.'
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
  said = f'The raw input has no pretraining seed: its few labels are those of {of}'
  if len(seeds) > 1 and set(results['controls']['raw'].get('knn') or {}) - {'all'}:
    said += f' by the linear probe, those of seed {seeds[0]} by nearest neighbours'
  return f'{said}.'


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


def left_out_lines(probes: Mapping, only: Sequence[str] | None = None) -> list[str]:
  """'linear probe with 500 labels is left out: …', a line a number of labels that did not fit."""
  return [
    f'{probe} probe with {count} labels is left out: {reason}'
    for probe, reasons in (probes.get('left_out') or {}).items()
    if only is None or probe in only
    for count, reason in reasons.items()
  ]
