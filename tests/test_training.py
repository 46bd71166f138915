"""The loop, its checkpoints and its arithmetic, in this process."""

import json
import os

from etils import epath
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny

from objectives import OBJECTIVES
from runs import configs, measured, recorded, run
from runs.errors import UserError
from training import checkpoint, evaluation, loop, metrics, profile, sharding
from training import optimizer as optimizer_lib
from training import state as state_lib
from training.errors import CheckpointError, Preempted, TrainingError
from training.schedule import Schedule


def _final_params(experiment, workdir):
  state, counters = run.restore(experiment, workdir, best=False)
  return jax.tree.map(np.asarray, state), counters


def _assert_same_run(experiment, first, second):
  a, b = (_final_params(experiment, d) for d in (first, second))
  jax.tree.map(np.testing.assert_array_equal, a[0], b[0])
  for name in ('tokens_scored', 'clipped_steps', 'best_loss', 'best_step', 'validation', 'train'):
    assert a[1][name] == b[1][name], name
  curves = [metrics.read_curve(os.path.join(d, 'metrics.jsonl')) for d in (first, second)]
  timed = ('wall', 'tokens_per_second', 'input_fraction')
  stripped = [[{k: v for k, v in row.items() if k not in timed} for row in c] for c in curves]
  assert stripped[0] == stripped[1]
  arrays = [recorded.read_arrays(d) for d in (first, second)]
  for name in arrays[0]:
    np.testing.assert_array_equal(arrays[0][name], arrays[1][name])


class _Failing:
  """Batches that stop existing at some step, as a killed process sees it."""

  def __init__(self, batches, at: int):
    self._batches, self._at = batches, at

  def rows(self, step, rows):
    if step == self._at:
      raise RuntimeError('power cut')
    return self._batches.rows(step, rows)


def _build(data_dir, name='masked_diffusion'):
  return tiny.build(data_dir, name, *(tiny.PICTURES if name == 'masked_diffusion' else ()))


@pytest.fixture(scope='module')
def uninterrupted(data_dir, tmp_path_factory):
  """A run that nothing disturbed: its experiment, directory and record."""
  experiment, workdir = _build(data_dir), str(tmp_path_factory.mktemp('whole'))
  return experiment, workdir, run.execute(experiment, workdir)


@pytest.mark.parametrize(
  'name', ['masked_diffusion', pytest.param('autoregressive', marks=pytest.mark.bits)]
)
def test_interrupted_and_resumed_equals_uninterrupted(name, data_dir, tmp_path, request):
  broken = str(tmp_path / 'broken')
  if name == 'masked_diffusion':
    experiment, whole, _ = request.getfixturevalue('uninterrupted')
  else:
    experiment, whole = _build(data_dir, name), str(tmp_path / 'whole')
    run.execute(experiment, whole)
  failing = _build(data_dir, name)
  failing.__dict__['batches'] = _Failing(failing.batches, at=6)
  with pytest.raises(RuntimeError, match='power cut'):
    run.execute(failing, broken)
  assert configs.read_record(broken) is None
  run.execute(_build(data_dir, name), broken)
  _assert_same_run(experiment, whole, broken)


def test_a_row_is_written_once_however_often_a_run_is_stopped(
  uninterrupted, data_dir, tmp_path, monkeypatch
):
  """Stopped where a row is due, it goes on, is killed before the next checkpoint, and goes on."""
  (experiment, whole, _), broken = uninterrupted, str(tmp_path / 'broken')
  asked = iter([False] * 4)
  with monkeypatch.context() as patch:
    patch.setattr(loop.preemption, 'asked_here', lambda: next(asked, True))
    with pytest.raises(Preempted):
      run.execute(_build(data_dir), broken)
  failing = _build(data_dir)
  failing.__dict__['batches'] = _Failing(failing.batches, at=7)
  with pytest.raises(RuntimeError, match='power cut'):
    run.execute(failing, broken)
  assert checkpoint.Checkpoints(f'{broken}/checkpoints').steps()[-1] == 6
  run.execute(_build(data_dir), broken)
  _assert_same_run(experiment, whole, broken)


