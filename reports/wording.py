"""Numbers and findings as text, the same on the page and in the terminal."""

from collections.abc import Mapping, Sequence

from reports import canvas, choice

PUBLISHED = (
  'For context: published figures for equal likelihood are 16 times the compute of an '
  'autoregressive model for masked diffusion and 64 times for Gaussian diffusion; the talk behind '
  'this project guesses 10 to 15. They come from other data and larger models, and predict nothing '
  'here.'
)


def bits_text(value: float | None, code: str) -> str:
  """'1.903', '≤ 2.213', or 'n/a' where there is no likelihood."""
  if value is None:
    return 'n/a'
  return f'≤ {value:.3f}' if code == 'upper_bound' else f'{value:.3f}'


def percent_text(value: float | None) -> str:
  """A fraction as a percentage with one decimal, '–' if absent."""
  return '–' if value is None else f'{100 * value:.1f}'


def spread_text(entry: Mapping, name: str, prefix: str, scale: float, decimals: int) -> str:
  """What stands under a mean: its 95 % interval from 5 seeds, the range below, '' for one."""
  interval = entry.get(f'{prefix}_ci95')
  low, high = entry.get(f'{prefix}_min'), entry.get(f'{prefix}_max')
  if interval is not None:
    low, high = interval
  elif entry.get(name) is None or entry['replicates'] < 2:
    return ''
  return f'{scale * low:.{decimals}f}–{scale * high:.{decimals}f}'


def code_text(code: str) -> str:
  """The code as a reader's word."""
  return {'exact': 'exact', 'upper_bound': 'bound', 'none': 'none'}[code]


def tuning_text(results: Mapping) -> str:
  """One clause on how the learning rates came about."""
  trained = [entry for entry in results['summary'] if entry.get('trained', True)]
  if not any(entry['tuned'] for entry in trained):
    return 'learning rate untuned'
  state = 'each objective by its own validation loss'
  if not all(entry['tuned'] for entry in trained):
    state += '; untuned: ' + ', '.join(e['objective'] for e in trained if not e['tuned'])
  return f'learning rate tuned, {state}'


def names(results: Mapping) -> list[str]:
  """The objective of each summary entry, with its size where there are several."""
  return [style.label for style in canvas.styles(results).values()]


def verdict_lines(results: Mapping) -> list[str]:
  """The verdicts as sentences, with the size where there are several."""
  several = len({verdict['size'] for verdict in results['verdicts']}) > 1
  return [
    (f'{verdict["size"]}: ' if several else '') + verdict['verdict']
    for verdict in results['verdicts']
  ]


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


def also_text(name: str, code: str) -> str:
  """How else the same weights were scored: 'by masked diffusion\'s bound'."""
  words = name.replace('_', ' ')
  return f"by {words}'s bound" if code == 'upper_bound' else f'by {words}'


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
  """In plain words, which objectives can't be told apart, and on what."""
  lines = []
  for found in results['indistinct']:
    several, pairs = found['objectives'], found['pairs']
    if len(pairs) == len(several) * (len(several) - 1) // 2:
      who = ('none of ' if len(several) > 2 else '') + _and(several)
      who += ' can be told apart' if len(several) > 2 else ' can not be told apart'
    else:
      who = '; '.join(map(_and, pairs)) + ' can not be told apart'
    word = unit_word(results)
    if found['tested']:
      reason = f'the paired test over {word} finds no difference'
    elif found['replicates'] < 2:
      reason = 'there is but one run of each'
    else:
      reason = f'their ranges over {word} overlap'
    lines.append(f'{_prefix(results, found["size"])}on {found["measure"]}, {who}: {reason}.')
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
