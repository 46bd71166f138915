"""How hard the single predictions are that an objective asks for, on test.

Every view of an objective asks for some tokens and shows others. Of each token asked for: its
cross-entropy, where it stands, how many tokens are shown for it, and, where the law of the source
is known, what a perfect predictor would pay, which is the task's own and no network's.

Shape suffixes: P predictions, B examples, S draws, T slots or tokens.
"""

from collections.abc import Sequence
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from models import patterns
from objectives import scoring
from runs import measured
from runs.errors import UserError
from training import evaluation, keys, sharding

QUANTILES = (0.5, 0.9, 0.99, 0.999)
TAIL = 0.1  # the share of predictions that counts as the hardest


@dataclasses.dataclass(frozen=True)
class Predictions:
  """Single predictions.

  Attributes:
    nats_P: cross-entropy.
    position_P: the token's place in the example.
    shown_P: tokens that are shown for it.
    exact_P: what the source's own conditional pays; None where that is not known.
  """

  nats_P: np.ndarray
  position_P: np.ndarray
  shown_P: np.ndarray
  exact_P: np.ndarray | None = None


def predictions(built: Any, params: Any, draws: int) -> Predictions:
  """Those of `draws` views of every test example, as the objective hides what it asks for.

  Args:
    built: the experiment.
    params: of objective and backbone.
    draws: of a stochastic objective.

  Raises:
    UserError: the objective does not predict tokens one by one.
  """
  objective, space, test = built.objective.members()[0], built.space, built.dataset.test
  # Nothing that is asked for stays in sight.
  objective = objective.hiding() or objective
  try:
    function = jax.jit(
      scoring.make_token_nats(objective, built.apply, space, draws),
      out_shardings=sharding.replicated(built.mesh),
    )
  except ValueError as error:
    raise UserError(str(error)) from error
  config = built.config.evaluation
  key = jax.random.fold_in(keys.key(config.seed), measured.TEST)
  found = evaluation.over_split(
    lambda batch: function(params, batch, key),
    {'tokens': test.tokens_NxT, 'label': test.labels_N},
    config.batch_size,
    built.mesh,
  )
  asked_BxSxT = np.array(found['asked'])
  slots_T = _slots(objective, space)
  if objective.backbone(space).shift:
    seen_TxT = _seen(objective, space, slots_T)
    shown_BxSxT = np.broadcast_to(seen_TxT.sum(1), asked_BxSxT.shape)
    exact = _exact_of_slots(built, seen_TxT, slots_T)
  else:
    hidden_BxSxT = found['hidden'] & (np.arange(space.length) < space.dims)
    shown = space.dims - hidden_BxSxT.sum(-1, keepdims=True)
    shown_BxSxT = np.broadcast_to(shown, asked_BxSxT.shape)
    exact = _exact_of_views(built, hidden_BxSxT, asked_BxSxT)
  return Predictions(
    found['nats'][asked_BxSxT].astype(np.float64),
    np.broadcast_to(slots_T, asked_BxSxT.shape)[asked_BxSxT],
    shown_BxSxT[asked_BxSxT],
    None if exact is None else np.broadcast_to(exact, asked_BxSxT.shape)[asked_BxSxT],
  )


def _slots(objective: Any, space: Any) -> np.ndarray:
  """Which token each slot holds; an end token stays last."""
  slots = objective.slots(space)
  every = np.arange(space.length)
  return every if slots is None else np.concatenate([slots, every[len(slots) :]])


def _seen(objective: Any, space: Any, slots_T: np.ndarray) -> np.ndarray:
  """Of a network that is fed the slots before: which tokens (columns) each slot is shown."""
  window = patterns.of(objective.backbone(space).pattern).window or space.length
  seen_TxT = np.zeros((space.length, space.length), bool)
  for slot in range(space.length):
    seen_TxT[slot, slots_T[max(0, slot - window) : slot]] = True
  return seen_TxT


def _exact_of_slots(built: Any, seen_TxT: np.ndarray, slots_T: np.ndarray) -> np.ndarray | None:
  """What the source's conditionals pay for the token of each slot, (B, 1, T)."""
  truth, space = built.dataset.truth, built.space
  if truth is None:
    return None
  tokens_BxT = jnp.asarray(built.dataset.test.tokens_NxT[:, : space.dims])
  exact = np.zeros((len(tokens_BxT), 1, space.length))
  for slot in range(space.dims):
    hidden_BxT = jnp.broadcast_to(~seen_TxT[slot, : space.dims], tokens_BxT.shape)
    paid_BxT = truth.conditional_cross_entropy(tokens_BxT, hidden_BxT)
    exact[:, 0, slot] = np.asarray(paid_BxT)[:, slots_T[slot]]
  return exact


def _exact_of_views(
  built: Any, hidden_BxSxT: np.ndarray, asked_BxSxT: np.ndarray
) -> np.ndarray | None:
  """The same of tokens behind MASK; None where something else than MASK is asked for."""
  truth, dims = built.dataset.truth, built.space.dims
  if truth is None or (asked_BxSxT & ~hidden_BxSxT).any():
    return None
  tokens_BxT = jnp.asarray(built.dataset.test.tokens_NxT[:, :dims])
  exact = np.zeros(hidden_BxSxT.shape)
  for draw in range(hidden_BxSxT.shape[1]):
    paid_BxT = truth.conditional_cross_entropy(tokens_BxT, hidden_BxSxT[:, draw, :dims])
    exact[:, draw, :dims] = np.asarray(paid_BxT)
  return exact


# What is said of them.


def tail(nats_P: np.ndarray, share: float = TAIL) -> float:
  """Mean nats of the hardest predictions: the largest `share` of them, one at least."""
  count = max(1, round(share * len(nats_P)))
  return float(np.sort(nats_P)[-count:].mean())


def profile(found: Predictions, quantiles: Sequence[float] = QUANTILES) -> dict[str, float]:
  """Mean, quantiles, largest and tail of the nats; the tail of the exact ones, where known."""
  made = {'mean': float(found.nats_P.mean()), 'max': float(found.nats_P.max())}
  made |= {f'quantile {q:g}': float(np.quantile(found.nats_P, q)) for q in quantiles}
  made['tail'] = tail(found.nats_P)
  if found.exact_P is not None:
    made |= {'exact mean': float(found.exact_P.mean()), 'exact tail': tail(found.exact_P)}
  return made


def means_by(nats_P: np.ndarray, group_P: np.ndarray) -> dict[int, float]:
  """Mean nats of every group that has a prediction, such as a position or a number shown."""
  groups, place_P = np.unique(group_P, return_inverse=True)
  sums = np.bincount(place_P, nats_P) / np.bincount(place_P)
  return {int(group): float(mean) for group, mean in zip(groups, sums, strict=True)}
