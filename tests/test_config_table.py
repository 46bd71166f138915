"""docs/configs.md says of every config file what it compares by default."""

import pathlib
import re

import pytest

from runs import plan

ROOT = pathlib.Path(__file__).parents[1]
NOT_COMPARED = {'__init__', 'base', 'imagegpt'}  # Without data, or without a size, of their own.


def rows() -> dict[str, str]:
  text = (ROOT / 'docs' / 'configs.md').read_text(encoding='utf-8')
  table = next(block for block in text.split('\n\n') if block.startswith('| file | data |'))
  cells = [line.strip('| ').split(' | ') for line in table.splitlines()[2:]]
  return {name: row[2] for row in cells for name in re.findall(r'`(\w+)\.py`', row[0])}


def read(told: str) -> tuple[set[str], tuple[int, ...]]:
  """Objectives and seeds of a row: 'as `FILE`[ and more][, seeds 0, 1]', or all of them."""
  told, _, seeds = told.partition(', seeds ')
  names = re.findall(r'`([^`]+)`', told)
  counted = tuple(int(seed) for seed in re.findall(r'\d+', seeds))
  if not told.startswith('as '):
    return set(names), counted
  like = plan.defaults(f'experiments/{names[0]}')
  return {*names[1:], *like.objectives}, counted or like.seeds


def test_every_config_file_is_told():
  files = {path.stem for path in (ROOT / 'experiments').glob('*.py')}
  assert set(rows()) == files - NOT_COMPARED


@pytest.mark.parametrize('name', sorted(rows()))
def test_what_is_compared_by_default_is_what_is_told(name, tmp_path, data_dir):
  told, _, left_out = rows()[name].partition('; ')
  wanted = plan.defaults(f'experiments/{name}.py')
  assert read(told) == (set(wanted.objectives), wanted.seeds)
  assert ('of every grammar' in told) == (len(wanted.replicates) > 1)
  if left_out:
    assert left_out == 'what has no labels leaves `supervised` out'
    made, _ = plan.make(f'experiments/{name}.py', None, None, None, [], str(tmp_path), data_dir)
    assert {run.config.objective.name for run in made} == {*wanted.objectives} - {'supervised'}
