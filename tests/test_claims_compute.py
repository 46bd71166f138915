"""Claim 24 on made-up records, whose ratio is known."""

import math

import numpy as np
import pandas as pd
import pytest

from claims import base, diffusion_compute
from claims.diffusion_compute import BOUND, CHAIN, DIFFUSION, LENGTHS, REFERENCE

PLAIN = 1e12  # FLOPs of the plain training, of both


def _regret(flops):
  """Of autoregression."""
  return 0.05 * (flops / PLAIN) ** -0.7


def _records(ratios, noise=0.1, seeds=5, seed=0, digits=False) -> pd.DataFrame:
  """`ratios` by code; log regrets with noise of a grammar."""
  rng, rows = np.random.default_rng(seed), []
  for grammar in range(seeds):
    for objective, lengths in LENGTHS.items():
      for length in lengths:
        flops = length * PLAIN
        for code, ratio in {'exact': 1.0}.items() if objective == REFERENCE else ratios.items():
          value = _regret(flops / ratio) * math.exp(noise * rng.normal())
          row = {'source': 'hierarchy', 'objective': objective, 'seed': grammar, 'code': code}
          row |= {'length': length, 'flops': flops, 'stderr': 0.001}
          rows.append({**row, 'measure': 'regret', 'value': value})
          rows.append({**row, 'measure': 'bits above entropy', 'value': value + 0.001})
    for objective in diffusion_compute.ON_DIGITS if digits else ():
      for step in (100, 200, 400):
        value = 2 + _regret(step) * (1.0 if objective == REFERENCE else 5**0.7)
        row = {'source': 'digits', 'objective': objective, 'seed': grammar, 'flops': step}
        rows.append({**row, 'measure': 'validation/bits_per_dim', 'value': value, 'step': step})
  return pd.DataFrame(rows)


@pytest.mark.parametrize(
  'ratios, outcome',
  [
    ({BOUND: 12.0, CHAIN: 12.0}, base.HOLDS),
    ({BOUND: 1.0, CHAIN: 1.0}, base.FAILS),  # the null: nothing costs more
    ({BOUND: 3.0, CHAIN: 2.0}, base.FAILS),
    ({BOUND: 60.0, CHAIN: 50.0}, base.FAILS),
    ({BOUND: 12.0, CHAIN: 2.0}, base.DEPENDS),
  ],
)
def test_each_outcome(ratios, outcome):
  verdict = diffusion_compute.judge(_records(ratios))
  assert verdict.outcome == outcome, verdict.text
  if ratios[BOUND] == 12:
    assert verdict.number == pytest.approx(ratios[BOUND], rel=0.15)
    assert verdict.interval[0] < verdict.number < verdict.interval[1]


def test_it_depends_on_what_tells_the_outcomes_apart():
  text = diffusion_compute.judge(_records({BOUND: 12.0, CHAIN: 4.5}, noise=0.02)).text
  assert 'It depends on the code.' in text
  # Three times the compute at the plain length, twelve at four times that.
  records = _records({BOUND: 12.0, CHAIN: 12.0}, noise=0.02)
  short = records['objective'].eq(DIFFUSION) & records['length'].eq(1)
  records.loc[short, 'value'] *= 4**-0.7
  verdict = diffusion_compute.judge(records)
  assert verdict.outcome == base.DEPENDS
  assert 'It depends on how low the regret is.' in verdict.text
  growth = verdict.text.split('by the bound grows ')[1].split(' ')[0]
  assert float(growth) == pytest.approx(4, rel=0.1)
  mixed = {(BOUND, 4): 'holds', (CHAIN, 4): 'holds', (BOUND, 1): 'holds', (CHAIN, 1): 'fails'}
  assert diffusion_compute._on(mixed) == 'the code and on how low the regret is'
  across = mixed | {(CHAIN, 4): base.INDISTINCT, (BOUND, 1): base.INDISTINCT}
  assert diffusion_compute._on(across) == 'the code and on how low the regret is'


def test_noise_few_grammars_and_an_impossible_number_decide_nothing():
  same = {BOUND: 12.0, CHAIN: 12.0}
  assert diffusion_compute.judge(_records(same, noise=1.0)).outcome == base.INDISTINCT
  assert diffusion_compute.judge(_records(same, seeds=4)).outcome == base.CANT
  records = _records(same)
  chosen = records['measure'].eq('bits above entropy') & records['seed'].eq(2)
  records.loc[chosen, 'value'] = -0.0029
  assert diffusion_compute.judge(records).outcome == base.HOLDS
  records.loc[chosen, 'value'] = -0.0031
  verdict = diffusion_compute.judge(records)
  assert verdict.outcome == base.CANT and 'seed 2' in verdict.text
  assert len(diffusion_compute.figure(_records(same)).axes) == 2


def test_ratios_beyond_the_runs_are_bounds_and_never_show_the_other_side():
  far = diffusion_compute.ratios(_records({BOUND: 1000.0, CHAIN: 1.0}, 0.0), BOUND, 1)
  assert (far['way'] == 1).all() and np.exp(far['log'].to_numpy()) == pytest.approx(np.full(5, 16))
  low = diffusion_compute.ratios(_records({BOUND: 1000.0, CHAIN: 1.0}, 0.0), CHAIN, 4)
  assert (low['way'] == -1).all() and np.exp(low['log'].to_numpy()) == pytest.approx(np.full(5, 4))
  # As if autoregression had been trained no shorter than a half: the ratio is at least 2.
  records = _records({BOUND: 1000.0, CHAIN: 1000.0}, 0.01)
  short = records['objective'].eq(REFERENCE) & records['length'].lt(0.5)
  found = diffusion_compute.cells(records[~short])
  assert set(diffusion_compute.verdicts(found).values()) == {base.INDISTINCT}
  # No target where regret is not told from zero.
  records.loc[records['objective'].eq(DIFFUSION), 'stderr'] = 1e3
  assert diffusion_compute.ratios(records, BOUND, 1).empty


def test_on_digits_the_ratio_is_of_bits_along_training():
  records = _records({BOUND: 12.0, CHAIN: 12.0}, digits=True)
  found = diffusion_compute.on_digits(records)
  # Five times: the bits of 400 updates are those of 80, which is before the first that is there.
  assert np.exp(found['masked_diffusion']['log'].to_numpy()) == pytest.approx(np.full(5, 4))
  assert (found['masked_diffusion']['way'] == 1).all()
  assert 'Digits' in diffusion_compute.judge(records).text


@pytest.mark.parametrize('edge, wrong', [(10.0, base.FAILS), (5.0, base.HOLDS), (30.0, base.HOLDS)])
def test_false_verdicts_are_rare(edge, wrong):
  """At the ends of what was said, and of what is near it, at most one in twenty is wrong."""
  worlds, rng = 60, np.random.default_rng(0)
  sure = _records({BOUND: edge, CHAIN: edge}, noise=0.0)
  outcomes = []
  for _ in range(worlds):
    noise = np.exp(0.3 * rng.normal(size=len(sure)))
    outcomes.append(diffusion_compute.judge(sure.assign(value=sure['value'] * noise)).outcome)
  assert outcomes.count(wrong) / worlds <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / worlds)
