"""Wall time of a run over all its sessions, and what a window of steps took."""

from collections.abc import Iterator
import contextlib
import time
from typing import Any


class Clock:
  """Wall time goes to `counters.wall_seconds`; a window begins at every row that is written."""

  def __init__(self, counters: Any):
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
