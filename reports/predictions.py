"""What a run got right, example by example, as a verdict needs it."""

from collections.abc import Mapping, Sequence
import dataclasses

import numpy as np

from probes.measures import at
from reports import reading

_SAME = 1e-6  # accuracies of one set of predictions, of which one went through a record


@dataclasses.dataclass(frozen=True)
class Right:
  """Test examples that one probe of one run got right.

  Attributes:
    share_N: of each test example the share of label draws under which it was classified rightly.
    labels_N: of the test examples.
    subsets: which subsets of the training labels the draws had.
    disjoint: how many such subsets one deal of the training set holds; later ones are of another.
  """

  share_N: np.ndarray
  labels_N: np.ndarray
  subsets: tuple[int, ...]
  disjoint: int


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
  if not cell.get('subsets'):
    # An earlier version gave all seeds the same labels: an offset that their spread can't show.
    return (
      f'{run["objective"]} was probed with the same labels for every seed, by an earlier version: '
      'launch.probe probes it again'
    )
  return Right(share, truth, tuple(cell['subsets']), cell['disjoint'])


def unpaired(first: Sequence[Right | str], second: Sequence[Right | str]) -> str | None:
  """Why runs of two objectives, paired by seed, can't be compared example by example, or None."""
  unknown = next((one for one in (*first, *second) if isinstance(one, str)), None)
  if unknown is not None:
    return unknown
  if any(not np.array_equal(one.labels_N, first[0].labels_N) for one in (*first, *second)):
    return 'they were not tested on the same examples'
  if any(a.subsets != b.subsets for a, b in zip(first, second, strict=True)):
    return 'they were probed with different labels'
  return None


def share_labels(runs: Sequence[Right]) -> bool:
  """Whether runs of different seeds had training labels in common, or may have had."""
  numbers = [number for run in runs for number in run.subsets]
  deals = {number // run.disjoint for run in runs for number in run.subsets}
  return len(set(numbers)) < len(numbers) or len(deals) > 1
