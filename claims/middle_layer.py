"""Claim 18: where in the depth of the network the class is most linear."""

from collections.abc import Iterable, Iterator

import numpy as np
import pandas as pd

from claims import drawing, judging, measures, sets
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
)
from claims.judging import Test
from reports import canvas

DEEP = ('autoregressive', 'masked')
L2 = 1e-2  # of the probe on digits, declared beforehand
MIDDLE, END, OPEN = 'middle', 'end', 'open'


def plan(budget: str) -> Plan:
  plain = [sets.hierarchy(name, seed, budget) for name in sets.OF_SYMBOLS for seed in seeds(budget)]
  pieces = []
  for name in sets.TRAINED:
    of = tuple(sets.digits(name, seed, budget) for seed in seeds(budget))
    pieces.append(Piece(f'{name}-4', probe_layers, of=of))
  for name in DEEP:
    of = tuple(sets.digits_deep(name, seed, budget) for seed in seeds(budget))
    pieces.append(Piece(f'{name}-8', probe_layers, of=of))
  return Plan(tuple(plain), tuple(pieces))


def read(run: Finished) -> list[Row]:
  """Validation accuracy by layer: every grammar has strings of its own."""
  by_layer = measures.at(run.record, ('probes', 'linear', 'all', 'by_layer_validation'))
  layers = len(by_layer) - 1
  return [
    {'measure': measure, 'layers': layers, 'layer': layer, 'value': value}
    for layer, value in enumerate(by_layer)
    for measure in ('choose', 'score')
  ]


def probe_layers(work: Work) -> Iterator[Row]:
  """Digits: accuracy of every layer on validation, to choose by, and on every test image."""
  from runs import experiment, finished, run

  for one in work.runs:
    config, _ = finished.read(one.workdir)
    built = experiment.build(config, work.data_dir, one.workdir)
    state, _ = run.restore(built, one.workdir, best=False)
    splits = (getattr(built.probe_dataset, name) for name in ('train', 'validation', 'test'))
    parts = [(built.features(state.params, s.tokens_NxT), np.asarray(s.labels_N)) for s in splits]
    layers = len(parts[0][0]) - 1
    for layer in range(layers + 1):
      right = fitted([(features_LxNxD[layer], labels_N) for features_LxNxD, labels_N in parts])
      for measure, right_N in zip(('choose', 'score'), right, strict=True):
        row = {'measure': measure, 'layers': layers, 'layer': layer, 'value': right_N.mean()}
        row |= {'each': packed(right_N)} if measure == 'score' else {}
        yield one.spec.columns | row


def fitted(parts: Iterable[tuple[np.ndarray, np.ndarray]]) -> list[np.ndarray]:
  """Which examples of the second and later parts a probe fitted to the first gets right.

  Multinomial logistic regression on standardised features, mean loss + L2 |w|^2 / 2.
  """
  from sklearn import linear_model, pipeline, preprocessing

  (features_NxD, labels_N), *others = parts
  regression = linear_model.LogisticRegression(C=1 / (L2 * len(labels_N)), max_iter=2000)
  probe = pipeline.make_pipeline(preprocessing.StandardScaler(), regression)
  probe.fit(features_NxD.astype(np.float64), labels_N)
  return [(probe.predict(x.astype(np.float64)) == y).astype(float) for x, y in others]


def groups(records: pd.DataFrame) -> dict[str, pd.DataFrame]:
  """The rows of every source, objective and depth, by a name for people."""
  keys = ['source', 'objective', 'layers']
  return {f'{s}, {o}, {d} layers': rows for (s, o, d), rows in records.groupby(keys, sort=False)}


def against(group: pd.DataFrame, end: int, among: Iterable[int]) -> Test:
  """Accuracy of the best of the layers `among` less that of layer `end`.

  For every seed the best is the one that is best on the validation of the other seeds, and its
  accuracy is that on examples that did not choose it.
  """
  choose = judging.rows(group, measure='choose').pivot_table('value', 'seed', 'layer')
  score = judging.rows(group, measure='score').set_index(['seed', 'layer'])
  among, sides = list(among), ([], [])
  for seed in choose.index if len(choose) > 1 else ():
    best = choose.drop(index=seed)[among].mean().idxmax()
    for side, layer in zip(sides, (best, end), strict=True):
      side.append(score.loc[(seed, layer)])
  if 'each' in score and score['each'].notna().all() and sides[0]:
    made = [
      pd.DataFrame([{'seed': s, 'each': row['each']} for s, row in enumerate(side)])
      for side in sides
    ]
    return judging.crossed(*made)
  values = [pd.Series([row['value'] for row in side], dtype=float) for side in sides]
  return judging.paired(*values)


