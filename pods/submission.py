"""Hands the runs of a sweep to a backend."""

from collections.abc import Sequence
import dataclasses
import os
import shlex
import subprocess
import sys
from typing import Any

from pods import backends
from runs import plan
from runs.errors import UserError
from training.metrics import write_atomically


def directory(workdir: str, backend: str) -> str:
  """The directory as every machine of the sweep may call it."""
  if '://' in workdir:
    return workdir.rstrip('/')
  expanded = os.path.expanduser(workdir)
  if backend in ('xpk', 'gcloud') and not os.path.isabs(expanded):
    raise UserError(
      f'--workdir={workdir}: other machines write to it, so it must be gs://... or absolute'
    )
  return os.path.abspath(expanded)


def submit(runs: Sequence[plan.PlannedRun], settings: Any, workdir: str) -> int:
  """Starts what is not done already; returns the exit code.

  Args:
    runs: of the whole sweep.
    settings: the flags of launch.sweep, by name.
    workdir: as from `directory`.
  """
  sent = [
    dataclasses.replace(run, command=[settings.python, *run.command[1:], '--distributed=auto'])
    for run in runs
    if not os.path.exists(os.path.join(run.workdir, 'run.json'))
  ]
  if len(sent) < len(runs):
    print(f'{len(runs) - len(sent)} of {len(runs)} runs are done already', file=sys.stderr)
  if not sent:
    return 0
  if '\n' in ''.join([settings.setup, *(word for run in sent for word in run.command)]):
    raise UserError('a value with a line break in it can not be part of a command')
  made = backends.BACKENDS[settings.backend](sent, settings)
  for name, content in made.scripts.items():
    os.makedirs(settings.out, exist_ok=True)
    write_atomically(os.path.join(settings.out, name), content)
  commands = [
    [word.replace(backends.HERE, settings.out) for word in command] for command in made.commands
  ]
  if settings.dry_run:
    for command in commands:
      print(shlex.join(command))
    for name, content in made.scripts.items():
      print(f'\n# {os.path.join(settings.out, name)}\n{content}', end='')
    return 0
  # Of a disk that is mounted over there alone nothing can be kept here.
  if '://' in workdir or os.path.isdir(os.path.dirname(workdir)):
    plan.write_manifest(runs, workdir)
  return _start(commands, workdir)


def _start(commands: Sequence[Sequence[str]], workdir: str) -> int:
  """Runs the commands of a backend; one that is refused costs only itself."""
  failed = 0
  for command in commands:
    try:
      code = subprocess.run(command, check=False).returncode
    except FileNotFoundError as error:
      raise UserError(f'{command[0]} is not installed; --dry_run prints its commands') from error
    if code:
      failed += 1
      print(f'FAILED with exit code {code}: {shlex.join(command)}', file=sys.stderr)
  where = shlex.quote(workdir)
  print(f'{len(commands) - failed} of {len(commands)} submitted; python -m launch.status {where}')
  return 1 if failed else 0
