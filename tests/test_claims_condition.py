"""Claim 31 on made-up records."""

import numpy as np
import pandas as pd
import pytest

from claims import base, fit_not_condition
from tests import nulls


def _records(rng, saved, noise=0.05, seeds=5, unused=0.0) -> pd.DataFrame:
  """Codes of 30 labels, of which fitting saves so many bits each."""
  rows, hard_N = [], rng.uniform(0, 3, 30)
  for seed in range(seeds):
    for code in fit_not_condition.CODES:
      level = -saved if code == fit_not_condition.FITTED else 0.0
      level -= unused if code == fit_not_condition.WINDOW else 0.0
      each = hard_N + level + rng.normal(0, noise) + rng.normal(0, noise, 30)
      row = {'seed': seed, 'code': code, 'room': 64}
      rows.append(row | {'measure': 'bits', 'value': each.mean(), 'each': base.packed(each)})
      for block in range(fit_not_condition.BLOCKS):
        rows.append(row | {'measure': 'curve', 'block': block, 'value': each.mean()})
  return pd.DataFrame(rows)


@pytest.mark.parametrize(
  'saved, noise, outcome',
  [(0.3, 0.05, base.HOLDS), (-0.3, 0.05, base.FAILS), (0.0, 0.3, base.INDISTINCT)],
)
def test_each_outcome(saved, noise, outcome):
  verdict = fit_not_condition.judge(_records(np.random.default_rng(0), saved, noise))
  assert verdict.outcome == outcome
  assert '30 labels' in verdict.text and '63 pairs' in verdict.text
  if noise < 0.1:
    assert verdict.number == pytest.approx(saved, abs=0.1)


def test_codes_that_are_as_long_are_seldom_told_apart():
  found = nulls.shares(fit_not_condition.judge, lambda rng: _records(rng, 0.0))
  assert found[base.HOLDS] + found[base.FAILS] <= nulls.MOST


def test_a_network_that_does_not_use_what_it_is_shown_decides_nothing():
  for unused, saved, outcome in (
    (1, 0.3, base.CANT),
    (1, -0.3, base.FAILS),
    (0.2, 0.3, base.HOLDS),
  ):
    records = _records(np.random.default_rng(0), saved, unused=unused)
    assert fit_not_condition.judge(records).outcome == outcome


def test_few_seeds_decide_nothing():
  records = _records(np.random.default_rng(0), 0.3, seeds=4)
  assert fit_not_condition.judge(records).outcome == base.CANT
  assert fit_not_condition.figure(records).axes
