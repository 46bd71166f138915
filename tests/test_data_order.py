"""The order in which training sees a finite training set."""

import os
import shutil

import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
import tiny

from data import pipeline
from reports import fairness, finding
from reports import results as results_lib
from runs import configs, experiment, ordering, parents, run
from runs.errors import UserError
from training import metrics

QUICK = ('--config.probe.suite=linear', '--config.probe.linear.labels=10')


def _order(order: str, by: object = '') -> tuple[str, ...]:
  return (f'--config.data.order={order}', f'--config.data.order_by={by}', *QUICK)


@pytest.fixture(scope='module')
def judge(data_dir, tmp_path_factory):
  """A finished autoregressive run."""
  workdir = str(tmp_path_factory.mktemp('judge') / 'autoregressive')
  made = tiny.build(data_dir, 'autoregressive', '--config.training.seed=5', *QUICK)
  return made, workdir, run.execute(made, workdir)


def _bits(judge) -> np.ndarray:
  made, workdir, _ = judge
  params = run.restore(made, workdir, best=False)[0].params
  return np.asarray(made.per_example(params, made.dataset.train, 1, 0)['nats']) / np.log(2)


def _seen(batches, first: int, count: int) -> np.ndarray:
  rows = [batches.rows(0, [row])['tokens'][0] for row in range(first, first + count)]
  return np.stack(rows)


@pytest.mark.parametrize('order,sign', [('easy_to_hard', 1), ('hard_to_easy', -1)])
def test_examples_come_by_their_bits_under_a_run_in_every_epoch(
  data_dir, judge, tmp_path, order, sign
):
  made = tiny.build(data_dir, 'masked', *_order(order, judge[1]))
  found = ordering.rows(made, str(tmp_path))
  bits = _bits(judge)
  np.testing.assert_array_equal(bits[found], bits[np.argsort(sign * bits, kind='stable')])
  np.testing.assert_array_equal(np.sort(found), np.arange(1197))
  assert np.ptp(bits) > 5
  tokens = made.dataset.train.tokens_NxT
  batches = made.batches_in(found)
  _same_rows(batches[0]['tokens'], tokens[found[:8]])
  assert sorted(batches[3]['label']) == sorted(made.dataset.train.labels_N[found[24:32]])
  # A batch may end one epoch and begin the next; any part of it alone is the same.
  joint = batches[149]['tokens']
  _same_rows(joint, tokens[np.r_[found[1192:], found[:3]]])
  np.testing.assert_array_equal(batches.rows(149, [6])['tokens'][0], joint[6])
  np.testing.assert_array_equal(made.batches_in(found)[149]['tokens'], joint)


def _same_rows(found, expected):
  np.testing.assert_array_equal(np.sort(found, axis=0), np.sort(expected, axis=0))
  assert set(map(bytes, np.asarray(found))) == set(map(bytes, np.asarray(expected)))


def test_no_half_of_a_batch_always_has_the_same_examples(data_dir):
  """`dual` trains on one half one way, on the other the other: 64 examples in batches of 8."""
  made = tiny.build(data_dir, 'dual', *_order('by_class'))
  batches = pipeline.Batches(made.dataset, 0, 8, np.arange(64))
  tokens = made.dataset.train.tokens_NxT[:64]
  number = {bytes(row): n for n, row in enumerate(np.asarray(tokens))}
  first = {n: 0 for n in range(64)}
  for step in range(8 * 40):  # 40 epochs.
    rows = [number[bytes(row)] for row in np.asarray(batches[step]['tokens'])]
    assert sorted(rows) == list(range(8 * (step % 8), 8 * (step % 8) + 8))
    for n in rows[:4]:
      first[n] += 1
  shares = np.array(list(first.values())) / 40
  assert 0.15 < shares.min() and shares.max() < 0.85 and shares.mean() == 0.5


