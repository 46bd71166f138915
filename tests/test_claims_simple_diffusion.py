"""Claim 22 on made-up records."""

import math

import numpy as np
import pandas as pd
import pytest

from claims import base, simple_diffusion
from claims.simple_diffusion import BITS, BOUND, HISTOGRAM, PROBE, SIMPLE

IMAGES = 200


def _records(gain, seeds=5, seed=0, spread=0.005) -> pd.DataFrame:
  """`gain`: what the simple loss costs above the bound's 2.3 bits."""
  rng, rows = np.random.default_rng(seed), []
  image_N = rng.normal(0, 0.3, IMAGES)  # Some cost more, for both.
  for s in range(seeds):
    for name in (SIMPLE, BOUND):
      of = {'source': 'digits', 'objective': name, 'seed': s}
      bits_N = 2.3 + image_N + spread * rng.normal() + 0.05 * rng.normal(size=IMAGES)
      bits_N += gain if name == SIMPLE else 0.0
      right_N = rng.integers(0, 2, IMAGES).astype(float)
      rows += [
        {**of, 'measure': m, 'value': x.mean(), 'each': base.packed(x)}
        for m, x in ((BITS, bits_N), (PROBE, right_N))
      ]
  rows.append({'source': 'digits', 'measure': HISTOGRAM, 'value': 2.6})
  return pd.DataFrame(rows)


@pytest.mark.parametrize(
  'gain, spread, outcome',
  [
    (0.2, 0.005, base.HOLDS),
    (0.0, 0.005, base.FAILS),
    (-0.2, 0.005, base.FAILS),
    (0.02, 0.005, base.INDISTINCT),
    (0.1, 0.3, base.INDISTINCT),
  ],
)
def test_each_outcome(gain, spread, outcome):
  verdict = simple_diffusion.judge(_records(gain, spread=spread))
  assert verdict.outcome == outcome, verdict.text
  assert verdict.interval[0] < verdict.number < verdict.interval[1]
  if spread < 0.1:
    assert verdict.number == pytest.approx(gain, abs=0.01)
  assert '2.600' in verdict.text


def test_networks_that_learnt_no_context_decide_nothing():
  for blind, outcome in ((2.3, base.CANT), (2.31, base.CANT), (2.6, base.FAILS)):
    records = _records(-0.03 * (blind == 2.31))
    records.loc[records['measure'] == HISTOGRAM, 'value'] = blind
    assert simple_diffusion.judge(records).outcome == outcome


def test_few_seeds_decide_nothing():
  assert simple_diffusion.judge(_records(0.2, seeds=4)).outcome == base.CANT
  records = _records(0.2)
  assert len(simple_diffusion.figure(records).axes) == 2
  assert 'histogram' not in simple_diffusion.judge(records[records['measure'] != HISTOGRAM]).text


def test_false_verdicts_are_rare():
  """At the margin itself either verdict is an error, on one side."""
  worlds, gain = 60, simple_diffusion.MARGIN
  outcomes = [
    simple_diffusion.judge(_records(gain, seed=k, spread=0.02)).outcome for k in range(worlds)
  ]
  for wrong in (base.HOLDS, base.FAILS):
    assert outcomes.count(wrong) / worlds <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / worlds)
