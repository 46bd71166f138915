"""Claim 3: whether the objective that is optimised is a guide to the one that is cared about."""

import itertools

import numpy as np
import pandas as pd
import scipy.stats

from claims import drawing, judging, measures, sets
from claims.base import (
  CANT,
  DEPENDS,
  FAILS,
  HOLDS,
  INDISTINCT,
  Claim,
  Finished,
  Plan,
  Row,
  Verdict,
  packed,
  seeds,
)
from claims.judging import Test
from reports import canvas, predictions

LOSS, PROBE = 'validation/loss', 'probe/linear/accuracy'
COUPLED, APART = 0.5, 0.0  # rank correlations along training; a noisy probe alone lowers them


def plan(budget: str) -> Plan:
  runs = [
    made(name, seed, budget)
    for made, names in ((sets.digits, sets.TRAINED), (sets.hierarchy, sets.OF_SYMBOLS))
    for name in names
    for seed in seeds(budget)
  ]
  return Plan(tuple(runs))


def read(run: Finished) -> list[Row]:
  """Loss and small probe along training; at its end exact bits, where there are any, and the
  probe."""
  if run.spec.config == 'digits':
    rows = [measures.accuracy(run) | {'measure': 'probe'}]
  else:
    rows = [measures.number(run, 'probe', 'probes.linear.all.accuracy')]
  record = {**run.record, 'workdir': run.workdir}
  bits = predictions.exact_bits(record)
  if bits is not None:
    row = {'measure': 'bits', 'value': bits}
    if run.spec.config == 'digits':
      row['each'] = packed(predictions.exact_bits_of_each(record).share_N)
    rows.append(row)
  return rows + measures.curve(run, (LOSS, PROBE))


def correlations(records: pd.DataFrame) -> dict[str, pd.Series]:
  """By source and objective, a series by seed: Spearman's correlation of the own validation loss,
  lower being better, with the probe over the steps of a run."""
  own = judging.rows(records, measure=(LOSS, PROBE))
  kinds = judging.rows(own, measure=LOSS)[['source', 'objective']].drop_duplicates()
  found = {f'{source}, {objective}': {} for source, objective in kinds.itertuples(index=False)}
  runs = ['source', 'objective', 'seed']
  table = own.pivot_table('value', [*runs, 'step'], 'measure').dropna()
  for (source, objective, seed), rows in table.groupby(runs):
    loss, probe = (rows[name].to_numpy() for name in (LOSS, PROBE))
    if len(rows) > 2 and np.ptp(loss) > 0 and np.ptp(probe) > 0:
      found[f'{source}, {objective}'][seed] = scipy.stats.spearmanr(-loss, probe).statistic
  return {name: pd.Series(seeds, dtype=float) for name, seeds in found.items()}


def within(found: dict[str, pd.Series], each: bool = False) -> dict[str, Test]:
  """The means over seeds of `correlations`; `each`: of which any may decide."""
  level = judging.LEVEL / max(1, len(found)) if each else judging.LEVEL
  return {name: judging.mean(of, level) for name, of in found.items()}


def across(records: pd.DataFrame) -> dict[str, tuple[Test, Test]]:
  """By pair of objectives that have exact bits: differences in bits and in the probe's accuracy."""
  found = {}
  bits = judging.rows(records, measure='bits')
  for source, rows in bits.groupby('source', sort=False):
    for pair in itertools.combinations(rows['objective'].unique(), 2):
      tests = []
      for measure in ('bits', 'probe'):
        of = judging.rows(records, source=source, measure=measure)
        sides = [judging.rows(of, objective=name) for name in pair]
        packed_too = 'each' in of and all(side['each'].notna().all() for side in sides)
        values = [side.set_index('seed')['value'] for side in sides]
        tests.append(judging.crossed(*sides) if packed_too else judging.paired(*values))
      found[f'{source}, {pair[0]} less {pair[1]}'] = tuple(tests)
  return found


