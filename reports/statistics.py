"""Statistics over pretraining seeds: intervals, paired tests, and a verdict in words.

Seeds carry the uncertainty. Below `SEEDS` seeds there are values and their range, no interval and
no verdict. From there on: Student's t over seeds with n - 1 degrees of freedom, paired by seed
between two objectives (same seed: same initial parameters, same batches), and Holm's correction
over all pairs of one primary measure that was declared beforehand.
"""

from collections.abc import Mapping, Sequence
import itertools

import numpy as np
import scipy.special  # scipy.stats takes half a second to load, for these two functions

SEEDS = 5
TOO_FEW = f'fewer than {SEEDS} seeds: no verdict'


def interval(values: Sequence[float], confidence: float = 0.95) -> dict:
  """Mean and t interval over seeds.

  Returns:
      {'seeds', 'mean', 'low', 'high', 'minimum', 'maximum'}; low and high are None below 5 seeds.

  Raises:
      ValueError: no values, or a value that is not finite.
  """
  values = _finite(values)
  half = _half_width(values, confidence) if len(values) >= SEEDS else None
  mean = float(values.mean())
  return {
    'seeds': len(values),
    'mean': mean,
    'low': None if half is None else mean - half,
    'high': None if half is None else mean + half,
    'minimum': float(values.min()),
    'maximum': float(values.max()),
  }


def paired_t(first: Sequence[float], second: Sequence[float], confidence: float = 0.95) -> dict:
  """Paired t test of first - second, n - 1 degrees of freedom.

  Returns:
      {'seeds', 'difference' (mean), 'half_width' (of its interval), 't', 'p' (two-sided)}. If all
      differences are the same number, p is 1 for zero and 0 otherwise.

  Raises:
      ValueError: lengths differ, fewer than 2 pairs, or a value that is not finite.
  """
  first, second = _finite(first), _finite(second)
  if len(first) != len(second) or len(first) < 2:
    raise ValueError(f'a paired test needs 2 or more pairs, not {len(first)} and {len(second)}')
  differences = first - second
  mean, count = differences.mean(), len(differences)
  error = differences.std(ddof=1) / np.sqrt(count)
  if error > 0:
    t = mean / error
  else:
    t = np.copysign(np.inf, mean) if mean else 0.0
  return {
    'seeds': count,
    'difference': float(mean),
    'half_width': _half_width(differences, confidence),
    't': float(t),
    'p': t_tail(abs(t), count - 1),
  }


def t_tail(t: float, degrees: int) -> float:
  """Two-sided p of Student's t, for t >= 0."""
  return float(2 * scipy.special.stdtr(degrees, -t))


def holm(p_values: Sequence[float]) -> np.ndarray:
  """Holm's adjusted p values, in the order given: reject where they are at most the level."""
  p = np.asarray(p_values, np.float64)
  if p.ndim != 1 or not ((p >= 0) & (p <= 1)).all():
    raise ValueError('p values must lie from 0 to 1')
  order = np.argsort(p, kind='stable')
  adjusted = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
  result = np.empty_like(p)
  result[order] = adjusted
  return result


def verdicts(
  values: Mapping[str, Mapping[int, float]],
  *,
  scale: float = 100.0,
  unit: str = 'points',
  decimals: int = 1,
  level: float = 0.05,
) -> list[dict]:
  """A verdict for every pair of objectives on one primary measure.

  Args:
      values: objective -> pretraining seed -> measure. A pair uses the seeds both have.
      scale: factor from the measure to the unit (accuracy to points: 100).
      unit: the unit's name in the sentence.
      decimals: of the numbers in the sentence.
      level: family-wise error rate over the pairs, and 1 - confidence of each pair's interval,
          which is not widened for the number of pairs.

  Returns:
      One dict a pair, in the order of `values`: first, second, seeds, difference and half_width
      (first - second, in the measure's own scale), p, p_holm (all four None below 5 seeds), and
      the verdict, one of 'A > B by 3.1 ± 1.2 points, 5 seeds', 'A and B: not distinguishable, 5
      seeds', 'A and B: fewer than 5 seeds: no verdict'. '>' compares numbers, not merit.

  Raises:
      ValueError: a value that is not finite.
  """
  pairs, tested = [], []
  for first, second in itertools.combinations(values, 2):
    seeds = sorted(set(values[first]) & set(values[second]))
    pair = {'first': first, 'second': second, 'seeds': len(seeds)}
    pair |= dict.fromkeys(('difference', 'half_width', 'p', 'p_holm'))
    pair['verdict'] = f'{first} and {second}: {TOO_FEW}'
    pairs.append(pair)
    if len(seeds) >= SEEDS:
      a, b = ([values[name][seed] for seed in seeds] for name in (first, second))
      test = paired_t(a, b, 1 - level)
      pair |= {key: test[key] for key in ('difference', 'half_width', 'p')}
      tested.append(pair)
  for pair, adjusted in zip(tested, holm([pair['p'] for pair in tested]), strict=True):
    pair['p_holm'] = float(adjusted)
    pair['verdict'] = _sentence(pair, scale, unit, decimals, level)
  return pairs


def _sentence(pair: dict, scale: float, unit: str, decimals: int, level: float) -> str:
  names = (pair['first'], pair['second'])
  if pair['p_holm'] > level:
    return f'{names[0]} and {names[1]}: not distinguishable, {pair["seeds"]} seeds'
  more, less = names if pair['difference'] > 0 else names[::-1]
  size, half = abs(pair['difference']) * scale, pair['half_width'] * scale
  return (
    f'{more} > {less} by {size:.{decimals}f} ± {half:.{decimals}f} {unit}, {pair["seeds"]} seeds'
  )


def _half_width(values: np.ndarray, confidence: float) -> float:
  error = values.std(ddof=1) / np.sqrt(len(values))
  return float(scipy.special.stdtrit(len(values) - 1, (1 + confidence) / 2) * error)


def _finite(values: Sequence[float]) -> np.ndarray:
  values = np.asarray(values, np.float64)
  if values.ndim != 1 or not values.size or not np.isfinite(values).all():
    raise ValueError('statistics over seeds need finite values, one a seed')
  return values
