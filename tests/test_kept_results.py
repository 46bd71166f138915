"""What a kept results.json gives by itself, and what a report says of compute."""

import json
import math
import pathlib
import shutil

import in_process
import numpy as np
import pandas as pd
import pytest
from records import assemble, make_record, render, write_comparison, write_run
from scipy import stats

from reports import compute, fairness, finding, markdown, pairs, pictures, reading, report, terminal
from reports import results as results_lib
from reports.errors import ReportError
from runs import spent


@pytest.fixture(scope='module', name='kept')
def kept_results(tmp_path_factory) -> tuple:
  """(results.json of five seeds in a directory of its own, what the report returned)."""
  top = write_comparison(tmp_path_factory.mktemp('five'), seeds=5)
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(pictures, 'draw', lambda *_: ({}, {}))
    made = report.build([top], top, command='python -m launch.compare --workdir=DIR')
  where = tmp_path_factory.mktemp('clone') / 'results.json'
  shutil.copy(top / 'results.json', where)
  shutil.rmtree(top)  # Nothing of the runs is needed.
  return where, made


def test_a_kept_results_json_gives_the_tables_of_its_report(kept, capsys):
  where, made = kept
  in_process.call('report', str(where))
  assert capsys.readouterr().out == terminal.terminal_table(made) + '\n'
  in_process.call('report', str(where), '--markdown')
  assert capsys.readouterr().out == markdown.text(made) + '\n'
  assert list(where.parent.iterdir()) == [where]


def test_every_number_of_the_markdown_is_in_the_results(kept):
  _, made = kept
  tables = [
    [[cell.strip() for cell in line.strip('|').split(' | ')] for line in block.split('\n')]
    for block in markdown.text(made).split('\n\n')
    if block.startswith('| ')
  ]
  assert all(len({len(row) for row in table}) == 1 for table in tables)
  head, _, *rows = tables[0]
  assert head == ['digits, test', 'bits/dim', 'all', '10 labels', '40 labels', '100 labels',
                  '250 labels', 'seeds']  # fmt: skip
  by_name = {row[0]: dict(zip(head, row, strict=True)) for row in rows}
  for entry in made['summary']:
    cells = by_name[entry['objective']]
    low, high = (100 * value for value in entry['linear_100_ci95'])
    star = r'\*' if entry['saw_labels'] else ''
    expected = f'{100 * entry["linear_100"]:.1f}{star} ({low:.1f}–{high:.1f})'
    assert (cells['100 labels'], cells['seeds']) == (expected, '5')
    if entry['code'] == 'upper_bound':
      low, high = entry['bits_ci95']
      assert cells['bits/dim'] == f'≤ {entry["bits_per_dim"]:.3f} ({low:.3f}–{high:.3f})'
  raw = made['controls']['raw']['linear']['40']['accuracy']
  assert by_name['raw input']['40 labels'] == f'{100 * raw:.1f}'
  head, _, *rows = tables[1]
  knn = head.index('kNN, centred, %')
  for row, entry in zip(rows, made['summary'], strict=False):
    low, high = (100 * value for value in entry['measures']['knn/accuracy']['mean_ci95'])
    mean = 100 * entry['measures']['knn/accuracy']['mean']
    assert (row[0], row[knn]) == (entry['objective'], f'{mean:.1f} ({low:.1f}–{high:.1f})')
  # Beside the headline: at the best step of the own validation, and at equal FLOPs.
  head, _, *rows = tables[2]
  assert head[:3] == ['other views', 'FLOPs in total', 'learning rate']
  bits = head.index('test bits at the best step')
  for row, entry in zip(rows, made['summary'], strict=True):
    own = [one for one in made['runs'] if one['objective'] == entry['objective']]
    values = [(one.get('at_best') or one)['bits_per_dim'] for one in own]
    if None in values or not own[0]['trained']:
      assert row[bits] == '–'
      continue
    sign = '≤ ' if entry['code'] == 'upper_bound' else ''
    low, high = (f'{value:.3f}' for value in (min(values), max(values)))
    spread = f' ({low}–{high})' if low != high else ''
    assert row[bits] == f'{sign}{sum(values) / len(values):.3f}{spread}'
  # One row for each pair, the same as on the page.
  assert tables[3][0] == list(pairs.HEAD)
  name = 'the linear probe at 100 labels'
  assert [[cell.strip() for cell in row] for row in tables[3][2:]] == pairs.rows(
    made['verdicts'], name
  )
  assert '```sh\npython -m launch.compare --workdir=DIR\n```' in markdown.text(made)
  # What must be known beside the tables.
  told = markdown.text({**made, 'errors': ['a regret below zero'], 'notes': ['one at the edge']})
  assert '\n\n- ERROR: a regret below zero.\n- One at the edge.\n\n' in told


