"""The one training loop, for every objective and every data set."""

from collections.abc import Callable, Sequence
import dataclasses
import math
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tqdm

from training import distributed, preemption, profile, sharding
from training import optimizer as optimizer_lib
from training import state as state_lib
from training.checkpoint import Checkpoints
from training.clock import Clock
from training.errors import Preempted, TrainingError
from training.metrics import MetricsWriter
from training.schedule import Schedule
from training.state import Task, TrainState


@dataclasses.dataclass
class Counters:
  """What the loop has counted; saved with every checkpoint, so that a resumed run goes on."""

  wall_seconds: float = 0.0
  tokens_scored: int = 0
  clipped_steps: int = 0
  best_loss: float | None = None
  best_step: int | None = None
  validation: dict[str, float] = dataclasses.field(default_factory=dict)
  train: dict[str, float] = dataclasses.field(default_factory=dict)
  # Metrics of the steps since the last row that was written.
  window: list[dict[str, float]] = dataclasses.field(default_factory=list)
  # Whether the run was stopped before everything due at this step was measured.
  unmeasured: bool = False


@dataclasses.dataclass(frozen=True)
class Costs:
  """What one step costs: tokens the global batch holds and analytic FLOPs.

  `tokens_before` and `flops_before` went into the weights that training starts from.
  """

  tokens: int
  flops: float
  tokens_before: int = 0
  flops_before: float = 0.0


@dataclasses.dataclass(frozen=True)
class Evaluator:
  """Something that is measured during training.

  Attributes:
    schedule: when.
    evaluate: (parameters, step) -> scalars, and pictures (HxW uint8), by name.
  """

  schedule: Schedule
  evaluate: Callable[[Any, int], dict[str, Any]]


def restore_or_init(
  task: Task,
  config: Any,
  checkpoints: Checkpoints,
  mesh: jax.sharding.Mesh,
  restore_step: int | None = None,
  begin: Callable[[TrainState], TrainState] = lambda state: state,
) -> tuple[TrainState, Counters]:
  """The newest checkpoint (or that of `restore_step`), else what `begin` makes of a fresh state."""
  optimizer = optimizer_lib.for_task(task, config.optimizer, config.training.steps)
  if restore_step is None and not checkpoints.steps():
    return begin(state_lib.init_state(task, optimizer, mesh)), Counters()
  abstract = state_lib.abstract_state(task, optimizer, mesh)
  state, counters = checkpoints.restore(abstract, restore_step)
  checkpoints.set_aside_after(int(state.step))
  return state, Counters(**counters)


# What devices ask of each other; of several answers the largest counts.
_SAVE, _STOP = 1, 2


def _asking(update: Callable[..., Any]) -> Callable[..., Any]:
  """`update` with a third argument, by which any device asks all of them to save or to stop.

  The answer comes back as a metric of the step: every process reads it at the same step, and none
  waits for another to ask.
  """

  def step(state: TrainState, batch: Any, asked_N: jax.Array) -> tuple[TrainState, dict]:
    state, metrics = update(state, batch)
    return state, {**metrics, 'asked': jnp.max(asked_N)}

  return step


def make_step(task: Task, config: Any) -> Any:
  """The jitted step: (state, batch, asked) -> (state, metrics); the state's buffers are reused."""
  settings = config.training
  optimizer = optimizer_lib.for_task(task, config.optimizer, settings.steps)
  update = state_lib.make_update(
    task, optimizer, config.optimizer.clip_norm, settings.microbatches, settings.steps
  )
  return jax.jit(_asking(update), donate_argnums=0)


