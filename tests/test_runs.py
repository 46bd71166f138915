"""What a run directory keeps: of which data it is, made with what, by one process at a time."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from experiments import noise, text_file
from reports import report, status
from runs import (
  baselines,
  compressing,
  configs,
  controls,
  experiment,
  finetuning,
  joint,
  lock,
  neighbours,
  own_size,
  plan,
  pool,
  probing,
  provenance,
  recorded,
  run,
  whole,
)
from runs.errors import UserError
from training import checkpoint, keys, metrics, sharding
from training import state as state_lib
from training.errors import TrainingError

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
QUICK = [o for o in tiny.OVERRIDES if not o.startswith('--config.probe')] + [
  '--config.training.steps=2',
  '--config.evaluation.samples=0',
  '--config.optimizer.warmup_steps=0',
]
OLD, NEW = 'ab' * 3000, 'ba' * 3000
# What no record is without.
OF_A_RECORD = {'schema': 1, 'objective': 'masked', 'seed': 0, 'code': 'exact'}


def _text(top, content: str = OLD) -> experiment.Experiment:
  """A text of which one window each is held out for validation and for test."""
  (top / 'some.txt').write_text(content)
  overrides = [*QUICK, f'--config.data.path={top}/some.txt']
  return experiment.build(configs.override(text_file.get_config('autoregressive'), overrides), '')


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
  """A directory with a text, and a finished run of it in run/."""
  top = tmp_path_factory.mktemp('text')
  run.execute(_text(top), str(top / 'run'))
  return top


# Data.


def test_the_data_stand_beside_the_config_from_the_first_step(tmp_path):
  built = _text(tmp_path)

  class Killed:
    def rows(self, step, rows):
      raise RuntimeError('power cut')

  built.__dict__['batches'] = Killed()
  where = str(tmp_path / 'run')
  with pytest.raises(RuntimeError, match='power cut'):
    run.execute(built, where)
  saved = json.load(open(tmp_path / 'run' / 'config.json'))
  assert saved['data_hash'] == saved['probe_data_hash'] == built.dataset.digest
  other = _text(tmp_path, NEW)
  assert other.dataset.digest != built.dataset.digest
  with pytest.raises(UserError) as error:
    run.execute(other, where)
  assert f'its data_hash is {built.dataset.digest[:12]}' in str(error.value)
  assert f'now is {other.dataset.digest[:12]}; bring its data back' in str(error.value)
  record = run.execute(_text(tmp_path), where)
  assert record['data_hash'] == built.dataset.digest


def _coder(workdir: str) -> compressing.Coder:
  return compressing.Coder(workdir, False, None, (), '', None, 1, 1, False)


OPENERS = {
  'train': lambda w: experiment.build(configs.from_plain(configs.read_saved(w)['config']), '', w),
  'probe': lambda w: probing.of_run(w, '', (), False),
  'probe, export': lambda w: probing.export(w, '', (), False, f'{w}/features.npz'),
  'finetune': lambda w: finetuning.one(w, '', ()),
  'own_size': lambda w: own_size.measure(w, ''),
  'joint': lambda w: joint.measure(w, (), '', (1.0,), None, 1),
  'neighbours': lambda w: neighbours.classify(
    w, '', compressors=(), counts=(1, 1, 1), seed=0, sizes=(), class_sizes=(), class_steps=1,
    symmetric=False,
  ),
  'baselines': lambda w: baselines.measure(None, w, (), 'test', '', lambda text: None),
  'compress, export': lambda w: compressing.export(_coder(w), 'test', f'{w}/test.bin'),
  'controls': lambda w: controls.write(
    [plan.PlannedRun('', w, configs.from_plain(configs.read_saved(w)['config']), [])], w, ''
  ),
}  # fmt: skip


@pytest.mark.parametrize('name', OPENERS)
def test_whatever_opens_a_run_refuses_other_data(name, finished):
  where = str(finished / 'run')
  before = (finished / 'run' / 'run.json').read_bytes()
  try:
    (finished / 'some.txt').write_text(NEW)
    with pytest.raises(UserError, match='is of other data: its data_hash is .{12}, that of'):
      OPENERS[name](where)
  finally:
    (finished / 'some.txt').write_text(OLD)
  assert (finished / 'run' / 'run.json').read_bytes() == before
  assert not {'features.npz', 'test.bin', 'controls.json'} & set(os.listdir(where))


def test_other_labels_are_other_data_and_fewer_are_not(tmp_path):
  config = {'config': {'probe': {'train_rows': 0}}}
  path = tmp_path / 'config.json'
  path.write_text(json.dumps({**config, 'data_hash': 'a' * 64, 'probe_data_hash': 'b' * 64}))
  both = {'data_hash': 'a' * 64, 'probe_data_hash': 'b' * 64}
  provenance.check_data(str(tmp_path), both)
  with pytest.raises(UserError, match='probe_data_hash is b{12}, that of the data now is c{12}'):
    provenance.check_data(str(tmp_path), {**both, 'probe_data_hash': 'c' * 64})
  # A run of an earlier version: what its record says counts, but for labels that it left out.
  path.write_text(json.dumps(config))
  provenance.check_data(str(tmp_path), {**both, 'data_hash': 'c' * 64})
  (tmp_path / 'run.json').write_text(json.dumps(both | OF_A_RECORD))
  with pytest.raises(UserError, match='its data_hash is a{12}'):
    provenance.check_data(str(tmp_path), {**both, 'data_hash': 'c' * 64})
  config['config']['probe']['train_rows'] = 5
  path.write_text(json.dumps(config))
  provenance.check_data(str(tmp_path), {**both, 'probe_data_hash': 'c' * 64})


# One held-out example, and what can't be written.


def test_one_held_out_example_has_no_spread(finished, tmp_path):
  record = configs.read_record(str(finished / 'run'))
  assert len(recorded.read_arrays(str(finished / 'run'))['nats']) == 1
  assert record['bits_per_dim'] > 0 and record['bits_per_dim_stderr'] is None
  assert record['token_accuracy_stderr'] is None and 'unwritten' not in record
  assert recorded.summary(record).endswith('bits/dim')
  config = noise.get_config('masked_diffusion')
  config.probe_data.name = ''
  config.data.held_out, config.data.length = 1, 8
  built = experiment.build(configs.override(config, QUICK), '')
  made = run.execute(built, str(tmp_path / 'runs' / 'noise'))
  assert made['bits_per_dim'] > 0 and made['bits_per_dim_stderr'] is None
  shutil.copytree(finished / 'run', tmp_path / 'runs' / 'text')
  for name in ('noise', 'text'):
    results = report.build([str(tmp_path / 'runs' / name)], str(tmp_path / f'{name}_report'))
    assert results['runs'][0]['bits_per_dim_stderr'] is None


def test_what_can_not_be_written_costs_only_itself(tmp_path, capsys):
  record = OF_A_RECORD | {
    'steps': 8,
    'bits_per_dim': math.nan,
    'validation': {'loss': 1.5},
    'truth': {'by_k': [0.5, math.inf]},
    'probes': {'linear': {'all': {'accuracy': 0.5}}, 'knn': {'all': {'votes': [1, math.nan]}}},
    'also': {'chain': {'bits_per_dim': np.float32(3.0)}, 'order': {'bits_per_dim': 3.0}},
  }
  arrays = {'nats': np.array([math.nan, 1.0])}
  written = recorded.write_record(str(tmp_path), record, arrays)
  assert configs.read_record(str(tmp_path)) == written == OF_A_RECORD | {
    'steps': 8,
    'bits_per_dim': None,
    'validation': {'loss': 1.5},
    'truth': None,
    'probes': {'linear': {'all': {'accuracy': 0.5}}},
    'also': {'order': {'bits_per_dim': 3.0}},
    'unwritten': {
      'bits_per_dim': 'bits_per_dim is nan',
      'truth': 'truth.by_k.1 is inf',
      'probes.knn': 'probes.knn.all.votes.1 is nan',
      'also.chain': 'also.chain.bits_per_dim is a float32',
    },
  }  # fmt: skip
  assert capsys.readouterr().err.count('is written without what failed: ') == 4
  assert json.loads(whole.dumps({'a': [math.inf, 1], 'b': (math.nan,)})) == {
    'a': [None, 1], 'b': [None],
  }  # fmt: skip


# States that blew up.


def test_a_last_update_that_blows_up_is_not_saved(tmp_path):
  (tmp_path / 'some.txt').write_text(OLD)
  overrides = [*QUICK, f'--config.data.path={tmp_path}/some.txt', '--config.training.steps=1']
  overrides.append('--config.optimizer.learning_rate=1e30')
  built = experiment.build(configs.override(text_file.get_config(), overrides), '')
  with pytest.raises(TrainingError, match=r'^step 1: validation/loss is (nan|inf) .*untouched$'):
    run.execute(built, str(tmp_path / 'run'))
  checkpoints = checkpoint.Checkpoints(str(tmp_path / 'run' / 'checkpoints'))
  assert checkpoints.steps() == [0] and checkpoints.best_step() == 0
  checkpoints.close()
  assert configs.read_record(str(tmp_path / 'run')) is None


def _state(*values: float) -> state_lib.TrainState:
  return state_lib.TrainState(jnp.int32(3), {'w': jnp.asarray(values)}, {'count': jnp.int32(3)})


@pytest.mark.parametrize('bad', [math.nan, math.inf, -math.inf])
def test_a_state_that_is_not_finite_is_not_saved(bad, tmp_path):
  checkpoints = checkpoint.Checkpoints(str(tmp_path), writes=True)
  checkpoints.save(_state(1.0, 2.0), 3, {}, last=True, best=False)
  with pytest.raises(TrainingError, match='^step 4: parameters or the state of the optimizer'):
    checkpoints.save(_state(1.0, bad), 4, {}, last=True, best=True)
  checkpoints.wait()
  assert checkpoints.steps() == [3] and checkpoints.best_step() is None
  checkpoints.close()


_SPREAD = """
import jax, numpy as np
from training import sharding, state
mesh = sharding.make_mesh()
split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec('data'))
for bad in (None, 0, 5, 7):
  values = np.ones(8, np.float32)
  values[[] if bad is None else bad] = np.inf
  w = jax.device_put(values, split)
  assert len(w.addressable_shards) == 4
  print(state.is_finite(state.TrainState(np.int32(1), {'w': w}, {})))
