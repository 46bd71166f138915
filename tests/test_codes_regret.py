"""Regret of representations on the labels, on records whose answers are worked out by hand."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from records import make_record, render, write_run

from data import hierarchy
from launch import label_regret as command
from reports import finding, label_regret, label_sets, label_text, terminal
from reports import results as results_lib
from reports.errors import ReportError
from runs import label_truth
from runs.errors import UserError

DATA = 'd' * 64


def prequential(linear, mlp=None, count=40, first=10, prior='bayes', **others):
  ends = [0, first]
  while ends[-1] * 2 < count:
    ends.append(2 * ends[-1])
  cell = {'labels': count, 'uniform_bits': 3.0 * count, 'linear_bits': linear, 'mlp_bits': mlp}
  cell |= {} if prior == 'bayes' else {'prior': prior}
  return {'prequential': {'all': cell | {'curve': [{'labels': end} for end in ends]} | others}}


def finetuned(bits, count=40, first=10):
  cell = prequential(0.0, count=count, first=first)['prequential']['all']
  code = {'bits': bits, 'uniform': 3.0 * count, 'labels': count, 'curve': cell['curve']}
  return {'finetune': {'all': {'code': code}}}


def write(top, objective, seed, probes, order_seed=0, order=None, data=DATA, **changes):
  record = make_record(objective, seed, probe_data_hash=data, **changes)
  path = write_run(top, record | {'probes': probes})
  config = {'evaluation': {'seed': order_seed}}
  (path / 'config.json').write_text(json.dumps({'config': config}))
  if order is not None:
    np.savez(path / 'arrays.npz', **{'prequential/all/order': np.asarray(order, np.int32)})
  return path


def write_controls(top, probes, data=DATA, seed=0, **others):
  of = {'data_hash': ['x', data], 'evaluation': {'seed': seed}}
  (top / 'controls.json').write_text(json.dumps({'of': of, 'raw': probes} | others))


def tables(*dirs):
  return label_regret.tables(finding.find(dirs))


def row_of(table, of, learner):
  return next(row for row in table['rows'] if (row['of'], row['learner']) == (of, learner))


@pytest.fixture(name='top')
def comparison(tmp_path):
  """Two seeds of one objective, an untrained backbone, and the raw input."""
  write(tmp_path, 'autoregressive', 0, prequential(50.0, 45.0) | finetuned(60.0))
  write(tmp_path, 'autoregressive', 1, prequential(70.0, 55.0))
  write(tmp_path, 'untrained', 0, prequential(110.0, 112.0) | finetuned(95.0))
  write_controls(tmp_path, prequential(40.0, 42.0))
  return tmp_path


def test_regret_and_savings_by_hand(top):
  made = tables(top)
  (table,) = made['sets']
  assert (table['labels'], table['first'], table['seed']) == (40, 10, 0)
  assert table['uniform_bits'] == 120.0
  # Means 60 50 60, 110 112 95, and 40 42 of the raw input.
  assert table['best'] == {'bits': 40.0, 'name': 'linear, raw', 'tried': 8}
  scratch = {'bits': 95.0, 'name': 'fine-tuned, untrained (nano)', 'fine_tuned': True}
  assert table['scratch'] == {'nano': scratch}
  assert table['without_pretraining'] == {'bits': 40.0, 'name': 'linear, raw'}
  told = 'no code of these labels from the raw input.'
  assert not any(told in line for line in label_text.labels_lines(table))
  unprobed = {**table, 'rows': [row for row in table['rows'] if row['kind'] != 'input']}
  assert sum(line.endswith(told) for line in label_text.labels_lines(unprobed)) >= 2
  linear = row_of(table, 'autoregressive', 'linear')
  assert (linear['bits'], linear['bits_min'], linear['bits_max']) == (60.0, 50.0, 70.0)
  assert (linear['regret'], linear['saved'], linear['saved_in_all']) == (20.0, 35.0, -20.0)
  assert linear['replicates'] == 2 and linear['bits_ci95'] is None
  mlp = row_of(table, 'autoregressive', 'MLP')
  assert (mlp['bits'], mlp['regret'], mlp['saved']) == (50.0, 10.0, 45.0)
  tuned = row_of(table, 'autoregressive', 'fine-tuned')
  assert (tuned['replicates'], tuned['regret'], tuned['saved']) == (1, 20.0, 35.0)
  untrained = row_of(table, 'untrained', 'linear')
  assert (untrained['regret'], untrained['saved']) == (70.0, None)
  assert row_of(table, 'raw', 'linear')['regret'] == 0.0


def test_without_a_fine_tuned_untrained_backbone_the_best_learner_is_named(tmp_path):
  write(tmp_path, 'autoregressive', 0, prequential(50.0))
  write(tmp_path, 'untrained', 0, prequential(70.0))
  (table,) = tables(tmp_path)['sets']
  assert table['scratch']['nano'] == {
    'bits': 70.0, 'name': 'linear, untrained (nano)', 'fine_tuned': False
  }  # fmt: skip
  assert table['best']['name'] == 'linear, autoregressive (nano)'
  assert row_of(table, 'autoregressive', 'linear')['saved'] == 20.0
  text = '\n'.join(terminal.label_regret_lines(tables(tmp_path)))
  assert 'for no untrained backbone was fine-tuned' in text


def test_nothing_to_save_over_is_not_zero(tmp_path):
  write(tmp_path, 'autoregressive', 0, prequential(50.0))
  made = tables(tmp_path)
  row = row_of(made['sets'][0], 'autoregressive', 'linear')
  assert row['saved'] is None and row['saved_in_all'] is None and row['regret'] == 0.0
  line = next(t for t in terminal.label_regret_lines(made)[0].splitlines() if 'linear  ' in t)
  assert line.split()[-2:] == ['n/a', 'n/a']


def test_five_seeds_have_an_interval(tmp_path):
  for seed in range(5):
    write(tmp_path, 'autoregressive', seed, prequential(10.0 + 10 * seed))
  (table,) = tables(tmp_path)['sets']
  row = row_of(table, 'autoregressive', 'linear')
  # 10 20 30 40 50: sd 15.811, t of 4 degrees 2.7764, half width 2.7764 * 15.811 / sqrt(5).
  assert row['bits_ci95'] == pytest.approx([30 - 19.632, 30 + 19.632], abs=2e-3)
  # Mean against mean: the only learner there is has no regret, though one of its runs took 10 bits.
  assert row['regret'] == 0.0 and table['best']['bits'] == 30.0


def test_no_learner_has_regret_against_itself(tmp_path):
  for seed, bits in enumerate((50.0, 70.0)):
    write(tmp_path, 'autoregressive', seed, prequential(bits))
    write(tmp_path, 'masked', seed, prequential(55.0 + 20 * seed))
  (table,) = tables(tmp_path)['sets']
  regrets = {row['of']: row['regret'] for row in table['rows']}
  # 60 against 65; the shortest code of all has 50 bits.
  assert regrets == {'autoregressive': 0.0, 'masked': 5.0}
  assert table['best'] == {
    'bits': 60.0, 'name': 'linear, autoregressive (nano)', 'tried': 2
  }  # fmt: skip


@pytest.mark.parametrize(
  ('other', 'why'),
  [
    ({'probes': prequential(30.0, count=30)}, 'the number of labels'),
    ({'probes': prequential(30.0, first=20)}, 'the blocks'),
    ({'probes': prequential(30.0, prior='switching')}, 'the prior over experts'),
    ({'order_seed': 1}, 'the seed of the order'),
    ({'data': 'e' * 64}, 'their data'),
  ],
)
def test_codes_of_other_labels_stand_apart(tmp_path, other, why):
  write(tmp_path, 'autoregressive', 0, prequential(50.0))
  write(tmp_path, 'masked', 0, **{'probes': prequential(30.0)} | other)
  made = tables(tmp_path)
  assert [table['best']['tried'] for table in made['sets']] == [1, 1]
  for table in made['sets']:
    assert [row['regret'] for row in table['rows']] == [0.0]
  (note,) = made['notes']
  assert note == f'2 sets of labels, compared each by itself: they differ in {why}'


def test_two_orders_under_one_seed_are_not_compared(tmp_path):
  write(tmp_path, 'autoregressive', 0, prequential(50.0), order=range(40))
  write(tmp_path, 'masked', 0, prequential(30.0), order=range(39, -1, -1))
  write_controls(tmp_path, prequential(10.0))
  made = tables(tmp_path)
  assert sorted(table['best']['bits'] for table in made['sets']) == [30.0, 50.0]
  assert any('linear, raw left out' in note and '2 orders' in note for note in made['notes'])


def test_who_saw_the_labels_has_no_code_of_them(tmp_path):
  write(tmp_path, 'autoregressive', 0, prequential(50.0))
  write(tmp_path, 'supervised', 0, prequential(1.0))
  made = tables(tmp_path)
  assert made['sets'][0]['best']['bits'] == 50.0
  assert not [row for row in made['sets'][0]['rows'] if row['of'] == 'supervised']
  assert made['notes'][0].startswith('supervised saw the labels in training')


def test_unknown_labels_are_left_out(tmp_path):
  path = write(tmp_path, 'autoregressive', 0, prequential(50.0))
  write(tmp_path, 'masked', 0, prequential(30.0))
  (path / 'config.json').write_text('{"config": {}}')  # the seed of the order is not known
  made = tables(tmp_path)
  assert made['sets'][0]['best']['bits'] == 30.0
  assert made['notes'] == [
    'linear, autoregressive (nano) left out: their records do not say which labels they code, in '
    'which order'
  ]


def test_a_rate_that_was_not_chosen_counts_for_the_best_alone(tmp_path):
  for rate, loss, bits in ((1e-3, 1.0, 50.0), (2e-3, 2.0, 30.0)):
    validation = {'loss': loss, 'best_loss': loss, 'best_step': 800}
    write(tmp_path, 'autoregressive', 0, prequential(bits), learning_rate=rate,
          validation=validation)  # fmt: skip
  (table,) = tables(tmp_path)['sets']
  (row,) = table['rows']
  assert (row['bits'], row['regret'], table['best']['tried']) == (50.0, 20.0, 2)


def test_a_run_named_twice_is_refused(tmp_path):
  for name in ('a', 'b'):
    write(tmp_path / name, 'autoregressive', 0, prequential(50.0))
  with pytest.raises(ReportError, match='name only one of them'):
    tables(tmp_path)


def test_other_settings_of_fine_tuning_are_said(tmp_path):
  for seed in (0, 1):
    write(tmp_path, 'masked', seed, finetuned(50.0), finetune_settings={'steps': 100 + seed})
  made = tables(tmp_path)
  assert made['notes'] == [
    'fine-tuned, masked (nano): its runs have 2 different settings, their mean is over several '
    'learners'
  ]


# What a perfect learner pays.


def test_truth_of_an_ambiguous_grammar_by_hand():
  # Root 0 makes (0,0) or (0,1), root 1 makes (0,0) or (1,1), each with probability 1/2.
  rules = np.array([[[[0, 0], [0, 1]], [[0, 0], [1, 1]]]], np.int32)
  grammar = hierarchy.Grammar(rules)
  tokens = np.array([[0, 0, 0], [0, 0, 0], [0, 1, 0], [1, 1, 0]])  # the last is the end token
  bits = label_truth.truth_bits(grammar, tokens, np.array([0, 1, 0, 1]))
  np.testing.assert_allclose(bits, [1, 1, 0, 0], atol=1e-6)
  # Root 0 makes (0,0) for sure, root 1 with probability 1/2: p(0 | 0,0) = 2/3.
  rules = np.array([[[[0, 0], [0, 0]], [[0, 0], [1, 1]]]], np.int32)
  bits = label_truth.truth_bits(hierarchy.Grammar(rules), tokens[:2], np.array([0, 1]))
  np.testing.assert_allclose(bits, [np.log2(3 / 2), np.log2(3)], rtol=1e-6)


def test_true_regret_from_the_rebuilt_data(tmp_path):
  from experiments import hierarchy as experiment_config
  from runs import configs, experiment

  config = experiment_config.get_config('autoregressive')
  for data in (config.data, config.probe_data):
    data.depth, data.held_out = 2, 20
  config.probe_data.examples = 40
  probed = experiment.load_datasets(config, str(tmp_path))[1]
  latents = {'linear': {'0/0': [0.5]}, 'chance': {'0/0': 0.2}}
  path = write(tmp_path, 'autoregressive', 0, prequential(50.0), data=probed.digest,
               latents=latents)  # fmt: skip
  (path / 'config.json').write_text(json.dumps({'config': configs.plain(config)}))
  (table,) = tables(tmp_path)['sets']
  assert table['knows_truth'] and table['truth_bits'] is None
  assert label_truth.add_truth(table, str(tmp_path)) is None
  # No two symbols of a level share a production: the root is certain, and costs nothing.
  assert table['truth_bits'] == pytest.approx(0.0, abs=1e-4)
  text = '\n'.join(terminal.label_regret_lines({'sets': [table], 'notes': []}))
  assert 'true regret' in text and 'Under the true law the labels cost 0.0 bits' in text
  table['data'] = DATA
  assert 'no true regret' in label_truth.add_truth(table, str(tmp_path))


# The command and the page.


def test_command_prints_and_writes(top, monkeypatch, capsys):
  out = top / 'regret.json'
  monkeypatch.setattr(command.flags, 'FLAGS', SimpleNamespace(out=str(out), data_dir=''))
  command.main(['regret', str(top)])
  text = capsys.readouterr().out
  lines = text.splitlines()
  assert lines[0] == (
    'digits: 40 labels in the order of seed 0, the first 10 uniformly; uniform 120 bits'
  )
  line = next(text for text in lines if text.startswith('autoregressive (nano)  linear'))
  assert line.split()[2:] == ['linear', '2', '60.0', '50.0–70.0', '20.0', '+35.0', '-20.0']
  assert 'Regret is a lower bound' in text
  assert max(map(len, lines)) <= 100
  assert json.loads(out.read_text()) == json.loads(json.dumps(tables(top)))


def test_bad_input_is_one_line(tmp_path):
  with pytest.raises(UserError, match='name at least one'):
    command.main(['launch.label_regret'])
  with pytest.raises(ReportError, match='is not a directory'):
    command.main(['launch.label_regret', str(tmp_path / 'nowhere')])
  with pytest.raises(UserError, match='no finished run'):
    command.main(['launch.label_regret', str(tmp_path)])
  write_run(tmp_path, make_record('autoregressive', 0))
  with pytest.raises(UserError, match='no run has a code of labels that can be compared'):
    command.main(['launch.label_regret', str(tmp_path)])


def test_page_has_a_section(top):
  results = results_lib.assemble(finding.find([top]))
  assert results['label_regret'] == tables(top)
  html = render(results)
  section = html[html.index('<h2>Regret on the labels</h2>') :].split('<h2>')[1]
  assert '<td>60.0<small>50.0–70.0</small></td><td>20.0</td><td>+35.0</td><td>-20.0</td>' in section
  assert 'Regret is a lower bound' in section


def test_learners_are_where_the_probes_put_them():
  """The paths that are read are those under which the probes are in the report."""
  from probes.measures import MEASURES

  paths = {measure.path for measure in (*MEASURES['prequential'], *MEASURES['finetune'])}
  for path, name in label_sets.LEARNERS.values():
    assert (*path, name) in paths
