"""Training that starts from the weights of an earlier run."""

import json
import os
import shutil

import jax
import numpy as np
import pytest
import tiny

from reports import fairness, finding
from reports import results as results_lib
from runs import parents, plan, probing, run
from runs.errors import UserError
from training import checkpoint, metrics
from training import optimizer as optimizer_lib
from training import state as state_lib

OFTEN = '--config.checkpoints.every=0'  # Steps 0 and 8 alone.


QUICK = ('--config.probe.suite=linear', '--config.probe.linear.labels=10')


def _from(parent, *more: str) -> tuple[str, ...]:
  return (*QUICK, f'--config.training.init_from={parent}', *more)


@pytest.fixture(scope='module')
def parent(data_dir, tmp_path_factory):
  """A finished run of BERT."""
  workdir = str(tmp_path_factory.mktemp('parent') / 'masked')
  experiment = tiny.build(data_dir, 'masked', *QUICK, '--config.training.seed=3')
  return experiment, workdir, run.execute(experiment, workdir)


@pytest.fixture(scope='module')
def child(data_dir, parent, tmp_path_factory):
  """Autoregression from its weights, finished."""
  workdir = str(tmp_path_factory.mktemp('child') / 'autoregressive')
  experiment = tiny.build(data_dir, 'autoregressive', *_from(parent[1], OFTEN))
  return experiment, workdir, run.execute(experiment, workdir)


def _assert_equal(a, b):
  jax.tree.map(np.testing.assert_array_equal, a, b)


def test_after_no_step_the_backbone_is_the_parents_and_all_else_is_fresh(parent, child):
  experiment, workdir, _ = child
  checkpoints = checkpoint.Checkpoints(os.path.join(workdir, 'checkpoints'))
  state, _ = checkpoints.restore(run._abstract(experiment), 0)
  checkpoints.close()
  theirs, _ = run.restore(parent[0], parent[1], best=False)
  _assert_equal(state.params['backbone'], theirs.params['backbone'])
  fresh = run._abstract(experiment).opt_state
  assert jax.tree.structure(state.opt_state) == jax.tree.structure(fresh)
  assert all(not np.any(x) for x in jax.tree.leaves(state.opt_state))
  moved = run.restore(experiment, workdir, best=False)[0].params['backbone']
  assert not np.array_equal(moved['token_table'], theirs.params['backbone']['token_table'])


def test_own_parameters_are_fresh_and_the_best_checkpoint_can_be_chosen(data_dir, parent):
  best = '--config.training.init_checkpoint=best'
  experiment = tiny.build(data_dir, 'supervised', *_from(parent[1], best))
  optimizer = optimizer_lib.for_task(experiment.task, experiment.config.optimizer, 8)
  fresh = state_lib.init_state(experiment.task, optimizer, experiment.mesh)
  found = parents.find(experiment)
  state = parents.begin(fresh, found)
  _assert_equal(state.params['objective'], fresh.params['objective'])
  theirs, _ = run.restore(parent[0], parent[1], best=True)
  assert found['step'] == int(theirs.step) == parent[2]['validation']['best_step']
  _assert_equal(state.params['backbone'], theirs.params['backbone'])


def test_compute_of_both_is_counted_and_chains_add_up(data_dir, parent, child, tmp_path):
  masked, first = parent[2], child[2]
  own = first['steps'] * first['flops_per_step']
  assert own == 8 * 3 * 8 * child[0].model.forward_flops(('causal',)) > 0
  assert first['train_flops'] == masked['train_flops'] + own
  assert first['tokens_seen'] == masked['tokens_seen'] + 8 * 8 * 64
  assert first['tokens_scored'] == masked['tokens_scored'] + 8 * 8 * 64
  assert first['epochs'] == pytest.approx(2 * 64 / 1197)  # Of the same data.
  told = first['init_from']
  assert told['workdir'] == os.path.abspath(parent[1]) and told['step'] == 8
  assert told['objective'] == 'masked' and told['steps'] == 8 and told['seed'] == 3
  assert told['data_hash'] == masked['data_hash'] and told['git'] == masked['git']
  assert first['started_from'] == 'masked (8 steps, last checkpoint)'
  curve = metrics.read_curve(os.path.join(child[1], 'metrics.jsonl'))
  for row in curve:
    assert row['flops'] == masked['train_flops'] + row['step'] * first['flops_per_step']
    assert row['tokens'] == masked['tokens_seen'] + row['step'] * 8 * 64
  again = tiny.build(data_dir, 'masked_diffusion', *_from(child[1]))
  second = run.execute(again, str(tmp_path / 'again'))
  assert second['train_flops'] == first['train_flops'] + 8 * second['flops_per_step']
  assert second['tokens_seen'] == 3 * 8 * 8 * 64
  assert second['started_from'] == (
    'autoregressive (8 steps, last checkpoint), from masked (8 steps, last checkpoint)'
  )
  assert second['init_from']['init_from']['objective'] == 'masked'


