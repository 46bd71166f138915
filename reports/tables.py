"""Rows of text as a table for the terminal or in Markdown."""

from collections.abc import Collection, Sequence


def terminal(
  head: Sequence[str], lines: Sequence[Sequence[str]], right: Collection[int] = ()
) -> str:
  """Plain text, columns two apart, those numbered in `right` to the right."""
  rows = [head, *lines]
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  texts = [
    '  '.join(
      cell.rjust(width) if column in right else cell.ljust(width)
      for column, (cell, width) in enumerate(zip(row, widths, strict=True))
    ).rstrip()
    for row in rows
  ]
  return '\n'.join([texts[0], '-' * max(map(len, texts)), *texts[1:]])


def markdown(
  head: Sequence[str], lines: Sequence[Sequence[str]], right: Collection[int] = ()
) -> str:
  """A table in Markdown."""
  rule = ['---:' if column in right else '---' for column in range(len(head))]
  return '\n'.join(f'| {" | ".join(line)} |' for line in (head, rule, *lines))
