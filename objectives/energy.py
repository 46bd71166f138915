r"""An energy of whole examples, by noise-contrastive estimation (Gutmann and Hyvarinen 2012).

log p(x) = -E(x) - log Z. Of each data example and nu examples drawn from a noise p_n, a logistic
classifier must say which is which by

  G(u) = log p(u) - log p_n(u) - log nu,

  loss = -log sigmoid(G(x)) - sum_{j=1..nu} log sigmoid(-G(y_j)),

with log Z a parameter like any other. At the minimum, over all functions, p is the data's own
distribution, normalised. For less than all functions the learned log Z is no normaliser, so
evaluation finds it again: by the sum over all sequences where there are few, else by annealed
importance sampling (Neal 2001) from the noise.

Shape suffixes: J a data example and its nu noise examples, C chains, N sequences.
"""

from collections.abc import Callable
import dataclasses
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from objectives import base
from objectives.base import Example, Key, Space, View

# Up to so many sequences the normaliser is their sum, taken so many at a time.
_ENUMERABLE = 2**16
_TOGETHER = 1024
# Noise examples whose mean cost is where log Z begins.
_BEGINNING = 64

Nats = Callable[[jax.Array], jax.Array]  # tokens NxT -> float32 (N,)


class Noise(NamedTuple):
  """A distribution over examples that can be drawn from and whose probabilities are known.

  Attributes:
    draw: (key, count) -> int32 (count, T), end token included.
    nats: tokens NxT -> -log p_n, float32 (N,).
    sites_TxV: -log of a distribution over the values of each charged position, from which an
      annealed chain proposes; the noise itself where positions are independent.
    flops: of one example in one call of either.
  """

  draw: Callable[[jax.Array, int], jax.Array]
  nats: Nats
  sites_TxV: jax.Array
  flops: float = 0.0


def independent(nats_TxV: Any, space: Space) -> Noise:
  """Noise of independent charged positions, each of the given -log probabilities."""
  sites_TxV = -jax.nn.log_softmax(-jnp.asarray(nats_TxV, jnp.float32), axis=-1)

  def draw(key: jax.Array, count: int) -> jax.Array:
    tokens_NxT = base.draw_tokens(key, jnp.broadcast_to(-sites_TxV, (count, *sites_TxV.shape)))
    return jnp.pad(tokens_NxT, ((0, 0), (0, space.length - space.dims)))

  def nats(tokens_NxT: jax.Array) -> jax.Array:
    return jnp.sum(sites_TxV[jnp.arange(space.dims)[None], tokens_NxT[:, : space.dims]], axis=-1)

  return Noise(draw, nats, sites_TxV)


