"""What a sweep starts, word for word, and what reports.status sees of it."""

import dataclasses
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys

from absl import flags as absl_flags
import pytest
import records
import tiny

from launch import entry, sweep
from pods import backends
from reports import status
from reports.errors import ReportError
from runs import plan, pool, run
from runs import sweep as runs_sweep
from runs.errors import UserError
from training.errors import Preempted

ROOT = pathlib.Path(__file__).parent.parent
GOLDEN = pathlib.Path(__file__).parent / 'golden'
SETTINGS = {
  'slurm': (
    '--backend=slurm', '--gpus_per_node=4', '--nodes=2', '--partition=long',
    '--repository=/home/me/b&p', '--python=.venv/bin/python',
  ),
  'xpk': (
    '--backend=xpk', '--cluster=c', '--device_type=v5litepod-16', '--num_slices=2', '--project=p',
    '--zone=us-west4-a', '--docker_image=gcr.io/p/bits', '--repository=/code',
  ),
  'gcloud': (
    '--backend=gcloud', '--zone=us-west4-a', '--tpu_name=pod', '--repository=code',
    '--python=.venv/bin/python',
  ),
  'gcloud_queued': (
    '--backend=gcloud', '--zone=us-west4-a', '--device_type=v5litepod-8', '--spot', '--project=p',
    '--runtime_version=tpu-ubuntu', '--num_slices=2', '--repository=code',
    "--setup=test -d code || git clone 'https://x.org/a b' code; pip install './code[tpu,gcs]'",
  ),
}  # fmt: skip


def _sweep(*arguments):
  """launch.sweep in this process: several of the words of its command line."""
  values = absl_flags.FlagValues()
  sweep.define_flags(values)
  rest, overrides = entry.config_overrides(['sweep', *arguments])
  values(rest)
  return sweep.main(['sweep'], overrides, values)


@pytest.fixture(autouse=True)
def _same_platform_afterwards(monkeypatch):
  monkeypatch.setenv('JAX_PLATFORMS', 'cpu')  # launch.sweep sets it for itself


@pytest.mark.parametrize('name', SETTINGS)
def test_what_would_run_word_for_word(name, tmp_path, monkeypatch, capsys):
  """Of four runs whose data no one has prepared here."""
  shutil.copy(ROOT / 'experiments' / 'fashion_mnist.py', tmp_path / 'my experiment.py')
  monkeypatch.chdir(tmp_path)
  code = _sweep(
    '--config=my experiment.py', "--workdir=gs://bucket/it's a sweep",
    '--objectives=autoregressive', '--seeds=0,1', '--grid=config.optimizer.weight_decay=0.0,0.1',
    *SETTINGS[name], '--dry_run', '--config.data.name=a "quoted" $HOME',
  )  # fmt: skip
  out, err = capsys.readouterr()
  assert code == 0 and 'the data is not looked at' in err
  assert out == (GOLDEN / f'sweep_{name}.txt').read_text()
  # Whatever the shells make of it, the run gets the words that were meant.
  interpreter = '.venv/bin/python' if name in ('slurm', 'gcloud') else 'python'
  expected = [
    interpreter, '-m', 'launch.train', '--config=my experiment.py:autoregressive',
    "--workdir=gs://bucket/it's a sweep/weight_decay0.0/runs/autoregressive-seed0",
    '--data_dir=~/tensorflow_datasets', '--config.data.name=a "quoted" $HOME',
    '--config.optimizer.weight_decay=0.0', '--config.training.seed=0', '--distributed=auto',
  ]  # fmt: skip
  if name == 'slurm':
    script = tmp_path / 'sweep_scripts' / 'sweep.sbatch'
    assert _is_a_script(script)
    assert script.read_text().startswith('#!/bin/bash\n#SBATCH --job-name=')
    array = script.read_text().split('commands=(')[1].split('\n)')[0]
    assert len(shlex.split(array)) == 4 and shlex.split(shlex.split(array)[0]) == expected
  elif name == 'gcloud_queued':
    scripts = sorted((tmp_path / 'sweep_scripts').glob('*.sh'))
    assert len(scripts) == 4 and all(map(_is_a_script, scripts))
    assert shlex.split(scripts[0].read_text().split('); do ')[1].split('; code')[0]) == expected
  else:
    (line,) = [w for w in shlex.split(out.splitlines()[0]) if w.startswith('--command=')]
    assert '\n' not in line
    inner = re.split('; do | exec ', line)[1].split('; code')[0]
    assert shlex.split(inner) == expected


