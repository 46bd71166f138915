"""Reads finished runs; makes results.json, the tidy CSV and the summary over seeds.

Rules, in one place:
- A directory that holds run.json is a finished run; one with only config.json is unfinished and
  is listed, never averaged. The same directory named twice counts once; two directories with the
  same objective, seed, size and learning rate are an error.
- Where an objective was trained at several learning rates it keeps the one with the lowest mean
  validation loss of its own at the last step, over seeds; only rates with the most finished seeds
  take part. Bits and labels of the test split are never looked at for this.
- Exact codes and upper bounds of one objective are never averaged, and never ranked against
  each other.
- Absent is None (null, an empty CSV cell), never NaN.
"""

import collections
from collections.abc import Iterable, Mapping, Sequence
import csv
import dataclasses
import json
import math
import os
import pathlib
from typing import Any

from launch.errors import UserError
from probes import statistics

SCHEMA = 1
# The one measure on which objectives are compared by a test, declared before any result is seen.
PRIMARY = ('linear', '100')
MINIMUM_SEEDS = statistics.SEEDS
# A bound this close (bits per dimension) to the per-pixel histogram has learned no context.
NO_CONTEXT_MARGIN = 0.05
# A last validation loss this much (relative) above the best one is called overfit; a best one at
# the last step that fell by more than STILL_FALLING over the last tenth of training, underfit.
OVERFIT_MARGIN = 0.02
STILL_FALLING = 0.01

# What runs of one objective and size must share to be averaged over seeds.
POOLED_ALIKE = ('code', 'settings', 'causal', 'steps', 'tokens_seen', 'input_scale', 'parameters')

# What results.json promises for every run, in this order; the record's other fields follow.
RUN_FIELDS = (
  ('objective', 'seed', 'size', 'code', 'bits_per_dim', 'bits_per_dim_stderr', 'parameters')
  + ('train_flops', 'steps', 'tokens_seen', 'tokens_scored', 'epochs', 'wall_seconds', 'workdir')
  + ('probes',)
)
COLUMNS = (
  ('dataset', 'probe_dataset', 'objective', 'seed', 'size', 'learning_rate', 'selected', 'code')
  + ('trained', 'saw_labels', 'measure', 'labels', 'layer', 'draw', 'split', 'value', 'stderr')
  + ('unit', 'workdir')
)
_COSTS = {
  'parameters': 'parameters',
  'parameters_backbone': 'parameters',
  'train_flops': 'FLOPs',
  'flops_per_step': 'FLOPs',
  'steps': 'steps',
  'tokens_seen': 'tokens',
  'tokens_scored': 'tokens',
  'epochs': 'epochs',
  'clipped_fraction': 'fraction',
  'wall_seconds': 'seconds',
}
_CODES = ('exact', 'upper_bound', 'none')


@dataclasses.dataclass
class Found:
  """What a set of directories holds.

  Attributes:
    runs: the records of finished runs; `workdir` is where each was found.
    unfinished: {'name', 'log', 'reason'} for every run that has no readable record.
    controls: the merged controls.json of the comparison directories.
    notes: one line for everything the reader of the report should know about the reading.
  """

  runs: list[dict] = dataclasses.field(default_factory=list)
  unfinished: list[dict] = dataclasses.field(default_factory=list)
  controls: dict = dataclasses.field(default_factory=dict)
  notes: list[str] = dataclasses.field(default_factory=list)


def plain(value: Any) -> Any:
  """`value` as plain JSON: numpy scalars and arrays unwrapped, anything not finite None."""
  if isinstance(value, Mapping):
    return {str(key): plain(item) for key, item in value.items()}
  if isinstance(value, list | tuple):
    return [plain(item) for item in value]
  if hasattr(value, 'tolist'):
    return plain(value.tolist())
  if isinstance(value, float) and not math.isfinite(value):
    return None
  return value


# Reading.


