r"""Starts objectives x seeds x sizes x any config field, here or on a cluster.

python -m launch.sweep --config=experiments/digits.py --workdir=DIR --seeds=0,1,2 \
  --grid=config.optimizer.weight_decay=0.0,0.1 --backend=slurm --gpus_per_node=4 --dry_run

Without --grid the runs are those of one comparison, DIR/runs/NAME; with it every point of the grid
is a comparison of its own, DIR/POINT/runs/NAME, so that no report averages over what differs.
`python -m launch.status DIR` shows how far they are, `python -m launch.report DIR` (or DIR/POINT)
what came out. docs/pods.md says how to use a cluster.
"""

from collections.abc import Sequence
import dataclasses
import functools
import itertools
import os
import re
import shlex
import subprocess
import sys
from typing import Any

from absl import flags

from launch import entry
from runs.errors import UserError


def define_flags(values: flags.FlagValues = flags.FLAGS) -> None:
  """Called by this program alone: others, and tests of them, have flags of these names too."""
  text = functools.partial(flags.DEFINE_string, flag_values=values)
  whole = functools.partial(flags.DEFINE_integer, flag_values=values)
  words = functools.partial(flags.DEFINE_list, flag_values=values)
  switch = functools.partial(flags.DEFINE_bool, flag_values=values)
  text('config', None, 'Config file.')
  text('workdir', None, 'Directory of the sweep, or gs://...')
  text('data_dir', '~/tensorflow_datasets', 'Prepared data, over there.')
  words('objectives', None, "Default: the config file's.")
  words('seeds', None, "Pretraining seeds; default: the config file's.")
  words('sizes', None, 'Model presets.')
  flags.DEFINE_multi_string(
    'grid', [], 'config.FIELD=VALUE,VALUE,...; may be repeated.', flag_values=values
  )
  flags.DEFINE_enum(
    'backend', 'local', ['local', 'xpk', 'gcloud', 'slurm'], 'Where the runs are started.',
    flag_values=values,
  )  # fmt: skip
  switch('dry_run', False, 'Print what would run, and run nothing.')
  text('out', 'sweep_scripts', 'slurm, gcloud: directory for the scripts that the commands name.')
  whole('jobs', None, 'local: runs at a time.')
  text('repository', '.', 'xpk, gcloud, slurm: directory of this code over there.')
  text('python', 'python', 'xpk, gcloud, slurm: the interpreter over there.')
  text('device_type', '', 'xpk, gcloud: slice or GPU type, as in v5litepod-16.')
  whole('num_slices', 1, 'xpk, gcloud: TPU slices a run.', lower_bound=1)
  text('project', '', 'xpk, gcloud: project.')
  text('zone', '', 'xpk, gcloud: zone.')
  switch('spot', False, 'xpk, gcloud: spot capacity.')
  text('cluster', '', 'xpk: name of the GKE cluster.')
  whole('max_restarts', 100, 'xpk: how often a run that was stopped is restarted.')
  text('docker_image', '', 'xpk: an image that holds this code.')
  text('base_docker_image', '', 'xpk: an image to which this directory is added.')
  text('tpu_name', '', 'gcloud: a TPU VM that exists; else one is queued for each run.')
  text('runtime_version', '', 'gcloud: TPU software version.')
  text('setup', '', 'gcloud: a shell line that installs this code on a new TPU VM.')
  text('partition', '', 'slurm: partition.')
  text('time_limit', '24:00:00', 'slurm: time a run may take before it is requeued.')
  whole('nodes', 1, 'slurm, xpk with GPUs: nodes a run.', lower_bound=1)
  whole('gpus_per_node', 0, 'slurm: GPUs, and processes, a node.', lower_bound=0)
  whole('grace_seconds', 120, 'xpk, slurm: time to save in when a run is stopped.')


