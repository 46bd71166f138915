"""The energy objective against enumeration: V = 3 values, T = 4 tokens, 81 sequences."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats
import tiny

from codes import tabled
from models import transformer
from models.config import ModelConfig
import objectives
from objectives import base, energy, scoring
from reports import fairness, finding, styles
from reports import results as results_lib
from runs import noise as noise_lib
from runs import own_size, recorded, run
from runs.errors import UserError

V, T = 3, 4
SEQUENCES = np.array(list(itertools.product(range(V), repeat=T)), np.int32)
RNG = np.random.default_rng(0)
P = RNG.dirichlet(np.full(V**T, 0.7))
SITES = -np.log(RNG.dirichlet(np.ones(V), size=T))
PLAIN = base.Space(V, T, T)
SPACE = base.Space(V, T, T, noise=energy.independent(SITES, PLAIN))
LOG_Z = 1.7


def _index(tokens_NxT):
  return jnp.asarray(tokens_NxT) @ (V ** jnp.arange(T - 1, -1, -1))


def _apply(table, inputs, **_):
  """A backbone that can be any energy at all: `table` holds those of all sequences."""
  found = table[_index(inputs)][:, None, None] / T
  return transformer.Outputs(None, jnp.broadcast_to(found, (*inputs.shape, 1)))


def _params(nats, log_z):
  own = {'head_D': jnp.ones((1,)), 'log_z': jnp.float32(log_z / T)}
  return {'backbone': jnp.asarray(nats - log_z, jnp.float32), 'objective': own}


def _expected_loss(params, count: int, space: base.Space = SPACE):
  """Over all data and noise examples, by the objective's own score."""
  objective = objectives.get('energy', noise_examples=count)
  rows = np.array(list(itertools.product(range(81), repeat=1 + count)))
  inputs = jnp.asarray(SEQUENCES[rows])
  nats = space.noise.nats(jnp.asarray(SEQUENCES))
  view = base.View(inputs, inputs[:, 0], jnp.ones((len(rows), T)),
                   extra={'noise_nats_J': nats[rows]})  # fmt: skip
  outputs = objective.run(_apply, params, view, space)
  score = objective.score(params, view, outputs, space)
  noise = np.exp(-SITES[np.arange(T)[None], SEQUENCES].sum(1))
  chance = P[rows[:, 0]] * np.prod(noise[rows[:, 1:]], axis=1)
  return jnp.sum(jnp.asarray(chance, jnp.float32) * score.loss_B)


def test_the_true_energy_and_normaliser_leave_no_gradient():
  """The loss is convex in log p, which is linear in both, so that this is its only minimum."""
  gradient = jax.jit(jax.grad(lambda params: _expected_loss(params, 1)))
  found = gradient(_params(-np.log(P), LOG_Z))
  assert np.abs(found['backbone']).max() < 1e-6
  assert abs(found['objective']['log_z']) < 1e-5
  wrong = gradient(_params(-np.log(P), LOG_Z) | {'backbone': jnp.zeros(81)})
  assert np.abs(wrong['backbone']).max() > 1e-3
  for other in (LOG_Z - 0.5, LOG_Z + 0.5):
    own = {'head_D': jnp.ones((1,)), 'log_z': jnp.float32(other / T)}
    moved = gradient(_params(-np.log(P), LOG_Z) | {'objective': own})['objective']['log_z']
    assert np.sign(moved) == np.sign(other - LOG_Z) and abs(moved) > 1e-2


@pytest.mark.parametrize('count', [1, 2])
def test_the_loss_is_that_of_noise_contrastive_estimation(count):
  """Gutmann and Hyvarinen's, from probabilities in float64, for a model that is wrong."""
  noise = np.exp(-SITES[np.arange(T)[None], SEQUENCES].sum(1))
  assert noise.sum() == pytest.approx(1)
  model = np.random.default_rng(3).dirichlet(np.ones(81)) * 1.3  # Not even normalised.
  data = model / (model + count * noise)
  expected = -np.sum(P * np.log(data)) - count * np.sum(noise * np.log(1 - data))
  found = _expected_loss(_params(-np.log(model), LOG_Z), count)
  assert float(found) == pytest.approx(expected, rel=1e-5)


