"""Probes finished runs again, and the features of any other model."""

from collections.abc import Collection, Iterable, Mapping, Sequence
import dataclasses
import os
from typing import Any

from experiments import base
from probes import baselines, exchange, suite
from probes.measures import at, headline
from reports import reading, terminal
from runs import (
  assessment,
  checks,
  configs,
  experiment,
  finished,
  foreign,
  lock,
  parents,
  provenance,
  recorded,
  run,
  spent,
)
from runs.errors import UserError
from training import preemption
from training import state as state_lib


def of_run(workdir: str, data_dir: str, overrides: Sequence[str], best: bool) -> list[str]:
  """Replaces the probes in the record of a run; returns lines on what came out.

  Args:
    workdir: a finished run.
    data_dir: prepared data sets.
    overrides: `--config.probe.a=b`.
    best: of the best checkpoint on validation, instead of the last.

  Raises:
    UserError: the run is not finished, has no labels, or its labels are other ones now.
  """
  with lock.held(workdir, make=False), spent.counted(workdir, more=True):
    built, record, state = _open(workdir, data_dir, overrides, best)
    provenance.goes_on(workdir, record, provenance.made_with())
    if record['probes'] and record.get('probe_data_hash') not in (None, built.probe_dataset.digest):
      # Curves, fine-tuning and the best checkpoint would stay those of the run's own labels.
      raise UserError(
        f'these are other labels than those of {workdir}: write its features with --export, and '
        'probe them with --features'
      )
    checks.check_probes(built)
    saved = recorded.read_arrays(workdir)
    of_best = best and built.objective.trains
    choices = _choices(workdir, record, of_best)
    probes, failed, arrays = assessment.probe(built, state.params, choices=choices)
    if not probes:
      assessment.all_probed((probes, failed, arrays))
    if of_best:
      cell = {'step': int(state.step), 'bits_per_dim': None, 'bits_per_dim_stderr': None}
      cell = record['at_best'] or cell
      kept = _kept(cell.get('probes') or {}, failed)
      probes_of_best = suite.merged(kept, probes)
      record['at_best'] = {**cell, 'probes': probes_of_best}
      _share(probes_of_best, arrays)
      arrays = saved
    else:
      # Fine-tuning took longer than all of these; it stays until it is asked for again.
      kept = _kept(record['probes'], ('finetune', *failed))
      settings = record.setdefault('settings_of_results', {})
      own = {name: settings.get('probe', {}).get(name) for name in kept}
      settings['probe'] = configs.plain(built.config.probe)
      settings['probe'] |= {name: value for name, value in own.items() if value is not None}
      record['probes'] = suite.merged(kept, probes)
      record['probe_data_hash'] = built.probe_dataset.digest
      arrays = {**saved, **arrays}
      _share(record['probes'], arrays)
    ending = reading.AT_BEST if of_best else ''
    before = record.get('probes_failed') or {}
    record['probes_failed'] = _failed(before, failed, ending, {*kept} - {*probes})
    stays = [] if of_best else _stays(record)
    preemption.finish()
    record['parameters'] = state_lib.count(state.params)
    record = recorded.write_record(workdir, record, arrays)
    recorded.to_tensorboard(built, workdir, record, arrays.get('samples'))
    return [
      recorded.summary({**record, 'probes': probes, 'probes_failed': failed}),
      *terminal.majority_lines(assessment.majority(built)),
      *terminal.probe_lines(probes, headline()),
      *stays,
      f'python -m launch.report {os.path.abspath(workdir)} shows it',
    ]


