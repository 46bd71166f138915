"""Hand-written run records, as training leaves them, for the tests of the report."""

import json
import math
import pathlib
import re

import numpy as np

from reports import finding, page
from reports import results as results_lib

OBJECTIVES = {
  'autoregressive': {'code': 'exact', 'causal': True},
  'masked_diffusion': {'code': 'upper_bound'},
  'masked': {'code': 'none'},
  'supervised': {'code': 'none', 'saw_labels': True},
  'untrained': {'code': 'none', 'trained': False},
}
HISTOGRAM = 2.42
TESTED = 500  # test examples


def probe(rng: np.random.Generator, base: float, seed: int = 0) -> dict:
  by_layer = [round(base + 0.02 * layer, 4) for layer in range(5)]
  full = {'layer': 4, 'l2': 0.1, 'accuracy': base + rng.uniform(0, 0.02), 'stderr': 0.012}
  full |= {'cross_entropy': 0.2, 'by_layer_validation': by_layer}
  counts = {'all': full}
  for count, loss in (('10', 0.4), ('40', 0.2), ('100', 0.1), ('250', 0.05)):
    right = [round(TESTED * (base - loss + rng.uniform(-0.02, 0.02))) for _ in range(3)]
    draws = [count_right / TESTED for count_right in right]
    counts[count] = {'layer': [2, 2, 3], 'l2': [0.1] * 3, 'accuracy': float(np.mean(draws))}
    counts[count] |= {'stderr': 0.02, 'draws': draws}
    counts[count] |= {'subsets': [3 * seed + draw for draw in range(3)], 'disjoint': 60}
  full |= {'usable_bits': 2.5 + base / 2, 'usable_bits_by_layer_validation': [2.0] * 5}
  curve = [
    {'labels': n, 'linear_bits': 3.3 - k, 'mlp_bits': 3.2 - k} for k, n in enumerate((0, 10, 20))
  ]
  bound = {'bound': 0.9, 'vacuous': True, 'error': 1 - base, 'by_layer_bound': [0.95] * 5}
  return {
    'linear': counts,
    'knn': {'all': {'accuracy': base - 0.1, 'stderr': 0.02, 'by_layer_validation': by_layer}},
    'mlp': {'all': {'accuracy': base, 'usable_bits': 3.0, 'linear_share': (2.5 + base / 2) / 3}},
    'prequential': {
      'all': {
        'linear_bits': 1000 + 500 * base,
        'mlp_bits': 1000.0,
        'curve': curve,
        'uniform_bits': 3322.0,
        'majority_bits': 3290.0,
      }
    },
    'control_task': {'all': {'selectivity': base - 0.5}},
    'pac': {'all': bound},
  }


def make_record(objective: str, seed: int, **changes) -> dict:
  rng = np.random.default_rng([seed, *objective.encode()])
  kind = {'saw_labels': False, 'trained': True, 'causal': False} | OBJECTIVES[objective]
  coded = kind['code'] != 'none'
  bits = {'exact': 1.9, 'upper_bound': 2.21}.get(kind['code'])
  trained = kind['trained']
  loss = rng.uniform(1.2, 1.3) if trained else None
  return {
    'schema': 1, 'objective': objective, 'seed': seed, 'size': 'nano', **kind,
    'dataset': 'digits', 'probe_dataset': 'digits', 'alphabet': 17, 'dims': 64, 'classes': 10,
    'lossless': True, 'note': '8x8 grey levels 0..16, lossless',
    'bits_per_dim': bits + rng.uniform(0, 0.02) if coded else None,
    'bits_per_dim_stderr': 0.012 if coded else None, 'evaluation_draws': 4, 'terms': {},
    'validation': {'loss': loss, 'best_loss': loss, 'best_step': 800 if trained else None,
                   'bits_per_dim': bits},
    'train_bits_per_dim': bits, 'masked_cross_entropy': None, 'learning_rate': 2e-3,
    'learning_rate_grid': None, 'input_scale': 0.02, 'parameters': 204_000,
    'parameters_backbone': 200_000, 'train_flops': 800 * 3.5e9 if trained else 0.0,
    'flops_per_step': 3.5e9, 'steps': 800 if trained else 0, 'tokens_seen': 800 * 32 * 64,
    'tokens_scored': 800 * 32 * 30, 'epochs': 21.4, 'clipped_fraction': 0.03,
    'wall_seconds': 118.0, 'workdir': '/elsewhere', 'git': 'abc1234',
    'versions': {'jax': '0.10.2'}, 'probes': probe(rng, 0.85 if trained else 0.7, seed),
  } | changes  # fmt: skip


