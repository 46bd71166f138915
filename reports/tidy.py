"""Tidy results: one row a measurement, the same from run directories and from results.csv."""

from collections.abc import Iterable, Iterator, Mapping
import os
import pathlib
from typing import Any

import pandas as pd

from probes.measures import Measure, at, headline
from reports import choice, comparison_files, finding
from reports.comparison_files import RAW_CONTROLS
from reports.errors import ReportError

# What is the same for all measurements of a run, then what is each one's own.
_OF_RUN = (
  ('dataset', 'probe_dataset', 'objective', 'grammar', 'seed', 'size', 'learning_rate')
  + ('selected', 'code', 'trained', 'saw_labels')
)  # fmt: skip
COLUMNS = (
  *_OF_RUN,
  *('measure', 'labels', 'layer', 'draw', 'split', 'value', 'stderr', 'unit', 'workdir'),
)
# Those that can hold nothing: NA in a column of these types, an empty cell in results.csv.
_TYPES = dict.fromkeys(COLUMNS, 'string')
_TYPES |= dict.fromkeys(('value', 'stderr', 'learning_rate'), 'float64')
_TYPES |= dict.fromkeys(('grammar', 'seed', 'layer', 'draw'), 'Int64')
_TYPES |= dict.fromkeys(('selected', 'trained', 'saw_labels'), 'boolean')
# Numbers that stand alone in a record: measure, where it is, split, unit ('' for the loss's own).
_PLAIN = (
  ('bits_per_dim', 'train_bits_per_dim', 'train', 'bits/dim'),
  ('bits_per_dim', 'validation.bits_per_dim', 'validation', 'bits/dim'),
  ('loss', 'validation.loss', 'validation', ''),
  ('best_loss', 'validation.best_loss', 'validation', ''),
  ('loss', 'train_loss', 'train', ''),
  ('loss', 'test_loss.value', 'test', ''),
  ('token_accuracy', 'token_accuracy', 'test', 'fraction'),
  ('token_accuracy', 'validation.token_accuracy', 'validation', 'fraction'),
  ('masked_cross_entropy', 'masked_cross_entropy.bits', 'test', 'bits/masked token'),
  ('masked_cross_entropy/histogram', 'masked_cross_entropy.histogram_bits', 'test')
  + ('bits/masked token',),
  ('parameters', 'parameters', None, 'parameters'),
  ('parameters_backbone', 'parameters_backbone', None, 'parameters'),
  ('train_flops', 'train_flops', None, 'FLOPs'),
  ('flops_per_step', 'flops_per_step', None, 'FLOPs'),
  ('steps', 'steps', None, 'steps'),
  ('tokens_seen', 'tokens_seen', None, 'tokens'),
  ('tokens_scored', 'tokens_scored', None, 'tokens'),
  ('epochs', 'epochs', None, 'epochs'),
  ('clipped_fraction', 'clipped_fraction', None, 'fraction'),
  ('wall_seconds', 'wall_seconds', None, 'seconds'),
)
_BITS = {'unit': 'bits/dim', 'split': 'test'}
Row = dict[str, Any]


def load_results(dirs: Iterable[str | os.PathLike]) -> pd.DataFrame:
  """All measurements of any runs: columns `COLUMNS`, one row a measurement, absent is NA.

  Args:
    dirs: run directories, comparison directories, directories above them, and results.csv files.
      A directory without runs that holds a results.csv is read from that.

  Raises:
    ReportError: a directory or file does not exist, or is none of these.
  """
  paths = list(map(pathlib.Path, dirs))
  files = [path for path in paths if path.is_file()]
  folders = [path for path in paths if not path.is_file()]
  found = finding.find(folders)
  if not found.runs:
    files += [path / 'results.csv' for path in folders if (path / 'results.csv').is_file()]
  choice.add_pilots(found.runs, comparison_files.joined(found.pilots)[0])
  choice.select(found.runs, found.begun)
  frames = [read_csv(path) for path in files]
  frames.append(tidy(found.runs, found.controls if found.runs else {}))
  return pd.concat(frames, ignore_index=True)


def read_csv(path: pathlib.Path) -> pd.DataFrame:
  """The measurements of a results.csv, also of one from before there were grammars.

  Raises:
    ReportError: it can't be read, or is no results.csv.
  """
  try:
    names = pd.read_csv(path, nrows=0).columns
    if {*names, 'grammar'} != set(COLUMNS):
      raise ReportError(f'{path} is not a results.csv of this version')
    # Floats are read as text and turned into numbers by Python, which loses no digit.
    types = {name: _TYPES[name].replace('float64', 'object') for name in names}
    frame = _typed(pd.read_csv(path, dtype=types, keep_default_na=False, na_values=['']))
  except (OSError, ValueError) as error:
    raise ReportError(f'{path} can not be read: {" ".join(str(error).split())}') from error
  if len(cut := frame.index[frame['value'].isna()]):
    raise ReportError(f'{path} line {cut[0] + 2}: no value')
  return frame


