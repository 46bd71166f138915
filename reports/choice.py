"""Which runs stand for an objective: learning rate by its own validation loss, fit, replicates.

Where an objective was trained at several learning rates and clip norms it keeps those with the
lowest mean validation loss of its own at the last step, over replicates; only those with the most
finished replicates take part. Bits and labels of the test split are never looked at for this.
"""

import collections
from collections.abc import Collection, Mapping, Sequence
import math
from typing import Any

from reports import certificates, settings
from reports.errors import ReportError

# A last validation loss this much (relative) above the best one is called overfit; a best one at
# the last step that fell by more than STILL_FALLING over the last tenth of training, underfit.
OVERFIT_MARGIN = 0.02
STILL_FALLING = 0.01


Tuning = tuple[float | None, float | None]  # learning rate, clip norm
GRID = ('learning_rate', 'clip_norm')
Replicate = tuple[Any, int]  # (grammar or None, seed)
# What runs of one objective and size must share to be averaged over replicates.
POOLED_ALIKE = (
  ('code', 'settings', 'causal', 'steps', 'tokens_seen', 'input_scale', 'parameters')
  + ('trained_on', 'started_from', 'data_order')
)  # fmt: skip
# The setting of the data that says which draw of a random source it is.
GRAMMAR_SETTINGS = ('grammar', 'grammar_seed')


def grammar_of(run: Mapping) -> Any:
  """Which draw of the source a run was trained on; None where there is only one source."""
  settings = run.get('settings_of_data') or {}
  return next((settings[name] for name in GRAMMAR_SETTINGS if name in settings), None)


def replicate(run: Mapping) -> Replicate:
  """The unit of repetition: a source drawn at random, and a seed."""
  return grammar_of(run), run['seed']


def key_of(config: Mapping) -> tuple[str, str | None, Any, int] | None:
  """Objective, as reports name it, size, grammar and seed of a run by its config.

  Earlier versions did not write the size; a preset by itself is one. None where it is damaged.
  """
  try:
    name = ' '.join(filter(None, (config['objective']['name'], config.get('variant'))))
    size = config.get('size') or config['model']['preset']
    grammar = grammar_of({'settings_of_data': config['data']})
    found = name, size, grammar, config['training']['seed']
    tried = config['training'].get('steps'), *tuning_of(config.get('optimizer') or {})
  except (KeyError, TypeError, AttributeError):
    return None
  kinds = (str, str, int | str | None, int, *[float | int | None] * len(tried))
  return found if all(map(isinstance, (*found, *tried), kinds)) else None


def replicate_order(kind: Replicate) -> tuple:
  """Sorts replicates, also where some have no grammar."""
  return kind[0] is not None, kind[0] or 0, kind[1]


def replicate_text(kind: Replicate) -> str:
  """'seed 1' or 'grammar 0, seed 1'."""
  return f'seed {kind[1]}' if kind[0] is None else f'grammar {kind[0]}, seed {kind[1]}'


def refuse_unpoolable(runs: Sequence[Mapping]) -> None:
  """ReportError where runs of one objective and size are no replicates of one training.

  They were trained differently, or are of the same kind twice.
  """
  first, kinds = {}, {}
  for run in runs:
    other = first.setdefault((run['objective'], run.get('size')), run)
    for name in POOLED_ALIKE:
      if run.get(name) != other.get(name):
        raise ReportError(
          f'{run["objective"]} has runs with {name} {other.get(name)} and {run.get(name)}: they '
          'are not seeds of one training; report them one by one, or side by side with --by=FIELD'
        )
    kind = (run['objective'], replicate(run), run.get('size'), tuning_of(run))
    if kind in kinds:
      raise ReportError(
        f'{kinds[kind]} and {run["workdir"]} are both {kind[0]}, {replicate_text(kind[1])}, '
        f'size {kind[2]}, {tuning_text(kind[3])}: name only one of them'
      )
    kinds[kind] = run['workdir']
  settings.refuse_unlike(runs)


def tuning_of(run: Mapping) -> Tuning:
  """What the grid of a comparison varies: learning rate and clip norm."""
  return tuple(map(run.get, GRID))


def tuning_text(tuning: Tuning) -> str:
  """'learning rate 0.002, clip norm 1'; what is not known is left out."""
  words = zip(('learning rate', 'clip norm'), tuning, strict=True)
  return ', '.join(f'{name} {value:g}' for name, value in words if value is not None)


def select(runs: Sequence[dict], begun: Sequence[Mapping] = ()) -> list[str]:
  """Marks in place, as `selected`, the runs at the rate and clip norm their objective chose.

  Args:
    runs: finished ones.
    begun: configs of runs that began and have no record: their rates and clip norms were tried,
      and a certificate pays for them too.

  Returns:
    Notes: one line for every choice a reader should know about.

  Raises:
    ReportError: several of them and no validation loss to choose by.
  """
  groups, notes = collections.defaultdict(lambda: collections.defaultdict(list)), []
  for run in runs:
    kind = (run.get('dataset'), run['objective'], run.get('size'))
    groups[kind][tuning_of(run)].append(run)
  for (_, objective, size), grid in groups.items():
    chosen, name = next(iter(grid)), f'{objective} ({size})'
    tried, note = certificates.tried(grid, begun), []
    if len(grid) > 1:
      chosen, note = _choose(name, grid)
    every = [run for members in grid.values() for run in members]
    # What pilots tried is told of them.
    piloted = any(run.get('pilots_of') for run in every)
    if any(run.get('trained', True) for run in every) and not piloted:
      note += edges(name, chosen, tried)
    notes += [line for line in note if line not in notes]
    for tuning, members in grid.items():
      for run in members:
        run['selected'] = tuning == chosen
        if run.get('trained', True):
          certificates.pay(run, max(len(tried), run.get('pilots_tried', 1)))
  return notes


