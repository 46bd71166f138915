"""Bits and losses of one set of parameters on test: by its own code, by others, of the hidden."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tqdm

from codes import histogram
from objectives import Code
from runs.assembled import Experiment
from runs.parts import Parts
from training import evaluation, keys, sharding

# Streams of evaluation keys, one a split. Not 0 and 1: `fold_in(key, i)` is `split(key)[i]`, and
# those two are the keys of training where its seed is that of evaluations (training/state.py).
VALIDATION, TEST = 8, 9
# The same for a normaliser, after those of samples (2) and of noise at which probes look (3 to 5).
_NORMALISER_STREAM = 6
# Batches of a test split that are scored, and kept, as one piece.
_PIECE = 20
# A code beside the own one that takes more passes an example (the chain rule takes T) is left out,
# unless `evaluation.chain_examples` says of how many examples it is.
_MOST_PASSES = 128
# Parts of an evaluation that are not terms of a bound.
_NOT_TERMS = ('nats', 'loss', 'regret', 'regret_by_count', 'token_accuracy')


def bits_per_dim(experiment: Experiment, nats_N: np.ndarray) -> float:
  """Mean nats per example -> bits per dimension."""
  return float(np.mean(nats_N)) / (experiment.dataset.dims * math.log(2))


def standard_error(values_N: np.ndarray) -> float | None:
  """Of their mean; None for one value, which says nothing of a spread, and for none."""
  count = len(values_N)
  return float(np.std(values_N, ddof=1)) / math.sqrt(count) if count > 1 else None


def bits_cell(experiment: Experiment, nats_N: np.ndarray) -> dict[str, float | None]:
  """Mean and standard error (over examples; None for one) in bits per dimension."""
  stderr = standard_error(nats_N)
  bits = experiment.dataset.dims * math.log(2)
  return {
    'bits_per_dim': bits_per_dim(experiment, nats_N),
    'bits_per_dim_stderr': None if stderr is None else stderr / bits,
  }


def accuracy_cell(values: dict[str, np.ndarray]) -> dict[str, float | None]:
  """Mean and standard error over the examples that were asked for tokens; None without any."""
  found_N = values.get('token_accuracy', np.zeros(0))
  found_N = found_N[np.isfinite(found_N)]
  mean = float(np.mean(found_N)) if len(found_N) else None
  return {'token_accuracy': mean, 'token_accuracy_stderr': standard_error(found_N)}


def score(
  experiment: Experiment, params: Any, kept: Parts | None = None
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
  """Bits per dimension on test by the objective's code, or its loss where it has none.

  Without `evaluation.test` nothing is measured, and all of it is None or empty.
  """
  kept = kept or Parts()
  objective = experiment.objective
  record: dict[str, Any] = {
    'bits_per_dim': None,
    'bits_per_dim_stderr': None,
    'evaluation_draws': None,
    'terms': {},
    'test_loss': None,
    'token_accuracy': None,
    'token_accuracy_stderr': None,
    'token_accuracy_of': objective.predicts,
    'masked_cross_entropy': None,
    'also': {},
    'also_left_out': [],
    'truth': None,
    'normaliser': None,
  }
  if not objective.trains or not experiment.config.evaluation.test:
    return record, {}
  if objective.code is Code.ESTIMATE:
    record['normaliser'], _ = kept.piece(
      'normaliser', lambda: (_normaliser(experiment, params), {})
    )
    params = objective.normalised(params, record['normaliser']['log_z'], experiment.space)
  found, arrays = kept.piece('test', lambda: _score_own(experiment, params, kept))
  record |= found
  if record['normaliser'] is not None:
    of_z = record['normaliser']['stderr'] / (experiment.dataset.dims * math.log(2))
    own = record['bits_per_dim_stderr']
    record['bits_per_dim_stderr'] = None if own is None else math.hypot(own, of_z)
  hiding = objective.hiding()
  if hiding is not None:
    hidden = kept.piece('hidden', lambda: (_score_hidden(experiment, params, hiding, kept), {}))
    record['masked_cross_entropy'] = hidden[0]
  for name, other in objective.also(experiment.space).items():
    asked = experiment.config.evaluation
    passes, rows = other.passes(asked.draws, experiment.space), None
    if asked.chain_examples and passes > asked.draws:
      rows = chain_rows(experiment)
    elif passes > max(asked.draws, _MOST_PASSES):
      record['also_left_out'].append(name)
      continue
    record['also'][name], found = kept.piece(
      f'also_{name}',
      lambda n=name, o=other, r=rows: _score_also(experiment, params, o, kept, f'also_{n}', r),
    )
    arrays |= {f'also/{name}/{key}': values for key, values in found.items()}
  return record, arrays


def chain_rows(experiment: Experiment) -> np.ndarray | None:
  """The test examples, `evaluation.chain_examples` of them, that codes of many passes are of.

  Drawn by the evaluation's seed, so the same for every run, in order; None: all.
  """
  count, size = experiment.config.evaluation.chain_examples, len(experiment.dataset.test)
  if count >= size:
    return None
  rng = np.random.default_rng(experiment.config.evaluation.seed)
  return np.sort(rng.choice(size, count, replace=False))


def _normaliser(experiment: Experiment, params: Any) -> dict[str, Any]:
  """log Z of an ESTIMATE in nats, its standard error, how it was found, and the learned one."""
  objective, space = experiment.objective, experiment.space
  key = jax.random.fold_in(keys.key(experiment.config.evaluation.seed), _NORMALISER_STREAM)
  find = jax.jit(
    lambda params, key: objective.normaliser(experiment.apply, params, space, key),
    out_shardings=sharding.replicated(experiment.mesh),
  )
  found = {name: float(value) for name, value in find(params, key)._asdict().items()}
  learned = float(params['objective']['log_z']) * space.dims
  return {**found, 'learned': learned, 'how': objective.normaliser_text(space)}


def _score_own(
  experiment: Experiment, params: Any, kept: Parts
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
  """The part of the record that the objective's own values on test give."""
  objective, record = experiment.objective, {}
  draws, values = _test_values(experiment, params, objective, kept, 'test')
  record['evaluation_draws'] = draws
  record['test_loss'] = {'value': float(np.mean(values['loss'])), 'unit': objective.loss_unit}
  arrays = {'loss': values['loss']}
  if objective.code is not Code.NONE:
    record |= bits_cell(experiment, values['nats'])
    arrays = {'nats': values['nats']}
    record['terms'] = {
      name: bits_per_dim(experiment, term)
      for name, term in values.items()
      if name not in _NOT_TERMS
    }
    record['truth'] = _truth(experiment, values, objective.code)
  record |= accuracy_cell(values)
  if 'token_accuracy' in values:
    arrays['token_accuracy'] = values['token_accuracy']
  return record, arrays


