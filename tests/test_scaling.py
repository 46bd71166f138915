"""The pictures of bits against probe along training, on curves written by hand."""

import json

import numpy as np
import pytest
from records import assemble, make_record, page_of, render, write_run

from reports import figures_scaling, pictures, reading, report, tidy

STEPS = (0, 100, 200, 400)
SIZES = {'nano': 2e5, 'micro': 1.2e6}
BITS, TOKENS, ACCURACY = figures_scaling.BITS, figures_scaling.TOKENS, figures_scaling.ACCURACY


def value(name, objective, size, seed, step) -> float:
  """Some number that no other combination of arguments has."""
  rng = np.random.default_rng([step, seed, *f'{name} {objective} {size}'.encode()])
  return float(rng.uniform(0.1, 0.9))


def write_sized(top, objective, size, seed, keys=(BITS, TOKENS, ACCURACY), steps=STEPS, **changes):
  record = make_record(objective, seed, size=size, parameters_backbone=SIZES[size], **changes)
  path = write_run(top, record, f'{objective}-{size}-{record["learning_rate"]}-{seed}')
  lines = [{'step': step, 'train/loss': 1.0} for step in steps]
  for step in steps:
    found = {key: value(key, objective, size, seed, step) for key in keys}
    lines.append({'step': step, 'validation/loss': 9.0 - step / 100, **found})
  (path / 'metrics.jsonl').write_text('\n'.join(map(json.dumps, lines)))
  return path


@pytest.fixture(scope='module', name='sized')
def sized_report(tmp_path_factory):
  """Two sizes and two seeds of three objectives, and the report on them."""
  top = tmp_path_factory.mktemp('sized')
  for size in SIZES:
    for seed in (0, 1):
      write_sized(top, 'autoregressive', size, seed, token_accuracy=0.4 + 0.1 * seed,
                  token_accuracy_of='next token')  # fmt: skip
      write_sized(top, 'masked_diffusion', size, seed, token_accuracy_of='hidden tokens')
      write_sized(top, 'supervised', size, seed, keys=(ACCURACY,), loss_unit='nats per label')
  return top, report.build([top], top)


def curves_of(results):
  return {run['workdir']: reading.read_curve(run['workdir']) for run in results['runs']}


def runs_of(results, objective, size):
  return [r for r in results['runs'] if (r['objective'], r['size']) == (objective, size)]


@pytest.mark.parametrize('key', [BITS, TOKENS])
def test_checkpoints_are_what_the_metrics_hold(sized, key):
  _, results = sized
  steps, x, y = figures_scaling.checkpoints(
    runs_of(results, 'autoregressive', 'micro'), curves_of(results), key
  )
  assert steps == [100, 200, 400]  # not step 0
  for name, found in ((key, x), (ACCURACY, y)):
    expected = [
      [value(name, 'autoregressive', 'micro', seed, step) for step in steps] for seed in (0, 1)
    ]
    np.testing.assert_array_equal(found, expected)


def test_replicates_meet_at_steps_where_all_measured_both(tmp_path):
  write_sized(tmp_path, 'autoregressive', 'nano', 0)
  write_sized(tmp_path, 'autoregressive', 'nano', 1, steps=(0, 200, 300, 400))
  silent = write_sized(tmp_path, 'autoregressive', 'nano', 2, keys=(BITS,))  # no probe: no say
  results = assemble(tmp_path)
  runs, curves = results['runs'], curves_of(results)
  steps, x, _ = figures_scaling.checkpoints(runs, curves, BITS)
  assert steps == [200, 400] and x.shape == (2, 2)
  lines = (silent / 'metrics.jsonl').read_text().splitlines()
  last = json.loads(lines[-1]) | {ACCURACY: 0.5}  # measured both, but at one step alone
  (silent / 'metrics.jsonl').write_text('\n'.join([*lines[:-1], json.dumps(last)]))
  assert figures_scaling.checkpoints(runs, curves_of(results), BITS) is None
  assert figures_scaling.checkpoints(runs, {}, BITS) is None


