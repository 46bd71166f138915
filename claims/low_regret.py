"""Claim 9: whether low regret on the data means that they helped as much as they can."""

from collections.abc import Iterator
import math

import pandas as pd

from claims import drawing, judging, opening, sets
from claims.base import (
  DEPENDS,
  FAILS,
  HOLDS,
  INDISTINCT,
  Claim,
  Finished,
  Piece,
  Plan,
  Row,
  Verdict,
  Work,
  seeds,
)
from claims.judging import Test
from claims.sets import Spec
from probes.measures import at
from reports import canvas

AR, DIFFUSION, NOTHING = 'autoregressive', 'masked_diffusion', 'untrained_causal'
LENGTHS = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1)  # of the plain training
ON_DIGITS = ('autoregressive', 'masked', 'masked_diffusion', 'gaussian_diffusion', 'untrained')
REGRET, LABELS = 'regret on the data', 'regret on the labels'
CODE = 'label code'
NEAR = 0.9  # of what unlabelled data can save
ORDERED = 0.5  # rank correlations below this are no order


def _runs(seed: int, budget: str) -> tuple[Spec, ...]:
  """Autoregression from no training to the plain one, and masked diffusion beside it."""
  made = [sets.hierarchy(NOTHING, seed, budget, length=0.0)]
  made += [sets.hierarchy_for(AR, seed, budget, length) for length in LENGTHS]
  return (*made, sets.hierarchy_for(DIFFUSION, seed, budget, 1))


def plan(budget: str) -> Plan:
  pieces = tuple(
    Piece(f'labels-{seed}', label_codes, of=_runs(seed, budget)) for seed in seeds(budget)
  )
  runs = tuple(sets.digits(name, seed, budget) for seed in seeds(budget) for name in ON_DIGITS)
  return Plan(runs, pieces)


def read(run: Finished) -> Iterator[Row]:
  """Digits: the label code, where the run has it, and bits."""
  cell = at(run.record, ('probes', 'prequential', 'all'))
  if cell:
    yield {'measure': CODE, 'value': cell['linear_bits'] / cell['labels']}


def floor_bits(truth_bits: float, classes: int) -> float:
  """What the labels cost whoever knows the source, but not which root has which name.

  Names are all that unlabelled data can't tell: log2 K! bits, once.
  """
  return truth_bits + math.lgamma(classes + 1) / math.log(2)


def label_codes(work: Work) -> Iterator[Row]:
  """Bits a label of the linear code on each network, above the floor, beside the regret."""
  from runs import experiment, finished, label_truth

  for run in work.runs:
    found, arrays = opening.probes(run, work.data_dir, ('prequential',), opening.LABEL_CODE)
    cell, order_N = found['prequential']['all'], arrays['prequential/all/order']
    config = finished.config_of(run.workdir)
    _, probed = experiment.load_datasets(config, work.data_dir)
    rows = probed.train.tokens_NxT[order_N], probed.train.labels_N[order_N]
    floor = floor_bits(float(label_truth.truth_bits(probed.truth, *rows).sum()), probed.classes)
    count = cell['labels']
    of = run.spec.columns
    yield of | {'measure': LABELS, 'value': (cell['linear_bits'] - floor) / count}
    yield of | {'measure': 'floor', 'value': floor / count}
    yield of | {'measure': REGRET, 'value': _regret(run, probed)}


def _regret(run: Finished, probed: object) -> float:
  """Bits per dimension above the entropy by an exact code; of an untrained network by the uniform
  one, which it is."""
  truth = run.record['truth']
  if truth is None:
    return math.log2(probed.vocabulary) - probed.truth.entropy_bits_per_dim()
  exact = run.record['also'].get('chain rule in raster order', run.record)
  return exact['truth']['regret_bits_per_dim']


def orders(records: pd.DataFrame) -> Test:
  """Spearman's correlation of the two regrets over lengths of training, by grammar."""
  of = judging.rows(records, objective=(AR, NOTHING))
  found = {}
  for seed, rows in of.groupby('seed'):
    table = rows.pivot_table('value', 'length', 'measure')
    if {REGRET, LABELS} <= set(table):
      pair = table[[REGRET, LABELS]].dropna().rank()
      if len(pair) > 2 and (pair.nunique() > 1).all():
        found[seed] = pair.corr().iloc[0, 1]
  return judging.mean(pd.Series(found, dtype=float))


