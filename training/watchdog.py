"""A thread that sees what the main thread can't while JAX waits: SIGTERM, time, a lost process.

Python's signal handlers run between two instructions of the main thread, and a wait inside JAX is
one instruction. JAX notices a silent process too, but ends all others by aborting them, with a
native stack trace: here it is noticed first, and every process ends with one line.
"""

from collections.abc import Callable, Iterator
import contextlib
import dataclasses
import os
import select
import signal
import sys
import threading
import time
from typing import Any

from training.errors import LOST, STOPPED, USAGE_ERROR

# A process that was not heard of for so long is lost, and the others give up.
SILENT_SECONDS = 30.0
BEAT_SECONDS = 3.0
# How long a wait for other processes goes on after SIGTERM: they may come yet, to stop together.
PATIENCE_SECONDS = 8.0
# The first process holds what all others speak through: it leaves so much later than they do.
LINGER_SECONDS = 15.0
_ALIVE, _LAST_WORDS = 'bits_and_probes/alive/', 'bits_and_probes/last_words/'


@dataclasses.dataclass(frozen=True)
class _Wait:
  place: str
  seconds: float
  patience: float | None
  since: float


class Watchdog:
  """What one process knows of its own waits and of the other processes.

  Attributes:
    on_end: called with the exit code and the reason when the process is ended from here.
  """

  def __init__(self):
    self._wait: _Wait | None = None
    self._asked: float | None = None
    self._running = False
    self._ending = threading.Lock()
    self.on_end: Callable[[int, str], None] | None = None
    self._client: Any = None
    self._process, self._processes = 0, 1
    self._heard: dict[int, tuple[str, float]] = {}
    self._answered = 0.0

  def start(self) -> None:
    """From now on SIGTERM is noticed in the middle of a wait; main thread only."""
    self._asked = None
    if self._running:
      return
    self._running = True
    read, write = os.pipe()
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    threading.Thread(target=self._watch, args=(read,), daemon=True).start()

  def join(self, client: Any, process: int, processes: int) -> None:
    """From now on the other processes are listened to, through JAX's key-value store."""
    self._client, self._process, self._processes = client, process, processes
    self._answered = time.monotonic()
    self._heard = {i: ('', self._answered) for i in range(processes)}
    self.start()
    threading.Thread(target=self._beat, daemon=True).start()

  def part(self) -> None:
    """The run is over: silence means nothing any more."""
    self._client = None

  @contextlib.contextmanager
  def waiting(
    self, place: str, seconds: float, patience: float | None = PATIENCE_SECONDS
  ) -> Iterator[None]:
    """Ends this process with one line if the body takes longer, or SIGTERM comes meanwhile.

    Args:
      place: what is waited for, for people.
      seconds: at most.
      patience: how much longer, in seconds, after SIGTERM; None where work would be lost by that.
    """
    before, self._wait = self._wait, _Wait(place, seconds, patience, time.monotonic())
    try:
      yield
    finally:
      self._wait = before

  def end(self, code: int, reason: str) -> None:
    """Ends this process with one line, after telling the others; does not return."""
    if not self._ending.acquire(blocking=False):
      threading.Event().wait()  # Another thread is ending it already.
    client, self._client = self._client, None
    if self.on_end is not None:
      with contextlib.suppress(Exception):
        self.on_end(code, reason)
    several = self._processes > 1
    line = ' '.join((f'process {self._process}: ' * several + reason).split())
    print(line, file=sys.stderr, flush=True)
    sys.stdout.flush()
    if client is not None:
      if self._process:
        threading.Thread(target=_tell, args=(client, self._process, code), daemon=True).start()
        time.sleep(0.2)
      else:
        _tell(client, 0, code)
        self._linger(client)
    os._exit(code)

  def _linger(self, client: Any) -> None:
    """Returns once every other process has left, or has had the time to."""
    end = time.monotonic() + LINGER_SECONDS
    while time.monotonic() < end and len(_read(client, _LAST_WORDS)) < self._processes:
      time.sleep(0.2)
    time.sleep(0.5)

  def _watch(self, read: int) -> None:
    before = time.monotonic()
    while True:
      ready, _, _ = select.select([read], [], [], 1.0)
      now = time.monotonic()
      if ready and signal.SIGTERM in os.read(read, 4096) and self._asked is None:
        self._asked = now
      if self._client is not None and now - before > SILENT_SECONDS:
        self.end(LOST, f'stood still for {now - before:.0f} s, and the others went on; {_AGAIN}')
      before = now
      self._check_wait(now)
      self._check_others(now)

  def _check_wait(self, now: float) -> None:
    wait = self._wait
    if wait is None:
      return
    asked, patience = self._asked, wait.patience
    if asked and patience is not None and now - max(asked, wait.since) >= patience:
      self.end(STOPPED, f'stopped on request while it waited for {wait.place}; {_AGAIN}')
    if now - wait.since > wait.seconds:
      self.end(LOST, f'waited {wait.seconds:.0f} s for {wait.place}; {_AGAIN}')

  def _check_others(self, now: float) -> None:
    if self._client is None:
      return
    silent = [i for i, (_, at) in self._heard.items() if now - at > SILENT_SECONDS]
    if now - self._answered > SILENT_SECONDS:
      silent = [0]  # Who does not answer is the first process, which holds the store.
    if silent:
      names = ', '.join(f'process {i}' for i in silent)
      self.end(LOST, f'{names} was not heard of for {SILENT_SECONDS:.0f} s; {_AGAIN}')

  def _beat(self) -> None:
    """Says that this process lives; the first one listens to all, the others to it."""
    count = 0
    while True:
      client, count = self._client, count + 1
      if client is None:
        return
      try:
        client.key_value_set(f'{_ALIVE}{self._process}', str(count), allow_overwrite=True)
        left = _read(client, _LAST_WORDS)
        rows = _read(client, _ALIVE) if self._process == 0 else {}
      except Exception:
        time.sleep(1.0)  # `_answered` grows old.
        continue
      now = self._answered = time.monotonic()
      for i in self._heard:
        said = rows.get(i, '') if self._process == 0 else str(count)
        if said != self._heard[i][0]:
          self._heard[i] = (said, now)
      left.pop(self._process, None)
      if left and self._client is not None:
        other, code = next(iter(left.items()))
        # What no restart puts right for one of them it does not for the others.
        code = int(code) if int(code) in (USAGE_ERROR, STOPPED) else LOST
        self.end(code, f'process {other} has ended; {_AGAIN}')
      time.sleep(BEAT_SECONDS)


_AGAIN = 'the same command on all of them goes on from the last checkpoint'


def _tell(client: Any, process: int, code: int) -> None:
  with contextlib.suppress(Exception):
    client.key_value_set(f'{_LAST_WORDS}{process}', str(code), allow_overwrite=True)


def _read(client: Any, directory: str) -> dict[int, str]:
  rows = client.key_value_dir_get(directory)
  return {int(name.rsplit('/', 1)[1]): value for name, value in rows}


WATCHDOG = Watchdog()
