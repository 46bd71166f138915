"""Subsets, folds, standardisation and the choice."""

import numpy as np
import pytest

from probes import selection

SIZES = (10, 40, 100, 250)
LABELS = np.random.default_rng(0).permutation(np.arange(1197) % 10)


@pytest.mark.parametrize('seed', [0, 7, (3, 1)])
def test_subsets_are_nested_exact_and_balanced(seed):
  previous = set()
  for size in SIZES:
    rows = selection.balanced_subset(LABELS, size, 10, seed)
    assert len(rows) == len(set(rows.tolist())) == size
    assert previous <= set(rows.tolist())
    counts = np.bincount(LABELS[rows], minlength=10)
    assert counts.max() - counts.min() <= 1
    previous = set(rows.tolist())


def test_odd_sizes_are_balanced_within_one():
  for size in range(10, 60):
    rows = selection.balanced_subset(LABELS, size, 10, 0)
    counts = np.bincount(LABELS[rows], minlength=10)
    assert len(set(rows)) == size and counts.max() - counts.min() <= 1


def test_subsets_depend_on_the_seed_alone():
  first = selection.balanced_subset(LABELS, 40, 10, (0, 1))
  np.testing.assert_array_equal(first, selection.balanced_subset(LABELS, 40, 10, (0, 1)))
  assert set(first) != set(selection.balanced_subset(LABELS, 40, 10, (0, 2)))


def test_every_row_is_equally_likely():
  labels = np.arange(20) % 2
  drawn = np.concatenate([selection.balanced_subset(labels, 6, 2, s) for s in range(2000)])
  # 2,000 draws of 3 from 10 rows a class: 600 expected, standard deviation 20.5.
  assert np.abs(np.bincount(drawn, minlength=20) - 600).max() < 5 * 20.5


def test_imbalanced_data_up_to_its_largest_subset():
  labels = np.array([0] * 50 + [1] * 3 + [2] * 20)
  assert selection.largest_balanced(labels, 3) == 11
  rows = selection.balanced_subset(labels, 11, 3, 0)
  assert np.bincount(labels[rows]).tolist() == [4, 3, 4]
  with pytest.raises(ValueError, match='class 1 has only 3'):
    selection.balanced_subset(labels, 12, 3, 0)


def test_every_feasible_size_is_dealt_exactly():
  for seed in range(200):
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(4), rng.integers(1, 7, 4))
    for size in range(4, selection.largest_balanced(labels, 4) + 1):
      counts = np.bincount(labels[selection.balanced_subset(labels, size, 4, seed)])
      assert counts.sum() == size and counts.max() - counts.min() <= 1


