r"""The key of a substitution cipher from two texts that share nothing but their law.

X are sequences of a source, Y other ones whose every symbol went through a permutation F of the
alphabet. F is found by making F(X) look like Y, without a single pair:

*   Moments: matrices A_k of X and B_k of Y, how often each pair of symbols stands k apart (or at
    two given places), must agree, sum_k ||P^T A_k P - B_k||^2 least over permutations P. It is a
    quadratic assignment. P becomes doubly stochastic, each step takes the entropic assignment
    (Sinkhorn) of the gradient at a temperature that falls, after Gold and Rangarajan 1996, as
    entropic Gromov-Wasserstein does (Peyre, Cuturi and Solomon 2016); then pairs of symbols are
    exchanged as long as that helps.
*   Bits: exchanges go on as long as Y, deciphered, gets shorter under a model of X.

What no method can tell apart are keys that differ by a symmetry of the source. A symmetry carries a
symbol to any of its orbit, all of them alike: at best one in |orbit| is right, so that the expected
share of symbols that are right is at most orbits / V: `ceiling`.

Shape suffixes: N sequences, T tokens, V symbols, K moments, J keys. key_V[a] is the symbol of Y
that stands for a.
"""

from collections.abc import Callable, Iterator, Sequence
import itertools

import numpy as np
from scipy import optimize

# Temperatures of the entropic assignment, as parts of the largest gradient.
_TEMPERATURES = np.geomspace(1.0, 0.01, 30)
_SINKHORN = 30  # rounds at each
_NEAR = 1e-9  # of sums that are equal but for rounding


# Moments.


def lagged(tokens_NxT: np.ndarray, symbols: int, lags: Sequence[int]) -> np.ndarray:
  """Share of pairs (x_t, x_{t + lag}) by value, a matrix a lag, (K, V, V)."""
  return np.stack(
    [_pairs(tokens_NxT[:, :-lag].ravel(), tokens_NxT[:, lag:].ravel(), symbols) for lag in lags]
  )


def placed(tokens_NxT: np.ndarray, symbols: int) -> np.ndarray:
  """Share of pairs of neighbours by value, a matrix a place, (T - 1, V, V)."""
  return np.stack([_pairs(a, b, symbols) for a, b in itertools.pairwise(tokens_NxT.T)])


def _pairs(first_N: np.ndarray, second_N: np.ndarray, symbols: int) -> np.ndarray:
  counts = np.bincount(first_N * symbols + second_N, minlength=symbols**2)
  return counts.reshape(symbols, symbols) / len(first_N)


def mismatch(x_KxVxV: np.ndarray, y_KxVxV: np.ndarray, keys_JxV: np.ndarray) -> np.ndarray:
  """Squared distance of the moments of X from those of Y, deciphered, (J,)."""
  rows, columns = keys_JxV[:, :, None], keys_JxV[:, None, :]
  return ((x_KxVxV[:, None] - y_KxVxV[:, rows, columns]) ** 2).sum((0, 2, 3))


# Search.


def match(x_KxVxV: np.ndarray, y_KxVxV: np.ndarray, seed: int, starts: int = 8) -> np.ndarray:
  """The key of the least mismatch that was found, (V,)."""
  rng, symbols = np.random.default_rng(seed), x_KxVxV.shape[1]
  found = []
  for _ in range(starts):
    plan_VxV = _balanced(rng.normal(0, 0.1, (symbols, symbols)))
    for temperature in _TEMPERATURES:
      gradient = _gradient(x_KxVxV, y_KxVxV, plan_VxV)
      scale = np.abs(gradient - gradient.mean()).max()
      if scale == 0:
        break  # Nothing tells one symbol from another.
      plan_VxV = _balanced(gradient / (temperature * scale))
    _, key_V = optimize.linear_sum_assignment(-plan_VxV)
    found.append(exchanged(lambda keys: mismatch(x_KxVxV, y_KxVxV, keys), key_V))
  return min(found, key=lambda key: mismatch(x_KxVxV, y_KxVxV, key[None])[0])


def _gradient(x_KxVxV: np.ndarray, y_KxVxV: np.ndarray, plan_VxV: np.ndarray) -> np.ndarray:
  """Of sum_k <A_k P, P B_k>, which is all of the mismatch that depends on a permutation P."""
  forward = x_KxVxV @ plan_VxV @ y_KxVxV.transpose(0, 2, 1)
  backward = x_KxVxV.transpose(0, 2, 1) @ plan_VxV @ y_KxVxV
  return (forward + backward).sum(0)


