"""Token accuracy against counting by hand, and against predictors whose accuracy is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import test_objectives as tiny_source

from models import transformer
from models.config import ModelConfig
import objectives
from objectives import base, energy, scoring

V, T = tiny_source.V, tiny_source.T
SEQUENCES, MASK = tiny_source.SEQUENCES, tiny_source.MASK
# One constant token at the end, which is never charged.
SPACE = base.Space(vocabulary=V, length=T + 1, dims=T)
PREDICT_TOKENS = (
  'autoregressive', 'masked', 'masked_diffusion', 'block_diffusion', 'dual', 'denoising'
)  # fmt: skip


def _accuracy(objective, apply, sequences, draws=20, space=SPACE):
  found = tiny_source._evaluate(objective, apply, sequences, draws, space=space)
  return found['token_accuracy']


def _answers(table):
  """A stand-in for the backbone: at every position, table[position][token or MASK seen there]."""
  logits = 10 * jax.nn.one_hot(jnp.asarray(table), V)  # (T, V+1, V)

  def apply(params, inputs, **arguments):
    del params, arguments
    return transformer.Outputs(logits[jnp.arange(inputs.shape[1])[None], inputs], None)

  return apply


def _with_end(sequences):
  return np.pad(sequences, ((0, 0), (0, 1)))


def test_random_logits_are_counted_as_by_hand_and_the_end_token_is_not():
  rng = np.random.default_rng(0)
  logits = rng.normal(size=(len(SEQUENCES), T + 1, V)).astype(np.float32)
  logits[:, T, 0] = 9.0  # always right about the end token: no credit for that

  def apply(params, inputs, **arguments):
    return transformer.Outputs(jnp.asarray(logits), None)

  found = _accuracy(objectives.get('autoregressive'), apply, _with_end(SEQUENCES))
  expected = [
    sum(int(np.argmax(logits[n, t])) == SEQUENCES[n, t] for t in range(T)) / T
    for n in range(len(SEQUENCES))
  ]
  np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize('name', ['masked', 'masked_diffusion'])
def test_only_what_is_hidden_counts(name):
  rows, settings = 200, {'ratio': 0.5} if name == 'masked' else {}
  objective = objectives.get(name, **settings)
  tokens, view = tiny_source._views(name, rows, space=SPACE, **settings)
  logits = np.random.default_rng(1).normal(size=(rows, T + 1, V)).astype(np.float32)
  outputs = transformer.Outputs(jnp.asarray(logits), None)
  found = np.asarray(objective.score({}, view, outputs, SPACE).token_accuracy_B)
  scored, seen, tokens = (np.asarray(a) for a in (view.weights_T > 0, view.inputs, tokens))
  hidden = scored & (seen == MASK)
  # BERT leaves some of what it charges in sight, or shows another token.
  assert (hidden != scored).any() == (name == 'masked')
  for n in range(rows):
    right = [int(np.argmax(logits[n, t])) == tokens[n, t] for t in range(T + 1) if hidden[n, t]]
    if right:
      assert found[n] == pytest.approx(np.mean(right))
    else:
      assert np.isnan(found[n])


@pytest.mark.parametrize('name', PREDICT_TOKENS)
def test_a_predictor_that_is_always_right_has_one_and_always_wrong_none(name):
  sequence = [1, 2, 0, 1]
  data = _with_end(np.tile(sequence, (6, 1)))
  right = _answers([[token] * (V + 1) for token in [*sequence, 2]])  # wrong about the end token
  wrong = _answers([[(token + 1) % V] * (V + 1) for token in [*sequence, 2]])
  objective = objectives.get(name)
  np.testing.assert_array_equal(_accuracy(objective, right, data), 1)
  np.testing.assert_array_equal(_accuracy(objective, wrong, data), 0)


@pytest.mark.parametrize('name', ['masked', 'masked_diffusion'])
def test_copying_what_is_in_sight_earns_nothing(name):
  """Predicts a visible token as itself and 0 where MASK is; no token is 0."""
  data = _with_end(SEQUENCES[(SEQUENCES > 0).all(axis=1)])
  copies = _answers([[0, 1, 2, 0]] * (T + 1))
  np.testing.assert_array_equal(_accuracy(objectives.get(name), copies, data), 0)


@pytest.mark.parametrize('name', PREDICT_TOKENS)
def test_equal_probabilities_share_the_credit(name):
  found = _accuracy(objectives.get(name), tiny_source._uniform, _with_end(SEQUENCES))
  np.testing.assert_allclose(found, 1 / V, rtol=1e-6)


def test_draws_that_hide_nothing_have_no_say():
  """The Bernoulli form may mask nothing at early times; that is no prediction, not a wrong one."""
  objective = objectives.get('masked_diffusion', form='bernoulli')
  found = _accuracy(objective, tiny_source._uniform, _with_end(SEQUENCES), draws=8)
  np.testing.assert_allclose(found, 1 / V, rtol=1e-6)
  _, view = tiny_source._views(
    'masked_diffusion', 9, space=SPACE, strata=jnp.zeros(9), form='bernoulli'
  )
  outputs = transformer.Outputs(jnp.zeros((9, T + 1, V)), None)
  assert np.isnan(objective.score({}, view, outputs, SPACE).token_accuracy_B).all()


def test_only_objectives_that_predict_tokens_have_one():
  noise = energy.independent(np.zeros((T, V)), base.Space(V, T, T))
  space = base.Space(V, T, T, classes=3, ordinal=True, noise=noise)
  batch = {'tokens': jnp.zeros((2, T), int), 'label': jnp.zeros(2, int), 'index': jnp.arange(2)}
  having = set()
  for name, kind in objectives.OBJECTIVES.items():
    objective = objectives.get(name)
    if not objective.trains:
      continue
    config = ModelConfig(V, T, width=8, layers=1, heads=2, time_input=objective.time_input)
    params = {
      'backbone': transformer.init(config, jax.random.key(0)),
      'objective': objective.init(jax.random.key(0), space, 8),
    }
    evaluate = scoring.make_evaluation(objective, transformer.make_apply(config), space, 2)
    values = jax.eval_shape(evaluate, params, batch, jax.random.key(0))
    assert ('token_accuracy' in values) == (kind.predicts is not None)
    if 'token_accuracy' in values:
      having.add(name)
  assert having == set(PREDICT_TOKENS)