def test_panels_are_objectives_and_lines_are_sizes(sized):
  _, results = sized
  made = figures_scaling.scaling(results, curves_of(results))
  panels = {axis.get_title(loc='left'): axis for axis in made.axes}
  assert list(panels) == ['autoregressive', 'masked_diffusion', 'supervised (saw all labels)']
  names = [axis.get_xlabel() for axis in panels.values()]
  assert names == [
    'validation bits per dimension',
    'validation bits per dimension (≤)',
    'own validation loss,\nnats per label',
  ]
  for objective, axis in zip(('autoregressive', 'masked_diffusion'), made.axes, strict=False):
    left, right = axis.get_xlim()
    assert left > right  # fewer bits to the right
    lines = {line.get_label(): line for line in axis.lines if line.get_label() in SIZES}
    assert list(lines) == list(SIZES)
    for size, line in lines.items():
      for data, key in ((line.get_xdata(), BITS), (line.get_ydata(), ACCURACY)):
        expected = [
          np.mean([value(key, objective, size, seed, step) for seed in (0, 1)])
          for step in STEPS[1:]
        ]
        np.testing.assert_allclose(data, expected)
    assert lines['nano'].get_markersize() < lines['micro'].get_markersize()
    assert lines['nano'].get_color() != lines['micro'].get_color()
  own = panels['supervised (saw all labels)'].lines[0]
  np.testing.assert_allclose(own.get_xdata(), [9.0 - step / 100 for step in STEPS[1:]])


def test_tokens_have_a_picture_of_their_own(sized):
  _, results = sized
  made = figures_scaling.scaling_by_tokens(results, curves_of(results))
  assert [a.get_title(loc='left') for a in made.axes] == ['autoregressive', 'masked_diffusion']
  names = [f'validation token accuracy,\n{of}' for of in ('next token', 'hidden tokens')]
  assert [axis.get_xlabel() for axis in made.axes] == names
  left, right = made.axes[0].get_xlim()
  assert left < right
  expected = [np.mean([value(TOKENS, 'autoregressive', 'nano', seed, step) for seed in (0, 1)])
              for step in STEPS[1:]]  # fmt: skip
  np.testing.assert_allclose(made.axes[0].lines[0].get_xdata(), expected)


def test_one_size_has_no_legend_and_too_few_points_no_picture(tmp_path):
  write_sized(tmp_path, 'autoregressive', 'nano', 0)
  write_sized(tmp_path, 'masked_diffusion', 'nano', 0, steps=(0, 400))
  results = assemble(tmp_path)
  (axis,) = figures_scaling.scaling(results, curves_of(results)).axes
  assert axis.get_title(loc='left') == 'autoregressive' and axis.get_legend() is None
  few = {workdir: points[:2] for workdir, points in curves_of(results).items()}
  pngs, _ = pictures.draw(results, few, tmp_path)
  assert 'bits_against_accuracy' in pngs
  assert 'scaling' not in pngs and 'scaling_by_tokens' not in pngs


def test_the_report_holds_pictures_captions_and_token_accuracy(sized):
  top, results = sized
  for name in ('scaling', 'scaling_by_tokens'):
    assert (top / 'report' / f'{name}.png').stat().st_size > 5000
  text = page_of(top)
  for words in ('at most 250 labels', 'fewer bits lie to the right', 'not a converged model'):
    assert words in text
  assert 'tokens<br>predicted' in text
  assert '<td>45.0<small>40.0–50.0</small><small>next token</small></td>' in text
  rows = tidy.load_results([top])
  rows = rows[(rows.measure == 'token_accuracy') & (rows.split == 'test')]
  assert set(zip(rows.seed, rows['size'], rows.value, strict=True)) == {
    (seed, size, 0.4 + 0.1 * seed) for seed in (0, 1) for size in SIZES
  }
  entry = results['summary'][0]
  assert entry['token_accuracy'] == pytest.approx(0.45)


def test_records_from_before_token_accuracy_still_read(tmp_path):
  write_run(tmp_path, make_record('autoregressive', 0))
  results = assemble(tmp_path)
  assert results['summary'][0]['token_accuracy'] is None
  assert results['runs'][0]['token_accuracy'] is None
  assert 'tokens<br>predicted' not in render(results)
  assert 'token_accuracy' not in set(tidy.load_results([tmp_path]).measure)


def test_the_learning_rate_is_chosen_for_every_size_by_itself(tmp_path):
  losses = {('nano', 2e-3): 1.3, ('nano', 4e-3): 1.2, ('micro', 2e-3): 1.0, ('micro', 4e-3): 1.1}
  for (size, rate), loss in losses.items():
    validation = {'loss': loss, 'best_loss': loss, 'best_step': 800, 'bits_per_dim': 2.0}
    write_sized(tmp_path, 'autoregressive', size, 0, learning_rate=rate, validation=validation)
  results = assemble(tmp_path)
  chosen = {run['size']: run['learning_rate'] for run in results['runs'] if run['selected']}
  assert chosen == {'nano': 4e-3, 'micro': 2e-3}
  assert [entry['tuned'] for entry in results['summary']] == [True, True]