@dataclasses.dataclass(frozen=True)
class Energy(base.Objective):
  """E(x) = T mean_t(h_t(x)) . w, h the final norm's output under full attention.

  Its parameters are w and log Z per charged token, both counted; the latter is not decayed. The
  backbone's output table is not used.

  Settings:
    noise: 'uniform', 'histogram' (of each position, from the training set) or the directory of a
      finished run whose code is exact.
    noise_examples: nu, drawn afresh for every data example.
    ais_chains, ais_steps: of the annealed importance sampling, where sequences are too many to sum.
  """

  noise: str = 'histogram'
  noise_examples: int = 4
  ais_chains: int = 64
  ais_steps: int = 1000

  code: ClassVar[base.Code] = base.Code.ESTIMATE
  reads_logits: ClassVar[bool] = False
  decayed: ClassVar[tuple[str, ...]] = ('head_D',)
  loss_unit: ClassVar[str] = 'nats per example told from its noise'
  predicts: ClassVar[str | None] = None

  def __post_init__(self):
    for name, least in (('noise_examples', 1), ('ais_chains', 2), ('ais_steps', 1)):
      if getattr(self, name) < least:
        raise ValueError(f'objective.{name} must be at least {least}, not {getattr(self, name)}')

  @property
  def contrast(self) -> str:
    return self.noise

  @property
  def trained_on(self) -> str:
    return f'noise-contrastive logistic loss, {self.noise_examples} noise examples each'

  def init(self, key: jax.Array, space: Space, width: int) -> base.Params:
    """E = 0, and the log Z at which the classifier is undecided about noise, on average."""
    drawn = space.noise.draw(key, _BEGINNING)
    log_z = jnp.mean(space.noise.nats(drawn)) / space.dims
    return {'head_D': jnp.zeros((width,)), 'log_z': log_z}

  def no_file(self, space: Space) -> str:
    return (
      'it knows the probability of a whole example up to a constant, and no token is expected from '
      'those before it without a sum over all that may follow'
    )

  def scored(self, space: Space) -> float:
    return 1 + self.noise_examples

  def cost(self, model: Any, space: Space) -> base.Cost:
    """A pass for the example and each noise example; noise of a network has no backward pass."""
    own = super().cost(model, space)
    calls = 1 + 2 * self.noise_examples  # Probabilities of all, and the drawing.
    flops = (1 + self.noise_examples) * own.flops + calls * space.noise.flops / 3
    return own._replace(flops=flops)

  def view(self, example: Example, space: Space) -> View:
    drawn_KxT = space.noise.draw(example.key, self.noise_examples)
    inputs_JxT = jnp.concatenate([example.tokens_T[None], drawn_KxT.astype(jnp.int32)])
    extra = {'noise_nats_J': space.noise.nats(inputs_JxT)}
    return View(inputs_JxT, example.tokens_T, base.charged(space), extra=extra)

  def run(
    self, apply: base.Apply, params: base.Params, view: View, space: Space, **arguments: Any
  ) -> Any:
    """The example and its noise are rows like any others, each with dropout of its own."""
    if (keys_B := arguments.get('dropout_B')) is not None:
      numbers_J = jnp.arange(view.inputs.shape[1])
      split = jax.vmap(lambda key: jax.vmap(lambda j: jax.random.fold_in(key, j))(numbers_J))
      arguments['dropout_B'] = split(keys_B).reshape(-1)
    flat = view._replace(inputs=view.inputs.reshape(-1, view.inputs.shape[-1]))
    return super().run(apply, params, flat, space, **arguments)

  def energy(self, own: base.Params, final_NxTxD: jax.Array, space: Space) -> jax.Array:
    """Nats (N,), up to what is common to all."""
    mean_NxD = jnp.mean(final_NxTxD, axis=1)
    return space.dims * jnp.matmul(mean_NxD, own['head_D'], precision='highest')

  def score(self, params: base.Params, view: View, outputs: Any, space: Space) -> base.Score:
    own, noise_nats_BxJ = params['objective'], view.extra['noise_nats_J']
    energy_BxJ = self.energy(own, outputs.final_BxTxD, space).reshape(noise_nats_BxJ.shape)
    log_z = space.dims * own['log_z']
    logit_BxJ = -energy_BxJ - log_z + noise_nats_BxJ - jnp.log(float(self.noise_examples))
    loss_B = jax.nn.softplus(-logit_BxJ[:, 0]) + jnp.sum(jax.nn.softplus(logit_BxJ[:, 1:]), axis=-1)
    terms = {'energy': energy_BxJ[:, 0], 'log Z': jnp.full(loss_B.shape, log_z)}
    scored_B = jnp.full(loss_B.shape, 1 + self.noise_examples)
    return base.Score(sum(terms.values()), loss_B, scored_B, terms)

  def normaliser(
    self, apply: base.Apply, params: base.Params, space: Space, key: Key
  ) -> base.Normaliser:

    def energy(tokens_NxT: jax.Array) -> jax.Array:
      view = View(tokens_NxT, tokens_NxT, base.charged(space))
      outputs = self.run(apply, params, view, space)
      return self.energy(params['objective'], outputs.final_BxTxD, space)

    if space.vocabulary**space.dims <= _ENUMERABLE:
      return base.Normaliser(log_sum(energy, space), jnp.zeros(()), jnp.ones(()))
    weights_C, _ = anneal(energy, space.noise, key, self.ais_chains, self.ais_steps, space)
    return log_mean(weights_C)

  def normaliser_text(self, space: Space) -> str:
    if space.vocabulary**space.dims <= _ENUMERABLE:
      return f'exact, the sum over {space.vocabulary**space.dims:,} sequences'
    return f'annealed importance sampling, {self.ais_chains} chains of {self.ais_steps} steps'

  def normalised(self, params: base.Params, log_z: float, space: Space) -> base.Params:
    own = {**params['objective'], 'log_z': jnp.float32(log_z / space.dims)}
    return {**params, 'objective': own}


