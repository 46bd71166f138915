"""The report against hand-written records: every shown number is recomputed independently."""

import base64
import itertools
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from records import (
  HISTOGRAM,
  OBJECTIVES,
  assemble,
  make_record,
  page_of,
  render,
  write_comparison,
  write_run,
)
from scipy import optimize, stats
import tiny

from reports import (
  canvas,
  choice,
  comparison_files,
  figures,
  finding,
  intervals,
  page,
  reading,
  report,
  terminal,
  tidy,
)
from reports import results as results_lib
from reports.errors import ReportError

# Pictures that records without truth, samples and levels have something to show in.
PLAIN_PICTURES = 8


@pytest.fixture(scope='module', name='two')
def two_seeds(tmp_path_factory) -> tuple[pathlib.Path, dict]:
  """A comparison of two seeds and its report, for the tests that only look."""
  top = write_comparison(tmp_path_factory.mktemp('two'))
  return top, report.build([top], top)


def values_of(results: dict, objective: str, labels: str) -> list[float]:
  runs = [run for run in results['runs'] if run['objective'] == objective and run['selected']]
  return [run['probes']['linear'][labels]['accuracy'] for run in runs]


# results.json.


def test_results_json_has_the_promised_fields_and_no_nan(tmp_path):
  write_comparison(tmp_path, bits_per_dim_stderr=float('nan'))
  report.build([tmp_path], tmp_path)

  def refuse(name):
    raise AssertionError(f'{name} in results.json')

  results = json.loads((tmp_path / 'results.json').read_text(), parse_constant=refuse)
  assert results['schema'] == 1
  assert (results['dataset'], results['alphabet'], results['dims']) == ('digits', 17, 64)
  assert (results['git'], results['versions']) == ('abc1234', {'jax': '0.10.2'})
  assert len(results['runs']) == 10
  for run in results['runs']:
    assert set(results_lib.RUN_FIELDS) <= set(run)
    assert run['bits_per_dim_stderr'] is None
    assert (run['bits_per_dim'] is None) == (run['code'] == 'none')
    assert pathlib.Path(run['workdir'], 'run.json').exists()  # where it is, not where it was
  assert results['controls']['raw']['linear']['100']['accuracy'] > 0
  assert {
    'objective',
    'seeds',
    'bits_per_dim',
    'bits_ci95',
    'linear_all',
    'linear_all_ci95',
  } <= set(results['summary'][0])


def test_summary_below_five_seeds_has_range_but_neither_interval_nor_verdict(tmp_path):
  results = assemble(write_comparison(tmp_path, seeds=4))
  entry = next(e for e in results['summary'] if e['objective'] == 'autoregressive')
  values = values_of(results, 'autoregressive', '100')
  assert entry['seeds'] == len(values) == 4
  assert entry['linear_100'] == pytest.approx(np.mean(values), abs=1e-12)
  assert (entry['linear_100_min'], entry['linear_100_max']) == (min(values), max(values))
  assert entry['linear_100_ci95'] is None and entry['bits_ci95'] is None
  assert results['verdicts'] == []
  assert results['no_verdicts'] == 'fewer than 5 seeds in common'


