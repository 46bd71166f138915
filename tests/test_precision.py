"""No product between tokens and the bits column is at an accelerator's default precision.

By default a float32 product takes bfloat16 on TPU and TF32 on GPU. Rounded so, Gaussian's mean of
token values was off by .13 bits at V = 256. On a CPU every product is exact, so no value could show
it here: the programs are read instead.
"""

import dataclasses

import jax
from jax import lax
import jax.numpy as jnp
import numpy as np
import pytest

from models import transformer
from models.config import ModelConfig
import objectives
from objectives import energy, scoring
from training import keys

SPACE = objectives.Space(256, 8, 8, classes=3, ordinal=True, shape=(2, 4))
NOISE = energy.independent(np.full((8, 256), np.log(256)), SPACE)
SPACE = dataclasses.replace(SPACE, noise=NOISE)


def products(jaxpr) -> list:
  """Every product of a program, those inside its loops and calls too."""
  found = []
  for equation in jaxpr.eqns:
    if equation.primitive.name in ('dot_general', 'conv_general_dilated'):
      found.append(equation)
    for value in jax.tree.leaves(
      list(equation.params.values()), is_leaf=lambda leaf: hasattr(leaf, 'eqns')
    ):
      inner = getattr(value, 'jaxpr', value)
      if hasattr(inner, 'eqns'):
        found += products(inner)
  return found


def rounded(equation) -> bool:
  """Whether an accelerator may take this product of floats in fewer than float32's bits."""
  floats = all(jnp.issubdtype(x.aval.dtype, jnp.floating) for x in equation.invars)
  precision = equation.params['precision']
  return floats and precision not in (lax.Precision.HIGHEST, (lax.Precision.HIGHEST,) * 2)


def evaluation(objective):
  asked = objective.backbone(SPACE)
  model = ModelConfig(
    asked.vocabulary, asked.length, 16, 2, 2, time_input=asked.time_input, alphabets=asked.alphabets
  )
  apply = transformer.make_apply(model)
  params = {
    'backbone': transformer.init(model, keys.key(0)),
    'objective': objective.init(keys.key(1), SPACE, 16),
  }
  batch = {
    'tokens': jnp.zeros((2, SPACE.length), jnp.int32),
    'label': jnp.zeros((2,), jnp.int32),
    'index': jnp.arange(2),
  }
  evaluate = scoring.make_evaluation(objective, apply, SPACE, 2)
  return evaluate, params, batch


@pytest.mark.parametrize('name', sorted(objectives.OBJECTIVES))
def test_every_product_up_to_the_nats_says_its_precision(name):
  objective = objectives.get(name).on(SPACE)
  if not objective.trains:
    pytest.skip('a control that nothing is scored of')
  for scored in (objective, *objective.also(SPACE).values()):
    evaluate, params, batch = evaluation(scored)
    program = jax.make_jaxpr(evaluate)(params, batch, keys.key(2)).jaxpr
    found = products(program)
    assert found
    left = [str(equation.source_info.traceback) for equation in found if rounded(equation)]
    assert not left, left[0][-1500:]


def test_a_product_at_default_precision_is_found():
  def looped(a):
    return lax.scan(lambda c, _: (jax.jit(lambda x: x @ x)(c), None), a, length=2)[0]

  program = jax.make_jaxpr(looped)(np.eye(3, dtype=np.float32)).jaxpr
  assert [rounded(equation) for equation in products(program)] == [True]
