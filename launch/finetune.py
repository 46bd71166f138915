r"""Fine-tunes finished runs with few and with all labels, and codes the labels so.

python -m launch.finetune --workdir=/tmp/digits
python -m launch.finetune --workdir=/tmp/run --config.probe.finetune.layer=best

DIR is a run, or a comparison, whose runs are fine-tuned side by side. The numbers go into each
run's record and into TensorBoard; launch.report shows them.
"""

from collections.abc import Sequence
import dataclasses
import json
import os
import shutil
import sys

from absl import flags

from launch import entry
from runs.errors import UserError

_SECTION = '--config.probe.finetune.'
_FITS = 'finetune_fits'


@dataclasses.dataclass(frozen=True)
class Job:
  """One run to fine-tune, as `runs.pool` wants it."""

  name: str
  workdir: str
  command: list[str]
  settings: dict
  steps: int = 0

  @property
  def log(self) -> str:
    return os.path.join(self.workdir, 'finetune_log.txt')

  def done(self) -> str | None:
    """One line once the run is fine-tuned."""
    from probes.measures import at
    from runs import run

    record = run.read_record(self.workdir)
    if record.get('finetune_settings') != self.settings:
      return None
    accuracy, bits = (
      at(record['probes'], ('finetune', 'all', *path)) for path in (('accuracy',), ('code', 'bits'))
    )
    code = '' if bits is None else f', label code {bits:,.0f} bits'
    return f'{self.name}: {100 * accuracy:.1f} % with all labels{code}'


def main(argv: Sequence[str], overrides: Sequence[str]) -> int:
  if len(argv) > 1:
    raise UserError(f"'{argv[1]}' is not a flag; flags start with --")
  if flags.FLAGS.workdir is None:
    raise UserError('--workdir=DIR is needed')
  if flags.FLAGS.jobs is not None and flags.FLAGS.jobs < 1:
    raise UserError(f'--jobs must be at least 1, not {flags.FLAGS.jobs}')
  for override in overrides:
    if not override.startswith(_SECTION):
      raise UserError(f'{override}: only {_SECTION.lstrip("-")}* can be set here')
  from training import preemption

  preemption.install()
  workdir = os.path.abspath(os.path.expanduser(flags.FLAGS.workdir))
  if os.path.exists(os.path.join(workdir, 'config.json')):
    return _one(workdir, overrides)
  return _all(workdir, overrides)


def _one(workdir: str, overrides: Sequence[str]) -> int:
  import tqdm

  from probes.measures import MEASURES
  from reports import terminal
  from runs import assessment, configs, experiment, run, tuning

  record = run.read_record(workdir)
  if record is None:
    raise UserError(f'{workdir} is not finished; launch.train goes on with it')
  config = _config(workdir, overrides)
  settings = configs.plain(config)['probe']['finetune']
  if record.get('finetune_settings') == settings:
    print(f'{workdir} is fine-tuned')
    return 0
  built = experiment.build(config, flags.FLAGS.data_dir)
  if not built.probed:
    raise UserError(f"'{built.probe_dataset.name}' has no labels")
  state, _ = run.restore(built, workdir, best=False)
  features = built.probe_features(state.params)
  directory = os.path.join(workdir, _FITS)
  with tqdm.tqdm(desc='fine-tune', unit='fit', disable=None, leave=False) as bar:
    tuner = tuning.remembering(features.tuner, directory, bar.update)
    found, arrays = assessment.fit_probes(
      dataclasses.replace(features, tuner=tuner), config, ('finetune',)
    )
  record['probes'] |= found
  record['finetune_settings'] = settings
  arrays = {**run.read_arrays(workdir), **arrays}
  run.write_record(workdir, record, arrays)
  run.to_tensorboard(built, workdir, record, arrays.get('samples'))
  shutil.rmtree(directory)
  print(f'{record["objective"]} seed {record["seed"]}')
  for line in terminal.probe_lines(record['probes'], MEASURES['finetune']):
    print(line)
  return 0


def _config(workdir: str, overrides: Sequence[str]):
  """The run's config, with the default entry of any probe that is younger than the run."""
  from runs import configs

  saved = configs.with_new_probes(configs.from_plain(configs.read_saved(workdir)['config']))
  return configs.override(saved, overrides)


def _all(workdir: str, overrides: Sequence[str]) -> int:
  from reports import reading, report, terminal
  from runs import configs, pool

  found = reading.find([workdir])
  if not found.runs:
    raise UserError(f'no finished run in {workdir}')
  jobs = []
  for record in found.runs:
    if record['probes']:  # There are labels.
      where = record['workdir']
      command = [sys.executable, '-m', 'launch.finetune', f'--workdir={where}']
      command += [f'--data_dir={flags.FLAGS.data_dir}', *overrides]
      settings = configs.plain(_config(where, overrides))['probe']['finetune']
      jobs.append(Job(os.path.basename(where), where, command, settings))
  environment = dict(os.environ)
  cache = os.path.join(workdir, 'compilation_cache')
  environment.setdefault('JAX_COMPILATION_CACHE_DIR', cache)
  environment.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0.5')
  failures = pool.run_all(jobs, environment, flags.FLAGS.jobs, Job.done)
  rows = [f.as_row() for f in failures]
  results = report.build([workdir], workdir, command=_command_of(workdir), failures=rows)
  print(terminal.terminal_table(results))
  print(f'\nreport      {os.path.join(workdir, "report.html")}')
  for failure in failures:
    print(f'FAILED {failure.name}: {failure.reason}; log: {failure.log}', file=sys.stderr)
  return 1 if failures else 0


def _command_of(workdir: str) -> str | None:
  """What an earlier report says made these runs."""
  try:
    with open(os.path.join(workdir, 'results.json'), encoding='utf-8') as file:
      return json.load(file).get('command')
  except (OSError, ValueError):
    return None


def define_flags() -> None:
  flags.DEFINE_string('workdir', None, 'A finished run, or a comparison.')
  flags.DEFINE_string('data_dir', '~/tensorflow_datasets', 'Prepared data sets.')
  flags.DEFINE_integer(
    'jobs', None, 'Runs at a time; default: one a core on CPU, one in all on accelerators.'
  )


if __name__ == '__main__':
  define_flags()
  entry.run(main, takes_config=True)
