"""A lossless code of examples by a causal network: `encode` writes it, `decode` reads it back.

The two share one walk: batch after batch, slot after slot, the predictor says what it expects and
the range coder writes the symbol or reads it. A predictor that learns (codes.prequential) does so
at the same places on both sides, from the symbols that both have by then.

Memory is bounded: symbols are read and written a frame at a time, and a frame has its own range
coder (at most 64 bits more than the ideal length).
"""

from collections.abc import Callable, Iterator
import dataclasses
from typing import Any, BinaryIO

import numpy as np

from codes import container, network, ranges

FRAME_SYMBOLS = 2**20
BATCH = 256
Progress = Callable[[int], Any]


class Predictor:
  """What to expect in each batch of examples, and the header's claims of what decodes.

  Attributes:
    reading: how an example is read.
    batch: examples at a time; the last batch may have fewer.
  """

  reading: network.Reading
  batch: int

  def walk(self, code: Callable[[int, np.ndarray], np.ndarray]) -> np.ndarray:
    """As `network.Steps.walk`."""
    raise NotImplementedError

  def learn(self, slots_NxT: np.ndarray) -> None:
    """Takes in the examples of the batch just coded."""

  def canary(self) -> bytes:
    """A digest of what is computed here, as `network.Steps.canary`."""
    raise NotImplementedError

  def claims(self) -> dict[str, Any]:
    """Fields of the header that say what decodes."""
    return {'batch': self.batch, 'canary': self.canary(), 'program': network.program()}

  def check(self, header: container.Header) -> None:
    """StreamError unless this predictor, computed here, wrote the header."""
    if header.canary != self.canary():
      here = network.program()
      other = f'by {header.program}, here is {here}' if header.program != here else (
        'by the same versions, but this machine or its number of cores computes other last bits'
      )  # fmt: skip
      raise container.StreamError(f'can not be decoded here: encoded {other}')


class Trained(Predictor):
  """A network that is done with learning."""

  def __init__(self, reading: network.Reading, params: Any, batch: int):
    self.reading, self.batch = reading, batch
    self._steps, self.params = network.Steps(reading, batch), params

  def walk(self, code: Callable[[int, np.ndarray], np.ndarray]) -> np.ndarray:
    return self._steps.walk(self.params, code)

  def canary(self) -> bytes:
    return self._steps.canary(self.params)

  def claims(self) -> dict[str, Any]:
    model = network.fingerprint(self.reading, self.params)
    return super().claims() | {'mode': container.NETWORK, 'model': model}

  def check(self, header: container.Header) -> None:
    if header.model != network.fingerprint(self.reading, self.params):
      raise container.StreamError('encoded by another network than this run')
    super().check(header)


def default_batch(examples: int) -> int:
  """Examples a step: a power of 2 that is not much more than there are."""
  return min(BATCH, 1 << max(0, examples - 1).bit_length())


@dataclasses.dataclass
class Sizes:
  """What was coded and what it took.

  Attributes:
    examples, symbols: how many.
    payload_bits: of the range coders' words.
    file_bytes: with header and frames.
    ideal_bits: the sum of -log2 p.
  """

  examples: int = 0
  symbols: int = 0
  payload_bits: int = 0
  file_bytes: int = 0
  ideal_bits: float = 0.0


@dataclasses.dataclass(frozen=True)
class Source:
  """Symbols to encode, by example.

  Attributes:
    total: symbols of all examples; the last example may be cut short.
    read: (start, stop) -> the symbols of these examples in one row, (n,).
  """

  total: int
  read: Callable[[int, int], np.ndarray]


def encode(
  predictor: Predictor,
  source: Source,
  header: container.Header,
  out: BinaryIO,
  progress: Progress = lambda symbols: None,
) -> Sizes:
  """Writes a stream; ValueError names the first symbol outside of the alphabet."""
  reading = predictor.reading
  examples = count_examples(source.total, reading.dims)
  packed = header.pack()
  out.write(packed)
  sizes = Sizes(file_bytes=len(packed))
  seal = int.from_bytes(packed[-4:], 'little')
  for number, frame in enumerate(_frames(predictor, examples)):
    symbols = _symbols(source, reading, frame)
    encoder = ranges.Encoder()
    done = 0
    for start, stop in frame:
      count = min(stop * reading.dims, source.total) - start * reading.dims
      rows, here = _rows(symbols[done : done + count], stop - start, reading)
      _walk(predictor, encoder.code, rows, here)
      done += count
      progress(count)
    words = encoder.words()
    packed = container.pack_frame(symbols, frame[-1][1] - frame[0][0], words, number, seal)
    out.write(packed)
    sizes.examples += frame[-1][1] - frame[0][0]
    sizes.symbols += len(symbols)
    sizes.payload_bits += 8 * len(words)
    sizes.file_bytes += len(packed)
    sizes.ideal_bits += encoder.ideal_bits
  return sizes


