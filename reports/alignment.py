"""Similarity of the features of networks, layer by layer.

Centred kernel alignment (CKA; Kornblith et al., 2019) compares two sets of features of the same
examples through their N x N matrices of inner products K and L, so that they may differ in width
and by any rotation: CKA = HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)), here with linear kernels. The
biased HSIC, <K, L> after centring, is far above zero for unrelated features of D near N. The
unbiased one (Song et al., 2012; for CKA: Nguyen et al., 2021) drops the diagonals,

    N (N - 3) HSIC = tr(KL) + (1'K1)(1'L1) / ((N - 1)(N - 2)) - 2 (1'KL1) / (N - 2),    diag = 0.

It is an inner product too, of 'U-centred' matrices (Szekely and Rizzo, 2014), so that the debiased
CKA lies in [-1, 1].
"""

from collections.abc import Sequence

import numpy as np

# Features without a structure of their own have an unbiased HSIC with themselves of zero, found as
# a difference of terms with 1e-15 of rounding.
NO_STRUCTURE = 1e-10
# A deviation below this share of the root mean square is the rounding of a constant.
CONSTANT = 1e-7
CHUNK_BYTES = 64 * 2**20  # Inner products held at once.


def cka_matrix(features: Sequence[np.ndarray]) -> np.ndarray:
  """Debiased CKA of every layer with every layer.

  Args:
      features: one array (L_i, N, D_i) a run, of the same N examples in the same order.

  Returns:
      (sum L, sum L) float64, symmetric, runs one after the other. Row and column of a layer
      without structure (examples all equal, or equally far apart) are 0, its diagonal too.

  Raises:
      ValueError: fewer than 4 rows, shapes that do not match, NaN or infinity.
  """
  layers = [_prepared(layer) for run in features for layer in run]
  rows = len(layers[0]) if layers else 0
  if any(len(layer) != rows for layer in layers):
    raise ValueError(f'CKA needs the same examples: {sorted({len(x) for x in layers})} rows')
  if rows < 4:
    raise ValueError(f'debiased CKA needs at least 4 examples, not {rows}')
  k_MxN = np.stack([(x**2).sum(1) for x in layers])
  mean_M = k_MxN.sum(1) / ((rows - 1) * (rows - 2))
  # Cosines between U-centred matrices: K_ij + (k_i + k_j) / (N - 2) - sum k / ((N - 1)(N - 2)),
  # and 0 on the diagonal. A block of their rows at a time, for all layers.
  inner = np.zeros((len(layers), len(layers)))
  step = max(1, CHUNK_BYTES // (8 * len(layers) * rows))
  for start in range(0, rows, step):
    block = slice(start, min(start + step, rows))
    centred = np.empty((len(layers), block.stop - start, rows))
    for m, x in enumerate(layers):
      norms = (k_MxN[m, block, None] + k_MxN[m]) / (rows - 2)
      centred[m] = x[block] @ x.T + norms - mean_M[m]
    own = np.arange(block.stop - start)
    centred[:, own, start + own] = 0
    flat = centred.reshape(len(layers), -1)
    inner += flat @ flat.T
  own = inner.diagonal()
  norm = np.where(own > NO_STRUCTURE * (k_MxN**2).sum(1), np.sqrt(own), np.inf)
  return inner / np.outer(norm, norm)


def _prepared(x_NxD: np.ndarray) -> np.ndarray:
  """Centred, constant features zero, rows of mean squared length 1 (CKA knows no scale)."""
  x = np.asarray(x_NxD, np.float64)
  if x.ndim != 2 or 0 in x.shape:
    raise ValueError(f'CKA needs examples x dimensions, not {x.shape}')
  if not np.isfinite(x).all():
    raise ValueError('features hold NaN or infinity')
  scale = np.abs(x).max() or 1.0
  x = x / scale
  mean_1xD = x.mean(0, keepdims=True)
  constant_D = x.std(0) <= CONSTANT * np.sqrt((x**2).mean(0))
  x = np.where(constant_D[None], 0, x - mean_1xD)
  size = np.sqrt((x**2).sum() / len(x))
  return x / size if size > 0 else x
