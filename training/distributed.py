"""Several processes, one run: JAX's distributed runtime, and the little hosts must agree on.

Every process runs the same program on the same numbers; only the first one writes. Every wait for
others has a limit, and says where it waited and for whom.
"""

from collections.abc import Iterator
import contextlib
import hashlib
import itertools
import os
import re
import socket
import sys
import time
from typing import Any

import jax
import jax._src.distributed
from jax.experimental import multihost_utils
import numpy as np

from training.errors import DistributedError, ProcessLost
from training.watchdog import WATCHDOG

MODES = ('none', 'auto', 'explicit')
# JAX aborts a process that waited so long for another: `watchdog` comes first, with one line.
_HEARTBEAT_SECONDS = 1200
_CONNECT_LATER = 60
# (variable, what it counts): set by launchers of several processes.
_COUNTS = (
  ('SLURM_STEP_NUM_TASKS', 'Slurm tasks'),
  ('OMPI_COMM_WORLD_SIZE', 'MPI processes'),
  ('PMI_SIZE', 'MPI processes'),
  ('MEGASCALE_NUM_SLICES', 'TPU slices'),
  ('JAX_NUM_PROCESSES', 'processes'),
)
# How long to wait for other processes, as `initialize` was told; and every meeting's own number.
_wait_seconds = 1800
_meetings = itertools.count()
_LISTS = (('TPU_WORKER_HOSTNAMES', 'TPU hosts'), ('TPU_PROCESS_ADDRESSES', 'TPU processes'))


def surroundings(environment: Any = os.environ) -> str | None:
  """What says that this process is one of several, None if nothing does."""
  for name, meaning in _COUNTS:
    count = environment.get(name, '')
    if count.isdigit() and int(count) > 1:
      return f'{name}={count} ({count} {meaning})'
  for name, meaning in _LISTS:
    members = [part for part in environment.get(name, '').split(',') if part.strip()]
    if len(members) > 1:
      return f'{name} names {len(members)} {meaning}'
  return None


def check_settings(
  mode: str,
  asked: bool,
  coordinator_address: str | None,
  num_processes: int | None,
  process_id: int | None,
  environment: Any = os.environ,
) -> None:
  """Refuses settings under which processes would not find each other, before anything is loaded.

  Args:
    mode: one of MODES.
    asked: whether the user named the mode, 'none' included.
    coordinator_address, num_processes, process_id: as given, None where not.
    environment: of this process.

  Raises:
    DistributedError: half of the settings, settings of another mode, or one process of several
      that was not told so and would train as a run of its own.
  """
  given = {
    'coordinator_address': coordinator_address,
    'num_processes': num_processes,
    'process_id': process_id,
  }
  if mode == 'explicit':
    missing = [f'--{name}' for name, value in given.items() if value is None]
    if missing:
      raise DistributedError(f'--distributed=explicit needs {" and ".join(missing)} too')
    host, _, port = coordinator_address.rpartition(':')
    if not host or not port.isdigit():
      raise DistributedError(f'--coordinator_address={coordinator_address} is not HOST:PORT')
    if num_processes < 1 or not 0 <= process_id < num_processes:
      raise DistributedError(
        f'--process_id={process_id} must be from 0 to {num_processes - 1}, below --num_processes'
      )
    return
  for name, value in given.items():
    if value is not None:
      raise DistributedError(f'--{name} needs --distributed=explicit')
  if mode == 'none' and not asked:
    found = surroundings(environment)
    if found:
      raise DistributedError(
        f'{found}, but --distributed is not set: --distributed=auto makes one run of all of them, '
        '--distributed=none a run of its own of each'
      )


def initialize(
  mode: str,
  coordinator_address: str | None = None,
  num_processes: int | None = None,
  process_id: int | None = None,
  connect_seconds: int = 300,
  wait_seconds: int = 1800,
) -> None:
  """Joins the other processes; must come before JAX touches a device.

  Args:
    mode, coordinator_address, num_processes, process_id: as in `check_settings`.
    connect_seconds: how long this process waits for the others here; then it ends with LOST.
    wait_seconds: the same for every later wait.

  Raises:
    DistributedError: the processes do not find each other.
  """
  global _wait_seconds
  if mode == 'none':
    return
  _wait_seconds = wait_seconds
  # Stopping is agreed on below. JAX's own service would take SIGTERM away from Python, and Orbax
  # asks it with step numbers of its own.
  jax.config.update('jax_enable_preemption_service', False)
  settings: dict[str, Any] = {}
  if mode == 'explicit':
    settings = dict(
      coordinator_address=coordinator_address,
      num_processes=num_processes,
      process_id=process_id,
      cluster_detection_method='deactivate',
    )
    if process_id > 0:
      _reach(coordinator_address, connect_seconds)
    else:
      # JAX ends a process with a stack trace when nobody comes: say before what it waits for.
      print(
        f'process 0 waits up to {connect_seconds} s for the other {num_processes - 1} to come to '
        f'{coordinator_address}',
        file=sys.stderr,
      )
  place = f'the other processes to come to {coordinator_address or "the coordinator"}'
  try:
    with WATCHDOG.waiting(place, connect_seconds, patience=0.0):
      jax.distributed.initialize(
        **settings,
        heartbeat_timeout_seconds=_HEARTBEAT_SECONDS,
        initialization_timeout=connect_seconds + _CONNECT_LATER,
      )
  except (ValueError, RuntimeError, KeyError, TypeError) as error:
    first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if mode == 'explicit':
      raise DistributedError(
        f'process {process_id} of {num_processes} did not find the others at '
        f'{coordinator_address}: {first}'
      ) from error
    raise DistributedError(
      f'--distributed=auto found no complete description of the processes in the environment '
      f'({first}); say it with --distributed=explicit'
    ) from error
  found = surroundings()
  if jax.process_count() == 1 and found:
    raise DistributedError(
      f'{found}, but JAX sees one process alone; say how many with --distributed=explicit'
    )
  if active():
    WATCHDOG.join(_client(), jax.process_index(), jax.process_count())


