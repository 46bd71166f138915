"""From images (uint8) to tokens: what the bits are of.

A tokeniser is frozen and called with images (N, H, W, C); it returns tokens (N, T), unsigned and
as narrow as the vocabulary allows, in raster order. Its attributes say what the tokens mean:

  vocabulary: V, token values 0..V-1.
  dims: T.
  shape: how to draw an example as a grey picture, () for none.
  ordinal: whether token values are levels of a scale.
  lossless: whether the image can be recovered from the tokens.
  note: what the bits are of, for people.
  values_VxK: each token as numbers, for probes of the raw input; None where its value serves or
    there is none.
"""

import dataclasses
import functools
import hashlib
import math

import numpy as np
from scipy.spatial.distance import cdist

# Colours whose distances to all centres are held at once: they should fit the cache.
_COLOURS = 256


def area_sums(images: np.ndarray, height: int, width: int) -> tuple[np.ndarray, int]:
  """Sums over equal rectangles (N, height, width, C), and the parts in a rectangle.

  The sums are uint64, of float64 images float64.

  Where height or width does not divide the image's, pixels are cut into equal parts until it does:
  32 rows to 12 are sums of 8 thirds. The area mean is the sum over the number of parts, exactly.

  Raises:
    ValueError: height or width is more than the image's, or none.
  """
  rows, columns = images.shape[1:3]
  if not (1 <= height <= rows and 1 <= width <= columns):
    raise ValueError(f'{rows}x{columns} pixels can not be averaged to {height}x{width}')
  sums, parts = images, 1
  for axis, old, new in ((1, rows, height), (2, columns, width)):
    if old != new:
      sums = np.moveaxis(np.tensordot(sums, _overlaps(old, new), (axis, 0)), -1, axis)
      parts *= old // math.gcd(old, new)
  return sums if images.dtype == np.float64 else sums.astype(np.uint64), parts


