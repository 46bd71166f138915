"""Attentive probe: learned queries attend over the tokens, then a linear classifier.

For tokens z_1..z_T (D) of one example, standardised, and heads h = 1..H:

    a_h = softmax_t(q_h . z_t / sqrt(D)),    p_h = sum_t a_ht z_t,    logits = W [p_1; ...; p_H] + b

This is pooling by cross-attention (as in the probes of CoCa and V-JEPA) with less around it: the
features are keys and values themselves. A key projection K adds nothing to a learned query, since
q . K z = (K^T q) . z, and W absorbs a value projection; either could only lower the rank. With
q = 0 it is mean pooling and the linear probe: what it finds beyond them is at some positions only,
where the mean blurs it.

Means over tokens vary far less in some directions than in others, where Adam is slow. W is
therefore learned (and decays) in coordinates in which the mean pooled training examples are white:
a fixed linear map, which leaves the model what it is. The model is not convex: unlike the linear
probe's, its fit carries no certificate.
"""

from collections.abc import Callable
import functools

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax

from probes import logistic, selection
from probes.features import SPLITS, Features

QUERY_STD = 0.1  # Of initial scores: nearly mean pooling, but no two heads alike.
FLOOR = 1e-4  # Directions with less than this share of the largest variance are not made white.
CHECKPOINTS = 10  # Evenly spaced over training; validation chooses one.
BATCH = 256  # Examples judged at once.
BYTES = 2**30  # Of training tokens held at once: fewer rows train where they are longer.


Params = dict[str, jax.Array]


def evaluate(
  features: Features, config: ml_collections.ConfigDict, seed: int
) -> tuple[dict, dict[str, np.ndarray]]:
  """Trains on several layers, chooses on validation, reads the test split once.

  Args:
    features: with `sequences`.
    config: heads, rows (training examples and validation examples, at most; drawn once, the same
      for every layer and network), layers (layers tried, evenly spaced from first to last where
      there are more), steps, batch_size, learning_rate (AdamW, cosine to zero), weight_decay (grid;
      on queries and weights, not on the bias).
    seed: of rows, batches and initial queries.

  Returns:
    results: {'all': cell} with layer, weight_decay, step (of the checkpoint), chosen by validation
      accuracy, ties to the lower cross-entropy, as in the linear probe; accuracy, stderr
      (binomial), cross_entropy (nats an example), all on test; by_layer_validation (validation
      accuracy of each layer's best weight decay and checkpoint; None for layers not tried) and
      rows (training examples used).
    arrays: 'all/predictions' (N_test,) int32.
    Both are empty without sequences.

  Raises:
    ValueError: features that are not finite, labels outside [0, classes), a class without training
      examples, training that diverges.
  """
  if features.sequences is None:
    return {}, {}
  _check(features)
  rows = _rows(features, config, seed)
  best, by_layer = None, [None] * len(features.train)
  for layer in _layers(len(features.train), config.layers):
    tokens = {s: _tokens(features, s, layer, rows[s]) for s in rows}
    mean, scale = _moments(tokens['train'])
    tokens = {s: _standardised(z, mean, scale) for s, z in tokens.items()}
    labels = {s: np.asarray(getattr(features, f'labels_{s}'))[rows[s]] for s in rows}
    found = features.once(lambda z=tokens, y=labels: _fit(z, y, features.classes, config, seed))
    by_layer[layer] = found['accuracy']
    if 'params' not in found:
      raise ValueError(f'the attentive probe of layer {layer} diverged: lower learning_rate')
    if best is None or found['key'] < best['key']:
      best = {**found, 'layer': layer, 'mean': mean, 'scale': scale}
  truth = np.asarray(features.labels_test)
  scores = _test_logits(features, best)
  predictions = scores.argmax(-1).astype(np.int32)
  correct = float((predictions == truth).mean())
  result = {
    'layer': best['layer'],
    'weight_decay': best['weight_decay'],
    'step': best['step'],
    'accuracy': correct,
    'stderr': float(np.sqrt(correct * (1 - correct) / len(truth))),
    'cross_entropy': float(logistic.cross_entropy(scores.astype(np.float64), truth).mean()),
    'by_layer_validation': by_layer,
    'rows': len(rows['train']),
  }
  return {'all': result}, {'all/predictions': predictions}


@jax.default_matmul_precision('float32')
def logits(params: Params, z_NxTxD: jax.Array) -> jax.Array:
  """(N, K) from standardised tokens and params: queries (H, D), weights (K, H D), bias (K,)."""
  scores_NxTxH = z_NxTxD @ params['queries'].T / np.sqrt(z_NxTxD.shape[-1])
  attention_NxTxH = jax.nn.softmax(scores_NxTxH, axis=1)
  pooled_NxHxD = jnp.einsum('nth,ntd->nhd', attention_NxTxH, z_NxTxD)
  return pooled_NxHxD.reshape(len(z_NxTxD), -1) @ params['weights'].T + params['bias'][None]


