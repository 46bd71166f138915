"""Features of any model in one file, so that the same probes can be fitted on them.

A .npz archive with

- `features`: (layers, N, D), finite numbers; layer 0 first;
- `labels`: (N,) integers, booleans or strings; the classes are their distinct values, sorted, and
  every one of them has a train row;
- `splits`: (N,) 'train', 'validation' or 'test' (or 0, 1, 2), each present;

and optionally

- `last`: (layers, N, D), another pooling (ours: the last position);
- `inputs`: (N, P), the raw inputs as numbers; the control task takes its types from them;
- `pretraining_seed`: an integer; the few labels that probes get follow it (default 0);
- `unseen`: names of the splits whose examples the model never saw in pretraining, of which the PAC
  certificate counts the labels; default validation and test;
- `choices`: among how many models those examples chose this one (checkpoints, learning rates),
  which the certificate pays for; default 1.

Strings may be bytes (b'train'), as HDF5 and older tools leave them. Numbers stay as precise as they
are: float64 is standardised as float64, so that features with an offset far above their spread lose
no digit of it.
"""

import os
import zipfile

import numpy as np

from probes import selection
from probes.features import SPLITS, Features

_NEEDED = ('features', 'labels', 'splits')


def read(path: str | os.PathLike) -> Features:
  """Features from a file; `names` are the file's own names of the classes.

  Raises:
    ValueError: one line that says what is wrong with the file, and how to put it right.
    OSError: it can't be opened.
  """
  arrays = _load(path)
  missing = [name for name in _NEEDED if name not in arrays]
  if missing:
    raise ValueError(f'{path} lacks {", ".join(missing)}; it has {", ".join(arrays) or "nothing"}')
  features = arrays['features']
  if features.ndim != 3:
    raise ValueError(f'{path}: features must be layers x N x D numbers, not {features.shape}')
  count = features.shape[1]
  names, labels = _labels(path, arrays['labels'], count)
  rows = _rows(path, _text(path, 'splits', arrays['splits']), count)
  absent = np.flatnonzero(np.bincount(labels[rows['train']], minlength=len(names)) == 0)
  if len(absent):
    raise ValueError(f"{path}: label '{names[absent[0]]}' has no row in split 'train'")
  given = {name: arrays[name] for name in ('features', 'last') if name in arrays}
  given = dict(zip(given, _exact(path, **given), strict=True))
  optional = {}
  if 'inputs' in arrays:
    (given['inputs'],) = _exact(path, inputs=arrays['inputs'])
  for name, axis in (('last', 1), ('inputs', 0)):
    if name in given:
      array = given[name]
      if array.ndim != (3 if name == 'last' else 2) or array.shape[axis] != count:
        raise ValueError(f'{path}: {name} {array.shape} does not match {count} examples')
      if not np.isfinite(array).all():
        raise ValueError(f'{path}: {name} holds NaN or infinity')
      optional[name] = {s: np.take(array, rows[s], axis) for s in SPLITS}
  unseen = _text(path, 'unseen', np.atleast_1d(arrays.get('unseen', ['validation', 'test'])))
  unseen = tuple(str(name) for name in unseen)
  unknown = set(unseen) - set(SPLITS)
  if unknown:
    raise ValueError(f'{path}: unseen names {", ".join(sorted(unknown))}, not {", ".join(SPLITS)}')
  seed = np.asarray(arrays.get('pretraining_seed', 0))
  if seed.size != 1 or not np.issubdtype(seed.dtype, np.integer) or seed.min() < 0:
    raise ValueError(f'{path}: pretraining_seed must be one integer from 0')
  choices = np.asarray(arrays.get('choices', 1))
  if choices.shape != () or choices.dtype.kind not in 'iu' or choices < 1:
    raise ValueError(f'{path}: choices must be one integer, at least 1, not {choices}')
  found = Features(
    **{split: given['features'][:, rows[split]] for split in SPLITS},
    **{f'labels_{split}': labels[rows[split]] for split in SPLITS},
    classes=len(names),
    unseen=unseen,
    pretraining_seed=int(seed.item()),
    choices=int(choices),
    names=names,
    **optional,
  )
  try:
    selection.check(found, SPLITS)
  except ValueError as error:
    raise ValueError(f'{path}: {error}') from error
  return found


def repeated_rows(features: Features) -> dict[str, int]:
  """'test in train' and the like -> rows of the one split that stand in the other too.

  Rows are the same if their inputs are, bit by bit, or without inputs all their features. What a
  probe has fitted is easily right on test: such rows make an accuracy look better than it is.
  """

  def rows(split: str) -> list[bytes]:
    if features.inputs is not None:
      array = np.asarray(features.inputs[split])
    else:
      array = np.swapaxes(getattr(features, split), 0, 1)
    # Adding zero makes a negative zero a positive one.
    return [np.ascontiguousarray(row).tobytes() for row in array + 0.0]

  found = {split: rows(split) for split in SPLITS}
  pairs = (('test', 'train'), ('validation', 'train'), ('test', 'validation'))
  return {
    f'{one} in {other}': sum(map(set(found[other]).__contains__, found[one]))
    for one, other in pairs
  }


