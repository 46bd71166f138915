"""Controls that keep their initial parameters: what the architecture alone gives a probe."""

import dataclasses
from typing import ClassVar

from objectives import base
from objectives.gaussian_diffusion import GaussianDiffusion


@dataclasses.dataclass(frozen=True)
class Untrained(base.Objective):
  """The backbone at initialisation, full attention on the clean example."""

  trains: ClassVar[bool] = False
  predicts: ClassVar[str | None] = None


@dataclasses.dataclass(frozen=True)
class UntrainedCausal(Untrained):
  """The backbone at initialisation, called as the autoregressive objective calls it."""

  attention: ClassVar[tuple] = ('causal',)
  shift: ClassVar[bool] = True


@dataclasses.dataclass(frozen=True)
class UntrainedGaussian(Untrained):
  """The backbone at initialisation, at the input scale of Gaussian diffusion."""

  input_scale: ClassVar[float | None] = GaussianDiffusion.input_scale

  def check(self, space: base.Space) -> None:
    GaussianDiffusion().check(space)
