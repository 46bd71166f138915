"""Verdicts of many pairs as one table: a sentence a pair is readable for a handful alone."""

from collections.abc import Mapping, Sequence
import string

from reports import predictions
from reports.differences import LEVEL

# Verdicts up to which each is a sentence.
SENTENCES = 8
HEAD = ('first', 'second', 'difference', '95 % interval', 'n', 'p, Holm', 'verdict')


def are_many(verdicts: Sequence[Mapping]) -> bool:
  """Whether verdicts are to be a table."""
  return len(verdicts) > SENTENCES


def rows(verdicts: Sequence[Mapping], measure: str) -> list[list[str]]:
  """A row of `HEAD` for every verdict, in their order.

  Args:
    verdicts: of `differences.verdicts`.
    measure: the name of what they are on, which says the unit.
  """
  several = len({one['size'] for one in verdicts}) > 1
  marks = _marks(verdicts)
  return [
    [f'{one["size"]}: {one["first"]}' if several else one['first'], one['second']]
    + _numbers(one, _tested(measure), marks)
    for one in verdicts
  ]


def notes(verdicts: Sequence[Mapping], measure: str) -> list[str]:
  """What the cells of the table mean."""
  unit = next((one['unit'] for one in verdicts), 'seeds')
  lines = [f'Differences are first less second, in {_tested(measure).unit}; n counts {unit}.']
  if any(one['alone'] and one['p'] is not None for one in verdicts):
    lines.append(f'*: over the {unit} that both have; the table of results has all that there are.')
  some = sorted({one['examples'] for one in verdicts if one.get('examples')})
  if some:
    counts = ' or '.join(f'{count:,}' for count in some)
    lines.append(f'†: over {counts} test examples, those that both codes are of.')
  return lines + [f'({mark}) not tested: {reason}.' for reason, mark in _marks(verdicts).items()]


def shortened(name: str, width: int) -> str:
  """A name in so many letters: variants differ at the end, objectives at the beginning."""
  if len(name) <= width:
    return name
  end = (width - 1) * 3 // 5
  return f'{name[: width - 1 - end]}…{name[-end:]}'


def _tested(measure: str) -> predictions.Tested:
  known = (predictions.PRIMARY, *predictions.BESIDE)
  return next(one for one in known if one.name == measure)


def _marks(verdicts: Sequence[Mapping]) -> dict[str, str]:
  """A letter for every reason why a pair was not tested."""
  reasons = dict.fromkeys(one['reason'] for one in verdicts if one['p'] is None)
  letters = string.ascii_lowercase
  return {
    reason: letters[place] if place < len(letters) else str(place + 1)
    for place, reason in enumerate(reasons)
  }


def _numbers(one: Mapping, measure: predictions.Tested, marks: Mapping[str, str]) -> list[str]:
  if one['p'] is None:
    return ['', '', str(one['seeds']), '', f'not tested ({marks[one["reason"]]})']
  digits, scale = measure.digits, measure.scale
  middle, half = scale * one['difference'], scale * one['half_width']
  told = [f'{middle:+.{digits}f}', f'{middle - half:+.{digits}f} to {middle + half:+.{digits}f}']
  told += [f'{one["seeds"]}{"*" if one["alone"] else ""}{"†" if one.get("examples") else ""}']
  if one['control']:
    return [*told, '', 'control']
  word = 'not distinguishable'
  if one['p_holm'] <= LEVEL:
    sides = ('first', 'second') if middle > 0 else ('second', 'first')
    word = f' {measure.more} '.join(sides)
  return [*told, _p_text(one['p_holm']), word]


def _p_text(value: float) -> str:
  return '< 0.0001' if value < 1e-4 else f'{value:#.2g}' if value < 0.1 else f'{value:.2f}'
