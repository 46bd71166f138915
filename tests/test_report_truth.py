"""The report on sources whose law is known: regret, compute to equal regret, grammars, latents."""

import json
import math

import numpy as np
import pytest
from records import (
  ENTROPY,
  FACTOR,
  OBJECTIVES,
  STEPS,
  assemble,
  hierarchy_record,
  page_of,
  power_law,
  render,
  truth_of,
  write_hierarchy,
  write_hierarchy_run,
)
from scipy import stats

from reports import (
  figures_truth,
  finding,
  markdown,
  reading,
  regret,
  report,
  styles,
  terminal,
  tidy,
)
from reports import results as results_lib
from reports.errors import ReportError


@pytest.fixture(scope='module', name='three')
def three_grammars(tmp_path_factory):
  """Three grammars of one seed and their report, for the tests that only look."""
  top = write_hierarchy(tmp_path_factory.mktemp('three'))
  return top, report.build([top], top, notes=('gaussian_diffusion is left out: names',))


def entry_of(results, objective):
  return next(entry for entry in results['summary'] if entry['objective'] == objective)


def change_run(top, objective, grammar, **changes):
  (path,) = top.glob(f'runs/{objective}-{grammar}-0-*/run.json')
  path.write_text(json.dumps(json.loads(path.read_text()) | changes))


# Compute to equal regret.


def points(factor=1.0):
  """Nine points of r = c (F / factor)^-1/2."""
  return [(float(x), 3e4 * (x / factor) ** -0.5) for x in np.geomspace(1e9, 1e13, 9)]


@pytest.mark.parametrize('target', [0.5, 0.1, 0.05])
def test_compute_to_reach_inverts_a_power_law_between_its_points(target):
  # r = c F^-1/2, so F = (c / r)^2; straight lines between logarithms are exact on it
  assert regret.compute_to_reach(points(), target) == pytest.approx((3e4 / target) ** 2, rel=1e-9)
  ratio = regret.compute_to_reach(points(16.0), target) / regret.compute_to_reach(points(), target)
  assert ratio == pytest.approx(16.0, rel=1e-9)


def test_a_rise_of_the_curve_is_not_credited_and_not_punished():
  curve = [(1.0, 8.0), (2.0, 4.0), (4.0, 6.0), (8.0, 1.0)]
  assert regret.envelope(curve) == [(1.0, 8.0), (2.0, 4.0), (4.0, 4.0), (8.0, 1.0)]
  # between the last point at 4 and the first at 1, half way in logarithms
  assert regret.compute_to_reach(curve, 2.0) == pytest.approx(math.sqrt(4.0 * 8.0))
  assert regret.compute_to_reach(curve, 4.0) == pytest.approx(2.0)
  assert regret.compute_to_reach(curve, 0.5) is None  # never reached
  assert regret.compute_to_reach(curve, 8.0) is None  # held from the first point on: unknown since


def test_points_without_a_place_on_a_log_axis_are_left_out():
  lines = [{'flops': 0.0, regret.CURVE: 2.0}, {'flops': 2.0, regret.CURVE: -0.1}]
  lines += [{'flops': 1.0, regret.CURVE: 0.5}, {'flops': 3.0}, {regret.CURVE: 1.0}]
  assert regret.curve(lines) == [(1.0, 0.5)]


def test_equal_regret_of_the_comparison_is_the_known_factor(three):
  _, results = three
  (found,) = results['equal_regret']
  assert (found['objective'], found['reference']) == ('masked_diffusion', 'autoregressive')
  assert found['ratio'] == pytest.approx(FACTOR, rel=1e-9)
  assert [r['grammar'] for r in found['ratios']] == [0, 1, 2]
  assert (found['compared'], found['replicates']) == (3, 3)
  # the lowest regret that all of them reach: the slower objective's last point, worst grammar
  assert found['regret'] == pytest.approx(power_law(STEPS[-1] * 3.5e9, FACTOR, 2))
  text = terminal.terminal_table(results)
  assert 'masked_diffusion takes 16 times the FLOPs of autoregressive' in text
  assert '64 times for Gaussian' in text.replace('\n  ', ' ')
  shown = [line.split(' | ') for line in markdown.text(results).splitlines() if '|' in line]
  begin = next(i for i, line in enumerate(shown) if line[0] == '| regret')
  assert shown[begin][-1] == 'FLOPs to equal regret, times those of autoregressive |'
  own, other = shown[begin + 2 : begin + 4]
  exact, bound = (
    np.mean([truth_of(name, g, STEPS[-1] * 3.5e9)['regret_bits_per_dim'] for g in range(3)])
    for name in ('autoregressive', 'masked_diffusion')
  )
  assert own[:2] == ['| autoregressive', f'{STEPS[-1]:,}'] and own[-1] == ' |'
  assert own[3].startswith(f'{exact:.4f} (') and other[3].startswith(f'≤ {bound:.4f} (')
  assert other[-1] == f'16 (16–16) at {found["regret"]:.2g} |'


