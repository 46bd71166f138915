"""BERT's masked-token prediction (Devlin et al. 2019)."""

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp

from objectives import base
from objectives.base import Example, Key, Level, Space, View
from objectives.masked_diffusion import MaskedDiffusion

_CORRUPTIONS = ('bert', 'mask')
_PATTERNS = ('random', 'block', 'half_plane')


@dataclasses.dataclass(frozen=True)
class Masked(base.Objective):
  """Mean cross-entropy on a share of the tokens; it has no likelihood.

  Settings:
    ratio: share of the positions to predict.
    corruption: what the network sees there: 'bert' is MASK with probability 0.8, a uniformly
      random token 0.1, the token itself 0.1; 'mask' is always MASK.
    pattern: 'random' chooses exactly max(1, round(ratio T)) positions; 'block' one square (a run
      where there is no picture) of about that area; 'half_plane' that share of the rows or
      columns, from one of the four sides.
  """

  ratio: float = 0.15
  corruption: str = 'bert'
  pattern: str = 'random'

  code: ClassVar[base.Code] = base.Code.NONE
  stochastic: ClassVar[bool] = True

  def __post_init__(self):
    if not 0 < self.ratio <= 1:
      raise ValueError(f'objective.ratio must be in (0, 1], not {self.ratio}')
    for name, known in (('corruption', _CORRUPTIONS), ('pattern', _PATTERNS)):
      if getattr(self, name) not in known:
        raise ValueError(
          f"objective.{name} '{getattr(self, name)}' is unknown; known: {', '.join(known)}"
        )

  def check(self, space: Space) -> None:
    if self.pattern == 'half_plane' and len(space.shape) != 2:
      raise ValueError("objective.pattern 'half_plane' needs pictures")

  def scored(self, space: Space) -> float:
    if self.pattern == 'random':
      return self._share(space.dims)
    if self.pattern == 'block':
      return math.prod(self._block(space))
    rows, columns = space.shape
    return (self._share(rows) * columns + rows * self._share(columns)) / 2

  def _share(self, count: int) -> int:
    return max(1, round(self.ratio * count))

  def _block(self, space: Space) -> tuple[int, int]:
    """Height and width of a block."""
    rows, columns = _picture(space)
    height = min(max(1, round(math.sqrt(self.ratio * space.dims))), rows)
    return height, min(max(1, round(self.ratio * space.dims / height)), columns)

  def choose(self, key: jax.Array, space: Space) -> jax.Array:
    """The positions to predict; bool (T,)."""
    if self.pattern == 'random':
      return base.choose_positions(key, self._share(space.dims), space)
    picture = _picture(space)
    row_key, column_key, side_key = jax.random.split(key, 3)
    rows, columns = jnp.arange(picture[0])[:, None], jnp.arange(picture[1])[None]
    if self.pattern == 'block':
      height, width = self._block(space)
      top = jax.random.randint(row_key, (), 0, picture[0] - height + 1)
      left = jax.random.randint(column_key, (), 0, picture[1] - width + 1)
      chosen = (rows >= top) & (rows < top + height) & (columns >= left) & (columns < left + width)
    else:
      deep = [self._share(size) for size in picture]
      sides = (
        rows < deep[0],
        rows >= picture[0] - deep[0],
        columns < deep[1],
        columns >= picture[1] - deep[1],
      )
      whole = [jnp.broadcast_to(side, picture) for side in sides]
      chosen = jnp.stack(whole)[jax.random.randint(side_key, (), 0, 4)]
    return jnp.pad(chosen.reshape(-1), (0, space.length - space.dims))

  def view(self, example: Example, space: Space) -> View:
    choose_key, kind_key, token_key = jax.random.split(example.key, 3)
    chosen_T = self.choose(choose_key, space)
    seen_T = jnp.full_like(example.tokens_T, space.mask_token)
    if self.corruption == 'bert':
      kind_T = jax.random.uniform(kind_key, (space.length,))
      random_T = jax.random.randint(token_key, (space.length,), 0, space.vocabulary)
      seen_T = jnp.where(kind_T < 0.8, seen_T, random_T.astype(seen_T.dtype))
      seen_T = jnp.where(kind_T < 0.9, seen_T, example.tokens_T)
    inputs_T = jnp.where(chosen_T, seen_T, example.tokens_T)
    return View(inputs_T, example.tokens_T, chosen_T / jnp.sum(chosen_T))

  def counted(self, view: View, space: Space) -> jax.Array:
    """Chosen positions that show MASK: a token left in sight would flatter the accuracy."""
    return super().counted(view, space) & (view.inputs == space.mask_token)

  def per_dimension(self, nats_B: jax.Array, space: Space) -> jax.Array:
    return nats_B

  def hiding(self) -> base.Objective:
    """Every chosen position shows MASK: a tenth left in sight would flatter the cross-entropy."""
    return dataclasses.replace(self, corruption='mask')

  def also(self, space: Space) -> dict[str, base.Objective]:
    """The any-order bound holds for any set of conditionals, BERT's too."""
    return {'masked_diffusion': MaskedDiffusion()}

  def probe_levels(self) -> tuple[float, ...]:
    return (self.ratio, 0.5)

  def probe_view(self, tokens_T: jax.Array, space: Space, level: Level, key: Key) -> View:
    return base.masked_probe_view(tokens_T, space, level, key)


def _picture(space: Space) -> tuple[int, int]:
  """Rows and columns; one row where there is no picture."""
  return space.shape if len(space.shape) == 2 else (1, space.dims)
