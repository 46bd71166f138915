"""Claim 10: file and program together, by the network and without one, for more and more data."""

from collections.abc import Iterator, Sequence

import pandas as pd

from claims import drawing, judging, records, sets
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
from reports import canvas

SIZES = {'quick': (2560, 7680), 'full': (5120, 12_800, 25_600, 51_200)}
NETWORK = 'network'
CODED = 128  # strings that are coded to a file and printed again by the program that is counted


def plan(budget: str) -> Plan:
  sizes = SIZES[QUICK if budget == QUICK else 'full']
  pieces = [
    Piece(
      f'bounds-{seed}', bounds, {'sizes': sizes}, (sets.hierarchy('autoregressive', seed, budget),)
    )
    for seed in seeds(budget)
  ]
  pieces.append(Piece('printed', printed, {'updates': 2 if budget == QUICK else 8}))
  return Plan(pieces=tuple(pieces))


def bounds(work: Work, sizes: Sequence[int]) -> Iterator[Row]:
  """Bits of file and program for the first strings of training, by code."""
  from codes import program
  from runs import finished, growing

  (one,) = work.runs
  built, _ = finished.opened(one.workdir, work.data_dir)
  tokens = growing.streamed(built)
  size = program.of_driver(program.NETWORKS).bits
  for examples in sizes:
    of = {**one.spec.columns, 'examples': examples, 'dims': built.dataset.dims}
    found = growing.without(tokens[:examples], built.space.vocabulary)
    network = growing.by_network(one.curve, built, examples, size)
    for each in (*found, *([] if network is None else [network])):
      row = of | {'code': each.name, 'program': each.program_bits, 'file': each.file_bits}
      yield row | {'measure': 'bound', 'value': each.bits}


def printed(work: Work, updates: int) -> Iterator[Row]:
  """Whether the program that is counted prints what was coded."""
  from runs import growing

  path = str(records.ROOT / 'experiments' / 'hierarchy.py')
  overrides = ('--config.model.layers=2', '--config.model.width=32')
  built = growing.experiment_of(path, overrides, work.data_dir)
  tokens = built.dataset.validation.tokens_NxT[:CODED, : built.dataset.dims]
  found = growing.decoded(path, overrides, tokens, updates, work.data_dir)
  yield {'seed': 0, 'measure': 'printed', 'value': float(found['same']), 'file': found['bits']}


def gains(found: pd.DataFrame) -> pd.DataFrame:
  """By which share the bound with a network is below the best without, rows seeds and columns
  numbers of strings; below 0 where it is above."""
  own = judging.rows(found, measure='bound')
  by = own.groupby([own['code'] == NETWORK, 'seed', 'examples'])['value'].min().astype(float)
  return (1 - by[True] / by[False]).dropna().unstack('examples')


def marginal(found: pd.DataFrame) -> pd.Series:
  """By which share the last strings are shorter with a network than by the best without, by seed.

  Of what file and program grow by from the last but one number of strings to the last: the network
  as it was then, and the code that is the best of them on these strings.
  """
  own = judging.rows(found, measure='bound')
  table = own.pivot_table('value', ['seed', 'code'], 'examples').astype(float)
  before, last = sorted(table.columns)[-2:]
  grown = (table[last] - table[before]).unstack('code')
  return 1 - grown[NETWORK] / grown.drop(columns=NETWORK).min(axis=1)