def test_summary_from_five_seeds_has_t_intervals_and_holm_corrected_pairs(tmp_path):
  results = assemble(write_comparison(tmp_path, seeds=5))
  entry = next(e for e in results['summary'] if e['objective'] == 'masked_diffusion')
  for name, values in (
    ('linear_250', values_of(results, 'masked_diffusion', '250')),
    ('bits', [r['bits_per_dim'] for r in results['runs'] if r['code'] == 'upper_bound']),
  ):
    expected = stats.t.interval(0.95, 4, np.mean(values), stats.sem(values))
    assert entry[f'{name}_ci95'] == pytest.approx(expected, abs=1e-9)
    assert entry.get(f'{name}_ci95_of') == ('seeds' if name == 'linear_250' else None)
  # Where predictions are saved, test examples are part of it.
  right_SxN = right(results, 'masked_diffusion')
  errors = np.array([stats.sem(right_SxN.mean(1)), stats.sem(right_SxN.mean(0))])
  half = np.hypot(*(stats.t.ppf(0.975, [4, right_SxN.shape[1] - 1]) * errors))
  expected = right_SxN.mean() + np.array([-half, half])
  assert entry['linear_100_ci95'] == pytest.approx(expected, abs=1e-9)
  assert entry['linear_100_ci95_of'] == 'seeds and examples'
  assert entry['linear_100'] == pytest.approx(right_SxN.mean(), abs=1e-6)
  for words in (
    'Intervals of accuracies are about new seeds, new label draws and new test examples',
    '; some are over seeds (linear at all, 10, 40, 250 labels; knn at all labels; mlp at all '
    'labels): other seeds and label draws, on these test examples.',
  ):
    assert words in ' '.join(render(results).split())
    assert words in terminal.terminal_table(results).replace('\n  ', ' ')
  # Where that is so of some rows alone, they are named.
  first, *_ = (run['workdir'] for run in results['runs'] if run['objective'] == 'masked')
  arrays = pathlib.Path(first) / 'arrays.npz'
  arrays.rename(arrays.with_suffix('.kept'))
  assert intervals.over_seeds(assemble(tmp_path)) == [
    'linear at all, 10, 40, 250 labels', 'linear at 100 labels of masked', 'knn at all labels',
    'mlp at all labels',
  ]  # fmt: skip
  arrays.with_suffix('.kept').rename(arrays)
  # Supervised runs saw all labels: theirs is no few-label result.
  trained = ('autoregressive', 'masked_diffusion', 'masked')
  pairs = {(v['first'], v['second']): v for v in results['verdicts']}
  family = set(map(frozenset, itertools.combinations(trained, 2)))
  assert {frozenset(pair) for pair, v in pairs.items() if not v['control']} == family
  controls = {pair for pair, v in pairs.items() if v['control']}
  assert controls == {(name, 'untrained') for name in trained}
  raw = {pair: crossed(results, *pair) for pair in pairs}
  for pair, found in pairs.items():
    assert (found['difference'], found['p']) == pytest.approx(raw[pair][:2], rel=1e-6)
    assert found['half_width'] == pytest.approx(raw[pair][2], rel=1e-6)
    values = [np.mean(values_of(results, name, '100')) for name in pair]
    assert found['means'] == pytest.approx(values) and not found['alone']
  running, ranked = 0.0, sorted(set(pairs) - controls, key=lambda pair: raw[pair][1])
  for rank, pair in enumerate(ranked):
    running = max(running, (3 - rank) * raw[pair][1])
    assert pairs[pair]['p_holm'] == pytest.approx(min(1, running), rel=1e-6)
  assert all(pairs[pair]['p_holm'] is None for pair in controls)
  difference, _, half = raw['autoregressive', 'untrained']
  sentence = (
    f'autoregressive minus untrained (control): {100 * difference:+.1f} ± {100 * half:.1f} points, '
    '5 seeds'
  )
  assert sentence in terminal.terminal_table(results)
  assert sentence in render(results)
  for words in ('new seeds, new label draws and new test images', 'over the 3 tested pairs'):
    assert words in render(results)
    assert words in terminal.terminal_table(results).replace('\n  ', ' ')


def right(results: dict, name: str) -> np.ndarray:
  """By seed and test example, the share of label draws by which the primary probe was right."""
  runs = sorted(
    (run for run in results['runs'] if run['objective'] == name), key=lambda run: run['seed']
  )
  arrays = [np.load(pathlib.Path(run['workdir'], 'arrays.npz')) for run in runs]
  return np.stack([(a['linear/100/predictions'] == a['labels']).mean(0) for a in arrays])


def crossed(results: dict, first: str, second: str) -> tuple[float, float, float]:
  """Difference, p and half width from the arrays, by Banerjee's formula."""
  d_SxN = right(results, first) - right(results, second)
  errors = np.array([stats.sem(d_SxN.mean(1)), stats.sem(d_SxN.mean(0))])

  def half(level):
    return np.hypot(*(stats.t.isf(level / 2, [len(d_SxN) - 1, d_SxN.shape[1] - 1]) * errors))

  p = optimize.brentq(lambda level: half(level) - abs(d_SxN.mean()), 1e-300, 1, xtol=1e-300)
  return d_SxN.mean(), p, half(0.05)


