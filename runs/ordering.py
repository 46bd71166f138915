"""In which order training sees a finite training set: `config.data.order`."""

from collections.abc import Mapping
import hashlib
import io
import math
import os
from typing import Any

from etils import epath
import jax.numpy as jnp
import ml_collections
import numpy as np

from runs import experiment
from runs.errors import UserError
from training import distributed
from training.metrics import is_remote, write_atomically

SHUFFLED, BY_CLASS, EASY, HARD = 'shuffled', 'by_class', 'easy_to_hard', 'hard_to_easy'
_ORDERS = (SHUFFLED, EASY, HARD, BY_CLASS)
# Evaluation keys of the training split, beside those of the other splits (runs.measured).
_STREAM = 7


def check(built: experiment.Experiment) -> None:
  """UserError, one line, for an order that can't be had of these data."""
  order, by = _asked(built.config)
  if order not in _ORDERS:
    raise UserError(f"data.order '{order}' is unknown; known: {', '.join(_ORDERS)}")
  if by and order not in (EASY, HARD):
    raise UserError(f"data.order_by says what is easy; data.order '{order}' has no use for it")
  if order == SHUFFLED:
    return
  dataset = built.dataset
  if dataset.epoch is None:
    raise UserError(
      f"data.order '{order}' needs a training set: '{dataset.name}' draws its examples afresh for "
      'ever; data.examples limits it, where it has that setting'
    )
  if order == BY_CLASS and dataset.classes is None:
    raise UserError(f"data.order 'by_class' needs labels, and '{dataset.name}' has none")
  if order in (EASY, HARD) and not by and dataset.truth is None:
    raise UserError(
      f"data.order '{order}' needs data.order_by, a finished run under whose bits examples are "
      f"easy or hard: the probabilities of '{dataset.name}' itself are not known"
    )
  if by:
    _scoring_run(built, by)


def describe(built: experiment.Experiment) -> dict[str, Any]:
  """What a record says of the order: `data_order` for people, `data_ordered_by` of the score.

  Both are None for the shuffled one.
  """
  order, by = _asked(built.config)
  if order == SHUFFLED:
    return {'data_order': None, 'data_ordered_by': None}
  words = f'{order.replace("_", " ")}, every epoch'
  if order == BY_CLASS:
    return {'data_order': words, 'data_ordered_by': {'score': 'label', 'saw_labels': True}}
  if not by:
    score = "bits by the source's own probabilities"
    return {'data_order': f'{words}, {score}', 'data_ordered_by': {'score': score}}
  _, record = _scoring_run(built, by)
  score = f'bits under {record["objective"]} ({record["steps"]:,} steps)'
  told = {'score': score, 'workdir': by if is_remote(by) else os.path.abspath(by)}
  names = ('objective', 'seed', 'steps', 'data_hash', 'git', 'saw_labels')
  told |= {name: record.get(name) for name in names}
  return {'data_order': f'{words}, {score}', 'data_ordered_by': told}


def rows(built: experiment.Experiment, workdir: str) -> np.ndarray | None:
  """Row numbers of the training set in the order of every epoch; None: shuffled anew in each.

  They are kept in WORKDIR/order.npz with the scores: a run that goes on elsewhere, where scores
  round otherwise, goes on in the same order.
  """
  if _asked(built.config)[0] == SHUFFLED:
    return None
  path = epath.Path(workdir) / 'order.npz'
  if path.exists():
    with np.load(io.BytesIO(path.read_bytes())) as kept:
      order_N = kept['rows']
  else:
    order_N, scores_N = _sorted(built)
    if distributed.is_primary():
      buffer = io.BytesIO()
      np.savez_compressed(buffer, rows=order_N, scores=scores_N)
      write_atomically(str(path), buffer.getvalue())
  distributed.check_equal('order of the data', hashlib.sha256(order_N.tobytes()).hexdigest())
  return order_N


def _asked(config: ml_collections.ConfigDict) -> tuple[str, str]:
  return config.data.get('order', SHUFFLED), config.data.get('order_by', '')


def _sorted(built: experiment.Experiment) -> tuple[np.ndarray, np.ndarray]:
  """Row numbers by score, equal ones in random order by the training seed; and scores by row."""
  order, by = _asked(built.config)
  train = built.dataset.train
  if order == BY_CLASS:
    scores_N = np.asarray(train.labels_N)
  else:
    nats_N = _nats_under(built, by) if by else _true_nats(built)
    scores_N = np.asarray(nats_N, np.float64) / math.log(2)
  shuffled_N = np.random.default_rng(built.config.training.seed).permutation(len(train))
  keys_N = -scores_N if order == HARD else scores_N
  return shuffled_N[np.argsort(keys_N[shuffled_N], kind='stable')], scores_N


def _true_nats(built: experiment.Experiment) -> np.ndarray:
  truth, dims = built.dataset.truth, built.dataset.dims
  parts = [truth.nats(jnp.asarray(tokens[:, :dims])) for tokens in built.dataset.train.chunks()]
  return np.concatenate([np.asarray(part) for part in parts])


def _nats_under(built: experiment.Experiment, workdir: str) -> np.ndarray:
  """The run's own code of every training example, with its own settings of evaluation."""
  from runs import run  # It opens runs, and trains them in this very order.

  config, _ = _scoring_run(built, workdir)
  other = experiment.assemble(
    config, built.space, built.mesh, built.dataset, built.probe_dataset, built.hashes
  )
  state, _ = run.restore(other, workdir, best=False)
  draws = other.objective.draws(other.config.evaluation.draws, other.space)
  return other.per_example(state.params, built.dataset.train, draws, _STREAM)['nats']


def _scoring_run(
  built: experiment.Experiment, workdir: str
) -> tuple[ml_collections.ConfigDict, Mapping[str, Any]]:
  """Config and record of the run that scores examples; UserError if it can't."""
  from runs import finished

  try:
    config, record = finished.read(workdir)
  except UserError as error:
    raise UserError(f'data.order_by: {error}') from error
  if record['code'] == 'none':
    raise UserError(f'data.order_by: {workdir} ({record["objective"]}) has no likelihood')
  dataset = built.dataset
  for name, ours in (('alphabet', dataset.vocabulary), ('dims', dataset.dims),
                     ('length', dataset.length)):  # fmt: skip
    if record.get(name, ours) != ours:
      raise UserError(
        f'data.order_by: {workdir} is of data with {name} {record[name]}, here it is {ours}'
      )
  return config, record
