"""Claims 8 and 17 on made-up records."""

import numpy as np
import pandas as pd
import pytest

from claims import base, curves_fall_together, shared_structure
from claims.curves_fall_together import BITS, PROBE


def _codes(shared: dict[str, float], spread: float = 0.05, seeds: int = 5) -> pd.DataFrame:
  """Codes of 24 bits each half; those that are named first are the shortest of both."""
  rng, rows = np.random.default_rng(0), []
  for seed in range(seeds):
    of = {'source': 'copy', 'seed': seed}
    rows.append({**of, 'name': 'truth', 'measure': 'shared', 'value': 18.0})
    for place, (name, bits) in enumerate(shared.items()):
      kind = 'network' if name.startswith('width') else 'classical'
      # What is longer of both is longer of each too, unless it finds less.
      xy = 30.0 + 4 * place + rng.normal(0, spread)
      half = (xy + bits + rng.normal(0, spread)) / 2
      for layout, more in (('whole', 9.0), ('rows', 0.0)):
        row = {**of, 'kind': kind, 'name': name, 'layout': layout}
        for measure, value in (('x', half), ('y', half), ('xy', xy + more)):
          rows.append({**row, 'measure': measure, 'value': value})
  return pd.DataFrame(rows)


_NETWORKS = ('width 32', 'width 16', 'width 8')


@pytest.mark.parametrize(
  'shared, spread, outcome',
  [
    ({**dict(zip(_NETWORKS, (16, 12, 8), strict=True)), 'xz': 2, 'gzip': 1}, 0.05, base.HOLDS),
    ({**dict(zip(_NETWORKS, (8, 12, 16), strict=True)), 'xz': 17, 'gzip': 18}, 0.05, base.FAILS),
    ({**dict(zip(_NETWORKS, (16, 12, 8), strict=True)), 'xz': 2, 'gzip': -3}, 0.05, base.FAILS),
    ({**dict(zip(_NETWORKS, (3, 2, 1), strict=True)), 'xz': 9, 'gzip': 8, 'bzip2': 0}, 0.05,
     base.DEPENDS),
    ({**dict.fromkeys(_NETWORKS, 5), 'xz': 5, 'gzip': 5}, 0.05, base.INDISTINCT),
  ],
)  # fmt: skip
def test_shared_structure(shared, spread, outcome):
  records = _codes(shared, spread)
  verdict = shared_structure.judge(records)
  assert verdict.outcome == outcome, verdict.number
  assert shared_structure.judge(_codes(shared, seeds=4)).outcome == base.CANT
  assert shared_structure.figure(records).axes
  table = shared_structure.found(records).groupby('name')['shared'].mean()
  assert table.to_dict() == pytest.approx(shared, abs=0.2)


def _curves(offset: float, sign: float = 1.0, spread: float = 0.004, seeds: int = 5):
  rng, rows = np.random.default_rng(0), []
  for seed in range(seeds):
    for width in curves_fall_together.WIDTHS:
      for step in range(100, 1000, 100):
        bits = 4.0 - 0.2 * step / 100 - 0.0003 * width * step / 100
        accuracy = 0.5 + sign * 0.1 * (4.0 - bits) + (offset if width == 64 else 0)
        of = {'seed': seed, 'width': width, 'step': step}
        rows.append({**of, 'measure': BITS, 'value': bits})
        rows.append({**of, 'measure': PROBE, 'value': accuracy + rng.normal(0, spread)})
  return pd.DataFrame(rows)


@pytest.mark.parametrize(
  'offset, sign, spread, outcome',
  [
    (0.0, 1.0, 0.004, base.HOLDS),
    (0.2, 1.0, 0.004, base.DEPENDS),
    (0.0, -1.0, 0.004, base.FAILS),
    (0.0, 0.0, 0.004, base.FAILS),  # the null: a probe that bits say nothing of
    (0.0, 1.0, 0.08, base.INDISTINCT),
  ],
)
def test_curves_fall_together(offset, sign, spread, outcome):
  records = _curves(offset, sign, spread)
  verdict = curves_fall_together.judge(records)
  assert verdict.outcome == outcome
  if offset:  # two sizes of three are below by a third of it
    assert verdict.number == pytest.approx(100 * offset * 2 / 3, abs=3)
    assert '64' in verdict.unit
  assert curves_fall_together.judge(_curves(offset, seeds=4)).outcome == base.CANT
  assert curves_fall_together.figure(records).axes
  bits = records['measure'] == BITS
  records.loc[bits, 'value'] += 5.0 * records.loc[bits, 'width']  # No bits in common.
  assert curves_fall_together.judge(records).outcome in (base.CANT, base.FAILS)


def test_one_size_whose_probe_bits_do_not_tell_counts_by_the_mean_over_sizes():
  records = _curves(0.0)
  other = _curves(0.0, -1.0)
  odd = records['width'].eq(16)
  verdict = curves_fall_together.judge(pd.concat([records[~odd], other[odd]]))
  assert verdict.outcome == base.FAILS  # -1, 1 and 1: 1/3 on average
  table = curves_fall_together.points(_curves(0.0, spread=0.05))
  tests = curves_fall_together.within(table).values()
  mean = sum(test.mean for test in tests) / len(tests)
  assert curves_fall_together.over_sizes(table).mean == pytest.approx(mean)
