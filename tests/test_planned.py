"""What was said before the first result: reports hold a comparison against it."""

import json
import pathlib
import shutil

import pytest
from records import assemble, make_record, render, write_run
import tiny

from reports import apart, choice, comparison_files, finding, planned, results, terminal
from reports.errors import ReportError
from runs import announced, plan
from runs.errors import UserError

OBJECTIVES = ('autoregressive', 'masked', 'untrained')


def _plan(
  seeds, *, written='2026-11-01', before=0, rows=OBJECTIVES, size='nano', clip=None, **changes
) -> dict:
  own = {'learning_rate': None if changes.get('learning_rates') else 2e-3, 'clip_norm': clip}
  return {
    'rows': [{'objective': name, 'size': size, 'steps': 800, **own} if name != 'untrained' else
             {'objective': name, 'size': size, 'steps': 0} | dict.fromkeys(own) for name in rows],
    'replicates': [{'grammar': None, 'seed': seed} for seed in seeds],
    'learning_rates': [], 'clip_norms': [], 'pilot_seeds': [],
    'primary': {'probe': 'linear', 'labels': '100'}, 'command': 'make it', 'notes': ['left out'],
    'written': written, 'results_before': before, 'chosen': [],
  } | changes  # fmt: skip


def _write(top: pathlib.Path, *plans: dict) -> None:
  top.mkdir(parents=True, exist_ok=True)
  (top / 'plan.json').write_text(json.dumps({'plans': list(plans)}))


def _runs(top: pathlib.Path, seeds, objectives=OBJECTIVES, **changes) -> None:
  for objective in objectives:
    for seed in seeds:
      write_run(top, make_record(objective, seed, **changes))


def _said(results: dict) -> str:
  """The terminal's text in one line; the page says the same of the plan."""
  page = ' '.join(render(results).replace('&#39;', "'").split())
  assert all(line in page for line in planned.lines(results['plan']))
  return ' '.join(terminal.terminal_table(results).split())


def test_fewer_seeds_than_planned_are_preliminary_and_never_a_verdict(tmp_path):
  """Five seeds are enough for a test, but seven were to be."""
  _write(tmp_path, _plan(range(7)))
  _runs(tmp_path, range(5))
  results = assemble(tmp_path)
  assert results['verdicts'] == [] and results['beside'] == []
  assert results['no_verdicts'] == 'preliminary, 6 planned runs are not done'
  assert not any(found['tested'] for found in results['indistinct'])
  text = _said(results)
  assert (
    'planned: 7 seeds × 3 rows, 21 runs; done: 15 runs; complete: 5 seeds × 3 rows: PRELIMINARY, '
    'no verdict before all of it is done'
  ) in text
  assert 'raw input and the codes without context are not measured here' in text
  _runs(tmp_path, (5, 6))
  results = assemble(tmp_path)
  assert [pair['seeds'] for pair in results['verdicts']] == [7, 7, 7]
  assert results['verdicts'][0]['p'] is not None
  assert 'planned: 7 seeds × 3 rows, 21 runs; done: all' in _said(results)
  assert 'PRELIMINARY' not in _said(results)
  assert results['command'] == 'make it' and results['notes'].count('left out') == 1


def test_a_run_that_is_missing_in_one_row_holds_all_verdicts_back(tmp_path):
  _write(tmp_path, _plan(range(5)))
  _runs(tmp_path, range(5), OBJECTIVES[:2])
  _runs(tmp_path, range(4), OBJECTIVES[2:])
  assert assemble(tmp_path)['verdicts'] == []
  assert 'complete: 4 seeds × 3 rows' in _said(assemble(tmp_path))
  # One that began and goes on is missing, too; one that failed has ended.
  path = tmp_path / 'runs' / 'untrained-4'
  path.mkdir()
  config = tiny.config('untrained', '--config.training.seed=4').to_dict()
  (path / 'config.json').write_text(json.dumps({'config': config}, default=list))
  killed, own = 'SIGKILL, out of memory?: 5/9', 'SIGABRT: a loss that is not finite'
  full = 'OSError: [Errno 28] No space left on device'
  for state, reason, tested in (
    ('running', '', False), ('preempted', '', False), ('failed', killed, False),
    ('failed', 'SIGTERM: no output', False), ('failed', full, False),
    ('failed', 'lost; the same command on all of them goes on from the last checkpoint', False),
    ('failed', 'File too large; those before it are whole, and the same command goes on', False),
    ('failed', own, True), ('failed', '', True),
  ):  # fmt: skip
    (path / 'state.json').write_text(json.dumps({'state': state, 'reason': reason}))
    assert bool(assemble(tmp_path)['verdicts']) == tested
  assert '15 runs; done: 14 runs; failed: 1' in _said(assemble(tmp_path))
  # What its error was counts more than how that sounds; a damaged config is of no planned run.
  for goes_on, tested in ((True, False), (False, True)):
    said = {'state': 'failed', 'reason': killed if tested else own, 'goes_on': goes_on}
    (path / 'state.json').write_text(json.dumps(said))
    assert bool(assemble(tmp_path)['verdicts']) == tested
  for damaged in ({'config': [1]}, {'config': config | {'objective': 3}}):
    (path / 'config.json').write_text(json.dumps(damaged, default=list))
    assert assemble(tmp_path)['verdicts'] == []


