"""Statistics over replicates: intervals, and tests of a paired difference.

Below `SEEDS` seeds there are values and their range, no interval and no verdict. From there on a
mean has Student's t interval over seeds, and a difference is tested by pairs: networks of one seed
start from the same parameters, see the same batches and are probed with the same labels.

A verdict is about new seeds, new label draws and new test images, so its interval holds all three
(`crossed_t`), and so does that of an accuracy (`crossed_interval`). Seeds alone would not do: the
images are the same for all of them, and which objective these images happen to favour is a fixed
offset that the spread of seeds can't show.
"""

from collections.abc import Sequence

import numpy as np
import scipy.special  # scipy.stats takes half a second to load, for these two functions

SEEDS = 5
_ROUNDING = 1e-12
Parts = Sequence[tuple[float, int]]  # of a variance: each with its degrees of freedom


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

  For pairs that share nothing: grammars, each with its own labels and test examples. What shares
  test examples needs `crossed_t`.

  Returns:
      {'difference' (mean), 'half_width' (of its interval), 'p' (two-sided)}. If all differences are
      the same number, p is 1 for zero, and the interval is what the variance says; otherwise
      half_width and p are None: nothing then says how far off the next pair may be.

  Raises:
      ValueError: lengths differ, fewer than 2 pairs, or a value that is not finite.
  """
  first, second = _finite(first), _finite(second)
  if len(first) != len(second) or len(first) < 2:
    raise ValueError(f'a paired test needs 2 or more pairs, not {len(first)} and {len(second)}')
  differences = first - second
  variance = differences.var(ddof=1) / len(differences)
  return _tested(differences, [(float(variance), len(differences) - 1)], confidence)


def crossed_t(differences_SxN: np.ndarray, confidence: float = 0.95) -> dict:
  """Tests a mean difference over seeds and test examples that are crossed: all seeds see the same.

  d_sn = delta + a_s + b_n + c_sn: seed s with its own labels, example n, and what is left. The
  mean over both has variance A/S + B/N + C/(S N), A, B and C being the variances of a, b and c.
  The variance of seed means over S estimates A/S + C/(S N), that of example means over N estimates
  B/N + C/(S N), so their sum

      V = var_s(mean_n d) / S + var_n(mean_s d) / N

  is too large by C/(S N), never too small in expectation. The two parts have S - 1 and N - 1
  degrees of freedom, and the interval is that of Banerjee (1960),

      mean +- sqrt(t_(S-1)^2 V_s + t_(N-1)^2 V_n),

  which holds the truth at least as often as it says whatever the two variances are, at any level;
  p is the level at which it ends at zero. Student's t with Satterthwaite's (1946) degrees of
  freedom is near 5 % at the level .05, but at the levels that Holm asks for it is wrong where
  seeds have most of the variance: a V_s that is small by chance counts as one of many degrees. With
  5 seeds it tells equal objectives apart two to three times as often as .05/15 says.

  Power at the level .05 with 300 examples, simulated (tests/test_statistics.py): a difference of
  4.4 points is found in 80, 70 and 47 % of worlds with 5 seeds and little to much seed noise, one
  of 2.4 points in 27, 23 and 15 %; with 10 seeds and middling noise in 93 and 42 %.

  Args:
      differences_SxN: for each seed and test example the share of label draws by which the first
          objective is right minus the second's, in [-1, 1].
      confidence: of the interval.

  Returns:
      {'difference', 'half_width', 'p'} as `paired_t`, and 'seed_error' and 'example_error', the
      roots of the two parts of V. Where the seeds all have the same difference p is 1 for zero, its
      interval that over examples, and None otherwise, as there.

  Raises:
      ValueError: fewer than 2 seeds or examples, or a value that is not finite.
  """
  by_seed, parts = _crossed(differences_SxN)
  seed_error, example_error = (variance**0.5 for variance, _ in parts)
  errors = {'seed_error': seed_error, 'example_error': example_error}
  return _tested(by_seed, parts, confidence) | errors


def crossed_interval(values_SxN: np.ndarray, confidence: float = 0.95) -> list[float]:
  """[low, high] of the mean of one objective over seeds and test examples, as `crossed_t` has it.

  Args:
      values_SxN: for each seed and test example the share of label draws that were right.
      confidence: of the interval.

  Raises:
      ValueError: as `crossed_t`.
  """
  by_seed, parts = _crossed(values_SxN)
  mean, half = float(by_seed.mean()), _banerjee(parts, 1 - confidence)
  return [mean - half, mean + half]


def _crossed(values_SxN: np.ndarray) -> tuple[np.ndarray, Parts]:
  """Means by seed, and the two parts of V of `crossed_t`."""
  d = np.asarray(values_SxN, np.float64)
  if d.ndim != 2 or min(d.shape) < 2 or not np.isfinite(d).all():
    raise ValueError(f'a crossed test needs finite (seeds, examples) from 2 x 2, not {d.shape}')
  means = d.mean(1), d.mean(0)
  return means[0], [(float(m.var(ddof=1)) / len(m), len(m) - 1) for m in means]


def _banerjee(parts: Parts, level: float) -> float:
  """Half of the interval that leaves out `level`: of one part Student's."""
  return float(sum(v * scipy.special.stdtrit(n, level / 2) ** 2 for v, n in parts) ** 0.5)


def _p(size: float, parts: Parts) -> float:
  """The level at which half of the interval is `size`, to nine digits."""
  t = size / sum(variance for variance, _ in parts) ** 0.5
  low, high = sorted(t_tail(t, degrees) for degrees in (parts[0][1], parts[-1][1]))
  while high > low * (1 + 1e-9):
    middle = (low * high) ** 0.5 if low > 0 else high / 2
    if not low < middle < high:
      break
    low, high = (low, middle) if _banerjee(parts, middle) < size else (middle, high)
  return high


def _tested(differences: np.ndarray, parts: Parts, confidence: float) -> dict:
  """The test of the mean of independent differences, whose variance has these parts."""
  mean, half = float(differences.mean()), _banerjee(parts, 1 - confidence)
  # Means of the same counts differ by rounding alone.
  if np.ptp(differences) > _ROUNDING * max(1.0, np.abs(differences).max()):
    return {'difference': mean, 'half_width': half, 'p': _p(abs(mean), parts)}
  same = {'half_width': half, 'p': 1.0} if abs(mean) <= _ROUNDING else {}
  return {'difference': mean, 'half_width': None, 'p': None} | same


def t_tail(t: float, degrees: float) -> float:
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


def _half_width(values: np.ndarray, confidence: float) -> float:
  error = values.std(ddof=1) / np.sqrt(len(values))
  return float(scipy.special.stdtrit(len(values) - 1, (1 + confidence) / 2) * error)


def _finite(values: Sequence[float]) -> np.ndarray:
  values = np.asarray(values, np.float64)
  if values.ndim != 1 or not values.size or not np.isfinite(values).all():
    raise ValueError('statistics over seeds need finite values, one a seed')
  return values
