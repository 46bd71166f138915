"""The factorised baselines: uniform, and one histogram a position."""

import math

import numpy as np


def uniform_bits(vocabulary: int) -> float:
  """log2 V, bits per token of a code that knows nothing."""
  return math.log2(vocabulary)


def position_table(train_NxT: np.ndarray, vocabulary: int, pseudocount: float = 1.0) -> np.ndarray:
  """Bits of every value at every position, TxV, by each position's smoothed training histogram."""
  positions = np.arange(train_NxT.shape[1])
  counts_TxV = np.full((len(positions), vocabulary), pseudocount)
  np.add.at(counts_TxV, (positions[None], train_NxT), 1)
  return -np.log2(counts_TxV / counts_TxV.sum(axis=1, keepdims=True))


def position_bits(train_NxT: np.ndarray, test_NxT: np.ndarray, vocabulary: int) -> float:
  """Bits per token of independent positions, each with its own smoothed training histogram.

  A model that scores no better has learned no dependence between positions.
  """
  bits_TxV = position_table(train_NxT, vocabulary)
  return float(np.mean(bits_TxV[np.arange(train_NxT.shape[1])[None], test_NxT]))
