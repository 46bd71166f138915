"""Representations of every layer in one pass."""

from collections.abc import Callable
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def call(make: Callable[[], Any]) -> Any:
  """What `make()` gives: `Features.once` of a process that is alone."""
  return make()


@dataclasses.dataclass(frozen=True)
class Features:
  """Features of the labelled splits, (layers, N, D), and their labels (N,).

  Floats, float32 for a network's own; a file's may need float64 (`probes.exchange`). Of a large set
  they are `probes.layers.Layers`, which stay on the devices and stand in for arrays, and `inputs`
  makes rows when they are asked for.

  Attributes:
    train, validation, test: the headline's features: the mean over the sequence.
    labels_train, labels_validation, labels_test: integers in [0, classes).
    classes: their number.
    last: split -> features at the last position, of the same shape; None if there are none.
    inputs: split -> raw input (N, P) as numbers, for probes that need the types of examples or a
      control of equal width; None if unknown.
    sequences: (split, layer, rows) -> features before pooling, float32 (len(rows), T, D); None if
      there are none.
    unseen: splits whose examples had no part in making these features, nor any that stand in one
      table with them.
    choices: networks among which those examples chose this one, such as checkpoints by validation
      loss; 1 where it was the only one.
    tuner: fine-tunes the network that made the features (`probes.finetune.Tuner`); None if there is
      no network.
    pretraining_seed: of the network. Subsets of few labels follow it: networks of one seed get the
      same, networks of different seeds get others. 0 where there is no network, or none of ours.
    names: of the classes in whatever gave the labels; None where they are numbers anyway.
    once: makes something on the first of several processes and gives it to all of them.
  """

  train: np.ndarray
  validation: np.ndarray
  test: np.ndarray
  labels_train: np.ndarray
  labels_validation: np.ndarray
  labels_test: np.ndarray
  classes: int
  last: dict[str, np.ndarray] | None = None
  inputs: dict[str, np.ndarray] | None = None
  sequences: Callable[[str, int, np.ndarray], np.ndarray] | None = None
  unseen: tuple[str, ...] = ('validation', 'test')
  choices: int = 1
  tuner: Any = None
  pretraining_seed: int = 0
  names: tuple[str, ...] | None = None
  once: Callable[[Callable[[], Any]], Any] = call


def pool(normed_BxTxD: jax.Array) -> jax.Array:
  """The mean over the sequence (the headline's pooling) and the last position, Bx2xD."""
  return jnp.stack([jnp.mean(normed_BxTxD, axis=1), normed_BxTxD[:, -1]], axis=1)


def make_extract(
  objective: Any, apply: Any, space: Any, level: float | None = None, draws: int = 1
) -> Callable[..., jax.Array]:
  """Builds `extract(params, batch, key) -> (B, L+1, 2, D)`: the mean and the last position.

  Layer l < L is the normalised input of block l, layer L the final norm's output, each pooled
  inside the scan, so that nothing large is kept. Inputs are clean, or at one of the objective's
  noise levels; then features are means over `draws`, and an example's noise depends on `key` and
  its number in the split alone.
  """
  objective = objective.reading()

  def extract(params: Any, batch: dict[str, jax.Array], key: jax.Array) -> jax.Array:
    def one_draw(draw: jax.Array) -> jax.Array:
      view = _batched_view(objective, space, level, batch, jax.random.fold_in(key, draw))
      outputs = objective.run(apply, params, view, space, read=pool)
      return jnp.swapaxes(outputs.reads, 0, 1)

    if level is None:
      return one_draw(jnp.int32(0))
    return jnp.mean(jax.lax.map(one_draw, jnp.arange(draws)), axis=0)

  return extract


def make_sequences(objective: Any, apply: Any, space: Any) -> Callable[..., jax.Array]:
  """Builds `sequences(params, batch, key, layer) -> (B, T, D)`: one layer before pooling, clean."""
  objective = objective.reading()

  def sequences(
    params: Any, batch: dict[str, jax.Array], key: jax.Array, layer: jax.Array
  ) -> jax.Array:
    # The key of the only draw of `make_extract`.
    view = _batched_view(objective, space, None, batch, jax.random.fold_in(key, 0))
    return objective.run(apply, params, view, space, read=lambda x_BxTxD: x_BxTxD).reads[layer]

  return sequences


def _batched_view(
  objective: Any, space: Any, level: float | None, batch: dict[str, jax.Array], key: jax.Array
) -> Any:
  def view(tokens_T: jax.Array, index: jax.Array) -> Any:
    return objective.probe_view(tokens_T, space, level, jax.random.fold_in(key, index))

  return jax.vmap(view)(batch['tokens'], batch['index'])


def flat(dataset: Any, tokens_NxT: Any, xp: Any = np) -> Any:
  """Raw input as numbers, (N, P) float32: levels as they are, nominal tokens one-hot.

  Where the data set says what its tokens stand for (`values_VxK`), that. By NumPy, or by jax.numpy
  as `xp`.
  """
  tokens_NxT = xp.asarray(tokens_NxT)
  if getattr(dataset, 'values_VxK', None) is not None:
    values_VxK = xp.asarray(dataset.values_VxK, np.float32)
    return values_VxK[tokens_NxT].reshape(len(tokens_NxT), -1)
  if dataset.ordinal:
    return tokens_NxT.astype(np.float32)
  one_hot = tokens_NxT[..., None] == xp.arange(dataset.vocabulary)[None, None]
  return one_hot.reshape(len(tokens_NxT), -1).astype(np.float32)


def flat_width(dataset: Any) -> int:
  """P of `flat`."""
  return flat(dataset, dataset.test.tokens_NxT[:1]).shape[1]


def raw(dataset: Any, unseen: tuple[str, ...] | None = None) -> Features:
  """The control without a network: the raw input as the only layer, all of it on this host.

  `runs.extraction.raw` has that of a large set. Nothing was pretrained, so no split was seen;
  `unseen` are those of the networks beside it.
  """
  inputs = {split: flat(dataset, getattr(dataset, split).tokens_NxT) for split in SPLITS}
  layers = {split: values[None] for split, values in inputs.items()}
  return assemble(dataset, layers, inputs=inputs, unseen=SPLITS if unseen is None else unseen)


SPLITS = ('train', 'validation', 'test')


def assemble(dataset: Any, by_split: dict[str, np.ndarray], **others: Any) -> Features:
  """Features of a data set's splits with that data set's labels."""
  labels = {f'labels_{split}': getattr(dataset, split).labels_N for split in SPLITS}
  return Features(**by_split, **labels, classes=dataset.classes, **others)
