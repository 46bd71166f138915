"""Whether all is done that a comparison said it would do, before its first result.

plan.json of a comparison holds its plans in the order in which they were written: rows (objective,
size, updates), replicates (grammar or None, seed), and the grids that rates and clip norms are
chosen from. A plan is all rows with all replicates. Until every run of every plan is finished, or
failed of itself (who was killed goes on), a report is preliminary and has no verdict; what only a
later plan has is said.
"""

from collections.abc import Iterator, Mapping, Sequence
import itertools
from typing import Any

from reports import choice, reading

_KEPT = ('rows', 'replicates', 'learning_rates', 'clip_norms', 'pilot_seeds', 'primary')
Key = tuple[str, str | None, Any, int, float | None, float | None]


def state(found: reading.Found) -> dict[str, Any] | None:
  """How far the plans of all directories are; None where there is none.

  Returns:
    plans (each once, the earliest first); rows, runs (counts of what is planned); done, failed
    (runs); replicates, whole (planned ones, and those of which every run is finished or failed);
    unit ('seeds' or 'grammars and seeds'); complete; added: {'replicates', 'rows' (how many more),
    'results_before', 'written'} of every later plan that has more of either.
  """
  plans = _plans(found.plans)
  if not plans:
    return None
  keys = list(dict.fromkeys(key for one in plans for key in _keys(one)))
  done = _matched(keys, [_of_record(run) for run in found.runs])
  failed = _matched(keys, [_of_config(config) for config in found.failed]) - done
  open_ = [key for key in keys if key not in done | failed]
  replicates = list(dict.fromkeys(key[2:4] for key in keys))
  added, known = [], [set(_replicates(plans[0])), set(_rows(plans[0]))]
  for one in plans[1:]:
    more = [set(_replicates(one)) - known[0], set(_rows(one)) - known[1]]
    if any(more):
      told = {name: one[name] for name in ('results_before', 'written')}
      added.append({'replicates': len(more[0]), 'rows': len(more[1]), **told})
      known = [had | new for had, new in zip(known, more, strict=True)]
  return {
    'plans': plans, 'rows': len({key[:2] for key in keys}), 'runs': len(keys),
    'done': len(done), 'failed': len(failed), 'replicates': len(replicates),
    'whole': len(set(replicates) - {key[2:4] for key in open_}),
    'unit': 'grammars and seeds' if any(g is not None for g, _ in replicates) else 'seeds',
    'complete': not open_, 'added': added,
  }  # fmt: skip


def lines(plan: Mapping[str, Any] | None) -> list[str]:
  """What a reader must know of it: how much of it is done, what was added, what is not its own."""
  if plan is None:
    return []
  unit, first = plan['unit'], plan['plans'][0]
  told = [
    f'planned: {plan["replicates"]} {unit} × {plan["rows"]} rows, {plan["runs"]} runs; done: '
    + ('all' if plan['done'] == plan['runs'] else f'{plan["done"]} runs')
  ]
  if plan['failed']:
    told[0] += f'; failed: {plan["failed"]}'
  if not plan['complete']:
    whole = f'{plan["whole"]} {unit} × {plan["rows"]} rows'
    told[0] += f'; complete: {whole}: PRELIMINARY, no verdict before all of it is done'
  if first['results_before']:
    told.append(
      f'the plan was written when {first["results_before"]} results were there already: what it '
      'plans may have been chosen by them'
    )
  for more in plan['added']:
    after = f'once {more["results_before"]} results were there'
    counts = ((more['replicates'], unit), (more.get('rows'), 'rows'))
    told.append(
      ' and '.join(f'{count} {word}' for count, word in counts if count)
      + ' were added later than the first plan'
      + (f', {after}' if more['results_before'] else '')
      + ': a test is at its level only for what was fixed before'
    )
  return told


def withheld(plan: Mapping[str, Any] | None) -> str | None:
  """Why there must be no verdict yet, or None."""
  if plan is None or plan['complete']:
    return None
  return f'preliminary, {plan["runs"] - plan["done"] - plan["failed"]} planned runs are not done'


def command(plan: Mapping[str, Any] | None) -> str | None:
  """The commands that make the planned results, one a line; None without a plan."""
  return plan and '\n'.join(dict.fromkeys(one['command'] for one in plan['plans']))


def _plans(found: Sequence[Mapping]) -> list[dict]:
  """Each plan once, as it was first written: parts of a comparison have the same one."""
  kept: list[dict] = []
  for one in sorted(found, key=lambda one: one['written']):
    if not any(all(other[name] == one[name] for name in _KEPT) for other in kept):
      kept.append(dict(one))
  return kept


def _replicates(plan: Mapping) -> list[tuple[Any, int]]:
  return [(one['grammar'], one['seed']) for one in plan['replicates']]


def _rows(plan: Mapping) -> list[tuple[str, str | None]]:
  return [(row['objective'], row['size']) for row in plan['rows']]


def _keys(plan: Mapping) -> Iterator[Key]:
  """Every run of a plan; rate and clip norm are None where pilots or the config choose them."""
  for row, replicate in itertools.product(plan['rows'], _replicates(plan)):
    searched = row['steps'] and not plan['pilot_seeds']
    grids = [(searched and plan[name]) or [None] for name in ('learning_rates', 'clip_norms')]
    for tuning in itertools.product(*grids):
      yield (row['objective'], row['size'], *replicate, *tuning)


def _matched(keys: Sequence[Key], runs: Sequence[Key]) -> set[Key]:
  """The planned runs that are among `runs`; size and tuning count where the plan names them."""

  def fits(key: Key, run: Key) -> bool:
    exact = key[0] == run[0] and key[2:4] == run[2:4] and key[1] in (None, run[1])
    return exact and all(key[i] in (None, run[i]) for i in (4, 5))

  return {key for key in keys if any(fits(key, run) for run in runs)}


def _of_record(run: Mapping) -> Key:
  name = run.get('objective_of_plan', run['objective'])
  return (name, run.get('size'), *choice.replicate(run), *choice.tuning_of(run))


def _of_config(config: Mapping) -> Key:
  """Of a run without a record, by its config.json."""
  name = ' '.join(filter(None, (config['objective']['name'], config.get('variant'))))
  replicate = choice.grammar_of({'settings_of_data': config['data']}), config['training']['seed']
  optimizer = config['optimizer']
  tuning = optimizer['learning_rate'], optimizer['clip_norm']
  # Earlier versions did not write the size; a preset by itself is one.
  return (name, config.get('size') or config['model']['preset'], *replicate, *tuning)