def test_range_and_geometric_mean_over_replicates(tmp_path):
  write_hierarchy(tmp_path, grammars=2)
  (path,) = tmp_path.glob('runs/masked_diffusion-1-*/metrics.jsonl')
  lines = [json.loads(line) for line in path.read_text().splitlines()]
  for line in lines:  # this grammar needs four times less than the other
    line[regret.CURVE] = power_law(line['flops'], FACTOR / 4, 1)
  path.write_text('\n'.join(map(json.dumps, lines)))
  (found,) = assemble(tmp_path)['equal_regret']
  assert (found['minimum'], found['maximum']) == pytest.approx((FACTOR / 4, FACTOR))
  assert found['ratio'] == pytest.approx(math.sqrt(FACTOR * FACTOR / 4))


def test_curves_that_do_not_overlap_are_not_reached(tmp_path):
  write_hierarchy(tmp_path, grammars=1)
  (path,) = tmp_path.glob('runs/masked_diffusion-0-*/metrics.jsonl')
  lines = [{'step': s, 'flops': s * 3.5e9, regret.CURVE: 2.0 - s / 1e4} for s in STEPS]
  path.write_text('\n'.join(map(json.dumps, lines)))
  results = assemble(tmp_path)
  (found,) = results['equal_regret']
  assert found['ratio'] is None and found['regret'] is None
  assert 'masked_diffusion: equal regret not reached' in terminal.terminal_table(results)
  assert 'equal regret not reached' in render(results)


def test_regret_below_its_noise_is_no_target(tmp_path):
  write_hierarchy(tmp_path, grammars=1)
  for objective in ('autoregressive', 'masked_diffusion'):
    truth = hierarchy_record(objective, 0)['truth'] | {'regret_stderr': 0.15}
    change_run(tmp_path, objective, 0, truth=truth)
  (found,) = assemble(tmp_path)['equal_regret']
  assert found['regret'] == pytest.approx(0.45)
  assert found['ratio'] == pytest.approx(FACTOR, rel=1e-9)


# Numbers that can't be true.


@pytest.mark.parametrize(('value', 'wrong'), [(-0.0029, False), (-0.0031, True)])
def test_regret_below_zero_by_three_standard_errors_is_an_error(tmp_path, value, wrong):
  write_hierarchy(tmp_path)
  truth = hierarchy_record('masked_diffusion', 1)['truth']
  truth |= {'regret_bits_per_dim': value, 'regret_stderr': 0.001}
  change_run(tmp_path, 'masked_diffusion', 1, truth=truth, bits_per_dim=ENTROPY + value)
  results = assemble(tmp_path)
  text, table = render(results), terminal.terminal_table(results)
  assert len(results['errors']) == int(wrong)
  assert ('Impossible numbers' in text) == wrong
  assert ('ERROR: masked_diffusion, grammar 1, seed 0' in table) == wrong
  assert entry_of(results, 'masked_diffusion')['wrong'] == int(wrong)
  if wrong:
    assert '(3.1 standard errors)' in results['errors'][0] and '<p class="wrong">' in text