def test_learning_rate_is_chosen_by_own_validation_loss_not_by_test(tmp_path):
  losses = {1e-3: 1.40, 2e-3: 1.20, 4e-3: 1.30}
  bits = {1e-3: 1.70, 2e-3: 1.90, 4e-3: 1.80}  # the best on test is not the best on validation
  for rate, loss in losses.items():
    for seed in range(2):
      record = make_record('autoregressive', seed, learning_rate=rate, bits_per_dim=bits[rate])
      record['validation']['loss'] = record['validation']['best_loss'] = loss + 0.01 * seed
      write_run(tmp_path, record)
  lucky = make_record('autoregressive', 0, learning_rate=8e-3)
  lucky['validation']['loss'] = 0.1  # only one seed: may not win
  write_run(tmp_path, lucky)
  results = assemble(tmp_path)
  assert len(results['runs']) == 7
  assert {r['learning_rate'] for r in results['runs'] if r['selected']} == {2e-3}
  (entry,) = results['summary']
  assert entry['bits_per_dim'] == pytest.approx(1.9)
  assert entry['learning_rate_grid'] == [1e-3, 2e-3, 4e-3, 8e-3] and entry['tuned']
  assert any('0.008 left out' in note for note in results['notes'])
  assert 'untuned' not in terminal.terminal_table(results)


def test_learning_rate_and_clip_norm_are_chosen_together(tmp_path):
  losses = {(1e-3, 0.5): 2.0, (1e-3, 1.0): 1.7, (2e-3, 0.5): 1.6, (2e-3, 1.0): 1.8}
  for (rate, clip), loss in losses.items():
    record = make_record('masked', 0, learning_rate=rate, clip_norm=clip)
    record['validation'] = {'loss': loss, 'best_loss': loss, 'best_step': record['steps']}
    write_run(tmp_path / f'runs/masked-lr{rate}-clip{clip}', record)
  results = report.build([tmp_path], tmp_path)
  (entry,) = results['summary']
  chosen = [run for run in results['runs'] if run['selected']]
  assert [(run['learning_rate'], run['clip_norm']) for run in chosen] == [(2e-3, 0.5)]
  assert entry['learning_rate_grid'] == [1e-3, 2e-3] and entry['clip_norm_grid'] == [0.5, 1.0]
  few = 'only two clip norms were tried, 0.5 and 1: no choice lies inside the grid'
  assert results['notes'].count(few) == 1
  write_run(tmp_path / 'again', {**chosen[0], 'workdir': 'again'})
  with pytest.raises(
    ReportError, match='learning rate 0.002, clip norm 0.5: name only one of them'
  ):
    report.build([tmp_path], tmp_path)


def test_one_learning_rate_is_printed_as_untuned(two):
  top, results = two
  assert 'untuned' in terminal.terminal_table(results)
  assert 'untuned' in page_of(top)


def test_a_bound_at_the_histogram_is_flagged(tmp_path):
  write_comparison(tmp_path)
  for path in tmp_path.glob('runs/masked_diffusion-*/run.json'):
    record = json.loads(path.read_text()) | {'bits_per_dim': HISTOGRAM - 0.04}
    path.write_text(json.dumps(record))
  results = assemble(tmp_path)
  flags = {entry['objective']: entry['no_context_learned'] for entry in results['summary']}
  assert flags == dict.fromkeys(OBJECTIVES) | {'masked_diffusion': True}
  assert 'no context learned</small>' in render(results)
  assert 'masked_diffusion: no context learned' in terminal.terminal_table(results)


