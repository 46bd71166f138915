"""ImageGPT checkpoints: parity of the converted parameters, and files that must be refused."""

import functools
import math

import jax
import ml_collections
import numpy as np
import pytest

from models import imagegpt, transformer
from models.config import ModelConfig
from objectives import Space, get
from probes import features as features_lib
from probes import linear, logistic

# Two checkpoints that differ in everything; the second uses every switch that can be folded.
SMALL = dict(vocab_size=8, n_positions=9, n_embd=16, n_layer=2, n_head=4)
LARGE = dict(
  vocab_size=33,
  n_positions=20,
  n_embd=24,
  n_layer=5,
  n_head=3,
  n_inner=72,
  layer_norm_epsilon=1e-3,
  scale_attn_by_inverse_layer_idx=True,
  scale_attn_weights=False,
)
TOLERANCE = 1e-4


def _shapes(config) -> dict[str, tuple[int, ...]]:
  d, inner = config['n_embd'], config.get('n_inner') or 4 * config['n_embd']
  shapes = {'transformer.wte.weight': (config['vocab_size'], d)}
  shapes['transformer.wpe.weight'] = (config['n_positions'], d)
  for i in range(config['n_layer']):
    block = {'ln_1.weight': (d,), 'ln_2.weight': (d,)}
    for name, n_in, n_out in [
      ('attn.c_attn', d, 3 * d),
      ('attn.c_proj', d, d),
      ('mlp.c_fc', d, inner),
      ('mlp.c_proj', inner, d),
    ]:
      block |= {f'{name}.weight': (n_in, n_out), f'{name}.bias': (n_out,)}
    shapes |= {f'transformer.h.{i}.{name}': shape for name, shape in block.items()}
  return shapes | {
    'transformer.ln_f.weight': (d,),
    'lm_head.weight': (config['vocab_size'] - 1, d),
  }


def random_tensors(config, seed: int = 0) -> dict[str, np.ndarray]:
  """Weights that leave nothing small; biases are zero, as in the published models."""
  rng = np.random.default_rng(seed)
  tensors = {}
  for name, shape in _shapes(config).items():
    std = 0.0 if name.endswith('bias') else 0.5 if len(shape) == 1 else 1 / math.sqrt(shape[0])
    mean = 1.0 if 'ln_' in name else 0.0
    tensors[name] = rng.normal(mean, std, shape).astype(np.float32)
  return tensors


def _tokens(config, batch: int = 3) -> np.ndarray:
  shape = (batch, config['n_positions'])
  return np.random.default_rng(5).integers(0, config['vocab_size'] - 1, shape)


def _ours(config, tensors, tokens):
  return _forward(imagegpt.model_config(config))(imagegpt.convert(tensors, config), tokens)


@functools.cache
def _forward(model: ModelConfig):
  settings = dict(pattern=('causal',), shift=True, read=lambda x: x, residuals=True)
  return jax.jit(functools.partial(transformer.make_apply(model), **settings))


def _published(config, tensors, tokens):
  """The paper's equations and the original code's details, one position and head at a time.

  Float64; returns logits (B, T, V), the residual stream (L+1, B, T, D), and the normalised inputs
  of all blocks and of the output (L+1, B, T, D).
  """
  w = {n.removeprefix('transformer.'): t.astype(np.float64) for n, t in tensors.items()}
  epsilon, heads = config.get('layer_norm_epsilon', 1e-5), config['n_head']
  size = config['n_embd'] // heads

  def norm(x, name):
    return x / np.sqrt(np.mean(x**2) + epsilon) * w[f'{name}.weight']

  logits, streams, inputs = [], [], []
  for example in tokens:
    fed = [config['vocab_size'] - 1, *example[:-1]]  # the start token, then the predecessors
    h = [w['wte.weight'][token] + w['wpe.weight'][i] for i, token in enumerate(fed)]
    stream, seen = [h], []
    for layer in range(config['n_layer']):
      block = f'h.{layer}'
      normed = [norm(x, f'{block}.ln_1') for x in h]
      seen.append(normed)
      q, k, v = np.split(np.stack(normed) @ w[f'{block}.attn.c_attn.weight'], 3, axis=1)
      scale = 1 / math.sqrt(size) if config.get('scale_attn_weights', True) else 1.0
      if config.get('scale_attn_by_inverse_layer_idx'):
        scale /= layer + 1
      mixed = np.zeros_like(q)
      for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        for i in range(len(fed)):
          scores = np.array([q[i, part] @ k[j, part] * scale for j in range(i + 1)])
          weights = np.exp(scores - scores.max())
          mixed[i, part] = weights / weights.sum() @ v[: i + 1, part]
      h = [x + m @ w[f'{block}.attn.c_proj.weight'] for x, m in zip(h, mixed, strict=True)]
      inner = [norm(x, f'{block}.ln_2') @ w[f'{block}.mlp.c_fc.weight'] for x in h]
      active = [z / (1 + np.exp(-1.702 * z)) for z in inner]
      h = [x + a @ w[f'{block}.mlp.c_proj.weight'] for x, a in zip(h, active, strict=True)]
      stream.append(h)
    seen.append([norm(x, 'ln_f') for x in h])
    logits.append(np.stack(seen[-1]) @ w['lm_head.weight'].T)
    streams.append(stream)
    inputs.append(seen)
  return np.array(logits), np.array(streams).swapaxes(0, 1), np.array(inputs).swapaxes(0, 1)


