"""SIGTERM at any moment: 42, nothing computed is lost, and the repeated command goes on with it."""

import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from probes import knn
from runs import configs, evaluators, measured, parts, probing, recorded, run
from training import evaluation, metrics, preemption
from training.errors import Preempted, Stopped

ROOT = pathlib.Path(__file__).parent.parent
TIMED = ('wall', 'tokens_per_second', 'input_fraction')


@pytest.fixture
def sigterm():
  """sigterm() as if from outside; the handler of runs is in place, and no request is left over."""
  before = signal.getsignal(signal.SIGTERM)
  preemption.install()
  yield lambda: os.kill(os.getpid(), signal.SIGTERM)
  preemption.install()
  signal.signal(signal.SIGTERM, before)


def _curve(workdir):
  rows = metrics.read_curve(os.path.join(workdir, 'metrics.jsonl'))
  return [{k: v for k, v in row.items() if k not in TIMED} for row in rows]


def _told_when(module, command, tmp_path):
  """`python -m launch.COMMAND`, told to stop exactly when this module begins to be imported; what
  is raised there fares as in modules written in C, which take it for a failed import."""
  (tmp_path / 'sitecustomize.py').write_text(
    f'import os, signal, sys\n'
    f'class Finder:\n'
    f'  def find_spec(self, name, *rest):\n'
    f'    if name == {module!r}:\n'
    f'      try:\n'
    f'        os.kill(os.getpid(), signal.SIGTERM)\n'
    f'      except BaseException as error:\n'
    f'        raise ImportError("a half of me is missing") from None\n'
    f'sys.meta_path.insert(0, Finder())\n'
  )
  environment = {**os.environ, 'PYTHONPATH': f'{tmp_path}:{ROOT}', 'JAX_PLATFORMS': 'cpu'}
  command = [sys.executable, '-m', *command]
  return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


# What launch.train loads first, early, late, and between.
@pytest.mark.parametrize(
  'module',
  ['launch.train', 'absl.flags', 'launch.entry', 'etils.epath', 'jax', 'runs.experiment']
  + ['orbax.checkpoint'],
)
def test_before_anything_is_computed(module, tmp_path):
  command = ['launch.train', '--config=experiments/digits.py:masked', f'--workdir={tmp_path}/w']
  done = _told_when(module, [*command, f'--data_dir={tmp_path}'], tmp_path)
  assert done.returncode == 42, done.stderr
  assert done.stderr.count('\n') == 1 and 'run the same command to go on' in done.stderr


# Told to stop in the middle of the third compilation, which XLA then gives up half done.
BROKEN_OFF = """
import os, runpy, signal, sys, threading
from jax._src import compiler
compile_, count = compiler.backend_compile_and_load, []

def told(*arguments, **more):
  count.append(1)
  if len(count) == 3:
    threading.Timer(0.01, os.kill, (os.getpid(), signal.SIGTERM)).start()
  return compile_(*arguments, **more)

compiler.backend_compile_and_load = told
sys.argv[0] = 'train'
runpy.run_module('launch.train', run_name='__main__')
"""


def test_a_compilation_that_is_broken_off_does_not_crash_python(data_dir, tmp_path):
  ours = ('XLA_FLAGS', 'JAX_COMPILATION_CACHE_DIR')  # As users compile.
  environment = {name: value for name, value in os.environ.items() if name not in ours}
  done = subprocess.run(
    [
      sys.executable, '-c', BROKEN_OFF, '--config=experiments/digits.py:autoregressive',
      f'--workdir={tmp_path}/w', f'--data_dir={data_dir}',
    ],
    cwd=ROOT, env={**environment, 'JAX_PLATFORMS': 'cpu'}, capture_output=True, text=True,
  )  # fmt: skip
  assert done.returncode == 42, done.stderr
  assert done.stderr.endswith('run the same command to go on\n'), done.stderr


def test_a_command_that_keeps_nothing_is_ended_by_it(tmp_path):
  done = _told_when('launch.entry', ['launch.report', str(tmp_path)], tmp_path)
  assert done.returncode == -signal.SIGTERM, done.stderr


