"""Means, ranges and intervals over replicates."""

import collections
from collections.abc import Callable, Mapping, Sequence
import math
from typing import Any

from probes.measures import at, headline
from reports import choice, statistics
from reports.errors import ReportError

# The one measure on which objectives are compared by a test, declared before any result is seen.
PRIMARY = ('linear', '100')
MINIMUM_SEEDS = statistics.SEEDS
# A bound this close (bits per dimension) to the per-position histogram has learned no context.
NO_CONTEXT_MARGIN = 0.05

Read = Callable[[Mapping], float | None]


# Reading one run.


def probe_counts(runs: Sequence[Mapping], raw: Mapping | None = None) -> list[tuple[str, str]]:
  """(probe, labels) of the primary probe: 'all' first, then by number of labels."""
  pairs = {
    (probe, labels)
    for probes in [*(run.get('probes') or {} for run in runs), raw or {}]
    for probe, counts in probes.items()
    for labels, result in counts.items()
    if probe == PRIMARY[0] and result.get('accuracy') is not None
  }
  return sorted(pairs, key=lambda pair: (pair[0], pair[1] != 'all', len(pair[1]), pair[1]))


def measured_primary(runs: Sequence[Mapping]) -> tuple[str, str] | None:
  """The declared primary probe, or what is nearest to it in these runs; None without probes."""
  pairs = probe_counts(runs)
  return PRIMARY if PRIMARY in pairs else (pairs[0] if pairs else None)


def at_best(run: Mapping) -> Mapping:
  """Bits and probes at the lowest own validation loss: the run itself if that was its last."""
  best_step = (run.get('validation') or {}).get('best_step')
  return run.get('at_best') or (run if best_step == run.get('steps') else {})


def accuracy(run: Mapping, probe: str, labels: str) -> float | None:
  """Test accuracy of one probe of one run, or None."""
  return at(run, ('probes', probe, labels, 'accuracy'))


def primary(run: Mapping) -> float | None:
  """Its test accuracy on the one declared measure."""
  return accuracy(run, *PRIMARY)


def by_level(run: Mapping) -> Mapping:
  """The linear probe at noise levels or mask ratios, {} where it was only probed clean."""
  return at(run, ('probes_by_level', 'linear')) or {}


def no_context(code: str, bits: float | None, histogram: float | None) -> bool | None:
  """Whether a bound says no more than the per-position histogram; None where that means nothing."""
  if code != 'upper_bound' or bits is None or histogram is None:
    return None
  return bits >= histogram - NO_CONTEXT_MARGIN


# The summary.


def summarise(runs: Sequence[Mapping], histogram: float | None = None) -> list[dict]:
  """One entry an objective and size over its selected runs: mean, min, max, interval from 5."""
  groups = collections.defaultdict(list)
  rates, clips = collections.defaultdict(set), collections.defaultdict(set)
  for run in runs:
    kind = (run['objective'], run.get('size'))
    rates[kind] |= {run.get('learning_rate'), *(run.get('learning_rate_grid') or ())} - {None}
    clips[kind] |= {run.get('clip_norm'), *(run.get('clip_norm_grid') or ())} - {None}
    if run['selected']:
      groups[kind].append(run)
  pairs = probe_counts(runs)
  return [
    _entry(members, rates[kind], clips[kind], pairs, histogram) for kind, members in groups.items()
  ]


def _entry(
  members: Sequence[Mapping],
  rates: set,
  clips: set,
  pairs: Sequence[tuple[str, str]],
  histogram: float | None,
) -> dict:
  first = members[0]
  tuned = bool(first.get('trained', True)) and len(rates) > 1
  clip_tuned = bool(first.get('trained', True)) and len(clips) > 1
  entry = {'objective': first['objective'], 'seeds': len({run['seed'] for run in members})}
  entry |= {'size': first.get('size'), 'replicates': len(members), 'units': len(units(members))}
  entry |= {name: first.get(name) for name in ('code', 'trained', 'causal', 'saw_labels')}
  entry |= {'seed_values': sorted({run['seed'] for run in members})}
  entry |= {'grammars': _grammars(members), 'tuned': tuned}
  entry |= {'learning_rate': first.get('learning_rate'), 'pilots_of': first.get('pilots_of')}
  entry |= {'learning_rate_grid': sorted(rates) if tuned else None}
  entry |= {'clip_norm_grid': sorted(clips) if clip_tuned else None}
  entry |= _bits(members, histogram)
  entry |= _spread('token_accuracy', members, ('token_accuracy',))
  entry['token_accuracy_of'] = first.get('token_accuracy_of')
  for key in ('bits', 'histogram_bits'):
    values = [at(run, ('masked_cross_entropy', key)) for run in members]
    entry[f'masked_cross_entropy_{key}'] = _mean(values)
  for probe, labels in pairs:
    entry |= _spread(f'{probe}_{labels}', members, ('probes', probe, labels, 'accuracy'))
  entry['measures'] = _measures(members)
  best = [by_level(run).get('best') or {} for run in members]
  entry |= _spread('linear_best_level', members, ('probes_by_level', 'linear', 'best', 'accuracy'))
  entry['linear_best_levels'] = [found.get('level') for found in best if found]
  names = dict.fromkeys(name for run in members for name in run.get('terms') or {})
  entry['terms'] = {
    name: _mean(list(units(members, lambda run, name=name: at(run, ('terms', name))).values()))
    for name in names
  }
  entry['single_epoch'] = _single_epoch(members)
  entry['also'] = _also(members, histogram)
  entry['wrong'] = sum(bool(run['errors']) for run in members)
  return entry | _truth(members) | _latents(members)


