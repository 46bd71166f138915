"""Claim 13: what a learner codes data in is their maximum likelihood and the cost of parameters."""

from collections.abc import Iterator
import math

import numpy as np
import pandas as pd
import scipy.special

from claims import drawing, judging, sets
from claims.base import (
  DEPENDS,
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
  seeds,
)
from claims.judging import Test
from reports import canvas

SYMBOLS = (2, 4, 8)
LENGTHS = tuple(2**k for k in range(10, 17))
RATIO = 0.1  # of the growth that theory says: how far off it may be
FACTOR = 0.5  # log2 of two ways of charging a network that count as the same


def plan(budget: str) -> Plan:
  lengths = LENGTHS[:3] if budget == QUICK else LENGTHS
  pieces = [
    Piece(f'chain-{seed}', code_chains, {'seed': seed, 'lengths': lengths})
    for seed in seeds(budget)
  ]
  for seed in seeds(budget):
    run = sets.hierarchy('autoregressive', seed, budget)
    pieces.append(Piece(f'network-{seed}', code_network, of=(run,)))
  return Plan((), tuple(pieces))


def code_chains(work: Work, seed: int, lengths: tuple[int, ...]) -> Iterator[Row]:
  """Bits of Markov chains by a code that learns, and by their own best parameters."""
  del work
  for symbols in SYMBOLS:
    rng = np.random.default_rng((seed, symbols))
    rows_VxV = rng.dirichlet(np.ones(symbols), symbols)
    tokens_N = chain(rng, rows_VxV, max(lengths) + 1)
    for length in lengths:
      counts_VxV = np.zeros((symbols, symbols))
      np.add.at(counts_VxV, (tokens_N[:length], tokens_N[1 : length + 1]), 1)
      of = {'source': 'chain', 'seed': seed, 'symbols': symbols, 'length': length}
      yield {**of, 'measure': 'learner', 'value': krichevsky_trofimov(counts_VxV)}
      yield {**of, 'measure': 'likelihood', 'value': maximum_likelihood(counts_VxV)}


def chain(rng: np.random.Generator, rows_VxV: np.ndarray, length: int) -> np.ndarray:
  """A Markov chain from symbol 0."""
  cumulated_VxV, uniform_N = np.cumsum(rows_VxV, axis=1), rng.uniform(size=length)
  tokens_N = np.zeros(length, int)
  for place in range(1, length):
    found = np.searchsorted(cumulated_VxV[tokens_N[place - 1]], uniform_N[place])
    tokens_N[place] = min(found, len(rows_VxV) - 1)
  return tokens_N


def krichevsky_trofimov(counts_VxV: np.ndarray) -> float:
  """Bits of a chain's tokens, each predicted by (count + 1/2) / (all + V/2) in its context.

  The product of these predictions does not depend on the order: a Dirichlet-multinomial.
  """
  symbols = counts_VxV.shape[1]
  gammaln = scipy.special.gammaln
  seen_V = counts_VxV.sum(1)
  nats = gammaln(seen_V + symbols / 2) - gammaln(symbols / 2)
  nats -= (gammaln(counts_VxV + 0.5) - gammaln(0.5)).sum(1)
  return float(nats.sum() / math.log(2))


def maximum_likelihood(counts_VxV: np.ndarray) -> float:
  """Bits of the same tokens by the frequencies of the whole sequence, known for nothing."""
  seen_V = counts_VxV.sum(1)
  xlogy = scipy.special.xlogy
  return float((xlogy(seen_V, seen_V).sum() - xlogy(counts_VxV, counts_VxV).sum()) / math.log(2))


def code_network(work: Work) -> Iterator[Row]:
  """A network that learnt a fresh source: bits that learning cost, and bits that its weights do."""
  from runs import own_size

  (run,) = work.runs
  made = own_size.measure(run.workdir, work.data_dir)
  training, two_part = made['training_time'], made['two_part']
  tokens = training['examples'] * two_part['dims']
  rows = {row['name']: row for row in two_part['rows']}
  exact = rows['float32']['validation']
  numbers = {
    'learning': tokens * (training['bits_per_dim'] - exact),
    'weights': min(r['weight_bits'] + tokens * (r['validation'] - exact) for r in rows.values()),
    'asymptotic': two_part['parameters'] / 2 * math.log2(tokens),
    'likelihood': tokens * exact,
  }
  for measure, value in numbers.items():
    yield run.spec.columns | {'measure': measure, 'length': tokens, 'value': value}


