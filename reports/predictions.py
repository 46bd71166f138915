"""What verdicts are drawn on: measures, and what each test example contributes to them."""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import functools
import math
import os

import numpy as np

from probes.measures import at
from reports import reading, summary

_SAME = 1e-6  # accuracies of one set of predictions, of which one went through a record


@dataclasses.dataclass(frozen=True)
class Right:
  """What one run's measure is the mean of, by test example.

  Attributes:
    share_N: of a probe, of each test example the share of label draws under which it was classified
      rightly; of a code, its bits per dimension.
    labels_N: of the test examples; their numbers where a code has no labels.
    some: whether these are but a choice of the test examples (`evaluation.chain_examples`).
    subsets: which subsets of the training labels the draws had; () where there is no such draw.
    disjoint: how many such subsets one deal of the training set holds; later ones are of another.
    taught: how many training labels the probe had, where it took a choice of them all.
    dealt_by: the seed of evaluation, which numbers those deals; None where it is not known.
  """

  share_N: np.ndarray
  labels_N: np.ndarray
  subsets: tuple[int, ...]
  disjoint: int
  some: bool = False
  dealt_by: int | None = None
  taught: int | None = None


def right(run: Mapping, probe: str, labels: str) -> Right | str:
  """What a probe got right, or one clause on why that is not known."""
  name = f'{probe}/{labels}/predictions'
  arrays = reading.read_arrays(run['workdir'], ('labels', name))
  if len(arrays) < 2:
    return f'no predictions are saved with seed {run["seed"]} of {run["objective"]}'
  truth, predictions = arrays['labels'], np.atleast_2d(arrays[name])
  share = (predictions == truth).mean(0) if predictions.shape[1:] == truth.shape else np.zeros(1)
  cell = at(run, ('probes', probe, labels)) or {}
  if abs(share.mean() - cell['accuracy']) > _SAME:
    return (
      f'the predictions saved with seed {run["seed"]} of {run["objective"]} are not those of its '
      'record'
    )
  if labels == 'all':
    return Right(share, truth, (), 1, taught=cell.get('rows'))
  if not cell.get('subsets'):
    # An earlier version gave all seeds the same labels: an offset that their spread can't show.
    return (
      f'{run["objective"]} was probed with the same labels for every seed, by an earlier version: '
      'launch.probe probes it again'
    )
  by = at(run, ('settings_of_results', 'evaluation', 'seed'))
  return Right(share, truth, tuple(cell['subsets']), cell['disjoint'], dealt_by=by)


def exact(run: Mapping) -> tuple[str, Mapping] | None:
  """(name of the array of nats, the cell with its bits) of a run's exact code: the own one, else
  the first by which the same weights were scored; None without any."""
  if run['code'] == 'exact':
    return 'nats', run
  also = (run.get('also') or {}).items()
  return next(((f'also/{k}/nats', cell) for k, cell in also if cell.get('code') == 'exact'), None)


def exact_bits(run: Mapping) -> float | None:
  """Bits per dimension on test by the exact code of `exact`."""
  found = exact(run)
  return found and found[1].get('bits_per_dim')


def exact_bits_of_each(run: Mapping) -> Right | str:
  """Bits per dimension of every test example by its exact code, or why they are not known."""
  name, cell = exact(run)
  chosen = f'{os.path.dirname(name)}/rows'
  arrays = reading.read_arrays(run['workdir'], (name, chosen))
  nats_N = arrays.get(name)
  if nats_N is None:
    return f'no nats are saved with seed {run["seed"]} of {run["objective"]}'
  bits_N = np.asarray(nats_N, np.float64) / (run['dims'] * math.log(2))
  if abs(bits_N.mean() - cell['bits_per_dim']) > _SAME * max(1, cell['bits_per_dim']):
    return f'the nats saved with seed {run["seed"]} of {run["objective"]} are not of its record'
  return Right(bits_N, arrays.get(chosen, np.arange(len(bits_N))), (), 1, chosen in arrays)


@dataclasses.dataclass(frozen=True)
class Tested:
  """What pairs of objectives are compared on.

  Attributes:
    name: for people.
    read: its value of a run, None where it has none.
    each: its value of every test example, or why that is not known.
    scale, unit, digits: of a difference in print.
    some: whether a run's value is of a choice of the test examples.
    more: what is said of an objective that has more of it than another.
  """

  name: str
  read: Callable[[Mapping], float | None]
  each: Callable[[Mapping], Right | str]
  scale: float = 100.0
  unit: str = 'points'
  digits: int = 1
  some: Callable[[Mapping], bool] = lambda run: False
  more: str = '>'


def _of_probe(probe: str, labels: str) -> Tested:
  return Tested(
    f'the {probe} probe' + ('' if labels == 'all' else f' at {labels} labels'),
    lambda run: summary.accuracy(run, probe, labels),
    lambda run: right(run, probe, labels),
  )


# Declared before any result is seen. The others stand beside it, each a family of its own.
PRIMARY = _of_probe(*summary.PRIMARY)
BESIDE = (
  _of_probe('attentive', 'all'),
  Tested(
    'bits per dimension by exact codes',
    exact_bits,
    exact_bits_of_each,
    1.0,
    'bits',
    4,
    lambda run: bool(exact(run)[1].get('examples')),
    more='longer than',
  ),
)


def of_common(sides: Sequence[Sequence[Right | str]]) -> list[list[Right | str]]:
  """The same of the test examples that all have, where a code was measured on some of them.

  As they are where some have examples of their own: those were drawn otherwise, and what is left
  in common is few, by accident.
  """
  every = [one for side in sides for one in side]
  if any(isinstance(one, str) for one in every) or not any(one.some for one in every):
    return [list(side) for side in sides]
  rows = functools.reduce(np.intersect1d, [one.labels_N for one in every])
  if len(rows) < min(len(one.labels_N) for one in every):
    return [list(side) for side in sides]
  return [
    [
      dataclasses.replace(one, share_N=one.share_N[np.isin(one.labels_N, rows)], labels_N=rows)
      for one in side
    ]
    for side in sides
  ]


def unpaired(first: Sequence[Right | str], second: Sequence[Right | str]) -> str | None:
  """Why runs of two objectives, paired by seed, can't be compared example by example, or None."""
  unknown = next((one for one in (*first, *second) if isinstance(one, str)), None)
  if unknown is not None:
    return unknown
  if any(not np.array_equal(one.labels_N, first[0].labels_N) for one in (*first, *second)):
    return 'they were not tested on the same examples'
  if len(first[0].labels_N) < 2:
    return 'one test example says nothing of others'
  if len({one.taught for one in (*first, *second)}) > 1:
    return 'they were probed with different numbers of labels'
  for a, b in zip(first, second, strict=True):
    dealt = {one.dealt_by for one in (a, b)} - {None}
    if a.subsets != b.subsets or (a.subsets and len(dealt) > 1):
      return 'they were probed with different labels'
  return None


def share_labels(runs: Sequence[Right]) -> bool:
  """Whether runs of different seeds had training labels in common, or may have had."""
  numbers = [number for run in runs for number in run.subsets]
  deals = {(run.dealt_by, number // run.disjoint) for run in runs for number in run.subsets}
  return len(set(numbers)) < len(numbers) or len(deals) > 1