def test_noise_is_drawn_as_often_as_it_says():
  space = base.Space(V, T + 1, T)
  noise = energy.independent(SITES, space)
  drawn = np.asarray(noise.draw(jax.random.key(0), 20_000))
  assert drawn.shape == (20_000, T + 1) and not drawn[:, T].any()
  nats = np.asarray(noise.nats(jnp.pad(jnp.asarray(SEQUENCES), ((0, 0), (0, 1)))), np.float64)
  assert np.exp(-nats).sum() == pytest.approx(1, abs=1e-5)
  counts = np.bincount(np.asarray(_index(drawn[:, :T])), minlength=81)
  assert stats.chisquare(counts, 20_000 * np.exp(-nats) / np.exp(-nats).sum()).pvalue > 1e-3


def test_a_view_holds_the_example_and_fresh_noise():
  objective = objectives.get('energy', noise_examples=5)
  rows = 3000
  draw = scoring.draw(jax.random.key(0), rows, 0.0)
  tokens = jnp.asarray(SEQUENCES[np.arange(rows) % 81])
  examples = base.Example(tokens, jnp.zeros(rows), draw['stratum'], draw['key'], draw['progress'])
  view = scoring.batch_view(objective, SPACE, examples)
  assert view.inputs.shape == (rows, 6, T)
  np.testing.assert_array_equal(view.inputs[:, 0], tokens)
  np.testing.assert_allclose(
    view.extra['noise_nats_J'],
    SITES[np.arange(T)[None, None], np.asarray(view.inputs)].sum(-1),
    rtol=1e-5,
  )
  counts = np.bincount(np.asarray(_index(view.inputs[:, 1:].reshape(-1, T))), minlength=81)
  noise = np.exp(-SITES[np.arange(T)[None], SEQUENCES].sum(1))
  assert stats.chisquare(counts, counts.sum() * noise).pvalue > 1e-3


def test_the_sum_over_all_sequences():
  space = base.Space(3, 9, 8)  # 6,561 of them, in parts that do not come out even; an end token.
  weights = np.random.default_rng(1).normal(size=(8, 3))
  pair = np.random.default_rng(2).normal(size=(3, 3))

  def of(tokens_NxT):
    assert tokens_NxT.shape[1] == 9
    single = jnp.asarray(weights)[jnp.arange(8)[None], tokens_NxT[:, :8]].sum(-1)
    return single + jnp.asarray(pair)[tokens_NxT[:, :7], tokens_NxT[:, 1:8]].sum(-1)

  # The same by transfer matrices.
  vector = np.exp(-weights[0])
  for t in range(1, 8):
    vector = (vector @ np.exp(-pair)) * np.exp(-weights[t])
  assert float(jax.jit(lambda: energy.log_sum(of, space))()) == pytest.approx(
    math.log(vector.sum()), abs=1e-4
  )


def _table_energy(nats):
  return lambda tokens_NxT: jnp.asarray(nats, jnp.float32)[_index(tokens_NxT)]


def test_annealing_finds_the_normaliser_within_its_error():
  of = _table_energy(-np.log(P) - LOG_Z)
  walk = jax.jit(lambda key: energy.anneal(of, SPACE.noise, key, 64, 60, PLAIN)[0])
  found = [energy.log_mean(walk(key)) for key in jax.random.split(jax.random.key(1), 40)]
  z = np.array([(float(one.log_z) - LOG_Z) / float(one.stderr) for one in found])
  assert np.mean(np.abs(z) < 2) > 0.8 and np.abs(z).max() < 5
  # Z itself is unbiased.
  values = np.exp([float(one.log_z) - LOG_Z for one in found])
  assert abs(values.mean() - 1) < 4 * values.std(ddof=1) / math.sqrt(40)
  assert values.std() < 0.2
  assert all(0 < float(one.effective) <= 1 for one in found)


def test_annealing_between_equals_is_exact():
  weights, _ = energy.anneal(SPACE.noise.nats, SPACE.noise, jax.random.key(0), 8, 5, PLAIN)
  found = energy.log_mean(weights)
  assert abs(float(found.log_z)) < 1e-6 and float(found.stderr) < 1e-6
  assert float(found.effective) == pytest.approx(1, abs=1e-5)


