"""The Gaussian bound against quadrature, closed forms and the entropy of enumerable sources."""

import math
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import transformer
from models.config import ModelConfig
import objectives
from objectives import base, scoring
from objectives import gaussian_diffusion as gd

V = 8
SPACE = base.Space(vocabulary=V, length=1, dims=1, ordinal=True)
PRIOR = np.random.default_rng(0).dirichlet(np.ones(V) * 0.7)
ENTROPY = float(-np.sum(PRIOR * np.log(PRIOR)))
X = (2 * np.arange(V) + 1) / V - 1
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(120)


def _optimal(params, inputs, *, pattern, shift=False, time_B=None):
  """What context says of a lone pixel: its prior. The head multiplies in its own likelihood."""
  assert pattern == ('full',) and time_B is not None
  logits = jnp.log(jnp.asarray(PRIOR, jnp.float32))
  return types.SimpleNamespace(logits_BxTxV=jnp.broadcast_to(logits, (len(inputs), 1, V)))


def _denoiser_error(gamma: float) -> np.ndarray:
  """E ||x - E[x|z]||^2 for each level by Gauss-Hermite quadrature in float64."""
  alpha, sigma = 1 / math.sqrt(1 + math.exp(gamma)), 1 / math.sqrt(1 + math.exp(-gamma))
  z = alpha * X[:, None] + sigma * NODES[None]
  log_q = np.log(PRIOR) - (z[..., None] - alpha * X) ** 2 / (2 * sigma**2)
  q = np.exp(log_q - log_q.max(-1, keepdims=True))
  mean = (q / q.sum(-1, keepdims=True)) @ X
  return (X[:, None] - mean) ** 2 @ (WEIGHTS / WEIGHTS.sum())


def _quadrature_bound(low: float, high: float, points: int = 1501) -> float:
  """The whole bound between two endpoints, in nats, derived apart from the objective."""
  gammas = np.linspace(low, high, points)
  integrand = [0.5 * math.exp(-g) * PRIOR @ _denoiser_error(g) for g in gammas]
  diffusion = np.trapezoid(integrand, gammas)
  alpha2, sigma2 = 1 / (1 + math.exp(high)), 1 / (1 + math.exp(-high))
  prior = PRIOR @ (0.5 * (sigma2 + alpha2 * X**2 - 1 - math.log(sigma2)))
  alpha, sigma = 1 / math.sqrt(1 + math.exp(low)), 1 / math.sqrt(1 + math.exp(-low))
  z = alpha * X[:, None] + sigma * NODES[None]
  log_w = -((z[..., None] - alpha * X) ** 2) / (2 * sigma**2)
  log_z = np.log(np.sum(np.exp(log_w - log_w.max(-1, keepdims=True)), -1)) + log_w.max(-1)
  own = np.take_along_axis(log_w, np.arange(V)[:, None, None].repeat(120, 1), -1)[..., 0]
  return float(diffusion + prior + PRIOR @ ((log_z - own) @ (WEIGHTS / WEIGHTS.sum())))


def _objective_bound(objective, own, times: int = 1200, nodes: int = 60) -> tuple[float, dict]:
  """The objective's own score on a lattice of times and noises instead of random ones, in nats."""
  eps, weights = np.polynomial.hermite_e.hermegauss(nodes)
  weights = weights / weights.sum()
  t = (np.arange(times) + 0.5) / times

  @jax.jit
  def score(level):
    shape = times * nodes
    extra = {
      't': jnp.repeat(jnp.asarray(t, jnp.float32), nodes),
      'eps_T': jnp.tile(jnp.asarray(eps, jnp.float32), times)[:, None],
      'eps0_T': jnp.tile(jnp.asarray(eps, jnp.float32), times)[:, None],
      'vocabulary': jnp.zeros((shape, V)),
      'charged_T': jnp.ones((shape, 1)),
    }
    targets = jnp.full((shape, 1), level)
    view = base.View(None, targets, jnp.ones((shape, 1)), extra=extra)
    params = {'backbone': {}, 'objective': own}
    result = objective.score(params, view, objective.run(_optimal, params, view, SPACE), SPACE)
    return result.nats_B, result.terms

  total, parts = 0.0, {}
  for level in range(V):
    nats, terms = score(level)

    def average(values):
      return float(np.asarray(values, np.float64).reshape(times, nodes).mean(0) @ weights)

    total += PRIOR[level] * average(nats)
    for name, term in terms.items():
      parts[name] = parts.get(name, 0.0) + PRIOR[level] * average(term)
  return total, parts


