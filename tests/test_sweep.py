"""What a sweep starts, word for word, and what launch.status sees of it."""

import dataclasses
import json
import os
import pathlib
import shlex
import shutil
import subprocess
import sys

import pytest
import records

from launch import backends, status, sweep
from launch.errors import UserError

ROOT = pathlib.Path(__file__).parent.parent
GOLDEN = pathlib.Path(__file__).parent / 'golden'
SETTINGS = {
  'slurm': (
    '--backend=slurm', '--gpus_per_node=4', '--nodes=2', '--partition=long runs',
    '--repository=/home/me/b&p',
  ),
  'xpk': (
    '--backend=xpk', '--cluster=c', '--device_type=v5litepod-16', '--num_slices=2', '--project=p',
    '--zone=z',
  ),
  'gcloud': ('--backend=gcloud', '--zone=z', '--tpu_name=pod', '--repository=code'),
  'gcloud_queued': (
    '--backend=gcloud', '--zone=z', '--device_type=v5litepod-8', '--runtime_version=tpu-ubuntu',
    '--spot',
  ),
}  # fmt: skip


def _sweep(*arguments, cwd=ROOT):
  environment = {**os.environ, 'PYTHONPATH': str(ROOT), 'JAX_PLATFORMS': 'cpu'}
  return subprocess.run(
    [sys.executable, '-m', 'launch.sweep', *arguments],
    cwd=cwd, env=environment, capture_output=True, text=True, timeout=120,
  )  # fmt: skip


@pytest.mark.parametrize('name', SETTINGS)
def test_what_would_run_word_for_word(name, tmp_path):
  """Of four runs whose data no one has prepared here."""
  config = tmp_path / 'my experiment.py'
  shutil.copy(ROOT / 'experiments' / 'fashion_mnist.py', config)
  done = _sweep(
    '--config=my experiment.py', '--workdir=gs://bucket/a sweep', '--objectives=autoregressive',
    '--seeds=0,1', '--grid=config.optimizer.weight_decay=0.0,0.1',
    *SETTINGS[name], '--dry_run', '--config.data.size=28', cwd=tmp_path,
  )  # fmt: skip
  assert done.returncode == 0, done.stderr
  assert done.stdout == (GOLDEN / f'sweep_{name}.txt').read_text()
  # Whatever the shell makes of it, the run gets the words that were meant.
  expected = [
    'python', '-m', 'launch.train', '--config=my experiment.py:autoregressive',
    '--workdir=gs://bucket/a sweep/weight_decay0.0/runs/autoregressive-seed0',
    '--data_dir=~/tensorflow_datasets', '--config.data.size=28',
    '--config.optimizer.weight_decay=0.0', '--config.training.seed=0', '--distributed=auto',
  ]  # fmt: skip
  if name == 'slurm':
    script = tmp_path / 'sweep_scripts' / 'sweep.sbatch'
    assert subprocess.run(['bash', '-n', str(script)], check=False).returncode == 0
    array = script.read_text().split('commands=(')[1].split('\n)')[0]
    assert shlex.split(shlex.split(array)[0]) == expected
  elif name == 'gcloud_queued':
    scripts = sorted((tmp_path / 'sweep_scripts').glob('*.sh'))
    assert len(scripts) == 4
    assert shlex.split(scripts[0].read_text().split(' do ')[1].split(';')[0]) == expected
  else:
    line = next(word for word in shlex.split(done.stdout.splitlines()[0]) if '--command=' in word)
    inner = line.removeprefix('--command=').split(' do ')[-1].split(';')[0]
    assert shlex.split(inner) == expected


def test_a_run_that_was_stopped_is_started_again_and_another_is_not(tmp_path):
  """The loop of the gcloud backend, run by a real shell: 42, 42, then 5."""
  count = tmp_path / 'count'
  program = f'import os, sys; open({str(count)!r}, "a").write("x"); n = os.path.getsize({str(count)!r}); sys.exit(42 if n < 3 else 5)'  # noqa: E501
  line = backends.again([sys.executable, '-c', program])
  subprocess.run(['bash', '-c', line], check=False, timeout=60)
  assert count.read_text() == 'xxx'


@pytest.mark.skipif(not shutil.which('xpk'), reason='xpk is not installed')
def test_xpk_accepts_what_we_print():
  line = (GOLDEN / 'sweep_xpk.txt').read_text().splitlines()[0]
  done = subprocess.run([*shlex.split(line), '--dry-run'], capture_output=True, text=True)
  assert 'usage:' not in done.stderr and 'unrecognized arguments' not in done.stderr, done.stderr


@pytest.mark.parametrize(
  'arguments,message',
  [
    (('--backend=xpk',), 'needs --cluster and --device_type'),
    (('--backend=slurm', '--grid=config.optimizer.weight_dcay=1'), 'did you mean weight_decay'),
  ],
)
def test_bad_input_is_one_line(arguments, message, tmp_path):
  done = _sweep(
    '--config=experiments/digits.py', f'--workdir={tmp_path}/w', '--dry_run', *arguments
  )
  assert done.returncode == 2 and message in done.stderr, done.stderr
  assert done.stderr.count('\n') == 1 and not (tmp_path / 'w').exists()


