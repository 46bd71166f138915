"""Files to streams and back, by a finished run or by a network that learns as it decodes."""

from collections.abc import Callable, Iterator
import contextlib
import dataclasses
import os
import tempfile
from typing import Any, BinaryIO

import jax
import ml_collections
import numpy as np
import tqdm

from codes import codec, container, files, prequential
from data import kept, text
from data.dataset import Examples
from reports import codes_text
from runs import configs, experiment, finished
from runs.errors import UserError


@dataclasses.dataclass(frozen=True)
class Coder:
  """What codes.

  Attributes:
    run: a finished autoregressive run; None for the prequential mode, which ships no weights.
    best: the run's best checkpoint on validation, not its last.
    config: prequential: 'FILE:OBJECTIVE' of the network that learns and of its data, as
      `overrides` change it; a file alone is read with the objective that can decode. None where a
      stream has it.
    data_dir: prepared data sets.
    batch: examples that a run computes at a time; None for a number that suits theirs.
    chunk, updates, replay: prequential: as in `codes.learner.Schedule`.
  """

  run: str | None
  best: bool
  config: str | None
  overrides: tuple[str, ...]
  data_dir: str
  batch: int | None
  chunk: int
  updates: int
  replay: bool

  def settings(self) -> ml_collections.ConfigDict:
    """The config of the run, or of the network that learns."""
    if self.run is not None:
      return finished.config_of(self.run)
    return configs.load_named(self.config, self.overrides, 'autoregressive')


def encode(coder: Coder, source: str, out: str) -> list[str]:
  """Writes the stream of a file; returns lines on its size."""
  with _replacing(out) as file:
    return [_encode(coder, source, file)]


def decode(coder: Coder, stream: str, out: str) -> list[str]:
  """Writes the file of a stream; StreamError if it is none, or not this coder's."""
  with open(stream, 'rb') as file, _replacing(out) as decoded:
    total = _decode(coder, file, decoded)
  return [f'{out}: {total:,} symbols, checked']


def verify(coder: Coder, path: str) -> list[str]:
  """Decodes a stream, or encodes any other file, decodes that and compares."""
  with open(path, 'rb') as file:
    if file.read(len(container.MAGIC)) == container.MAGIC:
      file.seek(0)
      with open(os.devnull, 'wb') as nowhere:
        total = _decode(coder, file, nowhere)
      return [f'{path}: whole; {total:,} symbols decoded and checked']
  if coder.run is None and coder.config is None:
    raise UserError('--mode=prequential verify of a file that is not coded needs --config')
  directory = os.path.dirname(os.path.abspath(path))
  with (
    tempfile.TemporaryFile(dir=directory) as coded,
    tempfile.NamedTemporaryFile(dir=directory, suffix=os.path.splitext(path)[1]) as again,
  ):
    said = _encode(coder, path, coded)
    coded.seek(0)
    _decode(coder, coded, again)
    again.flush()
    if not files.same(path, again.name):
      raise UserError(f'{path} was decoded to something else')
  return [said, f'{path}: decoded again, equal']


def export(coder: Coder, split: str, out: str) -> list[str]:
  """Writes a split of the data as a file that `encode` takes."""
  if split not in ('train', 'validation', 'test'):
    raise UserError(f"split '{split}' is unknown; known: train, validation, test")
  config = coder.settings()
  dataset, _ = experiment.load_datasets(config, coder.data_dir, coder.run)
  examples = getattr(dataset, split)
  if not isinstance(examples, Examples):
    raise UserError(f"'{dataset.name}' has no fixed {split} split: it is drawn afresh for ever")
  shape = dataset.shape if np.prod(dataset.shape) == dataset.dims else (dataset.dims,)
  dtype = np.uint8 if dataset.vocabulary <= 256 else np.uint16
  chunks = (
    tokens[:, : dataset.dims].reshape(-1, *shape).astype(dtype) for tokens in examples.chunks()
  )
  with _replacing(out) as file:
    if text.is_text(config.data):
      file.writelines(chunk.tobytes() for chunk in chunks)
    else:
      kept.write_rows(file, chunks, len(examples))
  return [f'{out}: {len(examples):,} examples; {dataset.note}']


@contextlib.contextmanager
def _replacing(path: str) -> Iterator[BinaryIO]:
  """A file that takes the place of `path` once it is whole; on failure nothing is left."""
  partial = f'{path}.partial'
  try:
    with open(partial, 'w+b') as out:
      yield out
    os.replace(partial, path)
  finally:
    with contextlib.suppress(OSError):
      os.unlink(partial)


def _encode(coder: Coder, path: str, out: BinaryIO) -> str:
  built, predictor_of = _encoder(coder)
  space, windows = built.space, text.is_text(built.config.data)
  source, fields = files.source(path, space, windows)
  try:
    predictor = predictor_of(codec.count_examples(source.total, space.dims))
    header = container.Header(**fields, **predictor.claims())
    with _bar('encode', source.total) as bar:
      sizes = codec.encode(predictor, source, header, out, bar.update)
  except ValueError as error:
    raise UserError(f'{path}: {error}') from error
  made = {'path': path, 'windows': windows, 'vocabulary': space.vocabulary}
  made |= {'raw_bytes': os.path.getsize(path), **dataclasses.asdict(sizes), 'program': None}
  if coder.run is None:
    made['program'] = prequential.program_bits()
  else:
    made['parameters'] = sum(leaf.size for leaf in jax.tree.leaves(predictor.params))
  return codes_text.compressed(made)


def _encoder(coder: Coder) -> tuple[experiment.Experiment, Callable[[int], Any]]:
  """The experiment, and what predicts so many examples."""
  if coder.run is not None:
    built, reading, params = finished.backbone(coder.run, coder.data_dir, coder.best)
    return built, lambda examples: codec.Trained(
      reading, params, coder.batch or codec.default_batch(examples)
    )
  config = coder.settings()
  built = experiment.build(config, coder.data_dir)
  schedule = {
    'chunk': coder.chunk,
    'updates': coder.updates,
    'batch': config.training.batch_size,
    'replay': coder.replay,
    'seed': config.training.seed,
  }
  settings = prequential.describe(built.model, config, built.space, schedule)
  return built, lambda examples: prequential.Prequential(settings, examples)


def _decode(coder: Coder, file: BinaryIO, out: BinaryIO) -> int:
  """Decodes a stream into a file; returns the number of symbols."""
  header, seal = container.read_header(file)
  if header.mode == container.NETWORK:
    if coder.run is None:
      raise container.StreamError('encoded by a trained network: --run=DIR names it')
    _, reading, params = finished.backbone(coder.run, coder.data_dir, coder.best)
    predictor = codec.Trained(reading, params, header.batch)
  else:
    if coder.run is not None:
      raise container.StreamError('encoded without a trained network: --mode=prequential')
    predictor = prequential.from_header(header)
  with _bar('decode', header.symbols(predictor.reading.dims)) as bar:
    return files.decode(predictor, header, seal, file, out, bar.update)


def _bar(name: str, total: int) -> tqdm.tqdm:
  return tqdm.tqdm(
    total=total, desc=name, unit='symbol', unit_scale=True, leave=False, disable=None
  )
