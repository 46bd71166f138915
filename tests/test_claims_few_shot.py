"""Claim 30 on made-up records, and its documents."""

import numpy as np
import pandas as pd
import pytest

from claims import base, few_shot
from tests import nulls


def _records(rng, gains, noise=0.05, seeds=5) -> pd.DataFrame:
  """What examples save after training on each of KINDS."""
  rows = []
  for kind, gained in zip(few_shot.KINDS, gains, strict=True):
    for seed in range(seeds):
      for steps, share in ((100, 0.2), (1000, 1.0)):
        of = {'kind': kind, 'seed': seed, 'steps': steps}
        for number in range(few_shot.SHOTS + 1):
          value = 4 - (share * gained if number >= 2 else 0) + rng.normal(0, noise)
          row = of | {'number': number, 'value': value}
          rows.append(row | {'measure': 'label', 'uniform': 4.0})
          rows.append(row | {'measure': 'repetition'})
  return pd.DataFrame(rows)


@pytest.mark.parametrize(
  'gains, noise, outcome',
  [
    ((3.5, 3.0, 0.0), 0.05, base.HOLDS),
    ((3.5, 0.1, 0.0), 0.05, base.DEPENDS),
    ((0.0, 0.1, 0.0), 0.05, base.FAILS),
    ((2.0, 2.0, 1.5), 0.05, base.FAILS),
    ((1.0, 1.0, 0.0), 1.5, base.INDISTINCT),
    # As much as the labels of a document give, of whichever items they are.
    ((2.2, 2.2, 0.0), 0.05, base.INDISTINCT),
    ((2.2, 0.1, 0.0), 0.05, base.INDISTINCT),
  ],
)
def test_each_outcome(gains, noise, outcome):
  verdict = few_shot.judge(_records(np.random.default_rng(0), gains, noise))
  assert verdict.outcome == outcome
  if noise < 1:
    assert verdict.number == pytest.approx(gains[0] - gains[2], abs=0.1)
    short = float(verdict.text.split('words: ')[-1].split(' after 100')[0])
    assert short == pytest.approx(gains[0] / 5, abs=0.1)


def test_gains_at_the_threshold_are_seldom_called_more_or_less():
  for threshold, wrong in ((few_shot.GAIN, base.FAILS), (few_shot.BOUND, base.HOLDS)):
    at = (threshold, threshold, 0.0)
    found = nulls.shares(few_shot.judge, lambda rng, at=at: _records(rng, at))
    assert found[wrong] + found[base.DEPENDS] <= nulls.MOST


def test_to_be_less_wrong_than_a_guess_is_no_help():
  records = _records(np.random.default_rng(0), (3.5, 3.5, 0.0))
  sure = records['kind'] == few_shot.FIXED
  records.loc[sure, 'value'] += 6
  assert few_shot.judge(records).outcome == base.DEPENDS


def test_few_seeds_decide_nothing():
  records = _records(np.random.default_rng(0), (2, 2, 0), seeds=4)
  assert few_shot.judge(records).outcome == base.CANT
  assert len(few_shot.figure(records).axes) == 2


def test_the_bound_is_more_than_the_labels_of_a_document_give():
  labels = np.random.default_rng(0).integers(0, few_shot.LABELS, (4000, few_shot.ITEMS))
  share = np.stack([(labels == one).mean(1) for one in range(few_shot.LABELS)])
  known = -(share * np.log2(np.where(share > 0, share, 1))).sum(0).mean()
  assert 4 - known == pytest.approx(2.34, abs=0.03) and 4 - known < few_shot.BOUND - 0.1


def test_documents_of_labels_have_one_label_an_item_and_count_its_examples():
  rng = np.random.default_rng(0)
  documents, before = few_shot.labelled(rng, 16, 32)
  assert documents.shape == (few_shot.DOCUMENTS, 32) and before.shape == (few_shot.DOCUMENTS, 16)
  labels = set()
  for row, counted in zip(documents.tolist(), before.tolist(), strict=True):
    items, given = row[::2], row[1::2]
    assert max(items) < 8 <= min(given) and len(set(items)) <= few_shot.ITEMS
    assert len(set(zip(items, given, strict=True))) == len(set(items))
    assert counted == [items[:k].count(item) for k, item in enumerate(items)]
    labels |= set(given)
  assert len(labels) == few_shot.LABELS
  said = few_shot.patterns(rng, 16, 32)
  assert (said[:, :-4] == said[:, 4:]).all() and len(np.unique(said, axis=0)) > 250
