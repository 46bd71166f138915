"""Data without labels is trained on and scored; what it was is on record."""

import dataclasses
import json

import jax
import numpy as np
import pytest
import records
import tiny

from data import sources
from experiments import noise, text_file
from reports import finding, results
from reports.errors import ReportError
from runs import configs, controls, experiment, measured, plan, recorded, run
from runs.errors import UserError
from training import keys


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
  """(experiment, its record, the directory above the run) of a text nobody labelled."""
  top = tmp_path_factory.mktemp('text')
  (top / 'abc.txt').write_text('abcdefghijkl' * 200)
  overrides = [o for o in tiny.OVERRIDES if not o.startswith('--config.probe')]
  data = (f'--config.data.path={top}/abc.txt', '--config.data.length=12')
  shares = ('--config.data.validation=0.1', '--config.data.test=0.1')
  config = configs.override(
    text_file.get_config('autoregressive'),
    [*overrides, *data, *shares, '--config.evaluation.samples=0'],
  )
  built = experiment.build(config, str(top))
  workdir = top / 'runs' / 'autoregressive'
  return built, run.execute(built, str(workdir)), top


def test_bits_without_probes(finished):
  _, record, _ = finished
  assert record['probes'] == {} and record['classes'] is None
  assert record['probes_by_level'] is None and record['latents'] is None
  assert 0 < record['bits_per_dim'] < 9
  assert recorded.summary(record).endswith(f'± {record["bits_per_dim_stderr"]:.3f}')


def test_the_hash_of_the_data_is_on_record(finished):
  built, record, top = finished
  assert record['data_hash'] == built.dataset.digest and len(record['data_hash']) == 64
  assert record['probe_data_hash'] == record['data_hash']
  made = results.assemble(finding.find([top]))
  assert made['data_hash'] == record['data_hash'] == made['runs'][0]['data_hash']


def test_controls_without_labels(finished, tmp_path):
  built, _, top = finished
  planned = plan.PlannedRun('a', str(tmp_path), built.config, [])
  (tmp_path / 'controls.json').write_text('[]')  # Whatever it was.
  controls.write([planned], str(tmp_path), str(top))
  made = json.loads((tmp_path / 'controls.json').read_text())
  assert 'raw' not in made and made['uniform_bits_per_dim'] == 8
  # Every position always holds the same letter.
  assert made['histogram_bits_per_dim'] < 2


def test_what_is_named_to_be_probed_needs_labels(tmp_path):
  config = noise.get_config()
  config.probe_data = config.data
  with pytest.raises(UserError, match="probe_data 'noise' has no labels to probe"):
    experiment.build(config, str(tmp_path))


def test_one_palette_for_what_is_compressed_and_what_is_probed(monkeypatch):
  plain = sources.load(noise.get_config().data, '')

  def load(config, data_dir):
    values = np.full((17, 3), {'a': 0.1, 'b': 0.2}[config.name], np.float32)
    return dataclasses.replace(plain, name=config.name, classes=10, values_VxK=values)

  config = noise.get_config()
  config.data.name = 'a'
  config.probe_data.name = 'b'
  monkeypatch.setattr(experiment.sources, 'load', load)
  with pytest.raises(UserError, match='mean other colours by one token'):
    experiment.load_datasets(config, '')


def test_two_versions_of_a_set_are_not_averaged(tmp_path):
  for seed, digest in enumerate(['aa', 'aa', None, 'bb']):
    record = records.make_record('autoregressive', seed, data_hash=digest)
    records.write_run(tmp_path / str(seed), record)
  pair = [tmp_path / '0', tmp_path / '1', tmp_path / '2']
  assert results.assemble(finding.find(pair))['data_hash'] == 'aa'
  with pytest.raises(ReportError, match='runs differ in data_hash'):
    results.assemble(finding.find([*pair, tmp_path / '3']))


def test_a_code_of_very_many_passes_is_left_out_and_the_report_says_so(
  tmp_path, monkeypatch, data_dir
):
  monkeypatch.setattr(measured, '_MOST_PASSES', 63)  # The chain rule takes 64 on digits.
  built = tiny.build(data_dir, 'masked_diffusion')
  record = run.execute(built, str(tmp_path / 'runs' / 'masked_diffusion'))
  left_out = ['chain rule in raster order', 'chain rule in order of confidence']
  assert record['also'] == {} and record['also_left_out'] == left_out
  notes = results.assemble(finding.find([tmp_path]))['notes']
  assert any('was not scored by chain rule in raster order' in note for note in notes)


def test_a_code_of_many_passes_may_be_of_some_test_examples(tmp_path, data_dir):
  """The very numbers that these examples have among all."""
  found = {}
  for count in (0, 5):
    setting = f'--config.evaluation.chain_examples={count}'
    built = tiny.build(data_dir, 'masked_diffusion', setting)
    params = built.task.init(keys.key(0))
    # At its start the network says the same of everything.
    params = jax.tree.map(
      lambda x: np.random.default_rng(1).normal(0, 0.3, x.shape).astype(np.float32), params
    )
    record, arrays = measured.score(built, params)
    found[count] = record['also'], arrays
  for name in ('chain rule in raster order', 'chain rule in order of confidence'):
    rows = found[5][1][f'also/{name}/rows']
    assert len(rows) == 5 and len(set(rows)) == 5 and max(rows) < len(built.dataset.test)
    some, every = (found[count][1][f'also/{name}/nats'] for count in (5, 0))
    np.testing.assert_allclose(some, every[rows], rtol=1e-5)
    assert np.std(some) > 1
    cell, whole = (found[count][0][name] for count in (5, 0))
    assert (cell['examples'], whole['examples']) == (5, None)
    assert cell['bits_per_dim'] == pytest.approx(some.mean() / 64 / np.log(2))
    assert cell['bits_per_dim_stderr'] == pytest.approx(
      some.std(ddof=1) / np.sqrt(5) / 64 / np.log(2)
    )
  built = tiny.build(data_dir, 'masked_diffusion', '--config.evaluation.chain_examples=10000')
  assert measured.chain_rows(built) is None