def test_what_is_no_results_json_is_one_line(kept, tmp_path):
  where, _ = kept
  whole = json.loads(where.read_text())
  for lacking in ('no_verdicts', 'dims', 'verdicts', 'notes'):
    old = {k: v for k, v in whole.items() if k != lacking}
    (tmp_path / 'results.json').write_text(json.dumps(old))
    with pytest.raises(ReportError, match=f'no results.json of this version: it lacks {lacking}'):
      in_process.call('report', str(tmp_path / 'results.json'))
  beside = [{'measure': 'the attentive probe at all labels', 'verdicts': []}]
  (tmp_path / 'results.json').write_text(json.dumps(whole | {'beside': beside}))
  with pytest.raises(ReportError, match='verdicts on the attentive probe at all labels; launch.re'):
    in_process.call('report', str(tmp_path / 'results.json'))
  for part in ({'formula': "Satterthwaite's"}, {'formula': None}, {}):
    old = {k: v for k, v in whole.items() if k != 'formula'} | part
    (tmp_path / 'results.json').write_text(json.dumps(old))
    with pytest.raises(ReportError, match='its intervals are of another formula; launch.report on'):
      in_process.call('report', str(tmp_path / 'results.json'))
  # Without intervals there is none of another formula: of three grammars, say.
  kept_one = pathlib.Path(__file__).parent.parent / 'experiments/results/hierarchy_objectives'
  assert 'formula' not in report.read(kept_one / 'results.json')
  with pytest.raises(Exception, match='shown alone, without --out and --by'):
    in_process.call('report', str(where), f'--out={tmp_path}')


# Compute.


def test_compute_is_the_sum_of_all_runs_and_pilots(tmp_path):
  for seed, seconds in enumerate((3600, 1800)):
    record = make_record('autoregressive', seed, wall_seconds=seconds, train_flops=2e12 + seed)
    record |= {'tokens_seen': 1000, 'init_from': {'tokens_seen': 400, 'train_flops': 5e11}}
    path = write_run(tmp_path, record)
    (path / 'spent.json').write_text(json.dumps({'cpu_seconds': 2 * seconds}))
  tried = {'train_flops': 1e12, 'tokens_seen': 10, 'wall_seconds': 36, 'cpu_seconds': 72}
  row = {'objective': 'autoregressive', 'size': 'nano', 'learning_rate': 2e-3, 'clip_norm': None}
  row |= {'learning_rates': [1e-3, 2e-3], 'clip_norms': [], 'of': ['seed 9'], 'tried': [tried] * 2}
  row |= {'notes': []}
  (tmp_path / 'pilots.json').write_text(json.dumps({'pilots': [row]}))
  results = assemble(tmp_path)
  assert results['compute'] == {
    'results': {'runs': 2, 'train_flops': 3e12 + 1, 'tokens_seen': 1200, 'wall_seconds': 5400,
                'cpu_seconds': 10800},
    'pilots': {'runs': 2, 'train_flops': 2e12, 'tokens_seen': 20, 'wall_seconds': 72,
               'cpu_seconds': 144},
  }  # fmt: skip
  first, second = compute.lines(results['compute'])
  assert first == (
    'compute of results (2 runs): 3e12 training FLOPs, 1,200 tokens, 1.5 hours of training, 3.0 '
    'core-hours with evaluation and probes'
  )
  assert second.endswith('0.02 hours of training, 0.04 core-hours with evaluation and probes')
  assert first in render(results)
  assert first in ' '.join(terminal.terminal_table(results).split())
  (path / 'spent.json').unlink()
  results = assemble(tmp_path)
  assert results['compute']['results']['cpu_seconds'] is None
  assert 'core-hours not known' in compute.lines(results['compute'])[0]


def test_cpu_time_is_added_over_starts_also_of_one_that_failed(tmp_path, monkeypatch):
  times = iter([10.0, 12.5, 3.0, 4.0, 1.0, 2.0, 5.0, 6.5])
  monkeypatch.setattr(spent.time, 'process_time', lambda: next(times))
  with pytest.raises(ValueError), spent.counted(str(tmp_path), more=True):
    raise ValueError
  assert not (tmp_path / 'spent.json').exists()  # What it took before is not known.
  with spent.counted(str(tmp_path)):
    pass
  with pytest.raises(ValueError), spent.counted(str(tmp_path)):
    raise ValueError
  assert reading.read_json(tmp_path / 'spent.json') == {'cpu_seconds': 2.0}
  with spent.counted(str(tmp_path), more=True):
    pass
  assert reading.read_json(tmp_path / 'spent.json') == {'cpu_seconds': 3.5}


