"""Probes of noisy inputs, and of what a made-up source knows beside the class."""

from typing import Any

import ml_collections
import numpy as np

from probes import linear
from probes.features import Features, assemble
from runs.assembled import Experiment
from training import preemption
from training.once import once


def noisy(experiment: Experiment, params: Any, probes: dict[str, Any]) -> dict[str, Any] | None:
  """The linear probe with all labels at noisy inputs, features averaged over draws.

  Every level is judged on validation; test is read at the best one alone.
  """
  config, dataset = experiment.config.probe, experiment.probe_dataset
  levels = experiment.objective.reading().probe_levels()
  if not levels or not config.levels or not experiment.objective.trains or not experiment.probed:
    return None
  if 'linear' not in probes:
    return None
  clean = probes['linear']['all']
  rows = []
  for level in levels:
    preemption.check()
    by_split = {
      split: experiment.noisy_features(params, split, level) for split in ('train', 'validation')
    }
    by_split['test'] = np.zeros((len(by_split['train']), 0, 0), np.float32)
    features = assemble(dataset, by_split, once=once)
    rows.append({'level': level, **linear.validated(features, config.linear)})
  best = max(rows, key=lambda row: row['validation'])
  clean_cell = {
    'validation': max(clean['by_layer_validation']),
    'accuracy': clean['accuracy'],
    'layer': clean['layer'],
  }
  result = {'levels': list(levels), 'draws': config.level_draws}
  if clean_cell['validation'] >= best['validation']:
    chosen = {'level': None, **clean_cell, 'stderr': clean['stderr'], 'l2': clean['l2']}
  else:
    features = experiment.probe_features(params, level=best['level'])
    only_all = ml_collections.ConfigDict({**config.linear.to_dict(), 'labels': ()})
    found, _ = linear.evaluate(features, only_all, experiment.config.evaluation.seed)
    kept = {k: found['all'][k] for k in ('accuracy', 'stderr', 'layer', 'l2')}
    chosen = {'level': best['level'], 'validation': best['validation'], **kept}
  return {**result, 'linear': {'clean': clean_cell, 'by_level': rows, 'best': chosen}}


def latents(experiment: Experiment, params: Any) -> dict[str, Any] | None:
  """Validation accuracy of a linear probe for every latent of the source, layer by layer."""
  dataset = experiment.probe_dataset
  if not dataset.latents or 'train' not in dataset.latents:
    return None
  by_split = {
    split: experiment.features(params, getattr(dataset, split).tokens_NxT)
    for split in ('train', 'validation')
  }
  return fit_latents(by_split, dataset, experiment.config)


def fit_latents(
  by_split: dict[str, np.ndarray], dataset: Any, config: ml_collections.ConfigDict
) -> dict[str, Any]:
  """Accuracies of features (L, N, D) by latent, and the share of its commonest value."""
  accuracies, chance = {}, {}
  for name, labels_train in dataset.latents['train'].items():
    preemption.check()
    labels = dataset.latents['validation'][name]
    features = Features(
      **by_split,
      test=by_split['validation'][:, :0],
      labels_train=labels_train,
      labels_validation=labels,
      labels_test=labels[:0],
      classes=int(labels_train.max()) + 1,
      once=once,
    )
    one_l2 = ml_collections.ConfigDict({'l2': (config.probe.linear.single_l2,)})
    name = name.removeprefix('level')
    accuracies[name] = linear.validated(features, one_l2)['by_layer_validation']
    chance[name] = float(np.bincount(labels).max() / len(labels))
  return {'linear': accuracies, 'chance': chance}
