"""Claim 29: what architectures gain at equal compute that attention can simulate."""

from collections.abc import Mapping

import pandas as pd

from claims import drawing, judging, measures, sets
from claims.base import (
  CANT,
  DEPENDS,
  FAILS,
  HOLDS,
  INDISTINCT,
  Claim,
  Finished,
  Plan,
  Row,
  Verdict,
  seeds,
)
from claims.judging import Test

LITTLE = 0.03  # bits per dimension
MUCH = 0.1  # what attention must gain on what can't simulate it, or the experiment sees nothing
# What Transformers can simulate, at a state of equal compute: (source, kind, state).
NEW = (
  ('hierarchy', 'shared', 0),
  ('digits', 'shared', 0),
  ('hierarchy', 'recurrent', 64),
  ('copy', 'recurrent', 32),
)
SMALL = ('copy', 'recurrent', 8)


def plan(budget: str) -> Plan:
  runs = []
  for seed in seeds(budget):
    runs += [
      made('autoregressive', seed, budget)
      for made in (sets.hierarchy, sets.hierarchy_shared, sets.digits, sets.digits_shared)
    ]
    runs += [
      sets.hierarchy_recurrent('autoregressive', seed, budget, 64),
      sets.copy_far('autoregressive', seed, budget),
      *(sets.copy_recurrent('autoregressive', seed, budget, state) for state in (8, 32)),
    ]
  return Plan(tuple(runs))


def read(run: Finished) -> list[Row]:
  model = run.config['model']
  kind = 'shared' if model['shared_layers'] else model['mixer']
  rows = [measures.bits(run), measures.number(run, 'flops', 'flops_per_step')]
  return [{**row, 'kind': kind, 'state': model['state']} for row in rows]


def gain(records: pd.DataFrame, source: str, kind: str, state: int, level: float) -> Test:
  """Bits per dimension of attention less those of another kind."""
  own = judging.rows(records, source=source, measure='bits')
  new = judging.rows(own, kind=kind, state=state)
  return judging.compared(judging.rows(own, kind='attention'), new, level)


def gains(records: pd.DataFrame, level: float = judging.LEVEL) -> dict[str, Test]:
  """Of all of NEW, by a name for people."""
  return {
    f'{kind}, {source}': gain(records, source, kind, state, level) for source, kind, state in NEW
  }


def compute(records: pd.DataFrame) -> dict[str, float]:
  """FLOPs of a step beside those of attention, by the same names."""
  flops = (
    judging.rows(records, measure='flops').groupby(['source', 'kind', 'state'])['value'].mean()
  )
  return {
    f'{kind}, {source}': float(flops[source, kind, state] / flops[source, 'attention', 0])
    for source, kind, state in NEW
  }


def judge(records: pd.DataFrame) -> Verdict:
  found = gains(records)
  # Any one that gains would decide, so its interval is wider.
  strict = gains(records, judging.LEVEL / len(NEW))
  control = gain(records, *SMALL, judging.LEVEL)
  short = judging.short(*found.values(), control)
  if short:
    return short
  large = [name for name, test in strict.items() if test.above(LITTLE)]
  if not control.below(-MUCH):
    outcome = CANT
  elif len(large) == len(found):
    outcome = FAILS
  elif large:
    outcome = DEPENDS
  elif all(test.below(LITTLE) for test in found.values()):
    outcome = HOLDS
  else:
    outcome = INDISTINCT
  text = f'Bits per dimension gained on attention: {_told(found)}. FLOPs of a step, attention = 1: '
  text += ', '.join(f'{name} {share:.2f}' for name, share in compute(records).items())
  text += '. What can not simulate attention, a state of eight numbers on the copy, gains '
  text += f'{control.text()}.'
  if outcome == CANT:
    text += ' That is too little for this experiment to show gains at all.'
  if outcome == DEPENDS:
    text += f' It depends on the architecture: {", ".join(large)} gains more than {LITTLE}.'
  most = max(found, key=lambda name: found[name].mean)
  return Verdict(
    outcome,
    found[most].mean,
    found[most].interval,
    f'bits per dimension gained on attention, {most}, the largest gain',
    text,
    f'An architecture that attention can simulate and that gains more than {LITTLE} bits per '
    'dimension at equal compute, tuned alike.',
  )


def _told(tests: Mapping[str, Test]) -> str:
  return ', '.join(f'{name} {test.text()}' for name, test in tests.items())


def figure(records: pd.DataFrame):
  made, (axis,) = drawing.panels(1, 2.2)
  tests = [*gains(records).items(), ('8 numbers, copy', gain(records, *SMALL, judging.LEVEL))]
  drawing.forest(axis, tests, 'bits per dimension gained on attention', 1, (0, LITTLE))
  return made


CLAIM = Claim(
  number=29,
  statement='An architecture that the old one can simulate gains little on it at equal compute; '
  'what the old one can not simulate may matter.',
  source='Architectures: which changes matter.',
  plan=plan,
  judge=judge,
  figure=figure,
  read=read,
  threshold='Attention is the old one. Shared layers (hierarchy, digits) and a recurrence whose '
  'state makes the compute equal (64 numbers on the hierarchy, 32 on the copy) are the new ones. '
  'Holds: all four 95 % intervals of the gain end below 0.03 bits per dimension. Fails: all four '
  'gain more; depends: some do, by intervals that leave out 5 % / 4 each. Else not '
  'distinguishable. If a state of eight numbers does not lose 0.1 on the copy, the experiment can '
  'not decide.',
  looked_at='The pilots of claim 28: a state of 8 numbers loses 0.67 bits per dimension on the '
  'copy, one of 128 0.007.',
)
