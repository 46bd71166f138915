"""The training benchmark: both sides train the same network, and what it prints is right."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import jax_train, train, workers
from benchmarks.sizes import OPTIMIZER, SIZES, STEPS, Size
from benchmarks.workers import make_batches
from models.config import ModelConfig
from training import optimizer as optimizer_lib
from training import sharding
from training import state as state_lib

_SIZE = Size('tiny', 5, 9, 16, 2, 2, 4)


def _moved(params, scale=0.1):
  """Away from initialisation, where the zero output table would hide everything."""
  leaves, tree = jax.tree.flatten(params)
  keys = jax.random.split(jax.random.key(1), len(leaves))
  moved = [x + scale * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)]
  return jax.tree.unflatten(tree, moved)


def _copy(params, network):
  """The backbone's parameter tree (`models.transformer.init`) into the peer's network."""
  import torch

  def put(parameter, array, transpose=False):
    array = np.asarray(array)
    parameter.copy_(torch.tensor(array.T if transpose else array))

  with torch.no_grad():
    put(network.token_table.weight, params['token_table'])
    put(network.position_table, params['position_table'])
    put(network.start, params['start_D'])
    put(network.norm_final.weight, params['norm_final']['scale'])
    put(network.output.weight, params['output_DxV'], transpose=True)
    stacked = params['blocks']
    for i, block in enumerate(network.blocks):
      put(block.norm_attention.weight, stacked['norm_attention']['scale'][i])
      put(block.norm_mlp.weight, stacked['norm_mlp']['scale'][i])
      put(block.qkv.weight, stacked['qkv_Dx3D'][i], transpose=True)
      put(block.out.weight, stacked['out_DxD'][i], transpose=True)
      put(block.mlp_in.weight, stacked['mlp_in_DxF'][i], transpose=True)
      put(block.mlp_out.weight, stacked['mlp_out_FxD'][i], transpose=True)


def test_the_peer_is_the_same_network_with_the_same_updates():
  """Equal parameters give equal loss and gradient norm, over a few updates of both."""
  torch_train = pytest.importorskip('benchmarks.torch_train', exc_type=ImportError)
  import ml_collections

  task = jax_train.make_task(ModelConfig(**_SIZE.model()), sharding.make_mesh())
  params = _moved(task.init(jax.random.key(0)))
  optimizer = optimizer_lib.for_task(task, ml_collections.ConfigDict(OPTIMIZER), STEPS)
  update = jax.jit(state_lib.make_update(task, optimizer, OPTIMIZER['clip_norm']))
  state = state_lib.TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params))
  peer = torch_train.Training(_SIZE)
  _copy(params['backbone'], peer.network)
  count = sum(p.numel() for p in peer.network.parameters())
  assert count == state_lib.count(params['backbone'])
  batches = make_batches(_SIZE, 12)
  labels = jnp.full((_SIZE.batch,), -1, jnp.int32)
  norms = []
  for tokens in batches:
    state, metrics = update(state, {'tokens': jnp.asarray(tokens), 'label': labels})
    loss, norm = peer.step(tokens.astype(np.int64))
    assert float(metrics['loss']) == pytest.approx(loss, rel=1e-4)
    assert float(metrics['gradient_norm']) == pytest.approx(norm, rel=1e-4)
    norms.append(norm)
  # The comparison means something: some gradients were clipped and some were not.
  assert min(norms) < OPTIMIZER['clip_norm'] < max(norms)


def test_the_peer_follows_our_schedule():
  torch_train = pytest.importorskip('benchmarks.torch_train', exc_type=ImportError)
  import ml_collections

  ours = optimizer_lib.schedule(ml_collections.ConfigDict(OPTIMIZER), STEPS)
  for step in (0, 1, 49, 50, 51, 1000, 60_000, STEPS):
    assert torch_train.learning_rate(step) == pytest.approx(float(ours(step)), rel=1e-4, abs=1e-9)


def test_utilisation_is_analytic_flops_over_the_fastest_product():
  size = SIZES['nano']
  row = {'case': 'alone', 'ratios': [0.5, 2.0, 1.0], 'tokens_per_second': 1000.0}
  rows = [row | {'side': 'ours', 'matmul_flops': 1e9}, row | {'side': 'torch', 'matmul_flops': 4e9}]
  train.add_utilisation(rows, size, peak_gflops=0.0)
  # 6 N_matmul + 12 L T D a token, of which a causal pattern asks for (T + 1) / 2T.
  flops = 6 * (4 * 12 * 64**2 + 64 * 17) + 12 * 4 * 64 * 64 * 65 / 128
  assert rows[0]['mfu'] == pytest.approx(1000 * flops / 4e9)
  assert rows[0]['ratio'] == 1.0 and rows[0]['peak_from'] == 'product by torch'
  train.add_utilisation(rows, size, peak_gflops=8.0)
  assert rows[1]['mfu'] == pytest.approx(1000 * flops / 8e9)
  assert rows[1]['peak_from'] == '--peak_gflops'


def test_sides_share_the_cores_alone_and_have_one_each_in_a_pair():
  alone = workers.sides('alone', [0, 1], 'fused')
  assert [(s.library, s.devices, s.cores) for group in alone for s in group] == [
    ('ours', 2, (0, 1)),
    ('ours', 1, (0, 1)),
    ('torch', 1, (0, 1)),
  ]
  pair = workers.sides('pair', [0, 1], 'fused')
  assert [[(s.library, s.cores) for s in group] for group in pair] == [
    [('ours', (0,)), ('ours', (1,))],
    [('torch', (0,)), ('torch', (1,))],
  ]


def test_recomputation_needs_less_memory():
  shape = {'vocabulary': 17, 'length': 128, 'width': 32, 'layers': 8, 'heads': 2}
  found = {
    name: jax_train.compiled(ModelConfig(**shape, **variant), 4, sharding.make_mesh())
    for name, variant in jax_train.VARIANTS.items()
  }
  # Kept: eight layers of 4 x 2 attention matrices, of 128 x 128 float32, at the very least.
  assert found['none']['temporary_bytes'] > 8 * 4 * 2 * 128 * 128 * 4
  assert found['dots']['temporary_bytes'] < 0.5 * found['none']['temporary_bytes']
  assert found['full']['temporary_bytes'] < found['dots']['temporary_bytes']
  # Parameters and both moments, however activations are kept.
  parameters = ModelConfig(**shape).matmul_parameters() + (18 + 128 + 1 + 8 * 2 + 1) * 32
  for row in found.values():
    assert row['argument_bytes'] == pytest.approx(3 * 4 * parameters, rel=0.01)
    assert row['shared_bytes'] >= 3 * 4 * parameters


@pytest.mark.parametrize(('size', 'every'), [(2**26, 1), (5 * 2**28, 20)])
def test_freed_memory_is_kept(size, every):
  """Pages of a block that is freed and taken again are handed out once, not every time."""
  code = """