def _reach(address: str, seconds: float) -> None:
  """Waits until something listens at HOST:PORT; JAX would abort the process if nothing ever does.

  Raises:
    DistributedError: nothing does.
  """
  host, _, port = address.rpartition(':')
  end = time.monotonic() + seconds
  while True:
    try:
      socket.create_connection((host.strip('[]'), int(port)), timeout=5).close()
      return
    except OSError as error:
      if time.monotonic() > end:
        raise DistributedError(
          f'nothing answers at --coordinator_address={address} after {seconds:g} s '
          f'({error.strerror or error}): process 0 must run there'
        ) from error
    time.sleep(0.5)


def active() -> bool:
  """Whether there are other processes."""
  return jax.distributed.is_initialized() and jax.process_count() > 1


def waiting(place: str) -> contextlib.AbstractContextManager:
  """The body waits for a computation of all processes: within the limit, or this one ends."""
  if not active():
    return contextlib.nullcontext()
  return WATCHDOG.waiting(place, _wait_seconds, patience=None)


def is_primary() -> bool:
  """Whether this process writes: the first one, or the only one."""
  return not active() or jax.process_index() == 0


def any_process(flag: bool, place: str) -> bool:
  """Whether any process says so; as `barrier`."""
  if not active():
    return flag
  return bool(np.any(_gather(np.int32(flag), place)))


def barrier(place: str, times: int = 1) -> None:
  """Returns once every process has come here; all must, in the same order.

  Args:
    place: where this is, for people: it reads after 'waited for'.
    times: by which `wait_seconds` is multiplied.

  Raises:
    ProcessLost: one does not come within `wait_seconds`; names it.
  """
  if not active():
    return
  seconds = times * _wait_seconds
  name = f'bits_and_probes/{next(_meetings)}/{place}'
  try:
    with WATCHDOG.waiting(place, seconds + _CONNECT_LATER):
      _client().wait_at_barrier(name, 1000 * seconds)
  except jax.errors.JaxRuntimeError as error:
    if 'DEADLINE_EXCEEDED' not in str(error):
      raise
    missing = re.search(r'timed out task names:((?:\s+\d+,?)+)', str(error))
    missing = ', '.join(missing[1].split()) if missing else 'another'
    raise ProcessLost(
      f'waited {seconds} s for {place}, where process {missing} did not come; '
      '--wait_seconds is the limit'
    ) from error


@contextlib.contextmanager
def primary_first(place: str) -> Iterator[None]:
  """Lets the first process do this alone, then the others: what it prepares they only read.

  `place`, the limit and the error are those of `barrier`.
  """
  if not is_primary():
    barrier(place)
  try:
    yield
  finally:
    if is_primary():
      barrier(place)


def check_equal(what: str, text: str) -> None:
  """Raises DistributedError, on all processes, unless all hold the same text."""
  if not active():
    return
  digest = np.frombuffer(hashlib.sha256(text.encode()).digest(), np.int32)
  rows = _gather(digest, f'the same {what}').reshape(jax.process_count(), -1)
  if (rows != rows[0]).any():
    other = int(np.flatnonzero((rows != rows[0]).any(1))[0])
    raise DistributedError(f'process {other} has another {what} than process 0')


def finish() -> None:
  """Ends the run together with the other processes; none may be left waiting for this one."""
  if active():
    barrier('the end')
    WATCHDOG.part()
    jax.distributed.shutdown()


def leave(code: int, reason: str) -> None:
  """Ends this process at once with one line: the others can't go on without it, and are told."""
  WATCHDOG.end(code, reason)


def _gather(values: np.ndarray, place: str) -> np.ndarray:
  """What every process holds; all come together first, because JAX's own wait has no limit."""
  barrier(place)
  return np.asarray(multihost_utils.process_allgather(values))


def _client() -> Any:
  """JAX's channel to the first process; what Orbax meets through as well."""
  return jax._src.distributed.global_state.client
