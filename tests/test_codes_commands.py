"""The commands on codes as a user meets them: what they print, keep and refuse."""

import json
import os
import subprocess
import sys

import in_process
import numpy as np
import pytest
import tiny

from codes import compressors
from runs import configs, experiment, recorded, run

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


@pytest.fixture(scope='module')
def workdir(data_dir, tmp_path_factory):
  """A finished tiny autoregressive run with a linear code of 60 labels."""
  place = str(tmp_path_factory.mktemp('codes') / 'run')
  config = tiny.config(
    'autoregressive',
    "--config.probe.suite=('linear','prequential')",
    '--config.probe.prequential.rows=60',
    '--config.probe.prequential.l2=0.1',
  )
  with config.unlocked():
    config.probe.prequential.mlp = None
  run.execute(experiment.build(config, data_dir), place)
  return place


@pytest.fixture
def call(data_dir):
  """call(module, *arguments) -> exit code, what is printed, and errors.

  `first` is Python that the process runs first.
  """

  def start(module, *arguments, first=''):
    program = f'import runpy, sys\nsys.argv[0] = "{module}"\n{first}\n'
    program += f'runpy.run_module("launch.{module}", run_name="__main__")'
    done = subprocess.run(
      [sys.executable, '-c', program, *arguments, f'--data_dir={data_dir}'],
      cwd=ROOT, env={**os.environ, 'JAX_PLATFORMS': 'cpu', 'PYTHONPATH': ROOT},
      capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr

  return start


def test_joint_sets_one_model_beside_the_codes_of_the_run(workdir, tmp_path, call):
  out = str(tmp_path / 'joint.json')
  small = ('--steps=2', '--updates=2', '--label_weights=4')
  code, said, err = call('joint', f'--workdir={workdir}', f'--out={out}', *small)
  assert code == 0, err
  (made,) = json.load(open(out))['runs']
  # Of the order of the labels that all of them share.
  linear = configs.read_record(workdir)['probes']['prequential']['all']['linear_bits_orders'][0]
  assert made['labels'] == 60 and made['others'] == {'(b) frozen, linear': linear}
  assert f'{linear:9,.0f} bits' in said and f'{made["bits"]:9,.0f} bits' in said
  assert '(a) is not there' in said and '(c) is not there' in said
  code, _, err = call('joint', f'--workdir={workdir},{workdir}', *small)
  assert code == 2 and 'names runs of one seed twice: 0, 0' in err
  code, _, err = call('joint', f'--workdir={workdir}', f'--out={tmp_path}/no/where', *small)
  assert code == 2 and 'there is no such directory' in err and err.count('\n') == 1


def test_neighbours_of_few_rows(workdir, tmp_path, call):
  out = str(tmp_path / 'neighbours.json')
  code, said, err = call(
    'neighbours', f'--workdir={workdir}', f'--out={out}', '--compressor=gzip', '--train_rows=20',
    '--validation_rows=10', '--test_rows=10', '--class_steps=2', '--step_sizes=1e-5',
    '--class_step_sizes=1e-3',
  )  # fmt: skip
  assert code == 0, err
  names = ['pixels, kNN', 'gzip, kNN', 'gzip, by class', 'network, kNN', 'network, by class']
  found = json.load(open(out))['classifiers']
  assert list(found) == names and all(name in said for name in names)
  assert found['pixels, kNN']['accuracy'] > 0.3 and found['network, kNN']['chosen']['step'] == 1e-5
  assert f'{100 * found["pixels, kNN"]["accuracy"]:.1f} ± ' in said
  assert '20 labelled training rows, balanced; 10 validation rows choose; 10 test rows' in said


# The counting codes take half a minute for all of the digits.
FEW = """
import dataclasses
from runs import experiment, recorded
read = recorded.read_arrays
recorded.read_arrays = lambda workdir: {'nats': read(workdir)['nats'][:20]}
load = experiment.load_datasets
def few(*arguments):
  whole, probed = load(*arguments)
  parts = {}
  for split, count in (('train', 40), ('test', 20)):
    rows = getattr(whole, split)
    parts[split] = type(rows)(rows.tokens_NxT[:count], rows.labels_N[:count])
  return dataclasses.replace(whole, **parts), probed
experiment.load_datasets = few"""


def test_baselines_beside_the_run(workdir, tmp_path, call):
  out = str(tmp_path / 'baselines.json')
  code, said, err = call('baselines', f'--workdir={workdir}', f'--out={out}', first=FEW)
  assert code == 0, err
  own = configs.read_record(workdir)['bits_per_dim']
  rows = [' '.join(line.split()) for line in said.splitlines()]
  assert any(row.startswith(f'autoregressive (this run) {own:.3f} 0.0') for row in rows)
  made = json.load(open(out))
  less, (after,) = (
    made['against_counting'],
    (row for row in made['table'] if row['name'] == 'counting, our mixture after train'),
  )
  mine = recorded.read_arrays(workdir)['nats'][:20].mean() / 64 / np.log(2)
  assert less['mean'] == pytest.approx(mine - after['bits_per_dim'])
  assert any(row.startswith('uniform 4.087 ') for row in rows) and os.path.getsize(out)
  assert rows[-1].startswith('K(X) ≤ ') and 'on the machine of Python 3.' in rows[-1]


def test_mutual_information_keeps_what_earlier_calls_found(
  tmp_path, call, data_dir, capsys, monkeypatch
):
  monkeypatch.setattr(compressors, 'MISSING', {'squeeze -9': 'squeeze is not installed'})
  out = str(tmp_path / 'shared')
  asked = ('mutual_information', f'--out={out}', '--noneural')
  code, said, err = call(*asked, '--pair=noise', '--rows=60')
  assert code == 0 and '\nnoise: ' in said, err
  for pair, rows in (('labels', 60), ('noise', 400)):
    in_process.call(*asked, f'--pair={pair}', f'--rows={rows}', f'--data_dir={data_dir}')
    said = capsys.readouterr().out
    assert f'\n{pair}: ' in said and said.endswith('\nsqueeze -9: n/a: squeeze is not installed\n')
  found = json.load(open(os.path.join(out, 'results.json')))
  assert [pair['pair'] for pair in found] == ['labels', 'noise']
  assert found[0]['rows'] == 60 and found[1]['rows'] == 400
  # 3,200 symbols of four bits each, and nothing shared but a header.
  xz = next(c for c in found[1]['codes'] if (c['name'], c['layout']) == ('xz', 'whole'))
  assert xz['x'] > 12_800 and abs(xz['shared']['C(Y)-C(Y|X)']) < 0.08 * xz['y']
