"""The certificate: its inversion, its quantiser, its accounting, and that it holds."""

import dataclasses
import itertools
import json
import types

import ml_collections
import numpy as np
import pytest
from scipy import optimize, special, stats
import tiny

import objectives
from probes import baselines, exchange, logistic, pac
from probes.features import SPLITS, Features, raw
from probes.measures import MEASURES, at
from reports import certificates, choice, finding
from runs import assessment, parents


def config(**changes):
  fields = {
    'delta': 0.05,
    'bits': (1, 2, 4),
    'ranges': (0.25, 1.0, 4.0),
    'l2': (1e-2, 1.0),
    'choices': 1,
  }
  return ml_collections.ConfigDict(fields | changes)


def gaussians(sizes, layers=1, dims=3, classes=2, distance=2.0, seed=0, unseen=('validation',)):
  """Normal classes, told apart in the last layer only, where features are shifted and scaled."""
  rng = np.random.default_rng(seed)
  y = rng.integers(0, classes, sum(sizes))
  x = rng.normal(size=(layers, sum(sizes), dims))
  x[-1] += distance * np.eye(classes, dims)[y]
  x = (x * np.arange(1, dims + 1) + 3).astype(np.float32)
  rows = dict(zip(SPLITS, np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1]), strict=True))
  return Features(
    **{s: x[:, r] for s, r in rows.items()},
    **{f'labels_{s}': y[r] for s, r in rows.items()},
    classes=classes,
    unseen=(*unseen, 'test'),
  )


def kl(q, e):
  return special.rel_entr(q, e) + special.rel_entr(1 - q, 1 - e)


@pytest.mark.parametrize('budget', [1e-3, 0.05, 0.7, 3.0])
def test_inversion(budget):
  assert pac.invert_kl(0.0, budget) == pytest.approx(1 - np.exp(-budget), rel=1e-12)
  assert pac.invert_kl(1.0, budget) == 1.0
  for error in (0.01, 0.2, 0.5, 0.9):
    expected = optimize.brentq(lambda e, q=error: kl(q, e) - budget, error, 1 - 1e-15, xtol=1e-14)
    assert pac.invert_kl(error, budget) == pytest.approx(expected, rel=1e-9)
  # Pinsker's inequality, and no budget, no slack.
  assert pac.invert_kl(0.2, budget) <= 0.2 + np.sqrt(budget / 2)
  assert pac.invert_kl(0.2, 0.0) == pytest.approx(0.2, abs=1e-7)
  for error, nats in ((-0.1, 1.0), (1.1, 1.0), (0.5, -1.0), (np.nan, 1.0), (0.5, np.nan)):
    with pytest.raises(ValueError):
      pac.invert_kl(error, nats)


@pytest.mark.parametrize('n, error', [(20, 0.1), (50, 0.5), (200, 0.03), (200, 0.4)])
@pytest.mark.parametrize('classifiers', [1, 64])
def test_inversion_covers_exactly(n, error, classifiers):
  """Enumerated: the chance that any of M independent classifiers of one error has a bound below it.

  Independent ones are the worst case for a union, and equal errors for a choice by the bound.
  """
  delta = 0.05
  counts = np.arange(n + 1)
  budget = (np.log(classifiers) + np.log(1 / delta)) / n
  below = np.array([pac.invert_kl(k / n, budget) < error for k in counts])
  one = stats.binom.pmf(counts[below], n, error).sum()
  assert 1 - (1 - one) ** classifiers <= delta


def test_quantiser():
  values = np.random.default_rng(0).normal(size=1000)
  for bits, width in itertools.product((1, 2, 3, 6), (0.5, 2.0)):
    levels = np.linspace(-width, width, 2**bits)
    found = pac.quantise(values, bits, width)
    nearest = levels[np.abs(values[:, None] - levels).argmin(1)]
    np.testing.assert_allclose(found, nearest, atol=1e-12)
    assert len(np.unique(found)) <= 2**bits
    inside = np.abs(values) <= width
    assert np.abs(found - values)[inside].max() <= width / (2**bits - 1) + 1e-12
    np.testing.assert_allclose(np.abs(found[~inside]), width)
  np.testing.assert_array_equal(pac.quantise(values, 1, 2.0), 2.0 * np.sign(values))