"""


def test_a_shard_that_is_not_finite_is_seen():
  flags = os.environ['XLA_FLAGS'] + ' --xla_force_host_platform_device_count=4'
  done = _python('-c', _SPREAD, XLA_FLAGS=flags)
  assert done.stdout.split() == ['True', 'False', 'False', 'False'], done.stderr


def _python(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
  return subprocess.run(
    [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=240,
    env={**os.environ, 'JAX_PLATFORMS': 'cpu', 'PYTHONPATH': ROOT, **environment},
  )  # fmt: skip


# What else decides numbers.


def test_the_environment_decides_no_number(finished, tmp_path):
  """By the very command, under every variable that would make other numbers."""
  done = _python(
    '-m', 'launch.train', '--config=experiments/text_file.py', f'--workdir={tmp_path}/run',
    f'--config.data.path={finished}/some.txt', *QUICK, JAX_DEFAULT_PRNG_IMPL='rbg',
    JAX_THREEFRY_PARTITIONABLE='0', JAX_ENABLE_X64='1', JAX_RANDOM_SEED_OFFSET='7',
  )  # fmt: skip
  assert done.returncode == 0, done.stderr
  first, second = (configs.read_record(str(top / 'run')) for top in (finished, tmp_path))
  assert first['bits_per_dim'] == second['bits_per_dim']
  assert first['environment'] == second['environment']
  assert first['environment']['platform'] == 'cpu' and first['environment']['x64'] is False


def test_keys_are_of_one_implementation():
  expected = np.asarray(jax.random.bits(jax.random.key(3), (4,)))
  with jax.default_prng_impl('rbg'):
    assert not np.array_equal(jax.random.bits(jax.random.key(3), (4,)), expected)
    np.testing.assert_array_equal(jax.random.bits(keys.key(3), (4,)), expected)


def test_a_change_of_what_a_run_is_made_with_is_said_and_kept(tmp_path, monkeypatch, capsys):
  built, where = _text(tmp_path), str(tmp_path / 'run')
  first = run.open_workdir(where, built.config, built)
  assert first['versions']['jax'] == jax.__version__ and first['environment']['devices'] == 1
  (tmp_path / 'run' / 'checkpoints').mkdir()
  run.open_workdir(where, built.config, built)
  assert capsys.readouterr().err == ''
  other = {**first, 'versions': {**first['versions'], 'jax': '0.0.1'}, 'git': 'abc'}
  monkeypatch.setattr(provenance, 'made_with', lambda: other)
  run.open_workdir(where, built.config, built)
  (line,) = capsys.readouterr().err.splitlines()
  assert f'jax {jax.__version__} -> 0.0.1' in line and line.startswith('warning: ')
  assert f'git {first["git"]} -> abc' in line
  saved = run.open_workdir(where, built.config, built)  # The same again: kept once.
  said = provenance.of_record(saved)
  assert said['git'] == first['git'] and said['versions'] == first['versions']
  (later,) = said['went_on_with']
  assert (later['git'], later['versions']['jax']) == ('abc', '0.0.1')
  x64 = {**first, 'environment': {**first['environment'], 'x64': True}}
  monkeypatch.setattr(provenance, 'made_with', lambda: x64)
  with pytest.raises(UserError, match='began under other settings of JAX: x64 False -> True; set'):
    run.open_workdir(where, built.config, built)


def test_a_run_of_an_earlier_version_is_told_its_size(tmp_path):
  built, where = _text(tmp_path), str(tmp_path / 'run')
  saved = run.open_workdir(where, built.config, built)
  assert saved['size'] == 'L1D16H2'
  (tmp_path / 'run' / 'checkpoints').mkdir()
  older = {name: value for name, value in saved.items() if name != 'size'}
  (tmp_path / 'run' / 'config.json').write_text(json.dumps(older))
  assert run.open_workdir(where, built.config, built) == saved
  assert json.loads((tmp_path / 'run' / 'config.json').read_text()) == saved


def test_an_unknown_preset_is_one_line_also_beside_a_width(tmp_path):
  config = tiny.config('masked', '--config.model.preset=huge', '--config.model.width=32')
  with pytest.raises(UserError, match="unknown model.preset 'huge'; known: nano,"):
    run.open_workdir(str(tmp_path), config)
  assert not list(tmp_path.iterdir())


# Who may write.


def test_a_reader_removes_nothing(tmp_path):
  writer = checkpoint.Checkpoints(str(tmp_path), writes=True)
  writer.save(_state(1.0, 2.0), 3, {}, last=True, best=False)
  writer.close()
  unfinished = tmp_path / 'last' / '5.orbax-checkpoint-tmp'
  unfinished.mkdir()
  (unfinished / 'part').write_text('half')
  (tmp_path / 'best').rmdir()
  mesh = sharding.make_mesh()
  place = sharding.replicated(mesh)
  abstract = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), _state(0.0, 0.0)
  )
  reader = checkpoint.Checkpoints(str(tmp_path))
  state, _ = reader.restore(abstract)
  reader.close()
  np.testing.assert_array_equal(state.params['w'], [1.0, 2.0])
  assert (unfinished / 'part').exists() and not (tmp_path / 'best').exists()
  checkpoint.Checkpoints(str(tmp_path), writes=True).close()
  for _ in range(300):  # Orbax removes it in the background.
    if not unfinished.exists():
      break
    time.sleep(0.1)
  assert not unfinished.exists()


_HOLD = """
import sys, time
from runs import lock
with lock.held(sys.argv[1]):
  print('held', flush=True)
  time.sleep(600)