def test_overfit_and_underfit_are_told_from_the_curve():
  def run(last, best, best_step=800):
    validation = {'loss': last, 'best_loss': best, 'best_step': best_step}
    return {'steps': 800, 'validation': validation}

  def curve(earlier):
    return [{'step': 700, 'validation/loss': earlier}, {'step': 800, 'validation/loss': 1.0}]

  assert choice.fit_state(run(1.03, 1.0, 300), []) == 'overfit'
  assert choice.fit_state(run(1.01, 1.0, 300), []) == 'ok'
  assert choice.fit_state(run(1.0, 1.0), curve(1.03)) == 'underfit'
  assert choice.fit_state(run(1.0, 1.0), curve(1.005)) == 'ok'
  # Of a fall of 2 % from step 700 on 1.6 % are in the last tenth; of one from step 400 on nobody
  # knows: 1 + 4 exp(-s / 100) has fallen by 7 %, by .05 % in the last tenth.
  assert choice.fit_state(run(1.0, 1.0), curve(1.02)) == 'underfit'
  for earlier in (1.02, 1.07):
    assert choice.fit_state(run(1.0, 1.0), [{'step': 400, 'validation/loss': earlier}]) == 'ok'
  line = [{'step': step, 'validation/loss': 1.8 - step / 1000} for step in (0, 400)]
  assert choice.fit_state(run(1.0, 1.0), line) == 'underfit'
  assert choice.fit_state(run(1.0, 1.0), []) == 'ok'
  # One that levels off, measured four times: 4 exp(-6 t) falls by .8 % in the last tenth (by a line
  # 1.4 %), 8 exp(-6 t) by 1.6 %.
  for high, state in ((4, 'ok'), (8, 'underfit')):
    losses = 1 + high * np.exp(-6 * np.arange(5) / 4)
    points = [
      {'step': 200 * place, 'validation/loss': loss} for place, loss in enumerate(losses[:-1])
    ]
    assert choice.fit_state(run(losses[-1], losses[-1]), points) == state
  assert choice.fit_state({'validation': {'loss': None}}, []) is None


# What is refused, and what is only listed.


@pytest.mark.parametrize(
  'change', [{'dataset': 'noise'}, {'alphabet': 256}, {'dims': 784}, {'probe_dataset': 'noise'}]
)
def test_different_data_in_one_column_are_refused(tmp_path, change):
  write_run(tmp_path, make_record('autoregressive', 0))
  write_run(tmp_path, make_record('masked', 0, **change))
  with pytest.raises(ReportError, match=f'runs differ in {next(iter(change))}') as caught:
    assemble(tmp_path)
  assert '\n' not in str(caught.value)


def test_exact_and_bound_of_one_objective_are_not_pooled(tmp_path):
  write_run(tmp_path, make_record('autoregressive', 0))
  write_run(tmp_path, make_record('autoregressive', 1, code='upper_bound'))
  with pytest.raises(ReportError, match='code exact and upper_bound'):
    assemble(tmp_path)


def test_seeds_of_different_trainings_are_not_pooled(tmp_path):
  write_run(tmp_path, make_record('masked', 0, settings={'ratio': 0.15}))
  write_run(tmp_path, make_record('masked', 1, settings={'ratio': 0.5}))
  with pytest.raises(ReportError, match='not seeds of one training'):
    assemble(tmp_path)


def test_bits_at_the_best_step_stand_beside_the_last(tmp_path):
  best = {'step': 300, 'bits_per_dim': 2.1234, 'bits_per_dim_stderr': 0.01, 'probes': {}}
  validation = {'loss': 1.5, 'best_loss': 1.2, 'best_step': 300}
  write_run(tmp_path, make_record('masked_diffusion', 0, at_best=best, validation=validation))
  write_run(tmp_path, make_record('autoregressive', 0))  # its best is its last
  results = assemble(tmp_path)
  text = render(results)
  last = results['summary'][0]['bits_per_dim']
  cells = f'<td>{last:.3f}</td><td>≤ 2.123</td>'
  assert f'test bits at the best step</td>{cells}' in text
  rows = tidy.load_results([tmp_path])
  (row,) = rows[rows.measure == 'at_best/bits_per_dim'].itertuples()
  assert (row.value, row.stderr) == (2.1234, 0.01)


def test_duplicates_are_refused_but_one_directory_named_twice_counts_once(tmp_path):
  first = write_run(tmp_path, make_record('autoregressive', 0), 'a')
  results = assemble(first, tmp_path, tmp_path / 'runs')
  assert results['summary'][0]['seeds'] == 1
  write_run(tmp_path, make_record('autoregressive', 0), 'b')
  with pytest.raises(ReportError, match='name only one of them'):
    assemble(tmp_path)


