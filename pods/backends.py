"""Where the runs of a sweep are started: what each place wants to be told, as data.

A backend turns runs into commands, one line each, and the scripts that those name. It starts
nothing. All quoting is shlex's. Every backend starts the same command again, --max_restarts times
at most, after what a preemption or a lost worker leaves (RESTART), and never after a user's error.
"""

from collections.abc import Sequence
import dataclasses
import hashlib
import re
import shlex
from typing import Any

from runs.errors import UserError
from runs.plan import PlannedRun
from training.errors import LOST, STOPPED


@dataclasses.dataclass(frozen=True)
class Made:
  """What starts a sweep: commands as words, and scripts by the name they have in HERE."""

  commands: list[list[str]]
  scripts: dict[str, str] = dataclasses.field(default_factory=dict)


# Stopped on request with everything saved, another process lost, JAX's abort when its first process
# dies, SIGKILL, and SIGTERM before Python had begun.
RESTART = (LOST, STOPPED, 134, 137, 143)
# Stands for the directory of the scripts in a command.
HERE = '{scripts}'


def _needed(settings: Any, backend: str, *names: str) -> None:
  missing = [f'--{name}' for name in names if not getattr(settings, name)]
  if missing:
    raise UserError(f'--backend={backend} needs {" and ".join(missing)}')


def short_name(name: str, limit: int = 40) -> str:
  """A name that Kubernetes and Google Cloud accept; different names stay different."""
  plain = re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')
  if not plain[:1].isalpha():
    plain = f'run-{plain}'
  if plain == name and len(plain) <= limit:
    return plain
  digest = hashlib.sha256(name.encode()).hexdigest()[:6]
  return f'{plain[: limit - 7].rstrip("-")}-{digest}'


def again(command: Sequence[str], restarts: int) -> str:
  """A shell line that repeats a command while it ends with RESTART; exits with its code."""
  line, codes = shlex.join(command), '|'.join(map(str, RESTART))
  repeat = f'case $code in {codes}) sleep 5;; *) exit $code;; esac'
  return f'for attempt in $(seq 0 {restarts}); do {line}; code=$?; {repeat}; done; exit $code'


def _inside(settings: Any) -> str:
  """The start of a shell line that runs in the directory of the code."""
  return '' if settings.repository == '.' else f'cd {shlex.quote(settings.repository)} && '


def xpk(runs: Sequence[PlannedRun], settings: Any) -> Made:
  """One JobSet a run on a GKE cluster of TPUs or GPUs.

  It restarts on all of RESTART: a machine that is taken away at once leaves its neighbours with
  such a code, and one pod that may not restart ends the JobSet.
  `exec` lets SIGTERM reach the run rather than a shell around it.
  """
  _needed(settings, 'xpk', 'cluster', 'device_type')
  if bool(settings.docker_image) == bool(settings.base_docker_image):
    raise UserError(
      '--backend=xpk needs --docker_image, which holds this code, or --base_docker_image, to which '
      'this directory is added; one of them'
    )
  options = {
    'cluster': settings.cluster,
    'device-type': settings.device_type,
    'num-slices': settings.num_slices if settings.num_slices > 1 else '',
    'num-nodes': settings.nodes if settings.nodes > 1 else '',
    'max-restarts': settings.max_restarts,
    'restart-on-exit-codes': ','.join(map(str, RESTART)),
    'termination-grace-period-seconds': settings.grace_seconds,
    'docker-image': settings.docker_image,
    'base-docker-image': settings.base_docker_image,
    'project': settings.project,
    'zone': settings.zone,
  }
  flags = [f'--{name}={value}' for name, value in options.items() if value != '']
  flags += ['--spot'] if settings.spot else []
  return Made([
    ['xpk', 'workload', 'create', f'--workload={short_name(run.name)}', *flags]
    + [f'--command={_inside(settings)}exec {shlex.join(run.command)}']
    for run in runs
  ])  # fmt: skip


