"""The solver against scikit-learn, SciPy and itself."""

import jax
import numpy as np
import pytest
import scipy.optimize
from sklearn.linear_model import LogisticRegression

from probes import certificate as certificate_lib
from probes import logistic, newton

L2 = (1e-3, 1e-1, 1.0)


def problem(seed=0, groups=2, rows=60, dims=7, classes=4):
  rng = np.random.default_rng(seed)
  features = rng.normal(size=(groups, rows, dims)) * np.geomspace(0.1, 3, dims)
  truth = rng.normal(size=(dims, classes))
  labels = (features[0] @ truth + 2 * rng.normal(size=(rows, classes))).argmax(1)
  labels[:classes] = np.arange(classes)
  return features, labels


def value_and_gradient(flat, x, labels, w, l2, bias_l2, classes):
  """The objective written independently of the module: loops over nothing, bias as a column."""
  theta = flat.reshape(classes, -1)
  x = np.c_[x, np.ones(len(x))]
  penalty = np.r_[np.full(x.shape[1] - 1, l2), bias_l2]
  scores = x @ theta.T
  normaliser = scipy.special.logsumexp(scores, axis=1)
  w = w / w.sum()
  value = w @ (normaliser - scores[np.arange(len(x)), labels]) + (penalty * theta**2).sum() / 2
  residual = np.exp(scores - normaliser[:, None])
  residual[np.arange(len(x)), labels] -= 1
  return value, ((residual * w[:, None]).T @ x + penalty * theta).ravel()


def optimum(x, labels, l2, classes, bias_l2=logistic.BIAS_L2, w=None):
  """The optimal value by BFGS to machine precision, in coordinates scaled by the penalty."""
  w = np.ones(len(x)) if w is None else w
  scale = np.r_[np.ones(x.shape[1]), 1.0][None].repeat(classes, 0).ravel()

  def scaled(u):
    value, gradient = value_and_gradient(u * scale, x, labels, w, l2, bias_l2, classes)
    return value, gradient * scale

  start = np.zeros(classes * (x.shape[1] + 1))
  options = {'gtol': 1e-11, 'maxiter': 5000}
  result = scipy.optimize.minimize(scaled, start, jac=True, method='BFGS', options=options)
  return result.fun


def sklearn_fit(x, labels, l2, bias_l2=logistic.BIAS_L2):
  """The same objective in scikit-learn: the bias is one more, suitably scaled, column."""
  column = np.sqrt(l2 / bias_l2)
  model = LogisticRegression(
    C=1 / (len(x) * l2), fit_intercept=False, tol=1e-10, max_iter=3000, solver='newton-cg'
  )
  model.fit(np.c_[x, np.full(len(x), column)], labels)
  return model.coef_[:, :-1], model.coef_[:, -1] * column


@pytest.mark.parametrize('bias_l2', [logistic.BIAS_L2, 1e-3])
def test_agrees_with_scikit_learn(bias_l2):
  features, labels = problem(rows=150, dims=12)
  fits = logistic.fit(features, labels, L2, classes=4, gap=1e-9, bias_l2=bias_l2)
  for g, x in enumerate(features):
    for j, l2 in enumerate(L2):
      weights, bias = sklearn_fit(x, labels, l2, bias_l2)
      flat = np.c_[weights, bias].ravel()
      theirs = value_and_gradient(flat, x, labels, np.ones(len(x)), l2, bias_l2, 4)[0]
      assert abs(fits.objective[g, j] - theirs) < 1e-7
      ours = logistic.logits(x, fits.weights[g, j], fits.bias[g, j]).argmax(1)
      np.testing.assert_array_equal(ours, (x @ weights.T + bias).argmax(1))


@pytest.mark.parametrize('gap', [1e-2, 1e-4, 1e-6, 1e-9])
def test_certificate_bounds_the_true_gap(gap):
  features, labels = problem()
  fits = logistic.fit(features, labels, L2, classes=4, gap=gap)
  assert fits.converged.all() and fits.certificate.max() <= gap
  for g, x in enumerate(features):
    for j, l2 in enumerate(L2):
      flat = np.c_[fits.weights[g, j], fits.bias[g, j]].ravel()
      arguments = (x, labels, np.ones(len(x)), l2, logistic.BIAS_L2, 4)
      value = value_and_gradient(flat, *arguments)[0]
      assert fits.objective[g, j] == pytest.approx(value, abs=1e-13)
      true_gap = value - optimum(x, labels, l2, 4)
      assert -1e-11 <= true_gap <= fits.certificate[g, j] + 1e-11


def test_certificate_formula_on_an_arbitrary_point():
  features, labels = problem()
  theta = np.random.default_rng(1).normal(size=(1, 4, 8))
  w = np.full(60, 1 / 60)
  _, certificate = certificate_lib.certify(features[0], labels, w, theta, np.array([0.1]), 1e-3)
  _, gradient = value_and_gradient(theta.ravel(), features[0], labels, w, 0.1, 1e-3, 4)
  penalty = np.r_[np.full(7, 0.1), 1e-3]
  assert certificate[0] == pytest.approx((gradient.reshape(4, 8) ** 2 / (2 * penalty)).sum())


