"""Ciphers: planted keys, enumeration of all keys, and groups known by hand."""

import itertools

import numpy as np
import pytest

from codes import cipher
from data import hierarchy, markov


def _chain(seed: int, symbols: int, count: int, length: int = 20) -> np.ndarray:
  chain = markov.draw_chain(seed, symbols, length, 0.3)
  return markov.sample(chain, 1, 0, count).tokens_NxT


def test_moments_are_counts_of_pairs():
  tokens = np.array([[0, 1, 1, 2], [2, 1, 0, 0]])
  (one, two) = cipher.lagged(tokens, 3, (1, 2))
  assert one[0, 1] == one[1, 1] == one[0, 0] == 1 / 6 and one.sum() == two.sum() == 1
  assert two[0, 1] == two[1, 2] == two[2, 0] == two[1, 0] == 1 / 4
  first, *_, last = cipher.placed(tokens, 3)
  assert first[0, 1] == first[2, 1] == 1 / 2 and last[1, 2] == last[0, 0] == 1 / 2


@pytest.mark.parametrize('seed', [0, 1])
def test_the_match_is_the_best_of_all_keys(seed):
  x, y = _chain(seed, 5, 200), _chain(seed + 10, 5, 200)  # Of two laws: no key fits.
  moments = [cipher.lagged(tokens, 5, (1, 2)) for tokens in (x, y)]
  every = np.array(list(itertools.permutations(range(5))))
  costs = cipher.mismatch(*moments, every)
  by_hand = [((moments[0] - moments[1][:, k][:, :, k]) ** 2).sum() for k in every]
  np.testing.assert_allclose(costs, by_hand)
  assert cipher.match(*moments, seed=0).tolist() == every[np.argmin(costs)].tolist()


def test_a_planted_key_is_found_by_moments_and_by_bits():
  tokens, key = _chain(3, 8, 4000), np.random.default_rng(0).permutation(8)
  x, y = tokens[:2000], key[tokens[2000:]]
  found = cipher.match(*(cipher.lagged(t, 8, (1, 2)) for t in (x, y)), seed=0)
  assert found.tolist() == key.tolist() and cipher.accuracy(found, key) == 1
  assert np.array_equal(cipher.deciphered(y, key), tokens[2000:])
  tables = [cipher.counts(t, 8, 1) for t in (x, y)]
  close = key[[1, 0, 2, 3, 4, 5, 6, 7]]
  again = cipher.exchanged(lambda keys: cipher.bits(*tables, keys), close)
  assert again.tolist() == key.tolist()


def test_bits_are_those_of_the_conditional_frequencies():
  x, y = np.array([[0, 1, 0, 1, 1]]), np.array([[1, 0, 0]])
  tables = [cipher.counts(tokens, 2, 1) for tokens in (x, y)]
  assert tables[0].tolist() == [[0, 2], [1, 1]]
  # Deciphered by the exchange y is 0 1 1: p(1 | 0) = 2.5 / 3, p(1 | 1) = 1.5 / 3.
  expected = [-np.log2(1.5 / 3) - np.log2(0.5 / 3), -np.log2(2.5 / 3) - np.log2(1.5 / 3)]
  np.testing.assert_allclose(cipher.bits(*tables, np.array([[0, 1], [1, 0]])), expected)


def test_symmetries_are_those_of_all_permutations():
  rng = np.random.default_rng(0)
  ring = sum(w * np.roll(np.eye(6), k, 1) for k, w in ((1, 0.7), (2, 0.3))) / 6
  group = list(cipher.symmetries(ring[None]))
  every = np.array(list(itertools.permutations(range(6))))
  brute = [k for k in every if np.allclose(ring[np.ix_(k, k)], ring)]
  assert sorted(g.tolist() for g in group) == sorted(k.tolist() for k in brute)
  assert len(group) == 6 and cipher.ceiling(group) == 1 / 6
  assert cipher.ceiling(list(cipher.symmetries(rng.uniform(size=(1, 6, 6))))) == 1
  copy = np.full((4, 4), 0.1) + 0.5 * np.eye(4)
  assert len(list(cipher.symmetries(copy[None]))) == 24


def test_no_guess_beats_the_ceiling():
  # Symbols 0 and 1 can be exchanged, and 2 and 3; 4 is alone.
  group = [
    np.array(g) for g in ([0, 1, 2, 3, 4], [1, 0, 2, 3, 4], [0, 1, 3, 2, 4], [1, 0, 3, 2, 4])
  ]
  every = itertools.permutations(range(5))
  best = max(np.mean([np.mean(np.array(k) == g) for g in group]) for k in every)
  assert cipher.ceiling(group) == pytest.approx(best) == 3 / 5


def test_symmetries_of_a_grammar_keep_all_of_its_strings():
  grammar = hierarchy.Grammar(
    # The root's two symbols make (0, 1) and (2, 3), or (1, 0) and (3, 2).
    np.array([[[[0, 1], [2, 3]], [[1, 0], [3, 2]], [[0, 0], [2, 2]], [[1, 1], [3, 3]]]], np.int32)
  )
  strings = grammar.rules_LxVxMxS.reshape(-1, 2)
  keeps = cipher.keeps_strings(strings, 4)
  group = list(cipher.symmetries(cipher.placed(strings, 4), keeps))
  every = [np.array(k) for k in itertools.permutations(range(4))]
  as_set = {tuple(s) for s in strings.tolist()}
  brute = [k for k in every if {tuple(s) for s in k[strings].tolist()} == as_set]
  assert sorted(g.tolist() for g in group) == sorted(k.tolist() for k in brute)
  assert not keeps(np.array([0, 2, 1, 3])) and cipher.ceiling(group) < 1
