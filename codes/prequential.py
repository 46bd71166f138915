"""A network that trains on what has been coded, as an expert of a code that learns.

It starts from nothing or, where a finished run goes on learning, from the run's parameters.

A batch is coded with the network that the batches before it made, then both sides train on it.
What predicts is a moving average of the parameters, if asked for, and at a temperature that follows
what was just coded: probabilities are taken to a power, which makes a step of Newton's on the nats
of every batch before the network learns from it (forward calibration: Bornschein and others, 2022).

Shape suffixes: N examples seen, B rows of a batch, T slots, V vocabulary.
"""

import dataclasses
import json
from typing import Any, NamedTuple

import jax
import ml_collections
import numpy as np

from codes import container, counting, experts, learner, network
from models import patterns, transformer
from models.config import ModelConfig
import objectives
from objectives import scoring
from training import keys
from training.state import Task

# What a header may ask for: parameters, layers, products of an update (parameters times tokens),
# its activations, updates a chunk.
_MOST_PARAMETERS, _MOST_LAYERS, _MOST_WORK = 2**24, 32, 2**34
_MOST_ACTIVATIONS, _MOST_UPDATES = 2**26, 2**12
# Updates after a batch of the canary's.
_BRIEF = 2
# No symbol costs more than 30 bits.
_LEAST = 1e-9
# Of the power: how long it remembers, how strongly it is held at 1 at first, where it stays.
_FORGETS, _HELD, _POWERS = 0.8, 100.0, (0.3, 3.0)


class Checked(NamedTuple):
  """What `check` made of plain settings."""

  model: ModelConfig
  objective: objectives.Objective
  space: objectives.Space
  reading: network.Reading
  optimizer: ml_collections.ConfigDict
  schedule: learner.Schedule
  average: int
  calibrated: bool


def check(plain: dict[str, Any], layout: counting.Layout, rows: int = 1) -> Checked:
  """The settings of a network; ValueError, TypeError or KeyError for those that can't be.

  Args:
    plain: as `describe` makes it.
    layout: of the rows.
    rows: that are coded at a time, at most.
  """
  model = ModelConfig(**plain['model'])
  schedule = learner.Schedule(**plain['schedule'])
  for part in (model, schedule):
    container.check_whole(part)
  if (model.vocabulary, model.compute_dtype) != (layout.vocabulary, 'float32'):
    raise ValueError('a network that learns has the vocabulary of its data, in float32')
  parameters = (2 * model.vocabulary + model.length + 2) * model.width + model.matmul_parameters()
  tokens = max(schedule.batch, schedule.chunk, rows) * model.length
  wide = max(model.mlp_ratio * model.width, model.heads * model.length, model.state)
  wide *= model.layers
  if parameters > _MOST_PARAMETERS or model.layers > _MOST_LAYERS:
    raise ValueError(
      f'a network of {parameters:,} parameters in {model.layers} layers is too large'
    )
  if tokens * parameters > _MOST_WORK or tokens * max(wide, model.vocabulary) > _MOST_ACTIVATIONS:
    raise ValueError(f'updates or chunks of {tokens:,} tokens are too large for this network')
  if schedule.updates > _MOST_UPDATES:
    raise ValueError(f'at most {_MOST_UPDATES:,} updates a chunk, not {schedule.updates:,}')
  chosen, shape = dict(plain['objective']), tuple(layout.picture or ())
  space = objectives.Space(model.vocabulary, model.length, layout.length, shape=shape)
  objective = objectives.get(chosen.pop('name'), **chosen).on(space)
  optimizer = ml_collections.ConfigDict(dict(plain['optimizer']))
  average = int(plain['average'])
  if not 0 <= average <= 2**31:
    raise ValueError(f'average must be 0 or more updates, not {average}')
  return Checked(
    model, objective, space, reading(objective, model, space), optimizer, schedule, average,
    bool(plain['calibrated']),
  )  # fmt: skip