def test_bits_below_the_entropy_are_an_error_whatever_the_regret_says(tmp_path):
  write_hierarchy(tmp_path)
  change_run(tmp_path, 'autoregressive', 0, bits_per_dim=ENTROPY - 0.05)  # standard error 0.012
  also = {'masked_diffusion': {'code': 'upper_bound', 'bits_per_dim': ENTROPY - 0.05}}
  also['masked_diffusion'] |= {'bits_per_dim_stderr': 0.01, 'evaluation_draws': 4}
  also['masked_diffusion']['truth'] = {'entropy_bits_per_dim': ENTROPY}
  change_run(tmp_path, 'masked', 0, also=also)
  errors = assemble(tmp_path)['errors']
  assert [error.split(',')[0] for error in errors] == ['autoregressive', 'masked']
  assert '0.0500 bits per dimension below the true entropy (5.0' in errors[1]


# Replicates.


def test_grammars_are_replicates_not_duplicates(three):
  top, results = three
  entry = entry_of(results, 'masked_diffusion')
  regrets = [power_law(STEPS[-1] * 3.5e9, FACTOR, grammar) for grammar in range(3)]
  assert entry['regret'] == pytest.approx(np.mean(regrets))
  assert (entry['regret_min'], entry['regret_max']) == pytest.approx((min(regrets), max(regrets)))
  assert (entry['replicates'], entry['grammars'], entry['seeds']) == (3, [0, 1, 2], 1)
  assert entry['regret_ci95'] is None and results['verdicts'] == []
  text = page_of(top)
  assert '<dt>Grammars</dt><dd>0, 1, 2; seeds 0</dd>' in text
  assert all(f'grammar {grammar}</th>' in text for grammar in range(3))
  assert all(f'<td>≤ {value:.4f}</td>' in text for value in regrets)
  assert 'gaussian_diffusion is left out: names' in text
  assert 'gaussian_diffusion is left out: names' in terminal.terminal_table(results)
  rows = tidy.load_results([top])
  mine = rows[(rows.measure == 'regret_bits_per_dim') & (rows.objective == 'masked_diffusion')]
  assert dict(zip(mine.grammar, mine.value, strict=True)) == pytest.approx(dict(enumerate(regrets)))


def test_the_same_grammar_and_seed_twice_and_other_sources_are_refused(tmp_path):
  write_hierarchy(tmp_path, grammars=1)
  write_hierarchy_run(tmp_path / 'again', hierarchy_record('masked', 0))
  with pytest.raises(ReportError, match='both masked, grammar 0, seed 0'):
    assemble(tmp_path)
  harder = hierarchy_record('masked', 1, settings_of_data={'grammar_seed': 1, 'productions': 3})
  write_hierarchy_run(tmp_path / 'harder', harder)
  with pytest.raises(ReportError, match='runs differ in their data'):
    assemble(tmp_path / 'harder', tmp_path / 'runs')


def test_both_names_of_the_grammar_are_read_and_its_sources_are_one_line(tmp_path):
  write_hierarchy_run(tmp_path, hierarchy_record('masked', 0))
  path = write_hierarchy_run(tmp_path, hierarchy_record('masked', 1))
  record = json.loads((path / 'run.json').read_text())
  record['settings_of_data'] = {'grammar': 1, 'productions': 2}
  (path / 'run.json').write_text(json.dumps(record))
  of = {'data': {'name': 'hierarchy', 'grammar_seed': 0}}
  controls = {'of': of, 'raw': record['probes']}
  (tmp_path / 'controls.json').write_text(json.dumps(controls))
  results = assemble(tmp_path)
  assert results['summary'][0]['grammars'] == [0, 1]
  assert results['note'] == 'random hierarchy model 0, 1: 16 tokens'
  assert 'raw input (g 0)' in terminal.terminal_table(results)


def test_intervals_are_over_grammars_with_seeds_averaged_inside(tmp_path):
  results = assemble(write_hierarchy(tmp_path, grammars=5, seeds=2))
  entry = entry_of(results, 'autoregressive')
  values = {}
  for run in results['runs']:
    if run['objective'] == 'autoregressive':
      grammar = run['settings_of_data']['grammar_seed']
      values.setdefault(grammar, []).append(run['probes']['linear']['100']['accuracy'])
  means = [np.mean(group) for group in values.values()]
  assert (entry['replicates'], entry['units'], entry['seeds']) == (10, 5, 2)
  expected = stats.t.interval(0.95, 4, np.mean(means), stats.sem(means))
  assert entry['linear_100_ci95'] == pytest.approx(expected, abs=1e-9)
  assert {pair['seeds'] for pair in results['verdicts']} == {5}
  assert all('5 grammars' in pair['verdict'] for pair in results['verdicts'])
  grammars = {run['settings_of_data']['grammar_seed'] for run in results['runs']}
  for pair in results['verdicts']:
    # Each grammar has test examples of its own: over grammars nothing is shared.
    first, second = (
      [np.mean(accuracies_of(results, pair[side], grammar)) for grammar in grammars]
      for side in ('first', 'second')
    )
    assert pair['p'] == pytest.approx(stats.ttest_rel(first, second).pvalue)
  assert 'about new grammars' in render(results)
  assert results_lib.assemble(finding.find([tmp_path]))['notes'] == []


