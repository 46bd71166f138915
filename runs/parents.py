"""Starting from the weights of an earlier run: `config.training.init_from`."""

from collections.abc import Mapping
import os
from typing import Any

import jax
import ml_collections

from reports import reading
from runs import configs, experiment, noise, sizes
from runs.errors import UserError
from training import checkpoint
from training.metrics import is_remote
from training.state import TrainState

_WHICH = ('last', 'best')
# Fields of `config.model` that change neither what weights mean nor, beyond `sizes.shape`,
# how many there are.
_FREE = (
  ('preset', 'width', 'layers', 'heads', 'token_init', 'position_init', 'compute_dtype')
  + ('remat', 'remat_policy', 'attention', 'unroll', 'dropout')
)  # fmt: skip
# What is said of the earlier run, as its own record says it.
_TOLD = (
  ('objective', 'settings', 'seed', 'steps', 'dataset', 'data_hash', 'git', 'train_flops')
  + ('tokens_seen', 'tokens_scored', 'epochs', 'saw_labels', 'started_from', 'init_from')
)  # fmt: skip


def find(built: experiment.Experiment) -> dict[str, Any] | None:
  """What the record says of the run that `built` starts from; None if it starts afresh.

  Compute is all that went into that run, the runs that it started from included, and all of its
  steps: the best checkpoint is known only after the last. 'choices' is among how many checkpoints
  validation chose this one, those of the runs before included.

  Raises:
    UserError: no finished run, no such checkpoint, or another backbone; one line.
  """
  settings = built.config.training
  workdir, which = settings.init_from, settings.init_checkpoint
  if which not in _WHICH:
    raise UserError(f"training.init_checkpoint must be 'last' or 'best', not '{which}'")
  if not workdir:
    return None
  if not built.objective.trains:
    raise UserError('training.init_from: an objective that does not train has no use for it')
  try:
    saved, record = configs.read_saved(workdir), configs.read_record(workdir)
  except UserError as error:
    raise UserError(f'training.init_from: {error}') from error
  if record is None:
    raise UserError(f'training.init_from: {workdir} is not finished; launch.train goes on with it')
  step = checkpoint.newest(_checkpoints(workdir), which)
  if step is None:
    raise UserError(f'training.init_from: {workdir} has no {which} checkpoint')
  found = {'workdir': workdir if is_remote(workdir) else os.path.abspath(workdir)}
  found |= {'checkpoint': which, 'step': step}
  found['choices'] = (judged(workdir) if which == 'best' else 1) * choices(record.get('init_from'))
  differences = _differences(built, configs.from_plain(saved['config']), found)
  if differences:
    raise UserError(
      f'training.init_from: the backbone of {workdir} is another one: {"; ".join(differences)}'
    )
  return found | {name: record.get(name) for name in _TOLD}


def text(found: Mapping[str, Any] | None) -> str | None:
  """'masked (800 steps, last checkpoint)', and what that started from; None for a fresh start."""
  if found is None:
    return None
  steps = 'unknown' if found['steps'] is None else f'{found["steps"]:,}'
  words = f'{found["objective"]} ({steps} steps, {found["checkpoint"]} checkpoint)'
  return words + (f', from {found["started_from"]}' if found.get('started_from') else '')


def begin(state: TrainState, found: Mapping[str, Any]) -> TrainState:
  """The fresh state with the earlier run's backbone; moments and own parameters stay fresh."""
  fresh = state.params['backbone']
  like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), fresh)
  directory = _checkpoints(found['workdir'])
  read = checkpoint.read_part(
    directory, found['step'], found['checkpoint'], {'params': {'backbone': like}}
  )
  return state._replace(params={**state.params, 'backbone': read['params']['backbone']})


def spent(found: Mapping[str, Any] | None, name: str) -> float | None:
  """FLOPs, tokens or epochs before this run's first update; None where they are not known."""
  return 0 if found is None else found[name]


def total(found: Mapping[str, Any] | None, name: str, own: float | None) -> float | None:
  """As `spent`, with this run's own."""
  before = spent(found, name)
  return None if before is None or own is None else before + own


def judged(workdir: str) -> int:
  """Among how many checkpoints of a run validation loss chose the best one."""
  curve = reading.read_curve(workdir, ('validation/loss',))
  return max(1, sum(point.get('validation/loss') is not None for point in curve))


def choices(found: Mapping[str, Any] | None) -> int:
  """Among how many networks validation chose the one that training started from."""
  return 1 if found is None else found.get('choices', 1)


def saw_labels(
  built: experiment.Experiment, found: Mapping[str, Any] | None, ordered_by: Mapping | None
) -> bool:
  """Whether labels had a part in the weights: read in training, or by what went before it.

  That is the run that training starts from, what put the examples in order (`runs.ordering`), and
  the run that noise comes from.
  """
  contrast = noise.run_of(built.objective)
  told = (found, ordered_by, configs.read_record(contrast) if contrast else None)
  return built.objective.uses_labels or any((one or {}).get('saw_labels') for one in told)


def _checkpoints(workdir: str) -> str:
  return os.path.join(workdir, 'checkpoints')


def _differences(
  built: experiment.Experiment, theirs: ml_collections.ConfigDict, found: Mapping[str, Any]
) -> list[str]:
  """'heads 2 there, 4 here', one for everything in which two backbones differ."""

  def described(config: ml_collections.ConfigDict, shapes: Any) -> dict[str, Any]:
    made = {'vocabulary': shapes['token_table'][0] - 1, 'length': shapes['position_table'][0]}
    made |= sizes.shape(config.model)
    return made | {k: v for k, v in config.model.items() if k not in _FREE}

  def shape_of(x: Any) -> tuple[int, ...]:
    return tuple(x.shape)

  here = jax.eval_shape(built.task.init, built.task.key)['backbone']
  here = jax.tree.map(shape_of, here)
  there = checkpoint.shapes(_checkpoints(found['workdir']), found['step'], found['checkpoint'])
  there = there['params']['backbone']
  ours, others = described(built.config, here), described(theirs, there)
  names = dict.fromkeys([*ours, *others])
  differ = [n for n in names if ours.get(n) != others.get(n)]
  if differ:
    return [f'{n} {others.get(n, "absent")} there, {ours.get(n, "absent")} here' for n in differ]
  flat = [_flat(tree) for tree in (there, here)]
  differ = [n for n in dict.fromkeys([*flat[0], *flat[1]]) if flat[0].get(n) != flat[1].get(n)]
  return [f'{n} {flat[0].get(n, "absent")} there, {flat[1].get(n, "absent")} here' for n in differ]


def _flat(tree: Any) -> dict[str, tuple[int, ...]]:
  leaves = jax.tree_util.tree_leaves_with_path(tree, is_leaf=lambda x: isinstance(x, tuple))
  return {jax.tree_util.keystr(path, simple=True, separator='.'): shape for path, shape in leaves}
