"""Other poolings than the mean: the last position, both, and learned attention over tokens."""

import dataclasses

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from probes import attentive, linear, logistic, pooling
from probes.features import SPLITS, Features
from probes.measures import MEASURES, at

SMALL = (100, 60, 60)  # One shape for small attentive fits, so that they are compiled once.
SETTINGS = ml_collections.ConfigDict({'l2': (1e-2,)})


def config(**changes):
  fields = {
    'heads': 2,
    'rows': 2000,
    'layers': 6,
    'steps': 20,
    'batch_size': 64,
    'learning_rate': 1e-2,
    'weight_decay': (1e-2, 1.0),
  }
  return ml_collections.ConfigDict(fields | changes)


def assemble(z, y, sizes, classes):
  """Features of tokens z (layers, N, T, D), rows split in order; mean and last position pooled."""
  rows = dict(zip(SPLITS, np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1]), strict=True))
  return Features(
    **{s: z[:, r].mean(2) for s, r in rows.items()},
    **{f'labels_{s}': y[r] for s, r in rows.items()},
    classes=classes,
    last={s: z[:, r, -1] for s, r in rows.items()},
    sequences=lambda split, layer, chosen: z[layer, rows[split]][chosen],
  )


def flagged(sizes=(500, 200, 300), layers=1, tokens=12, classes=4, seed=0):
  """Every token shows some class; a channel flags the one token, anywhere, that shows the label."""
  rng = np.random.default_rng(seed)
  count = sum(sizes)
  y = rng.integers(0, classes, count)
  shown = rng.integers(0, classes, (count, tokens))
  place = (np.arange(count), rng.integers(0, tokens, count))
  shown[place] = y
  z = 0.1 * rng.normal(size=(layers, count, tokens, classes + 3))
  z[-1, :, :, :classes] += np.eye(classes)[shown]
  z[-1, place[0], place[1], classes] += 1
  return assemble(z.astype(np.float32), y, sizes, classes)


def at_last(sizes=(100, 100, 100), seed=0):
  """The class shows at the last position of the second layer alone; the mean drowns it."""
  rng = np.random.default_rng(seed)
  y = np.arange(sum(sizes)) % 3
  z = rng.normal(size=(2, sum(sizes), 20, 5))
  z[1, :, -1, :3] += 3 * np.eye(3)[y]
  return assemble(z.astype(np.float32), y, sizes, 3)


def plain(value) -> bool:
  if isinstance(value, dict):
    return all(isinstance(key, str) and plain(v) for key, v in value.items())
  if isinstance(value, list):
    return all(plain(v) for v in value)
  return value is None or type(value) in (int, float, str)


def corrupted(features):
  """The same training and validation, nonsense as test labels."""
  labels = np.random.default_rng(1).permutation(features.labels_test)
  return dataclasses.replace(features, labels_test=labels)


# The linear probe on other poolings.


def test_last_position_has_what_the_mean_drowns():
  features = at_last()
  results, arrays = pooling.evaluate(features, SETTINGS, 0)
  settings = ml_collections.ConfigDict({**SETTINGS, 'labels': ()})
  mean = linear.evaluate(features, settings, 0)[0]['all']
  assert mean['accuracy'] < 0.6
  for name in ('last', 'concatenated'):
    cell = results['all'][name]
    assert cell['accuracy'] > 0.9 and cell['layer'] == 1
    assert cell['by_layer_validation'][0] < 0.5
    right = arrays[f'all/{name}/predictions'] == features.labels_test
    assert cell['accuracy'] == right.mean()
    assert cell['stderr'] == pytest.approx(right.std() / np.sqrt(len(right)))
  assert plain(results)
  for measure in MEASURES['pooling']:
    assert isinstance(at({'pooling': results}, measure.path), float)
    assert len(at({'pooling': results}, measure.layers)) == 2


