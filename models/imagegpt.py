"""ImageGPT checkpoints (Chen et al. 2020) in the format of Hugging Face, and our parameters.

The backbone is ImageGPT's, so that either way tensors are renamed, and stacked or taken apart.
Where the two differ:
- the input table has a row for each of the V colours and a last one, the start vector, which
  position 0 is fed; ours keeps that vector apart, and its own last row, MASK, is zero: what BERT
  training in the original code (`src/model.py`) shows in place of a hidden token;
- the format has biases, which the published models lack: they are zero there, and must be;
- attention scores may be scaled otherwise than by 1/sqrt(K); that goes into the query weights.

The original TensorFlow checkpoints are not read.

Shape suffixes: V colours, T positions, D width, F width of the MLP, K width of a head.
"""

from collections.abc import Mapping
import json
import math
import os
from typing import Any

import numpy as np
from safetensors import numpy as safetensors

from models import weight_files
from models.config import ModelConfig

_PREFIX = 'transformer.'
_SIZES = ('vocab_size', 'n_positions', 'n_embd', 'n_layer', 'n_head')
# A layer's weights there and ours; norms are trees of one leaf.
_BLOCK = {
  'ln_1.weight': 'norm_attention',
  'attn.c_attn.weight': 'qkv_Dx3D',
  'attn.c_proj.weight': 'out_DxD',
  'ln_2.weight': 'norm_mlp',
  'mlp.c_fc.weight': 'mlp_in_DxF',
  'mlp.c_proj.weight': 'mlp_out_FxD',
}
# Buffers with the causal mask that older versions of the format save beside the weights.
_BUFFERS = ('attn.bias', 'attn.masked_bias')


def load(path: str) -> tuple[ModelConfig, dict[str, Any]]:
  """The sizes and parameters of a checkpoint.

  Args:
    path: a directory with config.json and model.safetensors or pytorch_model.bin, or one of the
      latter files with config.json beside it.

  Returns:
    The backbone's config and its parameter tree (as from `transformer.init`), NumPy float32.

  Raises:
    ValueError: the checkpoint is incomplete, damaged or of another architecture; one line.
  """
  config = read_config(path)
  tensors: dict[str, np.ndarray] = {}
  for file in weight_files.find(path):
    tensors |= weight_files.read(file)
  return model_config(config), convert(tensors, config)


def files(path: str) -> list[str]:
  """Everything that `load` reads."""
  return [_config_path(path), *weight_files.find(path)]


def read_config(path: str) -> dict[str, Any]:
  """The content of a checkpoint's config.json; ValueError, one line, if there is none."""
  return weight_files.read_json(_config_path(path))


def _config_path(path: str) -> str:
  if not os.path.exists(path):
    raise ValueError(f'{path} does not exist')
  directory = path if os.path.isdir(path) else os.path.dirname(path)
  return os.path.join(directory, 'config.json')


def model_config(config: Mapping[str, Any]) -> ModelConfig:
  """Our config for the content of a config.json; ValueError if the backbone can't be that model."""
  kind = config.get('model_type', 'imagegpt')
  if kind != 'imagegpt':
    raise ValueError(f"config.json is of a model of type '{kind}', not imagegpt")
  missing = [name for name in _SIZES if not isinstance(config.get(name), int)]
  if missing:
    raise ValueError(f'config.json lacks {", ".join(missing)}')
  activation = config.get('activation_function', 'quick_gelu')
  if activation != 'quick_gelu':
    raise ValueError(f"activation_function '{activation}' is not quick_gelu, the backbone's only")
  if config.get('add_cross_attention', False):
    raise ValueError('add_cross_attention: the backbone has no cross-attention')
  width = config['n_embd']
  inner = config.get('n_inner') or 4 * width
  if inner % width:
    raise ValueError(f'n_inner {inner} is not a multiple of n_embd {width}')
  return ModelConfig(
    vocabulary=config['vocab_size'] - 1,
    length=config['n_positions'],
    width=width,
    layers=config['n_layer'],
    heads=config['n_head'],
    mlp_ratio=inner // width,
    norm_epsilon=config.get('layer_norm_epsilon', 1e-5),
  )


