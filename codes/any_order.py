"""A network that fills in hidden symbols, as a code: masked diffusion needs no bits back.

Both ends draw the same random order for every example; of block diffusion, inside every block.
Symbol after symbol, the network is shown those that are known, the others as MASK, and says what it
expects of the next one: T passes. The mean length over orders is the bound that the objective is
trained on (Uria et al. 2014, Hoogeboom et al. 2022, Arriola et al. 2025); in raster order it is the
chain rule's exact code.

Several symbols may be decided in one step, from one pass, as if they were independent: the price is
their dependence. For a number of steps the sizes of the steps are chosen to cost the least by what
the network expects of each symbol after so many known ones on other examples (`best_steps`), and
sent.

Shape suffixes: B batch, N examples, T symbols, V vocabulary.
"""

from collections.abc import Iterator
import dataclasses
import hashlib
import itertools
import json
import math
from typing import Any, NamedTuple

import numpy as np
import scipy.stats

from codes import codec, container, filling, network
from models.config import ModelConfig
import objectives

ORDERS = ('random', 'raster')
_MOST_SEED = 2**31


@dataclasses.dataclass(frozen=True)
class Settings:
  """What the header says.

  Attributes:
    order: 'random', each example's own, or 'raster'.
    seed: of the random orders.
    steps: symbols that each step decides; all of them add up to T, and none is of two blocks.
  """

  order: str
  seed: int
  steps: tuple[int, ...]

  def pack(self) -> bytes:
    return json.dumps(dataclasses.asdict(self), separators=(',', ':')).encode()


def unpack(content: bytes, dims: int, block: int) -> Settings:
  """Inverse of `Settings.pack`; StreamError for anything else, or of another T or block."""
  try:
    fields = json.loads(content)
    made = Settings(fields['order'], int(fields['seed']), tuple(int(n) for n in fields['steps']))
  except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
    raise container.StreamError('the settings in the header can not be used') from error
  whole = made.order in ORDERS and 0 <= made.seed < _MOST_SEED
  whole = whole and min(made.steps, default=0) > 0 and sum(made.steps) == dims
  ends = set(itertools.accumulate(made.steps))
  if not whole or not ends.issuperset(range(block, dims, block)):
    raise container.StreamError('the settings in the header are none of this network')
  return made


class Price(NamedTuple):
  """What fewer passes cost, on examples that neither are coded nor chose the steps.

  Attributes:
    passes, of: with steps, and without.
    bits_per_dim, one_by_one: expected lengths with steps, and without.
    stderr: of their difference, over examples, in bits per dimension; None of one example.
    examples: that they were measured on.
  """

  passes: int
  of: int
  bits_per_dim: float
  one_by_one: float
  stderr: float | None
  examples: int


