"""Fine-tuning: the choices, the code and the loss against things that are known beforehand."""

import dataclasses
import math
import os
import pathlib
import subprocess
import sys

import in_process
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
import pytest
from scipy import optimize
import tiny

import objectives
from objectives import finetuning as loss_lib
from objectives import scoring
from probes import finetune, prequential
from probes.features import Features
from reports import tidy
from runs import configs, recorded, run, tuning
from runs import finetuning as finetuning_lib
from training import finetuning, preemption
from training.errors import Preempted

CLASSES = 4


def config(**changes):
  settings = {
    'labels': (4, 40),
    'draws': 2,
    'folds': 3,
    'layer': 'last',
    'l2': (1e-4, 1e-2),
    'learning_rates': (1e-3, 1e-2),
    'single_learning_rate': 5e-3,
    'steps': 8,
    'all_steps': 20,
    'checkpoints': 4,
    'batch_size': 16,
    'generative': 1.0,
    'weight_decay': 0.01,
    'warmup': 2,
    'validation_rows': 50,
    'prequential': {
      'rows': 160,
      'first': 10,
      'orders': 1,
      'learning_rates': (1e-3, 1e-2),
      'steps': 8,
      'checkpoints': 2,
    },
  }
  return ml_collections.ConfigDict(settings | changes)


class Fake:
  """A tuner whose quality is known: it gives the truth `strength(learning rate, updates)` logits.

  `truth` says what it believes the labels of a split to be; calls are recorded.
  """

  def __init__(self, truth, strength):
    self.truth, self.strength, self.calls = truth, strength, []

  def __call__(self, rows, labels, *, learning_rate, at, ask, **settings):
    split, asked = ask
    self.calls.append({'rows': rows, 'labels': labels, 'rate': learning_rate, 'at': at,
                       'split': split, 'asked': asked, **settings})  # fmt: skip
    right = np.eye(CLASSES)[self.truth[split][asked]]
    return np.stack([self.strength(learning_rate, step) * right for step in at])


def features(labels=None, seed=0, strength=lambda rate, step: 3.0, believes=None):
  rng = np.random.default_rng(seed)
  sizes = {'train': 200, 'validation': 60, 'test': 80}
  labels = labels or {s: rng.permutation(np.arange(n) % CLASSES) for s, n in sizes.items()}
  x = {s: rng.normal(size=(3, n, 5)).astype(np.float32) for s, n in sizes.items()}
  # The middle layer carries the labels.
  for split, found in x.items():
    found[1, :, :CLASSES] += 6 * np.eye(CLASSES)[labels[split]]
  tuner = Fake(believes or labels, strength)
  marked = {f'labels_{split}': values for split, values in labels.items()}
  return Features(**x, **marked, classes=CLASSES, tuner=tuner)


def peak(rate, step):
  """Best at 1e-2 after 10 updates of 20, or 4 of 8."""
  if rate < 5e-3:
    return 0.5
  return {5: 1.0, 10: 5.0, 15: -1.0, 20: 2.0, 2: 1.0, 4: 5.0, 6: -1.0, 8: 2.0}[step]


def test_without_a_network_there_is_nothing():
  assert finetune.evaluate(dataclasses.replace(features(), tuner=None), config(), 0) == ({}, {})


def test_rate_and_stop_are_those_of_the_best_validation():
  # Accuracy is perfect wherever the strength is positive: cross-entropy decides among those.
  data = features(strength=peak)
  results, arrays = finetune.evaluate(data, config(), 0)
  found = results['all']
  assert (found['learning_rate'], found['step'], found['accuracy']) == (1e-2, 10, 1.0)
  assert found['cross_entropy'] == pytest.approx(math.log(1 + 3 * math.exp(-5)))
  assert found['epochs'] == 10 * 16 / 200 and found['layer'] == 2
  assert (arrays['all/predictions'] == data.labels_test).all()
  forty = results['40']
  assert forty['learning_rate'] == [1e-2, 1e-2] and forty['step'] == [4, 4]
  # Four labels of four classes: nothing to choose with, and nothing was.
  four = results['4']
  assert four['learning_rate'] == [5e-3] * 2 and four['step'] == [8, 8]
  assert four['cross_entropy'] == pytest.approx(math.log(1 + 3 * math.exp(-2)))


