"""Uniform-state diffusion: quadrature over times and enumeration of all noisy states.

Two tokens of V = 3 values: 9 sequences, 9 noisy states at every time.
"""

import itertools
import math
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import linalg, special
import test_hierarchy

from data import markov
from models import transformer
from models.config import ModelConfig
import objectives
from objectives import base, scoring
from objectives import uniform_diffusion as ud

V, T = 3, 2
SPACE = base.Space(vocabulary=V, length=T, dims=T)
STATES = np.array(list(itertools.product(range(V), repeat=T)))
P = np.random.default_rng(0).dirichlet(np.full(9, 0.6)).reshape(V, V)
ENTROPY = float(-np.sum(P * np.log(P)))
LEAST = ud._LEAST_NOISE


def _exact(params, inputs, *, pattern, shift=False, time_B):
  """p(x_i | the other token's noisy value): a token's own value is the objective's business."""
  assert pattern == ('full',) and not shift
  noise_Bx1x1 = (time_B**2)[:, None, None]
  q_BxVxV = (1 - noise_Bx1x1) * jnp.eye(V)[None] + noise_Bx1x1 / V  # symmetric
  p_VxV, rows = jnp.asarray(P, jnp.float32), jnp.arange(len(inputs))
  first = q_BxVxV[rows, inputs[:, 1]] @ p_VxV.T  # sum over x_2 of q(z_2 | x_2) p(x_1, x_2)
  second = q_BxVxV[rows, inputs[:, 0]] @ p_VxV
  return types.SimpleNamespace(logits_BxTxV=jnp.log(jnp.stack([first, second], axis=1)))


_TABLES = np.random.default_rng(1).normal(size=(2, 9, T, V))


def _wrong_logits(noise: float) -> np.ndarray:
  """A network that is wrong, looks at the token itself and knows the time; (9, T, V)."""
  return _TABLES[0] + 2 * math.sqrt(noise) * _TABLES[1]


def _wrong(params, inputs, *, pattern, shift=False, time_B):
  tables = jnp.asarray(_TABLES, jnp.float32)
  state_B = inputs[:, 0] * V + inputs[:, 1]
  return types.SimpleNamespace(
    logits_BxTxV=tables[0][state_B] + 2 * time_B[:, None, None] * tables[1][state_B]
  )


def _uniform(params, inputs, *, pattern, shift=False, time_B):
  return types.SimpleNamespace(logits_BxTxV=jnp.zeros((*inputs.shape, V)))


def _by_quadrature(apply, schedule='polynomial', nodes=60) -> np.ndarray:
  """The objective's own bound of all 9 sequences, over a lattice of times and all noisy states."""
  objective = objectives.get('uniform_diffusion', schedule=schedule)
  # t = s^3 takes the logarithm at t = 0 off the integrand.
  s, weights = np.polynomial.legendre.leggauss(nodes)
  t, weights = ((s + 1) / 2) ** 3, weights / 2 * 3 * ((s + 1) / 2) ** 2

  @jax.jit
  def score(t, x, z):
    noise, slope = objective.noise(t)
    extra = {'noise': noise, 'slope': slope}
    view = base.View(z, x, jnp.ones(x.shape), jnp.sqrt(noise), extra=extra)
    params = {'backbone': {}}
    result = objective.score(params, view, objective.run(apply, params, view, SPACE), SPACE)
    return result.nats_B, noise, result.terms

  t_, x, z = (np.array(i) for i in zip(*itertools.product(t, range(9), range(9)), strict=True))
  nats, noise, terms = score(
    jnp.asarray(t_, jnp.float32), STATES[x.astype(int)], STATES[z.astype(int)]
  )
  parts = np.asarray(terms['diffusion'], np.float64) + np.asarray(terms['reconstruction'])
  np.testing.assert_allclose(nats, parts, rtol=1e-5)
  noise = np.asarray(noise, np.float64)
  same = STATES[x.astype(int)] == STATES[z.astype(int)]
  q = np.prod(np.where(same, 1 - noise[:, None] * (V - 1) / V, noise[:, None] / V), axis=1)
  by_time = (q * np.asarray(nats, np.float64)).reshape(nodes, 9, 9).sum(-1)
  return weights @ by_time


def test_the_exact_denoiser_pays_log_p_of_every_sequence():
  """Reversed exactly, the process has no slack: the mean over the source is the entropy."""
  nats = _by_quadrature(_exact)
  np.testing.assert_allclose(nats, -np.log(P.ravel()), rtol=1e-4)
  assert P.ravel() @ nats == pytest.approx(ENTROPY, abs=1e-4)
  assert P.ravel() @ nats > ENTROPY  # what the least noise costs