def test_objectives_at_the_compute_of_the_cheapest(tmp_path):
  """The curve has a point every 100 of 800 steps; the second pays twice for a step."""
  for objective, per_step in (('autoregressive', 1e9), ('masked_diffusion', 2e9)):
    record = make_record(objective, 0, flops_per_step=per_step, train_flops=800 * per_step)
    write_run(tmp_path, record)
  write_run(tmp_path, make_record('untrained', 0))
  found = finding.find([tmp_path])
  curves = reading.read_curves(found.runs)
  results = results_lib.assemble(found, curves)
  runs = {run['objective']: run for run in results['runs']}
  for objective, step in (('autoregressive', 800), ('masked_diffusion', 400)):
    (point,) = [p for p in curves[runs[objective]['workdir']] if p['step'] == step]
    assert runs[objective]['at_equal_flops'] == {
      'flops': 800e9,
      'step': step,
      'share': 1.0,
      'bits_per_dim': point['validation/bits_per_dim'],
      'accuracy': point['probe/linear/accuracy'],
      'accuracy_step': step,
    }
  rows = fairness.rows(results)
  assert [cell.text for cell in rows['at the FLOPs of the cheapest: step']] == ['800', '400', '–']
  assert 'at the FLOPs of the cheapest: step of the small probe' not in rows
  (bits,) = [
    run['at_equal_flops']['bits_per_dim'] for run in results['runs'] if run['code'] == 'upper_bound'
  ]
  assert rows['at the FLOPs of the cheapest: bits on validation'][1].text == f'≤ {bits:.3f}'
  assert 'inside the schedule' in render(results)


def test_what_of_the_cheapest_compute_was_spent_by_the_last_point_is_told(tmp_path):
  for objective, per_step in (('autoregressive', 1e9), ('masked_diffusion', 1.5e9)):
    record = make_record(objective, 0, flops_per_step=per_step, train_flops=800 * per_step)
    write_run(tmp_path, record)
  rows = fairness.rows(assemble(tmp_path))
  assert [cell.text for cell in rows['at the FLOPs of the cheapest: step']] == ['800', '500']
  shares = rows['at the FLOPs of the cheapest: share of them']
  assert [cell.text for cell in shares] == ['100%', '94%']  # 750 of 800


def test_a_probe_that_is_measured_more_rarely_is_told_with_its_own_step(tmp_path):
  for objective, per_step in (('autoregressive', 1e9), ('masked_diffusion', 2e9)):
    record = make_record(objective, 0, flops_per_step=per_step, train_flops=800 * per_step)
    path = write_run(tmp_path, record) / 'metrics.jsonl'
    lines = [json.loads(line) for line in path.read_text().splitlines()[:-1]]
    for line in lines:
      if line['step'] % 300:
        del line['probe/linear/accuracy']
    path.write_text('\n'.join(map(json.dumps, lines)))
  results = assemble(tmp_path)
  found = {run['objective']: run['at_equal_flops'] for run in results['runs']}
  assert [(one['step'], one['accuracy_step']) for one in found.values()] == [(800, 600), (400, 300)]
  # Of the curve of write_run.
  for one in found.values():
    expected = 0.9 - 0.3 * math.exp(-one['accuracy_step'] / 300)
    assert one['accuracy'] == pytest.approx(expected)
  rows = fairness.rows(results)
  shown = rows['at the FLOPs of the cheapest: step of the small probe']
  assert [cell.text for cell in shown] == ['600', '300']


def test_at_equal_compute_there_is_no_such_row(tmp_path):
  for objective in ('autoregressive', 'masked'):
    write_run(tmp_path, make_record(objective, 0))
  results = assemble(tmp_path)
  assert not any('at_equal_flops' in run for run in results['runs'])
  assert 'at the FLOPs of the cheapest: step' not in fairness.rows(results)


def test_the_ingredients_of_a_code_are_those_of_their_records():
  """Means and ranges over seeds, as the page has them."""
  folder = pathlib.Path(__file__).parents[1] / 'experiments/results/codes'
  found = pd.read_csv(folder / 'ingredients.csv').groupby('setting', sort=False)
  page = (folder / 'README.md').read_text(encoding='utf-8')
  (table,) = (block for block in page.split('\n\n') if '| added flags |' in block)
  cells = [line.split(' | ')[-1].strip('* |') for line in table.splitlines()[2:]]
  cells = [cell.replace('**', '') for cell in cells if '(' in cell]  # Counting has no seeds.
  values = [bits for _, bits in found['code_bits_per_dim']]
  assert cells == [f'{v.mean():.3f} ({v.min():.3f}–{v.max():.3f})' for v in values]
  assert [len(v) for v in values] == [3] * 9


