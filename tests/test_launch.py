"""The binaries as a user meets them: processes, exit codes, one-line errors, a real TensorBoard."""

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request

import in_process
import numpy as np
import pytest
import tiny

from probes import knn
from reports import report
from runs import assessment, configs, probing, recorded, run
from runs.errors import UserError
from training import metrics

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
ENVIRONMENT = {**os.environ, 'JAX_PLATFORMS': 'cpu', 'PYTHONPATH': ROOT}


def _start(module: str, *arguments: str) -> subprocess.Popen:
  return subprocess.Popen(
    [sys.executable, '-m', f'launch.{module}', *arguments],
    cwd=ROOT,
    env=ENVIRONMENT,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def _finish(process: subprocess.Popen) -> tuple[int, str, str]:
  out, err = process.communicate(timeout=900)
  return process.returncode, out, err


def _train(workdir, data_dir, *overrides, objective='masked_diffusion'):
  config = f'--config=experiments/digits.py:{objective}'
  return _start(
    'train', config, f'--workdir={workdir}', f'--data_dir={data_dir}', *tiny.OVERRIDES, *overrides
  )


def _wait_for_step(workdir, step: int) -> None:
  path = os.path.join(str(workdir), 'metrics.jsonl')
  for _ in range(4800):
    rows = metrics.read_curve(path)
    if rows and rows[-1]['step'] >= step:
      return
    time.sleep(0.0125)
  raise AssertionError(f'{workdir} never reached step {step}')


def test_sigterm_then_kill_then_resume_equals_uninterrupted(data_dir, tmp_path, capsys):
  long = ('--config.training.steps=200', '--config.checkpoints.every=40')
  # Evaluations take most of the time of such small steps.
  long += (
    '--config.evaluators.validation.every=20',
    *tiny.PICTURES,
    '--config.evaluators.probe.every=100',
  )
  whole, broken = tmp_path / 'whole', tmp_path / 'broken'
  run.execute(tiny.build(data_dir, 'masked_diffusion', *long), str(whole))

  process = _train(broken, data_dir, *long)
  _wait_for_step(broken, 45)
  process.send_signal(signal.SIGTERM)
  code, _, err = _finish(process)
  assert code == 42 and 'run the same command to go on' in err and 'Traceback' not in err

  process = _train(broken, data_dir, *long)
  _wait_for_step(broken, 90)
  process.kill()
  assert _finish(process)[0] == -signal.SIGKILL

  code, out, err = _finish(_train(broken, data_dir, *long))
  assert code == 0 and 'bits/dim' in out, err
  first, second = (configs.read_record(str(d)) for d in (whole, broken))
  for name in ('bits_per_dim', 'tokens_scored', 'validation', 'clipped_fraction', 'probes'):
    assert first[name] == second[name], name
  arrays = [recorded.read_arrays(str(d)) for d in (whole, broken)]
  for name in arrays[0]:
    np.testing.assert_array_equal(arrays[0][name], arrays[1][name])
  curves = [metrics.read_curve(str(d / 'metrics.jsonl')) for d in (whole, broken)]
  timed = ('wall', 'tokens_per_second', 'input_fraction')
  stripped = [[{k: v for k, v in row.items() if k not in timed} for row in c] for c in curves]
  assert stripped[0] == stripped[1]

  again = ('--config=experiments/digits.py:masked_diffusion', f'--workdir={broken}')
  again += (f'--data_dir={data_dir}', *tiny.OVERRIDES, *long)
  in_process.call('train', *again)
  assert 'is finished' in capsys.readouterr().out
  with pytest.raises(UserError, match='optimizer.learning_rate 0.002 -> 0.1'):
    in_process.call('train', *again, '--config.optimizer.learning_rate=0.1')


@pytest.fixture(scope='module')
def comparison(data_dir, tmp_path_factory):
  """A tiny comparison in which the runs at one learning rate must fail."""
  workdir = tmp_path_factory.mktemp('comparison')
  arguments = (
    '--config=experiments/digits.py',
    f'--workdir={workdir}',
    f'--data_dir={data_dir}',
    '--objectives=autoregressive,masked,untrained',
    '--seeds=0',
    '--learning_rates=0.002,1e30',
    '--config.objective.ratio=0.5',
    *tiny.OVERRIDES,
  )
  return workdir, arguments, _finish(_start('compare', *arguments))


def test_a_failing_run_costs_only_itself(comparison):
  workdir, _, (code, out, err) = comparison
  assert code == 1
  assert 'Traceback' not in err
  failed = [line for line in err.splitlines() if line.startswith('FAILED')]
  assert len(failed) == 2
  assert all('lr1e+30' in line and 'log.txt' in line for line in failed)
  assert re.search(r'autoregressive-lr1e\+30-seed0: .*step \d+: ', failed[0])
  results = json.load(open(workdir / 'results.json'))
  assert sorted(r['objective'] for r in results['runs']) == [
    'autoregressive',
    'masked',
    'untrained',
  ]
  masked = next(r for r in results['runs'] if r['objective'] == 'masked')
  assert masked['bits_per_dim'] is None and masked['code'] == 'none'
  assert masked['settings']['ratio'] == 0.5
  assert 0.9 < results['controls']['raw']['linear']['all']['accuracy'] < 1
  assert (workdir / 'report.html').exists() and 'n/a' in out
  assert 'step' not in err.split('FAILED')[0]  # no progress bars off a terminal


def test_a_second_time_only_the_report_is_made(comparison):
  workdir, arguments, _ = comparison
  stamps = {p: p.stat().st_mtime_ns for p in workdir.glob('runs/*/run.json')}
  assert len(stamps) == 3
  fewer = [a.replace('0.002,1e30', '0.002') for a in arguments]
  code, out, err = _finish(_start('report', str(workdir)))
  assert code == 0, err
  assert 'autoregressive' in out
  assert stamps == {p: p.stat().st_mtime_ns for p in workdir.glob('runs/*/run.json')}
  code, out, _ = _finish(_start('compare', *fewer))
  assert code == 0 and '3 of 3 runs are done already' in out
  assert stamps == {p: p.stat().st_mtime_ns for p in workdir.glob('runs/*/run.json')}


def _results_shown(directory) -> tuple[set[str], set[str]]:
  """Names of results that TensorBoard has of a run: values, and columns of HParams."""
  from tensorboard.backend.event_processing import event_accumulator
  from tensorboard.plugins.hparams import metadata

  events = event_accumulator.EventAccumulator(str(directory))
  events.Reload()
  declared = metadata.parse_experiment_plugin_data(
    events.PluginTagToContent(metadata.PLUGIN_NAME)[metadata.EXPERIMENT_TAG]
  )
  columns = {info.name.tag for info in declared.metric_infos}
  return {tag for tag in events.Tags()['scalars'] if tag.startswith('final/')}, columns


def test_probing_again_gives_the_same_and_takes_new_settings(comparison, data_dir, capsys):
  workdir, _, _ = comparison
  directory = workdir / 'runs' / 'autoregressive-lr0.002-seed0'
  before = configs.read_record(str(directory))
  controls = json.loads((workdir / 'controls.json').read_text())
  assert (
    controls['majority'] == before['majority'] and 0.05 < controls['majority']['accuracy'] < 0.2
  )
  again = ('--workdir', str(directory), f'--data_dir={data_dir}')
  code, _, err = _finish(_start('probe', *again))
  assert code == 0, err
  assert configs.read_record(str(directory)) == before
  values, columns = _results_shown(directory)
  linear = {f'final/probe/linear/{labels}_labels' for labels in ('10', '40', 'all')}
  assert linear <= values and values <= columns
  # What is not measured any more leaves TensorBoard, and the curve of training stays.
  in_process.call('probe', *again, '--config.probe.linear.labels=20')
  assert sorted(configs.read_record(str(directory))['probes']['linear']) == ['20', 'all']
  again_values, again_columns = _results_shown(directory)
  assert (
    values - again_values == columns - again_columns == linear - {'final/probe/linear/all_labels'}
  )
  assert again_values - values == {'final/probe/linear/20_labels'}
  events = directory.glob('events*')
  assert sum(b'train/loss' in path.read_bytes() for path in events) == 1
  capsys.readouterr()
  in_process.call('probe', *again, '--config.probe.linear.labels=5')
  out = capsys.readouterr().out
  assert 'linear probe with 5 labels is left out: fewer than the 10' in out
  other = {'probes_by_level': {'clean': {}}, 'latents': None, 'at_best': {'probes': {'knn': {}}}}
  assert probing._stays(before) == [] and 'as they were' not in out
  told = 'as they were, by earlier settings: probes_by_level, the best checkpoint'
  assert probing._stays(other) == [told]
  left_out = configs.read_record(str(directory))['probes']['left_out']
  assert left_out == {'linear': {'5': 'fewer than the 10 classes'}}
  with pytest.raises(UserError, match='only config.probe'):
    in_process.call('probe', *again, '--config.model.width=8')


def test_a_probe_that_fails_keeps_what_there_was(
  comparison, data_dir, tmp_path, monkeypatch, capsys
):
  directory = tmp_path / 'run'
  shutil.copytree(comparison[0] / 'runs' / 'masked-lr0.002-seed0', directory)
  both = ('probe', '--workdir', str(directory), f'--data_dir={data_dir}', _BOTH)
  best = (*both, '--checkpoint=best')
  in_process.call(*both)
  in_process.call(*best)
  before = configs.read_record(str(directory))
  assert set(before['probes']) == set(before['at_best']['probes']) == {'linear', 'knn'}

  def lost(*_):
    raise MemoryError('no room')

  with monkeypatch.context() as patch:
    patch.setattr(knn, 'evaluate', lost)
    in_process.call(*best, '--config.probe.linear.labels=20')
    after = configs.read_record(str(directory))
    assert after['probes_failed'] == {'knn at best': 'MemoryError: no room'}
    assert after['at_best']['probes']['knn'] == before['at_best']['probes']['knn']
    assert set(after['at_best']['probes']['linear']) == {'20', 'all'}
    in_process.call(*both, '--config.probe.knn.neighbours=(1,)')
  after = configs.read_record(str(directory))
  assert set(after['probes_failed']) == {'knn', 'knn at best'}
  assert after['probes']['knn'] == before['probes']['knn']
  own = [one['settings_of_results']['probe']['knn'] for one in (before, after)]
  assert own[0] == own[1]  # What made it.
  notes = report.build([directory], tmp_path)['notes']
  (told,) = (note for note in notes if 'probe knn failed' in note)
  assert told.endswith(
    'failed when it was made again; what there was before stands: MemoryError: no room'
  )
  in_process.call(*best)
  assert set(configs.read_record(str(directory))['probes_failed']) == {'knn'}
  in_process.call(*both[:3], "--config.probe.suite=('linear',)")
  after = configs.read_record(str(directory))
  assert set(after['probes']) == {'linear'} and not after['probes_failed']
  # Damaged predictions are told before anything is probed.
  arrays = directory / 'arrays.npz'
  arrays.write_bytes(arrays.read_bytes()[:2000])
  monkeypatch.setattr(assessment, 'probe', lost)
  for command in (both, ('finetune', *both[1:4])):
    with pytest.raises(UserError, match='arrays.npz can not be read'):
      in_process.call(*command)


def test_the_linear_share_is_of_the_probes_that_stand():
  """One of them is of earlier settings where it failed later."""
  kept = {'linear': {'all': {}}, 'mlp': {'all': {'linear_share': 1.4, 'above_1': True}}}
  bits = {'linear/all/usable_bits': np.full(4, 0.2), 'mlp/all/usable_bits': np.full(4, 0.8)}
  probing._share(kept, bits)
  assert kept['mlp']['all'] == {'linear_share': 0.25, 'linear_share_stderr': 0.0, 'above_1': False}
  probing._share(kept, {name: bits[name] for name in list(bits)[:1]})
  assert kept['mlp']['all'] == {}
  probing._share({'linear': {}}, bits)


def test_what_failed_before_is_told_until_it_is_made_or_gone():
  before = {'finetune': 'a', 'knn': 'b', 'knn at best': 'c', 'levels': 'd'}
  rest = {'knn at best': 'c', 'levels': 'd'}
  # Fine-tuning stays where nobody asked for it, and so does its failure; kNN's result is gone.
  assert probing._failed(before, {}, '', {'finetune'}) == {'finetune': 'a', **rest}
  assert probing._failed(before, {}, '', ()) == rest  # It was made, or was never there.
  told = {'finetune': 'a', 'knn': 'e', **rest}
  assert probing._failed(before, {'knn': 'e'}, '', {'finetune', 'knn'}) == told
  assert probing._failed(before, {}, ' at best', ()) == {
    name: why for name, why in before.items() if name != 'knn at best'
  }


_BOTH = "--config.probe.suite=('linear','knn')"


def test_exported_features_are_probed_like_the_run(comparison, data_dir, tmp_path, capsys):
  workdir, _, _ = comparison
  directory = workdir / 'runs' / 'masked-lr0.002-seed0'
  path = tmp_path / 'features.npz'
  arguments = ('--workdir', str(directory), f'--data_dir={data_dir}', f'--export={path}')
  in_process.call('probe', *arguments)
  assert str(path) in capsys.readouterr().out
  settings = [argument for argument in tiny.OVERRIDES if argument.startswith('--config.probe')]
  settings.append('--config.probe.linear.few_l2=0.01,1.0')
  suite = "--config.probe.suite=('linear','ridge','knn','geometry','pac')"
  settings = [argument for argument in settings if 'suite' not in argument] + [suite]
  code, out, err = _finish(_start('probe', f'--features={path}', *settings))
  assert code == 0, err
  assert 'ridge' in out and 'vacuous' in out
  found = json.load(open(tmp_path / 'features_probes' / 'probes.json'))
  assert found['features']['layers'] == 2 and found['features']['examples']['train'] == 1197
  assert found['probes']['linear'] == configs.read_record(str(directory))['probes']['linear']
  assert set(found['probes']) == {'linear', 'ridge', 'knn', 'geometry', 'pac'}
  assert list((tmp_path / 'features_probes').glob('events*'))
  # What the file can't hold, and what it gets wrong.
  path.write_bytes(path.read_bytes()[:5000])
  for wrong, message in (
    ((f'--features={path}',), 'features.npz is no .npz'),
    ((), 'either --workdir'),
  ):
    code, _, err = _finish(_start('probe', *wrong))
    assert code == 2 and message in err and err.count('\n') == 1, err


def _post(base: str, path: str, body: dict) -> dict:
  request = urllib.request.Request(
    base + path, json.dumps(body).encode(), {'Content-Type': 'application/json'}
  )
  with urllib.request.urlopen(request, timeout=30) as answer:
    return json.load(answer)


def test_tensorboard_lists_every_run_with_its_metrics(comparison):
  workdir, _, _ = comparison
  server = subprocess.Popen(
    [
      sys.executable,
      '-m',
      'tensorboard.main',
      f'--logdir={workdir}',
      '--port=0',
      '--host=127.0.0.1',
    ],
    stderr=subprocess.PIPE,
    text=True,
  )
  try:
    base = None
    for line in server.stderr:
      found = re.search(r'http://\S+?:(\d+)/', line)
      if found:
        base = f'http://127.0.0.1:{found[1]}'
        break
    assert base
    statuses = ['STATUS_UNKNOWN', 'STATUS_SUCCESS', 'STATUS_FAILURE', 'STATUS_RUNNING']
    body = {'startIndex': 0, 'sliceSize': 100, 'allowedStatuses': statuses, 'colParams': []}
    groups = []
    for _ in range(60):
      time.sleep(0.5)
      try:
        groups = _post(base, '/data/plugin/hparams/session_groups', body)['sessionGroups']
      except (urllib.error.HTTPError, KeyError):
        continue
      if len(groups) == 3:
        break
    found = {}
    for group in groups:
      values = {m['name']['tag']: m['value'] for m in group['metricValues']}
      found[group['hparams']['objective']] = values
      assert group['hparams']['optimizer.weight_decay'] == 0.01
      assert group['hparams']['code'] in ('exact', 'none') and not group['hparams']['saw_labels']
      assert (group['hparams']['objective.settings'] == '') == ('untrained' in group['name'])
    assert sorted(found) == ['autoregressive', 'masked', 'untrained']
    for objective, values in found.items():
      rate = '' if objective == 'untrained' else '-lr0.002'
      record = configs.read_record(str(workdir / 'runs' / f'{objective}{rate}-seed0'))
      assert values.get('final/bits_per_dim') == pytest.approx(record['bits_per_dim'])
      accuracy = record['probes']['linear']['all']['accuracy']
      assert values['final/probe/linear/all_labels'] == pytest.approx(accuracy)
    columns = _post(base, '/data/plugin/hparams/experiment', {})['metricInfos']
    assert 'final/bits_per_dim' in [c['name']['tag'] for c in columns]
  finally:
    server.terminate()
    server.wait()


@pytest.mark.parametrize(
  'arguments,expected',
  [
    (['--config=experiments/digits.py:maskd'], 'unknown objective.*known: autoregressive'),
    (['--config=experiments/digts.py:masked'], 'experiments/digts.py does not exist'),
    (['--config.optimizer.learning_rte=1'], 'learning_rte; did you mean learning_rate'),
    (['--config.training.steps=many'], "training.steps=many: invalid literal for int.*'many'"),
    (['--config.training.steps=0'], 'training.steps must be at least 1, not 0'),
    (['--config.model.preset=huge'], "unknown model.preset 'huge'; known: nano"),
    (['--config.data.name=digit'], 'unknown data set.*did you mean digits'),
    (['--config.objective.ratio=2.0'], r'objective.ratio must be in \(0, 1\], not 2.0'),
    (['--workdir=/proc/nowhere'], 'workdir /proc/nowhere can not be written'),
    (['--wrkdir=x'], 'unknown flag --wrkdir; did you mean --workdir'),
    (['stray'], "'stray' is not a flag"),
  ],
)
def test_bad_input_is_one_line_and_no_traceback(arguments, expected, data_dir, tmp_path):
  base = [
    '--config=experiments/digits.py:masked',
    f'--data_dir={data_dir}',
    f'--workdir={tmp_path}/w',
  ]
  code, out, err = _finish(_start('train', *base, *arguments))
  assert code == 2
  assert len(err.strip().splitlines()) == 1
  assert re.search(expected, err), err
  assert not out


def test_compare_refuses_before_anything_starts(data_dir, tmp_path):
  base = ['--config=experiments/digits.py', f'--data_dir={data_dir}', f'--workdir={tmp_path}']
  code, _, err = _finish(_start('compare', *base, '--objectives=autoregressive,bert'))
  assert code == 2 and len(err.strip().splitlines()) == 1, err
  assert "unknown objective 'bert'" in err
  for arguments, expected in [
    (['--seeds=0,0'], '--seeds must name each value once'),
    (['--learning_rates=fast'], '--learning_rates must be a list of numbers'),
    (['--objectives=masked', '--config.objective.rato=1'], 'rato'),
    (['--sizes=nano,huge'], "--sizes: unknown size 'huge'; known: nano, micro"),
  ]:
    with pytest.raises(UserError, match=expected) as caught:
      in_process.call('compare', *base, *arguments)
    assert len(str(caught.value).splitlines()) == 1
  assert not (tmp_path / 'runs').exists()


def test_the_printed_command_holds_the_sizes():
  program = (
    'import sys; from absl import flags; from launch import compare; '
    'compare.define_flags(); flags.FLAGS(sys.argv); '
    'print(compare._command(["--config.training.steps=9"]))'
  )
  arguments = ['--config=experiments/digits.py', '--seeds=0,1', '--sizes=nano,micro']
  command = [sys.executable, '-c', program, *arguments]
  done = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True)
  assert done.stdout.strip() == (
    'python -m launch.compare --config=experiments/digits.py --workdir=DIR --seeds=0,1 '
    '--sizes=nano,micro --config.training.steps=9'
  ), done.stderr


def test_help_is_no_failure():
  files = pathlib.Path(ROOT, 'launch').glob('*.py')
  commands = [file.stem for file in files if '  entry.run(' in file.read_text()]
  assert len(commands) > 15
  for started in [(name, _start(name, '--help')) for name in sorted(commands)]:
    code, out, err = _finish(started[1])
    assert code == 0 and f'python -m launch.{started[0]}' in out and not err, (started[0], err)


def test_print_config_lists_fields_defaults_and_types():
  code, out, _ = _finish(_start('train', '--config=experiments/digits.py:masked', '--print_config'))
  assert code == 0
  lines = dict(line.rsplit(None, 1) for line in out.strip().splitlines())
  assert lines['--config.objective.ratio=0.15'] == 'float'
  assert lines['--config.training.steps=800'] == 'int'
  assert lines['--config.probe.linear.labels=10,40,100,250'] == 'tuple'
