"""Tidy rows: one row a measurement, the same from run directories and from results.csv."""

from collections.abc import Callable, Iterable, Mapping
import csv
import pathlib
from typing import Any

from probes.measures import Measure, at, headline
from reports import choice
from reports.errors import ReportError

COLUMNS = (
  ('dataset', 'probe_dataset', 'objective', 'grammar', 'seed', 'size', 'learning_rate')
  + ('selected', 'code', 'trained', 'saw_labels', 'measure', 'labels', 'layer', 'draw', 'split')
  + ('value', 'stderr', 'unit', 'workdir')
)
# Controls without a network: the input itself, and two features of it as wide as the network.
RAW_CONTROLS = ('raw', 'pca', 'random_relu')
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


def read_csv(path: pathlib.Path) -> list[dict]:
  """The rows of a results.csv, also of one from before there were grammars."""
  parsers = dict.fromkeys(('value', 'stderr', 'learning_rate'), float)
  parsers |= dict.fromkeys(('grammar', 'seed', 'layer', 'draw'), int)
  parsers |= dict.fromkeys(('selected', 'trained', 'saw_labels'), lambda text: text == 'True')
  with path.open(newline='', encoding='utf-8') as file:
    reader = csv.DictReader(file)
    if {*(reader.fieldnames or ()), 'grammar'} != set(COLUMNS):
      raise ReportError(f'{path} is not a results.csv of this version')
    try:
      return [{name: _parsed(row.get(name, ''), parsers.get(name)) for name in COLUMNS}
              for row in reader]  # fmt: skip
    except (ValueError, TypeError) as error:
      raise ReportError(f'{path} line {reader.line_num}: {error}') from error


def _parsed(text: str, parser: Callable[[str], Any] | None) -> Any:
  if parser is None:
    return text
  return parser(text) if text else None


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
    context = {**run, 'grammar': choice.grammar_of(run)}
    rows += _run_rows(context)
  data = {name: context.get(name) for name in ('dataset', 'probe_dataset')}
  for control in RAW_CONTROLS:
    for probe, counts in (controls.get(control) or {}).items():
      rows += _probe_rows({**data, 'objective': control}, probe, counts)
  for name, value in (controls.get('raw_latents') or {}).items():
    rows.append(_row({**data, 'objective': 'raw'}, f'latent/{name}/linear/accuracy', value,
                     labels='all', split='validation', unit='fraction'))  # fmt: skip
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
  rows += _other_codes(run) + _regret_rows(run, run.get('truth') or {})
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
  fraction = {'unit': 'fraction', 'split': 'test', 'stderr': run.get('token_accuracy_stderr')}
  rows.append(_row(run, 'token_accuracy', run.get('token_accuracy'), **fraction))
  fraction |= {'split': 'validation', 'stderr': None}
  rows.append(_row(run, 'token_accuracy', validation.get('token_accuracy'), **fraction))
  masked = run.get('masked_cross_entropy') or {}
  for name, key in (('', 'bits'), ('/histogram', 'histogram_bits')):
    measure = f'masked_cross_entropy{name}'
    rows.append(_row(run, measure, masked.get(key), split='test', unit='bits/masked token'))
  for name, unit in _COSTS.items():
    rows.append(_row(run, name, run.get(name), unit=unit))
  for probe, counts in (run.get('probes') or {}).items():
    rows += _probe_rows(run, probe, counts)
  rows += _level_rows(run) + _latent_rows(run)
  best = run.get('at_best') or {}
  rows.append(_row(run, 'at_best/bits_per_dim', best.get('bits_per_dim'), split='test',
                   stderr=best.get('bits_per_dim_stderr'), unit='bits/dim'))  # fmt: skip
  for probe, counts in (best.get('probes') or {}).items():
    rows += _probe_rows(run, f'at_best/{probe}', counts)
  return rows


def _other_codes(run: Mapping) -> list[dict]:
  """What the same weights cost by other codes; `code` is the other code's."""
  rows = []
  for name, other in (run.get('also') or {}).items():
    base = {**run, 'code': other.get('code')}
    rows.append(_row(base, f'also/{name}/bits_per_dim', other.get('bits_per_dim'), split='test',
                     stderr=other.get('bits_per_dim_stderr'), unit='bits/dim'))  # fmt: skip
    rows += _regret_rows(base, other.get('truth') or {}, f'also/{name}/')
  return rows


