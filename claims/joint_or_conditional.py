"""Claim 12: one model of images and labels, or labels given a model of images."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from claims import drawing, judging, opening, sets
from claims.base import (
  DEPENDS,
  FAILS,
  HOLDS,
  INDISTINCT,
  QUICK,
  Claim,
  Finished,
  Piece,
  Plan,
  Row,
  Verdict,
  Work,
  packed,
  seeds,
)
from claims.judging import Test
from claims.sets import Spec
from probes.measures import at
from reports import label_sets

AR, NOTHING = 'autoregressive', 'untrained_causal'
JOINT, TUNED, FROZEN = 'joint', 'fine-tuned', 'frozen'
MARGIN = 0.05  # bits a label
# A network for each weight of the label beside a pixel, in one mixture: what they cost is paid for.
WEIGHTS = (8.0,)
UPDATES = 60  # before every block of labels, of joint training and of fine-tuning
# The labels of the plain set, each network's choices paid for.
TUNING = {
  'probe.finetune.labels': (),
  'probe.finetune.all_steps': 1,
  'probe.finetune.learning_rates': (1e-3,),
  'probe.finetune.prequential.learning_rates': (3e-4, 2e-3),
  'probe.finetune.prequential.orders': 1,  # of the labels, the one that all codes have
}
_QUICK_RUN = {
  'probe.suite': ('linear', 'prequential'),
  'probe.prequential.rows': 40,
  'probe.prequential.orders': 1,
  'probe.prequential.mlp.steps': 8,
}


def _run(objective: str, seed: int, budget: str) -> Spec:
  return sets.digits(objective, seed, budget, _QUICK_RUN if budget == QUICK else None)


def plan(budget: str) -> Plan:
  runs = tuple(_run(name, seed, budget) for seed in seeds(budget) for name in (AR, NOTHING))
  settings = {'updates': 3 if budget == QUICK else UPDATES, 'rows': 40 if budget == QUICK else 2000}
  pieces = tuple(
    Piece(f'codes-{seed}', codes, settings, of=(_run(AR, seed, budget),)) for seed in seeds(budget)
  )
  return Plan(runs, pieces)


def read(run: Finished) -> list[Row]:
  """The label code of the frozen network, in the order in which the others code the labels."""
  cell = at(run.record, ('probes', 'prequential', 'all'))
  return [
    _row(
      f'{FROZEN}, {name}',
      label_sets.first_order(cell, f'{name}_bits'),
      run.arrays(f'prequential/all/{name}_bits')[f'prequential/all/{name}_bits'],
    )
    for name in ('linear', 'mlp')
  ]


def _row(measure: str, bits: float, each_N: np.ndarray) -> Row:
  """Mean bits a label, and of each, in the one order that all seeds have.

  Raises:
    ValueError: the bits of each are not those of the code.
  """
  if abs(each_N.sum() - bits) > 1e-3 * bits:
    raise ValueError(f'{measure}: labels of {each_N.sum():.1f} bits, a code of {bits:.1f}')
  return {'measure': measure, 'value': bits / len(each_N), 'each': packed(each_N)}


def codes(work: Work, updates: int, rows: int) -> Iterator[Row]:
  """Bits a label of one model of images and labels, and of the pretrained network fine-tuned."""
  from runs import joint

  for run in work.runs:
    of = run.spec.columns
    found = joint.measure(run.workdir, (), work.data_dir, WEIGHTS, None, updates)
    yield of | _row(JOINT, found['bits'], np.array(found['each']))
    settings = TUNING | {
      'probe.finetune.prequential.rows': rows,
      'probe.finetune.prequential.steps': updates,
      'probe.finetune.prequential.checkpoints': 2,
    }
    tuned, arrays = opening.probes(run, work.data_dir, ('finetune',), settings)
    cell = tuned['finetune']['all']['code']
    if cell['labels'] != found['labels']:
      raise ValueError(f'{cell["labels"]} and {found["labels"]} labels can not be compared')
    bits = label_sets.first_order(cell, 'bits')
    yield of | _row(TUNED, bits, arrays['finetune/code/bits'])


def conditional(records: pd.DataFrame) -> dict[str, pd.DataFrame]:
  """Rows, one a seed, of both ways to condition on the images: the network fine-tuned, and the
  better reader of the frozen one, chosen over all seeds."""
  own = judging.rows(records, objective=AR)
  readers = [judging.rows(own, measure=f'{FROZEN}, {name}') for name in ('linear', 'mlp')]
  frozen = min(readers, key=lambda rows: rows['value'].mean())
  return {TUNED: judging.rows(own, measure=TUNED), FROZEN: frozen}


def differences(records: pd.DataFrame, level: float = judging.LEVEL) -> dict[str, Test]:
  """Joint less conditional, bits a label, over seeds and labels: all seeds code the same ones."""
  joint = judging.rows(records, objective=AR, measure=JOINT)
  return {name: judging.crossed(joint, rows, level) for name, rows in conditional(records).items()}


def judge(records: pd.DataFrame) -> Verdict:
  tests = differences(records)
  short = judging.short(*tests.values())
  if short:
    return short
  strict = differences(records, judging.LEVEL / len(tests))
  worse = [name for name, test in strict.items() if test.above(MARGIN)]
  as_good = [name for name, test in tests.items() if test.below(MARGIN)]
  if len(as_good) == len(tests):
    outcome = HOLDS
  elif len(worse) == len(tests):
    outcome = FAILS
  elif worse and as_good:
    outcome = DEPENDS
  else:
    outcome = INDISTINCT
  joint = judging.mean(judging.by_seed(records, objective=AR, measure=JOINT))
  means = {
    name: judging.mean(judging.by_seed(rows)).text() for name, rows in conditional(records).items()
  }
  nothing = judging.by_seed(records, objective=NOTHING, measure=f'{FROZEN}, linear')
  text = f'Bits a label of digits: one model of images and labels {joint.text()}, '
  text += f'pretrained and fine-tuned {means[TUNED]}, frozen {means[FROZEN]}'
  if len(nothing):
    text += f', untrained and frozen {nothing.mean():.3f}'
  text += '. Joint less conditional: '
  text += ', '.join(f'{name} {test.text()}' for name, test in tests.items())
  if outcome == DEPENDS:
    text += f'. It depends on how the labels are conditioned: it is worse than {worse[0]}'
  better = [name for name, test in tests.items() if test.below(-MARGIN)]
  if better:
    text += f'. Mixing the labels in is better than {" and ".join(better)}'
  first = tests[TUNED]
  return Verdict(
    outcome,
    first.mean,
    first.interval,
    'bits a label, joint less pretrained and fine-tuned, digits',
    f'{text}. With {UPDATES} updates before each block of labels.',
    f'A joint model that is more than {MARGIN} bits a label worse, or better where this one is '
    'worse: other weights of the label, more updates, larger networks.',
  )


def figure(records: pd.DataFrame):
  made, (left, right) = drawing.panels(2, 2.2)
  every = {JOINT: judging.rows(records, objective=AR, measure=JOINT)} | conditional(records)
  rows = [(name, judging.mean(judging.by_seed(own))) for name, own in every.items()]
  drawing.forest(left, rows, 'bits a label', lines=())
  drawing.forest(right, list(differences(records).items()), 'joint − it', 1.0, (-MARGIN, 0, MARGIN))
  return made


CLAIM = Claim(
  number=12,
  statement='To compress images and labels together is as good as to compress the labels given the '
  'images, when the labels are what is wanted.',
  source='Compression: conditioning, and the joint compressor that can be had instead.',
  plan=plan,
  judge=judge,
  figure=figure,
  read=read,
  threshold='Digits, all training labels coded one block after the other, 5 seeds, bits a label. '
  'One model of images and labels less the same network pretrained on the images and then '
  'fine-tuned, and less the better reader of it frozen; 95 % intervals over seeds and labels. '
  'Holds: both end below 0.05. Fails: both begin above 0.05, at half of the level each. Depends '
  '(on how it is conditioned): one ends below, the other begins above. Else not distinguishable.',
  looked_at='The table of the four codes of one network of an earlier version, in '
  'experiments/results/codes.',
  pod='python -m launch.joint on autoregressive runs of experiments/fashion_mnist.py, '
  '--sizes=small, with launch.finetune beside, 5 seeds.',
)
