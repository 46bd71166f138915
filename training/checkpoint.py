"""Orbax checkpoints: the last two, and the best by the objective's own validation loss."""

import os
from typing import Any

from etils import epath
import orbax.checkpoint as ocp

from training import distributed
from training import state as state_lib
from training.errors import CheckpointError, TrainingError
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
    if last and step not in self._last.all_steps():
      self._last.save(step, args=items)
    if best and step not in self._best.all_steps():
      self._best.save(step, args=items)

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
      distributed.barrier()
      manager.reload()

  def wait(self) -> None:
    """Returns once everything started is on disk."""
    self._last.wait_until_finished()
    self._best.wait_until_finished()

  def close(self) -> None:
    self.wait()
    self._last.close()
    self._best.close()


def _first_line(error: BaseException) -> str:
  text = str(error).strip().splitlines()
  return (text[0] if text else type(error).__name__)[:160]


def exists(directory: str) -> bool:
  """Whether `directory` holds any finished checkpoint, without opening a manager."""
  last = epath.Path(directory) / 'last'
  return last.exists() and any(child.name.isdigit() for child in last.iterdir())


Counters = dict[str, Any]
