"""Claim 1 on made-up records."""

import numpy as np
import pandas as pd
import pytest

from claims import base, finite_class
from tests import nulls


def _records(rng, margins, noise=0.02, seeds=5, tests=0.5) -> pd.DataFrame:
  """Bounds so much below what is trivial, and tests at a share of it."""
  rows = []
  for name, gap in zip(finite_class.OBJECTS, margins, strict=True):
    trivial = 0.9 if name == finite_class.PROBE else 3.0
    for seed in range(seeds):
      row = {'object': name, 'measure': 'bound', 'seed': seed, 'trivial': trivial}
      row |= {'value': trivial * (1 - gap + rng.normal(0, noise)), 'test': tests * trivial}
      rows.append(row | {'train': 0.4, 'examples': 1000, 'parameters': 10, 'weight_bits': 40})
  return pd.DataFrame(rows)


@pytest.mark.parametrize(
  'margins, noise, tests, outcome',
  [
    ((0.3, 0.2, 0.1), 0.02, 0.5, base.HOLDS),
    ((0.3, 0.2, -0.5), 0.02, 0.5, base.DEPENDS),
    ((-0.1, -0.2, -0.5), 0.02, 0.5, base.FAILS),
    ((0.3, 0.2, 0.1), 0.02, 0.95, base.FAILS),
    ((0.3, 0.2, 0.0), 0.2, 0.5, base.INDISTINCT),
  ],
)
def test_each_outcome(margins, noise, tests, outcome):
  verdict = finite_class.judge(_records(np.random.default_rng(0), margins, noise, tests=tests))
  assert verdict.outcome == outcome
  assert verdict.number == pytest.approx(100 * margins[1], abs=15)


def test_bounds_that_are_no_better_than_nothing_are_seldom_called_useful_or_vacuous():
  found = nulls.shares(finite_class.judge, lambda rng: _records(rng, (0, 0, 0), tests=0.2))
  assert found[base.HOLDS] + found[base.DEPENDS] + found[base.FAILS] <= nulls.MOST


def test_bounds_that_are_broken_as_often_as_they_may_be_seldom_fail():
  def world(rng):
    records = _records(rng, (0.3, 0.2, 0.1))
    false = rng.uniform(size=len(records)) < finite_class.DELTA
    return records.assign(test=np.where(false, records['value'] + 1, records['test']))

  found = nulls.shares(finite_class.judge, world)
  assert found[base.FAILS] <= nulls.MOST and found[base.HOLDS] > 0.8


def test_few_seeds_decide_nothing():
  records = _records(np.random.default_rng(0), (0, 0, 0), seeds=4)
  assert finite_class.judge(records).outcome == base.CANT
  assert len(finite_class.figure(records).axes) == 3
