"""MLP probe: what a small network reads from frozen features, in accuracy and in usable bits.

The logits of an example with standardised features x are

    o(x) + W x + b + V gelu(U x + c)

with one hidden layer (gelu in its tanh form) and an offset o that is either zero or the logits of a
certified linear probe (`logistic.fit`). V, W, b and c start at zero, U at random with entries of
variance 1/D, so training starts at o exactly. Both starts are trained, with every weight decay:

*   From the linear probe, W and b are corrections to it, and weight decay pulls towards it instead
    of towards zero. Its checkpoint 0 is the linear probe itself: by validation cross-entropy the
    chosen MLP is never worse than the best linear probe of the grid, and usable information does
    not fall from the smaller family to the larger one, up to the difference between validation and
    test.
*   A linear probe that fits its training labels leaves little gradient to learn features from.
    From zero, the network can learn them before it fits, and stop early.

Training is AdamW with cosine decay over a declared number of steps. Which rows a step sees depends
on the seed, the step and the number of rows alone. Everything runs in float32 on the CPU, many
problems in one program; losses and accuracies are computed from float64 logits.
"""

from collections.abc import Iterator, Sequence
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from probes import information, logistic, mesh_logistic, selection
from probes.layers import Layers, standardised

LINEAR_GAP = 1e-4  # Certificate of the linear starts, nats.
BETA2 = 0.99  # Of Adam: a memory of 100 steps, short against the whole training.
BATCH_BYTES = 256 * 2**20  # Features, offsets and parameters of the layers trained together.

Params = dict[str, np.ndarray]


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
  scores = logits(chosen['params'], test[None], offset[None, None])[0, 0]
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


def train(
  features_GxNxD: np.ndarray,
  labels: np.ndarray,
  weight_decay: Sequence[float],
  *,
  classes: int,
  hidden: int,
  steps: int,
  batch_size: int,
  learning_rate: float,
  checkpoints: int,
  seed: int,
  offset_GxJxNxK: np.ndarray | None = None,
  rows: np.ndarray | None = None,
  weights: np.ndarray | None = None,
) -> Iterator[tuple[int, Params]]:
  """Trains G x J networks and yields them at step 0 and at every checkpoint.

  Problem (g, j) minimises the mean over rows of weight times cross-entropy of the logits
  offset + W x + b + V gelu(U x + c) with AdamW: Adam's update u, then p <- p - rate (u + decay_j p)
  with the decay on U, V and W. All problems start from the same U and see the same rows in the
  same order, so a problem's result does not depend on which others are trained with it.

  Args:
      features_GxNxD: standardised features.
      labels: (N,) for all groups or (G, N), integers in [0, classes).
      weight_decay: (J,), non-negative.
      classes: K.
      hidden: H, width of the hidden layer.
      steps: updates; the rate falls from learning_rate to 0 over them as a half cosine.
      batch_size: rows an update.
      learning_rate: of the first update.
      checkpoints: how often to yield; divides steps.
      seed: of U and of the order of rows.
      offset_GxJxNxK: logits to start from; default zero.
      rows: indices of the rows to train on; default all. The others may hold anything finite, and
          the number of rows changes no shape: nothing is compiled again.
      weights: (N,) or (G, N), non-negative weights of the rows; default 1.

  Yields:
      step and parameters, float32: U (G, J, D, H), c (G, J, H), V (G, J, H, K), W (G, J, D, K),
      b (G, J, K).

  Raises:
      ValueError: checkpoints that do not divide steps, or parameters that are no longer finite.
  """
  groups, count, dims = features_GxNxD.shape
  problems = len(weight_decay)
  if not 0 < checkpoints <= steps or steps % checkpoints:
    raise ValueError(f'{checkpoints} checkpoints do not divide {steps} steps')
  rows = np.arange(count) if rows is None else np.asarray(rows)
  weights = np.ones(count) if weights is None else np.asarray(weights, np.float64)
  weights = np.broadcast_to(weights, (groups, count))
  weights = weights / weights[:, rows].mean(1, keepdims=True)
  if offset_GxJxNxK is None:
    offset_GxJxNxK = np.zeros((groups, problems, count, classes), np.float32)
  cosine = 0.5 * (1 + np.cos(np.pi * np.arange(steps) / steps))
  plan = zip(
    np.split(rows[row_order(len(rows), steps, batch_size, seed)], checkpoints),
    np.split((learning_rate * cosine).astype(np.float32), checkpoints),
    strict=True,
  )
  shapes = _shapes(dims, hidden, classes)
  theta_GxJxP = np.zeros((groups, problems, sum(map(math.prod, shapes.values()))), np.float32)
  params, decay_JxP = _unpack(theta_GxJxP, shapes), np.zeros(theta_GxJxP.shape[1:], np.float32)
  # Views: this writes into the vectors.
  params['U'][:] = np.random.default_rng(seed).normal(size=(dims, hidden)) / math.sqrt(dims)
  for name in ('U', 'V', 'W'):
    _unpack(decay_JxP, shapes)[name][:] = np.reshape(weight_decay, (-1, 1, 1))
  yield 0, params
  zeros = np.zeros_like(theta_GxJxP)
  # Committed to the CPU, where the program then runs whatever the process's default device is.
  state, data = jax.device_put(
    (
      ((theta_GxJxP, zeros, zeros), np.int32(0)),
      (
        np.asarray(features_GxNxD, np.float32),
        np.broadcast_to(labels, (groups, count)).astype(np.int32),
        weights.astype(np.float32),
        np.asarray(offset_GxJxNxK, np.float32),
        decay_JxP,
      ),
    ),
    jax.local_devices(backend='cpu')[0],
  )
  for number, (batches, rates) in enumerate(plan, 1):
    state = _segment(state, data, batches.astype(np.int32), rates, hidden=hidden)
    theta_GxJxP = np.asarray(state[0][0])
    if not np.isfinite(theta_GxJxP).all():
      raise ValueError(f'the MLP probe diverged at learning rate {learning_rate:g}')
    yield number * (steps // checkpoints), _unpack(theta_GxJxP, shapes)


def row_order(count: int, steps: int, batch_size: int, seed: int) -> np.ndarray:
  """Rows of every step, (steps, batch_size): one permutation after another, of (seed, number)."""
  passes = -(-steps * batch_size // count)
  order = [np.random.default_rng((seed, number)).permutation(count) for number in range(passes)]
  return np.concatenate(order)[: steps * batch_size].reshape(steps, batch_size)


def logits(
  params: Params, features_GxMxD: np.ndarray, offset_GxJxMxK: np.ndarray | float = 0.0
) -> np.ndarray:
  """Logits (G, J, M, K) of features under parameters of `train`, in float64."""
  U, c, V, W, b = (np.asarray(params[k], np.float64) for k in ('U', 'c', 'V', 'W', 'b'))
  x = np.asarray(features_GxMxD, np.float64)[:, None]
  return offset_GxJxMxK + x @ W + b[:, :, None] + gelu(x @ U + c[:, :, None]) @ V


def gelu(x: np.ndarray) -> np.ndarray:
  """x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), as `jax.nn.gelu` by default."""
  return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))


