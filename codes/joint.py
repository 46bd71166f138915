"""Bits of the labels Y by one network trained on X and on Y as sequences of an image and its label.

The label is one more token after the image's. The network is first trained on images, then goes on:
before every block of labels it makes some updates, half of each batch examples with the labels sent
so far and half of them images without. What the label's cross-entropy weighs against a pixel's is
not chosen but paid for: there is a network for each weight, plain and calibrated, and they and the
predictors without features are mixed under one switching prior, as in `probes.finetune`.
"""

import collections
from collections.abc import Sequence
import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from codes import prequential
from data.dataset import Dataset
from models import transformer
from models.config import ModelConfig
from objectives import autoregressive, base
from probes import calibration, mixture
from probes import prequential as label_code
from training import optimizer as optimizer_lib
from training import preemption, sharding
from training import state as state_lib


@dataclasses.dataclass(frozen=True)
class ImageAndLabel(autoregressive.Autoregressive):
  """Next-token prediction of an image's tokens and then of its label, where it is known.

  Settings:
    label_weight: of the label's cross-entropy; a pixel's is 1.
  """

  label_weight: float = 1.0

  def view(self, example: base.Example, space: base.Space) -> base.View:
    view = super().view(example, space)
    last_T = jnp.arange(space.length) == space.dims - 1
    weight = jnp.where(example.label >= 0, self.label_weight, 0.0)
    return view._replace(weights_T=jnp.where(last_T, weight, view.weights_T))


class Network:
  """One network that is trained on images, and on images with labels."""

  def __init__(self, model: ModelConfig, classes: int, weight: float, optimizer: Any, seed: int):
    self._classes = classes
    space = base.Space(model.vocabulary, model.length, model.length)
    objective = ImageAndLabel(label_weight=weight)
    task = prequential.make_task(model, objective, space, seed)
    # The rate stays where it is after the warm-up: how long training lasts is not known before.
    made = optimizer_lib.for_task(task, optimizer, steps=2**30)
    self._mesh = sharding.make_mesh()
    self._state = state_lib.init_state(task, made, self._mesh)
    update = state_lib.make_update(task, made, optimizer.clip_norm)
    self._update = jax.jit(update, donate_argnums=0)
    self._apply = jax.jit(self._forward(transformer.make_apply(model)))

  def _forward(self, apply: Any) -> Any:
    def logits(params: Any, tokens_BxT: jax.Array) -> jax.Array:
      out = apply(params['backbone'], tokens_BxT, pattern=('causal',), shift=True)
      return out.logits_BxTxV[:, -1, : self._classes]

    return logits

  def train(self, tokens_NxT: np.ndarray, labels_N: np.ndarray, rows_SxB: np.ndarray) -> None:
    """One update for each row of `rows_SxB`; labels of -1 are not known."""
    before = None
    for rows in rows_SxB:
      preemption.check()
      batch = {'tokens': tokens_NxT[rows], 'label': labels_N[rows].astype(np.int32)}
      batch = sharding.place_batch(batch, self._mesh)
      jax.block_until_ready(before)
      self._state, before = self._update(self._state, batch)

  def probabilities(self, tokens_NxT: np.ndarray, size: int = 256) -> np.ndarray:
    """Of the label given the image, (N, K) float64: softmax over the labels' tokens alone."""
    found = []
    for start in range(0, len(tokens_NxT), size):
      part = tokens_NxT[start : start + size]
      padded = np.pad(part, ((0, size - len(part)), (0, 0)))
      found.append(np.asarray(self._apply(self._state.params, padded), np.float64)[: len(part)])
    logits = np.concatenate(found)
    p = np.exp(logits - logits.max(-1, keepdims=True))
    return p / p.sum(-1, keepdims=True)


