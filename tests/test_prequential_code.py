"""The prequential code of data, and mutual information by such codes."""

import io
import json

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
import pytest

from codes import (
  adaptive,
  codec,
  container,
  counting,
  experts,
  learner,
  lengths,
  mutual_information,
  network,
  pairs,
  prequential,
  program,
  trained,
)  # fmt: skip
from codes.errors import CodeError
from data import markov
from data.dataset import Dataset, Examples
from models import transformer
from models.config import ModelConfig
import objectives

V, T = 5, 6
OPTIMIZER = {
  'learning_rate': 1e-2, 'warmup_steps': 2, 'end_fraction': 1.0, 'beta1': 0.9, 'beta2': 0.95,
  'weight_decay': 0.01, 'clip_norm': 1.0,
}  # fmt: skip


def _network(chunk=8, updates=3, replay=True, average=0, calibrated=False, **objective):
  return {
    'model': {'vocabulary': V, 'length': T, 'width': 16, 'layers': 1, 'heads': 2},
    'objective': {'name': 'autoregressive', **objective},
    'optimizer': OPTIMIZER,
    'schedule': {'chunk': chunk, 'updates': updates, 'batch': 16, 'replay': replay, 'seed': 3},
    'average': average,
    'calibrated': calibrated,
  }


def _settings(counts=False, part=0, networks=1, **network):
  made = _network(**network)
  order = tuple(range(T))[::-1] if 'order' in network else None
  return adaptive.Settings(
    counting.Layout(V, T), made['schedule']['chunk'], part, counts, (made,) * networks, order=order
  )


def _tokens(rows, seed=0):
  chain = markov.draw_chain(1, V, T, 0.2)
  return markov.sample(chain, seed, 0, rows).tokens_NxT


def _encode(tokens, settings):
  predictor = adaptive.Adaptive(settings, tokens.size)
  header = container.Header(
    kind=container.ARRAY, total=len(tokens), dtype='<i4', shape=(T,), **predictor.claims()
  )
  source = codec.Source(tokens.size, lambda a, b: tokens.reshape(-1)[a:b])
  out = io.BytesIO()
  return out, codec.encode(predictor, source, header, out)


def _decode(file):
  file.seek(0)
  reader = container.Reader(file)
  predictor = adaptive.from_header(reader.header)
  predictor.check(reader.header)
  parts = list(codec.decode(predictor, reader.header.total * T, reader))
  return np.concatenate([np.zeros(0, np.int32), *parts]).reshape(-1, T)


@pytest.mark.parametrize(
  'rows,settings',
  [
    (60, {}),
    (60, {'replay': False}),
    (13, {'order': 'reversed', 'chunk': 4}),
    pytest.param(
      60,
      {'average': 4, 'calibrated': True, 'counts': True, 'part': 4, 'networks': 2},
      marks=pytest.mark.bits,
    ),
    (0, {}),
    (1, {}),
  ],
)
def test_the_decoder_learns_what_the_encoder_learnt(rows, settings):
  tokens = _tokens(max(rows, 1))[:rows]
  out, sizes = _encode(tokens, _settings(**settings))
  np.testing.assert_array_equal(_decode(out), tokens)
  if rows == 60:
    assert sizes.payload_bits <= 1.001 * sizes.ideal_bits + 64
  if rows == 1:  # Nothing was learnt yet: uniform.
    assert sizes.ideal_bits == pytest.approx(T * np.log2(V), rel=1e-5)


def test_its_length_is_the_sum_over_chunks_of_what_was_not_yet_seen():
  """Against whole forward passes (codes.lengths), and against a learner that saw nothing."""
  tokens = _tokens(200)
  settings = _settings()
  _, sizes = _encode(tokens, settings)
  schedule = learner.Schedule(**settings.networks[0]['schedule'])
  same = lengths.Settings(16, 1, 2, OPTIMIZER, schedule)
  bits = lengths.bits(tokens, V, same)
  assert sizes.ideal_bits == pytest.approx(bits.sum(), rel=1e-3)
  np.testing.assert_allclose(bits[:8], T * np.log2(V), rtol=1e-5)
  # It has learnt by the end, and no code is shorter than the entropy on average.
  entropy = markov.draw_chain(1, V, T, 0.2).entropy_bits()
  assert entropy < bits[-100:].mean() + 3 * bits[-100:].std() / 10
  assert bits[-100:].mean() < 0.8 * bits[:8].mean()


