"""Settings that can't be: found before anything runs, each as one line."""

import math
from typing import Any

import ml_collections

from data.dataset import Examples
from models.config import PRESETS
import objectives
from probes import features as features_lib
from probes import settings
from runs import configs
from runs.errors import UserError
from training import optimizer


def check_settings(config: ml_collections.ConfigDict) -> None:
  """UserError for settings that are wrong whatever the data."""
  for name, value in configs.fields(config):
    for one in value if isinstance(value, tuple) else (value,):
      if isinstance(one, float) and not math.isfinite(one):
        raise UserError(f'{name} must be a finite number, not {one}')
    if name.endswith('seed') and not 0 <= value < 2**32:
      raise UserError(f'{name} must be from 0 to {2**32 - 1}, not {value}')
  try:
    optimizer.check(config.optimizer)
  except ValueError as error:
    raise UserError(str(error)) from error
  positive = {
    'model': ('mlp_ratio',),
    'training': ('steps', 'batch_size', 'log_every', 'microbatches'),
    'evaluation': ('batch_size', 'draws', 'validation_draws'),
    'probe': ('batch_size',),
  }
  for section, names in positive.items():
    for name in names:
      if config[section][name] < 1:
        raise UserError(f'{section}.{name} must be at least 1, not {config[section][name]}')
  least = {'model': ('width', 'layers', 'heads'), 'evaluation': ('samples', 'chain_examples')}
  for section, names in least.items():
    for name in names:
      if config[section][name] < 0:
        raise UserError(f'{section}.{name} must not be negative, not {config[section][name]}')
  configs.schedules(config)
  if config.model.preset not in PRESETS:
    raise UserError(f"unknown model.preset '{config.model.preset}'; known: {', '.join(PRESETS)}")


def check_objective(config: ml_collections.ConfigDict) -> None:
  """UserError unless the objective is one."""
  try:
    objectives.settings(config.objective.name)
  except ValueError as error:
    raise UserError(str(error)) from error


def check_run(config: ml_collections.ConfigDict) -> None:
  """UserError for settings with which no run should begin."""
  check_settings(config)
  check_objective(config)
  try:
    if objectives.OBJECTIVES[config.objective.name].trains:
      optimizer.check_warmup(config.optimizer, config.training.steps)
  except ValueError as error:
    raise UserError(str(error)) from error


def check_probes(experiment: Any) -> None:
  """UserError for probes that can't be fitted to the very labels of the experiment."""
  if not experiment.probed:
    return
  dataset = experiment.probe_dataset
  if not isinstance(dataset.train, Examples):
    raise UserError(
      f"'{dataset.name}' draws its training examples afresh for ever: name a set of them to probe, "
      'with --config.probe_data'
    )
  labels = {split: getattr(dataset, split).labels_N for split in features_lib.SPLITS}
  try:
    settings.check(experiment.config.probe, labels, dataset.classes)
  except ValueError as error:
    raise UserError(str(error)) from error
