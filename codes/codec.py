"""A lossless code of examples: `encode` writes it, `decode` reads it back.

The two share one walk: batch after batch, slot after slot, the predictor says what it expects and
the range coder writes the symbol or reads it. A predictor that learns (codes.adaptive) does so at
the same places on both sides, from the symbols that both have by then.

Memory is bounded: symbols are read and written a frame at a time, and a frame has its own range
coder (at most 64 bits more than the ideal length). The decoder encodes what it decodes once more:
words that an encoder would not have written are refused.
"""

from collections.abc import Callable, Iterator, Sequence
import dataclasses
from typing import Any, BinaryIO

import numpy as np

from codes import container, ranges

FRAME_SYMBOLS = 2**20
Progress = Callable[[int], Any]
# (slot, probabilities (B, V)) -> the symbols (B,) that stand there.
At = Callable[[int, np.ndarray], np.ndarray]


class Predictor:
  """What to expect in each batch of examples, and the header's claims of what decodes.

  Attributes:
    vocabulary: V.
    order: which symbol of an example each slot holds, a permutation of 0..dims-1.
    batch: examples at a time, at most.
  """

  vocabulary: int
  order: Sequence[int]
  batch: int

  @property
  def dims(self) -> int:
    """Symbols of an example."""
    return len(self.order)

  def batches(self, examples: int) -> Iterator[tuple[int, int]]:
    """(start, stop) of every batch, of so many examples in all."""
    return container.slices(examples, self.batch)

  def orders(self, start: int, stop: int) -> np.ndarray:
    """Which symbol each slot holds, (N, T), of these examples."""
    return np.repeat(np.asarray(self.order)[None], stop - start, 0)

  def walk(self, code: At, orders_NxT: np.ndarray) -> np.ndarray:
    """Codes a batch of N examples, in these orders; returns slots, int32 (N or more, T)."""
    raise NotImplementedError

  def canary(self) -> bytes:
    """Eight bytes of a digest of what is computed here on made-up examples.

    Two machines (or thread counts, or versions) that agree on them run the same arithmetic; where
    they differ a code would decode to nonsense.
    """
    raise NotImplementedError

  def program(self) -> str:
    """What computes: facts about versions and machine, separated by ', '."""
    raise NotImplementedError

  def claims(self) -> dict[str, Any]:
    """Fields of the header that say what decodes."""
    return {'batch': self.batch, 'canary': self.canary(), 'program': self.program()}

  def check(self, header: container.Header) -> None:
    """StreamError unless this predictor, computed here, wrote the header."""
    if header.canary == self.canary():
      return
    there, here = (text.split(', ') for text in (header.program, self.program()))
    differ = [fact for fact in there if fact not in here]
    if differ:
      other = [fact for fact in here if fact not in there]
      raise container.StreamError(
        f'can not be decoded here: encoded by {", ".join(differ)}; here is {", ".join(other)}'
      )
    raise container.StreamError(
      'can not be decoded here: encoded by the same versions and settings, instruction set and '
      'number of cores, but this machine computes other last bits'
    )


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
    read: (start, stop) -> these symbols (n,), counted over all examples.
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
  examples = count_examples(source.total, predictor.dims)
  writer, digest, sizes = container.Writer(out, header), container.Digest(), Sizes()
  for frame in _frames(predictor, examples):
    symbols = _symbols(source, predictor, frame)
    encoder = ranges.Encoder()
    done = 0
    for start, stop in frame:
      count = min(stop * predictor.dims, source.total) - start * predictor.dims
      orders = predictor.orders(start, stop)
      rows, here = _rows(symbols[done : done + count], orders)
      _walk(predictor, encoder.code, rows, here, orders)
      done += count
      progress(count)
    words = encoder.words()
    writer.frame(frame[-1][1] - frame[0][0], digest.of(symbols), words)
    sizes.examples += frame[-1][1] - frame[0][0]
    sizes.symbols += len(symbols)
    sizes.payload_bits += 8 * len(words)
    sizes.ideal_bits += encoder.ideal_bits
  writer.end()
  sizes.file_bytes = writer.size
  return sizes