def test_the_codes_of_labels_are_those_of_their_records():
  folder = pathlib.Path(__file__).parents[1] / 'experiments/results/codes'
  (found,) = json.loads((folder / 'labels.json').read_text(encoding='utf-8'))['sets']
  page = (folder / 'README.md').read_text(encoding='utf-8')
  lines = {line.split(' | ')[0].strip('| '): line for line in page.splitlines() if '|' in line}
  for row in found['rows']:
    low, high = row.get('bits_ci95') or (None, None)
    shown = f'{row["bits"]:,.0f}' + (f' ({low:,.0f}–{high:,.0f})' if low else '')
    cells = [cell.strip() for cell in lines[row['of']].strip().strip('|').split('|')]
    column = ['linear', 'MLP', 'fine-tuned'].index(row['learner']) + 1
    assert cells[column] == shown, (row['of'], row['learner'])
    if row['learner'] == 'linear':
      assert cells[4] == f'{row["regret"]:,.0f}'


def test_the_joint_codes_of_labels_are_those_of_their_record():
  folder = pathlib.Path(__file__).parents[1] / 'experiments/results/codes'
  runs = json.loads((folder / 'joint.json').read_text(encoding='utf-8'))['runs']
  page = (folder / 'README.md').read_text(encoding='utf-8').replace('−', '-')
  lines = [[cell.strip() for cell in line.strip('| ').split('|')] for line in page.splitlines()]
  rows = {cells[0][:15]: cells for cells in lines if cells[0].startswith('(')}
  names = {
    '(a) from scratc': '(a) from scratch: fine-tuned, untrained_causal (nano)',
    '(b) frozen, lin': '(b) frozen, linear',
    '(b) frozen, MLP': '(b) frozen, MLP',
    '(c) pretrained ': '(c) pretrained, then fine-tuned',
  }

  def shown(bits, to='–'):
    low, high = stats.t.interval(0.95, 4, np.mean(bits), stats.sem(bits))
    return f'{np.mean(bits):,.0f} ({low:,.0f}{to}{high:,.0f})'

  assert sorted(run['seed'] for run in runs) == [0, 1, 2, 3, 4]
  own = np.array([run['bits'] for run in runs])
  assert rows['(d) trained on '][1] == shown(own)
  for start, name in names.items():
    other = np.array([run['others'][name] for run in runs])
    _, mean, paired = rows[start]
    assert (mean, paired.strip('+')) == (shown(other), shown(own - other, ' to ')), name


def test_the_bits_that_two_share_are_those_of_their_record():
  folder = pathlib.Path(__file__).parents[1] / 'experiments/results/codes'
  found = json.loads((folder / 'mutual_information.json').read_text(encoding='utf-8'))
  page = (folder / 'README.md').read_text(encoding='utf-8').replace('−', '-')
  section = page.split('## What X and Y share')[1].split('\n## ')[0]
  for pair in found:
    for code in pair['codes']:
      forward, *others = (f'{value:,.0f}' for value in code['shared'].values())
      if code['name'] in ('network', 'counting'):
        error = f' ± {code["stderr"]:,.0f}' if code['stderr'] else ''
        row = [code['name'], f'{code["x"]:,.0f}', f'{code["y"]:,.0f}', forward + error, *others]
        assert f'| {" | ".join(row)} |' in section, pair['pair']
      elif code['layout']:
        assert forward in section, (pair['pair'], code['name'])


def test_what_was_not_measured_on_test_is_not_said_to_have_no_likelihood(tmp_path):
  def said(objectives, scored):
    top = tmp_path / f'{len(objectives)}{scored}'
    for objective in objectives:
      record = make_record(objective, 0)
      if not scored:
        record |= {'bits_per_dim': None, 'bits_per_dim_stderr': None, 'test_loss': None}
      write_run(top, record)
    results = assemble(top)
    foot = [line for line in terminal.terminal_table(results).splitlines() if 'n/a: ' in line]
    return [line.split('n/a: ')[1] for line in foot], render(results)

  (line,), page = said(('autoregressive', 'masked'), True)
  assert line == 'no likelihood.' and 'not measured on test' not in page
  (line,), page = said(('autoregressive',), False)
  assert line == 'not measured on test.' and 'defines no likelihood' not in page
  assert 'its runs were not measured on test' in page
  (line,), page = said(('autoregressive', 'masked', 'masked_diffusion'), False)
  assert line == 'no likelihood or not measured on test.'
  assert 'its runs were not measured on test' in page and 'defines no likelihood' in page
