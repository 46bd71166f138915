r"""Uniform-state diffusion with its continuous-time bound (Lou et al. 2024, Schiff et al. 2025).

A token x is seen as z, itself with probability alpha and else uniform over the alphabet:
q(z | x) = alpha [z = x] + u with u = (1 - alpha) / V. Forwards a token jumps to each other one at
the rate beta / V, beta = -alpha'/alpha, and the true process backwards, given x, from z to y at the
rate (beta / V) rho_y, rho_y = q(y | x) / q(z | x). The model's is (beta / V) r_y with

  r_y = (alpha c_y + u) / (alpha c_z + u),   c = softmax(logits),

which is exact where c is p(x_i | the other tokens of z): the network supplies the context, the
token's own noisy value is taken care of. The divergence of the two jump processes gives

  -log p(x) <= -E log q(z_0 | x)                                                   reconstruction
             + int beta/V E sum_i sum_{y != z_i} [r_y - rho_y + rho_y log(rho_y / r_y)]    diffusion

with alpha from 1 - 1e-6, where z_0 is decoded by Bayes with a uniform prior (the sum over x of
q(z | x) is 1), down to 0, where z is uniform under both and there is no prior term. Since
beta dt = -d alpha / alpha the integral depends on its limits alone, not on the schedule.
"""

import dataclasses
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from objectives import base
from objectives.base import Example, Key, Level, Network, Space, View
from objectives.masked_diffusion import mask_rate

_SCHEDULES = ('polynomial', 'linear', 'cosine')
# The share of noise at which reconstruction takes over, at a price below 4e-5 nats a token.
_LEAST_NOISE = 1e-6
_SAMPLING_STEPS = 256


def excess(logits_TxV: jax.Array, x_T: jax.Array, z_T: jax.Array, noise: jax.Array) -> jax.Array:
  """sum_y [r_y - rho_y + rho_y log(rho_y / r_y)] for every token, at 1 - alpha = `noise`; (T,)."""
  vocabulary = logits_TxV.shape[-1]
  alpha, u = 1 - noise, noise / vocabulary
  x_TxV, z_TxV = (jax.nn.one_hot(v_T, vocabulary) for v_T in (x_T, z_T))

  def log_ratio(c_TxV: jax.Array) -> jax.Array:
    """log of (alpha c_y + u) / (alpha c_z + u), also where it is close to 0."""
    c_Tx1 = jnp.sum(c_TxV * z_TxV, axis=-1, keepdims=True)
    below_Tx1 = alpha * c_Tx1 + u
    change_TxV = alpha * (c_TxV - c_Tx1) / below_Tx1
    far_TxV = jnp.log(alpha * c_TxV + u) - jnp.log(below_Tx1)
    near_TxV = jnp.where(jnp.abs(change_TxV) < 0.5, change_TxV, 0.0)
    return jnp.where(jnp.abs(change_TxV) < 0.5, jnp.log1p(near_TxV), far_TxV)

  log_rho_TxV = log_ratio(x_TxV)
  apart_TxV = log_ratio(jax.nn.softmax(logits_TxV.astype(jnp.float32))) - log_rho_TxV
  return jnp.sum(jnp.exp(log_rho_TxV) * (jnp.expm1(apart_TxV) - apart_TxV), axis=-1)


class _Logits(NamedTuple):
  logits_BxTxV: jax.Array