def test_test_labels_change_no_choice_and_are_read_once():
  def calls_of(data):
    results, _ = finetune.evaluate(data, config(), 0)
    return results, [(c['split'], c['rate'], c['at'], c['seed']) for c in data.tuner.calls]

  clean = features(strength=peak)
  wrong = dataclasses.replace(
    features(strength=peak), labels_test=(clean.labels_test + 1) % CLASSES
  )
  before, calls = calls_of(clean)
  after, same = calls_of(wrong)
  assert calls == same
  for name in ('4', '40', 'all'):
    assert before[name]['learning_rate'] == after[name]['learning_rate']
    assert before[name]['step'] == after[name]['step'] and after[name]['accuracy'] == 0
  # One fit a draw and one for all labels sees the test split, at one checkpoint.
  read = [call for call in calls if call[0] == 'test']
  assert len(read) == 5 and all(len(call[2]) == 1 for call in read)


def test_few_labels_stay_inside_the_subset():
  data = features(strength=peak)
  finetune.evaluate(data, config(labels=(40,), prequential={'rows': 0}), 0)
  few = [c for c in data.tuner.calls if len(c['rows']) <= 40]
  finals = [c for c in few if c['split'] == 'test']
  assert len(finals) == 2
  for final in finals:
    rows = set(final['rows'].tolist())
    assert len(rows) == 40 and (np.bincount(final['labels']) == 10).all()
    draw = final['seed'][2]
    folds = [c for c in few if c['split'] == 'train' and c['seed'][2] == draw]
    assert len(folds) == 6
    for fold in folds:
      trained, held = set(fold['rows'].tolist()), set(fold['asked'].tolist())
      assert trained | held == rows and not trained & held


def test_without_steps_for_all_labels_only_few_are_used():
  whole, cut = features(strength=peak), features(strength=peak)
  found, arrays = finetune.evaluate(cut, config(all_steps=0, prequential={'rows': 0}), 0)
  expected, _ = finetune.evaluate(whole, config(prequential={'rows': 0}), 0)
  assert found == {n: expected[n] for n in ('4', '40')}
  assert set(arrays) == {'4/predictions', '40/predictions'}
  assert max(len(call['rows']) for call in cut.tuner.calls) == 40
  coded, _ = finetune.evaluate(features(strength=peak), config(all_steps=0), 0)
  assert set(coded['all']) == {'code'}


def test_best_layer_is_the_linear_probes():
  data = features(strength=peak)
  results, _ = finetune.evaluate(data, config(layer='best'), 0)
  assert results['all']['layer'] == 1 and results['40']['layer'] == [1, 1]
  assert results['4']['layer'] == [1, 1]  # The middle one, as declared.
  assert results['all']['code']['layer'] == [1, 1, 1, 1]
  with pytest.raises(ValueError, match='finetune.layer'):
    finetune.evaluate(data, config(layer='first'), 0)