@pytest.mark.parametrize('process', [0, 1])
def test_while_it_waits_for_other_processes(process, tmp_path):
  with socket.socket() as other:
    other.bind(('127.0.0.1', 0))
    if process:
      other.listen()  # It is found, and never says a word.
    address = f'127.0.0.1:{other.getsockname()[1]}'
    if not process:
      other.close()
    command = [
      sys.executable, '-u', '-m', 'launch.train', '--config=experiments/digits.py:masked',
      f'--workdir={tmp_path}/w', '--distributed=explicit', f'--coordinator_address={address}',
      '--num_processes=2', f'--process_id={process}',
    ]  # fmt: skip
    running = subprocess.Popen(
      command, cwd=ROOT, env={**os.environ, 'JAX_PLATFORMS': 'cpu'}, stderr=subprocess.PIPE,
      text=True,
    )  # fmt: skip
    if process:
      other.accept()[0].close()
      connection = other.accept()[0]  # JAX's own: it is inside the wait now.
    else:
      assert 'waits up to 300 s' in running.stderr.readline()
      time.sleep(1)
    running.send_signal(signal.SIGTERM)
    err = running.communicate(timeout=120)[1]
    if process:
      connection.close()
  assert running.returncode == 42, err
  assert 'stopped on request' in err and 'stack trace' not in err


def test_inside_a_validation_the_state_is_saved_and_the_validation_repeated(
  data_dir, tmp_path, monkeypatch, sigterm
):
  whole, broken = str(tmp_path / 'whole'), str(tmp_path / 'broken')
  run.execute(tiny.build(data_dir, 'masked_diffusion'), whole)
  experiment = tiny.build(data_dir, 'masked_diffusion')
  validate, calls = evaluators.validate, []

  def interrupted(*arguments):
    calls.append(0)
    # The second is that of step 4; step 8 is the last one.
    if len(calls) in (2, 4):
      sigterm()
      raise AssertionError('the request had to wait')
    return validate(*arguments)

  monkeypatch.setitem(evaluators.EVALUATORS, 'validation', interrupted)
  for step in (4, 8):
    with pytest.raises(Preempted):
      run.execute(experiment, broken)
    assert (tmp_path / 'broken' / 'checkpoints' / 'last' / str(step)).exists()
    preemption.install()
  record = run.execute(experiment, broken)
  assert _curve(broken) == _curve(whole)
  assert len(calls) == 5
  first = configs.read_record(whole)
  for name in ('validation', 'bits_per_dim', 'probes', 'tokens_scored'):
    assert first[name] == record[name], name


def test_while_scoring_finished_pieces_are_kept(data_dir, tmp_path, monkeypatch, sigterm):
  settings = ("--config.probe.suite=('linear','ridge','knn')", '--config.evaluation.samples=32')
  whole, broken = str(tmp_path / 'whole'), str(tmp_path / 'broken')
  run.execute(tiny.build(data_dir, 'masked_diffusion', *settings), whole)
  experiment = tiny.build(data_dir, 'masked_diffusion', *settings)
  done = []

  score, evaluate = measured._score_own, knn.evaluate

  def scored(*arguments):
    done.append('score')
    return score(*arguments)

  def stopped(*arguments):
    done.append('knn')
    if done.count('knn') == 1:
      sigterm()
    return evaluate(*arguments)

  monkeypatch.setattr(measured, '_score_own', scored)
  monkeypatch.setattr(knn, 'evaluate', stopped)
  with pytest.raises(Preempted):
    run.execute(experiment, broken)
  kept = {path.name for path in (tmp_path / 'broken' / 'parts').iterdir()}
  assert {'test.npz', 'probe_linear.npz', 'probe_ridge.npz'} <= kept
  assert 'probe_knn.npz' not in kept
  preemption.install()
  record = run.execute(experiment, broken)
  assert done.count('score') == 1 and done.count('knn') == 2
  assert not (tmp_path / 'broken' / 'parts').exists()
  first = configs.read_record(whole)
  for name in ('bits_per_dim', 'terms', 'also', 'probes', 'probes_by_level', 'at_best'):
    assert first[name] == record[name], name
  arrays = [recorded.read_arrays(directory) for directory in (whole, broken)]
  assert set(arrays[0]) == set(arrays[1])
  for name, values in arrays[0].items():
    np.testing.assert_array_equal(values, arrays[1][name])


