"""Prequential code lengths: what they must cost, an independent recomputation, and a real code."""

import itertools
import math

import label_coder
import ml_collections
import numpy as np
import pytest
from scipy import optimize, special
from sklearn.linear_model import LogisticRegression

from probes import calibration, mixture, prequential
from probes.features import Features

L2 = tuple(10.0**power for power in range(-5, 3))
MLP = {
  'hidden': 16,
  'steps': 40,
  'batch_size': 16,
  'learning_rate': 1e-2,
  'weight_decay': (0.1, 1.0),
  'checkpoints': 2,
}
MANY, CLASSES = 10_000, 10


def config(**changes):
  return ml_collections.ConfigDict(
    {'rows': MANY, 'first': 10, 'orders': 1, 'network_orders': 1, 'l2': L2, 'mlp': None} | changes
  )


def code(x_LxNxD, labels, classes, settings=None, seed=0):
  """The results and arrays of features that hold a train split and nothing else."""
  train = np.asarray(x_LxNxD, np.float32)
  none = np.zeros((len(train), 0, train.shape[2]), np.float32)
  labels = np.asarray(labels)
  features = Features(train, none, none, labels, labels[:0], labels[:0], classes)
  results, arrays = prequential.evaluate(features, settings or config(), seed)
  return results['all'], arrays


def small(seed=0, rows=150):
  """Two layers, three classes that show in the second."""
  rng = np.random.default_rng(seed)
  labels = rng.integers(0, 3, rows)
  x = rng.normal(size=(2, rows, 6))
  x[1, :, :3] += 1.5 * np.eye(3)[labels]
  return x.astype(np.float32), labels


def small_config(**changes):
  return config(**({'l2': (1e-3, 1e-1, 10.0), 'mlp': MLP} | changes))


@pytest.fixture(scope='module')
def coded():
  return code(*small(), 3, small_config())


def random_labels(seed=0):
  return np.random.default_rng(seed).integers(0, CLASSES, MANY)


def noise(seed=1):
  return np.random.default_rng(seed).normal(size=(1, MANY, CLASSES))


@pytest.mark.parametrize('seed', range(3))
def test_copied_label_costs_next_to_nothing(seed):
  labels = random_labels(seed)
  cell, _ = code(np.eye(CLASSES)[labels][None], labels, CLASSES, seed=seed)
  assert 10 * math.log2(CLASSES) < cell['linear_bits'] < 100
  assert cell['uniform_bits'] == pytest.approx(MANY * math.log2(CLASSES))


@pytest.mark.parametrize('label', [0, 7])
def test_constant_label_costs_the_first_block_and_little_more(label):
  cell, _ = code(noise(), np.full(MANY, label), CLASSES)
  first = 10 * math.log2(CLASSES)
  assert first < cell['linear_bits'] <= first + 40


def test_random_features_and_random_labels_cost_the_entropy():
  labels = random_labels()
  one_hot = np.eye(CLASSES)[labels][None]
  for x, y in ((noise(), labels), (one_hot, random_labels(5)), (np.ones_like(noise()), labels)):
    cell, _ = code(x, y, CLASSES)
    assert cell['linear_bits'] == pytest.approx(MANY * math.log2(CLASSES), rel=0.01)


def test_never_longer_than_the_featureless_code():
  """Unequal classes and no information: Krichevsky and Trofimov's closed form and the mixture."""
  labels = np.minimum(random_labels(), np.random.default_rng(3).integers(0, CLASSES, MANY))
  cell, arrays = code(noise(), labels, CLASSES)
  order = arrays['all/order']
  first, rest = (np.bincount(labels[rows], minlength=CLASSES) for rows in (order[:10], order[10:]))
  # prod over classes of Gamma(n_k + 1/2) and Gamma(n + K/2), each over its value after 10 labels.
  nats = special.gammaln(MANY + CLASSES / 2) - special.gammaln(10 + CLASSES / 2)
  nats -= (special.gammaln(first + rest + 0.5) - special.gammaln(first + 0.5)).sum()
  best = 10 * math.log2(CLASSES) + nats / math.log(2)
  assert cell['majority_bits'] == pytest.approx(best, abs=1e-6)
  assert cell['linear_bits'] <= best + price(2 + 2 * len(L2), MANY) + 1e-6
  assert cell['linear_bits'] > best - 40