def init(heads: int, dims: int, classes: int, seed: int) -> Params:
  """Small random queries, so that heads differ; the linear part is zero: uniform predictions."""
  queries = np.random.default_rng((seed, heads, dims)).normal(size=(heads, dims))
  return {
    'queries': jnp.asarray(QUERY_STD * queries, jnp.float32),
    'weights': jnp.zeros((classes, heads * dims), jnp.float32),
    'bias': jnp.zeros(classes, jnp.float32),
  }


def whitening(z_NxTxD: np.ndarray) -> np.ndarray:
  """A (D, D) float32 that gives the mean pooled rows A z covariance 1, of tokens of mean zero.

  Directions in which means hardly differ, though tokens may, are left small: see `FLOOR`.
  """
  mean_NxD = z_NxTxD.mean(1, dtype=np.float64)
  variance, vectors = np.linalg.eigh(mean_NxD.T @ mean_NxD / len(mean_NxD))
  # The means of independent tokens of variance 1 would have variance 1 / T.
  floor = FLOOR * max(variance[-1], 1 / z_NxTxD.shape[1])
  return (vectors / np.sqrt(np.maximum(variance, floor))).T.astype(np.float32)


@jax.default_matmul_precision('float32')
def _unwhitened(params: Params, white_DxD: jax.Array) -> Params:
  """The same classifier with weights (..., K, H D) for the tokens themselves."""
  weights = params['weights']
  heads = weights.reshape(*weights.shape[:-1], -1, len(white_DxD))
  return {**params, 'weights': (heads @ white_DxD).reshape(weights.shape)}