def write(path: str | os.PathLike, features: Features) -> None:
  """Writes features in the form that `read` takes, whole or not at all."""
  arrays = {
    'features': np.concatenate([getattr(features, split) for split in SPLITS], 1),
    'labels': np.concatenate([getattr(features, f'labels_{split}') for split in SPLITS]),
    'splits': np.repeat(SPLITS, [getattr(features, split).shape[1] for split in SPLITS]),
    'unseen': np.array(features.unseen),
    'pretraining_seed': np.array(features.pretraining_seed),
    'choices': np.array(features.choices),
  }
  if features.last is not None:
    arrays['last'] = np.concatenate([features.last[split] for split in SPLITS], 1)
  if features.inputs is not None:
    arrays['inputs'] = np.concatenate([features.inputs[split] for split in SPLITS])
  part = f'{path}.part'
  with open(part, 'wb') as file:
    np.savez_compressed(file, **arrays)
  os.replace(part, path)


def _load(path: str | os.PathLike) -> dict[str, np.ndarray]:
  try:
    archive = np.load(path, allow_pickle=False)
    if not isinstance(archive, np.lib.npyio.NpzFile):
      raise ValueError(f'{path} is one array; a .npz with {", ".join(_NEEDED)} is needed')
    with archive:
      return {name: archive[name] for name in archive.files}
  except (zipfile.BadZipFile, EOFError) as error:
    raise ValueError(f'{path} is no .npz file or is damaged: {error}') from error
  except ValueError as error:
    if str(error).startswith(str(path)):
      raise
    raise ValueError(f'{path} is no .npz file of plain arrays: {error}') from error


def _exact(path: str | os.PathLike, **arrays: np.ndarray) -> list[np.ndarray]:
  """The arrays as float32 where the type of all of them fits in it, else as float64."""
  for name, array in arrays.items():
    if array.dtype.kind not in 'iuf':
      raise ValueError(f'{path}: {name} must be integers or floats, not {array.dtype}')
  wide = np.result_type(np.float32, *(array.dtype for array in arrays.values()))
  wide = np.float32 if wide == np.float32 else np.float64
  return [np.asarray(array, wide) for array in arrays.values()]


def _text(path: str | os.PathLike, name: str, array: np.ndarray) -> np.ndarray:
  """Bytes as strings, anything else as it is."""
  if array.dtype.kind != 'S':
    return array
  try:
    return np.char.decode(array, 'utf-8')
  except UnicodeDecodeError as error:
    raise ValueError(f'{path}: {name} holds bytes that are no UTF-8 text') from error


def _labels(
  path: str | os.PathLike, labels: np.ndarray, count: int
) -> tuple[tuple[str, ...], np.ndarray]:
  """Names of the classes in order, and the class of every row, (N,) int32."""
  labels = _text(path, 'labels', labels)
  if labels.shape != (count,) or labels.dtype.kind not in 'iubU':
    hint = '' if labels.shape != (count,) else '; class numbers: labels.astype(int)'
    if labels.ndim == 2 and len(labels) == count:
      hint = '; from one-hot rows: labels.argmax(1)'
    raise ValueError(
      f'{path}: labels must be {count} integers, booleans or strings, not {labels.dtype} '
      f'{labels.shape}{hint}'
    )
  values, classes = np.unique(labels, return_inverse=True)
  if len(values) < 2:
    raise ValueError(f"{path}: labels must have at least 2 classes, not '{values[0]}' alone")
  return tuple(map(str, values)), classes.astype(np.int32)


def _rows(path: str | os.PathLike, splits: np.ndarray, count: int) -> dict[str, np.ndarray]:
  if splits.shape != (count,):
    raise ValueError(f'{path}: splits must name a split for each of {count} examples')
  if np.issubdtype(splits.dtype, np.integer):
    if splits.min() < 0 or splits.max() > 2:
      raise ValueError(f'{path}: splits as numbers are 0 (train), 1 (validation) and 2 (test)')
    splits = np.asarray(SPLITS)[splits]
  unknown = sorted(set(np.unique(splits).astype(str)) - set(SPLITS))
  if unknown:
    raise ValueError(f"{path}: unknown split '{unknown[0]}'; known: {', '.join(SPLITS)}")
  rows = {split: np.flatnonzero(splits == split) for split in SPLITS}
  for split, found in rows.items():
    if not len(found):
      raise ValueError(f"{path}: no example belongs to split '{split}'")
  return rows
