"""Which codes of labels there are in finished runs, and which of them may be compared.

Codes are compared only if they are of the same labels: the same content of the probed data, the
same number of labels, in the same order, in the same blocks, and with the experts under the same
prior. A backbone that saw the labels in
training has no code of them, and takes no part.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
import dataclasses
import hashlib
import json
import os
from typing import Any

import numpy as np

from probes.measures import at
from reports import choice, finding, reading
from reports.comparison_files import RAW_CONTROLS

# Learner -> where its code is in the probes' results, and its length in bits there.
LEARNERS = {
  'linear': (('prequential', 'all'), 'linear_bits'),
  'MLP': (('prequential', 'all'), 'mlp_bits'),
  'fine-tuned': (('finetune', 'all', 'code'), 'bits'),
}
_ORDERS = {'prequential': 'prequential/all/order', 'finetune': 'finetune/code/order'}


@dataclasses.dataclass(frozen=True)
class Labels:
  """Which labels a code is of: codes with other ones can't be compared with it.

  Attributes:
    data: hash of the probed data.
    count: labels coded.
    blocks: labels before each block; the first block is coded uniformly.
    seed: of the order.
    order: hash of the order itself where it was saved, so that two orders can't pass as one.
    prior: of the experts.
  """

  data: str
  count: int
  blocks: tuple[int, ...]
  seed: int
  order: str | None = None
  prior: str = 'bayes'

  @property
  def first(self) -> int:
    return self.blocks[1] if len(self.blocks) > 1 else self.count


@dataclasses.dataclass(frozen=True)
class Code:
  """One code of labels: its length in bits, the learner, and what it learned from."""

  learner: str
  of: str  # An objective, or a control without a backbone.
  kind: str  # 'pretrained', 'untrained' or 'input'.
  bits: float
  uniform_bits: float
  labels: Labels | None
  size: str | None = None
  run: Mapping | None = None

  @property
  def name(self) -> str:
    """'linear on autoregressive (nano)'."""
    where = self.of + (f' ({self.size})' if self.size else '')
    return f'{self.learner}, {where}'


def read(found: finding.Found) -> tuple[list[Code], list[str]]:
  """All codes of labels, and a line on everything that is left out.

  Raises:
    ReportError: runs that are no replicates of one training.
  """
  groups: dict[Any, list[dict]] = {}
  for run in found.runs:
    groups.setdefault((run.get('dataset'), run.get('probe_data_hash')), []).append(run)
  for runs in groups.values():
    choice.refuse_unpoolable(runs)
  choice.select(found.runs, found.begun)
  notes, codes, saw = [], [], set()
  for run in found.runs:
    if run.get('saw_labels'):
      saw.add(run['objective'])
      continue
    seed = order_seed(run['workdir'])
    kind = 'pretrained' if run.get('trained', True) else 'untrained'
    arrays = reading.read_arrays(run['workdir'], tuple(_ORDERS.values()))
    found_of = _codes_of(run.get('probes'), run.get('probe_data_hash'), seed, arrays)
    codes += [
      Code(of=run['objective'], kind=kind, size=run.get('size'), run=run, **code)
      for code in found_of
    ]
  of = found.controls.get('of') or {}
  data, seed = (of.get('data_hash') or [None])[-1], at(of, ('evaluation', 'seed'))
  for name in RAW_CONTROLS:
    found_of = _codes_of(found.controls.get(name), data, seed, {})
    codes += [Code(of=name, kind='input', **code) for code in found_of]
  notes += _retuned(codes)
  if saw:
    notes.append(
      f'{", ".join(sorted(saw))} saw the labels in training: a code that needs them in advance is '
      'no code of them, left out'
    )
  unknown = [code for code in codes if code.labels is None]
  if unknown:
    notes.append(
      f'{_listed(unknown)} left out: their records do not say which labels they code, in which '
      'order'
    )
  return [code for code in codes if code.labels is not None], notes


def _retuned(codes: Sequence[Code]) -> list[str]:
  """A line for every kind of run whose replicates were fine-tuned with several settings."""
  settings: dict[str, set] = {}
  for code in codes:
    if code.learner == 'fine-tuned' and code.run is not None:
      text = json.dumps(code.run.get('finetune_settings'), sort_keys=True)
      settings.setdefault(code.name, set()).add(text)
  return [
    f'{name}: its runs have {len(found)} different settings, their mean is over several learners'
    for name, found in settings.items()
    if len(found) > 1
  ]


def _listed(codes: Iterable[Code]) -> str:
  return '; '.join(dict.fromkeys(code.name for code in codes))


def order_seed(workdir: str | os.PathLike) -> int | None:
  """The seed of the order in which a run's labels are coded; None where it is not known."""
  saved = reading.read_json(os.path.join(workdir, 'config.json'))
  return at(saved, ('config', 'evaluation', 'seed'))


def first_order(cell: Mapping, name: str) -> float | None:
  """The length in the first order: the only one that all learners code the labels in."""
  orders = cell.get(f'{name}_orders')
  return orders[0] if orders else cell.get(name)


def _codes_of(
  probes: Mapping | None, data: str | None, seed: int | None, arrays: Mapping[str, np.ndarray]
) -> Iterator[dict]:
  for learner, (path, name) in LEARNERS.items():
    cell = at(probes, path) or {}
    bits = first_order(cell, name)
    if bits is not None:
      order = arrays.get(_ORDERS[path[0]])
      labels = labels_of(cell, data, seed, order)
      uniform = cell.get('uniform_bits', cell.get('uniform'))
      yield {'learner': learner, 'bits': bits, 'uniform_bits': uniform, 'labels': labels}


def labels_of(
  cell: Mapping, data: str | None, seed: int | None, order: np.ndarray | None = None
) -> Labels | None:
  """Which labels a code is of; None where its record does not say."""
  blocks = tuple(block['labels'] for block in cell.get('curve') or ())
  if None in (data, seed, cell.get('labels')) or not blocks:
    return None
  made = None if order is None else digest(order)
  prior = cell.get('prior', 'bayes')
  return Labels(data, int(cell['labels']), blocks, int(seed), made, prior)


def digest(order: np.ndarray) -> str:
  """Of rows in the order in which their labels are coded."""
  return hashlib.sha256(np.ascontiguousarray(order, '<i4')).hexdigest()


def group(codes: Sequence[Code]) -> tuple[dict[Labels, list[Code]], list[str]]:
  """Codes by the labels they are of, and a line on those that can't be placed."""
  loose: dict[Labels, list[Code]] = {}
  for code in codes:
    loose.setdefault(dataclasses.replace(code.labels, order=None), []).append(code)
  groups, notes = {}, []
  for labels, members in loose.items():
    orders = {code.labels.order for code in members} - {None}
    if len(orders) < 2:
      groups[dataclasses.replace(labels, order=next(iter(orders), None))] = members
      continue
    for code in members:
      if code.labels.order is not None:
        groups.setdefault(code.labels, []).append(code)
    unplaced = [code for code in members if code.labels.order is None]
    if unplaced:
      notes.append(
        f'{_listed(unplaced)} left out: the labels were sent in {len(orders)} orders under one '
        'seed, and which of them is theirs was not saved'
      )
  return groups, notes
