"""Draws the report's pictures, each one only if what it shows has changed.

Drawing takes most of a report's time. report/pictures.json holds two digests for each picture: of
all that decides how it looks, and of its PNG, None where there was nothing to show.
"""

from collections.abc import Mapping, Sequence
import functools
import hashlib
import importlib
from importlib import metadata
import io
import json
import pathlib
from typing import Any

from probes import measures
from reports import reading

# Of each picture, in the order of the page: the module here that draws it, in a function of the
# picture's name, and what it is given beside the results: curves, or an array that runs saved.
PICTURES = {
  'bits_against_accuracy': ('figures', None),
  'label_codes': ('figures_scaling', None),
  'scaling': ('figures_scaling', 'curves'),
  'scaling_by_tokens': ('figures_scaling', 'curves'),
  'regret_curves': ('figures_truth', 'curves'),
  'regret_by_size': ('figures_truth', None),
  'regret_by_hidden': ('figures_truth', None),
  'latents': ('figures_truth', None),
  'accuracy_by_layer': ('figures', None),
  'accuracy_by_labels': ('figures', None),
  'loss_against_labels': ('figures_probes', None),
  'accuracy_by_level': ('figures', None),
  'similarity': ('figures_probes', 'geometry/features'),
  'samples': ('figures_samples', 'samples'),
  'training_curves': ('figures_training', 'curves'),
  'accuracy_during_training': ('figures_training', 'curves'),
}
# All that a picture is shown of the results, so that nothing else can change it.
SEEN = ('runs', 'summary', 'controls', 'theory', 'classes', 'alphabet')


def draw(
  results: Mapping, curves: reading.Curves, folder: pathlib.Path
) -> tuple[dict[str, bytes], dict[str, list]]:
  """The pictures that have something to show.

  Args:
    results: the content of results.json.
    curves: training curves by workdir.
    folder: of an earlier report; what is there and still right is not drawn again.

  Returns:
    PNG by name, and the content of pictures.json.
  """
  chosen = [run for run in results['runs'] if run['selected']]
  curves = {run['workdir']: curves.get(run['workdir'], ()) for run in chosen}
  seen = {name: results.get(name) for name in SEEN}
  common = [_digest(seen), _program()]
  kept, pngs, marks = reading.read_json(folder / 'pictures.json'), {}, {}
  for name, (module, reads) in PICTURES.items():
    beside = curves if reads == 'curves' else _marks_of_arrays(chosen, reads)
    mark = _digest([*common, name, beside])
    png = _read(folder / f'{name}.png')
    if kept.get(name) != [mark, _mark_of(png)]:
      png = _drawn(name, module, seen, curves if reads == 'curves' else _arrays(chosen, reads))
    if png is not None:
      pngs[name] = png
    marks[name] = [mark, _mark_of(png)]
  return pngs, marks


def _drawn(name: str, module: str, seen: Mapping, beside: Mapping) -> bytes | None:
  function = getattr(importlib.import_module(f'reports.{module}'), name)
  made = function(seen, beside) if PICTURES[name][1] else function(seen)
  if made is None:
    return None
  buffer = io.BytesIO()
  made.savefig(buffer, format='png', metadata={'Software': None})
  return buffer.getvalue()


def _arrays(runs: Sequence[Mapping], name: str | None) -> dict[str, Any]:
  """An array by workdir, of the runs that saved it."""
  found = {run['workdir']: reading.read_arrays(run['workdir'], [name]) for run in runs if name}
  return {workdir: arrays[name] for workdir, arrays in found.items() if name in arrays}


def _marks_of_arrays(runs: Sequence[Mapping], name: str | None) -> list:
  return [[run['workdir'], reading.mark_of_array(run['workdir'], name)] for run in runs if name]


@functools.cache
def _program() -> str:
  """Digest of what draws: every source file here, the names of measures, and the libraries."""
  sources = sorted(pathlib.Path(__file__).parent.glob('*.py')) + [pathlib.Path(measures.__file__)]
  versions = [metadata.version(name) for name in ('matplotlib', 'numpy', 'pillow')]
  return _digest([versions, [path.read_text(encoding='utf-8') for path in sources]])


def _digest(value: Any) -> str:
  return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def _mark_of(png: bytes | None) -> str | None:
  return None if png is None else hashlib.sha256(png).hexdigest()


def _read(path: pathlib.Path) -> bytes | None:
  try:
    return path.read_bytes()
  except OSError:
    return None
