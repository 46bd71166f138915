"""The loss of fine-tuning: cross-entropy of the label plus the objective's own loss.

L_CLF + c L_GEN on one labelled batch (Radford et al., 2018; Chen et al., 2020). The classifier is a
linear map of the mean over the sequence of one layer's normalised output for the clean input, as
probes see it; L_GEN is the training loss, nats per predicted dimension, on a view of its own.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from objectives import base, scoring


def init_head(width: int, classes: int) -> base.Params:
  """A classifier that starts at the uniform distribution."""
  return {'head_DxC': jnp.zeros((width, classes)), 'bias_C': jnp.zeros((classes,))}


def make_logits(objective: base.Objective, apply: base.Apply, space: base.Space, layer: int) -> Any:
  """Builds `logits(params, batch) -> (B, classes)`; params hold 'head' beside what was trained."""

  objective = objective.reading()

  def logits(params: base.Params, batch: dict[str, jax.Array]) -> jax.Array:
    clean = jax.vmap(lambda tokens_T: objective.probe_view(tokens_T, space, None, None))
    view = clean(batch['tokens'])
    read = functools.partial(jnp.mean, axis=1)
    outputs = objective.run(apply, params, view, space, read=read)
    head = params['head']
    product = jnp.matmul(outputs.reads[layer], head['head_DxC'], precision='highest')
    return product + head['bias_C'][None]

  return logits


def make_loss(
  objective: base.Objective,
  apply: base.Apply,
  space: base.Space,
  layer: int,
  generative: float,
) -> Any:
  """Builds `loss(params, batch) -> (loss, metrics)`; the batch holds what `scoring.draw` returns.

  `generative` is c. An objective that learns nothing of its own, or only labels, has no L_GEN.
  """
  logits = make_logits(objective, apply, space, layer)
  learns = generative and objective.trains and not objective.uses_labels
  own = scoring.make_loss(objective, apply, space) if learns else None

  def loss(params: base.Params, batch: dict[str, jax.Array]):
    value = jnp.mean(base.cross_entropy(logits(params, batch), batch['label']))
    metrics = {'classification': value}
    if own is not None:
      metrics['generative'] = own(params, batch)[0]
      value = value + generative * metrics['generative']
    return value, {'loss': value, **metrics}

  return loss
