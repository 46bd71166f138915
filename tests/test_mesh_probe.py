"""The linear probe's engine on a mesh, against the host's, scikit-learn and itself."""

import dataclasses
import os
import socket
import subprocess
import sys

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
from test_logistic import L2, optimum, problem, sklearn_fit, value_and_gradient

from experiments import base
from probes import (
  control_task,
  knn,
  knn_mesh,
  linear,
  linear_mesh,
  logistic,
  mesh_logistic,
  mlp,
  newton_cg,
  pooling,
  ridge,
  selection,
  settings,
  suite,
)
from probes import features as features_lib
from probes import layers as layers_lib
from probes import mesh as mesh_lib
from probes.certificate import certify

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def fit(x_NxD, labels, l2=L2, **how):
  """Fits of raw features, and the standardised ones that they are of, float64."""
  rows, mean, scale = layers_lib.standardised(x_NxD[None], 0, mesh_lib.default())
  classes = how.pop('classes', int(labels.max()) + 1)
  fits = mesh_logistic.fit(rows, labels, l2, classes=classes, **how)
  return fits, np.asarray(rows.x, np.float64)[: len(labels)], mean, scale


def judged(fits, z, labels, l2, bias_l2=logistic.BIAS_L2):
  theta = np.concatenate([fits.weights, fits.bias[..., None]], -1)
  return certify(z, labels, np.full(len(labels), 1 / len(labels)), theta, np.array(l2), bias_l2)


def test_agrees_with_the_host():
  features, labels = problem(rows=150, dims=12)
  for x in features.astype(np.float32):
    fits, *_ = fit(x, labels)
    z = selection.standardise(x, *selection.moments(x))
    host = logistic.fit(z[None], labels, L2, classes=4)
    objective, certificate = judged(fits, z, labels, L2)
    np.testing.assert_allclose(objective, host.objective[0], rtol=0, atol=1e-6)
    assert certificate.max() <= 1.01e-6 and fits.certificate.max() <= logistic.GAP
    assert fits.precision == 'float64'


@pytest.mark.parametrize('bias_l2', [logistic.BIAS_L2, 1e-3])
def test_agrees_with_scikit_learn(bias_l2):
  features, labels = problem(rows=150, dims=12)
  fits, z, *_ = fit(features[0].astype(np.float32), labels, gap=1e-9, bias_l2=bias_l2)
  for j, l2 in enumerate(L2):
    weights, bias = sklearn_fit(z, labels, l2, bias_l2)
    flat = np.c_[weights, bias].ravel()
    theirs = value_and_gradient(flat, z, labels, np.ones(len(z)), l2, bias_l2, 4)[0]
    assert abs(fits.objective[j] - theirs) < 1e-7
    ours = logistic.logits(z, fits.weights[j], fits.bias[j]).argmax(1)
    np.testing.assert_array_equal(ours, (z @ weights.T + bias).argmax(1))


@pytest.mark.parametrize('gap', [1e-2, 1e-4, 1e-6, 1e-9])
def test_certificate_bounds_the_true_gap(gap):
  features, labels = problem()
  fits, z, *_ = fit(features[1].astype(np.float32), labels, gap=gap)
  objective, certificate = judged(fits, z, labels, L2)
  np.testing.assert_allclose(fits.objective, objective, rtol=0, atol=1e-13)
  np.testing.assert_allclose(fits.certificate, certificate, rtol=1e-6, atol=1e-15)
  assert fits.certificate.max() <= gap
  for j, l2 in enumerate(L2):
    true_gap = objective[j] - optimum(z, labels, l2, 4)
    assert -1e-11 <= true_gap <= fits.certificate[j] + 1e-11


