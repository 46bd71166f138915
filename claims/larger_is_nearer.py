"""Claim 11: regret above the known entropy, against the size of the network."""

import itertools

import numpy as np
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

WIDTHS = (8, 16, 32, 64)
FLAT = 0.05  # slopes this near to 0 say that size does not matter
_LEAST = 1e-4  # bits per dimension: regret below the error of its estimate


def plan(budget: str) -> Plan:
  runs = [
    sets.hierarchy_wide('autoregressive', seed, budget, width)
    for seed in seeds(budget)
    for width in WIDTHS
  ]
  return Plan(tuple(runs))


def read(run: Finished) -> list[Row]:
  return [
    measures.number(run, 'regret', 'truth.regret_bits_per_dim'),
    measures.number(run, 'parameters', 'parameters_backbone'),
  ]


def slope(records: pd.DataFrame) -> Test:
  """By how many powers regret falls as parameters grow: a least-squares line on log axes a seed."""
  found = {}
  for seed, rows in records.groupby('seed'):
    table = rows.pivot_table('value', 'width', 'measure')
    regret = np.log(np.maximum(table['regret'], _LEAST))
    found[seed] = np.polyfit(np.log(table['parameters']), regret, 1)[0]
  return judging.mean(pd.Series(found, dtype=float))


def steps(records: pd.DataFrame) -> dict[str, Test]:
  """Regret of each width less that of the next larger one."""
  return {
    f'{a} to {b}': judging.paired_where(records, {'width': a}, {'width': b}, measure='regret')
    for a, b in itertools.pairwise(sorted(records['width'].unique()))
  }


def judge(records: pd.DataFrame) -> Verdict:
  falls, each = slope(records), steps(records)
  short = judging.short(falls, *each.values())
  if short:
    return short
  p = judging.adjusted(list(each.values()))
  worse = [
    name
    for (name, test), adjusted in zip(each.items(), p, strict=True)
    if adjusted <= judging.LEVEL and test.mean < 0
  ]
  if falls.below(0):
    outcome = DEPENDS if worse else HOLDS
  elif falls.above(0) or falls.inside(-FLAT, FLAT):
    outcome = FAILS
  else:
    outcome = INDISTINCT
  by_width = records[records['measure'] == 'regret'].groupby('width')['value'].mean()
  text = 'Mean regret in bits per dimension: '
  text += ', '.join(f'width {width} {value:.4f}' for width, value in by_width.items())
  text += '. Gained from one width to the next: '
  text += ', '.join(f'{name} {test.text(1, 4)}' for name, test in each.items())
  if worse:
    text += f'. It depends on the size: from {", ".join(worse)} regret rises'
  return Verdict(
    outcome,
    falls.mean,
    falls.interval,
    'power of the number of parameters with which regret goes, autoregressive',
    f'{text}. Of equal updates, {WIDTHS[0]} to {WIDTHS[-1]} wide, four layers.',
    'Larger networks, or longer training, at which regret stops falling with size.',
  )


def figure(records: pd.DataFrame):
  made, (axis,) = drawing.panels(1, 2.8)
  for place, (seed, rows) in enumerate(records.groupby('seed')):
    table = rows.pivot_table('value', 'width', 'measure')
    drawing.series(axis, table['parameters'], table['regret'], place, f'grammar {seed}')
  axis.set_xscale('log')
  axis.set_yscale('log')
  canvas.tidy(axis, 'parameters of the backbone', 'regret, bits per dimension')
  axis.legend(fontsize=7, frameon=False)
  return made


CLAIM = Claim(
  number=11,
  statement='Of networks trained alike, the larger one comes nearer to the ideal compressor: its '
  'regret above the entropy of the source is lower.',
  source='Compression: neural networks as approximations of the ideal compressor.',
  plan=plan,
  judge=judge,
  figure=figure,
  read=read,
  threshold='Hierarchy, autoregression, widths 8, 16, 32 and 64, 400 updates, 5 grammars; slope of '
  'log regret on log parameters. Holds: its 95 % interval is below 0 and no step to the next width '
  'raises regret after Holm. Depends (on the size): below 0, and a step raises it. Fails: above 0, '
  'or inside ±0.05. Else not distinguishable.',
  looked_at='One run of width 64, grammar 0, 300 updates: 1.316 bits per dimension. '
  'All widths after 60 updates, seeds 0 and 1: regret 1.34, 1.03, 0.81 and 0.62.',
  pod='python -m launch.sweep --config=experiments/hierarchy.py --workdir=gs://BUCKET/sizes '
  '--objectives=autoregressive --sizes=nano,micro,mini,small,medium --seeds=0,1,2,3,4 '
  '--backend=xpk, for larger networks.',
)