def test_the_moves_of_annealing_leave_their_distribution_as_it_is():
  """Where noise and model are the same, all that lies between is too: chains must stay in it."""
  log_p = jnp.asarray(np.log(P), jnp.float32)

  def draw(key, count):
    return jnp.asarray(SEQUENCES)[jax.random.categorical(key, log_p, shape=(count,))]

  own = energy.Noise(draw, _table_energy(-np.log(P)), SPACE.noise.sites_TxV)
  _, ends = energy.anneal(own.nats, own, jax.random.key(2), 20_000, 12, PLAIN)
  start = own.draw(jax.random.split(jax.random.key(2))[0], 20_000)
  assert np.mean(np.any(np.asarray(start) != np.asarray(ends), axis=1)) > 0.5
  counts = np.bincount(np.asarray(_index(ends)), minlength=81)
  seen = 20_000 * P > 5
  observed = np.append(counts[seen], counts[~seen].sum())
  expected = np.append(20_000 * P[seen], 20_000 * P[~seen].sum())
  assert stats.chisquare(observed, expected * observed.sum() / expected.sum()).pvalue > 1e-3


def test_the_code_with_the_normaliser_is_log_p():
  objective = objectives.get('energy')
  params = _params(-np.log(P), LOG_Z)
  params['objective']['log_z'] = jnp.float32(9.0)  # What training learned does not matter.
  found = objective.normaliser(_apply, params, SPACE, jax.random.key(0))
  assert float(found.log_z) == pytest.approx(LOG_Z, abs=1e-4) and float(found.stderr) == 0
  assert objective.normaliser_text(SPACE) == 'exact, the sum over 81 sequences'
  params = objective.normalised(params, float(found.log_z), SPACE)
  evaluate = jax.jit(scoring.make_evaluation(objective, _apply, SPACE, 1))
  index = jnp.arange(81)
  batch = {'tokens': jnp.asarray(SEQUENCES), 'label': index, 'index': index}
  values = evaluate(params, batch, jax.random.key(0))
  np.testing.assert_allclose(values['nats'], -np.log(P), rtol=1e-4, atol=1e-4)
  np.testing.assert_allclose(values['energy'] + values['log Z'], values['nats'], rtol=1e-6)


def test_where_sequences_are_too_many_the_normaliser_is_annealed():
  """Of independent tokens, whose Z is a product."""
  plain = base.Space(V, 12, 12)
  weights = jnp.asarray(np.random.default_rng(5).normal(size=(12, V)), jnp.float32)
  uniform = energy.independent(np.full((12, V), math.log(V)), plain)
  space = base.Space(V, 12, 12, noise=uniform)

  def apply(_, inputs, **__):
    found = weights[jnp.arange(12)[None], inputs]
    return transformer.Outputs(None, found[..., None])

  params = {'backbone': {}, 'objective': {'head_D': jnp.ones((1,)), 'log_z': jnp.zeros(())}}
  objective = objectives.get('energy', ais_chains=100, ais_steps=300)
  find = jax.jit(lambda key: objective.normaliser(apply, params, space, key))
  found = find(jax.random.key(0))
  exact = float(jax.nn.logsumexp(-weights, axis=-1).sum())
  assert 0 < float(found.stderr) < 0.3
  assert float(found.log_z) == pytest.approx(exact, abs=4 * float(found.stderr))
  assert objective.normaliser_text(space) == (
    'annealed importance sampling, 100 chains of 300 steps'
  )


def test_a_trained_network_knows_the_ratios_of_probabilities():
  config = ModelConfig(V, T, width=32, layers=2, heads=2, unroll=True)
  objective, apply = objectives.get('energy', noise_examples=4), transformer.make_apply(config)
  key = jax.random.key(0)
  params = {
    'backbone': transformer.init(config, key),
    'objective': objective.init(key, SPACE, 32),
  }
  noise_entropy = -np.sum(np.exp(-SITES) * -SITES) / T
  assert float(params['objective']['log_z']) == pytest.approx(noise_entropy, abs=0.15)
  loss = scoring.make_loss(objective, apply, SPACE)
  optimizer = optax.adam(optax.cosine_decay_schedule(3e-3, 1000))

  @jax.jit
  def train(params):
    def step(carry, key):
      params, state = carry
      data_key, own_key = jax.random.split(key)
      rows = jax.random.categorical(data_key, jnp.log(P), shape=(64,))
      batch = {'tokens': jnp.asarray(SEQUENCES)[rows], 'label': rows}
      batch |= scoring.draw(own_key, 64, 0.0)
      gradient = jax.grad(lambda p: loss(p, batch)[0])(params)
      change, state = optimizer.update(gradient, state)
      return (optax.apply_updates(params, change), state), None

    keys = jax.random.split(jax.random.key(1), 1000)
    return jax.lax.scan(step, (params, optimizer.init(params)), keys)[0][0]

  params = jax.block_until_ready(train(params))
  evaluate = scoring.make_evaluation(objective, apply, SPACE, 1)
  index = jnp.arange(81)
  batch = {'tokens': jnp.asarray(SEQUENCES), 'label': index, 'index': index}
  values = jax.jit(evaluate)(params, batch, key)
  nats = np.asarray(values['nats'], np.float64)
  exact = objective.normaliser(apply, params, SPACE, key)
  learned = T * float(params['objective']['log_z'])
  assert float(exact.log_z) == pytest.approx(learned, abs=0.15)
  divergence = np.sum(P * (np.log(P) + nats)) + float(exact.log_z) - learned
  against_uniform = np.sum(P * np.log(P)) + math.log(81)
  # Ten other draws of data and noise: divergences of .02 to .07, errors of .17 to .33.
  assert 0 <= divergence < 0.15 < 0.5 < against_uniform
  likely = P > 1 / 162
  ratios, found = np.log(P[likely]), -np.asarray(values['energy'])[likely]
  error = (found - found.mean()) - (ratios - ratios.mean())
  assert np.sqrt(np.mean(error**2)) < 0.45 < 0.6 < np.std(ratios)