@pytest.mark.parametrize('grid', ['optimizer.weight_decay=1', 'config.a.b=1,1', 'config.a='])
def test_a_grid_that_is_none_is_refused(grid):
  with pytest.raises(UserError, match='--grid='):
    sweep.expand([grid])


def test_names_that_clusters_accept():
  names = ['A_b', 'a-b', 'a.b', 'x' * 60, 'x' * 61, '0-first']
  short = [backends.short_name(name) for name in names]
  assert len(set(short)) == len(names) and short[1] == 'a-b'
  for name in short:
    assert len(name) <= 40 and name[0].isalpha() and name.replace('-', 'a').isalnum()


def test_points_of_a_grid():
  assert sweep.expand([]) == [('', ())]
  assert sweep.expand(['config.a.b=1,2', '--config.c=x/y']) == [
    ('b1-cx_y', ('--config.a.b=1', '--config.c=x/y')),
    ('b2-cx_y', ('--config.a.b=2', '--config.c=x/y')),
  ]


@dataclasses.dataclass(frozen=True)
class _Job:
  name: str
  workdir: str
  command: list[str]
  steps: int = 8

  @property
  def log(self) -> str:
    return f'{self.workdir}/log.txt'


def test_six_jobs_here_of_which_one_fails(tmp_path, capsys):
  """Each job is a process; the fourth breaks."""
  record = json.dumps(records.make_record('autoregressive', 0))
  jobs = []
  for i in range(6):
    workdir = tmp_path / 'runs' / f'job{i}'
    program = f'open({str(workdir / "run.json")!r}, "w").write({record!r})'
    if i == 3:
      program = 'import sys; print("the reason"); sys.exit(7)'
    jobs.append(_Job(f'job{i}', str(workdir), [sys.executable, '-c', program]))
  sweep.flags.FLAGS.mark_as_parsed()
  assert sweep._run_here(jobs, str(tmp_path), dict(os.environ)) == 1
  out, err = capsys.readouterr()
  assert '5 of 6 runs are done' in out
  assert 'FAILED job3: exit code 7: the reason' in err and err.count('FAILED') == 1
  found = {row['name']: row['state'] for row in status.survey(str(tmp_path), 60, 0)}
  assert found == {f'job{i}': 'waiting' if i == 3 else 'done' for i in range(6)}


def _write(where, now, *, steps=10, said=None, rows=(), done=False, age=0.0):
  where.mkdir(parents=True)
  (where / 'config.json').write_text(json.dumps({'config': {'training': {'steps': steps}}}))
  (where / 'metrics.jsonl').write_text(''.join(json.dumps(row) + '\n' for row in rows))
  if said:
    (where / 'state.json').write_text(json.dumps(said))
  if done:
    (where / 'run.json').write_text('{}')
  for path in where.iterdir():
    os.utime(path, (now - age, now - age))


def test_status_of_every_kind_of_run(tmp_path):
  now, runs = 1e9, tmp_path / 'p1' / 'runs'
  rows = [{'step': step, 'wall': 100.0 + 3 * step} for step in (2, 4, 6)]
  _write(runs / 'a', now, done=True)
  _write(runs / 'b', now, said={'state': 'running'}, rows=rows, age=30)
  _write(runs / 'c', now, said={'state': 'running'}, rows=rows, age=700)
  _write(runs / 'd', now, said={'state': 'preempted'}, rows=rows[:1])
  _write(runs / 'e', now, said={'state': 'failed', 'reason': 'TrainingError: step 3'})
  planned = [{'name': f'p1/{name}', 'workdir': str(runs / name), 'steps': 10} for name in 'abf']
  (tmp_path / 'sweep.json').write_text(json.dumps({'runs': planned}))
  found = {row['name'][-1]: row for row in status.survey(str(tmp_path), 600, now)}
  states = {name: row['state'] for name, row in found.items()}
  assert states == {'a': 'done', 'b': 'running', 'c': 'silent', 'd': 'preempted', 'e': 'failed',
                    'f': 'waiting'}  # fmt: skip
  assert found['b']['step'] == 6 and found['b']['seconds_left'] == pytest.approx(4 * 3)
  assert found['c']['reason'] == 'nothing written for 12 min'
  assert found['d']['step'] == 2 and found['f']['seconds_left'] is None
  shown = status.table(list(found.values()))
  assert shown.splitlines()[-1] == ('1 done, 1 running, 1 silent, 1 preempted, 1 failed, 1 waiting')
  assert 'TrainingError: step 3' in shown
  with pytest.raises(UserError, match='does not exist'):
    status.survey(str(tmp_path / 'nowhere'), 600, now)