def test_certificate_of_float32_bounds_the_true_gap(monkeypatch):
  """As on TPU: compensated sums."""
  monkeypatch.setattr(mesh_lib, 'widest', lambda mesh: 'float32')
  features, labels = problem(rows=150, dims=12)
  fits, z, *_ = fit(features[0].astype(np.float32), labels)
  _, certificate = judged(fits, z, labels, L2)
  np.testing.assert_allclose(fits.certificate, certificate, rtol=0.05, atol=2e-8)
  assert fits.precision == 'float32, compensated sums'
  for j, l2 in enumerate(L2):
    assert fits.objective[j] - optimum(z, labels, l2, 4) <= 1.1e-6


def test_a_step_solves_newtons_system():
  """Against the Hessian of the loss by automatic differentiation."""
  features, labels = problem(rows=40, dims=3)
  rows, *_ = layers_lib.standardised(features[:1].astype(np.float32), 0, mesh_lib.default())
  z, w = np.asarray(rows.x, np.float64)[:40], np.random.default_rng(0).normal(size=(1, 4, 3))
  w -= w.mean(1, keepdims=True)
  bias = np.zeros((1, 4))
  sent = [mesh_lib.everywhere(a.astype(np.float32), rows.mesh) for a in (w, bias)]
  place = mesh_lib.place(labels.astype(np.int32), rows.mesh)
  how = {'mesh': rows.mesh, 'wide': 'float32'}
  *_, p = newton_cg.gradient(rows.x, place, rows.mask, *sent, **how)
  direction = [a.astype(np.float32) for a in (w[:, ::-1] ** 2, bias + np.arange(4))]
  found = newton_cg.curved(rows.x, rows.mask, p, *direction, mesh=rows.mesh)
  with jax.enable_x64(True):

    def loss(theta_KxC):
      scores = jnp.asarray(np.c_[z, np.ones(40)]) @ theta_KxC.T
      rest = jnp.take_along_axis(scores, jnp.asarray(labels)[:, None], 1)[:, 0]
      return (jax.nn.logsumexp(scores, axis=1) - rest).sum()

    at, d = (jnp.asarray(np.concatenate([a[0], b[0][:, None]], 1), float)
             for a, b in ((w, bias), direction))  # fmt: skip
    expected = jax.jvp(jax.grad(loss), (at,), (d,))[1]
  np.testing.assert_allclose(np.c_[found[0][0], found[1][0]], expected, rtol=1e-5, atol=1e-5)


def test_badly_scaled_features():
  """An offset, a constant, copies that hardly differ, and spreads of many sizes."""
  rng = np.random.default_rng(0)
  x = rng.normal(size=(400, 8)).astype(np.float32)
  labels = (x @ rng.normal(size=(8, 3)) + rng.gumbel(size=(400, 3))).argmax(1)
  x[:, 1] += 4096
  x[:, 2] = 7.5
  x[:, 3] *= 1e-6
  x[:, 4] *= 1e6
  x[:, 5] = x[:, 0] * (1 + 1e-4 * x[:, 6])
  fits, z, mean, scale = fit(x, labels, (1e-5, 1e-2))
  host_mean, host_scale = selection.moments(x)
  np.testing.assert_allclose(mean, host_mean[0], rtol=1e-12, atol=1e-12)
  np.testing.assert_allclose(scale, host_scale[0], rtol=1e-12)
  assert np.isinf(scale[2]) and (z[:, 2] == 0).all()
  np.testing.assert_allclose(z, selection.standardise(x, host_mean, host_scale), atol=3e-7)
  host = logistic.fit(selection.standardise(x, host_mean, host_scale)[None], labels,
                      (1e-5, 1e-2), classes=3)  # fmt: skip
  np.testing.assert_allclose(fits.objective, host.objective[0], rtol=0, atol=1e-6)


def test_separable_problems_with_tiny_penalties():
  rows, dims = 40, 100
  rng = np.random.default_rng(rows)
  x = rng.normal(size=(rows, dims)).astype(np.float32)
  labels = rng.permutation(np.arange(rows) % 10)
  fits, z, *_ = fit(x, labels, (1e-5, 1e-4))
  host = logistic.fit(z[None], labels, (1e-5, 1e-4), classes=10)
  np.testing.assert_allclose(fits.objective, host.objective[0], rtol=0, atol=1e-6)


