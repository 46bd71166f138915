"""Claim 20: whether a harder hardest prediction is why features are more linear."""

from collections.abc import Iterator, Mapping
from typing import Any

from matplotlib.axes import Axes
import numpy as np
import pandas as pd

from claims import drawing, judging, measures, opening, sets
from claims.base import (
  DEPENDS,
  FAILS,
  HOLDS,
  INDISTINCT,
  Claim,
  Finished,
  Piece,
  Plan,
  Row,
  Verdict,
  Work,
  packed,
  seeds,
  unpacked,
)
from claims.judging import Test
from claims.more_linear import PRIMARY, said, signs
from claims.sets import Spec
from reports import canvas

AR, BERT, DIFFUSION = 'autoregressive', 'masked', 'masked_diffusion'
UNTRAINED = 'untrained'  # as BERT is called
PLAIN = 'plain'
# By source and objective: what is asked for beside the plain set. All are trained at the plain
# set's learning rate.
DOSES: dict[tuple[str, str], dict[str, dict[str, Any]]] = {
  ('hierarchy', BERT): {
    'most': {'objective.ratio': 0.8},
    'block': {'objective.ratio': 0.5, 'objective.pattern': 'block'},
  },
  ('hierarchy', AR): {
    'window 2': {'objective.context': 2},
    'random order': {'objective.order': 'random'},
  },
  ('digits', BERT): {
    'most': {'objective.ratio': 0.75},
    'half plane': {'objective.ratio': 0.5, 'objective.pattern': 'half_plane'},
  },
}
# Tails that are compared: the task's own where the source's law is known, else the network's.
TAILS = {'hierarchy': 'exact tail', 'digits': 'tail'}
LATENT = 'latent'
_LITTLE = {
  'probe.suite': ('linear',),
  'evaluators.probe.every': 0,
  'evaluators.probe.at': (),
  'evaluators.probe.last': False,
}


def _made(source: str, objective: str, seed: int, budget: str, dose: str) -> Spec:
  made = getattr(sets, source)
  if dose == PLAIN:
    return made(objective, seed, budget, dose=PLAIN)
  settings = {**DOSES[source, objective][dose], **_LITTLE}
  return made(objective, seed, budget, settings, dose=dose)


def kinds() -> list[tuple[str, str, str]]:
  """(source, objective, dose) of everything that is trained."""
  made = [(*family, dose) for family, doses in DOSES.items() for dose in (PLAIN, *doses)]
  return [*made, ('digits', AR, PLAIN), ('hierarchy', DIFFUSION, PLAIN)]


def plan(budget: str) -> Plan:
  by_kind = {
    kind: tuple(_made(kind[0], kind[1], seed, budget, kind[2]) for seed in seeds(budget))
    for kind in kinds()
  }
  draws = 2 if budget == 'quick' else 8
  pieces = tuple(
    Piece('-'.join(kind).replace(' ', '_'), profiles, {'draws': draws}, of)
    for kind, of in by_kind.items()
  )
  floor = (sets.hierarchy(UNTRAINED, seed, budget, dose=PLAIN) for seed in seeds(budget))
  return Plan((*(spec for of in by_kind.values() for spec in of), *floor), pieces)


def read(run: Finished) -> Iterator[Row]:
  """The probe; on the hierarchy too how linear every level of latents is, at its best layer."""
  row = measures.accuracy(run)
  if run.spec.config == 'digits':
    yield row
    return
  row.pop('each')  # Each grammar has strings of its own.
  yield row
  found = run.record['latents']['linear']
  for level in sorted({name.split('/')[0] for name in found}):
    by_layer = np.mean([v for name, v in found.items() if name.split('/')[0] == level], axis=0)
    yield {'measure': LATENT, 'level': int(level), 'value': float(by_layer.max())}


def profiles(work: Work, draws: int) -> Iterator[Row]:
  """How hard the predictions of test examples are, and where: by tokens shown and by position."""
  from runs import hardness

  for run in work.runs:
    built, params = opening.network(run, work.data_dir)
    found = hardness.predictions(built, params, draws)
    of = run.spec.columns
    for name, value in hardness.profile(found).items():
      yield of | {'measure': name, 'value': value}
    for name, group_P in (('shown', found.shown_P), ('position', found.position_P)):
      by = hardness.means_by(found.nats_P, group_P)
      row = {'measure': f'nats by {name}', 'value': max(by.values())}
      yield of | row | {'groups': packed(list(by)), 'each': packed(list(by.values()))}


# What the judge looks at.


def easier(records: pd.DataFrame, tails: Mapping[str, str] = TAILS) -> dict[str, Test]:
  """Tail of autoregression less that of BERT, by source, in nats; or another measure of each."""
  return {
    source: judging.paired_where(
      records, {'objective': AR}, {'objective': BERT}, source=source, dose=PLAIN, measure=tail
    )
    for source, tail in tails.items()
  }


