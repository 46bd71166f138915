"""Every configured probe on one set of features."""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
from typing import Any

import numpy as np

from probes import (
  attentive,
  control_task,
  finetune,
  geometry,
  information,
  knn,
  linear,
  linear_mesh,
  mlp,
  pac,
  pooling,
  prequential,
  ridge,
)
from probes.features import Features, call
from probes.layers import Layers

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
# They run the network, or fit on a mesh what is wider than the features: on all processes together.
TOGETHER = ('pooling', 'attentive', 'control_task', 'finetune')
# Less usable information than this (bits) is an estimate of nothing: no share of it is taken.
SHARED_AT_LEAST = 0.05
SHARE = ('linear_share', 'linear_share_stderr', 'above_1')  # what `linear_share` gives


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
    Results by probe, and arrays under 'PROBE/...' with the test labels under 'labels'. Where
    numbers of labels do not fit, 'left_out' holds them by probe: {probe: {number: reason}}.

  Raises:
    ValueError: features or labels that can't be probed.
  """
  results, arrays = {}, {'labels': np.asarray(features.labels_test)}
  left_out = {}
  for name in names if names is not None else config.suite:
    if name not in PROBES:
      raise ValueError(f"unknown probe '{name}'; known: {', '.join(PROBES)}")
    if between is not None:
      between(name)
    found, own = _evaluate(name, features, config[name], seed)
    if reasons := found.pop('left_out', None):
      left_out[name] = reasons
    if found:
      results[name] = found
    arrays |= {f'{name}/{key}': value for key, value in own.items()}
  results_of_mlp = results.get('mlp', {}).get('all')
  if results_of_mlp is not None:
    results_of_mlp |= linear_share(arrays)
  return results | ({'left_out': left_out} if left_out else {}), arrays


def _evaluate(name: str, features: Features, config: Any, seed: int) -> tuple[dict, dict]:
  """One probe: on one process for all where features are arrays, which each of them holds."""
  evaluate = PROBES[name].evaluate
  together = name in TOGETHER or isinstance(features.train, Layers)
  if together or (name == 'linear' and linear_mesh.mesh_of(features, config) is not None):
    return evaluate(features, config, seed)
  alone = dataclasses.replace(features, once=call)
  return features.once(lambda: evaluate(alone, config, seed))


def merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
  """Results with those of some probes replaced, and what was left out of them."""
  left_out = {k: v for k, v in (old.get('left_out') or {}).items() if k not in new}
  left_out |= new.get('left_out') or {}
  made = {**old, **new, 'left_out': left_out}
  return made if left_out else {k: v for k, v in made.items() if k != 'left_out'}


def linear_share(arrays: Mapping[str, np.ndarray]) -> dict[str, float | bool | None]:
  """Usable bits of the linear probe over the MLP probe's, from those of every test example.

  Returns:
    linear_share, linear_share_stderr (over test examples, which both share; None for one) and
    above_1, whether it is more than all there is: chance, or an MLP that chose worse. Empty where
    there is nothing to share.
  """
  linear, everything = (arrays.get(f'{name}/all/usable_bits') for name in ('linear', 'mlp'))
  if linear is None or everything is None or everything.mean() < SHARED_AT_LEAST:
    return {}
  linear, everything = linear.astype(np.float64), everything.astype(np.float64)
  share, stderr = information.share(linear, everything)
  return dict(zip(SHARE, (share, stderr, share > 1), strict=True))
