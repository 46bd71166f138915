"""From a config to everything a run needs: the only place where all rooms meet."""

import dataclasses
import sys
from typing import Any

import jax
import ml_collections
import numpy as np

from data import sources
from data.dataset import Dataset, with_fewer
from models import kernels, patterns, transformer
from models.config import ModelConfig
import objectives
from runs import checks, noise, provenance, sizes
from runs.assembled import Experiment
from runs.errors import UserError
from training import distributed, placement, sharding

# As many layers as a CPU runs faster, and compiles no slower, written out than in a loop.
_FEW_LAYERS = 12


# Fields of `config.data` that say which examples are held out.
_SPLITS = ('validation', 'test', 'split_seed')


class Unsuitable(UserError):
  """The objective can't be used on this data set; the message says why."""


def source(config: ml_collections.ConfigDict) -> dict[str, Any]:
  """Which data `config.data` names, without the order in which training sees them."""
  return {k: v for k, v in config.data.to_dict().items() if k not in ('order', 'order_by')}


def load_datasets(
  config: ml_collections.ConfigDict, data_dir: str, workdir: str | None = None
) -> tuple[Dataset, Dataset]:
  """What is compressed and what is probed; UserError in one line.

  `workdir` is that of the run that the config is of: the data must be those that it began with.
  """
  try:
    dataset = sources.load(config.data, data_dir)
    same = config.probe_data.name == '' or config.probe_data.to_dict() == source(config)
    probed = dataset if same else sources.load(config.probe_data, data_dir)
  except ValueError as error:
    raise UserError(str(error)) from error
  if dataset.digest != probed.digest:
    _check_splits(config.data, config.probe_data)
  if probed.classes is None and config.probe_data.name:
    raise UserError(f"probe_data '{probed.name}' has no labels to probe")
  for field in ('vocabulary', 'length'):
    if getattr(dataset, field) != getattr(probed, field):
      raise UserError(
        f"probe_data '{probed.name}' has {field} {getattr(probed, field)}, but data "
        f"'{dataset.name}' has {getattr(dataset, field)}: one backbone can't read both"
      )
  if not np.array_equal(*(np.asarray(one.values_VxK) for one in (dataset, probed))):
    raise UserError(
      f"data '{dataset.name}' and probe_data '{probed.name}' mean other colours by one token: "
      'give both one data.palette'
    )
  if workdir is not None:
    provenance.check_data(workdir, provenance.hashes(dataset, probed))
  return dataset, probed


def _check_splits(data: ml_collections.ConfigDict, probed: ml_collections.ConfigDict) -> None:
  """UserError where one set is dealt in two ways: what one holds out, the other trains on."""
  if (data.name, data.get('path')) != (probed.name, probed.get('path')):
    return
  other = [name for name in _SPLITS if data.get(name) != probed.get(name)]
  if other:
    both = ' and '.join(f'{which}.{name}' for name in other for which in ('data', 'probe_data'))
    raise UserError(
      f"data and probe_data hold out other examples of one set, '{data.name}': what is probed as "
      f'unseen may have been trained on; give one value to {both}'
    )


def _unrolled(setting: str, layers: int, remat: bool, mesh: jax.sharding.Mesh) -> bool:
  """Whether layers are written out; ValueError for another setting than the three."""
  if setting not in ('auto', 'always', 'never'):
    raise ValueError(f"model.unroll must be 'auto', 'always' or 'never', not '{setting}'")
  one_cpu = mesh.size == 1 and mesh.devices.flat[0].platform == 'cpu'
  return setting == 'always' or (
    setting == 'auto' and one_cpu and layers <= _FEW_LAYERS and not remat
  )


def _check_shares(
  objective: objectives.Objective, training: ml_collections.ConfigDict, mesh: jax.sharding.Mesh
) -> None:
  """ValueError unless every microbatch gives every device as many rows of every member."""
  members = len(objective.members())
  if training.batch_size % (members * training.microbatches * mesh.size):
    raise ValueError(
      f'training.batch_size {training.batch_size} must be a multiple of '
      f'{members * training.microbatches * mesh.size}: {members} objectives share the rows of '
      f'{training.microbatches} microbatches on {mesh.size} devices'
    )


