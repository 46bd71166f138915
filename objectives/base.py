"""What an objective is: clean tokens and randomness in, a View out, nats back.

An objective is a frozen dataclass; its fields are its settings and appear as `config.objective.*`.
`view` is written for one example and vmapped by the callers, with one key and one stratum an
example: the global batch is therefore the same however it is split over devices, processes or
microbatches, and an evaluation does not depend on its batch size.

Shape suffixes: B batch, T sequence length, V vocabulary, D width.
"""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from objectives.types import (
  Apply,
  Backbone,
  Code,
  Cost,
  Example,
  Key,
  Level,
  Network,
  Normaliser,
  Params,
  Score,
  Space,
  View,
)


def cross_entropy(logits_xV: jax.Array, targets: jax.Array) -> jax.Array:
  """-log softmax(logits)[target] in nats, in float32, elementwise over leading axes."""
  logits_xV = logits_xV.astype(jnp.float32)
  picked = jnp.take_along_axis(logits_xV, targets[..., None], axis=-1)[..., 0]
  return jax.nn.logsumexp(logits_xV, axis=-1) - picked


def token_accuracy(
  logits_BxTxV: jax.Array, targets_BxT: jax.Array, counted_BxT: jax.Array
) -> jax.Array:
  """Share of the counted positions at which the most probable token is the target; (B,).

  k tokens that are equally probable are worth 1/k each, so that a uniform prediction scores 1/V.
  NaN for a row without counted positions.
  """
  best_BxTx1 = jnp.max(logits_BxTxV, axis=-1, keepdims=True)
  tied_BxT = jnp.sum(logits_BxTxV == best_BxTx1, axis=-1)
  picked_BxTx1 = jnp.take_along_axis(logits_BxTxV, targets_BxT[..., None], axis=-1)
  right_BxT = (picked_BxTx1 == best_BxTx1)[..., 0] / tied_BxT
  count_B = jnp.sum(counted_BxT, axis=-1)
  share_B = jnp.sum(jnp.where(counted_BxT, right_BxT, 0.0), axis=-1) / jnp.maximum(count_B, 1)
  return jnp.where(count_B > 0, share_B, jnp.nan)