def accuracies_of(results, objective, grammar):
  return [
    run['probes']['linear']['100']['accuracy']
    for run in results['runs']
    if (run['objective'], run['settings_of_data']['grammar_seed']) == (objective, grammar)
  ]


def test_unbalanced_grammars_have_mean_and_interval_of_the_same_units(tmp_path):
  """Grammar 0 with six seeds of .9 beside four grammars with one seed each."""
  accuracy = {0: 0.9, 1: 0.5, 2: 0.55, 3: 0.6, 4: 0.45}
  regret = {grammar: 0.1 + 0.01 * grammar for grammar in accuracy}
  for grammar, value in accuracy.items():
    for seed in range(6 if grammar == 0 else 1):
      record = hierarchy_record('masked_diffusion', grammar, seed)
      record['probes']['linear']['100']['accuracy'] = value
      record['truth'] |= {'regret_bits_per_dim': regret[grammar], 'by_k': [regret[grammar]] * 3}
      write_hierarchy_run(tmp_path, record)
  entry = entry_of(assemble(tmp_path), 'masked_diffusion')
  low, high = entry['linear_100_ci95']
  assert entry['linear_100'] == pytest.approx(np.mean(list(accuracy.values())))
  assert low < entry['linear_100'] < high and (low + high) / 2 == pytest.approx(entry['linear_100'])
  assert entry['regret'] == pytest.approx(0.12)
  assert entry['regret_by_k'] == pytest.approx([0.12] * 3)


def test_a_missing_grammar_is_told(tmp_path):
  write_hierarchy(tmp_path)
  (path,) = tmp_path.glob('runs/masked-2-*/run.json')
  path.unlink()
  notes = assemble(tmp_path)['notes']
  assert notes == ['masked (nano) lacks grammar 2, seed 0: its mean is over fewer replicates']


def test_a_grammar_that_an_objective_lacks_has_a_column_with_a_gap(tmp_path):
  write_hierarchy(tmp_path)
  (path,) = tmp_path.glob('runs/masked_diffusion-1-*/run.json')
  path.unlink()
  for objective in ('autoregressive', 'masked_diffusion'):
    truth = hierarchy_record(objective, 2)['truth'] | {'regret_bits_per_dim': None}
    change_run(tmp_path, objective, 2, truth=truth)
  text = render(assemble(tmp_path))
  section = text[text.index('<h2>Regret</h2>') :].split('</table>')[0]
  assert 'grammar 1</th>' in section and 'grammar 2</th>' not in section
  zero, one = (power_law(STEPS[-1] * 3.5e9, 1.0, grammar) for grammar in range(2))
  assert f'<td>{zero:.4f}</td><td>{one:.4f}</td>' in section
  bound = power_law(STEPS[-1] * 3.5e9, FACTOR, 0)
  assert f'<td>≤ {bound:.4f}</td><td>–</td>' in section


def test_objectives_that_can_not_be_told_apart_are_named(tmp_path):
  write_hierarchy(tmp_path, grammars=2)
  accuracy = {'autoregressive': (0.7, 0.8), 'masked_diffusion': (0.75, 0.9), 'masked': (0.2, 0.3)}
  for objective, values in accuracy.items():
    for grammar, value in enumerate(values):
      probes = hierarchy_record(objective, grammar)['probes']
      probes['linear']['100']['accuracy'] = value
      change_run(tmp_path, objective, grammar, probes=probes)
  results = assemble(tmp_path)
  (found,) = results['indistinct']
  assert found['pairs'] == [['autoregressive', 'masked_diffusion']]
  sentence = (
    'On the linear probe at 100 labels, autoregressive and masked_diffusion: not tested (fewer '
    'than 5 grammars in common), their ranges over grammars overlap.'
  )
  assert sentence in render(results)
  assert sentence in terminal.terminal_table(results).replace('\n  ', ' ')


