"""Regret of representations: what they cost on the labels above the best of all learners tried.

Every learner's code of the labels (`probes.prequential`, `probes.finetune`) is a prequential code,
with its own choices paid for. Its regret is its mean length over runs minus the least such mean of
any learner tried here on the same labels, raw input, untrained backbones and learning rates that
were not chosen included: a lower bound on the regret against all learners there are, since one that
nobody tried may do better. The best has none. Where the law of the source is known, so is what a
perfect learner pays, and the regret is no bound.

Only codes of the same labels are compared (`reports.label_sets`).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from reports import finding, label_sets, reading, statistics
from reports.label_sets import Code, Labels


def tables(found: finding.Found) -> dict:
  """Regret and savings of every learner on every backbone.

  Returns:
    sets: one entry for each set of labels, with data (their hash), labels (their number), first,
      seed, dataset, uniform_bits, best (mean bits and name of the best learner, and how many were
      tried), scratch (by size),
      truth_bits (None until `launch.label_regret` finds it), workdir (of a run that has these
      labels) and rows. A row has of, kind, size, learner, replicates, and bits, regret (a lower
      bound), saved (over scratch) and saved_in_all (over the best code without pretraining): each
      a mean, with _min, _max and _ci95 of the bits, the interval from 5 seeds on.
    notes: lines for the reader: what was left out or stands apart, and why.
  """
  codes, notes = label_sets.read(found)
  groups, unplaced = label_sets.group(codes)
  sets = [_table(labels, members) for labels, members in groups.items()]
  notes += unplaced
  if len(sets) > 1:
    notes.append(f'{len(sets)} sets of labels, compared each by itself: {_differences(groups)}')
  return reading.plain({'sets': sets, 'notes': notes})


def _differences(groups: Mapping[Labels, Any]) -> str:
  """In what the sets of labels differ."""
  words = {'data': 'their data', 'count': 'the number of labels', 'blocks': 'the blocks'}
  words |= {'seed': 'the seed of the order', 'order': 'the order'}
  words |= {'prior': 'the prior over experts'}
  differ = [
    word for name, word in words.items() if len({getattr(labels, name) for labels in groups}) > 1
  ]
  return f'they differ in {", ".join(differ)}'


def _table(labels: Labels, codes: Sequence[Code]) -> dict:
  tried: dict[tuple, list[float]] = {}
  for code in codes:
    key = (code.of, code.kind, code.size, code.learner, _setting(code))
    tried.setdefault(key, []).append(code.bits)
  best = min(tried, key=lambda key: np.mean(tried[key]))
  least = float(np.mean(tried[best]))
  rows: dict[tuple, list[Code]] = {}
  for code in codes:
    if code.run is None or code.run['selected']:
      rows.setdefault((code.of, code.kind, code.size, code.learner), []).append(code)
  means = {key: float(np.mean([code.bits for code in members])) for key, members in rows.items()}
  sizes = dict.fromkeys(code.size for code in codes if code.size)
  scratch = {size: _scratch(means, size) for size in sizes}
  without = {key: bits for key, bits in means.items() if key[1] != 'pretrained'}
  in_all = min(without.values(), default=None)
  made: list[dict] = []
  for key, members in rows.items():
    of, kind, size, learner = key
    row = {'of': of, 'kind': kind, 'size': size, 'learner': learner, **_spread(members)}
    row |= {'regret': row['bits'] - least, 'saved': None, 'saved_in_all': None}
    if kind == 'pretrained':
      own = scratch.get(size)
      row['saved'] = own and own['bits'] - row['bits']
      row['saved_in_all'] = None if in_all is None else in_all - row['bits']
    made.append(row)
  some = next((code.run for code in codes if code.run), {})
  return {
    'dataset': some.get('probe_dataset'),
    'data': labels.data,
    'labels': labels.count,
    'first': labels.first,
    'seed': labels.seed,
    'note': some.get('note'),
    'uniform_bits': codes[0].uniform_bits,
    'best': {'bits': least, 'name': _name(best[:4]), 'tried': len(tried)},
    'without_pretraining': in_all and {
      'bits': in_all,
      'name': _name(min(without, key=without.get)),
    },
    'scratch': {str(size): found for size, found in scratch.items()},
    'truth_bits': None,
    'workdir': some.get('workdir'),
    'knows_truth': bool(some.get('latents')),
    'rows': sorted(made, key=lambda row: ('pretrained', 'untrained', 'input').index(row['kind'])),
  }  # fmt: skip


def _setting(code: Code) -> tuple | None:
  """What tells the runs of a learner apart that was not chosen; None of the chosen one."""
  if code.run is None or code.run['selected']:
    return None
  return code.run.get('learning_rate'), code.run.get('clip_norm')


def _name(key: tuple) -> str:
  of, _, size, learner = key
  return f'{learner}, {of}' + (f' ({size})' if size else '')


def _scratch(means: Mapping[tuple, float], size: str) -> dict | None:
  """Learning from scratch: the untrained backbone fine-tuned, else the best learner without one.

  Of several untrained backbones the better one counts: savings are not over the weaker of them.
  """
  tuned = {
    key: bits for key, bits in means.items()
    if key[1:] == ('untrained', size, 'fine-tuned')
  }  # fmt: skip
  other = {
    key: bits for key, bits in means.items()
    if key[1] == 'input' or key[1:3] == ('untrained', size)
  }  # fmt: skip
  candidates = tuned or other
  if not candidates:
    return None
  key = min(candidates, key=candidates.get)
  return {'bits': candidates[key], 'name': _name(key), 'fine_tuned': bool(tuned)}


def _spread(members: Sequence[Code]) -> dict:
  found = statistics.interval([code.bits for code in members])
  interval = None if found['low'] is None else [found['low'], found['high']]
  return {'replicates': len(members), 'bits': found['mean'], 'bits_min': found['minimum'],
          'bits_max': found['maximum'], 'bits_ci95': interval}  # fmt: skip
