"""Runs processes side by side and shows how far they are."""

from collections.abc import Callable, Sequence
import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from typing import Any

import tqdm

from reports import reading
from runs import configs, lock, recorded, run
from runs.errors import UserError
from runs.plan import PlannedRun
from training import preemption

_POLL_SECONDS = 0.5


@dataclasses.dataclass(frozen=True)
class Failure:
  """A run that did not finish."""

  name: str
  log: str
  reason: str

  def as_row(self) -> dict[str, str]:
    return dataclasses.asdict(self)


def with_cache(environment: dict[str, str], directory: str) -> dict[str, str]:
  """The environment of runs that share their compiled programs in a directory."""
  settings = {
    'JAX_COMPILATION_CACHE_DIR': directory,
    'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0.5',
  }
  return settings | environment


def tell_failures(failures: Sequence[Failure]) -> int:
  """A line on stderr for every failure; returns the exit code."""
  for failure in failures:
    print(f'FAILED {failure.name}: {failure.reason}; log: {failure.log}', file=sys.stderr)
  return 1 if failures else 0


def has_accelerator() -> bool:
  """Whether runs will find a GPU or TPU, told without touching it."""
  return bool(shutil.which('nvidia-smi')) or any(
    os.path.exists(path) for path in ('/dev/accel0', '/dev/vfio/0')
  )


def core_groups(jobs: int | None, accelerator: bool) -> list[set[int] | None]:
  """Which cores each of the concurrent runs gets; None leaves a run unpinned."""
  if not hasattr(os, 'sched_getaffinity'):
    return [None] * (jobs or 1)
  cores = sorted(os.sched_getaffinity(0))
  jobs = jobs or (1 if accelerator else len(cores))
  if accelerator or jobs > len(cores):
    return [None] * jobs
  return [set(cores[i::jobs]) for i in range(jobs)]


def trained(planned: PlannedRun) -> str | None:
  """One line on a finished run, None while it is not."""
  record = configs.read_record(planned.workdir)
  return record and f'{recorded.summary(record)}; {record["wall_seconds"]:.0f} s of training'


def run_all(
  runs: Sequence[Any],
  environment: dict[str, str],
  jobs: int | None,
  done: Callable[[Any], str | None] = trained,
) -> list[Failure]:
  """Runs everything not yet finished, `jobs` at a time; returns the failures.

  Args:
    runs: PlannedRuns, or anything with their name, workdir, command, log and steps.
    environment: of the processes.
    jobs: how many at a time; None for what the machine holds.
    done: a line on a run that is finished, None for one that is not.

  Raises:
    Preempted: a stop was requested; it was passed on and every run has saved.
  """
  preemption.defer()  # They are to be asked, and to save.
  accelerator = environment.get('JAX_PLATFORMS', '') != 'cpu' and has_accelerator()
  slots: list[_Slot] = [_Slot(i, group) for i, group in enumerate(core_groups(jobs, accelerator))]
  if accelerator and len(slots) > 1:  # By default the first process takes most of a GPU's memory.
    environment = {'XLA_PYTHON_CLIENT_PREALLOCATE': 'false'} | environment
  failures: list[Failure] = []
  waiting = [planned for planned in runs if _said(planned, done, failures) is None]
  waiting = [planned for planned in waiting if planned.name not in {one.name for one in failures}]
  finished = len(runs) - len(waiting)
  if finished > len(failures):
    print(f'{finished - len(failures)} of {len(runs)} runs are done already')
  total = len(runs)
  try:
    while waiting or any(slot.busy for slot in slots):
      preemption.check()
      for slot in slots:
        ended = slot.poll()
        if ended is not None:
          finished += 1
          _report(ended, f'[{finished}/{total}]', failures, done)
        if not slot.busy and waiting:
          slot.start(waiting.pop(0), environment)
      time.sleep(_POLL_SECONDS)
  finally:
    for slot in slots:
      slot.stop()
    for slot in slots:
      slot.wait()
  return failures


def _tell(planned: Any, code: int | None, begin: int = 0) -> None:
  """What launch.status shows of a run that could not tell itself: it starts, or how it ended."""
  if code == 0 or os.path.exists(os.path.join(planned.workdir, 'run.json')):
    return
  if lock.busy(planned.workdir):  # Whoever holds it tells.
    return
  if code is None:
    run.say(planned.workdir, 'running')
  elif code == preemption.EXIT_CODE:
    run.say(planned.workdir, 'preempted')
  elif reading.read_json(os.path.join(planned.workdir, 'state.json')).get('state') != 'failed':
    run.say(planned.workdir, 'failed', _reason(planned, code, begin))


# What a crash leaves in a log: of no use in one line, and there may be pages of it.
_NATIVE = re.compile(
  r'Fatal Python error|Extension modules:|(Current )?[Tt]hread 0x|Stack \(most|Current thread'
  r'|File "|<no Python frame>|\*\*\*|PC: @|@ +0x'
)


