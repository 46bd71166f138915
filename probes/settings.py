"""Probe settings that can't work, found from the labels alone: before anything is trained."""

from collections.abc import Mapping
import math
from typing import Any

import numpy as np

from probes import linear_mesh, suite

# What a number may be, by the name of its field in any entry: at least this,
_AT_LEAST = {
  **dict.fromkeys(('draws', 'hidden', 'steps', 'batch_size', 'checkpoints'), 1),
  **dict.fromkeys(('heads', 'layers', 'types_per_class', 'first', 'validation_rows'), 1),
  **dict.fromkeys(('neighbours', 'bits', 'choices', 'level_draws', 'labels', 'orders'), 1),
  **dict.fromkeys(('weight_decay', 'generative', 'warmup', 'rows', 'saved', 'train_rows'), 0),
  **dict.fromkeys(('network_orders', 'all_steps'), 0),
  'folds': 2,
}
# which all count something, but for these;
_MEASURED = ('weight_decay', 'generative')
# or above 0.
_ABOVE_0 = ('l2', 'few_l2', 'single_l2', 'temperature', 'delta', 'ranges')
_ABOVE_0 += ('learning_rate', 'learning_rates', 'single_learning_rate')


def check(config: Any, labels: Mapping[str, np.ndarray], classes: int) -> None:
  """Raises ValueError, one line that names the field, unless all probes of the suite can be fitted.

  Numbers of labels that do not fit cost only themselves: probes leave them out and say why.

  Args:
    config: `config.probe`.
    labels: split -> (N,) labels, all three.
    classes: their number.
  """
  for name in config.suite:
    if name not in suite.PROBES:
      raise ValueError(f"probe.suite: unknown probe '{name}'; known: {', '.join(suite.PROBES)}")
  entries = {name: config[name] for name in ('linear', *config.suite)}
  for name, entry in entries.items():
    _check_numbers(f'probe.{name}', entry)
    _check_together(f'probe.{name}', entry, classes)
  engine = config.linear.get('engine', 'auto')
  if engine not in linear_mesh.ENGINES:
    known = ', '.join(linear_mesh.ENGINES)
    raise ValueError(f"probe.linear.engine: unknown engine '{engine}'; known: {known}")
  _check_numbers('probe', {k: v for k, v in config.items() if not hasattr(v, 'items')})
  train = np.asarray(labels['train'])
  if classes < 2:
    raise ValueError(f'a probe needs at least 2 classes, not {classes}')
  for split in ('validation', 'test'):
    if not len(labels[split]):
      raise ValueError(f'there is no {split} example to probe')
  counts = np.bincount(train, minlength=classes)
  if counts.min() == 0:
    limit = f' (probe.train_rows={config.train_rows})' if config.train_rows else ''
    raise ValueError(
      f'class {counts.argmin()} is not among the {len(train)} training labels{limit}'
    )


def _check_numbers(path: str, entry: Mapping[str, Any]) -> None:
  for name, value in entry.items():
    if hasattr(value, 'items'):
      _check_numbers(f'{path}.{name}', value)
      continue
    if name not in _AT_LEAST and name not in _ABOVE_0:
      continue
    values = value if isinstance(value, (tuple, list)) else (value,)
    if not values and name != 'labels':  # beside all of them
      raise ValueError(f'{path}.{name} must not be empty')
    for one in values:
      if isinstance(one, (str, bool)):
        raise ValueError(f"{path}.{name} must hold numbers, not '{one}'")
      if name in _ABOVE_0 and not 0 < one < math.inf:
        raise ValueError(f'{path}.{name} must be above 0, not {one}')
      if name in _AT_LEAST and not _AT_LEAST[name] <= one < math.inf:
        raise ValueError(f'{path}.{name} must be at least {_AT_LEAST[name]}, not {one}')
      if name in _AT_LEAST and name not in _MEASURED and one != int(one):
        raise ValueError(f'{path}.{name} must be whole, not {one}')
    if name == 'delta' and value >= 1:
      raise ValueError(f'{path}.delta must be below 1, not {value}')


def _check_together(path: str, entry: Mapping[str, Any], classes: int) -> None:
  """What depends on another field of the same entry."""
  for name, value in entry.items():
    if hasattr(value, 'items'):
      _check_together(f'{path}.{name}', value, classes)
  if 'hidden' in entry and entry['steps'] % entry['checkpoints']:
    raise ValueError(
      f'{path}.checkpoints must divide its steps, {entry["steps"]}, not {entry["checkpoints"]}'
    )
  # Of fewer there is nothing to cross-validate.
  counts = [n for n in entry.get('labels', ()) if n > 10 and n >= 2 * classes]
  if counts and min(counts) < entry.get('folds', 0):
    raise ValueError(
      f'{path}.folds must be at most the fewest of its labels, {min(counts)}, not {entry["folds"]}'
    )