_SINGLE_EPOCH = (
  ('bits_per_dim', 'reached', 'structure_bits', 'noise_bits')
  + ('steps', 'examples', 'share')
)  # fmt: skip


def _single_epoch(members: Sequence[Mapping]) -> dict | None:
  """Means over the runs that have such a code; None where none has."""
  found = [run['single_epoch'] for run in members if at(run, ('single_epoch', 'bits_per_dim'))]
  if not found:
    return None
  return {name: _mean([cell.get(name) for cell in found]) for name in _SINGLE_EPOCH}


def _bits(members: Sequence[Mapping], histogram: float | None) -> dict:
  """What one code costs, and whether any of its runs learned no context."""
  bits = [run.get('bits_per_dim') for run in members]
  flags = [no_context(members[0].get('code'), value, histogram) for value in bits]
  return _spread('bits_per_dim', members, ('bits_per_dim',), 'bits') | {
    'bits_stderr': _mean([run.get('bits_per_dim_stderr') for run in members]),
    'evaluation_draws': members[0].get('evaluation_draws'),
    'no_context_learned': None if None in flags else any(flags),
  }


def _measures(members: Sequence[Mapping]) -> dict[str, dict]:
  """Every other headline number of the probes, by its name, as a summary entry has its bits."""
  made = {}
  for measure in headline():
    found = _spread('mean', members, ('probes', *measure.path))
    if found['mean'] is None:
      continue
    for name in ('stderr', 'spread'):
      if path := getattr(measure, name):
        found[name] = _mean([at(run.get('probes'), path) for run in members])
    if path := measure.labels:
      found['labels'] = sorted({at(run.get('probes'), path) for run in members} - {None})
    found['beside'] = [
      _mean([at(run.get('probes'), path) for run in members]) for path in measure.beside
    ]
    if measure.flag:
      found['flagged'] = sum(bool(at(run.get('probes'), measure.flag)) for run in members)
    rows = [at(run.get('probes'), measure.layers) for run in members] if measure.layers else []
    found['by_layer'] = _mean_of_rows([row for row in rows if row])
    made[measure.name] = found | {'replicates': len(members)}
  return made


def _grammars(runs: Sequence[Mapping]) -> list:
  found = {choice.grammar_of(run) for run in runs} - {None}
  return sorted(found, key=lambda grammar: (str(type(grammar)), grammar))


def _also(members: Sequence[Mapping], histogram: float | None) -> dict[str, dict]:
  """The same weights under other codes, by the code's name, as a summary entry has its bits."""
  made: dict[str, dict] = {}
  kept = ('objective', 'seed', 'settings_of_data')
  for name in dict.fromkeys(name for run in members for name in run.get('also') or {}):
    scored = [
      {key: run.get(key) for key in kept} | run['also'][name]
      for run in members
      if name in (run.get('also') or {})
    ]
    codes = sorted({str(run.get('code')) for run in scored})
    if len(codes) > 1:
      raise ReportError(
        f'{scored[0]["objective"]} scored by {name} is {codes[0]} and {codes[1]}: not one number'
      )
    made[name] = {'code': codes[0], 'replicates': len(members), 'units': len(units(scored))}
    # The histogram's bits are of all test examples.
    some = next((run['examples'] for run in scored if run.get('examples')), None)
    made[name] |= _bits(scored, None if some else histogram) | _truth(scored) | {'examples': some}
  return made