def test_failed_unfinished_and_unreadable_runs_are_listed_not_averaged(tmp_path):
  write_run(tmp_path, make_record('autoregressive', 0))
  for name, text in (('killed', None), ('cut', '{"schema": 1, "obj'), ('new', '{"schema": 7}')):
    (tmp_path / 'runs' / name).mkdir()
    (tmp_path / 'runs' / name / 'config.json').write_text('{}')
    if text:
      (tmp_path / 'runs' / name / 'run.json').write_text(text)
  (tmp_path / 'runs' / 'killed' / 'train.log').write_text('…')
  failures = [{'name': 'masked-0', 'log': '/logs/masked-0.log', 'reason': 'exit code 1 <b>'}]
  results = report.build([tmp_path], tmp_path, failures=failures)
  assert len(results['runs']) == 1
  reasons = {run['name']: run['reason'] for run in results['unfinished']}
  assert reasons['killed'] == 'not finished'
  assert 'cannot be read' in reasons['cut'] and 'schema 7' in reasons['new']
  text = page_of(tmp_path)
  assert '/logs/masked-0.log' in text and 'exit code 1 &lt;b&gt;' in text
  assert str(tmp_path / 'runs' / 'killed' / 'train.log') in text
  assert 'failed: masked-0 (exit code 1 <b>)' in terminal.terminal_table(results)


def test_nothing_finished_or_no_directory_is_one_clear_line(tmp_path):
  with pytest.raises(ReportError, match='no finished run'):
    report.build([tmp_path], tmp_path)
  with pytest.raises(ReportError, match='is not a directory'):
    report.build([tmp_path / 'absent'], tmp_path)
  write_run(tmp_path, make_record('masked', 0))
  for name, text in (
    ('controls.json', '{"raw"'), ('controls.json', '[]'),
    ('controls.json', '{"raw_by_seed": {"first": {}}}'),
    ('pilots.json', '{"pilots": [{"objective": "masked"}]}'), ('pilots.json', '{"pilots": [1]}'),
    ('pilots.json', json.dumps({'pilots': [dict.fromkeys(comparison_files._OF_PILOTS)]})),
    ('pilots.json', json.dumps({'pilots': [dict.fromkeys(comparison_files._OF_PILOTS, [{}])]})),
    ('controls.json', '{"of": 5}'),
    ('controls.json', '{"raw_by_seed": {"0": 5}}'),
    ('controls.json', '{"raw": {"linear": 5}}'),
    ('controls.json', '{"pca": {"linear": {"100": 5}}}'),
    ('controls.json', '{"histogram_bits_per_dim": "much"}'),
    ('plan.json', json.dumps({'plans': [dict.fromkeys(comparison_files._OF_A_PLAN)]})),
    ('plan.json', '{"plans": [[]]}'), ('plan.json', '{"plans": {}}'),
    ('plan.json', json.dumps({'plans': [dict.fromkeys(comparison_files._OF_A_PLAN, [{}])]})),
    ('controls.json', '{"raw_by_seed": {"²": {}}}'),
  ):  # fmt: skip
    (tmp_path / name).write_text(text)
    with pytest.raises(ReportError, match=f'{name} cannot be read'):
      report.build([tmp_path], tmp_path)
    (tmp_path / name).unlink()
  (tmp_path / 'file').write_text('')
  with pytest.raises(ReportError, match='cannot be written'):
    report.build([tmp_path], tmp_path / 'file')


# Reading.


@pytest.mark.parametrize(
  'change',
  [
    {'seed': [1]}, {'learning_rate': [1e-3]}, {'steps': {}}, {'validation': -1.5},
    {'validation': {'loss': [1.0]}}, {'parameters_backbone': [1]}, {'wall_seconds': 'x'},
    {'probes': {'linear': 3}}, {'probes': {'linear': {'100': [1]}}},
    {'probes': {'linear': {'100': {'accuracy': {}}}}}, {'settings_of_data': [1]},
  ],
)  # fmt: skip
def test_a_record_of_odd_kinds_is_named_and_costs_no_other(tmp_path, change):
  write_run(tmp_path, make_record('masked', 0))
  record = make_record('masked', 1)
  (write_run(tmp_path, record) / 'run.json').write_text(json.dumps(record | change))
  found = assemble(tmp_path)
  assert [run['seed'] for run in found['runs']] == [0]
  assert next(iter(change)) in found['unfinished'][0]['reason']


