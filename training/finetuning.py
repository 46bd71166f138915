"""Many short trainings from one set of parameters, each a pure function of its arguments.

The update is the training loop's; what is left out of the loop is what a fit of seconds does not
need: checkpoints, logs and a schedule that decays (early stop takes its place).
"""

from collections.abc import Callable, Collection, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax

from training import evaluation, keys, preemption, sharding
from training import optimizer as optimizer_lib
from training import state as state_lib
from training.state import Task, TrainState


def make_optimizer(
  config: Any,
  weight_decay: float,
  warmup: int,
  decayed: Collection[str],
  unclipped: Collection[str] = (),
) -> optax.GradientTransformation:
  """AdamW as in training, at a rate held in its state, constant after the warm-up.

  One compiled update serves every learning rate.
  """
  settings = ml_collections.ConfigDict(
    {
      **config.to_dict(),
      'learning_rate': 1.0,
      'weight_decay': weight_decay,
      'warmup_steps': warmup,
      'end_fraction': 1.0,
    }
  )
  # Cosine from 1 to 1: constant for as long as training may last.
  constant = optimizer_lib.make_optimizer(settings, 2**30, decayed, unclipped)
  return optax.chain(constant, optax.inject_hyperparams(optax.scale)(step_size=1.0))


def order_of_rows(count: int, batch_size: int, steps: int, seed: Sequence[int]) -> np.ndarray:
  """Indices (steps, batch_size) below `count`: a new random order every epoch, without gaps."""
  rng = np.random.default_rng(tuple(seed))
  epochs = -(-steps * batch_size // count)
  order = np.concatenate([rng.permutation(count) for _ in range(epochs)])
  return order[: steps * batch_size].reshape(steps, batch_size)


class Fits:
  """Fine-tunes copies of `params`.

  Args:
    params: what every fit starts from.
    optimizer: of `make_optimizer`.
    draw: (key, rows) -> what each row of a batch has of its own.
    loss: (params, batch) -> (scalar, metrics).
    predict: (params, batch) -> rows of outputs.
    clip_norm: of gradients.
    mesh: where everything lives.
    predict_batch: rows predicted at a time.
  """

  def __init__(
    self,
    params: Any,
    optimizer: optax.GradientTransformation,
    draw: Callable[..., Any],
    loss: Callable[..., Any],
    predict: Callable[..., jax.Array],
    clip_norm: float,
    mesh: jax.sharding.Mesh,
    predict_batch: int,
  ):
    self._mesh, self._predict_batch = mesh, predict_batch
    shardings = sharding.tree_shardings(params, mesh)
    self._params = jax.tree.map(jax.device_put, params, shardings)
    shapes = jax.eval_shape(optimizer.init, self._params)
    placed = sharding.tree_shardings(shapes, mesh)
    self._init = jax.jit(optimizer.init, out_shardings=placed)
    self._predict = jax.jit(predict, out_shardings=sharding.replicated(mesh))

    def update(state: TrainState, batch: Any, key: jax.Array) -> tuple[TrainState, Any]:
      task = Task(init=lambda _: params, draw=draw, loss=loss, key=key)
      return state_lib.make_update(task, optimizer, clip_norm)(state, batch)

    self._update = jax.jit(update, donate_argnums=0)

  def fit(
    self,
    arrays: dict[str, np.ndarray],
    *,
    learning_rate: float,
    at: Sequence[int],
    ask: dict[str, np.ndarray],
    batch_size: int,
    seed: Sequence[int],
  ) -> np.ndarray:
    """Outputs (len(at), rows of `ask`, ...) after `at` updates on batches of `arrays`.

    Raises:
      Preempted: a stop was requested.
    """
    count = len(next(iter(arrays.values())))
    size = min(batch_size, count)
    size += -size % self._mesh.size
    order = order_of_rows(count, size, at[-1], seed)
    opt_state = self._init(self._params)
    rate = opt_state[-1].hyperparams
    rate['step_size'] = jax.device_put(
      np.asarray(learning_rate, rate['step_size'].dtype), rate['step_size'].sharding
    )
    step = jax.device_put(np.int32(0), sharding.replicated(self._mesh))
    # A copy: updates reuse the buffers of their state.
    state = TrainState(step, jax.tree.map(jnp.copy, self._params), opt_state)
    key = keys.key(int(np.random.SeedSequence(tuple(seed)).generate_state(1)[0]))
    owned = sharding.local_rows(size, self._mesh)
    outputs, before = [], None
    for done, rows in enumerate(order, 1):
      preemption.check()
      local = {name: values[rows[owned]] for name, values in arrays.items()}
      state, metrics = self._update(state, sharding.place_batch(local, self._mesh), key)
      # The device works on this step while the host makes the next batch, and no further.
      jax.block_until_ready(before)
      before = metrics
      if done in at:
        outputs.append(self._outputs(state.params, ask))
    return np.stack(outputs)

  def _outputs(self, params: Any, ask: dict[str, np.ndarray]) -> np.ndarray:
    return evaluation.over_split(
      lambda batch: self._predict(params, batch), ask, self._predict_batch, self._mesh
    )
