"""A checkpoint as a run: imported, reported, probed again; configs of the published sizes."""

import dataclasses
import functools
import json

import jax
import numpy as np
import pytest
import tiny
import weight_writers

from experiments import igpt_l, igpt_m, igpt_s, igpt_xl
from models import imagegpt, transformer
from models.config import PRESETS, ModelConfig
from reports import finding, results
from runs import assessment, configs, experiment, imported, run
from runs.errors import UserError
from training import optimizer as optimizer_lib

DIGITS = dict(
  model_type='imagegpt', vocab_size=18, n_positions=64, n_embd=16, n_layer=1, n_head=2, n_inner=32
)


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
  """A checkpoint of random weights for the digits, with logits that are not all zero."""
  directory, rng = tmp_path_factory.mktemp('checkpoint'), np.random.default_rng(0)
  shapes = {
    'transformer.wte.weight': (18, 16),
    'transformer.wpe.weight': (64, 16),
    'transformer.h.0.ln_1.weight': (16,),
    'transformer.h.0.attn.c_attn.weight': (16, 48),
    'transformer.h.0.attn.c_proj.weight': (16, 16),
    'transformer.h.0.ln_2.weight': (16,),
    'transformer.h.0.mlp.c_fc.weight': (16, 32),
    'transformer.h.0.mlp.c_proj.weight': (32, 16),
    'transformer.ln_f.weight': (16,),
    'lm_head.weight': (17, 16),
  }
  tensors = {n: 0.2 * rng.normal(size=s).astype(np.float32) for n, s in shapes.items()}
  (directory / 'config.json').write_text(json.dumps(DIGITS))
  weight_writers.safetensors(directory / 'model.safetensors', tensors)
  return directory


def test_a_checkpoint_becomes_a_run_like_any_other(checkpoint, data_dir, tmp_path):
  workdir, config = str(tmp_path / 'run'), tiny.config('autoregressive')
  record = imported.import_run(str(checkpoint), config, workdir, data_dir)
  assert record == configs.read_record(workdir)
  assert record['size'] == 'L1D16H2' and record['code'] == 'exact'
  assert record['imported']['file'] == 'model.safetensors'
  for name in ('steps', 'tokens_seen', 'learning_rate', 'epochs'):
    assert record[name] is None  # nothing is claimed of a training that happened elsewhere
  # The run restores to the checkpoint's weights, and they cost what the record says.
  saved = configs.from_plain(configs.read_saved(workdir)['config'])
  built = experiment.build(saved, data_dir)
  state, _ = run.restore(built, workdir, best=False)
  model, params = imagegpt.load(str(checkpoint))
  assert built.model == dataclasses.replace(model, unroll=True)  # of our choosing on a CPU
  jax.tree.map(np.testing.assert_array_equal, state.params['backbone'], params)
  tokens = built.dataset.test.tokens_NxT
  apply = jax.jit(functools.partial(transformer.make_apply(model), pattern=('causal',), shift=True))
  logits = apply(params, tokens).logits_BxTxV
  picked = np.take_along_axis(jax.nn.log_softmax(logits), tokens[..., None], axis=-1)
  assert record['bits_per_dim'] == pytest.approx(-float(picked.mean()) / np.log(2), rel=1e-5)
  probes, _, _ = assessment.probe(built, state.params)
  assert probes['linear']['all'] == record['probes']['linear']['all']
  found = results.assemble(finding.find([workdir]))
  assert any('not trained here' in note for note in found['notes'])
  # Again: nothing to do. Another checkpoint: refused.
  assert imported.import_run(str(checkpoint), config, workdir, data_dir) == record
  other = tmp_path / 'other'
  other.mkdir()
  (other / 'config.json').write_text(json.dumps({**DIGITS, 'layer_norm_epsilon': 1e-6}))
  content = (checkpoint / 'model.safetensors').read_bytes()
  (other / 'model.safetensors').write_bytes(content)
  with pytest.raises(UserError, match='holds a run of another config: imported.sha256'):
    imported.import_run(str(other), config, workdir, data_dir)


def test_what_does_not_fit_is_one_line_and_leaves_nothing(checkpoint, data_dir, tmp_path):
  workdir = tmp_path / 'run'

  def fails(message, objective='autoregressive', path=checkpoint, overrides=()):
    config = tiny.config(objective, *overrides)
    with pytest.raises(UserError, match=message) as caught:
      imported.import_run(str(path), config, str(workdir), data_dir)
    assert '\n' not in str(caught.value)
    assert not workdir.exists()

  fails('nowhere does not exist', path=tmp_path / 'nowhere')
  fails("'untrained' keeps its initial parameters", 'untrained')
  fails("'supervised' has parameters that the checkpoint lacks", 'supervised')
  fails("'gaussian_diffusion' has parameters that the checkpoint lacks", 'gaussian_diffusion')
  shared = ['--config.model.shared_layers=True']
  fails('has no backbone with model.shared_layers True', overrides=shared)
  for size, message in (
    ({'n_positions': 65}, "is for 65 tokens an example, data 'digits' has 64"),
    ({'vocab_size': 513}, "is for 512 token values, data 'digits' has 17"),
  ):
    (tmp_path / 'config.json').write_text(json.dumps({**DIGITS, **size}))
    (tmp_path / 'model.safetensors').write_bytes(b'')
    fails(message, path=tmp_path)


@pytest.mark.parametrize('preset,file', [
  ('igpt_s', igpt_s), ('igpt_m', igpt_m), ('igpt_l', igpt_l), ('igpt_xl', igpt_xl)
])  # fmt: skip
def test_published_sizes_have_the_published_training(preset, file):
  config = file.get_config('masked_diffusion')
  assert config.model.preset == preset and config.objective.name == 'masked_diffusion'
  images = config.training.steps * config.training.batch_size
  assert images == 128_000_000  # 104 epochs of 96 % of ImageNet
  epoch = config.optimizer.warmup_steps * config.training.batch_size
  assert 0 <= 1_281_167 * 0.96 - epoch < 128
  schedule = optimizer_lib.schedule(config.optimizer, config.training.steps)
  assert schedule(config.optimizer.warmup_steps) == pytest.approx(config.optimizer.learning_rate)
  assert schedule(config.training.steps) == pytest.approx(0, abs=1e-9)
  assert (config.optimizer.beta1, config.optimizer.beta2) == (0.9, 0.95)
  assert config.optimizer.weight_decay == 0
  optimizer_lib.make_optimizer(config.optimizer, config.training.steps, ())
  ModelConfig(512, 4096 if preset == 'igpt_xl' else 1024, **PRESETS[preset])
