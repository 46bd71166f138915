"""Samples against enumerated distributions, and the cached step against the whole forward pass.

The tiny source has V = 3 values and T = 4 tokens: 81 sequences. Expected frequencies never come
from the code that draws.
"""

import functools
import itertools
import math
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from models import decoding, transformer
from models.config import PRESETS, ModelConfig
from models.patterns import Causal
import objectives
from objectives import base

V, T = 3, 4
SPACE = base.Space(vocabulary=V, length=T, dims=T)
SEQUENCES = np.array(list(itertools.product(range(V), repeat=T)))
MASK = V


@functools.cache
def _moved(config: ModelConfig, seed: int = 0):
  """Parameters away from initialisation, where the zero output table would hide everything."""
  shapes = jax.eval_shape(lambda key: transformer.init(config, key), jax.random.key(0))
  rng = np.random.default_rng(seed)
  return jax.tree.map(lambda x: jnp.asarray(0.4 * rng.normal(size=x.shape), jnp.float32), shapes)


def _whole(config: ModelConfig, params, tokens, window=None) -> np.ndarray:
  """Logits BxTxV of one pass over whole sequences."""
  apply = transformer.make_apply(config)
  run = jax.jit(lambda p, x: apply(p, x, pattern=Causal(window), shift=True).logits_BxTxV)
  return np.asarray(run(params, jnp.asarray(tokens, jnp.int32)))


def _p_value(samples: np.ndarray, p: np.ndarray, vocabulary: int = V) -> float:
  """Chi-squared of samples NxT against p over all sequences; rare cells are pooled into one."""
  index = np.ravel_multi_index(np.asarray(samples).T, (vocabulary,) * samples.shape[1])
  found, expected = np.bincount(index, minlength=len(p)), len(samples) * p / p.sum()
  rare = expected < 5
  assert rare.sum() < len(p) / 2
  if rare.any():
    found = np.append(found[~rare], found[rare].sum())
    expected = np.append(expected[~rare], expected[rare].sum())
  return float(stats.chisquare(found, expected).pvalue)


# The cached step.


def _make_score(config: ModelConfig):
  """score(params, tokens_BxT, pattern) -> logits BxTxV by the step that draws, fed these tokens."""
  bind = transformer.make_bind(config)

  def score(params, tokens_BxT, pattern=None):
    inputs_TxB = tokens_BxT.astype(jnp.int32).T
    walked = (config, bind(params), len(tokens_BxT), pattern or Causal(), inputs_TxB)
    logits_TxBxV = decoding._walk(*walked, lambda logits_BxV, token_B: (token_B, logits_BxV))
    return logits_TxBxV.transpose(1, 0, 2)

  return score


def _small(**changes) -> ModelConfig:
  return ModelConfig(
    **{'vocabulary': 5, 'length': 7, 'width': 16, 'layers': 3, 'heads': 2} | changes
  )


@pytest.mark.parametrize(
  'window,pieces', [(None, 'one'), (None, 'four'), (1, 'one'), (5, 'four'), (9, 'one')]
)
def test_cached_logits_equal_those_of_a_whole_pass(window, pieces, monkeypatch):
  monkeypatch.setattr(decoding, '_SHORTEST_PIECE', {'one': 64, 'four': 1}[pieces])
  # A time input, where there is one, has nothing to say here.
  config = _small(time_input=pieces == 'four')
  assert decoding.piece_edges(7) == {'one': [0, 7], 'four': [0, 2, 4, 6, 7]}[pieces]
  params = _moved(config)
  tokens = jax.random.randint(jax.random.key(9), (3, 7), 0, 5)
  whole = _whole(config, params, tokens, window)
  cached = jax.jit(_make_score(config), static_argnums=2)(params, tokens, Causal(window))
  assert np.std(whole) > 0.5
  np.testing.assert_allclose(cached, whole, atol=1e-4)


def test_cached_logits_in_bfloat16_are_as_close_as_bfloat16_is():
  params = _moved(_small())
  tokens = jax.random.randint(jax.random.key(9), (3, 7), 0, 5)
  exact = _whole(_small(), params, tokens)
  rough_config = _small(compute_dtype='bfloat16')
  whole = _whole(rough_config, params, tokens)
  cached = jax.jit(_make_score(rough_config))(params, tokens)
  assert cached.dtype == jnp.float32
  cache = decoding.empty_cache(rough_config, 3)
  assert len(cache) == 3 and {x.dtype for x in jax.tree.leaves(cache)} == {jnp.dtype(jnp.bfloat16)}
  scale = np.abs(exact).max()
  assert 1e-4 * scale < np.abs(cached - exact).max() < 0.05 * scale
  assert np.abs(cached - whole).max() < 0.05 * scale