def test_the_fairness_table_shows_what_came_before(parent, child):
  results = results_lib.assemble(finding.find([parent[1], child[1]]))
  rows = fairness.rows(results)
  order = [entry['objective'] for entry in results['summary']]
  at = order.index('autoregressive')
  assert rows['starts from'][at].text == 'masked (8 steps, last checkpoint)'
  assert rows['starts from'][1 - at].text == '–'
  assert rows['tokens seen'][at].text == '8,192'
  assert rows['tokens seen before its start'][at].text == '4,096'
  before, in_total = (rows[n][at].text for n in ('of them before its start', 'FLOPs in total'))
  assert before == rows['FLOPs in total'][1 - at].text != in_total


class _Failing:
  def __init__(self, batches, at: int):
    self._batches, self._at = batches, at

  def rows(self, step, rows):
    if step == self._at:
      raise RuntimeError('power cut')
    return self._batches.rows(step, rows)


def test_a_run_goes_on_without_its_parent_and_under_no_other(data_dir, parent, child, tmp_path):
  copy, workdir = str(tmp_path / 'copy'), str(tmp_path / 'broken')
  shutil.copytree(parent[1], copy)
  failing = tiny.build(data_dir, 'autoregressive', *_from(copy, OFTEN))
  failing.__dict__['batches'] = _Failing(failing.batches, at=5)
  with pytest.raises(RuntimeError, match='power cut'):
    run.execute(failing, workdir)
  shutil.rmtree(copy)
  with pytest.raises(UserError, match=r'another config: training.init_from .*copy ->'):
    run.execute(tiny.build(data_dir, 'autoregressive', *_from(parent[1], OFTEN)), workdir)
  record = run.execute(tiny.build(data_dir, 'autoregressive', *_from(copy, OFTEN)), workdir)
  assert record['train_flops'] == child[2]['train_flops']
  assert record['bits_per_dim'] == child[2]['bits_per_dim']


@pytest.mark.parametrize(
  'name,overrides,words',
  [
    ('autoregressive', ('--config.model.width=32',), 'width 16 there, 32 here'),
    ('autoregressive', ('--config.model.heads=4',), 'heads 2 there, 4 here'),
    ('autoregressive', ('--config.model.layers=2',), 'layers 1 there, 2 here'),
    ('autoregressive', ('--config.model.mlp_ratio=2',), 'mlp_ratio 4 there, 2 here'),
    ('gaussian_diffusion', (), r'time_DxD absent there, \(16, 16\) here'),
    ('untrained', (), 'an objective that does not train has no use for it'),
    ('masked', ('--config.training.init_checkpoint=first',), "must be 'last' or 'best'"),
  ],
)
def test_what_does_not_fit_is_refused_in_one_line(
  data_dir, parent, tmp_path, name, overrides, words
):
  with pytest.raises(UserError, match=words) as error:
    run.execute(tiny.build(data_dir, name, *_from(parent[1], *overrides)), str(tmp_path / 'run'))
  assert '\n' not in str(error.value)
  assert not os.path.exists(tmp_path / 'run' / 'checkpoints')