def as_csv(frame: pd.DataFrame) -> str:
  """Measurements as text; floats keep all their digits."""
  return frame.to_csv(index=False, lineterminator='\n')


def tidy(runs: Iterable[Mapping], controls: Mapping) -> pd.DataFrame:
  """The measurements of records and of the controls; one that is absent has no row."""
  rows: list[Row] = []
  data: Mapping = {}
  for run in runs:
    run = {**run, 'grammar': choice.grammar_of(run)}
    data = {name: run.get(name) for name in ('dataset', 'probe_dataset')}
    own = {name: run.get(name) for name in (*_OF_RUN, 'workdir')}
    rows += [own | row for row in _of_run(run)]
  rows += [data | row for row in _of_controls(controls)]
  frame = _typed(pd.DataFrame(rows, dtype=object))
  return frame.dropna(subset='value', ignore_index=True)


def _typed(frame: pd.DataFrame) -> pd.DataFrame:
  frame = frame.reindex(columns=list(COLUMNS))
  texts = [name for name, kind in _TYPES.items() if kind == 'string']
  frame[texts] = frame[texts].replace('', None)
  return frame.astype(_TYPES)


def _row(measure: str, value: float | None, **others: Any) -> Row:
  return {'measure': measure, 'value': value, **others}


def _of_controls(controls: Mapping) -> Iterator[Row]:
  for control in RAW_CONTROLS:
    for probe, counts in (controls.get(control) or {}).items():
      for row in _probe_rows(probe, counts):
        yield {'objective': control, **row}
  guess = controls.get('majority') or {}
  yield {'objective': 'majority', **_row('majority/accuracy', guess.get('accuracy'), labels='all',
         split='test', unit='fraction', stderr=guess.get('stderr'))}  # fmt: skip
  for name, value in (controls.get('raw_latents') or {}).items():
    yield {'objective': 'raw', **_latent_row(name, value)}
  for name in ('histogram', 'uniform'):
    bits = _row('bits_per_dim', controls.get(f'{name}_bits_per_dim'), **_BITS)
    yield {'objective': name, 'code': 'exact', **bits}


def _of_run(run: Mapping) -> Iterator[Row]:
  yield _row('bits_per_dim', run.get('bits_per_dim'), **_BITS,
             stderr=run.get('bits_per_dim_stderr'))  # fmt: skip
  for name, value in (run.get('terms') or {}).items():
    yield _row(f'term/{name}', value, **_BITS)
  cell = run.get('single_epoch') or {}
  yield _row('single_epoch/bits_per_dim', cell.get('bits_per_dim'), **_BITS | {'split': 'train'})
  for name in ('structure_bits', 'noise_bits'):
    yield _row(f'single_epoch/{name}', cell.get(name), split='train', unit='bits')
  for name, other in (run.get('also') or {}).items():
    # What the same weights cost by another code.
    for row in _other_code_rows(other, f'also/{name}/'):
      yield {'code': other.get('code'), **row}
  yield from _regret_rows(run.get('truth') or {})
  for measure, place, split, unit in _PLAIN:
    yield _row(measure, at(run, place.split('.')), split=split, stderr=run.get(f'{place}_stderr'),
               unit=unit or run.get('loss_unit') or 'own loss')  # fmt: skip
  for probe, counts in (run.get('probes') or {}).items():
    yield from _probe_rows(probe, counts)
  yield from _level_rows(run)
  for name, values in ((run.get('latents') or {}).get('linear') or {}).items():
    for layer, value in enumerate(values):
      yield _latent_row(name, value, layer=layer)
  best = run.get('at_best') or {}
  yield _row('at_best/bits_per_dim', best.get('bits_per_dim'), **_BITS,
             stderr=best.get('bits_per_dim_stderr'))  # fmt: skip
  for probe, counts in (best.get('probes') or {}).items():
    yield from _probe_rows(f'at_best/{probe}', counts)


def _other_code_rows(other: Mapping, prefix: str) -> Iterator[Row]:
  yield _row(f'{prefix}bits_per_dim', other.get('bits_per_dim'), **_BITS,
             stderr=other.get('bits_per_dim_stderr'))  # fmt: skip
  yield from _regret_rows(other.get('truth') or {}, prefix)