def best_layer(group: pd.DataFrame) -> Test:
  """Depth of the best layer on validation, as a share: 0 is the embedding, 1 behind the last."""
  choose = judging.rows(group, measure='choose').pivot_table('value', 'seed', 'layer')
  return judging.mean(choose.idxmax(axis=1).astype(float) / choose.columns.max())


def kinds(records: pd.DataFrame) -> dict[str, tuple[str, Test, Test]]:
  """By group: where its best layer is, the gain of a middle one over the last, and over the first.

  'middle' where both gains are above zero after Holm over all groups, 'end' where one is below.
  """
  found = {}
  for name, group in groups(records).items():
    last = int(group['layers'].iloc[0])
    inner = range(1, last)
    found[name] = (against(group, last, inner), against(group, 0, inner))
  p = judging.adjusted([test for pair in found.values() for test in pair])
  made = {}
  for place, (name, pair) in enumerate(found.items()):
    sure = [p[2 * place + side] <= judging.LEVEL for side in (0, 1)]
    up = all(s and test.mean > 0 for s, test in zip(sure, pair, strict=True))
    down = any(s and test.mean < 0 for s, test in zip(sure, pair, strict=True))
    made[name] = (MIDDLE if up else END if down else OPEN, *pair)
  return made


def judge(records: pd.DataFrame) -> Verdict:
  found = kinds(records)
  short = judging.short(*(test for _, *pair in found.values() for test in pair))
  if short:
    return short
  counted = {kind: [n for n, (k, *_) in found.items() if k == kind] for kind in (MIDDLE, END, OPEN)}
  decided = len(counted[MIDDLE]) + len(counted[END])
  if counted[MIDDLE] and counted[END]:
    outcome = DEPENDS
  elif 2 * decided < len(found):
    outcome = INDISTINCT
  else:
    outcome = HOLDS if counted[MIDDLE] else FAILS
  text = f'Of {len(found)} nets a middle layer is best in {len(counted[MIDDLE])}, an end in '
  text += f'{len(counted[END])}, {len(counted[OPEN])} are open. Points of the best middle layer '
  text += 'above the last (depth of the best, 0 to 1): '
  text += '; '.join(
    f'{name} {last.text(100, 1)}, depth {best_layer(group).mean:.2f} [{found[name][0]}]'
    for (name, group), (_, last, _) in zip(groups(records).items(), found.values(), strict=True)
  )
  if outcome == DEPENDS:
    text += f'. An end is best in: {"; ".join(counted[END])}'
  depths = [best_layer(group) for group in groups(records).values()]
  headline = next(iter(depths))
  return Verdict(
    outcome,
    headline.mean,
    headline.interval,
    f'depth of the best layer (0 embedding, 1 last), {next(iter(found))}',
    f'{text}.',
    'More layers or a larger network in which the last layer is above every middle one.',
  )


def figure(records: pd.DataFrame):
  made, axes = drawing.panels(2, 2.8)
  for axis, source in zip(axes, ('hierarchy', 'digits'), strict=True):
    of = judging.rows(records, source=source, measure='score')
    for place, ((objective, layers), rows) in enumerate(of.groupby(['objective', 'layers'])):
      mean = rows.groupby('layer')['value'].mean()
      name = f'{objective}, {layers} layers'
      drawing.series(axis, mean.index / layers, mean, place, name)
    canvas.tidy(axis, 'depth', 'accuracy', source, percent='y')
    axis.legend(fontsize=6, frameon=False)
  return made


CLAIM = Claim(
  number=18,
  statement='The layer from which the class can be read best by a linear probe lies in the middle '
  'of the network, not at its end.',
  source='Generative pretraining of images: linear probes by layer.',
  plan=plan,
  judge=judge,
  figure=figure,
  read=read,
  threshold='For each of nine nets (three objectives on the hierarchy and four on digits with 4 '
  'layers, two on digits with 8) the best layer strictly inside, chosen on other seeds, against '
  'the last and against the embedding: middle if above both, end if below one, after Holm over '
  'all. Holds: at least half are decided, all of them middle. Fails: all of them end. Depends: '
  'some of each. Else not distinguishable.',
  looked_at='Nothing by layer. Linear accuracies of single runs of digits and of the hierarchy.',
)
