"""Settings that can't work, or do nothing, are one clear line before anything runs."""

import json

import numpy as np
import pytest
import tiny

from experiments import imagegpt
from probes import knn, settings
from runs import checks, configs, experiment, plan, recorded, run
from runs import sweep as runs_sweep
from runs.errors import UserError


@pytest.mark.parametrize(
  'override,message',
  [
    ('training.seed=-1', 'training.seed must be from 0 to 4294967295, not -1'),
    ('evaluation.seed=-1', 'evaluation.seed must be from 0'),
    ('optimizer.learning_rate=nan', 'optimizer.learning_rate must be a finite number, not nan'),
    ('optimizer.learning_rate=inf', 'optimizer.learning_rate must be a finite number, not inf'),
    ('optimizer.learning_rate=0.0', 'optimizer.learning_rate must be above 0, not 0.0'),
    ('optimizer.clip_norm=inf', 'optimizer.clip_norm must be a finite number'),
    ('optimizer.beta2=1.0', r'optimizer.beta2 must be in \\[0, 1\\), not 1.0'),
    ('checkpoints.minutes=nan', 'checkpoints.minutes must be a finite number'),
    ('evaluation.samples=-1', 'evaluation.samples must not be negative'),
    ('evaluation.chain_examples=-1', 'evaluation.chain_examples must not be negative'),
    ('model.layers=-1', 'model.layers must not be negative'),
    ('training.microbatches=0', 'training.microbatches must be at least 1'),
  ],
)
def test_numbers_that_can_not_be(override, message):
  with pytest.raises(UserError, match=message.replace('\\\\', '\\')):
    checks.check_settings(configs.override(tiny.config('masked'), [f'--config.{override}']))


def test_words_of_a_tuple_are_told_apart_at_commas():
  config = configs.override(tiny.config('masked'), ['--config.probe.suite=linear,knn'])
  assert config.probe.suite == ('linear', 'knn')
  # What is printed of a config can be given back, field by field.
  for line in configs.describe(config).splitlines():
    shown = line.rpartition(' ')[0].strip()
    name = shown.partition('=')[0].removeprefix('--config.')
    again = dict(configs.fields(configs.override(config, [shown])))
    assert again == dict(configs.fields(config)), name


def test_a_warm_up_longer_than_half_of_the_run_is_refused_before_it_begins(tmp_path, data_dir):
  long = tiny.config('masked', '--config.optimizer.warmup_steps=5')
  with pytest.raises(UserError, match='warmup_steps=5 is more than 50% of training.steps=8'):
    run.open_workdir(str(tmp_path), long)
  assert not list(tmp_path.iterdir())
  run.open_workdir(str(tmp_path), tiny.config('masked', '--config.optimizer.warmup_steps=4'))
  # The presets of ImageGPT warm up for what suits their own length.
  checks.check_run(imagegpt.get_config('autoregressive'))
  with pytest.raises(UserError, match='warmup_steps'):
    checks.check_run(
      configs.override(imagegpt.get_config('autoregressive'), ['--config.training.steps=5000'])
    )
  # What trains nothing warms nothing up.
  checks.check_run(tiny.config('untrained', '--config.optimizer.warmup_steps=50'))
  with pytest.raises(UserError, match="unknown objective 'maskd'; .*; did you mean masked"):
    checks.check_run(tiny.config('untrained', '--config.objective.name=maskd'))
  run.open_workdir(str(tmp_path), tiny.config('masked'))
  (tmp_path / 'checkpoints').mkdir()
  with pytest.raises(UserError, match="unknown objective 'maskd'"):
    run.open_workdir(str(tmp_path), tiny.config('masked', '--config.objective.name=maskd'))


@pytest.mark.parametrize(
  'override,message',
  [
    ('train_rows=9', r'class \d is not among the 9 training labels \(probe.train_rows=9'),
    ('linear.draws=0', 'probe.linear.draws must be at least 1, not 0'),
    ('linear.folds=1', 'probe.linear.folds must be at least 2'),
    ('linear.l2=()', 'probe.linear.l2 must not be empty'),
    ('linear.labels=10,x', "probe.linear.labels must hold numbers, not '10,x'"),
    ('linear.labels=10,0', 'probe.linear.labels must be at least 1, not 0'),
    ('linear.labels=10,2.5', r'probe.linear.labels must be whole, not 2\.5'),
    ("suite=('knn',) --config.probe.knn.neighbours=1.5", r'knn.neighbours must be whole, not 1\.5'),
    ("suite=('prequential',) --config.probe.prequential.orders=0", 'orders must be at least 1'),
    ('linear.l2=1.0,nan', "probe.linear.l2 must hold numbers, not '1.0,nan'"),
    ('linear.folds=41', 'probe.linear.folds must be at most the fewest of its labels, 40, not 41'),
    (
      "suite=('mlp',) --config.probe.mlp.checkpoints=7",
      'probe.mlp.checkpoints must divide its steps, ',
    ),
    ('linear.l2=0.0,1.0', 'probe.linear.l2 must be above 0, not 0.0'),
    ("suite=('linear','rigde')", "probe.suite: unknown probe 'rigde'; known: linear, ridge"),
    ("suite=('mlp',) --config.probe.mlp.steps=0", 'probe.mlp.steps must be at least 1'),
    ("suite=('prequential',) --config.probe.prequential.mlp.hidden=0", 'prequential.mlp.hidden'),
  ],
)
def test_probes_that_can_not_be_fitted_are_found_before_the_first_step(
  override, message, data_dir, tmp_path
):
  overrides = f'--config.probe.{override}'.split(' ')
  built = experiment.build(configs.override(tiny.config('masked'), overrides), data_dir)
  with pytest.raises(UserError, match=message):
    run.execute(built, str(tmp_path / 'run'))
  assert not (tmp_path / 'run').exists()


