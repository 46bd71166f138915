"""Claim 22: what the image generators' weighting of diffusion does to the likelihood."""

from collections.abc import Iterator
import math

import pandas as pd

from claims import drawing, judging, measures, sets
from claims.base import (
  CANT,
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
  packed,
  seeds,
)
from claims.judging import Test

SIMPLE, BOUND = 'gaussian_simple', 'gaussian_diffusion'
BITS, PROBE, HISTOGRAM = 'bits by the bound', 'linear/100', 'bits by the histogram'
MARGIN = 0.02  # bits per dimension
NO_CONTEXT = 0.05  # below the histogram: within it no context is learnt


def plan(budget: str) -> Plan:
  runs = []
  for seed in seeds(budget):
    runs.append(sets.digits(BOUND, seed, budget))
    runs.append(sets.digits(SIMPLE, seed, budget, tuned_as='digits_simple'))
  return Plan(tuple(runs), (Piece('histogram', histogram, of=(runs[0],)),))


def read(run: Finished) -> list[Row]:
  """Bits of every test image by the bound, whatever the weights were trained for; the probe."""
  cell, name = run.record, 'nats'
  if run.spec.objective == SIMPLE:
    cell, name = run.record['also'][BOUND], f'also/{BOUND}/nats'
  bits_N = run.arrays(name)[name] / (run.record['dims'] * math.log(2))
  bits = {'measure': BITS, 'value': cell['bits_per_dim'], 'each': packed(bits_N)}
  return [bits, measures.accuracy(run)]


def histogram(work: Work) -> Iterator[Row]:
  """What knows no context at all: each position's histogram of the training images."""
  from runs import experiment, finished, measured

  config = finished.config_of(work.runs[0].workdir)
  dataset, _ = experiment.load_datasets(config, work.data_dir)
  value = measured.histogram_bits(dataset)
  yield {'source': 'digits', 'measure': HISTOGRAM, 'value': value}


def difference(records: pd.DataFrame, measure: str) -> Test:
  """Simple less bound, over seeds and test images."""
  of = judging.rows(records, measure=measure)
  return judging.crossed(*(judging.rows(of, objective=name) for name in (SIMPLE, BOUND)))


def judge(records: pd.DataFrame) -> Verdict:
  bits, probe = difference(records, BITS), difference(records, PROBE)
  short = judging.short(bits)
  if short:
    return short
  outcome = HOLDS if bits.above(MARGIN) else FAILS if bits.below(MARGIN) else INDISTINCT
  means = {n: judging.by_seed(records, measure=BITS, objective=n).mean() for n in (SIMPLE, BOUND)}
  blind = judging.rows(records, measure=HISTOGRAM)['value']
  if len(blind) and min(means.values()) >= blind.iloc[0] - NO_CONTEXT:
    outcome = CANT  # Two networks that learnt nothing have nothing to compare.
  text = f'Weights trained by the simple loss cost {means[SIMPLE]:.3f} bits per dimension by the '
  text += f'bound, those trained by the bound {means[BOUND]:.3f}'
  if len(blind):
    text += f', a histogram without any context {blind.iloc[0]:.3f}'
  if outcome == CANT:
    text += '. Neither has learnt any context, so that nothing can be compared'
  text += f'. Points of the linear probe at 100 labels, simple less bound: {probe.text(100, 1)}'
  return Verdict(
    outcome,
    bits.mean,
    bits.interval,
    'bits per dimension by the bound, simple loss less bound, digits',
    f'{text}. For networks of a few hundred thousand parameters on 8x8 pictures.',
    'Larger pictures or networks, or another schedule of the simple loss, whose weights are within '
    f'{MARGIN} bits of those of the bound.',
  )


def figure(records: pd.DataFrame):
  made, (left, right) = drawing.panels(2, 2.0)
  by = {name: judging.by_seed(records, measure=BITS, objective=name) for name in (SIMPLE, BOUND)}
  rows = [(name, judging.mean(values)) for name, values in by.items()]
  drawing.forest(left, rows, 'bits per dimension, ≤', lines=())
  blind = judging.rows(records, measure=HISTOGRAM)['value']
  for value in blind[:1]:
    left.axvline(value, color='#8A8A8A', linestyle=':')
  drawing.forest(right, [('simple less bound', difference(records, PROBE))], 'points', 100)
  return made


CLAIM = Claim(
  number=22,
  statement='The loss that image generators train diffusion with does not maximise the likelihood: '
  'its weights are worse by the bound than weights that are trained by the bound.',
  source="Generative pretraining of images: image generators' diffusion.",
  plan=plan,
  judge=judge,
  figure=figure,
  read=read,
  threshold='Digits: bits of the test images by the variational bound, weights of the simple loss '
  '(cosine times) less weights of the bound, over 5 seeds and test images. Holds: the 95 % '
  'interval is above 0.02 bits per dimension. Fails: it is below. Can not decide: neither is 0.05 '
  'bits below the histogram. Else not distinguishable. The linear probe is reported beside '
  'it and decides nothing.',
  looked_at='Nothing of the simple loss at this length. That networks without context decide '
  'nothing was added while runs of the bound went on, at 2.16 to 2.29 bits.',
)
