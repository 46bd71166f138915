"""The theory, claim by claim. A claim is one file here and one line in CLAIMS: `claims/base.py`."""

from claims import (
  cipher,
  data_order,
  few_freedoms,
  few_shot,
  finite_class,
  fit_not_condition,
  larger_is_nearer,
  last_bits,
  middle_layer,
  noise_control,
  other_objective,
  predictor_is_compressor,
  program_counts,
  recurrent_state,
  retellings,
  shared_form,
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
  recurrent_state,
  universal,
  simulated,
  data_order,
  cipher,
  few_shot,
  retellings,
  shared_form,
  few_freedoms,
  finite_class,
  last_bits,
  program_counts,
  fit_not_condition,
)  # fmt: skip
CLAIMS: dict[int, Claim] = {module.CLAIM.number: module.CLAIM for module in _WRITTEN}