def test_patterns_that_do_not_decode_are_refused():
  config = _small()
  for pattern, message in ((('causal', 0), 'at least one token'), (('full',), 'does not decode')):
    with pytest.raises(ValueError, match=message):
      decoding.make_decode(config)(_moved(config), jax.random.key(0), 2, pattern)


def _matmul_flops(jaxpr) -> int:
  """FLOPs of all matrix products, loop bodies as often as they run."""
  total = 0
  for equation in jaxpr.eqns:
    if equation.primitive.name == 'dot_general':
      (contracted, _), _ = equation.params['dimension_numbers']
      inner = math.prod(equation.invars[0].aval.shape[i] for i in contracted)
      total += 2 * inner * math.prod(equation.outvars[0].aval.shape)
    times = equation.params.get('length', 1) if equation.primitive.name == 'scan' else 1
    for value in equation.params.values():
      inside = getattr(value, 'jaxpr', value)
      if hasattr(inside, 'eqns'):
        total += times * _matmul_flops(inside)
  return total


def _step_flops(config: ModelConfig, rows: int, slots: int) -> int:
  bind = transformer.make_bind(config)

  def step(params, cache, token_B, position):
    return decoding.step(bind(params), cache, token_B, position, Causal())

  params = jax.eval_shape(lambda key: transformer.init(config, key), jax.random.key(0))
  arguments = (
    params,
    decoding.grow(decoding.empty_cache(config, rows), slots),
    jnp.zeros(rows, jnp.int32),
    0,
  )
  return _matmul_flops(jax.make_jaxpr(step)(*arguments).jaxpr)


def test_a_token_costs_flops_linear_in_its_position():
  config = ModelConfig(vocabulary=17, length=256, **PRESETS['nano'])
  weights, slope = 2 * config.matmul_parameters(), 4 * config.layers * config.width
  for slots in (1, 64, 128, 256):
    assert _step_flops(config, rows=3, slots=slots) == 3 * (weights + slope * slots)


@pytest.mark.parametrize('length,edges', [(64, [0, 64]), (256, [0, 64, 128, 192, 256])])
def test_a_sample_costs_no_more_than_one_forward_pass(length, edges):
  """Without a cache it would cost `length` of them."""
  config = ModelConfig(vocabulary=17, length=length, **PRESETS['nano'])
  assert decoding.piece_edges(length) == edges
  params = jax.eval_shape(lambda key: transformer.init(config, key), jax.random.key(0))
  decode = jax.make_jaxpr(decoding.make_decode(config), static_argnums=2)
  found = _matmul_flops(decode(params, jax.random.key(0), 2).jaxpr) / 2
  slots = sum((end - start) * end for start, end in itertools.pairwise(edges))
  weights = 2 * config.matmul_parameters() * length
  assert found == weights + 4 * config.layers * config.width * slots
  assert found <= config.forward_flops()


@pytest.mark.parametrize('length', [1, 4, 63, 65, 130, 784, 3072])
def test_the_cache_grows_to_the_whole_length_in_at_most_four_pieces(length):
  edges = decoding.piece_edges(length)
  assert edges[0] == 0 and edges[-1] == length and len(edges) <= 5
  assert np.all(np.diff(edges) > 0)


# Autoregressive samples.


def _tiny_backbone(length: int = T):
  config = ModelConfig(vocabulary=V, length=length, width=8, layers=2, heads=2)
  network = base.Network(transformer.make_apply(config), decoding.make_decode(config))
  return config, _moved(config, seed=3), network


def _slot_probabilities(config, params, window=None) -> np.ndarray:
  """The model's exact probability of every sequence of slots, by whole passes."""
  logits = _whole(config, params, SEQUENCES, window).astype(np.float64)
  log_p = special.log_softmax(logits, axis=-1)
  return np.exp(np.take_along_axis(log_p, SEQUENCES[..., None], -1)[..., 0].sum(1))


def _sample(objective, network, params, count, space=SPACE) -> np.ndarray:
  """Samples NxT; `params` are the backbone's."""

  @jax.jit
  def draw(params, key):
    bound = base.Network(*(f and functools.partial(f, params) for f in network))
    return objective.sample(bound, key, count, space)

  samples = draw(params, jax.random.key(0))
  assert samples.dtype == jnp.int32 and samples.shape == (count, space.length)
  return np.asarray(samples)


@pytest.mark.parametrize('context', [0, 2])
def test_autoregressive_samples_follow_the_model(context):
  config, params, network = _tiny_backbone()
  objective = objectives.get('autoregressive', context=context)
  p = _slot_probabilities(config, params, context or None)
  assert p.sum() == pytest.approx(1, abs=1e-5) and p.max() / p.min() > 20
  samples = _sample(objective, network, params, 10_000)
  assert _p_value(samples, p) > 0.001
  # The test has teeth: the model of another context is told apart.
  other = _slot_probabilities(config, params, None if context else 1)
  assert _p_value(samples, other) < 1e-6


