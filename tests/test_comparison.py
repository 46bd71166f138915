"""What a comparison consists of, and runs on a source whose truth is known."""

import dataclasses
import functools
import json

import in_process
import jax
import numpy as np
import pytest
from records import assemble, make_record, write_run
import tiny

from experiments import hierarchy
from probes import baselines, linear
from runs import assessment, comparison, configs, controls, experiment, levels, plan, recorded, run
from runs.assembled import Experiment
from runs.errors import UserError

_TINY = (
  '--config.model.width=16',
  '--config.model.layers=1',
  '--config.model.heads=2',
  '--config.training.steps=6',
  '--config.optimizer.warmup_steps=3',
  '--config.training.batch_size=16',
  '--config.evaluators.validation.every=3',
  '--config.evaluators.probe.every=3',
  '--config.checkpoints.every=3',
  '--config.evaluation.draws=16',
  '--config.evaluation.samples=4',
  "--config.probe.suite=('linear',)",
  '--config.probe.linear.labels=16',
  '--config.probe_data.examples=300',
)


def _build(objective: str, *overrides: str):
  config = configs.override(hierarchy.get_config(objective), [*_TINY, *overrides])
  return experiment.build(config, '')


def test_the_hierarchy_is_compared_over_three_grammars_without_gaussian_diffusion(tmp_path):
  runs, notes = plan.make(
    'experiments/hierarchy.py',
    None,
    None,
    None,
    ['--config.objective.ratio=0.3'],
    str(tmp_path),
    '',
  )
  names = {r.name for r in runs}
  assert names == {
    f'{o}-seed0-grammar{g}'
    for o in ('autoregressive', 'masked', 'masked_diffusion', 'untrained', 'untrained_causal')
    for g in range(3)
  }
  assert len(notes) == 1
  assert 'gaussian_diffusion is left out' in notes[0] and 'names, not levels' in notes[0]
  for planned in runs:
    grammar = int(planned.name[-1])
    assert planned.config.data.grammar_seed == planned.config.probe_data.grammar_seed == grammar
    if planned.config.objective.name == 'masked':
      assert planned.config.objective.ratio == 0.3
  with pytest.raises(UserError, match='names, not levels'):
    plan.make('experiments/hierarchy.py', ['gaussian_diffusion'], None, None, [], str(tmp_path), '')


def test_learning_rates_multiply_only_what_trains(tmp_path, data_dir):
  runs, _ = plan.make(
    'experiments/digits.py',
    ['autoregressive', 'untrained'],
    [0, 1],
    [1e-3, 2e-3],
    [],
    str(tmp_path),
    data_dir,
  )
  assert sorted(r.name for r in runs) == [
    'autoregressive-lr0.001-seed0',
    'autoregressive-lr0.001-seed1',
    'autoregressive-lr0.002-seed0',
    'autoregressive-lr0.002-seed1',
    'untrained-seed0',
    'untrained-seed1',
  ]


def _plan_digits(workdir, data_dir, overrides=(), rates=None, **arguments):
  names = ['autoregressive', 'untrained']
  path = 'experiments/digits.py'
  return plan.make(path, names, [0], rates, list(overrides), str(workdir), data_dir, **arguments)


def test_sizes_multiply_everything_and_the_smallest_comes_first(tmp_path, data_dir):
  runs, notes = _plan_digits(tmp_path, data_dir, rates=[1e-3, 2e-3], sizes=['micro', 'nano'])
  assert [r.name for r in runs] == [
    f'{name}-seed0'
    for size in ('nano', 'micro')
    for name in (
      f'autoregressive-{size}-lr0.001',
      f'autoregressive-{size}-lr0.002',
      f'untrained-{size}',
    )
  ]
  for planned in runs:
    size = planned.name.split('-')[1]
    assert f'--config.model.preset={size}' in planned.command
    assert planned.config.model.preset == size
    assert f'--workdir={tmp_path}/runs/{planned.name}' in planned.command
    assert experiment.build(planned.config, data_dir).size == size
  assert notes == []
  one, _ = _plan_digits(tmp_path, data_dir, sizes=['micro'])
  assert [r.name for r in one] == ['autoregressive-micro-seed0', 'untrained-micro-seed0']