def test_no_schedule_changes_the_mean():
  found = {schedule: _by_quadrature(_wrong, schedule) for schedule in ud._SCHEDULES}
  for schedule, nats in found.items():
    np.testing.assert_allclose(nats, found['polynomial'], rtol=2e-4, err_msg=schedule)
  assert np.all(P.ravel() @ found['polynomial'] > ENTROPY + 0.1)


def _discrete_bound(steps: int) -> np.ndarray:
  """The bound of so many steps, in float64 from the transition probabilities of every pair.

  KL(q(z_s | z_t, x) || p(z_s | z_t)) summed over steps, p being q with x distributed as the network
  and the noisy value itself say; then the reconstruction, by enumeration of z_0.
  """
  noises = np.linspace(math.sqrt(LEAST), 1, steps + 1) ** 2
  total = np.zeros(9)
  for s, t in itertools.pairwise(noises):
    q_s, q_t = ((1 - m) * np.eye(V) + m / V for m in (s, t))
    stay = (1 - t) / (1 - s)
    step = stay * np.eye(V) + (1 - stay) / V  # q(z_t | z_s)
    # q(z_s = y | z_t = z, x): axes x, z, y.
    posterior = q_s[:, None, :] * step.T[None] / q_t[:, :, None]
    belief = special.softmax(_wrong_logits(t), axis=-1) * q_t[STATES]  # (9, T, x), given z
    belief /= belief.sum(-1, keepdims=True)
    for z, state in enumerate(STATES):
      model = np.stack([belief[z, i] @ posterior[:, state[i]] for i in range(T)])  # (T, y)
      for x, sequence in enumerate(STATES):
        weight = np.prod(q_t[sequence, state])
        for i in range(T):
          own = posterior[sequence[i], state[i]]
          total[x] += weight * np.sum(special.rel_entr(own, model[i]))
  q_0 = (1 - LEAST) * np.eye(V) + LEAST / V
  return total - T * np.sum(q_0[0] * np.log(q_0[0]))


def test_it_is_the_limit_of_ever_shorter_steps():
  found = _by_quadrature(_wrong)
  coarse, fine = _discrete_bound(100), _discrete_bound(200)
  limit = 2 * fine - coarse
  np.testing.assert_allclose(limit, found, rtol=2e-3)
  # And gets there from where few steps are.
  assert np.all(np.abs(fine - limit) < np.abs(coarse - limit))
  assert np.abs(coarse - found).max() > 4 * np.abs(limit - found).max()


def _own_probabilities(cells: int) -> np.ndarray:
  """Of all 9 sequences under the network's own jump process, from all noise down to the least.

  Matrix exponentials of its rates in the middle of each cell, in float64, then Bayes.
  """
  odds = np.linspace(math.log(LEAST / (1 - LEAST)), math.log(1e6), cells + 1)
  p = np.full(9, 1 / 9)
  for low, high in reversed(list(itertools.pairwise(odds))):
    noise = special.expit((low + high) / 2)
    c, u = special.softmax(_wrong_logits(noise), axis=-1), noise / V
    rates = np.zeros((9, 9))
    for (a, z), (b, y), i in itertools.product(enumerate(STATES), enumerate(STATES), range(T)):
      if z[i] != y[i] and z[1 - i] == y[1 - i]:
        q_y, q_z = ((1 - noise) * c[a, i, value] + u for value in (y[i], z[i]))
        rates[a, b] = q_y / q_z / V
    rates -= np.diag(rates.sum(1))
    # The integral of beta over the cell is that of -d log alpha.
    p = p @ linalg.expm(rates * np.log(special.expit(-low) / special.expit(-high)))
  equal = (STATES[:, None] == STATES[None]).sum(-1)
  q_0 = (1 - LEAST + LEAST / V) ** equal * (LEAST / V) ** (T - equal)
  return p @ (q_0 / q_0.sum(1, keepdims=True))


def test_it_is_above_what_the_networks_own_process_pays():
  own = _own_probabilities(300)
  assert own.sum() == pytest.approx(1, abs=1e-9) and np.ptp(own) > 0.1
  slack = _by_quadrature(_wrong) + np.log(own)
  assert slack.min() > 0.1 and slack.max() < 1


