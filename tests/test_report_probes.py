"""Every probe in the report: means recomputed, flags, pictures, caveats."""

import json
import re

import numpy as np
import pytest
from records import assemble, make_record, page_of, render, write_comparison, write_run

from probes.measures import headline
from reports import figures_probes, reading, report, summary, terminal, tidy


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
  assert f'<small>error {100 * bound["beside"]:.1f}</small>' in section
  head = re.findall(r'<th[^>]*>(.*?)</th>', section)
  column = next(i for i, cell in enumerate(head) if 'PCA of raw' in cell)
  row = re.search(r'<td class="text">kNN<small>%</small></td>(.*?)</tr>', section)[1]
  assert re.findall(r'<td>(.*?)</td>', row)[column - 1] == '61.0'
  assert sum('saw all labels' in cell for cell in head) == 1
  assert 'no verdict is drawn from them' in section
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
