"""Data sets by name: what `config.data` may ask for, as arrays of tokens and labels."""

from collections.abc import Callable
import difflib
import os
from typing import Any

from data.dataset import Dataset

# Loaders are imported when asked for: some of them need what a run on other data does not.


def _digits(config: Any, data_dir: str) -> Dataset:
  del config
  from data import digits

  return digits.load(data_dir)


def _noise(config: Any, data_dir: str) -> Dataset:
  del data_dir
  from data import noise

  return noise.load(config)


def _hierarchy(config: Any, data_dir: str) -> Dataset:
  del data_dir
  from data import hierarchy

  return hierarchy.load(config)


def _markov(config: Any, data_dir: str) -> Dataset:
  del data_dir
  from data import markov

  return markov.load(config)


def _copy(config: Any, data_dir: str) -> Dataset:
  del data_dir
  from data import markov

  return markov.load_copy(config)


def _image_set(config: Any, data_dir: str) -> Dataset:
  from data import images

  return images.load(config, data_dir)


def _text_file(config: Any, data_dir: str) -> Dataset:
  del data_dir
  from data import text

  return text.load(config)


DATASETS: dict[str, Callable[[Any, str], Dataset]] = {
  'digits': _digits,
  'noise': _noise,
  'hierarchy': _hierarchy,
  'markov': _markov,
  'copy': _copy,
  'fashion_mnist': _image_set,
  'mnist': _image_set,
  'cifar10': _image_set,
  'text_file': _text_file,
}


def load(config: Any, data_dir: str) -> Dataset:
  """The data set that `config` (a ConfigDict with `name`) asks for.

  A name that is not in DATASETS is that of an image set which TFDS has prepared in `data_dir`.

  Raises:
    ValueError: unknown name (lists the known), not prepared, a damaged copy, or a bad setting.
    OSError: `data_dir` can't be read or written.
  """
  data_dir = os.path.expanduser(data_dir)
  if config.name in DATASETS:
    return DATASETS[config.name](config, data_dir)
  from data import prepared

  if prepared.directory(config.name, data_dir) is None:
    near = difflib.get_close_matches(config.name, DATASETS, 1)
    hint = f'; did you mean {near[0]}?' if near else ''
    command = prepared.build_command(config.name or 'NAME', data_dir)
    raise ValueError(
      f"unknown data set '{config.name}'; known: {', '.join(DATASETS)}{hint}; an image set of TFDS "
      f'is prepared first, where TensorFlow is installed: {command}'
    )
  return _image_set(config, data_dir)