def test_seeds_added_once_results_were_there_are_told(tmp_path):
  _write(tmp_path, _plan(range(5)), _plan(range(7), written='2026-11-02', before=15))
  _runs(tmp_path, range(7))
  results = assemble(tmp_path)
  assert results['verdicts']
  assert '2 seeds were added later than the first plan, once 15 results were there' in _said(
    results
  )
  _write(tmp_path, _plan(range(7), before=3))
  assert 'written when 3 results were there already' in _said(assemble(tmp_path))
  # Nor do objectives come in unseen.
  _write(
    tmp_path,
    _plan(range(5), rows=OBJECTIVES[:1]),
    _plan(range(5), written='2026-11-02', before=5),
    _plan(range(7), written='2026-11-03', before=15),
  )
  found = [
    line for line in planned.lines(assemble(tmp_path)['plan']) if 'later than the first' in line
  ]
  why = 'results were there: a test is at its level only for what was fixed before'
  assert found == [
    f'2 rows were added later than the first plan, once 5 {why}',
    f'2 seeds were added later than the first plan, once 15 {why}',
  ]
  # Fewer than were planned at first is no way out.
  _write(tmp_path, _plan(range(9)), _plan(range(7), written='2026-11-02', before=21))
  assert assemble(tmp_path)['no_verdicts'] == 'preliminary, 6 planned runs are not done'


def test_parts_of_a_plan_are_one_plan_and_others_are_later(tmp_path):
  _write(tmp_path / 'b', _plan(range(5), written='2026-11-02'))
  _write(tmp_path / 'a', _plan(range(5), written='2026-11-03'))
  _runs(tmp_path / 'a', (0, 2, 4))
  _runs(tmp_path / 'b', (1, 3))
  assert assemble(tmp_path / 'a')['plan']['done'] == 9
  assert not assemble(tmp_path / 'a' / 'runs')['plan']['complete']
  (one,) = (tmp_path / 'a' / 'runs').glob('masked-0-*')
  assert assemble(one)['plan']['done'] == 1
  joined = assemble(tmp_path / 'a', tmp_path / 'b')
  assert joined['plan']['complete'] and joined['plan']['added'] == []
  assert [one['written'] for one in joined['plan']['plans']] == ['2026-11-02']
  _write(tmp_path / 'b', _plan(range(4), written='2026-11-02'))
  joined = assemble(tmp_path / 'a', tmp_path / 'b')
  assert '1 seeds were added later than the first plan:' in _said(joined)


def test_a_grid_is_done_when_all_of_it_is_and_pilots_leave_one_point(tmp_path):
  grid = {'learning_rates': [1e-3, 2e-3], 'clip_norms': []}
  _runs(tmp_path, range(5), OBJECTIVES[:2], learning_rate=1e-3)
  for seed in range(5):
    write_run(tmp_path, make_record('untrained', seed, learning_rate=None), f'untrained-{seed}')
  _write(tmp_path, _plan(range(5), pilot_seeds=[100], **grid))
  assert assemble(tmp_path)['plan']['done'] == 5  # The untrained: nothing is chosen yet.
  _write(tmp_path, _plan(range(5), pilot_seeds=[100], chosen=_chosen(1e-3, None), **grid))
  assert assemble(tmp_path)['plan']['complete']
  _write(tmp_path, _plan(range(5), **grid))
  found = assemble(tmp_path)['plan']
  assert (found['runs'], found['done'], found['whole'], found['complete']) == (25, 15, 0, False)
  _runs(tmp_path, range(5), OBJECTIVES[:2], learning_rate=2e-3)
  assert assemble(tmp_path)['plan']['complete']


def _chosen(rate: float, clip: float | None = 1.0, size: str = 'nano') -> list[dict]:
  tuning = {'size': size, 'learning_rate': rate, 'clip_norm': clip}
  return [{'objective': name} | tuning for name in OBJECTIVES[:2]]


def _piloted(top: pathlib.Path, chosen: list[dict], **changes) -> None:
  row = {'learning_rates': [1e-3, 2e-3], 'clip_norms': [1.0], 'of': ['seed 100'], 'tried': []}
  rows = [row | {'notes': []} | one | changes for one in chosen]
  (top / 'pilots.json').write_text(json.dumps({'pilots': rows}))


def test_what_is_done_at_rates_that_pilots_did_not_choose_is_no_part_of_their_plan(tmp_path):
  """First untuned, then by pilots: half of the second is done at the rates of the first."""
  tuned = _plan(
    range(5), written='2026-11-02', before=15, pilot_seeds=[100], learning_rates=[1e-3, 2e-3],
    clip=1.0, chosen=_chosen(2e-3),
  )  # fmt: skip
  first = _plan(range(5), clip=1.0)
  first['rows'] = [row | {'learning_rate': row['steps'] and 1e-3 or None} for row in first['rows']]
  _write(tmp_path, first, tuned)
  same = {'clip_norm': 1.0}
  _runs(tmp_path, range(5), OBJECTIVES[:2], learning_rate=1e-3, **same)
  _runs(tmp_path, range(5), OBJECTIVES[2:])
  found = assemble(tmp_path)
  assert (found['plan']['runs'], found['plan']['done']) == (25, 15)
  assert found['verdicts'] == [] and '10 planned runs are not done' in found['no_verdicts']
  told = (
    'another choice of rates and clip norms was added later than the first plan, once 15 results'
  )
  assert told in _said(found)
  _runs(tmp_path, range(5), OBJECTIVES[:1], learning_rate=2e-3, **same)
  assert assemble(tmp_path)['plan']['done'] == 20
  _runs(tmp_path, range(5), OBJECTIVES[1:2], learning_rate=2e-3, **same)
  assert assemble(tmp_path)['plan']['complete']
  # Pilots of another size chose nothing for this one.
  _write(tmp_path, tuned | {'rows': tuned['rows'][:2], 'chosen': _chosen(2e-3, size='micro')})
  assert assemble(tmp_path)['plan']['done'] == 0


