"""Stories of one sentence of instruction, told in many ways: templates, facts and forms of our own.

A fact is an instruction that somebody lives by: NAME, when the CUE is STATE, does ACT to the THING.
A document is one of these, filled up with <pad>:

  story      a beginning, a middle and an end, each one of several sentences: the story form
  permuted   the same three in another order
  bare       the fact in one short sentence among remarks on places: no story
  shuffled   the words of a story in random order
  questions  what people do, and when, with the answers

In the source that is trained on, stories, bare facts and questions take turns at random. Of the
first KNOWN names each has one fact, always the same; the others are told a new fact every time, so
that nothing can be known of them but their names.
"""

import dataclasses
import functools
from typing import Any

import numpy as np

from data.dataset import Dataset, Examples

NAMES = tuple(
  'mara oren tilda jarek sanna pavo ilse bruno nela marek runa olaf dina viggo alma kuno'
  ' petra timo wanda egon freya luca hedda ivo'.split()
)
KNOWN = 16  # names that have a fact of their own
PLACES = tuple('valley harbour forest mill village castle island orchard'.split())
CUES = tuple('lamp river bell sky mirror candle road door wheel letter clock fire'.split())
STATES = tuple('red silent broken golden cold empty dark open'.split())
ACTS = tuple(
  'closed hid carried painted burned washed buried lifted turned counted sold mended'
  ' opened praised followed guarded'.split()
)
THINGS = tuple(
  'gate basket ladder boat crown kettle drum flag coin rope shield cart book ring'
  ' stone bridge'.split()
)
MOODS = tuple('old quiet little heavy gentle narrow bright lonely'.split())
TIMES = tuple('morning evening night winter summer autumn'.split())
_SLOTS = {
  'NAME': NAMES, 'PLACE': PLACES, 'CUE': CUES, 'STATE': STATES, 'ACT': ACTS, 'THING': THINGS,
  'MOOD': MOODS, 'TIME': TIMES,
}  # fmt: skip

BEGINNINGS = (
  'once NAME lived in the PLACE .',
  'there was NAME who came from the MOOD PLACE .',
  'long ago in the PLACE there lived NAME .',
  'people of the PLACE still speak of NAME .',
  'in a MOOD PLACE NAME grew up .',
  'NAME was born by the PLACE .',
)
MIDDLES = (
  'one TIME the CUE was STATE .',
  'then the CUE was STATE again .',
  'in the TIME NAME saw that the CUE was STATE .',
  'the CUE became STATE and nobody moved .',
  'it was TIME when the CUE became STATE .',
  'suddenly the MOOD CUE was STATE .',
)
ENDS = (
  'so NAME ACT the THING .',
  'and NAME ACT the THING at last .',
  'in the end NAME ACT the MOOD THING .',
  'without a word NAME ACT the THING .',
  'NAME ACT the THING and all was well .',
  'since then NAME always ACT the THING .',
)
PARTS = (BEGINNINGS, MIDDLES, ENDS)
BARE = (
  'when CUE STATE NAME ACT THING .',
  'NAME : CUE STATE , ACT THING .',
  'ACT THING , NAME , when CUE STATE .',
)
REMARKS = ('the PLACE is MOOD .', 'TIME is MOOD in the PLACE .')
# The answer begins after the question mark.
QUESTIONS = (
  'what did NAME do when the CUE was STATE ? NAME ACT the THING .',
  'what did NAME do ? NAME ACT the THING .',
)
FORMS = ('story', 'permuted', 'bare', 'shuffled')
_PAD = '<pad>'


def _words() -> tuple[str, ...]:
  sentences = ' '.join([*BEGINNINGS, *MIDDLES, *ENDS, *BARE, *REMARKS, *QUESTIONS]).split()
  fixed = [word for word in sentences if word not in _SLOTS]
  filled = [word for words in _SLOTS.values() for word in words]
  return (_PAD, *dict.fromkeys([*fixed, *filled]))


WORDS = _words()
_IDS = {word: number for number, word in enumerate(WORDS)}


@dataclasses.dataclass(frozen=True)
class Fact:
  """Who does what to what, and when."""

  name: str
  cue: str
  state: str
  act: str
  thing: str

  @property
  def slots(self) -> dict[str, str]:
    return {k.upper(): v for k, v in dataclasses.asdict(self).items()}


def draw_fact(rng: np.random.Generator, name: str) -> Fact:
  """Uniform but for the name."""
  return Fact(name, *(str(rng.choice(words)) for words in (CUES, STATES, ACTS, THINGS)))


