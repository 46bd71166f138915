"""Claim 27 on made-up records."""

import numpy as np
import pandas as pd
import pytest

from claims import base, universal
from tests import nulls


def _records(rng, hierarchy, digits, noise=0.005, seeds=5) -> pd.DataFrame:
  """What sharing loses to separate weights on each source; it gains .1 on the narrow network."""
  rows = []
  for source, loss in {'hierarchy': hierarchy, 'digits': digits}.items():
    hard_N = rng.uniform(1, 2, 20)
    for seed in range(seeds):
      level = rng.uniform(0, 0.5)
      for network, more in (('plain', 0.0), ('shared', loss), ('narrow', loss + 0.1)):
        each = hard_N + more + rng.normal(0, noise) + rng.normal(0, noise, 20)
        row = {'source': source, 'seed': seed, 'network': network}
        found = {'measure': 'bits', 'value': level + more + rng.normal(0, noise)}
        if source == 'digits':
          found |= {'each': base.packed(each), 'value': each.mean()}
          bits = 4e5 if network == 'plain' else 1e5
          rows.append(row | {'measure': 'weight bits', 'value': bits})
          rows.append(row | {'measure': 'quantised bits', 'value': 2 + more})
        rows.append(row | found)
  return pd.DataFrame(rows)


@pytest.mark.parametrize(
  'hierarchy, digits, noise, outcome',
  [
    (0.0, 0.0, 0.005, base.HOLDS),
    (-0.1, -0.1, 0.005, base.HOLDS),
    (0.1, 0.1, 0.005, base.FAILS),
    (0.0, 0.1, 0.005, base.DEPENDS),
    (0.0, 0.0, 0.2, base.INDISTINCT),
  ],
)
def test_each_outcome(hierarchy, digits, noise, outcome):
  verdict = universal.judge(_records(np.random.default_rng(0), hierarchy, digits, noise))
  assert verdict.outcome == outcome
  if noise < 0.1:
    assert verdict.number == pytest.approx(max(hierarchy, digits), abs=0.01)


def test_a_loss_at_the_threshold_is_seldom_called_none_and_seldom_more():
  at = universal.NEAR
  found = nulls.shares(universal.judge, lambda rng: _records(rng, at, at))
  assert found[base.HOLDS] <= nulls.MOST and found[base.FAILS] <= nulls.MOST


def test_images_up_to_which_fewer_weights_are_the_shorter_code():
  records = _records(np.random.default_rng(0), 0.0, 0.1)
  # 3e5 bits of weights more, .1 bits less for each of 64 dimensions: 46,875 images.
  assert '12 kB shared and 50 kB separate' in universal.sent(records)
  assert 'up to 46,875 digits' in universal.sent(records)
  better = _records(np.random.default_rng(0), 0.0, -0.1)
  assert 'for any number of digits' in universal.sent(better)


def test_few_seeds_decide_nothing():
  records = _records(np.random.default_rng(0), 0, 0, seeds=4)
  assert universal.judge(records).outcome == base.CANT
  assert len(universal.figure(records).axes) == 2