@pytest.mark.parametrize('text', ['{"plans": [{"rows"', '{}', '{"plans": [{"rows": []}]}'])
def test_a_plan_that_can_not_be_read_is_no_way_out(tmp_path, text):
  _runs(tmp_path, range(5))
  (tmp_path / 'plan.json').write_text(text)
  with pytest.raises(ReportError, match='plan.json cannot be read, and it says whether'):
    assemble(tmp_path)


def test_pilots_are_no_results_while_they_have_not_chosen(tmp_path):
  _write(tmp_path, _plan(range(5), pilot_seeds=[100]))
  _runs(tmp_path / 'pilots', [100])
  with pytest.raises(ReportError, match='no finished run'):
    assemble(tmp_path)
  _runs(tmp_path, [0])
  assert [run['seed'] for run in assemble(tmp_path)['runs']] == [0, 0, 0]
  (tmp_path / 'pilots.json').write_text('{"pilots"')
  with pytest.raises(ReportError, match='pilots.json cannot be read'):
    assemble(tmp_path)


def test_without_a_plan_nothing_is_held_back(tmp_path):
  _runs(tmp_path, range(5))
  results = assemble(tmp_path)
  assert results['plan'] is None and results['verdicts'] and 'planned:' not in _said(results)
  assert 'none was written beforehand' in render(results)


# As a comparison writes it.


def _announce(top: pathlib.Path, seeds, names=('masked+ratio=0.5', 'untrained'), **changes) -> dict:
  given = {'command': 'c', 'rates': None, 'clips': [1.0], 'pilot_seeds': None, 'notes': []}
  runs, _ = plan.make(
    'experiments/hierarchy.py', names, seeds, None, [], str(top), '', sizes=changes.get('sizes')
  )
  changes.pop('sizes', None)
  announced.write(runs, str(top), **given | changes)
  return json.loads((top / 'plan.json').read_text())['plans']


def test_a_plan_may_change_until_the_first_result(tmp_path):
  _announce(tmp_path, [0])
  (one,) = _announce(tmp_path, [0, 1], sizes=['nano', 'micro'])
  assert one['rows'] == [
    {'objective': name, 'size': size, 'steps': steps, 'learning_rate': rate, 'clip_norm': None}
    for size in ('nano', 'micro')
    for name, steps, rate in (('masked ratio=0.5', 1000, 5e-3), ('untrained', 0, None))
  ]
  assert one['replicates'] == [{'grammar': g, 'seed': s} for g in (0, 1, 2) for s in (0, 1)]
  assert (one['clip_norms'], one['results_before']) == ([1.0], 0)
  (tmp_path / 'runs' / 'any').mkdir(parents=True)
  (tmp_path / 'runs' / 'any' / 'run.json').write_text('{}')
  assert _announce(tmp_path, [0, 1], sizes=['nano', 'micro'], command='again') == [one]
  first, second = _announce(tmp_path, [0, 1, 2], sizes=['nano', 'micro'])
  assert first == one and second['results_before'] == 1 and len(second['replicates']) == 9
  assert first['written'] <= second['written']


def test_what_stands_beside_runs_is_read_however_they_are_named(tmp_path, monkeypatch):
  """Its plan, its pilots and its controls: of DIR, DIR/runs, a run, or '.' in any of these."""
  _write(tmp_path, _plan(range(7)))
  _runs(tmp_path, range(5))
  _piloted(tmp_path, _chosen(2e-3, None))
  (tmp_path / 'controls.json').write_text(json.dumps({'histogram_bits_per_dim': 2.5}))

  def said(*dirs):
    found = assemble(*dirs)
    tuned = {run['objective'] for run in found['runs'] if run.get('pilots_of')}
    histogram = found['controls'].get('histogram_bits_per_dim')
    return found['no_verdicts'], tuned, histogram, len(found['runs'])

  whole = said(tmp_path)
  assert whole == ('preliminary, 6 planned runs are not done', set(OBJECTIVES[:2]), 2.5, 15)
  assert said(tmp_path / 'runs') == whole
  assert said(*sorted((tmp_path / 'runs').iterdir())) == whole
  for place in (tmp_path, tmp_path / 'runs'):
    monkeypatch.chdir(place)
    assert said(pathlib.Path()) == whole
  # Runs that lie elsewhere, and are linked to.
  for path in sorted((tmp_path / 'runs').iterdir()):
    (tmp_path / 'disk').mkdir(exist_ok=True)
    path.rename(tmp_path / 'disk' / path.name)
    path.symlink_to(tmp_path / 'disk' / path.name)
  assert said(*sorted((tmp_path / 'runs').iterdir())) == whole


