"""AdamW with warm-up, cosine decay and clipping by global norm."""

from typing import Any

import jax
import optax

# A run that warms up for longer than this share of its steps is refused.
MOST_WARMUP = 0.5
_NOT_DECAYED = ('table', 'scale', 'start', 'bias')


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


def decayed(params: Any) -> Any:
  """True for weight matrices; look-up tables, gains, biases and the start vector are not."""

  def leaf(path: tuple, _: Any) -> bool:
    return not any(word in str(entry) for entry in path for word in _NOT_DECAYED)

  return jax.tree_util.tree_map_with_path(leaf, params)


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


def make_optimizer(config: Any, steps: int) -> optax.GradientTransformation:
  """Builds the optimizer; ValueError names the field at fault."""
  check(config)
  return optax.chain(
    optax.clip_by_global_norm(config.clip_norm),
    optax.adamw(
      schedule(config, steps),
      b1=config.beta1,
      b2=config.beta2,
      weight_decay=config.weight_decay,
      mask=decayed,
    ),
  )
