"""Claim 16 on made-up records."""

import numpy as np
import pandas as pd
import pytest

from claims import base, last_bits
from tests import nulls


def _records(rng, gzip, short, full, noise=0.01, seeds=5) -> pd.DataFrame:
  """Accuracies of codes whose bits are 3, 2.5 and 2 per dimension."""
  codes = {last_bits.GZIP: (3.0, gzip), last_bits.SHORT: (2.5, short), last_bits.LONG: (2.0, full)}
  codes |= {'bzip2': (2.8, gzip)}
  rows = [
    {'code': code, 'seed': seed, 'measure': measure, 'value': value}
    for seed in range(seeds)
    for code, (bits, accuracy) in codes.items()
    for measure, value in (('bits', bits), ('accuracy', accuracy + rng.normal(0, noise)))
  ]
  pixels = {'code': last_bits.PIXELS, 'measure': 'accuracy', 'value': 0.9}
  return pd.DataFrame(rows + [pixels | {'seed': seed} for seed in range(seeds)])


@pytest.mark.parametrize(
  'gzip, short, full, noise, outcome',
  [
    (0.2, 0.25, 0.6, 0.01, base.HOLDS),
    (0.2, 0.5, 0.6, 0.01, base.FAILS),  # the first bits matter more
    (0.6, 0.3, 0.4, 0.01, base.FAILS),  # gzip is better
    (0.05, 0.25, 0.6, 0.001, base.FAILS),  # gzip is below chance
    (0.2, 0.25, 0.6, 0.4, base.INDISTINCT),
  ],
)
def test_each_outcome(gzip, short, full, noise, outcome):
  verdict = last_bits.judge(_records(np.random.default_rng(0), gzip, short, full, noise))
  assert verdict.outcome == outcome
  if noise < 0.1:
    expected = 100 * ((full - short) / 0.5 - (short - gzip) / 0.5)
    assert verdict.number == pytest.approx(expected, abs=5)
    assert 'pixels have 90 points' in verdict.text


def test_bits_that_matter_alike_are_seldom_told_apart():
  found = nulls.shares(last_bits.judge, lambda rng: _records(rng, 0.2, 0.4, 0.6, 0.02))
  assert found[base.HOLDS] + found[base.FAILS] <= nulls.MOST


def test_few_seeds_decide_nothing():
  records = _records(np.random.default_rng(0), 0.2, 0.3, 0.6, seeds=4)
  assert last_bits.judge(records).outcome == base.CANT
  assert last_bits.figure(records).axes
