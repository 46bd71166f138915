"""Our training step on random tokens, from the same parts as `launch.train` makes it of."""

import time
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from benchmarks.sizes import OPTIMIZER, STEPS, Size
from models import transformer
from models.config import ModelConfig
import objectives
from objectives import scoring
from training import keys, placement, sharding
from training import optimizer as optimizer_lib
from training import state as state_lib

VARIANTS = {
  'none': {'remat': False},
  'dots': {'remat': True, 'remat_policy': 'dots'},
  'full': {'remat': True, 'remat_policy': 'full'},
}


def make_task(model: ModelConfig, mesh: jax.sharding.Mesh) -> state_lib.Task:
  """Next-token prediction with this backbone."""
  space = objectives.Space(model.vocabulary, model.length, model.length)
  objective = objectives.get('autoregressive')
  apply = transformer.make_apply(model, mesh, placement.make_placement(mesh, model.layers))
  loss = scoring.make_loss(objective, apply, space)

  def init(key: jax.Array) -> Any:
    return {'backbone': transformer.init(model, key), 'objective': {}}

  return state_lib.Task(init, scoring.draw, loss, keys.key(0), transformer.MATRICES)


def make_step(model: ModelConfig, mesh: jax.sharding.Mesh) -> tuple[Any, state_lib.Task, Any]:
  """The jitted update as the loop has it, and the task and the optimizer that it is made of."""
  task = make_task(model, mesh)
  optimizer = optimizer_lib.for_task(task, ml_collections.ConfigDict(OPTIMIZER), STEPS)
  update = state_lib.make_update(task, optimizer, OPTIMIZER['clip_norm'])
  return jax.jit(update, donate_argnums=0), task, optimizer


def start(size: Size, batches: np.ndarray, **model: Any) -> tuple[dict, object]:
  """Makes the training on all devices and its first step.

  Returns:
    What is known after it, and `run(seconds) -> (steps, seconds)`.
  """
  mesh = sharding.make_mesh()
  config = ModelConfig(**size.model(), **{'unroll': True, **model})
  update, task, optimizer = make_step(config, mesh)
  state = state_lib.init_state(task, optimizer, mesh)
  labels = np.full((size.batch,), -1, np.int32)
  rows = sharding.local_rows(size.batch, mesh)

  def step(number: int) -> dict[str, jax.Array]:
    nonlocal state
    tokens = batches[number % len(batches)]
    batch = sharding.place_batch({'tokens': tokens[rows], 'label': labels[rows]}, mesh)
    state, metrics = update(state, batch)
    return metrics

  begin = time.perf_counter()
  loss = float(step(0)['loss'])
  first = time.perf_counter() - begin

  def run(seconds: float) -> tuple[int, float]:
    begin, steps, running = time.perf_counter(), 0, None
    while time.perf_counter() - begin < seconds:
      metrics = step(steps)
      steps += 1
      # As in the loop: the metrics of the step before are read while this one runs.
      if running is not None:
        jax.tree.map(np.asarray, running)
      running = metrics
    jax.block_until_ready(state)
    return steps, time.perf_counter() - begin

  known = {'first_seconds': first, 'first_loss': loss, 'version': jax.__version__}
  return known | {'devices': jax.device_count(), 'platform': jax.default_backend()}, run


def compiled(model: ModelConfig, batch: int, mesh: jax.sharding.Mesh) -> dict[str, float]:
  """Bytes a device of one training step, and seconds to compile it.

  Layers stay in a loop, whatever the platform: that is how they are trained at this size.
  """
  update, task, optimizer = make_step(model, mesh)
  rows = sharding.batch_sharding(mesh)
  examples = {
    'tokens': jax.ShapeDtypeStruct((batch, model.length), jnp.int32, sharding=rows),
    'label': jax.ShapeDtypeStruct((batch,), jnp.int32, sharding=rows),
  }
  state = state_lib.abstract_state(task, optimizer, mesh)
  begin = time.perf_counter()
  analysis = update.lower(state, examples).compile().memory_analysis()
  return {
    'argument_bytes': analysis.argument_size_in_bytes,
    'output_bytes': analysis.output_size_in_bytes,
    'shared_bytes': analysis.alias_size_in_bytes,
    'temporary_bytes': analysis.temp_size_in_bytes,
    'total_bytes': analysis.argument_size_in_bytes
    + analysis.output_size_in_bytes
    - analysis.alias_size_in_bytes
    + analysis.temp_size_in_bytes,
    'compile_seconds': time.perf_counter() - begin,
  }


def matmul_flops(width: int) -> float:
  """FLOP/s of one large float32 product on one device, times the devices there are.

  Virtual CPU devices share the cores, so there the product of one is that of the machine.
  """
  a = jnp.ones((width, width), jnp.float32)
  product = jax.jit(lambda a: jnp.matmul(a, a, precision='highest'))
  product(a).block_until_ready()
  seconds = []
  for _ in range(5):
    begin = time.perf_counter()
    product(a).block_until_ready()
    seconds.append(time.perf_counter() - begin)
  devices = 1 if jax.default_backend() == 'cpu' else jax.device_count()
  return devices * 2 * width**3 / min(seconds)
