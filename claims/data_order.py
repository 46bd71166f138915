"""Claim 26: what the order of the examples costs networks that are easy and hard to train."""

from collections.abc import Iterator, Mapping, Sequence
import functools

import numpy as np
import pandas as pd

from claims import drawing, judging, records, sets
from claims.base import (
  CANT,
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
from claims.judging import Test

SHUFFLED = 'shuffled'
ORDERS = ('easy_to_hard', 'hard_to_easy', 'by_class')
EASY, HARD = 'default', tuple(name for name in sets.NETWORKS if name != 'default')
NONE = 0.01  # bits per dimension: a cost of order inside of this is none
HISTOGRAM = 'bits by the histogram'
NO_CONTEXT = 0.05  # bits below the histogram that a network has to be to have learnt anything


def plan(budget: str) -> Plan:
  pieces = []
  for seed in seeds(budget):
    judge_of_examples = sets.digits('autoregressive', seed, budget)
    for network in sets.NETWORKS:
      specs = [
        sets.digits_small('autoregressive', seed, budget, network, order)
        for order in (SHUFFLED, *ORDERS)
      ]
      runs = {order: spec.overrides for order, spec in zip((SHUFFLED, *ORDERS), specs, strict=True)}
      settings = {'network': network, 'runs': runs, 'seed': seed}
      pieces.append(Piece(f'{network}-{seed}', train, settings, (judge_of_examples,)))
  return Plan(pieces=tuple(pieces))


def train(work: Work, network: str, runs: Mapping[str, Sequence[str]], seed: int) -> Iterator[Row]:
  """Bits of every test image and what the probe makes of it, after training in each order.

  Images are easy if they have few bits under a finished run.
  """
  from runs import experiment, finished, measured, transient

  config = finished.config_of(work.runs[0].workdir)
  blind = measured.histogram_bits(experiment.load_datasets(config, work.data_dir)[0])
  of = {'source': 'digits', 'network': network, 'seed': seed}
  yield {**of, 'order': SHUFFLED, 'measure': HISTOGRAM, 'value': blind}
  by = f'--config.data.order_by={work.runs[0].workdir}'
  asked = [
    [*overrides, *([by] if order in ORDERS[:2] else [])] for order, overrides in runs.items()
  ]
  path = str(records.ROOT / 'experiments' / 'digits.py')
  made = transient.records(path, 'autoregressive', asked, work.data_dir)
  for order, (record, arrays) in zip(runs, made, strict=True):
    bits_N = arrays['nats'] / (record['dims'] * np.log(2))
    right_N = (np.atleast_2d(arrays['linear/100/predictions']) == arrays['labels']).mean(0)
    for measure, each_N in (('bits', bits_N), ('linear/100', right_N)):
      row = {'measure': measure, 'value': float(each_N.mean()), 'each': packed(each_N)}
      yield {**of, 'order': order} | row


Weights = Mapping[tuple[str, str], float]  # of (network, order)


def cost(networks: Sequence[str], orders: Sequence[str], weight: float = 1.0) -> Weights:
  """Weights of the mean, over networks and orders, of an order less the shuffled one."""
  share = weight / len(networks)
  each = {(n, order): share / len(orders) for n in networks for order in orders}
  return each | {(n, SHUFFLED): -share for n in networks}


def interaction_of(hard: Sequence[str]) -> Weights:
  """What orders cost the hard networks on average less what they cost the default."""
  return cost(hard, ORDERS) | cost((EASY,), ORDERS, -1.0)


def learnt(found: pd.DataFrame) -> tuple[str, ...]:
  """The hard networks that learnt any context when shuffled.

  What stays at the histogram's bits has nothing that an order could cost. Where no histogram is
  among the records, all.
  """
  blind = judging.rows(found, measure=HISTOGRAM)['value']
  if blind.empty:
    return HARD
  shuffled = judging.rows(found, measure='bits', order=SHUFFLED).groupby('network')['value'].mean()
  return tuple(n for n in HARD if n in shuffled and shuffled[n] < blind.mean() - NO_CONTEXT)


Values = Mapping[tuple[str, str, int], np.ndarray]  # of every image, by (network, order, seed)


def values(found: pd.DataFrame, measure: str) -> Values:
  """What the rows of one measure hold of every test image."""
  own = judging.rows(found, measure=measure)
  columns = own['network'], own['order'], own['seed'], own['each']
  return {(n, o, s): unpacked(each) for n, o, s, each in zip(*columns, strict=True)}


def contrast(each: Values, weights: Weights, level: float = judging.LEVEL) -> Test:
  """The weighted sum over networks and orders, over seeds and test images; `level` as in
  `judging.mean`."""
  whole = [
    seed
    for seed in sorted({seed for _, _, seed in each})
    if all((*pair, seed) in each for pair in weights)
  ]
  sums = [sum(w * each[(*pair, seed)] for pair, w in weights.items()) for seed in whole]
  first, zero = (
    pd.DataFrame({'seed': whole, 'each': [packed(factor * one) for one in sums]})
    for factor in (1, 0)
  )
  return judging.crossed(first, zero, level)


def judge(found: pd.DataFrame) -> Verdict:
  made = functools.partial(contrast, values(found, 'bits'))
  by_network = {name: made(cost((name,), ORDERS)) for name in (EASY, *HARD)}
  short = judging.short(*by_network.values())
  if short:
    return short
  hard = learnt(found)
  if not hard:
    text = 'No network but the default learns anything from shuffled images.'
    return Verdict(CANT, None, None, '', text, 'Networks between easy and hopeless.')
  every, interaction = made(cost((EASY, *hard), ORDERS)), made(interaction_of(hard))
  harder = made({(n, SHUFFLED): 1 / len(hard) for n in hard} | {(EASY, SHUFFLED): -1.0})
  by_order = {
    order: made(cost(hard, (order,)) | cost((EASY,), (order,), -1.0), judging.LEVEL / len(ORDERS))
    for order in ORDERS
  }
  signs = {test.above(0) - test.below(0) for test in by_order.values()}
  if not harder.above(0):
    outcome = CANT
  elif every.inside(-NONE, NONE):
    outcome = FAILS
  elif {1, -1} <= signs:
    outcome = DEPENDS
  elif interaction.below(0):
    outcome = FAILS
  elif every.above(0) and interaction.above(0):
    outcome = HOLDS
  else:
    outcome = INDISTINCT
  text = f'Bits per dimension that an order costs on average {every.text()}; by network '
  text += f'{_told(by_network)}; hard less easy networks {interaction.text()}, by order '
  text += f'{_told(by_order)}. Shuffled, the hard ones are {harder.text()} bits worse.'
  if len(hard) < len(HARD):
    text += f' Left out as learning no context at all: {", ".join(sorted({*HARD} - {*hard}))}.'
  if outcome == CANT:
    text += ' The hard networks are not shown to be harder to train: nothing can be compared.'
  if outcome == DEPENDS:
    text += ' It depends on the order: the signs differ.'
  probe = contrast(values(found, 'linear/100'), interaction_of(hard))
  if judging.short(probe) is None:
    text += f' Points of the linear probe, hard less easy: {probe.text(100, 1)}.'
  return Verdict(
    outcome,
    interaction.mean,
    interaction.interval,
    'bits per dimension that an order costs, networks that are hard to train less the default',
    text,
    'Training so long that every order reaches the same bits; or tuning every order by itself.',
  )


def _told(tests: Mapping[str, Test]) -> str:
  return ', '.join(f'{name} {test.text()}' for name, test in tests.items())


def figure(found: pd.DataFrame):
  made, axes = drawing.panels(3, 2.2)
  own = values(found, 'bits')
  for axis, order in zip(axes, ORDERS, strict=True):
    tests = [
      (name if order == ORDERS[0] else '', contrast(own, cost((name,), (order,))))
      for name in (EASY, *HARD)
    ]
    drawing.forest(axis, tests, f'bits/dim, {order.replace("_", " ")}')
  return made


CLAIM = Claim(
  number=26,
  statement='The order of the data does not matter for the shortest program but does for gradient '
  'descent, and the less, the easier the network is to train.',
  source='Search: gradient descent in place of the shortest program.',
  plan=plan,
  judge=judge,
  figure=figure,
  threshold='Digits, four layers 32 wide, 300 updates, 5 seeds; test bits per dimension after '
  'easy-to-hard, hard-to-easy and class-by-class epochs less those after shuffled ones, over '
  'seeds and test images. Hard: no residual, no norm, post-norm, eight layers; one that shuffled '
  'is not 0.05 bits below the histogram learnt nothing and is left out. Holds: the mean cost and '
  'the cost of hard networks less that of the default are above 0 by their 95 % intervals. Fails: '
  'the latter is below 0, or the mean cost is inside ±0.01. Depends (on the order): the latter is '
  'above 0 for one order and below 0 for another, by intervals that leave out 5 % / 3 each. Can '
  'not decide: the hard networks are not shown to be worse when shuffled. Else not '
  'distinguishable.',
  looked_at='Nothing of orders. Pilots, seed 100, shuffled: no residual stays at 2.97 bits at any '
  'rate, where a histogram pays 2.42; that is why such networks are left out.',
  pod='python -m launch.sweep --config=experiments/fashion_mnist.py --workdir=gs://BUCKET/orders '
  '--objectives=autoregressive --sizes=small --seeds=0,1,2,3,4 '
  '--grid=config.data.order=shuffled,by_class --grid=config.model.norm=pre,post,none '
  '--grid=config.model.residual=True,False --backend=xpk.',
)