def test_pinning_changes_no_prediction():
  rng = np.random.default_rng(0)
  weights, bias, x = rng.normal(size=(4, 5)), rng.normal(size=4), rng.normal(size=(200, 5))
  theta = pac.pinned(weights, bias)
  assert theta.shape == (3, 6)
  expected = (x @ weights.T + bias).argmax(1)
  np.testing.assert_array_equal(pac.classify(pac.scores(x, theta)), expected)
  # Ties, also those that rounding broke, go to the first class.
  np.testing.assert_array_equal(pac.classify(np.array([[0.3, 0.1 + 0.2], [0.0, 1.0]])), [0, 1])


def test_accounting_by_hand():
  """D = 3, K = 2: p = 1 x 4. Two l2, one range, 2 bits, 2 layers, 5 networks."""
  features = gaussians((60, 40, 30), layers=2)
  settings = config(bits=(2,), ranges=(1.0,), choices=5, delta=0.1)
  cell = pac.evaluate(features, settings, 0)[0]['all']
  nats = 2 * 4 * np.log(2) + np.log(2 * 2 * 5) + np.log(10)
  assert cell['parameters'] == 4 and cell['n'] == 40 and cell['delta'] == 0.1
  assert cell['complexity_nats'] == pytest.approx(nats)
  assert kl(cell['train_error'], cell['bound']) == pytest.approx(nats / 40)
  majority = 1 - max(np.bincount(features.labels_validation)) / 40
  assert cell['majority_error'] == pytest.approx(majority)
  assert cell['vacuous'] == (cell['bound'] >= majority)
  # Checkpoints among which the sample chose count like networks of the config.
  again = dataclasses.replace(features, choices=3)
  more = pac.evaluate(again, settings, 0)[0]['all']
  assert (cell['choices'], more['choices']) == (5, 15)
  assert more['complexity_nats'] == pytest.approx(nats + np.log(3))
  assert more['bound'] > cell['bound']
  assert pac.complexity(585, 3, 5, config()) == pytest.approx(
    3 * 585 * np.log(2) + np.log(5 * 2 * 3 * 3) + np.log(20)
  )


def test_lowest_bound_of_the_whole_grid():
  """Every candidate in a loop, with its own quantiser and root finder."""
  features, settings = gaussians((70, 40, 200), layers=2, classes=3), config()
  results, arrays = pac.evaluate(features, settings, 0)
  cell = results['all']
  y, found = features.labels_validation, {}
  mean = features.train.mean(1, keepdims=True, dtype=float)
  deviation = features.train.astype(float).std(1, keepdims=True)
  standard = (features.validation - mean) / deviation
  fits = logistic.fit(standard, y, settings.l2, classes=3)
  for layer, z in enumerate(standard):
    for (j, l2), b, r in itertools.product(enumerate(settings.l2), settings.bits, settings.ranges):
      theta = np.hstack([fits.weights[layer, j], fits.bias[layer, j][:, None]])
      theta = theta[:2] - theta[2]
      levels = np.linspace(-r, r, 2**b)
      theta = levels[np.abs(theta[..., None] - levels).argmin(-1)]
      wrong = np.mean(np.hstack([z @ theta[:, :3].T + theta[:, 3], z[:, :1] * 0]).argmax(1) != y)
      budget = (b * 8 * np.log(2) + np.log(2 * 2 * 3 * 3 / 0.05)) / 40
      bound = optimize.brentq(lambda e, q=wrong, c=budget: kl(q, e) - c, wrong, 1 - 1e-12)
      found[layer, l2, b, r] = (bound, wrong, theta)
  lowest = [min(v[0] for k, v in found.items() if k[0] == layer) for layer in range(2)]
  np.testing.assert_allclose(cell['by_layer_bound'], lowest, rtol=1e-6)
  assert cell['bound'] == min(cell['by_layer_bound']) and cell['layer'] == 1
  bound, wrong, theta = found[1, cell['l2'], cell['bits'], cell['range']]
  assert (cell['bound'], cell['train_error']) == (pytest.approx(bound), pytest.approx(wrong))
  z = (features.test[1] - mean[1]) / deviation[1]
  logits = np.hstack([z @ theta[:, :3].T + theta[:, 3], z[:, :1] * 0])
  np.testing.assert_array_equal(arrays['all/predictions'], logits.argmax(1))
  assert cell['error'] == (logits.argmax(1) != features.labels_test).mean()
  (measure,) = MEASURES['pac']
  assert at({'pac': results}, measure.path) == cell['bound']
  assert at({'pac': results}, measure.layers) == cell['by_layer_bound']
  for value in cell.values():
    values = value if isinstance(value, list) else [value]
    assert all(type(v) in (int, float, bool) for v in values)


