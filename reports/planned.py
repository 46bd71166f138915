"""Whether all is done that a comparison said it would do, before its first result.

plan.json of a comparison holds its plans in the order in which they were written: rows (objective,
size, updates), replicates (grammar or None, seed), and the grids that rates and clip norms are
chosen from. A plan is all rows with all replicates, at what pilots chose where it has pilots. Until
every run of every plan is finished, or failed of itself (who was killed goes on), a report is
preliminary and has no verdict; what only a later plan has is said.
"""

from collections.abc import Iterator, Mapping, Sequence
import itertools
from typing import Any, NamedTuple

from reports import choice, comparison_files, finding, summary
from reports.comparison_files import PLANNED

_NOT_CHOSEN = ('to be chosen',) * 2  # No run is at it.


class Key(NamedTuple):
  """What one run is; where nothing is trained, no steps, and rate and clip norm are None."""

  objective: str
  size: str | None
  grammar: Any
  seed: int
  steps: int
  rate: float | str | None
  clip: float | str | None
  comparison: int | None  # `apart.tell`

  @property
  def replicate(self) -> tuple[Any, int]:
    return self.grammar, self.seed

  @property
  def row(self) -> tuple:
    return self.objective, self.size, self.comparison


def state(found: finding.Found) -> dict[str, Any] | None:
  """How far the plans of all directories are; None where there is none.

  Returns:
    plans (each once, the earliest first); rows, runs (counts of what is planned); done, failed
    (runs); replicates, whole (planned ones, and those of which every run is finished or failed);
    groups ({'rows', 'replicates', 'whole'} of the rows that have the same replicates, the largest
    first); unit ('seeds' or 'grammars and seeds'); complete; unchosen (objectives for which there
    is no choice of pilots); added: {'replicates', 'rows', 'tunings' (how many more),
    'results_before', 'written'} of every later plan that has more of any.
  """
  plans = _plans(found.plans)
  if not plans:
    return None
  keys = list(dict.fromkeys(key for one in plans for key in _keys(one)))
  done = set(keys).intersection(map(_of_record, found.runs))
  failed = set(keys).intersection(itertools.chain(*map(_of_config, found.failed))) - done
  open_ = [key for key in keys if key not in done | failed]
  replicates = {key.replicate for key in keys}
  of_row: dict[tuple, set] = {}
  for key in keys:
    of_row.setdefault(key.row, set()).add(key.replicate)
  groups: dict[frozenset, set] = {}
  for row, own in of_row.items():
    groups.setdefault(frozenset(own), set()).add(row)
  added = []
  known: dict[int | None, dict[str, frozenset]] = {}
  for one in plans:
    own, of = _parts(one), one.get('comparison')
    more = {name: part - known[of][name] for name, part in own.items()} if of in known else {}
    if any(more.values()):
      told = {name: one[name] for name in ('results_before', 'written')}
      added.append({name: len(part) for name, part in more.items()} | told)
    known[of] = {name: part | known.get(of, own)[name] for name, part in own.items()}
  return {
    'plans': plans, 'rows': len(of_row), 'runs': len(keys),
    'done': len(done), 'failed': len(failed), 'replicates': len(replicates),
    'whole': len(replicates - {key.replicate for key in open_}),
    'groups': [
      {'rows': len(rows), 'replicates': len(own),
       'whole': len(own - {key.replicate for key in open_ if key.row in rows})}
      for own, rows in sorted(groups.items(), key=lambda group: -len(group[0]) * len(group[1]))
    ],
    'unit': 'grammars and seeds' if any(g is not None for g, _ in replicates) else 'seeds',
    'complete': not open_, 'added': added,
    'unchosen': sorted({k.objective for k in keys if _NOT_CHOSEN[0] in (k.rate, k.clip)}),
  }  # fmt: skip


def lines(plan: Mapping[str, Any] | None) -> list[str]:
  """What a reader must know of it: how much of it is done, what was added, what is not its own."""
  if plan is None:
    return []
  unit, first = plan['unit'], plan['plans'][0]

  def counted(name: str) -> str:
    return ' and '.join(f'{one[name]} {unit} × {one["rows"]} rows' for one in plan['groups'])

  told = [
    f'planned: {counted("replicates")}, {plan["runs"]} runs; done: '
    + ('all' if plan['done'] == plan['runs'] else f'{plan["done"]} runs')
  ]
  if plan['failed']:
    told[0] += f'; failed: {plan["failed"]}'
  if not plan['complete']:
    told[0] += f'; complete: {counted("whole")}: PRELIMINARY, no verdict before all of it is done'
  if plan['unchosen']:
    told.append(
      f'of which rate the runs of {", ".join(plan["unchosen"])} should be is not known: their '
      'pilots are not done'
    )
  if first['results_before']:
    told.append(
      f'the plan was written when {first["results_before"]} results were there already: what it '
      'plans may have been chosen by them'
    )
  for more in plan['added']:
    after = f'once {more["results_before"]} results were there'
    counts = (more['replicates'], unit), (more['rows'], 'rows')
    parts = [f'{count} {word}' for count, word in counts if count]
    parts += ['another choice of rates and clip norms'] * bool(more['tunings'])
    told.append(
      ' and '.join(parts)
      + (' was' if len(parts) == 1 and more['tunings'] else ' were')
      + ' added later than the first plan'
      + (f', {after}' if more['results_before'] else '')
      + ': a test is at its level only for what was fixed before'
    )
  return told