def test_chunks_of_l2_and_blocks_of_rows_change_nothing(monkeypatch):
  features, labels = problem(rows=150, dims=12)
  x = features[0].astype(np.float32)
  whole, *_ = fit(x, labels, gap=1e-10)
  monkeypatch.setattr(mesh_lib, 'memory', lambda mesh: 1)
  monkeypatch.setitem(mesh_lib.BLOCK_BYTES, 'cpu', 1)
  jax.clear_caches()  # Blocks are part of the programs.
  parts, *_ = fit(x, labels, gap=1e-10)
  np.testing.assert_allclose(parts.objective, whole.objective, rtol=0, atol=1e-10)
  np.testing.assert_allclose(parts.weights, whole.weights, atol=1e-4)


def test_sums_in_two_parts_lose_nothing():
  values = np.float32([1e8, 1.0, -1e8, 1.0] * 100)

  @jax.jit
  def summed(values):
    step = lambda sums, x: (mesh_lib.add(sums, x), None)  # noqa: E731
    return sum(jax.lax.scan(step, (jnp.float32(0), jnp.float32(0)), values)[0])

  assert summed(values) == 200 and np.cumsum(values)[-1] != 200


def test_uncertified_fit_raises_and_names_the_problem():
  features, labels = problem(rows=20)
  with pytest.raises(ValueError, match='of layer 0 with l2=0.001 stopped .*float64'):
    fit(features[0].astype(np.float32), labels, gap=1e-40, name='layer 0')


@pytest.mark.parametrize('value', [np.nan, np.inf])
def test_features_that_are_not_finite(value):
  features, labels = problem()
  features[0, 3, 2] = value
  with pytest.raises(ValueError, match='NaN or infinity'):
    fit(features[0].astype(np.float32), labels)


def test_size_decides_and_the_config_may():
  config = ml_collections.ConfigDict({'l2': (1e-3,) * 6})
  assert linear_mesh.engine(config, (5, 1500, 64), 10) == 'host'
  assert linear_mesh.engine(config, (5, 120_000, 64), 10) == 'mesh'
  assert linear_mesh.engine(config, (5, 10_000, 64), 1000) == 'mesh'
  assert (
    linear_mesh.engine(ml_collections.ConfigDict({'l2': (1,), 'engine': 'mesh'}), (1, 9, 9), 2)
    == 'mesh'
  )
  with pytest.raises(ValueError, match="unknown engine 'gpu'"):
    linear_mesh.engine(ml_collections.ConfigDict({'l2': (1,), 'engine': 'gpu'}), (1, 9, 9), 2)


def test_an_unknown_engine_is_found_before_the_work():
  config, labels = base.get_base('untrained').probe, np.arange(20) % 2
  config.linear.engine = 'tpu'
  with pytest.raises(ValueError, match="probe.linear.engine: unknown engine 'tpu'; known: auto"):
    settings.check(config, dict.fromkeys(features_lib.SPLITS, labels), 2)


def on_mesh(features, size=1):
  """The same features as `Layers`, in groups of so many layers."""
  mesh, made = mesh_lib.default(), []

  def make(first, count):
    made.append((first, count))
    return {
      split: [mesh_lib.place(x, mesh) for x in getattr(features, split)[first : first + count]]
      for split in features_lib.SPLITS
    }

  groups = layers_lib.Groups(make, len(features.train), size)
  by_split = {
    split: layers_lib.Layers(groups, split, *getattr(features, split).shape[1:], mesh)
    for split in features_lib.SPLITS
  }
  labels = {f'labels_{s}': getattr(features, f'labels_{s}') for s in features_lib.SPLITS}
  return features_lib.Features(**by_split, **labels, classes=features.classes), made


