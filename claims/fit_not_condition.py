"""Claim 31: labels by a network that is shown the data before, and by one fitted to them."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from claims import drawing, judging, sets
from claims.base import (
  CANT,
  FAILS,
  HOLDS,
  INDISTINCT,
  QUICK,
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
from reports import canvas

SHOWN, FITTED, BEST, WINDOW = 'shown', 'fitted', 'all shown, ideal', 'as shown, ideal'
CODES = (SHOWN, FITTED, BEST, WINDOW)
UNTAUGHT = 0.5  # bits a label above the best expectation from what is shown: it does not use it
UPDATES = 100  # of a fit before each block of labels
BLOCKS = 10  # of the labels, in the figure


def plan(budget: str) -> Plan:
  updates = 20 if budget == QUICK else UPDATES
  pieces = []
  for seed in seeds(budget):
    # The other run says which images there are.
    runs = sets.pairs('autoregressive', seed, budget), sets.digits('autoregressive', seed, budget)
    settings = {'seed': seed, 'updates': updates}
    pieces.append(Piece(f'labels-{seed}', labels, settings, runs))
  return Plan(pieces=tuple(pieces))


def labels(work: Work, seed: int, updates: int) -> Iterator[Row]:
  """Bits of the label of every unseen image, of each code, in the order of the images and of the
  code."""
  from runs import experiment, finished, in_context

  built, params = finished.opened(work.runs[0].workdir, work.data_dir)
  digits = finished.config_of(work.runs[1].workdir)
  dataset, _ = experiment.load_datasets(digits, work.data_dir)
  items_N, labels_N = in_context.clustered(dataset, built.config.data.inputs, seed)
  order = np.random.default_rng((0x6C6162, seed)).permutation(len(items_N))
  asked = items_N[order], labels_N[order]
  room = built.space.length // 2
  found = {
    SHOWN: in_context.conditioned(built, params, *asked),
    FITTED: in_context.fitted(built, *asked, updates, seed),
    BEST: in_context.ideal(built, *asked, len(order)),
    WINDOW: in_context.ideal(built, *asked, room - 1),
  }
  for code, bits_N in found.items():
    each_N = np.empty(len(order))
    each_N[order] = bits_N
    row = {'source': 'digits', 'seed': seed, 'code': code, 'room': room}
    yield row | {'measure': 'bits', 'value': float(bits_N.mean()), 'each': packed(each_N)}
    for block, part in enumerate(np.array_split(bits_N, BLOCKS)):
      yield row | {'measure': 'curve', 'block': block, 'value': float(part.mean())}


def more(records: pd.DataFrame, first: str, second: str) -> Test:
  """Bits a label of one code above another's, over seeds and images."""
  own = judging.rows(records, measure='bits')
  return judging.compared(judging.rows(own, code=first), judging.rows(own, code=second))


def judge(records: pd.DataFrame) -> Verdict:
  saved = more(records, SHOWN, FITTED)
  short = judging.short(saved)
  if short:
    return short
  outcome = HOLDS if saved.above(0) else FAILS if saved.below(0) else INDISTINCT
  taught = more(records, SHOWN, WINDOW)
  if outcome == HOLDS and not taught.below(UNTAUGHT):
    outcome = CANT
  mean = judging.rows(records, measure='bits').groupby('code')['value'].mean()
  count = len(unpacked(judging.rows(records, measure='bits')['each'].iloc[0]))
  room = int(records['room'].max())
  text = f'Bits a label of {count} labels: ' + ', '.join(f'{c} {mean[c]:.3f}' for c in CODES)
  text += f'. {room - 1} pairs of an item and its label fit into what is shown. The last tenth: '
  last = judging.rows(records, measure='curve', block=BLOCKS - 1).groupby('code')['value'].mean()
  text += ', '.join(f'{c} {last[c]:.3f}' for c in CODES)
  text += f'. What is shown costs {taught.text()} more than the best '
  text += 'expectation from it, and that '
  text += f'{more(records, WINDOW, BEST).text()} more than the best from all labels before.'
  if outcome == CANT:
    text += ' A network that uses so little of what it is shown was not taught to condition.'
  return Verdict(
    outcome,
    saved.mean,
    saved.interval,
    'bits a label that fitting saves on showing',
    text,
    'A context that holds the whole data set and a network that was trained to use it.',
  )


def figure(records: pd.DataFrame):
  made, (axis,) = drawing.panels(1, 2.8)
  own = judging.rows(records, measure='curve')
  for place, code in enumerate(CODES):
    style = {'linestyle': '--', 'marker': ''} if 'ideal' in code else {}
    mean = judging.rows(own, code=code).groupby('block')['value'].mean()
    drawing.series(axis, (mean.index + 0.5) / BLOCKS, mean, place, code, **style)
  canvas.tidy(axis, 'share of the labels sent', 'bits a label')
  axis.legend(fontsize=7, frameon=False)
  return made


CLAIM = Claim(
  number=31,
  statement='Conditioning on a whole data set, by showing it in the context, is not possible yet; '
  'fitting it by gradient descent does instead.',
  source='Compression: what conditioning on a data set would mean.',
  plan=plan,
  judge=judge,
  figure=figure,
  threshold='Labels of the 600 digits that training did not see, of whose images both codes know '
  'the same one of 16 clusters; 5 seeds, each with its own order. Shown: a network trained on '
  'documents of such pairs is shown the 63 before. Fitted: a fresh network of the same shape makes '
  '100 updates on all before every block of labels, prequentially. Holds: the bits a label that '
  'fitting saves are above 0 by their 95 % interval over seeds and images. Fails: they are below. '
  'Can not decide: fitting saves, but showing is not within 0.5 bits of the best expectation from '
  'what is shown, so that the network was not taught to condition. Else not distinguishable.',
  looked_at='Nothing.',
  pod='python -m launch.train --config=experiments/pairs.py --workdir=RUN '
  '--config.data.length=4096 --config.model.preset=small, a context that holds all labels; then '
  'runs/in_context.py on it.',
)