def _is_a_script(path) -> bool:
  """Whether bash can read it, and whether shellcheck, where there is one, has no complaint."""
  commands = [['bash', '-n', str(path)]]
  if shutil.which('shellcheck'):
    # What bash -c is handed is a command of words that shlex quoted.
    commands.append(['shellcheck', '--exclude=SC2016', str(path)])
  return all(subprocess.run(command, check=False).returncode == 0 for command in commands)


def test_the_slurm_script_runs_its_own_task_and_requeues_it(tmp_path):
  """The script in a real shell; srun and scontrol are stand-ins that do what Slurm's do."""
  tools, said = tmp_path / 'bin', tmp_path / 'said'
  tools.mkdir()
  # The task stops as on SIGTERM, which also reaches the script, as when a job is preempted.
  (tools / 'srun').write_text('#!/bin/bash\nkill -TERM $PPID\nshift\n"$@"\n')
  (tools / 'scontrol').write_text(f'#!/bin/bash\necho "$@" >> {said}\n')
  for tool in tools.iterdir():
    tool.chmod(0o755)
  codes = {0: 42, 1: 5, 2: 0, 3: 3, 4: 134, 5: 137, 6: 143, 7: 2}
  runs = [
    plan.PlannedRun(
      f'r{i}', '', None, [sys.executable, '-c', f"print('it is {i}'); raise SystemExit({c})"]
    )
    for i, c in codes.items()
  ]
  values = absl_flags.FlagValues()
  sweep.define_flags(values)
  values(['sweep', f'--repository={tmp_path}'])
  script = tmp_path / 'sweep.sbatch'
  script.write_text(backends.slurm(runs, values).scripts['sweep.sbatch'])
  for i, code in codes.items():
    environment = {**os.environ, 'PATH': f'{tools}:{os.environ["PATH"]}'}
    environment |= {'SLURM_ARRAY_JOB_ID': '77', 'SLURM_ARRAY_TASK_ID': str(i)}
    done = subprocess.run(['bash', str(script)], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (code, f'it is {i}\n'), done.stderr
  assert said.read_text() == ''.join(f'requeue 77_{i}\n' for i in (0, 3, 4, 5, 6))
  environment |= {'SLURM_ARRAY_TASK_ID': '0', 'SLURM_RESTART_COUNT': '100'}
  subprocess.run(['bash', str(script)], env=environment, capture_output=True, check=False)
  assert said.read_text().count('77_0') == 1


@pytest.mark.parametrize('last', [0, 2, 5, 139])
def test_a_run_that_was_stopped_is_started_again_and_another_is_not(last, tmp_path):
  """The loop of the gcloud backend, run by a real shell, which sleeps for no time."""
  codes, count = [42, 3, 134, 137, 143, last], tmp_path / 'count'
  count.write_text('')
  (tmp_path / 'run').write_text(
    f'#!/bin/bash\ncodes=({" ".join(map(str, codes))})\nn=$(wc -c < count)\nprintf x >> count\n'
    'exit ${codes[$n]}\n'
  )
  (tmp_path / 'run').chmod(0o755)
  for restarts, runs in ((100, 6), (2, 3)):
    count.write_text('')
    line = f'sleep() {{ :; }}; {backends.again(["./run"], restarts)}'
    done = subprocess.run(['bash', '-c', line], cwd=tmp_path, check=False)
    assert len(count.read_text()) == runs and done.returncode == codes[runs - 1]


@pytest.mark.skipif(not shutil.which('xpk'), reason='xpk is not installed')
def test_xpk_makes_of_our_command_a_job_set_that_restarts_on_42(tmp_path):
  line = (GOLDEN / 'sweep_xpk.txt').read_text().splitlines()[0]
  manifest = tmp_path / 'job_set.yaml'
  done = subprocess.run(
    [*shlex.split(line), '--dry-run', '--skip-validation', f'--output-manifest-file={manifest}'],
    env={**os.environ, 'HOME': str(tmp_path)}, capture_output=True, text=True,
  )  # fmt: skip
  assert done.returncode == 0, done.stderr
  text = manifest.read_text()
  command = next(w for w in shlex.split(line) if w.startswith('--command='))
  assert f'({command.removeprefix("--command=")}) & PID=$!;' in text
  restarts = re.search(r'operator: NotIn\s+values: \[([\d,]+)\]', text)[1].split(',')
  assert {'3', '42', '134', '137', '143'} <= set(restarts) and not {'1', '2'} & set(restarts)
  assert 'replicas: 2' in text and 'maxRestarts: 100' in text


@pytest.mark.parametrize(
  'arguments,message',
  [
    (('--backend=xpk',), 'needs --cluster and --device_type'),
    (('--backend=xpk', '--cluster=c', '--device_type=t'), '--docker_image, which holds this code'),
    (('--backend=gcloud',), 'needs --zone and --device_type and --runtime_version'),
    (('--backend=gcloud', '--zone=z', '--tpu_name=t', '--num_slices=2'), 'is one slice'),
    (('--backend=gcloud', '--workdir=results'), 'must be gs://... or absolute'),
    (('--backend=slurm', '--partition=a b'), '"a b" is no partition'),
    (('--backend=slurm', '--data_dir=a\nb'), 'line break'),
    (('--backend=slurm', '--grid=config.optimizer.weight_dcay=1'), 'did you mean weight_decay'),
    (('--backend=slurm', '--config.training.steps=0'), 'steps must be at least 1'),
    (('--backend=slurm', '--config.objective.ratio=2.0'), 'ratio'),
  ],
)
def test_bad_input_is_one_line_and_starts_nothing(arguments, message, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  config = ROOT / 'experiments' / 'digits.py'
  base = [f'--config={config}', f'--workdir={tmp_path}/w', '--objectives=masked']
  with pytest.raises(UserError) as caught:
    _sweep(*base, *arguments)
  assert message in str(caught.value) and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
  'grid',
  ['optimizer.weight_decay=1', 'config.a.b=1,1', 'config.a=', 'config.a=x/y,x_y']
  + ['config.training.seed=1,2'],
)
def test_a_grid_that_is_none_is_refused(grid):
  with pytest.raises(UserError, match='--grid='):
    runs_sweep.expand([grid])


def test_names_that_clusters_accept():
  names = ['A_b', 'a-b', 'a.b', 'x' * 60, 'x' * 61, '0-first']
  short = [backends.short_name(name) for name in names]
  assert len(set(short)) == len(names) and short[1] == 'a-b'
  for name in short:
    assert len(name) <= 40 and name[0].isalpha() and name.replace('-', 'a').isalnum()


def test_points_of_a_grid():
  assert runs_sweep.expand([]) == [('', ())]
  assert runs_sweep.expand(["config.probe.suite=('knn','mlp'),()"]) == [
    ('suite_knn_mlp_', ("--config.probe.suite=('knn','mlp')",)),
    ('suite_', ('--config.probe.suite=()',)),
  ]
  assert runs_sweep.expand(['config.a.b=1,2', '--config.c=x/y']) == [
    ('b1-cx_y', ('--config.a.b=1', '--config.c=x/y')),
    ('b2-cx_y', ('--config.a.b=2', '--config.c=x/y')),
  ]


def test_six_runs_here_of_which_one_fails(tmp_path, monkeypatch, capsys):
  """One is a real launch.train, and one fails in it; the others only leave a record."""
  real, broken = 'untrained-seed1', 'untrained-seed3'
  (tmp_path / 'runs' / broken).mkdir(parents=True)
  (tmp_path / 'runs' / broken / 'checkpoints').write_text('')  # a directory must go there
  run_all = pool.run_all

  def some_by_stand_ins(runs, *rest):
    def stand_in(planned):
      record = json.dumps(records.make_record('untrained', planned.config.training.seed))
      program = f'open({planned.workdir + "/run.json"!r}, "w").write({record!r})'
      return dataclasses.replace(planned, command=[sys.executable, '-c', program])

    return run_all([r if r.name in (real, broken) else stand_in(r) for r in runs], *rest)

  monkeypatch.setattr(pool, 'run_all', some_by_stand_ins)
  monkeypatch.setenv('PYTHONPATH', str(ROOT))
  code = _sweep(
    f'--config={ROOT}/experiments/noise.py', f'--workdir={tmp_path}', '--jobs=2',
    '--objectives=untrained', '--seeds=0,1,2,3,4,5', *tiny.OVERRIDES[:3],
    '--config.probe_data.name=', '--config.data.held_out=20',
  )  # fmt: skip
  out, err = capsys.readouterr()
  assert code == 1 and f'5 of 6 runs are done: {tmp_path}' in out, err
  assert err.count('FAILED') == 1 and f'FAILED {broken}: exit code 2: ' in err
  assert json.loads((tmp_path / 'runs' / real / 'run.json').read_text())['seed'] == 1
  rows = {row['name']: row for row in status.survey(str(tmp_path), 60, 0)}
  states = {name: row['state'] for name, row in rows.items()}
  assert states == {f'untrained-seed{i}': 'failed' if i == 3 else 'done' for i in range(6)}
  assert rows[broken]['reason'].startswith('exit code 2: train: ')
  assert f'{broken}/checkpoints' in rows[broken]['reason']


def _write(where, now, *, steps=10, said=None, rows=(), done=False, age=0.0):
  where.mkdir(parents=True)
  (where / 'config.json').write_text(json.dumps({'config': {'training': {'steps': steps}}}))
  (where / 'metrics.jsonl').write_text(''.join(json.dumps(row) + '\n' for row in rows))
  if said:
    (where / 'state.json').write_text(json.dumps(said))
  if done:
    (where / 'run.json').write_text('{"schema": 1}')
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
  planned = [{'name': f'p1/{name}', 'workdir': f'p1/runs/{name}', 'steps': 10} for name in 'abf']
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
  # A copy, of a bucket say, shows the same.
  shutil.copytree(tmp_path / 'p1', tmp_path / 'copy' / 'p1')
  shutil.copy(tmp_path / 'sweep.json', tmp_path / 'copy')
  assert status.survey(str(tmp_path / 'copy'), 600, now) == list(found.values())
  inside = status.survey(str(tmp_path / 'p1' / 'runs'), 600, now)
  begun = {path.parent.name for path in (tmp_path / 'p1' / 'runs').glob('*/config.json')}
  assert begun and {row['name'] for row in inside} == begun
  with pytest.raises(ReportError, match='does not exist'):
    status.survey(str(tmp_path / 'nowhere'), 600, now)
  (tmp_path / 'empty').mkdir()
  with pytest.raises(ReportError, match='empty holds no run and no sweep.json'):
    status.survey(str(tmp_path / 'empty'), 600, now)
  for text in ('{"runs": [1]}', '{"runs": [{"name": "a"}]}', '[]', '{'):
    (tmp_path / 'empty' / 'sweep.json').write_text(text)
    with pytest.raises(ReportError, match='sweep.json cannot be read'):
      status.survey(str(tmp_path / 'empty'), 60, 0)


def test_a_plan_keeps_what_was_planned_before(tmp_path):
  def planned(seed):
    name = f'untrained-seed{seed}'
    where = str(tmp_path / 'runs' / name)
    return plan.PlannedRun(name, where, tiny.config('untrained'), ['python', str(seed)])

  plan.write_manifest([planned(0), planned(1)], str(tmp_path))
  plan.write_manifest([planned(1), planned(2)], str(tmp_path))
  rows = json.loads((tmp_path / 'sweep.json').read_text())['runs']
  assert [row['workdir'] for row in rows] == [f'runs/untrained-seed{i}' for i in range(3)]
  assert rows[2]['command'] == ['python', '2']
  found = status.survey(str(tmp_path), 60, 0)
  assert [(row['state'], row['steps']) for row in found] == [('waiting', 0)] * 3


def test_a_run_that_can_not_begin_says_why(tmp_path):
  with pytest.raises(UserError), run.telling(str(tmp_path)):
    assert json.loads((tmp_path / 'state.json').read_text())['state'] == 'running'
    raise UserError('no data here')
  said = json.loads((tmp_path / 'state.json').read_text())
  assert said == {'state': 'failed', 'reason': 'no data here', 'goes_on': False}
  with pytest.raises(Preempted), run.telling(str(tmp_path)):
    raise Preempted('stopped')
  (row,) = status.survey(str(_under(tmp_path)), 60, 0)
  assert row['state'] == 'preempted'


def _under(where):
  """A directory with `where` as its only run."""
  (where / 'config.json').write_text('{}')
  return where