def find(dirs: Iterable[str | os.PathLike]) -> Found:
  """Reads every run below `dirs` (run directories, comparison directories, or any above them).

  Raises:
    UserError: a directory does not exist, or controls.json cannot be read.
  """
  found, seen = Found(), set()
  for top in dirs:
    top = pathlib.Path(top)
    if not top.is_dir():
      raise UserError(f'{top} is not a directory')
    if top.parent.name == 'runs' and (top / 'run.json').exists():
      _read_controls(top.parent.parent / 'controls.json', found)  # a run named by itself
    for where, names, files in os.walk(top):
      path = pathlib.Path(where)
      names.sort()
      if 'controls.json' in files:
        _read_controls(path / 'controls.json', found)
      if 'run.json' in files or 'config.json' in files:
        names.clear()  # checkpoints can be large trees, and hold no runs
        if path.resolve() not in seen:
          seen.add(path.resolve())
          _read_run(path, found)
  return found


def _read_run(path: pathlib.Path, found: Found) -> None:
  reason = 'not finished'
  if (path / 'run.json').exists():
    try:
      record = plain(json.loads((path / 'run.json').read_text()))
      reason = _fault(record)
    except (OSError, ValueError) as error:
      reason = f'run.json cannot be read: {error}'
    if reason is None:
      found.runs.append({**record, 'workdir': str(path)})
      return
  logs = [*sorted(path.glob('*.log')), *sorted(path.glob('log*.txt'))]
  logs += [path.parent / f'{path.name}.log', path.parent.parent / 'logs' / f'{path.name}.log']
  log = next((str(log) for log in logs if log.exists()), str(path))
  found.unfinished.append({'name': path.name, 'log': log, 'reason': reason})


def _fault(record: Any) -> str | None:
  """Why a record cannot be used, or None."""
  if not isinstance(record, dict):
    return 'run.json is not an object'
  if record.get('schema') != SCHEMA:
    return f'run.json has schema {record.get("schema")}, this version reads {SCHEMA}'
  missing = [name for name in ('objective', 'seed', 'code') if record.get(name) is None]
  if missing:
    return f'run.json lacks {", ".join(missing)}'
  if record['code'] not in _CODES:
    return f'run.json has the unknown code {record["code"]!r}'
  if record['code'] == 'none' and record.get('bits_per_dim') is not None:
    return 'run.json gives bits per dimension although its code is none'
  return None


def _read_controls(path: pathlib.Path, found: Found) -> None:
  if not path.exists():
    return
  try:
    controls = plain(json.loads(path.read_text()))
  except (OSError, ValueError) as error:
    raise UserError(f'{path} cannot be read: {error}') from error
  for name, value in controls.items():
    if name in found.controls and found.controls[name] != value:
      found.notes.append(f'{path} disagrees with an earlier controls.json about {name}; kept that')
    found.controls.setdefault(name, value)


def read_curve(workdir: str | os.PathLike, only: Sequence[str] = ()) -> list[dict]:
  """The training curve of a run, by step; `only` keeps lines that hold one of these key prefixes.

  A step written twice (by a run that was resumed) counts as last written; a line cut short by a
  kill is skipped.
  """
  try:
    text = (pathlib.Path(workdir) / 'metrics.jsonl').read_text()
  except OSError:
    return []
  points: dict[int, dict] = {}
  for line in text.splitlines():
    if only and not any(f'"{prefix}' in line for prefix in only):
      continue
    try:
      point = plain(json.loads(line))
      points[int(point['step'])] = {**points.get(int(point['step']), {}), **point}
    except (ValueError, KeyError, TypeError):
      continue
  return [points[step] for step in sorted(points)]


# Choosing.


def select(runs: Sequence[dict]) -> list[str]:
  """Marks in place, as `selected`, the runs at the learning rate their objective chose.

  Returns:
    Notes: one line for every choice a reader should know about.

  Raises:
    UserError: several rates and no validation loss to choose by.
  """
  groups, notes = collections.defaultdict(lambda: collections.defaultdict(list)), []
  for run in runs:
    kind = (run.get('dataset'), run['objective'], run.get('size'))
    groups[kind][run.get('learning_rate')].append(run)
  for (_, objective, size), rates in groups.items():
    chosen = next(iter(rates))
    if len(rates) > 1:
      chosen, note = _choose_rate(f'{objective} ({size})', rates)
      notes += note
    for rate, members in rates.items():
      for run in members:
        run['selected'] = rate == chosen
  return notes


