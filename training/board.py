"""TensorBoard's events, in files that a killed process leaves whole."""

from collections.abc import Iterator
import contextlib
import os
import time
from typing import Any

from etils import epath
import numpy as np
from tensorboardX import summary, utils
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto import event_pb2, summary_pb2
from tensorboardX.record_writer import directory_check

# A pixel of a picture is shown this large.
_LARGER = np.ones((4, 4), np.uint8)
# How the names of results begin. Training shows nothing by such a name.
RESULT = 'final/'


class Board:
  """One file of events, written in the thread that makes them.

  tensorboardX's own SummaryWriter hands events to a queue that its `flush` does not wait for: a
  process that is killed loses the last ten or so, whatever was flushed.
  """

  def __init__(self, directory: str, purge_step: int | None = None):
    """With `purge_step`, what earlier files show from that step on is dropped."""
    directory_check(directory)
    # Files are named by the second: without the rest of the time one would replace another.
    self._events = EventsWriter(os.path.join(directory, 'events'), f'.{time.time_ns()}')
    if purge_step is not None:
      begins = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
      self._add(event_pb2.Event(step=purge_step, session_log=begins))

  def _add(self, event: event_pb2.Event) -> None:
    event.wall_time = time.time()
    self._events.write_event(event)

  def _show(self, shown: summary_pb2.Summary, step: int) -> None:
    self._add(event_pb2.Event(summary=shown, step=step))

  def scalar(self, name: str, value: float, step: int = 0) -> None:
    self._show(summary.scalar(name, value), step)

  def picture(self, name: str, picture_HxW: np.ndarray, step: int) -> None:
    """Grey, uint8."""
    larger = np.kron(picture_HxW, _LARGER)
    self._show(summary.image(name, larger, dataformats='HW'), step)

  def figure(self, name: str, figure: Any, step: int) -> None:
    """A figure of matplotlib, which stays open."""
    drawn_CxHxW = utils.figure_to_image(figure, close=False)
    self._show(summary.image(name, drawn_CxHxW), step)

  def hyperparameters(self, settings: dict[str, Any], results: dict[str, float]) -> None:
    """The run's row in HParams: its settings, and of which names it has results."""
    for shown in summary.hparams(settings, results):
      self._show(shown, 0)

  def flush(self) -> None:
    """Puts on disk what was written."""
    self._events.flush()

  def close(self) -> None:
    self._events.close()


@contextlib.contextmanager
def results(directory: str) -> Iterator[Board]:
  """A board of what came out in the end, in the place of an earlier one of that directory.

  Results that are not measured any more go with it, and their columns in HParams.
  """
  files = epath.Path(directory).glob('events.out.tfevents.*')
  earlier = [path for path in files if RESULT.encode() in path.read_bytes()]
  board = Board(directory)
  try:
    yield board
  finally:
    board.close()
  for path in earlier:
    path.unlink()
