"""Masked (absorbing) diffusion as an any-order likelihood bound.

Uria et al. 2014, Hoogeboom et al. 2022 (autoregressive diffusion), Shi et al. 2024 (MD4).
"""

import dataclasses
import math
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from objectives import base
from objectives.base import Example, Key, Level, Network, Space, View

_FORMS = ('exact_k', 'bernoulli')
_SCHEDULES = ('linear', 'cosine', 'polynomial')


@dataclasses.dataclass(frozen=True)
class MaskedDiffusion(base.Objective):
  """E_k E_M (T/k) sum_{i in M} -log p(x_i | x_{not M}) >= -log p(x).

  k is uniform on 1..T and M a uniformly random set of exactly k positions, all shown as MASK. The
  expectation equals the mean over all T! orders of that order's negative log-likelihood, hence an
  upper bound on the negative log of the mixture over orders. Exact k gives a uniform predictor
  zero variance. The network needs no time input: it can count the MASKs.

  Settings:
    form: 'exact_k' as above; 'bernoulli' is the continuous-time form, which masks each token with
      probability m(t), t uniform, and weighs by m'(t)/m(t). It has the same mean under every
      schedule and more variance; it is kept to show just that.
    schedule: m(t) of the Bernoulli form: 'linear' t, 'cosine' 1 - cos(pi t/2), 'polynomial' t^2.
  """

  form: str = 'exact_k'
  schedule: str = 'linear'

  code: ClassVar[base.Code] = base.Code.UPPER_BOUND
  stochastic: ClassVar[bool] = True
  trained_on = 'the bound'

  def __post_init__(self):
    for name, known in (('form', _FORMS), ('schedule', _SCHEDULES)):
      if getattr(self, name) not in known:
        raise ValueError(
          f"objective.{name} '{getattr(self, name)}' is unknown; known: {', '.join(known)}"
        )

  @property
  def by_count(self) -> bool:
    return self.form == 'exact_k'

  def view(self, example: Example, space: Space) -> View:
    stratum, key = example.stratum, example.key
    if self.form == 'exact_k':
      # In float32 stratum * T may round up to T, hence the clip.
      count = 1 + jnp.minimum(jnp.floor(stratum * space.dims).astype(jnp.int32), space.dims - 1)
      hidden_T = base.choose_positions(key, count, space)
      weights_T = hidden_T * (space.dims / count)
    else:
      # Time 0 itself masks nothing and has an infinite weight.
      share, ratio = mask_rate(self.schedule, jnp.maximum(stratum, 2.0**-24))
      hidden_T = (jax.random.uniform(key, (space.length,)) < share) & (base.charged(space) > 0)
      weights_T = jnp.where(hidden_T, ratio, 0.0)
    inputs_T = jnp.where(hidden_T, space.mask_token, example.tokens_T)
    return View(inputs_T, example.tokens_T, weights_T)

  def scored(self, space: Space) -> float:
    if self.form == 'exact_k':
      return (space.dims + 1) / 2
    mean_rate = {'linear': 1 / 2, 'cosine': 1 - 2 / math.pi, 'polynomial': 1 / 3}[self.schedule]
    return space.dims * mean_rate

  def fills(self, space: Space) -> int:
    return space.dims

  def also(self, space: Space) -> dict[str, base.Objective]:
    return {
      'chain rule in raster order': FixedOrder(),
      'chain rule in order of confidence': ConfidentOrder(),
    }

  def reference(self, truth: Any, tokens_BxT: jax.Array, view: View, space: Space) -> jax.Array:
    weights_BxT = view.weights_T[:, : space.dims]
    exact = truth.conditional_cross_entropy(tokens_BxT[:, : space.dims], weights_BxT > 0)
    return jnp.sum(weights_BxT * exact, axis=-1)

  def probe_levels(self) -> tuple[float, ...]:
    return (0.15, 0.5, 0.85)

  def probe_view(self, tokens_T: jax.Array, space: Space, level: Level, key: Key) -> View:
    return base.masked_probe_view(tokens_T, space, level, key)

  def sample(self, network: Network, key: Key, count: int, space: Space) -> jax.Array:
    """Reveals one token a step in a random order of each example's own: T exact steps."""
    order_key, token_key = jax.random.split(key)
    order_keys = jax.random.split(order_key, count)
    order_BxT = jax.vmap(lambda k: jax.random.permutation(k, space.dims))(order_keys)
    start_BxT = jnp.full((count, space.length), space.mask_token, jnp.int32)
    start_BxT = jnp.where(base.charged(space)[None] > 0, start_BxT, 0)

    def reveal(tokens_BxT, step):
      position_B, step_key = step
      logits = network.apply(tokens_BxT, pattern=self.attention).logits_BxTxV
      here_BxV = jnp.take_along_axis(logits, position_B[:, None, None], axis=1)[:, 0]
      drawn_B = base.draw_tokens(step_key, here_BxV)
      return tokens_BxT.at[jnp.arange(count), position_B].set(drawn_B), None

    steps = (order_BxT.T, jax.random.split(token_key, space.dims))
    return jax.lax.scan(reveal, start_BxT, steps)[0]


