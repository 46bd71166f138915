"""One run from its config to its record: train, score, probe, write."""

from collections.abc import Iterator, Mapping
import contextlib
import dataclasses
import functools
import json
import os
from typing import Any

from etils import epath
import jax
import ml_collections

import objectives
from reports import reading
from runs import (
  assessment,
  checks,
  configs,
  evaluators,
  lock,
  measured,
  ordering,
  parents,
  parts,
  provenance,
  recorded,
  single_epoch,
  sizes,
  spent,
)
from runs.assembled import Experiment
from runs.errors import UserError
from training import checkpoint, distributed, host_memory, loop, preemption, profile
from training import optimizer as optimizer_lib
from training import state as state_lib
from training.errors import LOST, STOPPED, Preempted, from_outside
from training.metrics import MetricsWriter, write_atomically
from training.watchdog import WATCHDOG

_BEGUN = 'checkpoints'  # In the directory of every run that has begun.


def open_workdir(
  workdir: str, config: ml_collections.ConfigDict, experiment: Experiment | None = None
) -> dict[str, Any]:
  """Makes the run directory and writes config.json, or checks that the one there is the same.

  With the `experiment`, what it is made of stands there too, or is compared: `runs.provenance`.

  Returns:
    The content of config.json.

  Raises:
    UserError: a run of another config, of other data or under other settings of JAX has begun
      there, or nothing can be written; one line.
  """
  saved: dict[str, Any] = {'config': configs.plain(config)}
  if experiment is not None:
    saved |= provenance.made_with() | (experiment.hashes or {})
  path = os.path.join(workdir, 'config.json')
  checks.check_objective(config)
  try:
    with distributed.primary_first('the run directory'):
      epath.Path(workdir).mkdir(parents=True, exist_ok=True)
      # A run that was refused has computed nothing yet: its config may still be put right.
      begun = epath.Path(workdir, _BEGUN).exists() or configs.read_record(workdir)
      if begun and not epath.Path(path).exists():
        there = os.path.join(workdir, _BEGUN)
        raise UserError(f'there is {there} or a record, and no config.json that says of what')
      begun = begun or not distributed.is_primary()  # The first process has just written it.
      if begun and epath.Path(path).exists():
        changed = check_same(workdir, config)
        began = configs.read_saved(workdir)
        if changed:
          # The record will be made under these settings; all else stays as the run began.
          began['config'] |= {name: saved['config'][name] for name in recorded.RESULTS}
        if changed or 'size' not in began:  # Of an earlier version.
          began['size'] = sizes.name(config.model)
          if distributed.is_primary():
            write_atomically(path, json.dumps(began, indent=1))
        if experiment is None:
          return began
        provenance.check_data(workdir, experiment.hashes or {})
        if not provenance.goes_on(workdir, began, saved):
          return began
        saved = began
      else:
        checks.check_run(config)
        saved['size'] = sizes.name(config.model)
        if experiment is not None:
          saved['init_from'] = parents.find(experiment)
          ordering.check(experiment)
          saved |= ordering.describe(experiment)
      if distributed.is_primary():
        write_atomically(path, json.dumps(saved, indent=1))
      return saved
  except OSError as error:
    raise UserError(f'workdir {workdir} can not be written: {error.strerror}') from error


def check_same(workdir: str, config: ml_collections.ConfigDict) -> bool:
  """As `configs.check_same`, from what is in the run directory."""
  directory = os.path.join(workdir, _BEGUN)
  trains = objectives.OBJECTIVES[config.objective.name].trains
  trained = not trains or checkpoint.newest(directory) == config.training.steps
  # Of a record that is damaged the run itself tells: it costs no other.
  ended = epath.Path(workdir, 'run.json').exists()
  return configs.check_same(workdir, config, trained and not ended)


def execute(
  experiment: Experiment,
  workdir: str,
  restore_step: int | None = None,
  known: Mapping[str, Any] | None = None,
  profiled: profile.Steps | None = None,
) -> dict:
  """Trains (or goes on training), scores and probes; returns and writes the record.

  `profiled` names steps of which a trace is written to the run directory.
  `known` replaces fields of the record that only a run trained here can fill in.
  """
  checks.check_probes(experiment)
  with lock.held(workdir):
    began = open_workdir(workdir, experiment.config, experiment)
    made = provenance.of_record(began)
    made |= {name: began.get(name) for name in ('data_order', 'data_ordered_by')}
    checkpoints = checkpoint.Checkpoints(os.path.join(workdir, _BEGUN), writes=True)
    known = {**made, **(known or {})}
    with spent.counted(workdir), telling(workdir):
      try:
        tracer = profile.Tracer(workdir, profiled)
        parent = began.get('init_from')
        return _execute(experiment, workdir, checkpoints, restore_step, known, tracer, parent)
      finally:
        checkpoints.close()


@contextlib.contextmanager
def telling(workdir: str) -> Iterator[None]:
  """Keeps WORKDIR/state.json: running, then done, preempted or failed with a reason."""
  say(workdir, 'running')
  before, WATCHDOG.on_end = WATCHDOG.on_end, functools.partial(_say_ended, workdir)
  try:
    yield
  except Preempted:
    say(workdir, 'preempted')
    raise
  except Exception as error:
    text = str(error) if isinstance(error, UserError) else f'{type(error).__name__}: {error}'
    lost = distributed.active() and isinstance(error, jax.errors.JaxRuntimeError)
    with contextlib.suppress(OSError):
      say(workdir, 'failed', text, lost or from_outside(error))
    raise
  finally:
    WATCHDOG.on_end = before
  say(workdir, 'done')