def test_code_of_a_known_expert():
  """One expert of constant confidence, twice, and the blind ones: the mixture, written out."""
  data = features(strength=lambda rate, step: 2.0)
  own = {'rows': 80, 'first': 10, 'orders': 1, 'learning_rates': (1e-2,)}
  own |= {'steps': 4, 'checkpoints': 1}
  results, arrays = finetune.evaluate(data, config(labels=(), prequential=own), 3)
  order = np.random.default_rng((3,)).permutation(200)[:80]
  labels = data.labels_train[order]
  weights, power = np.full(4, 1 / 4), 1.0
  total, majority = 10 * math.log2(CLASSES), 10 * math.log2(CLASSES)
  for start, stop in ((10, 20), (20, 40), (40, 80)):
    for i in range(start, stop):
      counts = np.bincount(labels[:i], minlength=CLASSES)
      blind = (counts[labels[i]] + 0.5) / (i + 2)
      frequent = (counts[labels[i]] + 0.5 / CLASSES) / (i + 0.5)
      # No class is unseen after ten labels here: smoothing is the uniform's half a count.
      assert (np.bincount(labels[:start], minlength=CLASSES) > 0).all()
      mine, calibrated = (
        (start * math.exp(2 * b) / (math.exp(2 * b) + 3) + 0.5 / CLASSES) / (start + 0.5)
        for b in (1.0, power)
      )
      given = np.array([blind, frequent, mine, calibrated])
      total -= math.log2(weights @ given)
      majority -= math.log2(blind)
      weights = weights * given / (weights @ given)
      weights = weights * (1 - 1 / (i + 2)) + 1 / (i + 2) / 4

    # All labels were right, so the power grows until a label's worth holds it.
    def slope(b, count=stop - start):
      return b - 1 - count * 2 * 3 / (math.exp(2 * b) + 3)

    power = optimize.brentq(slope, 1, 8)
    assert 1.5 < power < 3
  assert results['all']['code']['majority'] == pytest.approx(majority, abs=1e-9)
  assert results['all']['code']['bits'] == pytest.approx(total, abs=1e-5)
  assert arrays['code/bits'].sum() == pytest.approx(total, abs=1e-3)
  assert results['all']['code']['bits'] <= results['all']['code']['expert_bits'] + 2 + 3
  assert [point['labels'] for point in results['all']['code']['curve']] == [0, 10, 20, 40]


def test_code_sees_no_label_beforehand():
  data = features()
  finetune.evaluate(data, config(labels=()), 0)
  order = np.random.default_rng((0,)).permutation(200)[:160]
  code = [c for c in data.tuner.calls if c['split'] == 'train']
  assert [len(c['rows']) for c in code[::2]] == [10, 20, 40, 80]
  for call in code:
    n = len(call['rows'])
    assert (call['rows'] == order[:n]).all() and (call['asked'] == order[n : 2 * n]).all()
    assert (call['labels'] == data.labels_train[order[:n]]).all()


def test_code_of_a_useless_network_costs_the_labels():
  rng = np.random.default_rng(1)
  data = features(strength=lambda rate, step: 3.0)
  guess = {'train': rng.integers(CLASSES, size=200)}
  data = dataclasses.replace(data, tuner=Fake({**guess, **{
    s: np.zeros(n, int) for s, n in (('validation', 60), ('test', 80))
  }}, lambda rate, step: 3.0))  # fmt: skip
  results, _ = finetune.evaluate(data, config(labels=()), 0)
  # Confident nonsense: the blind predictor takes over, at its own price and that of the choice.
  price = math.log2(10) + math.log2(160 / 11)
  assert 310 < results['all']['code']['bits'] < 320 + 1.5 * math.log2(160) + price


def test_a_label_that_never_changes_costs_next_to_nothing_whatever_the_network_says():
  labels = {'train': np.zeros(3000, int), 'validation': np.zeros(9, int), 'test': np.zeros(9, int)}
  wrong = {split: values + 1 for split, values in labels.items()}
  own = {'rows': 3000, 'first': 10, 'orders': 1, 'learning_rates': (1e-3, 1e-2)}
  settings = config(labels=(), prequential=own | {'steps': 8, 'checkpoints': 2})
  rng, marked = np.random.default_rng(0), {f'labels_{k}': v for k, v in labels.items()}
  x = {k: rng.normal(size=(1, len(v), 2)).astype(np.float32) for k, v in labels.items()}
  tuner = Fake(wrong, lambda rate, step: 3.0)
  data = Features(**x, **marked, classes=CLASSES, tuner=tuner)
  found, _ = finetune._code(data, settings, 0)
  first = 10 * math.log2(CLASSES)
  assert first < found['bits'] <= first + 40


