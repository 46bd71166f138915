"""How every binary starts and how it fails: one clear line, never a traceback for bad input."""

from collections.abc import Callable, Sequence
import math
import os
import re
import select
import signal
import sys
import types
from typing import TextIO

from absl import app, flags, logging

from codes.errors import CodeError
import launch
from launch import devices
from reports.errors import ReportError
from runs.errors import UserError, describe_flag_error
from training import host_memory, preemption
from training.errors import (
  LOST,
  STOPPED,
  USAGE_ERROR,
  NotSaved,
  Preempted,
  ProcessLost,
  Stopped,
  TrainingError,
  is_full,
)
from training.watchdog import WATCHDOG

# Settings of JAX's environment that would make other numbers of the same config.
_FIXED = {
  'JAX_DEFAULT_PRNG_IMPL': 'threefry2x32',
  'JAX_THREEFRY_PARTITIONABLE': '1',
  'JAX_RANDOM_SEED_OFFSET': '0',
  'JAX_ENABLE_X64': '0',
  'JAX_NUMPY_DTYPE_PROMOTION': 'standard',
}
# Their messages are one clear line.
_EXPECTED = (UserError, ReportError, CodeError, TrainingError)


def fail(message: str, code: int = USAGE_ERROR) -> None:
  """Prints one line on stderr and exits."""
  line = ' '.join(str(message).split())
  print(f'{_program()}: {line}', file=sys.stderr)
  sys.exit(code)


def _program() -> str:
  return os.path.splitext(os.path.basename(sys.argv[0]))[0]


def config_overrides(argv: Sequence[str]) -> tuple[list[str], list[str]]:
  """Splits `--config.a.b=c` arguments off; returns (the rest, the overrides)."""
  rest, overrides = [], []
  arguments = iter(argv)
  for argument in arguments:
    if re.match(r'--?config\.', argument):
      if '=' not in argument:
        value = next(arguments, None)
        if value is None:
          raise UserError(f'{argument} needs a value: {argument}=VALUE')
        argument = f'{argument}={value}'
      overrides.append('--' + argument.lstrip('-'))
    else:
      rest.append(argument)
  return rest, overrides


def numbers(name: str, texts: Sequence[str], kind: type) -> list:
  """The values of a list flag; UserError unless they are numbers, each once."""
  try:
    values = [kind(text) for text in texts]
  except ValueError as error:
    raise UserError(f'--{name} must be a list of numbers, not {",".join(texts)}') from error
  if not all(map(math.isfinite, values)):
    raise UserError(f'--{name} must be a list of finite numbers, not {",".join(texts)}')
  if not values or len(set(values)) != len(values):
    raise UserError(f'--{name} must name each value once, at least one: {",".join(texts)}')
  return values


def _is_closed(stream: TextIO | None) -> bool:
  """Whether nobody reads any longer what is written there."""
  if stream is None:
    return False
  poll = select.poll()
  poll.register(stream.fileno(), 0)
  return any(event & select.POLLERR for _, event in poll.poll(0))


def _distributed() -> types.ModuleType | None:
  """`training.distributed` if the command loaded it, and JAX with it: else it runs alone."""
  return sys.modules.get('training.distributed')


def _finish() -> None:
  """Ends the run together with the other processes, where there are any."""
  if distributed := _distributed():
    distributed.finish()


def _give_up(error: Exception) -> None:
  """Ends one process of several, which the others can't go on without, and does not wait."""
  import traceback

  import jax

  from training import distributed

  code = LOST
  if isinstance(error, _EXPECTED):
    reason, code = str(error), LOST if isinstance(error, ProcessLost) else USAGE_ERROR
  elif isinstance(error, jax.errors.JaxRuntimeError):
    first = str(error).strip().splitlines()[0]
    reason = (
      f'the run can not go on, most likely another process was lost ({first[:200]}); the same '
      'command on all of them goes on from the last checkpoint'
    )
  else:
    traceback.print_exc()
    reason = f'{type(error).__name__}: {error}'
  distributed.leave(code, reason)


