"""Claims 7 and 11 on made-up records."""

import numpy as np
import pandas as pd
import pytest

from claims import base, larger_is_nearer, predictor_is_compressor


def _sizes(power: float, spread: float = 0.02, bump: float = 1.0, seeds: int = 5):
  rng, rows = np.random.default_rng(1), []
  for seed in range(seeds):
    for width in larger_is_nearer.WIDTHS:
      parameters = 50.0 * width**2
      regret = 3 * parameters**power * np.exp(rng.normal(0, spread))
      regret *= bump if width == 64 else 1.0
      of = {'seed': seed, 'width': width}
      rows.append({**of, 'measure': 'regret', 'value': regret})
      rows.append({**of, 'measure': 'parameters', 'value': parameters})
  return pd.DataFrame(rows)


@pytest.mark.parametrize(
  'power, spread, bump, outcome',
  [
    (-0.4, 0.02, 1.0, base.HOLDS),
    (-0.4, 0.02, 2.0, base.DEPENDS),
    (0.3, 0.02, 1.0, base.FAILS),
    (0.0, 0.02, 1.0, base.FAILS),  # the null: size does not matter
    (0.0, 1.0, 1.0, base.INDISTINCT),
  ],
)
def test_larger_is_nearer(power, spread, bump, outcome):
  verdict = larger_is_nearer.judge(_sizes(power, spread, bump))
  assert verdict.outcome == outcome
  if bump == 1 and spread < 1:
    assert verdict.number == pytest.approx(power, abs=0.03)
  assert larger_is_nearer.judge(_sizes(power, spread, bump, 4)).outcome == base.CANT
  assert larger_is_nearer.figure(_sizes(power)).axes


def _files(more: float, spread: float = 0.0005, equal: bool = True, seeds: int = 5):
  rng, rows = np.random.default_rng(0), []
  for seed in range(seeds):
    for source in ('hierarchy', 'digits'):
      for count in predictor_is_compressor.COUNTS:
        of = {'source': source, 'objective': 'a', 'seed': seed, 'examples': count}
        bits = 100.0 * count
        file = bits * (1 + more) + rng.normal(0, spread) * bits + 8 * 200
        for measure, value in (('file', file), ('likelihood', bits), ('equal', int(equal))):
          rows.append({**of, 'measure': measure, 'value': value})
  return pd.DataFrame(rows)


@pytest.mark.parametrize(
  'more, spread, equal, outcome',
  [
    (0.0, 0.0005, True, base.HOLDS),
    (0.05, 0.0005, True, base.FAILS),
    (-0.05, 0.0005, True, base.FAILS),
    (0.0, 0.0005, False, base.FAILS),
    (0.0, 0.05, True, base.INDISTINCT),
  ],
)
def test_predictor_is_compressor(more, spread, equal, outcome):
  records = _files(more, spread, equal)
  verdict = predictor_is_compressor.judge(records)
  assert verdict.outcome == outcome
  if spread < 0.01:
    assert verdict.number == pytest.approx(100 * more, abs=0.3)
    for rows in predictor_is_compressor.kinds(records).values():
      assert predictor_is_compressor.once(rows) == pytest.approx(
        200 + 100 * predictor_is_compressor.COUNTS[0] * more / 8, abs=6
      )
  assert predictor_is_compressor.judge(_files(more, seeds=2)).outcome == base.CANT
  assert predictor_is_compressor.figure(records).axes
