"""Learned distributions over all sequences, against sums that are written out."""

import itertools
import math

import jax
import numpy as np
import pytest
import tiny

from codes import densities
from experiments import markov
from runs import configs, experiment, measured
from runs import densities as of_runs
from runs.errors import UserError

V, T = 3, 4
RNG = np.random.default_rng(0)
P = np.log(RNG.dirichlet(np.full(V**T, 0.7)))
Q = 0.8 * P + 0.3 * RNG.normal(size=V**T) + 5.0
SEQUENCES = densities.sequences(V, T)


def test_sequences_are_all_of_them_in_order():
  assert SEQUENCES.tolist() == [list(s) for s in itertools.product(range(V), repeat=T)]
  with pytest.raises(ValueError, match='too many'):
    densities.sequences(17, 64)


def test_ratios_are_those_of_all_pairs():
  weights = np.exp(P)
  slope, r = densities.ratios(P, Q, weights)
  dp, dq = (np.subtract.outer(x, x).ravel() for x in (P, Q))
  w = np.outer(weights, weights).ravel()
  assert slope == pytest.approx((w @ (dp * dq)) / (w @ dp**2))
  assert r == pytest.approx((w @ (dp * dq)) / math.sqrt((w @ dp**2) * (w @ dq**2)))
  assert densities.ratios(P, 2 * P + 7, weights) == pytest.approx((2, 1))
  assert densities.ratios(P, np.zeros(V**T), weights) == (0.0, 0.0)
  with pytest.raises(ValueError, match='equally likely'):
    densities.ratios(np.zeros(4), np.zeros(4), np.ones(4))


def test_a_predictor_codes_each_sequence_at_its_own_probability():
  tables = densities.predictor(Q, V, T)
  assert [table.shape for table in tables] == [(V**t, V) for t in range(T)]
  bits = densities.coded_bits(tables, SEQUENCES)
  np.testing.assert_allclose(bits, -densities.normalised(Q) / math.log(2))
  # One conditional by hand: of 2 after (1, 0).
  q = np.exp(densities.normalised(Q))
  before = q[(SEQUENCES[:, :2] == (1, 0)).all(1)].sum()
  then = q[(SEQUENCES[:, :3] == (1, 0, 2)).all(1)].sum()
  assert np.exp(tables[2][3, 2]) == pytest.approx(then / before)
  p = np.exp(P)
  assert densities.divergence_bits(P, Q) == pytest.approx(p @ bits + p @ P / math.log(2))
  assert densities.divergence_bits(P, P - 3) == pytest.approx(0, abs=1e-12)


def test_the_gap_of_a_distinguisher_is_of_what_it_says():
  noise = np.full(V**T, -T * math.log(V))
  assert densities.distinguisher_gap(P, P + 2, noise) == pytest.approx((0, 0), abs=1e-12)
  # One that says a half of everything: it never errs in the mean, and always by |true - 1/2|.
  true = np.exp(P) / (np.exp(P) + np.exp(noise))
  weights = (np.exp(P) + np.exp(noise)) / 2
  gap, calibration = densities.distinguisher_gap(P, noise, noise)
  assert gap == pytest.approx(weights @ np.abs(true - 0.5))
  assert calibration == pytest.approx(0, abs=1e-12) and gap > 0.1
  sure = densities.distinguisher_gap(P, 3 * P, noise)
  assert sure[1] > 0.01


def _built(objective, *overrides):
  config = configs.override(
    markov.get_config(objective),
    [*tiny.OVERRIDES, '--config.data.symbols=3', '--config.data.length=4', *overrides],
  )
  built = experiment.build(config, '')
  params = jax.jit(built.task.init)(jax.random.key(0))
  table = params['backbone']['output_DxV']
  params['backbone']['output_DxV'] = jax.random.normal(jax.random.key(1), table.shape)
  return built, params


def test_a_run_of_an_exact_code_and_its_source_add_up_to_one():
  built, params = _built('autoregressive')
  found = of_runs.of(built, params)
  assert np.exp(found.p_N).sum() == pytest.approx(1, abs=1e-5)
  assert np.exp(found.q_N).sum() == pytest.approx(1, abs=1e-5)
  entropy = -np.exp(found.p_N) @ found.p_N / math.log(2)
  assert entropy == pytest.approx(built.dataset.truth.entropy_bits(), abs=1e-4)
  bits = densities.coded_bits(
    densities.predictor(found.q_N, 3, 4), built.dataset.test.tokens_NxT[:, :4]
  )
  nats = built.per_example(params, built.dataset.test, 1, measured.TEST)['nats']
  np.testing.assert_allclose(bits, nats / math.log(2), rtol=1e-4)


def test_an_energy_is_a_density_up_to_its_normaliser():
  built, params = _built('energy')
  params['objective'] = {'head_D': jax.random.normal(jax.random.key(2), (16,)), 'log_z': 0.7}
  found = of_runs.of(built, params)
  exact = built.objective.normaliser(built.apply, params, built.space, jax.random.key(0))
  # q is e^-E over the learned normaliser, so that its sum is Z over that.
  total = np.logaddexp.reduce(found.q_N)
  assert total == pytest.approx(float(exact.log_z) - 0.7 * built.space.dims, abs=1e-4)
  np.testing.assert_allclose(np.exp(found.noise_N), np.full(81, 1 / 81), rtol=1e-5)


def test_what_gives_no_density_is_refused(data_dir):
  with pytest.raises(UserError, match='no probability'):
    of_runs.of(_built('masked')[0], {})
  with pytest.raises(UserError, match='not known'):
    of_runs.of(tiny.build(data_dir, 'autoregressive'), {})
