"""The theory, claim by claim. A claim is one file here and one line in CLAIMS: `claims/base.py`."""

from claims import (
  cipher,
  curves_fall_together,
  data_order,
  diffusion_compute,
  diffusion_linear,
  energy,
  finetuning,
  hardest_task,
  larger_is_nearer,
  likelihood_plus_parameters,
  middle_layer,
  more_linear,
  noise_control,
  other_objective,
  own_size,
  predictor_is_compressor,
  recurrent_state,
  shared_structure,
  simple_diffusion,
  simulated,
  single_epoch,
  universal,
)
from claims.base import Claim

# One line a claim.
_WRITTEN = (
  noise_control,
  single_epoch,
  middle_layer,
  other_objective,
  larger_is_nearer,
  predictor_is_compressor,
  likelihood_plus_parameters,
  own_size,
  shared_structure,
  curves_fall_together,
  diffusion_compute,
  more_linear,
  diffusion_linear,
  simple_diffusion,
  hardest_task,
  recurrent_state,
  universal,
  simulated,
  data_order,
  cipher,
  energy,
  finetuning,
)  # fmt: skip
CLAIMS: dict[int, Claim] = {module.CLAIM.number: module.CLAIM for module in _WRITTEN}
