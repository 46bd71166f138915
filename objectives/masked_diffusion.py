"""Masked (absorbing) diffusion as an any-order likelihood bound.

Uria et al. 2014, Hoogeboom et al. 2022 (autoregressive diffusion), Shi et al. 2024 (MD4).
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from objectives import base


@dataclasses.dataclass(frozen=True)
class MaskedDiffusion(base.Objective):
  """E_k E_M (T/k) sum_{i in M} -log p(x_i | x_{not M}) >= -log p(x).

  k is uniform on 1..T and M a uniformly random set of exactly k positions, all shown as MASK. The
  expectation equals the mean over all T! orders of that order's negative log-likelihood, hence an
  upper bound on the negative log of the mixture over orders. Exact k gives a uniform predictor
  zero variance. The network needs no time input: it can count the MASKs.
  """

  code: ClassVar[base.Code] = base.Code.UPPER_BOUND
  stochastic: ClassVar[bool] = True

  def view(
    self, example: base.Example, stratum: jax.Array, key: jax.Array, space: base.Space
  ) -> base.View:
    # In float32 stratum * T may round up to T, hence the clip.
    count = 1 + jnp.minimum(jnp.floor(stratum * space.dims).astype(jnp.int32), space.dims - 1)
    hidden_T = base.choose_positions(key, count, space)
    inputs_T = jnp.where(hidden_T, space.mask_token, example.tokens_T)
    return base.View(inputs_T, example.tokens_T, hidden_T * (space.dims / count))
