"""Pieces of the page: style, tables, small print. Cells are HTML, whatever was read is escaped."""

from collections.abc import Iterable, Sequence
import html
from typing import Any

STYLE = """
:root { color-scheme: light dark; --ink: #1d1d1f; --soft: #6b6b70; --line: #dcdce0;
  --back: #ffffff; --tint: #f5f5f7; --flag: #9a4a00; --wrong: #b3121d; }
@media (prefers-color-scheme: dark) { :root { --ink: #ececee; --soft: #a0a0a6; --line: #3a3a3e;
  --back: #18181a; --tint: #222225; --flag: #f0a860;
  --wrong: #ff6b6b; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 74rem; background: var(--back);
  color: var(--ink); font: 16px/1.55 system-ui, -apple-system, "Segoe UI", sans-serif; }
h1 { font-size: 1.7rem; font-weight: 600; margin: 0 0 .4rem; }
h2 { font-size: 1.15rem; font-weight: 600; margin: 2.8rem 0 .6rem; }
p, li { max-width: 46rem; } p { margin: .5rem 0; }
ul { padding-left: 1.2rem; } li { margin: .3rem 0; }
code, pre { font: .88em/1.5 ui-monospace, Menlo, Consolas, monospace; }
pre { background: var(--tint); padding: .7rem .9rem; border-radius: 6px; overflow-x: auto; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums; }
.wide > table { min-width: 100%; }
th, td { padding: .4rem .7rem .4rem 0; text-align: right; vertical-align: top;
  border-bottom: 1px solid var(--line); white-space: nowrap; }
thead th { font-weight: 500; color: var(--soft); vertical-align: bottom; }
th:first-child, td:first-child { text-align: left; font-weight: 500; position: sticky; left: 0;
  background: var(--back); }
td.text, th.text { text-align: left; }
tbody tr.control > td { background: var(--tint); }
small { display: block; color: var(--soft); font-size: .8rem; line-height: 1.35; font-weight: 400; }
td > small { white-space: normal; max-width: 9.5rem; margin-left: auto; }
.wrong { color: var(--wrong); font-weight: 500; }
p.wrong { border-left: 3px solid var(--wrong); padding-left: .8rem; }
.flag { color: var(--flag); } .soft { color: var(--soft); }
.swatch { display: inline-block; width: .65em; height: .65em; border-radius: 50%;
  margin-right: .5em; }
figure { margin: 1.2rem 0 2.2rem; }
figure .wide { background: #ffffff; border-radius: 6px; border: 1px solid var(--line); }
figure img { display: block; width: 100%; min-width: 34rem; max-width: 62rem; height: auto;
  margin: 0 auto; padding: .6rem; }
figcaption { margin-top: .5rem; font-size: .9rem; color: var(--soft); max-width: 46rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1.2rem; font-size: .92rem;
  margin: 1rem 0; } dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
"""


def escape(value: Any) -> str:
  """Text as HTML."""
  return html.escape(str(value))


def table(head: Sequence[str], rows: Iterable[tuple[str, Sequence[str]]], left: int = 1) -> str:
  """A table in its own scrolling container; cells are HTML, `left` columns are text."""
  parts = ['<div class="wide"><table><thead><tr>']
  parts += [f'<th{_class("text", i < left)}>{cell}</th>' for i, cell in enumerate(head)]
  parts.append('</tr></thead><tbody>')
  for kind, cells in rows:
    parts.append(f'<tr class="{kind}">' if kind else '<tr>')
    parts += [f'<td{_class("text", i < left)}>{cell}</td>' for i, cell in enumerate(cells)]
    parts.append('</tr>')
  return ''.join(parts) + '</tbody></table></div>'


def _class(name: str, wanted: bool) -> str:
  return f' class="{name}"' if wanted else ''


def small(text: str, style: str = '') -> str:
  """Small print under a cell's number; `style` is a class such as flag or wrong."""
  return f'<small{_class(style, bool(style))}>{escape(text)}</small>' if text else ''


def listed(lines: Iterable[str], style: str = '') -> str:
  """Lines as a list."""
  items = ''.join(f'<li{_class(style, bool(style))}>{escape(line)}</li>' for line in lines)
  return f'<ul>{items}</ul>'