def clusters(layers=3, rows=120, dims=5, classes=4, seed=0):
  rng = np.random.default_rng(seed)
  y = rng.permutation(np.arange(3 * rows) % classes)
  x = rng.normal(size=(layers, 3 * rows, dims)).astype(np.float32)
  x[-1, :, :classes] += 2 * np.eye(classes)[y]
  split = (slice(0, rows), slice(rows, 2 * rows), slice(2 * rows, None))
  return features_lib.Features(*(x[:, s] for s in split), *(y[s] for s in split), classes)


def test_the_probe_on_a_mesh_is_the_probe_on_the_host():
  config = ml_collections.ConfigDict({
    'labels': (8, 40), 'draws': 2, 'folds': 3, 'l2': (1e-2, 1.0), 'few_l2': (1e-2, 1.0),
    'single_l2': 1e-2,
  })  # fmt: skip
  features = clusters()
  host, host_arrays = linear.evaluate(features, config, 0)
  placed, made = on_mesh(features)
  found, arrays = linear.evaluate(placed, config, 0)
  assert made[:3] == [(0, 1), (1, 1), (2, 1)]
  assert (host['all']['engine'], found['all']['engine']) == ('host', 'mesh')
  for labels, cell in host.items():
    for name, value in cell.items():
      if name not in ('certificate', 'engine'):
        assert found[labels][name] == pytest.approx(value, abs=1e-3), (labels, name)
  for name, values in host_arrays.items():
    np.testing.assert_allclose(arrays[name], values, atol=0.01)
  assert linear.quick(placed, config) == linear.quick(features, config)
  assert linear.validated(placed, config) == linear.validated(features, config)


def test_ridge_and_poolings_on_a_mesh_are_those_on_the_host():
  config = ml_collections.ConfigDict({'l2': (1e-5, 1e-2, 1.0)})
  features = clusters()
  placed, _ = on_mesh(features, 3)
  others = clusters(seed=1)
  both = [
    dataclasses.replace(one, last={s: getattr(other, s) for s in features_lib.SPLITS})
    for one, other in ((features, others), (placed, on_mesh(others, 3)[0]))
  ]
  for probe in (ridge, pooling):
    (host, host_arrays), (found, arrays) = (probe.evaluate(one, config, 0) for one in both)
    cells = [(host['all'], found['all'])]
    if probe is pooling:
      cells = [(host['all'][name], found['all'][name]) for name in pooling.POOLINGS]
    for expected, cell in cells:
      for name, value in expected.items():
        if name not in ('certificate', 'engine'):
          assert cell[name] == pytest.approx(value, abs=1e-3), name
    for name, values in host_arrays.items():
      np.testing.assert_allclose(arrays[name], values, atol=0.01)


def test_neighbours_on_a_mesh_are_those_on_the_host(monkeypatch):
  config = ml_collections.ConfigDict(
    {'neighbours': (1, 5, 200), 'temperature': 0.07, 'labels': (4, 40), 'draws': 2}
  )
  features = clusters()
  features.train[:, 7] = features.train[:, 8]  # A tie.
  features.validation[:, 3] = features.train[:, 8]
  host, host_arrays = knn.evaluate(features, config, 0)
  monkeypatch.setitem(knn_mesh.CHUNK_BYTES, 'cpu', 4 * 120 * 50)  # Chunks of 50, the last padded.
  found, arrays = knn.evaluate(on_mesh(features, 2)[0], config, 0)
  for labels, cell in host.items():
    for name, value in cell.items():
      assert found[labels][name] == pytest.approx(value, abs=1e-6), (labels, name)
  for name, values in host_arrays.items():
    np.testing.assert_allclose(arrays[name], values, atol=1e-6)


