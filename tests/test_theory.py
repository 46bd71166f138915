"""Bits per dimension against codes of the labels, on records worked out by hand."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from records import assemble, make_record, page_of, render, write_run
import scipy.stats
import tiny

from data.dataset import Examples
from objectives.base import Code
from probes import prequential
from probes.features import Features
from reports import figures_scaling, finding, report, theory
from reports import results as results_lib
from runs import configs, evaluators

BITS, CODE = theory.BITS, theory.CODES['linear']


def record_of(objective, seed, bits, linear, **changes):
  own = {'prequential': {'all': {'linear_bits': linear, 'labels': 40}}} if linear else {}
  validation = {'loss': 1.0, 'best_loss': 1.0, 'best_step': 800, 'bits_per_dim': bits}
  changes = {'probes': own, 'validation': validation} | changes
  return make_record(objective, seed, probe_data_hash='d', **changes)


def curve_of(*points):
  return [{'step': step, BITS: bits, CODE: code} for step, bits, code in points]


def write(top, objective, seed, curve, bits, linear, **changes):
  record = record_of(objective, seed, bits, linear, **changes)
  path = write_run(top, record, f'{objective}-{seed}-{record["size"]}')
  (path / 'metrics.jsonl').write_text('\n'.join(json.dumps(point) for point in curve))
  return path


# Points.


def test_points_are_checkpoints_without_step_0():
  run = record_of('autoregressive', 0, 2.0, 100.0)
  curve = curve_of((0, 4.0, 300.0), (200, 3.0, 180.0), (800, 2.0, 100.0))
  assert theory.points(run, curve, 'linear') == [
    {'step': 200, 'bits': 3.0, 'code': 180.0},
    {'step': 800, 'bits': 2.0, 'code': 100.0},
  ]
  assert theory.points(run, curve, 'MLP') == []  # not measured: not there
  run['probes']['prequential']['all']['mlp_bits'] = 90.0
  curve[1][theory.CODES['MLP']], curve[2][theory.CODES['MLP']] = 170.0, 90.0
  assert theory.points(run, curve, 'MLP') == [
    {'step': 200, 'bits': 3.0, 'code': 170.0},
    {'step': 800, 'bits': 2.0, 'code': 90.0},
  ]


def test_without_codes_along_the_training_the_last_and_the_best_are_left():
  best = {'step': 400, 'probes': {'prequential': {'all': {'linear_bits': 90.0}}}}
  run = record_of('autoregressive', 0, 2.0, 100.0, at_best=best)
  curve = [{'step': step, BITS: bits} for step, bits in ((200, 3.0), (400, 1.9), (800, 2.0))]
  assert theory.points(run, curve, 'linear') == [
    {'step': 400, 'bits': 1.9, 'code': 90.0},
    {'step': 800, 'bits': 2.0, 'code': 100.0},
  ]
  best['probes'] = {'linear': {}}  # as it is without a probe of its own
  assert len(theory.points(run, curve, 'linear')) == 1


def test_a_curve_of_other_settings_is_not_mixed_with_the_record():
  run = record_of('autoregressive', 0, 2.0, 100.0)
  curve = curve_of((200, 3.0, 180.0), (800, 2.0, 101.0))  # 1 % off: not the same code
  assert theory.points(run, curve, 'linear') == [{'step': 800, 'bits': 2.0, 'code': 100.0}]


# Correlations.


def test_spearman_is_scipys_and_none_without_variation():
  rng = np.random.default_rng(0)
  for n in (3, 6, 12):
    x, y = rng.integers(0, 5, (2, n)).astype(float)
    x[0], y[0] = 9, 7  # something varies
    expected = scipy.stats.spearmanr(x, y).statistic
    assert theory.spearman(x, y) == pytest.approx(expected)
  assert theory.spearman([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]) is None


def test_permutation_p_by_hand():
  # Of 5! orders only the order itself and its reverse correlate as strongly.
  assert theory.permutation_p([1, 2, 3, 4, 5], [10, 20, 30, 40, 50]) == pytest.approx(2 / 120)
  # 1 3 2: rho = 1/2; of 6 orders all have |rho| >= 1/2.
  assert theory.permutation_p([1, 2, 3], [1, 3, 2]) == 1.0
  x = np.arange(12.0)
  y = np.random.default_rng(1).permutation(x)
  assert theory.permutation_p(x, y) == pytest.approx(scipy.stats.spearmanr(x, y).pvalue)


def runs_and_curves(tmp_path, count, **changes):
  """Run k: bits 3 + k and 2 + k, codes 100 - 10 k and 120 - 10 k: falls within, rises between."""
  for k in range(count):
    curve = curve_of((200, 3.0 + k, 100.0 - 10 * k), (400, 2.5 + k, 110.0 - 10 * k),
                     (800, 2.0 + k, 120.0 - 10 * k))  # fmt: skip
    write(tmp_path, 'autoregressive', k, curve, 2.0 + k, 120.0 - 10 * k, **changes)
  results = results_lib.assemble(finding.find([tmp_path]))
  return results


@pytest.mark.parametrize(('count', 'p'), [(4, None), (5, 2 / 120)])
def test_between_and_within_runs_are_apart(tmp_path, count, p):
  (entry,) = runs_and_curves(tmp_path, count)['theory']
  assert (entry['objective'], entry['code'], entry['learner']) == (
    'autoregressive', 'exact', 'linear'
  )  # fmt: skip
  # Means of runs: bits 2.5 + k, codes 110 - 10 k: perfectly opposed; so is every run by itself.
  between = {'runs': count, 'checkpoints': 3, 'rho': -1.0, 'reason': None}
  found = dict(entry['between'])
  assert found.pop('p') == (p if p is None else pytest.approx(p))
  assert found == pytest.approx(between)
  assert entry['within'] == pytest.approx(
    {'runs': count, 'reason': None, 'rho': -1.0, 'minimum': -1.0, 'maximum': -1.0}
  )


def test_a_pooled_correlation_would_have_another_sign(tmp_path):
  """Codes fall with bits in every run, and rise with them over runs."""
  for k in range(3):
    curve = curve_of(*((step, 3.0 + k - step / 8000, 100.0 + 50 * k + step / 80)
                       for step in (200, 400, 800)))  # fmt: skip
    write(tmp_path, 'autoregressive', k, curve, curve[-1][BITS], curve[-1][CODE])
  (entry,) = results_lib.assemble(finding.find([tmp_path]))['theory']
  assert entry['between']['rho'] == pytest.approx(1.0)
  assert entry['within']['rho'] == pytest.approx(-1.0)


def test_means_are_over_common_checkpoints(tmp_path):
  # Run 0 alone has step 200, where its code is huge: it must not count against run 0.
  write(tmp_path, 'autoregressive', 0, curve_of((200, 9.0, 9e3), (800, 1.0, 10.0)), 1.0, 10.0)
  for seed, bits in ((1, 2.0), (2, 3.0)):
    write(tmp_path, 'autoregressive', seed, curve_of((800, bits, 10 * bits)), bits, 10 * bits)
  (entry,) = results_lib.assemble(finding.find([tmp_path]))['theory']
  assert (entry['between']['checkpoints'], entry['between']['rho']) == (1, pytest.approx(1.0))
  assert entry['within'] == {
    'runs': 0, 'reason': 'no run has 3 checkpoints with this code',
    'rho': None, 'minimum': None, 'maximum': None,
  }  # fmt: skip


def test_exact_and_bound_controls_and_labels_stay_apart(tmp_path):
  for seed in range(2):
    write(tmp_path, 'autoregressive', seed, [], 2.0 + seed, 100.0)
    write(tmp_path, 'masked_diffusion', seed, [], 2.0 + seed, 100.0)
    write(tmp_path, 'masked', seed, [], None, 100.0)
    write(tmp_path, 'supervised', seed, [], None, 1.0)
    write(tmp_path, 'untrained', seed, [], None, 300.0)
  entries = results_lib.assemble(finding.find([tmp_path]))['theory']
  assert [(entry['objective'], entry['code']) for entry in entries] == [
    ('autoregressive', 'exact'), ('masked_diffusion', 'upper_bound')
  ]  # fmt: skip
  assert entries[0]['between']['reason'] == 'fewer than 3 runs'
  runs = [record_of('autoregressive', seed, 2.0 + seed, 90.0 + seed) for seed in range(3)]
  runs = [run | {'workdir': str(run['seed'])} for run in runs]
  assert theory.correlations(runs, {})[0]['between']['rho'] == pytest.approx(1.0)
  runs[0]['probe_data_hash'] = 'another'
  found = theory.correlations(runs, {})[0]['between']
  assert (found['rho'], found['reason']) == (None, 'its runs code different labels')


# Picture and page.


def test_picture_and_table(tmp_path):
  for size, shift in (('nano', 0.0), ('micro', 0.5)):
    for seed in (0, 1):
      first, last = (200, 3.0 - shift, 180.0 + seed), (800, 2.0 - shift, 100.0 + seed)
      for objective in ('autoregressive', 'masked_diffusion'):
        write(tmp_path, objective, seed, curve_of(first, last), last[1], last[2], size=size)
  results = report.build([tmp_path], tmp_path)
  made = figures_scaling.label_codes(results)
  titles = [axis.get_title(loc='left') for axis in made.axes]
  assert titles == ['autoregressive, exact', 'masked_diffusion, upper bound']
  names = [axis.get_xlabel() for axis in made.axes]
  assert names == ['validation bits per dimension', 'validation bits per dimension (≤)']
  for axis in made.axes:
    joined = [line for line in axis.lines if len(line.get_xdata()) == 2]
    assert len(joined) == 4  # a run each
    assert sorted(tuple(line.get_xdata()) for line in joined) == [(2.5, 1.5)] * 2 + [(3.0, 2.0)] * 2
    assert sorted(line.get_ydata()[1] for line in joined) == [100.0, 100.0, 101.0, 101.0]
  faces = [{line.get_markerfacecolor() for line in axis.lines if len(line.get_xdata()) == 2}
           for axis in made.axes]  # fmt: skip
  assert faces[1] == {'white'} and 'white' not in faces[0]
  assert (tmp_path / 'report' / 'label_codes.png').stat().st_size > 5000
  html = page_of(tmp_path)
  section = html[html.index('in numbers</h2>') :].split('<h2>')[0]
  row = '<td class="text">exact</td><td class="text">linear</td><td>4</td><td>8</td>'
  # Bits: 2.5, 2.5, 2, 2; codes 140, 141, 140, 141 over runs: no correlation at all.
  assert row + '<td>+0.00<small>4 runs</small></td><td>n/a</td>' in section
  assert 'n/a within runs: no run has 3 checkpoints with this code.' in section


def test_single_points_make_no_picture(tmp_path):
  write(tmp_path, 'autoregressive', 0, [], 2.0, 100.0)
  results = results_lib.assemble(finding.find([tmp_path]))
  assert results['theory'] and figures_scaling.label_codes(results) is None
  write_run(tmp_path / 'other', make_record('masked', 0, probes={}))
  assert 'in numbers</h2>' not in render(assemble(tmp_path / 'other'))


# The code along the training.


def test_validation_has_the_code_that_the_probe_has():
  """The same features and settings give the same code, from validation and from the probe."""
  config = tiny.config('autoregressive')
  with config.unlocked():
    config.probe.prequential.update(rows=30, l2=(0.1,))
    config.probe.prequential.mlp.update(hidden=8, steps=20, weight_decay=(1.0,), checkpoints=1)
  rng = np.random.default_rng(0)
  examples = Examples(rng.normal(size=(50, 4)), rng.integers(0, 3, 50))
  # Two layers: the tokens themselves, and noise of their own.
  dataset = SimpleNamespace(train=examples, validation=examples, classes=3, dims=4)
  layers = lambda tokens: np.stack([tokens, np.cos(99 * tokens)]).astype(np.float32)  # noqa: E731
  values = {'loss': np.ones(50), 'nats': np.full(50, 4 * np.log(2))}
  built = SimpleNamespace(
    config=config, dataset=dataset, probe_dataset=dataset, probed=True,
    objective=SimpleNamespace(code=Code.EXACT), per_example=lambda *_, **__: values,
    features=lambda params, tokens, **_: layers(tokens),
  )  # fmt: skip
  assert evaluators.validate(built, None) == {'validation/loss': 1.0, BITS: 1.0}
  found = evaluators.label_codes(built, None)
  features = Features(
    train=layers(examples.tokens_NxT), validation=None, test=None, classes=3,
    labels_train=examples.labels_N, labels_validation=None, labels_test=None,
  )  # fmt: skip
  expected, _ = prequential.evaluate(features, config.probe.prequential, config.evaluation.seed)
  assert expected['all']['labels'] == 30
  for name, code in (('linear_bits', CODE), ('mlp_bits', theory.CODES['MLP'])):
    # The first order; the probe's own number is the mean over several.
    assert found[code] == pytest.approx(expected['all'][f'{name}_orders'][0], rel=1e-6)
  run = {'probes': {'prequential': expected}, 'steps': 4, 'validation': {'bits_per_dim': 2.0}}
  (point,) = theory.points(run, (), 'linear')
  assert point['code'] == expected['all']['linear_bits_orders'][0]


def test_configs_from_before_the_field_still_go_on(tmp_path):
  """A run of one period for all, in a loop over layers, is what today's fields say of it."""
  config = tiny.config('autoregressive', *tiny.PICTURES)
  config.model.unroll = 'never'
  config.evaluators.samples.at = config.evaluators.label_code.at = (0, 3)
  for entry in (config.evaluators.validation, config.evaluators.probe, config.checkpoints):
    entry.at = (0, 3)
  config.checkpoints.minutes = 0.0
  saved = configs.plain(config)
  del saved['evaluators'], saved['checkpoints'], saved['model']['attention']
  saved['model']['unroll'] = False
  saved['training'] |= {'evaluate_every': 4, 'evaluate_at': [3]}
  saved['probe']['during_training'] = True
  (tmp_path / 'config.json').write_text(json.dumps({'config': saved}))
  configs.check_same(str(tmp_path), config)
  # Fine-tuning is no part of this run.
  config.probe.finetune.all_steps = 7
  configs.check_same(str(tmp_path), config)
  config.probe.suite = (*config.probe.suite, 'finetune')
  with pytest.raises(configs.UserError, match='finetune.all_steps .* -> 7'):
    configs.check_same(str(tmp_path), config)
  config.probe.suite = config.probe.suite[:-1]
  config.evaluators.label_code.every = 4
  with pytest.raises(configs.UserError, match='label_code.every 0 -> 4'):
    configs.check_same(str(tmp_path), config)
