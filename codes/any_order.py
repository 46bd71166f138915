"""A network that fills in hidden symbols, as a code: masked diffusion needs no bits back.

Both ends draw the same random order for every example. Symbol after symbol, the network is shown
those that are known, the others as MASK, and says what it expects of the next one: T passes. The
mean length over orders is the bound that masked diffusion is trained on (Uria et al. 2014,
Hoogeboom et al. 2022); in raster order it is the chain rule's exact code.

Several symbols may be decided in one step, from one pass, as if they were independent: the price is
their dependence. For a number of steps the sizes of the steps are chosen to cost the least by the
network's own mean nats of a symbol after so many known ones (`best_steps`), and sent.

Shape suffixes: B batch, N examples, T symbols, V vocabulary.
"""

from collections.abc import Sequence
import dataclasses
import hashlib
import json
from typing import Any

import jax
import numpy as np

from codes import codec, container, network
from models import transformer
from models.config import ModelConfig
import objectives
from objectives import base

ORDERS = ('random', 'raster')
_MOST_SEED = 2**31


@dataclasses.dataclass(frozen=True)
class Settings:
  """What the header says.

  Attributes:
    order: 'random', each example's own, or 'raster'.
    seed: of the random orders.
    steps: symbols that each step decides; all of them add up to T.
  """

  order: str
  seed: int
  steps: tuple[int, ...]

  def pack(self) -> bytes:
    return json.dumps(dataclasses.asdict(self), separators=(',', ':')).encode()


def unpack(content: bytes, dims: int) -> Settings:
  """Inverse of `Settings.pack`; StreamError for anything else, or of another T."""
  try:
    fields = json.loads(content)
    made = Settings(fields['order'], int(fields['seed']), tuple(int(n) for n in fields['steps']))
  except (ValueError, KeyError, TypeError, RecursionError) as error:
    raise container.StreamError('the settings in the header can not be used') from error
  whole = made.order in ORDERS and 0 <= made.seed < _MOST_SEED
  if not whole or min(made.steps, default=0) < 1 or sum(made.steps) != dims:
    raise container.StreamError('the settings in the header are none of this network')
  return made


class AnyOrder(codec.Predictor):
  """The network as a predictor of the codec.

  Args:
    objective: one that fills in hidden symbols (`any_order`).
    model: of the backbone.
    space: of the examples.
    params: of backbone and objective.
    batch: examples at a time.
    settings: see there.
  """

  def __init__(
    self,
    objective: objectives.Objective,
    model: ModelConfig,
    space: objectives.Space,
    params: Any,
    batch: int,
    settings: Settings,
  ):
    self.vocabulary, self.order, self.batch = space.vocabulary, range(space.dims), batch
    self.params, self.settings = params, settings
    self._space, self._model, self._backbone = space, model, objective.backbone(space)
    apply = transformer.make_apply(model)

    def expect(params: Any, inputs_BxT: jax.Array) -> jax.Array:
      view = base.View(inputs_BxT, inputs_BxT, jax.numpy.zeros(inputs_BxT.shape))
      outputs = objective.run(apply, params, view, space)
      return jax.nn.softmax(outputs.logits_BxTxV[:, : space.dims])

    self._expect = jax.jit(expect)

  def orders(self, start: int, stop: int) -> np.ndarray:
    if self.settings.order == 'raster':
      return super().orders(start, stop)
    rngs = (np.random.default_rng((self.settings.seed, row)) for row in range(start, stop))
    return np.stack([rng.permutation(self.dims) for rng in rngs])

  def walk(self, code: codec.At, orders_NxT: np.ndarray) -> np.ndarray:
    rows_N = np.arange(len(orders_NxT))
    inputs_BxT = np.zeros((self.batch, self._space.length), np.int32)
    inputs_BxT[:, : self.dims] = self._space.mask_token
    slots_NxT, slot = np.zeros(orders_NxT.shape, np.int32), 0
    for size in self.settings.steps:
      p_BxTxV = np.asarray(self._expect(self.params, inputs_BxT))
      for place_N in orders_NxT[:, slot : slot + size].T:
        slots_NxT[:, slot] = code(slot, p_BxTxV[rows_N, place_N])
        inputs_BxT[rows_N, place_N] = slots_NxT[:, slot]
        slot += 1
    return slots_NxT

  def canary(self) -> bytes:
    found, rng = hashlib.sha256(), np.random.default_rng(0)

    def look(slot: int, p_NxV: np.ndarray) -> np.ndarray:
      found.update(p_NxV.tobytes())
      return rng.integers(0, self.vocabulary, len(p_NxV))

    self.walk(look, self.orders(0, self.batch))
    return found.digest()[:8]

  def program(self) -> str:
    return network.program()

  def _fingerprint(self) -> bytes:
    reading = network.Reading(self._model, self.dims, tuple(self.order))
    found = hashlib.sha256(repr(self._backbone).encode())
    found.update(network.fingerprint(reading, self.params))
    return found.digest()[:8]

  def claims(self) -> dict[str, Any]:
    own = {'mode': container.NETWORK, 'model': self._fingerprint()}
    return super().claims() | own | {'settings': self.settings.pack()}

  def check(self, header: container.Header) -> None:
    if header.model != self._fingerprint():
      raise container.StreamError('encoded by another network than this run')
    super().check(header)

  def profile(self, tokens_NxT: np.ndarray) -> np.ndarray:
    """Mean nats (T,) of a symbol when 0, 1, ... T-1 others are known, by these examples."""
    single = dataclasses.replace(self.settings, steps=(1,) * self.dims)
    before, self.settings = self.settings, single
    total_T = np.zeros(self.dims)
    for start, stop in container.slices(len(tokens_NxT), self.batch):
      orders = self.orders(start, stop)
      slots_NxT = np.take_along_axis(tokens_NxT[start:stop], orders, 1)

      def look(slot: int, p_NxV: np.ndarray, slots_NxT=slots_NxT) -> np.ndarray:
        symbols_N = slots_NxT[:, slot]
        total_T[slot] -= np.log(p_NxV[np.arange(len(symbols_N)), symbols_N]).sum()
        return symbols_N

      self.walk(look, orders)
    self.settings = before
    return total_T / len(tokens_NxT)


def best_steps(profile_T: Sequence[float], count: int) -> tuple[int, ...]:
  """Sizes of `count` steps, which decide all T symbols and cost the least.

  A step of n symbols after k known ones costs n times the mean nats of a symbol after k: dynamic
  programming over where steps begin.
  """
  length = len(profile_T)
  if not 1 <= count <= length:
    raise ValueError(f'from 1 to {length} steps decide {length} symbols, not {count}')
  cost = np.full((count + 1, length + 1), np.inf)
  last = np.zeros((count + 1, length + 1), np.int64)
  cost[0, 0] = 0.0
  for step in range(1, count + 1):
    for end in range(step, length + 1):
      begins = np.arange(step - 1, end)
      costs = cost[step - 1, begins] + (end - begins) * np.asarray(profile_T)[begins]
      best = int(np.argmin(costs))
      cost[step, end], last[step, end] = costs[best], begins[best]
  found, end = [], length
  for step in range(count, 0, -1):
    found.append(end - int(last[step, end]))
    end = int(last[step, end])
  return tuple(found[::-1])
