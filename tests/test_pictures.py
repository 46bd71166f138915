"""Pictures are drawn when what they show has changed, and only then; colours of styles."""

import json
import shutil

from matplotlib import colors
import numpy as np
import pytest
from records import make_record, write_run

from reports import page, pictures, report, styles

# What records without truth, labels' codes, levels and several learning rates have to show.
SHOWN = {
  'bits_against_accuracy', 'accuracy_by_layer', 'accuracy_by_labels', 'loss_against_labels',
  'scaling', 'similarity', 'samples', 'training_curves', 'accuracy_during_training',
}  # fmt: skip
CURVES = {'scaling', 'scaling_by_tokens', 'regret_curves', 'training_curves'}
CURVES |= {'accuracy_during_training'}


@pytest.fixture(name='drawn')
def drawn_names(monkeypatch) -> list[str]:
  """The names of pictures that are drawn, as they are."""
  names, really = [], pictures._drawn
  monkeypatch.setattr(
    pictures, '_drawn', lambda name, *args: names.append(name) or really(name, *args)
  )
  return names


@pytest.fixture(name='fresh', scope='module')
def two_runs(tmp_path_factory):
  """Two runs, and the names drawn by their first report."""
  top = tmp_path_factory.mktemp('runs')
  rng = np.random.default_rng(0)
  for objective in ('autoregressive', 'masked'):
    path = write_run(top, make_record(objective, 0, sample_shape=[8, 8]), objective)
    save(path, rng.integers(17, size=(8, 64)), rng.normal(size=(2, 9, 3)))
  with pytest.MonkeyPatch.context() as patch:
    names, really = [], pictures._drawn
    patch.setattr(pictures, '_drawn', lambda name, *args: names.append(name) or really(name, *args))
    return top, build(top, names)[0]


@pytest.fixture(name='top')
def copy_of_two_runs(fresh, tmp_path):
  shutil.copytree(fresh[0], tmp_path, dirs_exist_ok=True)
  return tmp_path


def save(path, samples, features):
  np.savez_compressed(path / 'arrays.npz', samples=samples, **{'geometry/features': features})


def build(top, drawn):
  """The names drawn by one more report, and the pictures that it left."""
  drawn.clear()
  report.build([top], top)
  return set(drawn), {path.stem: path.read_bytes() for path in (top / 'report').glob('*.png')}


def test_nothing_is_drawn_again_where_nothing_changed(fresh, top, drawn):
  _, left = build(top, drawn)
  assert fresh[1] == set(pictures.PICTURES) and set(left) == SHOWN
  text = (top / 'report.html').read_text()
  assert build(top, drawn) == (set(), left)
  assert (top / 'report.html').read_text() == text


def test_what_no_picture_shows_changes_none(top, drawn):
  build(top, drawn)
  drawn.clear()
  report.build([top], top, command='another', notes=('note',), failures=[{'name': 'lost'}])
  assert drawn == []
  assert 'another' in (top / 'report.html').read_text()


def test_a_changed_record_is_drawn(top, drawn):
  _, left = build(top, drawn)
  path = top / 'runs' / 'masked' / 'run.json'
  record = json.loads(path.read_text())
  record['probes']['linear']['all']['by_layer_validation'][2] -= 0.1
  path.write_text(json.dumps(record))
  names, now = build(top, drawn)
  assert 'accuracy_by_layer' in names
  assert {name for name in now if now[name] != left[name]} == {'accuracy_by_layer'}


def test_a_changed_curve_draws_the_pictures_of_curves_alone(top, drawn):
  _, left = build(top, drawn)
  path = top / 'runs' / 'masked' / 'metrics.jsonl'
  lines = path.read_text().splitlines()
  changed = json.loads(lines[3]) | {'validation/loss': 2.0}
  path.write_text('\n'.join([*lines[:3], json.dumps(changed), *lines[4:]]))
  names, now = build(top, drawn)
  assert names == CURVES
  assert now['training_curves'] != left['training_curves'] and now['scaling'] != left['scaling']