"""


def test_a_directory_is_not_busy_for_who_holds_it(tmp_path):
  with lock.held(str(tmp_path)), lock.held(str(tmp_path)):
    assert not lock.busy(str(tmp_path))
  assert not lock.busy(str(tmp_path))


def test_the_second_process_is_refused_and_a_killed_one_is_not_in_the_way(finished, tmp_path):
  where = str(tmp_path / 'run')
  shutil.copytree(finished / 'run', where)
  holder = subprocess.Popen(
    [sys.executable, '-c', _HOLD, where], cwd=ROOT, stdout=subprocess.PIPE, text=True,
    env={**os.environ, 'JAX_PLATFORMS': 'cpu', 'PYTHONPATH': ROOT},
  )  # fmt: skip
  try:
    assert holder.stdout.readline() == 'held\n'
    config = configs.from_plain(configs.read_saved(where)['config'])
    built = experiment.build(config, '')
    for second in (
      lambda: run.execute(built, where),
      lambda: probing.of_run(where, '', (), False),
      lambda: finetuning.one(where, '', ()),
    ):
      with pytest.raises(UserError, match=f'is in use by process {holder.pid} on .+: wait for it'):
        second()
  finally:
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
  with lock.held(where), lock.held(where):  # The process that holds it may take it again.
    pass
  with lock.held(str(tmp_path / 'none'), make=False):
    assert not (tmp_path / 'none').exists()


def test_a_lock_whose_holder_can_not_be_written_is_free_at_once(tmp_path, monkeypatch):
  def full(*_):
    raise OSError(28, 'No space left on device')

  monkeypatch.setattr(lock, 'write_atomically', full)
  program = 'import sys; from runs import lock; print(lock.busy(sys.argv[1]))'
  try:
    with lock.held(str(tmp_path)):
      raise AssertionError('held')
  except UserError as error:  # While it lives.
    other = subprocess.run(
      [sys.executable, '-c', program, str(tmp_path)], cwd=ROOT, capture_output=True, text=True
    )
    assert 'No space left' in str(error) and other.stdout == 'False\n', other.stderr


# Curves.


def test_no_step_is_shown_twice_after_a_kill_before_the_first_checkpoint(tmp_path):
  from tensorboard.backend.event_processing import event_accumulator

  def write(steps, resumed=None):
    writer = metrics.MetricsWriter(str(tmp_path), resumed)
    for step in steps:
      writer.write(step, {'loss': float(step)})
    writer.close()

  write(range(0, 60))
  write(range(0, 45))
  write(range(41, 81), resumed=40)
  events = event_accumulator.EventAccumulator(str(tmp_path), {'scalars': 0})
  events.Reload()
  assert [point.step for point in events.Scalars('loss')] == list(range(81))
  assert [row['step'] for row in metrics.read_curve(f'{tmp_path}/metrics.jsonl')] == list(range(81))


def test_a_killed_process_leaves_every_row_in_both_files(tmp_path):
  from tensorboard.backend.event_processing import event_accumulator

  program = (
    'import os, signal, sys, numpy; from training.metrics import MetricsWriter\n'
    'writer = MetricsWriter(sys.argv[1])\n'
    'for step in range(1, 41):\n'
    '  writer.write(step, {"loss": float(step), "drawn": numpy.zeros((2, 3), numpy.uint8)})\n'
    'os.kill(os.getpid(), signal.SIGKILL)\n'
  )
  command = [sys.executable, '-c', program, str(tmp_path)]
  killed = subprocess.run(command, cwd=ROOT, env={**os.environ, 'PYTHONPATH': ROOT})
  assert killed.returncode == -signal.SIGKILL
  events = event_accumulator.EventAccumulator(str(tmp_path), {'scalars': 0, 'images': 0})
  events.Reload()
  rows = metrics.read_curve(f'{tmp_path}/metrics.jsonl')
  assert [row['step'] for row in rows] == list(range(1, 41))
  assert [point.step for point in events.Scalars('loss')] == list(range(1, 41))
  assert [point.value for point in events.Scalars('loss')] == list(range(1, 41))
  pictures = events.Images('drawn')
  assert [point.step for point in pictures] == list(range(1, 41))
  assert (pictures[0].height, pictures[0].width) == (8, 12)


def test_an_accelerator_that_is_not_used_is_told(tmp_path, monkeypatch):
  (tmp_path / 'nvidia0').write_text('')
  files = [str(tmp_path / 'nvidia[0-9]*')]
  monkeypatch.delenv('JAX_PLATFORMS', raising=False)
  told = provenance.idle_accelerator(files)
  assert told.startswith(f'warning: {tmp_path}/nvidia0 is an accelerator that JAX does not use')
  assert '\n' not in told
  assert provenance.idle_accelerator([str(tmp_path / 'accel*')]) is None
  monkeypatch.setenv('JAX_PLATFORMS', 'cpu')
  assert provenance.idle_accelerator(files) is None


def test_a_second_start_compiles_nothing(tmp_path):
  program = (
    'import sys, jax; from runs import compiled\n'
    'found = []\n'
    'jax.monitoring.register_event_listener(lambda name, **_: found.append(name))\n'
    'compiled.keep(sys.argv[1])\n'
    'assert jax.jit(lambda x: x * 2 + 1)(3.0) == 7\n'
    'hits = found.count("/jax/compilation_cache/cache_hits")\n'
    'print(hits, jax.config.jax_compilation_cache_dir)\n'
  )
  environment = {**os.environ, 'PYTHONPATH': ROOT, 'JAX_PLATFORMS': 'cpu'}
  environment['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0'
  environment.pop('JAX_COMPILATION_CACHE_DIR', None)

  def start(**more):
    command = [sys.executable, '-c', program, str(tmp_path)]
    done = subprocess.run(
      command, cwd=ROOT, env=environment | more, capture_output=True, text=True, check=True
    )
    return done.stdout.split()

  hits, where = start()
  assert hits == '0' and os.path.dirname(where) == f'{tmp_path}/compilation_cache'
  assert int(start()[0]) > 0
  assert start(JAX_COMPILATION_CACHE_DIR=str(tmp_path / 'own'))[1] == str(tmp_path / 'own')


@pytest.mark.parametrize('objective', ['autoregressive', 'masked'])
def test_a_run_that_leaves_test_out_differs_in_nothing_else(data_dir, tmp_path, objective):
  found = {}
  for scored in (True, False):
    built = tiny.build(data_dir, objective, f'--config.evaluation.test={scored}')
    found[scored] = run.execute(built, str(tmp_path / str(scored)))
  whole, without = found[True], found[False]
  assert whole['test_loss'] is not None and without['test_loss'] is None
  assert without['bits_per_dim'] is None and without['also'] == {}
  for name in ('validation', 'probes', 'tokens_scored'):
    assert whole[name] == without[name], name
  arrays = [set(recorded.read_arrays(str(tmp_path / str(scored)))) for scored in (True, False)]
  assert arrays[0] - arrays[1] and not any('nats' in name or 'loss' in name for name in arrays[1])
  # The line tells the last loss of the curve, which is that of the headline checkpoint.
  curve = metrics.read_curve(str(tmp_path / 'False' / 'metrics.jsonl'))
  last = [row['validation/loss'] for row in curve if 'validation/loss' in row][-1]
  said = f'{objective} seed 0: bits/dim n/a; validation loss {last:.3f} nats per token; linear'
  assert recorded.summary(without).startswith(said)
  assert recorded.summary(whole).count('validation loss') == (objective == 'masked')


@pytest.mark.parametrize(
  'text',
  [
    '{"config": ',
    '[]',
    '{}',
    '{"config": {"objective": {"name": "x"}}}',
    '{"config": {"model": 1}}',
  ]
  + ['{"config": {"objective": {}}}', '{"config": {"objective": {"name": ["masked"]}}}'],
)
def test_a_damaged_config_or_record_is_one_line(tmp_path, text):
  (tmp_path / 'config.json').write_text(text)
  with pytest.raises(UserError, match='config.json can not be read'):
    configs.read_saved(str(tmp_path))
  (tmp_path / 'run.json').write_text(text)
  with pytest.raises(UserError, match='run.json can not be read'):
    configs.read_record(str(tmp_path))


def test_checkpoints_without_a_config_are_nobodys(tmp_path):
  (tmp_path / 'checkpoints').mkdir()
  with pytest.raises(UserError, match='no config.json that says of what'):
    run.open_workdir(str(tmp_path), tiny.config('masked'))
  assert not (tmp_path / 'config.json').exists()


def test_a_damaged_record_costs_no_other_run_and_is_not_done(tmp_path):
  config, directory = tiny.config('untrained'), tmp_path / 'runs' / 'a'
  directory.mkdir(parents=True)
  (directory / 'config.json').write_text(json.dumps({'config': configs.plain(config)}))
  (directory / 'run.json').write_text('{"objective": ')
  planned = plan.PlannedRun('a', str(directory), config, [])
  plan._check_directories([planned], str(tmp_path))  # It is told when its turn comes.
  assert [row['state'] for row in status.survey(str(tmp_path), 60, 0)] == ['failed']


def test_a_run_that_another_process_holds_is_not_said_to_have_failed(tmp_path):
  """Of two comparisons in one place the second is refused the run, and may not end it."""
  holder = subprocess.Popen(
    [sys.executable, '-c', 'import sys; from runs import lock\n'
     'with lock.held(sys.argv[1]):\n  print("held", flush=True); sys.stdin.read()', str(tmp_path)],
    stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
  )  # fmt: skip
  try:
    assert not lock.busy(str(tmp_path / 'other'))
    assert holder.stdout.readline() == 'held\n' and lock.busy(str(tmp_path))
    pool._tell(plan.PlannedRun('', str(tmp_path), None, []), 1)
    assert not (tmp_path / 'state.json').exists()
  finally:
    holder.communicate('')
  assert not lock.busy(str(tmp_path))