def test_without_sizes_labels_and_commands_are_what_they_were(tmp_path, data_dir):
  runs, notes = _plan_digits(tmp_path, data_dir, ['--config.model.preset=micro'])
  assert [r.name for r in runs] == ['autoregressive-seed0', 'untrained-seed0'] and notes == []
  assert runs[0].command[1:] == [
    '-m',
    'launch.train',
    '--config=experiments/digits.py:autoregressive',
    f'--workdir={tmp_path}/runs/autoregressive-seed0',
    f'--data_dir={data_dir}',
    '--config.model.preset=micro',
    '--config.training.seed=0',
  ]


@pytest.mark.parametrize(
  ('sizes', 'overrides', 'message'),
  [
    (['nano', 'huge'], [], "--sizes: unknown size 'huge'; known: nano, micro, mini"),
    (['nano', 'nano'], [], '--sizes must name each size once'),
    ([], [], '--sizes must name each size once, at least one'),
    (['nano'], ['--config.model.preset=micro'], '--config.model.preset=micro and --sizes both'),
    (['nano'], ['--config.model.width=32'], '--config.model.width=32 and --sizes both'),
    (['nano'], ['--config.model.layers=2'], '--config.model.layers=2 and --sizes both'),
    (['nano'], ['--config.model.heads=2'], '--config.model.heads=2 and --sizes both'),
  ],
)
def test_bad_sizes_are_one_clear_line(sizes, overrides, message, tmp_path, data_dir):
  with pytest.raises(UserError) as caught:
    _plan_digits(tmp_path, data_dir, overrides, sizes=sizes)
  assert message in str(caught.value) and '\n' not in str(caught.value)


@pytest.mark.parametrize(
  ('name', 'override', 'grid', 'field'),
  [
    ('masked+optimizer.learning_rate=1e-3', None, 'rates', 'optimizer.learning_rate'),
    ('masked', 'optimizer.learning_rate=1e-3', 'rates', 'optimizer.learning_rate'),
    ('masked', 'optimizer.clip_norm=1', 'clips', 'optimizer.clip_norm'),
    ('masked+training.seed=3', None, None, 'training.seed'),
    ('masked', 'training.seed=3', None, 'training.seed'),
    ('masked+model.preset=micro', None, 'sizes', 'how large the backbone is'),
  ],
)
def test_what_the_plan_says_itself_is_not_said_twice(
  name, override, grid, field, tmp_path, data_dir
):
  """One of the two would be ignored, and a variant would bear the name of a rate it has not."""

  def planned(**grids):
    given, rates = [f'--config.{override}'] if override else [], grids.pop('rates', None)
    path = 'experiments/digits.py'
    return plan.make(path, [name], [0], rates, given, str(tmp_path), data_dir, **grids)[0]

  values = {'rates': [1e-3, 2e-3], 'clips': [1.0, 2.0], 'sizes': ['nano']}
  with pytest.raises(UserError, match=f'both say {field}'):
    planned(**({grid: values[grid]} if grid else {}))
  if grid:
    assert len(planned()) == 1


def test_no_objective_is_none(tmp_path, data_dir):
  with pytest.raises(UserError, match='--objectives must name one at least'):
    plan.make('experiments/digits.py', [], [0], None, [], str(tmp_path), data_dir)


@pytest.mark.parametrize('flag', ['learning_rates', 'clip_norms', 'pilot_seeds', 'seeds'])
def test_an_empty_list_is_not_the_default(flag, tmp_path):
  words = ['--config=experiments/digits.py', f'--workdir={tmp_path}', '--learning_rates=1e-3']
  with pytest.raises(UserError, match=f'--{flag} must name each value once, at least one'):
    in_process.call('compare', *words, f'--{flag}=')
  assert not list(tmp_path.iterdir())


def test_the_command_of_a_report_has_no_path_of_this_machine(tmp_path, monkeypatch):
  told = {}
  monkeypatch.setattr(comparison, 'compare', lambda *_, **more: told.update(more) or 0)
  words = ['--config=experiments/digits.py', f'--workdir={tmp_path}', '--seeds=0,1']
  words += [f'--config.data.path={tmp_path}/my data.npz', '--config.training.steps=8']
  in_process.call('compare', *words, '--objectives=masked+ratio=0.5')
  assert told['command'] == (
    'python -m launch.compare --config=experiments/digits.py --workdir=DIR '
    "--objectives=masked+ratio=0.5 --seeds=0,1 '--config.data.path=my data.npz' "
    '--config.training.steps=8'
  )


