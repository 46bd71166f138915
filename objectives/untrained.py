"""Controls that keep their initial parameters: what the architecture alone gives a probe."""

import dataclasses
from typing import ClassVar

from objectives import base


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
