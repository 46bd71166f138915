r"""Gaussian diffusion as a likelihood bound: the variational diffusion model of Kingma et al. 2021.

A level v of V sits at x_v = 2(v + 1/2)/V - 1. At log noise-to-signal ratio gamma it is seen as
z = alpha x + sigma eps with alpha^2 = sigmoid(-gamma), sigma^2 = sigmoid(gamma). The bound is

  -log p(x) <= KL(q(z_1 | x) || N(0, 1))                                       prior
             + E -log q(x | z_0), by Bayes with a uniform prior over levels     reconstruction
             + 1/2 E_t gamma'(t) e^{-gamma} ||x - xhat(z_t, gamma)||^2          diffusion

with gamma running from gamma_0 to gamma_1 over t in [0, 1]. xhat is the mean of the distribution
proportional to exp(logits_v) w_v, where w_v = exp(-(z - alpha x_v)^2 / 2 sigma^2) is what the
pixel's own noisy value says: the network has to supply the context alone. All computed per token;
only the diffusion term calls the network, once.
"""

import dataclasses
import math
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from objectives import base
from objectives.base import Example, Key, Level, Network, Space, View

_SCHEDULES = ('linear', 'learned')
_LOSSES = ('bound', 'cross_entropy')
_BINS = 32
_SAMPLING_STEPS = 256
# Of a coder by bits back, for what it would cost: cells of a latent number, from -4 to 4.
_CELLS, _SPAN = 2**16, 8.0


class Noise(NamedTuple):
  """One example at one time: everything of shape () or (T,)."""

  gamma: jax.Array
  slope: jax.Array
  z_T: jax.Array
  log_weights_TxV: jax.Array


def level_values(vocabulary: int) -> jax.Array:
  """x_v for every level, evenly spaced inside (-1, 1); float32 (V,)."""
  return (2 * jnp.arange(vocabulary, dtype=jnp.float32) + 1) / vocabulary - 1


def mean_level(p_BxTxV: jax.Array) -> jax.Array:
  """The mean of x_v under each distribution; BxT.

  A sum, not a matrix product: an accelerator rounds what it multiplies to bfloat16 unless told
  otherwise, and the bound multiplies the square of that error by up to 25 V^2.
  """
  return jnp.sum(p_BxTxV * level_values(p_BxTxV.shape[-1])[None, None], axis=-1)


def endpoints(vocabulary: int) -> tuple[float, float]:
  """gamma_0 and gamma_1 for an alphabet.

  At gamma_0 half the spacing of levels is five standard deviations, so that reconstruction costs
  next to nothing (below 1e-5 nats); at gamma_1 alpha^2 is 1/400, so that the prior term is below
  0.0013 nats a token. Wider endpoints would spend the draws where nothing is to be learned.
  """
  return 2 * math.log(1 / (5 * vocabulary)), math.log(399.0)


def alpha_sigma(gamma: jax.Array) -> tuple[jax.Array, jax.Array]:
  """z = alpha x + sigma noise, at gamma = -log(alpha^2 / sigma^2); shaped as gamma."""
  return jnp.sqrt(jax.nn.sigmoid(-gamma)), jnp.sqrt(jax.nn.sigmoid(gamma))


def initial_bits(vocabulary: int, steps: int) -> float:
  """Bits a token that must be there before the first example can be coded by bits back.

  Where each latent is coded as soon as the next is drawn (Kingma, Abbeel and Ho 2019) these are
  for the two least noisy ones, z_0 given x and z_{1/steps} given z_0, both normal, at equal steps
  of gamma: each the entropy of a normal variable in cells.
  """
  low, high = endpoints(vocabulary)
  variances, alphas = [], []
  for gamma in (low, low + (high - low) / steps):
    alphas.append(1 / (1 + math.exp(gamma)))
    variances.append(1 / (1 + math.exp(-gamma)))
  step = variances[1] - alphas[1] / alphas[0] * variances[0]
  cell = _SPAN / _CELLS
  return sum(0.5 * math.log2(2 * math.pi * math.e * v) - math.log2(cell)
             for v in (variances[0], step))  # fmt: skip