@pytest.mark.parametrize('config', [SMALL, LARGE], ids=['small', 'large'])
def test_parity_with_the_published_equations(config):
  tensors, tokens = random_tensors(config), _tokens(config)
  outputs = _ours(config, tensors, tokens)
  logits, stream, inputs = _published(config, tensors, tokens)
  assert np.abs(logits).max() > 1
  np.testing.assert_allclose(outputs.logits_BxTxV, logits, rtol=0, atol=TOLERANCE)
  np.testing.assert_allclose(outputs.residuals, stream, rtol=0, atol=TOLERANCE)
  np.testing.assert_allclose(outputs.reads, inputs, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize('config', [SMALL, LARGE], ids=['small', 'large'])
def test_parity_with_transformers(config, tmp_path):
  """Its own files, saved by itself: logits, and every hidden state (the last is after the norm)."""
  torch = pytest.importorskip('torch')
  transformers = pytest.importorskip('transformers')
  torch.manual_seed(0)
  theirs = transformers.ImageGPTForCausalImageModeling(transformers.ImageGPTConfig(**config)).eval()
  with torch.no_grad():
    for name, weight in theirs.named_parameters():
      if not name.endswith('bias'):
        mean = 1.0 if 'ln_' in name else 0.0
        std = 0.5 if weight.ndim == 1 else 1 / math.sqrt(weight.shape[0])
        torch.nn.init.normal_(weight, mean, std)
  tokens = _tokens(config)
  start = np.full((len(tokens), 1), config['vocab_size'] - 1)
  fed = torch.from_numpy(np.concatenate([start, tokens[:, :-1]], axis=1))
  with torch.no_grad():
    expected = theirs(fed, output_hidden_states=True)
    inner = theirs.transformer(fed, output_hidden_states=True)
    normed = [
      block.ln_1(h) for block, h in zip(theirs.transformer.h, inner.hidden_states, strict=False)
    ]
  theirs.save_pretrained(tmp_path)
  torch.save(theirs.state_dict(), tmp_path / 'pytorch_model.bin')
  for path in (tmp_path, tmp_path / 'pytorch_model.bin'):
    model, params = imagegpt.load(str(path))
    ours = _forward(model)(params, tokens)
    hidden = [*ours.residuals[:-1], ours.final_BxTxD]
    pairs = {'logits': (ours.logits_BxTxV, expected.logits)}
    for name, states in (('causal', expected.hidden_states), ('model', inner.hidden_states)):
      assert len(states) == model.layers + 1
      pairs |= {f'{name} {i}': (hidden[i], states[i]) for i in range(model.layers + 1)}
    pairs |= {f'read {i}': (ours.reads[i], normed[i]) for i in range(model.layers)}
    errors = {name: np.abs(np.asarray(a) - b.numpy()).max() for name, (a, b) in pairs.items()}
    assert max(errors.values()) < TOLERANCE, errors
    assert expected.logits.abs().max() > 1


# What goes wrong in the public notebooks that probe these checkpoints.


def test_the_start_vector_is_there_and_mask_is_zero():
  tensors = random_tensors(SMALL)
  params = imagegpt.convert(tensors, SMALL)
  table = tensors['transformer.wte.weight']
  np.testing.assert_array_equal(params['start_D'], table[-1])
  np.testing.assert_array_equal(params['token_table'][:-1], table[:-1])
  assert not params['token_table'][imagegpt.model_config(SMALL).mask_token].any()
  assert params['output_DxV'].shape == (SMALL['n_embd'], SMALL['vocab_size'] - 1)


def test_positions_count_the_start_vector():
  """Position i gets wpe[i], and the token fed there is the one before: none is left out."""
  tensors, tokens = random_tensors(SMALL), _tokens(SMALL)
  first = np.asarray(_ours(SMALL, tensors, tokens).residuals[0])
  tokens_table = tensors['transformer.wte.weight']
  positions = tensors['transformer.wpe.weight']
  for row, example in zip(first, tokens, strict=True):
    np.testing.assert_allclose(row[0], tokens_table[-1] + positions[0], atol=1e-6)
    for i in range(1, len(example)):
      np.testing.assert_allclose(row[i], tokens_table[example[i - 1]] + positions[i], atol=1e-6)


def test_probes_read_the_normalised_input_of_each_block_from_the_start_vector_on():
  tensors, tokens = random_tensors(SMALL), _tokens(SMALL)
  _, stream, inputs = _published(SMALL, tensors, tokens)
  objective, space = get('autoregressive'), Space(7, 9, 9, 2)
  apply = transformer.make_apply(imagegpt.model_config(SMALL))
  extract = features_lib.make_extract(objective, apply, space)
  params = {'backbone': imagegpt.convert(tensors, SMALL)}
  batch = {'tokens': tokens, 'index': np.arange(len(tokens))}
  pooled = jax.jit(extract)(params, batch, jax.random.key(0))[:, :, 0].swapaxes(0, 1)
  np.testing.assert_allclose(pooled, inputs.mean(2), rtol=0, atol=TOLERANCE)
  assert np.abs(pooled - stream.mean(2)).max() > 0.1


def test_the_probe_standardises_and_its_solver_has_converged():
  """Features as badly scaled as ImageGPT's change nothing, and the fit is certified."""
  rng = np.random.default_rng(0)
  labels = np.arange(60) % 3
  plain = {s: rng.normal(size=(1, 60, 4)) + np.eye(3, 4)[labels] for s in features_lib.SPLITS}
  names = {f'labels_{split}': labels for split in features_lib.SPLITS}
  config = ml_collections.ConfigDict({'l2': (1e-3, 1e-1), 'labels': ()})
  results = []
  for scale, shift in ((1.0, 0.0), (np.array([1e-3, 1.0, 300.0, 1e4]), 50.0)):
    features = {split: (x * scale + shift).astype(np.float64) for split, x in plain.items()}
    found, _ = linear.evaluate(features_lib.Features(**features, **names, classes=3), config, 0)
    results.append(found['all'])
  assert results[0]['cross_entropy'] == pytest.approx(results[1]['cross_entropy'], abs=1e-5)
  assert all(result['certificate'] <= logistic.GAP for result in results)


# What is refused.


def test_old_buffers_and_absent_biases_are_fine():
  tensors = {n: t for n, t in random_tensors(SMALL).items() if not n.endswith('bias')}
  tensors['transformer.h.0.attn.bias'] = np.tri(9, dtype=bool)[None, None]
  tensors['transformer.h.1.attn.masked_bias'] = np.float32(-1e4)
  jax.tree.map(
    np.testing.assert_array_equal,
    imagegpt.convert(tensors, SMALL),
    imagegpt.convert(random_tensors(SMALL), SMALL),
  )


@pytest.mark.parametrize(
  'change,message',
  [
    ({'lm_head.weight': None}, 'lacks lm_head.weight$'),
    ({'transformer.h.1.ln_1.weight': None, 'score.weight': np.ones(3)},
     r'lacks h\.1\.ln_1\.weight and has the unexpected score\.weight$'),
    ({'transformer.wpe.weight': np.ones((8, 16), np.float32)},
     r'does not fit its config.json: wpe.weight is \(8, 16\), not \(9, 16\)$'),
    ({'transformer.h.0.mlp.c_fc.bias': np.ones(64, np.float32)},
     r'no biases, and these are not zero: h\.0\.mlp\.c_fc\.bias$'),
    ({'lm_head.weight': np.full((7, 16), np.nan)}, 'not finite: lm_head.weight$'),
  ],
)  # fmt: skip
def test_tensors_that_do_not_fit_are_named(change, message):
  tensors = {**random_tensors(SMALL), **change}
  tensors = {name: tensor for name, tensor in tensors.items() if tensor is not None}
  with pytest.raises(ValueError, match=message) as caught:
    imagegpt.convert(tensors, SMALL)
  assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
  'change,message',
  [
    ({'model_type': 'gpt2'}, "type 'gpt2', not imagegpt"),
    ({'n_head': None, 'n_layer': None}, 'lacks n_layer, n_head$'),
    ({'activation_function': 'gelu'}, "'gelu' is not quick_gelu"),
    ({'n_inner': 40}, 'n_inner 40 is not a multiple of n_embd 16'),
    ({'add_cross_attention': True}, 'no cross-attention'),
    ({'n_head': 3}, 'not a multiple of model.heads'),
  ],
)
def test_other_architectures_are_refused(change, message):
  with pytest.raises(ValueError, match=message):
    imagegpt.model_config({**SMALL, **change})