def test_a_config_file_with_a_shape_of_its_own_has_no_sizes(tmp_path, data_dir):
  path = tmp_path / 'wide.py'
  path.write_text(
    'from experiments import digits\n'
    'def get_config(arg):\n  config = digits.get_config(arg)\n  config.model.width = 96\n'
    '  return config\n'
  )
  with pytest.raises(UserError, match='wide.py itself says how large'):
    plan.make(str(path), ['masked'], [0], None, [], str(tmp_path), data_dir, sizes=['nano'])


def test_a_finished_run_is_not_planned_again_under_another_name(tmp_path, data_dir):
  (planned,) = [r for r in _plan_digits(tmp_path, data_dir)[0] if 'auto' in r.name]
  run.open_workdir(planned.workdir, planned.config)
  assert len(_plan_digits(tmp_path, data_dir, sizes=['nano'])[0]) == 2  # not finished: no matter
  (tmp_path / 'runs' / planned.name / 'run.json').write_text('{}')
  assert len(_plan_digits(tmp_path, data_dir)[0]) == 2
  with pytest.raises(UserError, match='seed0 is finished .* again as autoregressive-nano-seed0'):
    _plan_digits(tmp_path, data_dir, sizes=['nano'])
  assert len(_plan_digits(tmp_path, data_dir, sizes=['micro'])[0]) == 2


@pytest.mark.parametrize('objective', ['autoregressive', 'masked_diffusion', 'masked'])
def test_regret_is_bits_above_the_entropy(objective, tmp_path):
  built = _build(objective, '--config.evaluators.probe.every=0')
  record = run.execute(built, str(tmp_path))
  entropy = built.dataset.truth.entropy_bits_per_dim()
  assert entropy == pytest.approx(1.125)  # (3 + 15) bits over 16 tokens
  if objective == 'masked':
    assert record['truth'] is None
    truth, bits = (record['also']['masked_diffusion'][k] for k in ('truth', 'bits_per_dim'))
    assert record['also']['masked_diffusion']['code'] == 'upper_bound'
  else:
    truth, bits = record['truth'], record['bits_per_dim']
  assert truth['kind'] == ('exact' if objective == 'autoregressive' else 'bound')
  assert truth['entropy_bits_per_dim'] == pytest.approx(entropy)
  # -log p is the same for every grammatical string, so AR's regret is its bits minus the entropy;
  # the bound's differs by the draws alone, which the paired reference takes out.
  tolerance = 1e-4 if objective == 'autoregressive' else 0.05
  assert truth['regret_bits_per_dim'] == pytest.approx(bits - entropy, abs=tolerance)
  assert truth['regret_bits_per_dim'] > 0.5
  if truth['by_k'] is not None:
    assert len(truth['by_k']) == 16
    assert np.mean(truth['by_k']) == pytest.approx(truth['regret_bits_per_dim'], rel=1e-5)
  latents = record['latents']['linear']
  assert len(latents) == 15 and all(len(v) == 2 for v in latents.values())
  assert latents['0/0'] == pytest.approx(
    record['probes']['linear']['all']['by_layer_validation'], abs=0.12
  )
  if objective != 'masked':
    assert recorded.read_arrays(str(tmp_path))['samples'].shape == (4, 17)


def test_noise_levels_are_chosen_on_validation(data_dir, monkeypatch):
  built = tiny.build(data_dir, 'masked_diffusion', '--config.probe.linear.labels=10')
  params = built.task.init(jax.random.key(0))
  probes, _, _ = assessment.probe(built, params)
  found = levels.noisy(built, params, probes)
  rows = found['linear']['by_level']
  assert [row['level'] for row in rows] == [0.15, 0.5, 0.85] == found['levels']
  # Corrupting test labels changes neither the level, the layer nor l2.
  broken = tiny.build(data_dir, 'masked_diffusion', '--config.probe.linear.labels=10')
  broken.probe_dataset.test.labels_N[:] = (broken.probe_dataset.test.labels_N + 1) % 10
  again_probes, _, _ = assessment.probe(broken, params)
  again = levels.noisy(broken, params, again_probes)
  assert again['linear']['by_level'] == rows
  for name in ('level', 'layer', 'l2', 'validation'):
    assert again['linear']['best'][name] == found['linear']['best'][name]
  best = max([found['linear']['clean'], *rows], key=lambda row: row['validation'])
  assert found['linear']['best']['validation'] == best['validation']


