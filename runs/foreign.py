"""Results of probes on the features of a model that was not trained here."""

import hashlib
import io
import json
import os
from typing import Any

import numpy as np

from probes.features import SPLITS, Features
from probes.measures import at, headline
from runs import whole
from runs.errors import UserError
from training import board
from training.metrics import write_atomically


def make_directory(out: str) -> None:
  """Before anything is computed, so that nothing is lost for want of a place."""
  try:
    os.makedirs(out, exist_ok=True)
    write_atomically(os.path.join(out, '.writable'), '')
    os.remove(os.path.join(out, '.writable'))
  except OSError as error:
    raise UserError(f'{out} can not be written: {error.strerror}') from error


def about(features: Features, repeated: dict[str, int], dealt: bool = False) -> list[str]:
  """What a reader should know of a file before the numbers: a line each.

  `dealt` says that the file named no splits.
  """
  lines = []
  if dealt:
    counts = ', '.join(f'{getattr(features, split).shape[1]} {split}' for split in SPLITS)
    lines.append(f'whole groups were dealt to the splits: {counts} rows')
  if features.names not in (None, tuple(map(str, range(features.classes)))):
    shown = ', '.join(f"'{name}' is {k}" for k, name in enumerate(features.names[:5]))
    more = features.classes - 5
    lines.append(f'labels by sorted value: {shown}' + (f', and {more} more' if more > 0 else ''))
  for pair, count in repeated.items():
    if count:
      one, other = pair.split(' in ')
      total = len(getattr(features, f'labels_{one}'))
      lines.append(f'{count} of {total} {one} rows stand in {other} too')
  return lines


def write(
  out: str,
  path: str,
  features: Features,
  config: dict[str, Any],
  probes: dict[str, Any],
  arrays: dict[str, np.ndarray],
  repeated: dict[str, int],
  majority: dict[str, Any],
  label: str | None = None,
  pooling: str = 'mean',
) -> str:
  """Writes probes.json, arrays.npz and TensorBoard scalars; returns the path of probes.json.

  `repeated` counts the rows that stand in two splits (`probes.exchange.repeated_rows`),
  `majority` is what the commonest class is right on (`probes.baselines.majority`). `label` and
  `pooling` are what was chosen of the file.
  """
  with open(path, 'rb') as file:
    digest = hashlib.file_digest(file, 'sha256').hexdigest()
  record = {
    'schema': 1,
    'features': {
      'file': os.path.basename(path),
      'sha256': digest,
      'layers': features.train.shape[0],
      'label': label,
      'pooling': pooling,
      'width': features.train.shape[2],
      'classes': features.classes,
      'class_names': features.names and list(features.names),
      'examples': {split: getattr(features, split).shape[1] for split in SPLITS},
      'repeated_rows': repeated,
    },
    'config': config,
    'majority': majority,
    'probes': probes,
  }
  buffer = io.BytesIO()
  np.savez_compressed(buffer, **arrays)
  write_atomically(os.path.join(out, 'arrays.npz'), buffer.getvalue())
  where = os.path.join(out, 'probes.json')
  record = whole.without_failed(record, where)
  write_atomically(where, json.dumps(record, indent=1, allow_nan=False) + '\n')
  with board.results(out) as shown:
    for labels, cell in probes.get('linear', {}).items():
      shown.scalar(f'{board.RESULT}probe/linear/{labels}_labels', cell['accuracy'])
    for measure in headline():
      value = at(probes, measure.path)
      if value is not None:
        shown.scalar(f'{board.RESULT}probe/{measure.name}', value)
  return where