def test_the_optimal_denoiser_reaches_the_entropy_at_the_alphabets_endpoints():
  low, high = gd.endpoints(V)
  found, parts = _objective_bound(objectives.get('gaussian_diffusion', schedule='linear'), {})
  assert found == pytest.approx(_quadrature_bound(low, high), abs=2e-5)
  # The entropy but for what these endpoints cost, which is stated.
  assert abs(found - parts['prior'] - ENTROPY) / math.log(2) < 1e-3
  assert 0 <= parts['prior'] < 13e-4 and 0 <= parts['reconstruction'] < 1e-5
  assert found == pytest.approx(sum(parts.values()), rel=1e-6)


def test_wide_endpoints_approach_the_entropy_and_narrow_ones_rise():
  wide = _quadrature_bound(-12.0, 14.0, 1801)
  assert (wide - ENTROPY) / math.log(2) == pytest.approx(0, abs=1e-4)
  bounds = [_quadrature_bound(*ends) for ends in [(-8, 7), (-6, 5), (-4, 3), (-3, 2)]]
  assert bounds == sorted(bounds) and bounds[0] > ENTROPY - 1e-9
  assert bounds[-1] - ENTROPY > 0.05


def test_the_objective_follows_its_endpoints(monkeypatch):
  linear = objectives.get('gaussian_diffusion', schedule='linear')
  found = {}
  for ends in [(-12.0, 14.0), (-4.0, 3.0)]:
    monkeypatch.setattr(gd, 'endpoints', lambda vocabulary, ends=ends: ends)
    found[ends], _ = _objective_bound(linear, {}, times=2400)
    assert found[ends] == pytest.approx(_quadrature_bound(*ends, 1801), abs=1e-5)
  assert abs(found[-12.0, 14.0] - ENTROPY) / math.log(2) < 1e-5
  assert (found[-4.0, 3.0] - ENTROPY) / math.log(2) > 0.01


def test_the_inner_schedule_leaves_the_mean():
  linear, _ = _objective_bound(objectives.get('gaussian_diffusion', schedule='linear'), {})
  own = {'schedule': 0.5 * jax.random.normal(jax.random.key(1), (gd._BINS,))}
  learned, _ = _objective_bound(objectives.get('gaussian_diffusion', schedule='learned'), own, 6000)
  assert learned == pytest.approx(linear, abs=3e-4)


def test_learned_schedule_is_monotone_with_the_right_slope_and_fixed_ends():
  objective = objectives.get('gaussian_diffusion', schedule='learned')
  own = {'schedule': 0.5 * jax.random.normal(jax.random.key(2), (gd._BINS,))}
  t = np.linspace(0, 1, 4001)[:-1]
  gamma, slope = jax.vmap(lambda s: objective.gamma(own, s, 17))(jnp.asarray(t, jnp.float32))
  gamma, slope = np.asarray(gamma, np.float64), np.asarray(slope, np.float64)
  low, high = gd.endpoints(17)
  assert gamma[0] == pytest.approx(low, abs=1e-3) and gamma[-1] == pytest.approx(high, abs=0.05)
  assert np.all(np.diff(gamma) > -1e-5) and np.all(slope > 0)
  assert np.trapezoid(slope, t) == pytest.approx(high - low, rel=5e-3)
  middle = (slope[1:] + slope[:-1]) / 2
  np.testing.assert_allclose(np.median(np.diff(gamma) / np.diff(t) / middle), 1, atol=1e-2)


def test_schedule_is_trained_on_the_variance_alone():
  """Its gradient equals that of the second moment by numerical differentiation."""
  objective = objectives.get('gaussian_diffusion', schedule='learned')
  low, high = gd.endpoints(V)
  own = {'schedule': 0.3 * jax.random.normal(jax.random.key(3), (gd._BINS,))}
  # A fixed per-gamma error stands for the network's: g(gamma) = exp(-(gamma + 1)^2 / 8).
  n = 400_000
  t = (jnp.arange(n) + 0.5) / n

  def g(gamma):
    return jnp.exp(-((gamma + 1) ** 2) / 8)

  gamma, slope = jax.vmap(lambda s: objective.gamma(own, s, V))(t)

  def loss(o):
    return jnp.mean(objective.schedule_loss(o, gamma, slope * g(gamma), SPACE))

  found = np.asarray(jax.grad(loss)(own)['schedule'])

  grid = np.linspace(low, high, gd._BINS * 400 + 1)
  centre = (grid[1:] + grid[:-1]) / 2
  squared = (np.asarray(g(centre)) ** 2).reshape(gd._BINS, 400).sum(1) * (grid[1] - grid[0])

  def moment(theta):
    share = np.exp(theta) / np.exp(theta).sum()
    return np.sum(squared * (high - low) / gd._BINS / share)

  theta = np.asarray(own['schedule'], np.float64)
  expected = [
    (moment(theta + 1e-6 * e) - moment(theta - 1e-6 * e)) / 2e-6 for e in np.eye(gd._BINS)
  ]
  np.testing.assert_allclose(found, expected, atol=2e-3 * np.abs(expected).max())
  assert float(loss(own)) == 0