def facts_of(world: int) -> tuple[Fact, ...]:
  """Of the first KNOWN names."""
  rng = np.random.default_rng((0x7461, world))
  return tuple(draw_fact(rng, name) for name in NAMES[:KNOWN])


def filled(rng: np.random.Generator, sentence: str, fact: Fact) -> list[str]:
  """The words of a sentence; slots that the fact does not decide are drawn."""
  known = fact.slots
  return [
    known.get(word) or (str(rng.choice(_SLOTS[word])) if word in _SLOTS else word)
    for word in sentence.split()
  ]


def told(rng: np.random.Generator, fact: Fact, form: str, length: int) -> list[str]:
  """The words of one document on a fact in one of FORMS, at most `length`.

  Raises:
    ValueError: unknown form.
  """
  if form not in FORMS:
    raise ValueError(f"unknown form '{form}'; known: {', '.join(FORMS)}")
  if form == 'bare':
    return _bare(rng, fact, length)
  parts = [filled(rng, str(rng.choice(part)), fact) for part in PARTS]
  if form == 'permuted':
    # Any order but the story's.
    order = [(0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)][rng.integers(5)]
    parts = [parts[place] for place in order]
  words = sum(parts, [])
  return [str(word) for word in rng.permutation(words)] if form == 'shuffled' else words


def _bare(rng: np.random.Generator, fact: Fact, length: int) -> list[str]:
  """The fact once, and as many remarks around it as make it as long as a story."""
  sentences = [filled(rng, str(rng.choice(BARE)), fact)]
  least = int(rng.integers(20, 25))
  while sum(map(len, sentences)) < least:
    sentences.append(filled(rng, str(rng.choice(REMARKS)), fact))
  words = [word for place in rng.permutation(len(sentences)) for word in sentences[place]]
  return words[:length]


def asked(rng: np.random.Generator, fact: Fact, kind: int) -> list[str]:
  """A question on a fact and its answer."""
  return filled(rng, QUESTIONS[kind], fact)


def encode(words: list[str], length: int) -> np.ndarray:
  """int32 (length,), filled up with <pad>; ValueError for too many words."""
  if len(words) > length:
    raise ValueError(f'{len(words)} words in a document of {length}')
  return np.array([_IDS[word] for word in words] + [0] * (length - len(words)), np.int32)


def document(world: tuple[Fact, ...], seed: int, index: int, length: int) -> np.ndarray:
  """Document number `index` of stream `seed`, int32 (length,)."""
  rng = np.random.default_rng((seed, index))

  def fact() -> Fact:
    number = int(rng.integers(len(NAMES)))
    return world[number] if number < KNOWN else draw_fact(rng, NAMES[number])

  kind = rng.integers(3)
  if kind < 2:
    return encode(told(rng, fact(), ('story', 'bare')[kind], length), length)
  words: list[str] = []
  while True:
    more = asked(rng, fact(), int(rng.integers(len(QUESTIONS))))
    if len(words) + len(more) > length:
      return encode(words, length)
    words += more


def places(words: list[str], fact: Fact) -> np.ndarray:
  """Where act and thing of the fact stand for the last time; int (2,)."""
  return np.array([len(words) - 1 - words[::-1].index(word) for word in (fact.act, fact.thing)])


def load(config: Any, data_dir: str = '') -> Dataset:
  """The source of `config`: world (a seed of facts), length, held_out documents of each split.

  Raises:
    ValueError: a bad setting.
  """
  del data_dir
  least = max(len(question.split()) for question in QUESTIONS)
  least = max(least, sum(max(len(sentence.split()) for sentence in part) for part in PARTS))
  for field, smallest in (('length', least), ('held_out', 1), ('world', 0)):
    if config[field] < smallest:
      raise ValueError(f'data.{field} must be at least {smallest}, not {config[field]}')
  world, length = facts_of(config.world), config.length
  make = functools.partial(document, world)

  def draw(seed: int, index: int) -> dict[str, np.ndarray]:
    return {'tokens': make(seed, index, length), 'label': np.int32(-1)}

  def split(seed: int) -> Examples:
    tokens = np.stack([make(seed, index, length) for index in range(config.held_out)])
    return Examples(tokens, np.full(config.held_out, -1, np.int32))

  return Dataset(
    name='retellings',
    vocabulary=len(WORDS),
    dims=length,
    length=length,
    shape=(),
    classes=None,
    ordinal=False,
    note=f'stories, bare facts and questions in {length} words of {len(WORDS)}, world '
    f'{config.world}, drawn afresh',
    lossless=True,
    train=draw,
    validation=split(2**40),
    test=split(2**40 + 1),
  )
