"""Makes results.json of finished runs: what belongs in one table, means over replicates, verdicts.

Rules, in one place:
- A replicate is a grammar (where the source is drawn at random) and a seed. Two directories with
  the same objective, replicate, size and learning rate are an error.
- An interval or a verdict needs `MINIMUM_SEEDS` grammars where there are several, with seeds
  averaged inside each (they share it, so they are not independent), and as many seeds otherwise.
  Means are of the same units.
- A verdict also needs what every run got right on every test example (arrays.npz), and that all
  runs of the plan that was written beforehand are done (`reports.planned`).
- Exact codes and upper bounds of one objective are never averaged, and never ranked against
  each other. What the same weights cost by another code stands apart.
- Absent is None (null, an empty CSV cell), never NaN.
"""

from collections.abc import Iterable, Mapping, Sequence
import re
from typing import Any

from reports import (
  certificates,
  choice,
  comparison_files,
  compute,
  differences,
  equal_flops,
  finding,
  intervals,
  label_regret,
  planned,
  reading,
  regret,
  settings,
  summary,
  theory,
)
from reports.errors import ReportError

# What results.json promises for every run, in this order; the record's other fields follow.
RUN_FIELDS = (
  ('objective', 'seed', 'size', 'code', 'bits_per_dim', 'bits_per_dim_stderr', 'parameters')
  + ('train_flops', 'steps', 'tokens_seen', 'tokens_scored', 'epochs', 'wall_seconds', 'workdir')
  + ('probes', 'also', 'truth', 'probes_by_level', 'latents', 'settings_of_data')
  + ('token_accuracy', 'token_accuracy_of')
)
# How intervals of differences and accuracies are made: another one makes results.json void.
FORMULA = 'Banerjee (1960)'
_WITHOUT_CONTROLS = (
  'the raw input and the codes without context are not measured here: launch.compare, of parts the '
  'first, does it once its runs have ended'
)
# A bound's terms add up to it but for float32 (bits per dimension).
_TERMS_ROUNDING = 1e-3


def assemble(
  found: finding.Found,
  curves: reading.Curves | None = None,
  *,
  command: str | None = None,
  failures: Iterable[Mapping] = (),
  notes: Iterable[str] = (),
) -> dict:
  """The content of results.json.

  Args:
    found: what `finding.find` returned.
    curves: training curves by workdir, by default as `reading.read_curves` finds them.
    command: the command that makes these results again.
    failures: {'name', 'log', 'reason'} for runs that failed.
    notes: lines for the reader, such as what was left out and why.

  Raises:
    ReportError: no finished run; different data in one column; two runs of the same kind.
  """
  failures = [reading.plain(failure) for failure in failures]
  failed = {failure['name'] for failure in failures}
  unfinished = [run for run in found.unfinished if run['name'] not in failed]
  if not found.runs:
    raise ReportError(f'no finished run ({len(failures)} failed, {len(unfinished)} not finished)')
  _refuse_mixtures(found.runs)
  pilots, of_pilots = comparison_files.joined(found.pilots)
  notes = [*notes, *found.notes, *of_pilots, *choice.add_pilots(found.runs, pilots)]
  notes += choice.select(found.runs, found.begun)
  histogram = found.controls.get('histogram_bits_per_dim')
  curves = reading.read_curves(found.runs) if curves is None else curves
  runs = [_run_entry(run, histogram, curves[run['workdir']]) for run in found.runs]
  smallest: dict[str, int] = {}
  for run in runs:
    size, parameters = str(run.get('size')), run.get('parameters_backbone') or 0
    smallest[size] = min(parameters, smallest.get(size, parameters))
  runs = sorted(runs, key=lambda run: _order(run, smallest))
  equal_flops.add(runs, curves)
  chosen = [run for run in runs if run['selected']]
  plan = planned.state(found)
  withheld = planned.withheld(plan)
  made = differences.verdicts([*runs, *_raw(found.raw, runs)], withheld=withheld)
  probe, labels = summary.PRIMARY
  untested = differences.no_verdicts(runs, made)
  if (shared := differences.shared_labels(made)) is not None:
    notes.append(shared)
  entries = summary.summarise(runs, histogram)
  intervals.cross(entries, runs)
  common = _common(runs)
  return reading.plain({
    'schema': reading.SCHEMA, 'formula': FORMULA, **common,
    'command': command or planned.command(plan),
    'plan': plan, 'compute': compute.total(runs, pilots),
    'primary': {'probe': probe, 'labels': labels, 'measure': 'accuracy'},
    'runs': runs, 'controls': _controls(found.controls, chosen),
    'summary': entries, 'no_verdicts': untested,
    'verdicts': [] if untested else made, 'beside': differences.beside(runs, withheld),
    'indistinct': differences.indistinct(runs, made),
    'equal_regret': regret.equal_regret(chosen, curves),
    'label_regret': label_regret.tables(found), 'theory': theory.correlations(chosen, curves),
    'errors': [error for run in runs for error in run['errors']],
    'failures': failures, 'unfinished': unfinished,
    'notes': notes
    + ([_WITHOUT_CONTROLS] if plan and not found.measured else [])
    + _several(common)
    + _left_out(chosen)
    + _notes(chosen)
    + settings.notes(chosen)
    + _width_note(chosen, found)
    + certificates.notes(chosen, found.controls),
  })  # fmt: skip