def test_other_data_are_refused_by_vocabulary_and_length(data_dir, parent, tmp_path):
  path = tmp_path / 'text.txt'
  path.write_bytes(bytes(range(256)) * 40)
  from experiments import text_file
  from runs import configs, experiment

  overrides = (*tiny.OVERRIDES[:8], f'--config.data.path={path}', '--config.data.length=32')
  config = configs.override(text_file.get_config(), [*overrides, *_from(parent[1])])
  with pytest.raises(UserError, match='vocabulary 17 there, 256 here; length 64 there, 32 here'):
    parents.find(experiment.build(config, data_dir))


def test_a_parent_must_be_there_and_finished(data_dir, parent, tmp_path):
  missing = tiny.build(data_dir, 'masked', *_from(tmp_path / 'nowhere'))
  with pytest.raises(UserError, match='training.init_from: .*nowhere is not a run directory'):
    run.execute(missing, str(tmp_path / 'run'))
  copy = tmp_path / 'copy'
  shutil.copytree(parent[1], copy)
  (copy / 'run.json').rename(copy / 'kept.json')
  with pytest.raises(UserError, match='training.init_from: .*copy is not finished'):
    run.execute(tiny.build(data_dir, 'masked', *_from(copy)), str(tmp_path / 'run'))
  (copy / 'kept.json').rename(copy / 'run.json')
  shutil.rmtree(copy / 'checkpoints')
  with pytest.raises(UserError, match='copy has no last checkpoint'):
    run.execute(tiny.build(data_dir, 'masked', *_from(copy)), str(tmp_path / 'run'))


def test_a_comparison_finds_it_before_the_first_run(data_dir, parent, tmp_path):
  overrides = [*tiny.OVERRIDES, *_from(parent[1]), '--config.model.heads=4']
  with pytest.raises(UserError, match='heads 2 there, 4 here'):
    plan.make('experiments/digits.py', ['masked'], [0], None, overrides, str(tmp_path), data_dir)


def test_a_comparison_gives_it_to_those_that_train(data_dir, parent, tmp_path):
  names, overrides = ['masked', 'untrained'], [*tiny.OVERRIDES, *_from(parent[1])]
  where = ('experiments/digits.py', names, [0], None, overrides, str(tmp_path), data_dir)
  runs, _ = plan.make(*where)
  found = {run.config.objective.name: run.config.training.init_from for run in runs}
  assert found == {'masked': parent[1], 'untrained': ''}


def _copied(parent, tmp_path, **changes):
  copy = tmp_path / 'copy'
  shutil.copytree(parent[1], copy)
  record = json.loads((copy / 'run.json').read_text())
  (copy / 'run.json').write_text(json.dumps(record | changes))
  return copy


def test_labels_and_choices_of_what_came_before_are_its_own(data_dir, parent, child, tmp_path):
  assert child[2]['saw_labels'] is parent[2]['saw_labels'] is False
  assert child[2]['init_from']['choices'] == 1
  seen = {'saw_labels': True, 'init_from': {'choices': 5}}
  copy = _copied(parent, tmp_path, **seen)
  best = '--config.training.init_checkpoint=best'
  pac = "--config.probe.suite=('linear', 'pac')"
  made = run.execute(tiny.build(data_dir, 'masked', *_from(copy, best, pac)), str(tmp_path / 'run'))
  assert made['saw_labels'] is True
  # Validation chose among steps 0, 4 and 8, and among five before that.
  assert made['init_from']['choices'] == 3 * 5
  assert made['probes']['pac']['all']['choices'] == 3 * 5
  assert probing._choices(str(tmp_path / 'run'), made, True) == 3 * 15
  assert probing._choices(str(tmp_path / 'run'), made, False) == 15


def test_weights_of_unknown_training_leave_the_sum_unknown(data_dir, parent, tmp_path):
  unknown = dict.fromkeys(('train_flops', 'tokens_seen', 'tokens_scored', 'epochs', 'steps'))
  copy = _copied(parent, tmp_path, **unknown)
  made = run.execute(tiny.build(data_dir, 'masked', *_from(copy)), str(tmp_path / 'run'))
  assert made['train_flops'] is None and made['tokens_seen'] is None and made['epochs'] is None
  assert made['started_from'] == 'masked (unknown steps, last checkpoint)'
