"""Several processes on this machine: the same numbers, one stop for all, no one left hanging."""

import itertools
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
import tiny

from experiments import digits
from runs import configs, experiment, run
from training import distributed, loop, metrics, sharding
from training.errors import DistributedError, Preempted

ROOT = pathlib.Path(__file__).parent.parent
STEPS = 24
SETTINGS = (
  *tiny.OVERRIDES,
  f'--config.training.steps={STEPS}',
  '--config.training.batch_size=16',
  '--config.training.log_every=1',
  '--config.evaluators.validation.every=24',
  '--config.checkpoints.every=24',
  '--config.evaluation.draws=1',
  '--config.probe.linear.labels=10',
  '--config.probe.linear.draws=1',
  '--config.probe.linear.engine=mesh',
  '--config.probe.levels=False',
)


@pytest.fixture(scope='module')
def start(data_dir):
  """start(workdir, processes, devices, *more) -> the processes of one run.

  `first` is Python that each runs first, with `I` as its number.
  """
  tiny.build(data_dir)  # Prepares the data.
  running = []

  def launch(workdir, processes, devices, *more, first=''):
    environment = {
      **os.environ,
      'JAX_PLATFORMS': 'cpu',
      'XLA_FLAGS': f'{os.environ["XLA_FLAGS"]} --xla_force_host_platform_device_count={devices}',
    }
    with socket.socket() as free:
      free.bind(('127.0.0.1', 0))
      address = f'127.0.0.1:{free.getsockname()[1]}'
    group = []
    for i in range(processes):
      where = ('--distributed=explicit', f'--coordinator_address={address}',
               f'--num_processes={processes}', f'--process_id={i}')  # fmt: skip
      program = f'import runpy, sys\nI = {i}\nsys.argv[0] = "train"\n{first}\n'
      program += 'runpy.run_module("launch.train", run_name="__main__")'
      command = [
        sys.executable, '-c', program, '--config=experiments/digits.py:masked_diffusion',
        f'--workdir={workdir}', f'--data_dir={data_dir}', *SETTINGS, *more,
        *(where if processes > 1 else ()),
      ]  # fmt: skip
      log = open(f'{workdir}.{i}.log', 'a')
      group.append(subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log))
      log.close()
    running.extend(group)
    return group

  yield launch
  for process in running:
    process.kill()
    process.wait()


def _codes(group, seconds=300):
  end = time.monotonic() + seconds
  return [process.wait(max(0.1, end - time.monotonic())) for process in group]


def _wait_for(workdir, step, group):
  """Returns once the run has logged this step."""
  end = time.monotonic() + 300
  while time.monotonic() < end:
    rows = metrics.read_curve(os.path.join(workdir, 'metrics.jsonl'))
    if rows and rows[-1]['step'] >= step:
      return
    assert all(process.poll() is None for process in group), 'a process ended early'
    time.sleep(0.05)
  raise AssertionError(f'step {step} was never reached')


def _stopping(process, at):
  """Python by which one process is sent SIGTERM when it has dispatched step `at`."""
  return f"""
import os, signal
from training import loop
follow = loop._Log.follow
def stopping(self, step, metrics):
  if (I, step) == ({process}, {at}):
    os.kill(os.getpid(), signal.SIGTERM)
  return follow(self, step, metrics)
loop._Log.follow = stopping"""


ENDLESS = ('--config.training.steps=100000', '--config.evaluators.validation.every=0')
# Silence is noticed sooner than in real runs.
QUICK = """
from training import watchdog
watchdog.SILENT_SECONDS, watchdog.BEAT_SECONDS, watchdog.LINGER_SECONDS = 6.0, 0.5, 8.0"""


def _losses(workdir):
  rows = metrics.read_curve(os.path.join(workdir, 'metrics.jsonl'))
  return {row['step']: row['train/loss'] for row in rows if 'train/loss' in row}