def slope(records: pd.DataFrame, source: str, objective: str, tail: str | None = None) -> Test:
  """Accuracy per nat of the tail over the doses of one objective: least squares of every seed.

  On digits the slope is one of every test image too: it is a sum of accuracies.
  """
  of = judging.rows(records, source=source, objective=objective)
  tails = judging.rows(of, measure=tail or TAILS[source]).pivot_table('value', 'seed', 'dose')
  probes = judging.rows(of, measure=PRIMARY).set_index(['seed', 'dose'])
  rows = []
  for seed, line in tails.iterrows():
    line = line.dropna()
    centred = line - line.mean()
    if len(line) < 2 or not (centred**2).sum():
      continue
    weights = centred / (centred**2).sum()
    cells = [(weight, probes.loc[(seed, dose)]) for dose, weight in weights.items()]
    row = {'seed': seed, 'value': sum(weight * cell['value'] for weight, cell in cells)}
    if source == 'digits':
      row['each'] = packed(sum(weight * unpacked(cell['each']) for weight, cell in cells))
    rows.append(row)
  made = pd.DataFrame(rows, columns=['seed', 'value', 'each'])
  if source != 'digits':
    return judging.mean(made.set_index('seed')['value'].astype(float))
  zeros = packed(np.zeros(len(unpacked(made['each'].iloc[0])))) if rows else ''
  return judging.crossed(made, made.assign(each=zeros))


def slopes(records: pd.DataFrame) -> dict[str, Test]:
  return {f'{source}, {name}': slope(records, source, name) for source, name in DOSES}


def floor(records: pd.DataFrame) -> dict[str, Test]:
  """BERT's probe of the root by dose, above the untrained network's."""
  of = judging.rows(records, source='hierarchy', measure=PRIMARY)
  own = judging.rows(of, objective=BERT)
  untrained = judging.by_seed(of, objective=UNTRAINED)
  return {
    dose: judging.paired(judging.by_seed(own, dose=dose), untrained)
    for dose in (PLAIN, *DOSES['hierarchy', BERT])
  }


def over_all(records: pd.DataFrame, source: str) -> Test:
  """Spearman's correlation of tail and probe over all that is trained on a source, by seed."""
  of = judging.rows(records, source=source)
  found = {}
  for seed, rows in of.groupby('seed'):
    table = rows.pivot_table('value', ['objective', 'dose'], 'measure')
    if {TAILS[source], PRIMARY} <= set(table):
      pair = table[[TAILS[source], PRIMARY]].dropna().rank()
      if len(pair) > 2:
        found[seed] = pair.corr().iloc[0, 1]
  return judging.mean(pd.Series(found, dtype=float).dropna())


def latents(records: pd.DataFrame) -> dict[str, Test]:
  """Accuracy on the latents of each level, autoregression less BERT; level 0 is the root."""
  of = judging.rows(records, measure=LATENT, dose=PLAIN)
  levels = sorted(of['level'].dropna().unique()) if 'level' in of else []
  return {
    f'level {level:g}': judging.paired_where(
      of, {'objective': AR}, {'objective': BERT}, level=level
    )
    for level in levels
  }


def decide(first: Mapping[str, Test], second: Mapping[str, Test]) -> str:
  """The outcome, of whether BERT's hardest is easier and of the slopes; see `CLAIM.threshold`."""
  found = signs({**first, **second})
  easy = [found[name] for name in first]
  ups = sum(found[name] > 0 for name in second)
  downs = sum(found[name] < 0 for name in second)
  if min(easy) < 0:
    return DEPENDS if max(easy) > 0 else FAILS
  if min(easy) == 0:
    return INDISTINCT
  if ups == len(second):
    return HOLDS
  if ups and downs:
    return DEPENDS
  if ups:
    return INDISTINCT
  return FAILS if downs else INDISTINCT


