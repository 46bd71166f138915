"""Training batches: the global batch is a pure function of (seed, step)."""

from collections.abc import Iterable
from typing import Any

import grain
import numpy as np

from data.dataset import Dataset, Examples


class Batches:
  """Random access to global batches by step.

  Finite sets are shuffled anew every epoch, or shown in one `order` of row numbers. Because nothing
  but the step decides a batch, there is no iterator to save: a run resumes, and moves between
  process counts, by asking for its step.

  Inside a batch an order is shuffled by seed and step: an objective that trains on its rows in two
  ways would else have the easier ones for the first, and where batches divide the set, never
  another half of the examples.
  """

  def __init__(self, dataset: Dataset, seed: int, batch_size: int, order: np.ndarray | None = None):
    self.batch_size = batch_size
    self._train, self._seed, self._ordered = dataset.train, seed, order is not None
    if order is not None:
      self._order = grain.MapDataset.source(order).repeat()
    elif dataset.epoch is not None:
      self._order = grain.MapDataset.range(dataset.epoch).seed(seed).shuffle().repeat()

  def rows(self, step: int, rows: Iterable[int]) -> dict[str, Any]:
    """These rows of global batch `step`: {'tokens': int32 (B, T), 'label': int32 (B,)}.

    Of a set on disk they are read here, and no others.
    """
    rows = [int(row) for row in rows]
    if self._ordered:
      rows = np.random.default_rng((self._seed, step)).permutation(self.batch_size)[rows].tolist()
    places = [step * self.batch_size + row for row in rows]
    if isinstance(self._train, Examples):
      return self._train[np.array([self._order[place] for place in places])]
    records = [self._train(self._seed, place) for place in places]
    return {name: np.stack([record[name] for record in records]) for name in records[0]}

  def __getitem__(self, step: int) -> dict[str, Any]:
    """The whole global batch of `step`."""
    return self.rows(step, range(self.batch_size))