def decode(
  predictor: Predictor,
  total: int,
  file: BinaryIO,
  seal: int,
  progress: Progress = lambda symbols: None,
) -> Iterator[np.ndarray]:
  """The symbols, frame by frame, each checked before it is given away.

  Args:
    predictor: what encoded.
    total: symbols of all examples.
    file: after its header.
    seal: the header's checksum.
    progress: told of symbols decoded.

  Raises:
    StreamError: cut short, damaged, or decoded to other symbols than were encoded.
  """
  reading = predictor.reading
  left = count_examples(total, reading.dims)
  frames = _frames(predictor, left)
  for number, frame in enumerate(frames):
    count, wanted, words = container.read_frame(file, number, seal, left, reading.dims)
    if count != frame[-1][1] - frame[0][0]:
      raise container.StreamError(f'frame {number} is damaged')
    decoder, parts = ranges.Decoder(words), []
    try:
      for start, stop in frame:
        size = min(stop * reading.dims, total) - start * reading.dims
        rows, here = _rows(np.zeros(size, np.int32), stop - start, reading)
        slots = _walk(predictor, decoder.code, rows, here)
        parts.append(_unslot(slots, reading)[: stop - start].reshape(-1)[:size])
        progress(size)
    except ranges.DamagedCode as error:
      raise container.StreamError(f'frame {number}: {error}') from error
    symbols = np.concatenate(parts)
    if container.digest(symbols) != wanted:
      raise container.StreamError(f'frame {number} decodes to other symbols than were encoded')
    left -= count
    yield symbols
  container.check_end(file)


def count_examples(symbols: int, dims: int) -> int:
  return -(-symbols // dims)


def _frames(predictor: Predictor, examples: int) -> Iterator[list[tuple[int, int]]]:
  """Batches, put together to frames of about FRAME_SYMBOLS."""
  frame = []
  for batch in container.slices(examples, predictor.batch):
    frame.append(batch)
    if (batch[1] - frame[0][0]) * predictor.reading.dims >= FRAME_SYMBOLS:
      yield frame
      frame = []
  if frame:
    yield frame


def _symbols(source: Source, reading: network.Reading, frame: list[tuple[int, int]]) -> np.ndarray:
  """The frame's symbols (n,), checked."""
  symbols = np.asarray(source.read(frame[0][0], frame[-1][1]))
  wrong = (symbols < 0) | (symbols >= reading.model.vocabulary)
  if wrong.any():
    at = int(np.argmax(wrong))
    example, place = divmod(frame[0][0] * reading.dims + at, reading.dims)
    raise ValueError(
      f'example {example} has the value {symbols[at]} at place {place}; this network knows '
      f'0..{reading.model.vocabulary - 1}'
    )
  return symbols.astype(np.int32)


def _rows(
  symbols: np.ndarray, rows: int, reading: network.Reading
) -> tuple[np.ndarray, np.ndarray]:
  """Slots (rows, dims) of the symbols, and which of them there are; the last row may be short."""
  padded = np.zeros(rows * reading.dims, np.int32)
  padded[: len(symbols)] = symbols
  here = np.arange(rows * reading.dims) < len(symbols)
  order = np.asarray(reading.order)
  return padded.reshape(rows, -1)[:, order], here.reshape(rows, -1)[:, order]


def _unslot(slots_NxT: np.ndarray, reading: network.Reading) -> np.ndarray:
  """Symbols by place from symbols by slot."""
  places = np.empty_like(slots_NxT)
  places[:, np.asarray(reading.order)] = slots_NxT
  return places


def _walk(
  predictor: Predictor, code: ranges.Code, rows_NxT: np.ndarray, here_NxT: np.ndarray
) -> np.ndarray:
  """Codes a batch of N examples, and lets the predictor learn from it; returns slots (B, T)."""

  def at(slot: int, p_BxV: np.ndarray) -> np.ndarray:
    # Rows that fill the batch up, and places past a file's end, are zeros on both sides.
    found_B = np.zeros(len(p_BxV), np.int32)
    here = np.flatnonzero(here_NxT[:, slot])
    found_B[here] = code(p_BxV[here], rows_NxT[here, slot])
    return found_B

  slots = predictor.walk(at)
  predictor.learn(slots[: len(rows_NxT)])
  return slots