@dataclasses.dataclass(frozen=True)
class FixedOrder(base.Objective):
  """The chain rule in raster order with a masked predictor: T passes, an exact code.

  Draw number t hides every position from t on and charges position t alone, T-fold; the mean over
  exactly T draws is therefore sum_t -log p(x_t | x_<t).
  """

  code: ClassVar[base.Code] = base.Code.EXACT
  stochastic: ClassVar[bool] = True
  numbered: ClassVar[bool] = True

  def draws(self, wanted: int, space: Space) -> int:
    return space.dims

  def scored(self, space: Space) -> float:
    return 1

  def view(self, example: Example, space: Space) -> View:
    slot = jnp.minimum(jnp.floor(example.stratum * space.dims).astype(jnp.int32), space.dims - 1)
    positions_T = jnp.arange(space.length)
    hidden_T = (positions_T >= slot) & (positions_T < space.dims)
    inputs_T = jnp.where(hidden_T, space.mask_token, example.tokens_T)
    weights_T = jnp.where(positions_T == slot, float(space.dims), 0.0)
    return View(inputs_T, example.tokens_T, weights_T)


class _Logits(NamedTuple):
  logits_BxTxV: jax.Array


@dataclasses.dataclass(frozen=True)
class ConfidentOrder(base.Objective):
  """The chain rule in the order that the network chooses as it goes: T passes, an exact code.

  Everything starts as MASK. Each pass reveals the hidden position of the smallest predictive
  entropy, the first of equals, and charges it. Whoever decodes has seen what the choice depends on,
  the tokens revealed before, and nothing else has a part in it: the probabilities of all sequences
  add up to 1.
  """

  code: ClassVar[base.Code] = base.Code.EXACT

  def passes(self, wanted: int, space: Space) -> int:
    return space.dims

  def view(self, example: Example, space: Space) -> View:
    return View(example.tokens_T, example.tokens_T, base.charged(space))

  def run(self, apply: Any, params: Any, view: View, space: Space, **arguments: Any) -> Any:
    """Every position's logits of the pass that revealed it."""
    tokens_BxT = view.targets_T
    hidden_BxT = jnp.broadcast_to(base.charged(space)[None] > 0, tokens_BxT.shape)

    def reveal(carry: tuple[jax.Array, jax.Array], _: None) -> tuple[Any, None]:
      hidden_BxT, kept_BxTxV = carry
      seen = view._replace(inputs=jnp.where(hidden_BxT, space.mask_token, tokens_BxT))
      logits_BxTxV = base.Objective.run(self, apply, params, seen, space, **arguments).logits_BxTxV
      log_p_BxTxV = jax.nn.log_softmax(logits_BxTxV)
      entropy_BxT = -jnp.sum(jnp.exp(log_p_BxTxV) * log_p_BxTxV, axis=-1)
      chosen_B = jnp.argmin(jnp.where(hidden_BxT, entropy_BxT, jnp.inf), axis=-1)
      here_BxT = jnp.arange(space.length)[None] == chosen_B[:, None]
      kept_BxTxV = jnp.where(here_BxT[..., None], logits_BxTxV, kept_BxTxV)
      return (hidden_BxT & ~here_BxT, kept_BxTxV), None

    start = jnp.zeros((*tokens_BxT.shape, space.vocabulary), jnp.float32)
    (_, kept_BxTxV), _ = jax.lax.scan(reveal, (hidden_BxT, start), length=space.dims)
    return _Logits(kept_BxTxV)


def mask_rate(schedule: str, t: jax.Array) -> tuple[jax.Array, jax.Array]:
  """m(t), the probability that a token is masked at time t, and m'(t)/m(t)."""
  if schedule == 'linear':
    return t, 1 / t
  if schedule == 'cosine':
    half = math.pi / 2
    return 1 - jnp.cos(half * t), half * jnp.sin(half * t) / (2 * jnp.sin(half * t / 2) ** 2)
  return t**2, 2 / t
