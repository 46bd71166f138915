"""Orbax checkpoints: the last two, and the best by the objective's own validation loss."""

import asyncio
from collections.abc import Iterator
import contextlib
import logging
import os
import re
from typing import Any

from absl import logging as absl_logging
from etils import epath
import jax
import orbax.checkpoint as ocp

from training import distributed
from training import state as state_lib
from training.errors import CheckpointError, NotSaved, Preempted, TrainingError
from training.state import TrainState


def _manager(directory: str, keep: int, writes: bool) -> ocp.CheckpointManager:
  policy = ocp.checkpoint_managers.preservation_policy.LatestN(keep)
  # Two managers save the same step at once: processes that meet must know for which of them.
  meeting = ocp.options.MultiprocessingOptions(
    barrier_sync_key_prefix=os.path.basename(os.path.normpath(directory))
  )
  options = ocp.CheckpointManagerOptions(
    preservation_policy=policy,
    enable_async_checkpointing=True,
    create=writes,
    cleanup_tmp_directories=writes,
    multiprocessing_options=meeting,
  )
  return ocp.CheckpointManager(epath.Path(directory), options=options)


class Checkpoints:
  """Saves in the background and atomically: a killed process leaves the previous one intact.

  `last/` keeps two, so that one that turns out unreadable has a predecessor; `best/` keeps one.

  Only who trains `writes`: then what was left unfinished is removed. A reader makes and removes
  nothing, since what looks unfinished may be being written.
  """

  def __init__(self, directory: str, *, writes: bool = False):
    self._directory = os.path.abspath(directory) if '://' not in directory else directory
    _quiet()
    self._last = _manager(os.path.join(self._directory, 'last'), keep=2, writes=writes)
    self._best = _manager(os.path.join(self._directory, 'best'), keep=1, writes=writes)

  def steps(self) -> list[int]:
    """Steps of the finished checkpoints, ascending."""
    return sorted(self._last.all_steps())

  def best_step(self) -> int | None:
    return self._best.latest_step()

  def save(self, state: TrainState, step: int, counters: dict, *, last: bool, best: bool) -> None:
    """Starts saving as a last one, a best one or both; `counters` the loop needs to go on.

    Raises:
      TrainingError: the state is not finite; nothing is saved.
    """
    if not state_lib.is_finite(state):
      raise TrainingError(
        f'step {step}: parameters or the state of the optimizer are not finite; lower '
        'optimizer.learning_rate; the last good checkpoint is untouched'
      )
    items = ocp.args.Composite(
      state=ocp.args.StandardSave(state._asdict()), counters=ocp.args.JsonSave(counters)
    )
    with self._failing():
      if last and step not in self._last.all_steps():
        self._last.save(step, args=items)
      if best and step not in self._best.all_steps():
        self._best.save(step, args=items)

  def check(self) -> None:
    """Raises NotSaved if a save in the background has failed."""
    with self._failing():
      self._last.check_for_errors()
      self._best.check_for_errors()

  @contextlib.contextmanager
  def _failing(self) -> Iterator[None]:
    """Whatever a save, of now or in the background, can fail of becomes NotSaved."""
    try:
      yield
    except Exception as error:
      if isinstance(error, (Preempted, TrainingError)):
        raise
      if distributed.active() and isinstance(error, jax.errors.JaxRuntimeError):
        raise  # Another process was lost.
      full = re.search('No space left on device|File too large|Disk quota exceeded', str(error))
      reason = full[0] if full else f'{type(error).__name__}: {_first_line(error)}'
      raise NotSaved(
        f'a checkpoint could not be written to {self._directory}: {reason}; those before it are '
        'whole, and the same command goes on from them'
      ) from error

  def restore(
    self, abstract: TrainState, step: int | None = None, *, best: bool = False
  ) -> tuple[TrainState, dict]:
    """The state and counters saved at `step` (default: the newest).

    Raises:
      CheckpointError: there is none, or it can't be read; names the previous one if there is one.
    """
    manager = self._best if best else self._last
    self.wait()
    steps = sorted(manager.all_steps())
    step = steps[-1] if step is None and steps else step
    if step not in steps:
      known = ', '.join(map(str, steps)) or 'none'
      raise CheckpointError(f'{self._directory}: no checkpoint of step {step}; there are: {known}')
    try:
      items = manager.restore(
        step,
        args=ocp.args.Composite(
          state=ocp.args.StandardRestore(abstract._asdict()), counters=ocp.args.JsonRestore()
        ),
      )
    except Exception as error:
      path = os.path.join(str(manager.directory), str(step))
      earlier = [s for s in steps if s < step]
      advice = (
        f'go on from the previous one with --restore_step={earlier[-1]}'
        if earlier
        else 'there is no earlier one: start again in another --workdir'
      )
      raise CheckpointError(
        f'checkpoint {path} can not be read ({_first_line(error)}); {advice}'
      ) from error
    return TrainState(**items['state']), items['counters']

  def set_aside_after(self, step: int) -> None:
    """Moves checkpoints newer than `step` out of the way, without deleting them."""
    self.wait()
    for manager in (self._last, self._best):
      newer_steps = [s for s in manager.all_steps() if s > step]
      for newer in newer_steps if distributed.is_primary() else ():
        source = epath.Path(manager.directory) / str(newer)
        target = epath.Path(self._directory) / 'set_aside' / f'{manager.directory.name}_{newer}'
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
          target.rmtree()
        source.rename(target)
      distributed.barrier('newer checkpoints to be set aside')
      manager.reload()

  def wait(self) -> None:
    """Returns once everything started is on disk; NotSaved if something could not be."""
    with self._failing():
      self._last.wait_until_finished()
      self._best.wait_until_finished()

  def close(self) -> None:
    with self._failing():
      self.wait()
      self._last.close()
      self._best.close()