def train(
  task: Task,
  config: Any,
  batches: Any,
  state: TrainState,
  counters: Counters,
  costs: Costs,
  checkpoints: Checkpoints,
  writer: MetricsWriter,
  evaluators: Sequence[Evaluator],
  saving: Schedule,
  mesh: jax.sharding.Mesh,
  tracer: profile.Tracer | None = None,
) -> TrainState:
  """Trains until `config.training.steps`.

  Args:
    task: what to train.
    config: with `training` and `optimizer`.
    batches: `rows(step, rows)` gives these rows of a global batch.
    state: where to begin; its buffers are reused.
    counters: go on from here; updated in place.
    costs: of one step.
    checkpoints: saved when `saving` says, at the lowest validation loss and on request to stop.
    writer: gets a row every `log_every` steps and at every evaluation.
    evaluators: what is measured along the way. The one that gives 'validation/loss' decides which
      checkpoint is the best.
    saving: when to save.
    mesh: where everything lives.
    tracer: told of every step before it starts and after it was dispatched.

  Raises:
    TrainingError: a loss or gradient is not finite; no checkpoint of such a state is written.
    Preempted: a stop was requested; the state is saved.
  """
  update, rows = make_step(task, config), sharding.local_rows(config.training.batch_size, mesh)
  begin = int(state.step)
  with _Log(config, counters, costs, checkpoints, writer, evaluators, saving, begin) as log:
    if begin == 0 or counters.unmeasured:
      log.evaluate(begin, state)
    for step in range(begin + 1, config.training.steps + 1):
      if tracer:
        tracer.before(step)
      with log.clock.making_input():
        batch = sharding.place_batch(batches.rows(step - 1, rows), mesh)
        asked = sharding.place_flag(log.asks(), mesh)
      state, metrics = update(state, batch, asked)
      preemption.defer()  # From the first step on there is something to save.
      if tracer:
        tracer.after(step, metrics)
      # The device works on this step while the host deals with the one before.
      if log.follow(step, metrics) == _STOP:
        log.stop(step, state)
      log.evaluate(step, state)
  return state