def test_bound_holds_over_samples():
  """200 samples of 40 from one source: at most 5 % may fail (none does, Occam's bound is loose)."""
  failures, bounds = 0, []
  everything = gaussians((60, 200 * 40, 4000), layers=2, distance=1.5)
  for draw in range(200):
    rows = slice(40 * draw, 40 * draw + 40)
    features = dataclasses.replace(
      everything,
      validation=everything.validation[:, rows],
      labels_validation=everything.labels_validation[rows],
    )
    cell = pac.evaluate(features, config(bits=(1, 2)), 0)[0]['all']
    failures += cell['error'] > cell['bound']
    bounds.append(cell['bound'])
  assert failures <= 0.05 * 200
  assert 0.3 < np.mean(bounds) < 0.95  # It says something about as little as 40 labels.


def test_bound_is_tight_with_many_labels():
  features = gaussians((50, 20_000, 20_000))
  cell = pac.evaluate(features, config(bits=(2, 4), l2=(1e-2,)), 0)[0]['all']
  best = stats.norm.cdf(-(2**0.5))  # Bayes: means 2 sqrt(2) apart.
  assert not cell['vacuous'] and cell['n'] == 20_000
  # The test error has a standard error of .002.
  assert best - 0.01 < cell['error'] < cell['bound'] + 0.005 < best + 0.04


def test_neither_test_nor_seen_labels_take_part():
  features = gaussians((60, 40, 30), layers=2)
  clean, _ = pac.evaluate(features, config(), 0)
  rng = np.random.default_rng(1)
  other = dataclasses.replace(
    features,
    test=rng.normal(size=features.test.shape).astype(np.float32),
    labels_test=1 - features.labels_test,
    labels_train=1 - features.labels_train,
  )
  dirty, _ = pac.evaluate(other, config(), 0)
  for key in clean['all'].keys() - {'error'}:
    assert clean['all'][key] == dirty['all'][key]
  assert clean['all']['error'] != dirty['all']['error']
  # With nothing unseen but test there is nothing to certify with.
  assert pac.evaluate(dataclasses.replace(features, unseen=('test',)), config(), 0) == ({}, {})
  assert pac.evaluate(dataclasses.replace(features, unseen=()), config(), 0) == ({}, {})


def test_sample_where_nothing_was_seen():
  """A tenth of train standardises, and its labels take no part; the rest and validation count."""
  features = gaussians((20, 22, 30), layers=2, unseen=('train', 'validation'))
  clean, _ = pac.evaluate(features, config(), 3)
  assert clean['all']['n'] == 18 + 22
  held = np.sort(np.random.default_rng(3).permutation(20)[:2])
  labels = features.labels_train.copy()
  labels[held] = 1 - labels[held]
  assert pac.evaluate(dataclasses.replace(features, labels_train=labels), config(), 3)[0] == clean
  x, y, mean, scale = pac._sample(features, ('train', 'validation'), 3)
  kept = np.setdiff1d(np.arange(20), held)
  np.testing.assert_array_equal(y, [*features.labels_train[kept], *features.labels_validation])
  outside = features.train[:, held].astype(float)
  expected = (features.train[:, kept] - outside.mean(1)[:, None]) / outside.std(1)[:, None]
  np.testing.assert_allclose(x[:, :18], expected, rtol=1e-6)
  np.testing.assert_allclose((x[:, 18:] * scale + mean), features.validation, rtol=1e-5)
  # Only train unseen: the other split's features standardise.
  x, y, mean, _ = pac._sample(features, ('train',), 0)
  assert x.shape == (2, 20, 3)
  np.testing.assert_allclose(mean, features.validation.mean(1, keepdims=True), rtol=1e-5)