def price(experts, count):
  """Of a switching prior that never switches after the first ten, bits."""
  return math.log2(experts) + math.log2(count / 11)


def test_the_cell(coded):
  cell, arrays = coded
  x, labels = small()
  assert cell['labels'] == 150 and cell['uniform_bits'] == pytest.approx(150 * math.log2(3))
  assert cell['linear_bits'] < 0.77 * cell['uniform_bits']
  assert cell['linear_best_layer'] == 1
  assert 0 < cell['certificate'] <= prequential.GAP
  np.testing.assert_array_equal(np.sort(arrays['all/order']), np.arange(150))
  starts = [point['labels'] for point in cell['curve']]
  assert starts == [0, 10, 20, 40, 80]
  lengths = np.diff([*starts, 150])
  for name in ('linear_bits', 'mlp_bits'):
    assert arrays[f'all/{name}'].dtype == np.float32
    np.testing.assert_allclose(arrays[f'all/{name}'][:10], math.log2(3), rtol=1e-6)
    assert arrays[f'all/{name}'].sum() == pytest.approx(cell[name], rel=1e-5)
    assert [p[name] for p in cell['curve']] @ lengths == pytest.approx(cell[name])
  # Layers and the larger family are paid for, and cost no more than they can.
  for name, inside in (('linear', 2 * 3), ('mlp', 2 * (3 + 4))):
    x, labels = x[:, arrays['all/order']], labels[arrays['all/order']]
    experts = prequential.Experts(x, 3, small_config(), 0)
    nats, blind, _ = prequential._lengths(experts, labels)
    used = nats[:, :inside].reshape(-1, 150)
    assert used.shape[0] == 2 * inside and blind.shape == (2, 150)
    x, labels = small()
    best = np.concatenate([used, blind]).sum(1).min() / math.log(2)
    assert cell[f'{name}_bits'] <= best + price(2 + 2 * inside, 150)
    assert cell[f'{name}_bits'] < cell['majority_bits']


def test_plain_json_numbers(coded):
  def check(value):
    if isinstance(value, dict):
      assert all(isinstance(key, str) for key in value)
      return [check(v) for v in value.values()]
    if isinstance(value, list):
      return [check(v) for v in value]
    assert value is None or type(value) in (int, float)

  assert coded[0]['prior'] == 'switching'
  check({name: value for name, value in coded[0].items() if name != 'prior'})
  linear_only, arrays = code(*small(), 3, small_config(mlp=None))
  check({name: value for name, value in linear_only.items() if name != 'prior'})
  assert linear_only['mlp_bits'] is None and 'all/mlp_bits' not in arrays
  assert linear_only['linear_bits'] == coded[0]['linear_bits']


def switching(nats_ExN):
  """Bits of the mixture by its definition: over all sequences of experts, by their prior."""
  experts, count = nats_ExN.shape
  # State: the log of what the sequences that end in each expert have come to.
  log_E = np.full(experts, -math.log(experts))
  for n in range(count):
    log_E = log_E - nats_ExN[:, n]
    share = 1 / (n + 2)
    moved = special.logsumexp(log_E) + math.log(share / experts)
    log_E = np.logaddexp(log_E + math.log1p(-share), moved)
  return -special.logsumexp(log_E) / math.log(2)


def best_power(logits, labels):
  """By scipy, of the nats and the hold at 1."""

  def cost(power):
    scaled = power * logits
    nats = special.logsumexp(scaled, 1) - scaled[np.arange(len(labels)), labels]
    return nats.sum() + (power - 1) ** 2 / 2

  return optimize.minimize_scalar(cost, bounds=(1 / 8, 8), method='bounded').x


