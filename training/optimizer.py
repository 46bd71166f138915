"""AdamW with warm-up, cosine decay and clipping by global norm."""

from collections.abc import Collection
from typing import Any

import jax
import optax

# A run that warms up for longer than this share of its steps is refused.
MOST_WARMUP = 0.5


def schedule(config: Any, steps: int) -> optax.Schedule:
  """Learning rate by step: linear from 0 over warmup_steps, then cosine to end_fraction."""
  warmup = min(config.warmup_steps, max(steps - 1, 0))
  return optax.warmup_cosine_decay_schedule(
    init_value=0.0,
    peak_value=config.learning_rate,
    warmup_steps=warmup,
    decay_steps=max(steps, 1),
    end_value=config.learning_rate * config.end_fraction,
  )


def named(params: Any, names: Collection[str]) -> Any:
  """A tree of booleans: which parameters have one of these names, the last key of their path."""
  return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key in names, params)


def clipped_norm(gradients: Any, unclipped: Collection[str]) -> jax.Array:
  """The global norm of all gradients but those of parameters named in `unclipped`."""
  outside = named(gradients, unclipped)
  kept = [g for g, out in zip(*map(jax.tree.leaves, (gradients, outside)), strict=True) if not out]
  return optax.global_norm(kept)


def check(config: Any) -> None:
  """ValueError for a setting that can't be; names the field."""
  for name in ('learning_rate', 'clip_norm'):
    if not config[name] > 0:
      raise ValueError(f'optimizer.{name} must be above 0, not {config[name]}')
  for name in ('warmup_steps', 'weight_decay', 'end_fraction'):
    if not config[name] >= 0:
      raise ValueError(f'optimizer.{name} must not be negative, not {config[name]}')
  for name in ('beta1', 'beta2'):
    if not 0 <= config[name] < 1:
      raise ValueError(f'optimizer.{name} must be in [0, 1), not {config[name]}')


def check_warmup(config: Any, steps: int) -> None:
  """ValueError if the warm-up is longer than MOST_WARMUP of the run."""
  if config.warmup_steps > MOST_WARMUP * steps:
    raise ValueError(
      f'optimizer.warmup_steps={config.warmup_steps} is more than {MOST_WARMUP:.0%} of '
      f'training.steps={steps}: the learning rate would hardly reach its peak; set '
      f'--config.optimizer.warmup_steps={steps // 10} or so'
    )


def make_optimizer(
  config: Any, steps: int, decayed: Collection[str], unclipped: Collection[str] = ()
) -> optax.GradientTransformation:
  """Builds the optimizer; ValueError names the field at fault.

  `decayed` names the parameters that weight decay is for, `unclipped` those whose gradients are not
  clipped and do not count in the norm of the others.
  """
  check(config)
  clip = optax.clip_by_global_norm(config.clip_norm)
  if unclipped:
    clip = optax.masked(
      clip, lambda tree: jax.tree.map(lambda out: not out, named(tree, unclipped))
    )
  return optax.chain(
    clip,
    optax.adamw(
      schedule(config, steps),
      b1=config.beta1,
      b2=config.beta2,
      weight_decay=config.weight_decay,
      mask=lambda params: named(params, decayed),
    ),
  )


def for_task(task: Any, config: Any, steps: int) -> optax.GradientTransformation:
  """`make_optimizer` with what the task (`training.state.Task`) declares of its parameters."""
  return make_optimizer(config, steps, task.decayed, task.unclipped)
