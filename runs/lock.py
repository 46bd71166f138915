"""One process at a time in a run directory."""

from collections.abc import Iterator
import contextlib
import json
import os
import socket

from etils import epath
import filelock

from runs.errors import UserError
from training import distributed
from training.metrics import is_remote, write_atomically

_LOCK, _HOLDER = '.lock', '.lock.json'
_LOOKS_SECONDS = 1.0  # `busy` holds it for a moment, too.


@contextlib.contextmanager
def held(workdir: str, make: bool = True) -> Iterator[None]:
  """Makes the directory and holds it; for whatever writes there what belongs to the run.

  Without `make` a directory that is not there is neither made nor held.

  The operating system frees the lock of a process that was killed. The process that holds it may
  take it again. Of several processes of one run the first takes it for all; all must call this. A
  bucket (gs://...) has no locks: there nothing is held, and nobody is refused.

  Raises:
    UserError: the directory can't be written, or another process holds it, which the line names.
  """
  if not str(workdir):
    raise UserError('the working directory has no name: --workdir=DIR')
  refused, held, lock, cause = None, False, None, None
  if distributed.is_primary():
    try:
      if make:
        epath.Path(workdir).mkdir(parents=True, exist_ok=True)
      if not is_remote(workdir) and os.path.isdir(workdir):
        path = os.path.join(os.path.realpath(workdir), _LOCK)
        lock = filelock.FileLock(path, is_singleton=True)
        lock.acquire(timeout=_LOOKS_SECONDS)
        held = True
        mine = {'pid': os.getpid(), 'host': socket.gethostname()}
        write_atomically(os.path.join(workdir, _HOLDER), json.dumps(mine) + '\n')
    except filelock.Timeout:
      refused = f'{workdir} is in use by {_holder(workdir)}: wait for it, or stop it'
    except OSError as error:
      refused, cause = f'workdir {workdir} can not be written: {error.strerror}', error
  if distributed.any_process(refused is not None, 'the run directory to be held'):
    if held:
      lock.release()
    refused = refused or f'process 0 was refused {workdir}; its own line says why'
    raise UserError(refused) from cause
  try:
    yield
  finally:
    if held:
      lock.release()


def busy(workdir: str) -> bool:
  """Whether another process holds the directory."""
  path = os.path.join(os.path.realpath(workdir), _LOCK)
  try:
    if os.path.exists(path):
      with filelock.FileLock(path, is_singleton=True).acquire(timeout=0):
        pass
    return False
  except (filelock.Timeout, OSError):  # Of another user, say.
    return True


def _holder(workdir: str) -> str:
  """Who says that it holds the directory."""
  try:
    with open(os.path.join(workdir, _HOLDER), encoding='utf-8') as file:
      holder = json.load(file)
    return f'process {holder["pid"]} on {holder["host"]}'
  except (OSError, ValueError, KeyError):
    return 'another process'
