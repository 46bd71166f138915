"""What is true of a data set's tokens, found once: digest, counts, duplicates, balance.

Shape suffixes: N examples, T tokens, V values. A split is anything with `tokens_NxT`, `labels_N`
and `chunks()`; nothing here holds more of its tokens than a chunk.
"""

from collections.abc import Iterable, Mapping
import dataclasses
import functools
import hashlib
import json
import os
from typing import Any

import numpy as np

_FACTS, _COUNTS = 'facts.json', 'counts.npy'


@dataclasses.dataclass(frozen=True)
class Facts:
  """Facts that are kept in a directory.

  Attributes:
    directory: where.
    digest, duplicates, balance: as the functions of this module.
    more: whatever else was found when the tokens were made.
  """

  directory: str
  digest: str
  duplicates: dict[str, int]
  balance: dict[str, list[int]] | None
  more: dict[str, Any]

  @functools.cached_property
  def counts_TxV(self) -> np.ndarray:
    """As `counts`, of train."""
    return np.load(os.path.join(self.directory, _COUNTS))


def write(
  directory: str,
  splits: Mapping[str, Any],
  vocabulary: int,
  dims: int,
  classes: int | None,
  **more: Any,
) -> None:
  """Finds and keeps all facts of train, validation and test; `more` are JSON values."""
  np.save(os.path.join(directory, _COUNTS), counts(splits['train'].chunks(), vocabulary, dims))
  found = Facts(
    directory='',
    digest=digest(splits, vocabulary, dims),
    duplicates=duplicates(splits, vocabulary),
    balance=balance(splits, classes),
    more=more,
  )
  with open(os.path.join(directory, _FACTS), 'w', encoding='utf-8') as file:
    json.dump(dataclasses.asdict(found), file, indent=1)


def read(directory: str) -> Facts:
  """What `write` kept; ValueError if it is damaged."""
  try:
    with open(os.path.join(directory, _FACTS), encoding='utf-8') as file:
      return Facts(**{**json.load(file), 'directory': directory})
  except (OSError, ValueError, TypeError) as error:
    raise ValueError(f'{directory} is damaged; delete it and it is made again') from error


def digest(splits: Mapping[str, Any], vocabulary: int, dims: int) -> str:
  """SHA-256 of all tokens and labels of these splits, in their order, as little-endian int32."""
  found = hashlib.sha256(f'{vocabulary} {dims}'.encode())
  for split in splits.values():
    found.update(f' {split.tokens_NxT.shape} '.encode())
    for tokens_NxT in split.chunks():
      found.update(np.ascontiguousarray(tokens_NxT, '<i4'))
    found.update(f' {split.labels_N.shape} '.encode())
    found.update(np.ascontiguousarray(split.labels_N, '<i4'))
  return found.hexdigest()


def counts(chunks: Iterable[np.ndarray], vocabulary: int, dims: int) -> np.ndarray:
  """How often each value stands at each of the first `dims` positions, uint32 (T, V)."""
  counts_TxV = np.zeros(dims * vocabulary, np.uint32)
  first_T = np.arange(dims) * vocabulary
  for tokens_NxT in chunks:
    cells = (first_T[None] + tokens_NxT[:, :dims]).ravel()
    counts_TxV += np.bincount(cells, minlength=len(counts_TxV)).astype(np.uint32)
  return counts_TxV.reshape(dims, vocabulary)


def duplicates(splits: Mapping[str, Any], vocabulary: int) -> dict[str, int]:
  """Examples whose tokens equal others' exactly, by the first 64 bits of BLAKE2.

  Of `N` examples with different tokens two are taken for equal with probability N²/2⁶⁵ at most.

  Returns:
    'SPLIT': those that repeat an earlier one of the split; 'SPLIT in OTHER': those that also stand
    in the other split, for validation and test in train and for test in validation.
  """
  narrow, found, seen = np.min_scalar_type(vocabulary - 1), {}, {}
  for name, split in splits.items():
    hashes = bytearray()
    for tokens_NxT in split.chunks():
      for tokens_T in tokens_NxT.astype(narrow):
        hashes += hashlib.blake2b(tokens_T, digest_size=8).digest()
    hashes_N = np.sort(np.frombuffer(hashes, np.uint64))
    found[name] = int(np.count_nonzero(hashes_N[1:] == hashes_N[:-1]))
    for other, others_N in seen.items():
      place_N = np.minimum(np.searchsorted(others_N, hashes_N), len(others_N) - 1)
      found[f'{name} in {other}'] = int(np.count_nonzero(others_N[place_N] == hashes_N))
    seen[name] = hashes_N
  return found


def balance(splits: Mapping[str, Any], classes: int | None) -> dict[str, list[int]] | None:
  """Examples of every class, by split; None without labels."""
  if classes is None:
    return None
  return {
    name: np.bincount(split.labels_N, minlength=classes).tolist() for name, split in splits.items()
  }


def duplicates_note(found: Mapping[str, int]) -> str:
  """A clause on examples that stand in two splits, '' without any."""
  shared = [(found[name], *name.split(' in ')) for name in found if ' in ' in name and found[name]]
  clauses = [f'{count} {split} rows also stand in {other}' for count, split, other in shared]
  return ''.join(f'; {clause}' for clause in clauses)