@dataclasses.dataclass(frozen=True)
class Objective:
  """Base of all objectives; the defaults are those of a token-wise cross-entropy.

  Attributes of the class:
    code: what nats mean.
    trains: False for a control that keeps its initial parameters.
    attention: pattern of the attention, as in `Backbone`.
    shift, time_input, soft_inputs: as in `Backbone`.
    stochastic: whether `view` is random, so that evaluation wants several draws.
    numbered: whether the draws of an evaluation are numbered parts of one sum, each needed once.
    by_count: whether a view scores 1, 2, ..., T predictions with equal chances, so that regret
      splits by their number.
    uses_labels: whether training reads labels.
    loss_unit: what the training loss is counted in.
    decayed: names of those of its own parameters that weight decay is for.
    unclipped: names of those that are trained outside the clip norm of all others.
    input_scale: initial standard deviation of tokens and positions, where the objective needs
      another than the backbone's default; chosen on validation, printed in the fairness table.
    reads_logits: whether its score is of the backbone's logits; those that nobody reads are not
      computed, and cost nothing.
    trained_on: what the loss is, for the fairness table.
    predicts: which tokens the token accuracy is of; None where predictions are not of tokens.
    contrast: for an objective that tells data from noise, which noise: 'uniform', 'histogram' or a
      run's directory. It is found in `Space.noise`.
  """

  code: ClassVar[Code] = Code.NONE
  trains: ClassVar[bool] = True
  attention: ClassVar[tuple] = ('full',)
  shift: ClassVar[bool] = False
  time_input: ClassVar[bool] = False
  soft_inputs: ClassVar[bool] = False
  stochastic: ClassVar[bool] = False
  numbered: ClassVar[bool] = False
  by_count: ClassVar[bool] = False
  uses_labels: ClassVar[bool] = False
  decayed: ClassVar[tuple[str, ...]] = ()
  unclipped: ClassVar[tuple[str, ...]] = ()
  loss_unit: ClassVar[str] = 'nats per token'
  input_scale: ClassVar[float | None] = None
  reads_logits: ClassVar[bool] = True
  trained_on = 'cross-entropy'
  predicts: ClassVar[str | None] = 'hidden tokens'
  contrast: ClassVar[str | None] = None

  def check(self, space: Space) -> None:
    """Raises ValueError, in one line, if this objective can't be used on `space`."""

  def on(self, space: Space) -> 'Objective':
    """What these settings come to on `space`: mostly itself, at the ends of an axis another."""
    del space
    return self

  def members(self) -> tuple['Objective', ...]:
    """Whose losses training adds, each on an equal share of a batch's rows: mostly its own alone.

    The first is the one whose code this objective's is.
    """
    return (self,)

  def reading(self) -> 'Objective':
    """As what probes call the backbone, with that one's `probe_view`."""
    return self

  def init(self, key: jax.Array, space: Space, width: int) -> Params:
    """Parameters of the objective's own, beside the backbone's; mostly none."""
    del key, space, width
    return {}

  def backbone(self, space: Space) -> Backbone:
    """What this objective asks of the backbone on `space`."""
    return Backbone(
      space.vocabulary,
      space.length,
      self.attention,
      self.shift,
      self.time_input,
      self.soft_inputs,
      alphabets=space.alphabets,
    )

  def scored(self, space: Space) -> float:
    """Predictions an example that carry weight, on average over views."""
    return space.dims

  def cost(self, model: Any, space: Space) -> Cost:
    """Of one forward pass over one example; `model.forward_flops` counts the backbone's."""
    asked = self.backbone(space)
    tokens = len(asked.positions) if asked.positions else space.length
    flops = model.forward_flops(asked.pattern, tokens, asked.soft_inputs, self.reads_logits)
    return Cost(flops, self.scored(space))

  def view(self, example: Example, space: Space) -> View:
    """The view of one example."""
    raise NotImplementedError

  def run(self, apply: Apply, params: Params, view: View, space: Space, **arguments: Any) -> Any:
    """One forward pass of the backbone on a batched view; `arguments` go on to it."""
    asked = self.backbone(space)
    positions = view.positions_T
    if positions is None and asked.positions is not None:
      positions = np.array(asked.positions)
    return apply(
      params['backbone'],
      view.inputs,
      pattern=asked.pattern,
      shift=asked.shift,
      time_B=view.time,
      **({} if positions is None else {'positions_T': positions}),
      **arguments,
    )

  def also(self, space: Space) -> dict[str, 'Objective']:
    """Other codes that the same parameters can be scored by, each in a column of its own."""
    del space
    return {}

  def hiding(self) -> 'Objective | None':
    """The form that shows nothing of what it charges, for a cross-entropy that can be compared."""
    return None

  def draws(self, wanted: int, space: Space) -> int:
    """How many draws an evaluation makes of each example."""
    del space
    return wanted if self.stochastic else 1

  def passes(self, wanted: int, space: Space) -> int:
    """How often the backbone runs for that: once a draw, but for a code that goes step by step."""
    return self.draws(wanted, space)

  def score(self, params: Params, view: View, outputs: Any, space: Space) -> Score:
    """Batched view and the backbone's outputs -> nats."""
    del params
    ce_BxT = cross_entropy(outputs.logits_BxTxV, view.targets_T)
    nats_B = jnp.sum(view.weights_T * ce_BxT, axis=-1)
    scored_B = jnp.sum(view.weights_T > 0, axis=-1)
    accuracy_B = token_accuracy(outputs.logits_BxTxV, view.targets_T, self.counted(view, space))
    return Score(nats_B, self.per_dimension(nats_B, space), scored_B, {}, accuracy_B)

  def counted(self, view: View, space: Space) -> jax.Array:
    """Which predictions of a batched view the token accuracy is of, bool BxT: all that score."""
    del space
    return view.weights_T > 0

  def slots(self, space: Space) -> np.ndarray | None:
    """For an objective that predicts charged tokens one by one: which of them each slot holds.

    None for every other; only with it can a code be decoded from left to right, each token once.
    """
    del space
    return None

  def fills(self, space: Space) -> int:
    """For an objective that fills in: how many consecutive tokens, in any order.

    The network, shown all tokens before these, any of these and MASK for the others, expects each
    of the others: so a code can be decoded in any order of them. All charged tokens, or a block; 0
    for every other objective.
    """
    del space
    return 0

  def no_file(self, space: Space) -> str:
    """Why no file can be coded by it, where neither `slots` nor `fills` says how."""
    del space
    return 'it has no likelihood: it does not say how probable a token is before that is known'

  def per_dimension(self, nats_B: jax.Array, space: Space) -> jax.Array:
    """Nats per example -> nats per predicted dimension."""
    return nats_B / space.dims

  def reference(
    self, truth: Any, tokens_BxT: jax.Array, view: View, space: Space
  ) -> jax.Array | None:
    """What the source's own conditionals cost on the very same view, nats per example (B,).

    `truth` offers nats(tokens), conditional_cross_entropy(tokens, hidden) and contexts(tokens,
    noise) on charged tokens.
    The difference from the model's nats is regret, paired and free of the bound's slack.
    """
    del view
    return truth.nats(tokens_BxT[:, : space.dims]) if self.code is Code.EXACT else None

  def normaliser(self, apply: Apply, params: Params, space: Space, key: Key) -> Normaliser | None:
    """For an ESTIMATE, what makes its probabilities sum to one; None for every other code."""
    del apply, params, space, key
    return None

  def normaliser_text(self, space: Space) -> str:
    """How `normaliser` finds it, for people."""
    raise NotImplementedError

  def normalised(self, params: Params, log_z: float, space: Space) -> Params:
    """The same parameters with this normaliser instead of their own."""
    raise NotImplementedError

  def probe_levels(self) -> tuple[float, ...]:
    """Noise levels or mask ratios at which a noisy model is probed beside the clean input."""
    return ()

  def probe_view(self, tokens_T: jax.Array, space: Space, level: Level, key: Key) -> View:
    """How an example enters the network when it is probed: clean, or at one of the levels."""
    del level, key
    return View(tokens_T, tokens_T, jnp.zeros(tokens_T.shape, jnp.float32))

  def sample(self, network: Network, key: Key, count: int, space: Space) -> jax.Array | None:
    """Draws `count` examples, int32 (count, T); None for an objective without a likelihood."""
    del network, key, count, space
    return None