def _fit(
  tokens: dict[str, np.ndarray],
  labels: dict[str, np.ndarray],
  classes: int,
  config: ml_collections.ConfigDict,
  seed: int,
) -> dict:
  """Trains one layer under every weight decay; the checkpoint with the best validation accuracy.

  Returns:
    params, weight_decay, step, nats and accuracy (both on validation), and key (the lower the
    better: accuracy first, then nats).
  """
  decays = np.asarray(config.weight_decay, np.float32)
  z, y = jnp.asarray(tokens['train']), jnp.asarray(labels['train'], jnp.int32)
  one = init(config.heads, z.shape[-1], classes, seed)
  white = jnp.asarray(whitening(tokens['train']))
  params = jax.tree.map(lambda a: jnp.repeat(a[None], len(decays), 0), one)
  state = (params, jax.vmap(_optimizer(0.0, config.learning_rate, config.steps).init)(params))
  train = _segment(config.learning_rate, config.steps)
  batches = _batches(len(z), config.batch_size, config.steps, seed)
  # Segments of one length, so that one program is compiled; the last checkpoint is the end.
  length = -(-config.steps // CHECKPOINTS)
  best = {'key': (np.inf,), 'accuracy': None}
  for start in range(0, config.steps, length):
    state = train(state, decays, z, y, white, jnp.asarray(batches[start : start + length]))
    params = _unwhitened(state[0], white)
    scores = _in_batches(_many_logits, params, tokens['validation'])  # (N, J, K)
    truth = labels['validation'][:, None]
    nats = logistic.cross_entropy(scores.astype(np.float64), truth).mean(0)
    correct = (scores.argmax(-1) == truth).sum(0)
    for j in np.flatnonzero(np.isfinite(nats)):
      key = (-correct[j], nats[j])
      if key < best['key']:
        best = {
          'params': jax.tree.map(lambda a, j=j: a[j], params),
          'weight_decay': float(config.weight_decay[j]),
          'step': min(start + length, config.steps),
          'key': key,
          'nats': float(nats[j]),
          'accuracy': float(correct[j] / len(truth)),
        }
  return best


def _optimizer(
  weight_decay: float | jax.Array, learning_rate: float, steps: int
) -> optax.GradientTransformation:
  """AdamW from the learning rate to zero along a cosine; the bias does not decay."""
  return optax.chain(
    optax.scale_by_adam(),
    optax.add_decayed_weights(weight_decay, {'queries': True, 'weights': True, 'bias': False}),
    optax.scale_by_learning_rate(optax.cosine_decay_schedule(learning_rate, steps)),
  )


@functools.cache
def _segment(learning_rate: float, steps: int) -> Callable:
  """The jitted training over some batches (S, B) of row numbers, for all weight decays (J,)."""

  def loss(params: Params, z: jax.Array, y: jax.Array, white: jax.Array) -> jax.Array:
    scores = logits(_unwhitened(params, white), z)
    return optax.softmax_cross_entropy_with_integer_labels(scores, y).mean()

  def update(params: Params, moments, decay: jax.Array, *data):
    optimizer = _optimizer(decay, learning_rate, steps)
    updates, moments = optimizer.update(jax.grad(loss)(params, *data), moments, params)
    return optax.apply_updates(params, updates), moments

  @jax.jit
  def train(state, decays, z, y, white, batches):
    def step(state, rows):
      many = jax.vmap(update, (0, 0, 0, None, None, None))
      return many(*state, decays, z[rows], y[rows], white), None

    return jax.lax.scan(step, state, batches)[0]

  return train


@jax.jit
def _many_logits(params: Params, z_NxTxD: jax.Array) -> jax.Array:
  return jax.vmap(logits, (0, None), 1)(params, z_NxTxD)


_logits = jax.jit(logits)


def _in_batches(function: Callable, params: Params, z_NxTxD: np.ndarray) -> np.ndarray:
  """function(params, z) of all rows, `BATCH` at a time, the last one padded: one shape."""
  padded = np.pad(z_NxTxD, ((0, -len(z_NxTxD) % BATCH), (0, 0), (0, 0)))
  parts = [function(params, padded[i : i + BATCH]) for i in range(0, len(padded), BATCH)]
  return np.concatenate([np.asarray(part) for part in parts])[: len(z_NxTxD)]


def _test_logits(features: Features, fitted: dict) -> np.ndarray:
  """Logits (N_test, K) of the chosen probe, read batch by batch."""
  parts = []
  for start in range(0, len(features.labels_test), BATCH):
    rows = np.arange(start, min(start + BATCH, len(features.labels_test)))
    z = _tokens(features, 'test', fitted['layer'], rows)
    z = _standardised(z, fitted['mean'], fitted['scale'])
    parts.append(_in_batches(_logits, fitted['params'], z))
  return np.concatenate(parts)


def _layers(count: int, most: int) -> list[int]:
  """All layers, or so many evenly spaced ones from first to last."""
  return np.linspace(0, count - 1, min(count, max(1, most))).round().astype(int).tolist()


def _rows(features: Features, config, seed: int) -> dict[str, np.ndarray]:
  """Rows that train and those that choose, in rising order; all where there are few enough."""
  _, tokens, dims = np.shape(features.sequences('train', 0, np.arange(1)))
  most = max(features.classes, min(config.rows, BYTES // (4 * tokens * dims)))
  rows = {}
  for number, split in enumerate(('train', 'validation')):
    count = len(getattr(features, f'labels_{split}'))
    rng = np.random.default_rng((seed, number))
    rows[split] = np.sort(rng.permutation(count)[:most])
  return rows


def _batches(rows: int, size: int, steps: int, seed: int) -> np.ndarray:
  """Row numbers (steps, size) of shuffled epochs one after the other; all rows if there are few."""
  size = min(size, rows)
  rng = np.random.default_rng((seed, rows, size))
  epochs = [rng.permutation(rows) for _ in range(-(-steps * size // rows))]
  return np.concatenate(epochs)[: steps * size].reshape(steps, size)


def _tokens(features: Features, split: str, layer: int, rows: np.ndarray) -> np.ndarray:
  z = np.asarray(features.sequences(split, layer, rows))
  if z.ndim != 3 or len(z) != len(rows):
    raise ValueError(f'{split} sequences {z.shape} do not match {len(rows)} rows')
  if not np.isfinite(z).all():
    raise ValueError(f'{split} sequences of layer {layer} hold NaN or infinity')
  return z


def _moments(z_NxTxD: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Mean and scale (D,) of each channel over rows and tokens; infinite scale where constant."""
  mean = z_NxTxD.mean((0, 1), dtype=np.float64)
  total = np.zeros(z_NxTxD.shape[-1])
  for start in range(0, len(z_NxTxD), BATCH):
    total += ((z_NxTxD[start : start + BATCH] - mean) ** 2).sum((0, 1))
  deviation = np.sqrt(total / (z_NxTxD.shape[0] * z_NxTxD.shape[1]))
  constant = deviation <= selection.CONSTANT * np.hypot(mean, deviation)
  return mean, np.where(constant, np.inf, deviation)


def _standardised(z_NxTxD: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
  """(z - mean) / scale in float32."""
  out = np.subtract(z_NxTxD, mean.astype(np.float32), dtype=np.float32)
  return np.multiply(out, (1 / scale).astype(np.float32), out=out)


def _check(features: Features) -> None:
  selection.check(features, SPLITS)
  if features.classes < 2:
    raise ValueError(f'a probe needs at least 2 classes, not {features.classes}')
  selection.largest_balanced(features.labels_train, features.classes)  # Every class has examples.