def _choose_rate(name: str, rates: Mapping[float | None, list[dict]]) -> tuple[Any, list[str]]:
  if not any(run.get('trained', True) for members in rates.values() for run in members):
    return min(rates, key=lambda rate: (rate is None, rate)), []  # untouched by the rate
  most = max(len({run['seed'] for run in members}) for members in rates.values())
  losses, notes = {}, []
  for rate, members in rates.items():
    values = [(run.get('validation') or {}).get('loss') for run in members]
    if len({run['seed'] for run in members}) < most or None in values:
      notes.append(f'{name}: learning rate {rate:g} left out of the choice, seeds are missing')
    else:
      losses[rate] = math.fsum(values) / len(values)
  if not losses:
    raise UserError(f'{name} has several learning rates and no validation loss to choose by')
  chosen = min(losses, key=lambda rate: (losses[rate], rate))
  if len(losses) > 1 and chosen in (min(losses), max(losses)):
    notes.append(f'{name}: the chosen learning rate {chosen:g} is at the edge of its grid')
  return chosen, notes


def fit_state(run: Mapping, curve: Sequence[Mapping]) -> str | None:
  """'overfit', 'underfit' or 'ok', from the run's own validation loss; None where unknown."""
  validation = run.get('validation') or {}
  last, best = validation.get('loss'), validation.get('best_loss')
  if last is None or best is None:
    return None
  if last - best > OVERFIT_MARGIN * abs(best):
    return 'overfit'
  points = [point for point in curve if point.get('validation/loss') is not None]
  steps = run.get('steps') or 0
  earlier = [point['validation/loss'] for point in points if point['step'] <= 0.9 * steps]
  falls = bool(earlier) and earlier[-1] - last > STILL_FALLING * abs(earlier[-1])
  if validation.get('best_step') == steps and falls:
    return 'underfit'
  return 'ok'


# Tidy rows.


def load_results(dirs: Iterable[str | os.PathLike]) -> list[dict]:
  """The tidy rows (one a measurement, keys `COLUMNS`) of any runs.

  Args:
    dirs: run directories, comparison directories, directories above them, and results.csv files.
      A directory without runs that holds a results.csv is read from that.
  """
  rows, folders = [], []
  for path in map(pathlib.Path, dirs):
    if path.is_file():
      rows += _read_csv(path)
    else:
      folders.append(path)
  found = find(folders)
  if not found.runs:
    rows += [row for path in folders if (path / 'results.csv').is_file()
             for row in _read_csv(path / 'results.csv')]  # fmt: skip
    return rows
  select(found.runs)
  return rows + tidy_rows(found.runs, found.controls)


def _read_csv(path: pathlib.Path) -> list[dict]:
  parsers = dict.fromkeys(('value', 'stderr', 'learning_rate'), float)
  parsers |= dict.fromkeys(('seed', 'layer', 'draw'), int)
  parsers |= dict.fromkeys(('selected', 'trained', 'saw_labels'), lambda text: text == 'True')
  with path.open(newline='', encoding='utf-8') as file:
    reader = csv.DictReader(file)
    if set(reader.fieldnames or ()) != set(COLUMNS):
      raise UserError(f'{path} is not a results.csv of this version')
    try:
      return [
        {name: (parsers[name](text) if text else None) if name in parsers else text
         for name, text in row.items()}
        for row in reader
      ]  # fmt: skip
    except (ValueError, TypeError) as error:
      raise UserError(f'{path} line {reader.line_num}: {error}') from error


def write_csv(rows: Iterable[Mapping], path: pathlib.Path) -> None:
  """Writes tidy rows; floats keep all their digits."""
  with path.open('w', newline='', encoding='utf-8') as file:
    writer = csv.DictWriter(file, COLUMNS, lineterminator='\n')
    writer.writeheader()
    writer.writerows(rows)


def tidy_rows(runs: Iterable[Mapping], controls: Mapping) -> list[dict]:
  """One row a measurement; measurements that are absent have no row."""
  rows: list[dict] = []
  context: Mapping = {}
  for run in runs:
    context = run
    rows += _run_rows(run)
  data = {name: context.get(name) for name in ('dataset', 'probe_dataset')}
  for probe, counts in (controls.get('raw') or {}).items():
    rows += _probe_rows({**data, 'objective': 'raw'}, probe, counts)
  for name in ('histogram', 'uniform'):
    base = {**data, 'objective': name, 'code': 'exact'}
    bits = controls.get(f'{name}_bits_per_dim')
    rows.append(_row(base, 'bits_per_dim', bits, split='test', unit='bits/dim'))
  return [row for row in rows if row['value'] is not None]