def code(
  images_NxT: np.ndarray,
  labels_N: np.ndarray,
  order: np.ndarray,
  networks: Sequence[Network],
  *,
  classes: int,
  first: int,
  steps: int,
  updates: int,
  batch: int,
  seed: int,
  progress: Any = lambda updates: None,
) -> dict[str, Any]:
  """The prequential code of the labels by networks that learn X and Y.

  Args:
    images_NxT: all of X.
    labels_N: their labels, of which a network is only ever given those already sent; -1 for none.
    order: rows in the order in which their labels are sent, all of them labelled.
    networks: the experts, fresh.
    classes: K.
    first: labels of the first block, coded uniformly.
    steps: updates on images alone, before any label.
    updates: before every later block.
    batch: rows of an update; half of them labelled once there are labels.
    seed: of the rows drawn.
    progress: told of updates made.

  Returns:
    bits, uniform, majority (of the classes alone), labels, expert_bits (of each network alone and
    plain, not paid for), curve and each (bits of every label in its order, (N,)).
  """
  settings = {'steps': steps, 'updates': updates, 'batch': batch, 'seed': seed}
  nats = expected(
    images_NxT, labels_N, order, networks, classes=classes, first=first, progress=progress,
    **settings,
  )  # fmt: skip
  bits = mixture.code_lengths(nats)
  blocks = label_code.blocks(len(order), first)
  return {
    'bits': float(bits.sum()),
    'uniform': len(order) * math.log2(classes),
    'majority': label_code.majority_bits(labels_N[order], classes, first),
    'labels': len(order),
    'expert_bits': [float(row.sum()) / math.log(2) for row in nats[label_code.BLIND :: 2]],
    'curve': [{'labels': a, 'bits': float(bits[a:b].mean())} for a, b in blocks],
    'each': bits.tolist(),
  }


def expected(
  images_NxT: np.ndarray,
  labels_N: np.ndarray,
  order: np.ndarray,
  networks: Sequence[Network],
  *,
  classes: int,
  first: int,
  steps: int,
  updates: int,
  batch: int,
  seed: int,
  progress: Any = lambda updates: None,
) -> np.ndarray:
  """Nats of every label in its order by the predictor without features and by each network, (1 + K,
  N); arguments as in `code`."""
  # The label's place is for its token; where it is not known the loss does not look at it.
  tokens = np.concatenate([images_NxT, np.zeros((len(images_NxT), 1))], 1).astype(np.int32)
  labels = labels_N[order]
  nats = np.full((label_code.BLIND + 2 * len(networks), len(order)), math.log(classes))
  nats[: label_code.BLIND] = label_code.featureless(labels, classes, first)
  blocks = label_code.blocks(len(order), first)
  for place, network in enumerate(networks, 1):
    rng, powers = np.random.default_rng((seed, place)), calibration.Powers()
    own = label_code.BLIND + 2 * (place - 1)
    known = np.full(len(tokens), -1)
    hidden = tokens.copy()
    network.train(hidden, known, rng.integers(0, len(tokens), (steps, batch)))
    progress(steps)
    for start, stop in blocks[1:]:
      sent = order[:start]
      known[sent], hidden[sent, -1] = labels_N[sent], labels_N[sent]
      with_labels = rng.choice(sent, (updates, batch // 2))
      without = rng.integers(0, len(tokens), (updates, batch - batch // 2))
      # An image drawn as one without a label may have one by now: then it counts as well.
      network.train(hidden, known, np.concatenate([with_labels, without], 1))
      progress(updates)
      p = network.probabilities(hidden[order[start:stop]])
      powers.begin(labels[:start])
      p = powers.both(np.log(np.maximum(p, 1e-30))[None])
      p = mixture.smooth(p, np.bincount(labels[:start], minlength=classes))
      nats[own : own + 2, start:stop] = -np.log(p[:, np.arange(stop - start), labels[start:stop]])
  return nats


def rows_of(dataset: Dataset, probed: Dataset) -> tuple[np.ndarray, np.ndarray]:
  """All of X, the labelled rows first, and their labels; -1 for images that are pretrained on only.

  The labelled rows are part of X where they are of the same data set.
  """
  some, every = probed.train, dataset.train
  tokens = some.tokens_NxT[:, : probed.dims]
  more = every.tokens_NxT[:, : dataset.dims]
  if dataset.name == probed.name:
    # Those that are labelled are there already, as often as they occur.
    left = collections.Counter(row.tobytes() for row in tokens)
    fresh = np.ones(len(more), bool)
    for i, row in enumerate(more):
      if left[row.tobytes()] > 0:
        left[row.tobytes()] -= 1
        fresh[i] = False
    more = more[fresh]
  images = np.concatenate([tokens, more])
  return images, np.concatenate([some.labels_N, np.full(len(more), -1)])
