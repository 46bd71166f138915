"""Intervals, paired tests, Holm's correction and verdicts."""

import numpy as np
import pytest
import scipy.stats

from reports import statistics


def test_interval_against_scipy():
  values = np.random.default_rng(0).normal(size=7)
  got = statistics.interval(values)
  low, high = scipy.stats.t.interval(0.95, 6, values.mean(), scipy.stats.sem(values))
  assert (got['low'], got['high']) == pytest.approx((low, high))
  assert got['mean'] == pytest.approx(values.mean())
  assert (got['minimum'], got['maximum'], got['seeds']) == (values.min(), values.max(), 7)


def test_no_interval_below_five_seeds():
  got = statistics.interval([0.1, 0.2, 0.3, 0.4])
  assert got['low'] is None and got['high'] is None
  assert (got['minimum'], got['maximum']) == (0.1, 0.4)


def test_paired_t_against_scipy():
  rng = np.random.default_rng(1)
  a, b = rng.normal(size=6), rng.normal(0.5, size=6)
  got, expected = statistics.paired_t(a, b), scipy.stats.ttest_rel(a, b)
  assert (got['t'], got['p']) == pytest.approx((expected.statistic, expected.pvalue))
  low, high = expected.confidence_interval(0.95)
  assert got['difference'] - got['half_width'] == pytest.approx(low)
  assert got['difference'] + got['half_width'] == pytest.approx(high)


def test_paired_t_without_spread():
  assert statistics.paired_t([1.0, 2.0], [1.0, 2.0])['p'] == 1
  assert statistics.paired_t([1.5, 2.5], [1.0, 2.0])['p'] == 0


def test_holm_by_hand():
  # Sorted .01 .02 .03 .04, times 4 3 2 1: .04 .06 .06 .04, then the running maximum.
  np.testing.assert_allclose(
    statistics.holm([0.03, 0.01, 0.04, 0.02]), [0.06, 0.04, 0.06, 0.06], rtol=1e-12
  )
  np.testing.assert_allclose(statistics.holm([0.5, 0.6]), [1.0, 1.0])
  assert statistics.holm([]).shape == (0,)
  with pytest.raises(ValueError):
    statistics.holm([1.2])


def seeds(values):
  return dict(enumerate(values))


def test_verdict_sentences():
  noise = np.array([0.0, 0.01, -0.01, 0.005, -0.005])
  values = {
    'masked': seeds(0.90 + noise),
    'autoregressive': seeds(0.93 + noise + np.array([0.004, -0.004, 0.0, 0.002, -0.002])),
    'twin': seeds(0.90 + noise + np.array([0.02, -0.02, 0.01, -0.01, 0.001])),
    'young': seeds([0.5, 0.6]),
  }
  found = {(v['first'], v['second']): v for v in statistics.verdicts(values)}
  assert len(found) == 6
  first = found['masked', 'autoregressive']
  half = scipy.stats.t.ppf(0.975, 4) * np.std([0.4, -0.4, 0, 0.2, -0.2], ddof=1) / np.sqrt(5)
  assert first['verdict'] == f'autoregressive > masked by 3.0 ± {half:.1f} points, 5 seeds'
  assert first['difference'] == pytest.approx(-0.03)
  same = found['masked', 'twin']
  assert same['verdict'] == 'masked and twin: not distinguishable, 5 seeds'
  young = found['masked', 'young']
  assert young['verdict'] == 'masked and young: fewer than 5 seeds: no verdict'
  assert young['p'] is None and young['p_holm'] is None and young['seeds'] == 2
  tested = [v for v in found.values() if v['p'] is not None]
  expected = statistics.holm([v['p'] for v in tested])
  assert [v['p_holm'] for v in tested] == pytest.approx(expected.tolist())


def test_pairs_are_matched_by_seed():
  a = {s: float(s) for s in range(6)}
  b = {s: s + 0.1 + 0.001 * s for s in reversed(range(1, 6))}
  verdict = statistics.verdicts({'a': a, 'b': b}, scale=1, unit='bits', decimals=3)[0]
  assert verdict['seeds'] == 5
  assert verdict['difference'] == pytest.approx(-0.103)
  assert verdict['verdict'].startswith('b > a by 0.103 ±')


def test_no_objective_and_bad_values():
  assert statistics.verdicts({}) == []
  with pytest.raises(ValueError):
    statistics.verdicts({'a': seeds([1.0] * 4 + [np.nan]), 'b': seeds([1.0] * 5)})
  with pytest.raises(ValueError):
    statistics.interval([])
  with pytest.raises(ValueError):
    statistics.paired_t([1.0], [2.0])


@pytest.mark.parametrize('count', [5, 10])
@pytest.mark.parametrize('objectives', [2, 3])
def test_false_positive_rate(count, objectives):
  """Seeds of one objective under several names: at most 5 % of comparisons find a difference."""
  rng = np.random.default_rng(count + objectives)
  trials = 400
  shared = rng.normal(size=(trials, 1, count))  # What pairing by seed takes out.
  draws = 0.9 + 0.01 * (rng.normal(size=(trials, objectives, count)) + shared)
  wrong = sum(
    any('>' in v['verdict'] for v in statistics.verdicts({str(i): seeds(r) for i, r in rows}))
    for rows in (list(enumerate(draw)) for draw in draws)
  )
  deviation = np.sqrt(0.05 * 0.95 / trials)
  assert wrong / trials <= 0.05 + 3 * deviation
  if objectives == 2:
    assert wrong / trials >= 0.05 - 3 * deviation
