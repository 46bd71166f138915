"""Runs of several directories in one report: what belongs together, and what is told or refused."""

import json
import pathlib

import pytest
from records import assemble, make_record, write_run

from reports import choice, reading, wording
from reports.errors import ReportError

PAIR = ('autoregressive', 'masked')


def _write(top: pathlib.Path, seeds, config=None, objectives=PAIR, **changes) -> None:
  """Runs, their config.json with these sections."""
  for objective in objectives:
    for seed in seeds:
      path = write_run(top, make_record(objective, seed, **changes))
      own = {'objective': {'name': objective}} | (config or {})
      own['training'] = {'seed': seed} | own.get('training', {})
      (path / 'config.json').write_text(json.dumps({'config': own}))


@pytest.mark.parametrize(
  'field,values',
  [
    ('optimizer.weight_decay', (0.01, 0.1)),
    ('model.dropout', (0.0, 0.1)),
    ('model.compute_dtype', ('float32', 'bfloat16')),
    ('training.batch_size', (32, 64)),
  ],
)
def test_seeds_that_were_trained_otherwise_are_not_pooled(tmp_path, field, values):
  section, name = field.split('.')
  for value, seeds in zip(values, (range(3), range(3, 6)), strict=True):
    _write(tmp_path / str(value), seeds, {section: {name: value}}, ['masked'])
  with pytest.raises(ReportError, match=f'masked has runs with {field} .* not seeds of one train'):
    assemble(tmp_path)


def test_what_changes_no_number_may_differ_and_so_may_what_is_not_known(tmp_path):
  model = {'remat': True, 'unroll': 'never', 'mixer': 'attention'}
  _write(tmp_path / 'a', range(3), {'model': model})
  _write(tmp_path / 'b', range(3, 5), {'model': {'remat': False}, 'training': {'log_every': 1}})
  results = assemble(tmp_path)
  assert [entry['seeds'] for entry in results['summary']] == [5, 5]
  assert not any('differ' in note for note in results['notes'])


def test_settings_in_which_objectives_differ_are_told_unless_their_names_say_so(tmp_path):
  _write(tmp_path, range(2), {'optimizer': {'weight_decay': 0.01}}, ['autoregressive'])
  other = {'optimizer': {'weight_decay': 0.1}, 'model': {'dropout': 0.2, 'token_init': 0.3}}
  _write(tmp_path, range(2), other, ['masked'], variant='dropout=0.2')
  _write(tmp_path, range(2), {'optimizer': {'weight_decay': 0.5}}, ['untrained'])
  # Another size is another network.
  _write(tmp_path / 'b', range(2), {'model': {'dropout': 0.7}}, ['masked'], size='micro')
  notes = [note for note in assemble(tmp_path)['notes'] if 'the runs differ in' in note]
  assert notes == [
    'the runs differ in optimizer.weight_decay: 0.01 (autoregressive); 0.1 (masked dropout=0.2)'
  ]


def test_what_probes_were_made_with_is_told_where_it_differs(tmp_path):
  """A mean of codes under two priors, or over two ways to fine-tune, is of two learners."""
  for seed, prior, steps in ((0, 'switching', 100), (1, 'switching', 100), (2, None, 40)):
    record = make_record('masked', seed)
    record['probes']['prequential']['all']['prior'] = prior
    record['probes']['finetune'] = {'100': {'accuracy': 0.5}}
    write_run(tmp_path, record | {'finetune_settings': {'steps': steps, 'rates': [1e-3]}})
  write_run(tmp_path, make_record('untrained', 0) | {'finetune_settings': {'steps': 7}})
  notes = [note for note in assemble(tmp_path)['notes'] if 'the runs differ in' in note]
  assert notes == [
    'the runs differ in prior of the label code: switching (masked); not named (masked, untrained)',
    'the runs differ in probe.finetune.steps: 100 (masked); 40 (masked)',
  ]


def test_what_runs_were_made_by_and_on_is_told_where_it_differs(tmp_path):
  kinds = (('cpu', 'cpu'), ('H100', 'gpu'))
  cpu, gpu = ({'device_kind': kind, 'platform': name, 'devices': 1} for kind, name in kinds)
  _write(tmp_path, [0], objectives=['masked'], git='aaa', environment=cpu)
  assert not any('several' in note for note in assemble(tmp_path)['notes'])
  _write(
    tmp_path, [1], objectives=['masked'], git='aaa', environment=cpu,
    went_on_with=[{'git': 'bbb', 'environment': gpu}],
  )  # fmt: skip
  results = assemble(tmp_path)
  assert results['git'] == 'aaa, bbb'
  assert [note for note in results['notes'] if 'several' in note] == [
    'the runs are of several revisions of this code: aaa, bbb',
    'the runs are of several kinds of devices: 1 × H100 (gpu), 1 × cpu',
  ]


def test_what_of_a_run_could_not_be_written_is_told(tmp_path):
  _write(tmp_path, [3], objectives=['masked'], unwritten={'truth': 'truth.by_k.1 is inf'})
  (note,) = [note for note in assemble(tmp_path)['notes'] if 'inf' in note]
  assert note == 'masked, seed 3: left out: truth.by_k.1 is inf'


