"""What can go wrong in training, as one line each, and the exit codes of that."""

import errno

USAGE_ERROR = 2  # A restart would end in the same way.
LOST = 3  # Another process of the run was lost.
STOPPED = 42  # On request, with everything computed saved.


# Of errors of the operating system those that a path or a flag brings about.
_ASKED_FOR = (errno.ENOENT, errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENOTDIR, errno.EEXIST)
_ASKED_FOR += (errno.EINVAL, errno.ENAMETOOLONG, errno.ENOMEM)


class TrainingError(RuntimeError):
  """A run can't go on; the message is one line and says why."""


class DistributedError(TrainingError):
  """The processes of a run do not find or do not match each other."""


class ProcessLost(TrainingError):
  """Another process of the run does not come; a restart may help."""


class CheckpointError(TrainingError):
  """A checkpoint can't be read; the message names it and what else there is."""


class NotSaved(CheckpointError):
  """A checkpoint could not be written; those before it are whole."""


class Stopped(KeyboardInterrupt):
  """The process was told to stop and did, there and then; nothing of it is saved."""


class Preempted(Exception):
  """The process was told to stop; everything is saved.

  Attributes:
    alone: whether this process stops by itself, without having agreed with the others.
  """

  def __init__(self, message: str, alone: bool = False):
    super().__init__(message)
    self.alone = alone


def is_full(error: BaseException) -> bool:
  """Whether a file could not be written for want of room."""
  # NumPy tells a write that came short without a number.
  short = isinstance(error, OSError) and 'requested and' in str(error)
  return short or getattr(error, 'errno', None) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def from_outside(error: BaseException | None) -> bool:
  """Whether an error says nothing of the run: without its cause the same command goes on.

  A disk or a connection that fails, or has no room, is such; a file that is not there, or not for
  us, was asked for, and so was what does not fit into memory.
  """
  if error is None:
    return False
  if isinstance(error, (NotSaved, ProcessLost)) or is_full(error):
    return True
  if isinstance(error, OSError) and error.errno not in (None, *_ASKED_FOR):
    return True
  if isinstance(error, (ConnectionError, TimeoutError)):  # not all of them have a number
    return True
  if isinstance(reason := getattr(error, 'reason', None), BaseException):  # urllib's
    return from_outside(reason)
  # What libraries, JAX's among them, say of it in errors of their own.
  return 'No space left on device' in str(error) or from_outside(error.__cause__)
