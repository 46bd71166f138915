"""Images as PNG files in memory, which is how TFDS keeps them."""

import io

import numpy as np
from PIL import Image, UnidentifiedImageError


def encode(image: np.ndarray) -> bytes:
  """uint8 (H, W) or (H, W, 3) as a PNG file."""
  buffer = io.BytesIO()
  Image.fromarray(image).save(buffer, 'PNG')
  return buffer.getvalue()


def decode(data: bytes, channels: int) -> np.ndarray:
  """uint8 (H, W, channels) of a PNG or JPEG file; channels 1 is grey, 3 is RGB.

  Raises:
    ValueError: not an image, or one with another number of channels.
  """
  try:
    with Image.open(io.BytesIO(data)) as file:
      image = np.asarray(file)
  except (UnidentifiedImageError, OSError) as error:
    raise ValueError(f'an image can not be decoded: {error}') from error
  image = image[..., None] if image.ndim == 2 else image
  if image.dtype != np.uint8 or image.shape[-1] != channels:
    raise ValueError(f'an image is {image.dtype} {image.shape}, not uint8 of {channels} channels')
  return image