def test_record_and_arrays_agree(uninterrupted):
  experiment, whole, record = uninterrupted
  arrays = recorded.read_arrays(whole)
  nats = arrays['nats'].astype(np.float64)
  assert record['bits_per_dim'] == pytest.approx(nats.mean() / 64 / np.log(2))
  stderr = nats.std(ddof=1) / np.sqrt(300) / 64 / np.log(2)
  assert record['bits_per_dim_stderr'] == pytest.approx(stderr, rel=1e-6)
  shares = arrays['token_accuracy'].astype(np.float64)
  assert shares.shape == (300,) and 0 <= shares.min() <= shares.max() <= 1
  assert record['token_accuracy'] == pytest.approx(shares.mean(), rel=1e-6)
  stderr = shares.std(ddof=1) / np.sqrt(300)
  assert record['token_accuracy_stderr'] == pytest.approx(stderr, rel=1e-5)
  assert record['token_accuracy_of'] == 'hidden tokens' and not record['terms']
  curve = [row for row in metrics.read_curve(f'{whole}/metrics.jsonl')
           if 'validation/loss' in row]  # fmt: skip
  assert curve[0]['validation/token_accuracy'] == pytest.approx(1 / 17, rel=1e-5)  # uniform
  assert curve[-1]['validation/token_accuracy'] == record['validation']['token_accuracy']
  accuracy = np.mean(arrays['linear/all/predictions'] == arrays['labels'])
  assert record['probes']['linear']['all']['accuracy'] == pytest.approx(accuracy)
  few = np.mean(arrays['linear/40/predictions'] == arrays['labels'][None])
  assert record['probes']['linear']['40']['accuracy'] == pytest.approx(few)
  assert record['tokens_seen'] == 8 * 8 * 64 and record['epochs'] == 64 / 1197
  assert 8 * 8 <= record['tokens_scored'] <= record['tokens_seen']
  assert record['train_flops'] == 8 * 3 * 8 * experiment.model.forward_flops()
  # Restored parameters give the very number that the record holds.
  state, _ = run.restore(experiment, whole, best=False)
  again, _ = measured.score(experiment, state.params)
  assert again['bits_per_dim'] == record['bits_per_dim']
  assert json.load(open(f'{whole}/run.json')) == json.loads(json.dumps(record))


def test_autoregressive_scores_every_token(data_dir, tmp_path):
  experiment = tiny.build(data_dir, 'autoregressive')
  record = run.execute(experiment, str(tmp_path))
  assert record['tokens_scored'] == record['tokens_seen']
  assert record['code'] == 'exact' and record['evaluation_draws'] == 1
  params, tokens = _final_params(experiment, str(tmp_path))[0].params, experiment.dataset.test
  forward = jax.jit(
    lambda p, x: experiment.apply(p, x, pattern=('causal',), shift=True).logits_BxTxV
  )
  guesses = np.argmax(np.asarray(forward(params['backbone'], tokens.tokens_NxT)), axis=-1)
  assert record['token_accuracy'] == pytest.approx(np.mean(guesses == tokens.tokens_NxT), abs=1e-4)
  assert record['token_accuracy_of'] == 'next token'


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_checkpoint(data_dir, tmp_path):
  experiment = tiny.build(data_dir, 'autoregressive', '--config.optimizer.learning_rate=1e30')
  with pytest.raises(TrainingError, match=r'step \d+: (loss|gradient_norm) is (nan|inf).*learning'):
    run.execute(experiment, str(tmp_path))
  checkpoints = checkpoint.Checkpoints(str(tmp_path / 'checkpoints'))
  assert checkpoints.steps() == [0]
  state, _ = checkpoints.restore(run._abstract(experiment))
  assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(state))
  checkpoints.close()
  assert configs.read_record(str(tmp_path)) is None


