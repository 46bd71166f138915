"""MLP probe: what a small network reads from frozen features, in accuracy and in usable bits.

The logits of an example with standardised features x are

    o(x) + W x + b + V gelu(U x + c)

(`hidden_layer`), with an offset o that is either zero or the logits of a certified linear probe
(`logistic.fit`). V, W, b and c start at zero, so training starts at o exactly. Both starts are
trained, with every weight decay:

*   From the linear probe, W and b are corrections to it, and weight decay pulls towards it instead
    of towards zero. Its checkpoint 0 is the linear probe itself: by validation cross-entropy the
    chosen MLP is never worse than the best linear probe of the grid, and usable information does
    not fall from the smaller family to the larger one, up to the difference between validation and
    test.
*   A linear probe that fits its training labels leaves little gradient to learn features from.
    From zero, the network can learn them before it fits, and stop early.

Training is AdamW with cosine decay over a declared number of steps. Which rows a step sees depends
on the seed, the step and the number of rows alone. Losses and accuracies
are computed from float64 logits.
"""

import math

import numpy as np

from probes import hidden_layer, information, logistic, mesh_logistic, selection
from probes.layers import Layers, standardised

LINEAR_GAP = 1e-4  # Certificate of the linear starts, nats.
BATCH_BYTES = 256 * 2**20  # Features, offsets and parameters of the layers trained together.


def evaluate(features, config, seed: int) -> tuple[dict, dict]:
  """Trains every layer, start and weight decay on all labels; chooses on validation.

  Args:
      features: probes.features.Features.
      config: hidden, steps, batch_size, learning_rate, weight_decay (grid), checkpoints (equally
          spaced; they divide steps), l2 (grid of the linear starts).
      seed: of the initial U and the order of the rows.

  Returns:
      results: 'all': layer, weight_decay, step (0 is the start) and start ('zero' or 'linear') of
          the best validation accuracy, ties to the lower cross-entropy, as in the linear probe;
          accuracy, stderr (binomial, over test examples), cross_entropy (test, nats an example),
          all of that choice; by_layer_validation, each layer's best accuracy; rows, how many
          training examples took part.
          And of the member of `information.Family` with the lowest validation cross-entropy:
          usable_bits (test, bits an example), usable_bits_stderr (over test examples),
          usable_layer, usable_weight_decay, usable_step and usable_start (None for the featureless
          member), usable_accuracy (test) and usable_bits_by_layer_validation (of the best of many,
          so slightly optimistic).
      arrays: 'all/predictions' (N_test,) int32; 'all/nats' (N_test,) float32, cross-entropy of the
          choice by accuracy; 'all/usable_bits' (N_test,) float32, whose mean is usable_bits.

  Raises:
      ValueError: features that are not finite, shapes that do not match, a class without training
          examples, training that diverged.
  """
  selection.check(features, ('train', 'validation', 'test'))
  selection.largest_balanced(features.labels_train, features.classes)  # Every class is there.
  rows = _rows(features, config, seed)
  found = [
    choice
    for layers in _batches(features, config, len(rows))
    for choice in _choose(features, config, seed, layers, rows)
  ]
  layer = min(range(len(found)), key=lambda index: found[index]['accurate']['key'])
  best = found[layer]['accurate']
  predictions, nats = _test(features, layer, best)
  accuracy = float((predictions == features.labels_test).mean())
  usable, bits = _usable(features, [choice['usable'] for choice in found])
  result = {name: best[name] for name in ('weight_decay', 'step', 'start')} | {
    'layer': layer,
    'accuracy': accuracy,
    'stderr': math.sqrt(accuracy * (1 - accuracy) / len(nats)),
    'cross_entropy': float(nats.mean()),
    'by_layer_validation': [choice['accurate']['accuracy'] for choice in found],
    'rows': len(rows),
    **usable,
  }
  return {'all': result}, {
    'all/predictions': predictions,
    'all/nats': nats.astype(np.float32),
    'all/usable_bits': bits,
  }


def _test(features, layer: int, chosen: dict) -> tuple[np.ndarray, np.ndarray]:
  """Predictions (N_test,) int32 and cross-entropies (N_test,), nats, of one network."""
  test = selection.standardise(features.test[layer], chosen['mean'], chosen['scale'])
  offset = logistic.logits(test, *chosen['offset'])
  scores = hidden_layer.logits(chosen['params'], test[None], offset[None, None])[0, 0]
  nats = logistic.cross_entropy(scores, features.labels_test)
  return scores.argmax(-1).astype(np.int32), nats


def _usable(features, found: list[dict]) -> tuple[dict, np.ndarray]:
  """Usable bits on test of the member with the lowest validation cross-entropy, and its terms."""
  family = information.Family(np.asarray(features.labels_train), features.classes)
  blind, truth = float(family.blind(features.labels_validation).mean()), features.labels_test
  layer = min(range(len(found)), key=lambda index: found[index]['nats'])
  if found[layer]['nats'] < blind:
    predictions, nats = _test(features, layer, found[layer])
    chosen = {'layer': layer} | {k: found[layer][k] for k in ('weight_decay', 'step', 'start')}
    paid = family.nats(nats, truth)
  else:
    predictions = np.bincount(features.labels_train).argmax()
    chosen = dict.fromkeys(('layer', 'weight_decay', 'step', 'start'))
    paid = family.blind(truth)
  bits, stderr, terms = information.usable(paid, family.blind(truth))
  return {
    'usable_bits': bits,
    'usable_bits_stderr': stderr,
    **{f'usable_{name}': value for name, value in chosen.items()},
    'usable_accuracy': float((predictions == truth).mean()),
    'usable_bits_by_layer_validation': [max(0.0, blind - c['nats']) / math.log(2) for c in found],
  }, terms.astype(np.float32)


