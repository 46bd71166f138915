"""The report on other codes of the same weights, terms of a bound, noise levels and samples."""

import json
import math

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

from reports import figures, figures_samples, reading, report, terminal, tidy
from reports.errors import ReportError

ALSO = {'code': 'upper_bound', 'bits_per_dim': 2.31, 'bits_per_dim_stderr': 0.02}
ALSO |= {'evaluation_draws': 64}
TERMS = {'prior': 0.0125, 'reconstruction': 0.25, 'diffusion': 1.9375}


def levels_of(clean: float, at: dict[float, float], best: float | None, test: float) -> dict:
  """`at` holds the validation accuracy of every level, `best` the level that was chosen."""
  rows = [{'level': k, 'validation': v, 'layer': 2, 'l2': 0.1} for k, v in at.items()]
  chosen = {'level': best, 'validation': clean if best is None else at[best], 'accuracy': test}
  chosen |= {'stderr': 0.01, 'layer': 2, 'l2': 0.1}
  linear = {'clean': {'validation': clean, 'accuracy': 0.8, 'layer': 3}, 'by_level': rows}
  return {'levels': list(at), 'draws': 4, 'linear': linear | {'best': chosen}}


def write_all(top, **changes):
  """A comparison of two seeds in which masked was also scored by masked diffusion's bound."""
  write_comparison(top)
  for path in top.glob('runs/*/run.json'):
    record = json.loads(path.read_text())
    shift = 0.02 * record['seed']
    if record['objective'] == 'masked':
      own = {'also': {'masked_diffusion': ALSO | {'bits_per_dim': 2.31 + shift}}}
    elif record['objective'] == 'masked_diffusion':
      also = {'code': 'exact', 'bits_per_dim': 2.2 + shift, 'bits_per_dim_stderr': 0.012}
      own = {'also': {'chain rule in raster order': also | {'evaluation_draws': 1}}}
      own |= {'terms': TERMS, 'bits_per_dim': sum(TERMS.values()), 'input_scale': 0.3}
      own |= {'trained_on': 'the bound', 'settings': {'schedule': 'linear', 'gamma': [-8, 8]}}
    else:
      own = {}
    path.write_text(json.dumps(record | own | changes.get(record['objective'], {})))
  return top


def entry_of(results, objective):
  return next(entry for entry in results['summary'] if entry['objective'] == objective)


# Other codes.


def test_other_codes_have_a_column_and_rows_of_their_own(tmp_path):
  results = report.build([write_all(tmp_path)], tmp_path)
  entry = entry_of(results, 'masked')
  assert entry['code'] == 'none' and entry['bits_per_dim'] is None
  other = entry['also']['masked_diffusion']
  assert (other['code'], other['bits_per_dim']) == ('upper_bound', pytest.approx(2.32))
  assert (other['bits_min'], other['bits_max']) == pytest.approx((2.31, 2.33))
  diffusion = entry_of(results, 'masked_diffusion')
  assert diffusion['bits_per_dim'] == pytest.approx(2.2)  # without the exact 2.21 beside it
  assert diffusion['also']['chain rule in raster order']['bits_per_dim'] == pytest.approx(2.21)
  text = page_of(tmp_path)
  assert 'by another code<small>same weights</small>' in text
  cell = '<td>≤ 2.320<small>2.310–2.330</small><small>± 0.020, 64 draws</small>'
  assert f'<td>n/a</td>{cell}<small>by masked diffusion&#39;s bound</small></td>' in text
  lines = terminal.terminal_table(results).splitlines()
  assert "  also: ≤ 2.320 ±0.020 by masked diffusion's bound" in lines
  assert '  also: 2.210 ±0.012 by chain rule in raster order' in lines
  rows = tidy.load_results([tmp_path])
  mine = rows[rows.measure == 'also/masked_diffusion/bits_per_dim']
  assert (
    list(zip(mine.objective, mine.code, mine.stderr, strict=True))
    == [('masked', 'upper_bound', 0.02)] * 2
  )
  assert sorted(mine.value) == pytest.approx([2.31, 2.33])
  assert rows[(rows.objective == 'masked') & (rows.measure == 'bits_per_dim')].empty


def test_another_code_at_the_histogram_has_learned_no_context(tmp_path):
  also = {'masked_diffusion': ALSO | {'bits_per_dim': HISTOGRAM - 0.04}}
  results = assemble(write_all(tmp_path, masked={'also': also}))
  assert entry_of(results, 'masked')['also']['masked_diffusion']['no_context_learned']
  assert "masked, by masked diffusion's bound: no context" in terminal.terminal_table(results)
  assert 'no context learned</small>' in render(results)