def test_odd_and_bad_input():
  features = gaussians((60, 40, 30), layers=2)
  # A class that S does not have: a valid bound all the same.
  found, _ = pac.evaluate(dataclasses.replace(features, classes=3), config(), 0)
  assert found['all']['parameters'] == 8 and found['all']['bound'] <= 1
  # Constant features are worth nothing; fewer examples than classes certify nothing.
  flat = {split: np.ones_like(getattr(features, split)) for split in SPLITS}
  found, _ = pac.evaluate(dataclasses.replace(features, **flat), config(), 0)
  assert found['all']['vacuous'] and found['all']['error'] > 0.3
  few = dataclasses.replace(
    features,
    validation=features.validation[:, :1],
    labels_validation=features.labels_validation[:1],
  )
  found, _ = pac.evaluate(few, config(), 0)
  assert found['all']['vacuous'] and found['all']['n'] == 1
  broken = dataclasses.replace(features, validation=np.full_like(features.validation, np.nan))
  with pytest.raises(ValueError, match='validation features hold NaN'):
    pac.evaluate(broken, config(), 0)
  for changes in ({'delta': 0.0}, {'bits': (0,)}, {'ranges': ()}, {'choices': 0}):
    with pytest.raises(ValueError, match='pac'):
      pac.evaluate(features, config(**changes), 0)


def test_a_report_pays_for_the_learning_rates_it_chose_among():
  """The bound of the same classifier with the rates in its own count, and no more when repeated."""
  features, settings = (
    gaussians((60, 40, 30), layers=2),
    config(bits=(2,), ranges=(1.0,), l2=(1.0,)),
  )
  own = pac.evaluate(features, settings, 0)[0]
  paid = pac.evaluate(features, config(bits=(2,), ranges=(1.0,), l2=(1.0,), choices=4), 0)[0]['all']
  given = json.loads(json.dumps(own))
  rates = {
    rate: [{'objective': 'masked', 'seed': 0, 'learning_rate': rate, 'validation': {'loss': rate},
            'probes': {'pac': given}}]
    for rate in (0.1, 0.2, 0.3, 0.4)
  }  # fmt: skip
  runs = [run for members in rates.values() for run in members]
  choice.select(runs)
  for _ in range(2):
    cell = runs[0]['probes']['pac']['all']
    assert runs[0]['selected'] and cell['choices'] == 4
    for name in ('bound', 'train_error', 'vacuous'):
      assert cell[name] == pytest.approx(paid[name], rel=1e-9)
    np.testing.assert_allclose(cell['by_layer_bound'], paid['by_layer_bound'], rtol=1e-9)
    choice.select(runs)
  assert given == own  # What was read stays as it was.
  alone = [{**runs[0], 'probes': {'pac': own}}]
  choice.select(alone)
  assert alone[0]['probes']['pac'] == own
  # An untrained network is the same at every rate: nothing was chosen.
  runs = [{**run, 'trained': False, 'probes': {'pac': own}} for run in runs]
  choice.select(runs)
  assert runs[0]['probes']['pac'] == own


def test_tunings_that_failed_are_paid_for(tmp_path):
  """Three rates and a second clip norm were begun, two rates came to an end; all four count."""
  features, settings = (
    gaussians((60, 40, 30), layers=2),
    config(bits=(2,), ranges=(1.0,), l2=(1.0,)),
  )
  own = pac.evaluate(features, settings, 0)[0]
  four = pac.evaluate(features, config(bits=(2,), ranges=(1.0,), l2=(1.0,), choices=4), 0)[0]

  def begin(name, rate, clip=1.0, finished=True, width=64, objective='masked', seed=0):
    (tmp_path / name).mkdir()
    settings = {
      'objective': {'name': objective}, 'data': {'name': 'digits'},
      'model': {'preset': '', 'width': width},
      'optimizer': {'learning_rate': rate, 'clip_norm': clip, 'weight_decay': 0.01},
      'training': {'seed': seed, 'steps': 8},
    }  # fmt: skip
    (tmp_path / name / 'config.json').write_text(json.dumps({'config': settings}))
    if finished:
      run = {'schema': 1, 'objective': objective, 'seed': seed, 'size': 'nano', 'code': 'none',
             'learning_rate': rate, 'clip_norm': clip, 'validation': {'loss': rate},
             'probes': {'pac': own}}  # fmt: skip
      (tmp_path / name / 'run.json').write_text(json.dumps(run))

  begin('a', 0.1)
  begin('b', 0.2)
  begin('failed', 1e30, finished=False)
  begin('other seed of it', 1e30, finished=False, seed=1)
  begin('clip', 0.1, clip=0.3, finished=False)
  begin('another size', 0.7, finished=False, width=128)
  begin('another objective', 0.9, finished=False, objective='autoregressive')
  found = finding.find([tmp_path])
  choice.select(found.runs, found.begun)
  cells = [run['probes']['pac']['all'] for run in found.runs]
  assert [cell['choices'] for cell in cells] == [4, 4]
  assert cells[0]['bound'] == pytest.approx(four['all']['bound'], rel=1e-9)
  assert cells[0]['bound'] > own['all']['bound']