def test_features_at_a_level_are_means_over_the_examples_own_draws(data_dir):
  built = tiny.build(data_dir, 'masked_diffusion', '--config.probe.batch_size=7')
  params = built.task.init(jax.random.key(0))
  tokens = built.dataset.test.tokens_NxT[:10]
  many = built.noisy_features(params, 'test', 0.5)[:, :10]
  other = tiny.build(data_dir, 'masked_diffusion', '--config.probe.batch_size=100')
  np.testing.assert_allclose(many, other.noisy_features(params, 'test', 0.5)[:, :10], atol=1e-5)
  assert np.abs(many - built.features(params, tokens)).max() > 1e-3


def test_every_split_has_noise_of_its_own(data_dir):
  """The same examples as two splits are hidden at other places."""
  built = tiny.build(data_dir, 'masked_diffusion')
  same = dataclasses.replace(built.probe_dataset, validation=built.probe_dataset.test)
  built = dataclasses.replace(built, probe_dataset=same)
  params = built.task.init(jax.random.key(0))
  one, two = (built.noisy_features(params, split, 0.5) for split in ('validation', 'test'))
  assert np.abs(one - two).max(axis=(0, 2)).min() > 1e-4


def test_a_grid_of_clip_norms_is_planned_with_the_rates(data_dir, tmp_path):
  runs, _ = plan.make(
    'experiments/digits.py', ['autoregressive', 'untrained'], [0], [1e-3, 2e-3], [],
    str(tmp_path), data_dir, clips=[0.5, 1.0],
  )  # fmt: skip
  assert [run.name for run in runs] == [
    'autoregressive-lr0.001-clip0.5-seed0', 'autoregressive-lr0.001-clip1-seed0',
    'autoregressive-lr0.002-clip0.5-seed0', 'autoregressive-lr0.002-clip1-seed0',
    'untrained-seed0',
  ]  # fmt: skip
  assert runs[0].config.optimizer.clip_norm == 0.5


def test_the_raw_input_is_probed_with_the_labels_of_every_seed(tmp_path, data_dir, monkeypatch):
  planned = [_seeded(tmp_path, seed) for seed in (3, 1)]
  controls.write(planned, str(tmp_path), data_dir)
  made = json.loads((tmp_path / 'controls.json').read_text())
  built = tiny.build(data_dir, 'masked')
  draws = []
  for seed in (1, 3):
    raw = dataclasses.replace(built.raw_features(), pretraining_seed=seed)
    expected, arrays = linear.evaluate(raw, built.config.probe.linear, built.config.evaluation.seed)
    with np.load(tmp_path / 'controls' / f'seed{seed}' / 'arrays.npz') as saved:
      np.testing.assert_array_equal(saved['labels'], raw.labels_test)
      for count in ('10', '40'):
        assert made['raw_by_seed'][str(seed)][count] == expected[count]
        np.testing.assert_array_equal(
          saved[f'linear/{count}/predictions'], arrays[f'{count}/predictions']
        )
    draws += expected['40']['draws']
  cell = made['raw']['linear']['40']
  assert (cell['draws'], cell['subsets']) == (draws, [2, 3, 6, 7])
  assert cell['accuracy'] == pytest.approx(np.mean(draws))
  assert cell['stderr'] == pytest.approx(np.std(draws, ddof=1) / 2)
  assert made['raw']['linear']['all'] == expected['all']
  # Stopped while it probes for one seed more, or writes, it keeps what there is; stopped while it
  # replaces predictions, those of another config, it leaves no accuracies of other ones.
  kept = (tmp_path / 'controls.json').read_bytes()
  more = [*planned, _seeded(tmp_path, 0)]
  other = dataclasses.replace(planned[0], config=tiny.config('masked', _OTHER_DRAWS))
  for stops, name, runs, left in (
    (linear, 'few', more, True), (controls, 'write_atomically', more, True),
    (controls, 'write_atomically', [other], False),
  ):  # fmt: skip
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
      patch.setattr(stops, name, _interrupted)
      controls.write(runs, str(tmp_path), data_dir)
    found = tmp_path / 'controls.json'
    assert found.exists() == left and (not left or found.read_bytes() == kept)


_OTHER_DRAWS = '--config.probe.linear.draws=3'


