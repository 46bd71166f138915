"""SIGTERM asks the run to save and stop; a single process would otherwise die unsaved.

With several processes one of them may be asked alone. All stop together: the training loop sends
the question through its step, everything else through `requested`.
"""

import signal
import threading

from training import distributed
from training.errors import Preempted, Stopped

EXIT_CODE = 42
MESSAGE = 'stopped on request; everything computed is saved'
_requested = threading.Event()


def install() -> None:
  """Turns SIGTERM into a request that `check` and the training loop honour."""
  _requested.clear()
  signal.signal(signal.SIGTERM, lambda *_: _requested.set())


def end_at_once() -> None:
  """Turns SIGTERM into `Stopped`: for commands that keep nothing before they end."""

  def stop(*_) -> None:
    raise Stopped

  signal.signal(signal.SIGTERM, stop)


def asked_here() -> bool:
  """Whether this process was asked."""
  return _requested.is_set()


def requested() -> bool:
  """Whether any process was asked; all of them must call it at the same places."""
  if distributed.any_process(_requested.is_set()):
    _requested.set()
  return _requested.is_set()


def check() -> None:
  """Raises Preempted if a stop was asked for; call it where nothing would be lost."""
  if requested():
    raise Preempted(MESSAGE)