def test_mixture_against_every_experts_own_length():
  """Fixed experts recomputed with scikit-learn, their temperatures with scipy, their mixture."""
  x, labels = small()
  grid = (1e-1, 1e1)
  cell, arrays = code(x, labels, 3, small_config(l2=grid, mlp=None))
  x, labels = x[:, arrays['all/order']].astype(float), labels[arrays['all/order']]
  x = (x - x.mean(1, keepdims=True)) / x.std(1, keepdims=True)
  nats, powers = [[math.log(3)] * 10 for _ in range(8)], [1.0] * 4
  for start, stop in ((10, 20), (20, 40), (40, 80), (80, 150)):
    counts, own = np.bincount(labels[:start], minlength=3), labels[start:stop]
    assert (counts > 0).all()  # Else scikit-learn would fit fewer classes.
    for expert, (layer, l2) in enumerate((layer, l2) for layer in range(2) for l2 in grid):
      model = LogisticRegression(C=1 / (start * l2), tol=1e-9, max_iter=5000)
      model.fit(x[layer, :start], labels[:start])
      logits = model.decision_function(x[layer, start:stop])
      for place, power in ((expert, 1.0), (4 + expert, powers[expert])):
        fitted = special.softmax(power * logits, 1)[np.arange(stop - start), own]
        nats[place] += (-np.log((start * fitted + 0.5 / 3) / (start + 0.5))).tolist()
      powers[expert] = best_power(logits, own)
  assert min(powers) < 0.2 and max(powers) > 1.2  # They are not left at 1 by accident.
  kt, frequencies = [math.log(3)] * 10, [math.log(3)] * 10
  for i in range(10, 150):
    seen = (labels[:i] == labels[i]).sum()
    kt.append(-math.log((seen + 0.5) / (i + 1.5)))
    frequencies.append(-math.log((seen + 0.5 / 3) / (i + 0.5)))
  nats = np.array([*nats, kt, frequencies])
  # The fits may be 1e-4 nats from their optimum.
  assert cell['linear_bits'] == pytest.approx(switching(nats), abs=0.2)
  assert cell['majority_bits'] == pytest.approx(np.sum(kt) / math.log(2))
  for layer in range(2):
    inside = nats[[2 * layer, 2 * layer + 1, 4 + 2 * layer, 5 + 2 * layer, 8, 9]]
    assert cell['linear_bits_by_layer'][layer] == pytest.approx(switching(inside), abs=0.2)


def test_the_power_is_the_best_one():
  """Every axis by itself, against scipy; the right confidence stays, a wrong one is put right."""
  rng = np.random.default_rng(0)
  logits = rng.normal(size=(400, 3)) * 2
  labels = np.array([rng.choice(3, p=p) for p in special.softmax(logits, 1)])
  scaled = np.stack([logits, logits * 4, logits / 4])[None]
  found = calibration.power(scaled, labels)
  for i in range(3):
    assert found[0, i] == pytest.approx(best_power(scaled[0, i], labels), rel=1e-3)
  assert found[0, 0] == pytest.approx(1, abs=0.25)
  assert found[0, 1] < 0.4 and found[0, 2] > 3
  sure = np.eye(3)[labels][None] * 3.0
  assert calibration.power(sure, labels)[0] > 2 and calibration.power(-sure, labels)[0] < 0.2


def test_powers_know_no_label_that_they_predict():
  rng = np.random.default_rng(0)
  labels, powers = rng.integers(0, 3, 80), calibration.Powers()
  blocks = [(10, 20), (20, 40), (40, 80)]
  made = {block: 3 * rng.normal(size=(2, block[1] - block[0], 3)) for block in blocks}
  before = np.ones(2)
  for start, stop in blocks:
    powers.begin(labels[:start])
    plain, calibrated = np.split(powers.both(made[start, stop]), 2)
    np.testing.assert_allclose(plain, special.softmax(made[start, stop], -1), rtol=1e-6)
    expected = special.softmax(before[:, None, None] * made[start, stop], -1)
    np.testing.assert_allclose(calibrated, expected, rtol=1e-5)
    before = calibration.power(made[start, stop], labels[start:stop])
  assert np.abs(before - 1).min() > 0.1


