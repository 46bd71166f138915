"""All probes together: one interface, plain numbers, nothing chosen on test."""

import dataclasses
import json

import ml_collections
import numpy as np
import pytest

from experiments import base
from probes import suite
from probes.features import SPLITS, Features
from probes.measures import MEASURES, at, headline
from probes.suite import PROBES


def config():
  """The default entries, with the costly ones cut down."""
  settings = base.get_base('untrained').probe.to_dict()
  settings['linear'] |= {'labels': (10, 40), 'draws': 2, 'l2': (1e-3, 1e-1)}
  settings['linear'] |= {'few_l2': (1e-2, 1.0)}
  settings['knn'] |= {'labels': (100,), 'draws': 2}
  settings['mlp'] |= {'hidden': 8, 'steps': 16, 'checkpoints': 2}
  settings['attentive'] |= {'heads': 2, 'steps': 10}
  settings['control_task'] |= {'types': 8, 'draws': 2}
  settings['prequential'] |= {'l2': (1e-3, 1e-1)}
  settings['prequential']['mlp'] |= {'hidden': 8, 'steps': 16}
  return ml_collections.ConfigDict(settings)


def features(seed=0, layers=2, dims=5, classes=4):
  """The class shows in the last layer, in its last position and in the raw input."""
  rng = np.random.default_rng(seed)
  sizes = {'train': 120, 'validation': 40, 'test': 36}
  labels = {s: rng.permutation(np.arange(n) % classes).astype(np.int32) for s, n in sizes.items()}
  sequences = {}
  for split, n in sizes.items():
    x = rng.normal(size=(layers, n, 3, dims)).astype(np.float32)
    x[-1, :, :, :classes] += 2 * np.eye(classes)[labels[split]][:, None]
    sequences[split] = x
  return Features(
    **{s: x.mean(2) for s, x in sequences.items()},
    **{f'labels_{s}': y for s, y in labels.items()},
    classes=classes,
    last={s: x[:, :, -1] for s, x in sequences.items()},
    inputs={s: x[-1].reshape(len(x[-1]), -1) for s, x in sequences.items()},
    sequences=lambda split, layer, rows: sequences[split][layer, rows],
    tuner=lambda rows, known, *, at, ask, **_: np.stack(
      [3 * np.eye(classes, dtype=np.float32)[labels[ask[0]][ask[1]]] for _ in at]
    ),
  )


@pytest.fixture(scope='module')
def found():
  return suite.run(features(), config(), 0, tuple(PROBES))


def test_every_probe_has_a_default_entry_and_measures():
  entries = base.get_base('untrained').probe
  for name in PROBES:
    assert name in entries
    assert MEASURES[name] and all(measure.path[0] == name for measure in MEASURES[name])
  names = [measure.name for measure in headline()]
  assert len(set(names)) == len(names)


def test_every_measure_is_there(found):
  results, _ = found
  for measure in headline():
    value = at(results, measure.path)
    assert type(value) in (int, float), measure.name
    if measure.layers:
      assert len(at(results, measure.layers)) == 2, measure.name
    for path in measure.beside:
      assert type(at(results, path)) in (int, float)
    if measure.flag:
      assert type(at(results, measure.flag)) is bool


def test_plain_json_and_arrays(found):
  results, arrays = found
  json.dumps(results, allow_nan=False)
  assert all(isinstance(array, np.ndarray) for array in arrays.values())
  assert {name.split('/')[0] for name in arrays} <= {*PROBES, 'labels'}


def test_accuracies_are_those_of_the_saved_predictions(found):
  results, arrays = found
  truth = features().labels_test
  for name in ('linear', 'ridge', 'mlp', 'attentive'):
    accuracy = (arrays[f'{name}/all/predictions'] == truth).mean()
    assert results[name]['all']['accuracy'] == pytest.approx(accuracy)


def test_every_probe_reads_the_class(found):
  results, _ = found
  for measure in headline():
    if measure.unit == 'fraction' and measure.name != 'pac/bound':
      assert at(results, measure.path) > 0.6, measure.name
  assert 0.5 < results['mlp']['all']['linear_share'] < 1.5


def test_corrupt_test_labels_change_no_choice(found):
  given = features()
  wrong = np.random.default_rng(9).integers(4, size=36).astype(np.int32)
  corrupt, _ = suite.run(dataclasses.replace(given, labels_test=wrong), config(), 0, tuple(PROBES))
  assert choices(corrupt) == choices(found[0])


