"""Attention patterns: masks written out by hand, what the backbone makes of them, and alphabets."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import decoding, patterns, transformer
from models.config import ModelConfig
import objectives
from objectives import base, scoring

T = 6
CONFIG = ModelConfig(vocabulary=5, length=T, width=16, layers=3, heads=2)
# Who sees whom in one layer: rows look, columns are looked at.
MASKS = {
  ('full',): ['111111'] * 6,
  ('causal',): ['100000', '110000', '111000', '111100', '111110', '111111'],
  ('prefix', 3): ['111000', '111000', '111000', '111100', '111110', '111111'],
  ('blocks', 2): ['110000', '110000', '111100', '111100', '111111', '111111'],
  # Three tokens in blocks of two and one: their noisy slots, then their clean ones.
  ('noisy_blocks', 2, 3): ['110000', '110000', '001110', '000110', '000110', '000111'],
}


def _params(config: ModelConfig, seed: int = 0):
  shapes = jax.eval_shape(lambda key: transformer.init(config, key), jax.random.key(0))
  rng = np.random.default_rng(seed)
  return jax.tree.map(lambda x: jnp.asarray(0.4 * rng.normal(size=x.shape), jnp.float32), shapes)


def _mask(pattern) -> np.ndarray:
  return np.array([[int(c) for c in row] for row in MASKS[pattern]], bool)


@pytest.mark.parametrize('pattern', MASKS)
def test_a_pattern_is_its_mask(pattern):
  made, positions = patterns.of(pattern), np.arange(T)
  found = made.mask(positions, positions, None)
  np.testing.assert_array_equal(True if found is None else found, _mask(pattern))
  assert made.share(T, 3) == pytest.approx(_mask(pattern).mean())
  assert made == patterns.of(pattern) and hash(made) == hash(patterns.of(pattern))


@pytest.mark.parametrize('pattern', MASKS)
def test_the_backbone_sees_what_the_pattern_lets_it(pattern):
  """Several layers reach as far as paths through the mask do."""
  params, apply = _params(CONFIG), jax.jit(
    lambda p, x: transformer.make_apply(CONFIG)(p, x, pattern=pattern).logits_BxTxV
  )  # fmt: skip
  tokens = jax.random.randint(jax.random.key(0), (2, T), 0, 5)
  reach = np.linalg.matrix_power(_mask(pattern).astype(int), CONFIG.layers) > 0
  before = apply(params, tokens)
  for j in range(T):
    after = apply(params, tokens.at[:, j].set((tokens[:, j] + 1) % 5))
    changed = np.abs(before - after).max(axis=(0, 2)) > 0
    np.testing.assert_array_equal(changed, reach[:, j])


def test_the_share_of_a_window_is_the_mean_over_its_layers():
  # 1 + (w1 - 1) + (w2 - 1) = 4: windows 3 and 2 of five tokens see 12 and 9 of 25 pairs.
  assert patterns.Causal(4).share(5, 2) == pytest.approx((12 + 9) / 2 / 25)
  flops = ModelConfig(5, 5, 8, 2, 2).forward_flops
  weights = 2 * (2 * 12 * 8**2 + 8 * 5) * 5
  assert flops(('causal', 4)) == pytest.approx(weights + 4 * 2 * 5**2 * 8 * 21 / 50)
  assert flops(('full',), soft_inputs=True) == weights + 2 * 6 * 8 * 5 + 4 * 2 * 5**2 * 8
  assert flops(('full',), tokens=10) == 2 * weights + 4 * 2 * 10**2 * 8


def test_positions_are_rows_of_the_table():
  """Two copies of a sequence that can't see each other's slots are the sequence, twice."""
  params, apply = _params(CONFIG), transformer.make_apply(CONFIG)
  tokens = jax.random.randint(jax.random.key(0), (2, T), 0, 5)
  once = apply(params, tokens, pattern=('causal',)).logits_BxTxV
  order = np.array([3, 1, 0, 5, 2, 4])
  moved = apply(params, tokens[:, order], pattern=('full',), positions_T=order).logits_BxTxV
  still = apply(params, tokens, pattern=('full',)).logits_BxTxV
  np.testing.assert_allclose(moved, still[:, order], atol=1e-5)
  twice = jnp.concatenate([tokens, tokens], axis=1)
  both = apply(
    params, twice, pattern=('causal',), positions_T=np.tile(np.arange(T), 2)
  ).logits_BxTxV
  np.testing.assert_allclose(both[:, :T], once, atol=1e-5)
  assert np.abs(both[:, T:] - once).max() > 1e-3  # the second copy sees the first


@pytest.mark.parametrize('order', ['raster', 'reversed'])
def test_alphabets_that_differ_by_position(order):
  """Probabilities of what the positions can hold add up to 1, and samples hold nothing else."""
  sizes = (2, 3, 4)
  space = base.Space(vocabulary=4, length=3, dims=3, alphabets=sizes)
  objective = objectives.get('autoregressive', order=order)
  asked = objective.backbone(space)
  assert asked.alphabets == (sizes if order == 'raster' else sizes[::-1])
  config = ModelConfig(4, 3, 16, 1, 2, alphabets=asked.alphabets)
  params, apply = _params(config, seed=1), transformer.make_apply(config)
  sequences = np.array(list(itertools.product(*map(range, sizes))), np.int32)
  evaluate = jax.jit(scoring.make_evaluation(objective, apply, space, 1))
  batch = {'tokens': sequences, 'label': np.zeros(24, np.int32), 'index': np.arange(24)}
  nats = evaluate({'backbone': params}, batch, jax.random.key(0))['nats']
  assert np.exp(-np.asarray(nats, np.float64)).sum() == pytest.approx(1, abs=1e-6)

  def decode(key, count, pattern):
    return decoding.make_decode(config)(params, key, count, pattern)

  samples = np.asarray(objective.sample(base.Network(None, decode), jax.random.key(1), 500, space))
  np.testing.assert_array_equal(samples.max(0) + 1, sizes)
  with pytest.raises(ValueError, match='3 alphabets of 1..4 values'):
    ModelConfig(4, 3, 16, 1, 2, alphabets=(2, 3, 5))


def test_recomputation_saves_memory_and_is_refused_where_it_could_not():
  """By the compiler's own count."""
  shape = dict(vocabulary=16, length=64, width=64, layers=6, heads=4)
  tokens = jax.ShapeDtypeStruct((16, 64), jnp.int32)

  def temporaries(**changes) -> int:
    config = ModelConfig(**shape, **changes)
    apply = transformer.make_apply(config)
    params = jax.eval_shape(lambda: transformer.init(config, jax.random.key(0)))

    def loss(params, tokens):
      return jnp.sum(jnp.sin(apply(params, tokens, pattern=('causal',)).logits_BxTxV))

    compiled = jax.jit(jax.grad(loss)).lower(params, tokens).compile()
    return compiled.memory_analysis().temp_size_in_bytes

  assert temporaries(remat=True) < 0.5 * temporaries()
  with pytest.raises(ValueError, match="model.remat needs model.unroll 'never'"):
    ModelConfig(**shape, remat=True, unroll=True)