@pytest.mark.parametrize('size', [10, 13, 40, 100, 250, 1190, 1197])
def test_disjoint_subsets_share_no_row_as_far_as_the_rows_reach(size):
  held = selection.disjoint_subsets(LABELS, size, 10)
  # 119 rows of the rarest class; of sizes that are no multiple of ten less than a round is wasted.
  assert held == max(1, 119 // -(-size // 10))
  subsets = [selection.disjoint_subset(LABELS, size, 10, 3, k) for k in range(held + 1)]
  for rows in subsets:
    counts = np.bincount(LABELS[rows], minlength=10)
    assert len(rows) == len(set(rows.tolist())) == size and counts.max() - counts.min() <= 1
  assert len(set(np.concatenate(subsets[:held]).tolist())) == held * size
  if 10 < held:  # One more begins another deal: other rows, not the first subset again.
    assert set(subsets[0].tolist()) != set(subsets[held].tolist())
  np.testing.assert_array_equal(subsets[0], selection.balanced_subset(LABELS, size, 10, (3, 0)))


def test_every_row_is_equally_likely_in_every_disjoint_subset():
  labels = np.arange(20) % 2
  for number in (1, 2, 3):  # Three subsets of six rows are a deal: the last one is of the next.
    drawn = np.concatenate(
      [selection.disjoint_subset(labels, 6, 2, seed, number) for seed in range(2000)]
    )
    assert np.abs(np.bincount(drawn, minlength=20) - 600).max() < 5 * 20.5


def test_disjoint_subsets_of_imbalanced_data():
  labels = np.array([0] * 50 + [1] * 3 + [2] * 20)
  assert [selection.disjoint_subsets(labels, size, 3) for size in (3, 5, 11)] == [3, 1, 1]
  for number in range(3):
    rows = selection.disjoint_subset(labels, 11, 3, 0, number)
    assert np.bincount(labels[rows]).tolist() == [4, 3, 4]
  with pytest.raises(ValueError, match='class 1 has only 3'):
    selection.disjoint_subset(labels, 12, 3, 0, 1)


def test_impossible_subsets():
  with pytest.raises(ValueError, match='class 3 has no training example'):
    selection.balanced_subset(LABELS[LABELS != 3], 40, 10, 0)
  with pytest.raises(ValueError, match='needs 10 rows, not 9'):
    selection.balanced_subset(LABELS, 9, 10, 0)
  with pytest.raises(ValueError, match='no balanced subset of 1200'):
    selection.balanced_subset(LABELS, 1200, 10, 0)
  with pytest.raises(ValueError, match='from 0 to 4'):
    selection.balanced_subset(LABELS, 40, 5, 0)


@pytest.mark.parametrize('size', [20, 40, 100, 250])
def test_folds_are_stratified(size):
  labels = LABELS[selection.balanced_subset(LABELS, size, 10, 0)]
  folds = selection.stratified_folds(labels, 3, 0)
  counts = np.bincount(folds, minlength=3)
  assert counts.sum() == size and counts.max() - counts.min() <= 1
  for fold in range(3):
    assert set(labels[folds != fold]) == set(range(10))
    held = np.bincount(labels[folds == fold], minlength=10)
    assert held.max() - held.min() <= 1


def test_folds_that_cannot_be():
  with pytest.raises(ValueError, match='cannot make 3 folds'):
    selection.stratified_folds(np.array([0, 1]), 3, 0)
  with pytest.raises(ValueError, match='cannot make 1 folds'):
    selection.stratified_folds(np.arange(9), 1, 0)


def test_standardisation_uses_the_rows_in_use_only():
  features = np.random.default_rng(0).normal(3, 2, (2, 50, 4))
  used = np.zeros((2, 50))
  used[:, :30] = 1
  mean, scale = selection.moments(features, used)
  np.testing.assert_allclose(mean[:, 0], features[:, :30].mean(1), rtol=1e-12)
  np.testing.assert_allclose(scale[:, 0], features[:, :30].std(1), rtol=1e-12)
  other = features.copy()
  other[:, 30:] *= 1000
  for a, b in zip(selection.moments(other, used), (mean, scale), strict=True):
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize('constant', [0.0, 1.1, -3e7, 1e-30])
def test_constant_features_become_zero(constant):
  train = np.random.default_rng(0).normal(size=(30, 3)).astype(np.float32)
  train[:, 1] = constant
  mean, scale = selection.moments(train)
  test = np.full((2, 3), 5.0)
  for rows in (train, test):
    out = selection.standardise(rows, mean, scale)
    assert np.isfinite(out).all() and (out[:, 1] == 0).all() and (out[:, [0, 2]] != 0).all()


def test_small_but_real_features_are_kept():
  train = np.random.default_rng(0).normal(1, 1e-5, (100, 1))
  out = selection.standardise(train, *selection.moments(train))
  assert out.std() == pytest.approx(1)


def test_non_finite_features():
  features = np.ones((5, 2))
  features[3, 1] = np.nan
  with pytest.raises(ValueError, match='NaN'):
    selection.moments(features)
  with pytest.raises(ValueError, match='NaN'):
    selection.standardise(features, np.zeros((1, 2)), np.ones((1, 2)))
  with pytest.raises(ValueError, match='at least one row'):
    selection.moments(np.ones((5, 2)), np.zeros(5))


def test_choice_prefers_accuracy_then_cross_entropy_then_order():
  accuracy = np.array([[0.5, 0.9], [0.9, 0.9]])
  assert selection.choose(accuracy, np.array([[0.0, 0.4], [0.3, 0.5]])) == (1, 0)
  assert selection.choose(accuracy, np.full((2, 2), 0.3)) == (0, 1)
  with pytest.raises(ValueError, match='NaN'):
    selection.choose(accuracy, np.full((2, 2), np.nan))


def test_fitting_numbers_of_labels():
  """What `balanced_subset` can deal, tried one by one, and a reason for every other number."""
  labels = np.repeat([0, 1, 2], [40, 5, 30])
  sizes = list(range(1, 90))
  fits, reasons = selection.fitting(labels, sizes, 3)

  def possible(size):
    try:
      return len(selection.balanced_subset(labels, size, 3, 0)) == size
    except ValueError:
      return False

  assert fits == [size for size in sizes if possible(size)]
  assert fits == [size for size in sizes if str(size) not in reasons]
  assert reasons['2'] == 'fewer than the 3 classes'
  assert reasons['18'] == 'the largest balanced subset has 17, for the rarest class has only 5'
  assert reasons['76'] == 'there are only 75 training labels'


@pytest.mark.parametrize('kind,offset', [(np.float64, 1e9), (np.float32, 1e3)])
def test_an_offset_far_above_the_spread_is_no_constant(kind, offset):
  x = np.random.default_rng(0).normal(size=(200, 2)) + offset
  x[:, 1] = offset / 3
  x = x.astype(kind)
  mean, scale = selection.moments(x)
  assert scale[0, 0] == pytest.approx(x[:, 0].std(dtype=np.float64), rel=1e-6)
  assert np.isinf(scale[0, 1])


def test_the_quick_probe_has_a_row_of_every_class():
  labels = np.random.default_rng(0).permutation(np.repeat(np.arange(300), 3))
  rows = selection.quick(labels, 300)
  assert sorted(labels[rows]) == list(range(300)) and (np.diff(rows) > 0).all()
  assert len(selection.quick(labels % 10, 10)) == 250
  assert len(selection.quick(np.repeat(np.arange(3), 2), 3)) == 6
