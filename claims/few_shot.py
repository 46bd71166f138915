"""Claim 30: examples in the context help a network that was trained on text that repeats."""

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

KINDS = tuple(sets.REPEATS)
WORDS, FIXED, NOTHING = KINDS
LENGTHS = (0.1, 0.3, 1.0)  # of training on words
GAIN = 0.5  # bits a label: below, examples do not help
# Above, they help as examples: who knows the labels of a document but not whose they are pays 1.7
# of 4 bits, which is no few-shot behaviour.
BOUND = 2.5
DOCUMENTS, SHOTS = 256, 4
PATTERN, ITEMS, LABELS = 4, 4, 8  # letters of a pattern; items of a document; labels to choose from


def plan(budget: str) -> Plan:
  pieces = []
  for seed in seeds(budget):
    asked = [(kind, length) for kind in KINDS for length in (LENGTHS if kind == WORDS else (1.0,))]
    runs = tuple(sets.repeats('autoregressive', seed, budget, *one) for one in asked)
    pieces.append(Piece(f'shots-{seed}', shots, {'seed': seed}, runs))
  return Plan(pieces=tuple(pieces))


def patterns(rng: np.random.Generator, symbols: int, length: int) -> np.ndarray:
  """Documents that say one pattern over and over, (DOCUMENTS, length)."""
  pattern = rng.integers(0, symbols, (DOCUMENTS, PATTERN))
  return np.tile(pattern, (1, length // PATTERN))


def labelled(rng: np.random.Generator, symbols: int, length: int) -> tuple[np.ndarray, np.ndarray]:
  """Documents of item, label, item, label, ..., a label an item in each document.

  Items are of the first letters of the alphabet, labels of the last LABELS.

  Returns:
    (DOCUMENTS, length), and how often the item of each pair stood there before, (DOCUMENTS,
    length / 2).
  """
  pairs, rows = length // 2, np.arange(DOCUMENTS)[:, None]
  items = np.argsort(rng.random((DOCUMENTS, symbols - LABELS)), 1)[:, :ITEMS]
  labels = rng.integers(symbols - LABELS, symbols, (DOCUMENTS, ITEMS))
  picked = rng.integers(0, ITEMS, (DOCUMENTS, pairs))
  documents = np.stack([items[rows, picked], labels[rows, picked]], -1)
  same = picked[:, :, None] == picked[:, None, :]
  before = np.tril(same, -1).sum(2)
  return documents.reshape(DOCUMENTS, 2 * pairs), before


def shots(work: Work, seed: int) -> Iterator[Row]:
  """Bits a letter of the n-th repetition, and bits a label after n examples of its item."""
  from runs import finished, tokens

  for one in work.runs:
    built, params = finished.opened(one.workdir, work.data_dir)
    nats, rng = tokens.make_nats(built), np.random.default_rng((0x73686F74, seed))
    space = built.space.vocabulary, built.space.length
    steps = built.config.training.steps
    of = {'kind': dict(one.spec.tags)['repeating'], 'seed': seed, 'steps': steps}
    bits = nats(params, patterns(rng, *space)) / np.log(2)
    for number, value in enumerate(bits.reshape(DOCUMENTS, -1, PATTERN).mean((0, 2))):
      yield of | {'measure': 'repetition', 'number': number, 'value': float(value)}
    documents, before = labelled(rng, *space)
    bits = nats(params, documents)[:, 1::2] / np.log(2)
    for number in range(SHOTS + 1):
      value = float(bits[np.minimum(before, SHOTS) == number].mean())
      row = {'measure': 'label', 'number': number, 'uniform': math.log2(space[0])}
      yield of | row | {'value': value}
    yield of | {'measure': 'label code', 'value': float(bits.mean())}


def gain(records: pd.DataFrame, kind: str, steps: int | None = None) -> pd.Series:
  """Bits a label without an example of its item less those with two or more, by seed.

  A network that is wrong and sure of it without examples is counted as if it guessed: to be less so
  is no help.
  """
  own = judging.rows(records, kind=kind, measure='label')
  own = own[own['steps'] == (own['steps'].max() if steps is None else steps)]
  many = own[own['number'] >= 2]
  first = np.minimum(judging.by_seed(own, number=0), own.groupby('seed')['uniform'].max())
  return first - many.groupby('seed')['value'].mean()


def judge(records: pd.DataFrame) -> Verdict:
  nothing = gain(records, NOTHING)
  found = {kind: judging.paired(gain(records, kind), nothing) for kind in (WORDS, FIXED)}
  control = judging.mean(nothing)
  short = judging.short(*found.values(), control)
  if short:
    return short
  words, fixed = found[WORDS], found[FIXED]
  if not control.below(GAIN):
    outcome = FAILS if control.above(GAIN) else INDISTINCT
  elif words.above(BOUND) and fixed.above(BOUND):
    outcome = HOLDS
  elif words.below(GAIN) and fixed.below(GAIN):
    outcome = FAILS
  elif (words.above(BOUND) and fixed.below(GAIN)) or (fixed.above(BOUND) and words.below(GAIN)):
    outcome = DEPENDS
  else:
    outcome = INDISTINCT
  text = 'Bits a label that examples of its item save, above a network trained on text without '
  text += f'repetition: {_told(found)}; without repetition {control.text()}. '
  text += f'By updates, words: {by_steps(records)}.'
  if outcome == DEPENDS:
    text += ' It depends on how text repeats.'
  return Verdict(
    outcome,
    words.mean,
    words.interval,
    'bits a label saved by two or more examples, trained on words that repeat less on none',
    text,
    'A network that learns from examples in its context and was trained on nothing that repeats.',
  )


def by_steps(records: pd.DataFrame) -> str:
  own = judging.rows(records, kind=WORDS, measure='label')
  return ', '.join(
    f'{gain(records, WORDS, steps).mean():.3f} after {steps:,}'
    for steps in sorted(own['steps'].unique())
  )


def _told(tests: Mapping[str, Test]) -> str:
  return ', '.join(f'{name} {test.text()}' for name, test in tests.items())


def figure(records: pd.DataFrame):
  made, axes = drawing.panels(2, 2.8)
  names = {'repetition': 'repetition of a pattern', 'label': 'examples of the item'}
  for axis, (measure, name) in zip(axes, names.items(), strict=True):
    for place, kind in enumerate(KINDS):
      own = judging.rows(records, kind=kind, measure=measure)
      steps = sorted(own['steps'].unique())
      for count, style in zip(steps, (':', '--', '-')[-len(steps) :], strict=True):
        mean = own[own['steps'] == count].groupby('number')['value'].mean()
        label = kind if count == steps[-1] else f'{kind}, {count:,.0f} updates'
        drawing.series(axis, mean.index, mean, place, label, linestyle=style)
    canvas.tidy(axis, name, 'bits')
  axes[0].legend(fontsize=7, frameon=False, loc='upper right', bbox_to_anchor=(1, 0.95))
  return made


CLAIM = Claim(
  number=30,
  statement='Few-shot behaviour follows from text that repeats: examples in the context help a '
  'network that was trained on repetition, and no other.',
  source='Language: why examples in a prompt work.',
  plan=plan,
  judge=judge,
  figure=figure,
  threshold='Networks trained on documents of a few words of their own, of one word at a fixed '
  'distance, and without repetition, equal tokens, 5 seeds. Test: item, label, item, label, ..., '
  'labels drawn anew in every document, which none was trained on. The gain is the bits of a '
  'label whose item is new, at most those of a guess, less those after two examples or more. '
  'Holds: the 95 % intervals of both gains above that without repetition are above 2.5 bits, '
  'more than knowing the labels of a document but not whose they are can give. Depends (on how '
  'text repeats): one is above 2.5 and one below 0.5. Fails: both are below 0.5, or the gain '
  'without repetition is above 0.5. Else not distinguishable.',
  looked_at='Pilots, seed 100, 600 updates at 5e-3: words 4.2 bits without and 0.3 with two '
  'examples or more; fixed distance 10.8 and 10, wrong and sure of it, which is why a guess is '
  'the most that counts. After them the 2.5 was 0.5.',
  pod='python -m launch.sweep --config=experiments/repeats.py --workdir=gs://BUCKET/repeats '
  '--objectives=autoregressive --sizes=small --seeds=0,1,2,3,4 --config.data.length=256 '
  '--grid=config.data.repeating=0.0,0.01,0.1,1.0 --backend=xpk, and the evaluation of '
  'claims/few_shot.py on its runs.',
)
