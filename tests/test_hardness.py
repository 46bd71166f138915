"""How hard single predictions are, against enumeration of a small grammar."""

import itertools

import jax
import numpy as np
import pytest
import tiny

from experiments import hierarchy
from runs import configs, experiment, hardness, measured
from runs.errors import UserError

SMALL = (
  '--config.data.depth=2',
  '--config.data.symbols=3',
  '--config.data.held_out=20',
  '--config.probe_data.depth=2',
  '--config.probe_data.symbols=3',
  '--config.probe_data.held_out=20',
  '--config.probe_data.examples=40',
  '--config.evaluation.batch_size=8',
)


def _built(objective, *overrides):
  config = hierarchy.get_config(objective)
  built = experiment.build(configs.override(config, [*tiny.OVERRIDES, *SMALL, *overrides]), '')
  params = jax.jit(built.task.init)(jax.random.key(0))
  table = params['backbone']['output_DxV']
  params['backbone']['output_DxV'] = jax.random.normal(jax.random.key(1), table.shape)
  return built, params


def _strings(truth):
  """All strings of a grammar of two levels, each as likely as it occurs here."""
  made = []
  for root, j in itertools.product(range(3), range(2)):
    below = truth.rules_LxVxMxS[0][root, j]
    for k in itertools.product(range(2), repeat=2):
      leaves = truth.rules_LxVxMxS[1][below, list(k)]
      made.append(leaves.reshape(-1))
  return np.array(made)


def _conditional(strings, tokens_T, place, shown):
  """-log p(token at `place` | tokens at `shown`), by counting."""
  fits = np.all(strings[:, list(shown)] == tokens_T[list(shown)], axis=1)
  return -np.log(np.mean(strings[fits][:, place] == tokens_T[place]))


def test_autoregression_adds_up_to_its_code_and_the_source_to_its_entropy():
  built, params = _built('autoregressive')
  found = hardness.predictions(built, params, 3)
  nats = built.per_example(params, built.dataset.test, 1, measured.TEST)['nats']
  np.testing.assert_allclose(found.nats_P.reshape(20, 4).sum(1), nats, rtol=1e-5)
  entropy = built.dataset.truth.entropy_bits() * np.log(2)
  np.testing.assert_allclose(found.exact_P.reshape(20, 4).sum(1), np.full(20, entropy), rtol=1e-5)
  assert found.position_P.reshape(20, 4).tolist() == [[0, 1, 2, 3]] * 20
  assert (found.shown_P == found.position_P).all()
  # Some 0.3 nats apart for this network.
  assert np.abs(found.nats_P - found.exact_P).max() > 0.1


@pytest.mark.parametrize(
  'overrides, seen',
  [
    (('--config.objective.context=1',), {0: (), 1: (0,), 2: (1,), 3: (2,)}),
    (('--config.objective.order=reversed',), {3: (), 2: (3,), 1: (2, 3), 0: (1, 2, 3)}),
  ],
)
def test_windows_and_orders_show_what_they_show(overrides, seen):
  built, params = _built('autoregressive', *overrides)
  found = hardness.predictions(built, params, 1)
  strings = _strings(built.dataset.truth)
  tokens = built.dataset.test.tokens_NxT
  expected = [
    _conditional(strings, tokens[n], place, seen[place])
    for n, place in zip(np.repeat(np.arange(20), 4), found.position_P, strict=True)
  ]
  np.testing.assert_allclose(found.exact_P, expected, atol=1e-5)
  assert [len(seen[place]) for place in found.position_P] == found.shown_P.tolist()


@pytest.mark.parametrize('objective', ['masked', 'masked_diffusion'])
def test_what_is_hidden_is_paid_for_given_all_that_is_shown(objective):
  more = ('--config.objective.ratio=0.5',) if objective == 'masked' else ()
  built, params = _built(objective, *more)
  found = hardness.predictions(built, params, 4)
  counts = np.unique(found.shown_P)
  assert counts.tolist() == ([2] if objective == 'masked' else [0, 1, 2, 3])
  # Views: predictions that follow each other with growing positions; each hides what it asks for.
  strings, tokens = _strings(built.dataset.truth), built.dataset.test.tokens_NxT
  start, expected = 0, []
  for row in np.repeat(np.arange(20), 4):
    size = 4 - found.shown_P[start]
    hidden = found.position_P[start : start + size]
    shown = [t for t in range(4) if t not in hidden]
    expected += [_conditional(strings, tokens[row], place, shown) for place in hidden]
    start += size
  assert start == len(found.nats_P)
  np.testing.assert_allclose(found.exact_P, expected, atol=1e-5)


def test_a_profile_is_of_the_numbers_it_names():
  nats = np.arange(1, 101, dtype=float)
  found = hardness.Predictions(nats, np.arange(100) % 2, np.zeros(100, int))
  made = hardness.profile(found, (0.5,))
  assert made == {'mean': 50.5, 'max': 100.0, 'quantile 0.5': 50.5, 'tail': 95.5}
  assert hardness.means_by(nats, found.position_P) == {0: 50.0, 1: 51.0}
  assert hardness.tail(np.array([3.0, 1.0])) == 3.0
  exact = hardness.profile(hardness.Predictions(nats, nats, nats, nats / 10))
  assert (exact['exact mean'], exact['exact tail']) == pytest.approx((5.05, 9.55))


def test_what_predicts_no_tokens_is_refused(data_dir):
  built = tiny.build(data_dir, 'gaussian_diffusion')
  with pytest.raises(UserError, match='not of tokens'):
    hardness.predictions(built, {}, 1)
