"""The requential code: how many bits describe what a network has become (Finzi and others, 2026).

A teacher learns from data, step by step. A student begins as the teacher did and learns from what
the teacher at that step draws, and nothing else. Whoever has the student can be sent a draw of the
teacher for about as many bits as the two differ by, KL(teacher || student), whatever the entropy of
the draw (relative entropy coding): so the student at the end has a description as long as the
cumulated KL, and by then it expects what the teacher does. arXiv 2601.03220, section 4.

One message a step, of all its draws, has a mean length of at most KL + log2(KL + 1) + 4 bits (Li
and El Gamal, 2018). To find it one would try some 2^KL draws: the code exists, and nobody writes
it.

Shape suffixes: B rows of a batch, T slots, V vocabulary.
"""

from collections.abc import Callable, Iterable
import math
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from codes import learner, network
from models import decoding, transformer
from models.config import ModelConfig
from training.state import Task


class Side(Protocol):
  """A teacher or a student."""

  def log_p(self, slots_BxT: np.ndarray) -> np.ndarray:
    """log p (B, T, V), nats, of every slot's symbol given those before it."""

  def learn(self, slots_BxT: np.ndarray) -> None:
    """One update from these rows."""


class Teacher(Side, Protocol):
  def draw(self, count: int) -> np.ndarray:
    """Rows (count, T) of its own, new ones at every call."""


class Described(NamedTuple):
  """What the student took.

  Attributes:
    kl_bits: cumulated KL.
    code_bits: of the messages, a bound on the mean.
    steps, draws: messages, and rows drawn in all.
    by_step: KL of every message, bits.
  """

  kl_bits: float
  code_bits: float
  steps: int
  draws: int
  by_step: list[float]


def message_bits(kl_bits: float) -> float:
  """Mean length of one message, at most (Li and El Gamal, 2018)."""
  return kl_bits + math.log2(kl_bits + 1) + 4


def describe(
  teacher: Teacher,
  student: Side,
  batches: Iterable[np.ndarray],
  pause: Callable[[], None] = lambda: None,
) -> Described:
  """The length of the student's description.

  The KL of a step is the sum over its draws and over slots of the KL of a slot's symbol given those
  before it: exact given these, an estimate over them.

  Args:
    teacher: both begin alike, or their first difference is paid for.
    student: see there.
    batches: slots (B, T) that the teacher learns from, one after the other; the student learns
      from as many draws.
    pause: called before every step; may raise.
  """
  by_step, draws = [], 0
  for slots_BxT in batches:
    pause()
    teacher.learn(slots_BxT)
    drawn_BxT = teacher.draw(len(slots_BxT))
    log_t, log_s = (np.asarray(side.log_p(drawn_BxT), np.float64) for side in (teacher, student))
    by_step.append(max(0.0, float((np.exp(log_t) * (log_t - log_s)).sum()) / math.log(2)))
    student.learn(drawn_BxT)
    draws += len(drawn_BxT)
  code_bits = sum(map(message_bits, by_step))
  return Described(sum(by_step), code_bits, len(by_step), draws, by_step)


class Network:
  """A causal network as either side.

  Args:
    task: what is learnt; its key decides where it begins.
    reading: of its backbone.
    optimizer: config section of that name, for `steps` updates.
    steps: that it will learn.
    batch: rows of an update.
    average: updates that the moving average of its parameters reaches back, which draws and
      expects in their place; 0 for none.
    key: of its draws.
  """

  def __init__(
    self,
    task: Task,
    reading: network.Reading,
    optimizer: Any,
    steps: int,
    batch: int,
    average: int,
    key: jax.Array,
  ):
    model: ModelConfig = reading.model
    schedule = learner.Schedule(batch, 1, batch, False, 0)
    # One update after every batch but the last.
    self._learner = learner.Learner(task, optimizer, schedule, (steps + 1) * batch, average)
    self._reading, self._key, self._drawn = reading, key, 0
    apply, decode = transformer.make_apply(model), decoding.make_decode(model)
    pattern = ('causal', reading.window) if reading.window else ('causal',)

    def log_p(params: Any, slots_BxS: jax.Array) -> jax.Array:
      out = apply(params, slots_BxS, pattern=pattern, shift=True)
      return jax.nn.log_softmax(out.logits_BxTxV[:, : reading.dims])

    self._log_p = jax.jit(log_p)
    self._decode = jax.jit(
      lambda params, key, count: decode(params, key, count, pattern), static_argnums=2
    )

  @property
  def params(self) -> Any:
    """Of backbone and objective, as they expect."""
    return self._learner.params

  def log_p(self, slots_BxT: np.ndarray) -> np.ndarray:
    padded = np.pad(slots_BxT, ((0, 0), (0, self._reading.model.length - slots_BxT.shape[1])))
    return np.asarray(self._log_p(self.params['backbone'], jnp.asarray(padded, jnp.int32)))

  def draw(self, count: int) -> np.ndarray:
    key = jax.random.fold_in(self._key, self._drawn)
    self._drawn += 1
    drawn = self._decode(self.params['backbone'], key, count)
    return np.asarray(drawn)[:, : self._reading.dims]

  def learn(self, slots_BxT: np.ndarray) -> None:
    places_BxT = np.zeros((len(slots_BxT), self._reading.model.length), np.int32)
    places_BxT[:, np.asarray(self._reading.order)] = slots_BxT
    nothing_B = np.full(len(slots_BxT), -1, np.int32)
    metrics = self._learner.update({'tokens': places_BxT, 'label': nothing_B})
    if not np.isfinite(float(metrics['loss'])):
      raise ValueError('the loss is not finite: lower optimizer.learning_rate')
