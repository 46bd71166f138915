"""What is measured while a run trains: one function each, by the name of its config entry.

An evaluator takes the experiment and parameters, never touches test, and returns scalars, and grey
pictures (HxW uint8), by name.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from data.dataset import Examples
from objectives import Code
from probes import linear, prequential, selection
from probes.features import Features
from runs import assessment, configs, measured
from runs.assembled import Experiment
from runs.errors import UserError
from training.loop import Evaluator
from training.once import once


def validate(experiment: Experiment, params: Any) -> dict[str, float]:
  """The objective's own loss on validation, its bits, regret and token accuracy."""
  values = experiment.per_example(
    params,
    experiment.dataset.validation,
    experiment.config.evaluation.validation_draws,
    measured.VALIDATION,
  )
  scalars = {'validation/loss': float(np.mean(values['loss']))}
  if experiment.objective.code is not Code.NONE:
    scalars['validation/bits_per_dim'] = measured.bits_per_dim(experiment, values['nats'])
  if 'regret' in values:
    regret = measured.bits_per_dim(experiment, values['regret'])
    scalars['validation/regret_bits_per_dim'] = regret
  accuracy = measured.accuracy_cell(values)['token_accuracy']
  if accuracy is not None:
    scalars['validation/token_accuracy'] = accuracy
  return scalars


def quick_probe(experiment: Experiment, params: Any) -> dict[str, float]:
  """Validation accuracy of a small probe on a fixed balanced subset of the training labels."""
  if not _labelled(experiment):
    return {}
  dataset = experiment.probe_dataset
  labels = dataset.train.labels_N
  rows = selection.quick(labels, dataset.classes)
  train = experiment.features(params, dataset.train.tokens_NxT[rows])
  features = Features(
    train=train,
    validation=experiment.validation_features(params),
    test=train[:, :0],
    labels_train=labels[rows],
    labels_validation=dataset.validation.labels_N,
    labels_test=labels[:0],
    classes=dataset.classes,
    once=once,
  )
  return {'probe/linear/accuracy': linear.quick(features, experiment.config.probe.linear)}


def label_codes(experiment: Experiment, params: Any) -> dict[str, float]:
  """Lengths in bits of the prequential codes of the train labels, as `probes.prequential`.

  Of its first order alone: several along the training would take too long.
  """
  if not _labelled(experiment):
    return {}
  dataset, config = experiment.probe_dataset, experiment.config
  own, seed = config.probe.prequential, config.evaluation.seed
  rows = prequential.coding_order(len(dataset.train), own.rows, seed)
  features = experiment.features(params, dataset.train.tokens_NxT[rows])
  labels_N = dataset.train.labels_N[rows]
  codes = once(lambda: prequential.bits(features, labels_N, dataset.classes, own, seed))
  return {f'probe/prequential/{name}': value for name, value in codes.items()}


def samples(experiment: Experiment, params: Any) -> dict[str, np.ndarray]:
  """A grid of pictures drawn from the model; nothing where there are no pictures or no samples."""
  from reports import figures_samples  # What draws takes half a second to load.

  shape = experiment.dataset.shape
  drawn_NxT = assessment.sample(experiment, params) if len(shape) == 2 else None
  if drawn_NxT is None:
    return {}
  return {'samples': figures_samples.sample_grid(drawn_NxT, shape, experiment.dataset.vocabulary)}


def _labelled(experiment: Experiment) -> bool:
  return experiment.probed and isinstance(experiment.probe_dataset.train, Examples)


# By the name of the entry in `config.evaluators`. A new one is one function and one line here.
EVALUATORS: dict[str, Callable[[Experiment, Any], dict[str, Any]]] = {
  'validation': validate,
  'probe': quick_probe,
  'label_code': label_codes,
  'samples': samples,
}


def build(experiment: Experiment) -> list[Evaluator]:
  """The evaluators of the experiment's config but those of `every` 0, for the training loop."""
  made = configs.schedules(experiment.config)
  unknown = sorted(set(made) - set(EVALUATORS) - {'checkpoints'})
  if unknown:
    raise UserError(f"unknown evaluator '{unknown[0]}'; known: {', '.join(EVALUATORS)}")
  return [
    Evaluator(made[name], lambda params, step, measure=measure: measure(experiment, params))
    for name, measure in EVALUATORS.items()
    if name in made and made[name].every
  ]
