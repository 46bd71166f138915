"""Claim 6: whether a compressor that has learnt X finds the key of an enciphered Y by itself."""

from collections.abc import Iterator
import math

import pandas as pd

from claims import drawing, judging
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
  packed,
  seeds,
  unpacked,
)
from claims.judging import Test
from reports import canvas

ALONE, UNKNOWN, KNOWN, EXACT = 'alone', 'unknown', 'known', 'exact'
KEY = 'price of the key'
ALL, PART = 0.8, 0.5  # of what the key saves
LATE = 0.02  # bits a token: what is no difference once the key is found
LENGTH = 16  # tokens a sequence
SIZES = {'quick': {'x_rows': 96, 'y_rows': 64}, 'full': {'x_rows': 4096, 'y_rows': 1024}}


def plan(budget: str) -> Plan:
  sizes = SIZES[QUICK if budget == QUICK else 'full']
  pieces = tuple(Piece(f'codes-{seed}', codes, {'seed': seed, **sizes}) for seed in seeds(budget))
  return Plan(pieces=pieces)


def codes(work: Work, seed: int, **sizes: int) -> Iterator[Row]:
  """Bits of every sequence of Y: after X with the key and without, from nothing, by the law."""
  from runs import joint_cipher

  found = joint_cipher.measure(seed, joint_cipher.Setting(length=LENGTH, **sizes))
  of = {'source': 'markov', 'seed': seed}
  for name in (ALONE, UNKNOWN, KNOWN, EXACT):
    yield of | {'measure': name, 'value': found[name].sum(), 'each': packed(found[name])}
  yield of | {'measure': KEY, 'value': found['key']}


def totals(records: pd.DataFrame) -> pd.DataFrame:
  """Bits by seed and code. What the joint compressor pays without the key is by the Bayes mixture
  of going on after X and of beginning anew, one bit at most above the better."""
  table = judging.rows(records, measure=(ALONE, UNKNOWN, KNOWN, EXACT, KEY))
  table = table.pivot_table('value', 'seed', 'measure')
  least = table[[UNKNOWN, ALONE]].min(axis=1)
  gap = (table[UNKNOWN] - table[ALONE]).abs()
  table['joint'] = least + 1 - (1 + 2.0**-gap).map(math.log2)
  return table


def share(records: pd.DataFrame) -> Test:
  """Of the bits that X and the key save on Y, those that X saves without the key."""
  table = totals(records)
  saved = table[ALONE] - table[KNOWN]
  return judging.mean(((table[ALONE] - table['joint']) / saved)[saved > 0])


def ideal(records: pd.DataFrame) -> float:
  """The same of a compressor that knows the law and pays for the key what it must."""
  table = totals(records)
  return float((1 - table[KEY] / (table[ALONE] - table[KNOWN])).mean())


def late(records: pd.DataFrame, code: str) -> Test:
  """Bits a token above the code with the key, in the last quarter of Y."""
  found = {}
  for seed, rows in records.groupby('seed'):
    each = {row['measure']: row['each'] for _, row in rows.iterrows() if row['measure'] != KEY}
    bits_N = unpacked(each[code]) - unpacked(each[KNOWN])
    found[seed] = bits_N[-(-3 * len(bits_N) // 4) :].mean() / LENGTH
  return judging.mean(pd.Series(found, dtype=float))


def judge(records: pd.DataFrame) -> Verdict:
  test = share(records)
  short = judging.short(test)
  if short:
    return short
  after, anew = late(records, UNKNOWN), late(records, ALONE)
  found = after.inside(-LATE, LATE) and anew.above(LATE)
  if test.above(ALL):
    outcome = HOLDS
  elif test.below(ALL) and found:
    outcome = DEPENDS
  else:
    outcome = FAILS if test.below(PART) else INDISTINCT
  table = totals(records)
  price = judging.mean(table['joint'] - table[KNOWN])
  means = table.mean()
  text = (
    f'Bits of Y: from nothing {means[ALONE]:,.0f}, after X {means[UNKNOWN]:,.0f}, after X with '
  )
  text += f'the key {means[KNOWN]:,.0f}, by the law {means[EXACT]:,.0f}. Without the key the joint '
  text += f'compressor pays {price.text(1, 0)} bits more, where the law needs {means[KEY]:.1f}; it '
  text += f'saves {test.text(100, 1)} % of what the key saves, an ideal one '
  text += (
    f'{100 * ideal(records):.1f} %. In the last quarter of Y it is {after.text()} bits a token '
  )
  text += f'above the code with the key, the one from nothing {anew.text()}'
  if outcome == DEPENDS:
    text += '. It depends on how much of Y there is: by the end the key is found'
  return Verdict(
    outcome,
    100 * test.mean,
    (100 * test.low, 100 * test.high),
    '% of the bits that the key saves, saved without it',
    f'{text}. For two layers 64 wide and 8 symbols.',
    'A network, or a way of training it, that pays for the key little more than it must.',
  )


def figure(records: pd.DataFrame):
  made, (axis,) = drawing.panels(1, 2.8)
  for place, code in enumerate((ALONE, UNKNOWN, EXACT)):
    rows = judging.rows(records, measure=code).set_index('seed')['each']
    known = judging.rows(records, measure=KNOWN).set_index('seed')['each']
    above = [unpacked(rows[seed]) - unpacked(known[seed]) for seed in rows.index]
    mean = sum(above) / len(above)
    name = f'{code}, less with the key'
    drawing.series(axis, range(1, len(mean) + 1), mean.cumsum(), place, name, marker='')
  canvas.tidy(axis, 'sequences of Y', 'bits so far')
  axis.legend(fontsize=7, frameon=False)
  return made


CLAIM = Claim(
  number=6,
  statement='A good compressor of X and Y together finds by itself the key under which Y is like '
  'X.',
  source='Distribution matching, and compression that does the same.',
  plan=plan,
  judge=judge,
  figure=figure,
  threshold='Markov chains of 8 symbols, 5 of them; X 4,096 sequences of 16 tokens, Y 1,024 '
  'others whose symbols are permuted. Prequential bits of Y by a network from nothing, after X, '
  'and after X with the key; without the key the mixture of the first two. Share of what the key '
  'saves that is saved without it: holds if its 95 % interval is above 80 %. Depends (on how much '
  'of Y there is) if it is below and in the last quarter of Y the network after X is within 0.02 '
  'bits a token of the one with the key, while the one from nothing is not. Else fails if it is '
  'below 50 %, and is not distinguishable otherwise.',
  looked_at='The learning rate, on chain 100.',
  pod='The same with x_rows=1,000,000 and a network of the preset small, whose embeddings alone '
  'need to learn the key: runs/joint_cipher.py.',
)