def test_poolings_against_scikit_learn():
  features, (l2,) = at_last(), SETTINGS.l2
  found, arrays = pooling.evaluate(features, SETTINGS, 0)
  for name in pooling.POOLINGS:
    cell, x = found['all'][name], {}
    for split in SPLITS:
      z = features.sequences(split, cell['layer'], np.arange(100)).astype(float)
      x[split] = z[:, -1] if name == 'last' else np.hstack([z.mean(1), z[:, -1]])
    scaler = StandardScaler().fit(x['train'])
    model = LogisticRegression(C=1 / (100 * l2), tol=1e-8, max_iter=2000)
    model.fit(scaler.transform(x['train']), features.labels_train)
    expected = model.predict_log_proba(scaler.transform(x['test']))
    nats = -expected[np.arange(100), features.labels_test].mean()
    assert cell['cross_entropy'] == pytest.approx(nats, abs=2e-3)
    assert (arrays[f'all/{name}/predictions'] == expected.argmax(1)).mean() >= 0.99


def test_poolings_without_a_last_position_or_a_broken_one():
  features = at_last()
  assert pooling.evaluate(dataclasses.replace(features, last=None), SETTINGS, 0) == ({}, {})
  for last in ({}, {**features.last, 'test': features.last['test'][:, :3]}):
    with pytest.raises(ValueError, match='at the last position'):
      pooling.evaluate(dataclasses.replace(features, last=last), SETTINGS, 0)
  broken = {**features.last, 'train': np.full_like(features.last['train'], np.nan)}
  with pytest.raises(ValueError, match='NaN'):
    pooling.evaluate(dataclasses.replace(features, last=broken), SETTINGS, 0)
  with pytest.raises(ValueError, match='unknown pooling'):
    pooling.pooled(features, 'maximum')


def test_poolings_choose_without_test_labels():
  features = at_last()
  clean, _ = pooling.evaluate(features, SETTINGS, 0)
  dirty, _ = pooling.evaluate(corrupted(features), SETTINGS, 0)
  for name in pooling.POOLINGS:
    for key in ('layer', 'l2', 'by_layer_validation'):
      assert clean['all'][name][key] == dirty['all'][name][key]
    assert dirty['all'][name]['accuracy'] < 0.6


# Attention over tokens.


@pytest.fixture(scope='module')
def attended():
  return attentive.evaluate(flagged(layers=2), config(steps=300), 0)


def test_attention_finds_the_flagged_token(attended):
  features = flagged(layers=2)
  # Chance is .25; the mean shows the flagged token as one of twelve.
  model = LogisticRegression().fit(features.train[1], features.labels_train)
  assert model.score(features.test[1], features.labels_test) < 0.5
  results, arrays = attended
  cell = results['all']
  assert cell['accuracy'] > 0.9 and cell['layer'] == 1 and cell['rows'] == 500
  right = arrays['all/predictions'] == features.labels_test
  assert cell['accuracy'] == right.mean()
  assert cell['stderr'] == pytest.approx(right.std() / np.sqrt(300))
  assert cell['by_layer_validation'][0] < 0.4 and cell['by_layer_validation'][1] > 0.9
  assert cell['weight_decay'] in (1e-2, 1.0) and cell['step'] in range(30, 301, 30)
  assert plain(results)
  (measure,) = MEASURES['attentive']
  assert at({'attentive': results}, measure.path) == cell['accuracy']
  assert at({'attentive': results}, measure.layers) == cell['by_layer_validation']


def test_attention_chooses_without_test_labels(attended):
  dirty, arrays = attentive.evaluate(corrupted(flagged(layers=2)), config(steps=300), 0)
  for key in ('layer', 'weight_decay', 'step', 'by_layer_validation', 'rows'):
    assert dirty['all'][key] == attended[0]['all'][key]
  np.testing.assert_array_equal(arrays['all/predictions'], attended[1]['all/predictions'])
  assert dirty['all']['accuracy'] < 0.5


def parameters(heads=3, dims=5, classes=4):
  rng = np.random.default_rng(0)
  shapes = {'queries': (heads, dims), 'weights': (classes, heads * dims), 'bias': (classes,)}
  return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def test_attention_against_a_loop():
  params = parameters()
  z = np.random.default_rng(1).normal(size=(6, 7, 5)).astype(np.float32)
  expected = []
  for tokens in z:
    heads = [
      sum(a * token for a, token in zip(softmax(tokens @ q / 5**0.5), tokens, strict=True))
      for q in params['queries']
    ]
    expected.append(params['weights'] @ np.concatenate(heads) + params['bias'])
  np.testing.assert_allclose(attentive.logits(params, z), expected, rtol=1e-4, atol=1e-5)