@pytest.mark.parametrize('order', ['reversed', 'random'])
def test_permuted_samples_are_put_back_in_place(order):
  config, params, network = _tiny_backbone()
  # A random order that is not its own inverse, or putting back would equal permuting again.
  objective = objectives.get('autoregressive', order=order, order_seed=0)
  slot_of = objective.permutation(SPACE)
  assert (slot_of[slot_of].tolist() == list(range(T))) == (order == 'reversed')
  p_slots = _slot_probabilities(config, params).reshape((V,) * T)
  # p(x) = p_slots(x_o(0), ..., x_o(3)).
  p = np.array([p_slots[tuple(x[slot_of])] for x in SEQUENCES])
  samples = _sample(objective, network, params, 10_000)
  assert _p_value(samples, p) > 0.001
  assert _p_value(samples, p_slots.ravel()) < 1e-6
  # Training sees in slot t what sampling put into slot t.
  view = objective.view(base.Example(jnp.asarray(samples[0]), 0, 0.0, None), SPACE)
  np.testing.assert_array_equal(view.inputs, samples[0][slot_of])


# Masked diffusion.


def _source(seed: int) -> np.ndarray:
  """Probabilities of all 81 sequences, far from independent; (V, V, V, V)."""
  return special.softmax(np.random.default_rng(seed).normal(size=81)).reshape((V,) * T)


def _conditionals(p: np.ndarray) -> dict[tuple, np.ndarray]:
  """Exact p(x_i | visible tokens), TxV, for every sequence of tokens and MASKs.

  A visible token's own row is one-hot, as Bayes has it.
  """
  tables = {}
  for key in itertools.product(range(V + 1), repeat=T):
    kept = np.zeros_like(p)
    where = tuple(slice(None) if k == MASK else k for k in key)
    kept[where] = p[where]
    axes = [tuple(j for j in range(T) if j != i) for i in range(T)]
    tables[key] = np.stack([kept.sum(a) for a in axes]) / kept.sum()
  return tables


def _lookup(tables: dict[tuple, np.ndarray], length: int = T):
  """A backbone that looks its answer up, by the first T tokens alone."""
  flat = np.log(np.maximum(np.stack(list(tables.values())), 1e-30)).astype(np.float32)
  flat = jnp.pad(jnp.asarray(flat), ((0, 0), (0, length - T), (0, 0)))

  def apply(params, inputs, *, pattern, shift=False):
    del params
    assert pattern == ('full',)
    index = sum(inputs[:, i] * (V + 1) ** (T - 1 - i) for i in range(T))
    return types.SimpleNamespace(logits_BxTxV=flat[index])

  return base.Network(apply, decode=None)


def test_masked_diffusion_samples_follow_exact_conditionals():
  p = _source(0)
  network = _lookup(_conditionals(p))
  samples = _sample(objectives.get('masked_diffusion'), network, {}, 10_000)
  assert _p_value(samples, p.ravel()) > 0.001
  assert _p_value(samples, _source(1).ravel()) < 1e-6


def test_masked_diffusion_samples_follow_the_mixture_over_orders():
  """Conditionals of no joint distribution: each order has its own, and all 24 are as likely."""
  rng = np.random.default_rng(0)
  sources = [_conditionals(_source(10 + i)) for i in range(3)]
  tables = {key: sources[rng.integers(3)][key] for key in sources[0]}
  by_order = []
  for order in itertools.permutations(range(T)):
    p = np.ones(len(SEQUENCES))
    for n, sequence in enumerate(SEQUENCES):
      key = [MASK] * T
      for i in order:
        p[n] *= tables[tuple(key)][i, sequence[i]]
        key[i] = int(sequence[i])
    by_order.append(p)
  samples = _sample(objectives.get('masked_diffusion'), _lookup(tables), {}, 10_000)
  assert _p_value(samples, np.mean(by_order, axis=0)) > 0.001
  assert _p_value(samples, by_order[0]) < 1e-6


def test_an_end_token_stays_0():
  space = base.Space(vocabulary=V, length=T + 1, dims=T)
  p = _source(0)
  network = _lookup(_conditionals(p), length=T + 1)
  samples = _sample(objectives.get('masked_diffusion'), network, {}, 10_000, space=space)
  assert not samples[:, T].any()
  assert _p_value(samples[:, :T], p.ravel()) > 0.001

  _, params, network = _tiny_backbone(length=T + 1)
  samples = _sample(objectives.get('autoregressive'), network, params, 500, space=space)
  assert not samples[:, T].any() and samples[:, :T].any(axis=0).all()


