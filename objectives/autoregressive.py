"""Next-token prediction: the chain rule in one fixed order."""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from objectives import base
from objectives.base import Example, Key, Level, Network, Space, View

# As the backbone's positions are spread at first.
_FED_FROM_INIT = 0.01
_ORDERS = ('raster', 'reversed', 'random', 'annealed')


@dataclasses.dataclass(frozen=True)
class Autoregressive(base.Objective):
  """-log p(x) = sum_t -log p(x_o(t) | x_o(<t)), exactly.

  Slot t is fed the token of slot t-1 (slot 0 the start vector) under causal attention, so the
  logits at t depend on earlier slots alone. Every token is charged, the first one too. The order
  permutes the data: positions index slots, and samples are put back in place.

  An annealed order is raster wherever the network is used, and in some rows of training a uniformly
  random one of the row's own (Yu et al. 2024, RAR). There a slot has the position of the token that
  it must predict, which in raster order is the slot's own number, and beside it an embedding of
  where the token that it is fed came from: a T x D table of the objective's own, which is counted
  and of no use after training. Without it a random order teaches little more than a histogram.

  Settings:
    order: 'raster', 'reversed', 'random' (one fixed permutation, by order_seed) or 'annealed': a
      row of training is in random order with a probability that falls linearly from 1 to 0.
    order_seed: of the random order.
    anneal_from, anneal_to: progress of training at which that fall begins and ends.
    context: how many of the previous tokens a prediction may depend on; 0 is all of them.
    input_mask: probability that an input token of training, never a target nor the start vector, is
      shown as MASK, each on its own (Gao et al. 2025). An evaluation masks nothing.
  """

  order: str = 'raster'
  order_seed: int = 0
  anneal_from: float = 0.5
  anneal_to: float = 0.75
  context: int = 0
  input_mask: float = 0.0

  code: ClassVar[base.Code] = base.Code.EXACT
  shift: ClassVar[bool] = True
  predicts: ClassVar[str | None] = 'next token'

  def __post_init__(self):
    if self.order not in _ORDERS:
      raise ValueError(f"objective.order '{self.order}' is unknown; known: {', '.join(_ORDERS)}")
    if self.context < 0:
      raise ValueError(f'objective.context must not be negative, not {self.context}')
    if not 0 <= self.anneal_from <= self.anneal_to <= 1:
      raise ValueError(
        'objective.anneal_from and objective.anneal_to must be shares of training, the first not '
        f'above the second, not {self.anneal_from} and {self.anneal_to}'
      )
    if not 0 <= self.input_mask <= 1:
      raise ValueError(f'objective.input_mask must be in [0, 1], not {self.input_mask}')

  @property
  def trained_on(self) -> str:
    words = ['cross-entropy']
    if self.order == 'annealed':
      words.append('orders from random to raster')
    if self.input_mask:
      words.append(f'{100 * self.input_mask:g} % of the inputs masked')
    return ', '.join(words)

  @property
  def attention(self) -> tuple:
    return ('causal', self.context or None)

  def init(self, key: jax.Array, space: Space, width: int) -> base.Params:
    if self.order != 'annealed':
      return {}
    return {'fed_from_TxD': _FED_FROM_INIT * jax.random.normal(key, (space.length, width))}

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
    view = View(tokens_T, tokens_T, base.charged(space))
    if example.progress is None:
      return view
    order_key, mask_key = jax.random.split(example.key)
    if self.order == 'annealed':
      positions_T, random = self._annealed(order_key, example.progress, space)
      tokens_T = tokens_T[positions_T]
      weights_T = base.charged(space)
      view = View(tokens_T, tokens_T, weights_T, positions_T=positions_T, extra={'random': random})
    if self.input_mask:
      masked_T = jax.random.bernoulli(mask_key, self.input_mask, (space.length,))
      masked_T &= base.charged(space) > 0
      view = view._replace(inputs=jnp.where(masked_T, space.mask_token, tokens_T))
    return view

  def run(
    self, apply: base.Apply, params: base.Params, view: View, space: Space, **arguments: Any
  ) -> Any:
    if view.positions_T is not None:
      table_TxD = params['objective']['fed_from_TxD']
      from_BxTxD = jnp.pad(table_TxD[view.positions_T[:, :-1]], ((0, 0), (1, 0), (0, 0)))
      random_Bx1x1 = view.extra['random'][:, None, None]
      arguments['added_BxTxD'] = jnp.where(random_Bx1x1, from_BxTxD, 0.0)
    return super().run(apply, params, view, space, **arguments)

  def _annealed(
    self, key: jax.Array, progress: jax.Array | float, space: Space
  ) -> tuple[jax.Array, jax.Array]:
    """Which charged token each slot of a row of training holds, and whether in random order.

    An end token stays last.
    """
    choose_key, order_key = jax.random.split(key)
    fall = max(self.anneal_to - self.anneal_from, 2.0**-24)  # It may take no time.
    random = jax.random.uniform(choose_key) < (self.anneal_to - progress) / fall
    raster_T = jnp.arange(space.length)
    random_T = raster_T.at[: space.dims].set(jax.random.permutation(order_key, space.dims))
    return jnp.where(random, random_T, raster_T), random

  def probe_view(self, tokens_T: jax.Array, space: Space, level: Level, key: Key) -> View:
    return super().probe_view(tokens_T[self.permutation(space)], space, level, key)

  def sample(self, network: Network, key: Key, count: int, space: Space) -> jax.Array:
    slots_BxT = network.decode(key, count, self.attention)
    # The last slot's logits were never trained where it is an end token: that is always 0.
    slots_BxT = jnp.where(base.charged(space)[None] > 0, slots_BxT, 0)
    return jnp.zeros_like(slots_BxT).at[:, self.permutation(space)].set(slots_BxT)