def _truncate(directory: str) -> None:
  """Cuts the largest file below a checkpoint in half."""
  files = [os.path.join(d, f) for d, _, names in os.walk(directory) for f in names]
  largest = max(files, key=os.path.getsize)
  os.truncate(largest, os.path.getsize(largest) // 2)


def test_truncated_checkpoint_is_named_and_the_previous_one_offered(
  uninterrupted, data_dir, tmp_path
):
  (experiment, whole, _), broken = uninterrupted, str(tmp_path / 'broken')
  failing = _build(data_dir)
  failing.__dict__['batches'] = _Failing(failing.batches, at=5)
  with pytest.raises(RuntimeError):
    run.execute(failing, broken)
  last = os.path.join(broken, 'checkpoints', 'last')
  assert sorted(os.listdir(last)) == ['0', '4']
  _truncate(os.path.join(last, '4'))
  with pytest.raises(CheckpointError, match=r'last/4 can not be read.*--restore_step=0') as error:
    run.execute(_build(data_dir), broken)
  assert '\n' not in str(error.value)
  with pytest.raises(CheckpointError, match='no checkpoint of step 3; there are: 0, 4'):
    run.execute(_build(data_dir), broken, restore_step=3)
  run.execute(_build(data_dir), broken, restore_step=0)
  _assert_same_run(experiment, whole, broken)
  assert os.path.exists(os.path.join(broken, 'checkpoints', 'set_aside', 'last_4'))


def test_best_checkpoint_is_the_lowest_validation_loss(data_dir, tmp_path):
  experiment = tiny.build(data_dir, 'autoregressive', '--config.training.steps=12')
  losses, every_fourth = iter([3.0, 1.0, 2.0, 2.5]), Schedule(4, at=(0,))
  checkpoints = checkpoint.Checkpoints(str(tmp_path / 'c'), writes=True)
  state, counters = loop.restore_or_init(
    experiment.task, experiment.config, checkpoints, experiment.mesh
  )
  writer = metrics.MetricsWriter(str(tmp_path))
  loop.train(
    experiment.task,
    experiment.config,
    experiment.batches,
    state,
    counters,
    experiment.costs,
    checkpoints,
    writer,
    [loop.Evaluator(every_fourth, lambda params, step: {'validation/loss': next(losses)})],
    every_fourth,
    experiment.mesh,
  )
  assert checkpoints.best_step() == 4 and checkpoints.steps() == [8, 12]
  assert (counters.best_step, counters.best_loss) == (4, 1.0)
  best, _ = checkpoints.restore(run._abstract(experiment), best=True)
  assert int(best.step) == 4
  checkpoints.close()
  writer.close()


def test_one_update_is_adamw_on_the_clipped_gradient():
  """Against the formula of AdamW with decay on matrices only."""
  params = {'w_DxD': jnp.full((2, 2), 2.0), 'scale': jnp.full((2,), 3.0)}

  def loss(p, batch):
    value = jnp.sum(p['w_DxD'] * batch['a']) + jnp.sum(p['scale'] * batch['b'])
    return value, {'loss': value, 'scored': jnp.int32(1)}

  task = state_lib.Task(lambda key: params, lambda key, rows, progress: {}, loss, jax.random.key(0))
  config = tiny.config().optimizer
  config.warmup_steps, config.clip_norm, config.learning_rate = 0, 0.5, 0.1
  tx = optimizer_lib.make_optimizer(config, 10, ('w_DxD',))
  state = state_lib.TrainState(jnp.int32(0), params, tx.init(params))
  batch = {'a': jnp.array([[3.0, 0.0], [0.0, 0.0]]), 'b': jnp.array([0.0, -4.0])}
  new, found = jax.jit(state_lib.make_update(task, tx, config.clip_norm))(state, batch)
  assert float(found['gradient_norm']) == pytest.approx(5.0) and bool(found['clipped'])
  # The first Adam step is lr * sign(gradient) wherever the gradient is not zero.
  decay = 0.1 * config.weight_decay * 2.0
  assert float(new.params['w_DxD'][0, 0]) == pytest.approx(2 - 0.1 - decay, abs=1e-5)
  assert float(new.params['w_DxD'][1, 1]) == pytest.approx(2 - decay, abs=1e-6)
  np.testing.assert_allclose(new.params['scale'], [3.0, 3.1], atol=1e-5)


def test_schedule_warms_up_and_ends():
  config = tiny.config().optimizer
  config.warmup_steps, config.learning_rate, config.end_fraction = 10, 1.0, 0.1
  rate = optimizer_lib.schedule(config, 110)
  assert float(rate(0)) == 0 and float(rate(5)) == pytest.approx(0.5)
  assert float(rate(10)) == pytest.approx(1.0) and float(rate(110)) == pytest.approx(0.1)
  assert float(rate(60)) == pytest.approx(0.1 + 0.9 * 0.5)


def test_a_learned_schedule_is_neither_clipped_nor_decayed_and_does_not_clip(data_dir):
  """Its step is Adam's on its own gradient, and the others' the same as without it."""
  task = tiny.build(data_dir, 'gaussian_diffusion').task
  config = tiny.config().optimizer
  config.warmup_steps, config.weight_decay = 0, 0.5
  params = {'w_DxD': jnp.full((2, 2), 2.0), 'schedule': jnp.full((2,), 3.0)}
  gradients = {'w_DxD': jnp.full((2, 2), 0.1), 'schedule': jnp.array([1e3, -2e3])}
  tx = optimizer_lib.make_optimizer(config, 10, ('w_DxD',), task.unclipped)
  updates, _ = tx.update(gradients, tx.init(params), params)
  rate = float(optimizer_lib.schedule(config, 10)(0))
  np.testing.assert_allclose(updates['schedule'], [-rate, rate], rtol=1e-5)
  np.testing.assert_allclose(updates['w_DxD'], -rate * (1 + 0.5 * 2.0), rtol=1e-5)
  assert float(optimizer_lib.clipped_norm(gradients, task.unclipped)) == pytest.approx(0.2)


def test_only_weight_matrices_are_decayed(data_dir):
  task = tiny.build(data_dir, 'supervised').task
  params = task.init(jax.random.key(0))
  flat = jax.tree_util.tree_leaves_with_path(optimizer_lib.named(params, task.decayed))
  decayed = {jax.tree_util.keystr(path).split("'")[-2] for path, yes in flat if yes}
  assert decayed == {
    'qkv_Dx3D',
    'out_DxD',
    'mlp_in_DxF',
    'mlp_out_FxD',
    'output_DxV',
    'head_DxC',
  }


def test_padding_is_never_counted():
  mesh = sharding.make_mesh()
  seen = []

  def function(batch):
    seen.append(np.asarray(batch['index']))
    return {'double': batch['x'] * 2, 'index': batch['index']}

  values = np.arange(23.0)
  out = evaluation.over_split(function, {'x': values}, 10, mesh)
  np.testing.assert_array_equal(out['double'], values * 2)
  np.testing.assert_array_equal(out['index'], np.arange(23))
  assert all(len(rows) == 10 for rows in seen) and len(seen) == 3


def test_scores_do_not_depend_on_the_batch_size(data_dir):
  experiment = tiny.build(data_dir)
  params = experiment.task.init(jax.random.key(0))
  params['backbone']['output_DxV'] = jax.random.normal(jax.random.key(1), (16, 17))
  other = tiny.build(data_dir, 'masked_diffusion', '--config.evaluation.batch_size=77')
  a, b = (e.per_example(params, e.dataset.test, 2, 1)['nats'] for e in (experiment, other))
  assert len(a) == 300
  np.testing.assert_allclose(a, b, rtol=2e-6)


def test_shape_rule_shards_the_largest_divisible_axis():
  spec = sharding.partition_spec
  assert spec((64, 4096), 8, False) == jax.sharding.PartitionSpec(None, 'data')
  assert spec((8, 4096, 64), 8, True) == jax.sharding.PartitionSpec(None, 'data', None)
  # The layer axis is never sharded, small arrays are replicated, odd shapes too.
  assert spec((4096, 5, 7), 8, True) == jax.sharding.PartitionSpec()
  assert spec((64,), 8, False) == jax.sharding.PartitionSpec()
  assert spec((1001, 999), 8, False) == jax.sharding.PartitionSpec()
  assert spec((64, 4096), 1, False) == jax.sharding.PartitionSpec()


def test_a_curve_cut_short_by_a_kill_is_read(tmp_path):
  path = tmp_path / 'metrics.jsonl'
  path.write_text('{"step": 1, "a": 2}\n{"step": 3, "a": 4}\n{"step": 5, "a"')
  assert metrics.read_curve(str(path)) == [{'step': 1, 'a': 2}, {'step': 3, 'a': 4}]
  assert metrics.read_curve(str(path), 2) == [{'step': 1, 'a': 2}]


def test_optimizer_settings_are_checked():
  for name, value in (('learning_rate', 0.0), ('beta2', 1.0), ('weight_decay', -1.0)):
    config = tiny.config().optimizer
    config[name] = value
    with pytest.raises(ValueError, match=f'optimizer.{name}'):
      optimizer_lib.make_optimizer(config, 10, ())
  assert isinstance(
    optimizer_lib.make_optimizer(tiny.config().optimizer, 1, ()), optax.GradientTransformation
  )


@pytest.mark.parametrize('name', [n for n, one in OBJECTIVES.items() if one.trains])
def test_microbatches_make_the_same_update(name, data_dir):
  """Each row keeps its own randomness, so only the order of the sums differs."""
  experiment = tiny.build(data_dir, name)
  # A model whose output has left zero: there every gradient but the output's vanishes.
  params = jax.tree.map(lambda x: x + 0.05, experiment.task.init(jax.random.key(1)))
  # Of the gradient itself, not of Adam's sign of it.
  tx = optax.sgd(1.0)
  state = state_lib.TrainState(jnp.int32(0), params, tx.init(params))
  batch = {name: jnp.asarray(rows) for name, rows in experiment.batches[0].items()}
  found = [
    jax.jit(state_lib.make_update(experiment.task, tx, 1.0, parts))(state, batch)
    for parts in (1, 8 // len(experiment.objective.members()))
  ]
  leaves = zip(*map(jax.tree.leaves, (params, found[0][0].params, found[1][0].params)), strict=True)
  moved = 0.0
  for x, whole, parts in leaves:
    np.testing.assert_allclose(whole - x, parts - x, atol=2e-6, rtol=2e-4)
    moved = max(moved, float(jnp.abs(whole - x).max()))
  assert moved > 0.01
  assert set(found[0][1]) == set(found[1][1])
  for metric, value in found[0][1].items():
    assert float(found[1][1][metric]) == pytest.approx(float(value), rel=1e-4, abs=1e-6), metric


def test_a_batch_that_does_not_split_is_refused(data_dir):
  with pytest.raises(UserError, match='batch of 8 in 3 microbatches does not split'):
    tiny.build(data_dir, 'masked', '--config.training.microbatches=3')
  with pytest.raises(UserError, match='microbatches must be at least 1, not 0'):
    tiny.build(data_dir, 'masked', '--config.training.microbatches=0')


ENTRIES = ('evaluators.validation', 'evaluators.probe', 'checkpoints')


def test_nothing_is_compiled_after_the_first_step(data_dir, tmp_path):
  """Counts XLA's compilations at every step between two evaluations."""
  compilations = []
  jax.monitoring.register_event_duration_secs_listener(
    lambda event, *_, **__: compilations.append(event) if 'backend_compile' in event else None
  )
  experiment = tiny.build(data_dir, 'masked', *(f'--config.{name}.every=100' for name in ENTRIES))
  batches, counts = experiment.batches, []

  class Counting:
    def rows(self, step, rows):
      counts.append(len(compilations))
      return batches.rows(step, rows)

  experiment.__dict__['batches'] = Counting()
  run.execute(experiment, str(tmp_path))
  assert counts[0] > 0 and counts[1] > counts[0]  # Step 1 compiles the update.
  assert counts[2:] == [counts[2]] * 6


def test_profiled_steps_are_traced(data_dir, tmp_path):
  experiment = tiny.build(data_dir, 'masked', "--config.probe.suite=('linear',)")
  steps = profile.parse('3:4', 8)
  run.execute(experiment, str(tmp_path), profiled=steps)
  traces = list(tmp_path.glob('plugins/profile/*/*.xplane.pb'))
  assert len(traces) == 1 and b'PjitFunction(step)' in traces[0].read_bytes()
  assert profile.parse(None, 8) is None
  for wrong in ('3', '4:3', '0:2', '7:9', 'a:b'):
    with pytest.raises(TrainingError, match=r'FIRST:LAST .* <= 8'):
      profile.parse(wrong, 8)


def test_a_bucket_holds_the_same_files(monkeypatch, tmp_path):
  """A bucket in memory stands for gs://: what is not Orbax's or TensorBoard's own goes there."""
  fsspec = pytest.importorskip('fsspec')
  from fsspec.implementations.memory import MemoryFileSystem

  class Bucket(MemoryFileSystem):
    protocol, store, pseudo_dirs = ('gcs', 'gs'), {}, ['']

    @classmethod
    def _strip_protocol(cls, path):
      return MemoryFileSystem._strip_protocol(str(path).replace('gs://', 'memory://'))

  fsspec.register_implementation('gcs', Bucket, clobber=True)
  boards = []

  class Board:
    def __init__(self, where, purge_step):
      boards.append(where)

    def scalar(self, *_):
      pass

    flush = close = scalar

  monkeypatch.setattr(metrics, 'Board', Board)
  place = 'gs://bucket/run'
  config = tiny.config('masked')
  # What was refused before it began may be put right, what has begun may not.
  run.open_workdir(place, tiny.config('masked', '--config.training.steps=7'))
  run.open_workdir(place, config)
  (epath.Path(place) / 'checkpoints').mkdir()
  run.open_workdir(place, config)
  with pytest.raises(Exception, match='training.steps 8 -> 9'):
    run.open_workdir(place, tiny.config('masked', '--config.training.steps=9'))
  assert configs.read_record(place) is None
  for resumed, steps in ((None, (1, 2, 3)), (2, (3, 4))):
    writer = metrics.MetricsWriter(place, resumed)
    for step in steps:
      writer.write(step, {'loss': step / 2}, wall=1.0)
    writer.close()
  rows = metrics.read_curve(f'{place}/metrics.jsonl')
  assert [(row['step'], row['loss']) for row in rows] == [(1, 0.5), (2, 1.0), (3, 1.5), (4, 2.0)]
  assert boards == [place, place]
  record = {'schema': 1, 'objective': 'masked', 'seed': 0, 'code': 'exact'}
  recorded.write_record(place, record, {'x': np.arange(3)})
  assert configs.read_record(place) == record
  np.testing.assert_array_equal(recorded.read_arrays(place)['x'], [0, 1, 2])
  assert not (tmp_path / 'gs:').exists() and not os.path.exists('gs:')
