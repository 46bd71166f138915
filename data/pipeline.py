"""Training batches: the global batch is a pure function of (seed, step)."""

from collections.abc import Iterable
from typing import Any

import grain
import numpy as np

from data.dataset import Dataset, Examples

# Endless sources are indexed by position; this many examples are never reached.
_ENDLESS = 2**62


class Batches:
  """Random access to global batches by step.

  Finite sets are shuffled anew every epoch. Because nothing but the step decides a batch, there is
  no iterator to save: a run resumes, and moves between process counts, by asking for its step.
  """

  def __init__(self, dataset: Dataset, seed: int, batch_size: int):
    self.batch_size = batch_size
    if isinstance(dataset.train, Examples):
      self._examples = grain.MapDataset.source(dataset.train).seed(seed).shuffle().repeat()
    else:
      draw = dataset.train
      self._examples = grain.MapDataset.range(_ENDLESS).map(lambda index: draw(seed, index))

  def rows(self, step: int, rows: Iterable[int]) -> dict[str, Any]:
    """These rows of global batch `step`: {'tokens': int32 (B, T), 'label': int32 (B,)}."""
    first = step * self.batch_size
    records = [self._examples[first + int(row)] for row in rows]
    return {name: np.stack([record[name] for record in records]) for name in records[0]}

  def __getitem__(self, step: int) -> dict[str, Any]:
    """The whole global batch of `step`."""
    return self.rows(step, range(self.batch_size))