def test_a_comparison_in_a_directory_called_runs_is_its_own(tmp_path):
  (tmp_path / 'controls.json').write_text('{"histogram_bits_per_dim": 9.0}')
  for name in ('plan.json', 'pilots.json'):
    (tmp_path / name).write_text('{')
  inner = tmp_path / 'runs' / 'digits'
  _runs(inner, range(5))
  _write(inner, _plan(range(5)))
  (inner / 'controls.json').write_text('{"histogram_bits_per_dim": 2.5}')
  for top in (inner, inner.parent):
    found = finding.find([top])
    assert found.controls == {'histogram_bits_per_dim': 2.5} and not found.pilots
    assert planned.state(found)['complete'] and found.notes == ['left out']


def test_pilots_are_of_runs_that_a_field_tells_apart_too():
  run = make_record('masked', 0)
  row = {name: run.get(name) for name in ('objective', 'size', 'learning_rate', 'clip_norm')}
  row |= {'learning_rates': [1.0], 'clip_norms': [1.0], 'of': ['seed 9']}
  told = run | {'objective': 'masked weight_decay=0.1', 'objective_of_plan': 'masked'}
  choice.add_pilots([told], [row])
  assert told['pilots_of'] == ['seed 9']
  # Two choices of pilots are no grid of two.
  for known, count in (({}, 1), ({'pilots_of': ['seed 9']}, 0)):
    runs = [make_record('masked', 0, learning_rate=rate) | known for rate in (1e-3, 1e-2)]
    assert sum('only two learning rates' in note for note in choice.select(runs)) == count


def _with_decay(top: pathlib.Path, decay: float, **optimizer) -> None:
  for record in top.rglob('run.json'):
    own = json.loads(record.read_text())
    config = tiny.config('masked', f'--config.training.seed={own["seed"]}').to_dict()
    config['objective']['name'] = own['objective']
    config['optimizer'] |= {'weight_decay': decay, **optimizer}
    config['training']['steps'] = own['steps']
    record.with_name('config.json').write_text(
      json.dumps({'config': config, 'size': own['size']}, default=list)
    )


def _fail(record: pathlib.Path) -> None:
  record.unlink()
  record.with_name('state.json').write_text('{"state": "failed", "reason": "ValueError: NaN"}')


def _by(*tops: pathlib.Path, fields=('optimizer.weight_decay',)) -> dict:
  found = finding.find(tops)
  apart.tell(found, fields)
  state = planned.state(found)
  assert not any('workdir' in one for one in state['plans'])
  return state


def test_what_is_planned_is_of_the_fields_that_tell_comparisons_apart(tmp_path):
  """Equal plans of two comparisons: the runs of the one are none of the other's."""
  a, b, c, d = (tmp_path / name for name in 'abcd')
  for top, seeds, decay in ((a, range(3), 0.0), (b, range(2), 0.1), (c, (2,), 0.1)):
    _write(top, _plan(range(3), clip=1.0))
    _runs(top, seeds, OBJECTIVES[:2], clip_norm=1.0)
    _runs(top, seeds, OBJECTIVES[2:])
    _with_decay(top, decay)
  assert _by(a)['complete'] and not _by(b)['complete']
  for both in (_by(a, b), _by(b, a)):
    assert (both['rows'], both['runs'], both['done']) == (6, 18, 15) and not both['complete']
  assert _by(b, c)['complete'] and _by(c, b, a)['complete']  # c is the other part of b
  assert _by(a, b, c)['runs'] == 18 and not _by(a, b, c)['added']
  assert _by(a, a, b, b / 'runs', c)['complete']
  shutil.copytree(a, tmp_path / 'records')
  assert _by(a, tmp_path / 'records')['complete'] and _by(a, tmp_path / 'records')['runs'] == 9
  _write(d, _plan(range(3), clip=1.0))  # not begun
  assert not _by(a, d)['complete'] and _by(a, d)['runs'] == 18
  # One that failed has ended, and is of its own comparison.
  (record,) = c.rglob('*masked*2*/run.json')
  _fail(record)
  assert _by(a, b, c)['complete'] and _by(a, b, c)['failed'] == 1
  for record in sorted((*b.rglob('run.json'), *c.rglob('run.json'))):
    _fail(record)
  assert _by(a, b, c)['failed'] == 9 and _by(a, b, c)['complete']


def test_parts_of_a_comparison_are_one_by_any_field(tmp_path):
  """Also where they have no kind of run in common; what has no plan is of the only one."""
  a, b = tmp_path / 'a', tmp_path / 'b'
  for top, names, seeds in ((a, OBJECTIVES[:1], range(2)), (b, OBJECTIVES[1:2], range(2))):
    _write(top, _plan(range(2), rows=OBJECTIVES[:2]))
    _runs(top, seeds, names)
    _with_decay(top, 0.1)
  fields = ('optimizer.weight_decay', 'training.seed', 'model.preset')
  assert all(_by(a, b, fields=(field,))['runs'] == 4 for field in fields)
  assert all(_by(a, b, fields=(field,))['complete'] for field in fields)
  (b / 'plan.json').unlink()
  assert _by(a, b)['complete']
  # By the rates of a grid, one in each part.
  for top, rate in ((tmp_path / 'c', 1e-3), (tmp_path / 'd', 2e-3)):
    _write(top, _plan(range(2), rows=OBJECTIVES[:1], learning_rates=[1e-3, 2e-3]))
    _runs(top, range(2), OBJECTIVES[:1], learning_rate=rate)
    _with_decay(top, 0.1, learning_rate=rate)
  state = _by(tmp_path / 'c', tmp_path / 'd', fields=('optimizer.learning_rate',))
  assert state['complete'] and state['runs'] == 4