def main(
  argv: Sequence[str], overrides: Sequence[str], settings: flags.FlagValues = flags.FLAGS
) -> int | None:
  if len(argv) > 1:
    raise UserError(f"'{argv[1]}' is not a flag; flags start with --")
  for name in ('config', 'workdir'):
    if not settings[name].value:
      raise UserError(f'--{name}= is needed')
  local = settings.backend == 'local'
  if settings.jobs is not None and settings.jobs < 1:
    raise UserError(f'--jobs must be at least 1, not {settings.jobs}')
  workdir = _place(settings)
  environment = dict(os.environ)
  # This process only plans; accelerators are left to the runs.
  os.environ['JAX_PLATFORMS'] = 'cpu'
  runs = _plan(settings, workdir, overrides, local)
  if local:
    return _run_here(settings, runs, workdir, environment)
  from pods import backends

  sent = [
    backends.Run(run.name, run.workdir, (settings.python, *run.command[1:], '--distributed=auto'))
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
  return _submit(settings, made, runs, workdir)


def _place(settings: Any) -> str:
  """The directory as every machine of the sweep may call it."""
  workdir = settings.workdir
  if '://' in workdir:
    return workdir.rstrip('/')
  expanded = os.path.expanduser(workdir)
  if settings.backend in ('xpk', 'gcloud') and not os.path.isabs(expanded):
    raise UserError(
      f'--workdir={workdir}: other machines write to it, so it must be gs://... or absolute'
    )
  return os.path.abspath(expanded)


def _values(text: str) -> list[str]:
  """'1,2' -> 1 and 2; commas inside brackets belong to a value: "('a','b'),()" are two."""
  values, depth = [''], 0
  for letter in text:
    depth += (letter in '([{') - (letter in ')]}')
    if letter == ',' and depth == 0:
      values.append('')
    else:
      values[-1] += letter
  return values


def expand(grid: Sequence[str]) -> list[tuple[str, tuple[str, ...]]]:
  """('config.a.b=1,2', ...) -> (directory, overrides) of every point; [('', ())] without a grid."""
  axes, seen = [], set()
  for entry_ in grid:
    found = re.fullmatch(r'(?:--)?(config\.[\w.]+)=(.+)', entry_)
    if not found:
      raise UserError(f'--grid={entry_} must be config.FIELD=VALUE,VALUE,...')
    field, values = found[1], _values(found[2])
    name = field.rsplit('.', 1)[1]
    labels = [f'{name}{re.sub(r"[^A-Za-z0-9_.+-]+", "_", value)}' for value in values]
    if field in seen or len(set(labels)) != len(labels) or '' in values:
      raise UserError(
        f'--grid={entry_}: every field once, and every value once, told apart by name'
      )
    if field == 'config.training.seed':
      raise UserError('--grid=config.training.seed: give --seeds')
    seen.add(field)
    axes.append(
      [(label, f'--{field}={value}') for label, value in zip(labels, values, strict=True)]
    )
  points = [tuple(zip(*point, strict=True)) for point in itertools.product(*axes)]
  return [('-'.join(point[0]), point[1]) if point else ('', ()) for point in points]


def _plan(settings: Any, workdir: str, overrides: Sequence[str], build: bool) -> list:
  """Every run of every point; on a cluster the configs are checked, the data is not looked at."""
  from runs import plan

  seeds = entry.numbers('seeds', settings.seeds, int) if settings.seeds is not None else None
  planned = []
  if not build:
    print('the data is not looked at: a run that does not suit it fails there', file=sys.stderr)
  for point, fields in expand(settings.grid):
    where = '/'.join(part for part in (workdir.rstrip('/'), point) if part)
    runs, notes = plan.make(
      settings.config, settings.objectives, seeds, None, [*overrides, *fields], where,
      settings.data_dir, sizes=settings.sizes, build=build,
    )  # fmt: skip
    for note in notes:
      print(note, file=sys.stderr)
    label = f'{point}/' if point else ''
    planned += [dataclasses.replace(run, name=f'{label}{run.name}') for run in runs]
  return planned


def _run_here(settings: Any, runs: Sequence, workdir: str, environment: dict[str, str]) -> int:
  if settings.dry_run:
    for run in runs:
      print(shlex.join(run.command))
    return 0
  from runs import plan, pool
  from training import preemption

  preemption.install()
  plan.write_manifest(runs, workdir)
  cache = os.path.join(workdir, 'compilation_cache')
  environment.setdefault('JAX_COMPILATION_CACHE_DIR', cache)
  environment.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0.5')
  failures = pool.run_all(runs, environment, settings.jobs)
  for failure in failures:
    print(f'FAILED {failure.name}: {failure.reason}; log: {failure.log}', file=sys.stderr)
  print(f'{len(runs) - len(failures)} of {len(runs)} runs are done: {workdir}')
  return 1 if failures else 0


def _submit(settings: Any, made: Any, runs: Sequence, workdir: str) -> int:
  """Runs the commands of a backend; one that is refused costs only itself."""
  from pods import backends
  from runs import plan
  from training.metrics import write_atomically

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


if __name__ == '__main__':
  define_flags()
  entry.run(main, takes_config=True)
