"""The theory, claim by claim. A claim is one file here and one line in CLAIMS: `claims/base.py`."""

from claims import (
  diffusion_compute,
  diffusion_linear,
  hardest_task,
  middle_layer,
  more_linear,
  noise_control,
  simple_diffusion,
  single_epoch,
)
from claims.base import Claim

# One line a claim.
_WRITTEN = (
  noise_control,
  single_epoch,
  middle_layer,
  diffusion_compute,
  more_linear,
  diffusion_linear,
  simple_diffusion,
  hardest_task,
)  # fmt: skip
CLAIMS: dict[int, Claim] = {module.CLAIM.number: module.CLAIM for module in _WRITTEN}