def test_a_field_that_differs_inside_a_comparison_leaves_its_plan_as_it_is(tmp_path):
  """Rates that pilots chose for each objective, grids, sizes, the objectives themselves."""
  _write(tmp_path, _plan(range(3), rows=OBJECTIVES[:2], learning_rates=[1e-3, 2e-3]))
  for rate in (1e-3, 2e-3):
    _runs(tmp_path / f'{rate}', range(3), OBJECTIVES[:2], learning_rate=rate)
    _with_decay(tmp_path / f'{rate}', 0.1, learning_rate=rate)
  for field in ('optimizer.learning_rate', 'objective.name', 'model.preset', 'training.seed'):
    state = _by(tmp_path, fields=(field,))
    assert state['complete'] and (state['runs'], state['rows']) == (12, 2) and not state['added']


def test_parts_that_tell_the_same_pilots_count_them_once(tmp_path):
  for part, seconds in (('a', 1.0), ('b', 2.0)):
    _runs(tmp_path / part, (0,) if part == 'a' else (1,))
    tried = [{'learning_rate': 1e-3, 'clip_norm': 1.0, 'seed': 9, 'loss': 1.0,
              'cpu_seconds': seconds}]  # fmt: skip
    row = {'objective': 'masked', 'size': 'nano', 'learning_rate': 1e-3, 'clip_norm': 1.0,
           'learning_rates': [1e-3], 'clip_norms': [1.0], 'of': ['seed 9'], 'notes': [],
           'tried': tried}  # fmt: skip
    (tmp_path / part / 'pilots.json').write_text(json.dumps({'pilots': [row]}))

  def told(*parts):
    return comparison_files.joined(finding.find(tmp_path / part for part in parts).pilots)[0]

  assert [len(row['tried']) for row in told('a', 'b')] == [1]
  # What chose alike is one choice, of the seeds and rates of all.
  other = row | {
    'of': ['seed 3'],
    'learning_rates': [1e-3, 4e-3],
    'tried': [tried[0] | {'seed': 3}],
  }
  (tmp_path / 'b' / 'pilots.json').write_text(json.dumps({'pilots': [other]}))
  for parts in ('ab', 'ba'):
    (one,) = told(*parts)
    assert (one['of'], one['learning_rates']) == (['seed 3', 'seed 9'], [1e-3, 4e-3])
    assert sorted(pilot['seed'] for pilot in one['tried']) == [3, 9]
  # A part that chose otherwise keeps its choice, and its pilots count once too.
  row |= {'learning_rate': 2e-3}
  (tmp_path / 'b' / 'pilots.json').write_text(json.dumps({'pilots': [row]}))
  assert [one['learning_rate'] for one in told('a', 'b')] == [1e-3, 2e-3]
  assert sum(len(one['tried']) for one in told('a', 'b')) == 1


def test_a_plan_names_sizes_as_records_do(tmp_path):
  """Rows 'nano' and 'nano, dropout0.1': both are found, and a failed one is that of its preset."""
  made, _ = plan.make(
    'experiments/digits.py', ['autoregressive', 'autoregressive+model.dropout=0.1'], [0], [], [],
    str(tmp_path), str(tmp_path), sizes=['nano'],
  )  # fmt: skip
  announced.write(
    made, str(tmp_path), command='c', rates=None, clips=None, pilot_seeds=None, notes=[]
  )
  (one,) = json.loads((tmp_path / 'plan.json').read_text())['plans']
  assert [row['size'] for row in one['rows']] == ['nano', 'nano, dropout0.1']
  config = made[1].config
  record = {'objective': f'autoregressive {config.variant}', 'size': 'nano, dropout0.1', 'seed': 0}
  record['steps'] = config.training.steps
  record |= {name: config.optimizer[name] for name in choice.GRID}
  found = finding.Found(plans=[one], runs=[record])
  assert planned.state(found)['done'] == 1
  # A failed one, too, where its config.json says the size; of an earlier version it is the preset.
  failed = json.loads(config.to_json_best_effort())
  for size, count in (({'size': 'nano, dropout0.1'}, 1), ({'size': 'nano'}, 0), ({}, 0)):
    found = finding.Found(plans=[one], failed=[failed | size])
    assert planned.state(found)['failed'] == count
  # A finished one says its size: of another it is not.
  found = finding.Found(plans=[one], runs=[record | {'size': 'nano'}])
  assert planned.state(found)['done'] == 0


def test_an_unreadable_plan_is_never_replaced(tmp_path):
  _runs(tmp_path, (0,))
  run = next((tmp_path / 'runs').iterdir())
  assert (run / 'run.json').exists()
  (tmp_path / 'plan.json').write_text('{"plans": [')
  with pytest.raises(ReportError, match='plan.json cannot be read'):
    announced.write(
      [], str(tmp_path), command='c', rates=None, clips=None, pilot_seeds=None, notes=[]
    )
  assert (tmp_path / 'plan.json').read_text() == '{"plans": ['


