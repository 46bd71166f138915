r"""Starts objectives x seeds x sizes x any config field, here or on a cluster.

python -m launch.sweep --config=experiments/digits.py --workdir=DIR --seeds=0,1,2 \
  --grid=config.optimizer.weight_decay=0.0,0.1 --backend=slurm --gpus_per_node=4 --dry_run

Without --grid the runs are those of one comparison, DIR/runs/NAME; with it every point of the grid
is a comparison of its own, DIR/POINT/runs/NAME, so that no report averages over what differs.
`python -m launch.status DIR` shows how far they are, `python -m launch.report DIR` what came out.
"""

from collections.abc import Sequence
import dataclasses
import itertools
import json
import os
import re
import shlex
import subprocess
import sys
from typing import Any

from absl import flags

from launch import entry
from launch.errors import UserError

_CONFIG = flags.DEFINE_string('config', None, 'Config file.')
_WORKDIR = flags.DEFINE_string('workdir', None, 'Directory of the sweep, or gs://...')
_DATA_DIR = flags.DEFINE_string('data_dir', '~/tensorflow_datasets', 'Prepared data, over there.')
_OBJECTIVES = flags.DEFINE_list('objectives', None, "Default: the config file's.")
_SEEDS = flags.DEFINE_list('seeds', None, "Pretraining seeds; default: the config file's.")
_SIZES = flags.DEFINE_list('sizes', None, 'Model presets.')
_GRID = flags.DEFINE_multi_string('grid', [], 'config.FIELD=VALUE,VALUE,...; may be repeated.')
_BACKEND = flags.DEFINE_enum(
  'backend', 'local', ['local', 'xpk', 'gcloud', 'slurm'], 'Where the runs are started.'
)
_DRY = flags.DEFINE_bool('dry_run', False, 'Print what would run, and run nothing.')
_OUT = flags.DEFINE_string(
  'out', 'sweep_scripts', 'slurm, gcloud: directory for the scripts that the commands name.'
)
_JOBS = flags.DEFINE_integer('jobs', None, 'local: runs at a time.')
flags.DEFINE_string('cluster', '', 'xpk: name of the GKE cluster.')
flags.DEFINE_string('device_type', '', 'xpk, gcloud: slice or GPU type, as in v5litepod-16.')
flags.DEFINE_integer('num_slices', 1, 'xpk: TPU slices a run.')
flags.DEFINE_integer('max_restarts', 100, 'xpk: how often a run that was stopped is restarted.')
flags.DEFINE_string('docker_image', '', 'xpk: an image that holds this code.')
flags.DEFINE_string('base_docker_image', '', 'xpk: an image to which this directory is added.')
flags.DEFINE_string('project', '', 'xpk, gcloud: project.')
flags.DEFINE_string('zone', '', 'xpk, gcloud: zone.')
flags.DEFINE_string(
  'tpu_name', '', 'gcloud: a TPU VM that exists; else one is queued for each run.'
)
flags.DEFINE_string('runtime_version', '', 'gcloud: TPU software version.')
flags.DEFINE_bool('spot', False, 'gcloud: spot capacity.')
flags.DEFINE_string('repository', '.', 'gcloud, slurm: directory of this code over there.')
flags.DEFINE_string('partition', '', 'slurm: partition.')
flags.DEFINE_string('time_limit', '24:00:00', 'slurm: time a run may take before it is requeued.')
flags.DEFINE_integer('nodes', 1, 'slurm: nodes a run.')
flags.DEFINE_integer('gpus_per_node', 0, 'slurm: GPUs, and processes, a node.')
flags.DEFINE_integer('grace_seconds', 120, 'xpk, slurm: time to save in when a run is stopped.')


def main(argv: Sequence[str], overrides: Sequence[str]) -> int | None:
  if len(argv) > 1:
    raise UserError(f"'{argv[1]}' is not a flag; flags start with --")
  for name, value in (('config', _CONFIG.value), ('workdir', _WORKDIR.value)):
    if not value:
      raise UserError(f'--{name}= is needed')
  local = _BACKEND.value == 'local'
  if _JOBS.value is not None and _JOBS.value < 1:
    raise UserError(f'--jobs must be at least 1, not {_JOBS.value}')
  workdir = _WORKDIR.value
  if local:
    workdir = os.path.abspath(os.path.expanduser(workdir))
  environment = dict(os.environ)
  # This process only plans; accelerators are left to the runs.
  os.environ['JAX_PLATFORMS'] = 'cpu'
  runs = _plan(workdir, overrides, local)
  if local:
    return _run_here(runs, workdir, environment)
  from launch import backends

  sent = [
    backends.Run(run.name, run.workdir, ('python', *run.command[1:], '--distributed=auto'))
    for run in runs
  ]
  made = backends.BACKENDS[_BACKEND.value](sent, flags.FLAGS)
  return _submit(made, runs, workdir)