def test_the_key_decides():
  _, params, network = _tiny_backbone()
  decode = jax.jit(network.decode, static_argnums=2)
  a, b, c = (np.asarray(decode(params, jax.random.key(s), 100)) for s in (0, 0, 1))
  np.testing.assert_array_equal(a, b)
  assert np.mean(a != c) > 0.1


# Gaussian diffusion.


def _optimal(p_xx: np.ndarray) -> base.Network:
  """What the other pixel's noisy value says of each of two pixels, exactly.

  The soft input of a pixel is its own likelihood over levels up to a constant, so the other
  pixel's is sum_u p(v, u) w_u. A third position is an end token of which nonsense is predicted.
  """
  joint = jnp.asarray(p_xx, jnp.float32)

  def apply(params, soft, *, pattern, shift=False, time_B):
    del params
    assert pattern == ('full',) and time_B.shape == soft.shape[:1]
    first, second = soft[:, 1, :-1] @ joint.T, soft[:, 0, :-1] @ joint
    nonsense = jnp.broadcast_to(50 * jax.nn.one_hot(2, len(p_xx))[None], first.shape)
    logits = jnp.stack([jnp.log(first), jnp.log(second), nonsense], axis=1)
    return types.SimpleNamespace(logits_BxTxV=logits)

  return base.Network(apply, decode=None)


def test_gaussian_samples_follow_the_prior_of_a_lone_pixel():
  prior = np.random.default_rng(0).dirichlet(np.ones(8))
  space = base.Space(vocabulary=8, length=1, dims=1, ordinal=True)

  def apply(params, soft, *, pattern, shift=False, time_B):
    del params, pattern, time_B
    logits_V = jnp.log(jnp.asarray(prior, jnp.float32))
    return types.SimpleNamespace(logits_BxTxV=jnp.broadcast_to(logits_V, (len(soft), 1, 8)))

  network = base.Network(apply, decode=None)
  samples = _sample(objectives.get('gaussian_diffusion'), network, {}, 20_000, space=space)
  found = np.bincount(samples[:, 0], minlength=8) / len(samples)
  # Steps are finite: total variation, not chi-squared.
  assert 0.5 * np.abs(found - prior).sum() < 0.02


def test_gaussian_samples_follow_the_joint_of_two_pixels_and_end_in_0():
  p_xx = np.random.default_rng(2).dirichlet(np.full(16, 0.5)).reshape(4, 4)
  space = base.Space(vocabulary=4, length=3, dims=2, ordinal=True)
  network = _optimal(p_xx)
  samples = _sample(objectives.get('gaussian_diffusion'), network, {}, 20_000, space=space)
  found = np.bincount(samples[:, 0] * 4 + samples[:, 1], minlength=16) / len(samples)
  assert 0.5 * np.abs(found - p_xx.ravel()).sum() < 0.025
  independent = np.outer(p_xx.sum(1), p_xx.sum(0))
  assert 0.5 * np.abs(found - independent.ravel()).sum() > 0.2
  assert not samples[:, 2].any()


# Rare tokens.

# One token at 0 nats and 2^20 - 1 at -18.4: together they come in 1 % of the draws, but the
# default Gumbel noise, which ends at 15.9 nats, could reach them once in 10^7. A search found
# keys with which they do come; that costs two draws here instead of hundreds.
RARE = 2**20
RARE_LOGITS = np.where(np.arange(RARE) == 0, 0.0, -18.4).astype(np.float32)


@pytest.mark.parametrize('seed', [34, 200])
def test_draw_tokens_reaches_rare_tokens(seed):
  logits = jnp.asarray(RARE_LOGITS)
  assert int(base.draw_tokens(jax.random.key(seed), logits)) != 0
  assert int(jax.random.categorical(jax.random.key(seed), logits)) == 0


def test_decoding_reaches_rare_tokens():
  config = ModelConfig(vocabulary=RARE, length=1, width=1, layers=1, heads=1)
  params = dict(jax.jit(lambda key: transformer.init(config, key))(jax.random.key(0)))
  # The only position is far from 0, so that its norm is 1.
  params['start_D'] = jnp.full((1,), 1e3)
  params['output_DxV'] = jnp.asarray(RARE_LOGITS)[None]
  logits = jax.jit(_make_score(config))(params, jnp.zeros((1, 1), jnp.int32))
  np.testing.assert_allclose(logits[0, 0, :5], RARE_LOGITS[:5], atol=1e-3)
  decode = jax.jit(decoding.make_decode(config), static_argnums=2)
  assert int(decode(params, jax.random.key(396), 1)[0, 0]) != 0


def test_objectives_without_a_likelihood_draw_nothing():
  for name in objectives.OBJECTIVES:
    objective = objectives.get(name)
    if objective.code is base.Code.NONE:
      assert objective.sample(None, jax.random.key(0), 3, SPACE) is None