def _overlaps(old: int, new: int) -> np.ndarray:
  """How many parts every pixel has in every place, (old, new); float64, whose products are fast
  and, of whole numbers below 2^53, exact."""
  common = math.gcd(old, new)
  first_O, first_N = np.arange(old) * (new // common), np.arange(new) * (old // common)
  ends = np.minimum((first_O + new // common)[:, None], first_N + old // common)
  return np.maximum(ends - np.maximum(first_O[:, None], first_N), 0.0)


@dataclasses.dataclass(frozen=True)
class Tokenizer:
  """See the module's text; what subclasses do not say otherwise."""

  source: tuple[int, int]  # (H, W) of the images
  size: tuple[int, int]  # (H, W) of the tokens

  ordinal = True
  values_VxK = None

  def __post_init__(self):
    """Raises ValueError for sizes that can't be."""
    area_sums(np.zeros((0, *self.source, 1), np.uint8), *self.size)

  @property
  def dims(self) -> int:
    return self.size[0] * self.size[1]

  @property
  def shape(self) -> tuple[int, ...]:
    return self.size

  @property
  def lossless(self) -> bool:
    return self.size == self.source

  def _note(self, what: str) -> str:
    area, source = ('x'.join(map(str, size)) for size in (self.size, self.source))
    area = f'{area} pixels' + ('' if area == source else f' (area means of {source})')
    return f'{area}{what}, raster order, {"lossless" if self.lossless else "lossy"}'

  def __call__(self, images: np.ndarray) -> np.ndarray:
    raise NotImplementedError

  def distances(self, images: np.ndarray, tokens: np.ndarray) -> np.ndarray | None:
    """Between what the tokens of these images stand for and what they became, on a scale of
    0 to 255; None where tokens are no colours."""
    del images, tokens
    return None


@dataclasses.dataclass(frozen=True)
class GreyLevels(Tokenizer):
  """Area mean, then `levels` equal steps: token = floor(levels · mean / 256).

  In integers, so that nothing is rounded twice: floor(levels · sum / (256 · pixels)). With 256
  levels and no down-sampling a token is the pixel.
  """

  levels: int

  def __post_init__(self):
    """Raises ValueError for sizes that can't be."""
    super().__post_init__()
    if not 2 <= self.levels <= 256:
      raise ValueError(f'grey levels must be 2 to 256, not {self.levels}')

  @property
  def vocabulary(self) -> int:
    return self.levels

  @property
  def lossless(self) -> bool:
    return super().lossless and self.levels == 256

  @property
  def note(self) -> str:
    return self._note(f' of {self.levels} grey levels')

  def __call__(self, images: np.ndarray) -> np.ndarray:
    if images.shape[-1] != 1:
      raise ValueError('grey levels need images of one channel')
    sums, pixels = area_sums(images, *self.size)
    levels = sums * np.uint64(self.levels) // np.uint64(256 * pixels)
    return levels.astype(np.uint8).reshape(len(images), -1)


def _mean_pixels(images: np.ndarray, size: tuple[int, int]) -> np.ndarray:
  """Area means rounded to the nearest integer, halves up; uint8 (N, h, w, C)."""
  sums, pixels = area_sums(images, *size)
  return ((np.uint64(2) * sums + np.uint64(pixels)) // np.uint64(2 * pixels)).astype(np.uint8)


@dataclasses.dataclass(frozen=True)
class Bytes(Tokenizer):
  """Every channel of every pixel is a token: red, green, blue of the first pixel, and so on."""

  channels: int

  vocabulary = 256

  @property
  def dims(self) -> int:
    return super().dims * self.channels

  @property
  def shape(self) -> tuple[int, ...]:
    return self.size if self.channels == 1 else ()

  @property
  def note(self) -> str:
    return self._note(f', {self.channels} bytes each')

  def __call__(self, images: np.ndarray) -> np.ndarray:
    return _mean_pixels(images, self.size).reshape(len(images), -1)


@dataclasses.dataclass(frozen=True, eq=False)
class Palette(Tokenizer):
  """Each pixel becomes the nearest of V colours, as in iGPT (Chen et al. 2020).

  Nearest is by squared distance in float64 to the pixel scaled to [-1, 1]; of equal ones the first.

  Attributes:
    centres_Vx3: colours in [-1, 1], float32.
  """

  centres_Vx3: np.ndarray

  ordinal = False
  lossless = False
  # Tokens are names of colours, no grey levels.
  shape = ()

  def __post_init__(self):
    """Raises ValueError for sizes or colours that can't be."""
    super().__post_init__()
    check_centres(self.centres_Vx3)

  @property
  def vocabulary(self) -> int:
    return len(self.centres_Vx3)

  @property
  def values_VxK(self) -> np.ndarray:
    return self.centres_Vx3

  @property
  def note(self) -> str:
    return self._note(f', each the nearest of {palette_name(self.centres_Vx3)}')

  @functools.cached_property
  def _table(self) -> np.ndarray:
    """24-bit colour -> token, -1 where not asked yet."""
    return np.full(2**24, -1, np.int16)

  def __call__(self, images: np.ndarray) -> np.ndarray:
    if images.shape[-1] != 3:
      raise ValueError('a colour palette needs images of three channels')
    pixels = _mean_pixels(images, self.size).astype(np.int32)
    codes = pixels[..., 0] << 16 | pixels[..., 1] << 8 | pixels[..., 2]
    unknown = np.unique(codes[self._table[codes] < 0])
    for first in range(0, len(unknown), _COLOURS):
      some = unknown[first : first + _COLOURS]
      colours = np.stack([some >> 16, some >> 8 & 255, some & 255], axis=-1)
      self._table[some] = nearest(scaled(colours), self.centres_Vx3)
    return self._table[codes].astype(np.uint16).reshape(len(images), -1)

  def distances(self, images: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """Euclidean, in RGB of 0 to 255 a channel, between every (mean) pixel and its colour."""
    pixels = _mean_pixels(images, self.size).reshape(-1, 3)
    colours = ((self.centres_Vx3 + np.float32(1)) * np.float32(127.5))[tokens.ravel()]
    return np.sqrt(np.square(pixels - colours).sum(axis=1))


def palette_name(centres_Vx3: np.ndarray) -> str:
  """Colours for people, by the SHA-256 of their numbers as little-endian float32."""
  digest = hashlib.sha256(centres_Vx3.astype('<f4').tobytes()).hexdigest()
  return f'{len(centres_Vx3)} colours (palette {digest[:12]})'


def scaled(colours: np.ndarray) -> np.ndarray:
  """Bytes 0..255 -> float64 in [-1, 1], as OpenAI's clusters are."""
  return colours / 127.5 - 1.0


def nearest(colours_Nx3: np.ndarray, centres_Vx3: np.ndarray) -> np.ndarray:
  """The index of the nearest centre, (N,); the first of equally near ones."""
  return cdist(colours_Nx3, centres_Vx3, 'sqeuclidean').argmin(axis=1)


def check_centres(centres_Vx3: np.ndarray) -> None:
  """Raises ValueError unless these are 2 to 32,767 colours on the scale of [-1, 1]."""
  shape, kind = centres_Vx3.shape, centres_Vx3.dtype.kind
  if len(shape) != 2 or shape[1] != 3 or not 2 <= shape[0] <= 2**15 - 1 or kind != 'f':
    raise ValueError(f'a palette is floats of shape (V, 3), not {centres_Vx3.dtype} {shape}')
  if not np.all(np.abs(centres_Vx3) <= 1 + 1e-3):  # also for NaN
    raise ValueError('the colours of a palette lie in [-1, 1]')
  if np.min(centres_Vx3) >= 0:
    raise ValueError(
      'no colour of the palette has a channel below 0, the middle grey of [-1, 1]: it seems to be '
      'on the scale of [0, 1]; 2 * palette - 1 puts it right'
    )
