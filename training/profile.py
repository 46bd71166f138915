"""A trace of some steps, which TensorBoard's profiler (`pip install xprof`) opens."""

import re
from typing import Any, NamedTuple

import jax

from training.errors import TrainingError


class Steps(NamedTuple):
  """The steps first..last, both included."""

  first: int
  last: int


def parse(text: str | None, steps: int) -> Steps | None:
  """'FIRST:LAST' -> Steps; TrainingError if it is no stretch of 1..`steps`."""
  if text is None:
    return None
  found = re.fullmatch(r'(\d+):(\d+)', text)
  if not found or not 1 <= int(found[1]) <= int(found[2]) <= steps:
    raise TrainingError(
      f'--profile_steps={text} must be FIRST:LAST with 1 <= FIRST <= LAST <= {steps}, the steps'
    )
  return Steps(int(found[1]), int(found[2]))


class Tracer:
  """Writes WORKDIR/plugins/profile/... for the steps it was asked for, every process its own."""

  def __init__(self, workdir: str, steps: Steps | None):
    self._workdir, self._steps = workdir, steps
    self._running = False

  def before(self, step: int) -> None:
    """Starts at the first step; a run resumed in the middle starts there."""
    if self._steps and not self._running and self._steps.first <= step <= self._steps.last:
      jax.profiler.start_trace(self._workdir)
      self._running = True

  def after(self, step: int, result: Any) -> None:
    """Stops at the last step, once its `result` is there."""
    if self._running and step >= self._steps.last:
      jax.block_until_ready(result)
      jax.profiler.stop_trace()
      self._running = False
      self._steps = None