def growth(records: pd.DataFrame, symbols: int) -> Test:
  """Growth of learner less likelihood with log2 of the length, over half the free parameters."""
  found = {}
  rows = judging.rows(records, source='chain', symbols=symbols)
  for seed, own in rows.groupby('seed'):
    table = own.pivot_table('value', 'length', 'measure')
    cost = table['learner'] - table['likelihood']
    found[seed] = np.polyfit(np.log2(table.index), cost, 1)[0] / (symbols * (symbols - 1) / 2)
  return judging.mean(pd.Series(found, dtype=float))


def factor(records: pd.DataFrame, first: str, second: str) -> Test:
  """log2 of the ratio of two costs of the network's parameters."""
  rows = judging.rows(records, source='hierarchy')
  a, b = (judging.by_seed(rows, measure=name) for name in (first, second))
  common = a.index[(a > 0) & (b.reindex(a.index) > 0)]
  return judging.mean(np.log2(a[common] / b[common]))


def judge(records: pd.DataFrame) -> Verdict:
  chains = {symbols: growth(records, symbols) for symbols in SYMBOLS}
  network = factor(records, 'weights', 'learning')
  short = judging.short(*chains.values(), network)
  if short:
    return short
  if any(test.above(1 + RATIO) or test.below(1 - RATIO) for test in chains.values()):
    outcome = FAILS
  elif not all(test.inside(1 - RATIO, 1 + RATIO) for test in chains.values()):
    outcome = INDISTINCT
  elif network.inside(-FACTOR, FACTOR):
    outcome = HOLDS
  elif network.above(FACTOR) or network.below(-FACTOR):
    outcome = DEPENDS
  else:
    outcome = INDISTINCT
  of_network = judging.rows(records, source='hierarchy').groupby('measure')['value'].mean()
  text = 'Markov chains: what a learner pays above maximum likelihood grows by '
  text += ', '.join(f'{test.text()} ({symbols} symbols)' for symbols, test in chains.items())
  text += ' times half the free parameters with every doubling. A network on the hierarchy: '
  text += ', '.join(
    f'{name} {of_network[name] / 1e3:,.0f} kbit'
    for name in ('learning', 'weights', 'asymptotic', 'likelihood')
  )
  text += f'; weights over learning 2^{network.text(1, 2)}'
  if outcome == DEPENDS:
    text += '. It depends on how parameters are charged: by learning, or by sending the weights'
  return Verdict(
    outcome,
    network.mean,
    network.interval,
    'log2 of the cost of sent weights over that of learning them, network of 200,000 parameters',
    f'{text}.',
    'A code of the weights that is as short as learning them, or a longer training.',
  )


def figure(records: pd.DataFrame):
  made, (left, right) = drawing.panels(2, 2.8)
  for place, symbols in enumerate(SYMBOLS):
    rows = judging.rows(records, source='chain', symbols=symbols)
    table = rows.pivot_table('value', 'length', 'measure')
    cost = (table['learner'] - table['likelihood']) / (symbols * (symbols - 1) / 2)
    drawing.series(left, table.index, cost, place, f'{symbols} symbols')
  left.set_xscale('log', base=2)
  canvas.tidy(left, 'tokens', 'bits a half parameter')
  left.legend(fontsize=7, frameon=False)
  means = judging.rows(records, source='hierarchy').groupby('measure')['value'].mean() / 1e3
  names = ['learning', 'weights', 'asymptotic']
  right.barh(names, [means[name] for name in names], color=drawing.colour(0))
  canvas.tidy(right, 'kbit, parameters of a network', '')
  return made


CLAIM = Claim(
  number=13,
  statement='The joint code of data by a learner is their maximum likelihood and the cost of the '
  'parameters.',
  source='Compression: joint compression is maximum likelihood with regularisation.',
  plan=plan,
  judge=judge,
  figure=figure,
  threshold='Markov chains of 2, 4 and 8 symbols, 1,024 to 65,536 tokens, 5 of each: what the '
  'Krichevsky-Trofimov code pays above maximum likelihood must grow with log2 n by half the free '
  'parameters, 95 % intervals inside ±10 %; outside fails. Then a network on the hierarchy: holds '
  'if its weights, sent in the best format, cost what learning them cost within a factor of '
  '2^±0.5; depends (on how parameters are charged) if they do not. Else not distinguishable.',
  looked_at='That weights of the digits network cost some 300 to 800 kbit (results of codes). '
  'Chains of up to 4,096 tokens, seeds 0 and 1: growth 1.00, 1.02 and 0.97. Networks of 60 '
  'updates: 45 kbit to learn, 263 kbit to send. Chains of full length, seeds 100 to 105: growth '
  '1.00, 0.99 and 0.98.',
)