def _shapes(dims: int, hidden: int, classes: int) -> dict[str, tuple[int, ...]]:
  return {
    'U': (dims, hidden),
    'V': (hidden, classes),
    'W': (dims, classes),
    'c': (hidden,),
    'b': (classes,),
  }


def _unpack(theta: Any, shapes: dict[str, tuple[int, ...]]) -> dict[str, Any]:
  """Views of parameters (..., P): one vector a problem compiles and updates faster than five."""
  ends = np.cumsum([math.prod(shape) for shape in shapes.values()])
  starts = ends - [math.prod(shape) for shape in shapes.values()]
  return {
    name: theta[..., start:end].reshape(*theta.shape[:-1], *shape)
    for (name, shape), start, end in zip(shapes.items(), starts, ends, strict=True)
  }


def _loss(params, x_BxD, y_B, w_B, offset_BxK):
  """Mean over a batch of weight times cross-entropy, nats."""
  hidden_BxH = jax.nn.gelu(x_BxD @ params['U'] + params['c'][None])
  logits_BxK = offset_BxK + x_BxD @ params['W'] + params['b'][None] + hidden_BxH @ params['V']
  return jnp.mean(w_B * optax.softmax_cross_entropy_with_integer_labels(logits_BxK, y_B))


@functools.partial(jax.jit, static_argnames='hidden')
def _segment(state, data, batches_SxB, rates_S, *, hidden):
  """S steps of AdamW for every problem; state is (parameters, two moments) (G, J, P) and the step.

  Groups run one after the other (their features and parameters then stay in the cache), the
  problems of a group side by side.
  """
  *arrays, decay_JxP = data
  shapes = _shapes(arrays[0].shape[-1], hidden, arrays[-1].shape[-1])
  adam = optax.scale_by_adam(b2=BETA2)

  def group(carried):
    state, (x_NxD, y_N, w_N, offset_JxNxK) = carried

    def step(state, plan):
      rows_B, rate, number = plan
      x_BxD, y_B, w_B = x_NxD[rows_B], y_N[rows_B], w_N[rows_B]

      def problem(theta_P, mean_P, square_P, decay_P, offset_NxK):
        def loss(theta_P):
          return _loss(_unpack(theta_P, shapes), x_BxD, y_B, w_B, offset_NxK[rows_B])

        moments = optax.ScaleByAdamState(number, mean_P, square_P)
        update_P, moments = adam.update(jax.grad(loss)(theta_P), moments)
        return theta_P - rate * (update_P + decay_P * theta_P), moments.mu, moments.nu

      return jax.vmap(problem)(*state, decay_JxP, offset_JxNxK), None

    return jax.lax.scan(step, state, (batches_SxB, rates_S, numbers_S))[0]

  numbers_S = state[1] + jnp.arange(len(rates_S))
  return jax.lax.map(group, (state[0], tuple(arrays))), state[1] + len(rates_S)


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
  for step, params in train(
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
    scores = logits(params, held_out, offset_held_out)
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