def test_several_orders_of_the_same_labels(coded):
  """Each order is what a run of one order gives for features and labels in that order."""
  x, labels = small()
  cell, arrays = code(x, labels, 3, small_config(orders=4, rows=120))
  first, first_arrays = code(x, labels, 3, small_config(rows=120))
  np.testing.assert_array_equal(arrays['all/order'], first_arrays['all/order'])
  np.testing.assert_array_equal(arrays['all/linear_bits'], first_arrays['all/linear_bits'])
  lengths = cell['linear_bits_orders']
  assert len(lengths) == 4 and lengths[0] == first['linear_bits']
  order = arrays['all/order']
  for again, length in zip(prequential.orders(120, 4, 0), lengths, strict=True):
    np.testing.assert_array_equal(np.sort(again), np.arange(120))
    alone = prequential.bits(x[:, order[again]], labels[order[again]], 3, small_config(mlp=None), 0)
    assert alone['linear_bits'] == pytest.approx(length, abs=1e-9)
  assert cell['linear_bits'] == pytest.approx(np.mean(lengths))
  assert cell['linear_bits_spread'] == pytest.approx(np.std(lengths, ddof=1)) != 0
  # Networks code as many orders as they are told.
  assert cell['mlp_bits_orders'] == [cell['mlp_bits']] == [first['mlp_bits']]
  more, _ = code(x, labels, 3, small_config(orders=2, network_orders=2, rows=60))
  second = order_of(x, labels, 2, 60)
  assert more['mlp_bits_orders'][1] == pytest.approx(second['mlp_bits'], abs=1e-9)
  assert more['mlp_bits_spread'] == pytest.approx(np.std(more['mlp_bits_orders'], ddof=1))
  assert cell['mlp_bits_spread'] is None is first['linear_bits_spread']
  with pytest.raises(ValueError, match='orders must be at least 1'):
    code(x, labels, 3, small_config(orders=0))


def order_of(x, labels, number, rows):
  """The codes of one order by themselves."""
  order = prequential.coding_order(len(labels), rows, 0)
  again = order[prequential.orders(rows, number, 0)[number - 1]]
  return prequential.bits(x[:, again], labels[again], 3, small_config(), 0)


def test_code_lengths_of_a_mixture():
  """All sequences of experts by their prior, and label by label against `Mixture`."""
  rng = np.random.default_rng(0)
  p = rng.dirichlet(np.ones(4), size=(3, 7))  # (experts, labels, classes)
  labels = rng.integers(0, 4, 7)
  given = p[:, np.arange(7), labels]
  bits = mixture.code_lengths(-np.log(given))
  joint = np.zeros(8)
  for path in itertools.product(range(3), repeat=7):
    prior = (1 / 3) * math.prod(
      (n / (n + 1)) * (path[n] == path[n - 1]) + 1 / (n + 1) / 3 for n in range(1, 7)
    )
    joint += prior * np.r_[1, np.cumprod(given[list(path), np.arange(7)])]
  assert joint[0] == pytest.approx(1)
  np.testing.assert_allclose(bits, -np.log2(joint[1:] / joint[:-1]), rtol=1e-9)
  assert bits.sum() == pytest.approx(switching(-np.log(given)))
  sequential = mixture.Mixture(3)
  for i, label in enumerate(labels):
    q = sequential.probabilities(p[:, i])
    assert q.sum() == pytest.approx(1)
    assert -np.log2(q[label]) == pytest.approx(bits[i])
    sequential.observe(p[:, i, label])
  assert bits.sum() <= -np.log2(given.prod(1)).min() + np.log2(3) + np.log2(7)
  # Several side by side.
  many = rng.uniform(0, 3, (2, 3, 7))
  np.testing.assert_allclose(
    mixture.code_lengths(many), [mixture.code_lengths(one) for one in many]
  )
  # No underflow where products leave the range of floats: the second expert has a quarter then.
  far = mixture.code_lengths(np.array([[1000.0, 1000.0], [2000.0, 1.0]]))
  expected = [1000 + np.log(2), 1 + np.log(4)]
  np.testing.assert_allclose(far, np.array(expected) / np.log(2))