def _common(runs: Sequence[Mapping]) -> dict:
  """What belongs to the comparison as a whole."""
  first = runs[0]
  common = {name: first.get(name) for name in ('dataset', 'alphabet', 'dims')}
  made = [part for run in runs for part in (run, *(run.get('went_on_with') or ()))]
  common |= {'git': _merged(part.get('git') for part in made), 'versions': _merged_versions(made)}
  common |= {name: first.get(name) for name in ('probe_dataset', 'classes', 'lossless')}
  common['devices'] = _merged(map(_devices, made))
  common |= {name: _merged(run.get(name) for run in runs) for name in reading.HASHES}
  return common | {'note': _merged_notes([run['note'] for run in runs if run.get('note')])}


def _several(common: Mapping) -> list[str]:
  """A line where runs were made, or went on, by several revisions or on several devices."""
  lines = []
  for name, what in (('git', 'revisions of this code'), ('devices', 'kinds of devices')):
    if common[name] and ', ' in common[name]:
      lines.append(f'the runs are of several {what}: {common[name]}')
  return lines


def _devices(run: Mapping) -> str | None:
  """What a run was made on: '8 × TPU v5 lite (tpu)'."""
  made = run.get('environment') or {}
  if not made.get('device_kind'):
    return None
  kind, platform = made['device_kind'], made.get('platform')
  return f'{made.get("devices", 1)} × {kind}' + ('' if kind == platform else f' ({platform})')


def _raw(raw: Sequence[Mapping], runs: Sequence[Mapping]) -> list[dict]:
  """The raw input with each seed's labels as one more control of every size; [] where grammars are
  repeated, for it is of one."""
  if len({choice.grammar_of(run) for run in runs}) > 1:
    return []
  settings = runs[0].get('settings_of_data')
  kind = {'objective': 'raw input', 'trained': False, 'selected': True, 'code': 'none'}
  return [
    {**one, **kind, 'size': size, 'settings_of_data': settings}
    for size in dict.fromkeys(run.get('size') for run in runs)
    for one in raw
  ]


def _controls(controls: Mapping, runs: Sequence[Mapping]) -> dict:
  """The comparison's controls; what guessing gets is also known from the runs themselves."""
  guesses = [run['majority']['accuracy'] for run in runs if run.get('majority')]
  own = {'majority': {'accuracy': sum(guesses) / len(guesses)}} if guesses else {}
  return {'raw': {}, **own, **controls}


def _left_out(runs: Sequence[Mapping]) -> list[str]:
  """A line for every number of labels that a probe could not have, and of which runs."""
  found: dict[tuple[str, str, str], dict[str, None]] = {}
  for run in runs:
    for probe, reasons in ((run.get('probes') or {}).get('left_out') or {}).items():
      for count, reason in reasons.items():
        found.setdefault((probe, count, reason), {})[run['objective']] = None
  everyone, lines = len({run['objective'] for run in runs}), []
  for (probe, count, reason), names in found.items():
    what = 'THE PRIMARY MEASURE, the ' if (probe, count) == summary.PRIMARY else ''
    of = '' if len(names) == everyone else f' of {", ".join(names)}'
    lines.append(f'{what}{probe} probe with {count} labels{of} is left out: {reason}')
  return lines


def _merged_notes(notes: Sequence[str]) -> str | None:
  """'model 0: 16 tokens' and 'model 1: 16 tokens' as 'model 0, 1: 16 tokens'."""
  words = [re.findall(r'\w+|\W+', note) for note in dict.fromkeys(notes)]
  if not words:
    return None
  if len({len(note) for note in words}) == 1:
    columns = [dict.fromkeys(column) for column in zip(*words, strict=True)]
    if sum(len(column) > 1 for column in columns) <= 1:
      return ''.join(', '.join(column) for column in columns)
  return '; '.join(map(''.join, words))


def _run_entry(run: dict, histogram: float | None, curve: Sequence[Mapping]) -> dict:
  entry = {name: run.get(name) for name in RUN_FIELDS} | run
  entry['fit'] = choice.fit_state(run, curve)
  entry['errors'] = _errors(entry)
  entry['no_context_learned'] = summary.no_context(run['code'], entry['bits_per_dim'], histogram)
  return entry


def _errors(run: Mapping) -> list[str]:
  """Numbers of a run that can't be true."""
  found = regret.errors_of(run)
  terms, bits = (run.get('terms') or {}).values(), run['bits_per_dim']
  if terms and bits is not None and None not in terms and abs(sum(terms) - bits) > _TERMS_ROUNDING:
    found.append(
      f'{run["objective"]}, {choice.replicate_text(choice.replicate(run))}: the terms of the bound '
      f'add up to {sum(terms):.4f} bits per dimension, the bound is {bits:.4f}'
    )
  return found