import ctypes, resource, sys
from training import host_memory
changed = host_memory.keep_freed() if sys.argv[1] == 'keep' else True
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
size, every = int(sys.argv[2]), 4096 * int(sys.argv[3])
for _ in range(20):
  block = libc.malloc(size)
  for place in range(0, size, every):
    ctypes.memset(block + place, 1, 1)
  libc.free(block)
print(int(changed), resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""

  def faults(mode):
    command = [sys.executable, '-c', code, mode, str(size), str(every)]
    out = subprocess.run(command, capture_output=True, check=True)
    return [int(word) for word in out.stdout.split()]

  changed, kept = faults('keep')
  if not changed:
    pytest.skip('no glibc, or a host with an accelerator')
  assert kept < 2 * size // (4096 * every) < faults('default')[1]


def test_a_command_has_one_arena_of_memory():
  """Blocks of a second one, of a thread that came too early, would be given back every step."""
  code = """
import ctypes, sys, tempfile
from launch import entry
import jax
import jax.numpy as jnp
from training import host_memory

def main(argv):
  if not host_memory.keep_freed():
    return print('none')
  jax.jit(lambda x: (x @ x).sum())(jnp.ones((1000, 1000))).block_until_ready()
  libc = ctypes.CDLL(None)
  libc.fdopen.restype, libc.fdopen.argtypes = ctypes.c_void_p, [ctypes.c_int, ctypes.c_char_p]
  libc.malloc_info.argtypes = [ctypes.c_int, ctypes.c_void_p]
  libc.fclose.argtypes = [ctypes.c_void_p]
  with tempfile.NamedTemporaryFile() as file:
    stream = libc.fdopen(ctypes.c_int(file.fileno()), b'w')
    libc.malloc_info(0, stream)
    libc.fflush(ctypes.c_void_p(stream))
    print(open(file.name).read().count('<heap nr='))

entry.run(main, keeps=True)
"""
  environment = {k: v for k, v in os.environ.items() if not k.startswith('MALLOC_')}
  done = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True, check=True, env=environment
  )
  if done.stdout == 'none\n':
    pytest.skip('no glibc, or a host with an accelerator')
  assert done.stdout == '1\n'
