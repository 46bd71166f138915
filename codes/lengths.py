"""Prequential code lengths of sequences, all or their later part, without writing the code.

What `codes.prequential` would write for these chunks and updates, computed by whole forward passes:
the two differ by rounding and by what a range coder adds.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from codes import learner, prequential
from models import transformer
from models.config import ModelConfig
import objectives
from objectives import autoregressive, base, scoring
from training import keys, preemption


@dataclasses.dataclass(frozen=True)
class Given(autoregressive.Autoregressive):
  """Autoregressive, but the first `given` tokens are known to both sides and cost nothing."""

  given: int = 0

  def view(self, example: base.Example, space: base.Space) -> base.View:
    view = super().view(example, space)
    coded_T = jnp.arange(space.length) >= self.given
    return view._replace(weights_T=view.weights_T * coded_T)

  def per_dimension(self, nats_B: jax.Array, space: base.Space) -> jax.Array:
    return nats_B / (space.dims - self.given)


@dataclasses.dataclass(frozen=True)
class Settings:
  """Of the network that learns.

  Attributes:
    width, layers, heads: of the backbone.
    optimizer: fields of config.optimizer.
    schedule: of the chunks and updates.
  """

  width: int
  layers: int
  heads: int
  optimizer: dict[str, Any]
  schedule: learner.Schedule


def bits(
  tokens_NxT: np.ndarray, vocabulary: int, settings: Settings, given: int = 0, coded: int = 0
) -> np.ndarray:
  """Bits (N,) of tokens given..given+coded-1 of every sequence, in the order of the rows.

  Args:
    tokens_NxT: the sequences; tokens after the coded ones are never seen.
    vocabulary: V; the first chunk costs log2 V a token.
    settings: of the network.
    given: leading tokens that the receiver has.
    coded: tokens after these that are sent; 0 for all.

  Raises:
    ValueError: a learning rate at which training diverges.
    Preempted: a stop was asked for.
  """
  end = given + coded if coded else tokens_NxT.shape[1]
  tokens_NxT = np.ascontiguousarray(tokens_NxT[:, :end], np.int32)
  count, length = tokens_NxT.shape
  model = ModelConfig(vocabulary, length, settings.width, settings.layers, settings.heads)
  space = objectives.Space(vocabulary, length, length)
  objective = Given(given=given)
  schedule = settings.schedule
  task = prequential.make_task(model, objective, space, schedule.seed)
  optimizer = ml_collections.ConfigDict(settings.optimizer)
  learning = learner.Learner(task, optimizer, schedule, count)
  apply = transformer.make_apply(model)
  evaluate = jax.jit(scoring.make_evaluation(objective, apply, space, 1))
  key, found = keys.key(0), np.zeros(count)
  labels = np.full(count, -1, np.int32)
  for start in range(0, count, schedule.chunk):
    preemption.check()
    stop = min(start + schedule.chunk, count)
    # The last chunk is filled up with its own rows: one shape, one program.
    rows = start + np.arange(schedule.chunk) % (stop - start)
    batch = {'tokens': tokens_NxT[rows], 'label': labels[rows], 'index': rows.astype(np.int32)}
    nats = evaluate(learning.params, batch, key)['nats']
    found[start:stop] = np.asarray(nats)[: stop - start] / np.log(2)
    if stop < count:
      learning.learn({'tokens': tokens_NxT[:stop], 'label': labels[:stop]})
  return found


def either(*totals: float) -> float:
  """Bits of the Bayes mixture of codes of the same data, at equal odds: min + at most log2 k."""
  return float(-np.logaddexp2.reduce(-np.asarray(totals)) + np.log2(len(totals)))