def test_a_large_test_split_goes_on_at_the_piece_that_was_stopped(
  tmp_path, data_dir, monkeypatch, sigterm
):
  """300 examples in batches of 40, two a piece; the third piece is stopped in its second batch."""
  built = tiny.build(data_dir, 'masked', '--config.evaluation.batch_size=40')
  params = jax.jit(built.task.init)(built.task.key)
  # A fresh network is uniform.
  params = jax.tree.map(lambda x: x + 0.1 * jnp.sin(jnp.arange(x.size)).reshape(x.shape), params)
  whole, arrays = measured.score(built, params)
  monkeypatch.setattr(measured, '_PIECE', 2)
  asked = []
  inner = evaluation.sharding.place_batch

  def placed(local, mesh):
    asked.append(int(local['index'][0]))
    if len(asked) == 6:
      sigterm()
    return inner(local, mesh)

  monkeypatch.setattr(evaluation.sharding, 'place_batch', placed)

  def kept():
    return parts.Parts(str(tmp_path), built.config, [8])

  with pytest.raises(Preempted):
    measured.score(built, params, kept())
  assert asked == [0, 40, 80, 120, 160, 200]
  assert {path.name for path in tmp_path.iterdir()} == {'test_from0.npz', 'test_from80.npz'}
  preemption.install()
  record, again = measured.score(built, params, kept())
  assert asked[6:10] == [160, 200, 240, 280]
  assert record == whole and set(again) == set(arrays)
  for name, values in arrays.items():
    np.testing.assert_array_equal(again[name], values)


def test_a_piece_is_used_under_its_own_settings_alone(tmp_path):
  def kept(value, config=None, step=8, probes=('linear',)):
    config = config or tiny.config()
    made = parts.Parts(str(tmp_path), config, [step])
    return made.piece('x', lambda: ({'a': value}, {'b': np.arange(value)}), probes)

  record, arrays = kept(3)
  assert record == {'a': 3} and arrays['b'].tolist() == [0, 1, 2]
  record, arrays = kept(4)
  assert record == {'a': 3} and arrays['b'].tolist() == [0, 1, 2]
  other_probe = tiny.config('masked_diffusion', '--config.probe.knn.draws=9')
  assert kept(5, other_probe)[0] == {'a': 3}
  own_probe = tiny.config('masked_diffusion', '--config.probe.linear.draws=9')
  assert kept(6, own_probe)[0] == {'a': 6}
  assert kept(7)[0] == {'a': 7}
  assert kept(8, step=9)[0] == {'a': 8}


def test_a_request_that_no_one_may_swallow(sigterm):
  """Raised where it is lost, as in a finaliser, it is found at the next place to look."""
  with preemption.at_once():
    try:
      sigterm()
    except Preempted:
      pass
  with pytest.raises(Preempted):
    preemption.check()
  with pytest.raises(Preempted), preemption.at_once():
    raise AssertionError('nothing begins after a request')


def test_probing_again_writes_all_or_nothing(data_dir, tmp_path, monkeypatch, sigterm):
  """Verdicts read the arrays, tables the record: between the two a stop comes too late."""
  workdir = str(tmp_path)
  run.execute(tiny.build(data_dir, 'masked'), workdir)
  preemption.end_at_once()
  write, probe = recorded.write_atomically, probing.assessment.probe

  def again(draws):
    probing.of_run(workdir, data_dir, (f'--config.probe.linear.draws={draws}',), False)

  def drawn():
    record, arrays = configs.read_record(workdir), recorded.read_arrays(workdir)
    return len(record['probes']['linear']['40']['draws']), len(arrays['linear/40/predictions'])

  def writes(path, content):
    write(path, content)
    if path.endswith('arrays.npz'):
      sigterm()

  def probes(*arguments, **more):
    sigterm()
    return probe(*arguments, **more)

  assert drawn() == (2, 2)
  with monkeypatch.context() as patch:
    patch.setattr(probing.assessment, 'probe', probes)
    with pytest.raises(Stopped):
      again(3)
  assert drawn() == (2, 2)
  monkeypatch.setattr(recorded, 'write_atomically', writes)
  again(3)
  assert drawn() == (3, 3)