class Network(experts.Expert):
  """The network and its learner.

  Args:
    settings: see `check`.
    batch: rows at a time, at most.
    examples: that will be coded.
    start: the run's parameters; None for fresh ones.

  Attributes:
    brief: whether it makes a few updates after a batch and no more, until it is reset.
  """

  def __init__(self, settings: Checked, batch: int, examples: int, start: Any = None):
    self._settings, self._batch, self._examples = settings, batch, examples
    task = make_task(settings.model, settings.objective, settings.space, settings.schedule.seed)
    self._learner = learner.Learner(
      task, settings.optimizer, settings.schedule, examples, settings.average, start
    )
    self._steps = network.Steps(settings.reading, batch)
    self.reset()

  def reset(self) -> None:
    """Forgets everything."""
    self._learner.reset()
    self.brief = False
    self._power, self._curvature = 1.0, _HELD
    self._slope = 0.0
    self._seen_NxT = np.zeros((0, self._settings.model.length), np.int32)

  def start(self, rows: int) -> None:
    self._steps.begin()
    self._slots_BxT = np.zeros((rows, self._settings.reading.dims), np.int32)
    self._slot = 0

  def expect(self) -> np.ndarray:
    p_BxV = self._steps.expect(self._learner.params['backbone'])[: len(self._slots_BxT)]
    if not np.isfinite(p_BxV).all():
      raise ValueError('the network gave probabilities that are not finite')
    log_p_BxV = np.log(np.maximum(p_BxV.astype(np.float64), 1e-30))
    p_BxV = np.exp(self._power * (log_p_BxV - log_p_BxV.max(1, keepdims=True)))
    p_BxV = p_BxV / p_BxV.sum(1, keepdims=True) + _LEAST
    self._log_p_BxV, self._p_BxV = log_p_BxV, p_BxV / p_BxV.sum(1, keepdims=True)
    return self._p_BxV

  def see(self, symbols_B: np.ndarray) -> None:
    rows = len(symbols_B)
    self._slots_BxT[:, self._slot] = symbols_B
    self._slot += 1
    if self._settings.calibrated:
      # Slope and curvature, in the power, of the nats of these symbols.
      mean_B = (self._p_BxV * self._log_p_BxV).sum(1)
      square_B = (self._p_BxV * self._log_p_BxV**2).sum(1)
      self._slope += float((mean_B - self._log_p_BxV[np.arange(rows), symbols_B]).sum())
      self._curvature += float((square_B - mean_B**2).sum())
    padded_B = np.zeros(self._batch, np.int32)
    padded_B[:rows] = symbols_B
    self._steps.see(padded_B)

  def finish(self) -> None:
    if self._settings.calibrated:
      step = self._slope / self._curvature
      self._power = float(np.clip(self._power - step, *_POWERS))
      self._slope, self._curvature = 0.0, _FORGETS * self._curvature
    rows = len(self._slots_BxT)
    places_BxT = np.zeros((rows, self._settings.model.length), np.int32)
    places_BxT[:, np.asarray(self._settings.reading.order)] = self._slots_BxT
    self._seen_NxT = np.concatenate([self._seen_NxT, places_BxT])
    if len(self._seen_NxT) < self._examples:
      nothing = np.full(len(self._seen_NxT), -1, np.int32)
      seen = {'tokens': self._seen_NxT, 'label': nothing}
      self._learner.learn(seen, rows, _BRIEF if self.brief else None)


def reading(
  objective: objectives.Objective, model: ModelConfig, space: objectives.Space
) -> network.Reading:
  """How an objective's network reads examples, symbol by symbol; ValueError if it doesn't."""
  order = objective.slots(space)
  if order is None:
    raise ValueError('only an autoregressive network tells every symbol from those before it')
  window = patterns.of(objective.backbone(space).pattern).window
  return network.Reading(model, space.dims, tuple(int(i) for i in order), window)


def make_task(
  model: ModelConfig, objective: objectives.Objective, space: objectives.Space, seed: int
) -> Task:
  """Training of a fresh backbone on the objective."""

  def init(key: jax.Array) -> Any:
    own = objective.init(jax.random.fold_in(key, 1), space, model.width)
    return {'backbone': transformer.init(model, key), 'objective': own}

  apply = transformer.make_apply(model)
  loss = scoring.make_loss(objective, apply, space, model.dropout > 0)
  return Task(init, scoring.draw, loss, keys.key(seed), transformer.MATRICES)


def describe(
  model: ModelConfig,
  config: Any,
  schedule: dict[str, Any],
  average: int = 0,
  calibrated: bool = False,
) -> dict[str, Any]:
  """What a header says of a network: `check` reads it."""
  fields = {
    'model': plain_model(model),
    'objective': config.objective.to_dict(),
    'optimizer': config.optimizer.to_dict(),
    'schedule': schedule,
    'average': average,
    'calibrated': calibrated,
  }
  return json.loads(json.dumps(fields))


def plain_model(model: ModelConfig) -> dict[str, Any]:
  """The fields of a ModelConfig that are not its defaults."""
  fields = dataclasses.asdict(model)
  defaults = {f.name: f.default for f in dataclasses.fields(ModelConfig)}
  return {name: value for name, value in fields.items() if value != defaults[name]}
