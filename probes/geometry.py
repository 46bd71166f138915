"""Geometry of the features, without labels: effective rank, and similarity between networks.

RankMe (Garrido et al., 2023) is how many dimensions the features of one layer fill: the exponential
of the entropy of their singular values. It says nothing about what they hold, noise has the highest
rank of all, so it cannot rank objectives.

Centred kernel alignment (CKA; Kornblith et al., 2019) compares two sets of features of the same
examples through their N x N matrices of inner products K and L, so that they may differ in width
and by any rotation: CKA = HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)), here with linear kernels. The
biased HSIC, <K, L> after centring, is far above zero for unrelated features of D near N. The
unbiased one (Song et al., 2012; for CKA: Nguyen et al., 2021) drops the diagonals,

    N (N - 3) HSIC = tr(KL) + (1'K1)(1'L1) / ((N - 1)(N - 2)) - 2 (1'KL1) / (N - 2),    diag = 0.

It is an inner product too, of 'U-centred' matrices (Szekely and Rizzo, 2014), so that the debiased
CKA lies in [-1, 1]. With centred features, k_i = |x_i|^2 and l_i = |y_i|^2 before the diagonals
are dropped, it needs no N x N matrix:

    N (N - 3) HSIC = |X'Y|^2 - (k.l) N / (N - 2) + (sum k)(sum l) / ((N - 1)(N - 2)).
"""

from collections.abc import Sequence

import numpy as np

from probes import selection
from probes.measures import Measure

MEASURES = (
  Measure(
    name='geometry/rankme',
    path=('geometry', 'all', 'rankme'),
    title='RankMe',
    unit='dimensions',
    meaning='Effective rank of the features of the layer where it is highest: how many dimensions '
    'they fill, not what they hold. It describes a representation and cannot rank objectives.',
    layers=('geometry', 'all', 'rankme_by_layer'),
  ),
)

RANKME_EPSILON = 1e-7  # Of the paper, for float32.
# Features without a structure of their own have an unbiased HSIC with themselves of zero, found as
# a difference of terms with 1e-15 of rounding.
NO_STRUCTURE = 1e-10
CHUNK_BYTES = 64 * 2**20  # Inner products held at once.


def evaluate(features, config, seed: int) -> tuple[dict, dict]:
  """RankMe of every layer, and test features for comparisons between runs.

  Args:
      features: probes.features.Features.
      config: rows (training examples used at most), saved (test examples kept at most).
      seed: of the choice of training examples, the same for every layer.

  Returns:
      results: {'all': rankme (the largest over layers), layer (where that is), rankme_by_layer,
          rankme_centred_by_layer and rankme_centred (its largest; features minus their mean),
          rows}. RankMe is at most min(rows, D).
      arrays: 'features' (layers, n, D) float32, the first n test examples, for `cka_matrix`.

  Raises:
      ValueError: features that are not finite, shapes that do not match.
  """
  selection.check(features, ('train', 'validation', 'test'))
  rows = np.random.default_rng((seed, 0)).permutation(features.train.shape[1])[: config.rows]
  plain, centred = [], []
  for layer in features.train:
    mean, scale = selection.moments(layer[rows])
    plain.append(rankme(layer[rows]))
    centred.append(rankme(np.where(np.isinf(scale), 0, layer[rows] - mean)))
  layer = int(np.argmax(plain))
  result = {
    'rankme': plain[layer],
    'layer': layer,
    'rankme_by_layer': plain,
    'rankme_centred': max(centred),
    'rankme_centred_by_layer': centred,
    'rows': len(rows),
  }
  saved = np.asarray(features.test[:, : config.saved], np.float32)
  return {'all': result}, {'features': saved}


def rankme(features_NxD: np.ndarray) -> float:
  """exp(-sum_k p_k ln p_k) with p_k = s_k / sum(s) + 1e-7, over the min(N, D) singular values s.

  Features are used as they are, neither centred nor scaled, as in the paper. The answer is 1 for
  rank one and D for D equal singular values, up to a relative D * 2e-6, which the 1e-7 adds. It is
  0 for features that are all zero.

  Raises:
      ValueError: not a matrix, NaN or infinity.
  """
  features = np.asarray(features_NxD, np.float64)
  if features.ndim != 2 or 0 in features.shape or not np.isfinite(features).all():
    raise ValueError(f'RankMe needs a finite matrix, not {features.shape} with NaN or infinity')
  singular = np.linalg.svd(features, compute_uv=False)
  if not singular[0] > 0:
    return 0.0
  p = singular / singular.sum() + RANKME_EPSILON
  return float(np.exp(-(p * np.log(p)).sum()))