def test_rows_of_one_table_have_one_number_of_labels(data_dir):
  """Trained, untrained and raw input on the same data; a report of older records says so."""
  built = [tiny.build(data_dir, name) for name in ('autoregressive', 'untrained')]
  assert {b.unseen for b in built} == {('validation', 'test')}
  # Other data leave all of the probed ones unseen, but an earlier run's data are not asked for.
  for override, unseen in (
    ((), SPLITS),
    (('--config.training.init_from=RUN',), ('validation', 'test')),
    (('--config.data.order=easy_to_hard', '--config.data.order_by=RUN'), ('validation', 'test')),
  ):
    made = tiny.build(data_dir, 'autoregressive', *override)
    other = dataclasses.replace(made.dataset, name='other')
    assert dataclasses.replace(made, dataset=other).unseen == unseen
  for noise, unseen in (('histogram', SPLITS), ('RUN', ('validation', 'test'))):
    contrasting = objectives.get('energy', noise=noise)
    made = dataclasses.replace(built[0], objective=contrasting, dataset=other)
    assert made.unseen == unseen
  control = raw(built[0].probe_dataset, built[0].unseen)
  narrow = [baselines.pca(control, 4), baselines.random_relu(control, 4, 0)]
  assert {f.unseen for f in (control, *narrow)} == {('validation', 'test')}
  # Where even train was unseen, features made of it have no certificate beside the others.
  everything = raw(built[0].probe_dataset)
  assert everything.unseen == SPLITS
  assert pac.evaluate(baselines.pca(everything, 4), config(), 0) == ({}, {})
  runs = [
    {'objective': name, 'probes': {'pac': {'all': {'n': n}}}}
    for name, n in (('masked', 300), ('untrained', 1377))
  ]
  (line,) = certificates.notes(runs, {'raw': {'pac': {'all': {'n': 300}}}, 'of': {}})
  assert '300 of masked, raw; 1,377 of untrained' in line
  assert certificates.notes(runs[:1], {'uniform_bits_per_dim': 4.0}) == []


def test_the_best_checkpoint_pays_for_those_it_was_chosen_from(tmp_path):
  lines = [{'step': k, 'validation/loss': 2.0 - k} for k in range(3)] + [{'step': 9, 'x': 1.0}]
  (tmp_path / 'metrics.jsonl').write_text('\n'.join(map(json.dumps, lines)))
  assert parents.judged(str(tmp_path)) == 3
  assert parents.judged(str(tmp_path / 'nowhere')) == 1
  # The number reaches the certificate, also by way of a file.
  features, settings = gaussians((60, 40, 30), layers=2), ml_collections.ConfigDict()
  settings.probe = {'pac': config().to_dict(), 'suite': ('pac',)}
  settings.evaluation = {'seed': 0}
  splits = types.SimpleNamespace(train=(), validation=(), test=())
  built = types.SimpleNamespace(
    probed=True, config=settings, probe_dataset=splits,
    probe_features=lambda params, **_: features,
  )  # fmt: skip
  found, _, _ = assessment.probe(built, None, choices=3)
  plain, _, _ = assessment.probe(built, None)
  assert (found['pac']['all']['choices'], plain['pac']['all']['choices']) == (3, 1)
  assert found['pac']['all']['bound'] > plain['pac']['all']['bound']
  exchange.write(tmp_path / 'f.npz', dataclasses.replace(features, choices=3))
  assert exchange.read(tmp_path / 'f.npz').choices == 3
