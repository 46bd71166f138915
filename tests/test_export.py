"""A run of ours as an ImageGPT checkpoint: what is written, who reads it, what is refused."""

import json

import jax
import numpy as np
import pytest
import tiny

from codes import prequential
from models import imagegpt, transformer
from models.config import ModelConfig
from runs import exported, finished, run
from runs.errors import UserError

MODEL = ModelConfig(7, 9, width=16, layers=2, heads=4, mlp_ratio=3, norm_epsilon=1e-3, dropout=0.2)


def _params(model):
  shapes = jax.eval_shape(lambda: transformer.init(model, jax.random.key(0)))
  rng = np.random.default_rng(0)
  return jax.tree.map(lambda x: 0.4 * rng.normal(size=x.shape).astype(np.float32), shapes)


def test_what_is_written_is_read_again(tmp_path):
  params = _params(MODEL)
  imagegpt.write(str(tmp_path), MODEL, params)
  model, again = imagegpt.load(str(tmp_path))
  shape = ('vocabulary', 'length', 'width', 'layers', 'heads', 'mlp_ratio', 'norm_epsilon')
  assert [getattr(model, name) for name in shape] == [getattr(MODEL, name) for name in shape]
  assert not again['token_table'][-1].any() and params['token_table'][-1].any()
  again['token_table'][-1] = params['token_table'][-1]  # MASK's, which the format lacks.
  jax.tree.map(np.testing.assert_array_equal, again, params)


def test_transformers_computes_equal_logits(tmp_path):
  torch = pytest.importorskip('torch')
  transformers = pytest.importorskip('transformers')
  params = _params(MODEL)
  imagegpt.write(str(tmp_path), MODEL, params)
  theirs, info = transformers.ImageGPTForCausalImageModeling.from_pretrained(
    tmp_path, local_files_only=True, output_loading_info=True
  )
  assert not any(info[name] for name in ('missing_keys', 'unexpected_keys', 'mismatched_keys'))
  assert theirs.config.resid_pdrop == 0.2 and theirs.config.attn_pdrop == 0
  tokens = np.random.default_rng(1).integers(0, 7, (3, 9))
  fed = np.concatenate([np.full((3, 1), 7), tokens[:, :-1]], axis=1)
  with torch.no_grad():
    expected = theirs.eval()(torch.from_numpy(fed)).logits.numpy()
  apply = transformer.make_apply(MODEL)
  logits = apply(params, tokens, pattern=('causal',), shift=True).logits_BxTxV
  assert np.abs(expected).max() > 1
  np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
  'changes,message',
  [
    ({'shared_layers': True}, 'no backbone with model.shared_layers True'),
    ({'mixer': 'recurrent', 'state': 8}, "no backbone with model.mixer 'recurrent'"),
    ({'norm': 'post'}, "no backbone with model.norm 'post'"),
    ({'residual': False}, 'no backbone with model.residual False'),
    ({'time_input': True}, 'no backbone with model.time_input True'),
    ({'alphabets': (7,) * 8 + (2,)}, 'no backbone with model.alphabets'),
  ],
)
def test_backbones_that_the_format_can_not_hold(changes, message):
  with pytest.raises(ValueError, match=message):
    imagegpt.check(ModelConfig(7, 9, width=16, layers=2, heads=4, **changes))


def test_a_run_is_exported_whole_or_not_at_all(data_dir, tmp_path, monkeypatch):
  workdir, out = str(tmp_path / 'run'), tmp_path / 'out'
  config = tiny.config('autoregressive', '--config.probe.linear.labels=()')
  run.open_workdir(workdir, config)
  with pytest.raises(UserError, match='is not finished'):
    exported.imagegpt_directory(workdir, data_dir, str(out))
  built = tiny.build(data_dir, 'autoregressive', '--config.probe.linear.labels=()')
  run.execute(built, workdir)
  said = exported.imagegpt_directory(workdir, data_dir, str(out))
  assert said == f'{out}: 1 layers, width 16, 17 colours and the start token 17, 64 positions'
  assert sorted(path.name for path in out.iterdir()) == ['config.json', 'model.safetensors']
  assert json.loads((out / 'config.json').read_text())['vocab_size'] == 18
  params = finished.coded(workdir, data_dir)[1]['backbone']
  _, again = imagegpt.load(str(out))
  np.testing.assert_array_equal(again['start_D'], params['start_D'])
  np.testing.assert_array_equal(again['blocks']['qkv_Dx3D'], params['blocks']['qkv_Dx3D'])
  with pytest.raises(UserError, match='is there already'):
    exported.imagegpt_directory(workdir, data_dir, str(out))

  def refused(message, **changes):
    def other(*arguments):
      reading = real(*arguments)
      return type(reading)(**{**vars(reading), **changes})

    real = prequential.reading
    monkeypatch.setattr(prequential, 'reading', other)
    with pytest.raises(UserError, match=message):
      exported.imagegpt_directory(workdir, data_dir, str(tmp_path / 'new'))
    monkeypatch.setattr(prequential, 'reading', real)

  refused("in order 'raster', ImageGPT in raster", order=tuple(range(64))[::-1])
  refused('looks back 5 tokens', window=5)
  assert sorted(path.name for path in tmp_path.iterdir()) == ['out', 'run']
