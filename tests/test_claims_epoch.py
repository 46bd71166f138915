"""Claim 15 on made-up records."""

import numpy as np
import pandas as pd
import pytest

from claims import base, single_epoch
from claims.single_epoch import TRAIN, VALIDATION


def _records(gap: float, excess: float, noise: float = 0.002, seeds: int = 5) -> pd.DataFrame:
  rng, rows = np.random.default_rng(0), []
  for seed in range(seeds):
    for name in single_epoch.OBJECTIVES:
      for source in ('hierarchy', 'digits'):
        of = {'source': source, 'objective': name, 'seed': seed}
        final = 1.3 + 0.1 * seed
        code = final * (1 + excess) + rng.normal(0, noise)
        rows += [
          {**of, 'measure': 'final', 'value': final, 'step': 400},
          {**of, 'measure': 'last window', 'value': final - 0.2 + rng.normal(0, noise)},
          {**of, 'measure': 'code', 'value': code, 'step': 400},
        ]
        if source == 'hierarchy':
          rows.append({**of, 'measure': 'code', 'value': code + 0.2, 'step': 200})
          rows += [
            {**of, 'measure': 'gap', 'value': gap + rng.normal(0, noise), 'step': step}
            for step in (100, 200, 300)
          ]
          rows += [{**of, 'measure': m, 'value': 2.0, 'step': 10} for m in (TRAIN, VALIDATION)]
  return pd.DataFrame(rows)


@pytest.mark.parametrize(
  'gap, excess, noise, outcome',
  [
    (0.0, 0.01, 0.002, base.HOLDS),
    (0.0, 0.30, 0.002, base.DEPENDS),
    (0.1, 0.01, 0.002, base.FAILS),
    (-0.1, 0.01, 0.002, base.FAILS),
    (0.0, 0.01, 0.2, base.INDISTINCT),
  ],
)
def test_each_outcome(gap, excess, noise, outcome):
  verdict = single_epoch.judge(_records(gap, excess, noise))
  assert verdict.outcome == outcome
  if noise < 0.1:
    assert verdict.number == pytest.approx(100 * excess, abs=0.5)


def test_few_seeds_decide_nothing():
  assert single_epoch.judge(_records(0, 0, seeds=4)).outcome == base.CANT
  assert len(single_epoch.figure(_records(0, 0)).axes) == 2


def test_the_gap_of_a_moment_is_between_the_windows_around_it():
  # A loss that falls by .1 a step: the mean of a window of 10 is that of its middle.
  def loss(step):
    return 90 - 0.1 * step

  curve = [
    {'step': s, TRAIN: np.mean([loss(t) for t in range(s - 10, s)])} for s in range(10, 101, 10)
  ]
  for point in curve:
    if point['step'] % 50 == 0:
      point[VALIDATION] = loss(point['step'])
  found = single_epoch.gaps([{'step': 0, VALIDATION: 90.0}, *curve], 10, 25)
  # Steps s - 10 .. s + 9 have their middle half a step before s.
  assert [row['step'] for row in found] == [50]
  assert found[0]['value'] == pytest.approx(0.05)
