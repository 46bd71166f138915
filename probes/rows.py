"""Which class and which split every row of a file has that others made."""

from collections.abc import Mapping
import os

import numpy as np

from probes.features import SPLITS

Path = str | os.PathLike
LABELS = 'labels'
# Of the rows, by the groups or rows that are dealt.
_SHARES = {'train': 0.7, 'validation': 0.15, 'test': 0.15}


def text(path: Path, name: str, array: np.ndarray) -> np.ndarray:
  """Bytes as strings, anything else as it is."""
  if array.dtype.kind != 'S':
    return array
  try:
    return np.char.decode(array, 'utf-8')
  except UnicodeDecodeError as error:
    raise ValueError(f'{path}: {name} holds bytes that are no UTF-8 text') from error


def columns(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Label columns by name: `labels` is 'label', `labels/NAME` is NAME."""
  found = {'label': arrays[LABELS]} if LABELS in arrays else {}
  prefix = f'{LABELS}/'
  return found | {
    name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)
  }


def column(path: Path, arrays: Mapping[str, np.ndarray], name: str | None) -> np.ndarray:
  """The label column of that name; without one 'label', or the only one.

  Raises:
    ValueError: there is none, or several and none is named.
  """
  found = columns(arrays)
  if name is None and len(found) == 1:
    name = next(iter(found))
  if name is None and 'label' not in found:
    raise ValueError(f'{path} has several columns of labels: choose one of {", ".join(found)}')
  name = name or 'label'
  if name not in found:
    raise ValueError(f"{path} has no labels '{name}'; it has {', '.join(found)}")
  return found[name]


def classes(path: Path, labels: np.ndarray, count: int) -> tuple[tuple[str, ...], np.ndarray]:
  """Names of the classes in order of their values, and the class of every row, (N,) int32."""
  labels = text(path, 'labels', labels)
  whole = labels.dtype.kind in 'iubU' or (
    labels.dtype.kind == 'f' and bool(np.all(np.isfinite(labels) & (labels == np.rint(labels))))
  )
  if labels.shape != (count,) or not whole:
    hint = ''
    if labels.ndim == 2 and len(labels) == count:
      hint = '; from one-hot rows: labels.argmax(1)'
    raise ValueError(
      f'{path}: labels must be {count} whole numbers, booleans or strings, not {labels.dtype} '
      f'{labels.shape}{hint}'
    )
  values, found = np.unique(labels, return_inverse=True)
  if len(values) < 2:
    raise ValueError(f"{path}: labels must have at least 2 classes, not '{values[0]}' alone")
  return tuple(map(str, values)), found.astype(np.int32)


def splits(path: Path, arrays: Mapping[str, np.ndarray], count: int) -> dict[str, np.ndarray]:
  """Numbers of the rows of each split.

  Without `splits` they are dealt by `groups`.

  Raises:
    ValueError: a split that is empty or unknown, or a group that is in two of them.
  """
  groups = arrays.get('groups')
  if groups is not None:
    groups = text(path, 'groups', groups)
    if groups.shape != (count,):
      raise ValueError(f'{path}: groups must name a group for each of {count} examples')
  named = deal(groups) if 'splits' not in arrays else text(path, 'splits', arrays['splits'])
  found = _rows(path, named, count)
  if groups is not None:
    _check_groups(path, groups, found)
  return found


def deal(groups_N: np.ndarray, seed: int = 0) -> np.ndarray:
  """A split for every row, (N,) strings, such that all rows of a group are in one.

  Groups are shuffled and dealt in turn, each to the split that is furthest below its share of the
  rows: 70 % train, 15 % validation, 15 % test.
  """
  values, group = np.unique(groups_N, return_inverse=True)
  sizes = np.bincount(group)
  wanted = np.array([_SHARES[split] for split in SPLITS]) * len(group)
  have, chosen = np.zeros(len(SPLITS)), np.zeros(len(values), int)
  for g in np.random.default_rng(seed).permutation(len(values)):
    chosen[g] = np.argmax((wanted - have) / wanted)
    have[chosen[g]] += sizes[g]
  return np.asarray(SPLITS)[chosen[group]]


def check_train(path: Path, names: tuple[str, ...], labels_train: np.ndarray) -> None:
  """Raises ValueError unless every class has a train row."""
  absent = np.flatnonzero(np.bincount(labels_train, minlength=len(names)) == 0)
  if len(absent):
    raise ValueError(f"{path}: label '{names[absent[0]]}' has no row in split 'train'")


def _rows(path: Path, named: np.ndarray, count: int) -> dict[str, np.ndarray]:
  if named.shape != (count,):
    raise ValueError(f'{path}: splits must name a split for each of {count} examples')
  if np.issubdtype(named.dtype, np.integer):
    if named.min() < 0 or named.max() > 2:
      raise ValueError(f'{path}: splits as numbers are 0 (train), 1 (validation) and 2 (test)')
    named = np.asarray(SPLITS)[named]
  unknown = sorted(set(np.unique(named).astype(str)) - set(SPLITS))
  if unknown:
    raise ValueError(f"{path}: unknown split '{unknown[0]}'; known: {', '.join(SPLITS)}")
  rows = {split: np.flatnonzero(named == split) for split in SPLITS}
  for split, found in rows.items():
    if not len(found):
      raise ValueError(f"{path}: no example belongs to split '{split}'")
  return rows


def _check_groups(path: Path, groups: np.ndarray, rows: dict[str, np.ndarray]) -> None:
  seen: dict = {}
  for split, own in rows.items():
    for group in np.unique(groups[own]):
      if seen.setdefault(group, split) != split:
        raise ValueError(
          f"{path}: group '{group}' is in {seen[group]} and in {split}: without splits, they are "
          'dealt by group'
        )
