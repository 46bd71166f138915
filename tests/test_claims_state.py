"""Claim 28 on made-up records."""

import numpy as np
import pandas as pd
import pytest

from claims import base, recurrent_state
from tests import nulls


def _records(rng, copy, hierarchy, noise=0.01, seeds=5) -> pd.DataFrame:
  """What the smallest and the largest state lose on each source; those between lose in between."""
  rows = []
  for source, (small, large) in {'copy': copy, 'hierarchy': hierarchy}.items():
    states = recurrent_state.STATES[source]
    losses = {0: 0.0, **dict(zip(states, np.linspace(small, large, len(states)), strict=True))}
    hard_N = rng.uniform(1, 2, 20)
    for seed in range(seeds):
      level = rng.uniform(0, 0.5)  # Of the grammar.
      for state, loss in losses.items():
        value = loss + level + rng.normal(0, noise)
        row = {'source': source, 'seed': seed, 'state': state, 'value': value}
        rows.append(row | {'measure': 'regret'})
        if source == 'copy':
          each = hard_N + loss + rng.normal(0, noise) + rng.normal(0, noise, 20)
          row |= {'each': base.packed(each), 'value': each.mean()}
        rows.append(row | {'measure': 'bits'})
  return pd.DataFrame(rows)


@pytest.mark.parametrize(
  'copy, hierarchy, noise, outcome',
  [
    ((0.6, 0.0), (0.4, 0.01), 0.01, base.HOLDS),
    ((0.6, 0.0), (0.4, -0.2), 0.01, base.HOLDS),
    ((0.6, 0.3), (0.4, 0.2), 0.01, base.FAILS),
    ((0.0, 0.0), (0.0, 0.0), 0.01, base.FAILS),
    ((0.6, 0.0), (0.4, 0.2), 0.01, base.DEPENDS),
    ((0.6, 0.0), (0.4, 0.0), 0.5, base.INDISTINCT),
  ],
)
def test_each_outcome(copy, hierarchy, noise, outcome):
  verdict = recurrent_state.judge(_records(np.random.default_rng(1), copy, hierarchy, noise))
  assert verdict.outcome == outcome
  if noise < 0.1:
    assert verdict.number == pytest.approx(copy[1], abs=0.03)


def test_what_is_at_the_threshold_is_seldom_called_a_bottleneck_or_as_good():
  for at in ((recurrent_state.BOTTLENECK, 0.0), (0.6, recurrent_state.NEAR)):
    found = nulls.shares(recurrent_state.judge, lambda rng, at=at: _records(rng, at, at))
    assert found[base.HOLDS] <= nulls.MOST


def test_few_seeds_decide_nothing():
  records = _records(np.random.default_rng(0), (0.6, 0), (0.4, 0), seeds=4)
  assert recurrent_state.judge(records).outcome == base.CANT
  assert len(recurrent_state.figure(records).axes) == 2
