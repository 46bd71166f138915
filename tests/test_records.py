"""Records of a comparison, copied: nothing that a report reads is lost, and nothing is spoilt."""

import json
import os
import pathlib

import numpy as np
import pytest
from records import write_comparison

from reports import pictures, reading, records, report
from reports.errors import ReportError


@pytest.fixture(name='top')
def comparison(tmp_path, monkeypatch) -> pathlib.Path:
  """Two seeds of every objective, a plan of three: one run failed, one of the others is begun."""
  monkeypatch.setattr(pictures, 'draw', lambda *_: ({}, {}))
  top = write_comparison(tmp_path / 'top', seeds=2)
  (row,) = [{'rows': [{'objective': 'masked', 'size': 'nano', 'steps': 800,
                       'learning_rate': 2e-3, 'clip_norm': None}],
             'replicates': [{'grammar': None, 'seed': seed} for seed in range(4)],
             'learning_rates': [], 'clip_norms': [], 'pilot_seeds': [7],
             'primary': {'probe': 'linear', 'labels': '100'}, 'command': 'c', 'notes': [],
             'written': '2026', 'results_before': 0, 'chosen': []}]  # fmt: skip
  (top / 'plan.json').write_text(json.dumps({'plans': [row]}))
  for seed, state in ((2, 'failed'), (3, 'running')):
    run = top / 'runs' / f'masked-seed{seed}'
    run.mkdir()
    config = {
      'objective': {'name': 'masked'},
      'variant': '',
      'data': {},
      'model': {'preset': 'nano'},
    }
    config['training'] = {'seed': seed, 'steps': 800}
    config['optimizer'] = {'learning_rate': 2e-3, 'clip_norm': None}
    (run / 'config.json').write_text(json.dumps({'config': config}))
    (run / 'state.json').write_text(json.dumps({'state': state}))
  for run in (top / 'runs').glob('*'):
    if not (run / 'config.json').exists():
      (run / 'config.json').write_text('{"config": {}}')
  (top / 'sweep.json').write_text(
    json.dumps(
      {'runs': [{'name': 'a', 'workdir': 'runs/a', 'steps': 8, 'command': ['/here/python']}]}
    )
  )
  return top


def _built(top: pathlib.Path, out: pathlib.Path) -> dict:
  """results.json, whichever directory it is of."""
  made = report.build([top], out)
  return json.loads(json.dumps(made).replace(f'{top}/', ''))


def test_failed_and_unfinished_runs_count_in_the_copy_too(top, tmp_path):
  out = tmp_path / 'out'
  count, notes = records.keep(top, out)
  finished = len(list(top.glob('runs/*/run.json')))
  assert (count, notes) == (finished, []) and finished >= 8
  first, second = _built(top, tmp_path / 'a'), _built(out, tmp_path / 'b')
  assert first == second
  assert (second['plan']['done'], second['plan']['failed'], second['plan']['complete']) == (
    2,
    1,
    False,
  )
  assert [one['name'] for one in second['unfinished']] == ['masked-seed2', 'masked-seed3']
  (row,) = reading.read_json(out / 'sweep.json')['runs']
  assert row == {'name': 'a', 'workdir': 'runs/a', 'steps': 8}


def test_a_second_copy_replaces_the_first(top, tmp_path):
  out = tmp_path / 'out'
  records.keep(top, out)
  run = sorted(top.glob('runs/*/run.json'))[0]
  changed = json.loads(run.read_text()) | {'wall_seconds': float('nan')}
  run.write_text(json.dumps(changed))
  (top / 'controls.json').unlink()
  records.keep(top, out)
  assert (
    json.loads((out / 'runs' / run.parent.name / 'run.json').read_text())['wall_seconds'] is None
  )
  assert not (out / 'controls.json').exists() and not list(out.rglob('.writing-*'))


def test_two_writers_of_one_file_do_not_meet(tmp_path, monkeypatch):
  place, replace = tmp_path / 'results.csv', os.replace

  def after_another(*names):
    monkeypatch.setattr(os, 'replace', replace)
    records.write(place, b'the other, longer')
    replace(*names)

  monkeypatch.setattr(os, 'replace', after_another)
  records.write(place, b'this one')
  assert place.read_bytes() == b'this one' and list(tmp_path.iterdir()) == [place]


