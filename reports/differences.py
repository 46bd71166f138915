"""What may be said of differences between objectives: verdicts, and who can't be told apart.

One measure is tested, `summary.PRIMARY`, declared before any result is seen. The family of tests
is all pairs of trained objectives, under Holm's correction. A comparison with a control answers
another question (whether anything was learned) and stands apart, with its own interval and no
correction: in one family the controls would take the power from the pairs that matter. The same
for attentive pooling and for bits by exact codes stands beside it, each in a family of its own.
"""

import collections
from collections.abc import Iterable, Iterator, Mapping, Sequence
import itertools

import numpy as np

from reports import choice, predictions, statistics, summary
from reports.predictions import PRIMARY, Tested

LEVEL = 0.05  # family-wise error rate of the verdicts
_PAIR = ('difference', 'half_width', 'p', 'p_holm')
Runs = Sequence[Mapping]


def verdicts(runs: Runs, measure: Tested = PRIMARY, withheld: str | None = None) -> list[dict]:
  """A verdict for every pair of trained objectives, and a comparison of each with every control.

  Only objectives of one size are compared, and none that saw labels in training. `withheld` says
  why nothing is to be tested yet.

  Returns:
    One dict a pair, those of trained objectives first: size; control (whether `second` is one);
    first, second; seeds (how many they have in common: of these alone is all that follows), unit
    (what that counts: 'seeds', or 'grammars' where there are several); means (of either), alone
    (whether the table has other seeds too); difference (first - second, a fraction or bits),
    half_width of its 95 % interval, p, p_holm (None for a control); reason, why there is no test,
    all of the numbers but `seeds` then being None; shared (whether the seeds had training labels
    in common); examples, how many test examples it is of where that is not all; verdict, the
    sentence.
  """
  several = len({choice.grammar_of(run) for run in _comparable(runs)}) > 1
  made, known = [], {}
  for (size, first, second), control in _pairs(runs):
    sides = [_runs_of(runs, size, name) for name in (first, second)]
    pair = {'size': size, 'control': control, 'first': first, 'second': second}
    if withheld is not None:
      found = _common(sides, measure, 'grammars' if several else 'seeds')[1] | {'reason': withheld}
    else:
      found = _over_grammars(sides, measure) if several else _over_seeds(sides, measure, known)
    made.append(pair | found)
  family = [pair for pair in made if pair['p'] is not None and not pair['control']]
  for pair, adjusted in zip(family, statistics.holm([p['p'] for p in family]), strict=True):
    pair['p_holm'] = float(adjusted)
  return [pair | {'verdict': _sentence(pair, measure)} for pair in made]


def beside(runs: Runs, withheld: str | None = None) -> list[dict]:
  """{'measure' (its name), 'verdicts'} on every measure beside the primary one of which there are
  seeds enough: of its pairs in which both sides have it, tested or not."""
  made = []
  for measure in predictions.BESIDE:
    having = [run for run in runs if measure.read(run) is not None]
    found = verdicts(having, measure, withheld)
    if withheld is None and any(pair['seeds'] >= statistics.SEEDS for pair in found):
      made.append({'measure': measure.name, 'verdicts': found})
  return made


def no_verdicts(runs: Runs, made: Sequence[Mapping]) -> str | None:
  """Why there is no verdict at all; None where there is one."""
  if any(pair['p'] is not None for pair in made):
    return None
  if all(run.get('classes') is None for run in runs):
    return 'there are no labels to probe'
  if all(summary.primary(run) is None for run in runs):
    return f'no run has the primary measure, {PRIMARY.name}'
  trained = [pair['reason'] for pair in made if not pair['control']]
  if not trained:
    return 'there are no two trained objectives of one size that saw no labels'
  return '; '.join(dict.fromkeys(trained))


def shared_labels(made: Iterable[Mapping]) -> str | None:
  """A line where the seeds that verdicts are of had training labels in common."""
  if any(pair.get('shared') for pair in made):
    return (
      f'the training set is too small for disjoint subsets of {summary.PRIMARY[1]} labels in every '
      'seed: what the seeds share of them is in no interval'
    )
  return None


def _name(measure: tuple[str, str]) -> str:
  return f'the {measure[0]} probe at {"all" if measure[1] == "all" else measure[1]} labels'