def test_neighbours_that_tie_are_all_seen_however_many_they_are():
  """Copies by the dozen, in order of their classes: those kept first would be of one class."""
  config = ml_collections.ConfigDict(
    {'neighbours': (1, 5), 'temperature': 0.07, 'labels': (4,), 'draws': 1}
  )
  features, place = clusters(), np.arange(120)
  order = np.argsort(features.labels_train, kind='stable')
  features = dataclasses.replace(
    features, train=features.train[:, order], labels_train=features.labels_train[order]
  )
  features.train[:, place % 30 < 25] = features.train[:, :1]  # Some 25 of every class.
  features.validation[:, ::2] = features.test[:, ::2] = features.train[:, :1]
  host, host_arrays = knn.evaluate(features, config, 0)
  found, arrays = knn.evaluate(on_mesh(features, 2)[0], config, 0)
  for name, value in host['all'].items():
    assert found['all'][name] == pytest.approx(value, abs=1e-6), name
  for name, values in host_arrays.items():
    np.testing.assert_allclose(arrays[name], values, atol=1e-6)


@pytest.mark.parametrize('name', ['mlp', 'geometry', 'pac', 'control_task', 'prequential'])
def test_what_reads_rows_reads_them_from_a_mesh(name):
  """Of sets no larger than the rows they may have, the very same numbers."""
  small = {'steps': 40, 'batch_size': 16, 'rows': 400, 'l2': (1e-2, 1.0), 'weight_decay': (1.0,)}
  small |= {'orders': 1, 'mlp': None}
  config = base.get_base('untrained').probe[name].to_dict()
  config = ml_collections.ConfigDict({key: small.get(key, config[key]) for key in config})
  features = clusters(layers=2)
  inputs = {split: getattr(features, split)[0] for split in features_lib.SPLITS}
  placed, _ = on_mesh(features, 2)
  (host, host_arrays), (found, arrays) = (
    suite.PROBES[name].evaluate(dataclasses.replace(one, inputs=inputs), config, 0)
    for one in (features, placed)
  )
  for key, value in host['all'].items():
    if key not in ('certificate', 'curve'):
      assert found['all'][key] == pytest.approx(value, abs=2e-3, nan_ok=True), key
  for key, values in host_arrays.items():
    np.testing.assert_allclose(arrays[key], values, atol=0.02)


def test_rows_that_take_part_of_a_large_set():
  """Networks see as many as their steps can; task and control those that are declared."""
  placed, _ = on_mesh(clusters(), 2)
  few_steps = ml_collections.ConfigDict({'steps': 5, 'batch_size': 8})
  rows = mlp._rows(placed, few_steps, 0)
  assert len(rows) == 40 and (np.diff(rows) > 0).all()
  assert len(mlp._rows(clusters(), few_steps, 0)) == 120
  small = {
    'hidden': 2,
    'learning_rate': 1e-3,
    'weight_decay': (1.0,),
    'checkpoints': 1,
    'l2': (1.0,),
  }
  told, _ = mlp.evaluate(placed, ml_collections.ConfigDict({**few_steps, **small}), 0)
  assert told['all']['rows'] == 40
  inputs = {split: np.arange(120)[:, None] for split in features_lib.SPLITS}
  asked = ml_collections.ConfigDict({'rows': 30, 'draws': 1, 'types_per_class': 2, 'l2': (1.0,)})
  given = dataclasses.replace(placed, inputs=inputs)
  assert control_task.evaluate(given, asked, 0)[0]['all']['rows'] == 30
  few = control_task.fewer(dataclasses.replace(placed, inputs=inputs), 30, 0)
  for split in features_lib.SPLITS:
    which = few.inputs[split][:, 0]
    assert len(which) == 30
    np.testing.assert_array_equal(getattr(few, split), getattr(clusters(), split)[:, which])
    labels = getattr(clusters(), f'labels_{split}')[which]
    np.testing.assert_array_equal(getattr(few, f'labels_{split}'), labels)


