"""Claim 23 on made-up records."""

import math

import numpy as np
import pandas as pd
import pytest

from claims import base, finetuning, opening
from claims.finetuning import ALL, PRIMARY, TUNED, TWINS

IMAGES = 300


def _records(gains, seeds=5, seed=0, spread=0.01) -> pd.DataFrame:
  """`gains`: what pretraining adds to .7 on 100 labels, by objective; twins have nothing of it."""
  rng, rows = np.random.default_rng(seed), []
  hard_N = rng.normal(0, 0.3, IMAGES)
  own = {name: rng.normal(0, 0.15, IMAGES) for name in (*TWINS, *TWINS.values())}
  for s in range(seeds):
    for name in own:
      for measure in (TUNED, ALL, PRIMARY):
        p_N = 0.7 + gains.get(name, 0.0) + spread * rng.normal() + hard_N + own[name]
        each = (rng.uniform(size=IMAGES) < np.clip(p_N, 0, 1)).astype(float)
        row = {'source': 'digits', 'objective': name, 'seed': s, 'measure': measure}
        rows.append({**row, 'value': each.mean(), 'each': base.packed(each)})
  return pd.DataFrame(rows)


@pytest.mark.parametrize(
  'gains, outcome',
  [
    (dict.fromkeys(TWINS, 0.15), base.HOLDS),
    (dict.fromkeys(TWINS, -0.15), base.FAILS),
    ({'autoregressive': 0.15}, base.INDISTINCT),  # the others are open
    ({'autoregressive': 0.15, 'masked_diffusion': -0.15}, base.DEPENDS),
    ({}, base.INDISTINCT),
  ],
)
def test_each_outcome(gains, outcome):
  verdict = finetuning.judge(_records(gains))
  assert verdict.outcome == outcome, verdict.text
  assert verdict.number == pytest.approx(100 * min(gains.get(n, 0.0) for n in TWINS), abs=6)
  assert verdict.interval[0] < verdict.number < verdict.interval[1]


def test_few_seeds_decide_nothing():
  assert finetuning.judge(_records({}, seeds=4)).outcome == base.CANT
  assert len(finetuning.figure(_records({})).axes) == 2


def test_what_is_right_is_a_mean_over_draws():
  arrays = {
    'labels': np.array([0, 1, 2]),
    'finetune/100/predictions': np.array([[0, 1, 1], [0, 0, 1]]),
    'finetune/all/predictions': np.array([1, 1, 2]),
  }
  assert opening.right(arrays, 'finetune', '100').tolist() == [1, 0.5, 0]
  assert opening.right(arrays, 'finetune', 'all').tolist() == [0, 1, 1]


def test_false_verdicts_are_rare():
  worlds, wrong = 80, 0
  for k in range(worlds):
    tests = finetuning.gains(_records({}, seed=k, spread=0.02))
    wrong += any(finetuning.judging.adjusted(list(tests.values()))[i] <= 0.05 for i in range(3))
  assert wrong / worlds <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / worlds)
