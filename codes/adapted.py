"""Conditional code lengths of a network: what y costs after x was learnt from.

C(y | x) is the nats of y under the network after plain gradient steps on -log p(x): a prequential
code of y after x, whose decoder makes the same steps. It is computed exactly, by adapting the
parameters and running the network again for every x; no first-order approximation.

Shape suffixes: N rows learnt from, Q rows coded, T tokens, K classes, M rows of a class.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from codes.errors import CodeError
import objectives
from objectives import scoring
from training import keys

# nats(params, tokens (B, T)) -> (B,), differentiable.
Nats = Callable[[Any, jax.Array], jax.Array]


def make_nats(objective: objectives.Objective, apply: Any, space: objectives.Space) -> Nats:
  """Nats per example, -log p exactly.

  Raises:
    CodeError: the objective's code is not exact, so that a difference of two lengths says nothing.
  """
  if objective.code is not objectives.Code.EXACT:
    raise CodeError("code lengths of a network need an exact code, as 'autoregressive' has")
  evaluate = scoring.make_evaluation(objective, apply, space, 1)

  def nats(params: Any, tokens_BxT: jax.Array) -> jax.Array:
    nothing_B = jnp.zeros(len(tokens_BxT), jnp.int32)
    batch = {'tokens': tokens_BxT, 'label': nothing_B, 'index': nothing_B}
    # An exact code draws nothing, so the key is of no account.
    return evaluate(params, batch, keys.key(0))['nats']

  return nats


def descend(
  nats: Nats, params: Any, tokens_MxT: jax.Array, weights_M: jax.Array, size: float, steps: int
) -> Any:
  """The parameters after plain gradient steps on the weighted sum of nats of some rows."""

  def loss(params: Any) -> jax.Array:
    return jnp.sum(weights_M * nats(params, tokens_MxT))

  def step(_, params: Any) -> Any:
    return jax.tree.map(lambda p, g: p - size * g, params, jax.grad(loss)(params))

  return jax.lax.fori_loop(0, steps, step, params)


def _in_chunks(nats: Nats, params: Any, tokens_QxT: jax.Array, chunk: int) -> jax.Array:
  """Nats (Q,), at most `chunk` rows at once."""
  count = len(tokens_QxT)
  chunk = min(chunk, count)
  filled = jnp.pad(tokens_QxT, ((0, -count % chunk), (0, 0)))
  parts = filled.reshape(-1, chunk, filled.shape[-1])
  return jax.lax.map(lambda part: nats(params, part), parts).reshape(-1)[:count]


class Lengths:
  """Code lengths under one network, before and after it has learnt from given rows; in nats."""

  def __init__(self, nats: Nats, params: Any, *, chunk: int = 100, together: int = 1):
    """`chunk` rows are coded at once, under `together` adapted networks at once."""

    def after_rows(params, bank_NxMxT, weights_NxM, tokens_QxT, size, steps):
      def one(rows):
        adapted = descend(nats, params, *rows, size, steps)
        return _in_chunks(nats, adapted, tokens_QxT, chunk)

      return jax.lax.map(one, (bank_NxMxT, weights_NxM), batch_size=together)

    self._params = params
    self._after = jax.jit(after_rows)
    self._alone = jax.jit(lambda params, tokens: _in_chunks(nats, params, tokens, chunk))

  def alone(self, tokens_QxT: np.ndarray) -> np.ndarray:
    """C(y), (Q,) float64."""
    return np.asarray(self._alone(self._params, jnp.asarray(tokens_QxT)), np.float64)

  def after_each(self, bank_NxT: np.ndarray, tokens_QxT: np.ndarray, size: float) -> np.ndarray:
    """C(y | x_i) after one step of `size` on the nats of x_i alone, (Q, N) float64."""
    ones = np.ones((len(bank_NxT), 1), np.float32)
    return self._run(np.asarray(bank_NxT)[:, None], ones, tokens_QxT, size, 1)

  def after_class(
    self,
    bank_NxT: np.ndarray,
    labels_N: np.ndarray,
    classes: int,
    tokens_QxT: np.ndarray,
    size: float,
    steps: int,
  ) -> np.ndarray:
    """C(y | X_c) after `steps` steps on the mean nats of the rows of class c, (Q, K) float64."""
    members = [np.flatnonzero(labels_N == label) for label in range(classes)]
    most = max(map(len, members))
    rows_KxM = np.zeros((classes, most), np.int64)
    weights_KxM = np.zeros((classes, most), np.float32)
    for label, rows in enumerate(members):
      rows_KxM[label, : len(rows)] = rows
      weights_KxM[label, : len(rows)] = 1 / max(1, len(rows))
    return self._run(np.asarray(bank_NxT)[rows_KxM], weights_KxM, tokens_QxT, size, steps)

  def _run(self, bank, weights, tokens, size: float, steps: int) -> np.ndarray:
    arrays = (jnp.asarray(array) for array in (bank, weights, tokens))
    found_NxQ = self._after(self._params, *arrays, size, steps)
    return np.asarray(found_NxQ, np.float64).T
