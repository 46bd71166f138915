"""Claim 3 on made-up records."""

import numpy as np
import pandas as pd
import pytest

from claims import base, other_objective
from claims.other_objective import LOSS, PROBE
from tests import nulls

STEPS = range(0, 900, 100)


def _records(bits: float, probe: float, along: str = 'together', seeds: int = 5) -> pd.DataFrame:
  """'b' has so many more bits than 'a', and so much more accuracy."""
  rng, rows = np.random.default_rng(0), []
  for seed in range(seeds):
    for name in 'ab':
      of = {'source': 'digits', 'objective': name, 'seed': seed}
      more = name == 'b'
      for measure, value in (('bits', 2.0 + more * bits), ('probe', 0.6 + more * probe)):
        each_N = value + 0.1 * np.sin(np.arange(300)) + rng.normal(0, 0.01, 300)
        each = base.packed(each_N)
        rows.append({**of, 'measure': measure, 'value': each_N.mean(), 'each': each})
      losses = 3.0 - np.linspace(0, 1, len(STEPS))
      sign = {'together': -1, 'apart': 1, 'chance': 0}[along]
      accuracies = 0.5 + sign * 0.1 * losses + rng.normal(0, 0.002 if sign else 0.1, len(STEPS))
      for step, loss, accuracy in zip(STEPS, losses, accuracies, strict=True):
        rows.append({**of, 'measure': LOSS, 'value': loss, 'step': step})
        rows.append({**of, 'measure': PROBE, 'value': accuracy, 'step': step})
  return pd.DataFrame(rows)


@pytest.mark.parametrize(
  'bits, probe, along, outcome',
  [
    (0.2, -0.1, 'together', base.FAILS),
    (0.2, 0.1, 'together', base.DEPENDS),
    (-0.2, -0.1, 'together', base.DEPENDS),
    (0.2, 0.0, 'together', base.INDISTINCT),
    (0.0, 0.0, 'together', base.INDISTINCT),
    (0.2, -0.1, 'apart', base.HOLDS),
  ],
)
def test_each_outcome(bits, probe, along, outcome):
  verdict = other_objective.judge(_records(bits, probe, along))
  assert verdict.outcome == outcome
  assert verdict.number == pytest.approx(1 if along == 'together' else -1, abs=0.05)


def test_chance_along_training_is_not_together():
  assert other_objective.judge(_records(0.2, 0.1, 'chance')).outcome != base.DEPENDS


def test_few_seeds_and_no_pair_decide_nothing():
  records = _records(0.2, 0.1)
  assert other_objective.judge(_records(0.2, 0.1, seeds=4)).outcome == base.CANT
  without = records[(records['measure'] != 'bits') | (records['objective'] == 'a')]
  assert other_objective.judge(without).outcome == base.CANT
  assert other_objective.figure(records.assign(source='digits')).axes


def test_a_probe_that_goes_its_own_way_is_seldom_said_to_fall():
  """Seven objectives, and every one of them may decide: no correlation along training."""

  def world(rng):
    rows = []
    for seed in range(5):
      for name in 'abcdefg':
        of = {'source': 'digits', 'objective': name, 'seed': seed}
        for measure in ('bits', 'probe') if name in 'ab' else ():
          rows.append({**of, 'measure': measure, 'value': rng.normal()})
        for step in STEPS:
          rows.append({**of, 'measure': LOSS, 'value': 1 / (1 + step), 'step': step})
          rows.append({**of, 'measure': PROBE, 'value': rng.normal(), 'step': step})
    return pd.DataFrame(rows)

  found = nulls.shares(other_objective.judge, world)
  assert found[base.HOLDS] + found[base.DEPENDS] + found[base.FAILS] <= nulls.MOST