def expand(grid: Sequence[str]) -> list[tuple[str, tuple[str, ...]]]:
  """('config.a.b=1,2', ...) -> (directory, overrides) of every point; [('', ())] without a grid."""
  axes, seen = [], set()
  for entry_ in grid:
    found = re.fullmatch(r'(?:--)?(config\.[\w.]+)=(.+)', entry_)
    if not found:
      raise UserError(f'--grid={entry_} must be config.FIELD=VALUE,VALUE,...')
    field, values = found[1], found[2].split(',')
    if field in seen or len(set(values)) != len(values) or '' in values:
      raise UserError(f'--grid={entry_}: every field once, and every value once')
    seen.add(field)
    name = field.rsplit('.', 1)[1]
    axes.append(
      [
        (f'{name}{re.sub(r"[^A-Za-z0-9_.+-]", "_", value)}', f'--{field}={value}')
        for value in values
      ]
    )
  points = [tuple(zip(*point, strict=True)) for point in itertools.product(*axes)]
  return [('-'.join(point[0]), point[1]) if point else ('', ()) for point in points]


def _plan(workdir: str, overrides: Sequence[str], build: bool) -> list:
  """Every run of every point; on a cluster the configs are checked, the data is not looked at."""
  from launch import plan

  seeds = entry.numbers('seeds', _SEEDS.value, int) if _SEEDS.value is not None else None
  planned = []
  for point, fields in expand(_GRID.value):
    where = '/'.join(part for part in (workdir.rstrip('/'), point) if part)
    runs, notes = plan.make(
      _CONFIG.value, _OBJECTIVES.value, seeds, None, [*overrides, *fields], where,
      _DATA_DIR.value, sizes=_SIZES.value, build=build,
    )  # fmt: skip
    for note in notes:
      print(note, file=sys.stderr)
    label = f'{point}/' if point else ''
    planned += [dataclasses.replace(run, name=f'{label}{run.name}') for run in runs]
  return planned


def _manifest(runs: Sequence, workdir: str) -> None:
  """WORKDIR/sweep.json: what launch.status expects to find."""
  from etils import epath

  from training.metrics import write_atomically

  rows = [{'name': r.name, 'workdir': r.workdir, 'steps': r.steps, 'command': r.command}
          for r in runs]  # fmt: skip
  epath.Path(workdir).mkdir(parents=True, exist_ok=True)
  write_atomically(f'{workdir.rstrip("/")}/sweep.json', json.dumps({'runs': rows}, indent=1) + '\n')


def _run_here(runs: Sequence, workdir: str, environment: dict[str, str]) -> int:
  if _DRY.value:
    for run in runs:
      print(shlex.join(run.command))
    return 0
  from launch import pool
  from training import preemption

  preemption.install()
  _manifest(runs, workdir)
  cache = os.path.join(workdir, 'compilation_cache')
  environment.setdefault('JAX_COMPILATION_CACHE_DIR', cache)
  environment.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0.5')
  failures = pool.run_all(runs, environment, _JOBS.value)
  for failure in failures:
    print(f'FAILED {failure.name}: {failure.reason}; log: {failure.log}', file=sys.stderr)
  print(f'{len(runs) - len(failures)} of {len(runs)} runs are done: {workdir}')
  return 1 if failures else 0


def _submit(made: Any, runs: Sequence, workdir: str) -> int:
  """Runs the commands of a backend; one that is refused costs only itself."""
  from launch import backends
  from training.metrics import write_atomically

  for name, content in made.scripts.items():
    os.makedirs(_OUT.value, exist_ok=True)
    write_atomically(os.path.join(_OUT.value, name), content)
  commands = [
    [word.replace(backends.HERE, _OUT.value) for word in command] for command in made.commands
  ]
  if _DRY.value:
    for command in commands:
      print(shlex.join(command))
    for name, content in made.scripts.items():
      print(f'\n# {os.path.join(_OUT.value, name)}\n{content}', end='')
    return 0
  _manifest(runs, workdir)
  failed = 0
  for command in commands:
    try:
      code = subprocess.run(command, check=False).returncode
    except FileNotFoundError as error:
      raise UserError(f'{command[0]} is not installed; --dry_run prints its commands') from error
    if code:
      failed += 1
      print(f'FAILED with exit code {code}: {shlex.join(command)}', file=sys.stderr)
  print(f'{len(commands) - failed} of {len(commands)} submitted; python -m launch.status {workdir}')
  return 1 if failed else 0


if __name__ == '__main__':
  entry.run(main, takes_config=True)