def check(model: ModelConfig) -> None:
  """Raises ValueError, one line, unless the format can hold a backbone of these settings."""
  usual = ModelConfig(model.vocabulary, model.length)
  names = ('shared_layers', 'mixer', 'residual', 'norm', 'time_input', 'alphabets')
  unusual = [name for name in names if getattr(model, name) != getattr(usual, name)]
  if unusual:
    value = getattr(model, unusual[0])
    raise ValueError(f'the format of ImageGPT has no backbone with model.{unusual[0]} {value!r}')


def convert(state_dict: Mapping[str, np.ndarray], config: Mapping[str, Any]) -> dict[str, Any]:
  """Renames and stacks the tensors of a causal image model.

  Args:
    state_dict: tensors by their names in the format: `transformer.wte.weight` (V+1)xD, ...,
      `lm_head.weight` VxD; matrices of the blocks are (in, out).
    config: the content of config.json.

  Returns:
    The backbone's parameter tree, NumPy float32.

  Raises:
    ValueError: missing, unexpected or misshapen tensors, biases that are not zero, or numbers that
      are not finite; one line that names them.
  """
  model = model_config(config)
  tensors = _checked(state_dict, model)
  width = model.width

  def stack(name: str) -> np.ndarray:
    return np.stack([tensors[f'h.{i}.{name}'] for i in range(model.layers)]).astype(
      np.float32, copy=False
    )

  def array(x: np.ndarray) -> np.ndarray:
    return np.array(x, np.float32, order='C')

  embedding = tensors['wte.weight']
  blocks: dict[str, Any] = {ours: stack(theirs) for theirs, ours in _BLOCK.items()}
  blocks |= {name: {'scale': blocks[name]} for name in ('norm_attention', 'norm_mlp')}
  for layer in range(model.layers):
    factor = _score_scale(config, layer, width // model.heads)
    if factor != 1:
      blocks['qkv_Dx3D'][layer, :, :width] *= factor
  mask_1xD = np.zeros((1, width), np.float32)
  return {
    'token_table': np.concatenate([array(embedding[:-1]), mask_1xD]),
    'position_table': array(tensors['wpe.weight']),
    'start_D': array(embedding[-1]),
    'norm_final': {'scale': array(tensors['ln_f.weight'])},
    'output_DxV': array(tensors['lm_head.weight'].T),
    'blocks': blocks,
  }


def write(directory: str, model: ModelConfig, params: Mapping[str, Any]) -> None:
  """Writes config.json and model.safetensors, which transformers loads, to a directory.

  Args:
    directory: that exists.
    model: whose parameters they are.
    params: the backbone's tree. MASK's row of the table is left out: the format has none.

  Raises:
    ValueError: as `check`.
  """
  check(model)
  config = {
    'model_type': 'imagegpt',
    'architectures': ['ImageGPTForCausalImageModeling'],
    'vocab_size': model.vocabulary + 1,
    'n_positions': model.length,
    'n_embd': model.width,
    'n_layer': model.layers,
    'n_head': model.heads,
    'n_inner': model.mlp_ratio * model.width,
    'activation_function': 'quick_gelu',
    'layer_norm_epsilon': model.norm_epsilon,
    'resid_pdrop': model.dropout,
    'embd_pdrop': model.dropout,
    'attn_pdrop': 0.0,
    'tie_word_embeddings': False,
  }
  with open(os.path.join(directory, 'config.json'), 'w', encoding='utf-8') as file:
    file.write(json.dumps(config, indent=1) + '\n')
  path = os.path.join(directory, 'model.safetensors')
  safetensors.save_file(_tensors(model, params), path, metadata={'format': 'pt'})


def _tensors(model: ModelConfig, params: Mapping[str, Any]) -> dict[str, np.ndarray]:
  """The weights by their names in the format, and the biases that it has beside them, zero."""
  tensors = {
    'wte.weight': np.vstack([np.asarray(params['token_table'])[:-1], params['start_D']]),
    'wpe.weight': params['position_table'],
    'ln_f.weight': params['norm_final']['scale'],
    'lm_head.weight': np.asarray(params['output_DxV']).T,
  }
  for theirs, ours in _BLOCK.items():
    stacked = params['blocks'][ours]
    stacked = np.asarray(stacked['scale'] if isinstance(stacked, Mapping) else stacked)
    for layer, weight in enumerate(stacked):
      tensors[f'h.{layer}.{theirs}'] = weight
      if weight.ndim == 2:
        bias = theirs.removesuffix('weight') + 'bias'
        tensors[f'h.{layer}.{bias}'] = np.zeros(weight.shape[1], np.float32)
  return {
    name if name.startswith('lm_head') else _PREFIX + name: np.array(tensor, np.float32, order='C')
    for name, tensor in tensors.items()
  }


def _score_scale(config: Mapping[str, Any], layer: int, head_width: int) -> float:
  """What a layer's attention scores are multiplied by beside our own 1/sqrt(K)."""
  scale = 1.0 if config.get('scale_attn_weights', True) else math.sqrt(head_width)
  return scale / (layer + 1) if config.get('scale_attn_by_inverse_layer_idx', False) else scale


def _shapes(model: ModelConfig) -> dict[str, tuple[int, ...]]:
  """Names, without the prefix, and shapes of all weights; biases are not among them."""
  width, inner = model.width, model.mlp_ratio * model.width
  block = {
    'ln_1.weight': (width,),
    'attn.c_attn.weight': (width, 3 * width),
    'attn.c_proj.weight': (width, width),
    'ln_2.weight': (width,),
    'mlp.c_fc.weight': (width, inner),
    'mlp.c_proj.weight': (inner, width),
  }
  return {
    'wte.weight': (model.vocabulary + 1, width),
    'wpe.weight': (model.length, width),
    **{f'h.{i}.{name}': shape for i in range(model.layers) for name, shape in block.items()},
    'ln_f.weight': (width,),
    'lm_head.weight': (model.vocabulary, width),
  }


def _checked(state_dict: Mapping[str, np.ndarray], model: ModelConfig) -> dict[str, np.ndarray]:
  """The weights without their prefix; ValueError as in `convert`."""
  shapes = _shapes(model)
  tensors = {name.removeprefix(_PREFIX): tensor for name, tensor in state_dict.items()}
  layers = [f'h.{i}.' for i in range(model.layers)]
  buffers = {layer + name for layer in layers for name in _BUFFERS}
  biases = {
    name.removesuffix('weight') + 'bias': shape[-1:]
    for name, shape in shapes.items()
    if name.startswith('h.') and len(shape) == 2
  }
  missing = [name for name in shapes if name not in tensors]
  unexpected = [name for name in tensors if name not in shapes | biases and name not in buffers]
  if missing or unexpected:
    faults = [
      f'{word} {_some(names)}'
      for word, names in (('lacks', missing), ('has the unexpected', unexpected))
      if names
    ]
    raise ValueError(f'the checkpoint {" and ".join(faults)}')
  wrong = [
    f'{name} is {tensors[name].shape}, not {shape}'
    for name, shape in (shapes | biases).items()
    if name in tensors and tensors[name].shape != shape
  ]
  if wrong:
    raise ValueError(f'the checkpoint does not fit its config.json: {_some(wrong)}')
  biased = [name for name in biases if name in tensors and np.any(tensors[name])]
  if biased:
    raise ValueError(f'the backbone has no biases, and these are not zero: {_some(biased)}')
  infinite = [name for name in shapes if not np.isfinite(tensors[name]).all()]
  if infinite:
    raise ValueError(f'the checkpoint has numbers that are not finite: {_some(infinite)}')
  return {name: tensors[name] for name in shapes}


def _some(names: list[str]) -> str:
  """At most four of them, and how many more there are."""
  rest = len(names) - 4
  return ', '.join(names[:4]) + (f' and {rest} more' if rest > 0 else '')