def _comparable(runs: Runs) -> list[Mapping]:
  return [run for run in runs if run['selected'] and not run.get('saw_labels')]


def _pairs(runs: Runs) -> Iterator[tuple[tuple, bool]]:
  """((size, first, second), whether the second is a control), pairs of trained ones first."""
  sizes = collections.defaultdict(lambda: ({}, {}))
  for run in _comparable(runs):
    sizes[run.get('size')][0 if run.get('trained', True) else 1][run['objective']] = None
  for size, (trained, _) in sizes.items():
    for first, second in itertools.combinations(trained, 2):
      yield (size, first, second), False
  for size, (trained, controls) in sizes.items():
    for first, second in itertools.product(trained, controls):
      yield (size, first, second), True


def _runs_of(runs: Runs, size: str | None, objective: str) -> list[Mapping]:
  return [
    run for run in _comparable(runs) if (run.get('size'), run['objective']) == (size, objective)
  ]


def _common(sides: Sequence[Runs], measure: Tested, unit: str) -> tuple[list[list[Mapping]], dict]:
  """The runs of replicates that both sides have measured, paired, and what is said of any pair."""
  having = [{choice.replicate(run): run for run in side} for side in sides]
  measured = [
    {kind: run for kind, run in has.items() if measure.read(run) is not None} for has in having
  ]
  common = sorted(set(measured[0]) & set(measured[1]), key=choice.replicate_order)
  pair = dict.fromkeys((*_PAIR, 'means', 'reason', 'shared', 'examples')) | {'unit': unit}
  pair['alone'] = any(len(has) > len(common) for has in measured)
  place = 0 if unit == 'grammars' else 1
  counts = [
    len({kind[place] for kind in kinds}) for kinds in (common, set(having[0]) & set(having[1]))
  ]
  pair['seeds'] = counts[0]
  lacking = [side[0]['objective'] for side, has in zip(sides, measured, strict=True) if not has]
  if lacking:
    pair['reason'] = f'{" and ".join(lacking)} without {measure.name}'
  elif counts[0] < statistics.SEEDS:
    without = counts[1] >= statistics.SEEDS
    pair['reason'] = f'fewer than {statistics.SEEDS} {unit} in common'
    pair['reason'] += f' that have {measure.name}' if without else ''
  return [[has[kind] for kind in common] for has in measured], pair


def _over_grammars(sides: Sequence[Runs], measure: Tested) -> dict:
  """Grammars are the units, each with labels and test examples of its own."""
  runs, pair = _common(sides, measure, 'grammars')
  if pair['reason'] is None and any(measure.some(run) for run in itertools.chain(*runs)):
    pair['reason'] = f'{measure.name} are known of some test examples only'
  if pair['reason']:
    return pair
  values = [summary.units(side, measure.read, True) for side in runs]
  first, second = ([side[unit] for unit in values[0]] for side in values)
  pair['means'] = [float(np.mean(first)), float(np.mean(second))]
  return pair | _numbers(statistics.paired_t(first, second, 1 - LEVEL))


def _over_seeds(sides: Sequence[Runs], measure: Tested, known: dict) -> dict:
  """Seeds are crossed with test examples; `known` keeps what a run got right for other pairs."""
  runs, pair = _common(sides, measure, 'seeds')
  if pair['reason']:
    return pair
  for run in itertools.chain(*runs):
    if run['workdir'] not in known:
      known[run['workdir']] = measure.each(run)
  first, second = predictions.of_common([[known[run['workdir']] for run in s] for s in runs])
  reason = predictions.unpaired(first, second)
  if reason is not None:
    return pair | {'reason': reason}
  a_SxN, b_SxN = (np.stack([one.share_N for one in side]) for side in (first, second))
  pair['means'] = [float(a_SxN.mean()), float(b_SxN.mean())]
  pair['examples'] = a_SxN.shape[1] if first[0].some or second[0].some else None
  pair['shared'] = predictions.share_labels(first)
  return pair | _numbers(statistics.crossed_t(a_SxN - b_SxN, 1 - LEVEL))


def _numbers(test: Mapping) -> dict:
  numbers = {name: test[name] for name in ('difference', 'half_width', 'p')}
  if test['p'] is None:
    numbers['reason'] = 'their difference is the same every time, so nothing says how it varies'
  return numbers