def test_every_default_can_work(data_dir):
  labels = np.arange(1000) % 10
  config = configs.base.get_base('masked').probe
  settings.check(config, dict.fromkeys(('train', 'validation', 'test'), labels), 10)


def test_probe_settings_may_change_once_training_is_complete(data_dir, tmp_path, monkeypatch):
  workdir = str(tmp_path)

  def build(*overrides):
    config = tiny.config('masked', '--config.probe.levels=False')
    return experiment.build(configs.override(config, overrides), data_dir)

  half = build()
  with monkeypatch.context() as patch:
    patch.setattr(run.assessment, 'assess', lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
      run.execute(half, workdir)
  with pytest.raises(UserError, match='optimizer.learning_rate 0.002 -> 0.1'):
    run.open_workdir(
      workdir,
      build('--config.optimizer.learning_rate=0.1', '--config.probe.linear.draws=1').config,
    )
  record = run.execute(build('--config.probe.linear.labels=20', '--config.evaluation.draws=3'),
                       workdir)  # fmt: skip
  assert set(record['probes']['linear']) == {'all', '20'}
  made_with = record['settings_of_results']
  assert made_with['probe']['linear']['labels'] == [20] and made_with['evaluation']['draws'] == 3
  saved = json.loads((tmp_path / 'config.json').read_text())['config']
  assert saved['probe']['linear']['labels'] == [20]
  # The record is written: launch.probe changes its probes, this does not.
  with pytest.raises(UserError, match='probe.linear.draws 2 -> 1'):
    run.open_workdir(workdir, build('--config.probe.linear.draws=1').config)
  # Whoever leaves test out, as pilots do since some version, does not mind that it was scored.
  same = ('--config.probe.linear.labels=20', '--config.evaluation.test=False')
  run.open_workdir(workdir, build(*same, '--config.evaluation.chain_examples=9').config)
  with pytest.raises(UserError, match='evaluation.validation_draws 1 -> 2; choose'):
    run.open_workdir(workdir, build(*same, '--config.evaluation.validation_draws=2').config)
  with pytest.raises(UserError, match='evaluation.draws 3 -> 2; choose'):
    run.open_workdir(workdir, build('--config.probe.linear.labels=20').config)


def test_before_training_is_complete_they_may_not(tmp_path, data_dir):
  run.open_workdir(str(tmp_path), tiny.config())
  (tmp_path / 'checkpoints' / 'last' / '4').mkdir(parents=True)
  with pytest.raises(UserError, match='probe.linear.draws 2 -> 1'):
    run.open_workdir(
      str(tmp_path), tiny.config('masked_diffusion', '--config.probe.linear.draws=1')
    )


def test_a_probe_that_fails_costs_only_itself(data_dir, tmp_path, monkeypatch):
  def fail(*_):
    raise ValueError('the attentive probe diverged')

  monkeypatch.setattr(knn, 'evaluate', fail)
  suite = "--config.probe.suite=('linear','knn','ridge')"
  record = run.execute(tiny.build(data_dir, 'masked', suite), str(tmp_path))
  assert set(record['probes']) == {'linear', 'ridge'}
  assert record['probes_failed'] == {'knn': 'the attentive probe diverged'}
  assert recorded.summary(record).endswith('; probe knn FAILED: the attentive probe diverged')
  assert configs.read_record(str(tmp_path)) == json.loads(json.dumps(record))


def test_one_run_is_planned_once():
  path = 'experiments/noise.py'
  with pytest.raises(UserError, match='weight_decay0.1 and weight_decay0.10 are the same run'):
    runs_sweep.planned(
      path, ['masked'], [0], None, ['config.optimizer.weight_decay=0.1,0.10'], [], 'w', '', False
    )
  with pytest.raises(UserError, match='their settings look alike'):
    plan.make(path, ['masked'], [0], [1e-3, 1e-3 * (1 + 1e-9)], [], 'w', '', build=False)
  with pytest.raises(UserError, match='training.seed must be from 0'):
    plan.make(path, ['masked'], [0, -1], None, [], 'w', '', build=False)


def test_no_two_backbones_are_of_one_size(data_dir):
  """Runs of one size are averaged."""
  changes = (
    (),
    ('--config.model.shared_layers=True',),
    ('--config.model.mixer=recurrent', '--config.model.state=8'),
    ('--config.model.mixer=recurrent', '--config.model.state=16'),
    ('--config.model.dropout=0.1',),
    ('--config.model.residual=False',),
    ('--config.model.norm=post',),
    ('--config.model.norm=none',),
  )
  sizes = [tiny.build(data_dir, 'autoregressive', *change).size for change in changes]
  assert sizes[:3] == ['L1D16H2', 'L1D16H2, shared', 'L1D16H2, recurrent8']
  assert len(set(sizes)) == len(changes)
