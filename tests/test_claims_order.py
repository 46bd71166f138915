"""Claim 26 on made-up records."""

import numpy as np
import pandas as pd
import pytest

from claims import base, data_order, sets
from tests import nulls


def _records(rng, costs, hard_costs, harder=0.2, noise=0.005, seeds=5) -> pd.DataFrame:
  """What each order costs the default and the hard networks, which are so much worse."""
  rows, images_N = [], rng.uniform(1, 3, 10)
  for seed in range(seeds):
    for network in sets.NETWORKS:
      own, level = (costs, 0) if network == data_order.EASY else (hard_costs, harder)
      of = {data_order.SHUFFLED: 0.0, **dict(zip(data_order.ORDERS, own, strict=True))}
      for order, more in of.items():
        each = images_N + level + more + rng.normal(0, noise) + rng.normal(0, noise, 10)
        row = {'network': network, 'order': order, 'seed': seed}
        rows.append(row | {'measure': 'bits', 'value': each.mean(), 'each': base.packed(each)})
        rows.append(row | {'measure': 'linear/100', 'value': 0.5, 'each': base.packed(each / 10)})
  return pd.DataFrame(rows)


@pytest.mark.parametrize(
  'costs, hard, harder, noise, outcome',
  [
    ((0.02, 0.02, 0.02), (0.1, 0.1, 0.1), 0.2, 0.005, base.HOLDS),
    ((0.1, 0.1, 0.1), (0.02, 0.02, 0.02), 0.2, 0.005, base.FAILS),
    ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0), 0.2, 0.002, base.FAILS),
    ((0.1, 0.1, 0.1), (0.3, -0.2, 0.1), 0.2, 0.005, base.DEPENDS),
    ((0.1, 0.1, 0.1), (0.2, 0.2, 0.2), 0.0, 0.005, base.CANT),
    ((0.1, 0.1, 0.1), (0.11, 0.11, 0.11), 1.0, 0.2, base.INDISTINCT),
  ],
)
def test_each_outcome(costs, hard, harder, noise, outcome):
  verdict = data_order.judge(_records(np.random.default_rng(0), costs, hard, harder, noise))
  assert verdict.outcome == outcome
  if noise < 0.1:
    assert verdict.number == pytest.approx(np.mean(hard) - np.mean(costs), abs=0.01)


def test_where_all_networks_pay_alike_none_is_said_to_pay_more():
  costs = (0.1, 0.05, 0.15)
  found = nulls.shares(data_order.judge, lambda rng: _records(rng, costs, costs))
  assert found[base.HOLDS] + found[base.FAILS] + found[base.DEPENDS] <= nulls.MOST


def test_contrasts_are_weighted_means_over_whole_seeds():
  records = _records(np.random.default_rng(0), (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), noise=0.0)
  bits = data_order.values(records, 'bits')
  assert data_order.contrast(
    bits, data_order.interaction_of(data_order.HARD)
  ).mean == pytest.approx(0.3, abs=1e-4)
  one = data_order.cost(('no norm',), ('by_class',))
  assert data_order.contrast(bits, one).mean == pytest.approx(0.6, abs=1e-4)
  lacking = records[(records['seed'] > 0) | (records['order'] != 'by_class')]
  bits = data_order.values(lacking, 'bits')
  assert data_order.contrast(bits, data_order.interaction_of(data_order.HARD)).seeds == 4
  assert data_order.judge(lacking).outcome == base.CANT
  assert len(data_order.figure(records).axes) == 3


def test_a_network_that_learns_nothing_is_left_out():
  """It has no cost of order, which is not because it would be easy."""
  records = _records(np.random.default_rng(0), (0.02, 0.02, 0.02), (0.05, 0.05, 0.05))
  for order in (data_order.SHUFFLED, *data_order.ORDERS):
    own = records['network'].eq('no residual') & records['order'].eq(order)
    own &= records['measure'].eq('bits')
    packed = [base.packed(np.full(10, 4.0) + 1e-3 * seed) for seed in range(5)]
    records.loc[own, 'each'], records.loc[own, 'value'] = packed, 4.0
  diluted = data_order.judge(records).number
  blind = [{'network': n, 'seed': s, 'order': data_order.SHUFFLED, 'measure': data_order.HISTOGRAM,
            'value': 3.5} for n in sets.NETWORKS for s in range(5)]  # fmt: skip
  records = pd.concat([records, pd.DataFrame(blind)], ignore_index=True)
  verdict = data_order.judge(records)
  assert 'no residual' not in data_order.learnt(records) and len(data_order.learnt(records)) == 3
  assert diluted == pytest.approx(0.0175, abs=0.005)
  assert verdict.number == pytest.approx(0.03, abs=0.005) and verdict.outcome == base.HOLDS
  assert 'learning no context at all: no residual' in verdict.text
  records.loc[records['measure'] == data_order.HISTOGRAM, 'value'] = 0.1
  assert data_order.judge(records).outcome == base.CANT
  assert len(data_order.figure(records).axes) == 3