def arrays_of(record: dict) -> dict[str, np.ndarray]:
  """Test labels, and predictions of the primary probe that are right as often as it says."""
  labels = np.arange(TESTED) % 10
  arrays = {'labels': labels}
  rng = np.random.default_rng([7, record['seed'], *record['objective'].encode()])
  for draws in filter(None, [record['probes'].get('linear', {}).get('100', {}).get('draws')]):
    right = [rng.permutation(TESTED) < round(TESTED * share) for share in draws]
    arrays['linear/100/predictions'] = np.where(right, labels, (labels + 1) % 10)
  return arrays


def write_run(top: pathlib.Path, record: dict, name: str | None = None) -> pathlib.Path:
  """A run directory as training leaves it, with a curve where the run was trained."""
  name = name or f'{record["objective"]}-{record["seed"]}-{record["learning_rate"]:g}'
  path = top / 'runs' / name
  (path / 'checkpoints' / '800').mkdir(parents=True)
  (path / 'config.json').write_text('{"config": {}}')
  (path / 'run.json').write_text(json.dumps(record))
  np.savez(path / 'arrays.npz', **arrays_of(record))
  if record['trained']:
    lines = []
    for step in range(0, 801, 100):
      value = 2.8 * math.exp(-step / 200) + ((record['validation'] or {}).get('loss') or 1.0)
      line = {'step': step, 'flops': step * record['flops_per_step'], 'validation/loss': value}
      line['probe/linear/accuracy'] = 0.9 - 0.3 * math.exp(-step / 300) + 0.01 * record['seed']
      if record['bits_per_dim'] is not None:
        line['validation/bits_per_dim'] = record['bits_per_dim'] + 2 * math.exp(-step / 150)
      lines.append(json.dumps(line))
    (path / 'metrics.jsonl').write_text('\n'.join(lines) + '\n{"step": 9')
  return path


def write_comparison(top: pathlib.Path, seeds: int = 2, **changes) -> pathlib.Path:
  for objective in OBJECTIVES:
    for seed in range(seeds):
      record = make_record(objective, seed, **changes)
      if objective == 'masked':
        record['masked_cross_entropy'] = {'bits': 1.5, 'histogram_bits': HISTOGRAM}
      write_run(top, record)
  raw = {'raw': probe(np.random.default_rng(0), 0.8)}
  controls = raw | {'histogram_bits_per_dim': HISTOGRAM, 'uniform_bits_per_dim': math.log2(17)}
  (top / 'controls.json').write_text(json.dumps(controls))
  return top


def tight(html: str) -> str:
  """A page without the line breaks of its templates beside tags; inside a text they are spaces."""
  return re.sub(r'\s+', ' ', re.sub(r'(?<=>)\s*\n\s*|\s*\n\s*(?=<)', '', html))


def page_of(top: pathlib.Path) -> str:
  """The page that a report left."""
  return tight((top / 'report.html').read_text())


def render(results: dict) -> str:
  """The page without pictures."""
  return tight(page.render(results, {}))


def assemble(*dirs: pathlib.Path) -> dict:
  """results.json without drawing anything."""
  return results_lib.assemble(finding.find(dirs))


# A source whose law is known: curves are exact power laws, so every ratio is known beforehand.

