"""The factorised baselines: uniform, and one histogram a position."""

import math

import numpy as np

from data import facts
from data.dataset import Dataset


def uniform_bits(vocabulary: int) -> float:
  """log2 V, bits per token of a code that knows nothing."""
  return math.log2(vocabulary)


def table(counts_TxV: np.ndarray, pseudocount: float = 1.0) -> np.ndarray:
  """Bits of every value at every position, TxV, by each position's smoothed histogram."""
  counts_TxV = counts_TxV + pseudocount
  return -np.log2(counts_TxV / counts_TxV.sum(axis=1, keepdims=True))


def position_table(train_NxT: np.ndarray, vocabulary: int, pseudocount: float = 1.0) -> np.ndarray:
  """`table` of these training examples."""
  return table(facts.counts([train_NxT], vocabulary, train_NxT.shape[1]), pseudocount)


def position_bits(train_NxT: np.ndarray, test_NxT: np.ndarray, vocabulary: int) -> float:
  """Bits per token of independent positions, each with its own smoothed training histogram.

  A model that scores no better has learned no dependence between positions.
  """
  counts_TxV = facts.counts([test_NxT], vocabulary, test_NxT.shape[1])
  return _mean(position_table(train_NxT, vocabulary), counts_TxV)


def split_bits(dataset: Dataset, split: str) -> float | None:
  """`position_bits` of a split of a data set; None for an endless source.

  Only counts are used, so that no split needs to be in memory.
  """
  if dataset.epoch is None:
    return None
  counts_TxV = dataset.counts_TxV if split == 'train' else dataset.counts(split)
  return _mean(table(dataset.counts_TxV), counts_TxV)


def _mean(bits_TxV: np.ndarray, counts_TxV: np.ndarray) -> float:
  """Mean bits of tokens that were counted."""
  return float(np.sum(bits_TxV * counts_TxV) / np.sum(counts_TxV, dtype=np.int64))
