"""Data made ready before a run asks for them, and what there is to say of them."""

from collections.abc import Iterator

import ml_collections

from data import images, prepared, sources
from data.dataset import Dataset
from runs import experiment
from runs.errors import UserError

# Sets that a config names a path of.
_BY_PATH = {
  'arrays': '--config=experiments/arrays.py --config.data.path=FILE.npz',
  'image_folder': '--config=experiments/arrays.py --config.data.name=image_folder '
  '--config.data.path=DIR',
  'text_file': '--config=experiments/text_file.py --config.data.path=FILE',
}
# Classes whose sizes are written out.
_FEW = 20


def named(name: str, data_dir: str, download: bool) -> str:
  """Prepares a set by its name; where it is, or that there is nothing to prepare.

  Raises:
    UserError: it can't be, in one line that says why.
  """
  try:
    builder = images.builder(name, data_dir, download)
    if builder is None and name in _BY_PATH:
      raise UserError(f'{name} is prepared by its config: {_BY_PATH[name]}')
    if builder is None and name in sources.DATASETS:
      return f'{name} needs no preparation: it is made when it is asked for'
    if builder is not None and prepared.directory(name, data_dir) is None:
      prepared.prepare(builder)
    return images.find(name, data_dir)
  except ValueError as error:
    raise UserError(str(error)) from error


def of_config(config: ml_collections.ConfigDict, data_dir: str) -> list[str]:
  """Prepares what a config compresses and what it probes; lines on both."""
  dataset, probed = experiment.load_datasets(config, data_dir)
  lines = list(describe(dataset))
  return lines if probed is dataset else [*lines, *describe(probed)]


def describe(dataset: Dataset) -> Iterator[str]:
  """What the tokens are; examples, duplicates and balance of every split; where they are kept."""
  yield f'{dataset.name}: {dataset.note}'
  for split in ('train', 'validation', 'test'):
    examples = dataset.splits.get(split)
    if examples is None:
      yield f'{split}: drawn afresh for ever'
      continue
    line = f'{split}: {len(examples):,} examples of {dataset.dims:,} tokens'
    if repeated := dataset.duplicates[split]:
      line += f', {repeated:,} repeat an earlier one'
    for name, count in dataset.duplicates.items():
      if count and name.startswith(f'{split} in '):
        line += f', {count:,} also stand in {name.removeprefix(f"{split} in ")}'
    yield line + _balance(dataset, split)
  kept = f'; kept in {dataset.kept.directory}' if dataset.kept else ''
  yield f'digest {dataset.digest}{kept}'


def _balance(dataset: Dataset, split: str) -> str:
  if dataset.classes is None:
    return '; no labels'
  sizes, names = dataset.balance[split], dataset.class_names or range(dataset.classes)
  if dataset.classes > _FEW:
    return f'; {dataset.classes} classes of {min(sizes):,} to {max(sizes):,}'
  every = '; '.join(f'{name}: {size:,}' for name, size in zip(names, sizes, strict=True))
  return f'; by class {every}'
