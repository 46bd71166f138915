"""From pixels to tokens, against loops and brute force."""

import fractions
import hashlib

import numpy as np
import pytest

from data import palette, tokenizers
from probes import features


def pixels(*shape: int, seed: int = 0) -> np.ndarray:
  return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def _shares(old: int, new: int, index: int):
  """Pixels that a place of a smaller picture covers, and how much of it each fills."""
  length = fractions.Fraction(old, new)
  for i in range(old):
    overlap = min(i + 1, length * (index + 1)) - max(i, length * index)
    if overlap > 0:
      yield i, overlap / length


@pytest.mark.parametrize('levels', [2, 7, 16, 256])
@pytest.mark.parametrize('size', [(28, 28), (14, 14), (12, 27), (7, 4), (1, 1)])
def test_grey_levels_against_a_loop_in_fractions(size, levels):
  images = pixels(2, 28, 28, 1)
  images[1] = 255
  tokenizer = tokenizers.GreyLevels((28, 28), size, levels)
  tokens = tokenizer(images).reshape(2, *size)
  for n, row, column in np.ndindex(tokens.shape):
    mean = sum(
      down * across * int(images[n, i, j, 0])
      for i, down in _shares(28, size[0], row)
      for j, across in _shares(28, size[1], column)
    )
    assert tokens[n, row, column] == levels * mean // 256
  assert tokens[1].min() == levels - 1
  assert tokenizer.dims == size[0] * size[1] and tokenizer.shape == size
  assert tokenizer.lossless == (size == (28, 28) and levels == 256)
  assert ('lossless' in tokenizer.note) == tokenizer.lossless and tokenizer.ordinal
  assert f'{levels} grey levels' in tokenizer.note


@pytest.mark.parametrize('size', [(333, 499), (1, 1)])
def test_large_pictures_do_not_overflow(size):
  images = np.stack([np.full((500, 500, 1), 200, np.uint8), pixels(500, 500, 1)])
  grey = tokenizers.GreyLevels((500, 500), size, 256)(images).reshape(2, *size)
  colours = tokenizers.Bytes((500, 500), size, 1)(images).reshape(2, *size)
  assert (grey[0] == 200).all() and (colours[0] == 200).all()
  corner = size[0] - 1, size[1] - 1
  mean = sum(
    down * across * int(images[1, i, j, 0])
    for i, down in _shares(500, size[0], corner[0])
    for j, across in _shares(500, size[1], corner[1])
  )
  assert grey[1][corner] == mean // 1 and colours[1][corner] == (2 * mean + 1) // 2


def test_lossless_tokens_are_the_pixels():
  images = pixels(3, 4, 6, 3)
  tokenizer = tokenizers.Bytes((4, 6), (4, 6), 3)
  np.testing.assert_array_equal(tokenizer(images).reshape(images.shape), images)
  assert tokenizer.lossless and tokenizer.ordinal and tokenizer.dims == 72
  grey = tokenizers.GreyLevels((4, 6), (4, 6), 256)(images[..., :1])
  np.testing.assert_array_equal(grey.reshape(3, 4, 6), images[..., 0])


def test_bytes_of_smaller_images_are_rounded_means():
  images = pixels(2, 4, 4, 3)
  tokenizer = tokenizers.Bytes((4, 4), (2, 2), 3)
  tokens = tokenizer(images).reshape(2, 2, 2, 3)
  for n, row, column, channel in np.ndindex(tokens.shape):
    block = images[n, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2, channel]
    assert tokens[n, row, column, channel] == (block.sum(dtype=int) + 2) // 4
  assert not tokenizer.lossless and 'lossy' in tokenizer.note


def test_the_nearest_colour_is_brute_force():
  centres = np.random.default_rng(3).uniform(-1, 1, (37, 3)).astype(np.float32)
  centres[20] = centres[10]  # Of equal ones the first.
  images = pixels(2, 8, 8, 3)
  images[0, 0, 0] = np.rint((centres[20] + 1) * 127.5)
  tokenizer = tokenizers.Palette((8, 8), (8, 8), centres)
  tokens = tokenizer(images)
  for token, pixel in zip(tokens.ravel(), images.reshape(-1, 3), strict=True):
    position = [float(value) / 127.5 - 1 for value in pixel]
    distances = [
      sum((a - float(b)) ** 2 for a, b in zip(position, centre, strict=True)) for centre in centres
    ]
    assert token == distances.index(min(distances))
  assert tokens[0, 0] == 10
  np.testing.assert_array_equal(tokenizer(images), tokens)  # from the table now
  assert not tokenizer.ordinal and not tokenizer.lossless and tokenizer.shape == ()
  assert hashlib.sha256(centres.astype('<f4').tobytes()).hexdigest()[:12] in tokenizer.note
  assert '37 colours' in tokenizer.note


