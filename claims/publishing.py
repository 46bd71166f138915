"""The table of all claims, the page and the page of docs: made of committed records alone."""

import base64
from collections.abc import Iterable, Mapping, Sequence
import io
import json
import pathlib
from typing import Any

import jinja2

from claims import headline, records
from claims.base import FULL, Claim, Verdict
from claims.statements import STATEMENTS

NOT_WRITTEN, NOT_RUN = 'not written', 'not run'


def judged(claim: Claim, folder: pathlib.Path = records.COMMITTED) -> Verdict | None:
  """The verdict of the committed records; None where there are none."""
  path = records.committed(claim, folder)
  return None if path is None else claim.judge(records.read_csv(path))


def rows(
  claims: Mapping[int, Claim], folder: pathlib.Path = records.COMMITTED
) -> list[dict[str, Any]]:
  """A row a statement: number, name, title, claim, verdict (None without records), outcome, what
  the records are of, and the file of the figure (None without one)."""
  made = []
  for number, (name, title) in STATEMENTS.items():
    claim = claims.get(number)
    verdict = claim and judged(claim, folder)
    outcome = NOT_WRITTEN if claim is None else verdict.outcome if verdict else NOT_RUN
    picture = folder / f'{name}.png'
    row = {'number': number, 'name': name, 'title': title, 'claim': claim, 'verdict': verdict}
    row |= {'outcome': outcome, 'about': records.about(folder / f'{name}.csv')}
    made.append(row | {'figure': picture if verdict and picture.is_file() else None})
  return made


def table(made: Iterable[Mapping[str, Any]]) -> str:
  """For a terminal: number, name, outcome, number with its interval."""
  lines = [f'{r["number"]:>2}  {r["name"]:<27} {r["outcome"]:<21} {short(r)}' for r in made]
  return '\n'.join(line.rstrip() for line in lines)


def short(row: Mapping[str, Any]) -> str:
  """The number of a verdict, its interval and unit, or what the statement is."""
  verdict = row['verdict']
  return row['title'] if verdict is None else numbers(verdict)


def numbers(verdict: Verdict) -> str:
  """'0.12 (0.08 to 0.16) bits', '' without a number."""
  if verdict.number is None:
    return ''
  text = f'{verdict.number:.3g}'
  if verdict.interval is not None:
    text += f' ({verdict.interval[0]:.3g} to {verdict.interval[1]:.3g})'
  return f'{text} {verdict.unit}'.strip()


def picture(claim: Claim, path: pathlib.Path) -> bytes:
  """The figure of records, as PNG."""
  target = io.BytesIO()
  made = claim.figure(records.read_csv(path))
  made.savefig(target, format='png', dpi=100, metadata={'Software': None})
  return target.getvalue()


def commit(claim: Claim, path: pathlib.Path, folder: pathlib.Path = records.COMMITTED) -> None:
  """Takes over full records, what they are of, and their figure, to be committed.

  ValueError: they are of another budget, or can not be judged.
  """
  about = records.about(path)
  if about.get('budget') != FULL:
    raise ValueError(f'{path} are not records of --budget={FULL}')
  claim.judge(records.read_csv(path))
  kept = folder / f'{claim.name}.csv'
  records.write(kept, path.read_bytes())
  records.write(kept.with_suffix('.json'), json.dumps(about, indent=1) + '\n')
  records.write(kept.with_suffix('.png'), picture(claim, kept))


def render(made: Sequence[Mapping[str, Any]], template: str) -> str:
  """A template of ours with the rows of the table; HTML is escaped."""
  environment = jinja2.Environment(
    loader=jinja2.FileSystemLoader(pathlib.Path(__file__).parent / 'templates'),
    autoescape=template.endswith('.html'),
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
  )
  environment.globals |= {'numbers': numbers, 'embedded': _embedded}
  return environment.get_template(template).render(rows=made, counts=counts(made))


def counts(made: Iterable[Mapping[str, Any]]) -> dict[str, int]:
  """How many rows have each outcome, in the order in which they first appear."""
  found: dict[str, int] = {}
  for row in made:
    found[row['outcome']] = found.get(row['outcome'], 0) + 1
  return found


def _embedded(path: pathlib.Path) -> str:
  return 'data:image/png;base64,' + base64.b64encode(path.read_bytes()).decode('ascii')


def publish(claims: Mapping[int, Claim], root: pathlib.Path = records.ROOT) -> list[pathlib.Path]:
  """Writes every figure, the page, the page of docs and, where it can be, its picture; returns
  where the last three are."""
  folder = root / 'experiments' / 'results' / 'claims'
  for claim in claims.values():
    path = records.committed(claim, folder)
    if path is not None:
      records.write(path.with_suffix('.png'), picture(claim, path))
  made = rows(claims, folder)
  page, docs = folder / 'report.html', root / 'docs' / 'claims.md'
  records.write(page, render(made, 'claims.html'))
  records.write(docs, render(made, 'claims.md'))
  drawn = headline.picture(folder)
  if drawn is None:
    return [page, docs]
  records.write(docs.with_suffix('.png'), drawn)
  return [page, docs, docs.with_suffix('.png')]