def _score_hidden(experiment: Experiment, params: Any, hiding: Any, kept: Parts) -> dict[str, Any]:
  """The masked cross-entropy in bits, and the histogram's."""
  beside = experiment.histogram is not None
  _, values = _test_values(experiment, params, hiding, kept, 'hidden', beside)
  return {
    'bits': float(np.mean(values['loss'])) / math.log(2),
    # On the positions that were hidden, which need not be as hard as all of them.
    'histogram_bits': float(np.mean(values['table'])) if 'table' in values else None,
  }


def _score_also(
  experiment: Experiment,
  params: Any,
  other: Any,
  kept: Parts,
  name: str,
  rows: np.ndarray | None,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
  """Bits of the same parameters by another code, on all of test or on these rows of it."""
  draws, values = _test_values(experiment, params, other, kept, name, rows=rows)
  cell = {
    'code': other.code.value,
    'evaluation_draws': draws,
    'examples': None if rows is None else len(rows),
    **bits_cell(experiment, values['nats']),
    'truth': _truth(experiment, values, other.code),
  }
  return cell, {'nats': values['nats']} | ({} if rows is None else {'rows': rows})


def _test_values(
  experiment: Experiment,
  params: Any,
  objective: Any,
  kept: Parts,
  name: str,
  beside: bool = False,
  rows: np.ndarray | None = None,
) -> tuple[int, dict[str, np.ndarray]]:
  """Draws an example and per-example values on the whole test split, or on these rows of it.

  A large split is done, and kept under `name`, in pieces of so many batches: a stop costs the piece
  at hand.
  """
  test = experiment.dataset.test
  test = test if rows is None else test.take(rows)
  draws = objective.draws(experiment.config.evaluation.draws, experiment.space)
  batch = evaluation.whole_batch(experiment.config.evaluation.batch_size, experiment.mesh)
  size, found = _PIECE * batch, []
  with tqdm.tqdm(total=len(test), desc='score', unit='example', disable=None, leave=False) as bar:
    for first in range(0, len(test), size):
      part = first, min(first + size, len(test))

      def measure(part: tuple[int, int] = part) -> tuple[None, dict[str, np.ndarray]]:
        return None, experiment.per_example(
          params, test, draws, TEST, objective, beside, part=part, progress=bar.update
        )

      piece = kept.piece(f'{name}_from{first}', measure) if len(test) > size else measure()
      found.append(piece[1])
      bar.update(part[1] - bar.n)
  return draws, {key: np.concatenate([values[key] for values in found]) for key in found[0]}


def _truth(
  experiment: Experiment, values: dict[str, np.ndarray], code: Code
) -> dict[str, Any] | None:
  """Regret in bits per dimension, paired with the source's own conditionals."""
  dataset = experiment.dataset
  if dataset.truth is None or 'regret' not in values:
    return None
  cell = bits_cell(experiment, values['regret'])
  by_count = values.get('regret_by_count')
  entropy = dataset.truth.entropy_bits()
  seen = experiment.steps * experiment.config.training.batch_size
  afresh = dataset.epoch is None and not experiment.config.training.init_from
  overlap = -math.expm1(-seen / 2.0**entropy) if afresh else None
  return {
    'entropy_bits_per_dim': entropy / dataset.dims,
    'regret_bits_per_dim': cell['bits_per_dim'],
    'regret_stderr': cell['bits_per_dim_stderr'],
    'kind': 'exact' if code is Code.EXACT else 'bound',
    # The exact conditionals reach the entropy in every order: all of the regret is model error.
    'slack': 0.0,
    # Regret of the views with k = 1..T hidden tokens; its mean over k is the regret.
    'by_k': None if by_count is None else (np.mean(by_count, axis=0) / math.log(2)).tolist(),
    # Chance that a string of the typical set was among the training examples, all of them ours.
    'expected_overlap': overlap,
  }


def _grammatical(experiment: Experiment, samples_NxT: np.ndarray) -> float:
  """Share of samples that the source can produce at all."""
  dims = experiment.dataset.dims
  nats = experiment.dataset.truth.nats(jnp.asarray(samples_NxT[:, :dims]))
  return float(np.mean(np.isfinite(np.asarray(nats))))


def histogram_bits(dataset: Any) -> float | None:
  """Bits per dimension of the per-position histogram, None for an endless source."""
  return histogram.split_bits(dataset, 'test')