def test_a_directory_s_pilots_choose_for_its_own_plans_alone(tmp_path):
  """Joined comparisons of other sizes, and of other seeds at other rates, are each complete."""
  grid = {'learning_rates': [1e-3, 2e-3], 'pilot_seeds': [100]}
  for part, seeds, size, rate in (
    ('a', range(5), 'nano', 1e-3), ('b', range(3), 'micro', 2e-3), ('c', range(5, 10), 'nano', 2e-3)
  ):  # fmt: skip
    (tmp_path / part).mkdir()
    own = {'size': size, 'clip_norm': 1.0}
    _runs(tmp_path / part, seeds, OBJECTIVES[:2], learning_rate=rate, **own)
    _runs(tmp_path / part, seeds, OBJECTIVES[2:], **own)
    written = f'2026-11-0{ord(part) - ord("a") + 1}'
    chosen = _chosen(rate, size=size)
    _write(
      tmp_path / part, _plan(seeds, **grid, written=written, size=size, clip=1.0, chosen=chosen)
    )
  for parts, runs in (('a', 15), ('b', 9), ('ab', 24), ('ba', 24), ('ac', 30)):
    found = assemble(*(tmp_path / part for part in parts))['plan']
    assert (found['runs'], found['done'], found['complete']) == (runs, runs, True), parts


def test_runs_of_another_size_are_not_those_of_a_plan(tmp_path):
  plan = _plan(range(7))
  _runs(tmp_path, range(5), size='nano')
  _runs(tmp_path, (5, 6), size='micro')
  _write(tmp_path, plan)
  assert assemble(tmp_path)['no_verdicts'] == 'preliminary, 6 planned runs are not done'


def test_what_pilots_chose_for_a_plan_stays_with_it(tmp_path):
  """Later calls choose otherwise, of a larger grid or another size, and pilots.json says that."""
  runs, _ = plan.make(
    'experiments/digits.py', ['masked', 'untrained'], [0, 1], None, [], str(tmp_path), '',
    tuned={'masked': (2e-3, None)},
  )  # fmt: skip
  given = {'command': 'c', 'rates': [1e-3, 2e-3], 'clips': None, 'pilot_seeds': [100], 'notes': []}
  said = announced.write(runs, str(tmp_path), **given)
  announced.choose(said, runs, str(tmp_path))
  (one,) = json.loads((tmp_path / 'plan.json').read_text())['plans']
  clip = runs[0].config.optimizer.clip_norm
  assert one['chosen'] == [
    {'objective': 'masked', 'size': 'nano', 'learning_rate': 2e-3, 'clip_norm': clip}
  ]
  for run in runs:
    record = make_record(run.objective, run.config.training.seed, clip_norm=clip, size='nano')
    write_run(tmp_path, record | ({'learning_rate': 2e-3} if run.steps else {}), run.name)
  _piloted(tmp_path, _chosen(4e-3))
  assert announced.write(runs, str(tmp_path), **given) == said
  (again,) = json.loads((tmp_path / 'plan.json').read_text())['plans']
  assert again == one  # It is the same plan, and keeps its choice.
  assert assemble(tmp_path)['plan']['complete']
  (other,) = one['chosen']
  _write(tmp_path / 'b', one | {'chosen': [other | {'learning_rate': 1e-3}]})
  found = assemble(tmp_path, tmp_path / 'b')['plan']
  assert len(found['plans']) == 1 and found['runs'] == 6  # Of both choices, 4 of one are there.


def test_a_plan_of_pilots_without_their_choice_says_so(tmp_path):
  _runs(tmp_path, range(5))
  _write(tmp_path, _plan(range(5), learning_rates=[1e-3], pilot_seeds=[100]))
  found = assemble(tmp_path)
  assert found['verdicts'] == [] and found['plan']['unchosen'] == sorted(OBJECTIVES[:2])
  told = (
    f'of which rate the runs of {", ".join(OBJECTIVES[:2])} should be is not known: their pilots'
  )
  assert told in _said(found)


@pytest.mark.parametrize('more', [{'learning_rates': [1e-3, 4e-3]}, {'pilot_seeds': [101]}])
def test_while_later_pilots_run_earlier_ones_choose_nothing_for_them(tmp_path, more):
  """An edge of the grid invites to a second call; until its pilots are done it has no results."""
  _runs(tmp_path, range(5), learning_rate=1e-3, clip_norm=1.0)
  chosen = _chosen(1e-3)
  first = _plan(range(5), learning_rates=[1e-3], pilot_seeds=[100], clip=1.0, chosen=chosen)
  _write(tmp_path, first)
  assert assemble(tmp_path)['plan']['complete']
  second = first | {'written': '2026-11-02', 'results_before': 15, 'chosen': []} | more
  for more_plans in ((), (first | {'replicates': [], 'written': '2026-11-03'},)):
    _write(tmp_path, first, second, *more_plans)
    found = assemble(tmp_path)
    assert found['verdicts'] == [] and found['plan']['unchosen'] == sorted(OBJECTIVES[:2])
  _write(tmp_path, first, second | {'chosen': chosen})
  assert assemble(tmp_path)['plan']['complete']