SMALL = (
  '--config.objective.ais_chains=8',
  '--config.objective.ais_steps=20',
  '--config.objective.noise_examples=2',
)


@pytest.fixture(scope='module')
def finished(data_dir, tmp_path_factory):
  workdir = str(tmp_path_factory.mktemp('energy'))
  experiment = tiny.build(data_dir, 'energy', *SMALL)
  return experiment, workdir, run.execute(experiment, workdir)


def test_a_run_records_its_normaliser_and_its_error(finished):
  experiment, workdir, record = finished
  assert record['code'] == 'estimate' and record['token_accuracy'] is None
  found, bits = record['normaliser'], 64 * math.log(2)
  assert found['how'] == 'annealed importance sampling, 8 chains of 20 steps'
  assert record['terms']['log Z'] == pytest.approx(found['log_z'] / bits, rel=1e-5)
  assert sum(record['terms'].values()) == pytest.approx(record['bits_per_dim'], rel=1e-5)
  nats = recorded.read_arrays(workdir)['nats']
  own = nats.std(ddof=1) / math.sqrt(len(nats))
  assert record['bits_per_dim_stderr'] == pytest.approx(
    math.hypot(own, found['stderr']) / bits, rel=1e-4
  )
  assert record['bits_per_dim_stderr'] > 1.01 * own / bits
  assert record['parameters'] - record['parameters_backbone'] == 16 + 1
  pass_ = experiment.model.forward_flops() - 2 * 64 * 16 * 17  # Without the output table.
  assert record['train_flops'] == 8 * 3 * 8 * 3 * pass_
  assert record['tokens_scored'] == 8 * 8 * 3  # Examples told from one another.
  assert 'samples' not in recorded.read_arrays(workdir)
  assert '≈ ' in recorded.summary(record)
  # Noise is the histogram of the training set.
  table = np.exp2(-experiment.histogram)
  np.testing.assert_allclose(np.exp(-experiment.space.noise.sites_TxV), table, rtol=1e-4)


def test_dropout_is_each_noise_examples_own(data_dir):
  """Of equal examples, which cost the same without it."""
  made = tiny.build(data_dir, 'energy', *SMALL, '--config.model.dropout=0.3')
  params = jax.tree.map(lambda x: x + 0.1, made.task.init(jax.random.key(0)))
  same = jnp.broadcast_to(jnp.asarray(made.dataset.train.tokens_NxT[:2]), (3, 2, 64))
  view = base.View(jnp.moveaxis(same, 0, 1), None, None, extra={'noise_nats_J': jnp.zeros((2, 3))})

  def energies(**dropout):
    outputs = made.objective.run(made.apply, params, view, made.space, **dropout)
    found = made.objective.energy(params['objective'], outputs.final_BxTxD, made.space)
    return np.asarray(found).reshape(2, 3)

  assert np.ptp(energies(), axis=1).max() < 1e-3
  dropped = energies(dropout_B=jax.random.split(jax.random.key(1), 2))
  assert np.abs(np.diff(np.sort(dropped, axis=1), axis=1)).min() > 1e-2


