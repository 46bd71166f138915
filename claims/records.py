"""The rows of a claim on disk: CSV that reads back as it was written, and what they are of."""

from collections.abc import Iterable, Mapping, Sequence
import json
import pathlib
from typing import Any

import pandas as pd

from claims.base import Claim, Row
from reports import records
from reports.errors import ReportError

ROOT = pathlib.Path(__file__).resolve().parent.parent
COMMITTED = ROOT / 'experiments' / 'results' / 'claims'
# What every row may have comes first.
_FIRST = ('source', 'objective', 'seed', 'measure', 'value')


def write(path: pathlib.Path, content: str | bytes) -> None:
  """A file whole or not at all."""
  records.write(path, content.encode() if isinstance(content, str) else content)


def to_csv(rows: Iterable[Row]) -> str:
  """Rows as CSV; floats keep all their digits, what is absent is an empty cell."""
  frame = pd.DataFrame(list(rows), dtype=object)
  names = [name for name in _FIRST if name in frame]
  names += [name for name in frame if name not in names]
  return frame.reindex(columns=names).to_csv(index=False, lineterminator='\n')


def read_csv(path: pathlib.Path) -> pd.DataFrame:
  """The rows of a file; an empty cell is NaN, in a column of words too. ReportError if it can't be
  read."""
  try:
    # As text, made numbers by Python, which loses no digit.
    found = pd.read_csv(path, dtype=object, keep_default_na=False, na_values=[''])
  except pd.errors.EmptyDataError:
    return pd.DataFrame()
  except (OSError, ValueError) as error:
    raise ReportError(f'{path} can not be read: {" ".join(str(error).split())}') from error
  return pd.DataFrame({name: _numbers(found[name]) for name in found})


def _numbers(column: pd.Series) -> pd.Series:
  """A column of text as whole numbers, or as numbers, where all of its cells are."""
  if column.empty:
    return column
  if set(column.dropna()) <= {'True', 'False'}:
    return column.map({'True': True, 'False': False})
  for kind in (int, float):
    try:
      made = [kind(cell) for cell in column.dropna()]
    except ValueError:
      continue
    if kind is int and len(made) == len(column):
      return pd.Series(made, column.index)
    return pd.Series(map(float, made), column.dropna().index, float).reindex(column.index)
  return column


def committed(claim: Claim, folder: pathlib.Path = COMMITTED) -> pathlib.Path | None:
  """The records that a verdict is of; None where the claim was not run."""
  path = folder / f'{claim.name}.csv'
  return path if path.is_file() else None


def about(path: pathlib.Path) -> dict[str, Any]:
  """What a CSV of records is of, from the JSON beside it; {} without one."""
  try:
    return json.loads(path.with_suffix('.json').read_text())
  except (OSError, ValueError):
    return {}


def describe(budget: str, runs: Sequence[Any], pieces: int) -> dict[str, Any]:
  """What is written beside records: budget, counts, time, revisions, and which runs are untuned."""
  records: list[Mapping] = [run.record for run in runs]
  names = sorted(
    {f'{r.spec.config}: {r.spec.objective}' for r in runs if not r.spec.tuned and r.record}
  )
  return {
    'budget': budget,
    'runs': len(runs),
    'pieces': pieces,
    'training_seconds': round(sum(record.get('wall_seconds') or 0 for record in records)),
    'git': sorted({str(record.get('git')) for record in records}),
    'untuned': names,
  }
