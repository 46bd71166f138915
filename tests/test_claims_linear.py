"""Claims 19 and 21 on made-up records, and how often they are wrong where nothing differs."""

import math

import numpy as np
import pandas as pd
import pytest

from claims import base, diffusion_linear, more_linear
from claims.more_linear import ATTENTIVE, CODE, PRIMARY

IMAGES = 300
OBJECTIVES = ('autoregressive', 'masked', 'masked_diffusion', 'gaussian_diffusion')


def _records(better, seeds=5, seed=0, beside=True, spread=0.01) -> pd.DataFrame:
  """Accuracies around .6; `better` holds what is added, by (source, objective).

  Test images differ in how hard they are, and for each objective in a way of its own that all seeds
  share; seeds differ by `spread`.
  """
  rng, rows = np.random.default_rng(seed), []
  hard_N = rng.normal(0, 0.3, IMAGES)
  own = {name: rng.normal(0, 0.15, IMAGES) for name in OBJECTIVES}
  for s in range(seeds):
    for name in (*OBJECTIVES, *more_linear.CONTROLS):
      of = {'objective': name, 'seed': s}
      gain = better.get(('digits', name), 0.0) + spread * rng.normal()
      p_N = np.clip(0.6 + gain + hard_N + own.get(name, 0.0), 0, 1)
      each = (rng.uniform(size=IMAGES) < p_N).astype(float)
      digits = {**of, 'source': 'digits', 'each': base.packed(each), 'value': each.mean()}
      grammar = 0.5 + better.get(('hierarchy', name), 0.0) + spread * rng.normal()
      tree = {**of, 'source': 'hierarchy', 'value': grammar}
      rows += [{**one, 'measure': PRIMARY} for one in (digits, tree)]
      rows += [{**of, 'source': 'digits', 'measure': 'parameters', 'value': 2e5}]
      if beside:
        rows += [{**one, 'measure': ATTENTIVE} for one in (digits, tree)]
        bits = {'measure': CODE, 'value': 1.5 + 0.01 * rng.normal()}
        rows += [{**of, 'source': source, **bits} for source in more_linear.SOURCES]
  return pd.DataFrame(rows)


AR, BERT = 'autoregressive', 'masked'


@pytest.mark.parametrize(
  'better, spread, outcome',
  [
    ({('digits', AR): 0.15, ('hierarchy', AR): 0.1}, 0.01, base.HOLDS),
    ({('digits', BERT): 0.15, ('hierarchy', BERT): 0.1}, 0.01, base.FAILS),
    ({('digits', AR): 0.15, ('hierarchy', BERT): 0.1}, 0.01, base.DEPENDS),
    ({('digits', AR): 0.15}, 0.002, base.DEPENDS),  # the other within the margin
    ({('digits', AR): 0.15}, 0.03, base.INDISTINCT),  # the other open
    ({}, 0.03, base.INDISTINCT),
  ],
)
def test_more_linear(better, spread, outcome):
  verdict = more_linear.judge(_records(better, spread=spread))
  assert verdict.outcome == outcome, verdict.text
  wanted = min(
    better.get((source, AR), 0.0) - better.get((source, BERT), 0.0)
    for source in more_linear.SOURCES
  )
  assert verdict.number == pytest.approx(100 * wanted, abs=6)
  assert verdict.interval[0] < verdict.number < verdict.interval[1]
  assert 'attentive' in verdict.text and 'Label code' in verdict.text


def _diffusion(value):
  return {(source, name): value for source, name in diffusion_linear.PAIRS}


@pytest.mark.parametrize(
  'better, spread, outcome',
  [
    (_diffusion(-0.15), 0.01, base.HOLDS),
    (_diffusion(0.15), 0.01, base.FAILS),
    (_diffusion(-0.15) | {('digits', 'masked_diffusion'): 0.15}, 0.01, base.DEPENDS),
    ({}, 0.03, base.INDISTINCT),
  ],
)
def test_diffusion_linear(better, spread, outcome):
  verdict = diffusion_linear.judge(_records(better, spread=spread))
  assert verdict.outcome == outcome, verdict.text
  wanted = min(-100 * better.get(pair, 0.0) for pair in diffusion_linear.PAIRS)
  assert verdict.number == pytest.approx(wanted, abs=6)


@pytest.mark.parametrize('claim', [more_linear, diffusion_linear])
def test_few_seeds_decide_nothing_and_what_is_beside_may_lack(claim):
  assert claim.judge(_records({}, seeds=4)).outcome == base.CANT
  without = _records({}, beside=False)
  assert 'attentive' not in claim.judge(without).text
  for records in (without, _records({}), _records({}, seeds=2)):
    assert len(claim.figure(records).axes) == 2


def test_equal_within_the_margin_fails():
  tests = {
    name: more_linear.judging.mean(pd.Series([a, 0.001, -0.002, 0.002, -a]))
    for name, a in (('digits', 0.003), ('hierarchy', 0.004))
  }
  assert more_linear.outcome_of(tests, 0.03) == base.FAILS
  assert more_linear.outcome_of(tests, 0.001) == base.INDISTINCT
  assert more_linear.signs(tests) == {'digits': 0, 'hierarchy': 0}


def test_what_is_beside_is_of_the_source_it_names():
  records = _records({('hierarchy', AR): 0.2})
  found = more_linear.beside(records, ATTENTIVE)
  assert found['hierarchy'].mean == pytest.approx(0.2, abs=0.02)
  assert found['digits'].mean == pytest.approx(0.0, abs=0.06)
  assert abs(more_linear.beside(records, CODE)['digits'].mean) < 0.02


def test_what_training_adds_is_told_from_what_the_mask_does():
  causal = ('digits', 'untrained_causal'), ('hierarchy', 'untrained_causal')
  shift = dict.fromkeys((('digits', AR), ('hierarchy', AR), *causal), 0.15)
  records = _records(shift)
  verdict = more_linear.judge(records)
  assert verdict.outcome == base.HOLDS and 'rather than the causal mask' in verdict.text
  for source in more_linear.SOURCES:
    mean = records[(records['measure'] == PRIMARY) & (records['source'] == source)]
    mean = mean.groupby('objective')['value'].mean()
    wanted = mean[AR] - mean['untrained_causal'] - mean[BERT] + mean['untrained']
    found = more_linear.added(records, source)
    assert found.mean == pytest.approx(wanted, abs=1e-4) and found.low < 0 < found.high
  own = {('digits', AR): 0.25, ('hierarchy', AR): 0.25}
  assert 'rather than' not in more_linear.judge(_records(own)).text


@pytest.mark.parametrize('claim', [more_linear, diffusion_linear])
def test_false_verdicts_are_rare(claim):
  """Nothing differs but what the test images happen to favour: a sign is shown once in twenty."""
  worlds, wrong = 80, 0
  for k in range(worlds):
    records = _records({}, seed=k, beside=False, spread=0.02)
    if claim is more_linear:
      tests = {s: claim.difference(records, s, PRIMARY, claim.PAIR) for s in claim.SOURCES}
    else:
      tests = claim.against(records, claim.REFERENCE)
    wrong += any(more_linear.signs(tests).values())
  assert wrong / worlds <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / worlds)
