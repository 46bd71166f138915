"""Geometry of the features, without labels: effective rank.

RankMe (Garrido et al., 2023) is how many dimensions the features of one layer fill: the exponential
of the entropy of their singular values. It says nothing about what they hold, noise has the highest
rank of all, so it cannot rank objectives.
"""

import numpy as np

from probes import selection
from probes.layers import one_layer

RANKME_EPSILON = 1e-7  # Of the paper, for float32.


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
      arrays: 'features' (layers, n, D) float32, the first n test examples, for `reports.alignment`
          (which centres them: those that need float64 are saved less the train mean).

  Raises:
      ValueError: features that are not finite, shapes that do not match.
  """
  selection.check(features, ('train', 'validation', 'test'))
  rows = np.random.default_rng((seed, 0)).permutation(features.train.shape[1])[: config.rows]
  plain, centred = [], []
  for layer in range(len(features.train)):
    used = one_layer(features.train, layer, rows)
    mean, scale = selection.moments(used)
    plain.append(rankme(used))
    centred.append(rankme(np.where(np.isinf(scale), 0, used - mean)))
  layer = int(np.argmax(plain))
  result = {
    'rankme': plain[layer],
    'layer': layer,
    'rankme_by_layer': plain,
    'rankme_centred': max(centred),
    'rankme_centred_by_layer': centred,
    'rows': len(rows),
  }
  saved = features.test[:, : config.saved]
  if saved.dtype == np.float64:  # An offset would leave nothing of the rest in float32.
    saved = saved - features.train.mean(1, keepdims=True)
  return {'all': result}, {'features': saved.astype(np.float32)}


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
