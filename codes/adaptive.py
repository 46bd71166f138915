"""Codes that learn while they code: nothing is sent but symbols, and the decoder learns the same.

The size of the stream is the whole description length of the data, given the program
(`codes.program`) and the libraries that it calls. Dawid, 1984; Blier and Ollivier, 2018. What is
expected comes of experts: the counting code (`codes.counting`), networks that train on what has
been coded (`codes.prequential`), a logistic mixture of them all, and over these a Bayes mixture
that may switch (`experts.FixedShare`). No choice of network, rate or updates is free: all of them
are in the mixture. Where networks start from those of a finished run, the file is a description
given that run, and one of them may stay as it is.
"""

from collections.abc import Callable, Iterator, Sequence
import dataclasses
import hashlib
import json
from typing import Any, NamedTuple

import numpy as np
import threadpoolctl

from codes import blend, codec, container, counting, experts, machine

# Of the canary: batches of made-up examples.
_CANARY_ROWS = (6, 10)
# A text is cut into so many parts at most, coded side by side, of at least so many bytes.
_LANES, _LANE_BYTES = 64, 4096
# Longer rows show the canary their beginning alone.
_WHOLE, _BEGINNING = 1024, 256
# What the settings in a header may ask for; rows of a batch, times values, times slots; symbols of
# a text.
_MOST_LENGTH, _MOST_NETWORKS = 2**14, 8
_MOST_ROWS, _MOST_PRODUCT, _MOST_SYMBOLS, _MOST_TEXT = 2**11, 2**17, 2**22, 2**24


