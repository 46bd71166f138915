r"""Regret of representations: what they cost on the labels above the best of all learners tried.

python -m codes.regret DIR... [--out=FILE.json]

Each DIR is a run, a comparison, or a directory above them; only finished records are read. Every
learner's code of the labels (`probes.prequential`, `probes.finetune`) is a prequential code, with
its own choices paid for. Its regret is its length minus that of the best code of the same labels by
any learner tried here, raw input and untrained backbones included: a lower bound on the regret
against all learners there are, since one that nobody tried may do better. Where the law of the
source is known, so is what a perfect learner pays, and the regret is no bound.

Only codes of the same labels are compared (`codes.label_sets`).
"""

from collections.abc import Mapping, Sequence
import json
import sys
from typing import Any

from absl import flags
import numpy as np

from codes import label_sets
from codes.label_sets import Code, Labels
from launch import choice, entry, reading
from launch.errors import UserError
from probes import statistics


def tables(found: reading.Found) -> dict:
  """Regret and savings of every learner on every backbone.

  Returns:
    sets: one entry for each set of labels, with data (their hash), labels (their number), first,
      seed, dataset, uniform_bits, best (bits and name of the best code), scratch (by size),
      truth_bits (None until `add_truth`), workdir (of a run that has these labels) and rows. A row
      has of, kind, size, learner, replicates, and bits, regret (a lower bound), saved (over
      scratch) and saved_in_all (over the best code without pretraining): each a mean, with _min,
      _max and _ci95 of the bits, the interval from 5 seeds on.
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
  differ = [
    word for name, word in words.items() if len({getattr(labels, name) for labels in groups}) > 1
  ]
  return f'they differ in {", ".join(differ)}'


def _table(labels: Labels, codes: Sequence[Code]) -> dict:
  best = min(codes, key=lambda code: code.bits)
  rows: dict[tuple, list[Code]] = {}
  for code in codes:
    if code.run is None or code.run['selected']:
      rows.setdefault((code.of, code.kind, code.size, code.learner), []).append(code)
  means = {key: float(np.mean([code.bits for code in members])) for key, members in rows.items()}
  sizes = dict.fromkeys(code.size for code in codes if code.size)
  scratch = {size: _scratch(means, size) for size in sizes}
  without = {key: bits for key, bits in means.items() if key[1] != 'pretrained'}
  in_all = min(without.values(), default=None)
  made = []
  for key, members in rows.items():
    of, kind, size, learner = key
    row = {'of': of, 'kind': kind, 'size': size, 'learner': learner, **_spread(members)}
    row |= {'regret': row['bits'] - best.bits, 'saved': None, 'saved_in_all': None}
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
    'best': {'bits': best.bits, 'name': best.name, 'tried': len(codes)},
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


# What a perfect learner pays.


def truth_bits(truth: Any, tokens_NxT: np.ndarray, labels_N: np.ndarray) -> np.ndarray:
  """-log2 p(label | the whole clean input), (N,), where the label is the root of the source's tree.

  Not negative: float32 leaves some 1e-7 above a probability of 1.
  """
  tokens_NxT = np.asarray(tokens_NxT)[:, : truth.dims]
  root_NxV = np.asarray(truth.infer(tokens_NxT, np.ones(tokens_NxT.shape, bool)).latents[0])[:, 0]
  p_N = np.take_along_axis(root_NxV, np.asarray(labels_N)[:, None], axis=1)[:, 0]
  return -np.log2(np.minimum(p_N.astype(np.float64), 1.0))


def add_truth(table: dict, data_dir: str) -> str | None:
  """Fills in truth_bits of a set of labels whose source is known; a line where it can't."""
  from data import sources
  from launch import configs, experiment
  from probes import prequential

  config = configs.with_new_probes(
    configs.from_plain(configs.read_saved(table['workdir'])['config'])
  )
  probed = experiment.load_datasets(config, data_dir)[1]
  if config.probe.train_rows:
    probed = sources.with_fewer(probed, config.probe.train_rows)
  if probed.digest != table['data']:
    return f'{table["workdir"]}: its data are made differently now, so no true regret'
  train, count = probed.train, table['labels']
  order = prequential.coding_order(len(train), count, table['seed'])
  table['truth_bits'] = float(
    truth_bits(probed.truth, train.tokens_NxT[order], train.labels_N[order]).sum()
  )
  return None


# The program.


def define_flags() -> None:
  """Only for this program: the report imports this module."""
  flags.DEFINE_string('out', None, 'JSON with everything that is printed.')
  flags.DEFINE_string('data_dir', '~/tensorflow_datasets', 'Prepared data sets.')


def main(argv: Sequence[str]) -> None:
  """Prints a table for each set of labels."""
  from launch import page_codes
  from training.metrics import write_atomically

  if not argv[1:]:
    raise UserError('name at least one run or comparison directory')
  found = reading.find(argv[1:])
  if not found.runs:
    raise UserError(f'no finished run in {", ".join(argv[1:])}')
  made = tables(found)
  if not made['sets']:
    reasons = made['notes'] or ['launch.probe makes them (prequential), and launch.finetune']
    raise UserError('; '.join(['no run has a code of labels that can be compared', *reasons]))
  entry.check_out(flags.FLAGS.out)
  made['notes'] = [*found.notes, *choice.select(found.runs), *made['notes']]
  for table in made['sets']:
    if table['knows_truth'] and (line := add_truth(table, flags.FLAGS.data_dir)):
      made['notes'].append(line)
  if flags.FLAGS.out:
    write_atomically(flags.FLAGS.out, json.dumps(made, indent=1, allow_nan=False) + '\n')
  if hasattr(sys.stdout, 'reconfigure'):
    sys.stdout.reconfigure(errors='replace')
  print('\n\n'.join(page_codes.regret_lines(made)))


if __name__ == '__main__':
  define_flags()
  entry.run(main)