def no_arguments(argv: Sequence[str]) -> None:
  """UserError if a word of the command line is no flag; argv[0] is the program."""
  if len(argv) > 1:
    raise UserError(f"'{argv[1]}' is not a flag; flags start with --")


def _listen(keeps: bool) -> None:
  """SIGTERM means what `run` says from now on, also where it has come before.

  Raises:
    Preempted: it has, and the command keeps what it computes.
  """
  if keeps:
    preemption.begin()
    if launch.asked:
      raise Preempted(preemption.MESSAGE)
  elif signal.getsignal(signal.SIGTERM) is launch.note:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if launch.asked:
      os.kill(os.getpid(), signal.SIGTERM)


def run(
  main: Callable[..., int | None], *, takes_config: bool = False, keeps: bool = False
) -> None:
  """Parses flags and runs `main(argv)`; expected failures become one line and an exit code.

  With `takes_config`, `--config.a.b=c` arguments are handed over as `main(argv, overrides)`.
  `keeps` is for commands that go on when they are repeated: SIGTERM ends them with 42 from their
  first moment on.

  Exit codes: 0 done, 1 a run of several failed, 2 bad input or a run that can't go on, 3 one
  process of several was lost, 42 stopped on request with everything saved, 143 with nothing kept.
  """
  overrides: list[str] = []

  def parse(argv: list[str]) -> list[str]:
    try:
      if takes_config:
        argv, found = config_overrides(argv)
        overrides.extend(found)
      try:
        rest = flags.FLAGS(argv)
      except SystemExit:
        sys.exit(0)  # --help, which absl ends with 1.
      for name, value in flags.FLAGS.flag_values_dict().items():
        if isinstance(value, float) and not math.isfinite(value):
          raise UserError(f'--{name} must be a finite number, not {value}')
      return rest
    except (UserError, flags.Error) as error:
      fail(error if isinstance(error, UserError) else describe_flag_error(error))
    return []

  def guarded(argv: Sequence[str]) -> int | None:
    if not flags.FLAGS['verbosity'].present:
      logging.set_verbosity(logging.WARNING)
    try:
      code = main(argv, overrides) if takes_config else main(argv)
      if sys.stdout is not None:  # closed by whoever started this
        sys.stdout.flush()
      _finish()
      return code
    except Preempted as stop:
      if stop.alone and (distributed := _distributed()) and distributed.active():
        distributed.leave(STOPPED, str(stop))
      _finish()
      raise
    except Exception as error:
      if (distributed := _distributed()) and distributed.active():
        _give_up(error)
      if isinstance(error, BrokenPipeError) and _is_closed(sys.stdout):  # as with `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is left to flush
        sys.exit(128 + signal.SIGPIPE)
      if isinstance(error, NotSaved):
        # At once: the threads that failed have much to say while Python shuts down.
        WATCHDOG.end(USAGE_ERROR, f'{_program()}: {error}')
      if isinstance(error, _EXPECTED):
        fail(error)
      if isinstance(error, ImportError) and 'gcsfs' in str(error):
        fail("a directory in a bucket, gs://..., needs pip install '.[gcs]'")
      if not isinstance(error, OSError) or (error.filename is None and not is_full(error)):
        raise
      reason = error.strerror or f'disk full? {error}'
      fail(f'{error.filename}: {reason}' if error.filename else reason)
    except Stopped:
      fail(preemption.KEPT_NOTHING, 128 + signal.SIGTERM)
    except KeyboardInterrupt:
      fail(f'interrupted; {preemption.REPEAT}', 130)
    return None

  try:
    host_memory.keep_freed()  # Before `_listen` starts the first thread.
    _listen(keeps)
    devices.settle()
    os.environ.update(_FIXED)  # Before JAX reads them.
    if hasattr(sys.stdout, 'reconfigure'):
      sys.stdout.reconfigure(errors='replace')  # A terminal without ≤ still gets its table.
    app.run(guarded, argv=sys.argv, flags_parser=parse)
  except Preempted as stop:
    # At once: Python would crash as it shuts down, where a compilation was broken off.
    WATCHDOG.end(STOPPED, f'{_program()}: {stop}; {preemption.REPEAT}')
