"""Claim 15: what is paid while training on fresh data is the validation loss of that moment."""

import pandas as pd

from claims import drawing, judging, measures, sets
from claims.base import (
  DEPENDS,
  FAILS,
  HOLDS,
  INDISTINCT,
  Claim,
  Finished,
  Plan,
  Row,
  Verdict,
  seeds,
)
from claims.judging import Test
from codes import training_time
from reports import canvas

OBJECTIVES = ('autoregressive', 'masked_diffusion')
TRAIN, VALIDATION = training_time.CURVE, 'validation/bits_per_dim'
MARGIN = 0.02  # bits per dimension between the two at one moment
EXCESS = 0.05  # of the final loss: what the whole code may cost above it
# Of a bound, whose error would else be as wide as MARGIN; nothing is probed.
DRAWS = {
  'evaluation.validation_draws': 64,
  'evaluators.probe.every': 0,
  'evaluators.probe.at': (),
  'evaluators.probe.last': False,
  'probe.suite': ('ridge',),
}


def plan(budget: str) -> Plan:
  runs = []
  for seed in seeds(budget):
    for name in OBJECTIVES:
      more = None if name == 'autoregressive' else DRAWS
      runs += [sets.hierarchy(name, seed, budget, more), sets.digits(name, seed, budget)]
  return Plan(tuple(runs))


def gaps(curve: list[dict], window: int, first: int) -> list[Row]:
  """Training code less validation bits, at every validation from step `first` on but the last.

  The code at a moment is the mean of the windows of `window` steps before and after it: the network
  learns inside a window too.
  """
  train = {point['step']: point[TRAIN] for point in curve if point.get(TRAIN) is not None}
  rows = []
  for point in curve:
    step, bits = int(point['step']), point.get(VALIDATION)
    around = [train.get(step), train.get(step + window)]
    if bits is not None and step >= first and None not in around:
      rows.append({'measure': 'gap', 'step': step, 'value': sum(around) / 2 - bits})
  return rows