def test_processes_and_devices_change_nothing_and_a_run_moves_between_them(
  start, data_dir, tmp_path, monkeypatch
):
  """2 x 2, stopped by SIGTERM to one worker, one device, stopped, 2 x 2: as one device."""
  alone, moved = (str(tmp_path / name) for name in ('alone', 'moved'))
  assert _codes(start(moved, 2, 2, first=_stopping(1, 8))) == [42, 42]
  first = max(_losses(moved))
  assert 8 <= first < 14
  config = configs.override(digits.get_config('masked_diffusion'), SETTINGS)
  asked = itertools.chain([False] * (15 - first), itertools.repeat(True))
  with monkeypatch.context() as patch, pytest.raises(Preempted):
    patch.setattr(loop.preemption, 'asked_here', lambda: next(asked))
    run.execute(experiment.build(config, data_dir), moved)
  assert first < max(_losses(moved)) < STEPS
  assert _codes(start(moved, 2, 2)) == [0, 0]
  run.execute(experiment.build(config, data_dir), alone)

  expected = _losses(alone)
  assert sorted(expected) == list(range(1, STEPS + 1))
  found = _losses(moved)
  assert sorted(found) == sorted(expected)
  np.testing.assert_allclose(list(found.values()), list(expected.values()), rtol=1e-5)
  one, record = (json.load(open(f'{d}/run.json')) for d in (alone, moved))
  assert record['bits_per_dim'] == pytest.approx(one['bits_per_dim'], rel=1e-5)
  assert record['tokens_scored'] == one['tokens_scored']
  other, cell = (made['probes']['linear']['all'] for made in (one, record))
  assert cell['engine'] == 'mesh'
  assert cell['accuracy'] == pytest.approx(other['accuracy'], abs=0.02)
  assert cell['certificate'] <= 1e-6
  nats, nats_moved = (np.load(f'{d}/arrays.npz')['nats'] for d in (alone, moved))
  np.testing.assert_allclose(nats_moved, nats, rtol=1e-4)
  # One process reports; the other is silent.
  assert 'bits/dim' in pathlib.Path(f'{moved}.0.log').read_text()
  assert 'bits/dim' not in pathlib.Path(f'{moved}.1.log').read_text()


def test_a_killed_worker_takes_the_other_with_it(start, tmp_path):
  workdir = str(tmp_path / 'killed')
  group = start(workdir, 2, 1, *ENDLESS, first=QUICK)
  _wait_for(workdir, 3, group)
  group[1].kill()
  assert _codes(group, seconds=60)[0] not in (0, 42)
  log = pathlib.Path(f'{workdir}.0.log').read_text()
  assert 'goes on from the last checkpoint' in log or 'heartbeat' in log.lower(), log[-2000:]


@pytest.mark.parametrize('paused', [0, 1])
def test_a_process_that_stands_still_ends_the_run_with_one_line_each(paused, start, tmp_path):
  workdir = str(tmp_path / 'paused')
  group = start(workdir, 2, 1, *ENDLESS, first=QUICK)
  _wait_for(workdir, 3, group)
  group[paused].send_signal(signal.SIGSTOP)
  time.sleep(9)
  group[paused].send_signal(signal.SIGCONT)
  assert _codes(group, seconds=60) == [3, 3]
  logs = [pathlib.Path(f'{workdir}.{i}.log').read_text() for i in range(2)]
  assert f'process {paused} was not heard of for 6 s' in logs[1 - paused]
  for i, log in enumerate(logs):
    assert log.count(f'process {i}: ') == 1 and 'stack trace' not in log, log


