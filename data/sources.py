"""Data sets by name: what `config.data` may ask for, as arrays of tokens and labels."""

import dataclasses
import difflib
import importlib
import os
from typing import Any

from data import facts
from data.dataset import Dataset, Examples, with_fewer

# Module and function here, of the config and of where prepared sets are. They are imported when
# asked for: some of them need what a run on other data does not.
DATASETS = {
  'digits': 'digits.load',
  'noise': 'noise.load',
  'automata': 'automata.load',
  'hierarchy': 'hierarchy.load',
  'markov': 'markov.load',
  'copy': 'markov.load_copy',
  'pairs': 'pairs.load',
  'repeats': 'repeats.load',
  'retellings': 'retellings.load',
  'fashion_mnist': 'images.load',
  'mnist': 'images.load',
  'cifar10': 'images.load',
  'text_file': 'text.load',
  'arrays': 'arrays.load',
  'image_folder': 'image_folder.load',
}


def load(config: Any, data_dir: str) -> Dataset:
  """The data set that `config` (a ConfigDict with `name`) asks for.

  A name that is not in DATASETS is that of an image set which TFDS has prepared in `data_dir`.
  `train_rows`, of any set that has an end, keeps so many training examples, a random choice that
  is always the same; without it, or where it is 0, all.

  Raises:
    ValueError: unknown name (lists the known), not prepared, a damaged copy, or a bad setting.
    OSError: `data_dir` can't be read or written.
  """
  data_dir = os.path.expanduser(data_dir)
  if config.name not in DATASETS:
    _check_prepared(config.name, data_dir)
  module, function = DATASETS.get(config.name, 'images.load').split('.')
  found = getattr(importlib.import_module(f'data.{module}'), function)(config, data_dir)
  rows = config.get('train_rows', 0)
  return _shortened(found, rows) if rows else found


def _shortened(dataset: Dataset, rows: int) -> Dataset:
  if not isinstance(dataset.train, Examples):
    raise ValueError(f"data.train_rows: '{dataset.name}' is drawn afresh for ever")
  total = len(dataset.train)
  if type(rows) is not int or not 1 <= rows <= total:
    raise ValueError(f'data.train_rows must lie in 0..{total} (0: all), not {rows!r}')
  fewer, shared = with_fewer(dataset, rows), facts.duplicates_note(dataset.duplicates)
  note = f'{dataset.note.removesuffix(shared)}; {rows} of {total} training examples'
  if shared and dataset.note.endswith(shared):
    note += facts.duplicates_note(fewer.duplicates)
  return dataclasses.replace(fewer, note=note)


def _check_prepared(name: str, data_dir: str) -> None:
  from data import prepared

  if prepared.directory(name, data_dir) is None:
    near = difflib.get_close_matches(name, DATASETS, 1)
    hint = f'; did you mean {near[0]}?' if near else ''
    command = prepared.build_command(name or 'NAME', data_dir)
    raise ValueError(
      f"unknown data set '{name}'; known: {', '.join(DATASETS)}{hint}; an image set of TFDS "
      f'is prepared first, where TensorFlow is installed: {command}'
    )