def read(run: Finished) -> list[Row]:
  training, steps = run.config['training'], run.record['steps']
  window = training['log_every']
  epoch = {'hierarchy': None, 'digits': run.record['epochs']}[run.spec.config]
  if epoch is not None:
    epoch = round(steps * training['batch_size'] / epoch)
  settings = {'batch_size': training['batch_size'], 'log_every': window}
  settings |= {'dims': run.record['dims']}
  code = training_time.first_epoch(run.curve, epoch=epoch, **settings)
  rows = gaps(run.curve, window, steps // 4)
  rows += [{'measure': 'code', 'value': code['bits_per_dim'], 'step': code['steps']}]
  if epoch is None:
    half = [point for point in run.curve if point['step'] <= steps // 2]
    code = training_time.first_epoch(half, epoch=None, **settings)
    rows += [{'measure': 'code', 'value': code['bits_per_dim'], 'step': code['steps']}]
    rows += measures.curve(run, (TRAIN, VALIDATION))
  final = next(p for p in reversed(run.curve) if p.get(VALIDATION) is not None)
  last = next(p for p in reversed(run.curve) if p.get(TRAIN) is not None)
  rows.append({'measure': 'final', 'value': final[VALIDATION], 'step': int(final['step'])})
  return [*rows, {'measure': 'last window', 'value': last[TRAIN], 'step': int(last['step'])}]


def gap(records: pd.DataFrame, objective: str) -> Test:
  """Of one moment, mean over the last three quarters of a single epoch."""
  return judging.mean(
    judging.by_seed(records, source='hierarchy', objective=objective, measure='gap')
  )


def excess(records: pd.DataFrame, objective: str, half: bool = False) -> Test:
  """Of the whole code of a single epoch, or of its first half, over the final validation loss, as a
  share of it."""
  own = judging.rows(records, source='hierarchy', objective=objective)
  codes = judging.rows(own, measure='code')
  step = codes.groupby('seed')['step'].transform('min' if half else 'max')
  code = judging.by_seed(codes[codes['step'] == step])
  return judging.mean(code / judging.by_seed(own, measure='final') - 1)


def overfit(records: pd.DataFrame, objective: str) -> Test:
  """Validation less training at the end of many epochs of digits."""
  both = {'source': 'digits', 'objective': objective}
  return judging.paired_where(records, {'measure': 'final'}, {'measure': 'last window'}, **both)


def judge(records: pd.DataFrame) -> Verdict:
  near = {name: gap(records, name) for name in OBJECTIVES}
  whole = {name: excess(records, name) for name in OBJECTIVES}
  short = judging.short(*near.values(), *whole.values())
  if short:
    return short
  if any(test.above(MARGIN) or test.below(-MARGIN) for test in near.values()):
    outcome = FAILS
  elif not all(test.inside(-MARGIN, MARGIN) for test in near.values()):
    outcome = INDISTINCT
  elif all(test.below(EXCESS) for test in whole.values()):
    outcome = HOLDS
  elif any(test.above(EXCESS) for test in whole.values()):
    outcome = DEPENDS
  else:
    outcome = INDISTINCT
  text = 'Bits per dimension that training pays above the validation loss of the same moment: '
  text += ', '.join(f'{name} {test.text()}' for name, test in near.items())
  text += '. The whole code of the epoch is above the final validation loss by '
  text += ', '.join(f'{test.text(100, 1)} % ({name})' for name, test in whole.items())
  text += ': that is the area of what was learnt. After half of the updates it was '
  halves = {name: excess(records, name, True) for name in OBJECTIVES}
  text += ', '.join(f'{test.text(100, 1)} % ({name})' for name, test in halves.items())
  if outcome == DEPENDS:
    text += '. It depends on which validation loss is meant: that of the moment or the final one'
  again = {name: overfit(records, name) for name in OBJECTIVES}
  if judging.short(*again.values()) is None:
    text += '. Over many epochs of digits training is no code: it ends below validation by '
    text += ', '.join(f'{test.text()} bits ({name})' for name, test in again.items())
  most = whole['autoregressive']
  return Verdict(
    outcome,
    100 * most.mean,
    (100 * most.low, 100 * most.high),
    '% of the final validation loss that the code of the epoch costs above it, autoregressive',
    f'{text}.',
    'A source, or a regularised network, whose training code on fresh data differs from its '
    f'validation loss at the same moment by more than {MARGIN} bits; or a longer epoch, for the '
    'whole code.',
  )


def figure(records: pd.DataFrame):
  made, (left, right) = drawing.panels(2, 2.8)
  curves = judging.rows(records, source='hierarchy')
  for place, name in enumerate(OBJECTIVES):
    for measure, style in ((TRAIN, {'marker': ''}), (VALIDATION, {'linestyle': ''})):
      mean = judging.rows(curves, objective=name, measure=measure).groupby('step')['value'].mean()
      label = f'{name}, {"paid in training" if measure == TRAIN else "validation"}'
      drawing.series(left, mean.index, mean, place, label, **style)
  canvas.tidy(left, 'updates', 'bits per dimension')
  left.set_ylim(top=1.4 * left.get_ylim()[1])  # Room for the legend.
  left.legend(fontsize=7, frameon=False, loc='upper right')
  tests = [(name, excess(records, name)) for name in OBJECTIVES]
  tests += [(f'{name}, half', excess(records, name, True)) for name in OBJECTIVES]
  drawing.forest(right, tests, '% above the final loss', 100, (0, EXCESS))
  return made


CLAIM = Claim(
  number=15,
  statement='In a single epoch, what a network pays to code each batch before it learns from it '
  'is its validation loss; the code of the epoch is the final loss and the area of what was learnt '
  'above it.',
  source='Compression: training as prequential coding, and why a single epoch needs no test set.',
  plan=plan,
  judge=judge,
  figure=figure,
  read=read,
  threshold='Hierarchy, drawn afresh, 5 grammars, autoregression and masked diffusion. The 95 % '
  'intervals of training code less validation bits at the same moment, mean over the last three '
  'quarters of training, must lie inside ±0.02 bits per dimension: outside fails, across the edge '
  'is not distinguishable. Then holds if the whole code ends below 5 % above the final validation '
  'loss for both, and depends (on which loss is meant) if it is above that for one.',
  looked_at='One autoregressive run of grammar 0, 300 updates: its final bits, not its curve. '
  'Curves of 60 updates, seeds 0 and 1: 0.09 bits apart after 20 updates, 0.03 after 40; the code '
  'of these 60 updates was 21 and 4 % above the last loss. The pilots of masked diffusion, seed '
  '100, with 8 draws a validation example: 0.006 to 0.010 bits, moments from -0.02 to 0.06 apart; '
  'hence 64 draws.',
)