def test_many_colours_at_once():
  centres = np.random.default_rng(4).uniform(-1, 1, (512, 3)).astype(np.float32)
  images = pixels(20, 32, 32, 3)  # More distinct colours than are compared at once.
  tokens = tokenizers.Palette((32, 32), (32, 32), centres)(images)
  flat = images.reshape(-1, 3)[::97] / 127.5 - 1
  distance = ((flat[:, None] - centres[None].astype(np.float64)) ** 2).sum(-1)
  np.testing.assert_array_equal(tokens.ravel()[::97], distance.argmin(1))


def test_a_fitted_palette_finds_the_colours_that_there_are():
  colours = pixels(16, 3, seed=5)
  images = colours[np.random.default_rng(6).integers(0, 16, (40, 8, 8))]
  sample = palette.sample([images[:20], images[20:]], images.size // 3)
  assert len(sample) == images.size // 3 and sample.min() >= -1 and sample.max() <= 1
  centres = palette.fit(sample, 16)
  tokens = tokenizers.Palette((8, 8), (8, 8), centres)(images)
  error = np.abs(tokenizers.scaled(images.reshape(40, -1, 3)) - centres[tokens])
  assert np.mean(error > 1e-3) < 0.2  # k-means may merge a few.
  np.testing.assert_array_equal(palette.fit(sample, 16), centres)
  with pytest.raises(ValueError, match='17 clusters of colours, but the images hold only 16'):
    palette.fit(sample, 17)


def test_published_palettes(tmp_path):
  centres = np.random.default_rng(0).uniform(-1, 1, (512, 3))
  np.save(tmp_path / 'good.npy', centres)
  np.testing.assert_array_equal(palette.read(tmp_path / 'good.npy'), centres.astype(np.float32))
  for name, bad in {
    'shape': centres[:, :2], 'bytes': (centres * 100).astype(np.uint8), 'range': centres * 128,
    'nan': centres * np.nan, 'unit': (centres + 1) / 2,
  }.items():  # fmt: skip
    np.save(tmp_path / f'{name}.npy', bad)
    with pytest.raises(ValueError, match=f'palette .*{name}.npy can not be used'):
      palette.read(tmp_path / f'{name}.npy')
  with pytest.raises(ValueError, match=r'scale of \[0, 1\]; 2 \* palette - 1 puts it right'):
    palette.read(tmp_path / 'unit.npy')
  (tmp_path / 'text.npy').write_text('hello')
  for name in ('text.npy', 'none.npy'):
    with pytest.raises(ValueError, match='can not be used'):
      palette.read(tmp_path / name)


@pytest.mark.parametrize(
  'make, message',
  [
    (lambda: tokenizers.GreyLevels((28, 28), (29, 14), 16), '28x28 pixels can not be averaged'),
    (lambda: tokenizers.GreyLevels((28, 28), (14, 14), 257), 'grey levels must be 2 to 256'),
    (lambda: tokenizers.GreyLevels((28, 28), (14, 14), 1), 'grey levels must be 2 to 256'),
    (lambda: tokenizers.Bytes((32, 32), (64, 64), 3), '32x32 pixels can not be averaged to 64x64'),
  ],
)
def test_bad_settings(make, message):
  with pytest.raises(ValueError, match=message):
    make()


def test_raw_input_of_a_palette_is_its_colours():
  class Coloured:
    ordinal, vocabulary, values_VxK = False, 5, np.arange(15, dtype=np.float32).reshape(5, 3)

  tokens = np.array([[0, 4], [2, 2]])
  np.testing.assert_array_equal(
    features.flat(Coloured, tokens), [[0, 1, 2, 12, 13, 14], [6, 7, 8, 6, 7, 8]]
  )
