"""Variants of an objective, and pilots that choose learning rates, as a comparison runs them."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from records import make_record
import tiny

from experiments import cifar10_small, fashion_mnist
from reports import choice, compute, reading, records, report
from runs import configs, pilots, plan, variants
from runs.errors import UserError

_ROOT = pathlib.Path(__file__).parent.parent


def test_a_variant_is_an_objective_with_settings():
  plain = variants.parse('masked')
  assert (plain.objective, plain.slug, plain.shown, plain.overrides) == ('masked', 'masked', '', ())
  half = variants.parse('masked+ratio=0.5+model.norm=post')
  assert half.slug == 'masked-ratio0.5-normpost'
  assert half.overrides == (
    '--config.objective.ratio=0.5',
    '--config.model.norm=post',
    '--config.variant=ratio=0.5 norm=post',
  )
  with pytest.raises(UserError, match=r'FIELD=VALUE, not \+0.5'):
    variants.parse('masked+0.5')
  with pytest.raises(UserError, match='masked has no setting block; it has: ratio'):
    variants.parse('masked+block=2')


def test_variants_are_planned_side_by_side(tmp_path, data_dir):
  names = ['autoregressive', 'autoregressive+input_mask=0.15', 'untrained']
  runs, _ = plan.make(
    'experiments/digits.py', names, [3], [1e-3, 2e-3], [], str(tmp_path), data_dir
  )
  assert [(run.name, run.kind, run.config.variant) for run in runs] == [
    ('autoregressive-lr0.001-seed3', 'autoregressive', ''),
    ('autoregressive-lr0.002-seed3', 'autoregressive', ''),
    (
      'autoregressive-input_mask0.15-lr0.001-seed3',
      'autoregressive-input_mask0.15',
      'input_mask=0.15',
    ),
    (
      'autoregressive-input_mask0.15-lr0.002-seed3',
      'autoregressive-input_mask0.15',
      'input_mask=0.15',
    ),
    ('untrained-seed3', 'untrained', ''),
  ]
  assert [run.config.objective.get('input_mask') for run in runs] == [0.0, 0.0, 0.15, 0.15, None]
  assert '--config.objective.input_mask=0.15' in runs[2].command


@pytest.fixture(scope='module')
def compared(tmp_path_factory, data_dir):
  where = tmp_path_factory.mktemp('pilots')
  command = [sys.executable, '-m', 'launch.compare', '--config=experiments/digits.py']
  command += [f'--workdir={where}', f'--data_dir={data_dir}', *tiny.OVERRIDES]
  command += ['--objectives=autoregressive,autoregressive+input_mask=0.5', '--seeds=0']
  command += ['--config.probe.linear.labels=10', '--config.probe.linear.draws=1']

  def run(*flags: str) -> subprocess.CompletedProcess:
    return subprocess.run(
      [*command, *flags], cwd=_ROOT, capture_output=True, text=True, check=False
    )

  grid = ('--learning_rates=1e-4,1e-2', '--pilot_seeds=7')
  done = run(*grid)
  assert done.returncode == 0, done.stderr + done.stdout
  assert '] autoregressive input_mask=0.5 seed 0: ' in done.stdout
  return where, run, grid


def test_results_are_trained_at_what_the_pilots_chose(compared):
  where, _, _ = compared
  tried = {path.name: json.loads((path / 'run.json').read_text()) for path in
           (where / 'pilots' / 'runs').iterdir()}  # fmt: skip
  assert len(tried) == 4 and all(record['seed'] == 7 for record in tried.values())
  assert not any(record['probes'].get('linear') for record in tried.values())
  for path in (where / 'pilots' / 'runs').iterdir():  # No pilot looks at test.
    assert tried[path.name]['bits_per_dim'] is None and tried[path.name]['test_loss'] is None
    assert not np.load(path / 'arrays.npz').files
    assert tried[path.name]['validation']['bits_per_dim'] > 0
  expected = {}
  for variant in ('', 'input_mask=0.5'):
    own = [record for record in tried.values() if record['variant'] == variant]
    expected[variant] = min(own, key=lambda record: record['validation']['loss'])['learning_rate']
  made = json.loads((where / 'results.json').read_text())
  trained = [run for run in made['runs'] if run['trained']]
  assert {run['objective'] for run in trained} == {
    'autoregressive',
    'autoregressive input_mask=0.5',
  }
  assert {run['variant']: run['learning_rate'] for run in trained} == expected
  assert [run['seed'] for run in made['runs']] == [0, 0]
  for entry in made['summary']:
    if entry['trained']:
      assert entry['tuned'] and entry['learning_rate_grid'] == [1e-4, 1e-2]
      assert entry['pilots_of'] == ['seed 7']
  page = (where / 'report.html').read_text()
  assert 'on pilots that no result includes (seed 7)' in page
  # What a referee can check: every pilot with its loss.
  rows = reading.read_json(where / 'pilots.json')['pilots']
  assert sorted(len(row['tried']) for row in rows) == [2, 2]


def test_the_same_command_trains_nothing_again(compared):
  where, run, grid = compared
  before = {path: path.stat().st_mtime_ns for path in where.glob('**/run.json')}
  assert run(*grid).returncode == 0
  assert before == {path: path.stat().st_mtime_ns for path in where.glob('**/run.json')}


def test_a_report_of_the_directory_reads_no_pilot(compared, tmp_path):
  where, _, _ = compared
  made = report.build([where], tmp_path)
  assert len(made['runs']) == 2 and not made['unfinished']


@pytest.mark.parametrize('path,shared', [('hierarchy', False), ('digits', True), ('short', True)])
def test_a_pilot_has_not_the_seed_of_a_result_unless_its_data_are_another_draw(
  path, shared, tmp_path, data_dir
):
  """A shorter pilot starts from the parameters of the result, and sees its first batches."""
  where = f'experiments/{path}.py'
  if path == 'short':
    where = str(tmp_path / 'short.py')
    pathlib.Path(where).write_text(
      'from experiments.digits import get_config\n'
      "PILOTS = {'short': ('--config.training.steps=100',)}\n"
    )

  def planned(seeds, **more):
    return plan.make(where, ['masked'], seeds, None, [], str(tmp_path), data_dir, **more)[0]

  first = planned([0, 2], pilots=True)
  pilots.refuse_results(first, planned([1, 3]))
  if shared:
    with pytest.raises(UserError, match='seed 2 is a pilot and among the results'):
      pilots.refuse_results(first, planned([1, 2]))
  else:
    pilots.refuse_results(first, planned([1, 2]))


def test_pilots_that_failed_and_earlier_ones_were_tried_too(tmp_path, data_dir):
  """Of four rates the highest diverged; a fifth was tried before and left out of the grid."""

  def planned(rates):
    where = pilots.directory(str(tmp_path))
    return plan.make(
      'experiments/digits.py', ['masked'], [7], rates, [], where, data_dir, pilots=True
    )[0]

  losses = {1e-4: 3.0, 1e-3: 2.0, 1e-2: 1.0, 1e-1: None, 1e-5: 4.0}
  for run in [*planned([1e-4, 1e-3, 1e-2, 1e-1]), *planned([1e-5])]:
    rate, where = run.tuning[0], pathlib.Path(run.workdir)
    where.mkdir(parents=True)
    (where / 'config.json').write_text(json.dumps({'config': configs.plain(run.config)}))
    if losses[rate] is None:
      (where / 'state.json').write_text('{"state": "failed"}')
    else:
      record = make_record('masked', 7, learning_rate=rate, clip_norm=1.0, train_flops=10.0)
      record |= {'validation': {'loss': losses[rate]}, 'tokens_seen': 1, 'wall_seconds': 1.0}
      (where / 'run.json').write_text(json.dumps(record))
  asked = pilots.Asked([1e-4, 1e-3, 1e-2, 1e-1], None, [7])
  tuned, notes = pilots.choose(planned([1e-4, 1e-3, 1e-2, 1e-1]), str(tmp_path), asked)
  assert tuned == {'masked': (1e-2, None)}
  assert notes == [  # No word of an edge: beyond it training diverges.
    'pilots: masked-lr0.1-seed7 has no result: it failed',
    'pilots: masked (nano): other pilots were tried and chose nothing: learning rate 1e-05, clip '
    'norm 1',
  ]
  (row,) = reading.read_json(tmp_path / 'pilots.json')['pilots']
  assert row['learning_rates'] == [1e-4, 1e-3, 1e-2, 1e-1] and row['clip_norms'] == [1.0]
  assert [one['learning_rate'] for one in row['tried']] == [1e-4, 1e-3, 1e-2, 1e-5]
  assert compute.total([], [row])['pilots']['train_flops'] == 40
  runs = [make_record('masked', 0, learning_rate=1e-2, clip_norm=1.0)]
  assert choice.add_pilots(runs, [row]) == [] and runs[0]['pilots_tried'] == 4
  assert choice.add_pilots(runs, [row | {'learning_rates': [1e-3]}]) == []
  assert runs[0]['pilots_tried'] == 4  # Of the grid one, and as many as were tried.
  (row,) = pilots.choose(planned([1e-4, 1e-3, 1e-2]), str(tmp_path), asked)[1][-1:]
  assert row.endswith('learning rate 1e-05, clip norm 1')


def _keep(top: pathlib.Path, rows: list) -> None:
  (top / 'pilots.json').write_text(json.dumps({'pilots': rows}))


def _notes(top: pathlib.Path) -> list[str]:
  rows = reading.read_json(top / 'pilots.json')['pilots']
  return list(dict.fromkeys(note for row in rows for note in row['notes']))


def test_what_was_chosen_for_objectives_that_a_later_call_leaves_out_stays(tmp_path, data_dir):
  """Their results are there, tuned by these pilots."""
  where = pilots.directory(str(tmp_path))
  rates = [1e-3, 1e-2]
  planned, _ = plan.make(
    'experiments/digits.py', ['masked', 'autoregressive'], [7], rates, [], where, data_dir,
    pilots=True,
  )  # fmt: skip
  for run in planned:
    pathlib.Path(run.workdir).mkdir(parents=True)
    name, rate = run.config.objective.name, run.tuning[0]
    record = make_record(name, 7, learning_rate=rate, clip_norm=1.0)
    record |= {'validation': {'loss': rate if name == 'masked' else 1 / rate}}
    (pathlib.Path(run.workdir) / 'run.json').write_text(json.dumps(record))
  asked = pilots.Asked(rates, None, [7])
  pilots.choose(planned, str(tmp_path), asked)
  first = reading.read_json(tmp_path / 'pilots.json')
  chosen = {row['objective']: row['learning_rate'] for row in first['pilots']}
  assert chosen == {'masked': 1e-3, 'autoregressive': 1e-2}
  only = [run for run in planned if run.config.objective.name == 'masked']
  tuned, notes = pilots.choose(only, str(tmp_path), asked)
  assert tuned == {'masked': (1e-3, None)} and not any('autoregressive' in note for note in notes)
  later = reading.read_json(tmp_path / 'pilots.json')
  by_name = [sorted(found['pilots'], key=lambda row: row['objective']) for found in (first, later)]
  assert by_name[0] == by_name[1]
  assert _notes(tmp_path) == [
    'pilots: only two learning rates were tried, 0.001 and 0.01: no choice lies inside the grid'
  ]
  # Those of the other had another grid: each row says its own.
  row = next(row for row in later['pilots'] if row['objective'] == 'autoregressive')
  other = row | {'learning_rates': [1e-2], 'clip_norms': [1.0, 2.0], 'learning_rate': 1e-2}
  other['asked'] = {'learning_rates': None, 'clip_norms': [1.0, 2.0], 'pilot_seeds': [7]}
  _keep(tmp_path, [other])
  pilots.choose(only, str(tmp_path), asked)
  kept = pilots.kept(str(tmp_path / 'pilots.json'))
  runs, _ = plan.make(
    'experiments/digits.py', ['masked', 'autoregressive'], [0], None, [], str(tmp_path), data_dir
  )
  tuned = {'masked': (1e-3, None), 'autoregressive': (1e-2, 1.0)}
  assert kept.tuned(runs) == tuned
  # A comparison that took its choices may stay where rows of others come and go.
  kept.write(str(tmp_path / 'next'), runs)
  (masked,) = (dict(row) for row in kept.rows.values() if row['objective'] == 'masked')
  _keep(tmp_path, [masked])
  fewer = pilots.kept(str(tmp_path / 'pilots.json'))
  fewer.write(str(tmp_path / 'next'), runs[:1])
  _keep(tmp_path, [masked | {'learning_rate': 1e-2}])
  with pytest.raises(UserError, match='use another --workdir'):
    pilots.kept(str(tmp_path / 'pilots.json')).write(str(tmp_path / 'next'), runs[:1])
  # What can't be read is left as it is: rows of others would be lost.
  del masked['asked']
  whole = fewer.rows['masked', masked['size']]
  for damaged in ('{"pilots": [{"objective": "autoregressive"}]', '{"pilots": [3]}',
                  json.dumps({'pilots': [whole | {'tried': []}]}),
                  json.dumps({'pilots': [masked]})):  # fmt: skip
    (tmp_path / 'pilots.json').write_text(damaged)
    with pytest.raises(UserError, match='pilots.json'):
      pilots.choose(only, str(tmp_path), asked)
    assert (tmp_path / 'pilots.json').read_text() == damaged


def test_what_is_told_of_a_row_stays_with_it(tmp_path, data_dir):
  """A pilot that failed was tried, also when a later call plans another objective."""
  rates = [1e-4, 1e-3, 1e-2]
  where, names = pilots.directory(str(tmp_path)), ['masked', 'autoregressive']
  planned, _ = plan.make(
    'experiments/digits.py', names, [7], rates, [], where, data_dir, pilots=True
  )
  for run in planned:
    name, rate = run.config.objective.name, run.tuning[0]
    pathlib.Path(run.workdir).mkdir(parents=True)
    if (name, rate) != ('masked', 1e-2):
      record = make_record(name, 7, learning_rate=rate, clip_norm=1.0)
      record |= {'validation': {'loss': abs(rate - 1e-3)}}
      (pathlib.Path(run.workdir) / 'run.json').write_text(json.dumps(record))
    config = {'config': configs.plain(run.config)}
    (pathlib.Path(run.workdir) / 'config.json').write_text(json.dumps(config))
  asked = pilots.Asked(rates, None, [7])
  _, notes = pilots.choose(planned, str(tmp_path), asked)
  assert notes == ['pilots: masked-lr0.01-seed7 has no result: it failed']
  others = [run for run in planned if run.config.objective.name == 'autoregressive']
  _, of_others = pilots.choose(others, str(tmp_path), asked)
  assert of_others == [] and _notes(tmp_path) == notes
  masked = [run for run in planned if run.config.objective.name == 'masked']
  record = make_record('masked', 7, learning_rate=1e-2, clip_norm=1.0) | {'validation': {'loss': 9}}
  (pathlib.Path(masked[-1].workdir) / 'run.json').write_text(json.dumps(record))
  pilots.choose(masked, str(tmp_path), asked)
  assert _notes(tmp_path) == []


def test_rows_that_a_comparison_does_not_need_change_nothing_for_it(tmp_path, data_dir):
  """Its own rows choose by what was asked of them; another may be added where it stands."""
  masked = ROW | {'objective': 'masked', 'asked': {'learning_rates': [2e-3], 'clip_norms': None,
                  'pilot_seeds': [7]}, 'learning_rates': [2e-3]}  # fmt: skip
  other = ROW | {'asked': {'learning_rates': [1e-3], 'clip_norms': [1.0], 'pilot_seeds': [8]},
                 'learning_rates': [1e-3], 'learning_rate': 1e-3, 'of': ['seed 8']}  # fmt: skip
  runs = _plan(['masked'], 0, tmp_path, data_dir)
  for rows in ([masked], [masked, other]):
    kept = pilots.kept(_written(tmp_path, *rows))
    assert kept.asked(runs) == pilots.Asked([2e-3], None, [7])
    assert kept.tuned(runs) == {'masked': (2e-3, None)}
    kept.write(str(tmp_path), runs)
    assert [row['objective'] for row in _pilots_of(tmp_path)] == ['masked']
  both = _plan(['masked', 'autoregressive'], 0, tmp_path, data_dir)
  assert kept.asked(both) == pilots.Asked([1e-3, 2e-3], [1.0], [7, 8])
  # Each is named by what was asked of its own: alone it has the same directory.
  assert kept.tuned(both) == {'masked': (2e-3, None), 'autoregressive': (1e-3, 1.0)}
  assert kept.tuned(_plan(['masked'], 8, tmp_path, data_dir)) == {'masked': (2e-3, None)}
  with pytest.raises(UserError, match='seed 8 is a pilot'):
    kept.tuned(_plan(['masked', 'autoregressive'], 8, tmp_path, data_dir))
  kept.write(str(tmp_path), both)
  assert sorted(row['objective'] for row in _pilots_of(tmp_path)) == ['autoregressive', 'masked']
  untrained = _plan(['untrained'], 0, tmp_path, data_dir)
  assert kept.tuned(untrained) == {}
  kept.write(str(tmp_path / 'new'), untrained)
  assert not (tmp_path / 'new').exists()
  for damaged in ('{"pilots": 3}', '{"pilots": null}', '{"pilots": [3]}'):
    (tmp_path / 'pilots.json').write_text(damaged)
    with pytest.raises(UserError, match='pilots.json is no pilots.json'):
      kept.write(str(tmp_path), runs)


def _pilots_of(where: pathlib.Path) -> list[dict]:
  return reading.read_json(where / 'pilots.json')['pilots']


def test_pilots_must_not_be_results_and_need_a_grid(compared):
  _, run, grid = compared
  for flags, said in (
    ((grid[0], '--pilot_seeds=0'), 'seed 0 is a pilot and among the results; pilots must not be'),
    ((grid[0], '--pilots=x'), '--pilots has chosen: no --pilot_seeds, --learning_rates'),
    (('--pilots=setup.cfg',), '--pilots=setup.cfg is no pilots.json'),
    (('--pilot_seeds=7',), 'pilots choose from --learning_rates or --clip_norms: give one'),
  ):
    found = run(*flags)
    assert found.returncode == 2 and said in found.stderr and found.stderr.count('\n') == 1


def _plan(names, seed, workdir, data_dir, *overrides, **more) -> list[plan.PlannedRun]:
  rates, clips = more.pop('rates', None), more.pop('clips', None)
  return plan.make(
    'experiments/digits.py', names, [seed], rates, [*tiny.OVERRIDES, *overrides], str(workdir),
    data_dir, clips=clips, **more,
  )[0]  # fmt: skip


def test_kept_pilots_choose_as_they_did_where_they_ran(compared, tmp_path, data_dir):
  """The choice, the plan and what the record says are those of the comparison that had them."""
  where, _, _ = compared
  kept = pilots.kept(str(where / 'pilots.json'))
  names = ['autoregressive', 'autoregressive+input_mask=0.5', 'untrained']
  runs = _plan(names, 0, tmp_path, data_dir)
  trained = {path.name: json.loads((path / 'run.json').read_text())['learning_rate']
             for path in (where / 'runs').glob('autoregressive*')}  # fmt: skip
  again = _plan(names, 0, tmp_path, data_dir, tuned=kept.tuned(runs))
  assert {one.name: one.config.optimizer.learning_rate for one in again[:2]} == trained
  assert again[2].tuning == (None, None)
  assert kept.asked(runs) == pilots.Asked([1e-4, 1e-2], None, [7])
  kept.write(str(tmp_path), runs)
  assert reading.read_json(tmp_path / 'pilots.json') == reading.read_json(where / 'pilots.json')
  kept.write(str(tmp_path), runs)  # The same again is no other.
  (tmp_path / 'pilots.json').write_text('{"pilots": []}')
  with pytest.raises(UserError, match='pilots.json is no pilots.json'):
    kept.write(str(tmp_path), runs)


def test_kept_pilots_choose_for_no_other_run(compared, tmp_path, data_dir):
  where, _, _ = compared
  kept = pilots.kept(str(where / 'pilots.json'))
  with pytest.raises(UserError, match='chose nothing for masked '):
    kept.tuned(_plan(['masked'], 0, tmp_path, data_dir))
  with pytest.raises(UserError, match=r'chose nothing for autoregressive \(.*norm post'):
    kept.tuned(_plan(['autoregressive'], 0, tmp_path, data_dir, '--config.model.norm=post'))
  with pytest.raises(UserError, match='seed 7 is a pilot and among the results'):
    kept.tuned(_plan(['autoregressive'], 7, tmp_path, data_dir))
  with pytest.raises(
    UserError, match='clip_norm was 1 in all pilots of autoregressive, here it is'
  ):
    other = '--config.optimizer.clip_norm=0.5'
    kept.tuned(_plan(['autoregressive'], 0, tmp_path, data_dir, other))


ROW = {
  'objective': 'autoregressive', 'size': 'L1D16H2', 'learning_rate': 2e-3, 'clip_norm': 1.0,
  'learning_rates': [1e-3, 2e-3, 4e-3], 'clip_norms': [1.0], 'of': ['seed 7'],
  'tried': [{'learning_rate': 2e-3, 'clip_norm': 1.0, 'seed': 7, 'loss': 1.0}], 'notes': [],
  'asked': {'learning_rates': [1e-3, 2e-3, 4e-3], 'clip_norms': None, 'pilot_seeds': [7]},
}  # fmt: skip


def _written(tmp_path, *rows) -> str:
  (tmp_path / 'kept.json').write_text(json.dumps({'pilots': rows}))
  return str(tmp_path / 'kept.json')


@pytest.mark.parametrize('clips', [None, [1.0]])
def test_a_choice_that_is_the_configs_own_has_the_names_of_its_grid(tmp_path, data_dir, clips):
  """Also where the grid of clip norms was of one: the same command finds what it began."""
  asked = {'learning_rates': [4e-3, 1e-3, 2e-3], 'clip_norms': clips, 'pilot_seeds': [7]}
  kept = pilots.kept(_written(tmp_path, ROW | {'asked': asked}))
  grid = {'rates': kept.asked([]).learning_rates, 'clips': kept.asked([]).clip_norms}
  every = _plan(['autoregressive'], 0, tmp_path, data_dir, **grid)
  (chosen,) = _plan(['autoregressive'], 0, tmp_path, data_dir, **grid, tuned=kept.tuned(every))
  assert chosen.name in {run.name for run in every}
  assert chosen.name == f'autoregressive-lr0.002{"-clip1" * bool(clips)}-seed0'
  where = pathlib.Path(chosen.workdir)
  where.mkdir(parents=True)
  (where / 'config.json').write_text(json.dumps({'config': configs.plain(chosen.config)}))
  (where / 'run.json').write_text('{}')
  assert _plan(['autoregressive'], 0, tmp_path, data_dir, **grid)
  with pytest.raises(UserError, match='and --learning_rates both say optimizer.learning_rate'):
    rate = '--config.optimizer.learning_rate=5e-4'
    _plan(['autoregressive'], 0, tmp_path, data_dir, rate, **grid)


NO_SEEDS = {'learning_rates': [1e-3], 'clip_norms': None, 'pilot_seeds': []}


@pytest.mark.parametrize(
  'change',
  [
    {'objective': ['masked']}, {'learning_rate': '0.01'}, {'learning_rates': None},
    {'learning_rate': None}, {'learning_rate': 3e-3}, {'learning_rates': 'abc'}, {'of': 'seed 10'},
    {'of': None}, {'tried': []}, {'tried': [3]}, {'tried': [{}]}, {'size': None}, {'asked': 3},
    {'notes': 3}, {'notes': [3]}, {'asked': None}, {'asked': {}}, {'asked': NO_SEEDS},
  ],
)  # fmt: skip
def test_what_is_no_choice_is_refused(tmp_path, change):
  assert pilots.kept(_written(tmp_path, ROW)).asked([]).learning_rates == [1e-3, 2e-3, 4e-3]
  with pytest.raises(UserError, match='no pilots.json of this version, or damaged'):
    pilots.kept(_written(tmp_path, ROW | change))
  with pytest.raises(UserError, match='two choices for one objective and size'):
    pilots.kept(_written(tmp_path, ROW, ROW))


def test_kept_records_make_the_same_report_and_go_on(compared, tmp_path):
  """Numbers, verdicts and arrays of the copy are those of the comparison; nothing is trained."""
  where, run, grid = compared
  out = tmp_path / 'kept'
  assert records.keep(where, out) == (2, [])
  assert not list(out.rglob('checkpoints')) and not list(out.rglob('.writing-*'))
  assert all(str(where) not in path.read_text() for path in out.rglob('run.json'))
  same = [report.build([top], tmp_path / name) for top, name in ((where, 'a'), (out, 'b'))]
  for made in same:
    for one in made['runs']:
      one.pop('workdir')
  assert same[0] == same[1]
  for path in (where / 'runs').iterdir():
    with np.load(path / 'arrays.npz') as a, np.load(out / 'runs' / path.name / 'arrays.npz') as b:
      assert {'labels', 'nats', 'linear/10/predictions'} <= set(b) < set(a)
      assert all(np.array_equal(a[name], b[name]) for name in b)
  before = {path: path.stat().st_mtime_ns for path in out.glob('**/run.json')}
  assert len(before) == 6  # Two results, four pilots.
  for flags in ((f'--pilots={where / "pilots.json"}',), grid):
    done = run(f'--workdir={out}', *flags)
    assert done.returncode == 0, done.stderr
    assert before == {path: path.stat().st_mtime_ns for path in out.glob('**/run.json')}
    assert len(reading.read_json(out / 'plan.json')['plans']) == 1


@pytest.mark.parametrize('config', [cifar10_small, fashion_mnist])
def test_kept_pilots_choose_for_their_config_and_are_those_of_their_page(config):
  name = config.__name__.split('.')[1]
  folder = _ROOT / 'experiments/results' / name.replace('_small', '_palette')
  kept = pilots.kept(str(folder / 'pilots.json'))
  runs = [plan._plan(
    f'experiments/{name}.py', variants.parse(one), one, None, (None, None), 0, '',
    [*variants.parse(one).overrides], '/nowhere', '',
  ) for one in config.COMPARE]  # fmt: skip
  assert kept.asked(runs) == pilots.Asked([5e-3, 1.2e-2, 3e-2], [0.3, 1], [100])
  page = (folder / 'README.md').read_text(encoding='utf-8')
  (table,) = (block for block in page.split('\n\n') if ', clip norm 0.3 / 1 |' in block)
  head, _, *rows = ([cell.strip() for cell in line.split('|')[1:-1]] for line in table.splitlines())
  told = {row[0]: dict(zip(head, row, strict=True)) for row in rows}
  chosen = {}
  for one in json.loads((folder / 'pilots.json').read_text(encoding='utf-8'))['pilots']:
    loss = {(t['learning_rate'], t['clip_norm']): t['loss'] for t in one['tried']}
    row = told.pop(one['objective'])
    for rate in kept.asked(runs).learning_rates:
      assert row[f'{rate:g}'] == f'{loss[rate, 0.3]:.3f} / {loss[rate, 1.0]:.3f}'
    best = chosen[one['objective'].replace(' ', '+')] = min(loss, key=loss.get)
    assert row['chosen'] == f'{best[0]:g}, {best[1]:g}'
  assert not told and kept.tuned(runs) == chosen
