"""A network of one hidden layer over frozen features: its training, by AdamW, and its logits.

The logits of an example with features x and offset o are

    o + W x + b + V gelu(U x + c)

gelu in its tanh form. V, W, b and c start at zero, U at random with entries of variance 1/D, so
training starts at o exactly. Everything runs in float32 on the CPU, many problems in one program.
"""

from collections.abc import Iterator, Sequence
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

BETA2 = 0.99  # Of Adam: a memory of 100 steps, short against the whole training.

Params = dict[str, np.ndarray]


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
