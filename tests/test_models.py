"""The backbone: causality, masks, initialisation, scan against loop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import transformer
from models.config import PRESETS, ModelConfig


def _config(**changes) -> ModelConfig:
  return ModelConfig(
    **{'vocabulary': 5, 'length': 7, 'width': 16, 'layers': 3, 'heads': 2} | changes
  )


def _trained(config: ModelConfig, seed: int = 0):
  """Parameters away from initialisation, where the zero output table would hide everything."""
  params = transformer.init(config, jax.random.key(seed))
  leaves, tree = jax.tree.flatten(params)
  keys = jax.random.split(jax.random.key(seed + 1), len(leaves))
  moved = [x + 0.3 * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)]
  return jax.tree.unflatten(tree, moved)


def _tokens(config: ModelConfig, batch: int = 2) -> jax.Array:
  return jax.random.randint(jax.random.key(9), (batch, config.length), 0, config.vocabulary)


def test_causal_logits_ignore_the_present_and_the_future():
  config = _config()
  params, apply = _trained(config), transformer.make_apply(config)
  tokens = _tokens(config)
  before = apply(params, tokens, pattern=('causal',), shift=True).logits_BxTxV
  for j in range(config.length):
    changed = tokens.at[:, j].set((tokens[:, j] + 1) % config.vocabulary)
    after = apply(params, changed, pattern=('causal',), shift=True).logits_BxTxV
    np.testing.assert_array_equal(before[:, : j + 1], after[:, : j + 1])
    if j + 1 < config.length:
      assert np.abs(before[:, j + 1 :] - after[:, j + 1 :]).max() > 1e-3


def test_full_attention_sees_everything():
  config = _config()
  params, apply = _trained(config), transformer.make_apply(config)
  tokens = _tokens(config)
  before = apply(params, tokens, pattern=('full',)).logits_BxTxV
  changed = tokens.at[:, -1].set((tokens[:, -1] + 1) % config.vocabulary)
  after = apply(params, changed, pattern=('full',)).logits_BxTxV
  assert np.abs(before - after).max(axis=(0, 2)).min() > 1e-4


@pytest.mark.parametrize('window', [1, 2, 4, 5, 7])
def test_window_is_the_reach_of_the_whole_network(window):
  """With the shift, position t sees exactly the `window` tokens before it, whatever the depth."""
  config = _config()
  params, apply = _trained(config), transformer.make_apply(config)
  tokens = _tokens(config)

  def logits(tokens):
    return apply(params, tokens, pattern=('causal', window), shift=True).logits_BxTxV

  before = logits(tokens)
  for j in range(config.length):
    after = logits(tokens.at[:, j].set((tokens[:, j] + 1) % config.vocabulary))
    changed = np.abs(before - after).max(axis=(0, 2)) > 0
    expected = [0 < t - j <= window for t in range(config.length)]
    np.testing.assert_array_equal(changed, expected)


def test_a_window_of_everything_changes_nothing():
  config = _config(layers=1)
  params, apply = _trained(config), transformer.make_apply(config)
  tokens = _tokens(config)
  a = apply(params, tokens, pattern=('causal',), shift=True).logits_BxTxV
  b = apply(params, tokens, pattern=('causal', 7), shift=True).logits_BxTxV
  np.testing.assert_array_equal(a, b)


def test_one_hot_inputs_equal_ids():
  config = _config()
  params, apply = _trained(config), transformer.make_apply(config)
  tokens = _tokens(config)
  soft = jax.nn.one_hot(tokens, config.vocabulary + 1)
  ids = apply(params, tokens, pattern=('full',)).logits_BxTxV
  np.testing.assert_allclose(
    ids, apply(params, soft, pattern=('full',)).logits_BxTxV, rtol=1e-5, atol=1e-5
  )


def _reference(config: ModelConfig, params, tokens, causal: bool):
  """The same network written per layer, per head, in float64 NumPy."""
  p = jax.tree.map(lambda x: np.asarray(x, np.float64), params)

  def norm(x, gain):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + config.norm_epsilon) * gain

  h = p['token_table'][tokens]
  if causal:
    start = np.broadcast_to(p['start_D'], (len(tokens), 1, config.width))
    h = np.concatenate([start, h[:, :-1]], axis=1)
  h = h + p['position_table']
  residuals, inputs = [h], []
  width = config.width // config.heads
  for layer in range(config.layers):
    block = jax.tree.map(lambda x, layer=layer: x[layer], p['blocks'])
    x = norm(h, block['norm_attention']['scale'])
    inputs.append(x)
    q, k, v = np.split(x @ block['qkv_Dx3D'], 3, axis=-1)
    heads = []
    for i in range(config.heads):
      part = slice(i * width, (i + 1) * width)
      scores = q[..., part] @ k[..., part].swapaxes(1, 2) / np.sqrt(width)
      if causal:
        scores = np.where(np.tri(config.length, dtype=bool), scores, -np.inf)
      weights = np.exp(scores - scores.max(-1, keepdims=True))
      heads.append(weights / weights.sum(-1, keepdims=True) @ v[..., part])
    h = h + np.concatenate(heads, -1) @ block['out_DxD']
    z = norm(h, block['norm_mlp']['scale']) @ block['mlp_in_DxF']
    h = h + z / (1 + np.exp(-1.702 * z)) @ block['mlp_out_FxD']
    residuals.append(h)
  final = norm(h, p['norm_final']['scale'])
  inputs.append(final)
  return final @ p['output_DxV'], np.stack(inputs), np.stack(residuals)


@pytest.mark.parametrize('causal', [True, False])
@pytest.mark.parametrize('remat', [True, False])
def test_scan_equals_a_loop_written_by_hand(causal, remat):
  config = _config(remat=remat)
  params, tokens = _trained(config), _tokens(config)
  outputs = transformer.make_apply(config)(
    params,
    tokens,
    pattern=('causal',) if causal else ('full',),
    shift=causal,
    read=lambda x: x,
    residuals=True,
  )
  logits, inputs, residuals = _reference(config, params, np.asarray(tokens), causal)
  np.testing.assert_allclose(outputs.logits_BxTxV, logits, rtol=2e-4, atol=2e-4)
  np.testing.assert_allclose(outputs.reads, inputs, rtol=2e-4, atol=2e-4)
  np.testing.assert_allclose(outputs.residuals, residuals, rtol=2e-4, atol=2e-4)
  np.testing.assert_array_equal(outputs.final_BxTxD, outputs.reads[-1])


def test_gradients_depend_neither_on_what_is_kept_nor_on_unrolling():
  tokens = _tokens(_config())
  quick = {'xla_backend_optimization_level': 0, 'xla_llvm_disable_expensive_passes': True}

  def gradient(**changes):
    config = _config(layers=2, **changes)
    apply = transformer.make_apply(config)

    def loss(params):
      return jnp.sum(jnp.sin(apply(params, tokens, pattern=('causal',), shift=True).logits_BxTxV))

    return jax.jit(jax.grad(loss), compiler_options=quick)(_trained(config))

  expected = gradient()
  for changes in (
    {'remat': True},
    {'remat': True, 'remat_policy': 'dots'},
    {'unroll': True},
  ):
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4),
      gradient(**changes),
      expected,
    )


def test_initialisation_has_the_published_spread():
  config = _config(vocabulary=300, length=400, width=128, layers=4, heads=4)
  params = transformer.init(config, jax.random.key(0))
  expected = {
    'token_table': 0.02,
    'position_table': 0.01,
    'qkv_Dx3D': 1 / np.sqrt(128),
    'out_DxD': 1 / np.sqrt(128 * 4),
    'mlp_in_DxF': 0.02,
    'mlp_out_FxD': 0.02,
  }
  found = params | params['blocks']
  for name, std in expected.items():
    np.testing.assert_allclose(np.std(found[name]), std, rtol=0.03)
  assert not np.any(params['output_DxV'])
  # Every layer is drawn anew.
  assert np.abs(params['blocks']['out_DxD'][0] - params['blocks']['out_DxD'][1]).max() > 0.01


def test_output_can_not_name_the_mask():
  config = _config()
  params = transformer.init(config, jax.random.key(0))
  assert params['token_table'].shape[0] == config.vocabulary + 1
  assert params['output_DxV'].shape[1] == config.vocabulary


def test_bfloat16_computes_close_to_float32_with_float32_parameters():
  params = _trained(_config())
  tokens = _tokens(_config())
  exact, rough = (
    transformer.make_apply(_config(compute_dtype=d))(
      params, tokens, pattern=('causal',), shift=True
    )
    for d in ('float32', 'bfloat16')
  )
  assert rough.logits_BxTxV.dtype == jnp.float32
  scale = np.abs(exact.logits_BxTxV).max()
  difference = np.abs(exact.logits_BxTxV - rough.logits_BxTxV).max()
  assert 1e-5 * scale < difference < 0.1 * scale


def test_analytic_flops_and_parameters():
  config = ModelConfig(vocabulary=17, length=64, **PRESETS['nano'])
  params = transformer.init(config, jax.random.key(0))
  kernels = {**params['blocks'], 'output': params['output_DxV']}
  counted = sum(kernels[n].size for n in kernels if not n.startswith('norm'))
  assert config.matmul_parameters() == counted == 4 * 12 * 64**2 + 64 * 17
  # 6 N tokens + 12 L T^2 D a sequence for a step, a third of it for a forward pass.
  expected = (6 * counted * 64 + 12 * 4 * 64**2 * 64) / 3
  assert config.forward_flops() == expected
  compiled = jax.jit(
    lambda p, x: (
      transformer.make_apply(ModelConfig(17, 64, 64, 1, 4))(p, x, pattern=('full',)).logits_BxTxV
    )
  )
  one_layer = ModelConfig(17, 64, 64, 1, 4)
  tree = transformer.init(one_layer, jax.random.key(0))
  cost = compiled.lower(tree, jnp.zeros((1, 64), jnp.int32)).compile().cost_analysis()
  assert 0.9 < cost['flops'] / one_layer.forward_flops() < 1.25


@pytest.mark.parametrize('name', PRESETS)
def test_presets_can_be_built(name):
  config = ModelConfig(vocabulary=512, length=1024, **PRESETS[name])
  shapes = jax.eval_shape(lambda key: transformer.init(config, key), jax.random.key(0))
  total = sum(leaf.size for leaf in jax.tree.leaves(shapes))
  # Published sizes, in millions of parameters (Chen et al. 2020).
  published = {'igpt_s': 76, 'igpt_m': 455, 'igpt_l': 1362, 'igpt_xl': 6801}
  if name in published:
    assert abs(total / 1e6 / published[name] - 1) < 0.02


def test_bad_shapes_are_refused():
  with pytest.raises(ValueError, match='not a multiple of model.heads'):
    _config(heads=3)
  with pytest.raises(ValueError, match='model.compute_dtype'):
    _config(compute_dtype='float16')
  with pytest.raises(ValueError, match='without a time input'):
    config = _config()
    transformer.make_apply(config)(
      _trained(config), _tokens(config), pattern=('full',), time_B=jnp.zeros(2)
    )


def test_time_input_starts_silent_and_can_speak():
  config = _config(time_input=True)
  params, apply = transformer.init(config, jax.random.key(0)), transformer.make_apply(config)
  params['output_DxV'] = jnp.ones_like(params['output_DxV'])
  tokens, early, late = _tokens(config), jnp.zeros(2), jnp.ones(2)

  def difference(params):
    a, b = (apply(params, tokens, pattern=('full',), time_B=t).final_BxTxD for t in (early, late))
    return float(jnp.abs(a - b).max())

  assert difference(params) == 0
  params['time_DxD'] = params['time_DxD'] + 0.1
  assert difference(params) > 1e-3


def test_apply_leaves_the_module_reusable():
  config = _config()
  apply = transformer.make_apply(config)
  first, second = _trained(config, 0), _trained(config, 5)
  tokens = _tokens(config)
  a = apply(first, tokens, pattern=('full',)).logits_BxTxV
  b = apply(second, tokens, pattern=('full',)).logits_BxTxV
  assert np.abs(a - b).max() > 1e-2
  np.testing.assert_array_equal(a, apply(first, tokens, pattern=('full',)).logits_BxTxV)
