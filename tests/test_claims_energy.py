"""Claim 25 on made-up records, and on energies that are made up."""

import math

import numpy as np
import pandas as pd
import pytest

from claims import base, energy
from claims.energy import ENERGY, EVERY, EXCESS, REFERENCE, SLOPE, TYPICAL, R


def _records(typical, every=(1.0, 0.99), noise=0.01, seeds=5, seed=0) -> pd.DataFrame:
  """(slope, correlation) for strings of the data, and of all strings."""
  rng, rows = np.random.default_rng(seed), []
  for s in range(seeds):
    for name in (ENERGY, REFERENCE):
      of = {'source': 'markov', 'objective': name, 'seed': s}
      for where, (slope, r) in ((TYPICAL, typical), (EVERY, every)):
        rows += [
          {**of, 'measure': SLOPE, 'where': where, 'value': slope + noise * rng.normal()},
          {**of, 'measure': R, 'where': where, 'value': r + noise * rng.normal() / 4},
        ]
      for measure in ('normaliser', 'gap of the distinguisher', 'calibration error', EXCESS,
                      'bits of the predictor'):  # fmt: skip
        rows.append({**of, 'measure': measure, 'value': 0.1 + 0.01 * s})
      if not s:
        x = base.packed(rng.normal(size=20))
        rows += [{**of, 'measure': m, 'value': 20, 'each': x} for m in ('log p', 'log q')]
  return pd.DataFrame(rows)


@pytest.mark.parametrize(
  'typical, every, noise, outcome',
  [
    ((1.0, 0.99), (0.97, 0.98), 0.01, base.HOLDS),
    ((0.6, 0.99), (0.6, 0.98), 0.01, base.FAILS),
    ((1.5, 0.99), (1.5, 0.98), 0.01, base.FAILS),
    ((1.0, 0.7), (1.0, 0.7), 0.01, base.FAILS),
    ((0.0, 0.0), (0.0, 0.0), 0.05, base.FAILS),  # the null: an energy that knows nothing
    ((1.0, 0.99), (0.6, 0.9), 0.01, base.DEPENDS),
    ((0.95, 0.99), (1.0, 0.99), 0.2, base.INDISTINCT),
  ],
)
def test_each_outcome(typical, every, noise, outcome):
  records = _records(typical, every, noise)
  verdict = energy.judge(records)
  assert verdict.outcome == outcome, verdict.text
  assert verdict.number == pytest.approx(typical[0], abs=2 * noise)
  assert len(energy.figure(records).axes) == 2


def test_few_chains_decide_nothing():
  assert energy.judge(_records((1.0, 0.99), seeds=4)).outcome == base.CANT


@pytest.mark.parametrize(
  'typical, wrong',
  [((0.9, 0.99), base.HOLDS), ((1.0, 0.95), base.HOLDS), ((0.8, 0.99), base.FAILS)],
)
def test_false_verdicts_are_rare(typical, wrong):
  worlds = 50
  outcomes = [energy.judge(_records(typical, noise=0.03, seed=k)).outcome for k in range(worlds)]
  assert outcomes.count(wrong) / worlds <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / worlds)
