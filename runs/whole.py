"""Results as JSON, whatever became of a part of them."""

from collections.abc import Mapping
import json
import math
import sys
from typing import Any

# Fields of a record that hold independent results by name.
_BY_NAME = ('probes', 'also', 'terms')


def fault(value: Any, name: str = '') -> str | None:
  """Where and why a value is no JSON, None if it is."""
  if isinstance(value, Mapping):
    items = value.items()
  elif isinstance(value, list | tuple):
    items = enumerate(value)
  else:
    if isinstance(value, float) and not math.isfinite(value):
      return f'{name} is {value}'
    known = value is None or isinstance(value, str | int | float)
    return None if known else f'{name} is a {type(value).__name__}'
  found = (fault(item, f'{name}.{key}' if name else str(key)) for key, item in items)
  return next((one for one in found if one), None)


def without_failed(record: dict[str, Any], path: str) -> dict[str, Any]:
  """The record without the parts that can't be written.

  A probe, another code or a term of a bound is left out; any other field is None. Then 'unwritten'
  tells why for each of them, and so does a line on stderr.
  """
  failed, kept = {}, {}
  for field, value in record.items():
    if field in _BY_NAME and isinstance(value, Mapping):
      faults = {name: fault(one, f'{field}.{name}') for name, one in value.items()}
      kept[field] = {name: one for name, one in value.items() if not faults[name]}
      failed |= {f'{field}.{name}': why for name, why in faults.items() if why}
    elif why := fault(value, field):
      kept[field], failed[field] = None, why
    else:
      kept[field] = value
  for why in failed.values():
    print(f'warning: {path} is written without what failed: {why}', file=sys.stderr)
  return {**kept, 'unwritten': failed} if failed else kept


def dumps(value: Any) -> str:
  """JSON with null for every number that is not finite, which JSON can't say, and a newline."""

  def finite(part: Any) -> Any:
    if isinstance(part, Mapping):
      return {name: finite(item) for name, item in part.items()}
    if isinstance(part, list | tuple):
      return [finite(item) for item in part]
    return None if isinstance(part, float) and not math.isfinite(part) else part

  return json.dumps(finite(value), indent=1, allow_nan=False) + '\n'
