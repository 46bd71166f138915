"""Gaussian diffusion with the image generators' weighting; it does not maximise likelihood."""

import dataclasses
import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from objectives import base
from objectives.gaussian_diffusion import GaussianDiffusion, endpoints


@dataclasses.dataclass(frozen=True)
class GaussianSimple(GaussianDiffusion):
  """Mean of ||eps - epshat||^2 over times (Ho et al. 2020), on the same view, head and backbone.

  epshat = (z - alpha xhat) / sigma, so that the loss is e^{-gamma} ||x - xhat||^2. Times are those
  of the cosine schedule, gamma(t) = 2 log tan(pi t / 2) (Nichol and Dhariwal 2021), cut to the
  bound's endpoints: under gamma linear in t this loss would be the bound's diffusion term itself.
  """

  schedule: str = 'cosine'
  train_on: str = 'noise'

  code: ClassVar[base.Code] = base.Code.NONE
  loss_unit: ClassVar[str] = 'squared error of the noise per token'

  def __post_init__(self):
    if self.schedule != 'cosine':
      raise ValueError(f"objective.schedule '{self.schedule}' is unknown; known: cosine")
    if self.train_on != 'noise':
      raise ValueError(f"objective.train_on '{self.train_on}' is unknown; known: noise")

  @property
  def trained_on(self) -> str:
    return 'mean squared error of the noise'

  def gamma(self, own: base.Params, t: jax.Array, vocabulary: int) -> tuple[jax.Array, jax.Array]:
    """gamma(t) and its slope, with t spread over the part of the schedule inside the endpoints."""
    first, last = (2 / math.pi * math.atan(math.exp(g / 2)) for g in endpoints(vocabulary))
    s = first + (last - first) * t
    return 2 * jnp.log(jnp.tan(math.pi / 2 * s)), (last - first) * 2 * math.pi / jnp.sin(
      math.pi * s
    )

  def score(
    self, params: base.Params, view: base.View, outputs: Any, space: base.Space
  ) -> base.Score:
    noise = jax.vmap(lambda v: self.noise(params['objective'], v))(view)
    error_BxT = self.squared_error(noise, outputs.logits_BxTxV, view.targets_T)
    error_B = jnp.sum(error_BxT * base.charged(space)[None], axis=-1)
    loss_B = jnp.exp(-noise.gamma) * error_B / space.dims
    return base.Score(loss_B, loss_B, jnp.full(loss_B.shape, space.dims), {})

  def also(self, space: base.Space) -> dict[str, base.Objective]:
    """The bound, of the same network: it is told gamma, whatever the times were in training.

    The mean of the bound does not depend on how gamma is spread over times; here it is evenly.
    """
    return {'gaussian_diffusion': GaussianDiffusion(schedule='linear')}

  def sample(self, *arguments: Any, **named: Any) -> None:
    """None: only objectives with a likelihood are sampled from."""
    del arguments, named
    return None
