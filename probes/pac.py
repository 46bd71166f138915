r"""A certificate on the linear probe's error: a bound that holds with probability 1 - delta.

A probe whose p parameters are written with b bits each is one of 2^(b p) classifiers. If those were
fixed before the n labelled examples S were drawn, then for each of them, with true error e and
error \hat e on S, Chernoff's inequality gives P(kl(\hat e || e) >= c, \hat e < e) <= exp(-n c), and
the sum over all classifiers that could have come out of the fit (Occam's razor) that

    kl(\hat e || e) <= (b p ln 2 + ln(layers . l2 . bits . ranges . choices) + ln(1/delta)) / n

holds for all of them at once with probability 1 - delta, so also for the one that S chose. Here
kl(q || e) = q ln(q/e) + (1-q) ln((1-q)/(1-e)) and the bound is the largest e that satisfies it.
Fit, layer, bits and range may therefore all be chosen on S itself, by the bound: no validation is
spent. (A range only scales all weights and an l2 only picks among classifiers that are counted
already, so neither would have to be paid for; together they cost 3 nats.)

What makes it honest: S holds examples that pretraining never saw, the same for every row of a
table, so that layers do not depend on them. A network chosen among several by these examples pays
for that in `choices`, be it by their labels or, as validation loss does for learning rates and
checkpoints, by their inputs; what a report chooses later it adds (`reports.certificates`).
Quantisation levels are declared; standardisation comes from other examples; and test is not used at
all, except to print the very same classifier's test error beside its bound. It is a statement about
fresh examples from the source of S (whose rows must be independent, but may be so many of each
class: Hoeffding, 1956), for one network: delta is not shared out over a table's rows.

Logits do not change if every class has the same vector subtracted, so the last class's parameters
are zero and cost nothing: p = (K - 1)(D + 1).
"""

from collections.abc import Iterator

import ml_collections
import numpy as np
from scipy import special

from probes import layers, logistic, selection
from probes.features import SPLITS, Features

HELD_OUT = 10  # One in so many train examples standardises where no other split can.
DECIMALS = 9  # Logits are compared to so many: equal ones stay so in any order of summation.


def evaluate(
  features: Features, config: ml_collections.ConfigDict, seed: int
) -> tuple[dict, dict[str, np.ndarray]]:
  """The lowest bound over layers, l2, bits and ranges.

  Args:
    features: S is every split in `features.unseen` other than test; `features.choices` networks
      among which S chose this one.
    config: delta; l2, bits, ranges (grids; weights are clipped to [-range, range]); choices, by
      which that is multiplied: what else S chose among.
    seed: of the train examples held out of S for standardisation, where S has both splits.

  Returns:
    results: {'all': cell} with bound (at most 1), vacuous (bound at least as large as
      majority_error, the error on S of guessing its commonest class), error (test error of the
      same classifier), train_error (on S), layer, l2, bits, range, n (examples in S), parameters
      (p), delta, choices (the product), complexity_nats (what n kl may reach, ln(1/delta) and
      choices included), majority_error, and by_layer_bound, by_layer_train_error and
      by_layer_complexity_nats, of the lowest bound of each layer.
    arrays: 'all/predictions' (N_test,) int32.
    Both are empty where pretraining saw every split but test.

  Raises:
    ValueError: features that are not finite, labels outside [0, classes), a fit that cannot be
      certified, settings that are out of range.
  """
  choices = config.choices * features.choices
  sample = tuple(split for split in SPLITS if split in features.unseen and split != 'test')
  if not sample:
    return {}, {}
  selection.check(features, SPLITS)
  _check(config)
  x, labels, mean, scale = _sample(features, sample, seed)  # (layers, n, D), (n,)
  fits = features.once(lambda: logistic.fit(x, labels, config.l2, classes=features.classes))
  best, by_layer = None, []
  for layer, weights, bias in zip(range(len(x)), fits.weights, fits.bias, strict=True):
    found = _lowest(x[layer], labels, pinned(weights, bias), len(x) * choices, config)
    by_layer.append(found)
    key = (found['bound'], found['cross_entropy'])
    if best is None or key < (best['bound'], best['cross_entropy']):
      best = {**found, 'layer': layer}
  layer, theta = best['layer'], best['theta']
  test = selection.standardise(features.test[layer], mean[layer], scale[layer])
  predictions = classify(scores(test, theta)).astype(np.int32)
  majority = 1 - np.bincount(labels).max() / len(labels)
  result = {
    'bound': best['bound'],
    'vacuous': bool(best['bound'] >= majority),
    'error': float((predictions != features.labels_test).mean()),
    'train_error': best['train_error'],
    'layer': layer,
    'l2': best['l2'],
    'bits': best['bits'],
    'range': best['range'],
    'n': len(labels),
    'parameters': theta.size,
    'delta': float(config.delta),
    'choices': int(choices),
    'complexity_nats': best['complexity_nats'],
    'majority_error': float(majority),
    **{
      f'by_layer_{name}': [found[name] for found in by_layer]
      for name in ('bound', 'train_error', 'complexity_nats')
    },
  }
  return {'all': result}, {'all/predictions': predictions}


