"""L-BFGS over many multinomial logistic regressions at once, in JAX.

G groups of features with J penalties each: theta (G, J, K, R+1), logits (G, J, K, N). The direction
is that of the two-loop recursion around a preconditioner; steps and stopping are per problem.
"""

import jax
import jax.numpy as jnp

MEMORY = 8  # Pairs kept.
SEGMENT = 24  # Iterations between two preconditioners.


def _dot(a, b):
  return jnp.sum(a * b, (-2, -1))


def _wide(t):
  return t[..., None, None]


def _product(a, b):
  """(G, J, K, A) times (G, A, B): one wide product a group."""
  groups, problems, classes, inner = a.shape
  out = a.reshape(groups, problems * classes, inner) @ b
  return out.reshape(groups, problems, classes, b.shape[2])


def _loss(logits, truth, w):
  """Weighted cross-entropy (G, J) in nats of logits (G, J, K, N)."""
  top = logits.max(2)
  normaliser = jnp.log(jnp.exp(logits - top[:, :, None]).sum(2)) + top
  return jnp.sum((normaliser - jnp.where(truth, logits, 0).sum(2)) * w[:, None, :], 2)


def _direction(gradient, inverse, pairs, newest):
  """-H g by the two-loop recursion around the preconditioner, over a ring of pairs."""
  s, y, rho = pairs

  def backwards(i, carry):
    q, alphas = carry
    k = (newest - i) % MEMORY
    alpha = rho[k] * _dot(s[k], q)
    return q - _wide(alpha) * y[k], alphas.at[k].set(alpha)

  def forwards(i, q):
    k = (newest + 1 + i) % MEMORY
    return q + _wide(alphas[k] - rho[k] * _dot(y[k], q)) * s[k]

  q, alphas = jax.lax.fori_loop(0, MEMORY, backwards, (gradient, jnp.zeros_like(rho)))
  return -jax.lax.fori_loop(0, MEMORY, forwards, q @ inverse)


def _line_search(state, direction, moved, data, truth):
  """Step sizes (G, J) by backtracking to sufficient decrease; a trial costs no matrix product."""
  _, _, w, penalty = data
  theta, logits, loss, gradient, done = state
  slope = _dot(gradient, direction)
  linear = _dot(penalty * theta, direction)
  square = _dot(penalty * direction, direction)
  still = _dot(penalty * theta, theta) / 2

  def attempt(carry):
    t, reached, good, tries = carry
    trial = _loss(logits + _wide(t) * moved, truth, w) + still + t * linear + t**2 * square / 2
    accepted = trial <= loss + 1e-4 * t * slope + 1e-15 * loss
    # The minimum of the parabola through the two values and the slope at 0.
    parabola = -slope * t**2 / (2 * (trial - loss - slope * t))
    shorter = jnp.clip(jnp.where(jnp.isfinite(parabola), parabola, 0), 0.1 * t, 0.5 * t)
    reached = jnp.where(accepted & ~good, trial, reached)
    return jnp.where(accepted | good, t, shorter), reached, good | accepted, tries + 1

  t, reached, good, _ = jax.lax.while_loop(
    lambda carry: jnp.any(~carry[2]) & (carry[3] < 40),
    attempt,
    (jnp.ones_like(loss), loss, done, 0),
  )
  return jnp.where(good & ~done, t, 0), reached


@jax.jit
def segment(data, inverse, theta, logits, done, gap):
  """Up to SEGMENT iterations of L-BFGS over G x J problems with one preconditioner.

  Args:
      data: z (G, R+1, N), labels (G, N), w (G, N), penalty (1, J, 1, R+1).
      inverse: (G, J, R+1, R+1) preconditioners.
      theta: (G, J, K, R+1) parameters.
      logits: (G, J, K, N) their logits.
      done: (G, J) problems to leave alone.
      gap: certificate to reach.

  Returns:
      theta, logits, done and the iterations (G, J) used.
  """
  z, labels, w, penalty = data
  truth = labels[:, None, None, :] == jnp.arange(theta.shape[2])[None, None, :, None]
  z_transposed = jnp.swapaxes(z, 1, 2)

  def gradient_at(theta, logits):
    residual = (jax.nn.softmax(logits, 2) - truth) * w[:, None, None, :]
    return _product(residual, z_transposed) + penalty * theta

  def iterate(carry):
    state, pairs, iterations, step = carry
    theta, logits, loss, gradient, done = state
    direction = _direction(gradient, inverse, pairs, (step - 1) % MEMORY)
    moved = _product(direction, z)
    t, loss = _line_search(state, direction, moved, data, truth)
    change = _wide(t) * direction
    theta, logits = theta + change, logits + _wide(t) * moved
    new = gradient_at(theta, logits)
    y = new - gradient
    product = jnp.where(t > 0, _dot(change, y), 0)
    rho = jnp.where(product > 0, 1 / jnp.where(product > 0, product, 1), 0)
    # A failed search forgets its pairs: the next direction is the preconditioned gradient.
    kept = jnp.where((t > 0)[None], pairs[2], 0)
    k = step % MEMORY
    pairs = (pairs[0].at[k].set(change), pairs[1].at[k].set(y), kept.at[k].set(rho))
    now = done | (jnp.sum(new**2 / (2 * penalty), (2, 3)) <= gap)
    return (theta, logits, loss, new, now), pairs, iterations + ~done, step + 1

  def unfinished(carry):
    return (carry[3] < SEGMENT) & ~jnp.all(carry[0][4])

  loss = _loss(logits, truth, w) + _dot(penalty * theta, theta) / 2
  state = (theta, logits, loss, gradient_at(theta, logits), done)
  memory = jnp.zeros((MEMORY, *theta.shape))
  pairs = (memory, memory, jnp.zeros((MEMORY, *done.shape)))
  start = (state, pairs, jnp.zeros(done.shape, jnp.int32), 0)
  (theta, logits, _, _, done), _, iterations, _ = jax.lax.while_loop(unfinished, iterate, start)
  return theta, logits, done, iterations