def saved(records: pd.DataFrame, objective: str = AR) -> Test:
  """Share of the untrained network's regret on the labels that the longest training took away."""
  nothing = judging.by_seed(records, objective=NOTHING, measure=LABELS)
  left = judging.by_seed(records, objective=objective, measure=LABELS, length=LENGTHS[-1])
  return judging.mean((1 - left / nothing).dropna())


def judge(records: pd.DataFrame) -> Verdict:
  order, share = orders(records), saved(records)
  short = judging.short(order, share)
  if short:
    return short
  if order.above(0):
    outcome = HOLDS if share.above(NEAR) else DEPENDS if share.below(NEAR) else INDISTINCT
  else:
    outcome = FAILS if order.below(ORDERED) else INDISTINCT
  low = judging.mean(judging.by_seed(records, objective=AR, measure=REGRET, length=LENGTHS[-1]))
  left = judging.mean(judging.by_seed(records, objective=AR, measure=LABELS, length=LENGTHS[-1]))
  text = f'At a regret of {low.text()} bits per dimension on the strings, autoregression took '
  text += f'{share.text(100, 1)} % of what unlabelled strings can save on the labels; '
  text += f'{left.text()} bits a label are left above the floor, the names of the roots. Over '
  text += f'lengths of training the two regrets have the rank correlation {order.text(digits=2)}. '
  text += f'Masked diffusion took {saved(records, DIFFUSION).text(100, 1)} %'
  if outcome == DEPENDS:
    text += '. It depends on how low the regret is: the lower, the more they helped'
  codes = judging.rows(records, source='digits', measure=CODE)
  if len(codes):
    table = codes.pivot_table('value', 'seed', 'objective')
    above = (table.sub(table.min(axis=1), axis=0)).mean()
    told = ', '.join(f'{name} {value:.3f}' for name, value in above.items())
    text += f'. Digits, where the law is not known, bits a label above the best of these: {told}'
  return Verdict(
    outcome,
    100 * share.mean,
    (100 * share.low, 100 * share.high),
    '% of what unlabelled strings can save on the labels, hierarchy',
    f'{text}.',
    f'Lower regret, or another reader of the features, that leaves less than {1 - NEAR:.0%} of '
    'the bits.',
  )


def figure(records: pd.DataFrame):
  made, (axis,) = drawing.panels(1, 2.8)
  of = judging.rows(records, measure=(REGRET, LABELS))
  for place, (seed, rows) in enumerate(judging.rows(of, objective=(AR, NOTHING)).groupby('seed')):
    table = rows.pivot_table('value', 'length', 'measure')
    drawing.series(axis, table[REGRET], table[LABELS], place, f'grammar {seed}')
    diffusion = judging.rows(of, objective=DIFFUSION, seed=seed).set_index('measure')['value']
    point = {'marker': 'x', 'linestyle': ''}
    name = 'masked diffusion' if not place else '_'
    drawing.series(axis, [diffusion[REGRET]], [diffusion[LABELS]], place, name, **point)
  canvas.tidy(axis, 'regret, bits per dimension', 'bits a label above the floor')
  axis.legend(fontsize=6, frameon=False)
  return made


CLAIM = Claim(
  number=9,
  statement='A compressor of low regret has made as much of the unlabelled data as there is to be '
  'made.',
  source='Compression: what low regret guarantees.',
  plan=plan,
  judge=judge,
  figure=figure,
  read=read,
  threshold='Hierarchy, 5 grammars: bits of 640 labels by the linear code on the features, above '
  'what they cost whoever knows the grammar but not the names of the roots. Share of the '
  "untrained network's bits that the plain autoregressive training takes away, and Spearman's "
  'correlation of this and of the regret on strings over six lengths of training. Where the 95 % '
  'interval of the correlation is above zero: holds if that of the share is above 90 %, depends '
  '(on the regret) if it is below. Fails: the interval of the correlation ends below 0.5. Else '
  'not distinguishable.',
  looked_at='Label codes of quick runs, 60 updates: 2.7 bits a label, no fewer than untrained. '
  'experiments/results/hierarchy_objectives, three of these grammars: 30 % of the roots at 100 '
  'labels, 22 % untrained.',
  pod='python -m launch.sweep --config=experiments/hierarchy.py --workdir=DIR --backend=slurm '
  '--objectives=autoregressive --sizes=nano,small --seeds=0,1,2,3,4 '
  '--grid=config.training.steps=400,2000,10000; then the label codes of this file.',
)