def test_codes_of_several_orders():
  """Each order is what it would be alone: other rows first, and fits of their own."""
  data = features(strength=peak)
  own = config().prequential.to_dict() | {'rows': 100, 'orders': 3}
  results, arrays = finetune.evaluate(data, config(labels=(), prequential=own), 0)
  found = results['all']['code']
  first, _ = finetune.evaluate(
    features(strength=peak), config(labels=(), prequential=own | {'orders': 1}), 0
  )
  assert len(found['bits_orders']) == 3
  assert found['bits_orders'][0] == first['all']['code']['bits'] == pytest.approx(
    arrays['code/bits'].sum(), rel=1e-6
  )  # fmt: skip
  assert found['bits'] == pytest.approx(np.mean(found['bits_orders']))
  assert found['spread'] == pytest.approx(np.std(found['bits_orders'], ddof=1)) != 0
  assert first['all']['code']['spread'] is None
  order = np.random.default_rng((0,)).permutation(200)[:100]
  sent = [order[again] for again in prequential.orders(100, 3, 0)]
  coded = [c for c in data.tuner.calls if c['split'] == 'train']
  for number, rows in enumerate(sent):
    for call in coded[8 * number : 8 * (number + 1)]:
      n = len(call['rows'])
      assert (call['rows'] == rows[:n]).all() and (call['asked'] == rows[n : 2 * n]).all()
  assert len(coded) == 24 and len({call['seed'] for call in coded}) == 12
  lengths = [prequential.majority_bits(data.labels_train[rows], CLASSES, 10) for rows in sent]
  assert found['majority'] == pytest.approx(np.mean(lengths))


def test_diverged_training_is_an_error():
  data = features(strength=lambda rate, step: np.nan)
  with pytest.raises(ValueError, match='diverged'):
    finetune.evaluate(data, config(), 0)


@pytest.mark.parametrize('count,steps', [(10, 1), (10, 7), (3, 5)])
def test_rows_of_an_epoch_come_once(count, steps):
  order = finetuning.order_of_rows(count, 4, steps, (0, 1))
  assert order.shape == (steps, 4)
  flat = order.ravel()
  for start in range(0, len(flat) - count + 1, count):
    assert sorted(flat[start : start + count]) == list(range(count))
  assert len(set(flat[: min(count, len(flat))].tolist())) == min(count, len(flat))


@pytest.fixture(scope='module')
def ready(data_dir):
  """Builder of a tiny experiment and its initial parameters, by objective."""

  def build(name):
    built = tiny.build(data_dir, name)
    return built, built.task.init(jax.random.key(0))

  return build


ALL = ('autoregressive', 'masked', 'masked_diffusion', 'gaussian_diffusion', 'supervised',
       'untrained', 'untrained_causal')  # fmt: skip


@pytest.mark.parametrize('name', ALL)
def test_loss_is_the_labels_plus_the_objectives_own(ready, name):
  built, params = ready(name)
  parts = (built.objective, built.apply, built.space)
  rng = np.random.default_rng(0)
  head = {'head_DxC': rng.normal(size=(16, 10)), 'bias_C': rng.normal(size=10)}
  params = {**params, 'head': jax.tree.map(jnp.float32, head)}
  tokens, labels = built.probe_dataset.train.tokens_NxT[:6], built.probe_dataset.train.labels_N[:6]
  batch, key = {'tokens': jnp.asarray(tokens), 'label': jnp.asarray(labels)}, jax.random.key(5)
  batch |= scoring.draw(key, 6, 1.0)
  value, _ = loss_lib.make_loss(*parts, 1, 0.25)(params, batch)
  # Layer 1 is the final norm: what the probes' features are there.
  x = built.features(params, tokens)[1].astype(float)
  z = x @ head['head_DxC'] + head['bias_C']
  expected = (np.log(np.exp(z).sum(1)) - z[np.arange(6), labels]).mean()
  if name not in ('supervised', 'untrained', 'untrained_causal'):
    expected += 0.25 * float(scoring.make_loss(*parts)(params, batch)[0])
  assert float(value) == pytest.approx(expected, abs=2e-5)


def fits_of(built, params, generative=0.0, layer=1):
  return tuning.make_tuner(built, params), {
    'layer': layer, 'batch_size': 32, 'generative': generative, 'weight_decay': 0.01, 'warmup': 2,
    'seed': (0, 1),
  }  # fmt: skip


