"""Claim 9 on made-up records."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest

from claims import base, low_regret
from claims.low_regret import AR, CODE, DIFFUSION, LABELS, LENGTHS, NOTHING, REGRET


def _records(share, order=1.0, noise=0.01, seeds=5, seed=0, digits=True) -> pd.DataFrame:
  """`share` of 2.9 bits a label is gone at the longest training, in proportion to the regret that
  is gone for `order` 1; for 0 all of it is at random."""
  rng, rows = np.random.default_rng(seed), []
  for s in range(seeds):
    kinds = [(NOTHING, 0.0), *((AR, length) for length in LENGTHS), (DIFFUSION, 1.0)]
    for place, (name, length) in enumerate(kinds):
      gone = min(1.0, place / len(LENGTHS)) if name != DIFFUSION else 0.5
      mixed = order * gone + (1 - order) * rng.uniform()
      of = {'source': 'hierarchy', 'objective': name, 'seed': s, 'length': length}
      left = 2.9 * (1 - share * mixed) + noise * rng.normal()
      rows.append({**of, 'measure': REGRET, 'value': 1.9 * (1 - 0.9 * gone)})
      rows.append({**of, 'measure': LABELS, 'value': left})
    for k, name in enumerate(low_regret.ON_DIGITS if digits else ()):
      of = {'source': 'digits', 'objective': name, 'seed': s}
      rows.append({**of, 'measure': CODE, 'value': 1 + k / 10})
  return pd.DataFrame(rows)


@pytest.mark.parametrize(
  'share, order, noise, outcome',
  [
    (0.97, 1.0, 0.01, base.HOLDS),
    (0.5, 1.0, 0.01, base.DEPENDS),
    (0.9, 1.0, 0.05, base.INDISTINCT),
    (-0.5, 1.0, 0.01, base.FAILS),
  ],
)
def test_each_outcome(share, order, noise, outcome):
  records = _records(share, order, noise)
  verdict = low_regret.judge(records)
  assert verdict.outcome == outcome, verdict.text
  assert verdict.number == pytest.approx(100 * share, abs=3)
  assert 'best of these: autoregressive 0.000' in verdict.text
  assert len(low_regret.figure(records).axes) == 1


def test_few_grammars_decide_nothing_and_digits_may_lack():
  assert low_regret.judge(_records(0.97, seeds=4)).outcome == base.CANT
  assert 'Digits' not in low_regret.judge(_records(0.97, digits=False)).text


def test_the_floor_is_that_of_a_mixture_over_names():
  """Three classes whose names are unknown and whose roots are seen: by all six assignments."""
  roots = np.array([0, 1, 1, 2, 0, 2, 1, 0] * 4)
  labels = np.array([2, 0, 1])[roots]
  fits = [(np.array(names)[roots] == labels).all() for names in itertools.permutations(range(3))]
  assert -math.log2(np.mean(fits)) == pytest.approx(low_regret.floor_bits(0.0, 3))
  assert low_regret.floor_bits(2.5, 2) == pytest.approx(3.5)


def test_false_verdicts_are_rare():
  """Regrets that have nothing to do with each other are rarely taken for an order."""
  worlds = 60
  wrong = sum(
    low_regret.judge(_records(0.5, order=0.0, seed=k)).outcome in (base.HOLDS, base.DEPENDS)
    for k in range(worlds)
  )
  assert wrong / worlds <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / worlds)
