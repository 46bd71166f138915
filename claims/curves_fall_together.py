"""Claim 17: bits against the probe along training, for networks of several sizes."""

import numpy as np
import pandas as pd
import scipy.stats

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
from reports import canvas

WIDTHS = (16, 32, 64)
BITS, PROBE = 'validation/bits_per_dim', 'probe/linear/accuracy'
COUPLED = 0.5  # rank correlation along training
OFFSET = 0.03  # of accuracy, between sizes at equal bits


def plan(budget: str) -> Plan:
  runs = [
    sets.digits_wide('autoregressive', seed, budget, width)
    for seed in seeds(budget)
    for width in WIDTHS
  ]
  return Plan(tuple(runs))


def read(run: Finished) -> list[Row]:
  return measures.curve(run, (BITS, PROBE))


def points(records: pd.DataFrame) -> pd.DataFrame:
  """A row a seed, width and step: bits and accuracy.

  Without step 0: nothing is predicted there, and what is read is random features.
  """
  index = ['seed', 'width', 'step']
  table = records.pivot_table('value', index, 'measure').dropna().reset_index()
  return table[table['step'] > 0]


def within(table: pd.DataFrame, level: float = judging.LEVEL) -> dict[int, Test]:
  """By width: rank correlation of fewer bits with a better probe over the steps of a run."""
  made = {}
  for width, rows in table.groupby('width'):
    found = {
      seed: scipy.stats.spearmanr(-own[BITS], own[PROBE]).statistic
      for seed, own in rows.groupby('seed')
      if own[PROBE].nunique() > 1
    }
    made[int(width)] = judging.mean(pd.Series(found, dtype=float), level)
  return made


def over_sizes(table: pd.DataFrame) -> Test:
  """The same correlation, mean over the sizes."""
  found = {
    key: scipy.stats.spearmanr(-own[BITS], own[PROBE]).statistic
    for key, own in table.groupby(['seed', 'width'])
    if own[PROBE].nunique() > 1
  }
  return judging.mean(pd.Series(found, dtype=float).groupby(level=0).mean())


def offsets(table: pd.DataFrame, level: float = judging.LEVEL) -> dict[int, Test]:
  """By width: accuracy above the curve that all sizes have in common, at equal bits.

  A parabola in bits is fitted to the points of a seed that lie where all sizes have some.
  """
  found: dict[int, dict] = {width: {} for width in map(int, sorted(table['width'].unique()))}
  for seed, rows in table.groupby('seed'):
    by_width = rows.groupby('width')[BITS]
    shared = rows[rows[BITS].between(by_width.min().max(), by_width.max().min())]
    if len(shared) < 6:
      continue
    fit = np.polyfit(shared[BITS], shared[PROBE], 2)
    left = shared[PROBE] - np.polyval(fit, shared[BITS])
    for width, mean in left.groupby(shared['width']).mean().items():
      found[int(width)][seed] = mean
  return {width: judging.mean(pd.Series(by, dtype=float), level) for width, by in found.items()}


def judge(records: pd.DataFrame) -> Verdict:
  table = points(records)
  along, apart = within(table), offsets(table)
  short = judging.short(*along.values())
  if short:
    return short
  if judging.short(*apart.values()):
    text = 'The sizes have too few points at equal bits.'
    return Verdict(CANT, None, None, '', text, 'Measurements closer together along training.')
  # Any one size decides these, so that its interval is wider.
  strict = judging.LEVEL / len(along)
  away = [
    w for w, test in offsets(table, strict).items() if test.above(OFFSET) or test.below(-OFFSET)
  ]
  coupled = all(test.above(COUPLED) for test in along.values())
  loose = [w for w, test in within(table, strict).items() if test.below(COUPLED)]
  if over_sizes(table).below(COUPLED):
    outcome = FAILS
  elif loose and len(loose) < len(along) or coupled and away:
    outcome = DEPENDS
  elif coupled and all(test.inside(-OFFSET, OFFSET) for test in apart.values()):
    outcome = HOLDS
  else:
    outcome = INDISTINCT
  text = 'Rank correlation of fewer bits with a better probe along training: '
  text += ', '.join(f'width {width} {test.text(1, 2)}' for width, test in along.items())
  text += '. Points of accuracy above the curve that the sizes share, at equal bits: '
  text += ', '.join(f'width {width} {test.text(100, 1)}' for width, test in apart.items())
  if outcome == DEPENDS:
    own = ', '.join(map(str, loose or away))
    text += f'. It depends on the size: width {own} '
    text += 'has a probe that bits do not tell' if loose else 'has a curve of its own'
  width, most = max(apart.items(), key=lambda item: abs(item[1].mean))
  return Verdict(
    outcome,
    100 * most.mean,
    (100 * most.low, 100 * most.high),
    f'points of accuracy at equal bits, width {width} against all sizes, the farthest',
    f'{text}. Autoregression on digits, small probe on validation.',
    'Larger networks or images on which, at equal bits, one size has the better probe.',
  )


def figure(records: pd.DataFrame):
  made, (axis,) = drawing.panels(1, 2.8)
  for place, (width, rows) in enumerate(points(records).groupby('width')):
    for seed, own in rows.groupby('seed'):
      name = f'width {width}' if seed == rows['seed'].min() else '_'
      drawing.series(axis, own[BITS], own[PROBE], place, name, linewidth=0.7)
  axis.invert_xaxis()
  canvas.tidy(axis, 'bits per dimension, validation', 'small linear probe', percent='y')
  axis.legend(fontsize=7, frameon=False)
  return made


CLAIM = Claim(
  number=17,
  statement='The better a network predicts the next pixel the better is its linear probe, and '
  'networks of different sizes lie on one curve.',
  source='Generative pretraining of images: probes against bits, over sizes.',
  plan=plan,
  judge=judge,
  figure=figure,
  read=read,
  threshold='Digits, autoregression, widths 16, 32 and 64, along 800 updates without step 0, 5 '
  'seeds. Fails: the rank correlation of fewer bits with a better probe, mean over sizes, ends '
  'below 0.5. With every size above 0.5: holds if at equal bits each is within ±3 points of the '
  'common curve (95 % intervals). Depends (on the size): the correlation of some ends below 0.5, '
  'or one lies beyond ±3 points, by intervals that leave out 5 % / 3 each. Else not '
  'distinguishable.',
  looked_at='Final bits and accuracies of single runs of width 64. Curves of 60 updates, seeds 0 '
  'and 1, four points each with step 0, at which the widths differ by 10 points: correlations '
  '-0.10, 0.87 and 0.60. Step 0 is left out since. The intervals of single sizes were widened '
  'while runs of width 64 went on, before they were judged.',
  pod='python -m launch.compare --config=experiments/fashion_mnist.py --workdir=DIR '
  '--objectives=autoregressive --sizes=nano,micro,mini --seeds=0,1,2,3,4, for real images.',
)