def test_other_codes_of_two_kinds_are_not_pooled(tmp_path):
  for seed, code in enumerate(('exact', 'upper_bound')):
    write_run(tmp_path, make_record('masked', seed, also={'x': ALSO | {'code': code}}))
  with pytest.raises(ReportError, match='masked scored by x is exact and upper_bound'):
    assemble(tmp_path)


# Terms and fairness.


def test_terms_stand_in_a_table_and_must_add_up(tmp_path):
  results = assemble(write_all(tmp_path))
  assert entry_of(results, 'masked_diffusion')['terms'] == pytest.approx(TERMS)
  assert results['errors'] == []
  cells = ''.join(f'<td>{value:.4f}</td>' for value in TERMS.values())
  assert f'masked_diffusion</td>{cells}<td>≤ 2.200</td>' in render(results)
  assert 'prior 0.0125, reconstruction 0.2500, diffusion 1.9375' in terminal.terminal_table(results)
  wrong = {'terms': TERMS | {'prior': 0.5}, 'bits_per_dim': 2.2}
  results = assemble(write_all(tmp_path / 'wrong', masked_diffusion=wrong))
  assert len(results['errors']) == 2 and 'add up to 2.6875' in results['errors'][0]


def test_what_was_trained_on_and_input_scales_stand_in_the_fairness_table(tmp_path):
  text = render(assemble(write_all(tmp_path)))
  assert 'trained on</td><td>–</td><td>the bound</td>' in text
  assert 'schedule linear<br>gamma -8, 8' in text
  assert 'The input scale (standard deviation of initial tokens and positions) differs' in text
  same = render(assemble(write_comparison(tmp_path / 'same')))
  assert 'The input scale (' not in same and 'trained on</td>' not in same


# Noise levels.


def test_best_level_is_the_one_chosen_on_validation_beside_the_clean_headline(tmp_path):
  # 0.5 is best on validation, and a worse one on test than the clean headline
  levels = levels_of(0.81, {0.15: 0.83, 0.5: 0.86}, 0.5, 0.79)
  results = report.build([write_all(tmp_path, masked={'probes_by_level': levels})], tmp_path)
  entry = entry_of(results, 'masked')
  assert entry['linear_best_level'] == pytest.approx(0.79)
  assert entry['linear_best_levels'] == [0.5, 0.5]
  assert entry_of(results, 'autoregressive')['linear_best_level'] is None
  clean = [r['probes']['linear']['all']['accuracy'] for r in results['runs']
           if r['objective'] == 'masked']  # fmt: skip
  assert entry['linear_all'] == pytest.approx(np.mean(clean))
  text = page_of(tmp_path)
  assert '<td>79.0<small>79.0–79.0</small><small>at 0.5</small></td>' in text
  assert '<th>all labels,<br>best level</th>' in text
  assert '\n  best level, all labels: 79.0 at 0.5\n' in terminal.terminal_table(results)
  assert results['notes'] == []
  (axis,) = figures.accuracy_by_level(results).axes
  assert list(axis.lines[0].get_xdata()) == [0.15, 0.5]
  assert list(axis.lines[0].get_ydata()) == [0.83, 0.86]
  assert list(axis.lines[2].get_ydata()) == [0.81]  # clean
  rows = tidy.load_results([tmp_path])
  rows = rows[rows.measure.str.contains('level/') & (rows.seed == 0)].set_index('measure')
  assert rows.value['by_level/clean/linear/accuracy'] == 0.81
  assert rows.split['by_level/0.5/linear/accuracy'] == 'validation'
  assert rows.value['best_level/linear/accuracy'] == 0.79
  assert rows.value['best_level/linear/level'] == 0.5


def test_a_best_level_that_validation_did_not_choose_is_told(tmp_path):
  levels = levels_of(0.81, {0.15: 0.83, 0.5: 0.86}, 0.15, 0.99)
  notes = assemble(write_all(tmp_path, masked={'probes_by_level': levels}))['notes']
  assert len(notes) == 2 and 'masked, seed 0: its best level (0.8300 on validation)' in notes[0]


def test_clean_can_be_the_best_level(tmp_path):
  clean = levels_of(0.9, {0.15: 0.83, 0.5: 0.86}, None, 0.88)
  noisy = levels_of(0.8, {0.15: 0.83, 0.5: 0.86}, 0.5, 0.80)
  for seed, levels in enumerate((clean, noisy)):
    write_run(tmp_path, make_record('masked', seed, probes_by_level=levels))
  results = assemble(tmp_path)
  (entry,) = results['summary']
  assert entry['linear_best_level'] == pytest.approx(0.84)
  assert entry['linear_best_levels'] == [None, 0.5]
  assert 'clean (1 of 2), at 0.5 (1 of 2)' in render(results)