def log_likelihood(z_T: jax.Array, gamma: jax.Array, vocabulary: int) -> jax.Array:
  """log w_v up to what is common to all levels; (T, V), largest 0."""
  alpha, sigma = alpha_sigma(gamma)
  distance_TxV = (z_T[:, None] - alpha * level_values(vocabulary)[None]) / sigma
  log_w_TxV = -0.5 * distance_TxV**2
  return log_w_TxV - jnp.max(log_w_TxV, axis=-1, keepdims=True)


@dataclasses.dataclass(frozen=True)
class GaussianDiffusion(base.Objective):
  """The variational bound for ordinal tokens; see the module's text.

  Settings:
    schedule: gamma(t), 'linear' or 'learned': monotone and piecewise linear between the same
      endpoints, trained to lower the variance of the diffusion term and nothing else (the bound's
      mean does not depend on it). Its parameters are counted.
    train_on: 'bound', or 'cross_entropy': of every token under the distribution whose mean xhat
      is, at the same noise levels. Evaluation is always by the bound.
  """

  schedule: str = 'learned'
  train_on: str = 'bound'

  code: ClassVar[base.Code] = base.Code.UPPER_BOUND
  time_input: ClassVar[bool] = True
  soft_inputs: ClassVar[bool] = True
  unclipped: ClassVar[tuple[str, ...]] = ('schedule',)
  stochastic: ClassVar[bool] = True
  input_scale: ClassVar[float | None] = 0.3
  predicts: ClassVar[str | None] = None

  def __post_init__(self):
    for name, known in (('schedule', _SCHEDULES), ('train_on', _LOSSES)):
      if getattr(self, name) not in known:
        raise ValueError(
          f"objective.{name} '{getattr(self, name)}' is unknown; known: {', '.join(known)}"
        )

  @property
  def trained_on(self) -> str:
    return {'bound': 'the bound', 'cross_entropy': "cross-entropy of the denoiser's tokens"}[
      self.train_on
    ]

  def check(self, space: Space) -> None:
    if not space.ordinal:
      raise ValueError(
        'Gaussian diffusion needs an ordinal alphabet: these tokens are names, not levels'
      )

  def init(self, key: jax.Array, space: Space, width: int) -> base.Params:
    return {'schedule': jnp.zeros((_BINS,))} if self.schedule == 'learned' else {}

  def gamma(self, own: base.Params, t: jax.Array, vocabulary: int) -> tuple[jax.Array, jax.Array]:
    """gamma(t) and gamma'(t) > 0."""
    low, high = endpoints(vocabulary)
    if self.schedule == 'linear':
      return low + (high - low) * t, jnp.full(jnp.shape(t), high - low)
    # Time spent in each of equal bins of gamma; gamma is the inverse of its running sum.
    share = jax.nn.softmax(own['schedule'])
    ends = jnp.cumsum(share)
    k = jnp.clip(jnp.searchsorted(ends, t, side='right'), 0, _BINS - 1)
    width = (high - low) / _BINS
    inside = jnp.clip((t - (ends[k] - share[k])) / share[k], 0.0, 1.0)
    return low + width * (k + inside), width / share[k]

  def view(self, example: Example, space: Space) -> View:
    """Only the randomness is drawn here: the noise level may depend on parameters."""
    time_key, zero_key = jax.random.split(example.key)
    extra = {
      't': example.stratum,
      'eps_T': jax.random.normal(time_key, (space.length,)),
      'eps0_T': jax.random.normal(zero_key, (space.length,)),
      'vocabulary': jnp.zeros((space.vocabulary,)),
      'charged_T': base.charged(space),
    }
    return View(None, example.tokens_T, base.charged(space), extra=extra)

  def noise(self, own: base.Params, view: View) -> Noise:
    """The noisy example of a single view."""
    vocabulary = view.extra['vocabulary'].shape[-1]
    gamma, slope = self.gamma(own, view.extra['t'], vocabulary)
    # The mean of the bound has no gradient in the schedule; `schedule_loss` gives its own.
    gamma, slope = jax.lax.stop_gradient((gamma, slope))
    alpha, sigma = alpha_sigma(gamma)
    z_T = alpha * level_values(vocabulary)[view.targets_T] + sigma * view.extra['eps_T']
    return Noise(gamma, slope, z_T, log_likelihood(z_T, gamma, vocabulary))

  def run(self, apply: Any, params: Any, view: View, space: Space, **arguments: Any) -> Any:
    """Soft tokens in: what each noisy pixel says of itself. MASK has no share in them."""
    if view.inputs is None:
      noise = jax.vmap(lambda v: self.noise(params['objective'], v))(view)
      inputs = jax.nn.softmax(noise.log_weights_TxV, axis=-1)
      inputs = jnp.pad(inputs, ((0, 0), (0, 0), (0, 1)))
      low, high = endpoints(view.extra['vocabulary'].shape[-1])
      view = view._replace(inputs=inputs, time=(noise.gamma - low) / (high - low))
    return super().run(apply, params, view, space, **arguments)

  def score(self, params: base.Params, view: View, outputs: Any, space: Space) -> base.Score:
    own = params['objective']
    noise = jax.vmap(lambda v: self.noise(own, v))(view)
    charged_1xT = base.charged(space)[None]
    error_BxT = self.squared_error(noise, outputs.logits_BxTxV, view.targets_T)
    error_B = jnp.sum(error_BxT * charged_1xT, axis=-1)
    diffusion_B = 0.5 * noise.slope * jnp.exp(-noise.gamma) * error_B
    prior_B, reconstruction_B = self.ends(view, space)
    nats_B = prior_B + reconstruction_B + diffusion_B
    loss_B = nats_B / space.dims
    if self.train_on == 'cross_entropy':
      ce_BxT = base.cross_entropy(outputs.logits_BxTxV + noise.log_weights_TxV, view.targets_T)
      loss_B = jnp.sum(ce_BxT * charged_1xT, axis=-1) / space.dims
    if self.schedule == 'learned':
      loss_B += self.schedule_loss(own, noise.gamma, diffusion_B, space)
    terms = {'prior': prior_B, 'reconstruction': reconstruction_B, 'diffusion': diffusion_B}
    return base.Score(nats_B, loss_B, jnp.full(nats_B.shape, space.dims), terms)

  def squared_error(
    self, noise: Noise, logits_BxTxV: jax.Array, targets_BxT: jax.Array
  ) -> jax.Array:
    """(x - xhat)^2 for every token; BxT."""
    values_V = level_values(logits_BxTxV.shape[-1])
    posterior = jax.nn.softmax(logits_BxTxV + noise.log_weights_TxV, axis=-1)
    return (values_V[targets_BxT] - mean_level(posterior)) ** 2

  def ends(self, view: View, space: Space) -> tuple[jax.Array, jax.Array]:
    """Prior and reconstruction terms, nats per example (B,)."""
    low, high = endpoints(space.vocabulary)
    values_BxT = level_values(space.vocabulary)[view.targets_T]
    charged_1xT = base.charged(space)[None]
    alpha_1, sigma_1 = alpha_sigma(jnp.float32(high))
    kl_BxT = 0.5 * (sigma_1**2 + (alpha_1 * values_BxT) ** 2 - 1 - jnp.log(sigma_1**2))
    alpha_0, sigma_0 = alpha_sigma(jnp.float32(low))
    z0_BxT = alpha_0 * values_BxT + sigma_0 * view.extra['eps0_T']
    log_w = jax.vmap(lambda z_T: log_likelihood(z_T, jnp.float32(low), space.vocabulary))(z0_BxT)
    reconstruction_BxT = base.cross_entropy(log_w, view.targets_T)
    return (
      jnp.sum(kl_BxT * charged_1xT, axis=-1),
      jnp.sum(reconstruction_BxT * charged_1xT, axis=-1),
    )

  def schedule_loss(
    self, own: base.Params, gamma_B: jax.Array, diffusion_B: jax.Array, space: Space
  ):
    """Zero for every row, with the gradient of E_t[diffusion^2] in the schedule's parameters.

    In gamma, where the network's error g does not depend on the schedule, the second moment is
    the integral of g^2 / q over the density q = 1/gamma' of gamma. Samples of q estimate its
    gradient without differentiating the network. It is a mean over rows like every loss, so that
    it does not matter how they are split; its scale is Adam's business.
    """
    low, high = endpoints(space.vocabulary)
    share = jax.nn.softmax(own['schedule'])
    bin_B = jnp.clip(((gamma_B - low) / (high - low) * _BINS).astype(jnp.int32), 0, _BINS - 1)
    chosen_B = share[bin_B]
    per_token_B = jax.lax.stop_gradient(diffusion_B / space.dims)
    moment_B = per_token_B**2 * jax.lax.stop_gradient(chosen_B) / chosen_B
    return moment_B - jax.lax.stop_gradient(moment_B)

  def no_file(self, space: Space) -> str:
    bits = space.dims * initial_bits(space.vocabulary, _SAMPLING_STEPS)
    return (
      'its bound is the length of a code with bits back alone: an example takes a chain of '
      f'continuous latents, say {_SAMPLING_STEPS} steps of {space.dims} numbers, each cut into '
      f'{_CELLS:,} cells and drawn by bits that are already there, some {bits:,.0f} before the '
      'first example (they come back at the end), and a pass a step at both ends; such a coder is '
      'not written'
    )

  def probe_levels(self) -> tuple[float, ...]:
    """Times: a little, half and most of the way from gamma_0 to gamma_1."""
    return (0.25, 0.5, 0.75)

  def probe_view(self, tokens_T: jax.Array, space: Space, level: Level, key: Key) -> View:
    """Clean is the one-hot input at gamma_0; a level is a time of the linear schedule."""
    weights_T = jnp.zeros(tokens_T.shape, jnp.float32)
    if level is None:
      one_hot = jax.nn.one_hot(tokens_T, space.vocabulary + 1)
      return View(one_hot, tokens_T, weights_T, time=jnp.zeros(()))
    low, high = endpoints(space.vocabulary)
    gamma = jnp.float32(low + (high - low) * level)
    alpha, sigma = alpha_sigma(gamma)
    eps_T = jax.random.normal(key, tokens_T.shape)
    z_T = alpha * level_values(space.vocabulary)[tokens_T] + sigma * eps_T
    soft = jax.nn.softmax(log_likelihood(z_T, gamma, space.vocabulary), axis=-1)
    return View(jnp.pad(soft, ((0, 0), (0, 1))), tokens_T, weights_T, time=jnp.float32(level))

  def sample(self, network: Network, key: Key, count: int, space: Space) -> jax.Array:
    """Ancestral sampling from gamma_1 down to gamma_0, then the most likely level of each pixel."""
    low, high = endpoints(space.vocabulary)
    gammas = jnp.linspace(high, low, _SAMPLING_STEPS + 1)
    start_key, noise_key = jax.random.split(key)
    z_BxT = jax.random.normal(start_key, (count, space.length))

    def step(z_BxT, inputs):
      gamma, gamma_next, step_key = inputs
      log_w = jax.vmap(lambda z_T: log_likelihood(z_T, gamma, space.vocabulary))(z_BxT)
      soft = jnp.pad(jax.nn.softmax(log_w, axis=-1), ((0, 0), (0, 0), (0, 1)))
      time_B = jnp.full((count,), (gamma - low) / (high - low))
      logits = network.apply(soft, pattern=self.attention, time_B=time_B).logits_BxTxV
      x_BxT = mean_level(jax.nn.softmax(logits + log_w, axis=-1))
      # An end token is known to be 0, and the network was never asked about it.
      x_BxT = jnp.where(base.charged(space)[None] > 0, x_BxT, level_values(space.vocabulary)[0])
      # q(z_s | z_t, x) with c = 1 - SNR_t / SNR_s, Kingma et al. 2021, appendix A.4.
      alpha, sigma = alpha_sigma(gamma)
      alpha_next, sigma_next = alpha_sigma(gamma_next)
      c = -jnp.expm1(gamma_next - gamma)
      mean = alpha_next * (z_BxT * (1 - c) / alpha + c * x_BxT)
      noise_BxT = jax.random.normal(step_key, z_BxT.shape)
      return mean + sigma_next * jnp.sqrt(c) * noise_BxT, None

    steps_ = (gammas[:-1], gammas[1:], jax.random.split(noise_key, _SAMPLING_STEPS))
    z_BxT = jax.lax.scan(step, z_BxT, steps_)[0]
    alpha_0, _ = alpha_sigma(jnp.float32(low))
    levels_BxTxV = jnp.abs(z_BxT[..., None] / alpha_0 - level_values(space.vocabulary)[None, None])
    return jnp.argmin(levels_BxTxV, axis=-1).astype(jnp.int32)