@pytest.mark.parametrize(
  'change', [{'optimizer': 'x'}, {'training': -1.5}, {'training': {'seed': [None]}}]
)
def test_a_config_of_odd_kinds_is_of_no_run(tmp_path, change):
  path = write_run(tmp_path, make_record('masked', 0))
  write_run(tmp_path, make_record('masked', 1))
  config = tiny.config('masked').to_dict() | change
  (path / 'config.json').write_text(json.dumps({'config': config}, default=list))
  assert len(assemble(tmp_path)['runs']) == 2
  (path / 'run.json').unlink()
  assert len(assemble(tmp_path)['runs']) == 1


def test_a_program_without_a_stdout_ends_as_any_other():
  root = pathlib.Path(__file__).parents[1]
  kept = root / 'experiments' / 'results' / 'hierarchy_objectives' / 'results.json'
  done = subprocess.run(
    f'"{sys.executable}" -m launch.report "{kept}" >&-', shell=True, cwd=root, text=True,
    stderr=subprocess.PIPE,
  )  # fmt: skip
  assert (done.returncode, done.stderr) == (0, '')


def test_reading_stops_at_a_run_and_survives_a_resumed_curve(tmp_path):
  path = write_run(tmp_path, make_record('masked', 0))
  (path / 'checkpoints' / '800' / 'run.json').write_text('{"schema": 1}')
  assert len(finding.find([tmp_path]).runs) == 1
  lines = ['{"step": 5, "validation/loss": 9.0}', '{"step": 5, "validation/loss": 1.0}', '{"st']
  (path / 'metrics.jsonl').write_text('\n'.join(lines))
  assert reading.read_curve(path) == [{'step': 5, 'validation/loss': 1.0}]


def test_hundreds_of_runs_are_one_report(tmp_path):
  for rate in (1e-3, 2e-3, 4e-3, 8e-3):
    write_comparison(tmp_path / f'{rate}', seeds=10, learning_rate=rate)
  results = assemble(tmp_path)
  assert len(results['runs']) == 200
  assert sum(run['selected'] for run in results['runs']) == 50


# Terminal, pictures, page.


def test_terminal_table_shows_values_ranges_and_marks(two):
  _, results = two
  text = terminal.terminal_table(results)
  assert max(map(len, text.splitlines())) <= 100
  lines = {line.split()[0]: line for line in text.splitlines() if line and line[0] != ' '}
  entry = {e['objective']: e for e in results['summary']}
  assert f'{entry["autoregressive"]["bits_per_dim"]:.3f} ±0.012' in lines['autoregressive']
  assert f'≤ {entry["masked_diffusion"]["bits_per_dim"]:.3f}' in lines['masked_diffusion']
  assert lines['masked'].split()[1:3] == ['none', 'n/a']
  assert f'{100 * entry["supervised"]["linear_40"]:.1f}*' in lines['supervised']
  low, high = entry['untrained']['linear_all_min'], entry['untrained']['linear_all_max']
  assert f'{100 * low:.1f}–{100 * high:.1f}' in text
  assert '1.500 bits a masked token, per-position histogram 2.420' in text
  assert 'fewer than 5' in text
  assert '± beside bits: the standard error over test examples.' in text
  # Variants differ at the end of their names.
  rows = [['run', 'x'], *([f'autoregressive input_mask={p}', 'y' * 30] for p in (0.15, 0.3))]
  names = [line.split()[0] for line in terminal.aligned(rows, width=50)[2:]]
  assert len(set(names)) == 2 and names[0].endswith('=0.15')


def test_labels_at_line_ends_keep_order_and_distance():
  places = canvas.spread([0.5, 0.51, 0.1, 0.49], gap=0.1)
  assert places == pytest.approx([0.5, 0.6, 0.1, 0.4])