def test_a_uniform_network_pays_the_uniform_code():
  assert _by_quadrature(_uniform) == pytest.approx(T * math.log(V), abs=1e-4)
  # Also by the draws of an evaluation, which scatter.
  objective = objectives.get('uniform_diffusion')
  evaluate = jax.jit(scoring.make_evaluation(objective, _uniform, SPACE, 500))
  nats = np.asarray(_rows(evaluate, np.tile(STATES, (30, 1)))['nats'])
  stderr = float(nats.std(ddof=1)) / math.sqrt(len(nats))
  assert nats.mean() == pytest.approx(T * math.log(V), abs=4 * stderr)
  assert stderr < 0.02


def _rows(evaluate, tokens, seed=0):
  batch = {
    'tokens': jnp.asarray(tokens, jnp.int32),
    'label': jnp.zeros(len(tokens), jnp.int32),
    'index': jnp.arange(len(tokens)),
  }
  return evaluate({'backbone': {}, 'objective': {}}, batch, jax.random.key(seed))


class _Truth:
  """The source in the form that objectives ask for."""

  def contexts(self, tokens, noise):
    found = _exact({}, tokens, pattern=('full',), time_B=jnp.sqrt(noise))
    return found.logits_BxTxV


def test_evaluations_estimate_the_bound_and_its_regret():
  expected, objective = _by_quadrature(_wrong), objectives.get('uniform_diffusion')

  def evaluate(apply, draws):
    function = jax.jit(scoring.make_evaluation(objective, apply, SPACE, draws, _Truth()))
    found = _rows(function, np.tile(STATES, (12, 1)))
    assert 'regret_by_count' not in found and 'token_accuracy' not in found
    return [np.asarray(found[name], np.float64).reshape(12, 9) for name in ('nats', 'regret')]

  for values, mean in zip(
    evaluate(_wrong, 2000), (expected, expected + np.log(P.ravel())), strict=True
  ):
    spread = values.std(0, ddof=1) / math.sqrt(12)
    assert np.all(np.abs(values.mean(0) - mean) < 5 * spread) and spread.max() < 0.1
  # Paired with the same noise, the truth has none at all.
  np.testing.assert_allclose(evaluate(_exact, 20)[1], 0, atol=1e-5)


@pytest.mark.parametrize('source', ['hierarchy', 'chain'])
def test_sources_know_what_the_others_say_through_noise(source):
  """Against the sum over all strings, each by its probability and that of what is seen of it."""
  if source == 'hierarchy':
    world = test_hierarchy.make_world((2, 2, 3, 2))
    truth, strings, p = world.grammar, world.strings_KxT, world.p_K
  else:
    truth = markov.draw_chain(0, 3, 4, 0.5)
    strings = np.array(list(itertools.product(range(3), repeat=4)))
    p = np.exp(-np.asarray(truth.nats(strings), np.float64))
  seen = np.random.default_rng(0).integers(0, 3, (20, 4))
  noise = np.array([1e-6, 1e-3, 0.1, 0.9, 1.0] * 4)
  for row, logits in zip(
    range(20), truth.contexts(seen, jnp.asarray(noise, jnp.float32)), strict=True
  ):
    like = np.where(strings == seen[row], 1 - noise[row] * 2 / 3, noise[row] / 3)  # (K, T)
    for i in range(4):
      weight = p * np.prod(np.delete(like, i, axis=1), axis=1)
      exact = np.array([weight[strings[:, i] == v].sum() for v in range(3)])
      np.testing.assert_allclose(
        special.softmax(logits[i]), exact / exact.sum(), rtol=1e-3, atol=1e-6
      )


def test_the_integrand_keeps_its_digits_at_both_ends():
  """Against the formula as it stands in float64."""
  rng = np.random.default_rng(2)
  logits, x, z = 3 * rng.normal(size=(50, 5)), rng.integers(0, 5, 50), rng.integers(0, 5, 50)
  c = special.softmax(logits, axis=-1)

  def naive(noise):
    alpha, u = 1 - noise, noise / 5
    one = np.eye(5)
    r = (alpha * c + u) / (alpha * c[np.arange(50), z] + u)[:, None]
    rho = (alpha * one[x] + u) / (alpha * one[x][np.arange(50), z] + u)[:, None]
    return np.sum(r - rho + rho * np.log(rho / r), axis=-1)

  for noise in (1e-6, 1e-4, 0.01, 0.5, 0.99, 0.999):
    found = ud.excess(jnp.asarray(logits, jnp.float32), x, z, jnp.float32(noise))
    np.testing.assert_allclose(found, naive(float(np.float32(noise))), rtol=2e-3)