def choices(results):
  """Every value that is a choice or comes from validation, by its path."""
  chosen = ('layer', 'l2', 'usable_layer', 'usable_l2', 'neighbours', 'k', 'step', 'weight_decay')
  chosen += ('usable_weight_decay', 'usable_step', 'usable_start', 'start')
  chosen += ('bits', 'range', 'bound', 'linear_bits', 'mlp_bits', 'rankme')

  def walk(value, path):
    if isinstance(value, dict):
      for key, inner in value.items():
        yield from walk(inner, (*path, key))
    elif path[-1] in chosen or 'validation' in path[-1] or 'cv' in path[-1]:
      yield path, value

  found = dict(walk(results, ()))
  assert len(found) > 20
  return found


def test_what_features_lack_is_left_out():
  bare = dataclasses.replace(features(), last=None, inputs=None, sequences=None, tuner=None)
  results, _ = suite.run(bare, config(), 0, tuple(PROBES))
  assert set(PROBES) - set(results) == {'pooling', 'attentive', 'control_task', 'finetune'}


def test_only_configured_probes_run():
  results, arrays = suite.run(features(), config(), 0, ('ridge',))
  assert set(results) == {'ridge'} and set(arrays) == {'labels', 'ridge/all/predictions'}
  with pytest.raises(ValueError, match="unknown probe 'rigde'; known: linear, ridge"):
    suite.run(features(), config(), 0, ('rigde',))


def test_what_was_left_out_is_named_by_probe():
  settings = config()
  with settings.unlocked():
    settings.linear.labels, settings.knn.labels = (10, 3), (100, 1000)
  names = ('linear', 'knn')
  results, _ = suite.run(features(), settings, 0, names)
  assert results['left_out'] == {
    'linear': {'3': 'fewer than the 4 classes'},
    'knn': {'1000': 'there are only 120 training labels'},
  }
  assert set(results['linear']) == {'all', '10'} and set(results['knn']) == {'all', '100'}
  # A probe made again brings its own, the other's stays.
  settings.knn.labels = (100,)
  again, _ = suite.run(features(), settings, 0, ('knn',))
  both = suite.merged(results, again)
  assert set(both['left_out']) == {'linear'} and both['knn'] == again['knn']
  assert 'left_out' not in suite.merged({'knn': results['knn']}, again)


def test_linear_share_by_hand():
  def made(linear, mlp):
    own = {'linear/all/usable_bits': linear, 'mlp/all/usable_bits': mlp}
    return {name: np.asarray(bits, np.float32) for name, bits in own.items()}

  found = suite.linear_share(made([1.0, 2.0], [3.0, 3.0]))
  # The share moves with the linear probe alone: its standard error, sqrt(1/4), over 3.
  assert found == {'linear_share': 0.5, 'linear_share_stderr': pytest.approx(0.5 / 3),
                   'above_1': False}  # fmt: skip
  found = suite.linear_share(made([3.0, 3.5], [2.0, 2.5]))
  assert found['linear_share'] == pytest.approx(6.5 / 4.5) and found['above_1'] is True
  assert suite.linear_share(made([0.0, 0.0], [0.01, 0.02])) == {}
  assert suite.linear_share({'linear/all/usable_bits': np.ones(2)}) == {}


def test_bad_features_are_refused_in_one_line():
  good = features()
  for changes in (
    {'train': np.full_like(good.train, np.nan)},
    {'labels_train': np.zeros_like(good.labels_train)},
    {'labels_validation': good.labels_validation + 1},
    {'test': good.test[:, :, :3]},
  ):
    with pytest.raises(ValueError) as caught:
      suite.run(dataclasses.replace(good, **changes), config(), 0)
    assert '\n' not in str(caught.value)


def test_constant_features_probe_at_the_majority_and_stay_finite():
  given = features()
  constant = {s: np.full_like(getattr(given, s), 0.5) for s in SPLITS}
  results, _ = suite.run(dataclasses.replace(given, **constant, last=constant), config(), 0)
  json.dumps(results, allow_nan=False)
  share = np.bincount(given.labels_test).max() / 36
  for name in ('linear', 'ridge', 'knn'):
    assert results[name]['all']['accuracy'] <= share + 1e-9
