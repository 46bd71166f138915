"""A network that fills in hidden symbols, as both ends of a code call it: pass after pass.

What is known of a batch of examples is kept, all else shows MASK. Masked diffusion sees whole
examples; block diffusion fills in one block after another, with keys and values of what is known
before it in a cache, as in sampling. Encoder and decoder run the very same compiled passes.

Shape suffixes: B batch, T places, Q places of a block, V vocabulary.
"""

from typing import Any

import jax
import numpy as np

from models import decoding, transformer
from models.config import ModelConfig
import objectives
from objectives import base


def filler(objective: objectives.Objective, space: objectives.Space) -> objectives.Objective | None:
  """The objective by which a network fills in: its own, or another that it is scored by; None."""
  for each in (objective, *objective.also(space).values()):
    if each.fills(space):
      return each
  return None


class Filling:
  """The passes over a batch.

  Args:
    objective: one that fills in.
    model: of the backbone.
    space: of the examples.
    batch: examples at a time.

  Attributes:
    block: places that are filled in together.
  """

  def __init__(
    self,
    objective: objectives.Objective,
    model: ModelConfig,
    space: objectives.Space,
    batch: int,
  ):
    self.block = min(objective.fills(space), space.dims)
    self._space, self._batch, self._whole = space, batch, self.block == space.dims
    self._empty = decoding.make_cache(model)
    apply, extend = transformer.make_apply(model), decoding.make_extend(model)
    pattern = ('blocks', self.block)

    def whole(params: Any, cache: Any, inputs_BxT: jax.Array, start: jax.Array) -> tuple:
      del start
      view = base.View(inputs_BxT, inputs_BxT, jax.numpy.zeros(inputs_BxT.shape))
      outputs = objective.run(apply, params, view, space)
      return cache, jax.nn.softmax(outputs.logits_BxTxV[:, : space.dims])

    def inside(params: Any, cache: Any, inputs_BxQ: jax.Array, start: jax.Array) -> tuple:
      cache, logits_BxQxV = extend(params['backbone'], cache, inputs_BxQ, start, pattern)
      return cache, jax.nn.softmax(logits_BxQxV)

    self._pass = jax.jit(whole if self._whole else inside)

  def begin(self) -> None:
    """A batch begins: nothing is known."""
    self._inputs_BxT = np.zeros((self._batch, self._space.length), np.int32)
    self._inputs_BxT[:, : self._space.dims] = self._space.mask_token
    self._cache = None if self._whole else self._empty(self._batch)
    self._start = 0

  def expect(self, params: Any, slot: int) -> tuple[np.ndarray, int]:
    """Probabilities (B, Q, V) at the places of the block of a slot, and the block's first place.

    All blocks before it must be known, and slots must not go back.
    """
    start = slot // self.block * self.block
    while self._start < start:
      # Everything of the block is known by now: it stays in the cache.
      self._cache, _ = self._run(params)
      self._start += self.block
    _, p_BxQxV = self._run(params)
    return np.asarray(p_BxQxV), start

  def _run(self, params: Any) -> tuple:
    # An end token, where there is one, is seen with the last block if that has a place for it.
    stop = self._space.length if self._whole else self._start + self.block
    inputs = self._inputs_BxT[:, self._start : stop]
    return self._pass(params, self._cache, inputs, np.int32(self._start))

  def see(self, places_N: np.ndarray, symbols_N: np.ndarray) -> None:
    """The symbols that stand at a place of each of the first N examples."""
    self._inputs_BxT[np.arange(len(places_N)), places_N] = symbols_N
