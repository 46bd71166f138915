"""Markov and copy sources against enumeration of every sequence."""

import itertools

import chains
import ml_collections
import numpy as np
import pytest
from scipy import stats

from data import markov

CHAINS = {
  'order 1': lambda: markov.draw_chain(0, symbols=3, length=5, concentration=0.5),
  'copy': lambda: markov.copy_chain(symbols=3, length=5, distance=2, epsilon=0.2),
  'exact copy': lambda: markov.copy_chain(symbols=3, length=5, distance=2, epsilon=0.0),
  'copy far back': lambda: markov.copy_chain(symbols=2, length=7, distance=4, epsilon=0.1),
  'never the same': lambda: markov.copy_chain(symbols=3, length=4, distance=1, epsilon=1.0),
}


def enumerate_chain(chain) -> tuple[np.ndarray, np.ndarray]:
  """Every sequence (K, T) and its probability, by the definition."""
  sequences = np.array(list(itertools.product(range(chain.vocabulary), repeat=chain.length)))
  p = np.ones(len(sequences))
  for t in range(chain.length):
    if t < chain.stride:
      p *= chain.stationary_V[sequences[:, t]]
    else:
      p *= chain.transition_VxV[sequences[:, t - chain.stride], sequences[:, t]]
  return sequences, p


def entropy(p) -> float:
  p = p[p > 0]
  return float(-np.sum(p * np.log2(p)))


@pytest.fixture(scope='module', params=list(CHAINS))
def chain(request) -> markov.Chain:
  return CHAINS[request.param]()


def test_entropy_and_stationarity(chain):
  sequences, p = enumerate_chain(chain)
  assert p.sum() == pytest.approx(1, abs=1e-12)
  assert chain.entropy_bits() == pytest.approx(entropy(p), abs=1e-10)
  for t in range(chain.length):
    marginal = np.bincount(sequences[:, t], p, chain.vocabulary)
    np.testing.assert_allclose(marginal, chain.stationary_V, atol=1e-10)


def test_entropy_of_the_copy_by_hand():
  # Two free bits, then three tokens of h(1/4) + (1/4) log2 3.
  chain = markov.copy_chain(symbols=4, length=5, distance=2, epsilon=0.25)
  rate = -0.75 * np.log2(0.75) - 0.25 * np.log2(0.25) + 0.25 * np.log2(3)
  assert chain.entropy_rate_bits() == pytest.approx(rate)
  assert chain.entropy_bits() == pytest.approx(2 * 2 + 3 * rate)
  assert chain.entropy_bits_per_dim() == pytest.approx((4 + 3 * rate) / 5)