def test_attention_without_queries_is_the_linear_probe():
  params = {**parameters(), 'queries': np.zeros((3, 5), np.float32)}
  z = np.random.default_rng(1).normal(size=(6, 7, 5)).astype(np.float32)
  summed = params['weights'].reshape(4, 3, 5).sum(1)
  expected = logistic.logits(z.mean(1), summed, params['bias'])
  np.testing.assert_allclose(attentive.logits(params, z), expected, rtol=1e-4, atol=1e-5)
  start = attentive.init(3, 5, 4, 0)
  np.testing.assert_array_equal(attentive.logits(start, z), 0)  # Uniform at the start.


def test_white_coordinates_are_the_same_classifier():
  rng = np.random.default_rng(2)
  z = rng.normal(size=(500, 7, 5)) * np.arange(1, 6) @ (np.eye(5) + 0.5)
  z = (z - z.mean((0, 1))).astype(np.float32)
  white = attentive.whitening(z)
  made = z.mean(1) @ white.T
  np.testing.assert_allclose(made.T @ made / 500, np.eye(5), atol=1e-3)
  params = parameters()
  unwhitened = attentive._unwhitened(params, jnp.asarray(white))
  a = softmax(np.einsum('ntd,hd->nth', z, params['queries']) / 5**0.5, 1)
  pooled = np.einsum('nth,ntd,ed->nhe', a, z, white).reshape(500, -1)
  expected = pooled @ params['weights'].T + params['bias']
  np.testing.assert_allclose(attentive.logits(unwhitened, z), expected, rtol=1e-3, atol=1e-3)
  # Tokens whose mean never varies are left alone rather than divided by nothing.
  still = np.concatenate([z, -z], 1)
  assert np.abs(attentive.whitening(still)).max() <= (14 / attentive.FLOOR) ** 0.5 + 1


def test_one_token_reaches_the_logistic_optimum(monkeypatch):
  """With one token attention has nothing to choose: logistic regression has the answer."""
  monkeypatch.setattr(attentive, 'CHECKPOINTS', 1)  # Accuracy might choose an earlier one.
  rng = np.random.default_rng(3)
  y = rng.integers(0, 3, 200)
  x = rng.normal(size=(200, 4)) + np.eye(3, 4)[y]
  rows = np.tile(np.arange(200), 3)  # Train, validation and test are the same.
  features = assemble(x[rows][None, :, None].astype(np.float32), y[rows], (200,) * 3, 3)
  settings = config(steps=300, batch_size=200, learning_rate=3e-2, weight_decay=(0.0,))
  found, _ = attentive.evaluate(features, settings, 0)
  model = LogisticRegression(C=1e6, tol=1e-8, max_iter=2000).fit(x, y)
  optimum = -model.predict_log_proba(x)[np.arange(200), y].mean()
  assert found['all']['cross_entropy'] == pytest.approx(optimum, abs=1e-4)


def test_weight_decays_are_trained_apart():
  tokens, labels = tokens_and_labels(flagged(SMALL))
  found = {
    decays: attentive._fit(tokens, labels, 4, config(weight_decay=decays), 0)
    for decays in ((1e-2, 30.0), (30.0, 1e-2), (1e-2, 1e-2), (30.0, 30.0))
  }
  first, second = found[1e-2, 1e-2], found[30.0, 30.0]
  assert first['nats'] != pytest.approx(second['nats'], rel=1e-3)
  better = min(first, second, key=lambda fit: (-fit['accuracy'], fit['nats']))
  for both in ((1e-2, 30.0), (30.0, 1e-2)):
    assert found[both]['accuracy'] == better['accuracy']
    assert found[both]['nats'] == pytest.approx(better['nats'], rel=1e-5)


def tokens_and_labels(features):
  splits = ('train', 'validation')
  labels = {split: getattr(features, f'labels_{split}') for split in splits}
  return {s: features.sequences(s, 0, np.arange(len(y))) for s, y in labels.items()}, labels


