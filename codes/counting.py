"""Our own strong reference: an adaptive code from nothing, without a network.

Every symbol is a few binary decisions, and each decision a logistic mixture of what simple experts
expect: counts in contexts of the symbols already coded and, where tokens are levels of a scale,
votes of earlier examples by how near their part so far is to ours, and a recursive linear
regression, also with the errors that it made on the near ones. Contexts are neighbours on the
picture where there is one, else the symbols before. Nothing is sent but symbols, so that the
decoder counts the same.

Rates, limits and contexts were chosen on the training images of digits, once, for all data.

Shape suffixes: B rows of a batch, N rows of earlier batches, T slots, V vocabulary, C contexts.
"""

import dataclasses

import numpy as np

from codes import decisions, experts, near

# Decisions and mixtures of larger alphabets take too much memory.
MOST_VALUES = 2**10
# Longer rows do without neighbours and regression, whose work grows with the square.
_MOST_NEAR = 1024
# Symbols before the next one that contexts of a sequence are made of.
_ORDERS = 6
# Counts of windows of a text are halved beyond the first; of examples of a set they stay.
_TEXT_LIMIT, _SET_LIMIT = 255, 60_000
_RATES = {'rate': 0.01, 'least': 0.002, 'half': 20_000.0}
# Row, column and channel of a place beside.
_OFFSETS = {
  'W': (0, -1, 0), 'N': (-1, 0, 0), 'NW': (-1, -1, 0), 'NE': (-1, 1, 0), 'WW': (0, -2, 0),
  'NN': (-2, 0, 0), 'same': (0, 0, -1), 'same2': (0, 0, -2),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Layout:
  """What rows are.

  Attributes:
    vocabulary: V.
    length: T.
    picture: rows, columns and channels of a row's picture; None if it is none.
    ordinal: whether symbols are levels of a scale.
    continued: whether a batch's rows go on where those of the batch before ended, as texts do.
  """

  vocabulary: int
  length: int
  picture: tuple[int, int, int] | None = None
  ordinal: bool = False
  continued: bool = False

  def places(self) -> np.ndarray:
    """Row, column and channel (T, 3) of every slot; a sequence is one row."""
    shape = self.picture or (1, self.length, 1)
    return np.stack(np.unravel_index(np.arange(self.length), shape), 1)


class Counting(experts.Expert):
  """The mixture of all of them.

  Args:
    layout: of the rows.
    examples: rows that will be coded in all, which decides the size of tables.
  """

  def __init__(self, layout: Layout, examples: int):
    self.layout = layout
    self._tree = decisions.Tree(layout.vocabulary, layout.ordinal)
    places_Tx3, self._near = layout.places(), None
    if layout.ordinal and not layout.continued and layout.length <= _MOST_NEAR:
      self._near = near.Near(places_Tx3, layout.vocabulary)
    self._places_Tx3, self._counts, self._mixer = places_Tx3, None, None
    self._decided = int(examples * layout.length * max(1.0, np.log2(layout.vocabulary)))
    self._seen_BxS = np.zeros((0, layout.length + _ORDERS), np.int64)
    self.words_2xB = np.zeros((2, 0), np.uint64)

  def start(self, rows: int) -> None:
    before_BxS, self.slot = self._seen_BxS, 0
    # Symbols before the first are of a value that none has.
    self._seen_BxS = np.full((rows, self.layout.length + _ORDERS), self.layout.vocabulary)
    if self.layout.continued and len(before_BxS) >= rows:
      self._seen_BxS[:, :_ORDERS] = before_BxS[:rows, -_ORDERS:]
    self._rows_BxT = self._seen_BxS[:, _ORDERS:]
    if not self.layout.continued or len(self.words_2xB[0]) != rows:
      self.words_2xB = np.zeros((2, rows), np.uint64)
    if self._near:
      self._near.start(rows)

  def expect(self) -> np.ndarray:
    rows, odds = len(self._rows_BxT), np.zeros((0, len(self._rows_BxT), self._tree.nodes))
    found = _picture(self) if self.layout.picture else _sequence(self)
    if self._near:
      expected = self._near.expect(self._rows_BxT)
      odds = np.stack([self._tree.odds(p_BxV) for p_BxV in expected.p])
      beside = ('W', 'N') if self.layout.picture else ('W', 'WW')
      found += near.contexts(expected, self.slot, *map(self.beside, beside))
    hashed = [decisions.hashed(number, *parts) for number, parts in enumerate(found)]
    if self._counts is None:
      self._make(len(found), len(odds) + len(found))
    contexts_CxB = np.stack([np.broadcast_to(context, rows) for context in hashed])
    counted_CxBxM, levels_CxBxM = self._counts.look(contexts_CxB)
    levels = np.concatenate([np.zeros(odds.shape, np.int64), levels_CxBxM])
    # Of a text what came before says more than the slot in a window.
    here = self.before(1)[:, None] if self.layout.continued else np.full((1, 1), self.slot)
    sets = (np.arange(self._tree.nodes)[None], here, np.zeros((1, 1), np.int64))
    mixed_BxM = self._mixer.mix(np.concatenate([odds, counted_CxBxM]), levels, sets)
    return self._tree.probabilities(mixed_BxM)

  def _make(self, contexts: int, inputs: int) -> None:
    """Tables and weights, now that it is known how many there are."""
    continued, nodes = self.layout.continued, self._tree.nodes
    limit = _TEXT_LIMIT if continued else _SET_LIMIT
    self._counts = decisions.Counts(contexts, nodes, self._decided, limit)
    sizes = (nodes, self.layout.vocabulary + 1 if continued else self.layout.length, 1)
    self._mixer = decisions.Mixer(inputs, sizes, nodes, **_RATES)

  def see(self, symbols_B: np.ndarray) -> None:
    self._rows_BxT[:, self.slot] = symbols_B
    made = self._tree.made(symbols_B)
    self._counts.learn(*made)
    self._mixer.learn(*made)
    if self._near:
      self._near.see(symbols_B)
    if self.layout.continued:
      self._spell(symbols_B)
    self.slot += 1

  def _spell(self, symbols_B: np.ndarray) -> None:
    """Hashes of the word begun and of the one before it, of bytes of a text."""
    word_B, last_B = self.words_2xB
    lower_B = np.where((symbols_B >= 65) & (symbols_B <= 90), symbols_B + 32, symbols_B)
    letter_B = ((lower_B >= 97) & (lower_B <= 122)) | (lower_B >= 128)
    longer_B = decisions.hashed(word_B.view(np.int64), lower_B)
    begun_B = word_B > 0
    word_B = np.where(letter_B, longer_B, 0).astype(np.uint64)
    last_B = np.where(~letter_B & begun_B, self.words_2xB[0], last_B)
    self.words_2xB = np.stack([word_B, last_B])

  def finish(self) -> None:
    if self._near:
      self._near.finish(self._rows_BxT)

  def beside(self, name: str) -> np.ndarray:
    """The symbols (B,) at a place beside the next one on the picture; V where there is none."""
    shape = self.layout.picture or (1, self.layout.length, 1)
    at = self._places_Tx3[self.slot] + _OFFSETS[name]
    if (at < 0).any() or (at >= shape).any():
      return np.full(len(self._rows_BxT), self.layout.vocabulary)
    return self._rows_BxT[:, np.ravel_multi_index(at, shape)]

  def before(self, order: int) -> np.ndarray:
    """The symbols (B,) so many slots back."""
    return self._seen_BxS[:, self.slot + _ORDERS - order]


class Contexts(Counting):
  """Counts in one kind of context and nothing else: no mixture.

  Args:
    layout, examples: as of `Counting`.
    context: its parts, by name: 'slot', a place beside the pixel as in `beside`, or how many
      symbols back.
  """

  def __init__(self, layout: Layout, examples: int, context: tuple[str | int, ...]):
    super().__init__(dataclasses.replace(layout, ordinal=False), examples)
    self._context = context

  def expect(self) -> np.ndarray:
    if self._counts is None:
      self._counts = decisions.Counts(1, self._tree.nodes, self._decided, _SET_LIMIT)
    parts = [self._part(part) for part in self._context]
    hashed = np.broadcast_to(decisions.hashed(*parts), len(self._rows_BxT))
    odds_1xBxM, _ = self._counts.look(hashed[None])
    return self._tree.probabilities(odds_1xBxM[0])

  def _part(self, part: str | int) -> np.ndarray | int:
    if part == 'slot':
      return self.slot
    return self.beside(part) if isinstance(part, str) else self.before(part)

  def see(self, symbols_B: np.ndarray) -> None:
    self._rows_BxT[:, self.slot] = symbols_B
    self._counts.learn(*self._tree.made(symbols_B))
    self.slot += 1


def _picture(of: Counting) -> list[tuple]:
  """Contexts of a pixel: its place, its neighbours' values, both."""
  slot, channels = of.slot, of.layout.picture[2]
  w, n, nw, ne, ww, nn = (of.beside(name) for name in ('W', 'N', 'NW', 'NE', 'WW', 'NN'))
  found = [
    (slot,), (slot, w), (slot, n), (w, n), (slot, w // 2, n // 2), (w, n, nw // 3, ne // 3),
    (slot, w // 2, n // 2, ww // 2, nn // 2),
  ]  # fmt: skip
  if channels > 1:
    same, same2, channel = of.beside('same'), of.beside('same2'), slot % channels
    found += [(channel, same, same2), (channel, same, w, n), (slot, same // 4, same2 // 4)]
  return found


def _sequence(of: Counting) -> list[tuple]:
  """Contexts of a symbol: those before it, and its slot where examples are apart."""
  back = [of.before(order) for order in range(1, _ORDERS + 1)]
  found = [tuple(back[:order]) for order in range(_ORDERS + 1)]
  if of.layout.continued:
    word_B, last_B = of.words_2xB.view(np.int64)
    return [*found, (word_B, back[0]), (word_B, last_B, back[0]), (back[1], back[2])]
  return found + [(of.slot, *back[:order]) for order in range(3)]
