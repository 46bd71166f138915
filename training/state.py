"""What training carries from step to step."""

from collections.abc import Callable
import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from training import optimizer as optimizer_lib
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
    draw: (key, rows, progress) -> what each row of a global batch has beside its data, joined to
      the batch; progress of training runs from 0 to 1.
    loss: (params, batch) -> (scalar, metrics), means over the rows; 'scored' is a sum.
    key: decides initial parameters and every step's randomness.
    decayed: names of the parameters that weight decay is for.
    unclipped: names of those outside the clip norm.
  """

  init: Callable[[jax.Array], Params]
  draw: Callable[[jax.Array, int, jax.Array | float], Batch]
  loss: Callable[[Params, Batch], tuple[jax.Array, dict[str, jax.Array]]]
  key: jax.Array
  decayed: tuple[str, ...] = ()
  unclipped: tuple[str, ...] = ()


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
  task: Task,
  optimizer: optax.GradientTransformation,
  clip_norm: float,
  microbatches: int = 1,
  steps: int | None = None,
) -> Callable[[TrainState, Batch], tuple[TrainState, dict[str, jax.Array]]]:
  """One update: state and global batch -> new state and metrics.

  With `microbatches` the gradient is the mean over that many parts, one after the other, each of
  which takes an equal number of rows from every device. Every row keeps its randomness, so the
  update is the same but for rounding, where the loss is a mean over rows and nothing else.

  `steps` is the length of the training that progress is counted in; None is no such length, as in
  fine-tuning, and progress is 1.
  """

  def update(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, jax.Array]]:
    key = jax.random.fold_in(jax.random.split(task.key)[1], state.step)
    progress = 1.0 if steps is None else state.step / steps
    batch = {**batch, **task.draw(key, jax.tree.leaves(batch)[0].shape[0], progress)}
    gradients, metrics = _gradients(task.loss, state.params, batch, microbatches)
    norm = optimizer_lib.clipped_norm(gradients, task.unclipped)
    updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    metrics = {**metrics, 'gradient_norm': norm, 'clipped': norm > clip_norm}
    return TrainState(state.step + 1, params, opt_state), metrics

  return update


def _gradients(
  loss: Callable[..., Any], params: Params, batch: Batch, microbatches: int
) -> tuple[Params, dict[str, jax.Array]]:
  """Gradients and metrics of a batch: means over microbatches, 'scored' summed."""
  grad = jax.grad(loss, has_aux=True)
  if microbatches == 1:
    return grad(params, batch)

  def part(x: jax.Array) -> jax.Array:
    # Neighbouring rows live on one device and go to different parts: no row moves.
    rows = x.reshape(x.shape[0] // microbatches, microbatches, *x.shape[1:])
    return jnp.moveaxis(rows, 1, 0)

  def add(total: Any, microbatch: Batch) -> tuple[Any, None]:
    return jax.tree.map(jnp.add, total, grad(params, microbatch)), None

  parts = jax.tree.map(part, batch)
  first = jax.tree.map(lambda x: x[0], parts)
  zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(grad, params, first))
  (gradients, metrics), _ = jax.lax.scan(add, zeros, parts)
  means = jax.tree.map(lambda x: x / microbatches, (gradients, metrics))
  if 'scored' in metrics:
    means[1]['scored'] = metrics['scored']
  return means


@jax.jit
def _all_finite(tree: Any) -> jax.Array:
  # One number a leaf, so that devices exchange scalars.
  leaves = [x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.inexact)]
  return jnp.all(jnp.asarray([jnp.all(jnp.isfinite(x)) for x in leaves]))


def is_finite(state: TrainState) -> bool:
  """Whether all parameters and all of the optimizer's state are; all processes must ask."""
  return bool(_all_finite(state))


def count(params: Params) -> int:
  """Number of scalars in a parameter tree."""
  return sum(leaf.size for leaf in jax.tree.leaves(params))
