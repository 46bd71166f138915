"""The notebook of docs/ runs, and derives what the judges say."""

import json
import pathlib

import matplotlib
import pytest

from claims import CLAIMS, diffusion_linear, more_linear
from claims import records as kept

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


def test_its_verdict_is_the_judges(tour):
  records = kept.read_csv(kept.committed(CLAIMS[19]))
  digits, hierarchy = (
    more_linear.difference(records, source, more_linear.PRIMARY, more_linear.PAIR)
    for source in more_linear.SOURCES
  )
  assert (tour['mean'], tour['p']) == pytest.approx((digits.mean, digits.p))
  assert tour['half'] == pytest.approx(digits.high - digits.mean)
  assert (tour['hierarchy_mean'], tour['hierarchy_p']) == pytest.approx(
    (hierarchy.mean, hierarchy.p)
  )
  assert tour['hierarchy_half'] == pytest.approx(hierarchy.high - hierarchy.mean)
  assert more_linear.judge(records).outcome == ('holds' if max(tour['holm']) < 0.05 else None)


def test_its_picture_is_the_readmes(tour):
  records = kept.read_csv(kept.committed(CLAIMS[21]))
  expected = diffusion_linear.against(records, diffusion_linear.REFERENCE)
  drawn = {name: (mean, reach) for name, mean, reach in tour['rows']}
  assert len(drawn) == 5
  for name, test in expected.items():
    assert drawn[name] == pytest.approx((test.mean, test.high - test.mean))
