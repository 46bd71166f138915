"""Files to streams and back, by a finished run or by a code that learns as it decodes."""

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

from codes import (
  adaptive,
  any_order,
  codec,
  container,
  description,
  files,
  filling,
  prequential,
  program,
)
from codes import trained as trained_lib
from data import kept, text
from data.dataset import Examples
from reports import codes_text
from runs import configs, experiment, finished
from runs import learning as learning_lib
from runs.errors import UserError
from training import preemption

# Validation examples, at most, of which every other one chooses the sizes of steps.
_PROFILED = 512


@dataclasses.dataclass(frozen=True)
class Coder:
  """What codes.

  Attributes:
    run: a finished run; None for a code that learns from nothing.
    best: the run's best checkpoint on validation, not its last.
    config: of a code that learns: 'FILE:OBJECTIVE' of its network and of its data, as `overrides`
      change it; a file alone is read with the objective that can decode. None where a stream has
      it.
    data_dir: prepared data sets.
    batch: examples that a run computes at a time; None for a number that suits theirs.
    learning: of a code that learns.
    goes_on: whether the run goes on learning from what it has coded.
    order: of a run that fills in hidden symbols: 'random' or 'raster'.
    steps: of such a run, passes in which an example is decided; 0 for one a symbol.
  """

  run: str | None
  best: bool
  config: str | None
  overrides: tuple[str, ...]
  data_dir: str
  batch: int | None
  learning: learning_lib.Learning = dataclasses.field(default_factory=learning_lib.Learning)
  order: str = 'random'
  steps: int = 0
  goes_on: bool = False

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
    raise UserError('verify of a file that is not coded needs --config or --run')
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
  windows, space, predictor_of = _encoder(coder)
  source, fields = files.source(path, space, windows)
  try:
    predictor = predictor_of(source.total)
    header = container.Header(**fields, **predictor.claims())
    with _bar('encode', source.total) as bar:
      sizes = codec.encode(predictor, source, header, out, bar.update)
  except ValueError as error:
    raise UserError(f'{path}: {error}') from error
  made = {'path': path, 'windows': windows, 'vocabulary': space.vocabulary}
  made |= {'raw_bytes': os.path.getsize(path), **dataclasses.asdict(sizes), 'program': None}
  made['alone'] = predictor.spent() if isinstance(predictor, adaptive.Adaptive) else {}
  if coder.run is None:
    driver = program.NETWORKS if coder.learning.networks else program.COUNTING
    made['program'] = program.of_driver(driver)._asdict()
    made['raw'] = description.raw(sizes.symbols, space.vocabulary)._asdict()
  else:
    made['parameters'] = sum(leaf.size for leaf in jax.tree.leaves(predictor.params))
    priced = isinstance(predictor, any_order.AnyOrder) and predictor.price
    made['price'] = priced._asdict() if priced else None
  return codes_text.compressed(made)


def _encoder(coder: Coder) -> tuple[bool, Any, Callable[[int], codec.Predictor]]:
  """Whether any file will do, the space of examples, and what predicts so many symbols."""
  if coder.run is not None:
    built, params = finished.coded(coder.run, coder.data_dir, coder.best)
    windows, start = text.is_text(built.config.data), adaptive.Start(built.model, params)
    if not coder.goes_on:
      return windows, built.space, _of_run(coder, built, params)
    dataset, _ = experiment.load_datasets(built.config, coder.data_dir, coder.run)
  else:
    built, start = experiment.build(coder.settings(), coder.data_dir), None
    windows, dataset = text.is_text(built.config.data), built.dataset
  settings = learning_lib.settings(built, dataset, coder.learning, coder.goes_on)
  return (
    windows,
    built.space,
    lambda total: adaptive.Adaptive(settings, total, preemption.check, start),
  )


def _of_run(
  coder: Coder, built: experiment.Experiment, params: Any
) -> Callable[[int], codec.Predictor]:
  """What predicts so many symbols by a run's network, to encode."""

  def made(total: int) -> codec.Predictor:
    dims = built.space.dims
    batch = coder.batch or trained_lib.default_batch(codec.count_examples(total, dims))
    trained_lib.check_batch(batch, built.model)
    if built.objective.slots(built.space) is not None:
      if coder.steps:
        raise UserError('--steps is for a run that fills in symbols; this one reads them in turn')
      return _causal(built, params, batch)
    settings = any_order.Settings(coder.order, built.config.training.seed, (1,) * dims)
    predictor = _filling(built, params, batch, settings)
    if coder.steps and coder.steps != dims:
      known, _ = experiment.load_datasets(built.config, coder.data_dir, coder.run)
      tokens = known.validation.tokens_NxT[:_PROFILED, :dims]
      if len(tokens) < 2:
        raise UserError('--steps needs two validation examples: one chooses, one says the price')
      predictor.choose_steps(coder.steps, tokens[::2], tokens[1::2])
    return predictor

  return made


def _causal(built: experiment.Experiment, params: Any, batch: int) -> codec.Predictor:
  reading = prequential.reading(built.objective, built.model, built.space)
  return trained_lib.Trained(reading, params['backbone'], batch)


def _filling(
  built: experiment.Experiment, params: Any, batch: int, settings: any_order.Settings
) -> any_order.AnyOrder:
  filler = filling.filler(built.objective, built.space)
  return any_order.AnyOrder(filler, built.model, built.space, params, batch, settings)


def _decode(coder: Coder, file: BinaryIO, out: BinaryIO) -> int:
  """Decodes a stream into a file; returns the number of symbols."""
  reader = container.Reader(file)
  header = reader.header
  if header.mode != container.ADAPTIVE:
    if coder.run is None:
      raise container.StreamError('encoded by a trained network: --run=DIR names it')
    built, params = finished.coded(coder.run, coder.data_dir, coder.best)
  if header.mode == container.NETWORK:
    try:
      trained_lib.check_batch(header.batch, built.model)
    except ValueError as error:
      raise container.StreamError(f'its header asks for too much: {error}') from error
    if built.objective.slots(built.space) is None:
      block = filling.filler(built.objective, built.space).fills(built.space)
      settings = any_order.unpack(header.settings, built.space.dims, block)
      predictor = _filling(built, params, header.batch, settings)
    else:
      predictor = _causal(built, params, header.batch)
  elif header.mode == container.GOES_ON:
    start = adaptive.Start(built.model, params)
    predictor = adaptive.from_header(header, preemption.check, start)
  else:
    if coder.run is not None:
      raise container.StreamError('encoded without a trained network: --mode=prequential')
    predictor = adaptive.from_header(header, preemption.check)
  with _bar('decode', header.symbols(predictor.dims)) as bar:
    return files.decode(predictor, reader, out, bar.update)


def _bar(name: str, total: int) -> tqdm.tqdm:
  return tqdm.tqdm(
    total=total, desc=name, unit='symbol', unit_scale=True, leave=False, disable=None
  )
