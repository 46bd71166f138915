"""Supervised classification, the control that has seen every label."""

import dataclasses
import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from objectives import base
from objectives.base import Example, Space, View


@dataclasses.dataclass(frozen=True)
class Supervised(base.Objective):
  """Cross-entropy of the label from the mean over positions of the final norm.

  Its D x classes head is the objective's own and is counted with the parameters.
  """

  code: ClassVar[base.Code] = base.Code.NONE
  reads_logits: ClassVar[bool] = False
  uses_labels: ClassVar[bool] = True
  decayed: ClassVar[tuple[str, ...]] = ('head_DxC',)
  loss_unit: ClassVar[str] = 'nats per label'
  predicts: ClassVar[str | None] = None

  def check(self, space: Space) -> None:
    if not space.classes:
      raise ValueError('the supervised objective needs a data set with labels')

  def init(self, key: jax.Array, space: Space, width: int) -> base.Params:
    head_DxC = jax.random.normal(key, (width, space.classes)) / math.sqrt(width)
    return {'head_DxC': head_DxC, 'bias_C': jnp.zeros((space.classes,))}

  def scored(self, space: Space) -> float:
    return 1

  def view(self, example: Example, space: Space) -> View:
    return View(example.tokens_T, example.label, jnp.ones(()))

  def score(self, params: base.Params, view: View, outputs: Any, space: Space) -> base.Score:
    own = params['objective']
    pooled_BxD = jnp.mean(outputs.final_BxTxD, axis=1)
    logits_BxC = jnp.matmul(pooled_BxD, own['head_DxC'], precision='highest')
    logits_BxC += own['bias_C'][None]
    nats_B = base.cross_entropy(logits_BxC, view.targets_T)
    return base.Score(nats_B, nats_B, jnp.ones(nats_B.shape, jnp.int32), {})
