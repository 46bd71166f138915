"""Prequential code of data: no weights are sent; the decoder trains as it decodes.

A chunk is coded with the network that the chunks before it made, then both sides train on it. The
size of the stream is the whole description length of the data, given the program
(`program_bits`: its source) and the libraries it calls. Dawid, 1984; Blier and Ollivier, 2018.
"""

import ast
from collections.abc import Callable
import dataclasses
import hashlib
import json
import lzma
import os
import subprocess
import sys
from typing import Any

import jax
import ml_collections
import numpy as np

from codes import codec, container, learner, network
from models import patterns, transformer
from models.config import ModelConfig
import objectives
from objectives import scoring
from training import keys, preemption
from training.state import Task

# Of the canary: made-up examples that a fresh learner learns from, and updates that it makes.
_CANARY_ROWS, _CANARY_UPDATES = 8, 4


class Prequential(codec.Predictor):
  """A predictor (codes.codec) that learns from every chunk.

  Args:
    settings: plain, as the stream's header carries them: model (fields of ModelConfig), objective
      (name and settings), optimizer, schedule (fields of learner.Schedule), dims, shape.
    examples: that will be coded.

  Raises:
    ValueError: settings that are wrong, or an objective that doesn't decode symbol by symbol.
  """

  def __init__(self, settings: dict[str, Any], examples: int):
    self.settings, self._examples = settings, examples
    model = ModelConfig(**settings['model'])
    chosen = dict(settings['objective'])
    space = objectives.Space(
      model.vocabulary, model.length, settings['dims'], shape=tuple(settings['shape'])
    )
    objective = objectives.get(chosen.pop('name'), **chosen).on(space)
    self.reading = reading(objective, model, space)
    self._length = model.length
    self._learner = learner.Learner(
      make_task(model, objective, space, settings['schedule']['seed']),
      ml_collections.ConfigDict(settings['optimizer']),
      learner.Schedule(**settings['schedule']),
      examples,
    )
    self.batch = self._learner.schedule.chunk
    self._steps = network.Steps(self.reading, self.batch)
    self._seen_NxT = np.zeros((0, model.length), np.int32)

  def walk(self, code: Callable[[int, np.ndarray], np.ndarray]) -> np.ndarray:
    preemption.check()
    return self._steps.walk(self._learner.params['backbone'], code)

  def learn(self, slots_NxT: np.ndarray) -> None:
    places = np.zeros((len(slots_NxT), self._length), np.int32)
    places[:, np.asarray(self.reading.order)] = slots_NxT
    self._seen_NxT = np.concatenate([self._seen_NxT, places])
    if len(self._seen_NxT) < self._examples:
      self._learner.learn(_batch(self._seen_NxT))

  def claims(self) -> dict[str, Any]:
    settings = json.dumps(self.settings, separators=(',', ':')).encode()
    own = {'mode': container.PREQUENTIAL, 'model': bytes(8), 'settings': settings}
    return super().claims() | own

  def canary(self) -> bytes:
    """A digest of what the network is, and expects, after a little training on made-up examples.

    An untrained network is uniform, whatever its arithmetic. The learner is reset afterwards.
    """
    rng = np.random.default_rng(0)
    shape = (_CANARY_ROWS, self._length)
    made_up = rng.integers(0, self.reading.model.vocabulary, shape, np.int32)
    updates = 0
    while updates < _CANARY_UPDATES and self._learner.schedule.updates:
      self._learner.learn(_batch(made_up))
      updates += self._learner.schedule.updates
    params = self._learner.params['backbone']
    found = network.fingerprint(self.reading, params) + self._steps.canary(params)
    self._learner.reset()
    return hashlib.sha256(found).digest()[:8]


def from_header(header: container.Header) -> Prequential:
  """The predictor that a stream describes; StreamError if it can't be made."""
  try:
    settings = json.loads(header.settings)
    dims = int(settings['dims'])
    return Prequential(settings, codec.count_examples(header.symbols(dims), dims))
  except (ValueError, KeyError, TypeError) as error:
    raise container.StreamError(f'the settings in the header can not be used: {error}') from error


def reading(
  objective: objectives.Objective, model: ModelConfig, space: objectives.Space
) -> network.Reading:
  """How an objective's network reads examples, symbol by symbol; ValueError if it doesn't."""
  order = objective.slots(space)
  if order is None:
    raise ValueError(
      'only an autoregressive network tells every symbol from those before it: this objective '
      'gives no code that could be decoded'
    )
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


def _batch(tokens_NxT: np.ndarray) -> dict[str, np.ndarray]:
  return {'tokens': tokens_NxT, 'label': np.full(len(tokens_NxT), -1, np.int32)}


def describe(
  model: ModelConfig, config: Any, space: objectives.Space, schedule: dict[str, Any]
) -> dict[str, Any]:
  """The settings of `Prequential`, from a config and its data."""
  return json.loads(
    json.dumps(
      {
        'model': plain_model(model),
        'objective': config.objective.to_dict(),
        'optimizer': config.optimizer.to_dict(),
        'schedule': schedule,
        'dims': space.dims,
        'shape': space.shape,
      }
    )
  )


def plain_model(model: ModelConfig) -> dict[str, Any]:
  """The fields of a ModelConfig that are not its defaults."""
  fields = dataclasses.asdict(model)
  defaults = {f.name: f.default for f in dataclasses.fields(ModelConfig)}
  return {name: value for name, value in fields.items() if value != defaults[name]}


def program_bits() -> tuple[int, int]:
  """Size of the program that decodes: bits, and the number of its modules.

  The rule: the source of every module of this code base that a fresh Python has loaded once it has
  imported what decoding needs (codes.codec, codes.prequential, codes.files), without comments and
  docstrings, in the order of their names, each after its name, compressed by xz -9e. The libraries
  (Python, NumPy, JAX, constriction ...) count as the machine.
  """
  found = {}
  for name, path in sorted(_program().items()):
    with open(path, encoding='utf-8') as file:
      found[name] = stripped(file.read())
  text = '\n'.join(f'{name}\n{source}' for name, source in found.items())
  return 8 * len(lzma.compress(text.encode(), preset=9 | lzma.PRESET_EXTREME)), len(found)


_LIST = """
import json, os, sys
import codes.codec, codes.prequential, codes.files
root = os.path.dirname(os.path.dirname(os.path.abspath(codes.codec.__file__)))
paths = {name: getattr(module, '__file__', None) for name, module in sys.modules.items()}
own = {name: os.path.abspath(path) for name, path in paths.items() if path}
print(json.dumps({k: v for k, v in own.items() if os.path.dirname(os.path.dirname(v)) == root}))
"""


def _program() -> dict[str, str]:
  """Modules of this code base that decoding loads, and their files."""
  root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
  environment = {**os.environ, 'PYTHONPATH': root, 'JAX_PLATFORMS': 'cpu'}
  done = subprocess.run(
    [sys.executable, '-c', _LIST], env=environment, capture_output=True, text=True, check=True
  )
  return json.loads(done.stdout)


def stripped(source: str) -> str:
  """The same program without comments and docstrings."""
  tree = ast.parse(source)
  for node in ast.walk(tree):
    if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
      if ast.get_docstring(node, clean=False) is not None:
        node.body = node.body[1:] or [ast.Pass()]
  return ast.unparse(tree)
