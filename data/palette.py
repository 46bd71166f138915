"""Colour palettes: fitted by k-means as in iGPT, or read from a file such as OpenAI's."""

from collections.abc import Iterable

import numpy as np

from data import tokenizers

CLUSTERS = 512
_SEED = 20250
# Pixels that k-means sees; more move the centres by less than they cost.
_PIXELS = 500_000


def read(path: str) -> np.ndarray:
  """The centres, float32 (V, 3) in [-1, 1], of a .npy file, as OpenAI publishes them.

  Raises:
    ValueError: there is no such file or it holds something else.
  """
  try:
    centres_Vx3 = np.load(path, allow_pickle=False)
    tokenizers.check_centres(centres_Vx3)
  except (OSError, EOFError, ValueError, AttributeError) as error:
    raise ValueError(f'palette {path} can not be used: {error}') from error
  return centres_Vx3.astype(np.float32)


def sample(chunks: Iterable[np.ndarray], pixels: int) -> np.ndarray:
  """About `_PIXELS` of `pixels` pixels of images, without replacement, float64 in [-1, 1]."""
  rng = np.random.default_rng(_SEED)
  share = min(1.0, _PIXELS / pixels)
  flat = (images.reshape(-1, 3) for images in chunks)
  return tokenizers.scaled(np.concatenate([some[rng.random(len(some)) < share] for some in flat]))


def fit(pixels_Nx3: np.ndarray, clusters: int = CLUSTERS) -> np.ndarray:
  """k-means centres, float32 (clusters, 3).

  Raises:
    ValueError: fewer distinct colours than clusters.
  """
  from sklearn import cluster

  distinct = len(np.unique(pixels_Nx3, axis=0))
  if distinct < clusters:
    raise ValueError(f'{clusters} clusters of colours, but the images hold only {distinct}')
  kmeans = cluster.MiniBatchKMeans(clusters, batch_size=4096, n_init=1, random_state=_SEED)
  centres = kmeans.fit(pixels_Nx3.astype(np.float32)).cluster_centers_
  return np.clip(centres, -1, 1).astype(np.float32)
