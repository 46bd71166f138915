"""What a claim is. One file a claim, one line in `claims/__init__.py`.

A file makes `CLAIM = Claim(...)`; its number and name stand in `claims/statements.py`.

- `plan(budget)` says what to run, 'quick' or 'full': training runs (`claims/sets.py` has those that
  several claims share: the same settings are the same directory, trained once) and pieces, which
  are functions of the claim's file that return rows. Both are processes of their own, side by side,
  and resume.
- `read(run)` makes rows of a finished training run; the columns of its tags are put in front.
- `judge(records)` is a pure function of all rows, read back from CSV (`claims/judging.py` has the
  tests): which outcome, with its number and interval. It sees nothing else, needs no JAX, and must
  be able to reach every outcome; tests show it on made-up records of either outcome and on a null.
- `figure(records)` draws them (`reports/canvas.py`).
- `threshold` says in words what decides, before there are records; `looked_at` what had been seen
  by then.

Rows are dicts of plain numbers and strings, as many columns as the claim needs: a column `seed`
(which is also the grammar of a hierarchy), what tells the runs apart, `measure` and `value`. Rows
of what a run did to every test example pack them into one text column (`packed`, `unpacked`).

`python -m launch.claims --claim=NAME --workdir=DIR --budget=quick` tries all of it. Afterwards
`python -m launch.claims --publish` writes docs/claims.md and the page anew, also after a merge:
they are generated.

A module here imports JAX, `runs` and `codes` inside the functions that need them: judging a clean
clone starts without.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
import dataclasses
import functools
import math
from typing import Any

import numpy as np
import pandas as pd

from claims.sets import Spec
from claims.statements import STATEMENTS
from reports import reading

HOLDS, FAILS, DEPENDS = 'holds', 'fails', 'depends'
INDISTINCT, CANT = 'not distinguishable', "can't decide"
OUTCOMES = (HOLDS, FAILS, INDISTINCT, DEPENDS, CANT)
QUICK, FULL = 'quick', 'full'
BUDGETS = (QUICK, FULL)
SEEDS = {QUICK: 2, FULL: 5}

Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Verdict:
  """What the records say of a claim.

  Attributes:
    outcome: one of OUTCOMES.
    number: the one that decides; None where there is none.
    interval: its 95 % interval; None where it is exact, or has none.
    unit: what the number is, as in 'points of accuracy, untrained less trained on noise'.
    text: a few sentences: what was found, what an outcome that depends depends on, for which sizes.
    overturn: what would overturn it.
  """

  outcome: str
  number: float | None
  interval: tuple[float, float] | None
  unit: str
  text: str
  overturn: str

  def __post_init__(self):
    if self.outcome not in OUTCOMES:
      raise ValueError(f'an outcome is one of {", ".join(OUTCOMES)}, not {self.outcome}')
    numbers = [self.number, *(self.interval or ())]
    if not all(math.isfinite(number) for number in numbers if number is not None):
      raise ValueError(f'a verdict has finite numbers, not {numbers}')


@dataclasses.dataclass(frozen=True)
class Finished:
  """A finished training run of a plan."""

  spec: Spec
  workdir: str

  @functools.cached_property
  def record(self) -> dict[str, Any]:
    """The content of run.json."""
    return reading.read_json(f'{self.workdir}/run.json')

  @functools.cached_property
  def config(self) -> dict[str, Any]:
    """Every field, by section."""
    return reading.read_json(f'{self.workdir}/config.json')['config']

  @functools.cached_property
  def curve(self) -> list[dict]:
    """The lines of metrics.jsonl, by step."""
    return reading.read_curve(self.workdir)

  def arrays(self, *names: str) -> dict[str, np.ndarray]:
    """Those of the named arrays that it saved, such as 'nats'."""
    return reading.read_arrays(self.workdir, names)


@dataclasses.dataclass(frozen=True)
class Work:
  """What a piece is given: its finished runs in the order it named them, and prepared data sets."""

  runs: tuple[Finished, ...]
  data_dir: str


@dataclasses.dataclass(frozen=True)
class Piece:
  """An evaluation that is a process of its own and leaves rows; of some ten to hundred seconds.

  Attributes:
    name: for people, told apart by it in the claim's plan.
    make: a function of the claim's module, called `make(work, **settings)`, that returns rows.
    settings: plain numbers, strings and tuples of them. Changed settings are another piece; changed
      code is not noticed: remove WORKDIR/pieces/NAME-* by hand.
    of: the training runs that it opens.
  """

  name: str
  make: Callable[..., Iterable[Row]]
  settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  of: tuple[Spec, ...] = ()


@dataclasses.dataclass(frozen=True)
class Plan:
  """What has to be there before a claim is judged."""

  runs: tuple[Spec, ...] = ()
  pieces: tuple[Piece, ...] = ()

  @property
  def all_runs(self) -> tuple[Spec, ...]:
    """Every training run, those of pieces too, each once."""
    return tuple(dict.fromkeys((*self.runs, *(spec for piece in self.pieces for spec in piece.of))))


@dataclasses.dataclass(frozen=True)
class Claim:
  """One statement of the theory, and what decides it.

  Attributes:
    number: its row in the table.
    statement: in a sentence of ours.
    source: which part of the theory it comes from.
    plan: budget -> what to run.
    judge: all rows -> Verdict, a pure function.
    figure: all rows -> matplotlib figure.
    threshold: what decides, in words, written before there were records.
    looked_at: what had been looked at by then.
    read: a finished run of `plan(...).runs` -> rows.
    pod: the command, or plan, for a larger machine; '' where two cores do.
  """

  number: int
  statement: str
  source: str
  plan: Callable[[str], Plan]
  judge: Callable[[pd.DataFrame], Verdict]
  figure: Callable[[pd.DataFrame], Any]
  threshold: str
  looked_at: str
  read: Callable[[Finished], Iterable[Row]] | None = None
  pod: str = ''

  @property
  def name(self) -> str:
    return STATEMENTS[self.number][0]

  @property
  def title(self) -> str:
    return STATEMENTS[self.number][1]


def seeds(budget: str) -> range:
  """Of a plan: 5 for a verdict, 2 for trying."""
  return range(SEEDS[budget])


def packed(values: Sequence[float]) -> str:
  """One text of a number for every test example, to five digits."""
  return ' '.join(f'{value:.5g}' for value in values)


def unpacked(text: str) -> np.ndarray:
  """The inverse of `packed`."""
  return np.array(text.split(), np.float64)