SHAPE = ModelConfig(V, T, 16, 1, 2)


def _run(seed=0):
  """A network that expects something, as a finished run's."""
  made = transformer.init(SHAPE, jax.random.key(seed))
  made['output_DxV'] = jax.random.normal(jax.random.key(9), made['output_DxV'].shape)
  return adaptive.Start(SHAPE, {'backbone': made, 'objective': {}})


def _goes_on(tokens, settings, start):
  predictor = adaptive.Adaptive(settings, tokens.size, start=start)
  fields = {'kind': container.ARRAY, 'total': len(tokens), 'dtype': '<i4', 'shape': (T,)}
  header, out = container.Header(**fields, **predictor.claims()), io.BytesIO()
  source = codec.Source(tokens.size, lambda a, b: tokens.reshape(-1)[a:b])
  sizes = codec.encode(predictor, source, header, out)
  out.seek(0)
  return predictor, out, sizes


def test_a_run_that_goes_on_learns_as_optax_does():
  """Whole forward passes and updates written out, from the run's weights."""
  tokens, start = _tokens(40), _run()
  plain = {**_network(), 'optimizer': OPTIMIZER | {'weight_decay': 0.0}}
  settings = adaptive.Settings(counting.Layout(V, T), 8, 0, False, (plain,))
  _, _, sizes = _goes_on(tokens, settings, start)
  apply = transformer.make_apply(SHAPE)

  @jax.jit
  def nats(params, rows_NxT):
    out = apply(params, rows_NxT, pattern=('causal',), shift=True)
    p_NxTxV = jax.nn.log_softmax(out.logits_BxTxV)
    return -jnp.take_along_axis(p_NxTxV, rows_NxT[..., None], -1).sum()

  slope_of = jax.jit(jax.grad(lambda params, rows: nats(params, rows) / rows.size))
  schedule, params = learner.Schedule(**plain['schedule']), start.params['backbone']
  rate = optax.warmup_cosine_decay_schedule(0.0, 1e-2, 2, 12, 1e-2)
  chain = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(rate, 0.9, 0.95, weight_decay=0))
  state, total, done = chain.init(params), 0.0, 0
  for first in range(0, 40, 8):
    total += float(nats(params, tokens[first : first + 8])) / np.log(2)
    for _ in range(3 if first < 32 else 0):
      rows = tokens[schedule.rows(done, first + 8)]
      slope = slope_of(params, rows)
      step, state = chain.update(slope, state, params)
      params, done = optax.apply_updates(params, step), done + 1
  assert sizes.ideal_bits == pytest.approx(total, rel=1e-4)
  frozen = sum(float(nats(start.params['backbone'], tokens[i : i + 8])) for i in range(0, 40, 8))
  assert sizes.ideal_bits < 0.9 * frozen / np.log(2)


