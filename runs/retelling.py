"""What a network that knows a language keeps of one instruction that it is told again and again."""

from collections.abc import Iterator, Sequence
import dataclasses
import math
from typing import Any
import zlib

import numpy as np

from codes import learner
from data import retellings
from data.retellings import Fact
from runs import finished, tokens

HELD_OUT = 64  # documents of each kind
_STREAM = 0x746F6C64
_WARMUP = 10
# Of the update rule: constant after the warm-up.
_CHOSEN = {'warmup_steps': _WARMUP, 'end_fraction': 1.0}


@dataclasses.dataclass(frozen=True)
class Telling:
  """What the network is told.

  Attributes:
    form: one of `retellings.FORMS`.
    different: how many different documents; they are told in turn.
  """

  form: str
  different: int


class Listener:
  """A finished autoregressive run on `retellings`, told of one name that it knows nothing of."""

  def __init__(self, workdir: str, data_dir: str, seed: int):
    self._built, self._params = finished.opened(workdir, data_dir)
    self._nats = tokens.make_nats(self._built)
    self._seed, self._length = seed, self._built.config.data.length
    rng = np.random.default_rng((_STREAM, seed))
    own, other = rng.choice(retellings.NAMES[retellings.KNOWN :], 2, replace=False)
    self.fact = retellings.draw_fact(rng, str(own))
    self._other = dataclasses.replace(self.fact, name=str(other))

  def tell(
    self, tellings: Sequence[Telling], rate: float, documents: int
  ) -> Iterator[tuple[Telling, dict[str, float]]]:
    """What is known after so many documents of each telling, from the same start; as `known`.

    One document an update, AdamW at a constant rate.
    """
    optimizer = self._built.config.optimizer.copy_and_resolve_references()
    optimizer.update({**_CHOSEN, 'learning_rate': rate})
    task = dataclasses.replace(self._built.task, init=lambda key: self._params)
    schedule = learner.Schedule(documents, documents, 1, False, self._seed)
    listening = learner.Learner(task, optimizer, schedule, 2 * documents)
    for telling in tellings:
      listening.reset()
      told = self.documents(telling)
      rows = np.resize(np.arange(len(told)), documents)
      nothing = np.full(documents, -1, np.int32)
      listening.learn({'tokens': told[rows], 'label': nothing})
      yield telling, self.known(listening.params)

  def documents(self, telling: Telling) -> np.ndarray:
    """Those of a telling, all different, (different, T)."""
    return self._told(telling.form, telling.different, held_out=False)[1]

  def known(self, params: Any = None) -> dict[str, float]:
    """Bits of act and thing, of log2 of their numbers, 8 before anything was told.

    Returns:
      By what they are predicted in: 'question', 'story' and 'bare', held-out documents on the same
      name; 'other', the questions on another name of which nothing was said, with the same answer;
      'kept', questions on the names that the run has facts of, with theirs; and 'text', all of a
      held-out story.
    """
    params = self._params if params is None else params
    found = {}
    for kind, fact in (('question', self.fact), ('other', self._other)):
      found[kind], _ = self._paid(params, fact, *self._asked(fact))
    world = retellings.facts_of(self._built.config.data.world)
    found['kept'] = float(np.mean([self._paid(params, one, *self._asked(one))[0] for one in world]))
    for form in ('story', 'bare'):
      documents = self._told(form, HELD_OUT, held_out=True)
      found[form], whole = self._paid(params, self.fact, *documents)
      found |= {'text': whole} if form == 'story' else {}
    return found

  def _told(self, form: str, count: int, held_out: bool) -> tuple[list[list[str]], np.ndarray]:
    """Different documents on the name, as words and as rows; none is both told and held out."""
    rng, made = np.random.default_rng((_STREAM, self._seed, 1 + held_out)), {}
    while len(made) < count:
      words = retellings.told(rng, self.fact, form, self._length)
      text = ' '.join(words)
      if (zlib.crc32(text.encode()) % 8 == 0) == held_out:
        made[text] = words
    rows = [retellings.encode(words, self._length) for words in made.values()]
    return list(made.values()), np.stack(rows)

  def _asked(self, fact: Fact) -> tuple[list[list[str]], np.ndarray]:
    rng = np.random.default_rng(0)  # The fact fills every slot.
    words = [retellings.asked(rng, fact, kind) for kind in range(len(retellings.QUESTIONS))]
    return words, np.stack([retellings.encode(one, self._length) for one in words])

  def _paid(
    self, params: Any, fact: Fact, words: list[list[str]], rows_NxT: np.ndarray
  ) -> tuple[float, float]:
    """Mean bits of act and thing together, and of a whole document."""
    bits_NxT = self._nats(params, rows_NxT) / math.log(2)
    where_Nx2 = np.stack([retellings.places(one, fact) for one in words])
    facts_N = np.take_along_axis(bits_NxT, where_Nx2, 1).sum(1)
    return float(facts_N.mean()), float(bits_NxT.sum(1).mean())