def _regret_rows(truth: Mapping, prefix: str = '') -> Iterator[Row]:
  yield _row(f'{prefix}entropy_bits_per_dim', truth.get('entropy_bits_per_dim'), **_BITS)
  yield _row(f'{prefix}regret_bits_per_dim', truth.get('regret_bits_per_dim'), **_BITS,
             stderr=truth.get('regret_stderr'))  # fmt: skip
  yield _row(f'{prefix}regret_slack', truth.get('slack'), **_BITS)
  for name in ('grammatical_samples', 'expected_overlap'):
    yield _row(f'{prefix}{name}', truth.get(name), unit='fraction')
  for hidden, value in enumerate(truth.get('by_k') or (), start=1):
    yield _row(f'{prefix}regret_by_hidden/{hidden}', value, **_BITS)


def _level_rows(run: Mapping) -> Iterator[Row]:
  """Probes by noise level or mask ratio; the level is part of the measure's name."""
  found = (run.get('probes_by_level') or {}).get('linear') or {}
  clean, best = found.get('clean') or {}, found.get('best') or {}
  common = {'labels': 'all', 'split': 'validation', 'unit': 'fraction'}
  for cell in [{**clean, 'level': 'clean'}, *(found.get('by_level') or ())]:
    name = f'by_level/{cell["level"]}/linear/accuracy'
    yield _row(name, cell.get('validation'), **common, layer=cell.get('layer'))
  common = {'labels': 'all', 'split': 'test', 'layer': best.get('layer')}
  yield _row('best_level/linear/accuracy', best.get('accuracy'), **common,
             stderr=best.get('stderr'), unit='fraction')  # fmt: skip
  yield _row('best_level/linear/level', best.get('level'), **common, unit='level')


def _latent_row(name: str, value: float | None, **others: Any) -> Row:
  """The probe of one latent (level/node)."""
  return _row(f'latent/{name}/linear/accuracy', value, labels='all', split='validation',
              unit='fraction', **others)  # fmt: skip


def _probe_rows(probe: str, counts: Mapping[str, Mapping]) -> Iterator[Row]:
  for labels, result in counts.items():
    if result.get('accuracy') is not None:
      yield from _accuracy_rows(probe, labels, result)
  at_best = probe.startswith('at_best/')
  for measure in () if at_best else headline():
    if measure.path[0] == probe and measure.path[2:] != ('accuracy',):
      yield from _measure_rows(measure, {probe: counts})
  for block in at({probe: counts}, ('prequential', 'all', 'curve')) or ():
    for name, value in block.items():
      if name != 'labels':
        yield _row(f'prequential/curve/{name}', value, labels=str(block['labels']),
                   split='train', unit='bits/label')  # fmt: skip


def _measure_rows(measure: Measure, probes: Mapping) -> Iterator[Row]:
  """A headline number that is no accuracy, and its curve over layers."""
  common = {'labels': measure.path[1], 'unit': measure.unit}
  stderr = at(probes, measure.stderr) if measure.stderr else None
  yield _row(measure.name, at(probes, measure.path), **common, stderr=stderr)
  if measure.spread:
    yield _row(f'{measure.name}/spread_over_orders', at(probes, measure.spread), **common)
  if measure.labels:
    yield _row(f'{measure.name}/labels', at(probes, measure.labels),
               **common | {'unit': 'labels'})  # fmt: skip
  for path in measure.beside:
    yield _row(f'{measure.name}/{path[-1]}', at(probes, path), **common)
  for layer, value in enumerate(at(probes, measure.layers) or () if measure.layers else ()):
    yield _row(f'{measure.name}/by_layer', value, **common, layer=layer)


def _accuracy_rows(probe: str, labels: str, result: Mapping) -> Iterator[Row]:
  layers = result.get('layer')
  layers = list(layers) if isinstance(layers, list | tuple) else [layers]
  layer = layers[0] if len(set(layers)) == 1 else None
  common = {'labels': labels, 'split': 'test', 'unit': 'fraction'}
  yield _row(f'{probe}/accuracy', result.get('accuracy'), **common, layer=layer,
             stderr=result.get('stderr'))  # fmt: skip
  for draw, value in enumerate(result.get('draws') or ()):
    of_draw = layers[draw] if len(layers) > draw else layers[0]
    yield _row(f'{probe}/accuracy_of_draw', value, **common, layer=of_draw, draw=draw)
  nats = common | {'unit': 'nats', 'layer': layer}
  yield _row(f'{probe}/cross_entropy', result.get('cross_entropy'), **nats)
  for layer, value in enumerate(result.get('by_layer_validation') or ()):
    yield _row(f'{probe}/accuracy', value, **common | {'split': 'validation'}, layer=layer)