@pytest.mark.bits
def test_a_run_that_goes_on_is_decoded_by_that_run_alone():
  tokens, start = _tokens(60), _run()
  as_it_is = {**_network(updates=0)}
  settings = adaptive.Settings(
    counting.Layout(V, T), 8, 4, True, (as_it_is, _network(average=4, calibrated=True))
  )
  predictor, out, sizes = _goes_on(tokens, settings, start)
  reader = container.Reader(out)
  assert reader.header.mode == container.GOES_ON
  again = adaptive.from_header(reader.header, start=start)
  again.check(reader.header)
  found = np.concatenate(list(codec.decode(again, tokens.size, reader)))
  np.testing.assert_array_equal(found, tokens.reshape(-1))
  # Its network as it is costs what the run's own file does, and choosing is paid for.
  alone = predictor.spent()
  trained_file = trained.Trained(
    network.Reading(SHAPE, T, tuple(range(T))), _run().params['backbone'], 8
  )
  bits = _bits_of(trained_file, tokens)
  assert alone['network 1 (as it is)'] == pytest.approx(bits, rel=1e-4)
  assert set(alone) == {
    'counting', 'network 1 (as it is)', 'network 2 (3 updates at 0.01)', 'all mixed'
  }  # fmt: skip
  # The best sequence of experts may be shorter than any one of them, and is no longer.
  assert sizes.ideal_bits < min(alone.values()) + np.log2(4) + 1 < bits
  with pytest.raises(container.StreamError, match='encoded by another network than this run'):
    adaptive.from_header(reader.header, start=_run(1)).check(reader.header)
  with pytest.raises(container.StreamError, match='another network'):
    adaptive.from_header(reader.header).check(reader.header)
  wide = adaptive.Start(ModelConfig(V, T, 32, 1, 2), start.params)
  with pytest.raises(container.StreamError, match='of another shape than the one of this run'):
    adaptive.from_header(reader.header, start=wide)


def _bits_of(predictor, tokens):
  fields = {'kind': container.ARRAY, 'total': len(tokens), 'dtype': '<i4', 'shape': (T,)}
  source = codec.Source(tokens.size, lambda a, b: tokens.reshape(-1)[a:b])
  header = container.Header(**fields, **predictor.claims())
  return codec.encode(predictor, source, header, io.BytesIO()).ideal_bits


def test_a_future_example_changes_no_earlier_length():
  tokens = _tokens(40)
  settings = lengths.Settings(16, 1, 2, OPTIMIZER, learner.Schedule(8, 2, 16, True, 0))
  before = lengths.bits(tokens, V, settings)
  tokens[24:] = (tokens[24:] + 1) % V
  after = lengths.bits(tokens, V, settings)
  np.testing.assert_array_equal(before[:24], after[:24])
  assert (before[24:32] != after[24:32]).any()


def test_what_is_given_is_not_charged_and_what_follows_is_not_seen():
  tokens = _tokens(24)
  settings = lengths.Settings(16, 1, 2, OPTIMIZER, learner.Schedule(8, 2, 16, True, 0))
  np.testing.assert_allclose(
    lengths.bits(tokens, V, settings, given=4)[:8], 2 * np.log2(V), rtol=1e-5
  )
  changed = tokens.copy()
  changed[:, 4:] = 0
  np.testing.assert_array_equal(
    lengths.bits(tokens, V, settings, coded=4), lengths.bits(changed, V, settings, coded=4)
  )


def test_updates_draw_from_the_past_or_from_the_newest_chunk():
  replay = learner.Schedule(chunk=4, updates=2, batch=64, replay=True, seed=0)
  rows = replay.rows(5, 12)
  assert set(rows) == set(range(12))
  np.testing.assert_array_equal(rows, replay.rows(5, 12))
  assert (rows != replay.rows(6, 12)).any()
  newest = learner.Schedule(chunk=4, updates=2, batch=2, replay=False, seed=0)
  np.testing.assert_array_equal(newest.rows(4, 12), [8, 9])
  np.testing.assert_array_equal(newest.rows(5, 12), [10, 11])
  np.testing.assert_array_equal(newest.rows(0, 3), [0, 1])  # A last, shorter chunk: rows 0 to 2.
  assert replay.total_updates(12) == 4 and replay.total_updates(13) == 6


def test_settings_that_do_not_decode_are_refused():
  with pytest.raises(ValueError, match='only an autoregressive network'):
    made = {**_network(), 'objective': {'name': 'masked_diffusion'}}
    adaptive.Adaptive(adaptive.Settings(counting.Layout(V, T), networks=(made,)), 5 * T)
  with pytest.raises(ValueError, match='chunk must be at least 1, not 0'):
    adaptive.Adaptive(
      adaptive.Settings(counting.Layout(V, T), networks=(_network(chunk=0),)), 5 * T
    )