def _width_note(runs: Sequence[Mapping], found: finding.Found) -> list[str]:
  """How wide the controls are, where not all networks have one width."""
  if found.width is None or len({run.get('size') for run in runs}) < 2:
    return []
  return [f'PCA and random ReLU of the raw input are {found.width} wide']


def _notes(runs: Sequence[Mapping]) -> list[str]:
  """What a reader should know about the selected runs."""
  notes, trained = [], [run for run in runs if run.get('trained', True)]
  if len({run.get('steps') for run in trained}) > 1:
    notes.append('the runs differ in the number of updates: not the same training budget')
  having: dict[tuple, set] = {}
  for run in runs:
    having.setdefault((run['objective'], run.get('size')), set()).add(choice.replicate(run))
  everything = set().union(*having.values())
  for (objective, size), replicates in having.items():
    missing = sorted(everything - replicates, key=choice.replicate_order)
    if missing:
      listed = '; '.join(map(choice.replicate_text, missing))
      notes.append(f'{objective} ({size}) lacks {listed}: its mean is over fewer replicates')
  left_out = {(run['objective'], name) for run in runs for name in run.get('also_left_out') or ()}
  notes += [
    f'{objective} was not scored by {name}: too many passes an example at this length'
    for objective, name in sorted(left_out)
  ]
  for run in runs:
    who = f'{run["objective"]}, {choice.replicate_text(choice.replicate(run))}'
    for name, why in (run.get('probes_failed') or {}).items():
      best = name.endswith(reading.AT_BEST)
      stand = ((run.get('at_best') or {}) if best else run).get('probes') or {}
      kept = name.removesuffix(reading.AT_BEST) in stand
      then = 'when it was made again; what there was before stands' if kept else 'and is left out'
      notes.append(f'{who}: probe {name} failed {then}: {why}')
    notes += [f'{who}: left out: {why}' for why in (run.get('unwritten') or {}).values()]
    if run.get('imported'):
      notes.append(
        f'{run["objective"]} ({run.get("size")}) was not trained here: its weights are imported '
        f'from {run["imported"]["file"]}, its training data and budget are not known'
      )
    found = summary.by_level(run)
    seen = [
      one.get('validation') for one in (found.get('clean') or {}, *(found.get('by_level') or ()))
    ]
    seen = [value for value in seen if value is not None]
    chosen = (found.get('best') or {}).get('validation')
    if seen and chosen is not None and chosen < max(seen) - 1e-9:
      notes.append(
        f'{who}: its best level '
        f'({chosen:.4f} on validation) is not the best of its curve ({max(seen):.4f})'
      )
  return notes


def _order(run: Mapping, smallest: Mapping[str, int]) -> tuple:
  """Objectives by what their bits mean, then controls; by name, never by result."""
  control = 2 if not run.get('trained', True) else int(bool(run.get('saw_labels')))
  # A time projection makes a backbone a little larger, not of another size.
  size = (smallest[str(run.get('size'))], str(run.get('size')))
  rate = [value or 0 for value in choice.tuning_of(run)]
  replicate = choice.replicate_order(choice.replicate(run))
  return (size, control, reading.CODES.index(run['code']), run['objective'], rate, replicate)


def _source(run: Mapping) -> Any:
  """The settings of the data without what varies between replicates; None where unknown."""
  settings = run.get('settings_of_data')
  varies = choice.GRAMMAR_SETTINGS
  return settings and {name: value for name, value in settings.items() if name not in varies}


def _refuse_mixtures(runs: Sequence[Mapping]) -> None:
  for name in ('dataset', 'alphabet', 'dims', 'probe_dataset'):
    values = sorted({str(run.get(name)) for run in runs})
    if len(values) > 1:
      raise ReportError(f'runs differ in {name} ({", ".join(values)}): report them one by one')
  sources = sorted({str(_source(run)) for run in runs if _source(run)})
  # Where the content is the same, settings may differ: the path of a file, say.
  if len(sources) > 1 and len({run.get('data_hash') or run['workdir'] for run in runs}) > 1:
    raise ReportError(
      f'runs differ in their data ({" and ".join(sources)}): report them one by one'
    )
  # Of one name, and yet not the same: two versions of a data set.
  for name in reading.HASHES:
    hashes: dict[Any, set] = {}
    for run in runs:
      hashes.setdefault(choice.grammar_of(run), set()).add(run.get(name))
    if any(len(found - {None}) > 1 for found in hashes.values()):
      raise ReportError(f'runs differ in {name}, the content of their data: report them one by one')
  choice.refuse_unpoolable(runs)


def _merged(values: Iterable[str | None]) -> str | None:
  return ', '.join(sorted({str(value) for value in values if value is not None})) or None


def _merged_versions(runs: Sequence[Mapping]) -> dict:
  names = sorted({name for run in runs for name in run.get('versions') or {}})
  return {name: _merged((run.get('versions') or {}).get(name) for run in runs) for name in names}
