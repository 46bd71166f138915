"""What judges share: paired differences with intervals, and which side of a threshold they are on.

Seeds of a hierarchy are grammars with labels and test examples of their own: `paired`. Seeds of
digits see the same test images, so that accuracies are tested over both, `crossed`, as
`reports.differences` does. Where a judge looks at several pairs, `adjusted` gives Holm's p values;
where any of k intervals beyond a threshold would decide, they leave out LEVEL / k each.
"""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any

import numpy as np
import pandas as pd

from claims.base import CANT, Verdict, unpacked
from reports import statistics

LEVEL = 0.05


@dataclasses.dataclass(frozen=True)
class Test:
  """A mean over seeds, of differences where two things are compared, and its 95 % interval.

  Attributes:
    mean: of the seeds.
    low, high: the interval; equal to `mean` where all seeds have the same number, which is then
      exact as far as these seeds can tell.
    p: two-sided, of mean 0; 0 where all seeds have the same number that is not 0.
    seeds: how many.
  """

  mean: float
  low: float
  high: float
  p: float
  seeds: int

  def above(self, threshold: float) -> bool:
    """Whether all of the interval is."""
    return self.low > threshold

  def below(self, threshold: float) -> bool:
    return self.high < threshold

  def inside(self, low: float, high: float) -> bool:
    """Whether the whole interval lies strictly between: equivalence within a margin."""
    return low < self.low and self.high < high

  @property
  def interval(self) -> tuple[float, float]:
    return self.low, self.high

  @property
  def enough(self) -> bool:
    return self.seeds >= statistics.SEEDS

  def text(self, scale: float = 1.0, digits: int = 3) -> str:
    """'0.120 (0.080 to 0.160, 5 seeds)'."""
    mean, low, high = (f'{scale * one:.{digits}f}' for one in (self.mean, self.low, self.high))
    return f'{mean} ({low} to {high}, {self.seeds} seeds)'


def rows(records: pd.DataFrame, **where: Any) -> pd.DataFrame:
  """The rows whose columns hold these values, or one of a tuple of them."""
  for name, value in where.items():
    if name not in records:
      return records.iloc[:0]
    column = records[name]
    records = records[column.isin(value) if isinstance(value, tuple) else column == value]
  return records


def by_seed(records: pd.DataFrame, **where: Any) -> pd.Series:
  """The mean value of every seed, over the rows of `where`."""
  found = rows(records, **where)
  if found.empty:
    return pd.Series(dtype=float)
  return found.groupby('seed')['value'].mean().astype(float)


def mean(values: pd.Series, level: float = LEVEL) -> Test:
  """The mean over seeds and its t interval; `level` is what the interval leaves out."""
  return _paired(values.to_numpy(float), np.zeros(len(values)), level)


def paired(first: pd.Series, second: pd.Series, level: float = LEVEL) -> Test:
  """Of first - second, over the seeds that both have, by a paired t test; `level` as in `mean`."""
  common = first.index.intersection(second.index)
  return _paired(first[common].to_numpy(float), second[common].to_numpy(float), level)


def paired_where(
  records: pd.DataFrame, first: Mapping[str, Any], second: Mapping[str, Any], **both: Any
) -> Test:
  """`paired` of the rows that have `both` and the one or the other."""
  return paired(by_seed(records, **both, **first), by_seed(records, **both, **second))


def crossed(first: pd.DataFrame, second: pd.DataFrame, level: float = LEVEL) -> Test:
  """Of first - second, over seeds and the test examples that they share.

  Args:
    first, second: one row a seed, whose column `each` holds the packed values of every example.
    level: as in `mean`.
  """
  sides = [
    {row['seed']: unpacked(row['each']) for _, row in side.iterrows()} for side in (first, second)
  ]
  common = sorted(set(sides[0]) & set(sides[1]))
  if len(common) < 2:
    return _few(len(common))
  a_SxN, b_SxN = (np.stack([side[seed] for seed in common]) for side in sides)
  return _test(statistics.crossed_t(a_SxN - b_SxN, 1 - level), len(common))


def compared(first: pd.DataFrame, second: pd.DataFrame, level: float = LEVEL) -> Test:
  """`crossed` where all rows hold values of test examples, `paired` over seeds elsewhere."""
  if all('each' in side and side['each'].notna().all() for side in (first, second)):
    return crossed(first, second, level)
  return paired(by_seed(first), by_seed(second), level)


def adjusted(tests: Sequence[Test]) -> list[float]:
  """Holm's p values of several tests of one judge."""
  return [float(p) for p in statistics.holm([test.p for test in tests])] if tests else []


def short(*tests: Test) -> Verdict | None:
  """'Can't decide' where a test has too few seeds; None where all have enough."""
  fewest = min((test.seeds for test in tests), default=0)
  if fewest >= statistics.SEEDS:
    return None
  text = f'{fewest} seeds where {statistics.SEEDS} are needed.'
  return Verdict(CANT, None, None, '', text, 'More seeds.')


def _few(seeds: int) -> Test:
  return Test(0.0, -np.inf, np.inf, 1.0, seeds)


def _paired(first_S: np.ndarray, second_S: np.ndarray, level: float) -> Test:
  if len(first_S) < 2:
    return _few(len(first_S))
  return _test(statistics.paired_t(first_S, second_S, 1 - level), len(first_S))


def _test(found: Mapping[str, Any], seeds: int) -> Test:
  middle = found['difference']
  half = 0.0 if found['half_width'] is None else found['half_width']
  p = 0.0 if found['p'] is None else found['p']
  return Test(middle, middle - half, middle + half, p, seeds)