def test_first_update_against_optax(ready):
  """One update of Adam from the same batch, made by hand: the label's part alone."""
  built, params = ready('autoregressive')
  tune, settings = fits_of(built, params)
  rows, asked = np.arange(16), np.arange(5)
  labels = built.probe_dataset.train.labels_N[rows]
  logits = tune(rows, labels, learning_rate=1e-2, at=(1, 2, 3), ask=('train', asked), **settings)

  whole = {**params, 'head': loss_lib.init_head(16, 10)}
  parts = (built.objective, built.apply, built.space, 1)
  loss, predict = loss_lib.make_loss(*parts, 0.0), loss_lib.make_logits(*parts)
  c = built.config.optimizer

  def decayed(path, _):
    return not any(w in jax.tree_util.keystr(path) for w in ('table', 'scale', 'start', 'bias'))

  adam = optax.chain(
    optax.clip_by_global_norm(c.clip_norm),
    optax.adamw(lambda step: 1e-2 * jnp.minimum(step / 2, 1), b1=c.beta1, b2=c.beta2,
                weight_decay=0.01, mask=lambda p: jax.tree_util.tree_map_with_path(decayed, p)),
  )  # fmt: skip
  state, train = adam.init(whole), built.probe_dataset.train

  @jax.jit
  def step(whole, state, batch):
    gradient = jax.grad(lambda p: loss(p, batch)[0])(whole)
    updates, state = adam.update(gradient, state, whole)
    return optax.apply_updates(whole, updates), state

  predict = jax.jit(predict)
  for i, order in enumerate(finetuning.order_of_rows(16, 16, 3, (0, 1))):
    batch = {'tokens': train.tokens_NxT[rows[order]], 'label': labels[order]}
    whole, state = step(whole, state, batch)
    expected = predict(whole, {'tokens': train.tokens_NxT[asked]})
    np.testing.assert_allclose(logits[i], expected, atol=2e-5)
  # The warm-up's first rate is 0: uniform still. Then it learns.
  assert np.abs(logits[0]).max() == 0 < np.abs(logits[2]).max()


def test_a_fit_is_a_function_of_its_arguments(ready):
  built, params = ready('masked_diffusion')
  tune, settings = fits_of(built, params, generative=1.0)
  before = jax.tree.map(np.array, params)
  rows = np.arange(40)
  labels = built.probe_dataset.train.labels_N[rows]
  asked = {'ask': ('test', np.arange(7)), 'learning_rate': 5e-3, **settings}
  first = tune(rows, labels, at=(3, 6), **asked)
  other = tune(rows, labels, at=(6,), **{**asked, 'learning_rate': 1e-3})
  again = tune(rows, labels, at=(6,), **asked)
  np.testing.assert_array_equal(first[1], again[0])
  assert np.abs(other - again).max() > 1e-4
  jax.tree.map(np.testing.assert_array_equal, before, jax.tree.map(np.array, params))


def test_learns_what_the_labels_say(ready):
  """A label that the first pixel tells is learnt from random weights; shuffled ones are not."""
  built, params = ready('untrained')
  tokens = built.probe_dataset.train.tokens_NxT
  shown = (tokens[:, 20] > 8).astype(np.int32)
  tune, settings = fits_of(built, params)
  rows, held = np.arange(400), np.arange(400, 600)
  asked = {'at': (150,), 'ask': ('train', held), 'learning_rate': 5e-3, **settings}
  accuracy = (tune(rows, shown[rows], **asked)[0].argmax(-1) == shown[held]).mean()
  shuffled = np.random.default_rng(0).permutation(shown[rows])
  nonsense = (tune(rows, shuffled, **asked)[0].argmax(-1) == shown[held]).mean()
  assert accuracy > 0.9 and nonsense < 0.75


def test_interrupted_fits_are_not_lost(ready, tmp_path, monkeypatch):
  calls = []

  def tuner(rows, labels, **settings):
    calls.append(settings['seed'])
    return np.full((len(settings['at']), len(settings['ask'][1]), 2), float(len(calls)))

  kept = tuning.remembering(tuner, tmp_path / 'fits')
  asked = {'at': (1, 2), 'ask': ('test', np.arange(3)), 'learning_rate': 1e-3, 'seed': (0, 1)}
  first = kept(np.arange(4), np.zeros(4, int), **asked)
  np.testing.assert_array_equal(kept(np.arange(4), np.zeros(4, int), **asked), first)
  assert len(calls) == 1
  for change in ({'learning_rate': 1e-2}, {'seed': (0, 2)}, {'ask': ('train', np.arange(3))}):
    kept(np.arange(4), np.zeros(4, int), **{**asked, **change})
  kept(np.arange(4), np.ones(4, int), **asked)
  assert len(calls) == 5
  built, params = ready('autoregressive')
  tune, settings = fits_of(built, params)
  monkeypatch.setattr(preemption, 'requested', lambda: True)
  with pytest.raises(Preempted):
    tune(np.arange(4), np.zeros(4, int), learning_rate=1e-3, at=(2,),
         ask=('test', np.arange(3)), **settings)  # fmt: skip


