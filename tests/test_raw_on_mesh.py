"""Raw inputs of a large set: made on the devices, the same numbers, never whole on a host."""

import os
import subprocess
import sys

import numpy as np
import pytest

from data.dataset import Dataset, Examples
from probes import baselines, control_task, features, linear
from probes import mesh as mesh_lib
from runs import extraction

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def made_up(kind: str, train: int = 300, length: int = 6, vocabulary: int = 5) -> Dataset:
  """Tokens whose frequencies differ by position; classes by the first of them."""
  rng = np.random.default_rng(0)
  counts = {'train': train, 'validation': 70, 'test': 50}
  splits = {}
  for split, count in counts.items():
    spread = rng.random((count, length)) ** (1 + np.arange(length) / 3)
    tokens = np.minimum((vocabulary * spread).astype(np.int32), vocabulary - 1)
    splits[split] = Examples(tokens, (tokens[:, 0] % 2).astype(np.int32))
  colours = rng.normal(size=(vocabulary, 3)) if kind == 'colours' else None
  return Dataset(
    name='made up', vocabulary=vocabulary, dims=length, length=length, shape=(), classes=2,
    ordinal=kind == 'levels', note='', lossless=True, values_VxK=colours, **splits,
  )  # fmt: skip


def both(kind: str, **sizes):
  """Raw inputs of the same set in arrays and on the mesh, made 32 examples at a time."""
  dataset = made_up(kind, **sizes)
  unseen = ('validation', 'test')
  placed = extraction.raw(dataset, mesh_lib.default(), 32, unseen)
  return features.raw(dataset, unseen), placed


@pytest.mark.parametrize('kind', ['levels', 'symbols', 'colours'])
def test_the_numbers_are_those_of_the_host(kind):
  host, placed = both(kind)
  for split in features.SPLITS:
    array = getattr(placed, split)
    assert array.shape == getattr(host, split).shape
    np.testing.assert_array_equal(np.asarray(array), getattr(host, split))
    np.testing.assert_array_equal(np.asarray(placed.inputs[split]), host.inputs[split])
    name = f'labels_{split}'
    np.testing.assert_array_equal(getattr(placed, name), getattr(host, name))
  assert (placed.unseen, placed.classes) == (host.unseen, host.classes)
  types = [control_task.types_of(one, 8, 0) for one in (host, placed)]
  for split in features.SPLITS:
    np.testing.assert_array_equal(types[1][split], types[0][split])


@pytest.mark.parametrize('kind,rank', [('levels', 6), ('symbols', 24), ('colours', 18)])
def test_controls_of_raw_inputs_are_those_of_the_host(kind, rank):
  host, placed = both(kind)
  for make in (
    lambda one: baselines.pca(one, 4),
    lambda one: baselines.random_relu(one, 9, 3),
  ):
    expected, found = make(host), make(placed)
    assert found.unseen == expected.unseen and found.last is None
    for split in features.SPLITS:
      values = getattr(expected, split)
      np.testing.assert_allclose(
        np.asarray(getattr(found, split)), values, atol=1e-4 * np.abs(values).max()
      )
  # Directions that hold nothing are left out: those that one-hot tokens never take.
  assert baselines.pca(host, 99).train.shape[2] == rank
  assert baselines.pca(placed, 99).train.shape[2] == rank


def test_a_probe_of_raw_inputs_on_the_mesh_is_that_of_the_host():
  from experiments import base

  config = base.get_base('untrained').probe.linear
  config.update({'labels': (10,), 'draws': 1, 'l2': (1e-2, 1.0)})
  host, placed = (linear.evaluate(one, config, 0)[0] for one in both('symbols'))
  for labels, cell in host.items():
    assert placed[labels]['accuracy'] == pytest.approx(cell['accuracy'])
    assert placed[labels]['cross_entropy'] == pytest.approx(cell['cross_entropy'], abs=1e-3)


PROGRAM = """
import re, sys
import numpy as np
from test_raw_on_mesh import made_up
from probes import baselines, features, mesh
from runs import extraction

def memory(name):
  with open('/proc/self/status') as file:
    return int(re.search(name + r':\\s+(\\d+) kB', file.read())[1]) / 2**10

def controls(**sizes):
  dataset = made_up('symbols', **sizes)
  if sys.argv[1] == 'mesh':
    raw = extraction.raw(dataset, mesh.default(), 256)
  else:
    raw = features.raw(dataset)
  for one in (raw, baselines.pca(raw, 8), baselines.random_relu(raw, 8, 0)):
    one.train[0, :3] if sys.argv[1] == 'mesh' else one.train[0][:3]
  return dataset

controls(train=300, length=32, vocabulary=32)
with open('/proc/self/clear_refs', 'w') as file:
  file.write('5')  # The peak is now what is in use.
before = memory('VmRSS')
controls(train=24_000, length=32, vocabulary=32)
print(memory('VmHWM') - before)
"""


@pytest.mark.skipif(not os.path.exists('/proc/self/clear_refs'), reason='Linux tells its peak')
def test_what_a_large_set_needs_of_memory_is_a_few_times_its_numbers():
  """24,000 x 1,024 numbers are 94 MiB; here 355 MiB, on the host 702."""
  grown = {}
  for where in ('host', 'mesh'):
    path = os.pathsep.join((ROOT, os.path.join(ROOT, 'tests')))
    environment = {**os.environ, 'JAX_PLATFORMS': 'cpu', 'PYTHONPATH': path}
    command = [sys.executable, '-c', PROGRAM, where]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    grown[where] = float(done.stdout)
  assert grown['mesh'] < 5 * 94 < grown['host']


def test_a_host_never_makes_more_rows_than_a_batch(monkeypatch):
  made, flat = [], features.flat

  def spy(dataset, tokens, xp=np):
    if xp is np:
      made.append(len(tokens))
    return flat(dataset, tokens, xp)

  monkeypatch.setattr(features, 'flat', spy)
  _, placed = both('symbols')
  made.clear()
  for found in (placed, baselines.pca(placed, 4), baselines.random_relu(placed, 4, 0)):
    for split in features.SPLITS:
      getattr(found, split).on_mesh(0)
  assert not made
