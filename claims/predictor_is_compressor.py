"""Claim 7: files that are as long as the negative log-likelihood says, and decode."""

from collections.abc import Iterator
import math
import os
import tempfile

import numpy as np
import pandas as pd

from claims import drawing, judging, sets
from claims.base import FAILS, HOLDS, INDISTINCT, Claim, Piece, Plan, Row, Verdict, Work, seeds
from claims.judging import Test

MARGIN = 0.01  # of the likelihood's bits
COUNTS = (50, 300)  # test examples of the shorter and of the longer file
_BATCH = 50


def plan(budget: str) -> Plan:
  pieces = []
  for seed in seeds(budget):
    for made in (sets.hierarchy, sets.digits):
      run = made('autoregressive', seed, budget)
      pieces.append(Piece(f'{run.config}-{run.objective}-{seed}', code_files, of=(run,)))
    run = sets.hierarchy('masked_diffusion', seed, budget)
    pieces.append(Piece(f'{run.config}-{run.objective}-{seed}', code_files, of=(run,)))
  return Plan((), tuple(pieces))


def code_files(work: Work) -> Iterator[Row]:
  """Bits of files of the first test examples, and of the likelihood; whether they decode."""
  from reports import predictions
  from runs import compressing

  (run,) = work.runs
  name, _ = predictions.exact(run.record)
  nats_N = run.arrays(name)[name].astype(np.float64)
  coder = compressing.Coder(
    run.workdir, False, None, (), work.data_dir, _BATCH, order='raster', steps=0
  )
  with tempfile.TemporaryDirectory() as folder:
    whole, part, coded, again = (
      os.path.join(folder, file) for file in ('all.npy', 'some.npy', 'coded', 'again.npy')
    )
    compressing.export(coder, 'test', whole)
    examples = np.load(whole)
    for count in (count for count in COUNTS if count <= len(examples)):
      np.save(part, examples[:count])
      compressing.encode(coder, part, coded)
      compressing.decode(coder, coded, again)
      numbers = {
        'file': 8 * os.path.getsize(coded),
        'likelihood': nats_N[:count].sum() / math.log(2),
        'equal': int(np.array_equal(np.load(again), examples[:count])),
      }
      for measure, value in numbers.items():
        yield run.spec.columns | {'measure': measure, 'examples': count, 'value': float(value)}


def _table(records: pd.DataFrame, measure: str) -> pd.DataFrame:
  """Of one source and objective: a row a seed, a column a number of examples."""
  return judging.rows(records, measure=measure).pivot_table('value', 'seed', 'examples')


def kinds(records: pd.DataFrame) -> dict[str, pd.DataFrame]:
  grouped = records.groupby(['source', 'objective'], sort=False)
  return {f'{source}, {objective}': rows for (source, objective), rows in grouped}


def excess(rows: pd.DataFrame) -> Test:
  """What the second half of the examples adds to the file above what it adds to the likelihood, as
  a share of that: what a file costs once is not in it."""
  grown = {}
  for measure in ('file', 'likelihood'):
    table = _table(rows, measure)
    grown[measure] = table[COUNTS[1]] - table[COUNTS[0]]
  return judging.mean(grown['file'] / grown['likelihood'] - 1)


def once(rows: pd.DataFrame) -> float:
  """Bytes that a file costs once: header, check and end, mean over seeds."""
  return float((_table(rows, 'file') - _table(rows, 'likelihood'))[COUNTS[0]].mean() / 8)


def judge(records: pd.DataFrame) -> Verdict:
  found = {name: excess(rows) for name, rows in kinds(records).items()}
  short = judging.short(*found.values())
  if short:
    return short
  equal = judging.rows(records, measure='equal')['value']
  most = max(found.values(), key=lambda test: abs(test.mean))
  if not (equal == 1).all() or any(t.above(MARGIN) or t.below(-MARGIN) for t in found.values()):
    outcome = FAILS
  elif all(test.inside(-MARGIN, MARGIN) for test in found.values()):
    outcome = HOLDS
  else:
    outcome = INDISTINCT
  text = (
    f'{int(equal.sum())} of {len(equal)} files decode to what was coded. Above the likelihood: '
  )
  text += ', '.join(
    f'{name} {test.text(100, 2)} % and {once(kinds(records)[name]):.0f} bytes a file'
    for name, test in found.items()
  )
  return Verdict(
    outcome,
    100 * most.mean,
    (100 * most.low, 100 * most.high),
    '% that files of more examples grow beyond the likelihood, the farthest',
    f'{text}.',
    'A network whose files are longer, or that do not decode, on other examples.',
  )


def figure(records: pd.DataFrame):
  made, (axis,) = drawing.panels(1, 2.2)
  tests = [(name, excess(rows)) for name, rows in kinds(records).items()]
  drawing.forest(axis, tests, '% above the likelihood', 100, (-MARGIN, 0, MARGIN))
  return made


CLAIM = Claim(
  number=7,
  statement='A predictor is a compressor: its files are as long as the negative logarithm of its '
  'probabilities, and decode.',
  source='Compression: prediction and compression are one.',
  plan=plan,
  judge=judge,
  figure=figure,
  threshold='Files of 50 and of 300 test examples by autoregression (hierarchy, digits) and by '
  'masked diffusion in raster order (hierarchy), 5 seeds. Holds: every file decodes, and what the '
  'longer file adds is the likelihood of what it adds within ±1 %, 95 % intervals. Fails: a file '
  'does not decode, or an interval lies beyond 1 %. Else not distinguishable.',
  looked_at='Files of the codec on other runs, which decode; its header is some hundred bytes. '
  'Of networks of 60 updates, seeds 0 and 1, files grew within 0.6 % of the likelihood.',
)