ENTROPY = 1.2
FACTOR = 16.0  # masked diffusion needs this many times autoregressive's FLOPs for equal regret
POWER = 0.5
STEPS = (1, 50, 100, 200, 400, 800, 1600)


def power_law(flops: float, factor: float = 1.0, grammar: int = 0) -> float:
  """Regret in bits per dimension after `flops`; grammars differ in height, not in ratio."""
  return (1 + 0.1 * grammar) * 3e4 * (flops / factor) ** -POWER


def truth_of(objective: str, grammar: int, flops: float) -> dict:
  exact = OBJECTIVES[objective]['code'] == 'exact'
  regret = power_law(flops, 1.0 if exact else FACTOR, grammar)
  by_k = None if exact else [regret * (0.5 + k / 16) for k in range(1, 17)]
  return {'entropy_bits_per_dim': ENTROPY, 'regret_bits_per_dim': regret, 'regret_stderr': 1e-4,
          'kind': 'exact' if exact else 'bound', 'by_k': by_k, 'slack': 0.0}  # fmt: skip


def latents_of(base: float, layers: int = 5) -> dict:
  """Two levels: node n of level 1 is 0.02 n better than its first, layers rise by 0.01."""
  nodes = {'0/0': 0.0, '1/0': 0.1, '1/1': 0.12}
  linear = {name: [base + gain + 0.01 * k for k in range(layers)] for name, gain in nodes.items()}
  return {'linear': linear, 'chance': {'0/0': 0.13, '1/0': 0.14, '1/1': 0.16}}


def hierarchy_record(objective: str, grammar: int, seed: int = 0, **changes) -> dict:
  record = make_record(objective, seed, dataset='hierarchy', probe_dataset='hierarchy')
  per_step = 3.5e9
  record |= {'alphabet': 8, 'dims': 16, 'classes': 8, 'steps': STEPS[-1],
             'flops_per_step': per_step,
             'note': f'random hierarchy model {grammar}: 16 tokens',
             'settings_of_data': {'grammar_seed': grammar, 'productions': 2},
             'tokens_seen': STEPS[-1] * 32 * 16}  # fmt: skip
  if not record['trained']:
    record |= {'steps': 0, 'tokens_seen': 0}
  if record['code'] != 'none':
    record['truth'] = truth_of(objective, grammar, per_step * STEPS[-1])
    record['bits_per_dim'] = ENTROPY + record['truth']['regret_bits_per_dim']
  rng = np.random.default_rng([grammar, seed, *objective.encode()])
  record['probes'] = probe(rng, 0.85 if record['trained'] else 0.7, seed)
  record['latents'] = latents_of(0.4 + 0.05 * grammar)
  return record | changes


def write_hierarchy_run(top: pathlib.Path, record: dict) -> pathlib.Path:
  grammar = record['settings_of_data']['grammar_seed']
  path = write_run(
    top, record, f'{record["objective"]}-{grammar}-{record["seed"]}-{record["size"]}'
  )
  lines = []
  for step in STEPS:
    flops = step * record['flops_per_step']
    line = {'step': step, 'flops': flops, 'validation/loss': 2.0 - step / 1e4}
    if record.get('truth'):
      factor = 1.0 if record['code'] == 'exact' else FACTOR
      line['validation/regret_bits_per_dim'] = power_law(flops, factor, grammar)
    lines.append(json.dumps(line))
  (path / 'metrics.jsonl').write_text('\n'.join(lines) + '\n')
  return path


def write_hierarchy(top: pathlib.Path, grammars: int = 3, seeds: int = 1) -> pathlib.Path:
  for objective in OBJECTIVES:
    for grammar in range(grammars):
      for seed in range(seeds):
        write_hierarchy_run(top, hierarchy_record(objective, grammar, seed))
  raw = {'raw': probe(np.random.default_rng(0), 0.8)}
  controls = raw | {'raw_latents': {'0/0': 0.3, '1/0': 0.4, '1/1': 0.6}}
  (top / 'controls.json').write_text(json.dumps(controls))
  return top
