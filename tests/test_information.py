"""Usable information: never below zero where it is chosen, errors against a bootstrap."""

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics
from test_linear_probe import Features, small
import test_mlp

from probes import information, linear, mlp


def features(seed, df, rows=400, classes=3, signal=0.0):
  """Two layers of heavy-tailed numbers; the class moves the second by `signal`."""
  rng = np.random.default_rng(seed)
  y = rng.choice(classes, 3 * rows, p=[0.6, 0.3, 0.1])
  x = rng.standard_t(df, size=(2, 3 * rows, 6))
  x[1, :, :classes] += signal * np.eye(classes)[y]
  cut = (slice(0, rows), slice(rows, 2 * rows), slice(2 * rows, None))
  return Features(*(x[:, s] for s in cut), *(y[s] for s in cut), classes)


def test_members_against_scikit_learn():
  rng = np.random.default_rng(0)
  train, labels = rng.integers(0, 3, 50), rng.integers(0, 3, 20)
  family = information.Family(train, 3)
  prior = np.bincount(train, minlength=3) / 50
  q = rng.dirichlet(np.ones(3), 20)
  nats = family.nats(-np.log(q[np.arange(20), labels]), labels)
  known = {'labels': [0, 1, 2]}
  mixed = (50 * q + prior / 2) / 50.5
  assert nats.mean() == pytest.approx(metrics.log_loss(labels, mixed, **known))
  blind = family.blind(labels)
  assert blind.mean() == pytest.approx(metrics.log_loss(labels, np.tile(prior, (20, 1)), **known))
  # Half a label's weight costs little and bounds what the worst confidence can cost.
  sure = np.zeros(20)
  np.testing.assert_allclose(family.nats(sure, labels), np.log(50.5 / (50 + prior[labels] / 2)))
  worst = family.nats(np.full(20, 1e5), labels)
  np.testing.assert_allclose(worst, np.log(101 / prior[labels]))
  with pytest.raises(ValueError, match='class 2 has no training example'):
    information.Family(np.array([0, 1]), 3).blind(np.array([2]))


@pytest.mark.parametrize('df', [0.5, 1.0])
@pytest.mark.parametrize('seed', range(3))
def test_never_below_zero_where_it_is_chosen_and_near_it_on_test(seed, df):
  """Features so heavy-tailed that a plain fit pays whole bits for single outliers of test."""
  given = features(seed, df)
  cell = linear.evaluate(given, small(labels=()), 0)[0]['all']
  assert min(cell['usable_bits_by_layer_validation']) >= 0
  assert -0.1 < cell['usable_bits'] < 0.05
  if cell['usable_layer'] is None:
    assert cell['usable_bits'] == cell['usable_bits_stderr'] == 0
    guess = np.bincount(given.labels_train).argmax()
    assert cell['usable_accuracy'] == (given.labels_test == guess).mean()


def test_networks_have_the_featureless_member_too():
  given = features(1, 0.5)
  settings = test_mlp.config(hidden=8, steps=40, checkpoints=2, learning_rate=1e-3)
  cell = mlp.evaluate(given, settings, 0)[0]['all']
  assert min(cell['usable_bits_by_layer_validation']) >= 0
  assert -0.1 < cell['usable_bits'] < 0.05


def test_errors_against_a_bootstrap():
  """2,000 resamples of 400 test examples; the bootstrap's own error is some 2 %."""
  rng = np.random.default_rng(0)
  whole = stats.t(5).rvs(400, random_state=1) + 2.0
  part = 0.7 * whole + 0.5 * rng.normal(size=400)
  rows = rng.integers(0, 400, (2000, 400))
  share, stderr = information.share(part, whole)
  assert share == pytest.approx(part.mean() / whole.mean())
  assert stderr == pytest.approx((part[rows].mean(1) / whole[rows].mean(1)).std(), rel=0.08)
  bits, stderr, terms = information.usable(whole, part)
  assert stderr == pytest.approx(terms[rows].mean(1).std(), rel=0.08)
  assert bits == pytest.approx((part - whole).mean() / np.log(2))
  # The share of one example, or of a whole that is its part, has no error to show.
  assert information.share(part[:1], whole[:1])[1] is None
  assert information.usable(whole[:1], part[:1])[1] is None
  assert information.share(whole, whole) == (pytest.approx(1), pytest.approx(0, abs=1e-15))
