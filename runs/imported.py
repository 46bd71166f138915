"""Makes a finished run of an ImageGPT checkpoint."""

from collections.abc import Iterator
import contextlib
import dataclasses
import hashlib
import os
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections

from models import imagegpt
from models.config import PRESETS, ModelConfig
from runs import configs, evaluators, experiment, lock, run
from runs.errors import UserError
from training import checkpoint, loop
from training import optimizer as optimizer_lib
from training import state as state_lib

# What is not known of weights that were trained elsewhere.
_UNKNOWN = (
  ('learning_rate', 'train_flops', 'flops_per_step', 'steps', 'tokens_seen', 'tokens_scored')
  + ('epochs', 'clipped_fraction', 'wall_seconds')
)  # fmt: skip


def import_run(
  weights: str, config: ml_collections.ConfigDict, workdir: str, data_dir: str
) -> dict[str, Any]:
  """Writes config.json, the checkpoint and the record of a run; returns the record.

  Args:
    weights: a checkpoint, as in `imagegpt.load`.
    config: a run's config; see `adopt`.
    workdir: where the run goes; an import that was interrupted is gone on with.
    data_dir: prepared data sets.

  Raises:
    UserError: the checkpoint can't be read, or does not fit the data or the objective; one line.
  """
  with _in_one_line(weights):
    config = adopt(config, weights)
    built = experiment.build(config, data_dir)
    check(built, imagegpt.model_config(imagegpt.read_config(weights)))
  with lock.held(workdir):  # What does not fit leaves nothing.
    run.open_workdir(workdir, config, built)
    record = configs.read_record(workdir)
    if record is not None:
      return record
    with _in_one_line(weights):
      _, params = imagegpt.load(weights)
    save(built, params, workdir)
    known = {**dict.fromkeys(_UNKNOWN), 'trained_on': 'imported weights'}
    return run.execute(built, workdir, known={**known, 'imported': config.imported.to_dict()})


@contextlib.contextmanager
def _in_one_line(weights: str) -> Iterator[None]:
  """What is wrong with a checkpoint, as a UserError that names it."""
  try:
    yield
  except ValueError as error:
    message = str(error)
    where = '' if weights in message else f'{weights}: '
    raise UserError(where + message) from error


def adopt(config: ml_collections.ConfigDict, weights: str) -> ml_collections.ConfigDict:
  """The config with the checkpoint's sizes, and `imported`: which file it was."""
  model = imagegpt.model_config(imagegpt.read_config(weights))
  files = imagegpt.files(weights)
  digest = hashlib.sha256()
  for path in files:
    with open(path, 'rb') as file:
      digest.update(hashlib.file_digest(file, 'sha256').digest())
  sizes = {name: getattr(model, name) for name in ('width', 'layers', 'heads')}
  presets = [name for name, preset in PRESETS.items() if preset == sizes]
  config = config.copy_and_resolve_references()
  config.model.update({name: 0 for name in sizes} if presets else sizes)
  config.model.preset = presets[0] if presets else config.model.preset
  config.model.mlp_ratio = model.mlp_ratio
  config.model.norm_epsilon = model.norm_epsilon
  with config.unlocked():
    config.imported = {'file': os.path.basename(files[1]), 'sha256': digest.hexdigest()}
  return config


def check(built: experiment.Experiment, model: ModelConfig) -> None:
  """Raises UserError unless the checkpoint's backbone is all that this experiment needs."""
  for field, words in (('length', 'tokens an example'), ('vocabulary', 'token values')):
    ours, theirs = getattr(built.dataset, field), getattr(model, field)
    if ours != theirs:
      raise UserError(
        f"the checkpoint is for {theirs} {words}, data '{built.dataset.name}' has {ours}"
      )
  name = built.config.objective.name
  if not built.objective.trains:
    raise UserError(f"objective '{name}' keeps its initial parameters: nothing to import")
  shapes = jax.eval_shape(built.task.init, built.task.key)
  if built.objective.time_input or jax.tree.leaves(shapes['objective']):
    raise UserError(f"objective '{name}' has parameters that the checkpoint lacks")
  try:
    imagegpt.check(built.model)
  except ValueError as error:
    raise UserError(str(error)) from error


def save(built: experiment.Experiment, params: Any, workdir: str) -> None:
  """Writes the checkpoint of a run that has made all its updates; keeps one that is there."""
  settings = built.config.training
  checkpoints = checkpoint.Checkpoints(os.path.join(workdir, 'checkpoints'), writes=True)
  try:
    if checkpoints.steps():
      return
    optimizer = optimizer_lib.for_task(built.task, built.config.optimizer, settings.steps)
    abstract = state_lib.abstract_state(built.task, optimizer, built.mesh)
    placed = jax.tree.map(
      lambda x, like: jax.device_put(x, like.sharding),
      {**abstract.params, 'backbone': params},
      abstract.params,
    )
    shardings = jax.tree.map(lambda x: x.sharding, abstract.opt_state)
    opt_state = jax.jit(optimizer.init, out_shardings=shardings)(placed)
    counters = loop.Counters(validation=evaluators.validate(built, placed))
    # The last step: training finds nothing left to do, and scoring and probing follow.
    state = state_lib.TrainState(jnp.int32(settings.steps), placed, opt_state)
    checkpoints.save(state, settings.steps, dataclasses.asdict(counters), last=True, best=False)
  finally:
    checkpoints.close()