def test_controls_of_earlier_seeds_stay_and_what_failed_is_told_and_tried_again(
  tmp_path, data_dir, monkeypatch
):
  run = functools.partial(controls.write, workdir=str(tmp_path), data_dir=data_dir)

  def read():
    return json.loads((tmp_path / 'controls.json').read_text())

  def lost(*_):
    raise MemoryError('no room')

  few = linear.few
  with monkeypatch.context() as patch:
    patch.setattr(
      linear, 'few', lambda raw, *how: lost() if raw.pretraining_seed == 3 else few(raw, *how)
    )
    run([_seeded(tmp_path, seed) for seed in (1, 3)])
  assert list(read()['raw_by_seed']) == ['1']
  assert read()['failed'] == {'raw, linear probe with the labels of seed 3': 'MemoryError: no room'}
  write_run(tmp_path, make_record('masked', 0))
  told = 'control raw, linear probe with the labels of seed 3 FAILED: MemoryError: no room; the'
  assert any(note.startswith(told) for note in assemble(tmp_path)['notes'])
  run([_seeded(tmp_path, seed) for seed in (1, 3)])
  whole = read()
  assert list(whole['raw_by_seed']) == ['1', '3'] and whole['failed'] == {}

  # Features are as wide as the narrowest network; a retry that goes worse costs nothing.
  def of_width(width: int) -> plan.PlannedRun:
    config = tiny.config('masked', f'--config.model.width={width}', '--config.training.seed=3')
    return dataclasses.replace(_seeded(tmp_path, 3), config=config)

  run([of_width(32)])
  assert read() == whole
  narrower = of_width(8)
  wide = str(tmp_path / 'wide')
  controls.write([of_width(32), narrower], wide, data_dir)
  found = json.loads((tmp_path / 'wide' / 'controls.json').read_text())
  assert found['of']['width'] == 8 and found['pca'] != whole['pca']
  with monkeypatch.context() as patch:
    patch.setattr(baselines, 'pca', lost)
    run([narrower])
  assert list(read()['failed']) == ['pca'] and 'pca' not in read()
  same = ('raw', 'raw_by_seed', 'majority')
  assert {name: read()[name] for name in same} == {name: whole[name] for name in same}
  assert read()['random_relu'] != whole['random_relu']
  with monkeypatch.context() as patch:
    patch.setattr(assessment, 'fit_probes', lost)  # Nothing else is probed again.
    patch.setattr(baselines, 'pca', lost)
    run([narrower])
  assert all(read()[name] == whole[name] for name in same) and 'random_relu' in read()
  # Where the input itself is lost, what failed before is not forgotten.
  with monkeypatch.context() as patch:
    patch.setattr(Experiment, 'raw_features', lost)
    run([narrower])
  assert set(read()['failed']) == {'pca', 'raw'} and 'random_relu' in read()
  run([_seeded(tmp_path, 3)])
  assert 'pca' in read() and read()['of']['width'] == 8
  first = read()
  assert first['failed'] == {} and 'pca' in first and list(first['raw_by_seed']) == ['1', '3']
  assert first['raw']['linear']['40']['subsets'] == [2, 3, 6, 7]
  before = {path: path.stat().st_mtime_ns for path in tmp_path.glob('controls/*/arrays.npz')}
  run([_seeded(tmp_path, 0)])
  more = read()
  assert list(more['raw_by_seed']) == ['1', '3', '0'] and len(before) == 2
  assert {path: path.stat().st_mtime_ns for path in before} == before
  assert more['raw']['linear']['40']['subsets'] == [2, 3, 6, 7, 0, 1]
  assert (more['pca'], more['raw']['linear']['all']) == (
    first['pca'],
    first['raw']['linear']['all'],
  )
  assert (tmp_path / 'controls' / 'seed0' / 'arrays.npz').exists()
  kept = (tmp_path / 'controls.json').stat().st_mtime_ns
  run([_seeded(tmp_path, 1)])
  assert (tmp_path / 'controls.json').stat().st_mtime_ns == kept
  # Predictions that are lost are made again.
  arrays = tmp_path / 'controls' / 'seed3' / 'arrays.npz'
  before = dict(np.load(arrays))
  arrays.write_bytes(arrays.read_bytes()[:100])
  run([_seeded(tmp_path, 1)])
  after = np.load(arrays)
  assert set(after) == set(before) and all((after[name] == before[name]).all() for name in before)
  again = read()
  assert again['raw_by_seed'] == more['raw_by_seed'] and again['failed'] == {}
  assert again['raw']['linear']['all'] == more['raw']['linear']['all']


def _interrupted(*_):
  raise KeyboardInterrupt


def _seeded(top, seed: int) -> plan.PlannedRun:
  return plan.PlannedRun('', str(top), tiny.config('masked', f'--config.training.seed={seed}'), [])
