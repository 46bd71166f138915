"""Files of weights: both formats, pieces, dtypes; damaged and hostile ones."""

import json
import os

import jax
import ml_dtypes
import numpy as np
import pytest
from test_imagegpt import SMALL, random_tensors
import weight_writers

from models import imagegpt, transformer, weight_files


def _write(directory, config, tensors) -> str:
  (directory / 'config.json').write_text(json.dumps({'model_type': 'imagegpt', **config}))
  weight_writers.safetensors(directory / 'model.safetensors', tensors)
  return str(directory)


def test_both_formats_and_pieces_are_read(tmp_path):
  tensors = random_tensors(SMALL)
  expected = imagegpt.convert(tensors, SMALL)
  path = _write(tmp_path, SMALL, tensors)
  weight_writers.torch_zip(tmp_path / 'pytorch_model.bin', tensors)
  pieces = tmp_path / 'pieces'
  pieces.mkdir()
  _write(pieces, SMALL, {})
  os.remove(pieces / 'model.safetensors')
  names = list(tensors)
  for file, part in (('a.safetensors', names[:5]), ('b.safetensors', names[5:])):
    weight_writers.safetensors(pieces / file, {n: tensors[n] for n in part})
  index = {n: 'a.safetensors' if n in names[:5] else 'b.safetensors' for n in names}
  (pieces / 'model.safetensors.index.json').write_text(json.dumps({'weight_map': index}))
  for where in (path, f'{path}/model.safetensors', f'{path}/pytorch_model.bin', str(pieces)):
    model, params = imagegpt.load(where)
    assert (model.vocabulary, model.length, model.width) == (7, 9, 16)
    jax.tree.map(np.testing.assert_array_equal, params, expected)
  shapes = jax.eval_shape(lambda key: transformer.init(model, key), jax.random.key(0))
  assert jax.tree.map(np.shape, params) == jax.tree.map(np.shape, shapes)
  assert len(imagegpt.files(str(pieces))) == 3


@pytest.mark.parametrize('dtype', [np.float16, ml_dtypes.bfloat16, np.float64])
def test_every_float_becomes_float32(dtype, tmp_path):
  tensors = {name: tensor.astype(dtype) for name, tensor in random_tensors(SMALL).items()}
  weight_writers.safetensors(tmp_path / 'a.safetensors', tensors)
  weight_writers.torch_zip(tmp_path / 'a.bin', tensors)
  for file in ('a.safetensors', 'a.bin'):
    params = imagegpt.convert(weight_files.read(str(tmp_path / file)), SMALL)
    assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(params))
    expected = tensors['lm_head.weight'].T.astype(np.float32)
    np.testing.assert_array_equal(params['output_DxV'], expected)


def test_damaged_files_are_one_line(tmp_path):
  def fails(message: str, path=tmp_path):
    with pytest.raises(ValueError, match=message) as caught:
      imagegpt.load(str(path))
    assert '\n' not in str(caught.value)

  fails('config.json does not exist')
  fails('nowhere does not exist', tmp_path / 'nowhere')
  (tmp_path / 'config.json').write_text('{')
  fails('config.json can not be read')
  (tmp_path / 'config.json').write_text(json.dumps(SMALL))
  fails('holds neither model.safetensors nor pytorch_model.bin')
  file = tmp_path / 'model.safetensors'
  weight_writers.safetensors(file, random_tensors(SMALL))
  content = file.read_bytes()
  damaged = [b'', content[:6], content[:40], content[:-4], b'\xff' * 8 + content[8:]]
  damaged += [content.replace(b'F32', other, 1) for other in (b'F16', b'F99', b'F4')]
  for part in damaged:
    file.write_bytes(part)
    fails(r'model\.safetensors is damaged, or not a safetensors file: ')
  file.unlink()
  file = tmp_path / 'pytorch_model.bin'
  weight_writers.torch_zip(file, random_tensors(SMALL))
  content = file.read_bytes()
  file.write_bytes(content[:-100])
  fails('not in the zip format of torch.save')
  middle = len(content) // 2
  file.write_bytes(content[:middle] + b'\x5a' * 64 + content[middle + 64 :])
  fails('can not be read: BadZipFile')


@pytest.mark.parametrize(
  'body,message',
  [
    (weight_writers.call('posix', 'system', 'true'), 'asks for posix.system'),
    (weight_writers.call('torch', 'load', 'x'), 'asks for torch.load'),
    (weight_writers.call('builtins', 'eval', '1'), 'asks for builtins.eval'),
    (weight_writers.tensor('0', (4,), (2,), 'FloatStorage'), 'lies outside its storage'),
    (weight_writers.tensor('0', (4,), (1, 1), 'FloatStorage'), 'impossible layout'),
    (weight_writers.text('x'), 'something else than tensors'),
  ],
)
def test_a_pickle_can_do_nothing_but_name_tensors(body, message, tmp_path):
  weight_writers.torch_zip(tmp_path / 'x.bin', {'a': np.ones(4, np.float32)}, {'a': body})
  with pytest.raises(ValueError, match=message):
    weight_files.read(str(tmp_path / 'x.bin'))