def _regret_rows(run: Mapping, truth: Mapping, prefix: str = '') -> list[dict]:
  bits = {'unit': 'bits/dim', 'split': 'test'}
  rows = [
    _row(run, f'{prefix}entropy_bits_per_dim', truth.get('entropy_bits_per_dim'), **bits),
    _row(run, f'{prefix}regret_bits_per_dim', truth.get('regret_bits_per_dim'), **bits,
         stderr=truth.get('regret_stderr')),
    _row(run, f'{prefix}regret_slack', truth.get('slack'), **bits),
    _row(run, f'{prefix}grammatical_samples', truth.get('grammatical_samples'), unit='fraction'),
    _row(run, f'{prefix}expected_overlap', truth.get('expected_overlap'), unit='fraction'),
  ]  # fmt: skip
  for hidden, value in enumerate(truth.get('by_k') or (), start=1):
    rows.append(_row(run, f'{prefix}regret_by_hidden/{hidden}', value, **bits))
  return rows


def _level_rows(run: Mapping) -> list[dict]:
  """Probes by noise level or mask ratio; the level is part of the measure's name."""
  found = (run.get('probes_by_level') or {}).get('linear') or {}
  clean, best = found.get('clean') or {}, found.get('best') or {}
  rows = []
  common = {'labels': 'all', 'split': 'validation', 'unit': 'fraction'}
  for cell in [{**clean, 'level': 'clean'}, *(found.get('by_level') or ())]:
    name = f'by_level/{cell["level"]}/linear/accuracy'
    rows.append(_row(run, name, cell.get('validation'), **common, layer=cell.get('layer')))
  common = {'labels': 'all', 'split': 'test', 'layer': best.get('layer')}
  rows.append(_row(run, 'best_level/linear/accuracy', best.get('accuracy'), **common,
                   stderr=best.get('stderr'), unit='fraction'))  # fmt: skip
  rows.append(_row(run, 'best_level/linear/level', best.get('level'), **common, unit='level'))
  return rows


def _latent_rows(run: Mapping) -> list[dict]:
  """Probes of every latent (level/node) at every layer."""
  return [
    _row(run, f'latent/{name}/linear/accuracy', value, labels='all', split='validation',
         unit='fraction', layer=layer)
    for name, values in ((run.get('latents') or {}).get('linear') or {}).items()
    for layer, value in enumerate(values)
  ]  # fmt: skip


def _probe_rows(base: Mapping, probe: str, counts: Mapping[str, Mapping]) -> list[dict]:
  rows = []
  for labels, result in counts.items():
    if result.get('accuracy') is not None:
      rows += _accuracy_rows(base, probe, labels, result)
  at_best = probe.startswith('at_best/')
  for measure in () if at_best else headline():
    if measure.path[0] == probe and measure.path[2:] != ('accuracy',):
      rows += _measure_rows(base, measure, {probe: counts})
  for block in at({probe: counts}, ('prequential', 'all', 'curve')) or ():
    for name, value in block.items():
      if name != 'labels':
        rows.append(_row(base, f'prequential/curve/{name}', value, labels=str(block['labels']),
                         split='train', unit='bits/label'))  # fmt: skip
  return rows


def _measure_rows(base: Mapping, measure: Measure, probes: Mapping) -> list[dict]:
  """A headline number that is no accuracy, and its curve over layers."""
  common = {'labels': measure.path[1], 'unit': measure.unit}
  rows = [_row(base, measure.name, at(probes, measure.path), **common)]
  if measure.beside:
    name = f'{measure.name}/{measure.beside[-1]}'
    rows.append(_row(base, name, at(probes, measure.beside), **common))
  for layer, value in enumerate(at(probes, measure.layers) or () if measure.layers else ()):
    rows.append(_row(base, f'{measure.name}/by_layer', value, **common, layer=layer))
  return rows


def _accuracy_rows(base: Mapping, probe: str, labels: str, result: Mapping) -> list[dict]:
  rows = []
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