def judge(found: pd.DataFrame) -> Verdict:
  table = gains(found)
  largest = int(table.columns.max())
  test = judging.mean(table[largest].dropna())
  short = judging.short(test)
  if short:
    return short
  same = judging.rows(found, measure='printed')['value']
  later = judging.mean(marginal(found).dropna())
  if same.empty or not same.all():
    outcome = FAILS
  elif test.above(0):
    outcome = HOLDS
  elif test.below(0) and later.above(0):
    outcome = DEPENDS
  else:
    outcome = FAILS if test.below(0) and later.below(0) else INDISTINCT
  own = judging.rows(found, measure='bound')
  program = own.groupby('code')['program'].first()
  text = f'The program of a network that learns is {program[NETWORK]:,.0f} bits'
  text += f', that of the counting code {program["counting"]:,.0f}'
  text += '. Share by which file and program of the network are below the best without, in %: '
  text += ', '.join(
    f'{int(count):,} strings {judging.mean(table[count].dropna()).text(100, 1)}' for count in table
  )
  text += f'. {_even(table)} {_best(own, largest)} The strings from the last but one number to the '
  text += f'last are {later.text(100, 1)} % shorter with the network.'
  if outcome == DEPENDS:
    text += ' It depends on how much data there is: not yet with so many, and at these rates later.'
  if same.empty or not same.all():
    text += ' The program did not print what was coded.'
  return Verdict(
    outcome,
    100 * test.mean,
    (100 * test.low, 100 * test.high),
    f'% by which {largest:,} strings are shorter with the network and its program',
    f'{text} The machine is Python with the packages that the programs import.',
    'A shorter program without a network, such as one that finds the grammar.',
  )


def _even(table: pd.DataFrame) -> str:
  """Between which sizes the network begins to win."""
  mean = table.mean()
  losing = [int(count) for count in mean.index if mean[count] <= 0]
  winning = [int(count) for count in mean.index if mean[count] > 0]
  if not winning:
    return f'Up to {max(losing):,} strings the network does not win.'
  after = f'after {max(losing):,}' if losing else 'before'
  return f'The network begins to win {after} and at {min(winning):,} strings at the latest.'


def _best(own: pd.DataFrame, count: int) -> str:
  """What is best without a network."""
  rows = own[(own['examples'] == count) & (own['code'] != NETWORK)]
  mean = rows.groupby('code')['value'].mean().sort_values()
  return f'Best of those on {count:,} strings: {mean.index[0]}, {mean.iloc[0]:,.0f} bits.'


def figure(found: pd.DataFrame):
  made, (axis,) = drawing.panels(1, 2.8)
  own = judging.rows(found, measure='bound')
  symbols = own['examples'] * own['dims']
  own = own.assign(rate=own['value'] / symbols)
  mean = own.groupby(['code', 'examples'])['rate'].mean()
  last = mean.groupby('code').last().sort_values()
  shown = [*last.index[last.index != NETWORK][:4], *({'counting'} & {*last.index}), NETWORK]
  for place, code in enumerate(dict.fromkeys(shown)):
    drawing.series(axis, mean[code].index, mean[code], place, code)
  axis.set_xscale('log')
  canvas.tidy(axis, 'strings', 'bits a token, program included')
  axis.legend(fontsize=7, frameon=False)
  return made


CLAIM = Claim(
  number=10,
  statement='K(X) is at most the compressed file and the program that prints X from it: with '
  'enough data the bound by a network, its program included, is the lowest.',
  source='Compression: Kolmogorov complexity as the best compressor.',
  plan=plan,
  judge=judge,
  figure=figure,
  threshold='The first strings of training on the hierarchy, up to 51,200; 5 grammars. With a '
  'network: each batch coded before it is learnt from, and the program of a code that learns. '
  'Without: raw digits, every compressor of a library with its driver, the counting code with its '
  'program '
  '(programs of our own codes print a NumPy file, 192 bits less than one of X alone would be). '
  'Holds: at 51,200 strings the bound with the network is lower by its 95 % interval, and a fresh '
  'process that runs the program prints what was coded. Depends (on how much data): it is '
  'higher, and the strings after the 25,600th are shorter with the network than by the code that '
  'is the best on them. Fails: they are longer too, or something else is printed. Else not '
  'distinguishable.',
  looked_at='experiments/results/codes/README.md: on 1,197 digits the program of a network alone '
  'is longer than the file of brotli.',
  pod='python -m launch.compress --config=experiments/fashion_mnist.py --mode=prequential on all '
  'training images, and launch.baselines on the same: break-even with real images.',
)