def test_registered_and_not_in_the_default_suite():
  assert set(objectives.OBJECTIVES) >= set(ALL)
  assert 'finetune' not in tiny.config().probe.suite
  assert prequential.blocks(160, 10)[1:] == ((10, 20), (20, 40), (40, 80), (80, 160))


SMALL = (
  '--config.probe.finetune.labels=10',
  '--config.probe.finetune.steps=2',
  '--config.probe.finetune.all_steps=4',
  '--config.probe.finetune.checkpoints=2',
  '--config.probe.finetune.validation_rows=20',
  '--config.probe.finetune.prequential.rows=20',
  '--config.probe.finetune.prequential.orders=1',
  '--config.probe.finetune.prequential.steps=2',
  '--config.probe.finetune.prequential.learning_rates=2e-3',
)


def _finetune(*arguments):
  root = pathlib.Path(__file__).parent.parent
  done = subprocess.run(
    [sys.executable, '-m', 'launch.finetune', *arguments],
    cwd=root,
    env={**os.environ, 'JAX_PLATFORMS': 'cpu', 'PYTHONPATH': str(root)},
    capture_output=True,
    text=True,
    timeout=240,
  )
  return done.returncode, done.stdout, done.stderr


def test_a_comparison_is_fine_tuned_and_reported(data_dir, tmp_path, capsys):
  where = tmp_path / 'runs' / 'autoregressive-seed0'
  run.execute(tiny.build(data_dir, 'autoregressive'), str(where))
  before = configs.read_record(str(where))
  code, out, err = _finetune(f'--workdir={tmp_path}', f'--data_dir={data_dir}', *SMALL)
  assert code == 0, err
  record = configs.read_record(str(where))
  found = record['probes']['finetune']
  assert {'10', 'all'} == set(found) and found['all']['code']['labels'] == 20
  assert {k: v for k, v in record['probes'].items() if k != 'finetune'} == before['probes']
  arrays = recorded.read_arrays(str(where))
  labels = tiny.build(data_dir).probe_dataset.test.labels_N
  hits = (arrays['finetune/all/predictions'] == labels).mean()
  assert found['all']['accuracy'] == pytest.approx(hits)
  assert not (where / 'finetune_fits').exists()
  rows = tidy.load_results([tmp_path])
  (value,) = rows[(rows.measure == 'finetune/accuracy') & (rows.labels == 'all')].value
  assert value == pytest.approx(hits)
  assert 'fine-tuned, all labels' in (tmp_path / 'report.html').read_text()
  job = finetuning_lib.Job('one', str(where), [], record['finetune_settings'])
  few, bits = found['10']['accuracy'], found['all']['code']['bits']
  said = f'one: {100 * few:.1f} % with 10 labels, {100 * hits:.1f} % with all labels'
  assert job.done() == f'{said}, label code {bits:,.0f} bits'
  # Done is done; other settings are another question.
  in_process.call('finetune', f'--workdir={where}', f'--data_dir={data_dir}', *SMALL)
  assert 'is fine-tuned' in capsys.readouterr().out


@pytest.mark.parametrize(
  'arguments,message',
  [
    ((), '--workdir=DIR is needed'),
    (('--workdir=/nowhere',), '/nowhere is not a directory'),
    (('--workdir=/tmp', '--config.model.width=3'), 'only config.probe.finetune.* can be set here'),
  ],
)
def test_bad_input_is_one_line(arguments, message):
  code, _, err = _finetune(*arguments)
  assert code == 2 and message in err and len(err.strip().splitlines()) == 1
