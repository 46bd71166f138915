"""Processes that train for as long as they are told to, and are stopped while others are measured.

A thread pool may spin after its work is done. The system therefore stops an idle process as a whole
(SIGSTOP), so that it takes nothing from the one that is being measured.
"""

from collections.abc import Sequence
import dataclasses
import multiprocessing
import os
import resource
import signal
import time
from typing import Any

import numpy as np

from benchmarks.sizes import Size
from training import host_memory

# Side of the square matrices whose product is taken for the machine's peak.
PEAK_WIDTH = 2048


@dataclasses.dataclass(frozen=True)
class Side:
  """What one process trains with.

  Attributes:
    name: column of the table.
    library: 'ours' or 'torch'.
    devices: virtual CPU devices; ours only.
    cores: the cores the process may use.
    settings: of ours: further fields of ModelConfig; of torch: adamw.
  """

  name: str
  library: str
  devices: int
  cores: tuple[int, ...]
  settings: tuple[tuple[str, Any], ...] = ()


def sides(case: str, cores: Sequence[int], adamw: str) -> list[list[Side]]:
  """Groups of processes that run at the same time; the last group is PyTorch's."""
  whole, peer = tuple(cores), (('adamw', adamw),)
  if case == 'alone':
    ours = [len(whole), 1] if len(whole) > 1 else [1]
    return [[Side(f'ours, {n} device{"s"[: n > 1]}', 'ours', n, whole)] for n in ours] + [
      [Side('torch', 'torch', 1, whole, peer)]
    ]
  return [
    [Side('ours', 'ours', 1, (core,)) for core in whole],
    [Side('torch', 'torch', 1, (core,), peer) for core in whole],
  ]


class Worker:
  """A process that waits, stopped, until `begin` is called."""

  def __init__(self, side: Side, size: Size):
    context = multiprocessing.get_context('spawn')
    self.side, self._stopped = side, False
    self._pipe, theirs = context.Pipe()
    self._process = context.Process(target=_serve, args=(theirs, side, size), daemon=True)
    self._process.start()
    theirs.close()
    self.known: dict[str, Any] = self._receive()
    self._stop()

  def _receive(self) -> Any:
    try:
      return self._pipe.recv()
    except EOFError as error:
      self._process.join()
      code = self._process.exitcode
      raise RuntimeError(f'{self.side.name} died with exit code {code}') from error

  def _stop(self) -> None:
    os.kill(self._process.pid, signal.SIGSTOP)
    self._stopped = True

  def _ask(self, *request: Any) -> None:
    if self._stopped:
      os.kill(self._process.pid, signal.SIGCONT)
      self._stopped = False
    self._pipe.send(request)

  def begin(self, seconds: float) -> None:
    """Lets it train for so long; `end` waits for it."""
    self._ask('run', seconds)

  def end(self) -> tuple[int, float]:
    """Steps and seconds since `begin`."""
    result = self._receive()
    self._stop()
    return result

  def cpu_seconds(self) -> float:
    """Seconds that its threads have worked."""
    with open(f'/proc/{self._process.pid}/stat', encoding='ascii') as file:
      # The name in brackets may hold anything; user and system time are fields 14 and 15.
      fields = file.read().rpartition(')')[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')

  def finish(self) -> dict[str, float]:
    """Peak memory in MB and the FLOP/s of a large product; ends the process."""
    self._ask('finish')
    result = self._receive()
    self._process.join()
    return result


def _serve(pipe: Any, side: Side, size: Size) -> None:
  """The process: pinned, and its devices set, before any library counts them."""
  os.sched_setaffinity(0, side.cores)
  forced = f'--xla_force_host_platform_device_count={side.devices}'
  os.environ['XLA_FLAGS'] = f'{os.environ.get("XLA_FLAGS", "")} {forced}'.strip()
  # As every binary of ours does; PyTorch gains a little by it too.
  host_memory.keep_freed()
  batches = make_batches(size)
  settings = dict(side.settings)
  if side.library == 'ours':
    from benchmarks import jax_train as library

    known, run = library.start(size, batches, **settings)
  else:
    from benchmarks import torch_train as library

    known, run = library.start(size, batches, len(side.cores), **settings)
  # The libraries warm up over more than one step.
  run(0.5)
  pipe.send(known)
  while True:
    request, *arguments = pipe.recv()
    if request == 'run':
      pipe.send(run(*arguments))
      continue
    # Before the large product, which needs memory of its own.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    pipe.send({'peak_megabytes': peak, 'matmul_flops': library.matmul_flops(PEAK_WIDTH)})
    return


def make_batches(size: Size, count: int = 16) -> np.ndarray:
  """Random tokens, int32 (count, B, T); the same for every side."""
  rng = np.random.default_rng(0)
  shape = (count, size.batch, size.length)
  return rng.integers(0, size.vocabulary, shape).astype(np.int32)


def together(workers: Sequence[Worker], seconds: float) -> tuple[float, float]:
  """Runs all of them at once.

  Returns:
    Steps per second, summed, and how many cores everything else on the machine used meanwhile.
  """
  begin, busy = time.perf_counter(), _busy_seconds()
  own = sum(worker.cpu_seconds() for worker in workers)
  for worker in workers:
    worker.begin(seconds)
  rate = sum(steps / elapsed for steps, elapsed in [worker.end() for worker in workers])
  own = sum(worker.cpu_seconds() for worker in workers) - own
  others = (_busy_seconds() - busy - own) / (time.perf_counter() - begin)
  return rate, max(0.0, others)


def _busy_seconds() -> float:
  """Seconds that all cores together have worked since the machine started."""
  with open('/proc/stat', encoding='ascii') as file:
    user, nice, system, _, _, interrupts, soft, steal = map(int, file.readline().split()[1:9])
  return (user + nice + system + interrupts + soft + steal) / os.sysconf('SC_CLK_TCK')