def _choose(name: str, grid: Mapping[Tuning, list[dict]]) -> tuple[Tuning, list[str]]:
  if not any(run.get('trained', True) for members in grid.values() for run in members):
    return min(grid, key=str), []  # untouched by them
  most = max(len(set(map(replicate, members))) for members in grid.values())
  losses, notes = {}, []
  for tuning, members in grid.items():
    values = [(run.get('validation') or {}).get('loss') for run in members]
    if len(set(map(replicate, members))) < most or None in values:
      why = 'no finite validation loss' if None in values else 'seeds are missing'
      notes.append(f'{name}: {tuning_text(tuning)} left out of the choice, {why}')
    else:
      losses[tuning] = math.fsum(values) / len(values)
  if not losses:
    raise ReportError(f'{name} has several learning rates and no validation loss to choose by')
  chosen = min(losses, key=lambda tuning: (losses[tuning], str(tuning)))
  if len({frozenset(map(replicate, grid[tuning])) for tuning in losses}) > 1:
    notes.append(f'{name}: its tunings were not tried on the same seeds')
  return chosen, notes


def edges(name: str, chosen: Tuning, tried: Collection[Tuning]) -> list[str]:
  """A line where the choice is no optimum inside the grid.

  A tuning that diverged was tried as well: what lies beside it lies inside.
  """
  notes = []
  for place, word in enumerate(('learning rate', 'clip norm')):
    values = sorted({tuning[place] for tuning in tried} - {None})
    if len(values) == 2:
      notes.append(f'only two {word}s were tried, {values[0]:g} and {values[1]:g}: no choice lies '
                   'inside the grid')  # fmt: skip
    elif len(values) > 2 and chosen[place] in (values[0], values[-1]):
      notes.append(f'{name}: the chosen {word} {chosen[place]:g} is at the edge of its grid')
  return notes


def fit_state(run: Mapping, curve: Sequence[Mapping]) -> str | None:
  """'overfit', 'underfit' or 'ok', from the run's own validation loss; None where unknown."""
  validation = run.get('validation') or {}
  last, best = validation.get('loss'), validation.get('best_loss')
  if last is None or best is None:
    return None
  if last - best > OVERFIT_MARGIN * abs(best):
    return 'overfit'
  steps = run.get('steps') or 0
  points = {p['step']: p['validation/loss'] for p in curve if p.get('validation/loss') is not None}
  points = {step: loss for step, loss in sorted(points.items()) if step < steps} | {steps: last}
  first = min(points)
  if validation.get('best_step') != steps or first > 0.9 * steps:
    return 'ok'
  if len(points) < 3 and first < 0.75 * steps:
    return 'ok'  # All that they give is a line, which is above a curve that levels off.
  # Through the measurements runs a curve as bent as they are.
  from scipy import interpolate  # It takes a third of a second to load.

  earlier = float(interpolate.PchipInterpolator(list(points), list(points.values()))(0.9 * steps))
  return 'underfit' if earlier - last > STILL_FALLING * abs(earlier) else 'ok'


def add_pilots(runs: Sequence[dict], pilots: Sequence[Mapping]) -> list[str]:
  """Tells runs, in place, of the pilots that chose their learning rate and clip norm.

  Args:
    runs: records.
    pilots: rows of pilots.json, as `comparison_files.joined` gives them.

  Returns:
    Notes: a line where a pilot has the seed of a result.
  """
  for run in runs:
    for row in pilots:
      own = run | {'objective': run.get('objective_of_plan', run['objective'])}
      if all(row.get(name) == own.get(name) for name in ('comparison', 'objective', 'size', *GRID)):
        run |= {f'{name}_grid': row[f'{name}s'] for name in GRID}
        count = math.prod(len(row[f'{n}s']) for n in GRID)
        count = max(count, len({tuning_of(one) for one in row.get('tried', ())}))
        run |= {'pilots_of': row['of'], 'pilots_tried': count}
  both = pilots_among(runs)
  return [f'{", ".join(both)}: among the results, and among the pilots that chose for them'] * (
    len(both) > 0
  )


def pilots_among(runs: Sequence[Mapping]) -> list[str]:
  """The replicates, as text, that runs share with the pilots that chose their tuning."""
  both = {kind for run in runs if replicate_text(kind := replicate(run)) in
          (run.get('pilots_of') or ())}  # fmt: skip
  return list(map(replicate_text, sorted(both, key=replicate_order)))
