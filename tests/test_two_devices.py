"""On two virtual devices a run computes what it computes on one: objectives, start and order."""

import os
import subprocess
import sys

import tiny

from runs import run

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

PROGRAM = """
import dataclasses, sys
sys.path.insert(0, 'tests')
import jax, numpy as np
from jax.sharding import AxisType
import tiny
from runs import experiment, measured, ordering, parents
from training import loop, optimizer, sharding, state

data_dir, parent, where = sys.argv[1:]
assert jax.device_count() == 2
meshes = [
  jax.make_mesh((n,), ('data',), axis_types=(AxisType.Auto,), devices=jax.devices()[:n])
  for n in (1, 2)
]
WIDE = '--config.model.width=64'  # From there on parameters are split.


def both(name, *overrides):
  made = tiny.build(data_dir, name, *overrides)
  space = dataclasses.replace(made.space, noise=None)
  return [
    experiment.assemble(made.config, space, mesh, made.dataset, made.probe_dataset, made.hashes)
    for mesh in meshes
  ]


def fresh(made):
  own = optimizer.for_task(made.task, made.config.optimizer, made.config.training.steps)
  return state.init_state(made.task, own, made.mesh)


def trained(made):
  step, at = loop.make_step(made.task, made.config), fresh(made)
  rows, metrics = sharding.local_rows(8, made.mesh), []
  for number in range(3):
    batch = sharding.place_batch(made.batches.rows(number, rows), made.mesh)
    at, found = step(at, batch, sharding.place_flag(0, made.mesh))
    metrics.append([float(found[name]) for name in ('loss', 'gradient_norm', 'scored')])
  return np.array(metrics), at.params


for name, overrides in (
  ('energy', ('objective.noise_examples=2', 'objective.ais_chains=4', 'objective.ais_steps=8')),
  ('dual', ('training.microbatches=2',)),
  ('uniform_diffusion', ()),
):
  overrides = [f'--config.{override}' for override in (*overrides, 'model.dropout=0.2')]
  one, two = both(name, WIDE, *overrides)
  (first, params), (second, split) = trained(one), trained(two)
  np.testing.assert_allclose(second, first, rtol=2e-5, err_msg=name)
  assert not split['backbone']['blocks']['mlp_in_DxF'].sharding.is_fully_replicated
  for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(split)):
    np.testing.assert_allclose(a, b, atol=2e-4, err_msg=name)
  if name == 'energy':
    found = [measured._normaliser(made, at) for made, at in ((one, params), (two, split))]
    assert found[0]['stderr'] > 0
    for key in ('log_z', 'stderr', 'learned'):
      np.testing.assert_allclose(found[0][key], found[1][key], rtol=1e-4, err_msg=key)

begun = [
  (made, parents.begin(fresh(made), parents.find(made)))
  for made in both('masked', WIDE, f'--config.training.init_from={parent}')
]
for a, b in zip(*(jax.tree.leaves(at.params) for _, at in begun)):
  np.testing.assert_array_equal(a, b)
moved = begun[1][1].params['backbone']['blocks']['mlp_in_DxF']
assert not moved.sharding.is_fully_replicated
assert np.any(begun[0][1].params['backbone']['output_DxV'])  # At a fresh start it is zero.
assert all(not np.any(x) for x in jax.tree.leaves(begun[1][1].opt_state))

orders = []
for number, made in enumerate(both(
  'masked', '--config.data.order=easy_to_hard', f'--config.data.order_by={parent}'
)):
  orders.append(ordering.rows(made, f'{where}/{number}'))
scores = [np.load(f'{where}/{number}/order.npz')['scores'] for number in (0, 1)]
np.testing.assert_allclose(*scores, rtol=1e-5)
# Where two examples cost the same but for the last bits, either may come first.
np.testing.assert_allclose(scores[0][orders[0]], scores[0][orders[1]], rtol=1e-5)
assert np.mean(orders[0] != orders[1]) < 0.02
assert not np.array_equal(orders[0], np.arange(1197))
ranked = scores[1][orders[1]]
assert np.all(np.diff(ranked) >= 0) and np.ptp(ranked) > 5
print('equal')
"""


def test_two_devices_compute_what_one_computes(data_dir, tmp_path):
  parent = tiny.build(
    data_dir,
    'autoregressive',
    '--config.model.width=64',
    '--config.probe.suite=()',
  )
  run.execute(parent, str(tmp_path / 'parent'))
  for number in range(2):
    (tmp_path / str(number)).mkdir()
  environment = {
    **os.environ,
    'JAX_PLATFORMS': 'cpu',
    'XLA_FLAGS': os.environ['XLA_FLAGS'] + ' --xla_force_host_platform_device_count=2',
    'PYTHONPATH': ROOT,
  }
  command = [sys.executable, '-c', PROGRAM, data_dir, str(tmp_path / 'parent'), str(tmp_path)]
  done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
  assert done.returncode == 0 and done.stdout == 'equal\n', done.stderr
