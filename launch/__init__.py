"""Binaries that start, probe, compare and report runs: flags, their checks and one call."""

import signal
import sys
import types

asked = False  # Whether SIGTERM came before `entry.run`, which knows what it means for a command.


def note(number: int, frame: types.FrameType | None) -> None:
  """Keeps SIGTERM for `entry.run`."""
  del number, frame
  global asked
  asked = True


# `python -m launch.NAME`: before anything else is loaded.
if sys.argv[:1] == ['-m'] and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
  signal.signal(signal.SIGTERM, note)