@dataclasses.dataclass(frozen=True)
class UniformDiffusion(base.Objective):
  """The continuous-time bound of the module's text, one time an example.

  The network is told sqrt(1 - alpha), whatever the schedule.

  Settings:
    schedule: 1 - alpha over times: 'polynomial' t^2, 'linear' t, 'cosine' 1 - cos(pi t/2). All have
      the same mean. Jumps are rare and dear where there is little noise, their cost squared like
      1 / noise: t^2 goes there as often as variance asks for, t too seldom.
  """

  schedule: str = 'polynomial'

  code: ClassVar[base.Code] = base.Code.UPPER_BOUND
  time_input: ClassVar[bool] = True
  stochastic: ClassVar[bool] = True
  trained_on = 'the bound'
  predicts: ClassVar[str | None] = None

  def __post_init__(self):
    if self.schedule not in _SCHEDULES:
      raise ValueError(
        f"objective.schedule '{self.schedule}' is unknown; known: {', '.join(_SCHEDULES)}"
      )

  def noise(self, t: jax.Array) -> tuple[jax.Array, jax.Array]:
    """1 - alpha at a time, and its slope."""
    # Time 0 itself is the limit of later ones, but its rate is not a number.
    share, rate = mask_rate(self.schedule, jnp.maximum(t, 2.0**-24))
    return _LEAST_NOISE + (1 - _LEAST_NOISE) * share, (1 - _LEAST_NOISE) * share * rate

  def view(self, example: Example, space: Space) -> View:
    noise, slope = self.noise(example.stratum)
    inputs_T = corrupt(example.tokens_T, noise, example.key, space)
    extra = {'noise': noise, 'slope': slope}
    return View(inputs_T, example.tokens_T, base.charged(space), jnp.sqrt(noise), extra=extra)

  def score(self, params: base.Params, view: View, outputs: Any, space: Space) -> base.Score:
    del params
    noise_B, slope_B = view.extra['noise'], view.extra['slope']
    excess_BxT = jax.vmap(excess)(outputs.logits_BxTxV, view.targets_T, view.inputs, noise_B)
    total_B = jnp.sum(excess_BxT * view.weights_T, axis=-1)
    # At alpha = 0 itself, which rounding may reach, the sum is 0, in the square of alpha.
    alpha_B = jnp.maximum(1 - noise_B, 2.0**-24)
    diffusion_B = slope_B / (alpha_B * space.vocabulary) * total_B
    reconstruction_B = jnp.full_like(diffusion_B, space.dims * reconstruction(space.vocabulary))
    nats_B = reconstruction_B + diffusion_B
    terms = {'reconstruction': reconstruction_B, 'diffusion': diffusion_B}
    return base.Score(nats_B, nats_B / space.dims, jnp.full(nats_B.shape, space.dims), terms)

  def reference(self, truth: Any, tokens_BxT: jax.Array, view: View, space: Space) -> jax.Array:
    """The exact denoiser's bound on the same noise, whose mean is -log p(x)."""
    del tokens_BxT
    logits_BxTxV = truth.contexts(view.inputs[:, : space.dims], view.extra['noise'])
    end = ((0, 0), (0, space.length - space.dims), (0, 0))
    return self.score({}, view, _Logits(jnp.pad(logits_BxTxV, end)), space).nats_B

  def no_file(self, space: Space) -> str:
    return (
      'its bound is the length of a code with bits back alone: an example takes a chain of noised '
      'ones, drawn by bits that are already there and come back, and a pass for each step that '
      'its continuous time is cut into; such a coder is not written'
    )

  def probe_levels(self) -> tuple[float, ...]:
    """Shares of noise."""
    return (0.15, 0.5, 0.85)

  def probe_view(self, tokens_T: jax.Array, space: Space, level: Level, key: Key) -> View:
    noise = jnp.float32(_LEAST_NOISE if level is None else level)
    if level is not None:
      tokens_T = corrupt(tokens_T, noise, key, space)
    return super().probe_view(tokens_T, space, None, None)._replace(time=jnp.sqrt(noise))

  def sample(self, network: Network, key: Key, count: int, space: Space) -> jax.Array:
    """Steps of q(z_s | z_t, x), x distributed as the network says; the last one gives x itself.

    p(z_s | z_t) is proportional to q(z_t | z_s) (alpha_s c_y + u_s) at z_s = y. Tokens move
    independently of each other within a step, so that only ever shorter steps are exact.
    """
    noise_S = self.noise(jnp.linspace(1.0, 0.0, _SAMPLING_STEPS + 1))[0].at[-1].set(0.0)
    start_key, step_key = jax.random.split(key)
    charged_1xT = base.charged(space)[None] > 0

    def step(z_BxT: jax.Array, inputs: Any) -> tuple[jax.Array, None]:
      noise, following, key = inputs
      time_B = jnp.full((count,), jnp.sqrt(noise))
      logits_BxTxV = network.apply(z_BxT, pattern=self.attention, time_B=time_B).logits_BxTxV
      stay = (1 - noise) / (1 - following)
      z_BxTxV = jax.nn.one_hot(z_BxT, space.vocabulary)
      jumped_BxTxV = stay * z_BxTxV + (1 - stay) / space.vocabulary
      c_BxTxV = jax.nn.softmax(logits_BxTxV)
      seen_BxTxV = (1 - following) * c_BxTxV + following / space.vocabulary
      drawn_BxT = base.draw_tokens(key, jnp.log(jumped_BxTxV) + jnp.log(seen_BxTxV))
      return jnp.where(charged_1xT, drawn_BxT, 0), None

    z_BxT = jax.random.randint(start_key, (count, space.length), 0, space.vocabulary)
    z_BxT = jnp.where(charged_1xT, z_BxT, 0).astype(jnp.int32)
    keys_S = jax.random.split(step_key, _SAMPLING_STEPS)
    return jax.lax.scan(step, z_BxT, (noise_S[:-1], noise_S[1:], keys_S))[0]


def reconstruction(vocabulary: int) -> jax.Array:
  """-E log q(z_0 | x) of a token in nats: the entropy of a token at the least noise."""
  u = jnp.float32(_LEAST_NOISE / vocabulary)
  other = (vocabulary - 1) * u
  return -(1 - other) * jnp.log1p(-other) - other * jnp.log(u)


def corrupt(tokens_T: jax.Array, noise: jax.Array, key: jax.Array, space: Space) -> jax.Array:
  """Charged tokens replaced by uniform ones with probability `noise`."""
  choose_key, token_key = jax.random.split(key)
  # The default mode has no probabilities between multiples of 2^-23.
  replaced_T = jax.random.bernoulli(choose_key, noise, (space.length,), mode='high')
  random_T = jax.random.randint(token_key, (space.length,), 0, space.vocabulary)
  replaced_T &= base.charged(space) > 0
  return jnp.where(replaced_T, random_T.astype(tokens_T.dtype), tokens_T)
