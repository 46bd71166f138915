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


def test_every_config_file_is_told():
  files = {path.stem for path in (ROOT / 'experiments').glob('*.py')}
  assert set(rows()) == files - NOT_COMPARED


@pytest.mark.parametrize('name', sorted(rows()))
def test_what_is_compared_by_default_is_what_is_told(name):
  told = rows()[name].split(';')[0]
  wanted, words = plan.defaults(f'experiments/{name}.py'), re.findall(r'`([^`]+)`', told)
  objectives, seeds = set(words), re.search(r'seeds ([\d, ]+)$', told)
  if told.startswith('as '):
    like = plan.defaults(f'experiments/{words[0]}')
    objectives = set(words[1:]) | set(like.objectives)
    assert seeds or wanted.seeds == like.seeds
  assert objectives == set(wanted.objectives)
  if seeds:
    assert wanted.seeds == tuple(map(int, seeds[1].split(',')))
