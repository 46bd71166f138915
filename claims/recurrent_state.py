"""Claim 28: what a recurrent network predicts against the numbers that it carries along."""

from collections.abc import Mapping

import pandas as pd

from claims import drawing, judging, measures, sets
from claims.base import (
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
from reports import canvas

STATES = {'copy': (8, 32, 128), 'hierarchy': (8, 64)}
ATTENTION = 0  # numbers in a state that there is not
BOTTLENECK = 0.1  # bits per dimension that the smallest state must lose to attention
NEAR = 0.05  # that the largest may lose


def plan(budget: str) -> Plan:
  runs = []
  for seed in seeds(budget):
    runs += [made('autoregressive', seed, budget) for made in (sets.copy_far, sets.hierarchy)]
    runs += [sets.copy_recurrent('autoregressive', seed, budget, s) for s in STATES['copy']]
    runs += [
      sets.hierarchy_recurrent('autoregressive', seed, budget, s) for s in STATES['hierarchy']
    ]
  return Plan(tuple(runs))


def read(run: Finished) -> list[Row]:
  state = run.config['model']['state'] or ATTENTION
  rows = measures.number(run, 'regret', 'truth.regret_bits_per_dim'), measures.bits(run)
  return [{**row, 'state': state} for row in rows]


def lost(records: pd.DataFrame, source: str) -> dict[int, Test]:
  """Bits per dimension more than attention, by state."""
  own = judging.rows(records, source=source, measure='bits')
  attention = judging.rows(own, state=ATTENTION)
  return {
    int(state): judging.compared(judging.rows(own, state=state), attention)
    for state in sorted({*own['state']} - {ATTENTION})
  }


def of_source(tests: Mapping[int, Test]) -> str:
  """The outcome on one source."""
  small, large = tests[min(tests)], tests[max(tests)]
  if small.above(BOTTLENECK) and large.below(NEAR):
    return HOLDS
  if small.below(BOTTLENECK) or large.above(NEAR):
    return FAILS
  return INDISTINCT


def judge(records: pd.DataFrame) -> Verdict:
  found = {source: lost(records, source) for source in STATES}
  short = judging.short(*(test for tests in found.values() for test in tests.values()))
  if short:
    return short
  outcomes = {source: of_source(tests) for source, tests in found.items()}
  kinds = {*outcomes.values()}
  outcome = kinds.pop() if len(kinds) == 1 else INDISTINCT
  if {HOLDS, FAILS} == {*outcomes.values()}:
    outcome = DEPENDS
  text = ' '.join(
    f'Bits per dimension above attention on the {source}: '
    + ', '.join(f'{state} numbers {test.text()}' for state, test in tests.items())
    + f' ({outcomes[source]}).'
    for source, tests in found.items()
  )
  if outcome == DEPENDS:
    text += ' It depends on the source.'
  largest = found['copy'][max(found['copy'])]
  return Verdict(
    outcome,
    largest.mean,
    largest.interval,
    f'bits per dimension of the copy, {max(found["copy"])} numbers less attention',
    f'{text} The copy asks for 18 bits at every moment.',
    'A recurrence of eight numbers that copies as attention does; or a source on which the largest '
    'state stays behind, such as one that asks for more than a state can hold.',
  )


def figure(records: pd.DataFrame):
  made, axes = drawing.panels(2, 2.6)
  own = judging.rows(records, measure='regret')
  for axis, source in zip(axes, STATES, strict=True):
    mean = judging.rows(own, source=source).groupby('state')['value'].mean()
    drawing.series(axis, mean.index[1:], mean.iloc[1:], 0, 'recurrent')
    axis.axhline(mean[ATTENTION], color=drawing.colour(1), label='attention')
    axis.set_xscale('log', base=2)
    canvas.tidy(axis, 'numbers in the state', 'regret, bits per dimension', source)
  axes[0].legend(fontsize=7, frameon=False)
  return made


CLAIM = Claim(
  number=28,
  statement='A recurrent network whose state is small predicts worse than attention; one whose '
  'state is large enough predicts as well.',
  source='Architectures: recurrent networks with a small and with a large state.',
  plan=plan,
  judge=judge,
  figure=figure,
  read=read,
  threshold='A gated linear recurrence in place of attention, noisy copy at distance 6 and '
  'hierarchy, 5 seeds; bits per dimension above attention. A source holds if the 95 % interval of '
  '8 numbers is above 0.1 and that of the largest state, 128 numbers on the copy and 64 on the '
  'hierarchy, below 0.05; it fails if that of 8 numbers is below 0.1 or that of the largest above '
  '0.05. Both must agree; one that holds and one that fails is depends (on the source), all else '
  'not distinguishable.',
  looked_at='Pilots of the copy, seed 100: regret 0.000 with attention, 0.67, 0.007 and 0.000 with '
  '8, 128 and 512 numbers at a rate of 1e-2; at distance 12 0.22 and 0.09 with 128 and 512. The '
  'quick budget, 60 updates on the hierarchy: fewer bits with 64 numbers than with attention.',
  pod='python -m launch.sweep --config=experiments/copy.py --workdir=gs://BUCKET/states '
  '--objectives=autoregressive --seeds=0,1,2,3,4 --config.model.mixer=recurrent '
  '--config.model.preset=small --config.data.length=1024 --config.data.distance=256 '
  '--grid=config.model.state=8,64,512,4096 --backend=xpk, and once without the mixer.',
)
