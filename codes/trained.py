"""A network that is done with learning, as a predictor of the codec."""

from typing import Any

import numpy as np

from codes import codec, container, network
from models.config import ModelConfig

BATCH = 256
# Numbers a layer, or all layers' keys, that more examples at a time than these may take.
_MOST_ACTIVATIONS = 2**26


class Trained(codec.Predictor):
  """The header names the network by its fingerprint.

  Args:
    reading: how an example is read.
    params: the backbone's.
    batch: examples at a time; the last batch may have fewer.
  """

  def __init__(self, reading: network.Reading, params: Any, batch: int):
    self.reading, self.batch = reading, batch
    self.vocabulary, self.order = reading.model.vocabulary, reading.order
    self._steps, self.params = network.Steps(reading, batch), params

  def walk(self, code: codec.At, orders_NxT: np.ndarray) -> np.ndarray:
    del orders_NxT
    return self._steps.walk(self.params, code)

  def canary(self) -> bytes:
    return self._steps.canary(self.params)

  def program(self) -> str:
    return network.program()

  def claims(self) -> dict[str, Any]:
    model = network.fingerprint(self.reading, self.params)
    return super().claims() | {'mode': container.NETWORK, 'model': model}

  def check(self, header: container.Header) -> None:
    if header.model != network.fingerprint(self.reading, self.params):
      raise container.StreamError('encoded by another network than this run')
    super().check(header)


def check_batch(batch: int, model: ModelConfig) -> None:
  """ValueError for more examples at a time than a header may ask a trained network to compute."""
  wide = max(
    model.layers * model.width, model.mlp_ratio * model.width, model.heads * model.length,
    model.vocabulary, model.state,
  )  # fmt: skip
  most = min(container.MOST_BATCH, max(BATCH, _MOST_ACTIVATIONS // (model.length * wide)))
  if batch > most:
    raise ValueError(f'at most {most:,} examples can be computed at a time, not {batch:,}')


def default_batch(examples: int) -> int:
  """Examples a step: a power of 2 that is not much more than there are."""
  return min(BATCH, 1 << max(0, examples - 1).bit_length())
