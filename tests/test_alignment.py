"""CKA against the definition of its estimator, written out in loops."""

import itertools

import numpy as np
import pytest

from reports import alignment


def random(rows, dims, seed=0):
  return np.random.default_rng(seed).normal(size=(rows, dims))


def orthonormal(rows, dims, seed=0):
  return np.linalg.qr(random(rows, dims, seed))[0]


def debiased_cka(x, y):
  return alignment.cka_matrix([x[None], y[None]])[0, 1]


def hsic_by_definition(x, y):
  """Unbiased HSIC: mean over all ordered 4-tuples of distinct examples (Song et al., 2012).

  K_ij L_ij + K_ij L_kl - 2 K_ij L_ik, for linear kernels of features that are not centred.
  """
  k, m = x @ x.T, y @ y.T
  tuples = list(itertools.permutations(range(len(x)), 4))
  return sum(k[i, j] * (m[i, j] + m[r, s] - 2 * m[i, r]) for i, j, r, s in tuples) / len(tuples)


def debiased_by_loops(x, y):
  """The estimator's formula, entry by entry."""
  n = len(x)

  def hsic(a, b):
    k = [[0 if i == j else a[i] @ a[j] for j in range(n)] for i in range(n)]
    m = [[0 if i == j else b[i] @ b[j] for j in range(n)] for i in range(n)]
    trace = sum(k[i][j] * m[j][i] for i in range(n) for j in range(n))
    sums = sum(map(sum, k)) * sum(map(sum, m)) / ((n - 1) * (n - 2))
    chain = sum(sum(k[i][j] for i in range(n)) * sum(m[j]) for j in range(n))
    return (trace + sums - 2 * chain / (n - 2)) / (n * (n - 3))

  return hsic(x, y) / np.sqrt(hsic(x, x) * hsic(y, y))


@pytest.mark.parametrize('dims', [2, 12])
def test_debiased_cka_by_definition(dims):
  x = random(9, dims) + 1
  y = x[:, :2] @ random(2, 3, 1) + random(9, 3, 2)
  expected = hsic_by_definition(x, y) / np.sqrt(hsic_by_definition(x, x) * hsic_by_definition(y, y))
  assert debiased_by_loops(x, y) == pytest.approx(expected, rel=1e-9)
  assert debiased_cka(x, y) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(('rows', 'dims'), [(4, 3), (40, 5), (40, 60)])
def test_debiased_cka_by_loops(rows, dims):
  x = random(rows, dims) - 2
  y = x @ random(dims, 7, 1) + 3 * random(rows, 7, 2)
  expected = debiased_by_loops(x, y)
  assert debiased_cka(x, y) == pytest.approx(expected, rel=1e-8)
  assert debiased_cka(y, x) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize('dims', [6, 80])
def test_one_up_to_rotation_shift_and_scale(dims):
  x = random(50, dims)
  turned = x @ orthonormal(dims, dims, 1)
  assert debiased_cka(x, turned) == pytest.approx(1, rel=1e-10)
  assert debiased_cka(x, 1e-8 * turned) == pytest.approx(1, rel=1e-10)
  assert debiased_cka(x, 1e100 * turned) == pytest.approx(1, rel=1e-10)
  assert debiased_cka(x, -3 * turned + random(1, dims)) == pytest.approx(1, rel=1e-10)
  # Other linear maps do change it.
  assert debiased_cka(x, x * np.geomspace(1, 100, dims)) < 0.9


def test_unrelated_features():
  """About 0, where the biased CKA of Gaussians is D / (N + D) = 1/2 at D = N."""
  pairs = [(random(100, 100, 2 * s), random(100, 100, 2 * s + 1)) for s in range(10)]
  debiased = [debiased_cka(*pair) for pair in pairs]
  # About N^2 / 2 independent products: a standard deviation of sqrt(2) / N a pair.
  assert abs(np.mean(debiased)) < 4 * np.sqrt(2) / 100 / np.sqrt(10)
  assert max(np.abs(debiased)) < 4 * np.sqrt(2) / 100


def test_debiased_cka_does_not_depend_on_the_number_of_examples():
  """Two signals shared out of eight each: the population value is 2 / 8, at any N."""
  values = []
  for seed in range(60):
    x, y = random(24, 8, 2 * seed), random(24, 8, 2 * seed + 1)
    y[:, :2] = x[:, :2]
    values.append(debiased_cka(x, y))
  assert np.mean(values) == pytest.approx(0.25, abs=0.04)


def test_order_of_examples_and_copies():
  x = random(30, 8)
  y = x[:, :4] + random(30, 4, 1)
  order = np.random.default_rng(0).permutation(30)
  assert debiased_cka(x[order], y[order]) == pytest.approx(debiased_cka(x, y), rel=1e-10)
  assert abs(debiased_cka(x[order], y)) < debiased_cka(x, y)
  # The same example twice is an ordinary example.
  x, y = np.concatenate([x, x[:5]]), np.concatenate([y, y[:5]])
  assert debiased_cka(x, y) == pytest.approx(debiased_by_loops(x, y), rel=1e-9)
  assert 0 < debiased_cka(x, y) < 1


def test_features_without_structure():
  x, flat = random(20, 5), np.full((20, 3), 3.3)
  equidistant = np.eye(20)
  assert debiased_cka(x, flat) == debiased_cka(flat, flat) == debiased_cka(flat * 0, x) == 0
  assert debiased_cka(x, equidistant) == 0
  assert debiased_cka(equidistant, equidistant) == 0
  found = alignment.cka_matrix([x[None], flat[None], equidistant[None]])
  np.testing.assert_allclose(found, np.diag([1.0, 0.0, 0.0]), atol=1e-12)


def test_matrix_of_runs_of_different_widths(monkeypatch):
  first, second = random(90, 10).reshape(3, 30, 10), random(60, 50, 1).reshape(2, 30, 50)
  second[:, :, :10] += 2 * first[:2]
  found = alignment.cka_matrix([first, second])
  layers = [*first, *second]
  expected = [[debiased_by_loops(a, b) for b in layers] for a in layers]
  np.testing.assert_allclose(found, expected, atol=1e-10)
  np.testing.assert_allclose(found.diagonal(), 1, atol=1e-12)
  np.testing.assert_array_equal(found, found.T)
  monkeypatch.setattr(alignment, 'CHUNK_BYTES', 8 * 5 * 30 * 7)
  np.testing.assert_allclose(alignment.cka_matrix([first, second]), found, atol=1e-12)
  single = alignment.cka_matrix([first.astype(np.float32), second.astype(np.float32)])
  np.testing.assert_allclose(single, found, atol=1e-5)


def test_bad_input():
  for rows in ([random(3, 5)[None]], []):
    with pytest.raises(ValueError, match=f'at least 4 examples, not {3 if rows else 0}'):
      alignment.cka_matrix(rows)
  with pytest.raises(ValueError, match='same examples'):
    alignment.cka_matrix([random(8, 2)[None], random(9, 2)[None]])
  with pytest.raises(ValueError, match='NaN'):
    debiased_cka(random(8, 2), random(8, 2) * np.nan)