def _row(base: Mapping, measure: str, value: float | None, **others: Any) -> dict:
  row = {name: base.get(name) for name in COLUMNS}
  for name in ('dataset', 'probe_dataset', 'size', 'code', 'workdir'):
    row[name] = row[name] or ''
  row |= {'measure': measure, 'value': None if value is None else float(value)}
  return row | {'labels': '', 'split': '', 'unit': '', 'layer': None, 'draw': None,
                'stderr': None} | others  # fmt: skip


def _run_rows(run: Mapping) -> list[dict]:
  bits = {'unit': 'bits/dim', 'split': 'test'}
  rows = [_row(run, 'bits_per_dim', run.get('bits_per_dim'), **bits,
               stderr=run.get('bits_per_dim_stderr'))]  # fmt: skip
  for name, value in (run.get('terms') or {}).items():
    rows.append(_row(run, f'term/{name}', value, **bits))
  bits['split'] = 'train'
  rows.append(_row(run, 'bits_per_dim', run.get('train_bits_per_dim'), **bits))
  validation = run.get('validation') or {}
  bits['split'] = 'validation'
  rows.append(_row(run, 'bits_per_dim', validation.get('bits_per_dim'), **bits))
  own = {'unit': run.get('loss_unit') or 'own loss'}
  for name in ('loss', 'best_loss'):
    rows.append(_row(run, name, validation.get(name), split='validation', **own))
  rows.append(_row(run, 'loss', run.get('train_loss'), split='train', **own))
  rows.append(_row(run, 'loss', (run.get('test_loss') or {}).get('value'), split='test', **own))
  masked = run.get('masked_cross_entropy') or {}
  for name, key in (('', 'bits'), ('/histogram', 'histogram_bits')):
    measure = f'masked_cross_entropy{name}'
    rows.append(_row(run, measure, masked.get(key), split='test', unit='bits/masked token'))
  for name, unit in _COSTS.items():
    rows.append(_row(run, name, run.get(name), unit=unit))
  for probe, counts in (run.get('probes') or {}).items():
    rows += _probe_rows(run, probe, counts)
  best = run.get('at_best') or {}
  rows.append(_row(run, 'at_best/bits_per_dim', best.get('bits_per_dim'), split='test',
                   stderr=best.get('bits_per_dim_stderr'), unit='bits/dim'))  # fmt: skip
  for probe, counts in (best.get('probes') or {}).items():
    rows += _probe_rows(run, f'at_best/{probe}', counts)
  return rows


def _probe_rows(base: Mapping, probe: str, counts: Mapping[str, Mapping]) -> list[dict]:
  rows = []
  for labels, result in counts.items():
    layers = result.get('layer')
    layers = list(layers) if isinstance(layers, list | tuple) else [layers]
    common = {'labels': labels, 'split': 'test', 'unit': 'fraction'}
    layer = layers[0] if len(set(layers)) == 1 else None
    rows.append(_row(base, f'{probe}/accuracy', result.get('accuracy'), **common, layer=layer,
                     stderr=result.get('stderr')))  # fmt: skip
    for draw, value in enumerate(result.get('draws') or ()):
      layer = layers[draw] if len(layers) > draw else layers[0]
      rows.append(_row(base, f'{probe}/accuracy_of_draw', value, **common, layer=layer, draw=draw))
    nats = common | {'unit': 'nats', 'layer': layers[0] if len(set(layers)) == 1 else None}
    rows.append(_row(base, f'{probe}/cross_entropy', result.get('cross_entropy'), **nats))
    for layer, value in enumerate(result.get('by_layer_validation') or ()):
      common['split'] = 'validation'
      rows.append(_row(base, f'{probe}/accuracy', value, **common, layer=layer))
  return rows


# Assembling.


