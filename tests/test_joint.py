"""One model of images and labels: no label is seen before it is sent; the bits are the code's."""

import dataclasses
import itertools
import math

import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from codes import joint
from data.dataset import Dataset, Examples
from models.config import ModelConfig
from objectives import base
from probes import calibration
from reports import codes_text, label_sets
from runs import joint as runs_joint
from runs.errors import UserError

OPTIMIZER = ml_collections.ConfigDict(
  {
    'learning_rate': 1e-2, 'warmup_steps': 5, 'end_fraction': 1.0, 'beta1': 0.9, 'beta2': 0.95,
    'weight_decay': 0.01, 'clip_norm': 1.0,
  }
)  # fmt: skip


def test_an_unknown_label_is_not_scored():
  space = base.Space(5, 4, 4)
  objective = joint.ImageAndLabel(label_weight=7.0)

  def weights(label):
    example = base.Example(jnp.zeros(4, jnp.int32), jnp.int32(label), None, None)
    return objective.view(example, space).weights_T

  np.testing.assert_array_equal(weights(2), [1, 1, 1, 7])
  np.testing.assert_array_equal(weights(-1), [1, 1, 1, 0])


class _Spy:
  """Says how it was trained; predicts from the share of rows that it has seen labelled."""

  def __init__(self, truth):
    self.truth, self.sent, self.calls = truth, set(), []

  def train(self, tokens, labels, rows):
    known = set(np.flatnonzero(labels >= 0).tolist())
    for row in range(len(tokens)):
      expected = self.truth[row] if row in known else 0
      assert tokens[row, -1] == expected
      assert labels[row] == (self.truth[row] if row in known else -1)
    self.calls.append((len(rows), known))
    self.seen = len(known)

  def probabilities(self, tokens):
    # Its images say which row it is.
    right = 0.5 + 0.4 * self.seen / len(self.truth)
    p = np.full((len(tokens), 2), 1 - right)
    p[np.arange(len(tokens)), self.truth[tokens[:, 0]]] = right
    return p


def test_labels_are_sent_before_they_are_learnt_and_the_mixture_is_paid_for():
  count = 40
  truth = np.random.default_rng(0).integers(0, 2, count)
  order = np.random.default_rng(1).permutation(count)
  images = np.stack([np.arange(count), np.zeros(count, int)], 1)
  spies = [_Spy(truth), _Spy(truth)]
  made = joint.code(
    images, truth, order, spies, classes=2, first=10, steps=3, updates=2, batch=8, seed=0
  )
  for spy in spies:
    # Before any label, then before the blocks that begin after 10 and 20.
    assert [n for n, _ in spy.calls] == [3, 2, 2]
    assert [known for _, known in spy.calls] == [
      set(), set(order[:10].tolist()), set(order[:20].tolist())
    ]  # fmt: skip
  # By hand: ten bits, then both experts alike, smoothed, plain and at the power that was best on
  # the block before, beside those that see no images; all under the switching prior.
  nats, powers = np.zeros((6, count)), {10: 1.0}
  nats[:, :10] = math.log(2)
  # A share of 0.6 or so is right, and what is said of it is 0.5 + 0.4 * 10 / 40 = 0.6.
  logits = np.log(np.where(np.eye(2)[truth[order[10:20]]] > 0, 0.6, 0.4))
  powers[20] = calibration.power(logits, truth[order[10:20]])
  for place in range(10, count):
    seen = truth[order[:place]]
    share = (np.sum(seen == truth[order[place]]) + 0.5) / (place + 1)
    nats[0, place] = -math.log(share)
    nats[1, place] = -math.log((np.sum(seen == truth[order[place]]) + 0.25) / (place + 0.5))
    start = 10 if place < 20 else 20
    right = 0.5 + 0.4 * start / count
    for row, power in ((2, 1.0), (3, powers[start]), (4, 1.0), (5, powers[start])):
      scaled = right**power / (right**power + (1 - right) ** power)
      nats[row, place] = -math.log((start * scaled + 0.25) / (start + 0.5))
  weights, expected = np.full(6, 1 / 6), 0.0
  for place, gave in enumerate(np.exp(-nats.T), 1):
    expected -= math.log2(weights @ gave)
    weights = weights * gave / (weights @ gave) * place / (place + 1) + 1 / (place + 1) / 6
  assert made['bits'] == pytest.approx(expected, rel=1e-6)
  assert sum(made['each']) == pytest.approx(expected) and made['each'][:10] == pytest.approx(
    [1.0] * 10
  )
  assert made['majority'] == pytest.approx(nats[0].sum() / math.log(2))
  assert made['expert_bits'] == pytest.approx([nats[2].sum() / math.log(2)] * 2)
  assert made['uniform'] == count and made['labels'] == count
  assert [point['labels'] for point in made['curve']] == [0, 10, 20]


