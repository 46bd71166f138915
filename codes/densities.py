"""A learned distribution against the known one, over all sequences there are.

log q may be up to a constant, as minus an energy is: what is said of ratios does not depend on it.

Shape suffixes: N all V^T sequences in the order of `sequences`, V vocabulary, T tokens.
"""

import math

import numpy as np

# Sequences that are held at once.
MOST = 2**16


def sequences(vocabulary: int, tokens: int) -> np.ndarray:
  """All of them, int32 (V^T, T), the last token changing fastest; ValueError for too many."""
  if vocabulary**tokens > MOST:
    raise ValueError(f'{vocabulary}^{tokens} sequences are too many to enumerate: at most {MOST:,}')
  return np.indices((vocabulary,) * tokens).reshape(tokens, -1).T.astype(np.int32)


def normalised(log_q_N: np.ndarray) -> np.ndarray:
  """The same with a sum of 1."""
  return np.asarray(log_q_N, np.float64) - total(log_q_N)


def chances(log_q_N: np.ndarray) -> np.ndarray:
  """Probabilities of all sequences."""
  return np.exp(normalised(log_q_N))


def total(log_q_N: np.ndarray) -> float:
  """log of their sum: by how many nats they are not normalised."""
  return float(np.logaddexp.reduce(np.asarray(log_q_N, np.float64)))


def ratios(log_p_N: np.ndarray, log_q_N: np.ndarray, weights_N: np.ndarray) -> tuple[float, float]:
  """How log q(x) - log q(x') follows log p(x) - log p(x'): least squares' slope, and correlation.

  Over pairs of independent x and x', both drawn by the weights: there these are the slope and the
  correlation of log q on log p themselves, for differences of independent pairs have twice their
  covariances.
  """
  w = np.asarray(weights_N, np.float64) / np.sum(weights_N)
  p, q = (x - w @ x for x in (np.asarray(log_p_N, float), np.asarray(log_q_N, float)))
  covariance, of_p, of_q = w @ (p * q), w @ (p * p), w @ (q * q)
  if not of_p:
    raise ValueError('all sequences are equally likely: there are no ratios to follow')
  return float(covariance / of_p), float(covariance / math.sqrt(of_p * of_q)) if of_q else 0.0


def divergence_bits(log_p_N: np.ndarray, log_q_N: np.ndarray) -> float:
  """KL(p || q) in bits a sequence, q normalised: what a code by q pays above the entropy."""
  log_p_N, log_q_N = normalised(log_p_N), normalised(log_q_N)
  return float(chances(log_p_N) @ (log_p_N - log_q_N)) / math.log(2)


def predictor(log_q_N: np.ndarray, vocabulary: int, tokens: int) -> list[np.ndarray]:
  """log q(next | before) for every prefix: T arrays (V^t, V), prefixes in order."""
  joint, found = normalised(log_q_N).reshape((vocabulary,) * tokens), []
  for t in range(tokens):
    summed = joint.reshape(vocabulary ** (t + 1), -1)
    prefixes = np.logaddexp.reduce(summed, axis=1).reshape(-1, vocabulary)
    found.append(prefixes - np.logaddexp.reduce(prefixes, axis=1, keepdims=True))
  return found


def coded_bits(conditionals: list[np.ndarray], tokens_NxT: np.ndarray) -> np.ndarray:
  """Bits of each sequence, token by token, by `predictor`'s conditionals."""
  vocabulary = conditionals[0].shape[1]
  nats, prefix = np.zeros(len(tokens_NxT)), np.zeros(len(tokens_NxT), int)
  for t, table in enumerate(conditionals):
    nats -= table[prefix, tokens_NxT[:, t]]
    prefix = prefix * vocabulary + tokens_NxT[:, t]
  return nats / math.log(2)


def distinguisher_gap(
  log_p_N: np.ndarray, log_q_N: np.ndarray, log_noise_N: np.ndarray
) -> tuple[float, float]:
  """How far a distinguisher of data from noise, at even odds, is from the perfect one.

  It says sigmoid(log q - log noise), the perfect one sigmoid(log p - log noise). Exact means over
  (p + noise) / 2.

  Returns:
    the mean distance of the two, and the calibration error: the same of means within tenths of what
    it says.
  """
  p, q, noise = (normalised(x) for x in (log_p_N, log_q_N, log_noise_N))
  said, true = (1 / (1 + np.exp(noise - x)) for x in (q, p))
  weights = (np.exp(p) + np.exp(noise)) / 2
  tenth = np.minimum((said * 10).astype(int), 9)
  within = np.bincount(tenth, weights * (said - true), 10)
  return float(weights @ np.abs(said - true)), float(np.abs(within).sum())