def test_one_run_each_tells_nothing_apart(tmp_path):
  results = assemble(write_hierarchy(tmp_path, grammars=1))
  assert len(results['indistinct'][0]['pairs']) == 3
  text = render(results)
  assert 'there is but one run of each' in text and 'can not be told apart' not in text


# Latents, sizes, pictures.


def test_latents_are_means_over_nodes_and_replicates(three):
  _, results = three
  for objective in OBJECTIVES:
    entry = entry_of(results, objective)
    base = 0.4 + 0.05  # mean over grammars 0, 1, 2
    rows = {
      '0': [base + 0.01 * k for k in range(5)],
      '1': [base + 0.11 + 0.01 * k for k in range(5)],
    }
    assert {level: pytest.approx(row) for level, row in rows.items()} == entry['latents']
    assert entry['latents_chance'] == {'0': pytest.approx(0.13), '1': pytest.approx(0.15)}
  shown = figures_truth.latents(results)
  maps = [axis for axis in shown.axes if axis.images]
  assert len(maps) == len(OBJECTIVES)
  drawn = np.asarray(maps[0].images[0].get_array())
  assert drawn == pytest.approx(np.array([[0.3, *rows['0']], [0.5, *rows['1']]]))
  assert [label.get_text() for label in maps[0].get_yticklabels()] == [
    'root, chance 13%', 'level 1 (mean of 2), chance 15%',
  ]  # fmt: skip
  assert [label.get_text() for label in maps[0].get_xticklabels()] == ['raw', *'01234']


def test_regret_pictures_show_the_values(three):
  top, results = three
  curves = {run['workdir']: reading.read_curve(run['workdir']) for run in results['runs']}
  left, right = figures_truth.regret_curves(results, curves).axes
  assert left.get_xscale() == right.get_xscale() == left.get_yscale() == 'log'
  expected = [np.mean([power_law(s * 3.5e9, 1.0, g) for g in range(3)]) for s in STEPS]
  assert right.lines[0].get_xdata() == pytest.approx([s * 3.5e9 for s in STEPS])
  assert right.lines[0].get_ydata() == pytest.approx(expected)
  assert left.lines[0].get_xdata() == pytest.approx([s * 32 * 16 for s in STEPS])
  assert len(left.lines) == 2
  for name in ('regret_curves', 'regret_by_hidden', 'latents'):
    assert (top / 'report' / f'{name}.png').stat().st_size > 5000
  (axis,) = figures_truth.regret_by_hidden(results).axes
  by_k = entry_of(results, 'masked_diffusion')['regret_by_k']
  assert list(axis.lines[0].get_ydata()) == by_k and len(by_k) == 16


def test_several_sizes_have_rows_a_reference_and_a_picture_of_their_own(tmp_path):
  sizes = {'nano': 2e5, 'micro': 1e6}
  for size, parameters in sizes.items():
    for objective in ('autoregressive', 'masked_diffusion'):
      for grammar in range(2):
        record = hierarchy_record(objective, grammar, size=size, parameters_backbone=parameters)
        record['truth']['regret_bits_per_dim'] *= 2e5 / parameters
        write_hierarchy_run(tmp_path, record)
  results = report.build([tmp_path], tmp_path)
  assert [(e['objective'], e['size']) for e in results['summary']] == [
    (name, size) for size in sizes for name in ('autoregressive', 'masked_diffusion')
  ]
  assert [(f['size'], pytest.approx(FACTOR)) for f in results['equal_regret']] == [
    (f['size'], f['ratio']) for f in results['equal_regret']
  ]
  (axis,) = figures_truth.regret_by_size(results).axes
  x, y = axis.lines[0].get_data()
  assert list(x) == list(sizes.values())
  assert y[0] / y[1] == pytest.approx(5.0)
  assert 'micro: masked_diffusion takes 16 times' in terminal.terminal_table(results)
  looks = styles.styles(results)
  assert len({look.colour for look in looks.values()}) == 4