# Samples.


def test_sample_grid_holds_every_pixel_once():
  samples = np.arange(3 * 6).reshape(3, 6) % 5
  grid = figures_samples.sample_grid(samples, (2, 3), alphabet=5, columns=2)
  white = 255
  g = [0, 64, 128, 191, 255]  # value v of 5 is 255 v / 4, rounded
  assert grid.tolist() == [
    [g[0], g[1], g[2], white, g[1], g[2], g[3]],
    [g[3], g[4], g[0], white, g[4], g[0], g[1]],
    [white] * 7,
    [g[2], g[3], g[4], white, white, white, white],
    [g[0], g[1], g[2], white, white, white, white],
  ]
  assert grid.dtype == np.uint8


def test_samples_of_the_first_seed_stand_beside_real_ones(tmp_path):
  write_comparison(tmp_path)
  rng = np.random.default_rng(0)
  drawn = {}
  for objective in ('autoregressive', 'masked_diffusion'):
    for seed in range(2):
      (path,) = tmp_path.glob(f'runs/{objective}-{seed}-*')
      record = json.loads((path / 'run.json').read_text()) | {'sample_shape': [8, 8]}
      (path / 'run.json').write_text(json.dumps(record))
      drawn[objective, seed] = rng.integers(17, size=(70, 64), dtype=np.int32)
      np.savez_compressed(path / 'arrays.npz', samples=drawn[objective, seed])
  controls = json.loads((tmp_path / 'controls.json').read_text())
  real = rng.integers(17, size=(16, 64))
  (tmp_path / 'controls.json').write_text(json.dumps(controls | {'real_samples': real.tolist()}))
  results = report.build([tmp_path], tmp_path)
  assert (tmp_path / 'report' / 'samples.png').stat().st_size > 5000
  assert not any('samples' in run for run in results['runs'])  # the record holds no arrays
  by_dir = {
    run['workdir']: reading.read_arrays(run['workdir'], ('samples',)).get('samples')
    for run in results['runs']
  }
  shown = figures_samples.samples(results, {k: v for k, v in by_dir.items() if v is not None})
  titles = [axis.get_title(loc='left') for axis in shown.axes]
  assert titles == ['autoregressive, seed 0', 'masked_diffusion, seed 0', 'real, from test']
  for axis, values in zip(shown.axes, [*(drawn[o, 0] for o in list(OBJECTIVES)[:2]), real],
                          strict=True):  # fmt: skip
    picture = np.asarray(axis.images[0].get_array())
    assert picture.shape == (8 * 9 - 1 if len(values) > 16 else 2 * 9 - 1, 8 * 9 - 1)
    assert picture[:8, 9:17] == pytest.approx(np.round(values[1].reshape(8, 8) * 255 / 16))
    assert axis.images[0].get_interpolation() == 'nearest'


def test_runs_without_samples_or_with_broken_arrays_still_report(tmp_path):
  path = write_run(tmp_path, make_record('autoregressive', 0, sample_shape=[8, 8]))
  (path / 'arrays.npz').write_bytes(b'PK broken')
  results = report.build([tmp_path], tmp_path)
  assert not (tmp_path / 'report' / 'samples.png').exists()
  assert math.isfinite(results['summary'][0]['bits_per_dim'])


def test_structure_and_noise_are_means_over_runs(tmp_path):
  for seed in range(2):
    cell = {'bits_per_dim': 2.5 + seed / 5, 'reached': 2.0, 'reason': None, 'steps': 30}
    cell |= {'examples': 960, 'share': 0.8, 'structure_bits': 30_720.0 + 12_288 * seed}
    cell |= {'noise_bits': 122_880.0}
    write_run(tmp_path, make_record('masked_diffusion', seed, single_epoch=cell))
  none = {'bits_per_dim': None, 'reason': 'the objective has no likelihood'}
  write_run(tmp_path, make_record('masked', 0, single_epoch=none))
  write_run(tmp_path, make_record('autoregressive', 0))  # As it was before there was such a code.
  html = render(assemble(tmp_path))
  section = html[html.index('<h2>Structure and noise</h2>') :].split('<h2>')[1]
  row = '<td>≤ 2.600</td><td>≤ 2.000</td><td>36,864</td><td>122,880</td><td>23.1</td>'
  assert row in section and '960<small>80 % of an epoch</small>' in section
  assert section.count('<tr>') == 2
  rows = tidy.load_results([tmp_path])
  found = rows[rows.measure == 'single_epoch/structure_bits']
  assert sorted(found.value) == [30_720.0, 43_008.0] and set(found.unit) == {'bits'}