def test_the_program_is_counted_without_its_comments():
  source = '"""Doc."""\nimport os\n\n\ndef f(x):\n  """More."""\n  # why\n  return x + 1\n'
  assert program.stripped(source) == 'import os\n\ndef f(x):\n    return x + 1'
  names = {}
  exec(program.stripped('def g():\n  """Only this."""\n'), names)
  assert names['g']() is None
  counts, networks = (program.of_driver(d) for d in (program.COUNTING, program.NETWORKS))
  assert counts.modules > 10 and 8 * 5_000 < counts.bits < networks.bits < 8 * 200_000
  assert counts.packages == ('constriction', 'numpy', 'threadpoolctl')
  assert {'jax', 'optax'} < set(networks.packages)
  # It ships the digits.
  assert 'sklearn' not in networks.packages


# The ingredients of a network that learns.


def test_the_average_is_that_of_the_parameters_after_every_update():
  tokens, plain = _tokens(16), learner.Schedule(8, 4, 16, True, 3)
  model = ModelConfig(V, T, 16, 1, 2)
  space = objectives.Space(V, T, T)
  task = prequential.make_task(model, objectives.get('autoregressive'), space, 3)
  optimizer = ml_collections.ConfigDict(OPTIMIZER)
  seen = {'tokens': tokens[:8], 'label': np.full(8, -1, np.int32)}
  averaged = learner.Learner(task, optimizer, plain, 16, average=3)
  averaged.learn(seen)
  # By hand: updates one at a time, each followed by its share.
  single = learner.Learner(task, optimizer, plain, 16)
  mean = jax.tree.map(np.array, single.params)
  for number in range(1, 5):
    single.schedule = learner.Schedule(32, 4 * number, 16, True, 3)  # due: `number` of 8 seen
    single.learn(seen)
    part = max(1 / 3, 9 / (9 + number))
    mean = jax.tree.map(lambda m, n, p=part: m + p * (np.asarray(n) - m), mean, single.params)
  for found, wanted in zip(*map(jax.tree.leaves, (averaged.params, mean)), strict=True):
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6)


class _Fixed:
  """A step that always expects the same."""

  def __init__(self, p_BxV):
    self._p_BxV = p_BxV

  def begin(self):
    pass

  def expect(self, params):
    return self._p_BxV

  def see(self, symbols_B):
    pass


def test_the_temperature_is_the_one_that_the_source_has():
  """Symbols of p^(1/2) for an expert that says p: its power goes to 1/2, and not by much noise."""
  p_V = np.array([0.7, 0.2, 0.06, 0.03, 0.01])
  true_V = p_V**0.5 / (p_V**0.5).sum()
  settings = prequential.check(_network(updates=0, calibrated=True), counting.Layout(V, T))
  expert = prequential.Network(settings, 50, 10**6)
  expert._steps = _Fixed(np.repeat(p_V[None], 50, 0).astype(np.float32))
  rng = np.random.default_rng(0)
  for _ in range(40):
    expert.start(50)
    for _ in range(T):
      expert.expect()
      expert.see(rng.choice(V, 50, p=true_V))
    expert.finish()
  np.testing.assert_allclose(expert.expect()[0], true_V, atol=0.03)
  assert abs(expert._power - 0.5) < 0.07


def test_a_mixture_that_may_switch_follows_the_expert_that_is_right():
  """The price of a row is that of the best sequence of experts and of its change."""
  row = np.array([0] * 40 + [1] * 40)
  first, second = (_Says(np.array(p)) for p in ([0.9, 0.1], [0.1, 0.9]))
  mixed = experts.FixedShare([first, second], 0.01)
  mixed.start(1)
  bits = 0.0
  for symbol in row:
    bits -= np.log2(mixed.expect()[0, symbol])
    mixed.see(np.array([symbol]))
  best = -80 * np.log2(0.9)
  # One bit for the first expert, the change and that it is not changed elsewhere.
  assert best < bits < best + 1 - np.log2(0.005) - 78 * np.log2(0.995)
  alone = -40 * np.log2(0.9) - 40 * np.log2(0.1)
  np.testing.assert_allclose(mixed.spent_K / np.log(2), alone, rtol=1e-9)


