"""Claim 2 on made-up records, and its fits."""

import numpy as np
import pandas as pd
import pytest

from claims import base, few_freedoms
from tests import nulls


def _records(rng, few, nearly, many=1.0, noise=0.01, seeds=5) -> pd.DataFrame:
  """Gaps of fits of every group, the mean of each as asked, of what guessing errs, which is half;
  and fits of high error."""
  rows = []
  for seed in range(seeds):
    for share, gap in ((0.1, few), (0.5, nearly), (2.0, many)):
      for less in (-0.05, 0.05):
        value = 0.5 * (gap - less + rng.normal(0, noise))
        row = {'seed': seed, 'task': 'one', 'labels': 'true', 'measure': 'gap', 'dims': 2}
        row |= {
          'examples': 100,
          'freedoms': 100 * share,
          'train': 0.08,
          'value': value,
          'guess': 0.5,
        }
        rows += [row, row | {'train': 0.12, 'value': 0.9}]
  return pd.DataFrame(rows)


@pytest.mark.parametrize(
  'few, nearly, noise, outcome',
  [
    (0.02, 0.05, 0.01, base.HOLDS),
    (0.02, 0.8, 0.01, base.DEPENDS),
    (0.7, 0.9, 0.01, base.FAILS),
    (0.5, 0.5, 0.05, base.INDISTINCT),
  ],
)
def test_each_outcome(few, nearly, noise, outcome):
  verdict = few_freedoms.judge(_records(np.random.default_rng(0), few, nearly, noise=noise))
  assert verdict.outcome == outcome
  assert verdict.number == pytest.approx(100 * few, abs=3)


def test_gaps_at_the_threshold_are_seldom_called_low_or_high():
  at = few_freedoms.GAP
  found = nulls.shares(few_freedoms.judge, lambda rng: _records(rng, at, at))
  assert found[base.HOLDS] + found[base.DEPENDS] <= nulls.MOST
  assert found[base.FAILS] <= nulls.MOST


def test_few_seeds_decide_nothing():
  records = _records(np.random.default_rng(0), 0, 0, seeds=4)
  assert few_freedoms.judge(records).outcome == base.CANT
  assert few_freedoms.figure(records).axes


def test_bounds_are_broken_by_gaps_above_them():
  # sqrt((8 * 1 ln 2 + ln 20) / 200) = 0.2069.
  rows = pd.DataFrame({'freedoms': [1, 1], 'examples': [100, 100], 'value': [0.206, 0.208]})
  assert few_freedoms.violations(rows) == 1


def test_components_have_the_spread_of_what_they_are_of():
  rng = np.random.default_rng(0)
  seen = rng.normal(0, (5, 1, 0.1), (500, 3)) @ np.linalg.qr(rng.normal(size=(3, 3)))[0]
  found = few_freedoms.components(seen, seen)
  np.testing.assert_allclose(found.T @ found / 500, np.eye(3), atol=1e-9)
  centred = seen - seen.mean(0)
  assert abs(np.corrcoef(found[:, 0], centred @ np.linalg.svd(centred)[2][0])[0, 1]) > 0.999


def test_fits_learn_random_labels_by_heart_with_many_freedoms_alone():
  rng = np.random.default_rng(0)
  x, y = rng.normal(size=(600, 64)), rng.integers(0, 2, 600)
  found = {(r['dims'], r['examples']): r for r in few_freedoms.fitted(x, y, (4, 64), (50, 400))}
  guess = min(y.mean(), 1 - y.mean())
  assert all(row['guess'] == pytest.approx(guess) for row in found.values())
  assert found[64, 50]['train'] == 0 and found[64, 50]['test'] > 0.35
  assert found[4, 400]['train'] > 0.3 and found[4, 400]['freedoms'] == 5
  assert abs(found[4, 400]['value']) < 0.2
  kinds = [tuple(kind.values()) for kind, _ in few_freedoms.tasks(np.arange(600) % 10, rng)]
  ones = 10 * [('one', 'true')]
  assert kinds == [('ten', 'true'), ('ten', 'random'), *ones, ('one', 'random')]


def test_a_guess_is_no_low_error_where_one_class_is_rare():
  """A tenth of the labels is 1: to say 0 to all has 10 points of training error, and no less."""
  rng = np.random.default_rng(1)
  x, y = rng.normal(size=(600, 8)), (np.arange(600) % 10 == 0).astype(int)
  found = pd.DataFrame(few_freedoms.fitted(x, y, (2,), (100, 400))).assign(seed=0)
  assert (found['train'] >= 0.08).all() and np.allclose(found['guess'], 0.1)
  assert all(rows.empty for rows in few_freedoms.groups(found).values())
