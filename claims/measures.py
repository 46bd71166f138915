"""Rows of finished training runs, as several claims read them."""

from collections.abc import Sequence

from claims.base import Finished, Row, packed
from probes.measures import at
from reports import predictions


def number(run: Finished, measure: str, path: str) -> Row:
  """The number that the record holds at a dotted path, such as 'probes.linear.all.accuracy'.

  Raises:
    ValueError: it holds none.
  """
  value = at(run.record, path.split('.'))
  if value is None:
    raise ValueError(f'{run.workdir} has no {path}')
  return {'measure': measure, 'value': float(value)}


def accuracy(run: Finished, probe: str = 'linear', labels: str = '100') -> Row:
  """Test accuracy of a probe, with the share of label draws by which each example was right.

  Raises:
    ValueError: no predictions are saved, or not those of the record.
  """
  found = predictions.right({**run.record, 'workdir': run.workdir}, probe, labels)
  if isinstance(found, str):
    raise ValueError(found)
  row = {'measure': f'{probe}/{labels}', 'value': float(found.share_N.mean())}
  subsets = ' '.join(map(str, found.subsets))
  return row | {'each': packed(found.share_N), 'subsets': f'labels {subsets}'}


def bits(run: Finished) -> Row:
  """Exact bits per dimension on test, with those of each example where all seeds share them.

  Raises:
    ValueError: the code is not exact, or nats are not saved.
  """
  record = {**run.record, 'workdir': run.workdir}
  value = predictions.exact_bits(record)
  found = predictions.exact_bits_of_each(record) if value is not None else 'its code is not exact'
  if isinstance(found, str):
    raise ValueError(f'{run.workdir}: {found}')
  row = {'measure': 'bits', 'value': value}
  # A hierarchy's grammar, and with it its test examples, follow the seed.
  return row if 'grammar_seed' in run.config['data'] else row | {'each': packed(found.share_N)}


def curve(run: Finished, names: Sequence[str]) -> list[Row]:
  """The values of a training curve, a row a step and name, with a column `step`."""
  return [
    {'measure': name, 'value': float(point[name]), 'step': int(point['step'])}
    for point in run.curve
    for name in names
    if point.get(name) is not None
  ]