class _Log:
  """What a run says, measures and saves while it trains."""

  def __init__(self, config, counters, costs, checkpoints, writer, evaluators, saving, begin):
    self._settings, self._counters, self._costs = config.training, counters, costs
    self._checkpoints, self._writer = checkpoints, writer
    self._evaluators, self._saving = evaluators, saving
    steps = self._settings.steps
    # All at once, so that no log entry compiles anything.
    schedule = optimizer_lib.schedule(config.optimizer, steps)
    self._rates_S = np.asarray(jax.jit(jax.vmap(schedule))(np.arange(steps)))
    self._begin = begin
    self._running: list[tuple[int, dict[str, jax.Array]]] = []
    self._answer = 0
    self._saved = time.monotonic()
    self.clock = Clock(counters)
    hidden = None if distributed.is_primary() else True
    self._bar = tqdm.tqdm(
      total=steps, initial=begin, desc='train', unit='step', leave=False, disable=hidden
    )

  def __enter__(self) -> '_Log':
    return self

  def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
    self._bar.close()
    if kind is None:
      self._checkpoints.wait()
      self._writer.flush()

  def asks(self) -> int:
    """What this process wants of all of them."""
    if preemption.asked_here():
      return _STOP
    passed = time.monotonic() - self._saved
    late = self._saving.minutes and passed > 60 * self._saving.minutes
    return _SAVE if late and distributed.is_primary() else 0

  def follow(self, step: int, metrics: dict[str, jax.Array]) -> int:
    """Takes a step that was dispatched; waits for the one before it. Returns what was asked."""
    self._running.append((step, metrics))
    self.clock.steps += 1
    self._fetch(keep=1)
    if (step - 1) % self._settings.log_every == 0:
      self._checkpoints.check()
      self._row(step - 1)
    self._bar.update()
    return self._answer

  def evaluate(self, step: int, state: TrainState) -> None:
    """Runs every evaluator that is due, then saves if that is due."""
    steps = self._settings.steps
    due = [one for one in self._evaluators if one.schedule.due(step, steps)]
    best = False
    if due:
      self._fetch(keep=0)
      self._row(step)
      found: dict[str, Any] = {}
      try:
        with preemption.at_once():
          for one in due:
            found |= one.evaluate(state.params, step)
      except Preempted as stop:
        if step == self._begin:
          raise  # Nothing was computed that is not saved already.
        self.stop(step, state, stop)
      best = self._best(step, found)
      self._writer.write(step, found, **self._columns(step))
    self._counters.unmeasured = False
    save = self._saving.due(step, steps) or self._answer == _SAVE
    if save or best:
      self._save(step, state, last=save, best=best)
    if due:
      self.clock.start_window()

  def stop(self, step: int, state: TrainState, asked: Preempted | None = None) -> None:
    """Saves and raises Preempted; what is due at this step is measured when the run goes on."""
    self._fetch(keep=0)
    steps, counters = self._settings.steps, self._counters
    counters.unmeasured = any(one.schedule.due(step, steps) for one in self._evaluators)
    if step % self._settings.log_every == 0 or counters.unmeasured:
      # Due now: later every process that goes on from this checkpoint would write it.
      self._row(step)
    self._save(step, state, last=True, best=False)
    self._checkpoints.wait()
    raise asked or Preempted(preemption.MESSAGE)

  def _best(self, step: int, found: dict[str, Any]) -> bool:
    """Whether this is the lowest validation loss so far; remembers it.

    Raises:
      TrainingError: it is not finite, though every loss of training was.
    """
    loss = found.get('validation/loss')
    if loss is None:
      return False
    if not math.isfinite(loss):
      raise TrainingError(
        f'step {step}: validation/loss is {loss} (learning rate {self._rate(step):.3g}); lower '
        'optimizer.learning_rate; the last good checkpoint is untouched'
      )
    counters = self._counters
    counters.validation = {k: v for k, v in found.items() if k.startswith('validation/')}
    best = counters.best_loss is None or loss < counters.best_loss
    if best:
      counters.best_loss, counters.best_step = loss, step
    return best

  def _save(self, step: int, state: TrainState, *, last: bool, best: bool) -> None:
    self._fetch(keep=0)
    self._writer.flush()
    self.clock.stop()
    self._checkpoints.save(state, step, dataclasses.asdict(self._counters), last=last, best=best)
    self._answer, self._saved = 0, time.monotonic()

  def _fetch(self, keep: int) -> None:
    """Waits for all running steps but the newest `keep`.

    Raises:
      TrainingError: a loss or a gradient is not finite.
    """
    while len(self._running) > keep:
      step, metrics = self._running.pop(0)
      with distributed.waiting(f'step {step}'):
        values = {name: np.asarray(value).item() for name, value in metrics.items()}
      for name in ('loss', 'gradient_norm'):
        if not math.isfinite(values[name]):
          raise TrainingError(
            f'step {step}: {name} is {values[name]} (loss {values["loss"]:.4g}, gradient norm '
            f'{values["gradient_norm"]:.4g}, learning rate {self._rate(step):.3g}); '
            'lower optimizer.learning_rate or optimizer.clip_norm; '
            'the last good checkpoint is untouched'
          )
      self._counters.tokens_scored += int(values.pop('scored'))
      self._counters.clipped_steps += int(values.pop('clipped'))
      self._answer = max(self._answer, values.pop('asked'))
      self._counters.window.append(values)

  def _rate(self, step: int) -> float:
    """The learning rate of the update that made `step`; that of the first before it."""
    return float(self._rates_S[max(step, 1) - 1])

  def _columns(self, step: int) -> dict[str, float]:
    tokens = self._costs.tokens_before + step * self._costs.tokens
    flops = self._costs.flops_before + step * self._costs.flops
    return {'tokens': tokens, 'flops': flops, 'wall': self.clock.total()}

  def _row(self, step: int) -> None:
    """Writes the mean over the steps since the last row, if there are any, and shows it."""
    rows = self._counters.window
    if not rows:
      return
    means = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    rows.clear()
    rate = self.clock.steps * self._costs.tokens / self.clock.window_seconds()
    scalars = {f'train/{name}': value for name, value in means.items() if name != 'gradient_norm'}
    self._counters.train = scalars
    about = {
      'gradient_norm': means['gradient_norm'],
      'learning_rate': self._rate(step),
      'tokens_per_second': rate,
      'input_fraction': self.clock.input_fraction(),
      'clipped_fraction': self._counters.clipped_steps / step,
    }
    self.clock.start_window()
    self._writer.write(step, scalars | about, **self._columns(step))
    shown = {'loss': f'{means["loss"]:.3f}', 'tok/s': f'{rate:,.0f}'}
    if 'bits_per_dim' in means:
      shown = {'bits/dim': f'{means["bits_per_dim"]:.3f}', **shown}
    self._bar.set_postfix(shown, refresh=False)