def test_classes_come_one_after_the_other_shuffled_inside(data_dir, tmp_path):
  made = tiny.build(data_dir, 'masked', *_order('by_class'))
  for name in ('a', 'b'):
    (tmp_path / name).mkdir()
  found = ordering.rows(made, str(tmp_path / 'a'))
  labels = made.dataset.train.labels_N
  np.testing.assert_array_equal(labels[found], np.sort(labels))
  inside = found[labels[found] == 3]
  assert not np.array_equal(inside, np.sort(inside))
  # Labels had a part in such training, though no objective read them.
  assert parents.saw_labels(made, None, ordering.describe(made)['data_ordered_by'])
  assert not parents.saw_labels(made, None, None)
  other = tiny.build(data_dir, 'masked', *_order('by_class'), '--config.training.seed=1')
  assert not np.array_equal(ordering.rows(other, str(tmp_path / 'b')), found)


def test_a_source_that_is_known_scores_its_own_examples(data_dir, tmp_path):
  from experiments import hierarchy

  overrides = [*tiny.OVERRIDES[:3], '--config.data.examples=300', *_order('hard_to_easy')]
  made = experiment.build(configs.override(hierarchy.get_config('masked'), overrides), data_dir)
  for name in ('a', 'b'):
    (tmp_path / name).mkdir()
  # The default grammar's strings are equally probable: then nothing is harder, and seeds decide.
  found = ordering.rows(made, str(tmp_path / 'a'))
  with np.load(tmp_path / 'a' / 'order.npz') as kept:
    np.testing.assert_allclose(kept['scores'], made.dataset.truth.entropy_bits(), rtol=1e-4)
  np.testing.assert_array_equal(np.sort(found), np.arange(300))
  chain = ml_collections.ConfigDict(
    {'name': 'markov', 'length': 12, 'symbols': 4, 'examples': 500, 'held_out': 50,
     'concentration': 0.5, 'chain_seed': 0}
  )  # fmt: skip
  config = configs.override(hierarchy.get_config('masked'), tiny.OVERRIDES[:3])
  with config.unlocked():
    config.data = chain
    config.data.update({'order': 'easy_to_hard', 'order_by': ''})
    config.probe_data = ml_collections.ConfigDict({'name': ''})
  made = experiment.build(config, data_dir)
  found = ordering.rows(made, str(tmp_path / 'b'))
  truth, tokens = made.dataset.truth, made.dataset.train.tokens_NxT[:, :12]
  p = truth.stationary_V[tokens[:, 0]] * np.prod(
    truth.transition_VxV[tokens[:, :-1], tokens[:, 1:]], axis=1
  )
  assert np.all(np.diff(np.log2(p[found])) < 1e-4) and np.ptp(np.log2(p)) > 3


def test_shuffled_stays_what_it_was(data_dir, tmp_path):
  made = tiny.build(data_dir, 'masked', '--config.training.seed=4')
  assert ordering.rows(made, str(tmp_path)) is None and not os.listdir(tmp_path)
  assert made.batches_in(None) is made.batches
  plain = pipeline.Batches(made.dataset, 4, 8)
  np.testing.assert_array_equal(made.batches[7]['tokens'], plain[7]['tokens'])


class _Failing:
  def __init__(self, batches, at: int):
    self._batches, self._at = batches, at

  def rows(self, step, rows):
    if step == self._at:
      raise RuntimeError('power cut')
    return self._batches.rows(step, rows)


