"""Every probe in the report: means recomputed, flags, pictures, caveats."""

import json
import re

import numpy as np
import pytest
from records import assemble, make_record, page_of, render, write_comparison, write_run

from probes.measures import headline
from reports import figures_probes, numbers, reading, report, summary, terminal, tidy
from runs import recorded


@pytest.fixture(scope='module', name='made')
def made_report(tmp_path_factory):
  top = write_comparison(tmp_path_factory.mktemp('probes'))
  controls = json.loads((top / 'controls.json').read_text())
  controls['pca'] = {'knn': {'all': {'accuracy': 0.61, 'stderr': 0.02}}}
  (top / 'controls.json').write_text(json.dumps(controls))
  rng = np.random.default_rng(0)
  for path in sorted(top.glob('runs/*')):
    features = rng.normal(size=(5, 40, 6)).astype(np.float32)
    np.savez_compressed(path / 'arrays.npz', **{'geometry/features': features})
  return top, report.build([top], top)


def test_summary_has_means_and_ranges_of_every_measure(made):
  _, results = made
  for entry in results['summary']:
    runs = [run for run in results['runs'] if run['objective'] == entry['objective']]
    values = [run['probes']['knn']['all']['accuracy'] for run in runs]
    found = entry['measures']['knn/accuracy']
    assert found['mean'] == pytest.approx(np.mean(values))
    assert (found['mean_min'], found['mean_max']) == (min(values), max(values))
    assert found['mean_ci95'] is None and found['replicates'] == 2
    rows = [run['probes']['knn']['all']['by_layer_validation'] for run in runs]
    np.testing.assert_allclose(found['by_layer'], np.mean(rows, 0))
    pac = entry['measures']['pac/bound']
    assert pac['flagged'] == 2
    assert pac['beside'] == pytest.approx(
      np.mean([r['probes']['pac']['all']['error'] for r in runs])
    )
  assert 'ridge/accuracy' not in results['summary'][0]['measures']  # not measured: not there


def test_result_table_keeps_to_the_primary_probe(made):
  _, results = made
  assert {probe for probe, _ in summary.probe_counts(results['runs'])} == {'linear'}


def test_page_shows_every_measure_with_unit_spread_flag_and_caveat(made):
  top, results = made
  html = page_of(top)
  section = html[html.index('<h2>Every probe</h2>') :]
  section = section[: section.index('</ul>')]
  entry = next(e for e in results['summary'] if e['objective'] == 'autoregressive')
  found = entry['measures']['linear_share']
  assert f'{found["mean"]:.2f}<small>{found["mean_min"]:.2f}–{found["mean_max"]:.2f}' in section
  assert '<small class="flag">vacuous</small>' in section
  bound = entry['measures']['pac/bound']
  assert f'<small>error {100 * bound["beside"][0]:.1f}</small>' in section
  assert '<small>uniform 3322, majority 3290</small>' in section
  head = re.findall(r'<th[^>]*>(.*?)</th>', section)
  column = next(i for i, cell in enumerate(head) if 'PCA of raw' in cell)
  row = re.search(r'<td class="text">kNN, centred<small>%</small></td>(.*?)</tr>', section)[1]
  assert re.findall(r'<td>(.*?)</td>', row)[column - 1] == '61.0'
  assert sum('saw all labels' in cell for cell in head) == 1
  assert 'these are beside it and decide nothing' in section
  for measure in headline():
    assert (measure.title in section) == (measure.name in entry['measures'])


def test_a_report_without_other_probes_has_no_such_section(tmp_path):
  record = make_record('autoregressive', 0)
  record['probes'] = {'linear': {'all': {'accuracy': 0.5, 'layer': 1}}}
  write_run(tmp_path, record)
  results = report.build([tmp_path], tmp_path)
  assert '<h2>Every probe</h2>' not in render(results)


def test_loss_curve_skips_the_uniform_block_and_averages_runs(made):
  _, results = made
  picture = figures_probes.loss_against_labels(results)
  linear, mlp = picture.axes
  assert [axis.get_ylabel() for axis in picture.axes] == [
    'bits a label, linear probe',
    'bits a label, MLP probe',
  ]
  line = next(line for line in linear.lines if len(line.get_xdata()) == 2)
  assert list(line.get_xdata()) == [10, 20]
  np.testing.assert_allclose(line.get_ydata(), [2.3, 1.3])
  heights = {line.get_ydata()[0] for line in linear.lines}
  assert np.log2(10) in heights  # uniform over 10 classes


