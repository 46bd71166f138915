"""Every configured probe on one set of features."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from probes import (
  attentive,
  control_task,
  finetune,
  geometry,
  knn,
  linear,
  mlp,
  pac,
  pooling,
  prequential,
  ridge,
)
from probes.features import Features
from probes.measures import at

# By name. A new one is one new file, one line here, its numbers in `measures.MEASURES`, and its
# entry in experiments/base.py.
PROBES = {
  'linear': linear,
  'ridge': ridge,
  'knn': knn,
  'mlp': mlp,
  'prequential': prequential,
  'pooling': pooling,
  'attentive': attentive,
  'control_task': control_task,
  'geometry': geometry,
  'pac': pac,
  'finetune': finetune,
}
# Less usable information than this (bits) is an estimate of nothing: no share of it is taken.
SHARED_AT_LEAST = 0.05


def run(
  features: Features,
  config: Any,
  seed: int,
  names: Sequence[str] | None = None,
  between: Callable[[str], None] | None = None,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
  """Runs probes, each with its own entry of `config`.

  Args:
    features: of one network, or a control.
    config: `config.probe`.
    seed: of the deals of label subsets, of folds and of whatever else is random, the same for all
      networks. Which subsets of the deals they get follows `features.pretraining_seed`.
    names: which probes; default `config.suite`.
    between: called with each probe's name before it starts.

  Returns:
    Results by probe, and arrays under 'PROBE/...' with the test labels under 'labels'.

  Raises:
    ValueError: features or labels that can't be probed.
  """
  results, arrays = {}, {'labels': np.asarray(features.labels_test)}
  for name in names if names is not None else config.suite:
    if name not in PROBES:
      raise ValueError(f"unknown probe '{name}'; known: {', '.join(PROBES)}")
    probe = PROBES[name]
    if between is not None:
      between(name)
    found, own = probe.evaluate(features, config[name], seed)
    if found:
      results[name] = found
    arrays |= {f'{name}/{key}': value for key, value in own.items()}
  share = linear_share(results)
  if share is not None:
    results['mlp']['all']['linear_share'] = share
  return results, arrays


def linear_share(results: Mapping[str, Any]) -> float | None:
  """Usable bits of the linear probe over the MLP probe's; None where there is nothing to share."""
  linear = at(results, ('linear', 'all', 'usable_bits'))
  everything = at(results, ('mlp', 'all', 'usable_bits'))
  if linear is None or everything is None or everything < SHARED_AT_LEAST:
    return None
  return linear / everything