def cka(x_NxD: np.ndarray, y_NxE: np.ndarray) -> float:
  """Linear CKA with the biased HSIC, in [0, 1]; 0 where either side is constant.

  Invariant to rotations, shifts and one common scale of each side's features. Biased upwards: for
  unrelated Gaussian features of equal width it is about D / (N + D), whatever they are.

  Raises:
      ValueError: not two matrices of the same number of rows, NaN or infinity.
  """
  x, y = _pair(x_NxD, y_NxE)
  product = _inner(x, x) * _inner(y, y)
  return float(_inner(x, y) / np.sqrt(product)) if product > 0 else 0.0


def debiased_cka(x_NxD: np.ndarray, y_NxE: np.ndarray) -> float:
  """Linear CKA with the unbiased HSIC, in [-1, 1], about 0 for unrelated features of any width.

  It has the invariances of `cka`. The answer is 0 where either side has no structure at all: all
  examples equal, or all equally far from each other (then its HSIC with itself is zero).

  Raises:
      ValueError: fewer than 4 rows, not two matrices of as many rows, NaN or infinity.
  """
  x, y = _pair(x_NxD, y_NxE)
  rows = len(x)
  _enough(rows)

  def hsic(a, b):
    k_a, k_b = (a**2).sum(1), (b**2).sum(1)
    sums = k_a.sum() * k_b.sum() / ((rows - 1) * (rows - 2))
    return _inner(a, b) - (k_a @ k_b) * rows / (rows - 2) + sums

  own = np.array([hsic(x, x), hsic(y, y)])
  floor = NO_STRUCTURE * np.array([((side**2).sum(1) ** 2).sum() for side in (x, y)])
  return float(hsic(x, y) / np.sqrt(own.prod())) if (own > floor).all() else 0.0


def cka_matrix(features: Sequence[np.ndarray]) -> np.ndarray:
  """Debiased CKA of every layer with every layer.

  Args:
      features: one array (L_i, N, D_i) a run, of the same N examples in the same order.

  Returns:
      (sum L, sum L) float64, symmetric, runs one after the other. Row and column of a layer
      without structure (see `debiased_cka`) are 0, its diagonal too.

  Raises:
      ValueError: fewer than 4 rows, shapes that do not match, NaN or infinity.
  """
  layers = [_prepared(layer) for run in features for layer in run]
  rows = len(layers[0]) if layers else 0
  if any(len(layer) != rows for layer in layers):
    raise ValueError(f'CKA needs the same examples: {sorted({len(x) for x in layers})} rows')
  _enough(rows)
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


def _inner(x_NxD: np.ndarray, y_NxE: np.ndarray) -> float:
  """<XX', YY'> = |X'Y|^2, by whichever side is cheaper."""
  rows, d, e = len(x_NxD), x_NxD.shape[1], y_NxE.shape[1]
  if d * e <= rows * (d + e):
    return float(((x_NxD.T @ y_NxE) ** 2).sum())
  return float(((x_NxD @ x_NxD.T) * (y_NxE @ y_NxE.T)).sum())


def _pair(x, y) -> tuple[np.ndarray, np.ndarray]:
  x, y = _prepared(x), _prepared(y)
  if len(x) != len(y):
    raise ValueError(f'CKA needs the same examples: {len(x)} and {len(y)} rows')
  return x, y


def _prepared(x_NxD) -> np.ndarray:
  """Centred, constant features zero, rows of mean squared length 1 (CKA knows no scale)."""
  x = np.asarray(x_NxD, np.float64)
  if x.ndim != 2 or 0 in x.shape:
    raise ValueError(f'CKA needs examples x dimensions, not {x.shape}')
  mean, scale = selection.moments(x)
  x = np.where(np.isinf(scale), 0, x - mean)
  size = np.sqrt((x**2).sum() / len(x))
  return x / size if size > 0 else x


def _enough(rows: int) -> None:
  if rows < 4:
    raise ValueError(f'debiased CKA needs at least 4 examples, not {rows}')