def test_runs_at_what_the_config_says_are_no_others(tmp_path):
  """A grid first, then the config's own rate: what the grid trained is not that."""
  _runs(tmp_path, range(5), learning_rate=1e-3, clip_norm=1.0)
  first = _plan(range(5), learning_rates=[1e-3], clip=1.0)
  second = _plan(range(5), written='2026-11-02', before=15, clip=1.0)
  _write(tmp_path, first, second)
  found = assemble(tmp_path)
  assert found['verdicts'] == [] and found['plan']['done'] == 15 and found['plan']['runs'] == 25
  # The same where pilots chose the rate, and no grid has clip norms.
  grid = {'learning_rates': [1e-3], 'pilot_seeds': [9], 'chosen': _chosen(1e-3, 0.5)}
  _write(tmp_path, _plan(range(5), **grid, clip=1.0))
  assert assemble(tmp_path)['plan']['complete']  # at the config's 1.0, which was not searched
  _write(tmp_path, _plan(range(5), **grid, clip=0.5))
  assert not assemble(tmp_path)['plan']['complete']


def test_a_plan_that_is_gone_is_not_written_over(tmp_path, monkeypatch):
  _write(tmp_path, _plan(range(5)))
  before = (tmp_path / 'plan.json').read_text()

  def fails(*_, **__):
    raise OSError(5, 'Input/output error')

  with monkeypatch.context() as patched:
    patched.setattr(pathlib.Path, 'read_text', fails)
    with pytest.raises(ReportError, match='whether there may be a verdict'):
      announced.choose({}, [], str(tmp_path))
  assert (tmp_path / 'plan.json').read_text() == before
  with pytest.raises(UserError, match='its plan is gone'):
    announced.choose({'replicates': [], 'rows': []}, [], str(tmp_path))
  assert (tmp_path / 'plan.json').read_text() == before
  _runs(tmp_path, range(5))
  odd = [row | {'learning_rate': 'high'} for row in _plan([0])['rows']]
  for plans in ([], [3], ['x'], [{}], [{'rows': [3]}], [_plan([0]) | {'rows': odd}]):
    _write(tmp_path, *plans)
    with pytest.raises(ReportError, match='whether there may be a verdict'):
      assemble(tmp_path)


def test_rows_that_were_not_to_have_all_seeds_are_counted_apart(tmp_path):
  _runs(tmp_path, range(5))
  _write(tmp_path, _plan(range(5)), _plan(range(7), written='2026-11-02', before=15))
  text = _said(assemble(tmp_path))
  assert 'planned: 7 seeds × 3 rows, 21 runs; done: 15 runs; complete: 5 seeds × 3 rows' in text
  assert '2 seeds were added later than the first plan' in text
  micro = _plan(range(3), rows=OBJECTIVES[:1], written='2026-11-02', size='micro')
  _write(tmp_path, _plan(range(5)), micro)
  _runs(tmp_path / 'more', range(2), OBJECTIVES[:1], size='micro')
  assert (
    'planned: 5 seeds × 3 rows and 3 seeds × 1 rows, 18 runs; done: 17 runs; complete: 5 seeds × '
    '3 rows and 2 seeds × 1 rows'
  ) in _said(assemble(tmp_path))


@pytest.mark.parametrize('lacking', ['chosen', 'size', 'learning_rate', 'clip_norm'])
def test_a_plan_that_does_not_say_all_of_it_is_refused(tmp_path, lacking):
  """As earlier versions wrote it: which runs it means would be a guess."""
  _runs(tmp_path, range(5))
  whole = _plan(range(5))
  rows = [{name: row[name] for name in row if name != lacking} for row in whole['rows']]
  _write(tmp_path, {name: whole[name] for name in whole if name != lacking} | {'rows': rows})
  with pytest.raises(ReportError, match='plan.json cannot be read, .* or of an earlier version'):
    assemble(tmp_path)


def _report(*tops: pathlib.Path, fields=('optimizer.weight_decay',)) -> dict:
  found = finding.find(tops)
  apart.tell(found, fields)
  return results.assemble(found)


def test_runs_without_a_plan_are_of_the_comparison_whose_values_they_have(tmp_path):
  """Those of another weight decay are no seeds that the plan still lacks, finished or failed."""
  a, b = tmp_path / 'a', tmp_path / 'b'
  _write(a, _plan(range(7), rows=OBJECTIVES[:2]))
  for top, seeds, decay in ((a, range(5), 0.0), (b, (5, 6), 0.1)):
    _runs(top, seeds, OBJECTIVES[:2])
    _with_decay(top, decay)
  for tops in ((a, b), (b, a)):
    assert _report(*tops)['no_verdicts'] == 'preliminary, 4 planned runs are not done'
  _fail(next(b.rglob('masked-5*/run.json')))
  assert (_by(a, b)['done'], _by(a, b)['failed']) == (10, 0)
  # Of the same they are.
  _with_decay(b, 0.0)
  assert _by(a, b)['done'] == 13
  # Also of a kind that no planned run is of yet.
  for record in a.rglob('masked-*/run.json'):
    record.unlink()
  assert _by(a, b)['done'] == 8


def test_runs_of_another_length_are_not_those_of_a_plan(tmp_path):
  """800 updates of one objective against 400 of the other are no comparison that was planned."""
  _write(tmp_path, _plan(range(5), rows=OBJECTIVES[:2]))
  _runs(tmp_path, range(5), OBJECTIVES[:1])
  _runs(tmp_path, range(5), OBJECTIVES[1:2], steps=400)
  assert assemble(tmp_path)['no_verdicts'] == 'preliminary, 5 planned runs are not done'
  for record in tmp_path.rglob('masked-*/run.json'):
    own = json.loads(record.read_text())
    config = tiny.config('masked', f'--config.training.seed={own["seed"]}').to_dict()
    config['training']['steps'] = 400
    config['optimizer'] |= {'learning_rate': own['learning_rate'], 'clip_norm': None}
    said = json.dumps({'config': config, 'size': own['size']}, default=list)
    record.with_name('config.json').write_text(said)
    _fail(record)
  assert assemble(tmp_path)['plan']['failed'] == 0
  for config in tmp_path.rglob('masked-*/config.json'):
    config.write_text(config.read_text().replace('"steps": 400', '"steps": 800'))
  assert assemble(tmp_path)['plan']['failed'] == 5