def invert_kl(train_error: float, budget: float) -> float:
  """The largest e with kl(train_error || e) <= budget (nats), by bisection, rounded up.

  Raises:
    ValueError: an error outside [0, 1], or a negative budget.
  """
  if not (0 <= train_error <= 1 and budget >= 0):
    raise ValueError(f'no error {train_error} with a budget of {budget} nats')
  low, high = float(train_error), 1.0
  while low < (middle := (low + high) / 2) < high:
    kl = special.rel_entr(train_error, middle) + special.rel_entr(1 - train_error, 1 - middle)
    low, high = (middle, high) if kl <= budget else (low, middle)
  return high


def complexity(parameters: int, bits: int, others: int, config: ml_collections.ConfigDict) -> float:
  """b p ln 2 + ln(others . l2 . bits . ranges) + ln(1 / delta), in nats.

  `others` are layers . choices.
  """
  grid = others * len(config.l2) * len(config.bits) * len(config.ranges)
  return float(bits * parameters * np.log(2) + np.log(grid) - np.log(config.delta))


def quantise(values: np.ndarray, bits: int, width: float) -> np.ndarray:
  """The nearest of 2^bits levels, evenly spaced from -width to width, both included."""
  step = 2 * width / (2**bits - 1)
  index = np.clip(np.rint((values + width) / step), 0, 2**bits - 1)
  return index * step - width


def pinned(weights: np.ndarray, bias: np.ndarray) -> np.ndarray:
  """Parameters (..., K-1, D+1), the bias last, less the last class's: the same predictions."""
  theta = np.concatenate([weights, bias[..., None]], -1)
  return theta[..., :-1, :] - theta[..., -1:, :]


def scores(x_NxD: np.ndarray, theta: np.ndarray) -> np.ndarray:
  """Logits (..., N, K) of pinned parameters (..., K-1, D+1); the last class's are zero."""
  logits = logistic.logits(x_NxD, theta[..., :-1], theta[..., -1])
  return np.concatenate([logits, np.zeros_like(logits[..., :1])], -1)


def classify(logits: np.ndarray) -> np.ndarray:
  """The class of the highest logit (..., N), the first of those that tie."""
  return logits.round(DECIMALS).argmax(-1)


def _lowest(
  x_NxD: np.ndarray,
  labels_N: np.ndarray,
  theta_JxKxD: np.ndarray,
  others: int,
  config: ml_collections.ConfigDict,
) -> dict:
  """The lowest bound of one layer; ties go to the lower cross-entropy on S, then to the first."""
  best = None
  for candidate in _candidates(x_NxD, labels_N, theta_JxKxD, config):
    nats = complexity(candidate['theta'].size, candidate['bits'], others, config)
    bound = invert_kl(candidate['train_error'], nats / len(labels_N))
    key = (bound, candidate['cross_entropy'])
    if best is None or key < (best['bound'], best['cross_entropy']):
      best = {**candidate, 'bound': bound, 'complexity_nats': nats}
  return best


def _candidates(x_NxD, labels_N, theta_JxKxD, config) -> Iterator[dict]:
  """For every number of bits and l2 the range with the lowest error on S: bounds rise with it."""
  ranges = np.asarray(config.ranges, np.float64)
  for bits in config.bits:
    for l2, theta in zip(config.l2, theta_JxKxD, strict=True):
      coarse = np.stack([quantise(theta, bits, width) for width in ranges])
      logits = scores(x_NxD, coarse)  # (ranges, n, K)
      errors = (classify(logits) != labels_N).mean(-1)
      nats = logistic.cross_entropy(logits, labels_N).mean(-1)
      i = int(np.lexsort((nats, errors))[0])
      yield {
        'theta': coarse[i],
        'train_error': float(errors[i]),
        'cross_entropy': float(nats[i]),
        'bits': int(bits),
        'range': float(ranges[i]),
        'l2': float(l2),
      }


def _sample(
  features: Features, sample: tuple[str, ...], seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
  """S standardised by examples outside S: (layers, n, D), labels, mean and scale (layers, 1, D).

  Mean and scale come from the other split's features, or, where S has both, from a tenth of train,
  which is taken out of S. No label is looked at.
  """
  rows = {split: np.arange(len(getattr(features, f'labels_{split}'))) for split in sample}
  if len(sample) == 1:
    (other,) = {'train', 'validation'} - set(sample)
    outside = getattr(features, other)
  else:
    order = np.random.default_rng(seed).permutation(len(rows['train']))
    count = -(-len(order) // HELD_OUT)
    outside = features.train[:, np.sort(order[:count])]
    rows['train'] = np.sort(order[count:])
  mean, scale = layers.moments(outside)
  x = np.concatenate([getattr(features, split)[:, rows[split]] for split in sample], 1)
  labels = np.concatenate([getattr(features, f'labels_{s}')[rows[s]] for s in sample])
  return selection.standardise(x, mean, scale), labels, mean, scale


def _check(config: ml_collections.ConfigDict) -> None:
  if not 0 < config.delta < 1:
    raise ValueError(f'pac.delta must be between 0 and 1, not {config.delta}')
  if not config.bits or min(config.bits) < 1 or not config.ranges or min(config.ranges) <= 0:
    raise ValueError('pac.bits and pac.ranges must be positive, and not empty')
  if config.choices < 1:
    raise ValueError(f'pac.choices must be at least 1, not {config.choices}')