def test_noise_is_as_rare_as_it_says_and_leaves_the_end_token_alone():
  space = base.Space(vocabulary=5, length=1001, dims=1000)
  tokens = jnp.full(1001, 2)
  keys = jax.random.split(jax.random.key(0), 400)
  for noise in (1e-4, 0.3, 1.0):
    seen = np.asarray(jax.vmap(lambda k, m=noise: ud.corrupt(tokens, m, k, space))(keys))
    count = seen[:, :1000].size
    for value in range(5):
      p = noise / 5 + (1 - noise) * (value == 2)
      spread = math.sqrt(p * (1 - p) / count) + 1e-12
      assert np.mean(seen[:, :1000] == value) == pytest.approx(p, abs=4.5 * spread)
    assert np.all(seen[:, 1000] == 2)


def test_an_end_token_is_never_charged():
  space = base.Space(vocabulary=V, length=T + 1, dims=T)
  objective = objectives.get('uniform_diffusion')
  evaluate = jax.jit(scoring.make_evaluation(objective, _uniform, space, 500))
  nats = np.asarray(_rows(evaluate, np.pad(np.tile(STATES, (30, 1)), ((0, 0), (0, 1))))['nats'])
  assert nats.mean() == pytest.approx(T * math.log(V), abs=0.05)


@pytest.mark.parametrize('end', [False, True])
def test_samples_follow_the_source(end):
  space = base.Space(vocabulary=V, length=T + end, dims=T)

  def apply(inputs, *, pattern, time_B):
    found = _exact(None, inputs[:, :T], pattern=pattern, time_B=time_B).logits_BxTxV
    return types.SimpleNamespace(logits_BxTxV=jnp.pad(found, ((0, 0), (0, int(end)), (0, 0))))

  objective, network = objectives.get('uniform_diffusion'), base.Network(apply, None)
  draw = jax.jit(lambda key: objective.sample(network, key, 20_000, space))
  samples = np.asarray(draw(jax.random.key(0)))
  assert samples.dtype == np.int32 and samples.shape == (20_000, T + end)
  assert not samples[:, T:].any()
  found = np.bincount(samples[:, 0] * V + samples[:, 1], minlength=9) / len(samples)
  # Steps are finite: total variation, not chi-squared.
  assert 0.5 * np.abs(found - P.ravel()).sum() < 0.02
  assert 0.5 * np.abs(found - np.outer(P.sum(1), P.sum(0)).ravel()).sum() > 0.1


def test_the_real_backbone_learns_and_is_probed():
  config = ModelConfig(V, T, width=8, layers=1, heads=2, time_input=True)
  objective, apply = objectives.get('uniform_diffusion'), transformer.make_apply(config)
  params = {'backbone': transformer.init(config, jax.random.key(0)), 'objective': {}}
  batch = {'tokens': jnp.asarray(STATES), 'label': jnp.zeros(9, int)}
  batch |= scoring.draw(jax.random.key(0), 9, 1.0)
  loss = scoring.make_loss(objective, apply, SPACE)
  gradient = jax.jit(jax.grad(lambda p: loss(p, batch)[0]))(params)
  assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(gradient))
  assert np.abs(gradient['backbone']['output_DxV']).max() > 0
  clean = objective.probe_view(jnp.array([0, 2]), SPACE, None, None)
  np.testing.assert_array_equal(clean.inputs, [0, 2])
  assert float(clean.time) == pytest.approx(1e-3) and not np.any(clean.weights_T)
  noisy = objective.probe_view(jnp.array([0, 2]), SPACE, 0.25, jax.random.key(0))
  assert float(noisy.time) == pytest.approx(0.5)
  with pytest.raises(ValueError, match="objective.schedule 'learned' is unknown"):
    objectives.get('uniform_diffusion', schedule='learned')


@pytest.mark.parametrize('stratum', [0.0, 2.0**-24, 1 - 2.0**-24])
def test_the_ends_of_time_are_finite(stratum):
  for schedule in ud._SCHEDULES:
    objective = objectives.get('uniform_diffusion', schedule=schedule)
    example = base.Example(jnp.array([0, 2]), -1, jnp.float32(stratum), jax.random.key(0))
    view = jax.tree.map(lambda x: x[None], objective.view(example, SPACE))
    logits = jnp.array([[[9.0, -40.0, 3.0], [0.0, 0.0, 80.0]]])

    def nats(logits, view=view, objective=objective):
      outputs = types.SimpleNamespace(logits_BxTxV=logits)
      return objective.score({}, view, outputs, SPACE).nats_B[0]

    value, gradient = jax.value_and_grad(nats)(logits)
    assert np.isfinite(value) and np.all(np.isfinite(gradient)) and value > -1e-4