def assemble(found: Found, *, command: str | None = None, failures: Iterable[Mapping] = ()) -> dict:
  """The content of results.json.

  Args:
    found: what `find` returned.
    command: the command that makes these results again.
    failures: {'name', 'log', 'reason'} for runs that failed.

  Raises:
    UserError: no finished run; different data in one column; two runs of the same kind.
  """
  failures = [plain(failure) for failure in failures]
  failed = {failure['name'] for failure in failures}
  unfinished = [run for run in found.unfinished if run['name'] not in failed]
  if not found.runs:
    raise UserError(f'no finished run ({len(failures)} failed, {len(unfinished)} not finished)')
  _refuse_mixtures(found.runs)
  notes = found.notes + select(found.runs)
  histogram = found.controls.get('histogram_bits_per_dim')
  runs = sorted((_run_entry(run, histogram) for run in found.runs), key=_order)
  summary = summarise(runs)
  steps = {run.get('steps') for run in runs if run.get('trained', True) and run['selected']}
  if len(steps) > 1:
    notes.append('the runs differ in the number of updates: not the same training budget')
  common = {name: runs[0].get(name) for name in
            ('dataset', 'alphabet', 'dims')}  # fmt: skip
  more = {name: runs[0].get(name) for name in ('probe_dataset', 'classes', 'lossless', 'note')}
  return plain({
    'schema': SCHEMA, **common, 'git': _merged(run.get('git') for run in runs),
    'versions': _merged_versions(runs), **more, 'command': command,
    'primary': {'probe': PRIMARY[0], 'labels': PRIMARY[1], 'measure': 'accuracy'},
    'runs': runs, 'controls': {'raw': {}, **found.controls}, 'summary': summary,
    'verdicts': verdicts(runs), 'failures': failures, 'unfinished': unfinished, 'notes': notes,
  })  # fmt: skip


def _run_entry(run: dict, histogram: float | None) -> dict:
  entry = {name: run.get(name) for name in RUN_FIELDS} | run
  entry['fit'] = fit_state(run, read_curve(run['workdir'], only=('validation/loss',)))
  bits = entry['bits_per_dim']
  entry['no_context_learned'] = None
  if run['code'] == 'upper_bound' and None not in (bits, histogram):
    entry['no_context_learned'] = bits >= histogram - NO_CONTEXT_MARGIN
  return entry


def _order(run: Mapping) -> tuple:
  """Objectives by what their bits mean, then controls; by name, never by result."""
  control = 2 if not run.get('trained', True) else int(bool(run.get('saw_labels')))
  size = (run.get('parameters_backbone') or 0, str(run.get('size')))
  rate = run.get('learning_rate') or 0
  return (size, control, _CODES.index(run['code']), run['objective'], rate, run['seed'])


def _refuse_mixtures(runs: Sequence[Mapping]) -> None:
  for name in ('dataset', 'alphabet', 'dims', 'probe_dataset'):
    values = sorted({str(run.get(name)) for run in runs})
    if len(values) > 1:
      raise UserError(f'runs differ in {name} ({", ".join(values)}): report them one by one')
  first, kinds = {}, {}
  for run in runs:
    other = first.setdefault((run['objective'], run.get('size')), run)
    for name in POOLED_ALIKE:
      if run.get(name) != other.get(name):
        raise UserError(
          f'{run["objective"]} has runs with {name} {other.get(name)} and {run.get(name)}: they '
          'are not seeds of one training, report them one by one'
        )
    kind = tuple(run.get(name) for name in ('objective', 'seed', 'size', 'learning_rate'))
    if kind in kinds:
      raise UserError(
        f'{kinds[kind]} and {run["workdir"]} are both {kind[0]}, seed {kind[1]}, size {kind[2]}, '
        f'learning rate {kind[3]}: name only one of them'
      )
    kinds[kind] = run['workdir']


def _merged(values: Iterable[str | None]) -> str | None:
  return ', '.join(sorted({str(value) for value in values if value is not None})) or None


def _merged_versions(runs: Sequence[Mapping]) -> dict:
  names = sorted({name for run in runs for name in run.get('versions') or {}})
  return {name: _merged((run.get('versions') or {}).get(name) for run in runs) for name in names}