def build(
  config: ml_collections.ConfigDict, data_dir: str, workdir: str | None = None
) -> Experiment:
  """Builds everything but parameters; UserError, one line, for any setting that can't be.

  Whatever opens a run gives its `workdir`, and is refused if its data are other ones now.
  """
  checks.check_settings(config)
  if (idle := provenance.idle_accelerator()) and distributed.is_primary():
    print(idle, file=sys.stderr)
  with distributed.primary_first('the data sets'):
    dataset, probe_dataset = load_datasets(config, data_dir, workdir)
  hashes = provenance.hashes(dataset, probe_dataset)
  distributed.check_equal('data set', ' '.join(hashes.values()))
  if config.probe.train_rows < 0:
    raise UserError(f'probe.train_rows must not be negative, not {config.probe.train_rows}')
  if config.probe.train_rows and probe_dataset.classes:
    probe_dataset = with_fewer(probe_dataset, config.probe.train_rows)
  space = objectives.Space(
    dataset.vocabulary,
    dataset.length,
    dataset.dims,
    dataset.classes,
    dataset.ordinal,
    dataset.shape,
  )
  return assemble(config, space, sharding.make_mesh(), dataset, probe_dataset, hashes)


def assemble(
  config: ml_collections.ConfigDict,
  space: objectives.Space,
  mesh: jax.sharding.Mesh,
  dataset: Dataset | None = None,
  probe_dataset: Dataset | None = None,
  hashes: dict[str, str] | None = None,
) -> Experiment:
  """The part of `build` that needs to know of the data only the space that it lives in."""
  checks.check_settings(config)
  m = config.model
  try:
    chosen = config.objective.to_dict()
    objective = objectives.get(chosen.pop('name'), **chosen).on(space)
    shape = sizes.shape(m)
    rest = ('mlp_ratio', 'token_init', 'position_init', 'norm_epsilon', 'compute_dtype')
    rest += ('remat', 'remat_policy', 'attention', 'shared_layers', 'mixer', 'state', 'dropout')
    rest += ('residual', 'norm')
    asked = objective.backbone(space)
    model = ModelConfig(
      vocabulary=asked.vocabulary,
      length=asked.length,
      time_input=asked.time_input,
      alphabets=asked.alphabets,
      unroll=_unrolled(m.unroll, shape['layers'], m.remat, mesh),
      **shape,
      **{name: m[name] for name in rest},
    )
    kernels.check(model.attention, mesh.devices.flat[0].platform)
    sharding.check_batch(config.training.batch_size, config.training.microbatches, mesh.size)
    _check_shares(objective, config.training, mesh)
  except (ValueError, TypeError) as error:
    raise UserError(str(error)) from error
  try:
    objective.check(space)
  except ValueError as error:
    raise Unsuitable(str(error)) from error
  for member in objective.members():
    pattern = patterns.of(member.backbone(space).pattern)
    try:
      model.check_pattern(pattern)
    except ValueError as error:
      name = config.objective.name
      raise Unsuitable(f"objective '{name}' asks for {pattern}: {error}") from error
    if pattern.kernel is None and model.attention != 'xla':
      raise UserError(
        f"model.attention '{model.attention}' does not know the attention that the objective asks "
        f"for, {pattern}; 'xla' does"
      )
  made = Experiment(
    config=config,
    dataset=dataset,
    probe_dataset=probe_dataset,
    space=space,
    objective=objective,
    model=model,
    apply=transformer.make_apply(model, mesh, placement.make_placement(mesh, model.stacked_layers)),
    mesh=mesh,
    hashes=hashes,
  )
  if objective.contrast is None:
    return made
  return dataclasses.replace(made, space=dataclasses.replace(space, noise=noise.of(made)))
