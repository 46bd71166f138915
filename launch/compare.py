r"""Trains, scores and probes every objective, then writes one report.

python -m launch.compare --config=experiments/digits.py --workdir=/tmp/digits

Each run is a process of its own with a log and a directory of its own. What is finished is
recognised, what was interrupted goes on, and one failed run costs only itself.
"""

from collections.abc import Sequence
import os
import shlex
import sys

from absl import flags

from launch import entry
from runs.errors import UserError


def main(argv: Sequence[str], overrides: Sequence[str]) -> int:
  if len(argv) > 1:
    raise UserError(f"'{argv[1]}' is not a flag; flags start with --")
  if flags.FLAGS.workdir is None:
    raise UserError('--workdir=DIR is needed')
  if flags.FLAGS.jobs is not None and flags.FLAGS.jobs < 1:
    raise UserError(f'--jobs must be at least 1, not {flags.FLAGS.jobs}')
  seeds = entry.numbers('seeds', flags.FLAGS.seeds, int) if flags.FLAGS.seeds is not None else None
  rates = (
    entry.numbers('learning_rates', flags.FLAGS.learning_rates, float)
    if flags.FLAGS.learning_rates
    else None
  )
  if rates and min(rates) <= 0:
    raise UserError(f'--learning_rates must be above 0, not {min(rates):g}')
  # The parent only reads, probes raw inputs and draws; accelerators are left to the runs.
  own_platform = os.environ.get('JAX_PLATFORMS')
  os.environ['JAX_PLATFORMS'] = 'cpu'
  import jax

  from runs import plan, pool
  from training import preemption

  preemption.install()
  workdir = os.path.abspath(os.path.expanduser(flags.FLAGS.workdir))
  runs, notes = plan.make(
    flags.FLAGS.config,
    flags.FLAGS.objectives,
    seeds,
    rates,
    overrides,
    workdir,
    flags.FLAGS.data_dir,
    sizes=flags.FLAGS.sizes,
  )
  for note in notes:
    print(note)
  environment = dict(os.environ)
  environment.pop('JAX_PLATFORMS')
  if own_platform is not None:
    environment['JAX_PLATFORMS'] = own_platform
  cache = flags.FLAGS.compilation_cache or os.path.join(workdir, 'compilation_cache')
  environment.setdefault('JAX_COMPILATION_CACHE_DIR', cache)
  environment.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0.5')
  # The controls are probed here, by the programs that the runs have compiled.
  jax.config.update('jax_compilation_cache_dir', environment['JAX_COMPILATION_CACHE_DIR'])
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.5)
  plan.write_manifest(runs, workdir)
  failures = pool.run_all(runs, environment, flags.FLAGS.jobs)
  return _finish(runs, failures, notes, workdir, overrides)


def _finish(
  runs: list, failures: list, notes: list[str], workdir: str, overrides: Sequence[str]
) -> int:
  """Controls, report, table; returns the exit code."""
  from reports import report, terminal
  from runs import plan
  from training import preemption

  preemption.check()
  plan.write_controls(runs[0], workdir, flags.FLAGS.data_dir)
  results = report.build(
    [workdir],
    workdir,
    command=_command(overrides),
    failures=[f.as_row() for f in failures],
    notes=notes,
  )
  print(terminal.terminal_table(results))
  print(f'\nreport      {os.path.join(workdir, "report.html")}')
  print(f'TensorBoard tensorboard --logdir={shlex.quote(workdir)}')
  for failure in failures:
    print(f'FAILED {failure.name}: {failure.reason}; log: {failure.log}', file=sys.stderr)
  return 1 if failures else 0


def _command(overrides: Sequence[str]) -> str:
  """The command that makes these results again, without paths of this machine."""
  words = ['python', '-m', 'launch.compare', f'--config={flags.FLAGS.config}', '--workdir=DIR']
  if flags.FLAGS.objectives:
    words.append(f'--objectives={",".join(flags.FLAGS.objectives)}')
  if flags.FLAGS.seeds:
    words.append(f'--seeds={",".join(flags.FLAGS.seeds)}')
  if flags.FLAGS.learning_rates:
    words.append(f'--learning_rates={",".join(flags.FLAGS.learning_rates)}')
  if flags.FLAGS.sizes:
    words.append(f'--sizes={",".join(flags.FLAGS.sizes)}')
  return shlex.join([*words, *overrides])


def define_flags() -> None:
  flags.DEFINE_string('config', 'experiments/digits.py', 'Config file, without objective.')
  flags.DEFINE_string('workdir', None, 'Directory of the comparison.')
  flags.DEFINE_string('data_dir', '~/tensorflow_datasets', 'Prepared data sets.')
  flags.DEFINE_list(
    'objectives', None, "Objectives to compare; default: the config file's COMPARE."
  )
  flags.DEFINE_list(
    'seeds',
    None,
    "Pretraining seeds; from 5 there are intervals. Default: the config file's SEEDS.",
  )
  flags.DEFINE_list(
    'learning_rates',
    None,
    'A grid; each objective takes the rate with the lowest validation loss of its own. '
    "Default: the config's one rate, printed as untuned.",
  )
  flags.DEFINE_list(
    'sizes', None, "Presets of the backbone, each trained and tuned; default: the config's own."
  )
  flags.DEFINE_integer(
    'jobs', None, 'Runs at a time; default: one a core on CPU, one in all on accelerators.'
  )
  flags.DEFINE_string(
    'compilation_cache', None, 'Directory of compiled programs; default: WORKDIR/compilation_cache.'
  )


if __name__ == '__main__':
  define_flags()
  entry.run(main, takes_config=True)