def test_a_run_in_order_goes_on_in_it_and_says_so(data_dir, judge, tmp_path, monkeypatch):
  copy = str(tmp_path / 'judge')
  shutil.copytree(judge[1], copy)
  asked = _order('easy_to_hard', copy)
  whole, broken = str(tmp_path / 'whole'), str(tmp_path / 'broken')
  record = run.execute(tiny.build(data_dir, 'masked', *asked), whole)
  assert record['data_order'] == 'easy to hard, every epoch, bits under autoregressive (8 steps)'
  told = record['data_ordered_by']
  assert told['workdir'] == copy and told['seed'] == 5
  assert told['data_hash'] == record['data_hash']
  assert record['settings_of_data'] == {}  # The data are those of any other run.
  assert record['saw_labels'] is told['saw_labels'] is False
  made_in_order = experiment.Experiment.batches_in
  with monkeypatch.context() as patch:
    patch.setattr(
      experiment.Experiment, 'batches_in', lambda self, order: _Failing(
        made_in_order(self, order), at=5
      )
    )  # fmt: skip
    with pytest.raises(RuntimeError, match='power cut'):
      run.execute(tiny.build(data_dir, 'masked', *asked), broken)
  shutil.rmtree(copy)  # The order is kept; what scored it is not needed any more.
  run.execute(tiny.build(data_dir, 'masked', *asked), broken)
  curves = [metrics.read_curve(os.path.join(d, 'metrics.jsonl')) for d in (whole, broken)]
  losses = [[row.get('train/loss') for row in curve] for curve in curves]
  assert losses[0] == losses[1]
  with pytest.raises(UserError, match='another config: data.order easy_to_hard -> shuffled'):
    run.execute(tiny.build(data_dir, 'masked', *QUICK), broken)
  results = results_lib.assemble(finding.find([judge[1], whole]))
  cells = fairness.rows(results)['order of the data']
  assert sorted(cell.text for cell in cells) == [
    'easy to hard\nevery epoch\nbits under autoregressive (8 steps)', 'shuffled'
  ]  # fmt: skip
  alone = results_lib.assemble(finding.find([judge[1]]))
  assert 'order of the data' not in fairness.rows(alone)


@pytest.mark.parametrize(
  'overrides,words',
  [
    (_order('sorted'), "data.order 'sorted' is unknown; known: shuffled, easy_to_hard"),
    (_order('easy_to_hard'), "needs data.order_by, .* probabilities of 'digits' itself"),
    (_order('easy_to_hard', '/nowhere'), 'data.order_by: /nowhere is not a run directory'),
    (_order('by_class', '/nowhere'), "data.order 'by_class' has no use for it"),
    (_order('shuffled', '/nowhere'), "data.order 'shuffled' has no use for it"),
  ],
)
def test_an_order_that_can_not_be_had_is_refused_in_one_line(data_dir, tmp_path, overrides, words):
  with pytest.raises(UserError, match=words) as error:
    run.execute(tiny.build(data_dir, 'masked', *overrides), str(tmp_path / 'run'))
  assert '\n' not in str(error.value)
  assert not os.path.exists(tmp_path / 'run' / 'checkpoints')


def test_endless_sources_unlabelled_ones_and_other_data_are_refused(data_dir, judge, tmp_path):
  from experiments import hierarchy, text_file

  def build(config, *overrides):
    return experiment.build(configs.override(config, [*tiny.OVERRIDES[:3], *overrides]), data_dir)

  endless = build(hierarchy.get_config('masked'), *_order('by_class'))
  with pytest.raises(UserError, match="'hierarchy' draws its examples afresh for ever"):
    ordering.check(endless)
  path = tmp_path / 'text.txt'
  path.write_bytes(bytes(range(256)) * 40)
  text = (f'--config.data.path={path}', '--config.data.length=32')
  with pytest.raises(UserError, match="needs labels, and 'text_file' has none"):
    ordering.check(build(text_file.get_config(), *text, *_order('by_class')))
  with pytest.raises(UserError, match='is of data with alphabet 17, here it is 256'):
    ordering.check(build(text_file.get_config(), *text, *_order('easy_to_hard', judge[1])))
  assert jnp.all(jnp.asarray(judge[0].dataset.train.labels_N) >= 0)


def test_configs_that_know_no_order_are_shuffled(data_dir, tmp_path):
  """Config files of others set all of `config.data`; earlier versions had no such field."""
  made = tiny.config('masked')
  with made.unlocked():
    made.data = ml_collections.ConfigDict({'name': 'digits'})
  built = experiment.build(made, data_dir)
  ordering.check(built)
  run.open_workdir(str(tmp_path), made, built)
  (tmp_path / 'checkpoints').mkdir()
  assert run.open_workdir(str(tmp_path), made, built)['config']['data']['order'] == 'shuffled'
