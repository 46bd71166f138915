"""What a data set's tokens will be, from its config alone: nothing is read, prepared or drawn."""

import dataclasses
import re
from typing import Any

import numpy as np

from data import images, palette, sources, tokenizers

# Height, width, channels and classes of the sets that have no size in their name.
_IMAGE_SETS = {
  'mnist': (28, 28, 1, 10),
  'fashion_mnist': (28, 28, 1, 10),
  'cifar10': (32, 32, 3, 10),
}
_CLASSES_OF_IMAGENET = 1000
# Made up as they are asked for, so that loading is as cheap as describing.
_SYNTHETIC = ('noise', 'automata', 'hierarchy', 'markov', 'copy', 'pairs', 'repeats', 'retellings')


@dataclasses.dataclass(frozen=True)
class Description:
  """The attributes of `dataset.Dataset` that a network and an objective depend on."""

  vocabulary: int
  length: int
  dims: int
  classes: int | None
  ordinal: bool
  shape: tuple[int, ...]


def describe(config: Any) -> Description:
  """The description of what `sources.load(config, ...)` would return.

  Raises:
    ValueError: the config does not say it, or has a bad setting.
  """
  if config.name == 'digits':
    from data import digits

    return Description(digits.LEVELS, 64, 64, digits.CLASSES, True, (8, 8))
  if config.name in _SYNTHETIC:
    made = sources.load(config, '')
    fields = [field.name for field in dataclasses.fields(Description)]
    return Description(**{name: getattr(made, name) for name in fields})
  if config.name == 'text_file':
    return Description(256, config.length, config.length, None, False, ())
  resized = re.fullmatch(r'imagenet_resized/(\d+)x(\d+)(:.*)?', config.name)
  if resized:
    side = int(resized[1]), int(resized[2])
    return _images(config, *side, 3, _CLASSES_OF_IMAGENET)
  if config.name in _IMAGE_SETS:
    return _images(config, *_IMAGE_SETS[config.name])
  raise ValueError(
    f"what the tokens of data set '{config.name}' are can't be known without reading it: "
    'give --vocabulary=V and --length=T'
  )


def _images(config: Any, height: int, width: int, channels: int, classes: int) -> Description:
  settings = images.settings_of(config)
  source, kind = (height, width), settings['tokens'] or 'bytes'
  size = (settings['size'],) * 2 if settings['size'] else source
  if kind == 'bytes':
    tokenizer = tokenizers.Bytes(source, size, channels)
  elif kind == 'grey' and channels == 1:
    tokenizer = tokenizers.GreyLevels(source, size, settings['levels'])
  elif kind == 'palette' and channels == 3:
    file, clusters = settings['palette'], settings['clusters']
    centres = palette.read(file) if file else np.full((clusters, 3), -1.0, np.float32)
    tokenizer = tokenizers.Palette(source, size, centres)
  else:
    raise ValueError(f"data.tokens is not '{kind}' for images of {channels} channels")
  t = tokenizer
  return Description(t.vocabulary, t.dims, t.dims, classes, t.ordinal, t.shape)