def test_damaged_arrays_cost_only_themselves(top, tmp_path):
  runs = sorted(path.parent for path in top.glob('runs/*/arrays.npz'))
  if not runs:
    runs = sorted(path.parent for path in top.glob('runs/*/run.json'))[:2]
    for run in runs:
      np.savez(run / 'arrays.npz', labels=np.arange(1000))
  whole = (runs[0] / 'arrays.npz').read_bytes()
  (runs[0] / 'arrays.npz').write_bytes(whole[: len(whole) // 2])
  _, notes = records.keep(top, tmp_path / 'out')
  assert f'{runs[0].name}: arrays.npz cannot be read and is left out' in notes
  assert not (tmp_path / 'out/runs' / runs[0].name / 'arrays.npz').exists()
  assert (tmp_path / 'out/runs' / runs[1].name / 'arrays.npz').exists()


def test_integers_keep_their_values_in_fewer_bytes(top, tmp_path):
  run = sorted(path.parent for path in top.glob('runs/*/run.json'))[0]
  values = {'labels': np.array([0, 9], np.int64), 'nats': np.array([0.1, 2.5], np.float32)}
  values |= {'linear/100/predictions': np.array([[-1, 200]], np.int32), 'mlp/all/nats': np.ones(3)}
  np.savez(run / 'arrays.npz', **values)
  records.keep(top, tmp_path / 'out')
  with np.load(tmp_path / 'out/runs' / run.name / 'arrays.npz') as found:
    assert set(found) == set(values) - {'mlp/all/nats'}
    assert all(np.array_equal(found[name], values[name]) for name in found)
    assert found['labels'].dtype == np.uint8 and found['nats'].dtype == np.float32


def test_records_go_beside_the_comparison_and_are_of_one(top, tmp_path):
  for out in (top, top / 'kept', top / 'runs', tmp_path, ''):
    with pytest.raises(ReportError, match='can go to a directory beside it'):
      records.keep(top, out)
  with pytest.raises(ReportError, match=r'is no comparison: it has no plan.json'):
    records.keep(top / 'runs', tmp_path / 'out')
  other = top / 'other' / 'runs' / 'masked-seed0'
  other.mkdir(parents=True)
  for name in ('run.json', 'config.json'):
    source = next(top.glob('runs/masked*/run.json')).parent / name
    (other / name).write_bytes(source.read_bytes())
  with pytest.raises(ReportError, match='records are of one comparison'):
    records.keep(top, tmp_path / 'out')
  assert not (tmp_path / 'out').exists()


def test_records_never_replace_what_went_on_in_their_place(top, tmp_path):
  out = tmp_path / 'out'
  records.keep(top, out)
  kept = json.loads((out / 'plan.json').read_text())
  begun = out / 'runs' / 'masked-seed3'
  (begun / 'run.json').write_text('{"of": "training that went on here"}')
  with pytest.raises(ReportError, match='masked-seed3/run.json is of a run that'):
    records.keep(top, out)
  assert 'went on here' in (begun / 'run.json').read_text()
  (begun / 'run.json').unlink()
  longer = {'plans': [*kept['plans'], kept['plans'][0] | {'written': '2027'}]}
  (out / 'plan.json').write_text(json.dumps(longer))
  with pytest.raises(ReportError, match='records of another plan'):
    records.keep(top, out)
  assert json.loads((out / 'plan.json').read_text()) == longer
  for text in ('{"plans": [', '{"plans": null}'):
    (out / 'plan.json').write_text(text)
    with pytest.raises(ReportError, match='plan.json cannot be read'):
      records.keep(top, out)
    assert (out / 'plan.json').read_text() == text


def test_a_copy_that_was_broken_off_has_no_record_beside_newer_arrays(top, tmp_path, monkeypatch):
  out = tmp_path / 'out'
  records.keep(top, out)
  run = next(top.glob('runs/*/run.json')).parent.name
  kept = out / 'runs' / run / 'run.json'
  assert kept.exists()
  write = records.write

  def broken_off(path, content):
    if path == kept.resolve():
      raise KeyboardInterrupt
    write(path, content)

  with monkeypatch.context() as patch:
    patch.setattr(records, 'write', broken_off)
    with pytest.raises(KeyboardInterrupt):
      records.keep(top, out)
  assert not kept.exists()
  records.keep(top, out)
  assert kept.exists()
  # What can be read there alone is not given for what can't be read here.
  (top / 'runs' / run / 'run.json').write_text('{')
  with pytest.raises(ReportError, match='records stay there'):
    records.keep(top, out)
  assert kept.exists()