def test_the_bound_has_no_gradient_in_the_schedule():
  objective = objectives.get('gaussian_diffusion', schedule='learned')
  own = {'schedule': jnp.zeros((gd._BINS,))}
  batch = {'tokens': jnp.arange(V)[:, None], 'label': jnp.zeros(V, jnp.int32)}

  def nats(own):
    params = {'backbone': {}, 'objective': own}
    rows = {**batch, **scoring.draw(jax.random.key(0), V, 1.0)}
    loss, metrics = scoring.make_loss(objective, _optimal, SPACE)(params, rows)
    return metrics['bits_per_dim']

  assert not np.any(jax.grad(nats)(own)['schedule'])


def test_uniform_predictor_without_neighbours_costs_the_histogram_or_more():
  """Monte Carlo through the evaluation that runs use: mean near log2 V for a uniform source."""
  objective = objectives.get('gaussian_diffusion', schedule='linear')

  def uniform(params, inputs, *, pattern, shift=False, time_B=None):
    return types.SimpleNamespace(logits_BxTxV=jnp.zeros((*inputs.shape[:2], V)))

  evaluate = jax.jit(scoring.make_evaluation(objective, uniform, SPACE, 2000))
  batch = {
    'tokens': jnp.tile(jnp.arange(V), 8)[:, None],
    'label': jnp.zeros(8 * V, jnp.int32),
    'index': jnp.arange(8 * V),
  }
  values = evaluate({'backbone': {}, 'objective': {}}, batch, jax.random.key(0))
  nats = np.asarray(values['nats'])
  stderr = float(nats.std(ddof=1)) / math.sqrt(len(nats))
  assert stderr < 0.05
  assert float(nats.mean()) == pytest.approx(math.log(V), abs=4 * stderr)
  parts = sum(np.asarray(values[k]) for k in ('prior', 'reconstruction', 'diffusion'))
  np.testing.assert_allclose(parts, nats, rtol=1e-5)


def test_end_token_is_never_charged():
  space = base.Space(vocabulary=V, length=3, dims=2, ordinal=True)
  objective = objectives.get('gaussian_diffusion', schedule='linear')

  def uniform(params, inputs, *, pattern, shift=False, time_B=None):
    return types.SimpleNamespace(logits_BxTxV=jnp.zeros((*inputs.shape[:2], V)))

  evaluate = jax.jit(scoring.make_evaluation(objective, uniform, space, 64))
  params = {'backbone': {}, 'objective': {}}

  def nats(last):
    tokens = jnp.array([[1, 5, last]] * 4)
    batch = {'tokens': tokens, 'label': jnp.zeros(4, jnp.int32), 'index': jnp.arange(4)}
    return np.asarray(evaluate(params, batch, jax.random.key(0))['nats'])

  np.testing.assert_array_equal(nats(0), nats(7))


def test_simple_weighting_is_the_mean_squared_error_of_the_noise():
  objective = objectives.get('gaussian_simple')
  assert objective.code is base.Code.NONE
  key = jax.random.key(0)
  batch = {'tokens': jnp.arange(V)[:, None], 'label': jnp.zeros(V, jnp.int32)}
  loss, metrics = scoring.make_loss(objective, _optimal, SPACE)(
    {'backbone': {}, 'objective': {}}, {**batch, **scoring.draw(key, V, 1.0)}
  )
  assert 'bits_per_dim' not in metrics
  # The same by its definition: recompute eps-hat from z and the posterior mean.
  strata_key, view_key = jax.random.split(key)
  t = np.asarray(base.training_strata(strata_key, V), np.float64)
  keys = jax.random.split(view_key, V)
  examples = base.Example(batch['tokens'], batch['label'], jnp.asarray(t), keys, jnp.ones(V))
  view = scoring.batch_view(objective, SPACE, examples)
  eps = np.asarray(view.extra['eps_T'], np.float64)[:, 0]
  low, high = gd.endpoints(V)
  first, last = (2 / math.pi * math.atan(math.exp(g / 2)) for g in (low, high))
  gamma = 2 * np.log(np.tan(math.pi / 2 * (first + (last - first) * t)))
  alpha, sigma = 1 / np.sqrt(1 + np.exp(gamma)), 1 / np.sqrt(1 + np.exp(-gamma))
  z = alpha * X + sigma * eps
  q = PRIOR * np.exp(-((z[:, None] - alpha[:, None] * X) ** 2) / (2 * sigma[:, None] ** 2))
  mean = (q / q.sum(1, keepdims=True)) @ X
  expected = np.mean((eps - (z - alpha * mean) / sigma) ** 2)
  assert float(loss) == pytest.approx(expected, rel=1e-3)


