"""Weights as bytes, two-part codes and the training-time code."""

import copy
import dataclasses
import itertools
import math

import jax
import ml_collections
import numpy as np
import pytest
from records import make_record, write_run
from scipy import special, stats
import tiny

from codes import own_size, prequential, requential, training_time, weights
from launch import own_size as command
from models.config import ModelConfig
import objectives
from reports import reading, size_text
from runs import configs, experiment, single_epoch
from runs import own_size as runs_own_size
from runs import requential as runs_requential
from runs import run as run_lib
from runs.errors import UserError

HEAD = 9  # Bytes: kind, lowest, highest.
OPTIMIZER = ml_collections.ConfigDict(
  {
    'learning_rate': 2e-2, 'warmup_steps': 5, 'end_fraction': 1.0, 'beta1': 0.9, 'beta2': 0.95,
    'weight_decay': 0.01, 'clip_norm': 1.0,
  }
)  # fmt: skip


# Weights.


@pytest.mark.parametrize('bits', [2, 5, 8])
def test_decoded_weights_are_the_nearest_levels(bits):
  rng = np.random.default_rng(bits)
  shapes = [(40, 30), (7,), (3, 2, 4), (5,)]
  tensors = [rng.normal(size=shape).astype(np.float32) for shape in shapes]
  tensors[3][:] = 0.25
  found = weights.decode(weights.encode(tensors, bits), shapes, bits)
  for tensor, other in zip(tensors, found, strict=True):
    levels = np.linspace(tensor.min(), tensor.max(), 2**bits)
    nearest = levels[np.abs(tensor[..., None] - levels).argmin(-1)]
    np.testing.assert_allclose(other, nearest, atol=1e-6)
    assert other.dtype == np.float32
  np.testing.assert_array_equal(found[3], tensors[3])


def test_sizes_by_hand():
  assert len(weights.encode([np.full(1000, 0.5)], 4)) == HEAD  # all alike: nothing more
  # Four weights of 2 bits are one byte; their histogram, 4 gamma codes of 3 bits, would be two.
  assert len(weights.encode([np.arange(4.0)], 2)) == HEAD + 1
  # 1,024 weights, all 0 but one. Counts + 1 are 1024, 1, 1 and 2, gamma codes of 21, 1, 1 and 3
  # bits; then the number of words, and 1023 log2(1024 / 1023) + 10 bits in one word or two.
  tensor = np.zeros(1024)
  tensor[7] = 3.0
  size = len(weights.encode([tensor], 2))
  assert size - HEAD - math.ceil((21 + 1 + 1 + 3) / 8) - 4 in (4, 8)


def test_entropy_coding_reaches_the_entropy():
  indices = np.random.default_rng(0).binomial(7, 0.5, 50_000)
  p = np.bincount(indices) / len(indices)
  entropy = -(p * np.log2(p)).sum() * len(indices)
  size = 8 * len(weights.encode([indices.astype(np.float32)], 3))
  assert entropy < size < entropy * 1.0005 + 64 + 8 * (HEAD + 4) + 8 * 34


def test_elias_gamma_by_hand():
  code = weights._gamma(np.array([1, 2, 5]))
  assert ''.join(map(str, code)) == '1' + '010' + '00101'
  data = b'x' + np.packbits(code).tobytes() + b'rest'
  numbers, stop = weights._read_gamma(data, 1, 3)
  assert numbers.tolist() == [1, 2, 5] and data[stop:] == b'rest'


