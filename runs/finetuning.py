"""Fine-tunes finished runs and adds what came out to their records."""

from collections.abc import Sequence
import dataclasses
import os
import shutil
import sys

import tqdm

from probes import suite
from probes.measures import MEASURES, at
from reports import finding, reading, report, terminal
from runs import (
  assessment,
  comparison,
  configs,
  experiment,
  finished,
  lock,
  pool,
  provenance,
  recorded,
  run,
  spent,
  tuning,
)
from runs.errors import UserError
from training import preemption

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
    record = configs.read_record(self.workdir)
    if record.get('finetune_settings') != self.settings:
      return None
    found = record['probes'].get('finetune', {})
    told = [f'{100 * cell["accuracy"]:.1f} % with {labels} labels' for labels, cell in found.items()
            if 'accuracy' in cell]  # fmt: skip
    bits = at(found, ('all', 'code', 'bits'))
    told += [] if bits is None else [f'label code {bits:,.0f} bits']
    return f'{self.name}: {", ".join(told) or "nothing was fine-tuned"}'


def one(workdir: str, data_dir: str, overrides: Sequence[str]) -> list[str]:
  """Fine-tunes a run, or finds that it is done; returns lines on what came out.

  Raises:
    UserError: the run is not finished, or has no labels.
  """
  with lock.held(workdir, make=False), spent.counted(workdir, more=True):
    config, record = finished.read(workdir, overrides)
    settings = configs.plain(config)['probe']['finetune']
    if record.get('finetune_settings') == settings:
      return [f'{workdir} is fine-tuned']
    provenance.goes_on(workdir, record, provenance.made_with())
    saved = recorded.read_arrays(workdir)
    built = experiment.build(config, data_dir, workdir)
    if not built.probed:
      raise UserError(f"'{built.probe_dataset.name}' has no labels")
    state, _ = run.restore(built, workdir, best=False)
    features = built.probe_features(state.params)
    directory = os.path.join(workdir, _FITS)
    with tqdm.tqdm(desc='fine-tune', unit='fit', disable=None, leave=False) as bar:
      tuner = tuning.remembering(features.tuner, directory, bar.update)
      tunable = dataclasses.replace(features, tuner=tuner)
      found, arrays = assessment.all_probed(
        assessment.fit_probes(lambda: tunable, config, ('finetune',))
      )
    preemption.finish()
    record['probes'] = suite.merged(record['probes'], found)
    record['finetune_settings'] = settings
    arrays = {**saved, **arrays}
    record = recorded.write_record(workdir, record, arrays)
    recorded.to_tensorboard(built, workdir, record, arrays.get('samples'))
    shutil.rmtree(directory)
    rows = terminal.probe_lines(record['probes'], MEASURES['finetune'])
    return [recorded.named(record), *rows]


def every(workdir: str, data_dir: str, overrides: Sequence[str], jobs: int | None) -> int:
  """Fine-tunes the runs of a comparison side by side and reports; returns the exit code."""
  found = finding.find([workdir])
  if not found.runs:
    raise UserError(f'no finished run in {workdir}')
  planned = []
  for record in found.runs:
    if record['probes']:  # There are labels.
      where = record['workdir']
      command = [sys.executable, '-m', 'launch.finetune', f'--workdir={where}']
      command += [f'--data_dir={data_dir}', *overrides]
      settings = configs.plain(finished.config_of(where, overrides))['probe']['finetune']
      planned.append(Job(os.path.basename(where), where, command, settings))
  cache = os.path.join(workdir, 'compilation_cache')
  environment = pool.with_cache(dict(os.environ), cache)
  failures = pool.run_all(planned, environment, jobs, Job.done)
  rows = [f.as_row() for f in failures]
  # What an earlier report says made these runs.
  command = reading.read_json(os.path.join(workdir, 'results.json')).get('command')
  results = report.build([workdir], workdir, command=command, failures=rows)
  return comparison.show(results, workdir, failures)
