"""Tells comparisons apart by fields of their configs: `launch.report --by`.

Parts of one comparison have equal plans, and so may comparisons that differ in a field. Runs of one
kind (objective, size) tell which it is: in what a plan does not vary itself those of a comparison
agree.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import itertools
import pathlib
from typing import Any

from probes.measures import at
from reports import choice, comparison_files, finding, reading
from reports.comparison_files import PLANNED
from reports.errors import ReportError

# What a plan varies by itself.
_VARIED = ('training.seed', 'model.preset', *(f'data.{name}' for name in choice.GRAMMAR_SETTINGS))

Kind = tuple[str, str | None]  # objective, size
_One = tuple[dict, pathlib.Path | None, Kind, Mapping]  # a run, where its plan is, its config


@dataclasses.dataclass
class _Comparison:
  """Attributes:
  plans: of all its directories.
  fixed: those of the fields that these don't vary.
  values: what runs of each kind have in these.
  places: its directories.
  """

  plans: list[dict]
  fixed: list[str]
  values: dict[Kind, set[str]] = dataclasses.field(default_factory=dict)
  places: set[pathlib.Path] = dataclasses.field(default_factory=set)

  def see(self, kind: Kind, config: Mapping) -> None:
    self.values.setdefault(kind, set()).add(_values(config, self.fixed))

  def is_part(self, other: '_Comparison') -> bool:
    """Whether another directory is of the same comparison."""
    alike = self.fixed == other.fixed and self.values and other.values
    shared = self.values.keys() & other.values.keys()
    pairs = itertools.product(self.plans, other.plans)
    return bool(
      alike
      and all(self.values[kind] & other.values[kind] for kind in shared)
      and any(comparison_files.same_plan(*pair, PLANNED) for pair in pairs)
    )

  def add(self, other: '_Comparison') -> None:
    self.plans += other.plans
    self.places |= other.places
    for kind, values in other.values.items():
      self.values.setdefault(kind, set()).update(values)

  def fits(self, kind: Kind, config: Mapping) -> bool:
    """Whether a run that no plan is above may be one of these."""
    known = self.values.get(kind) or set().union(*self.values.values())
    return _values(config, self.fixed) in known


def tell(found: finding.Found, fields: Sequence[str]) -> None:
  """Adds the values of config fields to the names of objectives: 'masked weight_decay=0.1'.

  Plans, runs, configs of failed ones and what pilots chose get the number of theirs as
  `comparison`; None where there is none.

  Raises:
    ReportError: a field that a run's config.json lacks, or that is a section of it.
  """
  if not fields:
    return
  every: list[_One] = []
  for run, place in zip(found.runs, finding.places(found, found.runs), strict=True):
    config = reading.config_of(run['workdir'])
    for field in fields:
      _check(field, _value(config, field), run['workdir'])
    every.append((run, place, (run['objective'], run.get('size')), config))
    added = ''.join(f' {field.split(".")[-1]}={_value(config, field)}' for field in fields)
    run |= {'objective_of_plan': run['objective'], 'objective': run['objective'] + added}
  begun = [config for config in found.begun if choice.key_of(config)]
  for config, place in zip(begun, finding.places(found, begun), strict=True):
    every.append((config, place, choice.key_of(config)[:2], config))
  comparisons = _comparisons(found.plans, every, fields)
  for number, one in enumerate(comparisons):
    for plan in one.plans:
      plan['comparison'] = number
  numbers = {place: number for number, one in enumerate(comparisons) for place in one.places}
  for run, place, kind, config in every:
    fitting = (number for number, one in enumerate(comparisons) if one.fits(kind, config))
    run['comparison'] = next(fitting, None) if place is None else numbers[place]
  for row in found.pilots:
    row['comparison'] = numbers.get(pathlib.Path(row['workdir']).resolve())


def _check(field: str, value: Any, where: str) -> None:
  if value is None:
    raise ReportError(f'--by={field}: {where} has no such field in its config')
  if isinstance(value, Mapping):
    raise ReportError(f'--by={field} is a section of the config; name one of its fields')


def _value(config: Mapping[str, Any], field: str) -> Any:
  return at(config, field.removeprefix('config.').split('.'))


def _values(config: Mapping[str, Any], fields: Sequence[str]) -> str:
  return str([_value(config, field) for field in fields])


def _comparisons(
  plans: Sequence[dict], every: Sequence[_One], fields: Sequence[str]
) -> list[_Comparison]:
  by_place: dict[pathlib.Path, list[dict]] = {}
  for plan in plans:
    by_place.setdefault(pathlib.Path(plan['workdir']).resolve(), []).append(plan)
  comparisons: list[_Comparison] = []
  for place, own in by_place.items():
    grids = {f'optimizer.{n}' for n in choice.GRID if any(plan[f'{n}s'] for plan in own)}
    varied = {*_VARIED, *grids}
    fixed = [field for field in fields if field.removeprefix('config.') not in varied]
    here = _Comparison(own, fixed, places={place})
    for _, where, kind, config in every:
      if where == place:
        here.see(kind, config)
    known = next((one for one in comparisons if one.is_part(here)), None)
    if known is None:
      comparisons.append(here)
    else:
      known.add(here)
  return comparisons
