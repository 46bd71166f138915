"""Intervals of accuracies that hold test examples beside seeds, as verdicts do.

An interval over seeds alone is about other seeds on these test examples, which are the same for
all of them. Where every run saved what it got right, the interval is about new seeds, new label
draws (each seed has its own) and new test examples (`statistics.crossed_interval`).
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from probes.measures import headline
from reports import predictions, statistics, summary


def cross(entries: Sequence[dict], runs: Sequence[Mapping]) -> None:
  """Widens intervals of summary entries in place, where the predictions of all runs are saved.

  `NAME_ci95_of` then says what a `NAME_ci95` of an accuracy is over: 'seeds and examples' or
  'seeds'. Intervals over grammars, which have test examples of their own, stay as they are.
  """
  pairs = summary.probe_counts(runs)
  for entry in entries:
    if entry['units'] < statistics.SEEDS or len(entry['grammars']) > 1:
      continue
    kind = (entry['objective'], entry['size'])
    members = [r for r in runs if r['selected'] and (r['objective'], r.get('size')) == kind]
    for cell, prefix, probe, labels in _accuracies(entry, pairs):
      if cell.get(f'{prefix}_ci95') is None:
        continue
      crossed = _interval(members, probe, labels)
      cell[f'{prefix}_ci95_of'] = 'seeds' if crossed is None else 'seeds and examples'
      cell[f'{prefix}_ci95'] = crossed or cell[f'{prefix}_ci95']


def _accuracies(
  entry: dict, pairs: Sequence[tuple[str, str]]
) -> Iterator[tuple[dict, str, str, str]]:
  """(where, under which name, probe, labels) of every accuracy of an entry."""
  for probe, labels in pairs:
    yield entry, f'{probe}_{labels}', probe, labels
  for measure in headline():
    if measure.name in entry['measures'] and measure.path[2:] == ('accuracy',):
      yield entry['measures'][measure.name], 'mean', *measure.path[:2]


def _interval(runs: Sequence[Mapping], probe: str, labels: str) -> list[float] | None:
  """The 95 % interval over seeds and test examples; None where not all of it is saved."""
  measured = [run for run in runs if summary.accuracy(run, probe, labels) is not None]
  found = [predictions.right(run, probe, labels) for run in measured]
  if len(found) < statistics.SEEDS or predictions.unpaired(found, found) is not None:
    return None
  return statistics.crossed_interval(np.stack([one.share_N for one in found]))


def of(results: Mapping) -> list[str]:
  """What intervals of accuracies in a report are over: 'seeds and examples', 'seeds' or both."""
  return sorted({over for *_, over in _told(results)})


def over_seeds(results: Mapping) -> list[str]:
  """Where an interval of a report is over seeds alone: 'linear at 10, 40 labels of masked'.

  Rows are named where others of the column hold test examples, too.
  """
  columns: dict[tuple[str, str], dict[str, list[str]]] = {}
  for name, probe, labels, over in _told(results):
    columns.setdefault((probe, labels), {}).setdefault(over, []).append(name)
  counts: dict[tuple[str, str], list[str]] = {}
  for (probe, labels), cells in columns.items():
    if names := cells.get('seeds'):
      rows = f' of {", ".join(dict.fromkeys(names))}' if len(cells) > 1 else ''
      counts.setdefault((probe, rows), []).append(labels)
  return [f'{probe} at {", ".join(labels)} labels{of}' for (probe, of), labels in counts.items()]


def _told(results: Mapping) -> Iterator[tuple[str, str, str, str]]:
  """(row, probe, labels, what its interval is over) of every accuracy that has one."""
  pairs = summary.probe_counts(results['runs'], results['controls'].get('raw'))
  several = len({entry['size'] for entry in results['summary']}) > 1
  for entry in results['summary']:
    name = entry['objective'] + f' {entry["size"]}' * several
    for cell, prefix, probe, labels in _accuracies(entry, pairs):
      if over := cell.get(f'{prefix}_ci95_of'):
        yield name, probe, labels, over
