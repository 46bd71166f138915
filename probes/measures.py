"""How a probe's numbers are named and read, so that every table and log shows them alike."""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Measure:
  """One headline number of a probe.

  Attributes:
    name: as in TensorBoard and results.csv, such as 'knn/accuracy'.
    path: where it is in `record['probes']`, such as ('knn', 'all', 'accuracy').
    title: the head of its column.
    unit: 'fraction' (shown in percent), 'points' (a difference of fractions), 'bits', 'ratio' or
      'dimensions'.
    meaning: one sentence for the report.
    layers: path of its curve over layers (one value a layer), () for none.
    beside: path of a number of the same unit that is only printed beside it, such as the measured
      error beside a bound; its last part names it.
    flag: path of a boolean whose last part is printed where it is true, such as 'vacuous'.
  """

  name: str
  path: tuple[str, ...]
  title: str
  unit: str
  meaning: str
  layers: tuple[str, ...] = ()
  beside: tuple[str, ...] = ()
  flag: tuple[str, ...] = ()


def at(found: Mapping[str, Any] | None, path: Sequence[str]) -> Any:
  """What nested dicts hold at a path; None where any part of it is absent."""
  for name in path:
    found = found.get(name) if isinstance(found, Mapping) else None
  return found
