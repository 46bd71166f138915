"""Claims 32 and 33 on made-up records."""

import numpy as np
import pandas as pd
import pytest

from claims import base, retellings, shared_form
from tests import nulls


def _told(rng, left, noise, seeds, taught=0.1):
  """Rows of (form, different) -> bits left at each rate."""
  rows = []
  for seed in range(seeds):
    before = {'seed': seed, 'rate': 0.0, 'form': 'nothing', 'different': 0}
    rows.append(before | {'measure': 'kept', 'value': taught})
    rows.append(before | {'measure': 'question', 'value': 8.0 + rng.normal(0, noise)})
    for rate in (retellings.RATE, retellings.TUNED):
      of = {'seed': seed, 'rate': rate}
      for (form, different), bits in left.items():
        value = bits[rate == retellings.TUNED] + rng.normal(0, noise)
        kinds = {'question': 0, 'story': -0.1, 'bare': 0.1, 'other': 2, 'kept': 1}
        for measure, more in kinds.items():
          row = of | {'form': form, 'different': different}
          rows.append(row | {'measure': measure, 'value': value + more})
  return pd.DataFrame(rows)


def _records(rng, low, high, noise=0.1, seeds=5, taught=0.1) -> pd.DataFrame:
  """Bits that varied retellings leave at the low and at the tuned rate."""
  tellings = {telling: (low, high) for telling in retellings.TELLINGS}
  tellings[retellings.VERBATIM] = (low + 1, high + 1)
  return _told(rng, tellings, noise, seeds, taught)


@pytest.mark.parametrize(
  'low, high, noise, taught, outcome',
  [
    (0.5, 0.1, 0.1, 0.1, base.HOLDS),
    (6.0, 0.1, 0.1, 0.1, base.DEPENDS),
    (6.0, 4.0, 0.1, 0.1, base.FAILS),
    (1.0, 1.0, 1.0, 0.1, base.INDISTINCT),
    (0.5, 0.1, 0.1, 5.0, base.CANT),
  ],
)
def test_each_outcome_of_retellings(low, high, noise, taught, outcome):
  verdict = retellings.judge(_records(np.random.default_rng(0), low, high, noise, taught=taught))
  assert verdict.outcome == outcome
  assert verdict.number == pytest.approx(low, abs=1)
  if noise < 1:
    assert (
      verdict.text.count('one text verbatim leaves 1.')
      + verdict.text.count('one text verbatim leaves 0.9')
      == 2
    )


def test_an_instruction_at_the_threshold_is_seldom_called_known():
  at = retellings.KNOWN
  found = nulls.shares(retellings.judge, lambda rng: _records(rng, at, at))
  assert found[base.HOLDS] <= nulls.MOST
  assert found[base.FAILS] + found[base.DEPENDS] <= nulls.MOST


def test_few_seeds_decide_nothing():
  records = _records(np.random.default_rng(0), 0.5, 0.1, seeds=4)
  assert retellings.judge(records).outcome == base.CANT
  assert len(retellings.figure(records).axes) == 2
  records = _forms(np.random.default_rng(0), 0.5, 0.5, 0.5, seeds=4)
  assert shared_form.judge(records).outcome == base.CANT
  assert len(shared_form.figure(records).axes) == 3


def _forms(rng, story, permuted, bare, noise=0.1, seeds=5) -> pd.DataFrame:
  """Bits that are left after few documents in each form; after many the same."""
  left = dict(zip(shared_form.FORMS, (story, permuted, bare), strict=True))
  numbers = shared_form.FEW, shared_form.MANY
  tellings = {(form, count): (bits, bits) for form, bits in left.items() for count in numbers}
  records = _told(rng, tellings, noise, seeds)
  return records[records['rate'] != retellings.TUNED]


@pytest.mark.parametrize(
  'story, permuted, bare, noise, outcome',
  [
    (0.5, 3.0, 4.0, 0.1, base.HOLDS),
    (0.5, 0.5, 0.4, 0.1, base.FAILS),
    (3.0, 1.0, 0.4, 0.1, base.FAILS),
    (0.5, 0.5, 4.0, 0.1, base.DEPENDS),
    (7.8, 8.0, 8.0, 0.1, base.CANT),
    (0.5, 1.0, 1.0, 1.0, base.INDISTINCT),
  ],
)
def test_each_outcome_of_forms(story, permuted, bare, noise, outcome):
  verdict = shared_form.judge(_forms(np.random.default_rng(0), story, permuted, bare, noise))
  assert verdict.outcome == outcome
  if noise < 1:
    assert verdict.number == pytest.approx(min(permuted, bare) - story, abs=0.15)


def test_forms_that_leave_just_as_much_as_is_allowed_are_seldom_told_apart():
  at = 0.5 + shared_form.MORE
  found = nulls.shares(shared_form.judge, lambda rng: _forms(rng, 0.5, at, at))
  assert found[base.HOLDS] + found[base.DEPENDS] <= nulls.MOST
  assert found[base.FAILS] <= nulls.MOST
