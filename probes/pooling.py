"""The linear probe on other poolings than the headline's mean over the sequence.

'last' is the last position alone: where a causal network has read most (all but the last token, if
it predicts the next one), and a position like any other for a network with full attention.
'concatenated' is mean and last side by side, 2D wide, so that the probe chooses. Layer and l2 are
chosen on validation for each pooling by itself, as in the linear probe with all labels.
"""

import dataclasses

import ml_collections
import numpy as np

from probes import linear
from probes.features import SPLITS, Features
from probes.layers import Beside, Layers

POOLINGS = ('last', 'concatenated')


def evaluate(
  features: Features, config: ml_collections.ConfigDict, seed: int
) -> tuple[dict, dict[str, np.ndarray]]:
  """Probes the last position, and mean and last position together, with all labels.

  Args:
    features: with `last`, features of the last position, of the shapes of the mean's.
    config: l2 (grid).
    seed: unused, as in the linear probe with all labels: nothing is drawn.

  Returns:
    results: {'all': {'last': cell, 'concatenated': cell}}, each cell as `probes.linear`'s 'all'.
    arrays: 'all/last/predictions', 'all/concatenated/predictions' (N_test,) int32.
    Both are empty without features of the last position.

  Raises:
    ValueError: as the linear probe; shapes of `last` that differ from the mean's.
  """
  if features.last is None:
    return {}, {}
  settings = ml_collections.ConfigDict({'labels': (), 'l2': tuple(config.l2)})
  cells, arrays = {}, {}
  for pooling in POOLINGS:
    found, own = linear.evaluate(pooled(features, pooling), settings, seed)
    cells[pooling] = found['all']
    arrays[f'all/{pooling}/predictions'] = own['all/predictions']
  return {'all': cells}, arrays


def pooled(features: Features, pooling: str) -> Features:
  """The same features under another pooling: 'last' (layers, N, D), 'concatenated' (layers, N, 2D).

  Raises:
    ValueError: an unknown pooling, or features of the last position missing or of another shape.
  """
  if pooling not in POOLINGS:
    raise ValueError(f'unknown pooling {pooling!r}; known: {", ".join(POOLINGS)}')
  by_split = {}
  for split in SPLITS:
    mean, last = getattr(features, split), features.last.get(split)
    if last is None or last.shape != mean.shape:
      shape = None if last is None else last.shape
      raise ValueError(f'{split} features at the last position {shape} do not match {mean.shape}')
    if pooling == 'last':
      by_split[split] = last
    elif isinstance(mean, Layers):
      by_split[split] = Beside(mean, last)
    else:
      by_split[split] = np.concatenate([mean, last], -1)
  return dataclasses.replace(features, **by_split, last=None, sequences=None)