def test_mutual_information_of_past_and_future(chain):
  sequences, p = enumerate_chain(chain)
  for boundary in range(chain.length + 1):

    def code(part):
      return np.unique(part, axis=0, return_inverse=True)[1].ravel()

    past = np.bincount(code(sequences[:, :boundary]), p)
    future = np.bincount(code(sequences[:, boundary:]), p)
    exact = entropy(past) + entropy(future) - entropy(p)
    assert chain.mutual_information_bits(boundary) == pytest.approx(exact, abs=1e-10)
  half = chain.mutual_information_bits(chain.length // 2)
  assert chain.mutual_information_bits() == half


def test_every_conditional_of_every_mask_is_the_enumerated_one(chain):
  sequences, p = enumerate_chain(chain)
  one_hot = np.eye(chain.vocabulary)[sequences]
  for visible_T in itertools.product([False, True], repeat=chain.length):
    visible_T = np.array(visible_T)
    seen = sequences[:, visible_T]
    joint = np.all(seen[:, None] == seen[None], axis=-1) * p
    evidence = joint.sum(1)
    possible = evidence > 0
    visible = np.broadcast_to(visible_T, sequences.shape)
    shown = np.where(visible, sequences, (sequences + 1) % chain.vocabulary)
    belief = chain.infer(shown, visible)
    assert belief.latents == ()
    with np.errstate(divide='ignore'):
      np.testing.assert_allclose(belief.log_likelihood_B, np.log(evidence), atol=1e-5)
    exact = np.einsum('ij,jtv->itv', joint[possible] / evidence[possible, None], one_hot)
    np.testing.assert_allclose(np.asarray(belief.tokens_BxTxV)[possible], exact, atol=2e-6)
    assert np.all(np.isnan(np.asarray(belief.tokens_BxTxV)[~possible]))


def test_chain_rule_and_marginal_likelihood_average_to_the_entropy(chain):
  sequences, p = enumerate_chain(chain)
  sequences, p = sequences[p > 0], p[p > 0]
  np.testing.assert_allclose(chain.nats(sequences), -np.log(p), atol=1e-5)
  for order in (np.arange(chain.length), np.random.default_rng(0).permutation(chain.length)):
    nats = np.asarray(chains.chain_nats(chain, sequences, order), np.float64).sum(1)
    np.testing.assert_allclose(nats, -np.log(p), atol=1e-5)
    assert np.sum(p * nats) / np.log(2) == pytest.approx(chain.entropy_bits(), abs=1e-5)


def test_samples_have_the_enumerated_frequencies(chain):
  sequences, p = enumerate_chain(chain)
  draw = markov.sample(chain, 3, 0, 50_000)
  code = chain.vocabulary ** np.arange(chain.length)[::-1]  # the order of itertools.product
  counts = np.bincount(draw.tokens_NxT @ code, minlength=len(p))
  assert counts[p == 0].sum() == 0
  # Rare sequences are pooled, so that every expected count is large enough.
  rare = p * len(draw.tokens_NxT) < 10
  observed = np.append(counts[~rare], counts[rare].sum())
  expected = np.append(p[~rare], p[rare].sum()) * len(draw.tokens_NxT)
  keep = expected > 0
  assert stats.chisquare(observed[keep], expected[keep]).pvalue > 1e-3
  for index in (0, 17, 49_999):
    one = markov.sample(chain, 3, index, 1)
    np.testing.assert_array_equal(one.tokens_NxT[0], draw.tokens_NxT[index])
  assert np.any(markov.sample(chain, 4, 0, 50).tokens_NxT != draw.tokens_NxT[:50])


def test_transitions_are_drawn_from_their_seed_and_concentration():
  first = markov.draw_chain(1, 8, 16, 0.3)
  np.testing.assert_array_equal(
    first.transition_VxV, markov.draw_chain(1, 8, 16, 0.3).transition_VxV
  )
  assert np.any(first.transition_VxV != markov.draw_chain(2, 8, 16, 0.3).transition_VxV)
  # Almost uniform rows: entropy rate near log2 V, hardly any mutual information.
  flat = markov.draw_chain(1, 8, 16, 1e4)
  assert flat.entropy_rate_bits() == pytest.approx(3, abs=1e-3)
  assert flat.mutual_information_bits() < 1e-3 < first.mutual_information_bits()


def test_data_sets():
  settings = {'symbols': 5, 'length': 12, 'examples': 0, 'held_out': 20}
  config = ml_collections.ConfigDict({**settings, 'chain_seed': 0, 'concentration': 0.5})
  chain = markov.load(config)
  config = ml_collections.ConfigDict({**settings, 'distance': 3, 'epsilon': 0.1, 'examples': 9})
  copy = markov.load_copy(config)
  for dataset in (chain, copy):
    assert (dataset.dims, dataset.length, dataset.vocabulary) == (12, 13, 5)
    assert dataset.classes is None and not dataset.ordinal
    assert dataset.test.tokens_NxT.shape == (20, 13) and np.all(dataset.test.labels_N == -1)
    assert np.all(dataset.test.tokens_NxT[:, -1] == 0)
    assert np.any(dataset.test.tokens_NxT != dataset.validation.tokens_NxT)
    assert not any(dataset.latents.values())
  assert chain.epoch is None and copy.epoch == 9
  np.testing.assert_array_equal(
    chain.train(2, 5)['tokens'][:-1], markov.sample(chain.truth, 2, 5, 1).tokens_NxT[0]
  )


@pytest.mark.parametrize(
  'draw, message',
  [
    (lambda: markov.draw_chain(0, 1, 5, 1.0), 'symbols must be at least 2'),
    (lambda: markov.draw_chain(0, 3, 0, 1.0), 'length must be at least 1'),
    (lambda: markov.draw_chain(0, 3, 5, 0.0), 'concentration must be positive'),
    (lambda: markov.draw_chain(0, 3, 5, 1e-6), 'never reaches'),
    (lambda: markov.draw_chain(-1, 3, 5, 1.0), 'must not be negative'),
    (lambda: markov.copy_chain(3, 5, 5, 0.1), 'distance must lie in 1..length-1 = 4'),
    (lambda: markov.copy_chain(3, 5, 0, 0.1), 'distance must lie in'),
    (lambda: markov.copy_chain(3, 5, 2, 1.1), 'epsilon must lie in 0..1'),
    (lambda: CHAINS['copy']().mutual_information_bits(6), 'boundary must lie in 0..5'),
  ],
)
def test_impossible_settings_are_refused_in_one_line(draw, message):
  with pytest.raises(ValueError, match=message) as error:
    draw()
  assert '\n' not in str(error.value)
