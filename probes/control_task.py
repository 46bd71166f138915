"""Selectivity of the linear probe: real labels against a control task (Hewitt and Liang 2019).

A probe may do well because the representation knows the task or because the probe can learn almost
anything from it. In the control task of the paper every word type gets a random label, which
nothing but remembering the types can solve; selectivity is the accuracy on the task less that on
the control. Images do not recur, so a type here is a cluster of the raw input (k-means on the train
inputs), the same for every network on the same data: it depends on the inputs and the seed alone.
Each type gets a random class; the probe is then fitted, chosen and tested on those labels exactly
as on the real ones.

A high control accuracy is not a fault of the representation: it says that types are easy to read
from it, so that a high accuracy on the task says less.
"""

from collections.abc import Iterator
import dataclasses
from typing import Any
import warnings

import ml_collections
import numpy as np
import threadpoolctl

from probes import linear, selection
from probes.features import SPLITS, Features
from probes.layers import Layers

FIT_ROWS = 10_000  # Train inputs that k-means sees, at most.
PREDICT_ROWS = 2048  # Inputs that get their type at a time.


def evaluate(
  features: Features, config: ml_collections.ConfigDict, seed: int
) -> tuple[dict, dict[str, np.ndarray]]:
  """Probes the real labels and `draws` random labellings of the types, all with all labels.

  Args:
    features: with `inputs`, split -> (N, P).
    config: l2 (grid), draws (random labellings), types_per_class (types / classes), rows (of each
      split of features on a mesh, at most: drawn once, for task and control alike).
    seed: of the clusters and of each labelling.

  Returns:
    results: {'all': cell} with selectivity (task_accuracy - control_accuracy), task_accuracy,
      control_accuracy (mean over labellings), control_draws (test accuracies), control_majority
      (share of the commonest control class in test, mean over labellings: what guessing gets),
      types (that occur in train), layer (of the task), control_layers, rows (train examples
      used), and
      selectivity_by_layer_validation (each layer's best accuracy over l2 on validation, task less
      the mean over labellings).
    arrays: 'all/predictions' (N_test,) of the task, 'all/types' (N_test,), 'all/control_labels' and
      'all/control_predictions' (draws, N_test), int32.
    Both are empty without inputs.

  Raises:
    ValueError: as the linear probe; inputs that are not finite or do not match the labels; fewer
      types than classes.
  """
  if features.inputs is None:
    return {}, {}
  if isinstance(features.train, Layers):
    features = fewer(features, config.rows, seed)
  settings = ml_collections.ConfigDict({'labels': (), 'l2': tuple(config.l2)})
  task, task_arrays = linear.evaluate(features, settings, seed)
  count = config.types_per_class * features.classes
  types = types_of(features, count, seed)
  cells, labels, predictions = [], [], []
  for draw in range(config.draws):
    assigned = assign(types['train'], features.labels_train, count, features.classes, (seed, draw))
    control = {f'labels_{split}': assigned[types[split]] for split in SPLITS}
    found, arrays = linear.evaluate(dataclasses.replace(features, **control), settings, seed)
    cells.append(found['all'])
    labels.append(control['labels_test'].astype(np.int32))
    predictions.append(arrays['all/predictions'])
  task = task['all']
  accuracies = [cell['accuracy'] for cell in cells]
  by_layer = np.mean([cell['by_layer_validation'] for cell in cells], axis=0)
  result = {
    'selectivity': float(task['accuracy'] - np.mean(accuracies)),
    'task_accuracy': task['accuracy'],
    'control_accuracy': float(np.mean(accuracies)),
    'control_draws': accuracies,
    'control_majority': float(np.mean([np.bincount(row).max() / len(row) for row in labels])),
    'types': len(np.unique(types['train'])),
    'rows': len(types['train']),
    'layer': task['layer'],
    'control_layers': [cell['layer'] for cell in cells],
    'selectivity_by_layer_validation': (task['by_layer_validation'] - by_layer).tolist(),
  }
  return {'all': result}, {
    'all/predictions': task_arrays['all/predictions'],
    'all/types': types['test'].astype(np.int32),
    'all/control_labels': np.stack(labels),
    'all/control_predictions': np.stack(predictions),
  }