def draw_tokens(key: jax.Array, logits_xV: jax.Array) -> jax.Array:
  """Tokens from softmax(logits), int32.

  The default float32 Gumbel noise is cut off at about 16 nats, which makes rare tokens
  impossible; the high mode draws it from twice as many bits.
  """
  return jax.random.categorical(key, logits_xV, mode='high').astype(jnp.int32)


def charged(space: Space) -> jax.Array:
  """1 for charged positions, 0 for a constant end token; float32 (T,)."""
  return (jnp.arange(space.length) < space.dims).astype(jnp.float32)


def choose_positions(key: jax.Array, count: jax.Array | int, space: Space) -> jax.Array:
  """A uniformly random set of exactly `count` charged positions; bool (T,)."""
  rank_dims = jax.random.permutation(key, space.dims)
  return jnp.pad(rank_dims < count, (0, space.length - space.dims))


def masked_probe_view(tokens_T: jax.Array, space: Space, level: Level, key: Key) -> View:
  """The clean tokens, or with exactly max(1, round(level T)) of them shown as MASK."""
  if level is not None:
    hidden_T = choose_positions(key, max(1, round(level * space.dims)), space)
    tokens_T = jnp.where(hidden_T, space.mask_token, tokens_T)
  return View(tokens_T, tokens_T, jnp.zeros(tokens_T.shape, jnp.float32))


def training_strata(key: jax.Array, batch: int) -> jax.Array:
  """Uniforms on [0, 1), one in each of `batch` equal strata, in random order over the rows."""
  order_key, offset_key = jax.random.split(key)
  order_B = jax.random.permutation(order_key, batch)
  # float32 rounding could reach 1.0 in the last stratum, hence the clip.
  offsets_B = jax.random.uniform(offset_key, (batch,))
  return jnp.minimum((order_B + offsets_B) / batch, 1 - 2.0**-24)


def evaluation_strata(key: jax.Array, draws: int, midpoints: bool = False) -> jax.Array:
  """Uniforms on [0, 1) for one example's own draws, one in each of `draws` strata.

  With `midpoints` the middle of each, which no rounding can move into the next: for draws that are
  numbered, not random.
  """
  offsets = jnp.full((draws,), 0.5) if midpoints else jax.random.uniform(key, (draws,))
  return jnp.minimum((jnp.arange(draws) + offsets) / draws, 1 - 2.0**-24)