def test_attention_standardises_channels():
  """Shifted and scaled channels, and a constant one, change nothing."""
  features, settings = flagged(SMALL), config()
  shift, scale = np.arange(7), 10.0 ** np.arange(-3, 4)

  def moved(split, layer, rows):
    z = features.sequences(split, layer, rows).astype(np.float64) * scale + shift
    return z.astype(np.float32)

  def wider(split, layer, rows):
    z = features.sequences(split, layer, rows)
    return np.concatenate([z, np.full_like(z[..., :1], 3.3)], 2)

  plainly = attentive.evaluate(features, settings, 0)[0]['all']
  same = attentive.evaluate(dataclasses.replace(features, sequences=moved), settings, 0)[0]['all']
  assert same['cross_entropy'] == pytest.approx(plainly['cross_entropy'], rel=0.02)
  z = wider('train', 0, np.arange(100))
  mean, deviation = attentive._moments(z)
  np.testing.assert_allclose(mean, z.reshape(-1, 8).mean(0, dtype=float), rtol=1e-6)
  np.testing.assert_allclose(deviation[:7], z[..., :7].reshape(-1, 7).std(0, dtype=float))
  assert deviation[7] == np.inf and (attentive._standardised(z, mean, deviation)[..., 7] == 0).all()


def test_attention_is_reproducible_and_batches_change_nothing(monkeypatch):
  features, settings = flagged((100, 60, 61)), config()
  first, arrays = attentive.evaluate(features, settings, 0)
  assert attentive.evaluate(features, settings, 0)[0] == first
  assert attentive.evaluate(features, settings, 1)[0] != first
  monkeypatch.setattr(attentive, 'BATCH', 7)
  second, again = attentive.evaluate(features, settings, 0)
  np.testing.assert_array_equal(arrays['all/predictions'], again['all/predictions'])
  assert second['all']['cross_entropy'] == pytest.approx(first['all']['cross_entropy'], rel=1e-4)


def test_batches_are_epochs():
  batches = attentive._batches(10, 4, 5, 0)
  assert batches.shape == (5, 4)
  for epoch in batches.reshape(2, 10):
    assert sorted(epoch) == list(range(10))
  assert attentive._batches(3, 4, 2, 0).shape == (2, 3)


def test_rows_and_layers_are_capped(monkeypatch):
  features = flagged(SMALL, layers=5)
  seen = []

  def recorded(split, layer, rows):
    seen.append((split, layer, tuple(rows)))
    return features.sequences(split, layer, rows)

  watched = dataclasses.replace(features, sequences=recorded)
  found, _ = attentive.evaluate(watched, config(rows=90, layers=3), 0)
  by_layer = found['all']['by_layer_validation']
  assert [b is None for b in by_layer] == [False, True, False, True, False]
  assert found['all']['rows'] == 90
  trained = {rows for split, _, rows in seen[1:] if split == 'train'}
  (rows,) = trained  # The same for every layer.
  assert len(set(rows)) == 90 and list(rows) == sorted(rows)
  # Test is read for the chosen layer alone, whole.
  tested = [(layer, rows) for split, layer, rows in seen if split == 'test']
  assert tested == [(found['all']['layer'], tuple(range(60)))]
  monkeypatch.setattr(attentive, 'BYTES', 25 * 4 * 12 * 7)
  assert [len(rows) for rows in attentive._rows(features, config(), 0).values()] == [25, 25]
  assert attentive._layers(5, 1) == [0] and attentive._layers(5, 9) == [0, 1, 2, 3, 4]


def test_attention_on_bad_input():
  features, settings = flagged(SMALL), config()
  assert attentive.evaluate(dataclasses.replace(features, sequences=None), settings, 0) == ({}, {})

  def broken(split, layer, rows):
    return np.full((len(rows), 12, 7), np.nan, np.float32)

  with pytest.raises(ValueError, match='train sequences of layer 0 hold NaN'):
    attentive.evaluate(dataclasses.replace(features, sequences=broken), settings, 0)
  missing = dataclasses.replace(features, labels_train=features.labels_train % 3)
  with pytest.raises(ValueError, match='class 3 has no training example'):
    attentive.evaluate(missing, settings, 0)
  with pytest.raises(ValueError, match='diverged'):
    attentive.evaluate(features, config(weight_decay=(float('nan'),) * 2), 0)
  one = {f'labels_{split}': getattr(features, f'labels_{split}') * 0 for split in SPLITS}
  with pytest.raises(ValueError, match='at least 2 classes'):
    attentive.evaluate(dataclasses.replace(features, classes=1, **one), settings, 0)


def test_attention_works_in_float32_on_the_default_device():
  params = attentive.init(2, 5, 3, 0)
  assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype('float32')}