def test_damaged_weights_are_refused():
  tensors = [np.random.default_rng(0).normal(size=3000), np.arange(5.0)]
  shapes, code = [(3000,), (5,)], weights.encode(tensors, 4)
  for cut in (0, 5, 12, len(code) // 2, len(code) - 1):
    with pytest.raises(ValueError, match='cut short|histogram'):
      weights.decode(code[:cut], shapes, 4)
  with pytest.raises(ValueError, match='1 bytes behind'):
    weights.decode(code + b'!', shapes, 4)
  with pytest.raises(ValueError, match='a histogram of 3000 weights for a tensor of 2999'):
    weights.decode(code, [(2999,), (5,)], 4)
  with pytest.raises(ValueError, match='unknown kind'):
    weights.decode(b'\x07' + code[1:], shapes, 4)
  for bad in (np.array([1.0, np.nan]), np.zeros(0)):
    with pytest.raises(ValueError, match='only finite weights'):
      weights.encode([bad], 4)


def test_formats_of_a_tree():
  values = np.array([1.0, 1.00390625, 1.01171875, -3.14159274], np.float32)
  params = {'a': jax.numpy.asarray(values), 'b': jax.numpy.zeros((2, 3))}
  same, size = own_size.sent(params, 'float32')
  assert size == 32 * 10
  np.testing.assert_array_equal(same['a'], values)
  rounded, size = own_size.sent(params, 'bfloat16')
  assert size == 16 * 10
  # To 8 significant bits, ties to even: 1 + 1/256 is one, 1 + 3/256 another.
  np.testing.assert_array_equal(rounded['a'], np.float32([1.0, 1.0, 1.015625, -3.140625]))
  _, size = own_size.sent(params, '2 bits')
  assert size == 8 * (HEAD + 1 + HEAD)


# Accounting.


def test_break_even_by_hand():
  # 1,000 bits of weights, 10 bits an image saved: equal at 100 images, shorter from 101.
  assert own_size.break_even(1000, 10, 1.0, 2.0) == 101
  assert own_size.break_even(1001, 10, 1.0, 2.0) == 101
  assert own_size.break_even(0, 10, 1.0, 2.0) == 1
  assert own_size.break_even(1000, 10, 2.0, 2.0) is None
  assert own_size.break_even(1000, 10, 2.0, 1.0) is None


def test_the_format_is_chosen_by_images_to_break_even():
  rows = [
    {'name': 'a', 'weight_bits': 1000, 'validation': 1.9},  # 1000 / (10 * 0.1) + 1 = 1001
    {'name': 'b', 'weight_bits': 4000, 'validation': 1.0},  # 4000 / (10 * 1.0) + 1 = 401
    {'name': 'c', 'weight_bits': 100, 'validation': 2.5},  # never
  ]
  assert own_size.choose(rows, 10, 50, 2.0)['name'] == 'b'
  # Where none ever breaks even: 1000 + 950, 4000 + 500, 100 + 1250 for 50 images.
  assert own_size.choose(rows, 10, 50, 0.5)['name'] == 'c'
  assert own_size.choose(rows, 10, 5000, 0.5)['name'] == 'b'  # 96000, 54000, 125100


def test_totals_by_hand():
  row = {'name': 'float32', 'weight_bits': 1000, 'test': 1.0}
  made = {'images': 300, 'dims': 10, 'best': 'xz', 'rows': [row, row | {'name': 'x', 'test': None}]}
  rates = {'uniform': 4.0, 'histogram': 3.0, 'xz': 2.0, 'gzip': 2.5}
  found = {t['images']: t for t in own_size.totals(made | {'baselines': {'test': rates}})}
  assert found[100] == {'images': 100, 'float32': 20.0, 'xz': 20.0, 'histogram': 30.0,
                        'uniform': 40.0}  # fmt: skip
  assert found[300]['float32'] == pytest.approx(1000 / 300 + 10)


# Training time.


def test_windows_weigh_as_many_steps_as_they_hold():
  curve = [{'step': 0, 'validation/loss': 1.0}]
  curve += [{'step': s, training_time.CURVE: b} for s, b in ((4, 3.0), (6, 2.0), (10, 1.0))]
  settings = {'batch_size': 8, 'log_every': 4, 'dims': 3}
  found = training_time.first_epoch(curve, epoch=None, **settings)
  assert found['bits_per_dim'] == pytest.approx((4 * 3 + 2 * 2 + 4 * 1) / 10)
  assert (found['steps'], found['examples'], found['share']) == (10, 80, None)
  # The last tenth of ten steps lies in the last window: 1.0 is reached.
  assert found['reached'] == 1.0 and found['noise_bits'] == pytest.approx(80 * 3)
  assert found['structure_bits'] == pytest.approx((4 * 2 + 2 * 1) * 8 * 3)
  # 72 examples are 9 steps: the last window reaches into the second epoch.
  found = training_time.first_epoch(curve, epoch=72, **settings)
  assert found['bits_per_dim'] == pytest.approx((4 * 3 + 2 * 2) / 6)
  assert (found['steps'], found['examples']) == (6, 48)
  assert found['share'] == pytest.approx(48 / 72)


@pytest.mark.parametrize(
  ('curve', 'epoch', 'reason'),
  [
    ([{'step': 4, 'train/loss': 1.0}], 80, 'no training step has its bits recorded'),
    ([{'step': 4, training_time.CURVE: 1.0}], 24, 'the first window of the log, 4 steps'),
    ([{'step': s, training_time.CURVE: 1.0} for s in (4, 12)], 800, 'steps 5 to 8 are not in'),
  ],
)
def test_no_training_time_code_has_a_reason(curve, epoch, reason):
  found = training_time.first_epoch(curve, epoch=epoch, batch_size=8, log_every=4, dims=3)
  assert found['structure_bits'] is None
  assert found['bits_per_dim'] is None and reason in found['reason']


@pytest.mark.parametrize(
  ('objective', 'override', 'reason'),
  [
    ('autoregressive', 'training.init_from=RUN', 'the weights of another run'),
    ('autoregressive', 'data.order=by_class', 'would have to be told'),
    ('dual', 'evaluation.seed=0', 'a share of the examples'),
    ('energy', 'evaluation.seed=0', 'a learned normaliser'),
    ('masked_diffusion', 'model.dropout=0.1', None),
  ],
)
def test_losses_of_training_that_are_no_code(data_dir, objective, override, reason):
  found = single_epoch.no_code(tiny.build(data_dir, objective, f'--config.{override}'))
  assert found is None if reason is None else reason in found


# Bernoulli.


def _expected_losses(p, count):
  """Of Krichevsky and Trofimov's estimator after n = 0 .. count-1 symbols, bits, exactly."""
  n = np.arange(count)[:, None]
  k = np.arange(count)[None]
  says = (k + 0.5) / (n + 1)
  with np.errstate(all='ignore'):
    loss = np.where(k <= n, -p * np.log2(says) - (1 - p) * np.log2(1 - says), 0.0)
  return (stats.binom.pmf(k, n, p) * loss).sum(1)


def test_structure_is_what_a_learner_of_a_coin_pays_to_learn_it():
  """The whole length has a closed form, and above the entropy lies about log2(n) / 2."""
  p, count = 0.2, 400
  losses = _expected_losses(p, count)
  curve = [{'step': n + 1, training_time.CURVE: loss} for n, loss in enumerate(losses)]
  found = training_time.first_epoch(curve, batch_size=1, epoch=None, log_every=1, dims=1)
  # -log2 of the integral of q^k (1 - q)^(n - k) under the arcsine law, over all k of n.
  k = np.arange(count + 1)
  whole = stats.binom.pmf(k, count, p) @ -(special.betaln(k + 0.5, count - k + 0.5) - np.log(np.pi))
  length = whole / np.log(2)
  assert found['structure_bits'] + found['noise_bits'] == pytest.approx(length, rel=1e-9)
  entropy = -p * np.log2(p) - (1 - p) * np.log2(1 - p)
  # At the end a symbol costs 1 / (2 n ln 2) more than the entropy: half a nat over all n, nearly.
  above = (found['reached'] - entropy) * count
  assert above == pytest.approx(0.5 / np.log(2), rel=0.1)
  assert found['structure_bits'] == pytest.approx(length - count * entropy - above, rel=1e-9)
  # The estimator's redundancy is log2(n pi / 2 e) / 2 for any coin (Xie and Barron, 1997).
  redundancy = 0.5 * np.log2(count * np.pi / (2 * np.e))
  assert found['structure_bits'] + above == pytest.approx(redundancy, abs=0.05)
  flat = [{'step': n + 1, training_time.CURVE: 1.0} for n in range(count)]
  found = training_time.first_epoch(flat, batch_size=1, epoch=None, log_every=1, dims=1)
  assert found['structure_bits'] == 0 and found['noise_bits'] == count


class _Coin:
  """Counts what it learns from; a teacher that has learnt everything has fixed counts."""

  def __init__(self, ones, zeros, fixed=False, seed=0):
    self._counts, self._fixed = np.array([zeros, ones], float), fixed
    self._rng = np.random.default_rng(seed)

  def log_p(self, rows):
    return np.log(np.broadcast_to(self._counts / self._counts.sum(), (*rows.shape, 2)))

  def learn(self, rows):
    if not self._fixed:
      self._counts += np.bincount(rows.reshape(-1), minlength=2)

  def draw(self, count):
    return (self._rng.random((count, 1)) < self._counts[1] / self._counts.sum()).astype(int)


def test_the_requential_code_of_a_coin():
  """A teacher that knows: the student pays the estimator's regret, which has a closed form."""
  p, count = 0.2, 200
  expected = _expected_losses(p, count).sum()
  expected -= count * (-p * np.log2(p) - (1 - p) * np.log2(1 - p))
  rows, lengths = [np.zeros((1, 1), int)] * count, []
  for seed in range(60):
    made = requential.describe(_Coin(0.2, 0.8, True, seed), _Coin(0.5, 0.5), rows)
    lengths.append(made.kl_bits)
  error = np.std(lengths, ddof=1) / np.sqrt(60)
  assert np.mean(lengths) == pytest.approx(expected, abs=4 * error) and error < 0.1 * expected
  assert (made.steps, made.draws, len(made.by_step)) == (count, count, count)
  assert made.code_bits == pytest.approx(sum(k + np.log2(k + 1) + 4 for k in made.by_step))
  # Two that begin alike and never learn anything are the same at no cost but that of messages.
  same = requential.describe(_Coin(1, 3, True), _Coin(1, 3, True), rows[:5])
  assert same.kl_bits == 0 and same.code_bits == 20
  # What several draws of a step cost, they cost together.
  wide = requential.describe(_Coin(1, 3, True), _Coin(2, 2, True), [np.zeros((7, 1), int)])
  assert wide.kl_bits == pytest.approx(7 * (0.25 * np.log2(0.5) + 0.75 * np.log2(1.5)))
  assert wide.draws == 7


def test_networks_as_teacher_and_student():
  """They begin alike; the student follows; a KL is that of whole distributions, enumerated."""
  model = ModelConfig(vocabulary=3, length=3, width=16, layers=1, heads=2)
  space = objectives.Space(3, 3, 3)
  objective = objectives.get('autoregressive')
  task = prequential.make_task(model, objective, space, 0)
  reading = prequential.reading(objective, model, space)

  def made():
    return requential.Network(task, reading, OPTIMIZER, 40, 16, 0, jax.random.key(1))

  teacher, student = made(), made()
  every = np.array(list(itertools.product(range(3), repeat=3)))
  np.testing.assert_array_equal(teacher.log_p(every), student.log_p(every))
  # The third symbol is the first one.
  rows = np.random.default_rng(0).integers(0, 3, (41, 16, 3))
  rows[..., 2] = rows[..., 0]
  for batch in rows[:20]:
    teacher.learn(batch)

  def whole(side):
    return np.take_along_axis(side.log_p(every), every[..., None], -1)[..., 0].sum(-1)

  p, q = whole(teacher), whole(student)
  assert np.exp(p).sum() == pytest.approx(1, abs=1e-5)
  exact = (np.exp(p) * (p - q)).sum() / np.log(2)
  drawn = np.concatenate([teacher.draw(512) for _ in range(8)])
  log_t, log_s = (side.log_p(drawn).astype(float) for side in (teacher, student))
  each = (np.exp(log_t) * (log_t - log_s)).sum((1, 2)) / np.log(2)
  error = each.std() / np.sqrt(len(each))
  assert exact > 0.2 and each.mean() == pytest.approx(exact, abs=4 * error)
  teacher, student = made(), made()
  found = requential.describe(teacher, student, rows[:40])
  assert found.by_step[0] < 0.5 < found.kl_bits and found.draws == 640
  # It has learnt what the teacher knows from its draws alone.
  alike = every[:, 0] == every[:, 2]
  assert np.exp(whole(made())[alike]).sum() == pytest.approx(1 / 3, abs=0.05)
  assert np.exp(whole(student)[alike]).sum() > 0.6


# A run.


@pytest.fixture(scope='module', name='trained')
def trained_run(tmp_path_factory, data_dir):
  workdir = str(tmp_path_factory.mktemp('own') / 'run')
  config = tiny.config('autoregressive')
  config.evaluation.samples, config.evaluators.probe.every, config.probe.suite = 0, 0, ()
  built = experiment.build(config, data_dir)
  record = run_lib.execute(built, workdir)
  state, _ = run_lib.restore(built, workdir, best=False)
  return workdir, built, record, state.params


@pytest.fixture(scope='module', name='two_part')
def measured(trained):
  """Beside the compressors' sizes of ten rows: to count all of them takes most of a minute."""
  _, built, _, params = trained
  table = own_size.baselines_lib.table

  def few(dataset, split, **how):
    rows = getattr(dataset, split)
    rows = dataclasses.replace(rows, tokens_NxT=rows.tokens_NxT[:10], labels_N=rows.labels_N[:10])
    return table(dataclasses.replace(dataset, **{split: rows}), split, **how)

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(own_size.baselines_lib, 'table', few)
    return runs_own_size.two_part(built, params, bits=(2, 8))


def test_bits_are_measured_with_the_weights_that_were_sent(trained, two_part):
  (_, built, record, params), made = trained, two_part
  rows = {row['name']: row for row in made['rows']}
  assert rows['float32']['test'] == pytest.approx(record['bits_per_dim'], abs=1e-6)
  validation = record['validation']['bits_per_dim']
  assert rows['float32']['validation'] == pytest.approx(validation, abs=1e-6)
  assert rows['bfloat16']['validation'] == pytest.approx(validation, abs=0.01)
  assert rows['float32']['weight_bits'] == 32 * record['parameters'] == 32 * made['parameters']

  def nearest(leaf):  # By another way than the code's.
    flat = np.asarray(leaf)
    levels = np.linspace(flat.min(), flat.max(), 4)
    return jax.numpy.asarray(levels[np.abs(flat[..., None] - levels).argmin(-1)], leaf.dtype)

  values = built.per_example(jax.tree.map(nearest, params), built.dataset.validation, 1, 0)
  expected = float(np.mean(values['nats'])) / (64 * math.log(2))
  assert rows['2 bits']['validation'] == pytest.approx(expected, abs=1e-4)
  assert abs(expected - validation) > 1e-3  # two bits are not the weights themselves
  assert rows['2 bits']['weight_bits'] < rows['8 bits']['weight_bits'] < 8.5 * record['parameters']
  chosen = [row for row in made['rows'] if row['chosen']]
  assert len(chosen) == 1 and chosen[0]['name'] in ('2 bits', '8 bits')
  tested = {row['name'] for row in made['rows'] if row['test'] is not None}
  assert tested == {'float32', 'bfloat16', chosen[0]['name']}
  assert made['baselines']['test']['uniform'] == pytest.approx(math.log2(17))


def test_first_epoch_of_a_run(trained):
  workdir, built, _, _ = trained
  curve = reading.read_curve(workdir)
  found = training_time.first_epoch(curve, batch_size=8, epoch=1197, log_every=2, dims=64)
  assert found == configs.read_record(workdir)['single_epoch']
  assert found['steps'] == 8  # all of them
  values = [point['train/bits_per_dim'] for point in curve if 'train/bits_per_dim' in point]
  assert len(values) == 4 and found['bits_per_dim'] == pytest.approx(np.mean(values))
  # The first batch is coded by a network that predicts uniformly.
  assert values[0] == pytest.approx(math.log2(17), abs=0.2)


def test_the_requential_code_of_a_run(trained, data_dir):
  """The teacher is the run's training once more; two that learn nothing take nothing."""
  workdir, _, record, _ = trained
  made = runs_requential.measure(workdir, data_dir, 0)
  assert (made['steps'], made['draws']) == (8, 64)
  assert made['teacher'] == pytest.approx(record['validation']['bits_per_dim'], abs=1e-4)
  assert 0 < made['kl_bits'] < made['code_bits'] < made['kl_bits'] + 8 * (4 + 10)
  assert made['student'] > made['teacher'] - 0.05


def test_what_is_printed(trained, two_part):
  record, two_part = trained[2], copy.deepcopy(two_part)
  chosen = next(row['name'] for row in two_part['rows'] if row['chosen'])
  run = {name: record[name] for name in ('objective', 'seed', 'size', 'dataset', 'code')}
  run |= {'bits_per_dim': record['bits_per_dim'], 'validation': 2.5}
  time = {'bits_per_dim': 3.25, 'reason': None, 'steps': 8, 'examples': 64, 'share': 64 / 1197}
  time |= {'reached': 3.0, 'structure_bits': 64 * 64 * 0.25, 'noise_bits': 64 * 64 * 3.0}
  made = {'run': run, 'two_part': two_part, 'training_time': time}
  text = '\n'.join(size_text.lines(made))
  assert 'exact code' in text and '≤' not in text
  flat = ' '.join(text.split())
  assert '3.250 bits/dim over 64 images in 8 steps, 5 % of the first epoch' in flat
  assert 'Above the 3.000 that it reaches lie 1,024 bits, 7.7 %: structure; below it 12,288' in flat
  assert f'{chosen} (chosen)' in text
  assert max(map(len, text.splitlines())) <= 110
  del two_part['rows'][0]['break_even']['histogram']  # as of an endless source
  shown = next(line for line in size_text.lines(made) if line.startswith('float32'))
  assert shown.split()[-2] == 'n/a'
  described = {'kl_bits': 1000.2, 'code_bits': 1100.0, 'steps': 8, 'draws': 64}
  described |= {'teacher': 2.5, 'student': 2.625, 'average': 50}
  flat = ' '.join('\n'.join(size_text.lines(made | {'requential': described})).split())
  assert 'a student of 64 draws in 8 steps is described by 1,000 bits of cumulated KL' in flat
  assert 'at most 1,100 as messages; 2.625 bits/dim on validation, its teacher 2.500' in flat
  two_part['code'] = 'upper_bound'
  assert f'≤ {two_part["rows"][0]["test"]:.3f}' in '\n'.join(size_text.lines(made))
  none = size_text.lines({'run': run, 'two_part': None, 'training_time': time})
  assert none[0].endswith('n/a: the objective has no likelihood')


def test_bad_input_is_one_line(tmp_path, monkeypatch):
  path = write_run(tmp_path, make_record('masked', 0))
  (path / 'run.json').unlink()

  class Given:
    workdir, data_dir, out, requential, average = str(path), '', None, False, 50

  monkeypatch.setattr(command.flags, 'FLAGS', Given)
  with pytest.raises(UserError, match='is not finished'):
    command.main(['own_size'])
  with pytest.raises(UserError, match='is not a flag'):
    command.main(['own_size', 'extra'])
  Given.average = -1
  with pytest.raises(UserError, match='--average must not be negative'):
    command.main(['own_size'])
  Given.average, Given.workdir = 50, None
  with pytest.raises(UserError, match='--workdir=RUN is needed'):
    command.main(['own_size'])
  Given.workdir = str(tmp_path)
  with pytest.raises(UserError, match='not a run directory'):
    command.main(['own_size'])
