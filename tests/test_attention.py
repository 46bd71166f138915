"""Implementations of attention, and policies of recomputation, give the same numbers."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from models import kernels, layers, patterns, transformer
from models.config import ModelConfig
from runs.errors import UserError

BATCH, HEADS = 2, 2
# Nothing here runs twice: programs that are quick to compile are the quickest.
quickly = functools.partial(
  jax.jit,
  compiler_options={'xla_backend_optimization_level': 0, 'xla_llvm_disable_expensive_passes': True},
)


def _qkv(tokens: int, width: int):
  shape = (3, BATCH * HEADS, tokens, width)
  return tuple(2 * jax.random.normal(jax.random.key(0), shape, jnp.float32))


def _reference(causal: bool, q, k, v):
  mask = jnp.tril(jnp.ones(2 * q.shape[1:2], bool))[None] if causal else None
  return layers.attention(q, k, v, mask)


def _value_and_gradients(attend, qkv):
  weights = jax.random.normal(jax.random.key(1), qkv[2].shape)

  def total(*qkv):
    mixed = attend(*qkv)
    return jnp.sum(weights * mixed), mixed

  (_, mixed), gradients = jax.value_and_grad(total, (0, 1, 2), has_aux=True)(*qkv)
  return mixed, *gradients


def _assert_same(attend, causal: bool, qkv):
  @quickly
  def both(qkv):
    expected = _value_and_gradients(functools.partial(_reference, causal), qkv)
    return _value_and_gradients(attend, qkv), expected

  for a, b in zip(*both(qkv), strict=True):
    assert np.abs(b).max() > 0.1
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('tokens, size', [(6, 2), (7, 3), (5, 4), (9, 1)])
def test_blocks_beside_their_clean_copy_need_half_of_the_products(tokens, size):
  qkv, slots = _qkv(2 * tokens, 8), np.arange(2 * tokens)
  mask = jnp.asarray(patterns.NoisyBlocks(size, tokens).mask(slots, slots, None))[None]

  @quickly
  def both(qkv):
    attend = functools.partial(layers.noisy_block_attention, size=size)
    expected = _value_and_gradients(lambda *qkv: layers.attention(*qkv, mask), qkv)
    return _value_and_gradients(attend, qkv), expected

  for a, b in zip(*both(qkv), strict=True):
    assert np.abs(b).max() > 0.1
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


# Head widths of nano, igpt_s; one length that is padded and one that is whole blocks.
@pytest.mark.parametrize(
  'causal, tokens, width', [(True, 100, 16), (False, 100, 16), (True, 256, 64)]
)
def test_the_tpu_kernel_equals_xla_in_values_and_gradients(causal, tokens, width):
  def attend(q, k, v):
    return kernels.tpu(q, k, v, BATCH, 'causal' if causal else 'full', interpret=True)

  _assert_same(attend, causal, _qkv(tokens, width))


@pytest.mark.parametrize('causal', [True, False])
def test_the_call_of_cudnn_equals_xla_in_values_and_gradients(causal):
  """Layout, scale and mask of the call; cuDNN's own arithmetic needs a GPU."""

  def attend(q, k, v):
    form = 'causal' if causal else 'full'
    return kernels.cudnn(q, k, v, BATCH, form, implementation='xla')

  _assert_same(attend, causal, _qkv(7, 8))


def test_the_backbone_calls_the_kernel_it_is_told_to(monkeypatch):
  shape = {'vocabulary': 5, 'length': 9, 'width': 16, 'layers': 1, 'heads': HEADS}
  shapes = jax.eval_shape(lambda: transformer.init(ModelConfig(**shape), jax.random.key(0)))
  rng = np.random.default_rng(0)
  params = jax.tree.map(lambda x: 0.5 * rng.normal(size=x.shape).astype(x.dtype), shapes)
  tokens = jax.random.randint(jax.random.key(2), (BATCH, 9), 0, 5)
  calls, tpu = [], kernels.tpu

  def interpreted(*arguments):
    calls.append(arguments[3:])
    return tpu(*arguments, interpret=True)

  monkeypatch.setattr(kernels, 'tpu', interpreted)
  logits = {}
  for name in ('xla', 'tpu'):
    apply = transformer.make_apply(ModelConfig(**shape, attention=name))
    forward = quickly(functools.partial(apply, pattern=('causal',), shift=True))
    logits[name] = forward(params, tokens).logits_BxTxV
  assert set(calls) == {(BATCH, 'causal')}
  assert np.abs(logits['xla']).max() > 0.1
  np.testing.assert_allclose(logits['tpu'], logits['xla'], rtol=1e-4, atol=1e-4)
  with pytest.raises(ValueError, match=r"model.attention 'tpu' does not know Causal\(window=3\)"):
    apply(params, tokens, pattern=('causal', 3), shift=True)


@pytest.mark.parametrize(
  'objective, overrides, message',
  [
    ('autoregressive', ('attention=tpu',), "'tpu' runs on tpu only, and this is cpu"),
    ('masked', ('attention=cudnn', 'compute_dtype=bfloat16'), "'cudnn' runs on gpu only"),
    ('masked', ('attention=cudnn',), "needs model.compute_dtype 'bfloat16'"),
    ('masked', ('attention=flash',), "must be one of 'xla', 'cudnn', 'tpu', not 'flash'"),
    ('masked', ('remat_policy=some',), "must be one of 'full', 'dots', not 'some'"),
  ],
)
def test_what_can_not_run_is_refused_when_it_is_built(objective, overrides, message, data_dir):
  with pytest.raises(UserError, match=message):
    tiny.build(data_dir, objective, *(f'--config.model.{override}' for override in overrides))


def test_a_window_is_refused_with_a_kernel(data_dir, monkeypatch):
  monkeypatch.setattr(kernels, 'check', lambda name, platform: None)
  settings = ('--config.model.attention=tpu', '--config.objective.context=4')
  with pytest.raises(UserError, match=r"asks for, Causal\(window=4\); 'xla' does"):
    tiny.build(data_dir, 'autoregressive', *settings)


def test_an_unrolled_backbone_is_the_same_function():
  config = ModelConfig(vocabulary=5, length=7, width=16, layers=3, heads=2)
  params = transformer.init(config, jax.random.key(0))
  params['output_DxV'] = jax.random.normal(jax.random.key(1), params['output_DxV'].shape)
  tokens = jax.random.randint(jax.random.key(2), (4, 7), 0, 5)

  def value(p, unroll):
    apply = transformer.make_apply(dataclasses.replace(config, unroll=unroll))
    return jnp.mean(apply(p, tokens, pattern=('causal',), shift=True).logits_BxTxV ** 2)

  looped, unrolled = (jax.value_and_grad(value)(params, unroll) for unroll in (False, True))
  for a, b in zip(jax.tree.leaves(looped), jax.tree.leaves(unrolled), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