def test_nominal_alphabets_are_refused():
  with pytest.raises(ValueError, match='ordinal alphabet'):
    objectives.get('gaussian_diffusion', schedule='linear').check(
      base.Space(V, 4, 4, ordinal=False)
    )
  with pytest.raises(ValueError, match='objective.schedule'):
    objectives.get('gaussian_diffusion', schedule='sigmoid')


def test_the_real_backbone_runs_clean_noisy_and_with_gradients():
  space = base.Space(vocabulary=V, length=4, dims=4, ordinal=True)
  config = ModelConfig(vocabulary=V, length=4, width=8, layers=1, heads=2, time_input=True)
  apply = transformer.make_apply(config)
  objective = objectives.get('gaussian_diffusion', schedule='linear')
  params = {'backbone': transformer.init(config, jax.random.key(0)), 'objective': {}}
  batch = {'tokens': jnp.arange(8).reshape(2, 4), 'label': jnp.zeros(2, jnp.int32)}
  batch |= scoring.draw(jax.random.key(0), 2, 1.0)
  loss = scoring.make_loss(objective, apply, space)
  gradient = jax.grad(lambda p: loss(p, batch)[0])(params)
  assert float(jnp.abs(gradient['backbone']['output_DxV']).max()) > 0
  clean = objective.probe_view(jnp.array([0, 1, 2, 7]), space, None, None)
  np.testing.assert_array_equal(np.argmax(clean.inputs, -1), [0, 1, 2, 7])
  noisy = objective.probe_view(jnp.array([0, 1, 2, 7]), space, 0.9, jax.random.key(0))
  np.testing.assert_allclose(noisy.inputs.sum(-1), 1, rtol=1e-5)
  assert not np.any(noisy.inputs[:, V])


def test_the_mean_level_is_no_matrix_product():
  """An accelerator would round a product to bfloat16; the compiler must see none."""
  p = jax.ShapeDtypeStruct((2, 3, 256), jnp.float32)
  assert 'dot_general' not in str(jax.make_jaxpr(gd.mean_level)(p))
  weights = np.random.default_rng(0).dirichlet(np.ones(256), (2, 3)).astype(np.float32)
  expected = weights.astype(np.float64) @ ((2 * np.arange(256) + 1) / 256 - 1)
  np.testing.assert_allclose(gd.mean_level(jnp.asarray(weights)), expected, atol=1e-6)


def test_simple_weights_are_scored_by_the_bound_of_gaussian_diffusion():
  simple, linear = (
    objectives.get('gaussian_simple'), objectives.get('gaussian_diffusion', schedule='linear')
  )  # fmt: skip
  (other,) = simple.also(SPACE).values()
  assert other.code is base.Code.UPPER_BOUND
  space = base.Space(vocabulary=V, length=4, dims=4, ordinal=True)
  config = ModelConfig(vocabulary=V, length=4, width=8, layers=1, heads=2, time_input=True)
  shapes = jax.eval_shape(lambda key: transformer.init(config, key), jax.random.key(0))
  rng = np.random.default_rng(0)
  moved = jax.tree.map(lambda x: jnp.asarray(0.4 * rng.normal(size=x.shape), jnp.float32), shapes)
  # The parameters of a run of its own: none beside the backbone's.
  params = {'backbone': moved, 'objective': simple.init(jax.random.key(0), space, 8)}
  apply, batch = transformer.make_apply(config), {
    'tokens': jax.random.randint(jax.random.key(1), (16, 4), 0, V),
    'label': jnp.zeros(16, jnp.int32),
    'index': jnp.arange(16),
  }  # fmt: skip

  def nats(objective, draws):
    evaluate = jax.jit(scoring.make_evaluation(objective, apply, space, draws))
    return np.asarray(evaluate(params, batch, jax.random.key(0))['nats'])

  np.testing.assert_array_equal(nats(other, 3), nats(linear, 3))

  class Cosine(type(linear)):
    """The same bound at the times that the simple weighting was trained at."""

    gamma = type(simple).gamma

  cosine = nats(Cosine(schedule='linear'), 2000)
  np.testing.assert_allclose(cosine.mean(), nats(other, 2000).mean(), rtol=0.01)