def test_similarity_is_one_with_itself_and_near_zero_between_strangers(made):
  _, results = made
  features = {
    run['workdir']: reading.read_arrays(run['workdir'], ('geometry/features',))['geometry/features']
    for run in results['runs']
  }
  picture = figures_probes.similarity(results, features)
  values = np.asarray(picture.axes[0].images[0].get_array())
  assert values.shape == (25, 25)  # five layers of one run of each of five objectives
  np.testing.assert_allclose(values.diagonal(), 1, atol=1e-6)
  np.testing.assert_allclose(values, values.T, atol=1e-9)
  assert abs(values[~np.eye(25, dtype=bool)].mean()) < 0.05
  one = {results['runs'][0]['workdir']: features[results['runs'][0]['workdir']]}
  assert figures_probes.similarity(results, one) is None


def test_strangers_of_another_source_are_not_compared(tmp_path):
  for grammar, objective in enumerate(('autoregressive', 'masked')):
    changes = {'settings_of_data': {'grammar_seed': grammar}}
    path = write_run(tmp_path, make_record(objective, 0, **changes))
    np.savez(path / 'arrays.npz', **{'geometry/features': np.ones((2, 9, 3), np.float32)})
  results = assemble(tmp_path)
  features = {run['workdir']: np.ones((2, 9, 3)) for run in results['runs']}
  assert figures_probes.similarity(results, features) is None


def test_tidy_rows_hold_every_measure(made):
  top, results = made
  rows = tidy.load_results([top])
  run = next(run for run in results['runs'] if run['objective'] == 'masked' and run['seed'] == 1)
  own = rows[(rows.objective == 'masked') & (rows.seed == 1)]

  def value(measure, **where):
    found = own[own.measure == measure]
    for name, wanted in where.items():
      found = found[found[name] == wanted]
    (row,) = found.itertuples()
    return row.value, row.unit

  probes = run['probes']
  assert value('linear/usable_bits') == (probes['linear']['all']['usable_bits'], 'bits')
  assert value('linear_share') == (probes['mlp']['all']['linear_share'], 'ratio')
  assert value('control_task/selectivity')[0] == probes['control_task']['all']['selectivity']
  assert value('pac/bound') == (0.9, 'fraction')
  assert value('pac/bound/error')[0] == probes['pac']['all']['error']
  assert value('pac/bound/by_layer', layer=3)[0] == 0.95
  assert value('prequential/curve/linear_bits', labels='20') == (pytest.approx(1.3), 'bits/label')
  assert value('knn/accuracy', split='test')[0] == probes['knn']['all']['accuracy']
  assert list(rows[rows.objective == 'pca'].value) == [0.61]


def test_terminal_lines_by_hand():
  probes = {'pac': {'all': {'bound': 0.5, 'vacuous': False, 'error': 0.25}}}
  (line,) = terminal.probe_lines(probes, headline())
  assert line.split() == ['certified', 'error', '≤', '50.0', '%', '(error', '25.0)']


def test_a_code_is_printed_as_finely_as_its_spread_over_orders_allows():
  cell = {'uniform_bits': 3976.35, 'linear_bits': 503.21, 'linear_bits_spread': 24.3,
          'mlp_bits': 480.77, 'mlp_bits_spread': None}  # fmt: skip
  lines = terminal.probe_lines({'prequential': {'all': cell}}, headline())
  assert [' '.join(line.split()) for line in lines] == [
    'label code, linear 500 bits (± 20 over orders, uniform 3976)',
    'label code, MLP 481 bits (one order, uniform 3976)',
  ]
  tuned = {'bits': 312.66, 'uniform': 996.58}
  (line,) = terminal.probe_lines({'finetune': {'all': {'code': tuned}}}, headline())
  assert ' '.join(line.split()) == 'label code, fine-tuned 313 bits (one order, uniform 997)'
  for spread, text in ((0.31, '503.2'), (3.0, '503'), (100.0, '500'), (9.99, '503')):
    decimals = numbers.decimals_of(503.21, 'bits', spread)
    assert numbers.value_text(503.21, 'bits', decimals) == text