def withheld(plan: Mapping[str, Any] | None) -> str | None:
  """Why there must be no verdict yet, or None."""
  if plan is None:
    return None
  declared = {tuple(map(one['primary'].get, ('probe', 'labels'))) for one in plan['plans']}
  if other := declared - {summary.PRIMARY}:
    told, own = (' probe at labels '.join(map(str, one)) for one in (min(other), summary.PRIMARY))
    return f'the plan declares the {told} as primary measure, this version tests the {own}'
  if plan['complete']:
    return None
  return f'preliminary, {plan["runs"] - plan["done"] - plan["failed"]} planned runs are not done'


def command(plan: Mapping[str, Any] | None) -> str | None:
  """The commands that make the planned results, one a line; None without a plan."""
  return plan and '\n'.join(dict.fromkeys(one['command'] for one in plan['plans']))


def _plans(found: Sequence[Mapping]) -> list[dict]:
  """Each plan once, as it was first written: parts of a comparison have the same one, and what the
  pilots of any of them chose."""
  kept: list[dict] = []
  for one in sorted(found, key=lambda one: one['written']):
    one = {name: value for name, value in one.items() if name != 'workdir'}
    chosen = list(one['chosen'])
    same = [
      other for other in kept if comparison_files.same_plan(other, one, (*PLANNED, 'comparison'))
    ]
    if same:
      same[0]['chosen'] += [row for row in chosen if row not in same[0]['chosen']]
    else:
      kept.append({**one, 'chosen': chosen})
  return kept


def _replicates(plan: Mapping) -> list[tuple[Any, int]]:
  return [(one['grammar'], one['seed']) for one in plan['replicates']]


def _parts(plan: Mapping) -> dict[str, frozenset]:
  """What may be added to a plan."""
  tuning = (tuple(sorted(plan[n])) for n in ('learning_rates', 'clip_norms', 'pilot_seeds'))
  return {
    'replicates': frozenset(_replicates(plan)),
    'rows': frozenset((row['objective'], row['size']) for row in plan['rows']),
    'tunings': frozenset([tuple(tuning)]),
  }


def _keys(plan: Mapping) -> Iterator[Key]:
  """Every run of a plan."""
  for row, replicate in itertools.product(plan['rows'], _replicates(plan)):
    grids = [row['steps'] and plan[f'{name}s'] for name in choice.GRID]
    own = choice.tuning_of(row)
    tunings = [*itertools.product(*(grid or [one] for grid, one in zip(grids, own, strict=True)))]
    if row['steps'] and plan['pilot_seeds']:
      kind = (row['objective'], row['size'])
      chosen = [choice.tuning_of(one) for one in plan['chosen']
                if (one['objective'], one['size']) == kind]  # fmt: skip
      tunings = [
        tuple(v if grid else o for v, grid, o in zip(one, grids, own, strict=True))
        for one in chosen or [_NOT_CHOSEN]
      ]
    for tuning in tunings:
      kind = (row['objective'], row['size'], *replicate, row['steps'])
      yield Key(*kind, *tuning, plan.get('comparison'))


def _of_record(run: Mapping) -> Key:
  steps = run.get('steps') or 0
  kind = (run.get('objective_of_plan', run['objective']), run.get('size'), *choice.replicate(run))
  tuning = choice.tuning_of(run) if steps else (None, None)
  return Key(*kind, steps, *tuning, run.get('comparison'))


def _of_config(config: Mapping) -> list[Key]:
  """Of a run without a record, by its config.json, which does not say whether it would train; none
  where that is damaged."""
  key = choice.key_of(config)
  if key is None or not config.get('optimizer'):
    return []
  tried = (config['training'].get('steps'), *choice.tuning_of(config['optimizer'])), (0, None, None)
  return [Key(*key, *one, config.get('comparison')) for one in tried]
