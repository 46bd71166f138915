"""The report as one self-contained HTML page: no scripts, no requests, opens from disk.

What it says is in templates/, which see the content of results.json under its own names; here is
what they need beside it.
"""

import base64
from collections.abc import Iterator, Mapping, Sequence
import pathlib
from typing import Any

import jinja2

from probes.measures import Measure, at, headline
from reports import (
  choice,
  compute,
  fairness,
  label_text,
  numbers,
  pairs,
  planned,
  predictions,
  styles,
  summary,
  wording,
)
from reports.captions import CAPTIONS
from reports.comparison_files import RAW_CONTROLS

_CONTROL_NAMES = {'pca': 'PCA of raw', 'random_relu': 'random ReLU of raw'}
_MANY = 8  # grammars up to which each has a column of regret


def render(results: Mapping, pictures: Mapping[str, bytes]) -> str:
  """The whole page.

  Args:
    results: the content of results.json.
    pictures: PNG bytes by the names of `reports.pictures.PICTURES`.
  """
  environment = jinja2.Environment(
    loader=jinja2.FileSystemLoader(pathlib.Path(__file__).parent / 'templates'),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
  )
  environment.globals |= {'wording': wording, 'numbers': numbers, 'label_text': label_text}
  environment.globals |= {'limits': summary, 'planned': planned, 'pairs': pairs}
  environment.globals['spent'] = compute  # `compute` is what results.json has
  environment.globals['m'] = environment.get_template('macros.html').module
  looks = styles.styles(results)
  entries = [{**entry, 'look': looks[styles.kind_of(entry)]} for entry in results['summary']]
  return environment.get_template('page.html').render({
    **results,
    'results': results,
    'summary': entries,
    'primary_name': predictions.PRIMARY.name,
    **_columns(results),
    'raw_controls': [_control_name(results, name) for name in _measured_controls(results)],
    'measures': _measures(results),
    **_regrets(results, entries),
    'theory_gaps': _gaps(results['theory']),
    'terms': list(dict.fromkeys(name for entry in entries for name in entry['terms'])),
    'fairness': fairness.rows(results),
    **fairness.sameness(results),
    'pictures': _pictures(pictures),
  })  # fmt: skip


def _columns(results: Mapping) -> dict[str, Any]:
  """Which columns the result table has, and what it counts."""
  entries = results['summary']
  return {
    'unit': wording.unit_word(results),
    'codes': {entry['code'] for entry in entries},
    'grammars': list(dict.fromkeys(g for entry in entries for g in entry['grammars'])),
    'seeds': list(dict.fromkeys(seed for entry in entries for seed in entry['seed_values'])),
    'probed': summary.probe_counts(results['runs'], results['controls'].get('raw')),
    'also': any(entry['also'] for entry in entries),
    'levels': any(entry['linear_best_levels'] for entry in entries),
    'tokens': any(entry['token_accuracy'] is not None for entry in entries),
  }


def _pictures(pictures: Mapping[str, bytes]) -> Iterator[dict[str, Any]]:
  for name, png in pictures.items():
    title, caption = CAPTIONS[name]
    # A PNG names its width in bytes 16 to 20.
    width = round(int.from_bytes(png[16:20]) * 96 / styles.DPI)
    content = base64.b64encode(png).decode('ascii')
    yield {'title': title, 'caption': caption, 'width': width, 'content': content}


# Every probe.


def _measured_controls(results: Mapping) -> list[str]:
  return [name for name in RAW_CONTROLS if results['controls'].get(name)]


def _control_name(results: Mapping, name: str) -> str:
  return wording.raw_text(results) if name == 'raw' else _CONTROL_NAMES[name]


def _measures(results: Mapping) -> list[tuple[Measure, list[dict[str, str]]]]:
  """Every measure that was taken, with a cell an objective and control."""
  entries = [entry['measures'] for entry in results['summary']]
  controls = [results['controls'][name] for name in _measured_controls(results)]
  return [
    (
      measure,
      [_mean_cell(entry.get(measure.name), measure) for entry in entries]
      + [_control_cell(probes, measure) for probes in controls],
    )
    for measure in headline()
    if any(measure.name in entry for entry in entries)
  ]


