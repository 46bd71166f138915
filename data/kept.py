"""What is computed of data once and kept beside them: tokens, labels and facts, colours.

Kept tokens of a data set are a directory of plain .npy files: train.npy, validation.npy and
test.npy (N, T), in the smallest unsigned integers that hold the alphabet; train_labels.npy, ...;
counts.npy and facts.json (data/facts.py).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
import contextlib
import errno
import fcntl
import glob
import hashlib
import json
import os
import shutil
from typing import Any, BinaryIO
import uuid

import numpy as np

from data import facts
from data.dataset import Examples
from data.rows import Rows

SPLITS = ('train', 'validation', 'test')
# Part of what is kept is named by: raise it when it would come out different.
_FORMAT = 2
# Tokens and labels of some examples after others, and how many examples they are in all.
Chunks = Iterable[tuple[np.ndarray, np.ndarray]]


class Store:
  """A folder of directories, each named by what it depends on and there only when it is whole."""

  def __init__(self, folder: str, of: Callable[[], dict[str, Any]]):
    """`of()` tells the data that all of it is made of; of other data nothing is found."""
    self._folder, self._now, self._of = folder, of, {'format': _FORMAT, **of()}

  def get(self, kind: str, key: Mapping[str, Any], make: Callable[[str], None]) -> str:
    """The directory kept under (kind, key); if there is none, `make(directory)` fills it.

    Raises:
      ValueError: the data changed while it was made of them.
      OSError: with the folder's name where the disk is full.
    """
    text = json.dumps([self._of, key], sort_keys=True)
    path = os.path.join(self._folder, f'{kind}-{hashlib.sha256(text.encode()).hexdigest()[:16]}')
    if os.path.isdir(path):
      return path
    # Numbers of processes are not unique: containers that share the folder may have the same.
    unfinished = f'{path}.{uuid.uuid4().hex}.unfinished'
    _clear(self._folder)
    os.makedirs(unfinished)
    try:
      with _held(unfinished):
        make(unfinished)
        if {'format': _FORMAT, **self._now()} != self._of:
          raise ValueError(f'the data changed while {kind} were made of them; start again')
        os.rename(unfinished, path)
    except OSError as error:
      # Of two processes that make the same the first one's stays.
      if not os.path.isdir(path):
        if error.filename is not None:
          raise
        # NumPy tells a write that came short without a number.
        code, reason = error.errno or errno.ENOSPC, error.strerror or f'disk full? {error}'
        raise OSError(code, reason, self._folder) from error
    finally:
      shutil.rmtree(unfinished, ignore_errors=True)
    return path


@contextlib.contextmanager
def _held(directory: str) -> Iterator[bool]:
  """Holds a directory, or says that another process does; the system frees a killed one's."""
  handle = os.open(directory, os.O_RDONLY)
  try:
    try:
      fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
      found = True
    except OSError:  # Also where a file system knows no locks.
      found = False
    yield found
  finally:
    os.close(handle)


def _clear(folder: str) -> None:
  """Deletes what processes that were killed left unfinished."""
  for left in glob.glob(os.path.join(glob.escape(folder), '*.unfinished')):
    with contextlib.suppress(OSError), _held(left) as alone:
      # An empty one may be about to be held.
      if alone and os.listdir(left):
        shutil.rmtree(left)


def write_rows(file: BinaryIO, chunks: Iterable[np.ndarray], count: int) -> None:
  """The content of a .npy file: `count` rows that come in chunks of one dtype."""
  for number, chunk in enumerate(chunks):
    if not number:
      header = {'descr': np.lib.format.dtype_to_descr(chunk.dtype), 'fortran_order': False}
      np.lib.format.write_array_header_1_0(file, header | {'shape': (count, *chunk.shape[1:])})
    file.write(np.ascontiguousarray(chunk))


def write(
  directory: str,
  splits: Mapping[str, tuple[int, Chunks]],
  vocabulary: int,
  classes: int | None,
  more: Callable[[], dict[str, Any]] = dict,
) -> None:
  """Keeps tokens, labels and facts of data whose every token is charged.

  Args:
    directory: where.
    splits: of each, how many examples and the chunks that they come in.
    vocabulary: V.
    classes: number of them, None without labels.
    more: other facts, asked for when all chunks were taken.
  """
  narrow = np.min_scalar_type(vocabulary - 1)
  for split in SPLITS:
    count, chunks = splits[split]
    labels = []

    def tokens(chunks: Chunks = chunks, labels: list = labels) -> Iterable[np.ndarray]:
      for tokens_NxT, labels_N in chunks:
        labels.append(labels_N)
        yield tokens_NxT.astype(narrow, copy=False)

    with open(os.path.join(directory, f'{split}.npy'), 'wb') as file:
      write_rows(file, tokens(), count)
    np.save(os.path.join(directory, f'{split}_labels.npy'), np.concatenate(labels, dtype=np.int32))
  examples = _read_splits(directory)
  dims = examples['train'].tokens_NxT.shape[1]
  facts.write(directory, examples, vocabulary, dims, classes, **more())


def read(directory: str) -> tuple[dict[str, Examples], facts.Facts]:
  """What `write` kept, tokens as `Rows`; ValueError if it is damaged."""
  found = facts.read(directory)
  try:
    return _read_splits(directory), found
  except (OSError, ValueError, EOFError) as error:
    raise ValueError(f'{directory} is damaged; delete it and it is made again') from error


def _read_splits(directory: str) -> dict[str, Examples]:
  return {
    split: Examples(
      Rows.of_npy(os.path.join(directory, f'{split}.npy')),
      np.load(os.path.join(directory, f'{split}_labels.npy')),
    )
    for split in SPLITS
  }