@pytest.mark.parametrize('objective', ['masked', 'untrained', 'masked_diffusion'])
def test_one_run_without_controls_is_enough(tmp_path, objective):
  record = make_record(objective, 0)
  record['probes']['linear'] = {'all': record['probes']['linear']['all']}
  write_run(tmp_path, record)
  results = report.build([tmp_path], tmp_path)
  assert (tmp_path / 'report/accuracy_by_layer.png').stat().st_size > 5000
  assert results['controls'] == {'raw': {}}
  assert not re.search(r'\bnan\b', render(results).lower())


def test_a_run_without_probes_still_reports(tmp_path):
  write_run(tmp_path, make_record('autoregressive', 0, probes={}, validation=None))
  results = report.build([tmp_path], tmp_path)
  assert not (tmp_path / 'report/accuracy_by_layer.png').exists()
  assert figures.layer_curve(results['runs'][0]) is None


def test_bits_picture_draws_exact_filled_bounds_open_and_the_rest_apart(two):
  _, results = two
  left, right = figures.bits_against_accuracy(results).axes
  drawn = [line for line in left.lines if line.get_linestyle() == 'None']
  xs = sorted(float(x) for line in drawn for x in line.get_xdata())
  assert xs == pytest.approx(
    sorted(r['bits_per_dim'] for r in results['runs'] if r['bits_per_dim'])
  )
  faces = {line.get_markerfacecolor() == 'white' for line in drawn}
  assert faces == {True, False}
  labels = [text.get_text() for text in right.get_xticklabels()]
  assert sorted(labels) == ['masked', 'supervised\n(saw all labels)', 'untrained']


def test_page_is_self_contained_and_escapes(tmp_path):
  write_comparison(tmp_path, note='<script>alert(1)</script>')
  command = 'make compare ARGS="--seeds=0,1 && echo <ok>"'
  report.build([tmp_path], tmp_path, command=command)
  text = page_of(tmp_path)
  assert '<script' not in text and '&lt;script&gt;' in text and 'echo &lt;ok&gt;' in text
  assert not re.search(r'(https?:)?//[a-z]', re.sub(r'base64,[A-Za-z0-9+/=]+', '', text))
  assert not re.search(r'(src|href)="(?!data:)', text) and '@import' not in text
  images = re.findall(r'src="data:image/png;base64,([^"]+)"', text)
  assert len(images) == PLAIN_PICTURES
  assert all(base64.b64decode(image).startswith(b'\x89PNG') for image in images)
  for words in ('saw all labels', 'No verdicts', '≤ 2.2', 'n/a', 'tokens scored', 'untuned'):
    assert words in text


def test_layer_curve_of_one_run_shows_its_values():
  record = make_record('masked', 3)
  (axis,) = figures.layer_curve(record).axes
  shown = axis.lines[0].get_ydata()
  assert list(shown) == record['probes']['linear']['all']['by_layer_validation']


def test_page_in_a_browser(two, tmp_path):
  names = ('chromium', 'chromium-browser', 'google-chrome', 'chrome')
  browser = next(filter(None, map(shutil.which, names)), None)
  if browser is None:
    pytest.skip('no Chromium on this machine')
  top, results = two
  text = page_of(top)
  check = (
    '<script>addEventListener("load",()=>{document.title="loaded "+[...document.images].filter('
    'i=>i.complete&&i.naturalWidth>0).length+" wide "+(document.documentElement.scrollWidth<='
    'innerWidth)+" text "+document.querySelector("table").innerText.includes("masked_diffusion")})'
    '</script></body>'
  )
  (tmp_path / 'checked.html').write_text(text.replace('</body>', check))
  command = [browser, '--headless', '--no-sandbox', '--disable-gpu', '--no-first-run']
  command += ['--disable-background-networking', '--disable-component-update', '--disable-sync']
  command += ['--disable-dev-shm-usage', f'--user-data-dir={tmp_path / "profile"}']
  command += ['--window-size=500,900', '--virtual-time-budget=2000', '--dump-dom']
  command.append((tmp_path / 'checked.html').as_uri())
  done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
  title = re.search('<title>(.*?)</title>', done.stdout).group(1)
  assert title == f'loaded {PLAIN_PICTURES} wide true text true'
  shown = f'≤ {results["summary"][1]["bits_per_dim"]:.3f}'
  assert shown in done.stdout


