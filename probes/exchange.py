"""Features of any model in one file, so that the same probes can be fitted on them.

A .npz archive with

- `features`: (layers, N, D), finite numbers; layer 0 first;
- `labels`: (N,) whole numbers, booleans or strings; the classes are their distinct values, sorted,
  and every one of them has a train row. Several columns of labels are `labels/NAME` each; the
  reader names one, without a name it is `labels` or the only one;
- `splits`: (N,) 'train', 'validation' or 'test' (or 0, 1, 2), each present;

and optionally

- `groups`: (N,) integers or strings, such as patients or films: no group may be in two splits.
  With them `splits` may be left out: then whole groups are dealt to the splits;
- `last` and `cls`: (layers, N, D), other poolings: the last position, and a token that stands for
  the whole input;
- `sequences/0`, `sequences/1`, ...: (N, T, D) for each layer, features before pooling;
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

from collections.abc import Callable, Iterator, Mapping
import contextlib
import functools
import os
import secrets
from typing import BinaryIO
import zipfile

import numpy as np

from probes import rows as rows_lib
from probes import selection
from probes.features import SPLITS, Features

POOLINGS = ('mean', 'last', 'cls')
_NEEDED = ('features', 'labels', 'splits')
_SEQUENCES = 'sequences/'


def read(path: str | os.PathLike, label: str | None = None, pooling: str = 'mean') -> Features:
  """Features from a file; `names` are the file's own names of the classes.

  Args:
    path: the file.
    label: which column of labels, where there are several.
    pooling: which one is the headline, 'mean', 'last' or 'cls'. `Features.last` is beside the mean.

  Raises:
    ValueError: one line that says what is wrong with the file, and how to put it right.
    OSError: it can't be opened.
  """
  arrays = _load(path)
  missing = [name for name in _NEEDED if name not in arrays]
  missing = [n for n in missing if not (n == 'labels' and rows_lib.columns(arrays))]
  if 'groups' in arrays:
    missing = [name for name in missing if name != 'splits']
  if missing:
    raise ValueError(f'{path} lacks {", ".join(missing)}; it has {", ".join(arrays) or "nothing"}')
  features = arrays['features']
  if features.ndim != 3:
    raise ValueError(f'{path}: features must be layers x N x D numbers, not {features.shape}')
  count = features.shape[1]
  names, labels = rows_lib.classes(path, rows_lib.column(path, arrays, label), count)
  rows = rows_lib.splits(path, arrays, count)
  rows_lib.check_train(path, names, labels[rows['train']])
  arrays = _pooled(path, arrays, pooling)
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
  unseen = rows_lib.text(
    path, 'unseen', np.atleast_1d(arrays.get('unseen', ['validation', 'test']))
  )
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
    sequences=_sequences(path, arrays, rows, features.shape),
    **optional,
  )
  try:
    selection.check(found, SPLITS)
  except ValueError as error:
    raise ValueError(f'{path}: {error}') from error
  return found


def dealt(path: str | os.PathLike) -> bool:
  """Whether the file leaves its splits to be dealt by group."""
  with np.load(path, allow_pickle=False) as archive:
    return 'splits' not in archive.files


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
  with whole(path) as file:
    np.savez_compressed(file, **arrays)


@contextlib.contextmanager
def whole(path: str | os.PathLike) -> Iterator[BinaryIO]:
  """A file to write that is there whole or not at all; of two writers at once the last stays."""
  part = os.path.join(os.path.dirname(path), f'.writing-{secrets.token_hex(8)}')
  try:
    with open(part, 'xb') as file:
      yield file
    os.replace(part, path)
  except OSError as error:
    if error.filename == part:  # Who asked knows another name.
      error.filename = os.fspath(path)
    raise
  finally:
    with contextlib.suppress(OSError):
      os.remove(part)


def _load(path: str | os.PathLike) -> dict[str, np.ndarray]:
  try:
    archive = np.load(path, allow_pickle=False)
    if not isinstance(archive, np.lib.npyio.NpzFile):
      raise ValueError(f'{path} is one array; a .npz with {", ".join(_NEEDED)} is needed')
    with archive:
      # Sequences stay where they are until a layer of them is asked for.
      return {n: None if n.startswith(_SEQUENCES) else archive[n] for n in archive.files}
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


def _pooled(
  path: str | os.PathLike, arrays: Mapping[str, np.ndarray], pooling: str
) -> dict[str, np.ndarray]:
  """The arrays with this pooling as `features`, and `last` only beside the mean."""
  if pooling == 'mean':
    return dict(arrays)
  if pooling not in arrays:
    there = ', '.join(name for name in POOLINGS if name == 'mean' or name in arrays)
    raise ValueError(f"{path} has no pooling '{pooling}'; it has {there}")
  if arrays[pooling].shape != arrays['features'].shape:
    raise ValueError(
      f'{path}: {pooling} {arrays[pooling].shape} is not of the shape of features '
      f'{arrays["features"].shape}'
    )
  return {name: array for name, array in arrays.items() if name != 'last'} | {
    'features': arrays[pooling]
  }


def _sequences(
  path: str | os.PathLike,
  arrays: Mapping[str, np.ndarray],
  rows: dict[str, np.ndarray],
  shape: tuple[int, ...],
) -> Callable[[str, int, np.ndarray], np.ndarray] | None:
  """As `Features.sequences`, read from the file when a layer is asked for; None without any."""
  layers, count, width = shape
  there = {name for name in arrays if name.startswith(_SEQUENCES)}
  if not there:
    return None
  if there != {f'{_SEQUENCES}{layer}' for layer in range(layers)}:
    raise ValueError(f'{path}: sequences must be {_SEQUENCES}0 to {_SEQUENCES}{layers - 1}')
  shapes = {_shape(path, name) for name in there}
  if len(shapes) > 1 or any(len(s) != 3 or (s[0], s[2]) != (count, width) for s in shapes):
    found = ', '.join(map(str, sorted(shapes)))
    raise ValueError(f'{path}: sequences must all be {count} x T x {width}, not {found}')

  @functools.lru_cache(maxsize=1)
  def whole(layer: int) -> np.ndarray:
    with np.load(path, allow_pickle=False) as archive:
      return archive[f'{_SEQUENCES}{layer}']

  def sequences(split: str, layer: int, chosen: np.ndarray) -> np.ndarray:
    return whole(int(layer))[rows[split][chosen]].astype(np.float32)

  return sequences


def _shape(path: str | os.PathLike, name: str) -> tuple[int, ...]:
  """Of an array of the archive, from its header alone."""
  with zipfile.ZipFile(path) as archive, archive.open(f'{name}.npy') as file:
    version = np.lib.format.read_magic(file)
    read_header = (
      np.lib.format.read_array_header_1_0
      if version == (1, 0)
      else np.lib.format.read_array_header_2_0
    )
    return read_header(file)[0]
