"""Claim 12 on made-up records."""

import math

import numpy as np
import pandas as pd
import pytest

from claims import base, joint_or_conditional
from claims.joint_or_conditional import AR, FROZEN, JOINT, MARGIN, NOTHING, TUNED


def _records(tuned, frozen, noise=0.01, seeds=5, seed=0) -> pd.DataFrame:
  """Joint is 1 bit a label; the others that much less or more. The MLP reads worse."""
  rng, rows = np.random.default_rng(seed), []
  for s in range(seeds):
    shared = 0.1 * rng.normal()  # Some seeds are better, whatever the code.
    of = {'source': 'digits', 'seed': s}
    values = {JOINT: 1.0, TUNED: 1 - tuned, f'{FROZEN}, linear': 1 - frozen}
    values[f'{FROZEN}, mlp'] = 1.2 - frozen
    rows += [
      {**of, 'objective': AR, 'measure': m, 'value': value + shared + noise * rng.normal()}
      for m, value in values.items()
    ]
    rows.append({**of, 'objective': NOTHING, 'measure': f'{FROZEN}, linear', 'value': 2.0})
  return pd.DataFrame(rows)


@pytest.mark.parametrize(
  'tuned, frozen, noise, outcome',
  [
    (0.0, 0.0, 0.01, base.HOLDS),  # the null: nothing differs
    (-0.5, -0.3, 0.01, base.HOLDS),
    (0.3, 0.3, 0.01, base.FAILS),
    (-0.3, 0.3, 0.01, base.DEPENDS),
    (0.3, -0.3, 0.01, base.DEPENDS),
    (0.0, 0.0, 0.2, base.INDISTINCT),
  ],
)
def test_each_outcome(tuned, frozen, noise, outcome):
  records = _records(tuned, frozen, noise)
  verdict = joint_or_conditional.judge(records)
  assert verdict.outcome == outcome, verdict.text
  assert verdict.number == pytest.approx(tuned, abs=1.5 * noise)
  assert joint_or_conditional.differences(records)[FROZEN].mean == pytest.approx(
    frozen, abs=1.5 * noise
  )
  assert ('Mixing' in verdict.text) == (min(tuned, frozen) < -0.1)
  assert len(joint_or_conditional.figure(records).axes) == 2


def test_few_seeds_decide_nothing():
  assert joint_or_conditional.judge(_records(0.3, 0.3, seeds=4)).outcome == base.CANT


def test_false_verdicts_are_rare():
  """Worse by just the margin: both verdicts are errors, each on one side."""
  worlds = 60
  outcomes = [
    joint_or_conditional.judge(_records(MARGIN, MARGIN, 0.05, seed=k)).outcome
    for k in range(worlds)
  ]
  for wrong in (base.HOLDS, base.FAILS):
    assert outcomes.count(wrong) / worlds <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / worlds)
