"""RankMe against closed forms."""

import dataclasses

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


def test_bad_input():
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
