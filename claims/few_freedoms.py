"""Claim 2: what low training error says of test error, by degrees of freedom an example."""

from collections.abc import Iterator, Mapping
import math

import numpy as np
import pandas as pd

from claims import drawing, judging, sets
from claims.base import (
  DEPENDS,
  FAILS,
  HOLDS,
  INDISTINCT,
  QUICK,
  Claim,
  Piece,
  Plan,
  Row,
  Verdict,
  Work,
  seeds,
)
from claims.judging import Test
from reports import canvas

DIMS = (2, 4, 8, 16, 32, 64)
EXAMPLES = (50, 100, 200, 400)
TEST = 200
# Errors as shares of what guessing errs, so that tasks of two classes and of ten mean the same.
LOW = 0.2  # training error
GAP = 0.5  # between test and training error
TENTH = 0.1  # degrees of freedom an example
FEW, NEARLY, MANY = 'a tenth or less', 'a tenth to one', 'one or more'
BITS, DELTA = 8, 0.05  # of Hoeffding's bound: bits a parameter, chance that it does not hold


def plan(budget: str) -> Plan:
  sizes = {'dims': DIMS, 'examples': EXAMPLES}
  if budget == QUICK:
    sizes = {'dims': DIMS[1::2], 'examples': EXAMPLES[::2]}
  pieces = [
    Piece(f'fits-{seed}', fits, sizes, (sets.digits('autoregressive', seed, budget),))
    for seed in seeds(budget)
  ]
  return Plan(pieces=tuple(pieces))


def fits(work: Work, dims: tuple[int, ...], examples: tuple[int, ...]) -> Iterator[Row]:
  """Training and test error of linear classifiers on main components of the middle layer.

  Of images that pretraining did not see, which every seed parts anew; true labels and random ones.
  """
  from runs import finished

  (one,) = work.runs
  built, params = finished.opened(one.workdir, work.data_dir)
  seed = one.spec.seed
  dataset, layer = built.probe_dataset, built.model.layers // 2

  def features(split: str) -> np.ndarray:
    found = built.features(params, getattr(dataset, split).tokens_NxT)[layer]
    return np.asarray(found, np.float64)

  seen, unseen = features('train'), np.concatenate([features(s) for s in ('validation', 'test')])
  labels = np.concatenate([dataset.validation.labels_N, dataset.test.labels_N])
  rng = np.random.default_rng((0x66726565, seed))
  order = rng.permutation(len(unseen))
  x_NxD = components(seen, unseen)[order]
  for task, y_N in tasks(labels[order], rng):
    for row in fitted(x_NxD, y_N, dims, examples):
      yield {'seed': seed, **task, **row}


def components(seen_MxD: np.ndarray, unseen_NxD: np.ndarray) -> np.ndarray:
  """The unseen rows on the main components of the seen ones, each scaled to their spread."""
  mean = seen_MxD.mean(0)
  _, spread_D, axes_DxD = np.linalg.svd(seen_MxD - mean, full_matrices=False)
  return (unseen_NxD - mean) @ axes_DxD.T / np.maximum(spread_D / len(seen_MxD) ** 0.5, 1e-6)


def tasks(
  labels_N: np.ndarray, rng: np.random.Generator
) -> Iterator[tuple[dict[str, str], np.ndarray]]:
  """Which of ten digits, and whether it is a given one; with true labels and with random ones."""
  yield {'task': 'ten', 'labels': 'true'}, labels_N
  yield {'task': 'ten', 'labels': 'random'}, rng.integers(0, 10, len(labels_N))
  for digit in range(10):
    yield {'task': 'one', 'labels': 'true'}, (labels_N == digit).astype(int)
  yield {'task': 'one', 'labels': 'random'}, rng.integers(0, 2, len(labels_N))


def fitted(
  x_NxD: np.ndarray, y_N: np.ndarray, dims: tuple[int, ...], examples: tuple[int, ...]
) -> Iterator[Row]:
  """A classifier of each size on the first rows, tested on the last TEST; hardly regularised.

  Degrees of freedom are those of a softmax whose last class is pinned: (classes - 1) (dims + 1).
  """
  from sklearn import linear_model

  guess = 1 - float(np.bincount(y_N).max() / len(y_N))
  for count in examples:
    if len(set(y_N[:count].tolist())) < 2:
      continue
    for size in dims:
      fit = linear_model.LogisticRegression(C=100.0, max_iter=2000)
      fit.fit(x_NxD[:count, :size], y_N[:count])
      train = float(np.mean(fit.predict(x_NxD[:count, :size]) != y_N[:count]))
      test = float(np.mean(fit.predict(x_NxD[-TEST:, :size]) != y_N[-TEST:]))
      freedoms = (len(set(y_N.tolist())) - 1) * (size + 1)
      yield {
        'dims': size, 'examples': count, 'freedoms': freedoms, 'train': train, 'test': test,
        'guess': guess, 'measure': 'gap', 'value': test - train,
      }  # fmt: skip


