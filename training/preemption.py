"""SIGTERM and SIGINT ask the run to save and stop; a single process would otherwise die unsaved."""

import signal
import threading

from training.errors import Preempted

EXIT_CODE = 42
_requested = threading.Event()


def install() -> None:
  """Turns SIGTERM into a request that `check` and the training loop honour."""
  _requested.clear()
  signal.signal(signal.SIGTERM, lambda *_: _requested.set())


def requested() -> bool:
  return _requested.is_set()


def check() -> None:
  """Raises Preempted if a stop was asked for; call it where nothing would be lost."""
  if requested():
    raise Preempted('stopped on request; everything computed is saved')
