"""By which settings runs of one table were trained and judged, where these differ.

What a run was trained with stands in its config.json, what it was judged with in its record. What
either does not say, as those of earlier versions may not, is not compared.
"""

from collections.abc import Iterator, Mapping, Sequence
import json
from typing import Any

from probes.measures import at
from reports import reading
from reports.errors import ReportError

_TRAINED, _JUDGED = ('model', 'optimizer', 'training'), ('evaluation', 'probe')
# What a grid or a repetition varies, what the record tells otherwise, and what changes no number.
_FREE = ('training.seed', 'training.init_from', 'training.log_every', 'training.microbatches')
_FREE += ('optimizer.learning_rate', 'optimizer.clip_norm', 'evaluation.samples')
_FREE += ('model.remat', 'model.remat_policy', 'model.attention', 'model.unroll')
_FREE += ('evaluation.batch_size', 'probe.batch_size', 'probe.finetune', 'probe.suite')
# Chosen for each objective, or counted for each: the fairness table has them.
_OWN = ('model.token_init', 'model.position_init', 'training.steps', 'training.init_checkpoint')


def refuse_unlike(runs: Sequence[Mapping]) -> None:
  """ReportError where runs of one objective and size are of other settings: no replicates."""
  first: dict[tuple, dict[str, Any]] = {}
  for run in runs:
    if not run.get('trained', True):
      continue
    own = _fields(reading.config_of(run['workdir']), _TRAINED)
    other = first.setdefault((run['objective'], run.get('size')), own)
    for name in sorted(own.keys() & other.keys()):
      if own[name] != other[name]:
        raise ReportError(
          f'{run["objective"]} has runs with {name} {other[name]} and {own[name]}: they are not '
          'seeds of one training; report them one by one, or side by side with --by=FIELD'
        )


def notes(runs: Sequence[Mapping]) -> list[str]:
  """A line for every setting in which objectives differ that neither table nor names show.

  Args:
    runs: selected ones.
  """
  lines: dict[str, None] = {}
  for size in dict.fromkeys(run.get('size') for run in runs):
    found = _by_value([run for run in runs if run.get('size') == size])
    for name, values in sorted(found.items()):
      if len(values) > 1:
        listed = '; '.join(f'{value} ({", ".join(who)})' for value, who in values.items())
        lines[f'the runs differ in {name}: {listed}'] = None
  return list(lines)


def _by_value(runs: Sequence[Mapping]) -> dict[str, dict[Any, dict[str, None]]]:
  """Setting -> value -> objectives that have it."""
  found: dict[str, dict[Any, dict[str, None]]] = {}
  for run in runs:
    fields = _fields(run.get('settings_of_results') or {}, _JUDGED)
    if run.get('trained', True):
      fields |= _fields(reading.config_of(run['workdir']), _TRAINED)
    fields |= _unsaid(run)
    named = {word.split('=')[0] for word in run['objective'].split()[1:]}
    for name, value in fields.items():
      if name not in _OWN and name.rsplit('.', 1)[-1] not in named:
        found.setdefault(name, {}).setdefault(value, {})[run['objective']] = None
  return found


def _unsaid(run: Mapping) -> dict[str, Any]:
  """What its probes were made with that no section of its settings says."""
  probes = run.get('probes') or {}
  found = {}
  if at(probes, ('prequential', 'all')):
    found['prior of the label code'] = at(probes, ('prequential', 'all', 'prior')) or 'not named'
  if 'finetune' in probes:
    tuned = _flat(run.get('finetune_settings') or {}, 'probe.finetune.')
    # Bounds of a certificate or folds of other settings are told where they are read.
    found |= dict(tuned)
  return found


def _fields(config: Mapping, sections: Sequence[str]) -> dict[str, Any]:
  """Dotted name -> value, as text where it is no number, of everything in sections but `_FREE`."""
  found = {name: config.get(name) for name in sections if isinstance(config.get(name), Mapping)}
  return {name: value for name, value in _flat(found) if not name.startswith(_FREE)}


def _flat(tree: Mapping, prefix: str = '') -> Iterator[tuple[str, Any]]:
  for name, value in tree.items():
    if isinstance(value, Mapping):
      yield from _flat(value, f'{prefix}{name}.')
    else:
      yield prefix + name, value if isinstance(value, int | float) else json.dumps(value)
