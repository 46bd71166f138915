"""Symbols to bytes and back by constriction's range coder, given each symbol's probabilities.

Probabilities are rounded to multiples of 2^-24, none to zero, and the coder works in words of 32
bits: the length exceeds the sum of -log2 p by some 1e-6 bits a symbol and at most 64 bits in all,
and no symbol costs more than about 24 bits.
"""

from collections.abc import Callable

from constriction import stream
import numpy as np

# What `Encoder.code` and `Decoder.code` are: (p_NxV, symbols_N or None) -> symbols_N.
Code = Callable[[np.ndarray, np.ndarray | None], np.ndarray]
_FAMILY = stream.model.Categorical(perfect=False)


class DamagedCode(ValueError):
  """Words that no encoder wrote."""


class Encoder:
  """Takes symbols; `words` are the code of all of them.

  Attributes:
    ideal_bits: the sum of -log2 p of the symbols so far.
  """

  def __init__(self):
    self._coder = stream.queue.RangeEncoder()
    self.ideal_bits = 0.0

  def code(self, p_NxV: np.ndarray, symbols_N: np.ndarray | None) -> np.ndarray:
    """Appends N symbols, each with probabilities of its own; returns them."""
    p_NxV = _checked(p_NxV)
    symbols_N = np.ascontiguousarray(symbols_N, np.int32)
    if len(symbols_N):
      self._coder.encode(symbols_N, _FAMILY, p_NxV)
      picked_N = p_NxV[np.arange(len(symbols_N)), symbols_N].astype(np.float64)
      # A probability that underflowed is taken as float32's smallest; its code is shorter.
      self.ideal_bits -= float(np.log2(np.maximum(picked_N, 2.0**-149)).sum())
    return symbols_N

  def words(self) -> bytes:
    return self._coder.get_compressed().astype('<u4').tobytes()


class Decoder:
  """Gives back the symbols of `Encoder.words`, asked with the same probabilities.

  Nothing here detects damage that still decodes to symbols.
  """

  def __init__(self, words: bytes):
    self._coder = stream.queue.RangeDecoder(np.frombuffer(words, '<u4').astype(np.uint32))

  def code(self, p_NxV: np.ndarray, symbols_N: np.ndarray | None = None) -> np.ndarray:
    """The next N symbols, int32; `symbols_N` is not looked at.

    Raises:
      DamagedCode: the words can't be those of any symbols.
    """
    p_NxV = _checked(p_NxV)
    if not len(p_NxV):
      return np.zeros(0, np.int32)
    try:
      return self._coder.decode(_FAMILY, p_NxV)
    except BaseException as error:
      # The coder reports words that it can't have written by an assertion, or by a panic, which
      # is not an Exception.
      if isinstance(error, (KeyboardInterrupt, SystemExit)):
        raise
      raise DamagedCode('the code can not have been written by this coder') from error


class Checked:
  """A decoder that sees to it that its words are those that an encoder writes, to the last bit."""

  def __init__(self, words: bytes):
    self._words, self._decoder, self._encoder = words, Decoder(words), Encoder()

  def code(self, p_NxV: np.ndarray, symbols_N: np.ndarray | None = None) -> np.ndarray:
    """As `Decoder.code`."""
    return self._encoder.code(p_NxV, self._decoder.code(p_NxV))

  def finish(self) -> None:
    """DamagedCode unless the words end as they must after these symbols."""
    if self._encoder.words() != self._words:
      raise DamagedCode('its last bits are not those that an encoder writes')


def _checked(p_NxV: np.ndarray) -> np.ndarray:
  p_NxV = np.ascontiguousarray(p_NxV, np.float32)
  if not np.isfinite(p_NxV).all():
    raise ValueError('the network gave probabilities that are not finite')
  return p_NxV