@pytest.mark.parametrize('name', ['samples', 'similarity'])
def test_a_changed_array_draws_its_picture_alone(name, top, drawn):
  _, left = build(top, drawn)
  with np.load(top / 'runs' / 'masked' / 'arrays.npz') as arrays:
    samples, features = arrays['samples'].copy(), arrays['geometry/features'].copy()
  if name == 'samples':
    samples[0, 0] = 16 - samples[0, 0]
  else:
    features[0, 0, 0] += 1
  save(top / 'runs' / 'masked', samples, features)
  names, now = build(top, drawn)
  assert names == {name} and now[name] != left[name]


def test_another_program_draws_everything(top, drawn, monkeypatch):
  build(top, drawn)
  monkeypatch.setattr(pictures, '_program', lambda: 'another')
  assert build(top, drawn)[0] == set(pictures.PICTURES)


def test_the_program_is_every_file_that_draws_and_what_they_stand_on(monkeypatch):
  digest = pictures._program.__wrapped__
  now = digest()
  assert digest() == now
  version = pictures.metadata.version
  with monkeypatch.context() as patched:
    patched.setattr(pictures.metadata, 'version', lambda name: version(name) + '.1')
    assert digest() != now
  for changed in ('figures.py', 'figures_truth.py', 'canvas.py', 'styles.py', 'measures.py'):
    read = pictures.pathlib.Path.read_text

    def other(path, *args, changed=changed, read=read, **kwargs):
      return read(path, *args, **kwargs) + ('#' if path.name == changed else '')

    with monkeypatch.context() as patched:
      patched.setattr(pictures.pathlib.Path, 'read_text', other)
      assert digest() != now, changed


def test_a_picture_that_was_lost_or_spoilt_is_made_again(top, drawn):
  _, left = build(top, drawn)
  (top / 'report' / 'scaling.png').unlink()
  (top / 'report' / 'samples.png').write_bytes(b'spoilt')
  names, now = build(top, drawn)
  assert names == {'scaling', 'samples'} and now == left


@pytest.mark.parametrize('text', ['', '[]', '{"scaling": 1}'])
def test_marks_that_can_not_be_read_are_none(text, top, drawn):
  _, left = build(top, drawn)
  (top / 'report' / 'pictures.json').write_text(text)
  assert build(top, drawn) == (set(pictures.PICTURES), left)


def test_a_picture_without_anything_to_show_goes(top, drawn):
  build(top, drawn)
  (top / 'runs' / 'masked' / 'arrays.npz').unlink()
  names, now = build(top, drawn)
  assert names == {'samples', 'similarity'} and set(now) == SHOWN - {'similarity'}
  assert build(top, drawn)[0] == set()


def test_every_picture_has_a_title_and_a_caption():
  assert set(page.CAPTIONS) == set(pictures.PICTURES)


@pytest.mark.parametrize('share', [0.0, 0.2, 0.3, 0.45, 0.6])
def test_paler_colours_are_matplotlibs(share):
  for colour in styles.COLOURS:
    mixed = [(1 - share) * part + share for part in colors.to_rgb(colour)]
    assert styles.paler(colour, share) == colors.to_hex(mixed).upper()


def test_an_objective_keeps_its_colour_over_reports():
  def colours(*names: str) -> dict[str, str]:
    entries = [{'objective': name, 'size': None, 'saw_labels': False} for name in names]
    looks = styles.styles({'summary': entries})
    return {name: look.colour for (name, _), look in looks.items()}

  alone = colours('masked ratio=0.5', 'supervised')
  some = colours('autoregressive', 'masked', 'masked ratio=0.5', 'supervised')
  many = colours('autoregressive', 'block_diffusion block=4', 'gaussian_diffusion', *some, 'dual')
  assert alone['supervised'] == some['supervised'] == many['supervised']
  assert alone['masked ratio=0.5'] == some['masked'] == many['masked'] != some['masked ratio=0.5']
  assert some['autoregressive'] == many['autoregressive'] == styles.COLOURS[0]
  assert len(set(many.values())) == len(many) == 7
  first = colours('dual', 'energy', 'uniform_diffusion', 'other', 'masked ratio=0.5', 'masked')
  assert first['masked'] == some['masked']
  # More than there are colours: they come again with another marker and line.
  entries = [{'objective': f'dual {i}', 'size': None, 'saw_labels': False} for i in range(20)]
  looks = styles.styles({'summary': entries}).values()
  assert len({look.colour for look in looks}) == len(styles.COLOURS)
  assert len({(look.colour, look.marker, look.line) for look in looks}) == 20