class _Says(experts.Expert):
  def __init__(self, p_V):
    self._p_V = p_V

  def start(self, rows):
    self._rows = rows

  def expect(self):
    return np.repeat(self._p_V[None], self._rows, 0)

  def see(self, symbols_B):
    pass


# Mutual information.


def test_a_mixture_costs_a_bit_more_than_the_best_at_most():
  assert lengths.either(100.0, 100.0) == pytest.approx(100.0)
  assert lengths.either(100.0, 5000.0) == pytest.approx(101.0)
  assert lengths.either(3.0, 4.0, 5.0) == pytest.approx(
    -np.log2((2**-3 + 2**-4 + 2**-5) / 3), rel=1e-12
  )


def test_the_estimates_are_their_formulas():
  """With the exact conditionals in the network's place every estimate is the sample's own."""
  pair = pairs.chain(4000)
  made = markov.draw_chain(0, 8, 4, 0.1)
  middle = pair.x_NxT.shape[1]

  def exact(tokens_NxT, vocabulary, given=0, coded=0):
    """Bits by the chain's law; backwards (y, x) by Bayes' rule."""
    assert vocabulary == 8
    forward = np.array_equal(tokens_NxT[:, :middle], pair.x_NxT)
    whole = tokens_NxT.shape[1] == 2 * middle
    if not whole:
      return _chain_bits(made, tokens_NxT)
    parts = (pair.x_NxT, pair.y_NxT) if forward else (pair.y_NxT, pair.x_NxT)
    joint = _chain_bits(made, np.concatenate((pair.x_NxT, pair.y_NxT), 1))
    return joint - (_chain_bits(made, parts[0]) if given else 0)

  found = mutual_information.result(pair, exact)
  network = found['codes'][0]
  for value in network['shared'].values():
    assert value == pytest.approx(network['shared']['C(Y)-C(Y|X)'], rel=1e-9)
    assert abs(value - pair.truth) < 4 * network['stderr']
  assert found['codes'][1]['shared']['C(Y)-C(Y|X)'] == pytest.approx(
    network['shared']['C(Y)-C(Y|X)'] - 1, abs=0.01
  )


def test_counting_finds_what_rows_share_and_no_more():
  """Beside the realised information of these rows, itself checked by whole sequences."""
  pair, made = pairs.chain(6000), markov.draw_chain(0, 8, 4, 0.1)
  joint = _chain_bits(made, np.concatenate([pair.x_NxT, pair.y_NxT], 1))
  alone = _chain_bits(made, pair.x_NxT) + _chain_bits(made, pair.y_NxT)
  assert pair.realised == pytest.approx((alone - joint).sum(), rel=1e-9)
  assert abs(pair.realised - pair.truth) < 4 * np.sqrt(6000) * (alone - joint).std()
  found = mutual_information.result(pair, None)['codes']
  code = next(code for code in found if code['name'] == 'counting')
  # Learning is part of these lengths: y after x shows the same transitions more often.
  assert 0.9 * pair.realised < code['shared']['C(Y)-C(Y|X)'] < 1.1 * pair.realised
  noise = next(
    code for code in mutual_information.result(pairs.noise(2000), None)['codes']
    if code['name'] == 'its mixture'
  )  # fmt: skip
  assert -2 < noise['shared']['C(Y)-C(Y|X)'] < 0.01 * noise['y']


def _chain_bits(chain, tokens_NxT):
  """-log2 p of rows by the product of their transitions."""
  p = chain.stationary_V[tokens_NxT[:, 0]]
  for before, after in zip(tokens_NxT.T[:-1], tokens_NxT.T[1:], strict=True):
    p = p * chain.transition_VxV[before, after]
  return -np.log2(p)


