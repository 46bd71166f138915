"""The table of `codes.baselines` as a record: a run's own row, programs that print X, versions."""

from collections.abc import Sequence
import importlib.metadata
import math
import platform
from typing import Any

import numpy as np

from codes import baselines, description, packing, program
from codes.baselines import Row
from data.dataset import Dataset

_THIS_RUN = '(this run)'
# Of one parameter, for what a run's weights would add.
_WEIGHT_BITS = 32


def descriptions(
  dataset: Dataset, split: str, every: Sequence[Row]
) -> list[description.Description]:
  """Programs that print the split, by all rows that have one."""
  tokens = baselines.tokens_of(dataset, split)
  found = [description.raw(tokens.size, dataset.vocabulary)]
  for row in every:
    if row.bits is None:
      continue
    if row.name == baselines.COUNTING:
      driver = program.COUNTING
      if row.packing in (baselines.ROWS, baselines.COLUMNS):
        picture = packing.layout(dataset).picture if row.packing == baselines.COLUMNS else None
        driver = program.printing(dataset.vocabulary, picture)
      found.append(description.ours(f'{baselines.COUNTING}, {row.packing}', int(row.bits), driver))
    else:
      found.append(
        description.library(row.name, row.packing, row.bits, dataset.dims, dataset.vocabulary)
      )
  return [one for one in found if one is not None]


def run_row(record: dict[str, Any], examples: int, nats_N: np.ndarray | None = None) -> Row:
  """The row of a finished run, from its record; bits are of the test split, `nats_N` as well."""
  bits, weights = record['bits_per_dim'], _WEIGHT_BITS * record['parameters']
  name = f'{record["objective"]} {_THIS_RUN}'
  if bits is None:
    reason = (
      'this objective has no likelihood' if record['code'] == 'none' else 'not measured on test'
    )
    return Row(name, None, None, note=f'n/a: {reason}')
  if record['code'] == 'estimate':
    return Row(name, None, None, note='n/a: its normaliser is estimated, so it is no code')
  added = weights / (examples * record['dims'])
  note = f'weights not counted: {_WEIGHT_BITS} bits each would add {added:,.1f} bits/dim'
  bits_N = None if nats_N is None else np.asarray(nats_N, np.float64) / math.log(2)
  total = bits * examples * record['dims']
  return Row(name, total, bits, note=note, code=record['code'], bits_N=bits_N)


def against_counting(rows: Sequence[Row], dims: int) -> dict[str, Any] | None:
  """A run less the mixture that has read the same split: bits per dimension, paired by example.

  {'run', 'counting' (their names), 'code' (the run's), 'mean', 'stderr'}; None without either.
  """
  by_name = {row.name: row for row in rows if row.bits_N is not None}
  run = next((row for name, row in by_name.items() if name.endswith(_THIS_RUN)), None)
  counted = by_name.get(f'{baselines.COUNTING} after train')
  if run is None or counted is None:
    return None
  less_N = run.bits_N - counted.bits_N
  mean, stderr = float(less_N.mean() / dims), baselines.stderr_of(less_N, dims)
  names = {'run': run.name, 'counting': counted.name, 'code': run.code}
  return {**names, 'mean': mean, 'stderr': stderr}


def as_json(dataset: Dataset, split: str, best: Sequence[Row], every: Sequence[Row]) -> dict:
  """Everything that was measured, and by what versions."""
  import PIL
  from PIL import features
  import zstandard

  versions = {
    'python': platform.python_version(),
    'pillow': PIL.__version__,
    'libwebp': features.version('webp'),
    'zstd': '.'.join(map(str, zstandard.ZSTD_VERSION)),
  }
  for package in ('brotli', 'pyppmd', 'pillow-jxl-plugin'):
    try:
      versions[package] = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
      versions[package] = None
  found = descriptions(dataset, split, every)
  shortest = description.shortest(found, dataset.name)
  return {
    'dataset': dataset.name,
    'note': dataset.note,
    'data_hash': dataset.digest,
    'split': split,
    'examples': len(getattr(dataset, split)),
    'dims': dataset.dims,
    'alphabet': dataset.vocabulary,
    'table': [row.as_json(dataset.dims) for row in best],
    'every_packing': [row.as_json(dataset.dims) for row in every],
    'against_counting': against_counting(best, dataset.dims),
    'description': {
      'bits': shortest.bits,
      'by': shortest.name,
      'file_bits': shortest.file_bits,
      'program_bits': shortest.program_bits,
      'machine': description.machine(shortest.packages),
      'all': [{'name': one.name, 'bits': one.bits} for one in found],
    },
    'versions': versions,
  }
