"""Features written where they are made, against those that are gathered on a host."""

import numpy as np
import pytest
import tiny

from probes import linear
from runs import evaluators, extraction
from training import optimizer as optimizer_lib
from training import state as state_lib


@pytest.fixture(scope='module')
def both(data_dir):
  """The same experiment with features on the host and on the mesh, and its parameters."""
  suite = "--config.probe.suite=('linear', 'pooling', 'control_task')"
  # Batches that do not divide the rows: the last one begins earlier.
  host, placed = (
    tiny.build(data_dir, 'masked_diffusion', '--config.probe.batch_size=90', suite,
               f'--config.probe.linear.engine={engine}')
    for engine in ('host', 'mesh')
  )  # fmt: skip
  config = host.config
  optimizer = optimizer_lib.for_task(host.task, config.optimizer, config.training.steps)
  return host, placed, state_lib.init_state(host.task, optimizer, host.mesh).params


def test_rows_are_where_they_belong_under_both_poolings(both):
  host, placed, params = both
  expected, done = host.probe_features(params), []
  found = placed.probe_features(params, progress=done.append)
  for split in ('train', 'validation', 'test'):
    np.testing.assert_allclose(getattr(found, split)[:], getattr(expected, split), atol=1e-6)
    np.testing.assert_allclose(found.last[split][:], expected.last[split], atol=1e-6)
    rows = np.array([5, 0, 99])
    np.testing.assert_array_equal(found.inputs[split][rows], expected.inputs[split][rows])
  found.train.on_mesh(0)
  labels = (found.labels_train, found.labels_validation, found.labels_test)
  assert sum(done) == sum(map(len, labels))


def test_groups_of_layers_and_noise_are_the_same(both, monkeypatch):
  host, placed, params = both
  level = host.objective.probe_levels()[0]
  expected = host.noisy_features(params, 'validation', level)
  monkeypatch.setattr(extraction, 'group_size', lambda *shape: 1)
  found = placed.noisy_features(params, 'validation', level)
  np.testing.assert_allclose(found[:], expected, atol=1e-6)
  np.testing.assert_allclose(found[0], expected[0], atol=1e-6)


def test_groups_fit_the_memory():
  quarter = int(extraction.SHARE * 2**30)
  # Two arrays of 13 rows a device, 64 float32 each.
  assert extraction.group_size((100, 100), 49, 64, 8, 2**30) == 49
  assert extraction.group_size((100, 100), 49, 64, 8, 3 * 4 * 26 * 64 * 2**30 // quarter) == 3
  assert extraction.group_size((100, 100), 49, 64, 8, 1) == 1


def test_the_probes_read_the_same(both):
  host, placed, params = both
  (expected, _), (found, _) = (
    linear.evaluate(one.probe_features(params), one.config.probe.linear, 0)
    for one in (host, placed)
  )
  for labels, cell in expected.items():
    assert found[labels]['accuracy'] == pytest.approx(cell['accuracy'], abs=0.01), labels
    assert found[labels]['cross_entropy'] == pytest.approx(cell['cross_entropy'], abs=1e-3)
  assert found['all']['engine'] == 'mesh'
  quick = [evaluators.quick_probe(one, params) for one in (host, placed)]
  name = 'probe/linear/accuracy'
  assert quick[0][name] == pytest.approx(quick[1][name], abs=0.01)
