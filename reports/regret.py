"""Regret: bits above the true entropy, and the compute that objectives need for the same regret.

Only for sources whose law is known. Regret below zero beyond its standard error can't be a result;
it is reported as an error.
"""

from collections.abc import Mapping, Sequence
import math

from reports import choice
from reports.reading import Curves

CURVE = 'validation/regret_bits_per_dim'
# Standard errors below the truth from which a number is called wrong.
IMPOSSIBLE = 3.0
# Float32 leaves about this much (bits per dimension) where there is no sampling error at all.
_ROUNDING = 1e-5
Point = tuple[float, float]


# Numbers that can't be true.


def errors_of(run: Mapping) -> list[str]:
  """A sentence for each number of a run that is below what the source allows."""
  entropy = next(
    (truth['entropy_bits_per_dim'] for truth in (run.get('truth') or {}, *_truths_of_also(run))
     if truth.get('entropy_bits_per_dim') is not None), None,
  )  # fmt: skip
  measured = []
  for name, code in {'its code': run, **(run.get('also') or {})}.items():
    truth = code.get('truth') or {}
    measured.append((f'regret by {name}', truth.get('regret_bits_per_dim'),
                     truth.get('regret_stderr')))  # fmt: skip
    bits = code.get('bits_per_dim')
    excess = None if None in (bits, entropy) else bits - entropy
    measured.append((f'bits by {name}', excess, code.get('bits_per_dim_stderr')))
  found = []
  for name, value, stderr in measured:
    if value is None or value >= -max(IMPOSSIBLE * (stderr or 0.0), _ROUNDING):
      continue
    distance = f' ({-value / stderr:.1f} standard errors)' if stderr else ''
    found.append(
      f'{run["objective"]}, {choice.replicate_text(choice.replicate(run))}: {name}: {-value:.4f} '
      f'bits per dimension below the true entropy{distance}. That is impossible: the code or its '
      'evaluation is wrong.'
    )
  return found


def _truths_of_also(run: Mapping) -> list[Mapping]:
  return [code.get('truth') or {} for code in (run.get('also') or {}).values()]


# Compute to equal regret.


def curve(points: Sequence[Mapping]) -> list[Point]:
  """(FLOPs, regret) of a training curve, by FLOPs, where both can stand on a log axis."""
  pairs = [(point.get('flops'), point.get(CURVE)) for point in points]
  return sorted((x, y) for x, y in pairs if x and y is not None and x > 0 and y > 0)


def envelope(points: Sequence[Point]) -> list[Point]:
  """The lowest regret reached so far, at each point."""
  lowest, made = math.inf, []
  for x, y in points:
    lowest = min(lowest, y)
    made.append((x, lowest))
  return made


def compute_to_reach(points: Sequence[Point], target: float) -> float | None:
  """FLOPs at which the envelope first falls to `target`, straight lines between logarithms.

  None where it stays above, or starts at or below it: no more than what was measured is said.
  """
  made = envelope(points)
  for (x0, y0), (x1, y1) in zip(made, made[1:], strict=False):
    if y1 <= target < y0:
      share = math.log(y0 / target) / math.log(y0 / y1)
      return math.exp(math.log(x0) + share * math.log(x1 / x0))
  return None


def lowest_common(pairs: Sequence[tuple[list[Point], list[Point]]], floor: float) -> float | None:
  """The lowest regret that every curve reaches, not below `floor`; None without any curve.

  Pairs of which one has no curve can't be compared at any regret and have no say.
  """
  curves = [points for pair in pairs if all(pair) for points in pair]
  return max((floor, *(envelope(points)[-1][1] for points in curves))) if curves else None


def equal_regret(runs: Sequence[Mapping], curves: Curves) -> list[dict]:
  """FLOPs of each objective relative to the reference at the lowest regret that both reach.

  The reference of a size is its first objective whose regret is exact. Replicates are paired; all
  of a pair of objectives are compared at one regret, which all of them reach and which is not
  below `IMPOSSIBLE` standard errors of the final regret, since less is not told from zero.

  Args:
    runs: selected runs, in the order of the report.
    curves: training curves by workdir.

  Returns:
    One entry an objective and size: objective, size, reference, regret, ratio (geometric mean) with
    minimum and maximum, compared (how many replicates have a ratio), replicates (how many both
    objectives were trained on), and ratios, {'grammar', 'seed', 'ratio'} by replicate.
  """
  groups: dict[tuple, dict] = {}
  for run in runs:
    if run.get('truth') and run.get('trained', True):
      kind = (run.get('size'), run['objective'])
      groups.setdefault(kind, {})[choice.replicate(run)] = run
  references: dict = {}
  for (size, _), members in groups.items():
    if all(run['truth'].get('kind') == 'exact' for run in members.values()):
      references.setdefault(size, members)
  made = []
  for (size, objective), members in groups.items():
    reference = references.get(size)
    if reference is not None and reference is not members:
      made.append({'objective': objective, 'size': size} | _compare(reference, members, curves))
  return made


def _compare(reference: Mapping, members: Mapping, curves: Mapping) -> dict:
  """Both arguments are runs by replicate."""
  common = sorted(set(reference) & set(members), key=choice.replicate_order)
  pairs = [tuple(curve(curves.get(by[kind]['workdir'], ())) for by in (reference, members))
           for kind in common]  # fmt: skip
  stderrs = [by[kind]['truth'].get('regret_stderr') or 0.0
             for kind in common for by in (reference, members)]  # fmt: skip
  target = lowest_common(pairs, IMPOSSIBLE * max(stderrs, default=0.0))
  ratios = []
  for kind, (base, own) in zip(common, pairs, strict=True):
    needed = [
      None if target is None else compute_to_reach(points, target) for points in (base, own)
    ]
    ratio = None if None in needed else needed[1] / needed[0]
    ratios.append({'grammar': kind[0], 'seed': kind[1], 'ratio': ratio})
  known = [entry['ratio'] for entry in ratios if entry['ratio'] is not None]
  mean = math.exp(math.fsum(map(math.log, known)) / len(known)) if known else None
  return {
    'reference': next(iter(reference.values()))['objective'],
    'regret': target if known else None,
    'ratio': mean,
    'minimum': min(known, default=None),
    'maximum': max(known, default=None),
    'compared': len(known),
    'replicates': len(common),
    'ratios': ratios,
  }
