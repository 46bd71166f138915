"""What a causal network expects of the next symbol, by one program for both ends of a code.

The parallel forward pass and the step with a cache differ in their last bits, and so may
the same mathematics compiled for another batch. So encoder and decoder run the very same compiled
step on the very same batch shape, position by position, and both turn its output into symbols (by
writing or by reading them) before the next.

Shape suffixes: B batch, T slots, V vocabulary.
"""

from collections.abc import Callable
import dataclasses
import hashlib
import os
from typing import Any

import jax
import numpy as np

from codes import machine
from models import decoding, patterns, transformer
from models.config import ModelConfig

Params = Any
# Fields of ModelConfig that decide what a step computes.
_DECIDES = (
  ('vocabulary', 'length', 'width', 'layers', 'heads', 'mlp_ratio', 'norm_epsilon')
  + ('time_input', 'compute_dtype')
)  # fmt: skip
# Younger than some files: they count where they are not what they were for all.
_YOUNGER = ('alphabets', 'shared_layers', 'mixer', 'state', 'residual', 'norm')


@dataclasses.dataclass(frozen=True)
class Reading:
  """How a causal backbone reads an example of `dims` symbols.

  Attributes:
    model: the backbone's configuration.
    dims: symbols that are coded, at most model.length.
    order: which symbol each slot holds, a permutation of 0..dims-1.
    window: of the backbone's attention, None for all.
  """

  model: ModelConfig
  dims: int
  order: tuple[int, ...]
  window: int | None = None


class Steps:
  """Walks through a batch of examples from slot to slot."""

  def __init__(self, reading: Reading, batch: int):
    self.reading, self.batch = reading, batch
    config = reading.model
    bind = transformer.make_bind(config)

    def advance(params: Params, cache: decoding.Cache, token_B: jax.Array, position: jax.Array):
      pattern = patterns.Causal(reading.window)
      cache, logits_BxV = decoding.step(bind(params), cache, token_B, position, pattern)
      return cache, jax.nn.softmax(logits_BxV)

    self._advance = jax.jit(advance, donate_argnums=1)
    self._edges = decoding.piece_edges(config.length)

  def walk(self, params: Params, code: Callable[[int, np.ndarray], np.ndarray]) -> np.ndarray:
    """Codes one batch.

    Args:
      params: the backbone's.
      code: (slot, probabilities BxV float32) -> the symbols (B,) that stand there.

    Returns:
      The symbols in slots, int32 (B, dims).
    """
    slots_BxT = np.zeros((self.batch, self.reading.dims), np.int32)
    self.begin()
    for slot in range(self.reading.dims):
      p_BxV = self.expect(params)
      slots_BxT[:, slot] = code(slot, p_BxV)
      self.see(slots_BxT[:, slot])
    return slots_BxT

  def begin(self) -> None:
    """A batch begins."""
    self._cache = decoding.empty_cache(self.reading.model, self.batch)
    self._slot, self._token_B = 0, np.zeros(self.batch, np.int32)

  def expect(self, params: Params) -> np.ndarray:
    """Probabilities (B, V) float32 of the next slot."""
    slot = self._slot
    if slot in self._edges:
      grown = self._edges[self._edges.index(slot) + 1] - slot
      self._cache = decoding.grow(self._cache, grown)
    self._cache, p_BxV = self._advance(params, self._cache, self._token_B, np.int32(slot))
    return np.asarray(p_BxV)

  def see(self, symbols_B: np.ndarray) -> None:
    """What stands in the slot that was just expected."""
    self._token_B, self._slot = np.asarray(symbols_B, np.int32), self._slot + 1

  def canary(self, params: Params) -> bytes:
    """Eight bytes of a digest of all probabilities on fixed made-up examples.

    Two machines (or thread counts, or versions) that agree on them run the same arithmetic; where
    they differ a code would decode to nonsense.
    """
    found = hashlib.sha256()
    rng = np.random.default_rng(0)

    def look(slot: int, p_BxV: np.ndarray) -> np.ndarray:
      found.update(p_BxV.tobytes())
      return rng.integers(0, self.reading.model.vocabulary, self.batch)

    self.walk(params, look)
    return found.digest()[:8]


def fingerprint(reading: Reading, params: Params) -> bytes:
  """Eight bytes of a digest of the parameters, their names and shapes, and how they are used."""
  used = {name: getattr(reading.model, name) for name in _DECIDES}
  defaults = {field.name: field.default for field in dataclasses.fields(ModelConfig)}
  values = {name: getattr(reading.model, name) for name in _YOUNGER}
  used |= {name: value for name, value in values.items() if value != defaults[name]}
  found = hashlib.sha256(repr((used, reading.dims, reading.order, reading.window)).encode())
  for path, leaf in jax.tree_util.tree_leaves_with_path(params):
    values = np.asarray(leaf)
    name = f' {jax.tree_util.keystr(path)} {values.shape} {values.dtype} '
    found.update(name.encode())
    found.update(np.ascontiguousarray(values).tobytes())
  return found.digest()[:8]


def program() -> str:
  """What compiles and runs the step."""
  import importlib.metadata

  device = jax.devices()[0]
  facts = [
    f'jax {jax.__version__}',
    f'jaxlib {importlib.metadata.version("jaxlib")}',
    f'{device.platform} {device.device_kind}',
    f'x64 {"on" if jax.config.jax_enable_x64 else "off"}',
    f'XLA_FLAGS {os.environ.get("XLA_FLAGS", "").replace(",", " ") or "none"}',
    *machine.facts(),
  ]
  return ', '.join(facts)