def test_batched_equals_solo():
  features, labels = problem(groups=5)
  batched = logistic.fit(features, labels, L2, classes=4, gap=1e-10)
  for g in range(5):
    for j, l2 in enumerate(L2):
      solo = logistic.fit(features[g : g + 1], labels, [l2], classes=4, gap=1e-10)
      assert batched.objective[g, j] == pytest.approx(solo.objective[0, 0], abs=1e-10)
      # Strong convexity: |theta - optimum|^2 <= 2 gap / l2.
      bound = 2 * np.sqrt(2e-10 / l2)
      assert np.linalg.norm(batched.weights[g, j] - solo.weights[0, 0]) <= bound


def test_order_of_problems_changes_nothing():
  features, labels = problem(groups=5)
  order = np.array([3, 0, 4, 2, 1])
  fits = logistic.fit(features, labels, L2, classes=4)
  moved = logistic.fit(features[order], labels, L2[::-1], classes=4)
  np.testing.assert_allclose(moved.weights, fits.weights[order][:, ::-1], atol=1e-9)
  np.testing.assert_allclose(moved.objective, fits.objective[order][:, ::-1], atol=1e-12)


def test_chunks_change_nothing(monkeypatch):
  features, labels = problem(groups=5)
  fits = logistic.fit(features, labels, L2, classes=4)
  monkeypatch.setattr(logistic, 'CHUNK_BYTES', 1)
  one_by_one = logistic.fit(features, labels, L2, classes=4)
  np.testing.assert_allclose(one_by_one.weights, fits.weights, atol=1e-9)


@pytest.mark.parametrize('rows,dims', [(12, 30), (40, 100)])
def test_separable_problems_with_tiny_penalties(rows, dims):
  rng = np.random.default_rng(rows)
  features = rng.normal(size=(3, rows, dims))
  labels = rng.permutation(np.arange(rows) % 10)
  fits = logistic.fit(features, labels, [1e-5, 1e-4], classes=10)
  assert fits.certificate.max() <= 1e-6
  assert not fits.polished.any()
  predictions = logistic.logits(features[:, None], fits.weights, fits.bias).argmax(-1)
  assert (predictions == labels).all()
  weights, bias = sklearn_fit(features[0], labels, 1e-4)
  flat = np.c_[weights, bias].ravel()
  arguments = (features[0], labels, np.ones(rows), 1e-4, logistic.BIAS_L2, 10)
  assert fits.objective[0, 1] == pytest.approx(value_and_gradient(flat, *arguments)[0], abs=2e-6)


def test_wide_features_stay_in_the_span_of_the_rows():
  features, labels = problem(rows=12, dims=40)
  weights = logistic.fit(features, labels, [1e-2], classes=4).weights[0, 0]
  projector = np.linalg.pinv(features[0]) @ features[0]
  np.testing.assert_allclose(weights @ projector, weights, atol=1e-10)


def test_weights_zero_and_gathered_rows_agree():
  features, labels = problem()
  used = np.random.default_rng(0).random(60) < 0.6
  masked = logistic.fit(
    features, labels, L2, classes=4, gap=1e-10, weights=np.tile(used, (2, 1)).astype(float)
  )
  gathered = logistic.fit(features[:, used], labels[used], L2, classes=4, gap=1e-10)
  np.testing.assert_allclose(masked.objective, gathered.objective, atol=1e-10)


def test_whole_weights_are_repetitions():
  features, labels = problem(groups=1)
  weights = np.random.default_rng(0).integers(0, 4, (1, 60))
  fits = logistic.fit(features, labels, L2, classes=4, gap=1e-10, weights=weights)
  repeated = logistic.fit(
    features.repeat(weights[0], 1), labels.repeat(weights[0]), L2, classes=4, gap=1e-10
  )
  np.testing.assert_allclose(fits.objective, repeated.objective, atol=1e-10)


def test_duplicate_features_share_their_weight():
  features, labels = problem()
  doubled = np.concatenate([features, features], 2)
  fits = logistic.fit(doubled, labels, L2, classes=4, gap=1e-11)
  np.testing.assert_allclose(fits.weights[..., :7], fits.weights[..., 7:], atol=1e-9)
  # Two copies of weight w/2 cost half of one of weight w.
  single = logistic.fit(features * np.sqrt(2), labels, L2, classes=4, gap=1e-11)
  np.testing.assert_allclose(fits.objective, single.objective, atol=1e-10)


def test_features_of_zero_learn_the_prior():
  labels = np.array([0] * 30 + [1] * 10)
  fits = logistic.fit(np.zeros((1, 40, 3)), labels, [0.1], classes=2, gap=1e-10)
  entropy = -(0.75 * np.log(0.75) + 0.25 * np.log(0.25))
  assert fits.objective[0, 0] == pytest.approx(entropy, abs=1e-6)
  assert (fits.weights == 0).all()


