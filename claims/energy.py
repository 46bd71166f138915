"""Claim 25: whether differences of energies are ratios of densities."""

from collections.abc import Iterator

import pandas as pd

from claims import drawing, judging, opening, sets
from claims.base import (
  DEPENDS,
  FAILS,
  HOLDS,
  INDISTINCT,
  Claim,
  Piece,
  Plan,
  Row,
  Verdict,
  Work,
  packed,
  seeds,
  unpacked,
)
from reports import canvas

ENERGY, REFERENCE = 'energy', 'autoregressive'
TYPICAL, EVERY = 'of the data', 'of all strings'
SLOPE, R, EXCESS = 'slope', 'correlation', 'bits above entropy'
INSIDE, OUTSIDE = (0.9, 1.1), (0.8, 1.25)  # of the slope
STRAIGHT, CROOKED = 0.95, 0.9  # correlations
_SHOWN = 400  # sequences in the figure


def plan(budget: str) -> Plan:
  runs = {
    name: tuple(sets.markov(name, seed, budget) for seed in seeds(budget))
    for name in (ENERGY, REFERENCE)
  }
  pieces = tuple(Piece(name, measure, of=of) for name, of in runs.items())
  return Plan((), pieces)


def measure(work: Work) -> Iterator[Row]:
  """Every run against its source, over all sequences."""
  from codes import densities
  from runs import densities as of_runs

  for run in work.runs:
    found = of_runs.of(*opening.network(run, work.data_dir))
    tokens_NxT, p_N, q_N, noise_N = found
    of = run.spec.columns
    for where, weights_N in ((TYPICAL, densities.chances(p_N)), (EVERY, p_N * 0 + 1)):
      slope, r = densities.ratios(p_N, q_N, weights_N)
      yield of | {'measure': SLOPE, 'where': where, 'value': slope}
      yield of | {'measure': R, 'where': where, 'value': r}
    gap, calibration = densities.distinguisher_gap(p_N, q_N, noise_N)
    length = tokens_NxT.shape[1]
    conditionals = densities.predictor(q_N, int(tokens_NxT.max()) + 1, length)
    bits = densities.chances(p_N) @ densities.coded_bits(conditionals, tokens_NxT)
    for name, value in (
      ('normaliser', densities.total(q_N)),
      ('gap of the distinguisher', gap),
      ('calibration error', calibration),
      ('bits of the predictor', bits / length),
      (EXCESS, densities.divergence_bits(p_N, q_N) / length),
    ):
      yield of | {'measure': name, 'value': value}
    if run.spec.seed == 0:
      every = slice(None, None, -(-len(p_N) // _SHOWN))
      for name, values in (('log p', p_N), ('log q', q_N)):
        shown = packed(values[every] - values.mean())
        yield of | {'measure': name, 'value': len(values), 'each': shown}


def judged(records: pd.DataFrame, where: str, objective: str = ENERGY) -> tuple[str, list]:
  """Holds, fails or not distinguishable, by slope and correlation, and both tests."""
  of = {'objective': objective, 'where': where}
  values = [judging.by_seed(records, measure=m, **of) for m in (SLOPE, R)]
  slope, r = tests = [judging.mean(value) for value in values]
  if slope.inside(*INSIDE) and r.above(STRAIGHT):
    return HOLDS, tests
  # Either may show it.
  slope, r = (judging.mean(value, judging.LEVEL / 2) for value in values)
  wide = slope.above(OUTSIDE[1]) or slope.below(OUTSIDE[0])
  return FAILS if wide or r.below(CROOKED) else INDISTINCT, tests


def judge(records: pd.DataFrame) -> Verdict:
  typical, tests = judged(records, TYPICAL)
  every, others = judged(records, EVERY)
  short = judging.short(*tests, *others)
  if short:
    return short
  outcome = DEPENDS if (typical, every) == (HOLDS, FAILS) else typical

  def mean(measure: str, objective: str = ENERGY) -> str:
    return judging.mean(by(measure, objective)).text()

  def by(measure: str, objective: str) -> pd.Series:
    return judging.by_seed(records, measure=measure, objective=objective)

  text = (
    'Over pairs of strings the energy difference against the log ratio of probabilities: slope '
  )
  text += f'{tests[0].text(digits=3)} and correlation {tests[1].text(digits=3)} for strings '
  text += (
    f'{TYPICAL}, {others[0].text(digits=3)} and {others[1].text(digits=3)} for strings {EVERY}'
  )
  if outcome == DEPENDS:
    text += '. It depends on where: it holds for strings that occur, not for those that do not'
  text += f'. The learnt normaliser is off by {mean("normaliser")} nats. As a distinguisher from '
  text += f'noise it is {mean("gap of the distinguisher")} from the perfect one on average, its '
  text += f'calibration error is {mean("calibration error")}. Turned into a predictor it codes at '
  text += f'{mean("bits of the predictor")} bits a token, {mean(EXCESS)} above the entropy; an '
  text += f'autoregressive network of the same size and updates is {mean(EXCESS, REFERENCE)} above '
  text += 'it'
  return Verdict(
    outcome,
    tests[0].mean,
    tests[0].interval,
    'slope of the energy difference against the log ratio, strings of the data',
    f'{text}. For chains of 6 tokens of 4 values, told from uniform noise.',
    'Chains, longer strings or other noise whose energies have another slope.',
  )


def figure(records: pd.DataFrame):
  made, axes = drawing.panels(2, 2.8)
  for place, (axis, name) in enumerate(zip(axes, (ENERGY, REFERENCE), strict=True)):
    of = judging.rows(records, objective=name)
    x, y = (unpacked(judging.rows(of, measure=m)['each'].iloc[0]) for m in ('log p', 'log q'))
    axis.plot(x, y, '.', color=drawing.colour(place), markersize=3)
    ends = [min(x), max(x)]
    axis.plot(ends, ends, color='#8A8A8A', linewidth=0.8)
    label = 'minus the energy' if name == ENERGY else 'log q'
    canvas.tidy(axis, 'log p less its mean, seed 0', label, name)
  return made


CLAIM = Claim(
  number=25,
  statement='An energy that was trained to tell data from noise is a likelihood model: the '
  'difference of two energies is the log ratio of the densities.',
  source='Generative pretraining of images: energy-based models, and what a distinguisher knows.',
  plan=plan,
  judge=judge,
  figure=figure,
  threshold='Markov chains of 6 tokens of 4 values, all 4,096 strings, 5 chains. Over pairs of '
  'strings as the data has them: holds if the 95 % interval of the slope of the energy difference '
  'against the log ratio lies in 0.9 to 1.1 and that of the correlation above 0.95. Fails if the '
  'interval of the slope lies below 0.8 or above 1.25, or that of the correlation below 0.9, at '
  'half of the level each. Depends (on where) if it holds there and fails over all strings alike. '
  'Else not distinguishable.',
  looked_at='Nothing of these chains; energies of 81 sequences in tests.',
  pod='python -m launch.train --config=experiments/markov.py:energy --workdir=DIR '
  '--config.data.symbols=16 --config.data.length=4 --config.model.preset=small '
  '--config.training.steps=20000, 5 chains; and strings too many to enumerate, by annealed '
  'importance sampling.',
)
