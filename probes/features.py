"""Representations of every layer in one pass."""

from collections.abc import Callable
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


@dataclasses.dataclass(frozen=True)
class Features:
  """Features of the labelled splits, float32 (layers, N, D), and their labels (N,)."""

  train: np.ndarray
  validation: np.ndarray
  test: np.ndarray
  labels_train: np.ndarray
  labels_validation: np.ndarray
  labels_test: np.ndarray
  classes: int


def mean_pool(normed_BxTxD: jax.Array) -> jax.Array:
  """The headline pooling: mean over the sequence, BxD."""
  return jnp.mean(normed_BxTxD, axis=1)


def make_extract(
  objective: Any, apply: Any, space: Any, level: float | None = None, draws: int = 1
) -> Callable[..., jax.Array]:
  """Builds `extract(params, batch, key) -> (B, L+1, D)`.

  Layer l < L is the normalised input of block l, layer L the final norm's output, each averaged
  over the sequence inside the scan, so that nothing large is kept. Inputs are clean, or at one of
  the objective's noise levels; then features are means over `draws`, and an example's noise
  depends on `key` and its number in the split alone.
  """

  def extract(params: Any, batch: dict[str, jax.Array], key: jax.Array) -> jax.Array:
    def one_draw(draw: jax.Array) -> jax.Array:
      def view(tokens_T: jax.Array, index: jax.Array) -> Any:
        own = jax.random.fold_in(jax.random.fold_in(key, draw), index)
        return objective.probe_view(tokens_T, space, level, own)

      batched = jax.vmap(view)(batch['tokens'], batch['index'])
      outputs = objective.run(apply, params, batched, read=mean_pool)
      return jnp.swapaxes(outputs.reads, 0, 1)

    if level is None:
      return one_draw(jnp.int32(0))
    return jnp.mean(jax.lax.map(one_draw, jnp.arange(draws)), axis=0)

  return extract


def raw(dataset: Any) -> Features:
  """The control without a network: grey levels as numbers, nominal tokens one-hot; one layer."""

  def flat(tokens_NxT: np.ndarray) -> np.ndarray:
    if dataset.ordinal:
      return tokens_NxT.astype(np.float32)[None]
    one_hot = np.eye(dataset.vocabulary, dtype=np.float32)[tokens_NxT]
    return one_hot.reshape(len(tokens_NxT), -1)[None]

  return assemble(dataset, {s: flat(getattr(dataset, s).tokens_NxT) for s in SPLITS})


SPLITS = ('train', 'validation', 'test')


def assemble(dataset: Any, by_split: dict[str, np.ndarray]) -> Features:
  """Features of a data set's splits with that data set's labels."""
  labels = {f'labels_{split}': getattr(dataset, split).labels_N for split in SPLITS}
  return Features(**by_split, **labels, classes=dataset.classes)