def fewer(features: Features, most: int, seed: int) -> Features:
  """At most so many random rows of every split of features on a mesh, as arrays."""
  found, inputs, labels = {}, {}, {}
  for number, split in enumerate(SPLITS):
    truth = np.asarray(getattr(features, f'labels_{split}'))
    rows = np.sort(np.random.default_rng((seed, number)).permutation(len(truth))[:most])
    found[split], inputs[split] = getattr(features, split)[:, rows], features.inputs[split][rows]
    labels[f'labels_{split}'] = truth[rows]
  return dataclasses.replace(features, **found, **labels, inputs=inputs, last=None, sequences=None)


def types_of(features: Features, types: int, seed: int) -> dict[str, np.ndarray]:
  """Type of every example, split -> (N,) integers in [0, types): the nearest k-means centre.

  The centres come from at most `FIT_ROWS` train inputs; no label is looked at. There may be fewer
  types than asked for where the inputs have fewer distinct values.
  """
  from sklearn import cluster, exceptions  # A second of every command's start otherwise.

  for split in SPLITS:
    shape = features.inputs[split].shape
    if len(shape) != 2 or shape[0] != len(getattr(features, f'labels_{split}')):
      raise ValueError(f'{split} inputs {shape} do not match the labels')
    if not all(np.isfinite(x).all() for x in _pieces(features.inputs[split])):
      raise ValueError(f'{split} inputs hold NaN or infinity')
  rng = np.random.default_rng((seed, types))
  fitted = rng.permutation(len(features.inputs['train']))[:FIT_ROWS]
  means = cluster.KMeans(
    n_clusters=min(types, len(fitted)), n_init=1, random_state=int(rng.integers(2**31))
  )
  # One thread: several add up a centre in any order, and the types would differ between runs.
  with threadpoolctl.threadpool_limits(1), warnings.catch_warnings():
    # Inputs that recur may have fewer distinct values than there are centres.
    warnings.simplefilter('ignore', exceptions.ConvergenceWarning)
    means.fit(np.asarray(features.inputs['train'][fitted], np.float64))
    return {
      split: np.concatenate([means.predict(x) for x in _pieces(features.inputs[split])])
      for split in SPLITS
    }


def _pieces(inputs: Any) -> Iterator[np.ndarray]:
  """Inputs (N, P), which may be made when rows are asked for, a few rows at a time in float64."""
  for first in range(0, len(inputs), PREDICT_ROWS):
    yield np.asarray(inputs[first : first + PREDICT_ROWS], np.float64)


def assign(types_N: np.ndarray, labels_N: np.ndarray, types: int, classes: int, seed) -> np.ndarray:
  """A random class for every type, (types,).

  One type of each class first, at random among those that occur in train, so that every control
  class has examples; the others independently with the frequencies of the real train labels.

  Args:
    types_N: types of the train examples, in [0, types).
    labels_N: their real labels, of which only the frequencies matter.
    types, classes: their numbers.
    seed: an integer or a sequence of them.

  Raises:
    ValueError: fewer types occur than there are classes; a class without examples.
  """
  present = np.unique(types_N)
  if len(present) < classes:
    raise ValueError(f'a control task of {classes} classes needs as many types, not {len(present)}')
  selection.largest_balanced(labels_N, classes)  # Every class has examples.
  frequencies = np.bincount(labels_N, minlength=classes) / len(labels_N)
  rng = np.random.default_rng(seed)
  assigned = rng.choice(classes, size=types, p=frequencies)
  assigned[rng.permutation(present)[:classes]] = np.arange(classes)
  return assigned
