"""An objective and a backbone, joined into the two functions that training needs.

`training` sees only these functions, so it knows neither which objective nor which data it runs.
"""

from typing import Any

import jax
import jax.numpy as jnp

from objectives import base

# A number that no view folds into its key.
_DROPOUT = 0x64726F70


def batch_view(objective: base.Objective, space: base.Space, examples: base.Example) -> base.View:
  """`objective.view` over a batch: `examples` has a leading axis of B everywhere."""
  return jax.vmap(lambda example: objective.view(example, space))(examples)


def _score(
  objective: base.Objective,
  apply: base.Apply,
  params: base.Params,
  examples: base.Example,
  space: base.Space,
  dropout: bool = False,
) -> tuple[base.View, base.Score]:
  """The views of examples and the verdict on them; `dropout` as in `make_loss`."""
  view = batch_view(objective, space, examples)
  own = {'dropout_B': jax.vmap(_dropout_key)(examples.key)} if dropout else {}
  outputs = objective.run(apply, params, view, space, **own)
  return view, objective.score(params, view, outputs, space)


def draw(key: jax.Array, rows: int, progress: jax.Array | float) -> dict[str, jax.Array]:
  """What each row of a global training batch has beside its data, each (B,).

  'stratum' and 'key' are its own, 'progress' of training is the same for all. Drawn for the whole
  batch, so that splitting it over devices or microbatches changes nothing.
  """
  strata_key, view_key = jax.random.split(key)
  return {
    'stratum': base.training_strata(strata_key, rows),
    'key': jax.random.split(view_key, rows),
    'progress': jnp.full((rows,), progress, jnp.float32),
  }