def groups(records: pd.DataFrame) -> dict[str, pd.DataFrame]:
  """Fits of low training error, by degrees of freedom an example."""
  low = records[records['train'] <= LOW * records['guess']]
  share = low['freedoms'] / low['examples']
  return {
    FEW: low[share <= TENTH],
    NEARLY: low[(share > TENTH) & (share < 1)],
    MANY: low[share >= 1],
  }


def typical(found: pd.DataFrame) -> Test:
  """Mean gap of a group's fits as a share of what guessing errs; the largest of several noisy ones
  would be too large."""
  return judging.mean((found['value'] / found['guess']).groupby(found['seed']).mean().astype(float))


def violations(records: pd.DataFrame) -> int:
  """Fits whose gap is above Hoeffding's bound for classes of 2^(BITS freedoms)."""
  nats = BITS * records['freedoms'] * math.log(2) - math.log(DELTA)
  return int((records['value'] > np.sqrt(nats / (2 * records['examples']))).sum())


def judge(records: pd.DataFrame) -> Verdict:
  found = groups(records)
  tests = {name: typical(rows) for name, rows in found.items()}
  few, nearly = tests[FEW], tests[NEARLY]
  short = judging.short(few, nearly)
  if short:
    return short
  if few.below(GAP) and nearly.below(GAP):
    outcome = HOLDS
  elif few.above(GAP):
    outcome = FAILS
  elif few.below(GAP) and nearly.above(GAP):
    outcome = DEPENDS
  else:
    outcome = INDISTINCT
  text = 'Test above training error in % of what guessing errs, mean over fits whose training '
  text += (
    f'error is at most {100 * LOW:g} % of that, by degrees of freedom an example: {_told(tests)}. '
  )
  text += f'{sum(map(len, found.values()))} of {len(records)} fits have so low an error.'
  if outcome == DEPENDS:
    text += ' It depends on how many fewer: with nearly as many as examples random labels are '
    text += 'learnt by heart.'
  text += f" Hoeffding's bound at {BITS} bits a degree of freedom is broken by "
  text += f'{violations(records)} fits.'
  return Verdict(
    outcome,
    100 * few.mean,
    (100 * few.low, 100 * few.high),
    '% of what guessing errs, test above training error with a tenth of a degree of freedom an '
    'example or less',
    text,
    'A class of few degrees of freedom and low training error whose test error is high, such as '
    'one whose parameters have many bits that matter.',
  )


def _told(tests: Mapping[str, Test]) -> str:
  return ', '.join(f'{name} {test.text(100, 1)}' for name, test in tests.items() if test.seeds > 1)


def figure(records: pd.DataFrame):
  made, (axis,) = drawing.panels(1, 2.8)
  low = records[records['train'] <= LOW * records['guess']]
  kinds = low.groupby(['task', 'labels'])
  for place, ((task, labels), rows) in enumerate(kinds):
    x = rows['freedoms'] / rows['examples']
    drawing.series(
      axis,
      x,
      rows['value'] / rows['guess'],
      place,
      f'{task}, {labels} labels',
      linestyle='',
      alpha=0.6,
    )
  for x in (TENTH, 1):
    axis.axvline(x, color='black', linewidth=0.6, linestyle='--')
  axis.axhline(GAP, color='black', linewidth=0.6, linestyle='--')
  axis.set_xscale('log')
  canvas.tidy(axis, 'degrees of freedom an example', 'gap, of what guessing errs', percent='y')
  axis.legend(fontsize=7, frameon=False)
  return made


CLAIM = Claim(
  number=2,
  statement='Low training error with fewer degrees of freedom than examples gives low test error.',
  source='Supervised learning: why it must work.',
  plan=plan,
  judge=judge,
  figure=figure,
  threshold='Linear classifiers on 2 to 64 main components of the middle layer of an '
  'autoregressive network, 50 to 400 digits, which one of ten and whether it is a given one, true '
  'and random labels; 5 seeds. Errors are shares of what guessing the commonest class errs. Over '
  'fits with a training error of at most 20 % the mean test less training error. Holds: its 95 % '
  'interval is below 50 % both for a tenth of a degree of freedom an example or less and for a '
  'tenth to one. Depends (on how many fewer): below for the former, above for the latter. Fails: '
  'above for the former. Else not distinguishable.',
  looked_at="Cover's theorem, that random labels of two classes are separable up to two examples a "
  'degree of freedom. The pilot of seed 100, parted six ways, when the limit was 10 points of the '
  'largest gap: as many as guessing errs where the question is whether it is a given digit, so '
  'that nothing was decided; hence shares and means, and ten digits in place of one.',
)
