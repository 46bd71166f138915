"""Claim 29 on made-up records."""

import numpy as np
import pandas as pd
import pytest

from claims import base, simulated
from tests import nulls


def _records(rng, gains, control=-0.5, noise=0.005, seeds=5) -> pd.DataFrame:
  """What each of NEW gains, and the control."""
  of = {('copy', 'attention', 0): 0.0, ('digits', 'attention', 0): 0.0}
  of |= {('hierarchy', 'attention', 0): 0.0, simulated.SMALL: control}
  of |= dict(zip(simulated.NEW, gains, strict=True))
  rows, hard_N = [], rng.uniform(1, 2, 15)
  for (source, kind, state), gained in of.items():
    for seed in range(seeds):
      row = {'source': source, 'seed': seed, 'kind': kind, 'state': state}
      each = hard_N - gained + rng.normal(0, noise) + rng.normal(0, noise, 15)
      bits = {'measure': 'bits', 'value': 1 + seed - gained + rng.normal(0, noise)}
      if source != 'hierarchy':
        bits |= {'value': each.mean(), 'each': base.packed(each)}
      flops = 50.0 if kind == 'recurrent' else 100.0
      rows += [row | bits, row | {'measure': 'flops', 'value': flops}]
  return pd.DataFrame(rows)


@pytest.mark.parametrize(
  'gains, control, noise, outcome',
  [
    ((0, 0, 0, 0), -0.5, 0.005, base.HOLDS),
    ((-0.2, 0, 0, -0.1), -0.5, 0.005, base.HOLDS),
    ((0.1, 0.1, 0.1, 0.1), -0.5, 0.005, base.FAILS),
    ((0, 0.1, 0, 0), -0.5, 0.005, base.DEPENDS),
    ((0, 0, 0, 0), -0.5, 0.1, base.INDISTINCT),
    ((0, 0, 0, 0), 0.0, 0.005, base.CANT),
  ],
)
def test_each_outcome(gains, control, noise, outcome):
  verdict = simulated.judge(_records(np.random.default_rng(0), gains, control, noise))
  assert verdict.outcome == outcome
  assert 'recurrent, copy 0.50' in verdict.text
  if noise < 0.1:
    assert verdict.number == pytest.approx(max(gains), abs=0.01)


def test_gains_at_the_threshold_are_seldom_called_large_or_little():
  at = (simulated.LITTLE,) * 4
  found = nulls.shares(simulated.judge, lambda rng: _records(rng, at))
  assert found[base.HOLDS] <= nulls.MOST
  assert found[base.FAILS] + found[base.DEPENDS] <= nulls.MOST


def test_few_seeds_decide_nothing():
  records = _records(np.random.default_rng(0), (0, 0, 0, 0), seeds=4)
  assert simulated.judge(records).outcome == base.CANT
  assert simulated.figure(records).axes
