"""Claim 32: how well an instruction is known after some hundred retellings of it."""

from collections.abc import Iterator, Sequence

import pandas as pd

from claims import drawing, judging, sets
from claims.base import (
  CANT,
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

RATE, TUNED = 4.2e-5, 1.3e-4
DOCUMENTS = 500  # told in all, one an update, whatever the telling
# (form, different documents)
TELLINGS = (('story', 500), ('story', 50), ('story', 5), ('story', 1), ('shuffled', 500))
VARIED, VERBATIM, SHUFFLED = TELLINGS[0], TELLINGS[3], TELLINGS[4]
PRIOR = 8.0  # bits of act and thing before anything is told: 16 of each
KNOWN = 1.0  # bits of the answer to a direct question, below which an instruction is imprinted
ASKED = 2.0  # bits of what the network was trained on: above, it does not understand questions


Asked = tuple[float, int, tuple[tuple[str, int], ...]]  # rate, documents, tellings


def plan(budget: str) -> Plan:
  documents, tellings = DOCUMENTS, TELLINGS
  if budget == QUICK:
    documents, tellings = 40, (('story', 40), ('story', 1), ('shuffled', 40))
  asked = tuple((rate, documents, tellings) for rate in (RATE, TUNED))
  pieces = [
    Piece(
      f'tell-{seed}',
      tell,
      {'seed': seed, 'asked': asked},
      (sets.retellings('autoregressive', seed, budget),),
    )
    for seed in seeds(budget)
  ]
  return Plan(pieces=tuple(pieces))


def tell(work: Work, seed: int, asked: Sequence[Asked]) -> Iterator[Row]:
  """Bits of the instruction before and after every telling, in each kind of held-out text."""
  from runs import retelling

  listener = retelling.Listener(work.runs[0].workdir, work.data_dir, seed)
  before = {'form': 'nothing', 'different': 0, 'documents': 0, 'seed': seed, 'rate': 0.0}
  for measure, value in listener.known().items():
    yield before | {'measure': measure, 'value': value}
  for rate, documents, tellings in asked:
    of = {'documents': documents, 'seed': seed, 'rate': rate}
    wanted = [retelling.Telling(*one) for one in tellings]
    for telling, known in listener.tell(wanted, rate, documents):
      row = {'form': telling.form, 'different': telling.different, **of}
      for measure, value in known.items():
        yield row | {'measure': measure, 'value': value}


def bits(
  records: pd.DataFrame, telling: tuple[str, int], rate: float, measure: str = 'question'
) -> pd.Series:
  """Of the instruction, by seed."""
  form, different = telling
  return judging.by_seed(records, form=form, different=different, rate=rate, measure=measure)


def judge(records: pd.DataFrame) -> Verdict:
  low, high = (judging.mean(bits(records, VARIED, rate)) for rate in (RATE, TUNED))
  taught = judging.mean(judging.by_seed(records, form='nothing', measure='kept'))
  short = judging.short(low, high, taught)
  if short:
    return short
  if not taught.below(ASKED):
    outcome = CANT
  elif low.below(KNOWN):
    outcome = HOLDS
  elif low.above(KNOWN) and high.above(KNOWN):
    outcome = FAILS
  elif low.above(KNOWN) and high.below(KNOWN):
    outcome = DEPENDS
  else:
    outcome = INDISTINCT
  text = f'Bits of the answer to a direct question, {PRIOR:g} before, after {DOCUMENTS} varied '
  text += f'retellings: {low.text()} at a rate of {RATE:g}, {high.text()} at {TUNED:g}.'
  for rate in (RATE, TUNED):
    text += f' At {rate:g} {others(records, rate)}.'
  if outcome == DEPENDS:
    text += ' It depends on the rate.'
  if outcome == CANT:
    text += f' The network answers questions on what it was trained on with {taught.text()} bits: '
    text += 'it can not be asked.'
  return Verdict(
    outcome,
    low.mean,
    low.interval,
    f'bits of the answer after {DOCUMENTS} varied retellings at a rate of {RATE:g}',
    f'{text} A network of 120,000 parameters, one document an update, AdamW.',
    'A larger network, for which the same rate is a larger step in what it computes.',
  )


def others(records: pd.DataFrame, rate: float) -> str:
  """What the controls of equal tokens leave, and what is known of another name."""
  varied = bits(records, VARIED, rate)
  gained = {
    name: judging.paired(bits(records, telling, rate), varied).text()
    for name, telling in (('one text verbatim', VERBATIM), ('shuffled words', SHUFFLED))
  }
  told = ', '.join(f'{name} leaves {test} bits more' for name, test in gained.items())
  other, kept = (judging.mean(bits(records, VARIED, rate, name)) for name in ('other', 'kept'))
  story = judging.mean(bits(records, VARIED, rate, 'story'))
  return (
    f'{told}; the same answer for another name costs {other.text()}, and those for '
    f'names that have facts of their own {kept.text()}; in held-out '
    f'stories the instruction costs {story.text()}'
  )


def figure(records: pd.DataFrame):
  made, axes = drawing.panels(2, 2.8)
  for axis, measure in zip(axes, ('question', 'story'), strict=True):
    for place, rate in enumerate((RATE, TUNED)):
      own = judging.rows(records, measure=measure, rate=rate)
      mean = judging.rows(own, form='story').groupby('different')['value'].mean()
      drawing.series(axis, mean.index, mean, place, f'varied, {rate:g}')
      shuffled = judging.rows(own, form='shuffled').groupby('different')['value'].mean()
      drawing.series(
        axis, shuffled.index, shuffled, place, f'shuffled, {rate:g}', marker='x', linestyle=''
      )
    axis.axhline(KNOWN, color='black', linestyle='--', linewidth=0.8)
    axis.set_xscale('log')
    canvas.tidy(axis, f'different of {DOCUMENTS} retellings', 'bits of the instruction', measure)
  axes[1].legend(fontsize=7, frameon=False)
  return made


CLAIM = Claim(
  number=32,
  statement='About 500 varied retellings of one instruction in one story form imprint it at a '
  'learning rate of 4.2e-5.',
  source='Archetypal transfer (annotation): retellings of an instruction.',
  plan=plan,
  judge=judge,
  figure=figure,
  threshold='A network trained on stories, bare facts and questions is told of a name that it has '
  'no fact of: 500 documents, one an update, constant rate, 5 worlds. Bits of act and thing in a '
  'direct question, 8 before. Holds: the 95 % interval after 500 different retellings at 4.2e-5 is '
  'below 1. Fails: it is above 1 at 4.2e-5 and at the tuned rate. Depends (on the rate): above 1 '
  'at 4.2e-5, below 1 at the tuned one. Can not decide: questions on trained facts cost 2 bits or '
  'more. Else not distinguishable. Fewer different retellings, one verbatim and shuffled words, of '
  'equal tokens, are beside it.',
  looked_at='Pilots, seed 100, once the thresholds were written: after 500 varied retellings the '
  'answer cost 2.4, 0.14 and 0.01 bits at 1e-5, 4.2e-5 and 1.3e-4, which had the fewest bits of '
  'held-out stories and is the tuned rate; one verbatim left 0.67 at 4.2e-5; the answer for '
  'another name fell to 0.7.',
  pod='python -m launch.train --config=experiments/retellings.py --workdir=RUN '
  '--config.model.preset=medium --config.training.steps=20000 --config.training.batch_size=512, '
  'then runs.retelling.Listener on it.',
)
