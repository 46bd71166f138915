"""Does a shorter code of the data go with a shorter code of the labels? Within each objective.

A point is a checkpoint of a run: its bits per dimension on validation, and what the train labels
cost given its features (`reports.label_sets`). Objectives are never mixed, nor exact codes with
upper bounds, nor codes of other labels. Checkpoints of a run are not independent, so what counts is
the run: Spearman's correlation is computed between the means of runs over the checkpoints that all
of them have, and inside every run by itself.
"""

from collections.abc import Mapping, Sequence
import itertools
import math
from typing import Any

import numpy as np
import pandas as pd

from probes.measures import at
from reports import label_sets, reading, statistics

BITS = 'validation/bits_per_dim'
# What validation logs with config.evaluators.label_code, in bits, by learner.
CODES = {'linear': 'probe/prequential/linear_bits', 'MLP': 'probe/prequential/mlp_bits'}
# Points below which an order says nothing: two are always in one.
FEWEST = 3
# A curve whose last code differs from the record's by more (relative) is of other settings.
_SAME = 1e-3
# Runs up to which a permutation test can go through all orders.
_ALL_ORDERS = 8


def points(run: Mapping, curve: Sequence[Mapping], learner: str) -> list[dict]:
  """Checkpoints of one run, by step: {'step', 'bits' per dimension, 'code' in bits}.

  The last one, the best by its own validation loss where that was probed so, and those along the
  training where it logged the code; step 0, before any update, is left out.
  """
  along = {point['step']: point for point in curve}
  last, found = run.get('steps'), {}
  code = _code(run.get('probes'), learner)
  name = CODES.get(learner)
  if name and _agrees(along.get(last, {}).get(name), code):
    found = {step: point.get(name) for step, point in along.items()}
  best = run.get('at_best') or {}
  if (own := _code(best.get('probes'), learner)) is not None:
    found[best['step']] = own
  if code is not None:
    found[last] = code
  bits = {step: point.get(BITS) for step, point in along.items()}
  bits[last] = (run.get('validation') or {}).get('bits_per_dim')
  return [
    {'step': step, 'bits': bits[step], 'code': found[step]}
    for step in sorted(found)
    if step and found[step] is not None and bits.get(step) is not None
  ]


def _code(probes: Mapping | None, learner: str) -> float | None:
  path, name = label_sets.LEARNERS[learner]
  return label_sets.first_order(at(probes, path) or {}, name)


def _agrees(along: float | None, record: float | None) -> bool:
  """Whether the codes along the training are of the record's kind: the last one is the record's."""
  return record is None or along is None or abs(along - record) <= _SAME * record


def correlations(runs: Sequence[Mapping], curves: reading.Curves) -> list[dict]:
  """One entry an objective and learner of the label code, over all sizes and seeds.

  Args:
    runs: selected runs that saw no labels; those without a likelihood have no say.
    curves: training curves by workdir.

  Returns:
    objective, code (exact or upper_bound), learner, runs (each workdir, size, seed and points),
    between (Spearman between means of runs, with runs and checkpoints; p by permutation from 5
    runs), within (Spearman inside runs: rho, its mean, minimum and maximum). What can't be
    computed is None, and 'reason' says why.
  """
  made = []
  coded = [
    run for run in runs
    if run['code'] in ('exact', 'upper_bound')
    and run.get('trained', True) and not run.get('saw_labels')
  ]  # fmt: skip
  kinds = dict.fromkeys((run['objective'], run['code']) for run in coded)
  for (objective, code), learner in itertools.product(kinds, label_sets.LEARNERS):
    members, labels = [], set()
    for run in coded:
      if (run['objective'], run['code']) != (objective, code):
        continue
      if found := points(run, curves.get(run['workdir'], ()), learner):
        members.append({'workdir': run['workdir'], 'size': run.get('size'), 'seed': run['seed'],
                        'points': found})  # fmt: skip
        labels.add((run.get('probe_data_hash'), *_labels(run, learner)))
    if members:
      entry = {'objective': objective, 'code': code, 'learner': learner, 'runs': members}
      entry |= {'between': between(members, len(labels)), 'within': within(members)}
      made.append(entry)
  return made


def _labels(run: Mapping, learner: str) -> tuple:
  """What else says which labels a run's code is of, as far as its record knows."""
  cell = at(run.get('probes'), label_sets.LEARNERS[learner][0]) or {}
  return cell.get('labels'), tuple(block['labels'] for block in cell.get('curve') or ())


def between(members: Sequence[Mapping], kinds_of_labels: int = 1) -> dict:
  """Spearman between the means of runs over the checkpoints that all of them have."""
  tables = [{point['step']: point for point in member['points']} for member in members]
  steps = sorted(set.intersection(*map(set, tables)))
  found = {'runs': len(members), 'checkpoints': len(steps)}
  found |= {'rho': None, 'p': None, 'reason': None}
  if kinds_of_labels > 1:
    return found | {'reason': 'its runs code different labels'}
  if not steps:
    return found | {'reason': 'its runs have no checkpoint in common'}
  if len(members) < FEWEST:
    return found | {'reason': f'fewer than {FEWEST} runs'}
  x, y = (
    [float(np.mean([table[step][name] for step in steps])) for table in tables]
    for name in ('bits', 'code')
  )
  found['rho'] = spearman(x, y)
  if found['rho'] is None:
    return found | {'reason': 'all runs are alike'}
  if len(members) >= statistics.SEEDS:
    found['p'] = permutation_p(x, y)
  return found


def within(members: Sequence[Mapping]) -> dict:
  """Spearman along each run, and its mean and range over runs."""
  rhos = [
    spearman(*([point[name] for point in member['points']] for name in ('bits', 'code')))
    for member in members
    if len(member['points']) >= FEWEST
  ]
  rhos = [rho for rho in rhos if rho is not None]
  empty: dict[str, Any] = dict.fromkeys(('rho', 'minimum', 'maximum'))
  if not rhos:
    reason = f'no run has {FEWEST} checkpoints with this code'
    return {'runs': 0, 'reason': reason} | empty
  return {'runs': len(rhos), 'reason': None, 'rho': float(np.mean(rhos)),
          'minimum': min(rhos), 'maximum': max(rhos)}  # fmt: skip


def spearman(x: Sequence[float], y: Sequence[float]) -> float | None:
  """Pearson's correlation of ranks, ties at their mean rank; None where either does not vary."""
  ranks = [_ranks(values) for values in (x, y)]
  if min(np.ptp(rank) for rank in ranks) == 0:
    return None
  return float(np.corrcoef(*ranks)[0, 1])


def _ranks(values: Sequence[float]) -> np.ndarray:
  """From 1 on, ties at their mean rank."""
  return pd.Series(values).rank().to_numpy()


def permutation_p(x: Sequence[float], y: Sequence[float]) -> float:
  """Two-sided p: the share of orders of y whose correlation is at least as strong.

  All orders up to 8 runs, beyond that Student's t with n - 2 degrees of freedom.
  """
  rho = abs(spearman(x, y))
  if len(x) > _ALL_ORDERS:
    degrees = len(x) - 2
    t = rho * math.sqrt(degrees / max(1 - rho**2, 1e-300))
    return statistics.t_tail(t, degrees)
  first, second = (_ranks(values) - (len(x) + 1) / 2 for values in (x, y))
  scale = math.sqrt((first @ first) * (second @ second))
  orders = second[np.array(list(itertools.permutations(range(len(x)))))]
  return float(np.mean(np.abs(orders @ first) / scale >= rho - 1e-9))