def _rows(features, config, seed: int) -> np.ndarray:
  """The train rows that take part: all; of features on a mesh, as many as the steps can see."""
  count = len(features.labels_train)
  if not isinstance(features.train, Layers) or count <= config.steps * config.batch_size:
    return np.arange(count)
  order = np.random.default_rng((seed, count)).permutation(count)
  return np.sort(order[: config.steps * config.batch_size])


def _linear_starts(features, config, layers: np.ndarray, rows: np.ndarray) -> tuple:
  """Linear probes (layers, l2) of all training rows, and what they are of.

  Returns:
    mean and scale (layers, 1, D), standardised `rows` (layers, n, D), weights and bias.
  """
  labels = np.asarray(features.labels_train)
  names = [f'layer {layer}, linear start' for layer in layers]
  how = {'classes': features.classes, 'gap': LINEAR_GAP}
  if not isinstance(features.train, Layers):
    mean, scale = selection.moments(features.train[layers])
    x = selection.standardise(features.train[layers], mean, scale)
    fits = features.once(lambda: logistic.fit(x, labels, config.l2, names=names, **how))
    return mean, scale, x, fits.weights, fits.bias
  made = []
  for layer, name in zip(layers, names, strict=True):
    placed, mean, scale = standardised(features.train, layer, features.train.mesh)
    fits = mesh_logistic.fit(placed, labels, config.l2, name=name, **how)
    x = selection.standardise(features.train[layer, rows], mean[None], scale[None])
    made.append((mean[None], scale[None], x, fits.weights, fits.bias))
  return tuple(np.stack(part) for part in zip(*made, strict=True))


def _choose(features, config, seed: int, layers: np.ndarray, rows: np.ndarray) -> list[dict]:
  """Each layer's start, weight decay and checkpoint, chosen on validation in two ways.

  Returns:
    one dict a layer: 'accurate', the best accuracy, ties to the lower cross-entropy, and 'usable',
    the lowest cross-entropy as a member of `information.Family`. Each has key (the lower the
    better), nats (as a member) and accuracy (validation), weight_decay, step, start, params (of
    shapes (1, 1, ...)), offset (weights and bias of the start), mean and scale.
  """
  starts = _linear_starts(features, config, layers, rows)
  held_out = features.validation[layers]
  return features.once(lambda: _search(features, config, seed, rows, starts, held_out))


def _search(
  features, config, seed: int, rows: np.ndarray, starts: tuple, held_out: np.ndarray
) -> list[dict]:
  """The same from what `_linear_starts` gives and the layers' validation features."""
  mean, scale, x, weights, bias = starts
  held_out = selection.standardise(held_out, mean, scale)
  labels, truth = np.asarray(features.labels_train), features.labels_validation
  family = information.Family(labels, features.classes)
  scores = logistic.logits(held_out[:, None], weights, bias)
  j = family.nats(logistic.cross_entropy(scores, truth), truth).mean(-1).argmin(1)
  weights, bias = weights[np.arange(len(x)), j], bias[np.arange(len(x)), j]
  # Problems of a layer: every decay from zero, then every decay from the linear probe.
  starts = [(start, decay) for start in ('zero', 'linear') for decay in config.weight_decay]
  linear = np.array([start == 'linear' for start, _ in starts])[:, None, None]
  offset, offset_held_out = (
    linear * logistic.logits(rows, weights, bias)[:, None] for rows in (x, held_out)
  )
  worst = {'key': (math.inf,)}
  best = [{'accurate': worst, 'usable': worst} for _ in x]
  for step, params in hidden_layer.train(
    x,
    labels[rows],
    [decay for _, decay in starts],
    classes=features.classes,
    hidden=config.hidden,
    steps=config.steps,
    batch_size=config.batch_size,
    learning_rate=config.learning_rate,
    checkpoints=config.checkpoints,
    seed=seed,
    offset_GxJxNxK=offset,
  ):
    scores = hidden_layer.logits(params, held_out, offset_held_out)
    entropy = logistic.cross_entropy(scores, truth)
    nats, entropy = family.nats(entropy, truth).mean(-1), entropy.mean(-1)
    correct = (scores.argmax(-1) == truth).sum(-1)
    for g, k in np.ndindex(nats.shape):
      keys = {'accurate': (-correct[g, k], entropy[g, k]), 'usable': (nats[g, k],)}
      for kind, key in keys.items():
        if key < best[g][kind]['key']:
          start, decay = starts[k]
          best[g][kind] = {
            'key': key,
            'nats': float(nats[g, k]),
            'accuracy': float(correct[g, k] / len(truth)),
            'weight_decay': float(decay),
            'step': step,
            'start': start,
            'params': {name: p[g, k][None, None].copy() for name, p in params.items()},
            'offset': (linear[k] * weights[g], linear[k, 0] * bias[g]),
            'mean': mean[g],
            'scale': scale[g],
          }
  return best


def _batches(features, config, rows: int) -> list[np.ndarray]:
  """Layers in batches of nearly equal size that fit in memory, of so many rows."""
  layers, _, dims = features.train.shape
  problems = 2 * len(config.weight_decay)
  width = dims + features.classes
  size = 12 * rows * (dims + problems * features.classes) + 16 * problems * config.hidden * width
  count = min(layers, -(-layers * size // BATCH_BYTES))
  return np.array_split(np.arange(layers), count)
