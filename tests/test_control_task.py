"""The control task on features that know the types, the classes, or neither."""

import dataclasses

import ml_collections
import numpy as np
import pytest
from sklearn import metrics

from probes import control_task, linear
from probes.features import SPLITS, Features
from probes.measures import MEASURES, at

CLASSES, TYPES, SIZES = 3, 12, (360, 120, 120)


def config(**changes):
  fields = {'l2': (1e-3, 1e-1), 'draws': 3, 'types_per_class': TYPES // CLASSES}
  return ml_collections.ConfigDict(fields | changes)


ROWS = dict(zip(SPLITS, np.split(np.arange(sum(SIZES)), np.cumsum(SIZES)[:-1]), strict=True))
CLUSTER = np.random.default_rng(0).permutation(np.arange(sum(SIZES)) % TYPES)


def example(classes_known: bool) -> Features:
  """Inputs in 12 tight clusters, labels independent of them; two layers, the first noise.

  The second layer is the label with a little noise, or noise too.
  """
  rng = np.random.default_rng(1)
  y = rng.permutation(np.arange(sum(SIZES)) % CLASSES)
  inputs = (10 * np.eye(TYPES)[CLUSTER] + rng.normal(size=(len(y), TYPES))).astype(np.float32)
  z = rng.normal(size=(2, len(y), TYPES)).astype(np.float32)
  if classes_known:
    z[1] = 0.01 * z[1] + np.eye(TYPES)[y]
  return Features(
    **{s: z[:, r] for s, r in ROWS.items()},
    **{f'labels_{s}': y[r] for s, r in ROWS.items()},
    classes=CLASSES,
    inputs={s: inputs[r] for s, r in ROWS.items()},
  )


@pytest.fixture(scope='module')
def knows_classes():
  return control_task.evaluate(example(True), config(), 0)


def test_types_are_the_clusters_of_the_input():
  features = example(False)
  types = control_task.types_of(features, TYPES, 0)
  for split in SPLITS:
    # One if and only if both are the same partition.
    score = metrics.adjusted_rand_score(types[split], CLUSTER[ROWS[split]])
    assert score > 0.8  # One start of k-means may join two clusters and split another.
  train = features.inputs['train'].astype(np.float64)
  centres = np.stack([train[types['train'] == t].mean(0) for t in range(TYPES)])
  for split in SPLITS:
    distance = ((features.inputs[split][:, None] - centres) ** 2).sum(-1)
    np.testing.assert_array_equal(types[split], distance.argmin(1))


def test_features_of_types_solve_the_control():
  features = example(False)
  types = control_task.types_of(features, TYPES, 0)
  known = {s: np.stack([0 * t, t]) for s, t in types.items()}
  one_hot = {s: np.eye(TYPES, dtype=np.float32)[t] for s, t in known.items()}
  results, arrays = control_task.evaluate(dataclasses.replace(features, **one_hot), config(), 0)
  cell = results['all']
  assert cell['control_draws'] == [1.0, 1.0, 1.0] and cell['control_accuracy'] == 1.0
  assert cell['selectivity'] <= 0 and cell['control_layers'] == [1, 1, 1]
  # The labels know nothing of the types: about 1/3, within 5 standard errors of .043.
  assert abs(cell['task_accuracy'] - 1 / 3) < 0.22
  assert cell['selectivity_by_layer_validation'][1] < 0
  np.testing.assert_array_equal(arrays['all/control_predictions'], arrays['all/control_labels'])


def test_features_of_classes_do_not(knows_classes):
  results, arrays = knows_classes
  cell, labels = results['all'], arrays['all/control_labels']
  assert cell['task_accuracy'] == 1.0 and cell['layer'] == 1
  majority = np.mean([np.bincount(row).max() / len(row) for row in labels])
  assert cell['control_majority'] == pytest.approx(majority)
  assert cell['control_accuracy'] < majority + 0.1
  assert cell['selectivity'] > 0.3 and cell['selectivity_by_layer_validation'][1] > 0.3
  assert cell['types'] == TYPES


def test_cell_is_the_linear_probe_on_both(knows_classes):
  """Every number recomputed from the linear probe and the control labels in the arrays."""
  results, arrays = knows_classes
  cell, features = results['all'], example(True)
  settings = ml_collections.ConfigDict({'labels': (), 'l2': (1e-3, 1e-1)})
  task, predictions = linear.evaluate(features, settings, 0)
  types = control_task.types_of(features, TYPES, 0)
  np.testing.assert_array_equal(arrays['all/types'], types['test'])
  controls = []
  for draw in range(3):
    assigned = {}
    for t, label in zip(types['test'], arrays['all/control_labels'][draw], strict=True):
      assert assigned.setdefault(int(t), int(label)) == label  # One class a type.
    assert set(assigned) == set(range(TYPES)) and set(assigned.values()) == set(range(CLASSES))
    labels = {f'labels_{s}': np.array([assigned[int(t)] for t in types[s]]) for s in SPLITS}
    found, own = linear.evaluate(dataclasses.replace(features, **labels), settings, 0)
    controls.append(found['all'])
    np.testing.assert_array_equal(arrays['all/control_predictions'][draw], own['all/predictions'])
  np.testing.assert_array_equal(arrays['all/predictions'], predictions['all/predictions'])
  assert cell['control_draws'] == [c['accuracy'] for c in controls]
  assert cell['control_layers'] == [c['layer'] for c in controls]
  mean = np.mean([c['accuracy'] for c in controls])
  assert cell['selectivity'] == pytest.approx(task['all']['accuracy'] - mean)
  for layer in range(2):
    mean = np.mean([c['by_layer_validation'][layer] for c in controls])
    expected = task['all']['by_layer_validation'][layer] - mean
    assert cell['selectivity_by_layer_validation'][layer] == pytest.approx(expected)
  (measure,) = MEASURES['control_task']
  assert at({'control_task': results}, measure.path) == cell['selectivity']
  assert at({'control_task': results}, measure.layers) == cell['selectivity_by_layer_validation']
  for value in cell.values():
    values = value if isinstance(value, list) else [value]
    assert all(type(v) in (int, float) for v in values)


def test_control_labels_depend_on_inputs_and_seed_alone(knows_classes):
  again = control_task.evaluate(example(True), config(), 0)
  assert again[0] == knows_classes[0]
  other, arrays = control_task.evaluate(example(False), config(), 0)
  for key in ('all/types', 'all/control_labels'):
    np.testing.assert_array_equal(arrays[key], knows_classes[1][key])
  assert other['all']['control_majority'] == knows_classes[0]['all']['control_majority']
  labels = knows_classes[1]['all/control_labels']
  assert not (labels[0] == labels[1]).all() and not (labels[1] == labels[2]).all()
  types = control_task.types_of(example(False), TYPES, 1)
  assert (types['test'] != arrays['all/types']).any()  # At least their numbers differ.


def test_chooses_without_test_labels(knows_classes):
  features = example(True)
  labels = np.random.default_rng(1).permutation(features.labels_test)
  dirty, arrays = control_task.evaluate(
    dataclasses.replace(features, labels_test=labels), config(), 0
  )
  clean = knows_classes[0]['all']
  for key in clean.keys() - {'selectivity', 'task_accuracy'}:
    assert dirty['all'][key] == clean[key]
  for key, array in arrays.items():
    np.testing.assert_array_equal(array, knows_classes[1][key])


def test_assignment_follows_the_label_frequencies():
  types, labels = np.arange(40), np.repeat([0, 1, 2], [70, 20, 10])
  drawn = np.stack([control_task.assign(types, labels, 40, 3, (0, d)) for d in range(300)])
  assert all(set(row) == {0, 1, 2} for row in drawn)
  # One type a class for certain, 37 by frequency; four standard errors of 300 x 37 draws.
  for k, share in enumerate((0.7, 0.2, 0.1)):
    rate = ((drawn == k).sum() / 300 - 1) / 37
    assert abs(rate - share) < 4 * np.sqrt(share * (1 - share) / (300 * 37))
  # Which type is the certain one is random too: every type's rate of the rarest is the same.
  expected = (1 + 37 * 0.1) / 40
  assert np.abs((drawn == 2).mean(0) - expected).max() < 5 * np.sqrt(expected / 300)
  np.testing.assert_array_equal(drawn[5], control_task.assign(types, labels, 40, 3, (0, 5)))
  # Types that only occur outside train have a class too, but are not the certain ones.
  seen = control_task.assign(np.array([4, 5, 6]), labels, 40, 3, 0)
  assert sorted(seen[4:7]) == [0, 1, 2] and len(seen) == 40


def test_many_rows_are_capped(monkeypatch):
  monkeypatch.setattr(control_task, 'FIT_ROWS', 60)
  types = control_task.types_of(example(False), TYPES, 0)
  assert len(np.unique(types['train'])) == TYPES and len(types['train']) == SIZES[0]


def test_without_inputs_or_with_bad_ones():
  features = example(False)
  assert control_task.evaluate(dataclasses.replace(features, inputs=None), config(), 0) == ({}, {})
  for value, message in ((np.nan, 'train inputs hold NaN'), (1.0, 'needs as many types, not 1')):
    flat = {split: np.full_like(x, value) for split, x in features.inputs.items()}
    with pytest.raises(ValueError, match=message):
      control_task.evaluate(dataclasses.replace(features, inputs=flat), config(), 0)
  short = {**features.inputs, 'test': features.inputs['test'][:5]}
  with pytest.raises(ValueError, match='test inputs .* do not match the labels'):
    control_task.evaluate(dataclasses.replace(features, inputs=short), config(), 0)
  missing = dataclasses.replace(features, labels_train=features.labels_train % 2)
  with pytest.raises(ValueError, match='class 2 has no training example'):
    control_task.evaluate(missing, config(), 0)
