"""The notebook of docs/ runs, and derives what the report of the same records says."""

import json
import pathlib

import matplotlib
import pytest

from reports import pictures, report

DOCS = pathlib.Path(__file__).parents[1] / 'docs'


@pytest.fixture(scope='module')
def tour():
  """What the cells leave behind, run in order as a reader would."""
  cells = json.loads((DOCS / 'tour.ipynb').read_text())['cells']
  names: dict = {}
  with pytest.MonkeyPatch.context() as patch, matplotlib.rc_context({'backend': 'Agg'}):
    patch.chdir(DOCS)
    for cell in cells:
      if cell['cell_type'] == 'code':
        exec(compile(''.join(cell['source']), 'tour.ipynb', 'exec'), names)
  return names


@pytest.fixture(scope='module')
def made(tour, tmp_path_factory):
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(pictures, 'draw', lambda *_: ({}, {}))
    return report.build([tour['records']], tmp_path_factory.mktemp('tour'))


def test_its_verdicts_are_the_reports(tour, made):
  (beside,) = (one for one in made['beside'] if 'attentive' in one['measure'])
  for frame, verdicts in (
    (tour['linear'], made['verdicts']),
    (tour['attentive'], beside['verdicts']),
  ):
    told = {frozenset((v['first'], v['second'])): v for v in verdicts if not v['control']}
    assert len(frame) == len(told) == 15
    for row in frame.itertuples():
      found = told[frozenset((row.first, row.second))]
      sign = 1 if found['first'] == row.first else -1
      assert row.mean == pytest.approx(sign * found['difference'])
      assert (row.half, row.p, row.p_holm) == pytest.approx(
        (found['half_width'], found['p'], found['p_holm'])
      )


def test_what_its_text_says_of_them_is_so(tour):
  first = tour['linear'].iloc[0]
  assert {first['first'], first['second']} == {'block_diffusion block=12', 'masked_diffusion'}
  assert (tour['linear']['p_holm'] > 0.05).all() and tour['p'] < 0.05
  assert (tour['attentive']['p_holm'] < 0.05).sum() == 1


def test_its_picture_is_the_readmes(tour, made):
  (axis,) = tour['figure'].axes
  drawn = {tuple(point) for line in axis.lines[:-1] for point in line.get_xydata().tolist()}
  expected = {
    (run['bits_per_dim'], 100 * run['probes']['linear']['100']['accuracy'])
    for run in made['runs']
    if run['bits_per_dim'] is not None
  }
  assert len(drawn) == 20 and drawn == expected
  raw = made['controls']['raw']['linear']['100']['accuracy']
  assert axis.lines[-1].get_ydata() == pytest.approx([100 * raw] * 2)
