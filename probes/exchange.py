"""Features of any model in one file, so that the same probes can be fitted on them.

A .npz archive with

- `features`: (layers, N, D), finite numbers; layer 0 first;
- `labels`: (N,) integers from 0 to classes - 1;
- `splits`: (N,) 'train', 'validation' or 'test' (or 0, 1, 2), each present;

and optionally

- `last`: (layers, N, D), another pooling (ours: the last position);
- `inputs`: (N, P), the raw inputs as numbers; the control task takes its types from them;
- `pretraining_seed`: an integer; the few labels that probes get follow it (default 0);
- `unseen`: names of the splits whose examples the model never saw in pretraining, of which the PAC
  certificate counts the labels; default validation and test.
"""

import os
import zipfile

import numpy as np

from probes import selection
from probes.features import SPLITS, Features

_NEEDED = ('features', 'labels', 'splits')


def read(path: str | os.PathLike) -> Features:
  """Features from a file.

  Raises:
    ValueError: one line that says what is wrong with the file.
    OSError: it can't be opened.
  """
  arrays = _load(path)
  missing = [name for name in _NEEDED if name not in arrays]
  if missing:
    raise ValueError(f'{path} lacks {", ".join(missing)}; it has {", ".join(arrays) or "nothing"}')
  features, labels = arrays['features'], arrays['labels']
  if features.ndim != 3 or not np.issubdtype(features.dtype, np.number):
    raise ValueError(f'{path}: features must be layers x N x D numbers, not {features.shape}')
  count = features.shape[1]
  if labels.shape != (count,) or not np.issubdtype(labels.dtype, np.integer):
    raise ValueError(f'{path}: labels must be {count} integers, not {labels.dtype} {labels.shape}')
  rows = _rows(path, arrays['splits'], count)
  classes = int(labels.max()) + 1
  if labels.min() < 0 or classes < 2:
    raise ValueError(f'{path}: labels must be integers from 0 with at least 2 classes')
  optional = {}
  for name, axis in (('last', 1), ('inputs', 0)):
    if name in arrays:
      array = arrays[name]
      if array.ndim != (3 if name == 'last' else 2) or array.shape[axis] != count:
        raise ValueError(f'{path}: {name} {array.shape} does not match {count} examples')
      by_split = {s: np.take(array, rows[s], axis).astype(np.float32) for s in SPLITS}
      if not all(np.isfinite(part).all() for part in by_split.values()):
        raise ValueError(f'{path}: {name} holds NaN or infinity')
      optional[name] = by_split
  unseen = tuple(str(name) for name in np.atleast_1d(arrays.get('unseen', ['validation', 'test'])))
  unknown = set(unseen) - set(SPLITS)
  if unknown:
    raise ValueError(f'{path}: unseen names {", ".join(sorted(unknown))}, not {", ".join(SPLITS)}')
  seed = np.asarray(arrays.get('pretraining_seed', 0))
  if seed.size != 1 or not np.issubdtype(seed.dtype, np.integer) or seed.min() < 0:
    raise ValueError(f'{path}: pretraining_seed must be one integer from 0')
  found = Features(
    **{split: features[:, rows[split]].astype(np.float32) for split in SPLITS},
    **{f'labels_{split}': labels[rows[split]].astype(np.int32) for split in SPLITS},
    classes=classes,
    unseen=unseen,
    pretraining_seed=int(seed.item()),
    **optional,
  )
  try:
    selection.check(found, SPLITS)
  except ValueError as error:
    raise ValueError(f'{path}: {error}') from error
  return found


def write(path: str | os.PathLike, features: Features) -> None:
  """Writes features in the form that `read` takes, whole or not at all."""
  arrays = {
    'features': np.concatenate([getattr(features, split) for split in SPLITS], 1),
    'labels': np.concatenate([getattr(features, f'labels_{split}') for split in SPLITS]),
    'splits': np.repeat(SPLITS, [getattr(features, split).shape[1] for split in SPLITS]),
    'unseen': np.array(features.unseen),
    'pretraining_seed': np.array(features.pretraining_seed),
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
