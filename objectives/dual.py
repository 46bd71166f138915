"""Next-token prediction and masked diffusion on the same weights (arXiv:2512.14549)."""

import dataclasses
from typing import Any, ClassVar

import jax
import numpy as np

from objectives import base
from objectives.autoregressive import Autoregressive
from objectives.base import Example, Key, Network, Space, View
from objectives.masked_diffusion import MaskedDiffusion

_CAUSAL, _MASKED = Autoregressive(), MaskedDiffusion()
_PROBED = {'autoregressive': _CAUSAL, 'masked_diffusion': _MASKED}


@dataclasses.dataclass(frozen=True)
class Dual(base.Objective):
  """Half of a batch's rows are trained on as `autoregressive`, the others as `masked_diffusion`.

  Nothing tells the network which of the two it is asked, but what it sees: shifted tokens and the
  past alone, or MASKs and everything. Its own code is the exact one of the causal reading; the
  bound and its chain rules stand beside it. The loss is the mean of both, on validation of every
  example; what is logged as bits is the causal half's.

  Settings:
    probe: how probes read a clean example: as 'autoregressive' or as 'masked_diffusion' would.
  """

  probe: str = 'autoregressive'

  code: ClassVar[base.Code] = base.Code.EXACT
  stochastic: ClassVar[bool] = True
  trained_on = 'half cross-entropy, half the bound'
  predicts: ClassVar[str | None] = _CAUSAL.predicts

  def __post_init__(self):
    if self.probe not in _PROBED:
      raise ValueError(f"objective.probe '{self.probe}' is unknown; known: {', '.join(_PROBED)}")

  def members(self) -> tuple[base.Objective, ...]:
    return (_CAUSAL, _MASKED)

  def reading(self) -> base.Objective:
    return _PROBED[self.probe]

  def backbone(self, space: Space) -> base.Backbone:
    return _CAUSAL.backbone(space)

  def cost(self, model: Any, space: Space) -> base.Cost:
    costs = [member.cost(model, space) for member in self.members()]
    return base.Cost(*(sum(parts) / len(costs) for parts in zip(*costs, strict=True)))

  def view(self, example: Example, space: Space) -> View:
    return _CAUSAL.view(example, space)

  def also(self, space: Space) -> dict[str, base.Objective]:
    return {'masked_diffusion': _MASKED, **_MASKED.also(space)}

  def slots(self, space: Space) -> np.ndarray | None:
    return _CAUSAL.slots(space)

  def sample(self, network: Network, key: Key, count: int, space: Space) -> jax.Array | None:
    return _CAUSAL.sample(network, key, count, space)