@dataclasses.dataclass(frozen=True)
class Settings:
  """What a stream's header says of the code, as JSON.

  Attributes:
    layout: of rows.
    most: rows of a batch, at most; of a continued layout as many as there are lanes.
    part: a batch has a `part`-th of the rows before it; 0 for `most` always.
    counts: whether the counting code is an expert.
    networks: one each (`prequential.Network`), plain.
    share: of weight that is given to all experts alike after every symbol.
    order: which symbol each slot holds, as the networks have it; None for the data's own.
  """

  layout: counting.Layout
  most: int = 64
  part: int = 32
  counts: bool = True
  networks: tuple[dict[str, Any], ...] = ()
  share: float = 1e-3
  order: tuple[int, ...] | None = None

  def __post_init__(self):
    layout = self.layout
    if not (1 <= layout.vocabulary <= counting.MOST_VALUES and 1 <= layout.length <= _MOST_LENGTH):
      raise ValueError(
        f'at most {counting.MOST_VALUES} values and {_MOST_LENGTH} slots can be learnt, not '
        f'{layout.vocabulary} and {layout.length}'
      )
    if layout.picture is not None and (
      len(layout.picture) != 3
      or min(layout.picture) < 1
      or np.prod(layout.picture) != layout.length
    ):
      raise ValueError(f'a picture of {layout.picture} has not {layout.length} pixels')
    if self.most < 1 or not 0 <= self.part <= 2**20:
      raise ValueError(f'batches of {self.most} rows that grow by 1/{self.part}')
    most = min(_MOST_ROWS, _MOST_PRODUCT // layout.vocabulary, _MOST_SYMBOLS // layout.length)
    if self.most > most:
      raise ValueError(f'chunk must be at most {most} for this data, not {self.most}')
    if not 0 < self.share < 1:
      raise ValueError(f'share must be between 0 and 1, not {self.share}')
    if not self.counts and not self.networks:
      raise ValueError('a code needs an expert: the counts or a network')
    if len(self.networks) > _MOST_NETWORKS:
      raise ValueError(f'at most {_MOST_NETWORKS} networks, not {len(self.networks)}')
    if self.order is not None and sorted(self.order) != list(range(layout.length)):
      raise ValueError('the order of the slots is no order')

  def pack(self) -> bytes:
    return json.dumps(dataclasses.asdict(self), separators=(',', ':')).encode()


def unpack(content: bytes) -> Settings:
  """Inverse of `Settings.pack`; ValueError or TypeError for anything else."""
  fields = json.loads(content)
  layout = dict(fields.pop('layout'))
  for name in ('vocabulary', 'length'):
    layout[name] = int(layout[name])
  if layout['picture'] is not None:
    layout['picture'] = tuple(int(side) for side in layout['picture'])
  if fields['order'] is not None:
    fields['order'] = tuple(int(slot) for slot in fields['order'])
  fields['networks'] = tuple(fields['networks'])
  made = Settings(layout=counting.Layout(**layout), **fields)
  container.check_whole(made)
  return made


class Start(NamedTuple):
  """A finished run whose network goes on learning.

  Attributes:
    model: of its backbone (`ModelConfig`).
    params: of backbone and objective.
  """

  model: Any
  params: Any


class Adaptive(codec.Predictor):
  """The experts as a predictor of the codec.

  Args:
    settings: see there.
    total: symbols that will be coded.
    pause: called between batches; may raise.
    start: what networks start from; None for fresh ones.

  Raises:
    ValueError: a network that can't be made.
  """

  def __init__(
    self,
    settings: Settings,
    total: int,
    pause: Callable[[], None] = lambda: None,
    start: Start | None = None,
  ):
    layout, self.settings, self._pause = settings.layout, settings, pause
    self.vocabulary, self.batch = layout.vocabulary, settings.most
    dims = layout.length
    if layout.continued:
      self.batch, dims = lanes(total)
      if dims * self.batch > _MOST_TEXT:
        raise ValueError(f'at most {_MOST_TEXT:,} bytes can be coded so')
    self.order = range(dims) if settings.order is None else settings.order
    self._windows = -(-dims // layout.length) * self.batch
    self._examples = self._windows if layout.continued else codec.count_examples(total, dims)
    self._networks = []
    if settings.networks:
      from codes import prequential

      checked = [prequential.check(plain, layout, self.batch) for plain in settings.networks]
      if start and any(one.model != start.model for one in checked):
        raise ValueError('its networks are of another shape than the one of this run')
      params = start.params if start else None
      self._networks = [
        prequential.Network(one, self.batch, self._examples, params) for one in checked
      ]
      self._reading = checked[0].reading
    self._start = start
    self._expert = self._mixture()

  def _mixture(self) -> experts.Expert:
    """All experts as they are at first."""
    found: list[experts.Expert] = []
    if self.settings.counts:
      found.append(counting.Counting(self.settings.layout, self._examples))
    for network in self._networks:
      network.reset()
      found.append(network)
    if len(found) == 1:
      return found[0]
    layout = self.settings.layout
    together = blend.Blend(len(found), layout)
    return blend.Mixture(found, together, self.settings.share)

  def batches(self, examples: int) -> Iterator[tuple[int, int]]:
    if self.settings.layout.continued or not self.settings.part:
      return super().batches(examples)
    return iter(experts.chunks(examples, self.batch, self.settings.part))

  def walk(self, code: codec.At, orders_NxT: np.ndarray) -> np.ndarray:
    rows = len(orders_NxT)
    slots_BxT = np.zeros((rows, self.dims), np.int32)
    window = self.settings.layout.length
    # One thread: sums are then added up in one order, whatever the number of cores.
    with threadpoolctl.threadpool_limits(1, 'blas'):
      for start in range(0, self.dims, window):
        self._pause()
        self._expert.start(rows)
        stop = min(start + window, self.dims)
        for slot in range(start, stop):
          slots_BxT[:, slot] = code(slot, self._expert.expect())
          self._expert.see(slots_BxT[:, slot])
        if stop - start == window:
          self._expert.finish()
    return slots_BxT

  def canary(self) -> bytes:
    """A digest of what is expected while made-up examples are learnt; then all is forgotten."""
    found, rng = hashlib.sha256(), np.random.default_rng(0)
    length = self.settings.layout.length
    slots = length if length <= _WHOLE else _BEGINNING
    for network in self._networks:
      network.brief = True
    with threadpoolctl.threadpool_limits(1, 'blas'):
      for rows in _CANARY_ROWS:
        rows = min(rows, self.batch)
        self._expert.start(rows)
        for _ in range(slots):
          found.update(self._expert.expect().tobytes())
          self._expert.see(rng.integers(0, self.vocabulary, rows))
        self._expert.finish()
    self._expert = self._mixture()
    return found.digest()[:8]

  def program(self) -> str:
    if not self._networks:
      return ', '.join(machine.facts())
    from codes import network

    return network.program()

  def claims(self) -> dict[str, Any]:
    mode = container.GOES_ON if self._start else container.ADAPTIVE
    own = {'mode': mode, 'model': self._fingerprint(), 'settings': self.settings.pack()}
    return super().claims() | own

  def _fingerprint(self) -> bytes:
    """Of the run's network, zeros without one."""
    if not self._start:
      return bytes(8)
    from codes import network

    return network.fingerprint(self._reading, self._start.params['backbone'])

  def check(self, header: container.Header) -> None:
    if header.model != self._fingerprint():
      raise container.StreamError('encoded by another network than this run')
    super().check(header)

  @property
  def params(self) -> Any:
    """Of the run that goes on, None without one."""
    return self._start.params if self._start else None

  def spent(self) -> dict[str, float]:
    """Bits of each expert alone on what was coded, by its name; nothing where there is but one.

    None of them is a file: the mixture pays for choosing among them.
    """
    if not isinstance(self._expert, experts.FixedShare):
      return {}
    names = ['counting'] * self.settings.counts
    for number, plain in enumerate(self.settings.networks, 1):
      rate, updates = plain['optimizer']['learning_rate'], plain['schedule']['updates']
      how = f'{updates} updates at {rate:g}' if updates else 'as it is'
      names.append(f'network {number} ({how})')
    spent_K = self._expert.spent_K / np.log(2)
    return dict(zip([*names, 'all mixed'], spent_K.tolist(), strict=True))

  def bits(self, rows_NxT: np.ndarray) -> np.ndarray:
    """-log2 p (N,) of whole examples, without writing them."""
    if self.settings.layout.continued:
      raise ValueError('rows that go on have no lengths of their own')
    turned_NxT = rows_NxT[:, np.asarray(self.order)]
    return bits_of(self._expert, turned_NxT, list(self.batches(len(rows_NxT))), self._pause)


def lanes(total: int) -> tuple[int, int]:
  """Into how many parts a text of so many bytes is cut, and how many bytes the longest has."""
  count = min(max(1, total // _LANE_BYTES), _LANES)
  return count, max(1, -(-total // count))


def text_bits(expert: experts.Expert, text_n: np.ndarray, window: int) -> float:
  """-log2 p of a text in lanes and windows, as `Adaptive` codes it."""
  count, length = lanes(len(text_n))
  padded_BxS = np.pad(text_n, (0, count * length - len(text_n))).reshape(count, length)
  here_BxS = np.arange(padded_BxS.size).reshape(padded_BxS.shape) < len(text_n)
  total = 0.0
  with threadpoolctl.threadpool_limits(1, 'blas'):
    for start in range(0, length, window):
      expert.start(count)
      for symbols_B, here_B in zip(
        padded_BxS[:, start : start + window].T, here_BxS[:, start : start + window].T, strict=True
      ):
        p_B = expert.expect()[np.arange(count), symbols_B]
        total -= float(np.log2(p_B[here_B]).sum())
        expert.see(symbols_B)
      if start + window <= length:
        expert.finish()
  return total


def bits_of(
  expert: experts.Expert,
  rows_NxT: np.ndarray,
  batches: Sequence[tuple[int, int]],
  pause: Callable[[], None] = lambda: None,
  given: int = 0,
) -> np.ndarray:
  """-log2 p (N,) of rows by an expert that goes through them in these batches.

  The first `given` symbols of a row are known, and cost nothing.
  """
  found_N = np.zeros(len(rows_NxT))
  with threadpoolctl.threadpool_limits(1, 'blas'):
    for start, stop in batches:
      pause()
      expert.start(stop - start)
      for slot, symbols_B in enumerate(rows_NxT[start:stop].T):
        p_BxV = expert.expect()
        if slot >= given:
          found_N[start:stop] -= np.log2(p_BxV[np.arange(stop - start), symbols_B])
        expert.see(symbols_B)
      expert.finish()
  return found_N


def from_header(
  header: container.Header,
  pause: Callable[[], None] = lambda: None,
  start: Start | None = None,
) -> Adaptive:
  """The predictor that a stream describes; StreamError if it can't be made."""
  try:
    settings = unpack(header.settings)
    total = header.symbols(settings.layout.length)
    if start and not settings.networks:
      raise ValueError('none of its experts is a network')
    made = Adaptive(settings, total, pause, start)
  except Exception as error:  # Whatever anyone may have written there.
    reason = ''.join(c if c.isprintable() else '?' for c in str(error))
    raise container.StreamError(
      f'the settings in the header can not be used: {reason[:200]}'
    ) from error
  if made.batch != header.batch:
    raise container.StreamError(f'the header claims batches of {header.batch:,} examples')
  return made
