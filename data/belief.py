"""Exact inference in the sources whose truth is known: sum-product on trees and on chains.

Shape suffixes: B batch, T tokens, V symbols, N nodes of a level, M productions, S branching.

Upwards in log space: each node sends the log-likelihood of the evidence below it, for every value
of its own; messages are shifted to a maximum of 0, so float32 does not run out of range. Downwards
in probabilities: a node's posterior times the posterior of its choice given its value. Nothing is
approximated and no term is dropped; float32 leaves about 1e-6.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

# Log-probability of the impossible. Finite, so that no inf - inf can arise; far below anything
# possible, and still far inside float32's range when thousands of violations add up.
IMPOSSIBLE = -1e9


class Belief(NamedTuple):
  """What is known once some tokens are seen.

  Attributes:
    log_likelihood_B: log p(visible tokens) in nats, -inf where they contradict the source.
    tokens_BxTxV: p(x_i = v | visible): the posterior predictive of hidden tokens, one-hot for
      visible ones. NaN where the visible tokens contradict the source.
    latents: the same for every latent, one array (B, N, V) a level, root first; () without any.
  """

  log_likelihood_B: jax.Array
  tokens_BxTxV: jax.Array
  latents: tuple[jax.Array, ...]


class Truth:
  """A source whose every conditional is known.

  Subclasses are frozen dataclasses and JAX pytrees: they go through jit like any array, and two
  of equal shape share one compilation. Inference is compiled, and every method can be part of a
  larger jitted function. Tokens are the T charged ones, without the end token.
  """

  @property
  def dims(self) -> int:
    """T, tokens a sequence."""
    raise NotImplementedError

  @property
  def vocabulary(self) -> int:
    """V, token values 0..V-1."""
    raise NotImplementedError

  def entropy_bits(self) -> float:
    """Entropy of a sequence in bits, in closed form."""
    raise NotImplementedError

  def entropy_bits_per_dim(self) -> float:
    """Entropy in bits per token."""
    return self.entropy_bits() / self.dims

  def _infer(self, evidence_BxTxV: jax.Array) -> Belief:
    """Beliefs given the log-likelihood of what is seen at each position, for each value."""
    raise NotImplementedError

  def _check(self, tokens_BxT: Any) -> None:
    if jnp.ndim(tokens_BxT) != 2 or jnp.shape(tokens_BxT)[1] != self.dims:
      raise ValueError(
        f'expected tokens of shape (B, {self.dims}), not {jnp.shape(tokens_BxT)}; '
        'the end token is not part of a sequence'
      )

  @jax.jit
  def infer(self, tokens_BxT: jax.Array, visible_BxT: jax.Array) -> Belief:
    """Beliefs given the visible tokens; what stands at hidden positions has no influence.

    Args:
      tokens_BxT: int token ids.
      visible_BxT: bool.
    """
    self._check(tokens_BxT)
    return self._infer(_evidence(tokens_BxT, visible_BxT, self.vocabulary))

  @jax.jit
  def contexts(self, tokens_BxT: jax.Array, noise_B: jax.Array) -> jax.Array:
    """log p(x_i = v | all other tokens, as seen through noise), up to a constant; (B, T, V).

    Each token seen is the true one with probability 1 - noise, else uniform over the alphabet.

    Args:
      tokens_BxT: int token ids, as seen.
      noise_B: in (0, 1].
    """
    self._check(tokens_BxT)
    noise_Bx1x1 = noise_B[:, None, None]
    kept_BxTxV = (1 - noise_Bx1x1) * jax.nn.one_hot(tokens_BxT, self.vocabulary)
    seen_BxTxV = jnp.log(kept_BxTxV + noise_Bx1x1 / self.vocabulary)
    # The posterior knows the token's own noisy value too; without it the others' is left.
    posterior_BxTxV = self._infer(seen_BxTxV).tokens_BxTxV
    return jnp.log(jnp.maximum(posterior_BxTxV, jnp.finfo(jnp.float32).tiny)) - seen_BxTxV

  def nats(self, tokens_BxT: jax.Array) -> jax.Array:
    """-log p(x) in nats per sequence, (B,), by the marginal likelihood; inf if impossible."""
    return -self.infer(tokens_BxT, jnp.ones(jnp.shape(tokens_BxT), bool)).log_likelihood_B

  def conditional_cross_entropy(self, tokens_BxT: jax.Array, hidden_BxT: jax.Array) -> jax.Array:
    """-log p(x_i | visible tokens) in nats per hidden token, (B, T); 0 at visible ones."""
    belief = self.infer(tokens_BxT, jnp.logical_not(hidden_BxT))
    tokens_BxTx1 = jnp.asarray(tokens_BxT)[..., None]
    p_BxT = jnp.take_along_axis(belief.tokens_BxTxV, tokens_BxTx1, axis=-1)[..., 0]
    return jnp.where(hidden_BxT, -jnp.log(p_BxT), 0.0)


def _evidence(tokens_BxT: jax.Array, visible_BxT: jax.Array, symbols: int) -> jax.Array:
  """Log-likelihood of what is seen at each position, for each value: 0 or IMPOSSIBLE."""
  other_BxTxV = jax.nn.one_hot(tokens_BxT, symbols) == 0
  return jnp.where(visible_BxT[..., None] & other_BxTxV, IMPOSSIBLE, 0.0)


def _shift(message_xV: jax.Array) -> tuple[jax.Array, jax.Array]:
  """The message with maximum 0, and what was subtracted, without the last axis."""
  peak_x1 = jnp.max(message_xV, axis=-1, keepdims=True)
  return message_xV - peak_x1, peak_x1[..., 0]


def _belief(
  log_likelihood_B: jax.Array, tokens_BxTxV: jax.Array, latents: tuple[jax.Array, ...]
) -> Belief:
  possible_B = log_likelihood_B > IMPOSSIBLE / 2
  possible_Bx1x1 = possible_B[:, None, None]
  return Belief(
    jnp.where(possible_B, log_likelihood_B, -jnp.inf),
    jnp.where(possible_Bx1x1, tokens_BxTxV, jnp.nan),
    tuple(jnp.where(possible_Bx1x1, latent, jnp.nan) for latent in latents),
  )


def tree_belief(rules_LxVxMxS: jax.Array, evidence_BxTxV: jax.Array) -> Belief:
  """Beliefs in a regular tree of L levels of rules.

  The root is uniform. A node of level k and value a takes one of its M productions uniformly; the
  j-th gives its S children the values rules[k, a, j]. The leaves, level L, are the T = S^L tokens.
  """
  levels, symbols, productions, branching = rules_LxVxMxS.shape
  batch, message = evidence_BxTxV.shape[0], evidence_BxTxV
  scale_B = jnp.zeros(batch)
  scores = []
  for rules_VxMxS in reversed(rules_LxVxMxS):
    children_BxNxSxV = message.reshape(batch, -1, branching, symbols)
    # BxNxVxM: log-likelihood of the evidence below a node, given its value and its production.
    score = sum(
      jnp.take(children_BxNxSxV[:, :, c], rules_VxMxS[:, :, c], axis=-1) for c in range(branching)
    )
    scores.append(score)
    message, peak_BxN = _shift(jax.nn.logsumexp(score, axis=-1) - jnp.log(productions))
    scale_B += jnp.sum(peak_BxN, axis=-1)
  root_BxV = message[:, 0]
  log_likelihood_B = scale_B + jax.nn.logsumexp(root_BxV, axis=-1) - jnp.log(symbols)

  posteriors = [jax.nn.softmax(root_BxV)[:, None]]
  for level in range(levels):
    choice_BxNxVxM = posteriors[-1][..., None] * jax.nn.softmax(scores.pop(), axis=-1)
    # Which value each production gives each child. Accelerators would round a default product.
    values_VxMxSxV = jax.nn.one_hot(rules_LxVxMxS[level], symbols)
    children_BxNxSxV = jnp.einsum(
      'bnam,amcv->bncv', choice_BxNxVxM, values_VxMxSxV, precision=jax.lax.Precision.HIGHEST
    )
    posteriors.append(children_BxNxSxV.reshape(batch, -1, symbols))
  return _belief(log_likelihood_B, posteriors[-1], tuple(posteriors[:-1]))


def chain_belief(
  initial_V: jax.Array,
  transition_VxV: jax.Array,
  stride: int,
  evidence_BxTxV: jax.Array,
) -> Belief:
  """Beliefs in `stride` interleaved Markov chains: x_t depends on x_{t - stride} alone.

  Args:
    initial_V: distribution of the first `stride` tokens, each by itself.
    transition_VxV: p(next = column | previous = row).
    stride: distance between a token and the one it depends on.
    evidence_BxTxV: log-likelihood of what is seen at each position, for each value.
  """
  batch, length, symbols = evidence_BxTxV.shape
  log_initial_V = jnp.maximum(jnp.log(initial_V), IMPOSSIBLE)
  log_step_VxV = jnp.maximum(jnp.log(transition_VxV), IMPOSSIBLE)
  # Positions that pad the last round are hidden, hence without influence.
  evidence = jnp.pad(evidence_BxTxV, ((0, 0), (0, -length % stride), (0, 0)))
  # R rounds of C = stride chains.
  evidence_RxBxCxV = jnp.moveaxis(evidence.reshape(batch, -1, stride, symbols), 1, 0)

  def backwards(carry, evidence_BxCxV):
    later_BxCxV, scale_B = carry
    message_BxCxV, peak_BxC = _shift(evidence_BxCxV + later_BxCxV)
    score_BxCxVxV = message_BxCxV[..., None, :] + log_step_VxV[None, None]
    earlier_BxCxV = jax.nn.logsumexp(score_BxCxVxV, axis=-1)
    return (earlier_BxCxV, scale_B + jnp.sum(peak_BxC, axis=-1)), message_BxCxV

  start = (jnp.zeros((batch, stride, symbols)), jnp.zeros(batch))
  (_, scale_B), message_RxBxCxV = jax.lax.scan(backwards, start, evidence_RxBxCxV, reverse=True)
  first_BxCxV = message_RxBxCxV[0] + log_initial_V[None, None]
  log_likelihood_B = scale_B + jnp.sum(jax.nn.logsumexp(first_BxCxV, axis=-1), axis=-1)

  def forwards(posterior_BxCxV, message_BxCxV):
    score_BxCxVxV = message_BxCxV[..., None, :] + log_step_VxV[None, None]
    joint_BxCxVxV = posterior_BxCxV[..., None] * jax.nn.softmax(score_BxCxVxV, axis=-1)
    posterior_BxCxV = jnp.sum(joint_BxCxVxV, axis=-2)
    return posterior_BxCxV, posterior_BxCxV

  posterior_BxCxV = jax.nn.softmax(first_BxCxV)
  _, rest = jax.lax.scan(forwards, posterior_BxCxV, message_RxBxCxV[1:])
  posterior_RxBxCxV = jnp.concatenate([posterior_BxCxV[None], rest])
  tokens_BxTxV = jnp.moveaxis(posterior_RxBxCxV, 0, 1).reshape(batch, -1, symbols)[:, :length]
  return _belief(log_likelihood_B, tokens_BxTxV, ())