def test_pilots_chose_for_their_own_comparison_alone(tmp_path):
  """Another one, of another weight decay at the same rate, is untuned; all pilots were paid for."""
  a, b = tmp_path / 'a', tmp_path / 'b'
  grid = {'learning_rates': [1e-3, 2e-3], 'pilot_seeds': [100]}
  tried = [
    {'learning_rate': rate, 'clip_norm': 1.0, 'seed': 100, 'loss': rate, 'train_flops': 1e12}
    for rate in grid['learning_rates']
  ]
  rows = {'rows': OBJECTIVES[:2], 'clip': 1.0}
  _write(a, _plan(range(5), **grid, **rows, chosen=_chosen(1e-3)))
  _piloted(a, _chosen(1e-3), tried=tried)
  single = _plan(range(5), **rows)
  single['rows'] = [row | {'learning_rate': 1e-3} for row in single['rows']]
  _write(b, single)
  for top, decay in ((a, 0.0), (b, 0.1)):
    _runs(top, range(5), OBJECTIVES[:2], learning_rate=1e-3, clip_norm=1.0)
    _with_decay(top, decay)
  for tops in ((a, b), (b, a)):
    found = _report(*tops)
    assert found['plan']['complete'] and found['plan']['added'] == []
    tuned = {run['objective'] for run in found['runs'] if run.get('pilots_of')}
    assert tuned == {f'{name} weight_decay=0.0' for name in OBJECTIVES[:2]}
  # With pilots of its own, which chose otherwise, both have theirs.
  _write(b, _plan(range(5), **grid, **rows, chosen=_chosen(2e-3)))
  _piloted(b, _chosen(2e-3), tried=[one | {'loss': -one['loss']} for one in tried])
  shutil.rmtree(b / 'runs')
  _runs(b, range(5), OBJECTIVES[:2], learning_rate=2e-3, clip_norm=1.0)
  _with_decay(b, 0.1)
  found = _report(a, b)
  assert all(run['pilots_of'] == ['seed 100'] for run in found['runs'])
  assert found['compute']['pilots'] | {'runs': 8, 'train_flops': 8e12} == found['compute']['pilots']
  assert not any('chose otherwise' in note for note in found['notes'])


def test_what_was_added_is_added_to_a_comparison(tmp_path):
  """Another one with more seeds is none; nor is the same grid in another order."""
  for top, seeds, decay in ((tmp_path / 'a', range(2), 0.0), (tmp_path / 'b', range(3), 0.1)):
    _write(top, _plan(seeds, rows=OBJECTIVES[:2]))
    _runs(top, seeds, OBJECTIVES[:2])
    _with_decay(top, decay)
  state = _by(tmp_path / 'a', tmp_path / 'b')
  assert state['complete'] and state['runs'] == 10 and state['added'] == []
  first = _plan(range(2), learning_rates=[1e-3, 2e-3])
  turned = first | {'learning_rates': [2e-3, 1e-3], 'written': '2026-11-02', 'results_before': 4}
  found = planned.state(finding.Found(plans=[first, turned]))
  assert len(found['plans']) == 2 and found['added'] == []


def test_another_primary_measure_than_the_plan_declares_is_no_verdict(tmp_path):
  _write(tmp_path, _plan(range(5), primary={'probe': 'linear', 'labels': '250'}))
  _runs(tmp_path, range(5))
  found = assemble(tmp_path)
  assert found['plan']['complete'] and found['verdicts'] == []
  assert 'declares the linear probe at labels 250' in found['no_verdicts']


@pytest.mark.parametrize('name', ['plan.json', 'pilots.json', 'controls.json'])
def test_a_link_to_a_file_that_is_gone_is_no_way_out(tmp_path, name):
  _runs(tmp_path, range(5))
  (tmp_path / name).symlink_to(tmp_path / 'gone.json')
  with pytest.raises(ReportError, match=f'{name} cannot be read'):
    assemble(tmp_path)


def test_a_section_tells_nothing_apart_and_every_plan_of_a_directory_varies_its_grid(tmp_path):
  rates = {'learning_rates': [1e-3, 2e-3]}
  for part, rate in (('a', 1e-3), ('b', 2e-3)):
    later = _plan(range(2), rows=OBJECTIVES[:1], written='2026-11-02', **rates)
    _write(tmp_path / part, _plan([0], rows=OBJECTIVES[:1]), later)
    _runs(tmp_path / part, range(2), OBJECTIVES[:1], learning_rate=rate)
    _with_decay(tmp_path / part, 0.1, learning_rate=rate)
  state = _by(tmp_path / 'a', tmp_path / 'b', fields=('optimizer.learning_rate',))
  assert state['complete'] and state['runs'] == 4
  with pytest.raises(ReportError, match='--by=training is a section of the config'):
    _by(tmp_path / 'a', fields=('training',))