def _say_ended(workdir: str, code: int, reason: str) -> None:
  # What ended another process is known by its words alone.
  say(workdir, 'preempted' if code == STOPPED else 'failed', reason, code == LOST or None)


def say(workdir: str, state: str, reason: str = '', goes_on: bool | None = None) -> None:
  """WORKDIR/state.json, for launch.status: the last thing that is known of the run.

  Of a failure `goes_on` tells whether it says nothing of the run, so that the same command goes on
  once the cause is gone; None where only the reason can tell.
  """
  if distributed.is_primary():
    said = {'state': state, 'reason': ' '.join(reason.split())[:300]}
    said |= {} if goes_on is None else {'goes_on': goes_on}
    path, text = os.path.join(workdir, 'state.json'), json.dumps(said) + '\n'
    try:
      write_atomically(path, text)
    except OSError:
      # Where a disk is full, there is room for this in the file that is there.
      if not os.path.exists(path):
        raise
      with open(path, 'r+', encoding='utf-8') as file:
        file.write(text)
        file.truncate()


def _execute(
  experiment: Experiment,
  workdir: str,
  checkpoints: checkpoint.Checkpoints,
  restore_step: int | None,
  known: Mapping[str, Any],
  tracer: profile.Tracer,
  parent: Mapping[str, Any] | None,
) -> dict:
  config, task, mesh = experiment.config, experiment.task, experiment.mesh
  begin_from = {} if parent is None else {'begin': lambda state: parents.begin(state, parent)}
  state, counters = loop.restore_or_init(
    task, config, checkpoints, mesh, restore_step, **begin_from
  )
  begin = int(state.step)
  again = begin > 0 and counters.unmeasured
  writer = MetricsWriter(workdir, begin or None, distributed.is_primary(), again)
  parameters = {k: state_lib.count(v) for k, v in state.params.items()}
  if experiment.objective.trains:
    state = loop.train(
      task,
      config,
      experiment.batches_in(ordering.rows(experiment, workdir)),
      state,
      counters,
      _costs(experiment, parent),
      checkpoints,
      writer,
      evaluators.build(experiment),
      configs.schedules(config)['checkpoints'],
      mesh,
      tracer,
    )
    host_memory.give_back()
  preemption.defer()
  kept = _parts(experiment, workdir, '', int(state.step))
  choices = parents.choices(parent)
  record, arrays = assessment.assess(experiment, state.params, kept, choices)
  record |= recorded.describe(experiment, workdir, counters, parameters, parent) | dict(known)
  ordered_by = record.get('data_ordered_by')
  record['saw_labels'] = parents.saw_labels(experiment, parent, ordered_by)
  best = checkpoints.best_step()
  if experiment.objective.trains and best not in (None, int(state.step)):
    best_state, _ = checkpoints.restore(_abstract(experiment), best=True)
    secondary = _parts(experiment, workdir, 'best_', best)
    best_record, _ = measured.score(experiment, best_state.params, secondary)
    names = ('bits_per_dim', 'bits_per_dim_stderr', 'truth')
    record['at_best'] = {'step': best, **{name: best_record[name] for name in names}}
    # The secondary checkpoint gets the primary probe alone.
    only = tuple(name for name in experiment.config.probe.suite if name == 'linear')
    found, failed, _ = assessment.probe(experiment, best_state.params, only, secondary)
    record['at_best']['probes'] = found
    failed = {f'{name}{reading.AT_BEST}': why for name, why in failed.items()}
    record['probes_failed'] |= failed
  writer.close()
  if distributed.is_primary():
    record['single_epoch'] = single_epoch.measure(experiment, workdir)
    record = recorded.write_record(workdir, record, arrays)
    recorded.to_tensorboard(experiment, workdir, record, arrays.get('samples'))
  kept.remove()
  return record


def _parts(experiment: Experiment, workdir: str, prefix: str, step: int) -> parts.Parts:
  """The pieces of the record of one checkpoint."""
  of = [step, experiment.dataset.digest, experiment.probe_dataset.digest]
  of.append(provenance.git_revision())
  return parts.Parts(os.path.join(workdir, 'parts'), experiment.config, of, prefix)


def _abstract(experiment: Experiment) -> state_lib.TrainState:
  config = experiment.config
  optimizer = optimizer_lib.for_task(experiment.task, config.optimizer, config.training.steps)
  return state_lib.abstract_state(experiment.task, optimizer, experiment.mesh)


def restore(experiment: Experiment, workdir: str, *, best: bool) -> tuple[Any, dict]:
  """State and counters of a finished run; an untrained one is made again from its seed."""
  if not experiment.objective.trains:
    config = experiment.config
    optimizer = optimizer_lib.for_task(experiment.task, config.optimizer, config.training.steps)
    return state_lib.init_state(experiment.task, optimizer, experiment.mesh), {}
  checkpoints = checkpoint.Checkpoints(os.path.join(workdir, _BEGUN))
  try:
    return checkpoints.restore(_abstract(experiment), best=best)
  finally:
    checkpoints.close()


def _costs(experiment: Experiment, parent: Mapping[str, Any] | None) -> loop.Costs:
  """Of a step, and what went into the weights before the first one."""
  return dataclasses.replace(
    experiment.costs,
    tokens_before=parents.spent(parent, 'tokens_seen') or 0,
    flops_before=parents.spent(parent, 'train_flops') or 0.0,
  )