def agreement(pairs: dict[str, tuple[Test, Test]]) -> dict[str, str]:
  """By pair: 'agree' where fewer bits come with a better probe, 'disagree' where with a worse one,
  both differences above chance after Holm; else 'open'."""
  p = np.reshape(judging.adjusted([test for pair in pairs.values() for test in pair]), (-1, 2))
  made = {}
  for (name, (bits, probe)), (p_bits, p_probe) in zip(pairs.items(), p, strict=True):
    sure = max(p_bits, p_probe) <= judging.LEVEL
    made[name] = 'open' if not sure else 'agree' if bits.mean * probe.mean < 0 else 'disagree'
  return made


def judge(records: pd.DataFrame) -> Verdict:
  found = correlations(records)
  along = within(found)
  pairs = across(records)
  short = judging.short(*along.values(), *(test for pair in pairs.values() for test in pair))
  if short:
    return short
  if not pairs:
    return Verdict(CANT, None, None, '', 'No two objectives have exact bits.', 'Exact bits of two.')
  said = agreement(pairs)
  coupled = all(test.above(COUPLED) for test in along.values())
  apart = [name for name, test in within(found, True).items() if test.below(APART)]
  disagree = [name for name, kind in said.items() if kind == 'disagree']
  agree = [name for name, kind in said.items() if kind == 'agree']
  if apart:
    outcome = HOLDS
  elif coupled and disagree:
    outcome = DEPENDS
  elif coupled and agree:
    outcome = FAILS
  else:
    outcome = INDISTINCT
  text = 'Rank correlation of own validation loss and probe along training: '
  text += ', '.join(f'{name} {test.text(1, 2)}' for name, test in along.items())
  text += '. At the end, by exact bits: '
  text += '; '.join(
    f'{name} {bits.text()} bits and {probe.text(100, 1)} points [{said[name]}]'
    for name, (bits, probe) in pairs.items()
  )
  if outcome == DEPENDS:
    text += '. It depends on what is compared: steps of one objective, where the loss guides, or '
    text += 'objectives, where fewer bits came with a worse probe'
  if outcome == HOLDS:
    text += f'. They come apart along training of {"; ".join(apart)}'
  name, least = min(along.items(), key=lambda item: item[1].mean)
  return Verdict(
    outcome,
    least.mean,
    least.interval,
    f'rank correlation along training, {name}, the lowest',
    f'{text}.',
    'Objectives, sizes or longer training in which the lower own loss is always, or no longer, the '
    'better probe.',
  )


def figure(records: pd.DataFrame):
  made, axes = drawing.panels(2, 2.8)
  for axis, source in zip(axes, ('digits', 'hierarchy'), strict=True):
    of = judging.rows(records, source=source, measure=(LOSS, PROBE))
    for place, (objective, rows) in enumerate(of.groupby('objective')):
      table = rows.pivot_table('value', 'step', 'measure').dropna()
      # The first loss is 1, so that losses of different units share an axis.
      drawing.series(axis, table[LOSS] / table[LOSS].iloc[0], table[PROBE], place, objective)
    axis.invert_xaxis()
    canvas.tidy(axis, 'own loss, first = 1', 'small probe, validation', source, percent='y')
    axis.legend(fontsize=6, frameon=False)
  return made


CLAIM = Claim(
  number=3,
  statement='What is optimised, the own validation loss, is not what is cared about, the linear '
  'probe: the one is no sure guide to the other.',
  source='The puzzle of unsupervised learning: one objective is optimised, another is wanted.',
  plan=plan,
  judge=judge,
  figure=figure,
  read=read,
  threshold="Spearman's correlation of own validation loss and small probe along training, digits "
  '(four objectives) and hierarchy (three), 5 seeds; and every pair of objectives with exact '
  'bits at the end. Holds: an objective whose correlation ends below 0, by intervals that leave '
  'out 5 % / 7 each, the probe falling while the loss does. Else, if all correlations begin '
  'above 0.5: depends (within or across objectives) if a pair has fewer bits and a worse probe, '
  'both after Holm; fails if no pair has and one has fewer bits and a better probe. Else not '
  'distinguishable.',
  looked_at='Final accuracies of single runs. Curves of 60 updates, seeds 0 and 1, four points '
  'each: correlations of 0.6 on digits, -0.3 to 0.3 on the hierarchy, where the probe hardly '
  'rises. The limits were 0.8 and 0.5 before that, and are 0.5 and 0 since.',
)
