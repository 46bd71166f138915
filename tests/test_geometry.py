"""RankMe and CKA against closed forms and the definitions written out in loops."""

import dataclasses
import itertools

import ml_collections
import numpy as np
import pytest
from scipy import integrate

from probes import geometry
from probes.features import Features


def config(**changes):
  return ml_collections.ConfigDict({'rows': 4096, 'saved': 512} | changes)


def random(rows, dims, seed=0):
  return np.random.default_rng(seed).normal(size=(rows, dims))


def orthonormal(rows, dims, seed=0):
  return np.linalg.qr(random(rows, dims, seed))[0]


def some_features(layers=3, rows=40, dims=6, classes=3):
  rng = np.random.default_rng(0)
  x = rng.normal(size=(layers, 3 * rows, dims)).astype(np.float32)
  x[0, :, 3:] *= 0.01
  x[1] += 4
  y = np.arange(3 * rows) % classes
  split = (slice(0, rows), slice(rows, 2 * rows), slice(2 * rows, None))
  return Features(*(x[:, s] for s in split), *(y[s] for s in split), classes)


# RankMe.


def test_rankme_of_equal_singular_values_is_the_dimension():
  x = orthonormal(200, 16)
  p = 1 / 16 + 1e-7
  assert geometry.rankme(x) == pytest.approx(np.exp(-16 * p * np.log(p)), rel=1e-12)
  assert geometry.rankme(x) == pytest.approx(16, rel=1e-5)
  assert geometry.rankme(1000 * x) == pytest.approx(geometry.rankme(x), rel=1e-9)
  assert geometry.rankme(x.T) == pytest.approx(geometry.rankme(x), rel=1e-9)


def test_rankme_of_rank_one():
  x = np.outer(np.arange(1, 101), np.arange(1, 17))
  p = np.array([1 + 1e-7] + 15 * [1e-7])
  assert geometry.rankme(x) == pytest.approx(np.exp(-(p * np.log(p)).sum()), rel=1e-9)
  assert geometry.rankme(x) == pytest.approx(1, abs=1e-4)


def test_rankme_of_known_singular_values():
  """Values 3, 1: probabilities 3/4 and 1/4."""
  x = orthonormal(50, 2) * np.array([3.0, 1.0]) @ orthonormal(7, 2, 1).T
  expected = np.exp(0.75 * np.log(4 / 3) + 0.25 * np.log(4))
  assert geometry.rankme(x) == pytest.approx(expected, rel=2e-5)


def test_rankme_of_isotropic_noise():
  """N >> D: about D. Else the singular values follow the square root of Marchenko and Pastur's law.

  At ratio r = D / N the squares lie from (1 - sqrt r)^2 to (1 + sqrt r)^2 with density
  sqrt((top - v)(v - bottom)) / (2 pi r v), and the entropy is ln D + ln E[s] - E[s ln s] / E[s].
  """
  assert geometry.rankme(random(20000, 20)) == pytest.approx(20, rel=5e-4)
  r = 0.25
  bottom, top = (1 - r**0.5) ** 2, (1 + r**0.5) ** 2

  def mean(f):
    def density(v):
      return np.sqrt((top - v) * (v - bottom)) / (2 * np.pi * r * v)

    return integrate.quad(lambda v: f(np.sqrt(v)) * density(v), bottom, top)[0]

  assert mean(lambda s: 1) == pytest.approx(1, rel=1e-8)
  size = mean(lambda s: s)
  expected = 400 * size * np.exp(-mean(lambda s: s * np.log(s)) / size)
  assert expected < 390
  assert geometry.rankme(random(1600, 400)) == pytest.approx(expected, rel=1e-3)


def test_rankme_of_nothing():
  assert geometry.rankme(np.zeros((5, 3))) == 0
  with pytest.raises(ValueError, match='finite matrix'):
    geometry.rankme(np.full((5, 3), np.nan))
  with pytest.raises(ValueError, match='finite matrix'):
    geometry.rankme(np.zeros((0, 3)))


# CKA.


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
  assert geometry.debiased_cka(x, y) == pytest.approx(expected, rel=1e-9)
  assert geometry.cka_matrix([x[None], y[None]])[0, 1] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(('rows', 'dims'), [(4, 3), (40, 5), (40, 60)])