def test_another_expert_may_be_best_later():
  """Two experts that are right in turn: a plain Bayes mixture would cost 500 bits more."""
  right, wrong = -math.log(0.9), -math.log(0.1)
  nats = np.full((2, 400), wrong)
  nats[0, :200], nats[1, 200:] = right, right
  bound = 400 * right / math.log(2) + 2 * math.log2(2) + 2 * math.log2(400)
  assert mixture.code_lengths(nats).sum() < bound


def test_smoothing():
  fit = np.array([[0.7, 0.3, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]])
  # 5 labels, class 1 seen once, two classes unseen: one label's weight between them.
  smoothed = mixture.smooth(fit, np.array([4, 1, 0, 0]))
  expected = (5 * fit + np.array([0, 0, 0.5, 0.5]) + 0.125) / 6.5
  np.testing.assert_allclose(smoothed, expected)
  np.testing.assert_allclose(smoothed.sum(1), 1)
  # Nothing unseen, or nothing seen once: the uniform alone.
  for counts in ([2, 1, 1, 1], [3, 2, 0, 0]):
    smoothed = mixture.smooth(fit, np.array(counts))
    np.testing.assert_allclose(smoothed, (5 * fit + 0.125) / 5.5)
  counts = np.array([[0, 0, 0], [3, 1, 0]])
  expected = [[1 / 3] * 3, [3.5 / 5.5, 1.5 / 5.5, 0.5 / 5.5]]
  np.testing.assert_allclose(mixture.krichevsky_trofimov(counts), expected)
  # Row by row, with each row's own counts: 4 labels, one class seen once, one unseen.
  found = mixture.frequencies(np.array([[3, 1, 0], [2, 2, 2]]))
  expected = [np.array([3, 1, 1]) + 0.5 / 3, np.array([2, 2, 2]) + 0.5 / 3]
  np.testing.assert_allclose(found, np.array(expected) / [[5.5], [6.5]])


def test_blocks():
  assert prequential.blocks(1197, 10) == tuple(
    zip((0, 10, 20, 40, 80, 160, 320, 640), (10, 20, 40, 80, 160, 320, 640, 1197), strict=True)
  )
  assert prequential.blocks(40, 10) == ((0, 10), (10, 20), (20, 40))
  assert prequential.blocks(7, 10) == ((0, 7),)


def in_order(networks):
  """Features and labels in coding order, the code lengths, and a new predictor for them."""
  x, labels = small()
  cell, arrays = code(x, labels, 3, small_config())
  order = arrays['all/order']
  bits = arrays['all/mlp_bits' if networks else 'all/linear_bits']
  x, labels = x[:, order], labels[order]

  def predictor():
    return prequential.Predictor(x, 3, small_config(), 0, networks)

  return labels, bits, predictor


@pytest.mark.parametrize('networks', [False, True])
def test_a_real_code_decodes(networks):
  labels, bits, predictor = in_order(networks)
  sent = label_coder.encode(predictor(), labels)
  assert abs(8 * len(sent) - bits.sum()) <= 64
  decoded = label_coder.decode(predictor(), len(labels), sent)
  np.testing.assert_array_equal(decoded, labels)
  # The walk label by label costs what the vectorised one says.
  walked = walk(predictor(), labels)
  np.testing.assert_allclose(walked, bits, rtol=1e-5)


