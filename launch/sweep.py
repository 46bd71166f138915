r"""Starts objectives x seeds x sizes x any config field, here or on a cluster.

python -m launch.sweep --config=experiments/digits.py --workdir=DIR --seeds=0,1,2 \
  --grid=config.optimizer.weight_decay=0.0,0.1 --backend=slurm --gpus_per_node=4 --dry_run

Without --grid the runs are those of one comparison, DIR/runs/NAME; with it every point of the grid
is a comparison of its own, DIR/POINT/runs/NAME, so that no report averages over what differs.
`python -m launch.status DIR` shows how far they are, `python -m launch.report DIR` (or DIR/POINT)
what came out. docs/pods.md says how to use a cluster.
"""

from collections.abc import Sequence
import functools
import os

from absl import flags

from launch import entry
from runs.errors import UserError


def main(
  argv: Sequence[str], overrides: Sequence[str], settings: flags.FlagValues = flags.FLAGS
) -> int | None:
  entry.no_arguments(argv)
  for name in ('config', 'workdir'):
    if not settings[name].value:
      raise UserError(f'--{name}= is needed')
  if settings.jobs is not None and settings.jobs < 1:
    raise UserError(f'--jobs must be at least 1, not {settings.jobs}')
  seeds = entry.numbers('seeds', settings.seeds, int) if settings.seeds is not None else None
  environment = dict(os.environ)
  # This process only plans; accelerators are left to the runs.
  os.environ['JAX_PLATFORMS'] = 'cpu'
  from pods import submission
  from runs import sweep

  here = settings.backend == 'local'
  workdir = submission.directory(settings.workdir, settings.backend)
  runs = sweep.planned(
    settings.config, settings.objectives, seeds, settings.sizes, settings.grid, overrides, workdir,
    settings.data_dir, build=here,
  )  # fmt: skip
  if here:
    return sweep.run_here(runs, workdir, environment, settings.jobs, settings.dry_run)
  return submission.submit(runs, settings, workdir)


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
  whole('max_restarts', 100, 'Not here: how often a run that was stopped is restarted.')
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


if __name__ == '__main__':
  define_flags()
  entry.run(main, takes_config=True, keeps=True)