def test_debiased_cka_by_loops(rows, dims):
  x = random(rows, dims) - 2
  y = x @ random(dims, 7, 1) + 3 * random(rows, 7, 2)
  expected = debiased_by_loops(x, y)
  assert geometry.debiased_cka(x, y) == pytest.approx(expected, rel=1e-8)
  assert geometry.debiased_cka(y, x) == pytest.approx(expected, rel=1e-8)
  assert geometry.cka_matrix([x[None], y[None]])[1, 0] == pytest.approx(expected, rel=1e-8)


def test_biased_cka_by_centred_grams():
  for dims in (5, 60):
    x, y = random(40, dims) + 1, random(40, 7, 1) - 1
    h = np.eye(40) - 1 / 40
    k, m = h @ x @ x.T @ h, h @ y @ y.T @ h
    expected = np.trace(k @ m) / np.sqrt(np.trace(k @ k) * np.trace(m @ m))
    assert geometry.cka(x, y) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize('measure', [geometry.cka, geometry.debiased_cka])
@pytest.mark.parametrize('dims', [6, 80])
def test_one_up_to_rotation_shift_and_scale(measure, dims):
  x = random(50, dims)
  turned = x @ orthonormal(dims, dims, 1)
  assert measure(x, turned) == pytest.approx(1, rel=1e-10)
  assert measure(x, 1e-8 * turned) == pytest.approx(1, rel=1e-10)
  assert measure(x, 1e100 * turned) == pytest.approx(1, rel=1e-10)
  assert measure(x, -3 * turned + random(1, dims)) == pytest.approx(1, rel=1e-10)
  # Other linear maps do change it.
  assert measure(x, x * np.geomspace(1, 100, dims)) < 0.9


def test_unrelated_features():
  """Biased CKA of Gaussians is D / (N + D) = 1/2 at D = N; the debiased one is about 0."""
  pairs = [(random(100, 100, 2 * s), random(100, 100, 2 * s + 1)) for s in range(10)]
  biased = [geometry.cka(*pair) for pair in pairs]
  debiased = [geometry.debiased_cka(*pair) for pair in pairs]
  assert np.mean(biased) == pytest.approx(0.5, abs=0.01)
  # About N^2 / 2 independent products: a standard deviation of sqrt(2) / N a pair.
  assert abs(np.mean(debiased)) < 4 * np.sqrt(2) / 100 / np.sqrt(10)
  assert max(np.abs(debiased)) < 4 * np.sqrt(2) / 100


def test_debiased_cka_does_not_depend_on_the_number_of_examples():
  """Two signals shared out of eight each: the population value is 2 / 8, at any N."""
  values, biased = [], []
  for seed in range(60):
    x, y = random(24, 8, 2 * seed), random(24, 8, 2 * seed + 1)
    y[:, :2] = x[:, :2]
    values.append(geometry.debiased_cka(x, y))
    biased.append(geometry.cka(x, y))
  assert np.mean(values) == pytest.approx(0.25, abs=0.04)
  assert np.mean(biased) > 0.4


@pytest.mark.parametrize('measure', [geometry.cka, geometry.debiased_cka])
def test_order_of_examples_and_copies(measure):
  x = random(30, 8)
  y = x[:, :4] + random(30, 4, 1)
  order = np.random.default_rng(0).permutation(30)
  assert measure(x[order], y[order]) == pytest.approx(measure(x, y), rel=1e-10)
  assert abs(measure(x[order], y)) < measure(x, y)
  # The same example twice is an ordinary example.
  x, y = np.concatenate([x, x[:5]]), np.concatenate([y, y[:5]])
  if measure is geometry.debiased_cka:
    assert measure(x, y) == pytest.approx(debiased_by_loops(x, y), rel=1e-9)
  assert 0 < measure(x, y) < 1


def test_features_without_structure():
  x, flat = random(20, 5), np.full((20, 3), 3.3)
  equidistant = np.eye(20)
  for measure in (geometry.cka, geometry.debiased_cka):
    assert measure(x, flat) == measure(flat, flat) == measure(flat * 0, x) == 0
  assert geometry.debiased_cka(x, equidistant) == 0
  assert geometry.debiased_cka(equidistant, equidistant) == 0
  assert geometry.cka(equidistant, equidistant) == pytest.approx(1)
  found = geometry.cka_matrix([x[None], flat[None], equidistant[None]])
  np.testing.assert_allclose(found, np.diag([1.0, 0.0, 0.0]), atol=1e-12)


