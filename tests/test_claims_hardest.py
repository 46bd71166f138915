"""Claim 20 on made-up records."""

import math

import numpy as np
import pandas as pd
import pytest

from claims import base, hardest_task
from claims.hardest_task import AR, BERT, DOSES, LATENT, PLAIN, PRIMARY, TAILS

IMAGES = 200
# Nats of the hardest tenth, by how hard the dose is; BERT begins below autoregression.
START = {AR: 2.0, BERT: 1.0}


def _records(slopes, gap=1.0, noise=0.01, seeds=5, seed=0) -> pd.DataFrame:
  """`slopes`: accuracy per nat by family; `gap`: tail of autoregression less BERT's."""
  rng, rows = np.random.default_rng(seed), []
  hard_N = rng.uniform(size=IMAGES)
  for s in range(seeds):
    for source, objective, dose in hardest_task.kinds():
      of = {'source': source, 'objective': objective, 'seed': s, 'dose': dose}
      doses = [PLAIN, *DOSES.get((source, objective), {})]
      nats = START[BERT] + (gap if objective == AR else 0.0) + 0.2 * doses.index(dose)
      nats += 0.01 * rng.normal()
      rows += [{**of, 'measure': m, 'value': nats} for m in ('tail', TAILS[source])]
      accuracy = 0.5 + slopes.get((source, objective), 0.0) * (nats - 1.3) + noise * rng.normal()
      row = {**of, 'measure': PRIMARY, 'value': accuracy}
      if source == 'digits':
        each = (hard_N < accuracy).astype(float)
        row |= {'each': base.packed(each), 'value': each.mean()}
      else:
        more = {'measure': LATENT, 'value': 0.5 + 0.1 * (objective == AR)}
        rows += [{**of, **more, 'level': level} for level in range(4)]
      rows.append(row)
  return pd.DataFrame(rows)


FAMILIES = tuple(DOSES)


@pytest.mark.parametrize(
  'slopes, gap, noise, outcome',
  [
    (dict.fromkeys(FAMILIES, 0.3), 1.0, 0.01, base.HOLDS),
    (dict.fromkeys(FAMILIES, 0.3), -1.0, 0.01, base.FAILS),
    (dict.fromkeys(FAMILIES, -0.3), 1.0, 0.01, base.FAILS),
    ({FAMILIES[0]: 0.3, FAMILIES[1]: -0.3}, 1.0, 0.01, base.DEPENDS),
    ({FAMILIES[0]: 0.3}, 1.0, 0.01, base.INDISTINCT),  # shown for one, open for the others
    ({}, 1.0, 0.05, base.INDISTINCT),
    (dict.fromkeys(FAMILIES, 0.3), 0.0, 0.01, base.INDISTINCT),
  ],
)
def test_each_outcome(slopes, gap, noise, outcome):
  records = _records(slopes, gap, noise)
  verdict = hardest_task.judge(records)
  assert verdict.outcome == outcome, verdict.text
  wanted = 100 * slopes.get(('hierarchy', BERT), 0.0)
  assert verdict.number == pytest.approx(wanted, abs=1e4 * noise / 100 + 8)
  assert 'level 0' in verdict.text and len(hardest_task.figure(records).axes) == 3


def test_a_slope_is_that_of_least_squares():
  records = _records({('digits', BERT): 0.25, ('hierarchy', AR): -0.4}, noise=0.02)
  for source, objective in FAMILIES:
    of = records[(records['source'] == source) & (records['objective'] == objective)]
    expected = []
    for _, rows in of.groupby('seed'):
      table = rows.pivot_table('value', 'dose', 'measure')
      expected.append(np.polyfit(table[TAILS[source]], table[PRIMARY], 1)[0])
    found = hardest_task.slope(records, source, objective)
    assert found.mean == pytest.approx(np.mean(expected), rel=1e-4) and found.seeds == 5


def test_slopes_among_networks_that_learnt_nothing_are_called_so():
  records, rng = _records({}), np.random.default_rng(1)
  plain = records['source'].eq('hierarchy') & records['dose'].eq(PLAIN)
  own = records[plain & records['objective'].eq(BERT) & records['measure'].eq(PRIMARY)]
  untrained = own.assign(objective='untrained', value=own['value'] + 0.01 * rng.normal(size=5))
  nats = records[plain & records['objective'].isin((AR, BERT)) & records['measure'].eq('tail')]
  most = nats.assign(measure='max', value=nats['value'].where(nats['objective'].eq(AR), 5.0))
  verdict = hardest_task.judge(pd.concat([records, untrained, most]))
  assert 'the slope there says little' in verdict.text
  assert 'largest is, autoregressive less BERT: hierarchy -3.0' in verdict.text
  found = hardest_task.floor(pd.concat([records, untrained]))
  wanted = (own['value'].to_numpy() - untrained['value'].to_numpy()).mean()
  assert list(found) == [PLAIN, 'most', 'block'] and found[PLAIN].mean == pytest.approx(wanted)
  learnt = hardest_task.judge(pd.concat([records, untrained.assign(value=0.2)]))
  assert 'untrained network' in learnt.text and 'says little' not in learnt.text


def test_a_premise_of_both_signs_depends_on_the_source():
  records = _records(dict.fromkeys(FAMILIES, 0.3))
  tail = records['source'].eq('digits') & records['measure'].eq('tail')
  records.loc[tail & records['objective'].eq(AR), 'value'] -= 2.0
  verdict = hardest_task.judge(records)
  assert verdict.outcome == base.DEPENDS and 'depends on the source' in verdict.text


def test_few_seeds_decide_nothing():
  assert hardest_task.judge(_records({}, seeds=4)).outcome == base.CANT
  found = hardest_task.over_all(_records(dict.fromkeys(FAMILIES, 0.3), 0.3, 0.0), 'hierarchy')
  assert found.mean > 0.8


def test_every_dose_is_a_run_of_its_own_at_both_budgets():
  for budget in base.BUDGETS:
    made = hardest_task.plan(budget)
    assert len(made.runs) == (len(hardest_task.kinds()) + 1) * base.SEEDS[budget]
    told = {(spec.config, spec.objective, spec.overrides) for spec in made.runs}
    assert len(told) == len(made.runs)


def test_false_verdicts_are_rare():
  """BERT's hardest is easier, and nothing follows from it: a slope is shown once in twenty."""
  worlds, wrong = 60, 0
  for k in range(worlds):
    tests = hardest_task.slopes(_records({}, noise=0.03, seed=k))
    wrong += any(hardest_task.signs(tests).values())
  assert wrong / worlds <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / worlds)