def judge(records: pd.DataFrame) -> Verdict:
  first, second = easier(records), slopes(records)
  short = judging.short(*first.values(), *second.values())
  if short:
    return short
  outcome, of = decide(first, second), signs({**first, **second})
  text = 'Nats of the hardest tenth of predictions, autoregressive less BERT (on the hierarchy by '
  text += f'the source itself, on digits by the networks): {said(first, 1, 2, of)}. Points at 100 '
  text += 'labels for each nat more in the hardest tenth, over tasks of one objective: '
  text += said(second, of=of)
  if outcome == DEPENDS:
    signed = {**signs({**first, **second})}
    premise = min(signed[name] for name in first) < 0
    text += f'. It depends on {"the source" if premise else "what makes the task harder"}'
  for measure, words in (('quantile 0.99', 'hardest hundredth begin at'), ('max', 'largest is')):
    beside = easier(records, dict.fromkeys(TAILS, measure))
    beside = {n: t for n, t in beside.items() if t.seeds > 1}
    if beside:
      text += f'. Of the nats of the networks the {words}, autoregressive less BERT: '
      text += said(beside, 1, 2)
  above = {dose: test for dose, test in floor(records).items() if test.seeds > 1}
  if above:
    text += f'. BERT above the untrained network on the hierarchy, by task: {said(above)}'
    if not any(sign > 0 for sign in signs(above).values()):
      text += '; where none is shown to learn the root, the slope there says little'
  own = slope(records, 'hierarchy', BERT, 'tail')
  text += f'. By the nats of the networks, hierarchy, BERT {own.text(100, 1)}'
  text += '. Rank correlation over all tasks, whatever the objective: '
  text += ', '.join(f'{source} {over_all(records, source).text(1, 2)}' for source in TAILS)
  by_level = latents(records)
  if by_level:
    text += '. Points on the latents of the hierarchy, autoregressive less BERT, level 0 being '
    text += f'the root: {said(by_level)}'
  name = f'hierarchy, {BERT}'
  headline = second[name]
  return Verdict(
    outcome,
    100 * headline.mean,
    (100 * headline.low, 100 * headline.high),
    f'points at 100 labels for each nat of the hardest tenth, {name}',
    f'{text}. With more hidden there are more predictions an update as well, and features of a '
    'window of two see only two symbols a layer, which this can not tell apart; all tasks of an '
    'objective have the learning rate of the plain one. For networks of a few hundred thousand '
    'parameters.',
    'Tasks of one objective, on new grammars or other data, whose probe goes the other way with '
    'the nats of their hardest tenth.',
  )


def doses(axis: Axes, records: pd.DataFrame, source: str) -> None:
  """The linear probe over the nats of the hardest tenth, a line an objective, a point a task."""
  tail = TAILS[source]
  of = judging.rows(records, source=source)
  for place, (objective, rows) in enumerate(of.groupby('objective')):
    table = rows.pivot_table('value', 'dose', 'measure')
    if {tail, PRIMARY} <= set(table):
      table = table.sort_values(tail)
      drawing.series(axis, table[tail], table[PRIMARY], place, objective)
      for dose, row in table.iterrows():
        drawing.named(axis, dose, (row[tail], row[PRIMARY]))
  canvas.tidy(axis, 'nats, hardest tenth', 'linear probe, 100 labels', source, percent='y')
  axis.legend(fontsize=5, frameon=False)


def figure(records: pd.DataFrame):
  made, axes = drawing.panels(3, 2.6)
  for axis, source in zip(axes, TAILS, strict=False):
    doses(axis, records, source)
  levels = judging.rows(records, measure=LATENT, dose=PLAIN)
  for place, (objective, rows) in enumerate(levels.groupby('objective') if len(levels) else ()):
    mean = rows.groupby('level')['value'].mean()
    drawing.series(axes[2], mean.index, mean, place, objective)
  canvas.tidy(axes[2], 'level, 0 the root', 'linear accuracy', 'latents', percent='y')
  axes[2].legend(fontsize=5, frameon=False)
  return made


CLAIM = Claim(
  number=20,
  statement="BERT's features are less linear because its hardest prediction is easier, since it "
  'sees what is left and right.',
  source='Generative pretraining of images: why the objectives differ.',
  plan=plan,
  judge=judge,
  figure=figure,
  read=read,
  threshold="Two things, under one Holm's correction, 5 seeds (grammars). First, the mean nats of "
  'the hardest tenth of predictions, autoregressive less BERT: on the hierarchy of the source '
  'itself, on digits of the networks. Second, dose and response: the slope of the linear probe at '
  '100 labels over those nats, among tasks of one objective (BERT with more hidden, a block, a '
  'half plane; autoregression with a window, in random order). Holds: both first are above zero '
  "and all three slopes are. Fails: a first is below zero and none above, or BERT's hardest is "
  'easier but slopes are only below zero. Depends (on the source, or on what makes it harder): '
  'the first two, or the slopes, are shown with both signs. '
  'Else not distinguishable.',
  looked_at='Nothing of tails or slopes but two quick runs of 60 updates. The plain accuracies of '
  'digits of earlier versions, and of three of these grammars in '
  'experiments/results/hierarchy_objectives. After it was judged: the untrained network and the '
  'extremes of the nats stand beside it; they decide nothing.',
  pod='python -m launch.sweep --config=experiments/fashion_mnist.py --workdir=DIR --backend=slurm '
  '--objectives=masked,masked+ratio=0.5,masked+ratio=0.85,masked+pattern=half_plane+ratio=0.5,'
  'autoregressive,autoregressive+context=28,autoregressive+order=random --seeds=0,1,2,3,4.',
)
