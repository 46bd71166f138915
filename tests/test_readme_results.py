"""The tables that READMEs show are those that kept results give, today, in a fresh clone."""

import json
import pathlib

import pytest

from reports import markdown, pictures, report

ROOT = pathlib.Path(__file__).parents[1]
KEPT = sorted((ROOT / 'experiments' / 'results').glob('*/results.json'))


def tables(text: str) -> list[str]:
  """The blocks of a Markdown text that are tables."""
  return [block for block in text.split('\n\n') if block.startswith('| ')]


RECORDS = sorted((ROOT / 'experiments' / 'results').glob('*/records'))


@pytest.fixture(scope='module', name='made')
def made_of_records(tmp_path_factory) -> dict[pathlib.Path, dict]:
  """What the report of each directory of kept records says today."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(pictures, 'draw', lambda *_: ({}, {}))
    return {path: report.build([path], tmp_path_factory.mktemp('made')) for path in RECORDS}


@pytest.mark.parametrize('kept', KEPT + RECORDS, ids=lambda path: path.parent.name)
def test_every_table_of_kept_results_stands_in_their_readme(kept, made):
  found = tables(markdown.text(made[kept] if kept in made else report.read(kept)))
  assert len(found) >= 2
  shown = tables((kept.parent / 'README.md').read_text(encoding='utf-8'))
  for table in found:
    assert table in shown, f'{kept.parent.name}: python -m launch.report {kept} --markdown'


def test_the_first_table_of_all_is_of_the_records_of_cifar10(made):
  (of_all,) = (results for path, results in made.items() if path.parent.name == 'cifar10_palette')
  known: dict[str, dict[str, str]] = {}
  for table in tables(markdown.text(of_all))[:2]:
    for name, cells in grid(table).items():
      known.setdefault(name, {}).update(cells)
  shown = grid(tables((ROOT / 'README.md').read_text(encoding='utf-8'))[0])
  assert set(shown) == set(known)
  for name, cells in shown.items():
    assert cells == {head: known[name].get(head, '') for head in cells}, name


def grid(table: str) -> dict[str, dict[str, str]]:
  """Cells of a Markdown table by what their row and column are called."""
  head, _, *rows = (
    [cell.strip() for cell in line.strip().strip('|').split('|')] for line in table.split('\n')
  )
  return {row[0]: dict(zip(head[1:], row[1:], strict=True)) for row in rows}


@pytest.mark.parametrize('name', ['cifar10_palette', 'fashion_mnist'])
def test_the_table_of_sizes_is_that_of_its_records(name):
  """Means and ranges over seeds 0 to 2, straight from what the runs wrote."""
  here = ROOT / 'experiments' / 'results' / name
  shown = grid(next(table for table in tables((here / 'README.md').read_text(encoding='utf-8'))
                    if table.startswith('| seeds 0, 1 and 2 |')))  # fmt: skip
  for size, top in (('nano', here / 'records'), ('micro', here / 'sizes')):
    for objective in ('autoregressive', 'untrained_causal'):
      paths = [path for path in sorted(top.glob(f'runs/{objective}-*/run.json'))
               if 'input_mask' not in path.parent.name]  # fmt: skip
      runs = [json.loads(path.read_text(encoding='utf-8')) for path in paths]
      runs = [run for run in runs if run['seed'] < 3]
      assert sorted(run['seed'] for run in runs) == [0, 1, 2]
      assert shown[f'{objective} {size}'] == cells_of(runs)


def cells_of(runs: list[dict]) -> dict[str, str]:
  """The cells of the table of sizes."""

  def over(values: list[float | None], digits: int, factor: float = 1.0) -> str:
    if None in values:
      return 'n/a'
    texts = [
      f'{factor * value:.{digits}f}'
      for value in (sum(values) / len(values), min(values), max(values))
    ]
    return f'{texts[0]} ({texts[1]}–{texts[2]})'

  probes = [run['probes'] for run in runs]
  return {
    'parameters': f'{runs[0]["parameters"]:,}',
    'training FLOPs': f'{runs[0]["train_flops"]:.2e}'.replace('e+', 'e')
    if runs[0]['steps']
    else '0',
    'bits': over([run['bits_per_dim'] for run in runs], 3),
    'linear, all labels': over([one['linear']['all']['accuracy'] for one in probes], 1, 100),
    'linear, 100 labels': over([one['linear']['100']['accuracy'] for one in probes], 1, 100),
    'attentive': over([one['attentive']['all']['accuracy'] for one in probes], 1, 100),
    'kNN': over([one['knn']['all']['accuracy'] for one in probes], 1, 100),
  }
