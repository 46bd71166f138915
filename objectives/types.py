"""What objectives take and give: spaces, examples, views, scores.

Shape suffixes: B batch, T sequence length, V vocabulary, D width.
"""

from collections.abc import Callable
import dataclasses
import enum
from typing import Any, NamedTuple

import jax

Apply = Callable[..., Any]
Params = Any
Level = float | None  # a noise level or mask ratio; None is the clean input
Key = jax.Array | None


class Code(enum.Enum):
  """What an objective's nats mean about -log p(x).

  An ESTIMATE has an estimated normaliser: it may lie on either side, so it is shown and never
  ranked.
  """

  EXACT = 'exact'
  UPPER_BOUND = 'upper_bound'
  ESTIMATE = 'estimate'
  NONE = 'none'


@dataclasses.dataclass(frozen=True)
class Space:
  """The space that examples live in.

  Attributes:
    vocabulary: V.
    length: tokens a sequence that the backbone sees.
    dims: tokens that are charged, the leading ones; smaller than `length` only where a source
      appends a constant end token, which is never charged, masked or counted.
    classes: number of label classes, None without labels.
    ordinal: whether token values are levels of a scale.
    shape: rows and columns of the picture that the charged tokens are, in raster order; () for
      none.
    alphabets: how many values each position may take, where they differ (a label after pixels);
      None: V everywhere.
    noise: what an objective's `contrast` asks for (objectives.energy.Noise); no part of what makes
      two spaces the same.
  """

  vocabulary: int
  length: int
  dims: int
  classes: int | None = None
  ordinal: bool = False
  shape: tuple[int, ...] = ()
  alphabets: tuple[int, ...] | None = None
  noise: Any = dataclasses.field(default=None, compare=False, repr=False)

  @property
  def mask_token(self) -> int:
    return self.vocabulary


class Example(NamedTuple):
  """One clean example, the randomness that is its own, and how far training is.

  Attributes:
    tokens_T: int32 (T,).
    label: -1 where there is none.
    stratum: uniform on [0, 1), stratified over the global batch (training) or over an example's
      own draws (evaluation).
    key: the example's own.
    progress: of training, from 0 at the first update to 1; None in an evaluation, so that a view
      can tell the two apart.
  """

  tokens_T: jax.Array
  label: jax.Array
  stratum: jax.Array
  key: jax.Array
  progress: jax.Array | float | None = None


@dataclasses.dataclass(frozen=True)
class Backbone:
  """What an objective asks of the backbone.

  An extra head is no part of it: that is the objective's own parameters (`Objective.init`), applied
  to the backbone's final output.

  Attributes:
    vocabulary: values of the output; the input has MASK beside them.
    length: positions that the backbone tells apart.
    pattern: of the attention, as models/patterns.py names it: ('full',), ('causal', window), ...
    shift: whether every slot is fed its predecessor's token.
    time_input: whether it needs a time projection.
    soft_inputs: whether inputs are soft tokens, whose product with the table costs.
    positions: position of each input slot where they are not 0, 1, ..., such as those of an input
      that holds every example twice.
    alphabets: as `Space.alphabets`.
  """

  vocabulary: int
  length: int
  pattern: tuple
  shift: bool = False
  time_input: bool = False
  soft_inputs: bool = False
  positions: tuple[int, ...] | None = None
  alphabets: tuple[int, ...] | None = None


class Cost(NamedTuple):
  """What one forward pass over one example costs.

  Attributes:
    flops: analytic FLOPs, all passes of the backbone together.
    scored: predictions that carry weight, on average.
  """

  flops: float
  scored: float


class View(NamedTuple):
  """What the backbone may see, what it must predict, and the weight of each prediction.

  Attributes:
    inputs: token ids (T,) or soft tokens (T, V+1).
    targets_T: the token (or () for a label) that each position must predict.
    weights_T: weight of each position's cross-entropy; the weighted sum is nats per example.
    time: scalar noise level for the backbone's time input, or None.
    positions_T: position of each input slot where it is the view's own; None: `Backbone.positions`.
    extra: whatever else the objective's own `score` needs.
  """

  inputs: jax.Array
  targets_T: jax.Array
  weights_T: jax.Array
  time: jax.Array | None = None
  positions_T: jax.Array | None = None
  extra: Any = None


class Score(NamedTuple):
  """The verdict on a batch.

  Attributes:
    nats_B: nats per example, what evaluation reports; its meaning is the objective's `code`.
    loss_B: nats per predicted dimension, what training minimises.
    scored_B: number of predictions that carried weight.
    terms: parts that add up to nats_B, by name, each (B,).
    token_accuracy_B: share of the predictions whose most probable token is the target, NaN for a
      view that asks for none; None where predictions are not of tokens.
  """

  nats_B: jax.Array
  loss_B: jax.Array
  scored_B: jax.Array
  terms: dict[str, jax.Array]
  token_accuracy_B: jax.Array | None = None


class Normaliser(NamedTuple):
  """What an ESTIMATE divides by, as found from the parameters.

  Attributes:
    log_z: its logarithm, nats.
    stderr: of log_z, 0 where it is exact.
    effective: share of the samples that would do as well if they were all alike, 1 where exact.
  """

  log_z: jax.Array
  stderr: jax.Array
  effective: jax.Array


class Network(NamedTuple):
  """A backbone with its parameters, as objectives know it: by its call signatures.

  Attributes:
    apply: (inputs, *, pattern, ...) -> outputs, one forward pass over whole sequences.
    decode: (key, count, pattern) -> tokens (count, T), drawn left to right with a key/value cache.
    cache: (count) -> an empty cache with a slot for every position.
    extend: (cache, tokens_BxQ, start, pattern) -> (cache, logits_BxQxV) of the Q positions from
      `start` on, which are in the cache from then on.
  """

  apply: Apply
  decode: Callable[..., jax.Array]
  cache: Callable[[int], Any] | None = None
  extend: Callable[..., Any] | None = None