def test_controls_of_other_data_are_left_out(tmp_path):
  _write(tmp_path, range(2), data_hash='a', probe_data_hash='b')
  for hashes, note in (
    (['a', 'b'], None),
    (['a', 'x'], 'probe_data_hash'),
    (['x', 'b'], 'data_hash'),
    ([['a'], 'b'], 'data_hash'),  # Damaged.
  ):
    controls = {'of': {'data_hash': hashes}, 'raw': {'linear': {'all': {'accuracy': 0.9}}}}
    controls['histogram_bits_per_dim'] = 2.0
    (tmp_path / 'controls.json').write_text(json.dumps(controls))
    results = assemble(tmp_path)
    told = [line for line in results['notes'] if 'controls.json' in line]
    path = tmp_path / 'controls.json'
    assert told == [f'{path} is of other data than the runs ({note}): left out'] * bool(note)
    assert results['controls'].get('histogram_bits_per_dim') == (None if note else 2.0)
    assert bool(results['controls']['raw']) == (not note)
    assert not any('not measured here' in line for line in results['notes'])
  # Of two directories those of the runs' own data are kept, whichever comes first.
  other = tmp_path / 'other'
  _write(other, range(2, 4), data_hash='a', probe_data_hash='b')
  own = {'of': {'data_hash': ['a', 'b']}, 'histogram_bits_per_dim': 3.0}
  (other / 'controls.json').write_text(json.dumps(own))
  for tops in ((tmp_path / 'runs', other), (other, tmp_path / 'runs')):
    assert assemble(*tops)['controls']['histogram_bits_per_dim'] == 3.0


@pytest.mark.parametrize('name', ['data_hash', 'probe_data_hash'])
def test_other_data_of_the_same_name_are_refused(tmp_path, name):
  for seed, content in enumerate('xy'):
    _write(tmp_path, [seed], **{'data_hash': 'a', 'probe_data_hash': 'a', name: content})
  with pytest.raises(ReportError, match=f'runs differ in {name}'):
    assemble(tmp_path)


def test_the_same_data_from_another_path_are_the_same_data(tmp_path):
  for seed, path in enumerate(('/here/F.npz', '/there/F.npz')):
    settings = {'path': path, 'size': 12}
    _write(tmp_path / str(seed), [seed], data_hash='a', settings_of_data=settings)
  assert [entry['seeds'] for entry in assemble(tmp_path)['summary']] == [2, 2]
  _write(tmp_path / '2', [2], settings_of_data={'path': '/elsewhere', 'size': 12})
  with pytest.raises(ReportError, match='runs differ in their data'):  # That nobody hashed.
    assemble(tmp_path)


# Pilots.


def _pilots(top: pathlib.Path, of: str, rate: float = 2e-3) -> None:
  rows = [
    {'objective': name, 'size': 'nano', 'learning_rate': rate, 'clip_norm': None,
     'learning_rates': [1e-3, 2e-3], 'clip_norms': [], 'of': [of], 'tried': [], 'notes': []}
    for name in PAIR
  ]  # fmt: skip
  (top / 'pilots.json').write_text(json.dumps({'pilots': rows}))


@pytest.mark.parametrize('seed', [4, 100])
def test_a_pilot_that_is_a_result_elsewhere_is_told(tmp_path, seed):
  _write(tmp_path / 'a', range(3), clip_norm=None)
  _write(tmp_path / 'b', range(3, 5), clip_norm=None)
  _pilots(tmp_path / 'a', f'seed {seed}')
  results = assemble(tmp_path)
  told = 'seed 4: among the results, and among the pilots that chose for them'
  assert results['notes'].count(told) == (seed == 4)
  assert ('pilots that no result includes (seed 100)' in wording.tuning_text(results)) == (
    seed == 100
  )


def _select(losses: dict[float, float], seeds=None) -> tuple[set, list[str]]:
  """(the chosen rate, notes) of these validation losses by rate, one run a seed."""
  runs = [
    reading.plain(make_record('masked', seed, learning_rate=rate, validation={'loss': loss}))
    for rate, loss in losses.items()
    for seed in (seeds or {}).get(rate, (0,))
  ]
  notes = choice.select(runs)
  return {run['learning_rate'] for run in runs if run['selected']}, notes


@pytest.mark.parametrize('lost', [float('nan'), float('inf')])
def test_a_rate_that_diverged_was_tried(lost):
  """What lies beside it is no edge, and two rates beside it are three."""
  why = 'masked (nano): learning rate 0.01 left out of the choice, no finite validation loss'
  chosen, notes = _select({1e-4: 3.0, 1e-3: 2.0, 1e-2: lost})
  assert (chosen, notes) == ({1e-3}, [why])
  _, notes = _select({1e-3: 1.0, 3e-3: 2.0, 1e-2: lost})
  assert 'masked (nano): the chosen learning rate 0.001 is at the edge of its grid' in notes


def test_rates_that_were_tried_on_other_seeds_are_told():
  losses = {1e-3: 3.0, 2e-3: 1.0, 4e-3: 2.0}
  told = 'masked (nano): its tunings were not tried on the same seeds'
  assert _select(losses, {1e-3: (1,)}) == ({2e-3}, [told])
  assert _select(losses, dict.fromkeys(losses, (0, 1))) == ({2e-3}, [])