def probe_counts(runs: Iterable[Mapping], raw: Mapping | None = None) -> list[tuple[str, str]]:
  """All (probe, labels) that hold an accuracy: 'all' first, then by number of labels."""
  pairs = {
    (probe, labels)
    for probes in [*(run.get('probes') or {} for run in runs), raw or {}]
    for probe, counts in probes.items()
    for labels, result in counts.items()
    if result.get('accuracy') is not None
  }
  return sorted(pairs, key=lambda pair: (pair[0], pair[1] != 'all', len(pair[1]), pair[1]))


def at_best(run: Mapping) -> Mapping:
  """Bits and probes at the lowest own validation loss: the run itself if that was its last."""
  best_step = (run.get('validation') or {}).get('best_step')
  return run.get('at_best') or (run if best_step == run.get('steps') else {})


def accuracy(run: Mapping, probe: str, labels: str) -> float | None:
  """Test accuracy of one probe of one run, or None."""
  return (((run.get('probes') or {}).get(probe) or {}).get(labels) or {}).get('accuracy')


def summarise(runs: Sequence[Mapping]) -> list[dict]:
  """One entry an objective and size over its selected runs: mean, min, max, interval from 5."""
  groups = collections.defaultdict(list)
  rates = collections.defaultdict(set)
  for run in runs:
    kind = (run['objective'], run.get('size'))
    rates[kind] |= {run.get('learning_rate'), *(run.get('learning_rate_grid') or ())} - {None}
    if run['selected']:
      groups[kind].append(run)
  pairs = probe_counts(runs)
  summary = []
  for kind, members in groups.items():
    first = members[0]
    tuned = bool(first.get('trained', True)) and len(rates[kind]) > 1
    entry = {'objective': kind[0], 'seeds': len(members), 'size': kind[1]}
    entry |= {name: first.get(name) for name in ('code', 'trained', 'causal', 'saw_labels')}
    entry |= {'seed_values': [run['seed'] for run in members], 'tuned': tuned}
    entry |= {'learning_rate': first.get('learning_rate')}
    entry |= {'learning_rate_grid': sorted(rates[kind]) if tuned else None}
    entry |= _spread('bits_per_dim', [run['bits_per_dim'] for run in members], prefix='bits')
    entry['bits_stderr'] = _mean([run['bits_per_dim_stderr'] for run in members])
    entry['evaluation_draws'] = first.get('evaluation_draws')
    flags = [run['no_context_learned'] for run in members]
    entry['no_context_learned'] = None if None in flags else any(flags)
    for key in ('bits', 'histogram_bits'):
      values = [(run.get('masked_cross_entropy') or {}).get(key) for run in members]
      entry[f'masked_cross_entropy_{key}'] = _mean(values)
    for probe, labels in pairs:
      name = f'{probe}_{labels}'
      entry |= _spread(name, [accuracy(run, probe, labels) for run in members], prefix=name)
    summary.append(entry)
  return summary


def _mean(values: Sequence[float | None]) -> float | None:
  values = [value for value in values if value is not None]
  return math.fsum(values) / len(values) if values else None


def _spread(name: str, values: Sequence[float | None], prefix: str) -> dict:
  values = [value for value in values if value is not None]
  found = statistics.interval(values) if values else {}
  between = None if found.get('low') is None else [found['low'], found['high']]
  return {name: found.get('mean'), f'{prefix}_min': found.get('minimum'),
          f'{prefix}_max': found.get('maximum'), f'{prefix}_ci95': between}  # fmt: skip


def verdicts(runs: Sequence[Mapping]) -> list[dict]:
  """Paired verdicts on the primary measure between all objectives that saw no labels.

  Holm's correction is over the pairs of one size; sizes are not compared with each other.

  Returns:
    The entries of `probes.statistics.verdicts` with their size; none if no pair has the seeds.
  """
  sizes = collections.defaultdict(lambda: collections.defaultdict(dict))
  for run in runs:
    value = accuracy(run, *PRIMARY)
    if run['selected'] and not run.get('saw_labels') and value is not None:
      sizes[run.get('size')][run['objective']][run['seed']] = value
  made = [
    {'size': size, **pair} for size, values in sizes.items() for pair in statistics.verdicts(values)
  ]
  return made if any(pair['p'] is not None for pair in made) else []