def test_program_prints_the_table_or_one_line_of_error(two, tmp_path):
  top, results = two
  program, root = [sys.executable, '-m', 'launch.report'], pathlib.Path(__file__).parents[1]
  done = subprocess.run(
    [*program, f'--out={tmp_path / "new"}', str(top)], capture_output=True, text=True, cwd=root
  )
  assert done.returncode == 0, done.stderr
  assert terminal.terminal_table(results) in done.stdout
  assert (tmp_path / 'new' / 'results.csv').exists()
  # A reader that has seen enough, as `| head`, is no error.
  read, write = os.pipe()
  os.close(read)
  cut = subprocess.run(
    [*program, '--markdown', str(tmp_path / 'new' / 'results.json')], stdout=write, text=True,
    stderr=subprocess.PIPE, cwd=root,
  )  # fmt: skip
  os.close(write)
  assert (cut.returncode, cut.stderr) == (141, '')
  bad = subprocess.run([*program, str(tmp_path / 'no')], capture_output=True, text=True, cwd=root)
  assert bad.returncode == 2 and 'Traceback' not in bad.stderr
  assert len(bad.stderr.strip().splitlines()) == 1 and 'is not a directory' in bad.stderr


def test_data_without_labels_have_no_primary_probe_and_a_failed_probe_is_named(tmp_path):
  record = make_record('masked_diffusion', 0, probes={}, classes=None)
  write_run(tmp_path / 'a', record)
  results = report.build([tmp_path], tmp_path)
  assert 'probe' not in terminal.terminal_table(results).splitlines()[0]
  assert 'none: the data have no labels' in page.render(results, {})
  write_run(tmp_path / 'b', make_record('masked', 1, probes_failed={'pooling': 'it diverged'}))
  results = report.build([tmp_path / 'b'], tmp_path / 'b')
  assert 'masked, seed 1: probe pooling failed and is left out: it diverged' in results['notes']


def test_runs_that_differ_in_a_field_stand_apart_when_asked(tmp_path):
  for decay in (0.0, 0.1):
    top = tmp_path / f'decay{decay}'
    write_run(top, make_record('masked', 0))
    (record,) = top.rglob('run.json')
    config = {'optimizer': {'weight_decay': decay}}
    record.with_name('config.json').write_text(json.dumps({'config': config}))
  with pytest.raises(ReportError, match='name only one of them'):
    report.build([tmp_path], tmp_path)
  results = report.build([tmp_path], tmp_path, by=['config.optimizer.weight_decay'])
  names = {entry['objective'] for entry in results['summary']}
  assert names == {'masked weight_decay=0.0', 'masked weight_decay=0.1'}
  assert 'masked weight_decay=0.1' in terminal.terminal_table(results)
  with pytest.raises(ReportError, match='has no such field in its config'):
    report.build([tmp_path], tmp_path, by=['optimizer.momentum'])


def test_the_width_of_controls_is_that_of_the_file_they_are_from(tmp_path):
  for part, size, width, own in (
    ('a', 'nano', 64, {}), ('b', 'micro', 128, {'pca': {'knn': {'all': {'accuracy': 0.5}}}})
  ):  # fmt: skip
    write_run(tmp_path / part, make_record('masked', 0, size=size))
    of = {'of': {'width': width}}
    (tmp_path / part / 'controls.json').write_text(json.dumps(of | own))
  said = 'PCA and random ReLU of the raw input are {} wide'.format
  notes = assemble(tmp_path / 'a', tmp_path / 'b')['notes']
  assert said(128) in notes and said(64) not in notes
  assert said(128) not in assemble(tmp_path / 'b')['notes']  # of one size


def test_the_devices_of_runs_are_told(tmp_path):
  for seed, kind in enumerate(('TPU v5 lite', 'cpu')):
    platform = 'cpu' if kind == 'cpu' else 'tpu'
    environment = {'platform': platform, 'device_kind': kind, 'devices': 8 if seed == 0 else 1}
    write_run(tmp_path, make_record('masked', seed, environment=environment))
  results = assemble(tmp_path)
  assert results['devices'] == '1 × cpu, 8 × TPU v5 lite (tpu)'
  assert results['devices'] in render(results)