def _truth(members: Sequence[Mapping]) -> dict:
  """Regret over replicates, all None where the source's law is unknown."""
  truths = [run.get('truth') or {} for run in members]
  kinds = {truth.get('kind') for truth in truths} - {None}
  if len(kinds) > 1:
    raise ReportError(f'{members[0]["objective"]} has exact regrets and bounds: not one number')
  entry = {'regret_kind': next(iter(kinds), None)}
  entry |= _spread('regret', members, ('truth', 'regret_bits_per_dim'))
  for name, key in (('regret_stderr', 'regret_stderr'), ('regret_slack', 'slack'),
                    ('entropy_bits_per_dim', 'entropy_bits_per_dim'),
                    ('grammatical_samples', 'grammatical_samples'),
                    ('expected_overlap', 'expected_overlap')):  # fmt: skip
    entry[name] = _mean([truth.get(key) for truth in truths])
  by_k = units(members, lambda run: (run.get('truth') or {}).get('by_k') or None)
  entry['regret_by_k'] = _mean_of_rows(list(by_k.values()))
  return entry


def _latents(members: Sequence[Mapping]) -> dict:
  """Latent probes by level: mean over the level's nodes, then over replicates, one a layer."""
  levels: dict[str, list[list[float]]] = collections.defaultdict(list)
  chances: dict[str, list[float]] = collections.defaultdict(list)
  for run in members:
    latents = run.get('latents') or {}
    for level, nodes in _by_level_of_tree(latents.get('linear') or {}).items():
      levels[level].append(_mean_of_rows(nodes))
    for level, values in _by_level_of_tree(latents.get('chance') or {}).items():
      chances[level].append(_mean(values))
  return {
    'latents': {level: _mean_of_rows(rows) for level, rows in levels.items()},
    'latents_chance': {level: _mean(values) for level, values in chances.items()},
  }


def _by_level_of_tree(nodes: Mapping) -> dict[str, list]:
  """{'1/0': a, '1/1': b} -> {'1': [a, b]}, levels in order."""
  levels = collections.defaultdict(list)
  for name in sorted(nodes, key=lambda name: int(name.split('/')[0])):
    levels[name.split('/')[0]].append(nodes[name])
  return dict(levels)


def level_means(nodes: Mapping[str, float]) -> dict[str, float | None]:
  """{'1/0': .2, '1/1': .4} -> {'1': .3}."""
  return {level: _mean(values) for level, values in _by_level_of_tree(nodes).items()}


def _mean(values: Sequence[float | None]) -> float | None:
  values = [value for value in values if value is not None]
  return math.fsum(values) / len(values) if values else None


def _mean_of_rows(rows: Sequence[Sequence[float | None]]) -> list[float | None] | None:
  """Elementwise mean; rows of another length than the first belong to another network."""
  rows = [row for row in rows if len(row) == len(rows[0])]
  return [_mean(column) for column in zip(*rows, strict=True)] if rows else None


def units(
  runs: Sequence[Mapping],
  read: Callable[[Mapping], Any] = lambda run: 0.0,
  by_grammar: bool | None = None,
) -> dict:
  """Values that are independent of each other: one a grammar where there are several, else one
  a seed; what shares a grammar is averaged first.

  Args:
    read: a number of a run, or a list of them; None where it has none.
    by_grammar: whether the units are grammars; default: where `runs` have several.
  """
  several = by_grammar
  if several is None:
    several = len({choice.grammar_of(run) for run in runs}) > 1
  groups = collections.defaultdict(list)
  for run in runs:
    value = read(run)
    if value is not None:
      groups[choice.grammar_of(run) if several else run['seed']].append(value)
  return {
    unit: _mean_of_rows(values) if isinstance(values[0], list) else _mean(values)
    for unit, values in groups.items()
  }


def _spread(
  name: str, runs: Sequence[Mapping], path: Sequence[str], prefix: str | None = None
) -> dict:
  """Mean, range, interval and count of what is at a path; `prefix` names all but the mean.

  Mean and interval are of the same units: a grammar with more seeds weighs no more than another.
  """
  prefix = prefix or name
  values = [value for run in runs if (value := at(run, path)) is not None]
  independent = list(units(runs, lambda run: at(run, path)).values())
  found = statistics.interval(independent) if independent else {}
  between = None if found.get('low') is None else [found['low'], found['high']]
  return {name: _mean(independent), f'{prefix}_min': min(values, default=None),
          f'{prefix}_max': max(values, default=None), f'{prefix}_ci95': between,
          f'{prefix}_count': len(values)}  # fmt: skip