def test_the_report_shows_and_does_not_rank_it(finished):
  results = results_lib.assemble(finding.find([finished[1]]))
  rows = fairness.rows(results)
  cell, found = rows['log Z on test'][0], finished[2]['normaliser']
  assert cell.text == (
    f'{found["log_z"]:.2f} ± {found["stderr"]:.2f}\nlearned {found["learned"]:.2f}'
  )
  assert rows['bits on validation'][0].text.startswith('≈ ')
  assert rows['trained on'][0].text.startswith('noise-contrastive')
  assert not results['theory'] and not results['errors']
  assert len(styles.grouped(results)) == 1


def test_an_estimate_is_no_code_of_anything_else(data_dir, finished):
  row = tabled.run_row(finished[2], 300)
  assert row.bits is None and row.note == 'n/a: its normaliser is estimated, so it is no code'
  assert own_size.measure(finished[1], data_dir)['two_part'] is None


def test_noise_that_can_not_be_had_is_refused_in_one_line(data_dir, finished, tmp_path):
  with pytest.raises(UserError, match="noise is 'uniform', 'histogram' or the directory") as error:
    tiny.build(data_dir, 'energy', '--config.objective.noise=gaussian')
  assert '\n' not in str(error.value)
  with pytest.raises(UserError, match='gives no exact code that can be drawn from'):
    tiny.build(data_dir, 'energy', f'--config.objective.noise={finished[1]}')
  from experiments import hierarchy
  from runs import configs, experiment

  endless = configs.override(hierarchy.get_config('energy'), tiny.OVERRIDES[:3])
  with pytest.raises(UserError, match='draws its examples afresh for ever'):
    experiment.build(endless, data_dir)
  with pytest.raises(ValueError, match='objective.ais_chains must be at least 2, not 1'):
    objectives.get('energy', ais_chains=1)


def test_an_earlier_run_can_be_the_noise(data_dir, tmp_path):
  long = ('--config.training.steps=80', '--config.checkpoints.every=80')
  long += ('--config.evaluators.validation.every=80',)
  parent = tiny.build(data_dir, 'autoregressive', '--config.objective.order=random', *long)
  record = run.execute(parent, str(tmp_path / 'parent'))
  made = tiny.build(data_dir, 'energy', *SMALL, f'--config.objective.noise={tmp_path / "parent"}')
  noise, tokens = made.space.noise, parent.dataset.test.tokens_NxT
  nats = jax.jit(noise.nats)(jnp.asarray(tokens))
  own = recorded.read_arrays(str(tmp_path / 'parent'))['nats']
  np.testing.assert_allclose(nats, own, rtol=1e-5)
  keys = jax.random.split(jax.random.key(3), 4)
  drawn = np.asarray(jax.jit(jax.vmap(lambda key: noise.draw(key, 100)))(keys)).reshape(400, 64)
  assert len(np.unique(drawn, axis=0)) > 390
  # What is drawn first is told by nothing: its distribution is that of the first slot's logits.
  params = run.restore(parent, str(tmp_path / 'parent'), best=False)[0].params['backbone']
  logits = parent.apply(params, drawn[:1], pattern=('causal',), shift=True).logits_BxTxV[0, 0]
  expected = 400 * np.asarray(jax.nn.softmax(logits), np.float64)
  place = parent.objective.slots(parent.space)[0]
  counts = np.bincount(drawn[:, place], minlength=17)
  assert place != 0 and expected.min() > 1
  assert stats.chisquare(counts, expected * 400 / expected.sum()).pvalue > 1e-3
  own = np.asarray(jax.jit(noise.nats)(jnp.asarray(drawn)))
  assert noise.flops == parent.model.forward_flops(('causal',))
  per_example = made.objective.cost(made.model, made.space).flops
  assert per_example == pytest.approx(
    3 * made.model.forward_flops(logits=False) + 5 * noise.flops / 3
  )
  batch = {'tokens': jnp.asarray(tokens[:8]), 'label': jnp.zeros(8, jnp.int32)}
  batch |= scoring.draw(jax.random.key(0), 8, 0.0)
  params = jax.jit(made.task.init)(jax.random.key(0))
  start = 64 * float(params['objective']['log_z'])
  assert start == pytest.approx(own.mean(), abs=5 * float(own.std()) / 8)
  gradient = jax.jit(jax.grad(lambda p: made.task.loss(p, batch)[0]))(params)
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
  assert record['code'] == 'exact' and isinstance(noise, noise_lib.Noise)