def test_matrix_of_runs_of_different_widths(monkeypatch):
  first, second = random(90, 10).reshape(3, 30, 10), random(60, 50, 1).reshape(2, 30, 50)
  second[:, :, :10] += 2 * first[:2]
  found = geometry.cka_matrix([first, second])
  layers = [*first, *second]
  expected = [[geometry.debiased_cka(a, b) for b in layers] for a in layers]
  np.testing.assert_allclose(found, expected, atol=1e-10)
  np.testing.assert_allclose(found.diagonal(), 1, atol=1e-12)
  np.testing.assert_array_equal(found, found.T)
  monkeypatch.setattr(geometry, 'CHUNK_BYTES', 8 * 5 * 30 * 7)
  np.testing.assert_allclose(geometry.cka_matrix([first, second]), found, atol=1e-12)
  single = geometry.cka_matrix([first.astype(np.float32), second.astype(np.float32)])
  np.testing.assert_allclose(single, found, atol=1e-5)


def test_bad_input():
  x = random(3, 5)
  for call in (lambda: geometry.debiased_cka(x, x), lambda: geometry.cka_matrix([x[None]])):
    with pytest.raises(ValueError, match='at least 4 examples, not 3'):
      call()
  with pytest.raises(ValueError, match='at least 4 examples, not 0'):
    geometry.cka_matrix([])
  with pytest.raises(ValueError, match='same examples: 8 and 9 rows'):
    geometry.cka(random(8, 2), random(9, 2))
  with pytest.raises(ValueError, match='same examples'):
    geometry.cka_matrix([random(8, 2)[None], random(9, 2)[None]])
  with pytest.raises(ValueError, match='NaN'):
    geometry.debiased_cka(random(8, 2), random(8, 2) * np.nan)
  features = some_features()
  broken = dataclasses.replace(features, validation=features.validation * np.inf)
  with pytest.raises(ValueError, match='validation features hold NaN'):
    geometry.evaluate(broken, config(), 0)


# The probe.


def test_evaluate():
  features = some_features()
  results, arrays = geometry.evaluate(features, config(saved=25), 0)
  cell = results['all']
  assert set(results) == {'all'} and set(arrays) == {'features'}
  plain = [geometry.rankme(layer) for layer in features.train]
  centred = [geometry.rankme(layer - layer.astype(float).mean(0)) for layer in features.train]
  assert cell['rankme_by_layer'] == pytest.approx(plain, rel=1e-9)
  assert cell['rankme_centred_by_layer'] == pytest.approx(centred, rel=1e-9)
  # The first layer fills three dimensions; a common direction hides those of the second.
  assert plain[0] < 3.3 and plain[1] < centred[1] - 1 and plain[2] > 5.5
  assert cell['layer'] == 2 and cell['rankme'] == cell['rankme_by_layer'][2]
  assert cell['rankme_centred'] == max(cell['rankme_centred_by_layer'])
  assert cell['rows'] == 40
  assert 'accuracy' not in cell
  for value in cell.values():
    assert all(type(v) in (int, float) for v in (value if isinstance(value, list) else [value]))
  assert arrays['features'].dtype == np.float32
  np.testing.assert_array_equal(arrays['features'], features.test[:, :25])
  np.testing.assert_array_equal(
    geometry.evaluate(features, config(), 0)[1]['features'], features.test
  )


def test_rows_are_drawn_by_the_seed():
  features = some_features()
  rows = np.random.default_rng((5, 0)).permutation(40)[:10]
  cell = geometry.evaluate(features, config(rows=10), 5)[0]['all']
  expected = [geometry.rankme(layer[rows]) for layer in features.train]
  assert cell['rankme_by_layer'] == pytest.approx(expected, rel=1e-12) and cell['rows'] == 10
  assert geometry.evaluate(features, config(rows=10), 5)[0]['all'] == cell
  assert geometry.evaluate(features, config(rows=10), 6)[0]['all'] != cell


def test_constant_layers():
  features = some_features()
  train = features.train.copy()
  train[0], train[1] = 0, 3.3
  cell = geometry.evaluate(dataclasses.replace(features, train=train), config(), 0)[0]['all']
  assert cell['rankme_by_layer'][:2] == pytest.approx([0, 1], abs=1e-4)
  assert cell['rankme_centred_by_layer'][:2] == [0, 0]