def _mean_cell(found: Mapping | None, measure: Measure) -> dict[str, str]:
  """The mean over runs, and under it its spread, error, a flag and what stands beside."""
  cell = dict.fromkeys(('spread', 'error', 'flag', 'beside', 'of'), '')
  if found is None:
    return cell | {'text': '–'}
  text, cell['error'], decimals = numbers.measure_texts(
    measure, found['mean'], found.get('stderr'), found.get('spread')
  )
  if flagged := found.get('flagged'):
    in_all = flagged == found['replicates']
    cell['flag'] = numbers.flag_name(measure) + ('' if in_all else f' in {flagged}')
  scale = numbers.UNITS[measure.unit][0]
  cell['spread'] = numbers.spread_text(found, 'mean', 'mean', scale, decimals)
  cell['beside'] = numbers.beside_text(measure, found['beside'])
  cell['of'] = numbers.of_labels_text(measure, found.get('labels') or ())
  return cell | {'text': text}


def _control_cell(probes: Mapping, measure: Measure) -> dict[str, str]:
  value = at(probes, measure.path)
  if value is None:
    return _mean_cell(None, measure)
  found = {
    name: at(probes, path) for name in ('stderr', 'spread') if (path := getattr(measure, name))
  }
  if measure.labels and (count := at(probes, measure.labels)) is not None:
    found['labels'] = [count]
  beside = [at(probes, path) for path in measure.beside]
  found |= {'mean': value, 'replicates': 1, 'beside': beside}
  return _mean_cell(found, measure) | {'flag': numbers.flag_text(measure, probes)}


# Regret.


def _regrets(results: Mapping, entries: Sequence[Mapping]) -> dict[str, Any]:
  """Every regret, own or by another code, and those columns that have something in them."""
  groups, parts = styles.grouped(results), []
  for entry in entries:
    runs = groups[styles.kind_of(entry)]
    for name, part in {None: entry, **entry['also']}.items():
      if part['regret'] is not None:
        label = entry['look'].label
        label += f', {numbers.also_text(name, part)}' if name else ''
        by_grammar = {grammar: _of_grammar(runs, grammar, name) for grammar in entry['grammars']}
        parts.append({**part, 'label': label, 'wrong': entry['wrong'], 'by_grammar': by_grammar})
  grammars = list(dict.fromkeys(g for part in parts for g in part['by_grammar']))
  shown = grammars if 1 < len(grammars) <= _MANY else []
  columns = (
    ('of it slack', 'regret_slack', '{:.4f}'.format),
    ('samples that\nthe source allows', 'grammatical_samples', lambda x: f'{100 * x:.1f} %'),
    ('test strings\nseen in training', 'expected_overlap', lambda x: f'{100 * x:.1f} %'),
  )
  return {
    'regrets': parts,
    'regret_grammars': [g for g in shown if any(p['by_grammar'].get(g) is not None for p in parts)],
    'regret_columns': [c for c in columns if any(part[c[1]] is not None for part in parts)],
  }


def _of_grammar(runs: Sequence[Mapping], grammar: Any, name: str | None) -> float | None:
  """Mean regret of one grammar, of the runs' own code or of the other code `name`."""
  own = [run for run in runs if choice.grammar_of(run) == grammar]
  values = [
    at(run if name is None else at(run, ('also', name)), ('truth', 'regret_bits_per_dim'))
    for run in own
  ]
  values = [value for value in values if value is not None]
  return sum(values) / len(values) if values else None


def _gaps(theory: Sequence[Mapping]) -> dict[str, list[str]]:
  """Why correlations are n/a -> which."""
  gaps: dict[str, list[str]] = {}
  for entry in theory:
    for kind in ('between', 'within'):
      if reason := entry[kind]['reason']:
        names = gaps.setdefault(f'n/a {kind} runs: {reason}', [])
        names.append(f'{entry["objective"]}, {entry["learner"]}')
  return gaps