class AnyOrder(codec.Predictor):
  """The network as a predictor of the codec.

  Args:
    objective: one that fills in hidden symbols (`filling.filler`).
    model: of the backbone.
    space: of the examples.
    params: of backbone and objective.
    batch: examples at a time.
    settings: see there.

  Attributes:
    price: of steps, where they were chosen here.
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
    self.price: Price | None = None
    self._model, self._backbone = model, objective.backbone(space)
    self._filling = filling.Filling(objective, model, space, batch)

  @property
  def block(self) -> int:
    """Symbols that are known before those of the next block begin."""
    return self._filling.block

  def orders(self, start: int, stop: int) -> np.ndarray:
    if self.settings.order == 'raster':
      return super().orders(start, stop)
    found_NxT = np.zeros((stop - start, self.dims), np.int64)
    for row in range(start, stop):
      drawn_T = np.random.default_rng((self.settings.seed, row)).permutation(self.dims)
      # The order of everything is one of each block as well.
      found_NxT[row - start] = drawn_T[np.argsort(drawn_T // self.block, kind='stable')]
    return found_NxT

  def walk(self, code: codec.At, orders_NxT: np.ndarray) -> np.ndarray:
    rows_N, slot = np.arange(len(orders_NxT)), 0
    slots_NxT = np.zeros(orders_NxT.shape, np.int32)
    self._filling.begin()
    for size in self.settings.steps:
      p_BxQxV, first = self._filling.expect(self.params, slot)
      for place_N in orders_NxT[:, slot : slot + size].T:
        slots_NxT[:, slot] = code(slot, p_BxQxV[rows_N, place_N - first])
        self._filling.see(place_N, slots_NxT[:, slot])
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

  def choose_steps(self, count: int, tokens_NxT: np.ndarray, others_NxT: np.ndarray) -> None:
    """Decides several symbols a step from now on, in the best `count` steps by these examples.

    What that costs is told by others: on those that chose, the least of many is too low.
    """
    steps, _ = best_steps(self.costs(tokens_NxT), count)
    self.settings = dataclasses.replace(self.settings, steps=steps)
    sizes = dict(zip(itertools.accumulate(steps, initial=0), steps, strict=False))
    nats_2xN, unit = np.zeros((2, len(others_NxT))), self.dims * math.log(2)
    for rows, slot, nats_BxO in self._nats(others_NxT):
      for total_N, size in zip(nats_2xN, (sizes.get(slot, 0), 1), strict=True):
        left = nats_BxO.shape[1] if self.settings.order == 'random' else size
        total_N[rows] += size * nats_BxO[:, :left].sum(1) / max(left, 1)
    with_steps, one_by_one = nats_2xN.mean(1) / unit
    error = scipy.stats.sem(nats_2xN[0] - nats_2xN[1]) / unit if len(others_NxT) > 1 else None
    self.price = Price(
      count, self.dims, float(with_steps), float(one_by_one), error and float(error),
      len(others_NxT),
    )  # fmt: skip

  def costs(self, tokens_NxT: np.ndarray) -> np.ndarray:
    """Mean nats (T, T) of the symbol in slot t when the first k slots are known, at [k, t].

    By these examples, in orders as theirs would be; inf where t is of a later block than k, or
    before it. In random order all slots that are left of a block are alike, and have their mean.
    """
    total_TxT = np.full((self.dims, self.dims), np.inf)
    for slot in range(self.dims):
      total_TxT[slot, slot : self._end(slot)] = 0.0
    for _, slot, nats_BxO in self._nats(tokens_NxT):
      total_TxT[slot, slot : self._end(slot)] += nats_BxO.sum(0)
    if self.settings.order == 'random':
      for slot, row_T in enumerate(total_TxT):
        row_T[slot : self._end(slot)] = row_T[slot : self._end(slot)].mean()
    return total_TxT / len(tokens_NxT)

  def _nats(self, tokens_NxT: np.ndarray) -> Iterator[tuple[slice, int, np.ndarray]]:
    """(rows, slot, nats (B, O)): of the O symbols from there on in a block, those before known."""
    for start, stop in container.slices(len(tokens_NxT), self.batch):
      orders_NxT, rows_Nx1 = self.orders(start, stop), np.arange(stop - start)[:, None]
      slots_NxT = np.take_along_axis(tokens_NxT[start:stop], orders_NxT, 1)
      self._filling.begin()
      for slot in range(self.dims):
        p_BxQxV, first = self._filling.expect(self.params, slot)
        left = slice(slot, self._end(slot))
        p_NxO = p_BxQxV[rows_Nx1, orders_NxT[:, left] - first, slots_NxT[:, left]]
        yield slice(start, stop), slot, -np.log(np.maximum(p_NxO.astype(np.float64), 1e-30))
        self._filling.see(orders_NxT[:, slot], slots_NxT[:, slot])

  def _end(self, slot: int) -> int:
    """Where the block of a slot ends."""
    return min((slot // self.block + 1) * self.block, self.dims)


def best_steps(costs_TxT: np.ndarray, count: int) -> tuple[tuple[int, ...], float]:
  """Sizes of `count` steps that decide all T symbols and cost the least, and their cost in nats.

  A step of n symbols after k known ones costs the sum over [k, k:k + n] of the costs: dynamic
  programming over where steps begin.

  Raises:
    ValueError: that many steps can't decide them.
  """
  length = len(costs_TxT)
  blocks = 1 + int(np.isinf(np.diagonal(costs_TxT, 1)).sum())
  if not blocks <= count <= length:
    raise ValueError(f'from {blocks} to {length} steps decide {length} symbols, not {count}')
  # At [k, n]: a step from k to n - 1, the first so many columns of a row being inf.
  sums_TxT = np.stack([np.cumsum(np.r_[np.zeros(k), costs_TxT[k, k:]]) for k in range(length)])
  cost = np.full((count + 1, length + 1), np.inf)
  last = np.zeros((count + 1, length + 1), np.int64)
  cost[0, 0] = 0.0
  for step in range(1, count + 1):
    for end in range(step, length + 1):
      begins = np.arange(step - 1, end)
      costs = cost[step - 1, begins] + sums_TxT[begins, end - 1]
      best = int(np.argmin(costs))
      cost[step, end], last[step, end] = costs[best], begins[best]
  found, end = [], length
  for step in range(count, 0, -1):
    found.append(end - int(last[step, end]))
    end = int(last[step, end])
  return tuple(found[::-1]), float(cost[count, length])