def log_sum(energy: Nats, space: Space) -> jax.Array:
  """log of the sum of e^-E over all V^T sequences."""
  count = space.vocabulary**space.dims
  powers_T = space.vocabulary ** jnp.arange(space.dims - 1, -1, -1)

  def part(numbers_N: jax.Array) -> jax.Array:
    tokens_NxT = numbers_N[:, None] // powers_T[None] % space.vocabulary
    tokens_NxT = jnp.pad(tokens_NxT, ((0, 0), (0, space.length - space.dims)))
    return jax.nn.logsumexp(jnp.where(numbers_N < count, -energy(tokens_NxT), -jnp.inf))

  together = min(_TOGETHER, count)
  numbers = jnp.arange(-(-count // together) * together).reshape(-1, together)
  return jax.nn.logsumexp(jax.lax.map(part, numbers))


def log_mean(log_weights_C: jax.Array) -> base.Normaliser:
  """log of the mean weight, its standard error to first order, and the share of chains in effect.

  The estimate of Z is unbiased; that of log Z is too low on average, by half its squared error.
  """
  log_mean = jax.nn.logsumexp(log_weights_C) - jnp.log(float(len(log_weights_C)))
  relative_C = jnp.exp(log_weights_C - log_mean)
  stderr = jnp.std(relative_C, ddof=1) / jnp.sqrt(float(len(relative_C)))
  return base.Normaliser(log_mean, stderr, 1 / jnp.mean(relative_C**2))


def anneal(
  energy: Nats, noise: Noise, key: jax.Array, chains: int, steps: int, space: Space
) -> tuple[jax.Array, jax.Array]:
  """Annealed importance sampling of sum e^-E from the noise, which is normalised.

  From beta = 0 to 1 in equal steps through p_n^(1 - beta) e^(-beta E); at each one Metropolis-
  Hastings step of every chain, a new value at one random charged position.

  Returns:
    log weights (C,), whose mean weight is Z on average, and where the chains end, CxT.
  """
  start_key, walk_key = jax.random.split(key)
  tokens_CxT = noise.draw(start_key, chains).astype(jnp.int32)
  rows_C = jnp.arange(chains)

  def step(carry: tuple, inputs: tuple) -> tuple[tuple, None]:
    tokens_CxT, energy_C, nats_C, weights_C = carry
    beta, key = inputs
    weights_C += (nats_C - energy_C) / steps
    site_key, value_key, accept_key = jax.random.split(key, 3)
    site_C = jax.random.randint(site_key, (chains,), 0, space.dims)
    sites_CxV = noise.sites_TxV[site_C]
    old_C, new_C = tokens_CxT[rows_C, site_C], base.draw_tokens(value_key, -sites_CxV)
    moved_CxT = tokens_CxT.at[rows_C, site_C].set(new_C)
    moved_energy_C, moved_nats_C = energy(moved_CxT), noise.nats(moved_CxT)
    log_ratio_C = (1 - beta) * (nats_C - moved_nats_C) + beta * (energy_C - moved_energy_C)
    log_ratio_C += sites_CxV[rows_C, new_C] - sites_CxV[rows_C, old_C]
    accepted_C = jnp.log(jax.random.uniform(accept_key, (chains,))) < log_ratio_C
    carry = (
      jnp.where(accepted_C[:, None], moved_CxT, tokens_CxT),
      jnp.where(accepted_C, moved_energy_C, energy_C),
      jnp.where(accepted_C, moved_nats_C, nats_C),
      weights_C,
    )
    return carry, None

  first = (tokens_CxT, energy(tokens_CxT), noise.nats(tokens_CxT), jnp.zeros((chains,)))
  betas = jnp.arange(1, steps + 1) / steps
  (tokens_CxT, _, _, weights_C), _ = jax.lax.scan(
    step, first, (betas, jax.random.split(walk_key, steps))
  )
  return weights_C, tokens_CxT