@pytest.mark.parametrize('split', features_lib.SPLITS)
@pytest.mark.parametrize('name', ['linear', 'ridge', 'knn'])
def test_no_split_may_hold_what_is_not_finite(name, split):
  features = clusters(layers=2)
  getattr(features, split)[1, 7, 2] = np.nan
  config = base.get_base('untrained').probe[name].to_dict() | {'labels': ()}
  with pytest.raises(ValueError, match='NaN or infinity'):
    suite.PROBES[name].evaluate(on_mesh(features, 2)[0], ml_collections.ConfigDict(config), 0)


def test_layers_bring_rows_to_the_host_and_not_too_many(monkeypatch):
  features = clusters()
  placed, _ = on_mesh(features, 2)
  array, rows = placed.train, np.array([3, 1, 119])
  np.testing.assert_array_equal(array[1], features.train[1])
  np.testing.assert_array_equal(array[-1], features.train[-1])
  np.testing.assert_array_equal(array[:, rows], features.train[:, rows])
  np.testing.assert_array_equal(array[[2, 0], :5], features.train[[2, 0], :5])
  np.testing.assert_array_equal(np.stack(list(array)), features.train)
  monkeypatch.setattr(layers_lib, 'HOST_BYTES', 100)
  with pytest.raises(ValueError, match='120 rows of 3 layers .* name fewer rows'):
    np.asarray(array)


PROGRAM = """
import sys
import jax, numpy as np
processes, number, address = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
if processes > 1:
  jax.distributed.initialize(address, processes, number, cluster_detection_method='deactivate')
from probes import layers, mesh, mesh_logistic, sums
rng = np.random.default_rng(0)
x = (rng.normal(size=(1, 333, 6)) + 100 * np.arange(6)).astype(np.float32)
y = (x[0, :, :3] - 100 * np.arange(3) + rng.gumbel(size=(333, 3))).argmax(1)
where = mesh.default()
rows, mean, scale = layers.standardised(x, 0, where)
fits = mesh_logistic.fit(rows, y, (1e-4, 1e-2), classes=3, gap=1e-9)
nats, predicted = sums.judge(rows, y, fits.weights, fits.bias)
taken = sums.take(rows, np.array([332, 0]))
if number == 0:
  np.savez(sys.argv[4], devices=where.size, mean=mean, scale=scale, objective=fits.objective,
           certificate=fits.certificate, nats=nats, predicted=predicted, taken=taken)
"""


def run_program(path, processes, devices):
  environment = {
    **os.environ,
    'JAX_PLATFORMS': 'cpu',
    'XLA_FLAGS': f'{os.environ["XLA_FLAGS"]} --xla_force_host_platform_device_count={devices}',
    'PYTHONPATH': ROOT,
  }
  with socket.socket() as free:
    free.bind(('127.0.0.1', 0))
    address = f'127.0.0.1:{free.getsockname()[1]}'
  group = [
    subprocess.Popen(
      [sys.executable, '-c', PROGRAM, str(processes), str(i), address, path],
      cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True,
    )
    for i in range(processes)
  ]  # fmt: skip
  for process in group:
    _, error = process.communicate(timeout=300)
    assert process.returncode == 0, error
  with np.load(path) as found:
    return dict(found)


def test_devices_and_processes_change_nothing(tmp_path):
  one, eight, two = (
    run_program(str(tmp_path / f'{p}x{d}.npz'), p, d) for p, d in ((1, 1), (1, 8), (2, 4))
  )
  assert (one['devices'], eight['devices'], two['devices']) == (1, 8, 8)
  for other in (eight, two):
    assert other['certificate'].max() <= 1e-9
    np.testing.assert_allclose(other['mean'], one['mean'], rtol=1e-12)
    np.testing.assert_allclose(other['scale'], one['scale'], rtol=1e-12)
    np.testing.assert_allclose(other['objective'], one['objective'], rtol=0, atol=1e-9)
    np.testing.assert_allclose(other['nats'], one['nats'], atol=1e-3)
    np.testing.assert_allclose(other['taken'], one['taken'], atol=1e-6)
    np.testing.assert_array_equal(other['predicted'], one['predicted'])
