"""What training carries from step to step."""

from collections.abc import Callable
import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from training import sharding

Params = Any
Batch = dict[str, jax.Array]


class TrainState(NamedTuple):
  """Parameters, optimizer state and the number of updates made."""

  step: jax.Array
  params: Params
  opt_state: Any


@dataclasses.dataclass(frozen=True)
class Task:
  """All that training knows of what it trains.

  Attributes:
    init: key -> parameters.
    loss: (params, batch, key) -> (scalar, metrics), on the global batch.
    key: decides initial parameters and every step's randomness.
  """

  init: Callable[[jax.Array], Params]
  loss: Callable[[Params, Batch, jax.Array], tuple[jax.Array, dict[str, jax.Array]]]
  key: jax.Array


def abstract_state(
  task: Task, optimizer: optax.GradientTransformation, mesh: jax.sharding.Mesh
) -> TrainState:
  """Shapes, dtypes and shardings of the state, without allocating it."""
  shapes = jax.eval_shape(_build(task, optimizer), task.key)
  shardings = sharding.tree_shardings(shapes, mesh)
  return jax.tree.map(
    lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, shardings
  )


def init_state(
  task: Task, optimizer: optax.GradientTransformation, mesh: jax.sharding.Mesh
) -> TrainState:
  """The state at step 0, parameters and optimizer state made sharded in one jit."""
  build = _build(task, optimizer)
  shardings = sharding.tree_shardings(jax.eval_shape(build, task.key), mesh)
  return jax.jit(build, out_shardings=shardings)(task.key)


def _build(task: Task, optimizer: optax.GradientTransformation) -> Callable[..., TrainState]:
  def build(key: jax.Array) -> TrainState:
    # The first key of the split is the parameters' alone: equal seeds give equal parameters
    # whatever the objective draws during training.
    params = task.init(jax.random.split(key)[0])
    return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params))

  return build


def make_update(
  task: Task, optimizer: optax.GradientTransformation, clip_norm: float
) -> Callable[[TrainState, Batch], tuple[TrainState, dict[str, jax.Array]]]:
  """One update: state and global batch -> new state and metrics."""

  def update(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, jax.Array]]:
    key = jax.random.fold_in(jax.random.split(task.key)[1], state.step)
    grad = jax.grad(task.loss, has_aux=True)
    gradients, metrics = grad(state.params, batch, key)
    norm = optax.global_norm(gradients)
    updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    metrics = {**metrics, 'gradient_norm': norm, 'clipped': norm > clip_norm}
    return TrainState(state.step + 1, params, opt_state), metrics

  return update


def count(params: Params) -> int:
  """Number of scalars in a parameter tree."""
  return sum(leaf.size for leaf in jax.tree.leaves(params))