def _reason(planned: Any, code: int, begin: int) -> str:
  """Why a run ended, in one line; its own output begins at byte `begin` of its log."""
  with open(planned.log, encoding='utf-8', errors='replace') as file:
    file.seek(begin)
    lines = [line.strip() for line in file]
  lines = [line for line in lines if line and not _NATIVE.match(line)]
  last = lines[-1][:300] if lines else 'no output'
  # A shell says 128 + the signal for what it started.
  number = -code if code < 0 else code - 128
  if number not in set(signal.Signals):
    return f'exit code {code}: {last}'
  memory = ', out of memory?' if number == signal.SIGKILL else ''
  return f'{signal.Signals(number).name}{memory}: {last}'


def _said(planned: Any, done: Callable[[Any], str | None], failures: list[Failure]) -> str | None:
  """What `done` says of a run; what it can't read costs that run alone."""
  try:
    return done(planned)
  except (UserError, ValueError, KeyError, TypeError, AttributeError) as error:
    of = '' if isinstance(error, UserError) else f'{planned.workdir}/run.json can not be read: '
    failures.append(Failure(planned.name, planned.log, f'{of}{error}'))
    tqdm.tqdm.write(f'{planned.name} FAILED, {of}{error}')
    return None


def _report(
  ended: tuple[Any, int, int],
  count: str,
  failures: list[Failure],
  done: Callable[[Any], str | None],
) -> None:
  planned, code, begin = ended
  _tell(planned, code, begin)
  known = len(failures)
  line = _said(planned, done, failures) if code == 0 else None
  if line is not None:
    tqdm.tqdm.write(f'{count} {line}')
  if line is not None or len(failures) > known:
    return
  reason = _reason(planned, code, begin)
  failures.append(Failure(planned.name, planned.log, reason))
  tqdm.tqdm.write(f'{count} {planned.name} FAILED, {reason}')


class _Slot:
  """One place for a run: its process, its cores and its progress bar."""

  def __init__(self, position: int, cores: set[int] | None):
    self._position = position
    self._cores = cores
    self._process: subprocess.Popen | None = None
    self._planned: PlannedRun | None = None
    self._bar: tqdm.tqdm | None = None
    self._begin = 0

  @property
  def busy(self) -> bool:
    return self._process is not None

  def start(self, planned: PlannedRun, environment: dict[str, str]) -> None:
    os.makedirs(planned.workdir, exist_ok=True)
    _tell(planned, None)
    with open(planned.log, 'a', encoding='utf-8') as log:
      self._begin = log.tell()
      self._process = subprocess.Popen(
        planned.command,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        env=environment,
        # Ctrl-C reaches a run through `stop` alone, so that it is asked once.
        process_group=0,
      )
    if self._cores is not None:
      os.sched_setaffinity(self._process.pid, self._cores)
    self._planned = planned
    self._bar = tqdm.tqdm(
      total=planned.steps,
      desc=planned.name,
      unit='step',
      position=self._position,
      leave=False,
      disable=None,
      file=sys.stderr,
    )

  def poll(self) -> tuple[PlannedRun, int, int] | None:
    """Moves the bar; the run, its exit code and where its output begins once it has ended."""
    if self._process is None:
      return None
    code = self._process.poll()
    if code is None:
      self._show()
      return None
    ended = (self._planned, code, self._begin)
    self._bar.close()
    self._process = None
    return ended

  def _show(self) -> None:
    if self._bar.disable:
      return
    row = _last_row(os.path.join(self._planned.workdir, 'metrics.jsonl'))
    if row:
      self._bar.n = row['step']
      shown = {'bits/dim': row.get('train/bits_per_dim'), 'loss': row.get('train/loss')}
      postfix = {name: f'{value:.3f}' for name, value in shown.items() if value is not None}
      if 'tokens_per_second' in row:
        postfix['tok/s'] = f'{row["tokens_per_second"]:,.0f}'
      self._bar.set_postfix(postfix, refresh=False)
      self._bar.refresh()

  def stop(self) -> None:
    if self._process is not None:
      self._process.send_signal(signal.SIGTERM)

  def wait(self) -> None:
    if self._process is not None:
      _tell(self._planned, self._process.wait(), self._begin)
      self._process = None


def _last_row(path: str) -> dict | None:
  """The newest whole row of training metrics of a growing file."""
  try:
    with open(path, 'rb') as file:
      file.seek(0, os.SEEK_END)
      file.seek(max(0, file.tell() - 4096))
      lines = file.read().splitlines()
  except OSError:
    return None
  for line in reversed(lines):
    try:
      row = json.loads(line)
    except json.JSONDecodeError:
      continue
    if 'train/loss' in row:
      return row
  return None