def _balanced(logits_VxV: np.ndarray) -> np.ndarray:
  """exp(logits) with rows and columns scaled to sums of 1 (Sinkhorn 1964)."""
  plan = np.exp(logits_VxV - logits_VxV.max(1, keepdims=True))
  for _ in range(_SINKHORN):
    plan = plan / plan.sum(1, keepdims=True)
    plan = plan / np.maximum(plan.sum(0, keepdims=True), 1e-300)
  return plan


def exchanged(cost: Callable[[np.ndarray], np.ndarray], key_V: np.ndarray) -> np.ndarray:
  """The key after exchanges of two symbols, the best one first, as long as one lowers the cost.

  Args:
    cost: of keys (J, V), (J,).
    key_V: to begin with.
  """
  pairs = np.array(list(itertools.combinations(range(len(key_V)), 2)))
  least = cost(key_V[None])[0]
  while True:
    keys_JxV = np.repeat(key_V[None], len(pairs), 0)
    rows = np.arange(len(pairs))[:, None]
    keys_JxV[rows, pairs] = key_V[pairs[:, ::-1]]
    costs_J = cost(keys_JxV)
    best = int(np.argmin(costs_J))
    if not costs_J[best] < least - _NEAR * max(1.0, abs(least)):
      return key_V
    key_V, least = keys_JxV[best], costs_J[best]


# A model of X that counts.


def counts(tokens_NxT: np.ndarray, symbols: int, order: int) -> np.ndarray:
  """How often every string of order + 1 symbols stands anywhere, (V,) * (order + 1)."""
  width = tokens_NxT.shape[1] - order
  codes = sum(
    tokens_NxT[:, place : place + width].astype(np.int64) * symbols ** (order - place)
    for place in range(order + 1)
  )
  found = np.bincount(codes.ravel(), minlength=symbols ** (order + 1))
  return found.reshape((symbols,) * (order + 1))


def bits(x_counts: np.ndarray, y_counts: np.ndarray, keys_JxV: np.ndarray) -> np.ndarray:
  """Bits of Y, deciphered, under the conditional frequencies of X with half a count more, (J,).

  Counts as `counts` makes them.
  """
  more = x_counts + 0.5
  nats = -np.log2(more / more.sum(-1, keepdims=True))
  return np.array([(nats * y_counts[np.ix_(*[key] * y_counts.ndim)]).sum() for key in keys_JxV])


# What can be known.


def deciphered(y_NxT: np.ndarray, key_V: np.ndarray) -> np.ndarray:
  """Y in the symbols of X."""
  return np.argsort(key_V)[y_NxT]


def accuracy(key_V: np.ndarray, truth_V: np.ndarray) -> float:
  """Share of the symbols that are right."""
  return float(np.mean(key_V == truth_V))


def symmetries(
  moments_KxVxV: np.ndarray, keeps: Callable[[np.ndarray], bool] | None = None
) -> Iterator[np.ndarray]:
  """Permutations of the symbols that change no moment, and for which `keeps` holds.

  Args:
    moments_KxVxV: exact ones. Where they decide the law, as of a Markov chain, nothing more is
      needed.
    keeps: whether a permutation (V,) leaves the law as it is.
  """
  symbols = moments_KxVxV.shape[1]

  def extend(chosen: list[int]) -> Iterator[np.ndarray]:
    if len(chosen) == symbols:
      found = np.array(chosen)
      if keeps is None or keeps(found):
        yield found
      return
    size = len(chosen) + 1
    for symbol in set(range(symbols)) - set(chosen):
      image = np.array([*chosen, symbol])
      # The newest row and column must be what they were.
      after = moments_KxVxV[:, image][:, :, image]
      before = moments_KxVxV[:, :size, :size]
      row, column = np.abs(after - before)[:, -1], np.abs(after - before)[:, :, -1]
      if max(row.max(), column.max()) < _NEAR:
        yield from extend([*chosen, symbol])

  return extend([])


def ceiling(group: Sequence[np.ndarray]) -> float:
  """Expected share of right symbols that no method can exceed: orbits / V of a group (J, V)."""
  images_JxV = np.stack(list(group))
  orbits = {frozenset(images_JxV[:, symbol].tolist()) for symbol in range(images_JxV.shape[1])}
  return len(orbits) / images_JxV.shape[1]


def keeps_strings(strings_NxT: np.ndarray, symbols: int) -> Callable[[np.ndarray], bool]:
  """Whether a permutation maps a set of equally likely strings, each there once, to itself."""
  powers_T = symbols ** np.arange(strings_NxT.shape[1], dtype=np.int64)
  codes = np.sort(strings_NxT.astype(np.int64) @ powers_T)

  def keeps(image_V: np.ndarray) -> bool:
    return np.array_equal(np.sort(image_V[strings_NxT].astype(np.int64) @ powers_T), codes)

  return keeps