def test_a_kept_length_is_of_the_same_tokens(tmp_path):
  """What is coded given X counts too: labels of other images are other labels."""
  measured = []

  def measure(tokens_NxT, vocabulary, given=0, coded=0):
    measured.append((given, coded))
    return tokens_NxT[:, given : given + coded if coded else None].sum(1).astype(float)

  remembered = mutual_information.remembering(str(tmp_path), measure, 'settings')
  x, y, other = np.random.default_rng(0).integers(0, 8, (3, 50, 3))
  for second in (y, other, y, other):
    rows = np.concatenate([x, second], 1)
    assert np.array_equal(remembered(rows, 8, given=3), second.sum(1))
    assert np.array_equal(remembered(rows, 8), rows.sum(1))
    assert np.array_equal(remembered(rows, 8, given=3, coded=1), second[:, 0])
    assert np.array_equal(remembered(rows, 8, given=3, coded=2), second[:, :2].sum(1))
  assert len(measured) == 8


def test_results_of_other_pairs_stay(tmp_path):
  path = str(tmp_path / 'results.json')
  assert mutual_information.read(path) == []
  first, second = {'pair': 'chain', 'rows': 1}, {'pair': 'noise', 'rows': 1}
  (tmp_path / 'results.json').write_text(json.dumps([first, second]))
  again = {'pair': 'chain', 'rows': 2}
  assert mutual_information.merged(mutual_information.read(path), [again]) == [second, again]
  (tmp_path / 'results.json').write_text('[')
  with pytest.raises(CodeError, match=r'results\.json is not a'):
    mutual_information.read(path)


def test_two_data_sets_are_all_of_both():
  def made(name, rows):
    tokens = np.arange(3 * rows, dtype=np.int32).reshape(rows, 3) % 8
    train = Examples(tokens, np.full(rows, -1, np.int32))
    return Dataset(name, 8, 3, 3, (), None, False, '', True, train, train, train)

  one, two = made('one', 7), made('two', 4)
  pair = pairs.sets(one, 0, two)
  assert not pair.joined and 'one' in pair.note and 'two' in pair.note
  for found, of in ((pair.x_NxT, one), (pair.y_NxT, two)):
    assert sorted(found.tolist()) == sorted(of.train.tokens_NxT.tolist())
  halved = pairs.sets(one, 0)
  assert len(halved.x_NxT) == 3 and len(halved.y_NxT) == 4


def test_gzip_forgets_what_lies_more_than_its_window_back():
  x = np.random.default_rng(0).integers(0, 256, (3125, 32))  # 100 kB that can't be shortened.
  pair = pairs.Pair('itself', x, x, 256, '')
  shared = {
    (code['name'], code['layout']): code['shared']['C(Y)-C(Y|X)'] / code['y']
    for code in mutual_information.result(pair, None)['codes']
    if code['name'] in ('gzip', 'xz', 'zstd')
  }
  assert abs(shared['gzip', 'whole']) < 0.01  # It finds nothing in X with itself.
  assert shared['xz', 'whole'] > 0.98 and shared['zstd', 'whole'] > 0.98
  assert shared['gzip', 'rows'] > 0.8


def test_noise_shares_nothing_and_a_copy_everything():
  schedule = learner.Schedule(32, 2, 64, True, 0)
  settings = lengths.Settings(16, 1, 2, {**OPTIMIZER, 'learning_rate': 2e-2}, schedule)
  x, other = np.random.default_rng(0).integers(0, 8, (2, 3000, 1))
  alone = lengths.bits(x, 8, settings).sum()
  assert alone == pytest.approx(3 * 3000, rel=0.01)
  after_noise, after_itself = (
    lengths.bits(np.concatenate([given, x], 1), 8, settings, given=1).sum() for given in (other, x)
  )
  assert abs(alone - lengths.either(after_noise, alone)) < 0.01 * alone
  assert after_noise > 0.99 * alone
  assert alone - after_itself > 0.9 * alone
