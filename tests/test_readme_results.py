"""The tables that READMEs show are those that kept results give, today, in a fresh clone."""

import json
import pathlib

import pytest

from reports import markdown, report

ROOT = pathlib.Path(__file__).parents[1]
# A results.json without `plan` is of an earlier version; its page says when it was made.
KEPT = [
  path
  for path in sorted((ROOT / 'experiments' / 'results').glob('*/results.json'))
  if 'plan' in json.loads(path.read_text(encoding='utf-8'))
]


def tables(text: str) -> list[str]:
  """The blocks of a Markdown text that are tables."""
  return [block for block in text.split('\n\n') if block.startswith('| ')]


@pytest.mark.parametrize('kept', KEPT, ids=[path.parent.name for path in KEPT])
def test_every_table_of_kept_results_stands_in_their_readme(kept):
  found = tables(markdown.text(report.read(kept)))
  assert len(found) >= 2
  shown = tables((kept.parent / 'README.md').read_text(encoding='utf-8'))
  for table in found:
    assert table in shown, f'{kept.parent.name}: python -m launch.report {kept} --markdown'
