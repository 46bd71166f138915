"""Claim 12 on made-up records."""

import math

import numpy as np
import pandas as pd
import pytest

from claims import base, joint_or_conditional
from claims.joint_or_conditional import AR, FROZEN, JOINT, MARGIN, NOTHING, TUNED

LABELS = 400


def _records(tuned, frozen, noise=0.01, seeds=5, seed=0, each=0.02) -> pd.DataFrame:
  """Joint is 1 bit a label; the others that much less or more, with an offset of each label that
  all seeds share. The MLP reads worse."""
  rng, rows = np.random.default_rng(seed), []
  measures = (JOINT, TUNED, f'{FROZEN}, linear', f'{FROZEN}, mlp')
  offsets = {measure: each * rng.normal(size=LABELS) for measure in measures}
  for s in range(seeds):
    shared = 0.1 * rng.normal()  # Some seeds are better, whatever the code.
    of = {'source': 'digits', 'seed': s}
    values = {JOINT: 1.0, TUNED: 1 - tuned, f'{FROZEN}, linear': 1 - frozen}
    values[f'{FROZEN}, mlp'] = 1.2 - frozen
    for m, value in values.items():
      each_N = value + shared + noise * rng.normal() + offsets[m]
      row = {**of, 'objective': AR, 'measure': m, 'value': each_N.mean()}
      rows.append(row | {'each': base.packed(each_N)})
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


def test_labels_that_all_seeds_share_are_not_taken_for_a_difference():
  """Equal codes that these very labels happen to favour: seeds alone would tell them apart."""
  worlds = 60
  found = [_records(MARGIN, MARGIN, 0.002, seed=k, each=1.0) for k in range(worlds)]
  wrong = [joint_or_conditional.judge(records).outcome for records in found]
  for outcome in (base.HOLDS, base.FAILS):
    assert wrong.count(outcome) / worlds <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / worlds)


def test_bits_of_each_are_those_of_the_code():
  row = joint_or_conditional._row(JOINT, 6.0, np.array([1.0, 2.0, 3.0]))
  assert row['value'] == 2 and row['each'] == '1 2 3'
  with pytest.raises(ValueError, match='labels of 6.0 bits, a code of 7.0'):
    joint_or_conditional._row(JOINT, 7.0, np.array([1.0, 2.0, 3.0]))
