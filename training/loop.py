"""The one training loop, for every objective and every data set."""

from collections.abc import Callable, Iterator
import contextlib
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
from training.errors import Preempted, TrainingError
from training.metrics import MetricsWriter
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


@dataclasses.dataclass(frozen=True)
class Costs:
  """What one step costs: tokens the global batch holds and analytic FLOPs."""

  tokens: int
  flops: float


def restore_or_init(
  task: Task,
  config: Any,
  checkpoints: Checkpoints,
  mesh: jax.sharding.Mesh,
  restore_step: int | None = None,
) -> tuple[TrainState, Counters]:
  """The newest checkpoint (or that of `restore_step`), else a fresh state."""
  optimizer = optimizer_lib.make_optimizer(config.optimizer, config.training.steps)
  if restore_step is None and not checkpoints.steps():
    return state_lib.init_state(task, optimizer, mesh), Counters()
  abstract = state_lib.abstract_state(task, optimizer, mesh)
  state, counters = checkpoints.restore(abstract, restore_step)
  checkpoints.set_aside_after(int(state.step))
  return state, Counters(**counters)


def _stoppable(update: Callable[..., Any]) -> Callable[..., Any]:
  """`update` with a third argument, by which any device asks all of them to stop.

  The answer comes back as a metric of the step: every process reads it at the same step, and none
  waits for another to ask.
  """

  def step(state: TrainState, batch: Any, stop_N: jax.Array) -> tuple[TrainState, dict]:
    state, metrics = update(state, batch)
    return state, {**metrics, 'stop': jnp.max(stop_N)}

  return step


def make_step(task: Task, config: Any) -> Any:
  """The jitted step: (state, batch, flags) -> (state, metrics); the state's buffers are reused."""
  optimizer = optimizer_lib.make_optimizer(config.optimizer, config.training.steps)
  update = state_lib.make_update(
    task, optimizer, config.optimizer.clip_norm, config.training.microbatches
  )
  return jax.jit(_stoppable(update), donate_argnums=0)


class _Window:
  """Metrics of steps that are still running; those of finished ones go to the counters."""

  def __init__(self, counters: Counters, rates_S: np.ndarray):
    self.running: list[tuple[int, dict[str, jax.Array]]] = []
    self.stop = False
    self._counters = counters
    self._rates_S = rates_S

  def fetch(self, keep: int) -> None:
    """Waits for all running steps but the newest `keep`.

    Raises:
      TrainingError: a loss or a gradient is not finite.
    """
    while len(self.running) > keep:
      step, metrics = self.running.pop(0)
      values = {name: np.asarray(value).item() for name, value in metrics.items()}
      for name in ('loss', 'gradient_norm'):
        if not math.isfinite(values[name]):
          raise TrainingError(
            f'step {step}: {name} is {values[name]} (loss {values["loss"]:.4g}, gradient norm '
            f'{values["gradient_norm"]:.4g}, learning rate {self._rates_S[step - 1]:.3g}); '
            'lower optimizer.learning_rate or optimizer.clip_norm; '
            'the last good checkpoint is untouched'
          )
      self._counters.tokens_scored += int(values.pop('scored'))
      self._counters.clipped_steps += int(values.pop('clipped'))
      self.stop |= values.pop('stop') > 0
      self._counters.window.append(values)

  def mean(self) -> dict[str, float]:
    """Mean of the fetched metrics since the last call."""
    rows = self._counters.window
    means = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    rows.clear()
    return means


