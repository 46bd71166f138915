"""A disk that is full: one line, the state told where there is room, and nothing lost."""

import http.client
import json
import os
import pathlib
import subprocess
import sys
import urllib.error

import pytest
import tiny

from reports import reading
from runs import run
from runs.errors import UserError
from training import metrics
from training.errors import NotSaved, ProcessLost

ROOT = pathlib.Path(__file__).parent.parent
# From the checkpoint of step 4 on no file may grow: its write, in the background, fails.
PROGRAM = """
import resource, runpy, sys
from training import checkpoint
save = checkpoint.Checkpoints.save

def full(self, state, step, *rest, **more):
  if step == 4:
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, resource.RLIM_INFINITY))
  save(self, state, step, *rest, **more)

checkpoint.Checkpoints.save = full
sys.argv[0] = 'train'
runpy.run_module('launch.train', run_name='__main__')
"""


def test_a_save_in_the_background_that_fails_is_one_line(data_dir, tmp_path):
  few = ('--config.probe.suite=()',)
  experiment = tiny.build(data_dir, 'masked_diffusion', *few)
  workdir = str(tmp_path / 'run')
  done = subprocess.run(
    [
      sys.executable, '-c', PROGRAM, '--config=experiments/digits.py:masked_diffusion',
      f'--workdir={workdir}', f'--data_dir={data_dir}', *tiny.OVERRIDES, *few,
    ],
    cwd=ROOT,
    env={**os.environ, 'JAX_ENABLE_COMPILATION_CACHE': 'false', 'JAX_PLATFORMS': 'cpu'},
    capture_output=True, text=True,
  )  # fmt: skip
  assert done.returncode == 2 and done.stderr.count('\n') == 1, done.stderr
  assert 'a checkpoint could not be written' in done.stderr and 'File too large' in done.stderr
  said = json.loads((tmp_path / 'run' / 'state.json').read_text())
  assert said['state'] == 'failed' and 'could not be written' in said['reason']
  assert said['goes_on'] and not reading.failed_of_itself(workdir)
  assert (tmp_path / 'run' / 'checkpoints' / 'last' / '0').exists()
  # With room again the same run goes on.
  assert run.execute(experiment, workdir)['steps'] == 8


def test_the_state_is_told_in_the_file_that_is_there(tmp_path, monkeypatch):
  run.say(str(tmp_path), 'running')

  def full(path, content):
    raise OSError(28, 'No space left on device')

  monkeypatch.setattr(run, 'write_atomically', full)
  with pytest.raises(ZeroDivisionError), run.telling(str(tmp_path)):
    raise ZeroDivisionError('the reason')
  said = json.loads((tmp_path / 'state.json').read_text())
  assert said == {'state': 'failed', 'reason': 'ZeroDivisionError: the reason', 'goes_on': False}


def _refused():
  raise UserError('workdir can not be written: ...') from OSError(28, 'No space left on device')


def _several(*_):
  raise NotSaved('a/long/path: ' * 40 + 'the same command goes on')


@pytest.mark.parametrize(
  'error, own',
  [
    (OSError(28, 'No space left on device', 'a/' * 200), False),
    (OSError(27, 'File too large'), False),
    (OSError('8192 requested and 0 written'), False),  # As NumPy says it.
    (_refused, False),
    (_several, False),
    (ProcessLost('process 1 does not come'), False),
    (OSError(5, 'Input/output error'), False),
    (ConnectionResetError(104, 'Connection reset by peer'), False),
    (TimeoutError('timed out'), False),
    (http.client.RemoteDisconnected('closed'), False),
    (urllib.error.URLError(ConnectionRefusedError(111, 'Connection refused')), False),
    (urllib.error.URLError('unknown url type: x'), True),
    (MemoryError(), True),  # Of a batch that is too large, say: it would be so every time.
    (RuntimeError('RESOURCE_EXHAUSTED: Out of memory allocating 8 bytes'), True),
    (RuntimeError('ABORTED: [Errno 28] No space left on device'), False),
    (OSError(2, 'No such file or directory'), True),
    (OSError(13, 'Permission denied'), True),
    (ValueError('repeats the same command of the grammar'), True),
  ],
)
def test_whether_a_failure_says_anything_of_the_run_is_told_by_the_error(tmp_path, error, own):
  with pytest.raises(Exception), run.telling(str(tmp_path)):  # noqa: B017
    if callable(error):
      error()
    raise error
  assert reading.failed_of_itself(tmp_path) == own


def test_what_ended_another_process_is_told_by_its_words(tmp_path):
  going = (
    'process 1 ended: a checkpoint could not be written; the same command on all of them goes on'
  )
  for code, reason, own in ((2, going, False), (2, 'process 1: no data', True), (3, 'x', False)):
    run._say_ended(str(tmp_path), code, reason)
    assert reading.failed_of_itself(tmp_path) == own


def test_files_follow_the_umask(tmp_path):
  umask = os.umask(0o077)
  try:
    metrics.write_atomically(str(tmp_path / 'a'), 'a')
  finally:
    os.umask(umask)
  assert (tmp_path / 'a').stat().st_mode & 0o777 == 0o600


def test_half_a_file_is_not_left_behind(tmp_path, monkeypatch):
  (tmp_path / 'a').write_text('whole')

  def full(*_):
    raise OSError(28, 'No space left on device')

  monkeypatch.setattr(metrics.os, 'replace', full)
  with pytest.raises(OSError, match='No space'):
    metrics.write_atomically(str(tmp_path / 'a'), 'half')
  assert [path.name for path in tmp_path.iterdir()] == ['a']
  assert (tmp_path / 'a').read_text() == 'whole'


def test_an_array_that_came_short_is_one_line(tmp_path):
  """NumPy's error for it has neither a number nor a name."""
  program = f"""
import resource
import numpy as np
from launch import entry

def main(argv):
  resource.setrlimit(resource.RLIMIT_FSIZE, (8192, resource.RLIM_INFINITY))
  np.save({str(tmp_path / 'x.npy')!r}, np.zeros(10_000))

entry.run(main)
"""
  done = subprocess.run([sys.executable, '-c', program], cwd=ROOT, capture_output=True, text=True)
  assert done.returncode == 2 and done.stderr.count('\n') == 1, done.stderr
  assert 'disk full? 10000 requested and' in done.stderr
