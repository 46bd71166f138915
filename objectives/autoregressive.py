"""Next-token prediction: the chain rule in raster order."""

import dataclasses
from typing import ClassVar

import jax

from objectives import base


@dataclasses.dataclass(frozen=True)
class Autoregressive(base.Objective):
  """-log p(x) = sum_t -log p(x_t | x_<t), exactly.

  Position t is fed token t-1 (position 0 the start vector) under causal attention, so the logits
  at t depend on x_<t alone. Every token is charged, the first one too.
  """

  code: ClassVar[base.Code] = base.Code.EXACT
  causal: ClassVar[bool] = True
  shift: ClassVar[bool] = True

  def view(
    self, example: base.Example, stratum: jax.Array, key: jax.Array, space: base.Space
  ) -> base.View:
    del stratum, key
    return base.View(example.tokens_T, example.tokens_T, base.charged(space))
