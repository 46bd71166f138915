"""Tidy results: the same from runs and from results.csv, and written again as they were."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from records import make_record, write_comparison, write_run

from reports import report, tidy
from reports.errors import ReportError


@pytest.fixture(scope='module', name='top')
def comparison(tmp_path_factory):
  top = write_comparison(tmp_path_factory.mktemp('tidy'))
  report.build([top], top)
  return top


def in_order(rows: pd.DataFrame) -> pd.DataFrame:
  return rows.sort_values(list(tidy.COLUMNS), ignore_index=True)


def test_rows_are_the_same_from_runs_and_from_csv(top):
  rows, from_csv = tidy.load_results([top]), tidy.load_results([top / 'results.csv'])
  pd.testing.assert_frame_equal(in_order(rows), in_order(from_csv), check_exact=True)
  assert tuple(rows.columns) == tidy.COLUMNS
  assert np.isfinite(rows.value).all()
  both = tidy.load_results([top, top / 'results.csv'])
  assert len(both) == 2 * len(rows) and (both.dtypes == rows.dtypes).all()


def test_values_are_those_of_the_records(top):
  rows = tidy.load_results([top])
  record = json.loads((top / 'runs/masked_diffusion-1-0.002/run.json').read_text())
  mine = rows[(rows.objective == 'masked_diffusion') & (rows.seed == 1)]

  def one(measure, **where):
    found = mine[mine.measure == measure]
    for name, wanted in where.items():
      found = found[found[name] == wanted]
    (row,) = found.itertuples()
    return row

  bits = one('bits_per_dim', split='test')
  assert (bits.value, bits.stderr) == (record['bits_per_dim'], 0.012)
  assert (bits.code, bits.unit, bits.selected) == ('upper_bound', 'bits/dim', True)
  assert bits.grammar is pd.NA and bits.layer is pd.NA and bits.labels is pd.NA
  linear = record['probes']['linear']
  assert one('linear/accuracy', labels='100').value == linear['100']['accuracy']
  draw = one('linear/accuracy_of_draw', labels='40', draw=2)
  assert (draw.value, draw.layer) == (linear['40']['draws'][2], 3)
  layer = one('linear/accuracy', split='validation', layer=3)
  assert layer.value == linear['all']['by_layer_validation'][3]
  assert rows[(rows.objective == 'masked') & (rows.measure == 'bits_per_dim')].empty
  raw = rows[(rows.objective == 'raw') & (rows.measure == 'linear/accuracy')]
  assert set(raw.labels) == {'all', '10', '40', '100', '250'}
  assert raw.seed.isna().all() and raw.trained.isna().all()


def test_a_results_csv_is_written_again_byte_by_byte(top, tmp_path):
  again = tidy.as_csv(tidy.read_csv(top / 'results.csv'))
  assert again.encode() == (top / 'results.csv').read_bytes()


def test_floats_keep_all_their_digits(tmp_path):
  rng = np.random.default_rng(0)
  bits = rng.integers(0, 2**64, 2000, np.uint64, endpoint=False).view(np.float64)
  values = [*bits[np.isfinite(bits)], 1e22, 0.1, 1 / 3, 2.0**53, 1e-5, 1e16, 3.5e9, 12.0]
  values = [float(value) for value in values]
  rows = pd.DataFrame({'measure': 'x', 'value': values}).reindex(columns=list(tidy.COLUMNS))
  (tmp_path / 'results.csv').write_text(tidy.as_csv(rows))
  assert list(tidy.read_csv(tmp_path / 'results.csv').value) == values
  cells = [line.split(',')[16] for line in (tmp_path / 'results.csv').read_text().splitlines()[1:]]
  assert cells == list(map(repr, values))


def test_a_name_that_looks_absent_is_a_name(tmp_path):
  write_run(tmp_path, make_record('masked', 0, dataset='NA', probe_dataset='null'))
  report.build([tmp_path], tmp_path / 'out')
  for rows in (tidy.load_results([tmp_path]), tidy.load_results([tmp_path / 'out'])):
    assert set(rows.dataset) == {'NA'} and set(rows.probe_dataset) == {'null'}


def test_a_results_csv_from_before_grammars_is_read(top, tmp_path):
  rows = tidy.read_csv(top / 'results.csv')
  rows.drop(columns='grammar').to_csv(tmp_path / 'results.csv', index=False)
  pd.testing.assert_frame_equal(tidy.load_results([tmp_path]), rows)


def test_nothing_is_an_empty_table(tmp_path):
  rows = tidy.load_results([tmp_path])
  assert rows.empty and tuple(rows.columns) == tidy.COLUMNS
  assert rows.value.dtype == float and math.isclose(rows.value.sum(), 0)


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('', 'can not be read'),
    ('a,b\n1,2\n', 'is not a results.csv of this version'),
    ('{head}\n{line},1,2\n', 'can not be read'),
    ('{head}\n{line}\nfashion_mnist,fash\n', 'line 3: no value'),
    ('{head}\n{wrong}\n', 'can not be read: .*zero'),
  ],
)
def test_a_file_that_is_none_is_one_line(top, text, message, tmp_path):
  head, line = (top / 'results.csv').read_text().splitlines()[:2]
  wrong = line.replace(',,0,nano', ',,zero,nano')
  path = tmp_path / 'results.csv'
  path.write_text(text.format(head=head, line=line, wrong=wrong))
  with pytest.raises(ReportError, match=message) as caught:
    tidy.load_results([path])
  assert '\n' not in str(caught.value)


def test_a_path_that_is_not_there_is_one_line(tmp_path):
  with pytest.raises(ReportError, match='is not a directory'):
    tidy.load_results([tmp_path / 'absent.csv'])
