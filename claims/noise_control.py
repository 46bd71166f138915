"""Claim 4: nothing is learnt from uniform noise; from structured noise something may be."""

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

# Each with the untrained network that is called, and scaled, as it is.
TWINS = {
  'autoregressive': 'untrained_causal',
  'masked': 'untrained',
  'masked_diffusion': 'untrained',
  'gaussian_diffusion': 'untrained_gaussian',
}
STRUCTURED = ('autoregressive', 'masked', 'masked_diffusion')
MARGIN = 0.05  # of accuracy: a gain that the intervals must exclude
_MEASURE = 'linear/100'


def plan(budget: str) -> Plan:
  runs = []
  for seed in seeds(budget):
    runs += [sets.noise(name, seed, budget, trained_on='noise') for name in TWINS]
    runs += [sets.noise(name, seed, budget, True, trained_on='automata') for name in STRUCTURED]
    runs += [
      sets.digits(name, seed, budget, trained_on='nothing') for name in sorted({*TWINS.values()})
    ]
  return Plan(tuple(runs))


def read(run: Finished) -> list[Row]:
  return [measures.accuracy(run)]


def _side(records: pd.DataFrame, objective: str, trained_on: str) -> pd.DataFrame:
  return judging.rows(records, measure=_MEASURE, objective=objective, trained_on=trained_on)


def gains(records: pd.DataFrame) -> dict[str, Test]:
  """Accuracy after uniform noise less that of the untrained twin, by objective."""
  return {
    name: judging.crossed(_side(records, name, 'noise'), _side(records, twin, 'nothing'))
    for name, twin in TWINS.items()
  }


def structured(records: pd.DataFrame, after: str) -> dict[str, Test]:
  """Accuracy after structured noise less that after uniform noise, or of the untrained twin."""
  return {
    name: judging.crossed(
      _side(records, name, 'automata'),
      _side(records, name if after == 'noise' else TWINS[name], after),
    )
    for name in STRUCTURED
  }


def _told(tests: dict[str, Test]) -> str:
  return ', '.join(f'{name} {test.text(100, 1)}' for name, test in tests.items())


def judge(records: pd.DataFrame) -> Verdict:
  found = gains(records)
  short = judging.short(*found.values())
  if short:
    return short
  p = judging.adjusted(list(found.values()))
  better = [
    name
    for (name, test), adjusted in zip(found.items(), p, strict=True)
    if adjusted <= judging.LEVEL and test.mean > 0
  ]
  if len(better) == len(found):
    outcome = FAILS
  elif better:
    outcome = DEPENDS
  elif all(test.below(MARGIN) for test in found.values()):
    outcome = HOLDS
  else:
    outcome = INDISTINCT
  name, most = max(found.items(), key=lambda item: item[1].mean)
  text = f'Points gained by training on uniform noise: {_told(found)}.'
  if outcome == DEPENDS:
    text += f' It depends on the objective: {", ".join(better)} gained.'
  if outcome == INDISTINCT:
    text += f' No gain is shown, but an interval reaches {100 * MARGIN:g} points.'
  twist = structured(records, 'noise')
  if judging.short(*twist.values()) is None:
    text += f' Random automata in place of uniform noise: {_told(twist)}; '
    text += f'above the untrained network: {_told(structured(records, "nothing"))}.'
  return Verdict(
    outcome,
    100 * most.mean,
    (100 * most.low, 100 * most.high),
    f'points of accuracy at 100 labels, {name} after noise less untrained, the largest gain',
    text,
    'An objective whose gain over its untrained twin is above zero after Holm, on new seeds.',
  )


def figure(records: pd.DataFrame):
  made, (left, right) = drawing.panels(2, 2.6)
  drawing.forest(left, list(gains(records).items()), 'points, uniform noise', 100, (0, MARGIN))
  drawing.forest(
    right, list(structured(records, 'nothing').items()), 'points, random automata', 100
  )
  return made


CLAIM = Claim(
  number=4,
  statement='A network that was trained on uniform noise reads digits no better than one that was '
  'not trained, whatever the objective; noise with structure may help.',
  source='The puzzle of unsupervised learning: one objective guarantees nothing about another.',
  plan=plan,
  judge=judge,
  figure=figure,
  read=read,
  threshold='Linear probe at 100 labels, noise-trained less untrained, over seeds and test images. '
  'Holds: the 95 % intervals of all four objectives end below 5 points and none is above zero '
  'after Holm. Fails: all four are above zero after Holm. Depends: some are. Else not '
  'distinguishable. Structured noise is reported beside it and decides nothing.',
  looked_at='One autoregressive run of seed 0, 200 updates on noise, for its time; its accuracy '
  'at 100 labels, 20 %, was seen, the untrained one was not.',
)
