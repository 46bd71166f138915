"""BERT's masked-token prediction (Devlin et al. 2019)."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from objectives import base

_CORRUPTIONS = ('bert', 'mask')


@dataclasses.dataclass(frozen=True)
class Masked(base.Objective):
  """Mean cross-entropy on a random share of the tokens; it has no likelihood.

  Exactly max(1, round(ratio T)) positions are chosen.

  Settings:
    ratio: share of the positions to predict.
    corruption: what the network sees there: 'bert' is MASK with probability 0.8, a uniformly
      random token 0.1, the token itself 0.1; 'mask' is always MASK.
  """

  ratio: float = 0.15
  corruption: str = 'bert'

  code: ClassVar[base.Code] = base.Code.NONE
  stochastic: ClassVar[bool] = True

  def __post_init__(self):
    if not 0 < self.ratio <= 1:
      raise ValueError(f'objective.ratio must be in (0, 1], not {self.ratio}')
    if self.corruption not in _CORRUPTIONS:
      raise ValueError(
        f"objective.corruption '{self.corruption}' is unknown; known: {', '.join(_CORRUPTIONS)}"
      )

  def count(self, space: base.Space) -> int:
    """Number of positions predicted in every example."""
    return max(1, round(self.ratio * space.dims))

  def view(
    self, example: base.Example, stratum: jax.Array, key: jax.Array, space: base.Space
  ) -> base.View:
    del stratum
    choose_key, kind_key, token_key = jax.random.split(key, 3)
    chosen_T = base.choose_positions(choose_key, self.count(space), space)
    seen_T = jnp.full_like(example.tokens_T, space.mask_token)
    if self.corruption == 'bert':
      kind_T = jax.random.uniform(kind_key, (space.length,))
      random_T = jax.random.randint(token_key, (space.length,), 0, space.vocabulary)
      seen_T = jnp.where(kind_T < 0.8, seen_T, random_T.astype(seen_T.dtype))
      seen_T = jnp.where(kind_T < 0.9, seen_T, example.tokens_T)
    inputs_T = jnp.where(chosen_T, seen_T, example.tokens_T)
    return base.View(inputs_T, example.tokens_T, chosen_T / jnp.float32(self.count(space)))

  def per_dimension(self, nats_B: jax.Array, space: base.Space) -> jax.Array:
    return nats_B
