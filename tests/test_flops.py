"""The FLOPs that an objective is charged, against the products in the program of its loss."""

import jax
from jax.interpreters import partial_eval
import jax.numpy as jnp
import numpy as np
import pytest

from models import patterns, transformer
from models.config import ModelConfig
import objectives
from objectives import base, energy, scoring

V, T, D, LAYERS, ROWS = 17, 12, 16, 3, 2
PLAIN = base.Space(V, T, T, classes=4, ordinal=True)
SPACE = base.Space(V, T, T, 4, True, noise=energy.independent(np.zeros((T, V)), PLAIN))


def _inner(value):
  """The programs in a parameter of an equation."""
  for one in value if isinstance(value, tuple | list) else (value,):
    one = getattr(one, 'jaxpr', one)
    if hasattr(one, 'eqns'):
      yield one


def _products(program) -> int:
  """FLOPs of all matrix products; the body of a loop counts as often as it runs."""
  total = 0
  for equation in program.eqns:
    if equation.primitive.name == 'dot_general':
      (summed, _), _ = equation.params['dimension_numbers']
      inner = np.prod([equation.invars[0].aval.shape[axis] for axis in summed])
      total += 2 * int(inner * np.prod(equation.outvars[0].aval.shape))
    times = equation.params['length'] if equation.primitive.name == 'scan' else 1
    for value in equation.params.values():
      total += times * sum(_products(one) for one in _inner(value))
  return total


def _computed(objective, config) -> float:
  """Of the loss of one example; what nothing depends on is left out, as compilers do."""
  apply = transformer.make_apply(config)
  params = jax.eval_shape(
    lambda: {
      'backbone': transformer.init(config, jax.random.key(0)),
      'objective': objective.init(jax.random.key(1), SPACE, D),
    }
  )
  loss = scoring.make_loss(objective, apply, SPACE)

  def value(params, tokens, key):
    batch = {'tokens': tokens, 'label': tokens[:, 0], **scoring.draw(key, ROWS, 0.5)}
    return loss(params, batch)[0]

  traced = jax.make_jaxpr(value)(params, jnp.zeros((ROWS, T), jnp.int32), jax.random.key(0))
  return _products(partial_eval.dce_jaxpr(traced.jaxpr, [True])[0]) / ROWS


def _masked_out(objective, config) -> float:
  """Of attention products that the pattern does not ask for, and the program computes."""
  if config.mixer == 'recurrent':
    return -2.0 * LAYERS * T * config.state  # No products: multiplications and additions.
  asked = objective.backbone(SPACE)
  tokens, pattern = len(asked.positions or range(T)), patterns.of(asked.pattern)
  pairs = tokens**2
  if isinstance(pattern, patterns.NoisyBlocks):
    # Both copies with the clean one, and noisy blocks with themselves, the last one filled up.
    pairs = 2 * T**2 + -(-T // pattern.size) * pattern.size**2
  return 4 * LAYERS * D * (pairs - tokens**2 * pattern.share(tokens, LAYERS))


# An objective's own small products, once an example, are said not to be counted.
TIME = 2 * D * D
CASES = [
  ('autoregressive', {}, 0),
  ('autoregressive', {'context': 3}, 0),
  ('autoregressive', {'order': 'annealed', 'input_mask': 0.2}, 0),
  ('masked_diffusion', {}, 0),
  ('block_diffusion', {'block': 4}, 0),
  ('block_diffusion', {'block': 5}, 0),
  ('uniform_diffusion', {}, TIME),
  ('gaussian_diffusion', {}, TIME),
  ('gaussian_simple', {}, TIME),
  ('dual', {}, 0),
  ('energy', {'noise_examples': 3}, 4 * 2 * D),
  ('supervised', {}, 2 * D * 4),
]
MODELS = [(case, {'shared_layers': shared}) for case in CASES for shared in (False, True)]
MODELS += [(CASES[i], {'mixer': 'recurrent', 'state': 40}) for i in (0, 2)]


@pytest.mark.parametrize('case,model', MODELS, ids=str)
def test_an_objective_is_charged_what_its_loss_computes(case, model):
  name, settings, own = case
  objective = objectives.get(name, **settings).on(SPACE)
  time_input = objective.backbone(SPACE).time_input
  config = ModelConfig(V, T, D, LAYERS, 2, time_input=time_input, **model)
  masked_out = np.mean([_masked_out(member, config) for member in objective.members()])
  passes = 4 if name == 'energy' else 1
  charged = objective.cost(config, SPACE).flops
  assert _computed(objective, config) == pytest.approx(charged + passes * masked_out + own)
