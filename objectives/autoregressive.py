"""Next-token prediction: the chain rule in one fixed order."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from objectives import base
from objectives.base import Example, Key, Level, Network, Space, View

_ORDERS = ('raster', 'reversed', 'random')


@dataclasses.dataclass(frozen=True)
class Autoregressive(base.Objective):
  """-log p(x) = sum_t -log p(x_o(t) | x_o(<t)), exactly.

  Slot t is fed the token of slot t-1 (slot 0 the start vector) under causal attention, so the
  logits at t depend on earlier slots alone. Every token is charged, the first one too. The order
  permutes the data: positions index slots, and samples are put back in place.

  Settings:
    order: 'raster', 'reversed' or 'random' (one fixed permutation, by order_seed).
    order_seed: of the random order.
    context: how many of the previous tokens a prediction may depend on; 0 is all of them.
  """

  order: str = 'raster'
  order_seed: int = 0
  context: int = 0

  code: ClassVar[base.Code] = base.Code.EXACT
  shift: ClassVar[bool] = True
  predicts: ClassVar[str | None] = 'next token'

  def __post_init__(self):
    if self.order not in _ORDERS:
      raise ValueError(f"objective.order '{self.order}' is unknown; known: {', '.join(_ORDERS)}")
    if self.context < 0:
      raise ValueError(f'objective.context must not be negative, not {self.context}')

  @property
  def attention(self) -> tuple:
    return ('causal', self.context or None)

  def backbone(self, space: Space) -> base.Backbone:
    asked = super().backbone(space)
    if space.alphabets is None:
      return asked
    slots = tuple(space.alphabets[i] for i in self.permutation(space))
    return dataclasses.replace(asked, alphabets=slots)

  def permutation(self, space: Space) -> np.ndarray:
    """Which charged token each slot holds; an end token stays last."""
    order = np.arange(space.length)
    if self.order == 'reversed':
      order[: space.dims] = order[: space.dims][::-1]
    elif self.order == 'random':
      order[: space.dims] = np.random.default_rng(self.order_seed).permutation(space.dims)
    return order

  def slots(self, space: Space) -> np.ndarray:
    return self.permutation(space)[: space.dims]

  def view(self, example: Example, space: Space) -> View:
    tokens_T = example.tokens_T[self.permutation(space)]
    return View(tokens_T, tokens_T, base.charged(space))

  def probe_view(self, tokens_T: jax.Array, space: Space, level: Level, key: Key) -> View:
    return super().probe_view(tokens_T[self.permutation(space)], space, level, key)

  def sample(self, network: Network, key: Key, count: int, space: Space) -> jax.Array:
    slots_BxT = network.decode(key, count, self.attention)
    # The last slot's logits were never trained where it is an end token: that is always 0.
    slots_BxT = jnp.where(base.charged(space)[None] > 0, slots_BxT, 0)
    return jnp.zeros_like(slots_BxT).at[:, self.permutation(space)].set(slots_BxT)