def make_loss(
  objective: base.Objective, apply: base.Apply, space: base.Space, dropout: bool = False
) -> Any:
  """Builds `loss(params, batch) -> (loss, metrics)` on a batch that holds what `draw` returns.

  The loss is the mean over examples of nats per predicted dimension; the metrics are
  'loss' and, for objectives with a code, 'bits_per_dim' and its terms, and 'scored', the
  number of predictions that carried weight. With `dropout` each row hands the backbone a key of
  its own for that.

  Where several members share the rows, each has one stretch of them, whatever the device: every
  microbatch has as much of each stretch, so that splitting a batch changes nothing here either.
  """
  members = objective.members()

  def loss(params: base.Params, batch: dict[str, jax.Array]):
    rows = [batch[name] for name in ('tokens', 'label', 'stratum', 'key', 'progress')]
    # Rounded up: rows that are too few for all members are the first one's.
    edges = [-(-len(rows[0]) * i // len(members)) for i in range(len(members) + 1)]
    scores = [
      _score(member, apply, params, base.Example(*(x[start:end] for x in rows)), space, dropout)[1]
      for member, start, end in zip(members, edges[:-1], edges[1:], strict=True)
      if end > start
    ]
    value = jnp.mean(jnp.concatenate([score.loss_B for score in scores]))
    metrics = {'loss': value, 'scored': sum(jnp.sum(score.scored_B) for score in scores)}
    if objective.code is not base.Code.NONE:
      to_bits = 1 / (space.dims * jnp.log(2.0))
      metrics['bits_per_dim'] = jnp.mean(scores[0].nats_B) * to_bits
      for name, term_B in scores[0].terms.items():
        metrics[f'bits_per_dim/{name}'] = jnp.mean(term_B) * to_bits
    return value, metrics

  return loss


def _dropout_key(key: jax.Array) -> jax.Array:
  """Apart from whatever a view draws from the row's key."""
  return jax.random.fold_in(key, _DROPOUT)


def _evaluation_randomness(
  objective: base.Objective, draws: int, index_B: jax.Array, key: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Strata and keys of the draws of examples, (B, S), by their numbers alone."""

  def row_randomness(index):
    strata_key, view_key = jax.random.split(jax.random.fold_in(key, index))
    strata_S = base.evaluation_strata(strata_key, draws, objective.numbered)
    return strata_S, jax.random.split(view_key, draws)

  return jax.vmap(row_randomness)(index_B)


def make_evaluation(
  objective: base.Objective,
  apply: base.Apply,
  space: base.Space,
  draws: int,
  truth: Any = None,
  table_TxV: Any = None,
) -> Any:
  """Builds `evaluate(params, batch, key) -> {name: (B, ...)}`, per-example means over draws.

  `batch` holds 'tokens', 'label' and 'index', the row's number in its split. Keys and strata
  depend on `key` and that number alone, so neither batch size, padding nor device count changes
  an example's nats. Evaluation is never reweighted: 'nats' is what the objective's code promises.

  Where the source's probabilities are known (`truth`), 'regret' is nats above what the source's
  own conditionals cost on the same view, and 'regret_by_count' (B, T), for objectives that have it,
  splits it by the number of scored predictions: its column k-1 is the part of the regret that views
  with k of them bring.

  Where several members share training, all of them see every example: 'loss' is their mean, what
  training minimises, and everything else is the first one's.

  `table_TxV` is what another code pays for every value at every charged position; then 'table' is
  what it pays on the very same views, weighed alike.

  For objectives that predict tokens, 'token_accuracy' is the mean over those draws that ask for
  any (NaN if none does).
  """
  draws, (own, *others) = objective.draws(draws, space), objective.members()

  def evaluate(params: base.Params, batch: dict[str, jax.Array], key: jax.Array):
    strata_BxS, keys_BxS = _evaluation_randomness(objective, draws, batch['index'], key)

    def one_draw(randomness):
      strata_B, keys_B = randomness
      examples = base.Example(batch['tokens'], batch['label'], strata_B, keys_B)
      view, score = _score(own, apply, params, examples, space)
      loss_B = score.loss_B
      if others:
        beside = [_score(other, apply, params, examples, space)[1].loss_B for other in others]
        loss_B = (loss_B + sum(beside)) / (1 + len(others))
      values = {'nats': score.nats_B, 'loss': loss_B, **score.terms}
      if table_TxV is not None:
        positions_T, targets_BxT = jnp.arange(space.dims), view.targets_T[:, : space.dims]
        paid_BxT = jnp.asarray(table_TxV, jnp.float32)[positions_T[None], targets_BxT]
        values['table'] = jnp.sum(view.weights_T[:, : space.dims] * paid_BxT, axis=-1)
      if score.token_accuracy_B is not None:
        values['token_accuracy'] = score.token_accuracy_B
      if truth is not None:
        reference_B = own.reference(truth, batch['tokens'], view, space)
        if reference_B is not None:
          values['regret'] = score.nats_B - reference_B
          if own.by_count:
            count_BxT = jax.nn.one_hot(score.scored_B - 1, space.dims)
            values['regret_by_count'] = values['regret'][:, None] * count_BxT
      return values

    values_SxB = jax.lax.map(one_draw, (strata_BxS.T, keys_BxS.T))
    means = jax.tree.map(lambda value_SxB: jnp.mean(value_SxB, axis=0), values_SxB)
    if 'token_accuracy' in values_SxB:
      means['token_accuracy'] = jnp.nanmean(values_SxB['token_accuracy'], axis=0)
    return means

  return evaluate


def make_token_nats(
  objective: base.Objective, apply: base.Apply, space: base.Space, draws: int
) -> Any:
  """Builds `evaluate(params, batch, key) -> {name: (B, S, T)}`: the single predictions of S views.

  'nats' is the cross-entropy at each slot, 'asked' whether it is a prediction that the objective
  asks for (`Objective.counted`), 'hidden' whether the slot's input is MASK. Views and keys are
  those of `make_evaluation`.

  Raises:
    ValueError: predictions are not of tokens, one a slot.
  """
  own, draws = objective.members()[0], objective.draws(draws, space)
  if own.predicts is None or own.backbone(space).positions is not None:
    raise ValueError('these predictions are not of tokens one by one')

  def evaluate(params: base.Params, batch: dict[str, jax.Array], key: jax.Array):
    strata_BxS, keys_BxS = _evaluation_randomness(objective, draws, batch['index'], key)

    def one_draw(randomness):
      examples = base.Example(batch['tokens'], batch['label'], *randomness)
      view = batch_view(own, space, examples)
      outputs = own.run(apply, params, view, space)
      return {
        'nats': base.cross_entropy(outputs.logits_BxTxV, view.targets_T),
        'asked': own.counted(view, space),
        'hidden': view.inputs == space.mask_token,
      }

    found = jax.lax.map(one_draw, (strata_BxS.T, keys_BxS.T))
    return jax.tree.map(lambda value_SxBxT: jnp.swapaxes(value_SxBxT, 0, 1), found)

  return evaluate