def test_errors_and_flags_stand_beside_usable_bits_and_their_share(tmp_path):
  for seed in range(2):
    record = make_record('autoregressive', seed)
    record['probes']['linear']['all'] |= {'usable_bits': 2.0 + seed, 'usable_bits_stderr': 0.04}
    record['probes']['mlp']['all'] |= {
      'linear_share': 0.9 + 0.2 * seed, 'linear_share_stderr': 0.06, 'above_1': seed == 1
    }  # fmt: skip
    record['probes']['prequential']['all'] |= {
      'linear_bits': 400.0 + 100 * seed, 'linear_bits_spread': 20.0, 'uniform_bits': 3976.3
    }  # fmt: skip
    write_run(tmp_path, record)
  html = render(report.build([tmp_path], tmp_path))
  assert '<td>2.50<small>2.00–3.00</small><small>± 0.04</small></td>' in html
  assert (
    '<td>1.00<small>0.90–1.10</small><small>± 0.06</small>'
    '<small class="flag">above 1 in 1</small></td>'
  ) in html
  assert (
    '<td>450<small>400–500</small><small>± 20 over orders</small>'
    '<small>uniform 3976, majority 3290</small></td>'
  ) in html
  probes = record['probes']
  lines = [' '.join(line.split()) for line in terminal.probe_lines(probes, headline())]
  assert 'linear, usable 3.00 bits (± 0.04)' in lines
  assert 'linear share 1.10 (± 0.06, above 1)' in lines
  rows = tidy.load_results([tmp_path])
  assert set(rows[rows.measure == 'linear/usable_bits'].stderr) == {0.04}
  assert set(rows[rows.measure == 'prequential/linear_bits/spread_over_orders'].value) == {20.0}


def test_what_was_left_out_and_the_guess_stand_in_table_page_and_summary(tmp_path):
  for objective in ('autoregressive', 'masked'):
    record = make_record(objective, 0) | {'majority': {'class': 3, 'accuracy': 0.98}}
    del record['probes']['linear']['100']
    record['probes']['left_out'] = {'linear': {'100': 'there are only 80 training labels'}}
    if objective == 'masked':
      record['probes']['left_out']['knn'] = {'1000': 'there are only 80 training labels'}
    write_run(tmp_path, record)
  results = report.build([tmp_path], tmp_path)
  primary = 'THE PRIMARY MEASURE, the linear probe with 100 labels is left out: '
  assert primary + 'there are only 80 training labels' in results['notes']
  assert any(n.startswith('knn probe with 1000 labels of masked is left') for n in results['notes'])
  assert results['controls']['majority'] == {'accuracy': pytest.approx(0.98)}
  table = terminal.terminal_table(results)
  assert primary in ' '.join(table.split())
  (row,) = [line for line in table.splitlines() if line.startswith('majority class')]
  assert row.split()[2:] == ['98.0'] * 4  # All, 10, 40 and 250 labels.
  html = render(results)
  assert primary in html
  assert '<td class="text">majority class</td>' in html and '<td>98.0</td>' in html
  assert 'Guessing the commonest training class is right on 98.0 % of test' in html
  assert 'linear probe with 100 labels is left out: there are only 80' in recorded.summary(record)
  lines = terminal.probe_lines(record['probes'], headline())
  assert lines[-1] == 'knn probe with 1000 labels is left out: there are only 80 training labels'
  (line,) = terminal.majority_lines(record['majority'])
  assert line.split() == ['majority', 'class', '(a', 'guess)', '98.0', '%']
  controls = {'majority': {'class': 3, 'accuracy': 0.97, 'stderr': 0.01}}
  (tmp_path / 'controls.json').write_text(json.dumps(controls))
  assert assemble(tmp_path)['controls']['majority'] == controls['majority']
  rows = tidy.load_results([tmp_path])
  (own,) = rows[rows.objective == 'majority'].itertuples()
  assert (own.measure, own.value, own.stderr) == ('majority/accuracy', 0.97, 0.01)
