"""Two objectives on one set of weights: each half as if it were alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import test_block_diffusion as blocks
import test_objectives as tiny_source
import tiny

from models import transformer
from models.config import ModelConfig
import objectives
from objectives import base, scoring
from runs import joint
from runs.errors import UserError

SPACE, SEQUENCES = tiny_source.SPACE, tiny_source.SEQUENCES
DUAL, CAUSAL, MASKED = map(objectives.get, ('dual', 'autoregressive', 'masked_diffusion'))


@pytest.fixture(scope='module')
def ready():
  config, params = blocks._backbone()
  return transformer.make_apply(config), {'backbone': params, 'objective': {}}


def test_each_half_of_the_rows_is_trained_on_as_one_of_the_two(ready):
  apply, params = ready
  batch = {'tokens': jnp.asarray(SEQUENCES[:16], jnp.int32), 'label': jnp.zeros(16, jnp.int32)}
  batch |= scoring.draw(jax.random.key(0), 16, 1.0)

  def loss(objective, rows):
    function = jax.jit(scoring.make_loss(objective, apply, SPACE))
    value, metrics = function(params, {name: x[rows] for name, x in batch.items()})
    return float(value), {name: float(x) for name, x in metrics.items()}

  both, metrics = loss(DUAL, slice(0, 16))
  (causal, of_causal), (masked, of_masked) = loss(CAUSAL, slice(0, 8)), loss(MASKED, slice(8, 16))
  assert both == pytest.approx((causal + masked) / 2, rel=1e-6)
  assert abs(causal - masked) > 0.05
  assert metrics['scored'] == of_causal['scored'] + of_masked['scored']
  assert metrics['bits_per_dim'] == pytest.approx(of_causal['bits_per_dim'], rel=1e-6)
  # Too few rows for both are the first one's, which fine-tuning may have.
  assert loss(DUAL, slice(0, 1))[0] == pytest.approx(loss(CAUSAL, slice(0, 1))[0], rel=1e-6)
  third, first, second = (
    loss(o, rows)[0]
    for o, rows in ((DUAL, slice(0, 3)), (CAUSAL, slice(0, 2)), (MASKED, slice(2, 3)))
  )
  assert third == pytest.approx((2 * first + second) / 3, rel=1e-6)


def test_both_codes_are_those_of_the_two(ready):
  apply, params = ready

  def evaluate(objective):
    function = jax.jit(scoring.make_evaluation(objective, apply, SPACE, 5))
    batch = {
      'tokens': jnp.asarray(SEQUENCES, jnp.int32),
      'label': jnp.zeros(81, jnp.int32),
      'index': jnp.arange(81),
    }
    return {k: np.asarray(v) for k, v in function(params, batch, jax.random.key(0)).items()}

  both, causal, masked = map(evaluate, (DUAL, CAUSAL, MASKED))
  assert DUAL.code is base.Code.EXACT
  np.testing.assert_allclose(both['nats'], causal['nats'], rtol=1e-6)
  np.testing.assert_allclose(both['loss'], (causal['loss'] + masked['loss']) / 2, rtol=1e-5)
  assert np.exp(-both['nats'].astype(np.float64)).sum() == pytest.approx(1, abs=1e-5)
  beside = DUAL.also(SPACE)
  assert beside['masked_diffusion'] == MASKED
  assert {k: v for k, v in beside.items() if k != 'masked_diffusion'} == MASKED.also(SPACE)


def test_half_of_each_is_paid_for():
  space, model = base.Space(5, 13, 12), ModelConfig(5, 13, 8, 2, 2)
  found, parts = DUAL.cost(model, space), [o.cost(model, space) for o in (CAUSAL, MASKED)]
  assert found == (sum(p.flops for p in parts) / 2, (12 + 6.5) / 2)


def test_probes_read_it_either_way():
  assert DUAL.reading() == CAUSAL
  assert objectives.get('dual', probe='masked_diffusion').reading() == MASKED
  with pytest.raises(ValueError, match="objective.probe 'full' is unknown; known: autoregressive"):
    objectives.get('dual', probe='full')


def test_rows_that_do_not_halve_are_refused_before_the_work(data_dir, monkeypatch):
  for overrides in (('batch_size=7',), ('batch_size=8', 'microbatches=8')):
    with pytest.raises(
      UserError, match='training.batch_size . must be a multiple of .*2 objectives'
    ):
      tiny.build(data_dir, 'dual', *(f'--config.training.{o}' for o in overrides))
  assert tiny.build(data_dir, 'dual', '--config.training.microbatches=4').objective == DUAL
  # A label after the image would be coded by a network that is trained otherwise.
  built = tiny.build(data_dir, 'dual')
  monkeypatch.setattr(joint.finished, 'read', lambda workdir: (built.config, None))
  monkeypatch.setattr(joint.experiment, 'build', lambda *arguments: built)
  with pytest.raises(UserError, match='only an autoregressive run'):
    joint.measure('there', (), data_dir, weights=(1.0,), steps=1, updates=1)
