"""What may be said of differences between objectives: verdicts, and who can't be told apart."""

import collections
from collections.abc import Mapping, Sequence
import itertools

from reports import choice, statistics, summary

_LEVEL = 0.05  # family-wise error rate of the verdicts


def verdicts(runs: Sequence[Mapping]) -> list[dict]:
  """Paired verdicts on the primary measure between all objectives that saw no labels.

  Holm's correction is over the pairs of one size; sizes are not compared with each other. Several
  grammars are the pairs' units, over the seeds that every objective has of a grammar.

  Returns:
    The entries of `reports.statistics.verdicts` with their size; none if no pair has the seeds.
  """
  made = []
  for size, objectives in _compared(runs, summary.primary).items():
    members = [run for group in objectives.values() for run in group]
    several = len({choice.grammar_of(run) for run in members}) > 1
    if several:
      objectives = _balanced(objectives)
    values = {
      name: summary.units(group, summary.primary) if several
      else {run['seed']: summary.primary(run) for run in group}
      for name, group in objectives.items()
    }  # fmt: skip
    for pair in statistics.verdicts(values):
      if several:
        pair['verdict'] = pair['verdict'].replace(' seeds', ' grammars')
      made.append({'size': size, **pair})
  return made if any(pair['p'] is not None for pair in made) else []


def _compared(runs: Sequence[Mapping], read: summary.Read) -> dict:
  """Selected runs that saw no labels and hold the measure, by size and objective."""
  sizes = collections.defaultdict(lambda: collections.defaultdict(list))
  for run in runs:
    if run['selected'] and not run.get('saw_labels') and read(run) is not None:
      sizes[run.get('size')][run['objective']].append(run)
  return sizes


def _balanced(objectives: Mapping[str, Sequence[Mapping]]) -> dict[str, list[Mapping]]:
  """Keeps, of each grammar, the seeds that every objective with that grammar has."""
  having = collections.defaultdict(list)
  for group in objectives.values():
    by_grammar = collections.defaultdict(set)
    for run in group:
      by_grammar[choice.grammar_of(run)].add(run['seed'])
    for grammar, seeds in by_grammar.items():
      having[grammar].append(seeds)
  common = {grammar: set.intersection(*sets) for grammar, sets in having.items()}
  return {
    name: [run for run in group if run['seed'] in common[choice.grammar_of(run)]]
    for name, group in objectives.items()
  }


def indistinct(runs: Sequence[Mapping], made: Sequence[Mapping]) -> list[dict]:
  """Trained objectives that can't be told apart, on the primary probe and on bits of one code.

  Where a verdict was possible it decides; otherwise a pair can't be told apart if their ranges over
  replicates overlap, or if there is but one run of each.

  Returns:
    {'measure', 'size', 'objectives', 'pairs', 'replicates', 'tested'} for every measure and size
    that has such pairs; `objectives` are all that were compared, `replicates` the fewest of any,
    `tested` whether verdicts decided.
  """
  trained = [run for run in runs if run.get('trained', True)]
  measures: list[tuple[str, summary.Read, list]] = []
  if (pair := summary.measured_primary(runs)) is not None:
    labels = 'all labels' if pair[1] == 'all' else f'{pair[1]} labels'
    name = f'the {pair[0]} probe at {labels}'
    measures.append((name, lambda run: summary.accuracy(run, *pair), trained))
  for code, words in (('exact', 'exact bits'), ('upper_bound', 'bounds on bits')):
    group = [run for run in trained if run['code'] == code]
    measures.append((words, lambda run: run['bits_per_dim'], group))
  found = []
  for place, (name, read, group) in enumerate(measures):
    tested = made if place == 0 and pair == summary.PRIMARY else []
    for size, objectives in _compared(group, read).items():
      pairs = [
        [a, b]
        for a, b in itertools.combinations(objectives, 2)
        if _alike(objectives[a], objectives[b], read, _tested(tested, size, a, b))
      ]
      fewest = min(map(len, objectives.values()))
      if pairs:
        found.append({'measure': name, 'size': size, 'objectives': list(objectives),
                      'pairs': pairs, 'replicates': fewest, 'tested': bool(tested)})  # fmt: skip
  return found


def _tested(made: Sequence[Mapping], size: str | None, a: str, b: str) -> float | None:
  for pair in made:
    if pair['size'] == size and {pair['first'], pair['second']} == {a, b}:
      return pair['p_holm']
  return None


def _alike(a: Sequence[Mapping], b: Sequence[Mapping], read: summary.Read, p: float | None) -> bool:
  if p is not None:
    return p > _LEVEL
  first, second = [read(run) for run in a], [read(run) for run in b]
  overlap = max(min(first), min(second)) <= min(max(first), max(second))
  return overlap or min(len(a), len(b)) < 2
