"""The chain rule of a source whose conditionals are known, and what a model loses against it."""

import jax
import jax.numpy as jnp


def chain(truth, tokens_BxT, order_T=None):
  """Every conditional of the chain rule, in T passes.

  Args:
    truth: a data.belief.Truth.
    tokens_BxT: int token ids.
    order_T: position i is predicted from all positions that stand before it in this permutation;
      None means left to right.

  Returns:
    p(x_i = v | positions before i) of shape (B, T, V), and whether those positions are possible,
    bool (B, T); where they are not, the probabilities are NaN.
  """
  order_T = jnp.arange(truth.dims) if order_T is None else jnp.asarray(order_T)
  rank_T = jnp.argsort(order_T)

  def conditional(position):
    visible_BxT = jnp.broadcast_to((rank_T < rank_T[position])[None], tokens_BxT.shape)
    belief = truth.infer(tokens_BxT, visible_BxT)
    return belief.tokens_BxTxV[:, position], jnp.isfinite(belief.log_likelihood_B)

  p_TxBxV, possible_TxB = jax.lax.map(conditional, jnp.arange(truth.dims))
  return jnp.swapaxes(p_TxBxV, 0, 1), jnp.swapaxes(possible_TxB, 0, 1)


def chain_nats(truth, tokens_BxT, order_T=None):
  """-log p(x_i | positions before i) in nats, (B, T); the sum over T is -log p(x).

  The first token that contradicts the source costs inf, those after it 0.
  """
  p_BxTxV, possible_BxT = chain(truth, tokens_BxT, order_T)
  picked_BxT = jnp.take_along_axis(p_BxTxV, jnp.asarray(tokens_BxT)[..., None], axis=-1)[..., 0]
  return jnp.where(possible_BxT, -jnp.log(picked_BxT), 0.0)


def chain_kl(truth, tokens_BxT, logits_BxTxV):
  """KL(p(. | positions before i) || softmax(logits)) in nats, (B, T)."""
  return divergence(chain(truth, tokens_BxT)[0], logits_BxTxV)


def kl(truth, tokens_BxT, hidden_BxT, logits_BxTxV):
  """KL(p(. | visible) || softmax(logits)) in nats per hidden token, (B, T); 0 at visible ones."""
  belief = truth.infer(tokens_BxT, jnp.logical_not(hidden_BxT))
  return jnp.where(hidden_BxT, divergence(belief.tokens_BxTxV, logits_BxTxV), 0.0)


def divergence(p_xV, logits_xV):
  """KL(p || softmax(logits)) in nats over the last axis, in float32."""
  log_q_xV = jax.nn.log_softmax(jnp.asarray(logits_xV, jnp.float32))
  # Where p is 0 the term is 0, whatever q is.
  log_p_xV = jnp.log(jnp.where(p_xV > 0, p_xV, 1))
  return jnp.sum(jnp.where(p_xV == 0, 0, p_xV * (log_p_xV - log_q_xV)), axis=-1)
