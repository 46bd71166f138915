"""Gathered parameters and scattered gradients on eight virtual devices, beside one device."""

import os
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

PROGRAM = """
import functools
from unittest import mock
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import PartitionSpec as P
from models import transformer
from models.config import ModelConfig
from training import placement, sharding

mesh = sharding.make_mesh()
assert mesh.size == 8 and placement.make_placement(jax.make_mesh((1,), ('data',)), 2) is None
shared = dict(shared_layers=True, mixer='recurrent', state=128, dropout=0.2)
for dtype, remat, tolerance, more in (
  ('float32', False, 2e-6, {}), ('bfloat16', True, 1e-2, {}), ('float32', False, 2e-6, shared)
):
  config = ModelConfig(17, 8, width=64, layers=2, heads=2, compute_dtype=dtype, remat=remat, **more)
  params = transformer.init(config, jax.random.key(0))
  params['output_DxV'] = jax.random.normal(jax.random.key(1), (64, 17))
  tokens = jax.random.randint(jax.random.key(2), (16, 8), 0, 17)

  keys = jax.random.split(jax.random.key(3), 16)

  def loss(params, tokens, keys, place):
    apply = transformer.make_apply(config, place=place)
    outputs = apply(params, tokens, pattern=('causal',), shift=True, dropout_B=keys)
    return jnp.mean(outputs.logits_BxTxV ** 2)

  def run(params, tokens, keys, place):
    return jax.jit(jax.value_and_grad(functools.partial(loss, place=place)))(params, tokens, keys)

  value, gradients = run(params, tokens, keys, None)
  placed = jax.device_put(params, sharding.tree_shardings(params, mesh))
  rows = jax.device_put(tokens, sharding.batch_sharding(mesh))
  keys = jax.device_put(keys, sharding.batch_sharding(mesh))
  place = placement.make_placement(mesh, config.stacked_layers)
  split, shards = run(placed, rows, keys, place)
  np.testing.assert_allclose(value, split, rtol=tolerance)
  assert shards['blocks']['mlp_in_DxF'].sharding.spec == P(None, None, 'data')
  if more:
    assert shards['blocks']['recurrence']['in_Dx3S'].sharding.spec == P(None, None, 'data')
  for one, other in zip(jax.tree.leaves(gradients), jax.tree.leaves(shards)):
    np.testing.assert_allclose(one, other, rtol=0, atol=tolerance * float(jnp.abs(one).max()))

  # As on a TPU: in two stages, and in tiles where these fit.
  with mock.patch.object(placement, '_stages', return_value=(4, 2)) as stages:
    staged_value, staged = run(placed, rows, keys, place)
  assert stages.called and staged_value == split
  for one, other in zip(jax.tree.leaves(gradients), jax.tree.leaves(staged)):
    np.testing.assert_allclose(one, other, rtol=0, atol=tolerance * float(jnp.abs(one).max()))

share = functools.partial(
  jax.shard_map, mesh=mesh, in_specs=P('data'), out_specs=P('data'), check_vma=False)
for shape in ((3,), (3, 5), (64, 4)):
  parts = jax.random.normal(jax.random.key(0), (8, 8, *shape))
  for stages in ((8,), (4, 2), (2, 4)):
    for axis in range(len(shape)):
      scatter = share(lambda x: placement.scatter_sum(x[0], stages, axis)[None])
      np.testing.assert_allclose(scatter(parts), parts.sum(0), atol=2e-6)
    gather = share(lambda x: placement.gather_parts(x[0], stages)[None])
    np.testing.assert_array_equal(gather(parts[0]), np.broadcast_to(parts[0], parts.shape))
print('equal')
"""


def test_eight_devices_compute_what_one_computes():
  environment = {
    **os.environ,
    'JAX_PLATFORMS': 'cpu',
    'XLA_FLAGS': os.environ['XLA_FLAGS'] + ' --xla_force_host_platform_device_count=8',
    'PYTHONPATH': ROOT,
  }
  done = subprocess.run(
    [sys.executable, '-c', PROGRAM], cwd=ROOT, env=environment, capture_output=True, text=True
  )
  assert done.returncode == 0 and done.stdout == 'equal\n', done.stderr
