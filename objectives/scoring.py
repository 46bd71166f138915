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
  """

  def loss(params: base.Params, batch: dict[str, jax.Array]):
    rows = (batch[name] for name in ('tokens', 'label', 'stratum', 'key', 'progress'))
    view = batch_view(objective, space, base.Example(*rows))
    own = {'dropout_B': jax.vmap(_dropout_key)(batch['key'])} if dropout else {}
    outputs = objective.run(apply, params, view, space, **own)
    score = objective.score(params, view, outputs, space)
    value = jnp.mean(score.loss_B)
    metrics = {'loss': value, 'scored': jnp.sum(score.scored_B)}
    if objective.code is not base.Code.NONE:
      to_bits = 1 / (space.dims * jnp.log(2.0))
      metrics['bits_per_dim'] = jnp.mean(score.nats_B) * to_bits
      for name, term_B in score.terms.items():
        metrics[f'bits_per_dim/{name}'] = jnp.mean(term_B) * to_bits
    return value, metrics

  return loss


def _dropout_key(key: jax.Array) -> jax.Array:
  """Apart from whatever a view draws from the row's key."""
  return jax.random.fold_in(key, _DROPOUT)


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
  own conditionals cost on the same view, and 'regret_by_count' (B, T) splits it by the number of
  scored predictions: its column k-1 is the part of the regret that views with k of them bring.

  `table_TxV` is what another code pays for every value at every charged position; then 'table' is
  what it pays on the very same views, weighed alike.

  For objectives that predict tokens, 'token_accuracy' is the mean over those draws that ask for
  any (NaN if none does).
  """
  draws = objective.draws(draws, space)

  def evaluate(params: base.Params, batch: dict[str, jax.Array], key: jax.Array):
    def row_randomness(index):
      strata_key, view_key = jax.random.split(jax.random.fold_in(key, index))
      strata_S = base.evaluation_strata(strata_key, draws, objective.numbered)
      return strata_S, jax.random.split(view_key, draws)

    strata_BxS, keys_BxS = jax.vmap(row_randomness)(batch['index'])

    def one_draw(randomness):
      strata_B, keys_B = randomness
      examples = base.Example(batch['tokens'], batch['label'], strata_B, keys_B)
      view = batch_view(objective, space, examples)
      score = objective.score(params, view, objective.run(apply, params, view, space), space)
      values = {'nats': score.nats_B, 'loss': score.loss_B, **score.terms}
      if table_TxV is not None:
        positions_T, targets_BxT = jnp.arange(space.dims), view.targets_T[:, : space.dims]
        paid_BxT = jnp.asarray(table_TxV, jnp.float32)[positions_T[None], targets_BxT]
        values['table'] = jnp.sum(view.weights_T[:, : space.dims] * paid_BxT, axis=-1)
      if score.token_accuracy_B is not None:
        values['token_accuracy'] = score.token_accuracy_B
      if truth is not None:
        reference_B = objective.reference(truth, batch['tokens'], view, space)
        if reference_B is not None:
          values['regret'] = score.nats_B - reference_B
          count_BxT = jax.nn.one_hot(score.scored_B - 1, space.dims)
          values['regret_by_count'] = values['regret'][:, None] * count_BxT
      return values

    values_SxB = jax.lax.map(one_draw, (strata_BxS.T, keys_BxS.T))
    means = jax.tree.map(lambda value_SxB: jnp.mean(value_SxB, axis=0), values_SxB)
    if 'token_accuracy' in values_SxB:
      means['token_accuracy'] = jnp.nanmean(values_SxB['token_accuracy'], axis=0)
    return means

  return evaluate
