"""L-BFGS over many multinomial logistic regressions at once, in JAX.

G groups of features with J penalties each: theta (G, J, K, R+1), logits (G, J, K, N). The direction
is that of the two-loop recursion around a preconditioner; steps and stopping are per problem. All
arrays have one dtype, float32 or float64.
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


def _exponentials(logits):
  """exp(logits - top) (G, J, K, N), its sums over classes and log-sum-exp, both (G, J, N)."""
  top = logits.max(2)
  exponentials = jnp.exp(logits - top[:, :, None])
  sums = exponentials.sum(2)
  return exponentials, sums, jnp.log(sums) + top


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


def _line_search(state, direction, moved, data, level):
  """Step sizes by backtracking to sufficient decrease; a trial costs no matrix product.

  Args:
      state: theta, logits, loss, gradient, done.
      direction: (G, J, K, R+1).
      moved: its logits.
      data: as in `segment`.
      level: (G, 1, K, R+1), the weighted sum of the features of each class: what the labels
          contribute to the loss is linear in theta, -<theta, level>.

  Returns:
      steps (G, J), losses there, logits there, and their exponentials and sums (those of problems
      that are done are of no use).
  """
  _, _, w, penalty = data
  theta, logits, loss, gradient, done = state
  slope = _dot(gradient, direction)
  linear = _dot(penalty * theta - level, direction)
  square = _dot(penalty * direction, direction)
  still = _dot(penalty * theta / 2 - level, theta)

  def value(log_sums, t):
    return jnp.sum(log_sums * w[:, None], 2) + still + t * linear + t**2 * square / 2

  # Losses that differ by less are equal up to rounding.
  rounding = 5 * jnp.finfo(loss.dtype).eps * jnp.abs(loss)

  def enough(trial, t):
    return trial <= loss + 1e-4 * t * slope + rounding

  def attempt(carry):
    t, reached, good, tries = carry
    trial = value(_exponentials(logits + _wide(t) * moved)[2], t)
    accepted = enough(trial, t)
    # The minimum of the parabola through the two values and the slope at 0.
    parabola = -slope * t**2 / (2 * (trial - loss - slope * t))
    shorter = jnp.clip(jnp.where(jnp.isfinite(parabola), parabola, 0), 0.1 * t, 0.5 * t)
    reached = jnp.where(accepted & ~good, trial, reached)
    return jnp.where(accepted | good, t, shorter), reached, good | accepted, tries + 1

  def backtrack():
    t, reached, good, _ = jax.lax.while_loop(
      lambda carry: jnp.any(~carry[2]) & (carry[3] < 40),
      attempt,
      (jnp.ones_like(loss), loss, done, 0),
    )
    t = jnp.where(good & ~done, t, 0)
    there = logits + _wide(t) * moved
    return t, reached, there, *_exponentials(there)[:2]

  # Nearly always the whole step is taken; then its exponentials serve the gradient too.
  whole = logits + moved
  exponentials, sums, log_sums = _exponentials(whole)
  trial = value(log_sums, 1.0)

  def whole_step():
    t = jnp.where(done, 0, jnp.ones_like(loss))
    there = jnp.where(_wide(done), logits, whole)
    return t, jnp.where(done, loss, trial), there, exponentials, sums

  return jax.lax.cond(jnp.all(enough(trial, 1.0) | done), whole_step, backtrack)


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
  z_transposed = jnp.swapaxes(z, 1, 2)
  truth = labels[:, None, :] == jnp.arange(theta.shape[2])[None, :, None]
  level = ((truth * w[:, None]) @ z_transposed)[:, None]

  def gradient_at(theta, exponentials, sums):
    weighted = exponentials * (w[:, None] / sums)[:, :, None]
    return _product(weighted, z_transposed) - level + penalty * theta

  def iterate(carry):
    state, pairs, iterations, step = carry
    theta, _, _, gradient, done = state
    direction = _direction(gradient, inverse, pairs, (step - 1) % MEMORY)
    moved = _product(direction, z)
    t, loss, logits, *parts = _line_search(state, direction, moved, data, level)
    change = _wide(t) * direction
    theta = theta + change
    new = gradient_at(theta, *parts)
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

  exponentials, sums, log_sums = _exponentials(logits)
  loss = jnp.sum(log_sums * w[:, None], 2) + _dot(penalty * theta / 2 - level, theta)
  state = (theta, logits, loss, gradient_at(theta, exponentials, sums), done)
  memory = jnp.zeros((MEMORY, *theta.shape), theta.dtype)
  pairs = (memory, memory, jnp.zeros((MEMORY, *done.shape), theta.dtype))
  start = (state, pairs, jnp.zeros(done.shape, jnp.int32), 0)
  (theta, logits, _, _, done), _, iterations, _ = jax.lax.while_loop(unfinished, iterate, start)
  return theta, logits, done, iterations
