"""A network that learns from what has been coded, the same way wherever it is done again.

It starts from nothing or from given parameters.

Every update is a function of the seed, its number and the examples so far, so that a decoder that
has them makes the same updates, to the last bit on the same machine with the same versions.
"""

import dataclasses
from typing import Any

import jax
import numpy as np

from training import optimizer as optimizer_lib
from training import sharding
from training import state as state_lib


@dataclasses.dataclass(frozen=True)
class Schedule:
  """When a learner learns, and from what.

  Attributes:
    chunk: examples that are coded with the same parameters.
    updates: made after every chunk but the last.
    batch: examples of an update.
    replay: whether an update draws from all examples so far, or takes the newest chunk's in turn.
    seed: of initial parameters and of the draws.
  """

  chunk: int
  updates: int
  batch: int
  replay: bool
  seed: int

  def __post_init__(self):
    for name, least in (('chunk', 1), ('updates', 0), ('batch', 1), ('seed', 0)):
      if getattr(self, name) < least:
        raise ValueError(f'{name} must be at least {least}, not {getattr(self, name)}')

  def due(self, seen: int) -> int:
    """Updates that have been made once so many examples are seen."""
    return seen * self.updates // self.chunk

  def total_updates(self, examples: int) -> int:
    """For so many examples."""
    return max(0, -(-examples // self.chunk) - 1) * self.updates

  def rows(self, update: int, seen: int, newest: int | None = None) -> np.ndarray:
    """Which of the `seen` examples update number `update` (from 0) takes, (batch,).

    `newest` is how many examples the last batch had; None for whole chunks and a last one.
    """
    if self.replay:
      return np.random.default_rng((self.seed, update)).integers(0, seen, self.batch)
    newest = (seen - 1) % self.chunk + 1 if newest is None else newest
    first = update % max(self.updates, 1) * self.batch
    return seen - newest + (first + np.arange(self.batch)) % newest


class Learner:
  """Parameters on their way.

  Args:
    task: what is learnt; `Task` of training.
    optimizer: config section of that name; its learning rate falls over all updates.
    schedule: see there.
    examples: that will be coded in all.
    average: how many updates a moving average of the parameters reaches back, which predicts in
      their place; 0 for none.
    start: parameters to begin with; None for fresh ones.
  """

  def __init__(
    self,
    task: state_lib.Task,
    optimizer: Any,
    schedule: Schedule,
    examples: int,
    average: int = 0,
    start: Any = None,
  ):
    self.schedule, self._reach, self._start = schedule, average, start
    self._task = task
    total = schedule.total_updates(examples)
    self._optimizer = optimizer_lib.for_task(task, optimizer, total)
    # One device: a code must not depend on how many there are.
    self._mesh = jax.make_mesh(
      (1,), ('data',), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices()[:1]
    )
    update = state_lib.make_update(task, self._optimizer, optimizer.clip_norm)
    self._update = jax.jit(update, donate_argnums=0)
    self._blend = jax.jit(
      lambda mean, new, part: jax.tree.map(lambda m, n: m + part * (n - m), mean, new)
    )
    self.reset()

  def reset(self) -> None:
    """Forgets everything."""
    self._state = state_lib.init_state(self._task, self._optimizer, self._mesh)
    if self._start is not None:
      # Copies, as below.
      begun = jax.tree.map(
        lambda fresh, own: jax.device_put(jax.numpy.array(own), fresh.sharding),
        self._state.params,
        self._start,
      )
      self._state = self._state._replace(params=begun)
    self._done = 0
    # A copy: an update gives the memory of the old parameters away.
    self._mean = jax.tree.map(jax.numpy.copy, self._state.params) if self._reach else None

  @property
  def params(self) -> Any:
    """What predicts."""
    return self._mean if self._reach else self._state.params

  def update(self, rows: dict[str, np.ndarray]) -> dict[str, jax.Array]:
    """One update from these rows; its metrics."""
    batch = sharding.place_batch(rows, self._mesh)
    self._state, metrics = self._update(self._state, batch)
    self._done += 1
    if self._reach:
      # Over all updates while they are few: the first parameters are forgotten soon.
      part = np.float32(max(1 / self._reach, 9 / (9 + self._done)))
      self._mean = self._blend(self._mean, self._state.params, part)
    return metrics

  def learn(
    self, seen: dict[str, np.ndarray], newest: int | None = None, most: int | None = None
  ) -> None:
    """The updates that follow a chunk, at most `most`; `seen` holds all examples by name."""
    count = len(next(iter(seen.values())))
    metrics = None
    due = self.schedule.due(count)
    for _ in range(self._done, due if most is None else min(due, self._done + most)):
      rows = self.schedule.rows(self._done, count, newest)
      # The device works on one update while the host makes the next batch, and no further.
      jax.block_until_ready(metrics)
      metrics = self.update({name: values[rows] for name, values in seen.items()})
    if metrics is not None and not np.isfinite(float(metrics['loss'])):
      raise ValueError(
        f'the loss of update {self._done} is not finite: lower optimizer.learning_rate'
      )
