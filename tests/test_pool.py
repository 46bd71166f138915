"""What a run that crashed is said to have died of: one line, and that the right one."""

import dataclasses
import json
import os
import sys

import pytest
from records import make_record

from runs import pool


@dataclasses.dataclass(frozen=True)
class Job:
  workdir: str
  command: list[str]
  name: str = 'job'
  steps: int = 1

  @property
  def log(self) -> str:
    return os.path.join(self.workdir, 'log.txt')


@pytest.mark.parametrize(
  'program,reason',
  [
    ('import faulthandler, ctypes; faulthandler.enable(); ctypes.string_at(0)', 'SIGSEGV: step 7'),
    ('os.kill(os.getpid(), 9)', 'SIGKILL, out of memory?: step 7'),
    ('os._exit(137)', 'SIGKILL, out of memory?: step 7'),
    ('os.abort()', 'SIGABRT: step 7'),
    ('raise ValueError("no such thing")', 'exit code 1: ValueError: no such thing'),
    ('sys.exit(2)', 'exit code 2: step 7'),
  ],
)
def test_the_reason_of_a_crash(program, reason, tmp_path, monkeypatch):
  monkeypatch.setattr(pool, '_POLL_SECONDS', 0.02)
  (tmp_path / 'log.txt').write_text('train: an earlier attempt\n')
  said = f'import os, sys, array, numpy; print("step 7", flush=True); {program}'
  command = [sys.executable, '-c', said]
  (failure,) = pool.run_all([Job(str(tmp_path), command)], dict(os.environ), 1, lambda _: None)
  assert failure.reason == reason


def test_a_record_that_can_not_be_read_costs_that_run_alone(tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(pool, '_POLL_SECONDS', 0.02)
  jobs = []
  for name, text, code in (
    ('a', json.dumps(make_record('masked', 0, wall_seconds='long')), ''), ('b', '{}', ''),
    ('c', None, ''), ('d', None, 'open("run.json", "w")'),
  ):  # fmt: skip
    (tmp_path / name).mkdir()
    if text is not None:
      (tmp_path / name / 'run.json').write_text(text)
    program = f'import os; os.chdir({str(tmp_path / name)!r}); open("ran", "w"); {code}'
    jobs.append(Job(str(tmp_path / name), [sys.executable, '-c', program], name))
  failures = pool.run_all(jobs, dict(os.environ), 1)
  assert [one.name for one in failures] == ['a', 'b', 'c', 'd']
  assert [(tmp_path / name / 'ran').exists() for name in 'abcd'] == [False, False, True, True]
  reasons = [one.reason for one in failures]
  assert all('run.json can not be read' in reasons[i] for i in (0, 1, 3))
  assert reasons[2] == 'exit code 0: no output'
  assert 'done already' not in capsys.readouterr().out


@pytest.mark.parametrize(
  'jobs,platform,found', [(2, '', 'false'), (1, '', 'None'), (2, 'cpu', 'None')]
)
def test_runs_side_by_side_share_the_memory_of_a_gpu(jobs, platform, found, tmp_path, monkeypatch):
  monkeypatch.setattr(pool, '_POLL_SECONDS', 0.02)
  monkeypatch.setattr(pool, 'has_accelerator', lambda: True)
  said = 'import os; print(os.environ.get("XLA_PYTHON_CLIENT_PREALLOCATE")); os._exit(3)'
  environment = {name: value for name, value in os.environ.items() if not name.startswith('XLA_')}
  job = Job(str(tmp_path), [sys.executable, '-uc', said])
  failures = pool.run_all([job], environment | {'JAX_PLATFORMS': platform}, jobs, lambda _: None)
  assert [failure.reason for failure in failures] == [f'exit code 3: {found}']


def test_a_crash_without_a_word_is_not_given_the_last_attempts_words(tmp_path, monkeypatch):
  monkeypatch.setattr(pool, '_POLL_SECONDS', 0.02)
  (tmp_path / 'log.txt').write_text('train: an earlier attempt\n')
  command = [sys.executable, '-c', 'import os; os.kill(os.getpid(), 9)']
  (failure,) = pool.run_all([Job(str(tmp_path), command)], dict(os.environ), 1, lambda _: None)
  assert failure.reason == 'SIGKILL, out of memory?: no output'