def decode(
  predictor: Predictor,
  total: int,
  reader: container.Reader,
  progress: Progress = lambda symbols: None,
) -> Iterator[np.ndarray]:
  """The symbols, frame by frame, each checked before it is given away.

  Args:
    predictor: what encoded.
    total: symbols of all examples.
    reader: of the file.
    progress: told of symbols decoded.

  Raises:
    StreamError: decoded to other symbols than were encoded, or written by another coder.
  """
  examples, digest = count_examples(total, predictor.dims), container.Digest()
  frames = _frames(predictor, examples)
  found = reader.frames(examples, predictor.dims)
  for number, (count, wanted, words) in enumerate(found):
    frame = next(frames, None)
    if frame is None or count != frame[-1][1] - frame[0][0]:
      raise container.StreamError(f'frame {number} holds other examples than it should')
    both, parts = ranges.Checked(words), []
    try:
      for start, stop in frame:
        size = min(stop * predictor.dims, total) - start * predictor.dims
        orders = predictor.orders(start, stop)
        rows, here = _rows(np.zeros(size, np.int32), orders)
        slots = _walk(predictor, both.code, rows, here, orders)
        parts.append(_unslot(slots[: stop - start], orders).reshape(-1)[:size])
        progress(size)
      both.finish()
    except ranges.DamagedCode as error:
      raise container.StreamError(f'frame {number}: {error}') from error
    symbols = np.concatenate(parts)
    if digest.of(symbols) != wanted:
      raise container.StreamError(f'frame {number} decodes to other symbols than were encoded')
    yield symbols


def count_examples(symbols: int, dims: int) -> int:
  """Examples of `dims` symbols that hold so many, the last perhaps not full."""
  return -(-symbols // dims)


def _frames(predictor: Predictor, examples: int) -> Iterator[list[tuple[int, int]]]:
  """Batches, put together to frames of about FRAME_SYMBOLS."""
  frame = []
  for batch in predictor.batches(examples):
    frame.append(batch)
    if (batch[1] - frame[0][0]) * predictor.dims >= FRAME_SYMBOLS:
      yield frame
      frame = []
  if frame:
    yield frame


def _symbols(source: Source, predictor: Predictor, frame: list[tuple[int, int]]) -> np.ndarray:
  """The frame's symbols (n,), checked."""
  start, stop = frame[0][0] * predictor.dims, frame[-1][1] * predictor.dims
  symbols = np.asarray(source.read(start, min(stop, source.total)))
  wrong = (symbols < 0) | (symbols >= predictor.vocabulary)
  if wrong.any():
    at = int(np.argmax(wrong))
    example, place = divmod(frame[0][0] * predictor.dims + at, predictor.dims)
    raise ValueError(
      f'example {example} has the value {symbols[at]} at place {place}; this network knows '
      f'0..{predictor.vocabulary - 1}'
    )
  return symbols.astype(np.int32)


def _rows(symbols: np.ndarray, orders_NxT: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Slots (N, T) of the symbols, and which of them there are; the last row may be short."""
  padded = np.zeros(orders_NxT.size, np.int32)
  padded[: len(symbols)] = symbols
  here = np.arange(orders_NxT.size) < len(symbols)
  return tuple(
    np.take_along_axis(part.reshape(orders_NxT.shape), orders_NxT, 1) for part in (padded, here)
  )


def _unslot(slots_NxT: np.ndarray, orders_NxT: np.ndarray) -> np.ndarray:
  """Symbols by place from symbols by slot."""
  places = np.empty_like(slots_NxT)
  np.put_along_axis(places, orders_NxT, slots_NxT, 1)
  return places


def _walk(
  predictor: Predictor,
  code: ranges.Code,
  rows_NxT: np.ndarray,
  here_NxT: np.ndarray,
  orders_NxT: np.ndarray,
) -> np.ndarray:
  """Codes a batch of N examples; returns slots (N or more, T)."""

  def at(slot: int, p_BxV: np.ndarray) -> np.ndarray:
    # Rows that fill the batch up, and places past a file's end, are zeros on both sides.
    found_B = np.zeros(len(p_BxV), np.int32)
    here = np.flatnonzero(here_NxT[:, slot])
    found_B[here] = code(p_BxV[here], rows_NxT[here, slot])
    return found_B

  return predictor.walk(at, orders_NxT)
