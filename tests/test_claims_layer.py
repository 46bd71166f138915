"""Claim 18 on made-up records."""

import numpy as np
import pandas as pd
import pytest
from sklearn import datasets, linear_model

from claims import base, middle_layer

FLAT, ROOF, RAMP = (0.5,) * 5, (0.5, 0.6, 0.7, 0.6, 0.5), (0.3, 0.4, 0.5, 0.6, 0.8)


def _records(curves: dict[str, tuple], seeds: int = 5, spread: float = 0.005) -> pd.DataFrame:
  rng, rows = np.random.default_rng(0), []
  hard_N = rng.uniform(0, 1, 300)
  for source in ('hierarchy', 'digits'):
    for objective, curve in curves.items():
      for seed in range(seeds):
        for layer, mean in enumerate(curve):
          of = {'source': source, 'objective': objective, 'seed': seed, 'layers': 4}
          value = mean + rng.normal(0, spread)
          rows.append({**of, 'measure': 'choose', 'layer': layer, 'value': value})
          each_N = (hard_N < value).astype(float)
          row = {**of, 'measure': 'score', 'layer': layer, 'value': each_N.mean()}
          rows.append(row | ({'each': base.packed(each_N)} if source == 'digits' else {}))
  return pd.DataFrame(rows)


@pytest.mark.parametrize(
  'curves, outcome',
  [
    ({'a': ROOF, 'b': ROOF}, base.HOLDS),
    ({'a': RAMP, 'b': RAMP}, base.FAILS),
    ({'a': RAMP[::-1]}, base.FAILS),
    ({'a': ROOF, 'b': RAMP}, base.DEPENDS),
    ({'a': FLAT, 'b': FLAT}, base.INDISTINCT),
  ],
)
def test_each_outcome(curves, outcome):
  assert middle_layer.judge(_records(curves)).outcome == outcome


def test_the_number_is_the_depth_of_the_best_layer():
  verdict = middle_layer.judge(_records({'a': ROOF}))
  assert verdict.number == 0.5 and 'points' not in verdict.unit
  assert 'hierarchy, a, 4 layers' in verdict.unit
  assert middle_layer.judge(_records({'a': ROOF}, seeds=3)).outcome == base.CANT
  assert len(middle_layer.figure(_records({'a': ROOF})).axes) == 2


def test_a_layer_is_chosen_by_other_seeds():
  """Of noise the best layer of a seed is above the others; the one chosen elsewhere is not."""
  rng = np.random.default_rng(0)
  rows = [
    {'measure': m, 'seed': s, 'layer': k, 'layers': 4, 'value': value}
    for s in range(40)
    for k, value in enumerate(rng.normal(0, 1, 5))
    for m in ('choose', 'score')
  ]
  group = pd.DataFrame(rows)
  test = middle_layer.against(group, 4, range(1, 4))
  assert test.seeds == 40 and test.low < 0 < test.high
  table = group[group['measure'] == 'score'].pivot(index='seed', columns='layer', values='value')
  assert (table[[1, 2, 3]].max(axis=1) - table[4]).mean() > 0.5


def test_the_probe_is_the_regression_it_says():
  x, y = datasets.load_digits(return_X_y=True)
  x = x[:, x.std(0) > 0]
  right = middle_layer.fitted([(x[:300], y[:300]), (x[300:500], y[300:500])])[0]
  scaled = (x - x[:300].mean(0)) / np.maximum(x[:300].std(0), 1e-9) * (x[:300].std(0) > 0)
  own = linear_model.LogisticRegression(C=1 / (0.01 * 300), max_iter=5000, tol=1e-8)
  own.fit(scaled[:300], y[:300])
  assert right.mean() == pytest.approx(own.score(scaled[300:500], y[300:500]), abs=0.011)
  assert right.shape == (200,) and 0.85 < right.mean() < 1