def gcloud(runs: Sequence[PlannedRun], settings: Any) -> Made:
  """All runs, one after the other, on every worker of a TPU VM that exists (--tpu_name).

  Without --tpu_name every run gets a slice of its own through a queued resource, which is created
  now and starts the run by itself; deleting it stays with the user.
  """
  where = [f'--{name}={getattr(settings, name)}' for name in ('project', 'zone')
           if getattr(settings, name)]  # fmt: skip
  inside = _inside(settings)
  if settings.tpu_name:
    _needed(settings, 'gcloud', 'zone')
    if settings.num_slices > 1:
      raise UserError('--tpu_name is one slice: several need a queued resource, without --tpu_name')
    ssh = ['gcloud', 'compute', 'tpus', 'tpu-vm', 'ssh', settings.tpu_name, *where, '--worker=all']
    return Made(
      [[*ssh, f'--command={inside}{again(run.command, settings.max_restarts)}'] for run in runs]
    )
  _needed(settings, 'gcloud', 'zone', 'device_type', 'runtime_version')
  commands, scripts = [], {}
  for run in runs:
    name = short_name(run.name)
    # A startup script runs as root, at every boot, without a home.
    lines = ['#!/bin/bash', 'export HOME=/root', 'cd || exit']
    lines += [f'{settings.setup} || exit'] if settings.setup else []
    scripts[f'{name}.sh'] = (
      '\n'.join([*lines, f'{inside}{again(run.command, settings.max_restarts)}']) + '\n'
    )
    command = ['gcloud', 'compute', 'tpus', 'queued-resources', 'create', name, *where]
    if settings.num_slices > 1:
      command += [f'--node-count={settings.num_slices}', f'--node-prefix={name}']
    else:
      command.append(f'--node-id={name}')
    command += [f'--accelerator-type={settings.device_type}']
    command += [f'--runtime-version={settings.runtime_version}']
    command += ['--spot'] if settings.spot else []
    commands.append([*command, f'--metadata-from-file=startup-script={HERE}/{name}.sh'])
  return Made(commands, scripts)


def slurm(runs: Sequence[PlannedRun], settings: Any) -> Made:
  """An sbatch script: an array with a task a run, requeued on RESTART.

  SIGTERM reaches the run --grace_seconds before the time limit, so that it saves; the script
  itself outlives it (`trap`), to requeue. A process a GPU is what JAX expects of Slurm. One task
  of an array has the array's own job id: only ARRAY_TASK means that task alone.
  """
  tasks = max(1, settings.gpus_per_node)
  directives = {
    'job-name': 'bits-and-probes',
    'array': f'0-{len(runs) - 1}',
    'nodes': str(settings.nodes),
    'ntasks-per-node': str(tasks),
    'gpus-per-node': str(settings.gpus_per_node) if settings.gpus_per_node else '',
    'partition': settings.partition,
    'time': settings.time_limit,
    'requeue': None,
    'open-mode': 'append',
    'output': 'slurm-%x-%A_%a.txt',
    'signal': f'TERM@{max(settings.grace_seconds, 60)}',
  }
  lines = ['#!/bin/bash']
  for name, value in directives.items():
    if value and re.search(r'\s', value):
      raise UserError(f'--backend=slurm: "{value}" is no {name}: it has spaces')
    if value != '':
      lines.append(f'#SBATCH --{name}' if value is None else f'#SBATCH --{name}={value}')
  lines += ['commands=(', *(f'  {shlex.quote(shlex.join(run.command))}' for run in runs), ')']
  lines += [
    f'cd {shlex.quote(settings.repository)} || exit',
    'trap : TERM',
    'srun --kill-on-bad-exit=0 bash -c "exec ${commands[$SLURM_ARRAY_TASK_ID]}"',
    'code=$?',
    f'case "$code" in {"|".join(map(str, RESTART))})',
    f'  [ "${{SLURM_RESTART_COUNT:-0}}" -ge {settings.max_restarts} ] ||',
    '    scontrol requeue "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}" ;;',
    'esac',
    'exit "$code"',
  ]
  return Made([['sbatch', f'{HERE}/sweep.sbatch']], {'sweep.sbatch': '\n'.join(lines) + '\n'})


BACKENDS = {'xpk': xpk, 'gcloud': gcloud, 'slurm': slurm}