def _sentence(pair: Mapping, measure: Tested) -> str:
  """'A > B by 3.1 ± 1.2 points, 5 seeds'; of codes 'A longer than B by …'."""
  names, count = (pair['first'], pair['second']), f'{pair["seeds"]} {pair["unit"]}'
  if pair['p'] is None:
    return f'{names[0]} and {names[1]}: not tested: {pair["reason"]}'
  size, half = measure.scale * pair['difference'], measure.scale * pair['half_width']
  digits = measure.digits
  text = f'{size:+.{digits}f} ± {half:.{digits}f} {measure.unit}, {count}'
  text += f', {pair["examples"]:,} test examples' if pair['examples'] else ''
  if pair['alone'] or pair['examples']:
    means = (f'{measure.scale * mean:.{digits}f}' for mean in pair['means'])
    text += f' (means of these: {" and ".join(means)}; the table has all that there are)'
  if pair['control']:
    return f'{names[0]} minus {names[1]} (control): {text}'
  if pair['p_holm'] > LEVEL:
    return f'{names[0]} and {names[1]}: not distinguishable, {text}'
  more, less = names if size > 0 else names[::-1]
  return f'{more} {measure.more} {less} by {text.lstrip("+-")}'


# Who can't be told apart.


def indistinct(runs: Runs, made: Sequence[Mapping]) -> list[dict]:
  """Trained objectives that can't be told apart, and those that nobody tried to tell apart.

  On the primary measure a verdict decides. A pair without one, and any pair on bits, is listed if
  its ranges over replicates overlap or if there is but one run of each, and is said to be untested.

  Returns:
    {'measure', 'size', 'objectives', 'pairs', 'replicates', 'tested', 'reason'} for every measure,
    size and reason that has such pairs; `objectives` are all that were compared, `replicates` the
    fewest of any, `tested` whether verdicts decided, `reason` why none did (None where one did).
  """
  trained = [run for run in runs if run.get('trained', True)]
  measures: list[tuple[str, summary.Read, list]] = []
  pair = summary.measured_primary(runs)
  if pair is not None:
    measures.append((_name(pair), lambda run: summary.accuracy(run, *pair), trained))
  for code, words in (('exact', 'exact bits'), ('upper_bound', 'bounds on bits')):
    group = [run for run in trained if run['code'] == code]
    measures.append((words, lambda run: run['bits_per_dim'], group))
  found = []
  for place, (name, read, group) in enumerate(measures):
    primary = place == 0 and pair == summary.PRIMARY
    for size, objectives in _compared(group, read).items():
      reasons = collections.defaultdict(list)
      for a, b in itertools.combinations(objectives, 2):
        verdict = _verdict_of(made, size, a, b) if primary else None
        if verdict is not None and verdict['p'] is not None:
          if verdict['p_holm'] > LEVEL:
            reasons[None].append([a, b])
        elif _alike(objectives[a], objectives[b], read):
          reasons[_untested(verdict)].append([a, b])
      fewest = min(map(len, objectives.values()))
      found += [
        {'measure': name, 'size': size, 'objectives': list(objectives), 'pairs': pairs,
         'replicates': fewest, 'tested': reason is None, 'reason': reason}
        for reason, pairs in reasons.items()
      ]  # fmt: skip
  return found


def _untested(verdict: Mapping | None) -> str:
  if verdict is None:
    return f'only {PRIMARY.name} is, declared beforehand'
  return verdict['reason']


def _compared(runs: Runs, read: summary.Read) -> dict:
  """Selected runs that saw no labels and hold the measure, by size and objective."""
  sizes = collections.defaultdict(lambda: collections.defaultdict(list))
  for run in _comparable(runs):
    if read(run) is not None:
      sizes[run.get('size')][run['objective']].append(run)
  return sizes


def _verdict_of(made: Sequence[Mapping], size: str | None, a: str, b: str) -> Mapping | None:
  return next((p for p in made if p['size'] == size and {p['first'], p['second']} == {a, b}), None)


def _alike(a: Runs, b: Runs, read: summary.Read) -> bool:
  first, second = [read(run) for run in a], [read(run) for run in b]
  overlap = max(min(first), min(second)) <= min(max(first), max(second))
  return overlap or min(len(a), len(b)) < 2
