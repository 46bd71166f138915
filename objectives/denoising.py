"""Denoising autoencoder on tokens (Vincent et al. 2008)."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from objectives import base
from objectives.base import Example, Key, Level, Space, View


@dataclasses.dataclass(frozen=True)
class Denoising(base.Objective):
  """Replaces tokens by uniformly random ones and reconstructs all of them; no likelihood.

  Settings:
    ratio: probability that a token is replaced (possibly by itself).
  """

  ratio: float = 0.25

  code: ClassVar[base.Code] = base.Code.NONE
  stochastic: ClassVar[bool] = True
  predicts: ClassVar[str | None] = 'all tokens, some replaced'

  def __post_init__(self):
    if not 0 < self.ratio <= 1:
      raise ValueError(f'objective.ratio must be in (0, 1], not {self.ratio}')

  def view(self, example: Example, space: Space) -> View:
    inputs_T = _corrupt(example.tokens_T, self.ratio, example.key, space)
    return View(inputs_T, example.tokens_T, base.charged(space))

  def probe_levels(self) -> tuple[float, ...]:
    return (self.ratio, 0.5)

  def probe_view(self, tokens_T: jax.Array, space: Space, level: Level, key: Key) -> View:
    if level is not None:
      tokens_T = _corrupt(tokens_T, level, key, space)
    return super().probe_view(tokens_T, space, level, key)


def _corrupt(tokens_T: jax.Array, ratio: float, key: jax.Array, space: Space) -> jax.Array:
  """Charged tokens replaced by uniform ones with probability `ratio`."""
  choose_key, token_key = jax.random.split(key)
  replaced_T = jax.random.bernoulli(choose_key, ratio, (space.length,)) & (base.charged(space) > 0)
  random_T = jax.random.randint(token_key, (space.length,), 0, space.vocabulary)
  return jnp.where(replaced_T, random_T.astype(tokens_T.dtype), tokens_T)
