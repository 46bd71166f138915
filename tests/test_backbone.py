"""Settings of the backbone: shared layers, the recurrence, no residual, other norms, dropout.

What the network computes is compared with the same network written out layer by layer and, where
it is recurrent, token by token.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from models import decoding, layers, transformer
from models.config import ModelConfig
from models.patterns import Causal
import objectives
from objectives import base, scoring
from runs import experiment, run
from runs.errors import UserError
from training import optimizer as optimizer_lib
from training import state as state_lib

# Nothing here runs twice: programs that are quick to compile are the quickest.
quickly = functools.partial(
  jax.jit,
  compiler_options={'xla_backend_optimization_level': 0, 'xla_llvm_disable_expensive_passes': True},
)
RECURRENT = {'mixer': 'recurrent', 'state': 8}


def _config(**changes) -> ModelConfig:
  sizes = {'vocabulary': 5, 'length': 7, 'width': 16, 'layers': 3, 'heads': 2}
  return ModelConfig(**sizes | changes)


def _moved(config: ModelConfig, seed: int = 0, by: float = 0.3):
  """Parameters away from initialisation, where the zero output table would hide everything."""
  params = transformer.init(config, jax.random.key(seed))
  leaves, tree = jax.tree.flatten(params)
  rng = np.random.default_rng(seed)
  moved = [x + by * rng.normal(size=x.shape).astype(np.float32) for x in leaves]
  return jax.tree.unflatten(tree, moved)


def _tokens(config: ModelConfig, batch: int = 2) -> jax.Array:
  return jax.random.randint(jax.random.key(9), (batch, config.length), 0, config.vocabulary)


def _attention(x_BxTxD, block, config):
  q, k, v = (
    part.reshape(*part.shape[:2], config.heads, -1)
    for part in jnp.split(x_BxTxD @ block['qkv_Dx3D'], 3, axis=-1)
  )
  scores = jnp.einsum('bthk,bshk->bhts', q, k) / math.sqrt(q.shape[-1])
  future = ~np.tri(x_BxTxD.shape[1], dtype=bool)[None, None]
  weights = jax.nn.softmax(jnp.where(future, -jnp.inf, scores), -1)
  return jnp.einsum('bhts,bshk->bthk', weights, v).reshape(x_BxTxD.shape) @ block['out_DxD']


def _recurrence(x_BxTxD, block, config):
  del config
  p = block['recurrence']
  h_BxS, brought = jnp.zeros((len(x_BxTxD), p['bias_S'].shape[-1])), []
  for t in range(x_BxTxD.shape[1]):
    z, u, g = jnp.split(x_BxTxD[:, t] @ p['in_Dx3S'], 3, axis=-1)
    a = 1 / (1 + jnp.exp(-(z + p['bias_S'][None])))
    h_BxS = a * h_BxS + jnp.sqrt(1 - a**2) * u
    brought.append((h_BxS * g / (1 + jnp.exp(-1.702 * g))) @ p['out_SxD'])
  return jnp.stack(brought, 1)


def _plain(config: ModelConfig, params, tokens, keep=lambda x_BxTxD, number: x_BxTxD):
  """Logits of the causal network; `keep` is what dropout makes of the embedding and each branch."""

  def norm(x, gain):
    gain = gain['scale'][None, None]
    return x / jnp.sqrt(jnp.mean(x * x, -1, keepdims=True) + config.norm_epsilon) * gain

  def branch(h, block, name, function, number):
    brought = function(norm(h, block[name]) if config.norm == 'pre' else h)
    brought = keep(brought, number)
    h = h + brought if config.residual else brought
    return norm(h, block[name]) if config.norm == 'post' else h

  mix = _recurrence if config.mixer == 'recurrent' else _attention
  start = jnp.broadcast_to(params['start_D'], (len(tokens), 1, config.width))
  h = jnp.concatenate([start, params['token_table'][tokens][:, :-1]], axis=1)
  h = keep(h + params['position_table'][None], 0)
  for layer in range(config.layers):
    own = 0 if config.shared_layers else layer
    block = jax.tree.map(lambda x, own=own: x[own], params['blocks'])

    def mlp(x, block=block):
      z = x @ block['mlp_in_DxF']
      return z / (1 + jnp.exp(-1.702 * z)) @ block['mlp_out_FxD']

    mixer = functools.partial(mix, block=block, config=config)
    h = branch(h, block, 'norm_attention', mixer, 1 + 2 * layer)
    h = branch(h, block, 'norm_mlp', mlp, 2 + 2 * layer)
  if config.norm == 'pre':
    h = norm(h, params['norm_final'])
  return h @ params['output_DxV']


def _assert_equal(found, expected, tolerance=2e-4):
  """Up to rounding, of which an array has as much as its largest number brings."""

  def check(a, b):
    np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * np.abs(b).max())

  jax.tree.map(check, found, expected)


@pytest.mark.parametrize(
  'changes',
  [
    {'shared_layers': True},
    {'shared_layers': True, 'unroll': True},
    RECURRENT,
    RECURRENT | {'shared_layers': True, 'remat': True},
    {'residual': False},
    {'norm': 'none'},
    {'norm': 'post'},
    RECURRENT | {'residual': False, 'norm': 'post'},
  ],
  ids=lambda changes: '-'.join(map(str, changes)),
)
def test_values_and_gradients_are_those_of_the_network_written_out(changes):
  config = _config(layers=2, **changes)
  params, tokens = _moved(config, by=0.2 if 'norm' in changes else 0.3), _tokens(config)
  apply = transformer.make_apply(config)

  @quickly
  def both(params):
    def ours(params):
      outputs = apply(params, tokens, pattern=('causal',), shift=True, read=lambda x: x)
      return jnp.sum(jnp.sin(outputs.logits_BxTxV)), outputs

    def plain(params):
      logits = _plain(config, params, tokens)
      return jnp.sum(jnp.sin(logits)), logits

    return jax.grad(ours, has_aux=True)(params), jax.grad(plain, has_aux=True)(params)

  (gradients, outputs), (expected, logits) = both(params)
  assert np.std(logits) > 0.1
  assert min(float(jnp.abs(x).max()) for x in jax.tree.leaves(expected)) > 1e-3
  _assert_equal(outputs.logits_BxTxV, logits)
  _assert_equal(gradients, expected)
  assert outputs.reads.shape == (config.layers + 1, 2, 7, 16)
  np.testing.assert_array_equal(outputs.reads[-1], outputs.final_BxTxD)


# Shared layers.


def test_shared_weights_get_the_sum_of_what_layers_of_their_own_would_get():
  shared, untied = _config(shared_layers=True), _config()
  params, tokens = _moved(shared), _tokens(shared)
  copies = {**params, 'blocks': jax.tree.map(lambda x: jnp.repeat(x, 3, 0), params['blocks'])}

  def value(config, params):
    apply = transformer.make_apply(config)
    return jnp.sum(jnp.sin(apply(params, tokens, pattern=('full',)).logits_BxTxV))

  one, found = quickly(jax.value_and_grad(functools.partial(value, shared)))(params)
  other, apart = quickly(jax.value_and_grad(functools.partial(value, untied)))(copies)
  assert one == pytest.approx(float(other), rel=1e-5)
  summed = jax.tree.map(lambda x: x.sum(0, keepdims=True), apart['blocks'])
  _assert_equal(found, {**apart, 'blocks': summed})


def test_flops_count_uses_and_size_counts_weights():
  shared, untied = _config(shared_layers=True), _config()
  assert shared.forward_flops() == untied.forward_flops()

  def shapes(config):
    return jax.eval_shape(lambda: transformer.init(config, jax.random.key(0)))

  sizes = [state_lib.count(shapes(config)) for config in (shared, untied)]
  assert sizes[1] - sizes[0] == 2 * (12 * 16**2 + 2 * 16)
  # Its output products are as small as those of as many layers: what is added has the same scale.
  params = transformer.init(_config(width=128, shared_layers=True), jax.random.key(0))
  assert params['blocks']['out_DxD'].shape == (1, 128, 128)
  assert np.std(params['blocks']['out_DxD']) == pytest.approx((128 * 3) ** -0.5, rel=0.03)


# The recurrence.


@pytest.mark.parametrize('low,high', [(0.0, 1.0), (0.999, 1.0), (0.0, 1e-3)])
def test_the_scan_equals_a_loop_in_values_and_gradients(low, high):
  rng = np.random.default_rng(0)
  a = rng.uniform(low, high, (2, 150, 3))
  v, weights = rng.normal(size=(2, 2, 150, 3))
  # Of sum w h, backwards: what h_t gets is w_t + a_{t+1} times what h_{t+1} gets.
  h, by_h = np.zeros_like(v), np.zeros_like(v)
  for t in range(150):
    h[:, t] = v[:, t] + (a[:, t] * h[:, t - 1] if t else 0)
  for t in reversed(range(150)):
    by_h[:, t] = weights[:, t] + (a[:, t + 1] * by_h[:, t + 1] if t < 149 else 0)
  by_a = by_h * np.concatenate([np.zeros_like(h[:, :1]), h[:, :-1]], 1)

  @quickly
  def ours(a, v):
    def total(a, v):
      h = layers.linear_recurrence(a, v)
      return jnp.sum(weights * h), h

    return jax.grad(total, (0, 1), has_aux=True)(a, v)

  gradients, found = ours(a.astype(np.float32), v.astype(np.float32))
  for x, expected in zip((found, *gradients), (h, by_a, by_h), strict=True):
    np.testing.assert_allclose(x, expected, rtol=2e-3, atol=2e-4 * np.abs(expected).max())


@pytest.mark.parametrize('bias', [-300.0, -20.0, 20.0, 300.0])
def test_gates_that_are_shut_or_open_have_finite_gradients(bias):
  config = _config(layers=1, **RECURRENT)
  params, tokens = _moved(config), _tokens(config)
  params['blocks']['recurrence']['bias_S'] = jnp.full((1, 8), bias)
  apply = transformer.make_apply(config)

  def value(params):
    return jnp.sum(apply(params, tokens, pattern=('causal',), shift=True).logits_BxTxV ** 2)

  found, gradients = quickly(jax.value_and_grad(value))(params)
  assert np.isfinite(found)
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(gradients))


def test_a_state_is_of_the_past_and_of_its_own_row():
  config = _config(**RECURRENT)
  params, tokens = _moved(config), _tokens(config, batch=3)
  run_ = jax.jit(functools.partial(transformer.make_apply(config), pattern=('causal',), shift=True))
  before = run_(params, tokens).logits_BxTxV
  for j in range(config.length):
    changed = tokens.at[1, j].set((tokens[1, j] + 1) % 5)
    after = run_(params, changed).logits_BxTxV
    np.testing.assert_array_equal(before[:, : j + 1], after[:, : j + 1])
    np.testing.assert_array_equal(before[::2], after[::2])
    assert j == 6 or np.abs(before[1, j + 1 :] - after[1, j + 1 :]).max(-1).min() > 1e-4


def test_the_state_keeps_its_scale_and_starts_with_memories_of_all_lengths():
  config = _config(width=64, length=256, layers=1, heads=2, mixer='recurrent', state=512)
  own = transformer.init(config, jax.random.key(0))['blocks']['recurrence']
  np.testing.assert_allclose(np.std(own['in_Dx3S']), 1 / np.sqrt(64), rtol=0.03)
  np.testing.assert_allclose(np.std(own['out_SxD']), 1 / np.sqrt(512), rtol=0.03)
  a_S = 1 / (1 + np.exp(-np.asarray(own['bias_S'][0], np.float64)))
  memories_S = 1 / (1 - a_S)
  np.testing.assert_allclose(memories_S[[0, -1]], (2, 256), rtol=1e-4)
  np.testing.assert_allclose(memories_S[1:] / memories_S[:-1], 128 ** (1 / 511), rtol=1e-4)
  # Independent inputs of variance 1 make states of variance 1, whatever the memory.
  a_S, memories_S = a_S[::16], memories_S[::16]
  v = np.random.default_rng(0).normal(size=(200, 128, 32)) * np.sqrt(1 - a_S**2)
  a = np.broadcast_to(a_S, v.shape)
  h = jax.jit(layers.linear_recurrence)(a.astype(np.float32), v.astype(np.float32))
  short = memories_S < 20  # The others have not forgotten that they began at zero.
  assert short.sum() > 10
  np.testing.assert_allclose(np.std(h[:, -1, short]), 1, rtol=0.05)


def _walked(config: ModelConfig, params, tokens_BxT) -> np.ndarray:
  """Logits BxTxV by the step that draws, fed these tokens."""
  bind = transformer.make_bind(config)

  def score(params, tokens_BxT):
    walked = (config, bind(params), len(tokens_BxT), Causal(), tokens_BxT.astype(jnp.int32).T)
    kept = decoding._walk(*walked, lambda logits_BxV, token_B: (token_B, logits_BxV))
    return kept.transpose(1, 0, 2)

  return jax.jit(score)(params, tokens_BxT)


@pytest.mark.parametrize(
  'changes',
  [RECURRENT, {'shared_layers': True}, {'norm': 'post', 'residual': False}, {'norm': 'none'}],
  ids=lambda changes: '-'.join(map(str, changes)),
)
def test_token_by_token_is_the_same_network(changes, monkeypatch):
  monkeypatch.setattr(decoding, '_SHORTEST_PIECE', 3)
  config = _config(**changes)
  params, tokens = _moved(config), _tokens(config)
  whole = transformer.make_apply(config)(params, tokens, pattern=('causal',), shift=True)
  assert np.std(whole.logits_BxTxV) > 0.3
  _assert_equal(_walked(config, params, tokens), whole.logits_BxTxV, 1e-4)


def test_every_token_costs_a_recurrent_backbone_the_same():
  """Also in bfloat16 its state is float32, and nothing of it grows."""
  config = _config(**RECURRENT, compute_dtype='bfloat16')
  cache = decoding.empty_cache(config, 3)
  assert [(x.shape, x.dtype) for x in cache] == [((3, 8), jnp.float32)] * 3
  assert decoding.grow(cache, 4) == cache
  bind, params = transformer.make_bind(config), transformer.init(config, jax.random.key(0))

  def step(params, position):
    return decoding.step(bind(params), cache, jnp.zeros(3, jnp.int32), position, Causal())

  after, _ = jax.eval_shape(step, params, 5)
  assert [(x.shape, x.dtype) for x in after] == [((3, 8), jnp.float32)] * 3


def test_flops_of_the_recurrence_have_no_square_of_the_length():
  config = ModelConfig(17, 64, 64, 2, 4, mixer='recurrent', state=32)
  params = transformer.init(config, jax.random.key(0))
  own = params['blocks']['recurrence']
  matrices = [own[name] for name in ('in_Dx3S', 'out_SxD')]
  matrices += [params['blocks'][name] for name in ('mlp_in_DxF', 'mlp_out_FxD')]
  counted = sum(x.size for x in matrices) + params['output_DxV'].size
  assert config.matmul_parameters() == counted
  assert config.forward_flops(('causal',)) == 2 * counted * 64 + 2 * 2 * 64 * 32
  assert config.forward_flops(('causal',), tokens=128) == 2 * config.forward_flops(('causal',))

  def forward(params, tokens):
    apply = transformer.make_apply(ModelConfig(17, 64, 64, 2, 4, **wide, unroll=True))
    return apply(params, tokens, pattern=('causal',)).logits_BxTxV

  wide = {'mixer': 'recurrent', 'state': 128}
  config = ModelConfig(17, 64, 64, 2, 4, **wide)
  shapes = jax.eval_shape(lambda: transformer.init(config, jax.random.key(0)))
  tokens = jax.ShapeDtypeStruct((1, 64), jnp.int32)
  compiled = jax.jit(forward).lower(shapes, tokens).compile().cost_analysis()['flops']
  assert 1 < compiled / config.forward_flops(('causal',)) < 1.25


@pytest.mark.parametrize('changes', [{}, RECURRENT | {'time_input': True}])
def test_weight_decay_is_for_all_matrices_and_nothing_else(changes):
  config = _config(**changes)
  params = transformer.init(config, jax.random.key(0))
  named = optimizer_lib.named(params, transformer.MATRICES)
  tables = ('token_table', 'position_table')
  for (path, x), decayed in zip(
    jax.tree_util.tree_leaves_with_path(params), jax.tree.leaves(named), strict=True
  ):
    stacked = path[0].key == 'blocks'
    assert decayed == (x.ndim - stacked == 2 and path[0].key not in tables), path


# What can't be.


@pytest.mark.parametrize(
  'changes,message',
  [
    ({'mixer': 'recurrent'}, "'recurrent' needs model.state from 8 to 4096, not 0"),
    ({'mixer': 'recurrent', 'state': 5000}, 'not 5000'),
    ({'state': 8}, "model.state 8 does nothing without model.mixer 'recurrent'"),
    ({'mixer': 'mamba'}, "model.mixer must be one of 'attention', 'recurrent', not 'mamba'"),
    ({'norm': 'batch'}, "model.norm must be one of 'pre', 'none', 'post', not 'batch'"),
    (RECURRENT | {'attention': 'tpu'}, "'tpu' does nothing in a recurrent backbone"),
    ({'dropout': 1.0}, 'model.dropout must be from 0 to below 1, not 1.0'),
    ({'dropout': -0.1}, 'not -0.1'),
  ],
)
def test_settings_that_can_not_be(changes, message):
  with pytest.raises(ValueError, match=message):
    _config(**changes)


@pytest.mark.parametrize(
  'objective,overrides,message',
  [
    ('masked_diffusion', (), r"'masked_diffusion' asks for Full\(\): model.mixer 'recurrent'"),
    ('untrained', (), r"it can't stand in for Full\(\)"),
    ('dual', (), r"'dual' asks for Full\(\): model.mixer 'recurrent'"),
    ('block_diffusion', (), r"can't stand in for NoisyBlocks\(size=4, tokens=64\)"),
    ('autoregressive', ('--config.objective.context=3',), r'stand in for Causal\(window=3\)'),
  ],
)
def test_a_recurrence_is_refused_where_it_is_asked_to_look_ahead(
  objective, overrides, message, data_dir
):
  settings = ('--config.model.mixer=recurrent', '--config.model.state=8', *overrides)
  with pytest.raises(experiment.Unsuitable, match=message) as caught:
    tiny.build(data_dir, objective, *settings)
  assert '\n' not in str(caught.value) and issubclass(experiment.Unsuitable, UserError)
  config = _config(**RECURRENT)
  for call in (transformer.make_apply(config), decoding.make_decode(config)):
    with pytest.raises(ValueError, match=r"can't stand in for Causal\(window=3\)"):
      call(_moved(config), *((_tokens(config),) if call.__name__ == 'apply' else
           (jax.random.key(0), 2)), pattern=Causal(3))  # fmt: skip


# Dropout.


def test_dropout_keeps_the_mean_and_drops_its_share():
  x_NxD = jnp.asarray(np.random.default_rng(0).normal(size=(2000 * 3, 4)), jnp.float32)
  keys = jax.random.split(jax.random.key(0), 2000)
  found = np.asarray(layers.dropout(x_NxD, keys, 0.3))
  zero = found == 0
  assert zero.mean() == pytest.approx(0.3, abs=4 * np.sqrt(0.21 / zero.size))
  np.testing.assert_allclose(found[~zero], np.asarray(x_NxD)[~zero] / 0.7, rtol=1e-6)
  # Every key has its own zeros, and so has every slot of an example.
  by_key = zero.reshape(2000, 12)
  assert np.abs(np.corrcoef(by_key.T) - np.eye(12)).max() < 0.12
  assert len(np.unique(by_key[:50], axis=0)) > 40


@pytest.mark.parametrize('changes', [{}, RECURRENT | {'shared_layers': True}])
def test_dropout_is_of_the_embedding_and_of_what_each_branch_brings(changes):
  config = _config(dropout=0.4, **changes)
  params, tokens = _moved(config), _tokens(config)
  keys = jax.random.split(jax.random.key(4), 2)
  one, other = keys

  def keep(x_BxTxD, number):
    rows = [jax.random.bernoulli(jax.random.fold_in(k, number), 0.6, (7, 16)) for k in (one, other)]
    return jnp.where(jnp.stack(rows), x_BxTxD / 0.6, 0)

  apply = functools.partial(transformer.make_apply(config), pattern=('causal',), shift=True)
  found = apply(params, tokens, dropout_B=keys).logits_BxTxV
  expected = quickly(functools.partial(_plain, config, keep=keep))(params, tokens)
  np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-4)
  # Without keys there is none: bit by bit what a network without dropout computes.
  without = functools.partial(
    transformer.make_apply(_config(**changes)), pattern=('causal',), shift=True
  )
  plain = without(params, tokens).logits_BxTxV
  np.testing.assert_array_equal(apply(params, tokens).logits_BxTxV, plain)
  assert np.abs(found - plain).max() > 0.1
  # A rate of 0 draws nothing, keys or not.
  programs = [
    str(jax.make_jaxpr(lambda p, extra=extra: without(p, tokens, **extra).logits_BxTxV)(params))
    for extra in ({}, {'dropout_B': keys})
  ]
  assert programs[0] == programs[1]


def test_dropout_does_not_depend_on_how_a_batch_is_split():
  name, config, space = 'masked_diffusion', _config(layers=1, dropout=0.3), base.Space(5, 7, 7)
  objective = objectives.get(name)
  apply = transformer.make_apply(config)
  loss = scoring.make_loss(objective, apply, space, dropout=True)
  init = lambda key: {'backbone': _moved(config), 'objective': {}}  # noqa: E731
  task = state_lib.Task(init, scoring.draw, loss, jax.random.key(0), transformer.MATRICES)
  optimizer = optimizer_lib.for_task(task, tiny.config(name).optimizer, 8)
  state = state_lib.TrainState(jnp.int32(0), init(None), optimizer.init(init(None)))
  batch = {'tokens': _tokens(config, 8), 'label': jnp.zeros(8, jnp.int32)}
  whole, parts = (
    quickly(state_lib.make_update(task, optimizer, 1.0, microbatches))(state, batch)[1]
    for microbatches in (1, 4)
  )
  for metric in ('loss', 'gradient_norm'):
    assert float(whole[metric]) == pytest.approx(float(parts[metric]), rel=1e-5)
  # It is there: the same rows cost something else without it.
  rows = {**batch, **scoring.draw(jax.random.key(0), 8, 0.5)}
  losses = [
    float(quickly(scoring.make_loss(objective, apply, space, on))(init(None), rows)[0])
    for on in (False, True)
  ]
  assert abs(losses[0] - losses[1]) > 1e-3


def test_a_run_with_all_of_it_is_a_run_like_any_other(data_dir, tmp_path):
  """Its bits are those of its weights without dropout."""
  settings = ('mixer=recurrent', 'state=8', 'shared_layers=True', 'layers=2', 'dropout=0.2')
  config = tiny.config(
    'autoregressive', *(f'--config.model.{setting}' for setting in settings),
    '--config.evaluation.samples=4', '--config.training.microbatches=2',
    '--config.probe.linear.labels=()',
  )  # fmt: skip
  workdir = str(tmp_path / 'run')
  run.open_workdir(workdir, config)
  built = experiment.build(config, data_dir)
  record = run.execute(built, workdir)
  state, _ = run.restore(built, workdir, best=False)
  params, tokens = state.params['backbone'], built.dataset.test.tokens_NxT
  logits = _plain(built.model, params, tokens)
  picked = jnp.take_along_axis(jax.nn.log_softmax(logits), tokens[..., None], -1)
  assert record['bits_per_dim'] == pytest.approx(-float(picked.mean()) / np.log(2), rel=1e-4)
  blocks = 3 * 16 * 8 + 8 * 16 + 8 + 8 * 16**2 + 2 * 16
  assert record['parameters'] == blocks + (18 + 64 + 1 + 1 + 17) * 16
  per_token = 2 * (2 * (4 * 16 * 8 + 8 * 16**2) + 16 * 17) + 2 * 2 * 8
  assert record['flops_per_step'] == 3 * 8 * 64 * per_token
