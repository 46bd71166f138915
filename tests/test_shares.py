"""A comparison shared by machines: each trains its part, and joined they are the whole."""

import collections
import json
import os
import pathlib
import re
import shutil

import in_process
import pytest
import tiny

from reports import pictures, report
from runs import comparison, experiment, plan, pool, run, shares
from runs.errors import UserError


def _runs(kinds: int, seeds: int, rates: int = 1) -> list[plan.PlannedRun]:
  config = tiny.config('untrained')
  return [
    plan.PlannedRun(f'{kind}-{rate}-{seed}', '', config, [], f'kind{kind}', (float(rate), None))
    for seed in range(seeds)
    for kind in range(kinds)
    for rate in range(rates)
  ]


@pytest.mark.parametrize('shape', [(1, 1), (8, 5), (9, 3, 3), (3, 5, 2)])
@pytest.mark.parametrize('parts', [1, 2, 3, 4])
def test_parts_are_disjoint_and_balanced_in_every_kind(shape, parts):
  runs = _runs(*shape)
  if parts > len(runs):
    with pytest.raises(UserError, match=f'--part=1/{parts}: there are only {len(runs)} runs'):
      shares.share(runs, (1, parts))
    return
  dealt = [shares.share(runs, (number, parts)) for number in range(1, parts + 1)]
  names = [run.name for part in dealt for run in part]
  assert sorted(names) == sorted(run.name for run in runs)
  for part in dealt:  # In the order of the plan, seed by seed.
    assert [run.name for run in part] == [run.name for run in runs if run in part]
  assert max(map(len, dealt)) - min(map(len, dealt)) <= 1
  for kind in {(one.kind, one.tuning) for one in runs}:
    counts = [sum((one.kind, one.tuning) == kind for one in part) for part in dealt]
    assert max(counts) - min(counts) <= 1


@pytest.mark.parametrize('text', ['3/2', '0/2', '1', '1/0', 'a/b', '-1/2'])
def test_a_part_is_one_of_so_many(text, tmp_path):
  words = ('--config=experiments/digits.py', f'--workdir={tmp_path}', f'--part={text}')
  with pytest.raises(UserError, match=f'--part={text} must be I/N'):
    in_process.call('compare', *words)


# Two parts, pilots first.


@pytest.fixture(scope='module')
def machines(tmp_path_factory, data_dir):
  """Calls a comparison in a directory; every run is trained once and copied to the others."""
  top, trained = tmp_path_factory.mktemp('machines'), {}

  def run_all(runs, *rest):
    for one in runs:
      config = json.dumps(one.config.to_dict(), sort_keys=True)
      if config not in trained:
        run.execute(experiment.build(one.config, data_dir), one.workdir)
        trained[config] = one.workdir
      elif not os.path.exists(one.workdir):
        shutil.copytree(trained[config], one.workdir)
    return []

  def compare(name: str, part: shares.Part | None = None, *, pilots=True) -> int:
    return comparison.compare(
      'experiments/digits.py', ['autoregressive', 'untrained'], [0, 1],
      [1e-4, 1e-2] if pilots else None, None, None, tiny.OVERRIDES, str(top / name), data_dir,
      command='the command', environment={}, jobs=1, cache=os.environ['JAX_COMPILATION_CACHE_DIR'],
      pilot_seeds=[7] if pilots else None, part=part,
    )  # fmt: skip

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(pool, 'run_all', run_all)
    patch.setattr(pictures, 'draw', lambda *_: ({}, {}))
    yield top, compare


def _names(top: pathlib.Path) -> set[str]:
  return {path.parent.name for path in top.glob('runs/*/run.json')}


def _plain(value):
  """Without what says where and when."""
  if isinstance(value, dict):
    return {k: _plain(v) for k, v in value.items() if k not in ('workdir', 'written')}
  return [_plain(item) for item in value] if isinstance(value, list) else value


