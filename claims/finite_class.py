"""Claim 1: bounds on fresh examples from nothing but the bits that parameters are written in."""

from collections.abc import Iterator, Mapping, Sequence

import pandas as pd
import scipy.stats

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

DELTA = 0.05  # each bound may be false with this probability
PROBE, TINY, NANO = 'probe', 'tiny network', 'network'
OBJECTS = (PROBE, TINY, NANO)
FORMATS = {TINY: ('3 bits', '4 bits', '5 bits'), NANO: ('4 bits',)}


def plan(budget: str) -> Plan:
  pieces = []
  for seed in seeds(budget):
    nano = sets.hierarchy('autoregressive', seed, budget)
    tiny = sets.hierarchy_tiny('autoregressive', seed, budget)
    pieces.append(Piece(f'bounds-{seed}', bounds, {'formats': FORMATS}, (nano, tiny)))
  return Plan(pieces=tuple(pieces))


def bounds(work: Work, formats: Mapping[str, Sequence[str]]) -> Iterator[Row]:
  """Bounds, what was measured on test, and what a predictor that learnt nothing has.

  Of a linear probe of the root its certificate, and guessing the commonest root; of whole quantised
  networks bits a token, and the uniform code.
  """
  from runs import assessment, finished, finite

  nano, tiny = work.runs
  for name, one in ((NANO, nano), (TINY, tiny)):
    built, params = finished.opened(one.workdir, work.data_dir)
    if name == NANO:
      results, _ = assessment.all_probed(assessment.probe(built, params, ('pac',)))
      found = results['pac']['all']
      yield _row(one, PROBE, found['bound'], found['error'], found['majority_error']) | {
        'train': found['train_error'], 'examples': found['n'], 'parameters': found['parameters'],
        'weight_bits': found['bits'] * found['parameters'],
      }  # fmt: skip
    found = finite.bound(built, params, formats[name])
    yield _row(one, name, found['bound'], found['test'], found['uniform']) | {
      key: found[key] for key in ('train', 'examples', 'parameters', 'weight_bits')
    }


def _row(one, name: str, bound: float, test: float, trivial: float) -> Row:
  row = {'object': name, 'measure': 'bound', 'value': bound, 'test': test, 'trivial': trivial}
  return one.spec.columns | row


def margin(records: pd.DataFrame, name: str, level: float = judging.LEVEL) -> Test:
  """By which share of what is trivial a bound is below it; negative: the bound is vacuous."""
  own = judging.rows(records, object=name).set_index('seed')
  return judging.mean(1 - own['value'] / own['trivial'], level)


def broken(records: pd.DataFrame) -> tuple[int, float]:
  """Bounds below what was measured, and how likely so many are if each is with DELTA."""
  count = int((records['test'] > records['value']).sum())
  return count, float(scipy.stats.binom.sf(count - 1, len(records), DELTA))


def judge(records: pd.DataFrame) -> Verdict:
  found = {name: margin(records, name) for name in OBJECTS}
  strict = {name: margin(records, name, judging.LEVEL / len(OBJECTS)) for name in OBJECTS}
  short = judging.short(*found.values())
  if short:
    return short
  count, chance = broken(records)
  useful = [name for name, test in strict.items() if test.above(0)]
  vacuous = [name for name, test in strict.items() if test.below(0)]
  if count and chance < judging.LEVEL or len(vacuous) == len(OBJECTS):
    outcome = FAILS
  elif all(test.above(0) for test in found.values()):
    outcome = HOLDS
  elif useful and vacuous:
    outcome = DEPENDS
  else:
    outcome = INDISTINCT
  text = f'{count} of {len(records)} bounds were broken on test. '
  text += ' '.join(_told(records, name, found[name]) for name in OBJECTS)
  if outcome == DEPENDS:
    text += ' It depends on the bits of the parameters against the examples: the bound says '
    text += f'something of {" and ".join(useful)}, nothing of {" and ".join(vacuous)}.'
  return Verdict(
    outcome,
    100 * found[TINY].mean,
    (100 * found[TINY].low, 100 * found[TINY].high),
    '% by which the bound on a whole tiny network is below the uniform code',
    text,
    'A bound of this kind that is broken on fresh examples more often than its delta allows; or, '
    'for the larger network, more examples than it has bits of weights.',
  )


def _told(records: pd.DataFrame, name: str, test: Test) -> str:
  mean = judging.rows(records, object=name)[
    ['value', 'test', 'trivial', 'examples', 'parameters', 'weight_bits']
  ].mean()
  unit = 'error' if name == PROBE else 'bits a token'
  return (
    f'{name}, {mean["parameters"]:,.0f} parameters in {mean["weight_bits"]:,.0f} bits, '
    f'{mean["examples"]:,.0f} examples: bound {mean["value"]:.3f}, test {mean["test"]:.3f}, '
    f'nothing learnt {mean["trivial"]:.3f} ({unit}), {test.text(100, 1)} % below it.'
  )


def figure(records: pd.DataFrame):
  made, axes = drawing.panels(len(OBJECTS), 2.4)
  for axis, name in zip(axes, OBJECTS, strict=True):
    own = judging.rows(records, object=name)
    for place, column in enumerate(('value', 'test', 'trivial')):
      label = {'value': 'bound', 'test': 'measured', 'trivial': 'nothing learnt'}[column]
      drawing.series(axis, own['seed'], own[column], place, label, linestyle='')
    canvas.tidy(axis, 'seed', 'error' if name == PROBE else 'bits a token', name)
    axis.set_ylim(bottom=0)
  axes[0].legend(fontsize=7, frameon=False)
  return made


CLAIM = Claim(
  number=1,
  statement='Finite precision makes the class of networks finite, so that a bound on fresh '
  'examples needs no VC dimension.',
  source='Supervised learning: the bound by the number of parameters.',
  plan=plan,
  judge=judge,
  figure=figure,
  threshold='Hierarchy, 5 grammars, chance of error 5 % each: the certificate of a linear probe of '
  'the root, and bounds on the bits a token of whole quantised networks, one layer 16 wide with '
  '204,800 examples and four layers 64 wide with 51,200. Fails: more bounds are broken on test '
  'than that chance allows (5 % level), or all are vacuous, no better than guessing the commonest '
  'root or the uniform code. Holds: none is vacuous by its 95 % interval. Depends (on parameters '
  'against examples): one is vacuous and one is not, by intervals that leave out 5 % / 3 each. '
  'Else not distinguishable.',
  looked_at='Nothing; the sizes of the tiny network were chosen by the formula, so that its bound '
  'could say something.',
  pod='python -m launch.train --config=experiments/hierarchy.py --workdir=RUN '
  '--config.training.steps=40000 --config.training.batch_size=512, 20 million examples, for the '
  'larger network; then runs/finite.py on it.',
)