_call = asyncio.base_events.BaseEventLoop.call_soon_threadsafe


def _call_open(loop: asyncio.AbstractEventLoop, *arguments: Any, **more: Any) -> Any:
  """Nothing for a loop that is closed: TensorStore would print the error, and does not heed it."""
  return None if loop.is_closed() else _call(loop, *arguments, **more)


def _is_no_trace(record: logging.LogRecord) -> bool:
  """False for the traceback that a thread of Orbax logs."""
  return not (record.exc_info and f'{os.sep}orbax{os.sep}' in record.pathname)


def _quiet() -> None:
  """Keeps quiet what follows a failed write, hundreds of lines: `NotSaved` tells it in one.

  Orbax logs the traceback of each of its threads, and TensorStore speaks to an event loop that
  Orbax has closed by then.
  """
  absl_logging.get_absl_logger().addFilter(_is_no_trace)
  asyncio.base_events.BaseEventLoop.call_soon_threadsafe = _call_open


def _first_line(error: BaseException) -> str:
  text = str(error).strip().splitlines()
  return (text[0] if text else type(error).__name__)[:160]


def newest(directory: str, which: str = 'last') -> int | None:
  """The step of the newest finished checkpoint, without opening a manager; 'last' or 'best'."""
  where = epath.Path(directory) / which
  names = [child.name for child in where.iterdir()] if where.exists() else []
  return max((int(name) for name in names if name.isdigit()), default=None)


def _state_of(directory: str, step: int, which: str) -> epath.Path:
  whole = directory if '://' in directory else os.path.abspath(directory)
  return epath.Path(whole) / which / str(step) / 'state'


def shapes(directory: str, step: int, which: str) -> dict[str, Any]:
  """The shape of everything in a saved state, as nested dicts; CheckpointError if unreadable."""
  path = _state_of(directory, step, which)
  with _reading(path):
    tree = ocp.PyTreeCheckpointHandler().metadata(path).tree
  return jax.tree.map(lambda x: tuple(x.shape), tree)


def read_part(directory: str, step: int, which: str, like: dict[str, Any]) -> dict[str, Any]:
  """A part of a saved state, placed as `like` says: its tree with shapes, dtypes and shardings.

  Raises:
    CheckpointError: it can't be read, or is of other shapes.
  """
  path = _state_of(directory, step, which)
  arguments = ocp.checkpoint_utils.construct_restore_args(like)
  with _reading(path), ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
    return reader.restore(
      path,
      args=ocp.args.PyTreeRestore(item=like, restore_args=arguments, partial_restore=True),
    )


@contextlib.contextmanager
def _reading(path: epath.Path) -> Iterator[None]:
  """Whatever reading a checkpoint can fail of becomes one line."""
  try:
    yield
  except Exception as error:
    raise CheckpointError(f'checkpoint {path} can not be read ({_first_line(error)})') from error


Counters = dict[str, Any]