def walk(predictor, labels):
  """Bits of every label, asking for it only once its probabilities are there."""
  bits = []
  for start, stop in predictor.blocks:
    predictor.begin_block(labels[:start])
    for i in range(start, stop):
      p = predictor.probabilities(i)
      assert p.dtype == np.float64 and p.sum() == pytest.approx(1) and p.min() > 0
      bits.append(-np.log2(p[labels[i]]))
      predictor.observe(i, labels[i])
  return np.array(bits)


@pytest.mark.parametrize('networks', [False, True])
def test_later_labels_leave_the_earlier_code_alone(networks):
  labels, _, predictor = in_order(networks)
  changed = labels.copy()
  changed[80:] = (changed[80:] + 1) % 3
  one = predictor()
  first, second = walk(one, labels), walk(one, changed)  # No labels: it starts afresh.
  np.testing.assert_array_equal(first[:80], second[:80])
  assert (first[80:] != second[80:]).all()
  sent, other = (label_coder.encode(predictor(), y) for y in (labels, changed))
  # All but the coder's state of 64 bits at the change.
  same = int(first[:80].sum() // 8) - 8
  assert same > 0 and sent[:same] == other[:same]
  beginning = label_coder.encode(predictor(), labels[:80])
  np.testing.assert_array_equal(label_coder.decode(predictor(), 80, beginning), labels[:80])
  assert beginning[:same] == sent[:same]


def test_same_inputs_same_numbers(coded):
  cell, arrays = code(*small(), 3, small_config())
  assert cell == coded[0]
  np.testing.assert_array_equal(arrays['all/mlp_bits'], coded[1]['all/mlp_bits'])
  other, other_arrays = code(*small(), 3, small_config(), seed=1)
  assert (other_arrays['all/order'] != arrays['all/order']).any()
  assert other['linear_bits'] != cell['linear_bits']


def test_layers_in_batches_give_the_same(monkeypatch):
  x, labels = small()
  doubled, settings = np.concatenate([x, x]), small_config()
  cell, _ = code(x, labels, 3, settings)
  monkeypatch.setattr(prequential, 'BATCH_BYTES', 2 * 8 * 150 * (2 * 6 + 3 * 14))
  twice, _ = code(doubled, labels, 3, settings)
  for name in ('linear_bits_by_layer', 'mlp_bits_by_layer'):
    assert twice[name] == cell[name] * 2


def test_rows_are_capped_in_the_permuted_order(coded):
  cell, arrays = code(*small(), 3, small_config(rows=80, mlp=None))
  assert cell['labels'] == 80
  np.testing.assert_array_equal(arrays['all/order'], coded[1]['all/order'][:80])


def test_few_labels_and_a_class_that_never_comes():
  x, labels = small()
  cell, _ = code(x[:, :8], labels[:8], 3)
  assert cell['linear_bits'] == pytest.approx(8 * math.log2(3)) == cell['uniform_bits']
  assert cell['majority_bits'] == pytest.approx(cell['uniform_bits'])
  assert cell['certificate'] == 0
  three, _ = code(x, labels, 3, small_config(mlp=None))
  four, _ = code(x, labels, 4, small_config(mlp=None))
  assert three['linear_bits'] < four['linear_bits'] < three['linear_bits'] + 20


def test_bad_input():
  x, labels = small()
  broken = x.copy()
  broken[0, 0, 0] = np.nan
  with pytest.raises(ValueError, match='train features hold NaN'):
    code(broken, labels, 3)
  with pytest.raises(ValueError, match='do not match labels'):
    code(x, labels[:-1], 3)
  with pytest.raises(ValueError, match='must lie from 0 to 1'):
    code(x, labels, 2)
  with pytest.raises(ValueError, match='at least 2 classes'):
    code(x, labels * 0, 1)
  with pytest.raises(ValueError, match='no block begins after 11 labels'):
    prequential.Predictor(x, 3, small_config()).begin_block(labels[:11])
  with pytest.raises(ValueError, match='not those that were observed'):
    prequential.Predictor(x, 3, small_config()).begin_block(labels[:10])
