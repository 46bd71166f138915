"""SIGTERM asks the run to save and stop; a single process would otherwise die unsaved.

Where nothing would be lost, `Preempted` is raised there and then; inside an import, where modules
written in C can't bear an exception, the process ends instead. Elsewhere the request waits for
`check` or for the training loop. With several processes one of them may be asked alone. All stop
together: the training loop sends the question through its step, everything else through
`requested`. This module loads in no time: the first thing that a command does is to `install`.
"""

from collections.abc import Iterator
import contextlib
import os
import signal
import sys
import threading
import types

from training.errors import STOPPED, Preempted, Stopped
from training.watchdog import WATCHDOG

EXIT_CODE = STOPPED
MESSAGE = 'stopped on request; everything computed is saved'
REPEAT = 'run the same command to go on'
KEPT_NOTHING = 'stopped on request; nothing was kept'
_requested = threading.Event()
_at_once = False


def install() -> None:
  """Turns SIGTERM into a request that `check` and the training loop honour."""
  global _at_once
  _at_once = False
  _requested.clear()
  signal.signal(signal.SIGTERM, _ask)
  WATCHDOG.start()


def begin() -> None:
  """`install` for a process that has computed nothing yet: until `defer` it ends at once."""
  global _at_once
  install()
  _at_once = True


def defer() -> None:
  """From now on there is something to save: a request waits until it is asked for."""
  global _at_once
  _at_once = False


def finish() -> None:
  """From now on a request comes too late: files that belong together are written, all or none."""
  install()


@contextlib.contextmanager
def at_once() -> Iterator[None]:
  """A request raises `Preempted` anywhere in the body, from which nothing is kept.

  With several processes it waits for `check` all the same: they must stop at the same place.
  """
  from training import distributed

  with contextlib.nullcontext() if distributed.active() else interrupting():
    yield


@contextlib.contextmanager
def interrupting() -> Iterator[None]:
  """The same with several processes too, whose others must hear of it."""
  global _at_once
  before, _at_once = _at_once, True
  try:
    if _requested.is_set():
      raise Preempted(MESSAGE)
    yield
  finally:
    _at_once = before


def end_at_once() -> None:
  """Turns SIGTERM into `Stopped`: for commands that keep nothing before they end, or `finish`."""
  signal.signal(signal.SIGTERM, _stop)


def _stop(number: int, frame: types.FrameType | None) -> None:
  if _imports(frame):
    _end(128 + number, KEPT_NOTHING)
  raise Stopped


def _ask(number: int, frame: types.FrameType | None) -> None:
  del number
  again = _requested.is_set()
  _requested.set()
  if _at_once and not again:
    if _imports(frame):
      _end(STOPPED, f'{MESSAGE}; {REPEAT}')
    raise Preempted(MESSAGE, alone=True)


def _imports(frame: types.FrameType | None) -> bool:
  """Whether a module is being imported there."""
  while frame is not None:
    if frame.f_code.co_filename == '<frozen importlib._bootstrap>':
      return True
    frame = frame.f_back
  return False


def _end(code: int, message: str) -> None:
  program = os.path.splitext(os.path.basename(sys.argv[0]))[0]
  WATCHDOG.end(code, f'{program}: {message}')


def asked_here() -> bool:
  """Whether this process was asked."""
  return _requested.is_set()


def requested() -> bool:
  """Whether any process was asked; all of them must call it at the same places."""
  from training import distributed

  if distributed.any_process(_requested.is_set(), 'whether to stop'):
    _requested.set()
  return _requested.is_set()


def check() -> None:
  """Raises Preempted if a stop was asked for; call it where nothing would be lost."""
  if requested():
    raise Preempted(MESSAGE)