def test_a_process_that_is_stuck_is_not_waited_for_for_ever(start, tmp_path):
  """One opens a run.json that no one ever writes."""
  workdir = str(tmp_path / 'stuck')
  stuck = f"""
from runs import configs
def never(workdir):
  open({str(tmp_path / 'there')!r}, 'w').close()
  open({str(tmp_path / 'never')!r})
if I:
  configs.read_record = never"""
  os.mkfifo(tmp_path / 'never')
  group = start(workdir, 2, 1, '--wait_seconds=5', first=QUICK + stuck)
  assert _codes(group) == [3, 3]
  log = pathlib.Path(f'{workdir}.0.log').read_text()
  assert 'waited 5 s for' in log and 'process 1 did not come' in log, log
  # A wait for it is ended by SIGTERM, too.
  (tmp_path / 'there').unlink()
  group = start(workdir, 2, 1, first=QUICK + stuck)
  while not (tmp_path / 'there').exists():
    assert all(process.poll() is None for process in group)
    time.sleep(0.2)
  time.sleep(1)
  for process in group:
    process.send_signal(signal.SIGTERM)
  assert _codes(group, seconds=60) == [42, 42]


EXPLICIT = {'coordinator_address': 'localhost:1234', 'num_processes': 2, 'process_id': 1}
NOTHING = dict.fromkeys(EXPLICIT)


@pytest.mark.parametrize(
  'mode,asked,given,environment,message',
  [
    ('explicit', True, EXPLICIT | {'process_id': None}, {}, 'needs --process_id too'),
    ('explicit', True, NOTHING, {}, '--coordinator_address and --num_processes and --process_id'),
    ('explicit', True, EXPLICIT | {'coordinator_address': 'localhost'}, {}, 'is not HOST:PORT'),
    ('explicit', True, EXPLICIT | {'process_id': 2}, {}, 'must be from 0 to 1'),
    ('none', False, EXPLICIT, {}, '--coordinator_address needs --distributed=explicit'),
    ('none', False, NOTHING, {'SLURM_STEP_NUM_TASKS': '8'}, '8 Slurm tasks.*--distributed=auto'),
    ('none', False, NOTHING, {'TPU_WORKER_HOSTNAMES': 'a,b'}, 'names 2 TPU hosts'),
    ('none', False, NOTHING, {'MEGASCALE_NUM_SLICES': '2'}, '2 TPU slices'),
    ('explicit', True, EXPLICIT, {}, None),
    ('none', True, NOTHING, {'SLURM_STEP_NUM_TASKS': '8'}, None),
    ('none', False, NOTHING, {'SLURM_STEP_NUM_TASKS': '1', 'TPU_WORKER_HOSTNAMES': 'a'}, None),
  ],
)
def test_half_set_processes_are_refused(mode, asked, given, environment, message):
  arguments = (mode, asked, *given.values(), environment)
  if message is None:
    distributed.check_settings(*arguments)
    return
  with pytest.raises(DistributedError, match=message):
    distributed.check_settings(*arguments)


def test_without_others_everything_is_decided_alone():
  assert distributed.is_primary() and not distributed.active()
  assert distributed.any_process(True, 'here') and not distributed.any_process(False, 'here')
  with distributed.primary_first('here'):
    distributed.check_equal('config', 'anything')


class _Scattered:
  """A sharding that gives a process rows which do not lie side by side, as a pod's ring does."""

  def __init__(self, slices):
    self._slices = slices

  def addressable_devices_indices_map(self, shape):
    del shape
    return {i: (piece,) for i, piece in enumerate(self._slices)}


def test_rows_follow_the_mesh_not_the_number_of_the_process(monkeypatch):
  pieces = [slice(6, 8), slice(0, 2)]
  monkeypatch.setattr(sharding, 'batch_sharding', lambda mesh: _Scattered(pieces))
  np.testing.assert_array_equal(sharding.local_rows(8, sharding.make_mesh()), [0, 1, 6, 7])


def test_a_coordinator_that_is_not_there_is_one_line():
  with socket.socket() as free:
    free.bind(('127.0.0.1', 0))
    address = f'127.0.0.1:{free.getsockname()[1]}'
  with pytest.raises(DistributedError, match=f'nothing answers at .*{address} after 0 s'):
    distributed.initialize('explicit', address, 2, 1, connect_seconds=0)