def _kept(before: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
  """Earlier results of these probes, in the form of all of them."""
  kept = {name: before[name] for name in names if name in before}
  left_out = before.get('left_out') or {}
  left_out = {name: left_out[name] for name in names if name in left_out}
  return kept | ({'left_out': left_out} if left_out else {})


def _failed(
  before: Mapping[str, str], failed: Mapping[str, str], ending: str, kept: Collection[str]
) -> dict[str, str]:
  """What failed, and of what failed before that which is not of this time, or still stands."""
  gone = {f'{name}{ending}' for name in suite.PROBES if name not in kept}
  others = {name: why for name, why in before.items() if name not in gone}
  return others | {f'{name}{ending}': why for name, why in failed.items()}


def _share(probes: Mapping[str, Any], arrays: Mapping[str, Any]) -> None:
  """Of the probes as they are now: one of them may have failed, and be of earlier settings."""
  if (mlp := at(probes, ('mlp', 'all'))) is not None:
    for name in suite.SHARE:
      mlp.pop(name, None)
    mlp |= suite.linear_share(arrays) if 'linear' in probes else {}


def _stays(record: Mapping[str, Any]) -> list[str]:
  """A line on what was probed before and is not probed again."""
  kept = [name for name in ('probes_by_level', 'latents') if record.get(name)]
  kept += ['the best checkpoint'] * bool((record.get('at_best') or {}).get('probes'))
  return [f'as they were, by earlier settings: {", ".join(kept)}'] * bool(kept)


def export(
  workdir: str, data_dir: str, overrides: Sequence[str], best: bool, path: str
) -> list[str]:
  """Writes the features of a run as `probes.exchange` describes; arguments as in `of_run`."""
  built, record, state = _open(workdir, data_dir, overrides, best)
  choices = _choices(workdir, record, best and built.objective.trains)
  features = dataclasses.replace(built.probe_features(state.params), choices=choices)
  exchange.write(path, features)
  return [path]


def _choices(workdir: str, record: Mapping[str, Any], best: bool) -> int:
  """Among how many networks validation chose this one, and those that it came from."""
  return (parents.judged(workdir) if best else 1) * parents.choices(record.get('init_from'))


def _open(
  workdir: str, data_dir: str, overrides: Sequence[str], best: bool
) -> tuple[experiment.Experiment, dict[str, Any], state_lib.TrainState]:
  config, record = finished.read(workdir, overrides)
  built = experiment.build(config, data_dir, workdir)
  if not built.probed:
    raise UserError(f"'{built.probe_dataset.name}' has no labels to probe")
  return built, record, run.restore(built, workdir, best=best)[0]


def of_file(
  path: str,
  out: str | None,
  overrides: Sequence[str],
  label: str | None = None,
  pooling: str = 'mean',
) -> list[str]:
  """Runs the suite on a file of features; returns lines on what came out.

  Args:
    path: as `probes.exchange` describes it.
    out: directory of probes.json, arrays.npz and TensorBoard; None for one beside the file.
    overrides: `--config.probe.a=b`.
    label, pooling: as `exchange.read`.
  """
  config = configs.override(base.get_base('untrained'), overrides)
  try:
    features = exchange.read(path, label, pooling)
  except ValueError as error:
    raise UserError(str(error)) from error
  chosen = (label, None if pooling == 'mean' else pooling, 'probes')
  out = out or '_'.join((os.path.splitext(path)[0], *(part for part in chosen if part)))
  foreign.make_directory(out)
  probes, failed, arrays = assessment.fit_probes(lambda: features, config)
  if not probes:
    assessment.all_probed((probes, failed, arrays))
  repeated = exchange.repeated_rows(features)
  majority = baselines.majority(features.labels_train, features.labels_test)
  preemption.finish()
  written = foreign.write(
    out, path, features, configs.plain(config.probe), probes, arrays, repeated, majority,
    label, pooling,
  )  # fmt: skip
  lines = foreign.about(features, repeated, exchange.dealt(path))
  lines += [f'probe {name} FAILED: {why}' for name, why in failed.items()]
  for labels, cell in probes.get('linear', {}).items():
    name = 'linear, all labels' if labels == 'all' else f'linear, {labels} labels'
    lines.append(f'{name:28} {100 * cell["accuracy"]:8.1f} %')
  lines += terminal.majority_lines(majority)
  return [*lines, *terminal.probe_lines(probes, headline()), written]
