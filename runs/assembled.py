"""What a config is once all rooms have met: a run, ready to train, score and probe."""

import dataclasses
import functools
from typing import Any

import jax
import ml_collections
import numpy as np

from codes import histogram
from data import pipeline
from data.dataset import Dataset, Examples
from models import decoding, transformer
from models.config import ModelConfig
import objectives
from objectives import scoring
from probes import features as features_lib
from probes import linear_mesh
from runs import extraction, noise, sizes, tuning
from runs.errors import UserError
from training import evaluation, keys, sharding
from training.loop import Costs
from training.once import once
from training.state import Task

# Keys of noise at which probes look, one stream a split, after those of evaluations and samples.
_PROBE_STREAM = 3
# Features before pooling that one batch may hold, over all layers.
_SEQUENCE_BYTES = 2**28


@dataclasses.dataclass(frozen=True, eq=False)
class Experiment:
  """One objective on one data set with one backbone, ready to train, score and probe."""

  config: ml_collections.ConfigDict
  dataset: Dataset | None  # None: nothing but the compiled programs is wanted
  probe_dataset: Dataset | None
  space: objectives.Space
  objective: objectives.Objective
  model: ModelConfig
  apply: Any
  mesh: jax.sharding.Mesh
  hashes: dict[str, str] | None  # of both data sets before any rows are left out

  @functools.cached_property
  def task(self) -> Task:
    def init(key: jax.Array) -> Any:
      backbone_key, own_key = jax.random.split(key)
      return {
        'backbone': transformer.init(self.model, backbone_key),
        'objective': self.objective.init(own_key, self.space, self.model.width),
      }

    dropout = self.model.dropout > 0
    loss = scoring.make_loss(self.objective, self.apply, self.space, dropout)
    key = keys.key(self.config.training.seed)
    decayed = (*transformer.MATRICES, *self.objective.decayed)
    return Task(init, scoring.draw, loss, key, decayed, self.objective.unclipped)

  @functools.cached_property
  def decode(self) -> Any:
    """Draws from the backbone left to right with a key/value cache."""
    return decoding.make_decode(self.model)

  @functools.cached_property
  def cache(self) -> Any:
    """Makes an empty key/value cache for so many examples."""
    return decoding.make_cache(self.model)

  @functools.cached_property
  def extend(self) -> Any:
    """Computes some positions after those in a cache."""
    return decoding.make_extend(self.model)

  @functools.cached_property
  def batches(self) -> pipeline.Batches:
    settings = self.config.training
    return pipeline.Batches(self.dataset, settings.seed, settings.batch_size)

  def batches_in(self, order: np.ndarray | None) -> pipeline.Batches:
    """As `batches`, every epoch in this order of row numbers."""
    settings = self.config.training
    if order is None:
      return self.batches
    return pipeline.Batches(self.dataset, settings.seed, settings.batch_size, order)

  @property
  def costs(self) -> Costs:
    """Of one training step: forward plus backward is three forward passes."""
    batch, cost = self.config.training.batch_size, self.objective.cost(self.model, self.space)
    return Costs(tokens=batch * self.space.dims, flops=3 * batch * cost.flops)

  @property
  def steps(self) -> int:
    return self.config.training.steps if self.objective.trains else 0

  @property
  def size(self) -> str:
    """What runs of this backbone's size are called."""
    return sizes.name(self.config.model)

  @functools.cached_property
  def _compiled(self) -> dict[tuple, Any]:
    return {}

  def _evaluate(self, objective: objectives.Objective, draws: int, beside: bool) -> Any:
    """The jitted evaluation of an objective with so many draws, built once.

    `beside` has the histogram's cost on the same views beside it.
    """
    key = (objective, draws, beside)
    if key not in self._compiled:
      table_TxV = self.histogram if beside else None
      evaluate = scoring.make_evaluation(
        objective, self.apply, self.space, draws, self.dataset.truth, table_TxV
      )
      out = sharding.replicated(self.mesh)
      self._compiled[key] = jax.jit(evaluate, out_shardings=out)
    return self._compiled[key]

  def per_example(
    self,
    params: Any,
    examples: Examples,
    draws: int,
    stream: int,
    objective: objectives.Objective | None = None,
    beside: bool = False,
    **arguments: Any,
  ) -> dict[str, Any]:
    """Per-example nats, loss and terms of a whole split, means over draws.

    `objective` scores the same parameters by another code than their own. `stream` keeps the keys
    of different splits apart; they never depend on the training seed. With `beside`, 'table' is
    what the histogram pays on the same views, in bits.
    """
    key = jax.random.fold_in(keys.key(self.config.evaluation.seed), stream)
    function = self._evaluate(objective or self.objective, draws, beside)
    return evaluation.over_split(
      lambda batch: function(params, batch, key),
      {'tokens': examples.tokens_NxT, 'label': examples.labels_N},
      self.config.evaluation.batch_size,
      self.mesh,
      **arguments,
    )

  @functools.cached_property
  def histogram(self) -> np.ndarray | None:
    """Bits of every value at every charged position by the training histogram, TxV; None for an
    endless source."""
    counts_TxV = self.dataset.counts_TxV
    return None if counts_TxV is None else histogram.table(counts_TxV)

  def extraction(self, level: float | None) -> Any:
    """The jitted feature extraction at one noise level, built once."""
    key = ('features', level)
    if key not in self._compiled:
      out = sharding.replicated(self.mesh)
      self._compiled[key] = jax.jit(self._extract(level), out_shardings=out)
    return self._compiled[key]

  def writing(self, level: float | None) -> Any:
    """The same straight into buffers on the mesh, `extraction.make_write`."""
    key = ('written features', level)
    if key not in self._compiled:
      self._compiled[key] = extraction.make_write(self._extract(level), self.mesh)
    return self._compiled[key]

  def _extract(self, level: float | None) -> Any:
    draws = self.config.probe.level_draws
    return features_lib.make_extract(self.objective, self.apply, self.space, level, draws)

  def features(self, params: Any, tokens_NxT: Any, **arguments: Any) -> Any:
    """Mean-pooled features of clean examples, (L+1, N, D)."""
    return self._pooled(params, tokens_NxT, None, 0, **arguments)[0]

  def noisy_features(self, params: Any, split: str, level: float) -> Any:
    """Mean-pooled features of a split of the probed data at a noise level, (L+1, N, D)."""
    if self.large:
      return self._layers(params, level, (split,), 1)[split][0]
    tokens_NxT = getattr(self.probe_dataset, split).tokens_NxT
    return self._pooled(params, tokens_NxT, level, features_lib.SPLITS.index(split))[0]

  def validation_features(self, params: Any) -> Any:
    """Mean-pooled features of clean validation examples of the probed data, (L+1, N, D)."""
    if self.large:
      return self._layers(params, None, ('validation',), 1)['validation'][0]
    return self.features(params, self.probe_dataset.validation.tokens_NxT)

  @property
  def large(self) -> bool:
    """Whether features of the probed data stay on the devices, as `linear_mesh.engine` says."""
    return self._on_mesh(self.model.layers + 1, self.model.width)

  def _on_mesh(self, layers: int, width: int) -> bool:
    dataset = self.probe_dataset
    shape = (layers, len(dataset.train), width)
    try:
      return linear_mesh.engine(self.config.probe.linear, shape, dataset.classes) == 'mesh'
    except ValueError as error:
      raise UserError(f'probe.linear: {error}') from error

  def raw_features(self) -> features_lib.Features:
    """The raw input of the probed data, the control without a network."""
    dataset = self.probe_dataset
    if not self._on_mesh(1, features_lib.flat_width(dataset)):
      return features_lib.raw(dataset, self.unseen)
    return extraction.raw(dataset, self.mesh, self.config.probe.batch_size, self.unseen)

  def _layers(
    self, params: Any, level: float | None, splits: tuple[str, ...], poolings: int, **arguments: Any
  ) -> dict[str, Any]:
    """`probes.layers.Layers` of splits of the probed data, one a pooling."""
    key = keys.key(self.config.evaluation.seed)
    numbers = {split: _PROBE_STREAM + features_lib.SPLITS.index(split) for split in splits}
    return extraction.layers_of(
      self.writing(level),
      params,
      {split: getattr(self.probe_dataset, split) for split in splits},
      {split: jax.random.fold_in(key, number) for split, number in numbers.items()},
      layers=self.model.layers + 1,
      width=self.model.width,
      poolings=poolings,
      batch_size=self.config.probe.batch_size,
      mesh=self.mesh,
      **arguments,
    )

  def _pooled(
    self, params: Any, tokens_NxT: Any, level: float | None, split: int, **arguments: Any
  ) -> Any:
    """Features under both poolings, (2, L+1, N, D); noise is the split's own."""
    key = keys.key(self.config.evaluation.seed)
    key = jax.random.fold_in(key, _PROBE_STREAM + split)
    function = self.extraction(level)
    extracted = evaluation.over_split(
      lambda batch: function(params, batch, key),
      {'tokens': tokens_NxT},
      self.config.probe.batch_size,
      self.mesh,
      **arguments,
    )
    return np.ascontiguousarray(extracted.transpose(2, 1, 0, 3))

  def sequences(self, params: Any, tokens_NxT: Any, layer: int) -> Any:
    """Clean features of one layer before pooling, (N, T, D)."""
    if 'sequences' not in self._compiled:
      made = features_lib.make_sequences(self.objective, self.apply, self.space)
      self._compiled['sequences'] = jax.jit(made, out_shardings=sharding.replicated(self.mesh))
    key, function = keys.key(self.config.evaluation.seed), self._compiled['sequences']
    example = 4 * (self.model.layers + 1) * self.model.length * self.model.width
    return evaluation.over_split(
      lambda batch: function(params, batch, key, layer),
      {'tokens': tokens_NxT},
      max(1, min(self.config.probe.batch_size, _SEQUENCE_BYTES // example)),
      self.mesh,
    )

  def probe_features(
    self, params: Any, level: float | None = None, **arguments: Any
  ) -> features_lib.Features:
    """Features of all three splits of the probed data set, and what else a probe may ask for."""
    dataset = self.probe_dataset
    if self.large:
      wanted = 2 if 'pooling' in self.config.probe.suite else 1
      pooled = self._layers(params, level, features_lib.SPLITS, wanted, **arguments)
    else:
      pooled = {
        split: self._pooled(params, getattr(dataset, split).tokens_NxT, level, number, **arguments)
        for number, split in enumerate(features_lib.SPLITS)
      }

    def sequences(split: str, layer: int, rows: Any) -> Any:
      return self.sequences(params, getattr(dataset, split).tokens_NxT[rows], layer)

    return features_lib.assemble(
      dataset,
      {split: both[0] for split, both in pooled.items()},
      last={s: both[1] for s, both in pooled.items()} if len(pooled['train']) > 1 else None,
      inputs={split: extraction.Inputs(dataset, split) for split in features_lib.SPLITS},
      sequences=sequences if level is None else None,
      unseen=self.unseen,
      once=once,
      pretraining_seed=self.config.training.seed,
      tuner=tuning.make_tuner(self, params) if level is None else None,
    )

  @property
  def note(self) -> str:
    """What the bits are of, and what the probes had, for people."""
    limited = self.probed and self.config.probe.train_rows
    labelled = self.probe_dataset.train
    if not limited or not isinstance(labelled, Examples):
      return self.dataset.note
    return f'{self.dataset.note}; probes have {len(labelled)} training labels'

  @property
  def probed(self) -> bool:
    """Whether there are labels; without them bits are all there is."""
    return self.probe_dataset.classes is not None

  @property
  def unseen(self) -> tuple[str, ...]:
    """Splits of the probed data that no pretraining on this data has a part of.

    Also for a network that was not trained: it stands in one table with those that were, and a
    certificate from more labels would look better for that alone.
    """
    names = {one.name.partition(':')[0] for one in (self.dataset, self.probe_dataset)}
    own = self.dataset.epoch is not None and len(names) == 1
    # Weights, order or noise may be of an earlier run, which may have been trained on anything.
    before = self.config.training.init_from or self.config.data.get('order_by')
    before = before or noise.run_of(self.objective)
    return ('validation', 'test') if own or before else features_lib.SPLITS