def train(
  task: Task,
  config: Any,
  batches: Any,
  state: TrainState,
  counters: Counters,
  costs: Costs,
  checkpoints: Checkpoints,
  writer: MetricsWriter,
  evaluate: Callable[[Any, int], dict[str, float]],
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
    checkpoints: saved at every evaluation, at the end and on request to stop.
    writer: gets a row every `log_every` steps and every evaluation.
    evaluate: (params, step) -> scalars, with 'validation/loss' among them.
    mesh: where everything lives.
    tracer: told of every step before it starts and after it was dispatched.

  Raises:
    TrainingError: a loss or gradient is not finite; no checkpoint of such a state is written.
    Preempted: a stop was requested; the state is saved.
  """
  settings = config.training
  schedule = optimizer_lib.schedule(config.optimizer, settings.steps)
  # All at once, so that no log entry compiles anything.
  rates_S = np.asarray(jax.jit(jax.vmap(schedule))(np.arange(settings.steps)))
  update = make_step(task, config)
  rows = sharding.local_rows(settings.batch_size, mesh)
  window = _Window(counters, rates_S)
  clock = _Clock(counters)
  begin = int(state.step)
  bar = tqdm.tqdm(
    total=settings.steps,
    initial=begin,
    desc='train',
    unit='step',
    leave=False,
    disable=None if distributed.is_primary() else True,
  )

  def columns(step: int) -> dict[str, float]:
    return {'tokens': step * costs.tokens, 'flops': step * costs.flops, 'wall': clock.total()}

  def evaluate_and_save(step: int) -> None:
    window.fetch(keep=0)
    scalars = evaluate(state.params, step)
    loss = scalars['validation/loss']
    best = counters.best_loss is None or loss < counters.best_loss
    if best:
      counters.best_loss, counters.best_step = loss, step
    counters.validation = scalars
    writer.write(step, scalars, **columns(step))
    writer.flush()
    clock.stop()
    checkpoints.save(state, step, dataclasses.asdict(counters), best=best)

  if begin == 0:
    evaluate_and_save(0)
  clock.start_window()
  for step in range(begin + 1, settings.steps + 1):
    if tracer:
      tracer.before(step)
    with clock.making_input():
      batch = sharding.place_batch(batches.rows(step - 1, rows), mesh)
      stop = sharding.place_flag(preemption.asked_here(), mesh)
    state, metrics = update(state, batch, stop)
    window.running.append((step, metrics))
    if tracer:
      tracer.after(step, metrics)
    clock.steps += 1
    # The device works on this step while the host deals with the one before.
    window.fetch(keep=1)
    if (step - 1) % settings.log_every == 0 and counters.window:
      _log(step - 1, window, counters, writer, clock, costs, rates_S, columns, bar)
    bar.update()
    if window.stop:
      window.fetch(keep=0)
      if step % settings.log_every == 0 and counters.window:
        # Due now: later every process that goes on from this checkpoint would write it.
        _log(step, window, counters, writer, clock, costs, rates_S, columns, bar)
      writer.flush()
      clock.stop()
      checkpoints.save(state, step, dataclasses.asdict(counters), best=False)
      checkpoints.wait()
      raise Preempted(preemption.MESSAGE)
    due = step % settings.evaluate_every == 0 or step in settings.evaluate_at
    if due or step == settings.steps:
      window.fetch(keep=0)
      if counters.window:
        _log(step, window, counters, writer, clock, costs, rates_S, columns, bar)
      evaluate_and_save(step)
      clock.start_window()
  bar.close()
  checkpoints.wait()
  writer.flush()
  return state


class _Clock:
  """Wall time over all sessions of a run, and tokens per second over the last window."""

  def __init__(self, counters: Counters):
    self._counters = counters
    self._mark = time.monotonic()
    self.start_window()

  def start_window(self) -> None:
    self._window = time.monotonic()
    self._input = 0.0
    self.steps = 0

  def window_seconds(self) -> float:
    return max(time.monotonic() - self._window, 1e-9)

  @contextlib.contextmanager
  def making_input(self) -> Iterator[None]:
    start = time.monotonic()
    yield
    self._input += time.monotonic() - start

  def input_fraction(self) -> float:
    """Share of the window in which the host made batches: the device waited for no more of it."""
    return self._input / self.window_seconds()

  def total(self) -> float:
    return self._counters.wall_seconds + time.monotonic() - self._mark

  def stop(self) -> None:
    """Moves the time so far into the counters."""
    self._counters.wall_seconds = self.total()
    self._mark = time.monotonic()


def _log(step, window, counters, writer, clock, costs, rates_S, columns, bar) -> None:
  """Writes the mean over the window's steps and shows it on the bar."""
  means = window.mean()
  rate = clock.steps * costs.tokens / clock.window_seconds()
  input_fraction = clock.input_fraction()
  clock.start_window()
  scalars = {f'train/{name}': value for name, value in means.items() if name != 'gradient_norm'}
  counters.train = scalars
  writer.write(
    step,
    {
      **scalars,
      'gradient_norm': means['gradient_norm'],
      'learning_rate': float(rates_S[step - 1]),
      'tokens_per_second': rate,
      'input_fraction': input_fraction,
      'clipped_fraction': counters.clipped_steps / step,
    },
    **columns(step),
  )
  shown = {'loss': f'{means["loss"]:.3f}', 'tok/s': f'{rate:,.0f}'}
  if 'bits_per_dim' in means:
    shown = {'bits/dim': f'{means["bits_per_dim"]:.3f}', **shown}
  bar.set_postfix(shown, refresh=False)
