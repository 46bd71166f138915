"""Claim 27: one block's weights in every layer against as many blocks, given compute."""

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from claims import drawing, judging, measures, sets
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

SOURCES = ('hierarchy', 'digits')
NEAR = 0.03  # bits per dimension that sharing may lose at equal compute
SHARED, PLAIN, NARROW = 'shared', 'plain', 'narrow'
FORMATS = (3, 4, 5, 6)  # bits a weight, of the two-part code
IMAGES = 10_000  # for which it is chosen


def plan(budget: str) -> Plan:
  runs, pieces = [], []
  for seed in seeds(budget):
    plain, shared = (
      made('autoregressive', seed, budget) for made in (sets.digits, sets.digits_shared)
    )
    runs += [plain, shared, sets.digits_wide('autoregressive', seed, budget, 32)]
    runs += [
      sets.hierarchy('autoregressive', seed, budget),
      sets.hierarchy_shared('autoregressive', seed, budget),
      sets.hierarchy_wide('autoregressive', seed, budget, 32),
    ]
    pieces.append(Piece(f'two-part-{seed}', two_parts, of=(plain, shared)))
  return Plan(tuple(runs), tuple(pieces))


def network(run: Finished) -> str:
  """Which of the three: the narrow one's blocks have as many weights as the shared block."""
  model = run.config['model']
  return SHARED if model['shared_layers'] else NARROW if model['width'] == 32 else PLAIN


def read(run: Finished) -> list[Row]:
  rows = [measures.bits(run), measures.number(run, 'parameters', 'parameters_backbone')]
  rows.append(measures.number(run, 'flops', 'flops_per_step'))
  return [{**row, 'network': network(run)} for row in rows]


def two_parts(work: Work) -> Iterator[Row]:
  """Bits of the weights and of a dimension, in the format that is the shortest for so many images
  by validation."""
  from codes import own_size
  from runs import finished, measured

  for one in work.runs:
    built, params = finished.opened(one.workdir, work.data_dir)

    def bits(sent: Any, split: str, built: Any = built) -> float:
      stream = measured.TEST if split == 'test' else measured.VALIDATION
      found = built.per_example(sent, getattr(built.dataset, split), 1, stream)
      return measured.bits_per_dim(built, found['nats'])

    made = [own_size.sent(params, f'{each} bits') for each in FORMATS]
    dims = built.dataset.dims
    totals = [size + IMAGES * dims * bits(sent, 'validation') for sent, size in made]
    sent, size = made[totals.index(min(totals))]
    of = {**one.spec.columns, 'network': network(one)}
    yield of | {'measure': 'weight bits', 'value': size}
    yield of | {'measure': 'quantised bits', 'value': bits(sent, 'test')}


def lost(records: pd.DataFrame, source: str, network: str) -> Test:
  """Bits per dimension of the shared network above another one."""
  own = judging.rows(records, source=source, measure='bits')
  sides = (judging.rows(own, network=name) for name in (SHARED, network))
  return judging.compared(*sides)


def of_source(test: Test) -> str:
  return HOLDS if test.below(NEAR) else FAILS if test.above(NEAR) else INDISTINCT


def judge(records: pd.DataFrame) -> Verdict:
  compute, weights = (
    {source: lost(records, source, network) for source in SOURCES} for network in (PLAIN, NARROW)
  )
  short = judging.short(*compute.values(), *weights.values())
  if short:
    return short
  outcomes = {source: of_source(test) for source, test in compute.items()}
  kinds = {*outcomes.values()}
  outcome = kinds.pop() if len(kinds) == 1 else INDISTINCT
  if {HOLDS, FAILS} == {*outcomes.values()}:
    outcome = DEPENDS
  text = f'Bits per dimension that sharing loses at equal compute: {_told(compute)}; to a network '
  text += f'half as wide whose blocks have as many weights: {_told(weights)}.'
  if outcome == DEPENDS:
    text += f' It depends on the source: {", ".join(f"{k} {v}" for k, v in outcomes.items())}.'
  worst = max(compute, key=lambda source: compute[source].mean)
  return Verdict(
    outcome,
    compute[worst].mean,
    compute[worst].interval,
    f'bits per dimension of {worst}, shared less separate weights at equal compute',
    text + sent(records),
    'Deeper networks, or longer training, in which separate weights gain more than '
    f'{NEAR} bits per dimension.',
  )


def _told(tests: Mapping[str, Test]) -> str:
  return ', '.join(f'{name} {test.text()}' for name, test in tests.items())


def sent(records: pd.DataFrame) -> str:
  """A sentence on weights and data together, of digits."""
  own = judging.rows(records, measure=('weight bits', 'quantised bits'))
  if own.empty:
    return ''
  mean = own.groupby(['network', 'measure'])['value'].mean()
  (less, fewer), (more, better) = (
    (mean[name, 'weight bits'], mean[name, 'quantised bits']) for name in (SHARED, PLAIN)
  )
  text = f' Quantised weights take {less / 8e3:.0f} kB shared and {more / 8e3:.0f} kB separate'
  if better >= fewer:
    return f'{text}; the shared code is the shorter one for any number of digits.'
  images = (more - less) / (64 * (fewer - better))
  return f'{text}; the shared code is the shorter one up to {images:,.0f} digits.'


def figure(records: pd.DataFrame):
  made, axes = drawing.panels(2, 1.9)
  for axis, source in zip(axes, SOURCES, strict=True):
    tests = [
      ('equal compute', lost(records, source, PLAIN)),
      ('equal weights', lost(records, source, NARROW)),
    ]
    drawing.forest(axis, tests, f'bits/dim lost, {source}', 1, (0, NEAR))
  return made


CLAIM = Claim(
  number=27,
  statement='A universal Transformer, one block whose weights serve in every layer, predicts as '
  'well as one with weights of their own in every layer, given the same compute.',
  source='Architectures: weights that are used again and again.',
  plan=plan,
  judge=judge,
  figure=figure,
  read=read,
  threshold='Autoregression, four layers 64 wide, hierarchy and digits, 5 seeds; bits per '
  'dimension of shared less separate weights at equal updates and FLOPs. A source holds if the 95 '
  '% interval is below 0.03, fails if it is above; both must agree; one of each is depends (on '
  'the source), all else not distinguishable. Equal weights and the two-part code are beside it.',
  looked_at='Nothing of shared layers.',
  pod='python -m launch.sweep --config=experiments/fashion_mnist.py '
  '--workdir=gs://BUCKET/universal --objectives=autoregressive --sizes=small,medium '
  '--seeds=0,1,2,3,4 --grid=config.model.shared_layers=True,False --backend=xpk.',
)
