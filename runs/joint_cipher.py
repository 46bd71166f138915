"""What a network that has learnt X pays for an enciphered Y, with and without the key.

X and Y are sequences of one Markov chain, and every symbol of Y went through a permutation of the
alphabet. Codes are prequential (`codes.lengths`): the network codes a chunk, learns from it and
goes on, first through X, then through Y; what it pays for Y includes what it has to find out about
the key.

A network that comes through any text is warmed up, so that two controls stand in the place of X,
equally long: the text of an unrelated chain, and X read backwards, which has the frequencies and
the entropy of X and another law.

Shape suffixes: N sequences, T tokens, V symbols, J keys.
"""

import itertools
from typing import Any, NamedTuple

import numpy as np
import scipy.special

from codes import cipher, learner, lengths
from data import markov

_KEY, _STREAM, _OTHER = 0x6B6579, 3, 1000


class Setting(NamedTuple):
  """Sizes of the data and of the network; the rate of its updates stays after the warm-up."""

  symbols: int = 8
  length: int = 16
  concentration: float = 0.5
  x_rows: int = 4096
  y_rows: int = 1024
  width: int = 64
  layers: int = 2
  heads: int = 4
  chunk: int = 16
  updates: int = 4
  learning_rate: float = 3e-3


def measure(seed: int, setting: Setting) -> dict[str, Any]:
  """Bits of every sequence of Y by each code, and what the law of the source says of them.

  Args:
    seed: of chain, key, data and network.
    setting: sizes.

  Returns:
    known, unknown, alone: bits (N,) of Y by a network after X with the key, after X without it, and
      from nothing.
    unrelated, backwards: the same after the text of another chain, and after X read backwards.
    exact: bits (N,) by the chain itself with the key.
    key: bits that the mixture over all keys, under the chain, pays beside `exact`. Keys that a
      symmetry of the chain makes alike cost nothing to tell apart.
  """
  chain, tokens = _text(seed, setting, setting.x_rows + setting.y_rows)
  x, plain = tokens[: setting.x_rows], tokens[setting.x_rows :]
  key_V = np.random.default_rng((_KEY, seed)).permutation(setting.symbols)
  y = key_V[plain]
  return {
    'known': _after(x, cipher.deciphered(y, key_V), setting, seed),
    'unknown': _after(x, y, setting, seed),
    'alone': _after(y[:0], y, setting, seed),
    'unrelated': _after(_text(_OTHER + seed, setting, len(x))[1], y, setting, seed),
    'backwards': _after(x[:, ::-1], y, setting, seed),
    'exact': exact_bits(chain, plain),
    'key': key_bits(chain, y) - float(exact_bits(chain, plain).sum()),
  }


def counted(seed: int, setting: Setting) -> dict[str, float]:
  """Bits of the Y of `measure` by counts of pairs, each begun at a half (Krichevsky and Trofimov,
  1981): what a code without a network makes of the same texts.

  Returns:
    counted alone: from nothing.
    counted known: after X, with the key.
    counted keys: after X, by the mixture over all V! keys, equally likely.
  """
  _, tokens = _text(seed, setting, setting.x_rows + setting.y_rows)
  x, plain = tokens[: setting.x_rows], tokens[setting.x_rows :]
  seen, new = _counts(x, setting.symbols), _counts(plain, setting.symbols)
  keys_JxV = np.array(list(itertools.permutations(range(setting.symbols))))
  # Y deciphered by every key is the plain text with its symbols permuted; the first does nothing.
  first_Jx1xV = new[0][keys_JxV][:, None]
  pairs_JxVxV = new[1:][keys_JxV[:, :, None], keys_JxV[:, None, :]]
  by_key_J = half_count_bits(seen, np.concatenate([first_Jx1xV, pairs_JxVxV], axis=1))
  return {
    'counted alone': float(half_count_bits(np.zeros_like(new), new)),
    'counted known': float(by_key_J[0]),
    'counted keys': float(np.log2(len(keys_JxV)) - np.logaddexp2.reduce(-by_key_J)),
  }


def _counts(tokens_NxT: np.ndarray, symbols: int) -> np.ndarray:
  """(1 + V, V): of first symbols, then of what follows each symbol."""
  first_V = np.bincount(tokens_NxT[:, 0], minlength=symbols)
  return np.concatenate([first_V[None], cipher.counts(tokens_NxT, symbols, 1)])


def half_count_bits(seen: np.ndarray, new: np.ndarray) -> np.ndarray:
  """Bits of draws with counts `new` (..., C, V) in C contexts, by the frequencies so far, half a
  count more, where `seen` (C, V) had been drawn before; (...,)."""
  gammaln, prior = scipy.special.gammaln, seen + 0.5
  nats = gammaln((prior + new).sum(-1)) - gammaln(prior.sum(-1))
  return (nats - (gammaln(prior + new) - gammaln(prior)).sum(-1)).sum(-1) / np.log(2)


def _text(seed: int, setting: Setting, rows: int) -> tuple[markov.Chain, np.ndarray]:
  """A chain and sequences (rows, T) of it."""
  chain = markov.draw_chain(seed, setting.symbols, setting.length, setting.concentration)
  return chain, markov.sample(chain, _STREAM + (seed << 8), 0, rows).tokens_NxT


def _after(x: np.ndarray, y: np.ndarray, setting: Setting, seed: int) -> np.ndarray:
  """Bits of the sequences of Y by a network that has come through X."""
  optimizer = {
    'learning_rate': setting.learning_rate, 'warmup_steps': 20, 'end_fraction': 1.0,
    'beta1': 0.9, 'beta2': 0.95, 'weight_decay': 0.01, 'clip_norm': 1.0,
  }  # fmt: skip
  # Each update is of the newest chunk: what is drawn from all that was seen would be of X for long.
  schedule = learner.Schedule(setting.chunk, setting.updates, setting.chunk, False, seed)
  network = lengths.Settings(setting.width, setting.layers, setting.heads, optimizer, schedule)
  return lengths.bits(np.concatenate([x, y]), setting.symbols, network)[len(x) :]


def exact_bits(chain: markov.Chain, tokens_NxT: np.ndarray) -> np.ndarray:
  """Bits (N,) of sequences by the chain that made them."""
  p = chain.stationary_V[tokens_NxT[:, 0]]
  bits_N = -np.log2(p)
  for before, after in itertools.pairwise(tokens_NxT.T):
    bits_N = bits_N - np.log2(chain.transition_VxV[before, after])
  return bits_N


def key_bits(chain: markov.Chain, y_NxT: np.ndarray) -> float:
  """Bits of Y by the mixture over all V! keys, equally likely, under the chain."""
  symbols = chain.vocabulary
  keys_JxV = np.array(list(itertools.permutations(range(symbols))))
  first_V = np.bincount(y_NxT[:, 0], minlength=symbols)
  pairs_VxV = cipher.counts(y_NxT, symbols, 1)
  # keys_JxV[j, b] is what symbol b of Y stands for.
  with np.errstate(divide='ignore'):
    log_first_V, log_step_VxV = np.log2(chain.stationary_V), np.log2(chain.transition_VxV)
  steps_JxVxV = log_step_VxV[keys_JxV[:, :, None], keys_JxV[:, None, :]]
  seen = pairs_VxV > 0
  found_J = log_first_V[keys_JxV] @ first_V + steps_JxVxV[:, seen] @ pairs_VxV[seen]
  return float(np.log2(len(keys_JxV)) - np.logaddexp2.reduce(found_J))