def test_it_learns_what_the_image_says():
  """The label is the image's second token: three bits, soon next to nothing."""
  images = np.array(list(itertools.product(range(3), repeat=3)) * 10)
  labels = images[:, 1]
  model = ModelConfig(vocabulary=3, length=4, width=16, layers=1, heads=2)
  network = joint.Network(model, 3, 8.0, OPTIMIZER, 0)
  order = np.random.default_rng(0).permutation(len(images))
  made = joint.code(
    images, labels, order, [network], classes=3, first=10, steps=5, updates=40, batch=32, seed=0
  )
  assert made['uniform'] == pytest.approx(270 * math.log2(3))
  assert made['bits'] < 0.25 * made['uniform']
  shuffled = np.random.default_rng(1).permutation(labels)
  network = joint.Network(model, 3, 8.0, OPTIMIZER, 0)
  blind = joint.code(
    images, shuffled, order, [network], classes=3, first=10, steps=5, updates=20, batch=32, seed=0
  )
  # What the mixture can't learn costs no more than coding without images.
  assert 0.98 * made['uniform'] < blind['bits'] < 1.05 * made['uniform']


def test_probabilities_are_of_the_labels_alone():
  model = ModelConfig(vocabulary=6, length=3, width=16, layers=1, heads=2)
  network = joint.Network(model, 4, 1.0, OPTIMIZER, 0)
  tokens = np.random.default_rng(0).integers(0, 4, (300, 3)).astype(np.int32)
  p = network.probabilities(tokens, size=64)
  assert p.shape == (300, 4)
  np.testing.assert_allclose(p, 0.25, rtol=1e-5)  # Fresh.
  network.train(tokens, tokens[:, -1], np.zeros((4, 8), int))
  p = network.probabilities(tokens, size=64)
  np.testing.assert_allclose(p.sum(-1), 1.0)
  # The label's own token is never among what the prediction sees.
  changed = tokens.copy()
  changed[:, -1] = 3 - changed[:, -1]
  np.testing.assert_array_equal(network.probabilities(changed, size=64), p)


def _set(name, tokens, labels):
  tokens = np.asarray(tokens, np.int32)
  train = Examples(tokens, np.asarray(labels, np.int32))
  return Dataset(
    name, 9, tokens.shape[1], tokens.shape[1], (), 3, True, '', True, train, train, train
  )


def test_all_images_are_learnt_from_and_only_some_have_labels():
  every = [[1, 1], [2, 2], [2, 2], [3, 3], [4, 4]]
  whole = _set('one', every, [0, 1, 2, 1, 0])
  # As many of two equal images as are labelled count as labelled.
  images, labels = joint.rows_of(whole, _set('one', [[2, 2], [4, 4]], [1, 0]))
  assert images.tolist() == [[2, 2], [4, 4], [1, 1], [2, 2], [3, 3]]
  assert labels.tolist() == [1, 0, -1, -1, -1]
  images, labels = joint.rows_of(whole, whole)
  assert images.tolist() == every and labels.tolist() == [0, 1, 2, 1, 0]
  images, labels = joint.rows_of(whole, _set('other', [[2, 2]], [2]))
  assert images.tolist() == [[2, 2], *every] and labels.tolist() == [2, -1, -1, -1, -1, -1]


