"""A real code of labels given features: what `probes.prequential` says in bits, as bytes.

A range coder turns the predictor's probabilities into bytes, label by label. The decoder runs the
same predictor, refits it to the labels decoded so far at the start of every block, and so has the
same probabilities when it needs them. That needs the same program on the same machine: the fits are
floating point, and another library or number of threads may round differently.
"""

from collections.abc import Callable
from typing import Any

from constriction import stream
import numpy as np


def encode(predictor: Any, labels: np.ndarray) -> bytes:
  """Codes the labels of the predictor's first examples.

  The probabilities are rounded to multiples of 2^-24, none to zero: some 1e-6 bits a label. The
  length in bits exceeds the sum of -log2 p by at most 64 (the coder works in words of 32) beside.

  Args:
      predictor: `probes.prequential.Predictor`, or anything with its blocks, begin_block,
          probabilities and observe.
      labels: (n,) integers in [0, classes), in coding order.
  """
  labels = np.asarray(labels)
  encoder = stream.queue.RangeEncoder()

  def put(index: int, categorical: stream.model.Categorical) -> int:
    label = int(labels[index])
    encoder.encode(label, categorical)
    return label

  _run(predictor, len(labels), put)
  return encoder.get_compressed().astype('<u4').tobytes()


def decode(predictor: Any, count: int, code: bytes) -> np.ndarray:
  """The labels (count,) int64 that `encode` coded with an equal predictor.

  Nothing detects a damaged code: it decodes to other labels.
  """
  decoder = stream.queue.RangeDecoder(np.frombuffer(code, '<u4').astype(np.uint32))
  return _run(predictor, count, lambda _, categorical: int(decoder.decode(categorical)))


def _run(
  predictor: Any, count: int, code: Callable[[int, stream.model.Categorical], int]
) -> np.ndarray:
  """The walk over the labels that encoder and decoder share; `code` puts or gets one label."""
  labels = np.zeros(count, np.int64)
  for start, stop in predictor.blocks:
    if start >= count:
      break
    predictor.begin_block(labels[:start])
    for index in range(start, min(stop, count)):
      categorical = stream.model.Categorical(predictor.probabilities(index), perfect=False)
      labels[index] = code(index, categorical)
      predictor.observe(index, labels[index])
  return labels