def test_two_parts_joined_are_the_whole(machines, capsys):
  top, compare = machines
  assert compare('whole') == 0
  for number in (1, 2):
    with pytest.raises(UserError) as refused:
      compare(f'part{number}', (number, 2))
    assert f'pilots of part {number} of 2 are done, 1 of the others are not here' in str(
      refused.value
    )
    assert len(_names(top / f'part{number}' / 'pilots')) == 1
    assert not _names(top / f'part{number}')
  for one, other in (('part1', 'part2'), ('part2', 'part1')):
    shutil.copytree(top / one / 'pilots', top / other / 'pilots', dirs_exist_ok=True)
  capsys.readouterr()
  for number in (1, 2):
    assert compare(f'part{number}', (number, 2)) == 0
    said = ' '.join(capsys.readouterr().out.split())
    assert f'THIS IS PART {number} OF 2 of a comparison' in said
    assert 'planned: 2 seeds × 2 rows, 4 runs; done: 2 runs; complete: 1 seeds × 2 rows' in said
    assert 'PRELIMINARY, no verdict before all of it is done' in said
  parts = [_names(top / f'part{number}') for number in (1, 2)]
  assert not parts[0] & parts[1] and parts[0] | parts[1] == _names(top / 'whole')
  # Runs of a kind are dealt out in turn: here the first part has all of seed 0.
  assert [len(part) for part in parts] == [2, 2]
  # Both took the rate that the pilots of both chose.
  rates = collections.Counter(name.split('-')[1] for name in _names(top / 'whole'))
  assert rates['seed0'] == rates['seed1'] == 1 and len(rates) == 3
  assert not (top / 'part2' / 'controls.json').exists()

  report.build([top / 'part1', top / 'part2'], top / 'joined')
  whole, joined = (
    json.loads((top / name / 'results.json').read_text()) for name in ('whole', 'joined')
  )
  assert joined['plan']['complete'] and joined['command'] == 'the command'
  assert 'PART' not in (top / 'joined' / 'report.html').read_text().split('<style>')[0]
  assert _plain(joined) == _plain(whole)
  assert not (top / 'joined' / 'runs').exists()


def test_copied_together_they_are_the_whole_without_a_run_more(machines):
  top, compare = machines
  for number in (1, 2):
    shutil.copytree(top / f'part{number}', top / 'copied', dirs_exist_ok=True)
  before = {path: path.stat().st_mtime_ns for path in top.glob('copied/**/run.json')}
  assert compare('copied') == 0
  assert before == {path: path.stat().st_mtime_ns for path in top.glob('copied/**/run.json')}
  whole, copied = (
    json.loads((top / name / 'results.json').read_text()) for name in ('whole', 'copied')
  )
  assert _plain(copied) == _plain(whole)


def test_a_pilot_that_failed_elsewhere_is_not_waited_for(tmp_path):
  runs = [
    plan.PlannedRun(f'p{i}', str(tmp_path / f'p{i}'), tiny.config('masked'), [], 'masked')
    for i in range(2)
  ]
  for name in ('p0', 'p1'):
    (tmp_path / name).mkdir()
  own = tmp_path / 'p0' / 'state.json'
  killed = {'state': 'failed', 'reason': 'SIGKILL, out of memory?: 3/9'}
  for said in ({}, {'state': 'preempted'}, killed):
    own.write_text(json.dumps(said))
    why = re.escape(f' ({said["reason"]})') if 'reason' in said else ''
    with pytest.raises(UserError, match=f'1 pilots have not ended, p0 first{why}: nothing'):
      shares.need_pilots(runs, (1, 2), str(tmp_path))
  # What can't be read is said, and what to do.
  record = tmp_path / 'p0' / 'run.json'
  for text, fault in (('{"schema"', 'Expecting'), ('{"schema": 9}', 'run.json has schema 9')):
    record.write_text(text)
    with pytest.raises(UserError, match=f'p0/run.json.*{fault}.*move it away, and launch'):
      shares.need_pilots(runs, None, str(tmp_path))
  record.unlink()
  own.write_text(json.dumps({'state': 'failed', 'reason': 'ValueError: no'}))
  with pytest.raises(UserError, match='1 of the others are not here or have not ended, p1 first'):
    shares.need_pilots(runs, (1, 2), str(tmp_path))
  for state, waits in (('running', True), ('failed', False)):
    (tmp_path / 'p1' / 'state.json').write_text(json.dumps({'state': state}))
    if waits:
      with pytest.raises(UserError, match='copy the directory pilots of every part'):
        shares.need_pilots(runs, (1, 2), str(tmp_path))
    else:
      shares.need_pilots(runs, (1, 2), str(tmp_path))
  shares.need_pilots(runs, None, str(tmp_path))