def test_labels_of_another_order_are_refused():
  probed = _set('one', np.arange(40).reshape(20, 2) % 9, np.arange(20) % 3)
  order = np.random.default_rng((5,)).permutation(20)[:12]
  labels = label_sets.Labels(probed.digest, 12, (0, 10), 5, label_sets.digest(order))
  np.testing.assert_array_equal(runs_joint.coded_rows(labels, probed), order)
  for wrong in ({'data': 'x'}, {'seed': 6}, {'count': 13}, {'count': 30, 'order': None}):
    with pytest.raises(UserError, match='are not those of its config'):
      runs_joint.coded_rows(dataclasses.replace(labels, **wrong), probed)


def _run(seed, bits, **others):
  names = {'a': '(a) from scratch: x', 'b': '(b) frozen, linear'}
  names['c'] = '(c) pretrained, then fine-tuned'
  made = {'labels': 12, 'uniform': 19.0, 'majority': 21.0, 'bits': bits, 'weights': [1.0]}
  made |= {'expert_bits': [6.0], 'others': {names[way]: value for way, value in others.items()}}
  return {'seed': seed, **made}


def _compared(runs):
  return {'runs': runs, **runs_joint.paired(runs)}


def test_what_is_missing_is_said():
  assert codes_text.joint(_compared([_run(0, 7.0, b=9.0)])).count('is not there') == 2
  text = codes_text.joint(_compared([_run(0, 7.0, a=11.0, b=9.0, c=8.0)]))
  assert 'is not there' not in text and 'below 5 seeds there is no interval' in text
  assert '(d) less (b) frozen, linear' in text and '-2 bits\n' in text


def test_runs_are_paired_by_seed_and_five_have_an_interval():
  """Lengths vary more from seed to seed than the difference does: only pairs show it."""
  base, gap = [100.0, 200.0, 150.0, 120.0, 180.0], [1.0, 2.0, 3.0, 2.0, 2.0]
  runs = [_run(k, b + g, b=b) for k, (b, g) in enumerate(zip(base, gap, strict=True))]
  found = runs_joint.paired(runs)
  # 1 2 3 2 2: standard deviation 0.7071, t of four degrees 2.7764.
  half = 2.7764 * 0.70711 / math.sqrt(5)
  own = found['differences']['(b) frozen, linear']
  assert (own['mean'], own['seeds']) == (2.0, 5)
  assert (own['low'], own['high']) == pytest.approx((2 - half, 2 + half), abs=1e-4)
  assert found['ways'][runs_joint.OWN]['high'] - found['ways'][runs_joint.OWN]['low'] > 90
  text = codes_text.joint({'runs': runs, **found})
  assert '+2 bits, 95 % interval 1 to 3 over seeds' in text and 'no interval' not in text
  # What one run lacks is compared in none.
  runs[3]['others'] = {}
  assert list(runs_joint.paired(runs)['ways']) == [runs_joint.OWN]


@pytest.mark.parametrize(
  ('bits', 'of', 'stderr', 'text'),
  [
    (989.3, 1000.0, None, '99 %'),
    (-1.5, 1000.0, None, '0 %'),
    (989.3, 1000.0, 12.0, '99 ± 1 %'),
    (989.3, 1000.0, 2.0, '98.9 ± 0.2 %'),
    (-989.34, 1000.0, 0.02, '-98.93 ± 0.00 %'),
  ],
)
def test_shares_have_the_digits_that_their_error_leaves(bits, of, stderr, text):
  assert codes_text.share_text(bits, of, stderr) == text


def test_shares_are_of_what_these_rows_share():
  code = {'name': 'counting', 'layout': '', 'x': 9.0, 'y': 400.0, 'y_given_x': 302.0, 'xy': 9.0}
  code |= {'stderr': 5.0, 'shared': dict.fromkeys(codes_text._SHARED, 98.0)}
  pair = {'pair': 'chain', 'note': 'a chain', 'truth': 120.0, 'realised': 100.0, 'codes': [code]}
  text = codes_text.shared(pair)
  assert 'known to share 120 bits on average, these rows 100' in text
  assert text.endswith('98 ± 5 %') and 'of known' in text
  text = codes_text.shared(pair | {'truth': None, 'realised': None})
  assert text.endswith('24 ± 1 %') and 'of C(Y)' in text