def test_absent_class_and_single_class_are_finite():
  features, labels = problem()
  fits = logistic.fit(features, labels, [1e-2], classes=5)
  assert (fits.bias[..., 4] < fits.bias[..., :4].min(-1)).all()
  one = logistic.fit(features, np.zeros(60, int), [1e-2], classes=5)
  assert (logistic.logits(features[:, None], one.weights, one.bias).argmax(-1) == 0).all()


def test_ill_conditioned_features():
  rng = np.random.default_rng(0)
  basis, _ = np.linalg.qr(rng.normal(size=(30, 30)))
  features = rng.normal(size=(1, 300, 30)) * np.geomspace(1, 1e-4, 30) @ basis
  labels = (features[0] @ rng.normal(size=(30, 3))).argmax(1)
  fits = logistic.fit(features, labels, [1e-5, 1e-2], classes=3)
  assert fits.certificate.max() <= 1e-6 and not fits.polished.any()


def test_double_precision_goes_on_where_single_stops(monkeypatch):
  features, labels = problem(groups=1)
  precisions = []

  def watched(data, *rest, segment=logistic.lbfgs.segment):
    precisions.append(str(np.asarray(rest[1]).dtype))
    return segment(data, *rest)

  monkeypatch.setattr(logistic.lbfgs, 'segment', watched)
  l2, bias_l2, gap = 1e-9, 1e-9, logistic.SINGLE_GAP  # The certificate divides by the penalty.
  fits = logistic.fit(features, labels, [l2], classes=4, gap=gap, bias_l2=bias_l2)
  assert precisions[:2] == ['float32', 'float64'] and fits.certificate.max() <= gap
  best = optimum(features[0], labels, l2, 4, bias_l2=bias_l2)
  assert -1e-9 <= fits.objective[0, 0] - best <= gap


@pytest.mark.parametrize('dense', [True, False])
def test_second_solver_finishes_what_the_first_cannot(dense, monkeypatch):
  """Both of them: Newton with the whole Hessian, and Newton-CG."""
  features, labels = problem(groups=1, rows=30, dims=45)
  fits = logistic.fit(features, labels, [1e-4, 1e-1], classes=4)
  monkeypatch.setattr(newton, 'is_dense', lambda *shape: dense)
  called = []
  polish = newton.polish
  monkeypatch.setattr(newton, 'polish', lambda *a: called.append(a) or polish(*a))
  polished = logistic.fit(features, labels, [1e-4, 1e-1], classes=4, max_iterations=0)
  assert len(called) == (0 if dense else 2)
  assert polished.polished.all() and polished.certificate.max() <= 1e-6
  np.testing.assert_allclose(polished.objective, fits.objective, atol=1e-6)


def test_hessian_against_differences_of_the_gradient():
  features, labels = problem(groups=1, rows=20, dims=3)
  x, w = features[0], np.random.default_rng(1).random(20)
  w /= w.sum()
  theta = np.random.default_rng(2).normal(size=16)
  z = np.c_[x, np.ones(20)].T
  logits = theta.reshape(4, 4) @ z
  p = np.exp(logits) / np.exp(logits).sum(0)
  penalty = np.r_[0.1, 0.1, 0.1, 1e-3]
  found = newton._hessian(z, p, w, penalty)
  for i, step in enumerate(1e-6 * np.eye(16)):
    up, down = (value_and_gradient(theta + s, x, labels, w, 0.1, 1e-3, 4)[1] for s in (step, -step))
    np.testing.assert_allclose(found[i], (up - down) / 2e-6, atol=1e-8)


def test_uncertified_fit_raises_and_names_the_problem():
  features, labels = problem(rows=20)
  with pytest.raises(ValueError, match='of layer 0 with l2=0.001 stopped'):
    logistic.fit(features, labels, L2, classes=4, gap=1e-40, names=['layer 0', 'layer 1'])


@pytest.mark.parametrize(
  'change,message',
  [
    ({'features': np.full((2, 60, 7), np.nan)}, 'NaN'),
    ({'labels': np.full(60, 4)}, 'from 0 to 3'),
    ({'labels': np.zeros(60)}, 'integers'),
    ({'l2': [0.0]}, 'positive'),
    ({'l2': []}, 'positive'),
    ({'classes': 1}, 'at least 2 classes'),
    ({'weights': np.zeros((2, 60))}, 'positive sum'),
    ({'weights': -np.ones((2, 60))}, 'non-negative'),
    ({'features': np.zeros((60, 7))}, 'groups x rows'),
  ],
)
def test_bad_input(change, message):
  features, labels = problem()
  arguments = {'features': features, 'labels': labels, 'l2': L2, 'classes': 4} | change
  with pytest.raises(ValueError, match=message):
    logistic.fit(**arguments)


def test_precision_of_the_process_is_untouched():
  features, labels = problem()
  with jax.numpy_rank_promotion('raise'):
    fits = logistic.fit(features.astype(np.float32), labels, L2, classes=4)
  assert fits.weights.dtype == np.float64
  assert jax.numpy.ones(1).dtype == np.float32


def test_buckets_hold_and_waste_little():
  for size in range(1, 5000):
    padded = logistic.bucket(size, 16)
    assert size <= padded <= max(16, 1.25 * size)
  assert len({logistic.bucket(size, 16) for size in range(1, 4097)}) == 33
