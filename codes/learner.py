"""A network that learns from what has been coded, the same way wherever it is done again.

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

  def total_updates(self, examples: int) -> int:
    """For so many examples."""
    return max(0, -(-examples // self.chunk) - 1) * self.updates

  def rows(self, update: int, seen: int) -> np.ndarray:
    """Which of the `seen` examples update number `update` (from 0) takes, (batch,)."""
    if self.replay:
      return np.random.default_rng((self.seed, update)).integers(0, seen, self.batch)
    newest = (seen - 1) % self.chunk + 1
    first = update % max(self.updates, 1) * self.batch
    return seen - newest + (first + np.arange(self.batch)) % newest


class Learner:
  """Parameters on their way.

  Args:
    task: what is learnt; `Task` of training.
    optimizer: config section of that name; its learning rate falls over all updates.
    schedule: see there.
    examples: that will be coded in all.
  """

  def __init__(self, task: state_lib.Task, optimizer: Any, schedule: Schedule, examples: int):
    self.schedule = schedule
    self._task = task
    total = schedule.total_updates(examples)
    self._optimizer = optimizer_lib.for_task(task, optimizer, total)
    # One device: a code must not depend on how many there are.
    self._mesh = jax.make_mesh(
      (1,), ('data',), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices()[:1]
    )
    update = state_lib.make_update(task, self._optimizer, optimizer.clip_norm)
    self._update = jax.jit(update, donate_argnums=0)
    self.reset()

  def reset(self) -> None:
    """Forgets everything."""
    self._state = state_lib.init_state(self._task, self._optimizer, self._mesh)
    self._done = 0

  @property
  def params(self) -> Any:
    return self._state.params

  def learn(self, seen: dict[str, np.ndarray]) -> None:
    """The updates that follow a chunk; `seen` holds all examples so far, by name."""
    count = len(next(iter(seen.values())))
    metrics = None
    for _ in range(self.schedule.updates):
      rows = self.schedule.rows(self._done, count)
      batch = sharding.place_batch({k: v[rows] for k, v in seen.items()}, self._mesh)
      # The device works on one update while the host makes the next batch, and no further.
      jax.block_until_ready(metrics)
      self._state, metrics = self._update(self._state, batch)
      self._done += 1
    if metrics is not None and not np.isfinite(float(metrics['loss'])):
      raise ValueError(
        f'the loss of update {self._done} is not finite: lower optimizer.learning_rate'
      )
