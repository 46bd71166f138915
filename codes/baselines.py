"""Bits per dimension of codes that need no training on the tokens of a data set.

Each compressor gets every packing of `codes.packing` (PNG, WebP and JPEG XL every sheet of
`codes.pictures`) and shows its smallest file; --out keeps all of them. The choice of the packing is
not paid for, which favours the baseline. Sizes are of whole files: headers and checksums count,
which on 300 tiny images is a hundredth of a bit per dimension.

The adaptive codes start from nothing and learn as they go: a histogram at every place, counts in
one kind of context, and the mixture of many of them that is our own reference (`codes.counting`),
whose size is that of the file which launch.compress --mode=counting writes. The others' are the sum
of -log2 p, at most 64 bits short of a file.

'After train' is what the test split costs somebody who has read the training split, as a codec with
trained weights has: of a compressor C(train and test) - C(train), with a window that holds both,
the difference of two files and no file of its own; of the adaptive codes that of the split's rows
after those of train. The histogram is fitted on train and its table is not counted. A run's own row
is its record's, on test; its weights are not counted either, and the note says what they would add.
Rows stand in a fixed order and are not ranked: an upper bound (≤) and a code length compare only
one way, and training data are free for some of the rows alone.
"""

from collections.abc import Callable, Iterator, Sequence
import dataclasses
import io
import math
from typing import Any, NamedTuple

import numpy as np

from codes import (
  adaptive,
  codec,
  compressors,
  container,
  counting,
  experts,
  histogram,
  packing,
  pictures,
)
from codes.errors import CodeError
from data.dataset import Dataset, Examples

_AFTER_TRAIN = ('xz', 'zstd', 'brotli', 'ppmd')
# Rows that are no compressor's.
UNIFORM, HISTOGRAM = 'uniform', 'per-position histogram'
NO_COMPRESSORS = (UNIFORM, HISTOGRAM)
COUNTING = 'counting, our mixture'
ROWS, COLUMNS = 'example by example', 'column by column'  # Its packings of arrays.
# Contexts of codes that know one kind alone, on pictures and on other sequences.
_OF_PICTURES = {
  'adaptive, left': ('W',), 'adaptive, above': ('N',), 'adaptive, left and above': ('W', 'N')
}  # fmt: skip
_OF_SEQUENCES = {f'adaptive, order {n}': tuple(range(1, n + 1)) for n in range(1, 5)}
# More symbols than this take more than some quarter of an hour.
_MOST_COUNTED = 2**21
_BATCH = 64


class Row(NamedTuple):
  """One compressor on one split.

  Attributes:
    name: of the compressor.
    bits: of the whole split; None where it can't be applied, and the note says why.
    bits_per_dim: the same per token that is charged.
    packing: how the tokens were laid out, '' where that means nothing.
    note: what the number includes or leaves out, for people.
    code: 'exact', or 'upper_bound' for a run whose number is one.
    bits_N: of every example, where the code is a sum over them.
  """

  name: str
  bits: float | None
  bits_per_dim: float | None
  packing: str = ''
  note: str = ''
  code: str = 'exact'
  bits_N: np.ndarray | None = None

  def as_json(self, dims: int) -> dict[str, Any]:
    """Its fields, with `stderr`, over examples, in bits per dimension in the place of `bits_N`."""
    fields = self._asdict()
    bits_N = fields.pop('bits_N')
    return {**fields, 'stderr': None if bits_N is None else stderr_of(bits_N, dims)}


def stderr_of(bits_N: np.ndarray, dims: int) -> float | None:
  if len(bits_N) < 2:
    return None
  return float(np.std(bits_N, ddof=1) / math.sqrt(len(bits_N)) / dims)


def table(dataset: Dataset, split: str, after_train: bool = True) -> list[Row]:
  """Each compressor's smallest size on a split, in a fixed order."""
  return smallest(every_packing(dataset, split, after_train=after_train))


def smallest(rows: Sequence[Row]) -> list[Row]:
  """The row with the fewest bits of each name, names in the order of their first row."""
  best: dict[str, Row] = {}
  for row in rows:
    old = best.get(row.name)
    if old is None or (row.bits is not None and (old.bits is None or row.bits < old.bits)):
      best[row.name] = row
  return list(best.values())


def every_packing(
  dataset: Dataset,
  split: str,
  say: Callable[[str], None] = lambda name: None,
  after_train: bool = True,
) -> list[Row]:
  """Each compressor with each packing of a split; `say` is told each compressor's name.

  Raises:
    CodeError: an endless training split, which is no file, more than 2^16 token values, or more
      tokens than a compressor takes at once.
  """
  tokens = tokens_of(dataset, split)
  if tokens is None:
    raise CodeError(f"'{dataset.name}' draws its training examples for ever: there is no file")
  rows = [_make(UNIFORM, tokens, math.log2(dataset.vocabulary) * tokens.size)]
  rows.append(_histogram(dataset, split, tokens))
  for short, compressor in compressors.COMPRESSORS.items():
    say(compressor.name)
    found = list(_general(compressor, dataset, tokens))
    rows += found
    if after_train and short in _AFTER_TRAIN and split != 'train':
      say(f'{compressor.name} after train')
      rows += _after_train(compressor, dataset, tokens, found)
  rows += [Row(name, None, None, note=f'n/a: {why}') for name, why in compressors.MISSING.items()]
  for kind in ('PNG', 'WebP lossless', 'JPEG XL lossless'):
    say(kind)
    rows += _pictures(kind, dataset, tokens)
  return rows + _adaptive(dataset, split, tokens, say, after_train)


def tokens_of(dataset: Dataset, split: str) -> np.ndarray | None:
  """The charged tokens (N, T) of a split, None if it is endless."""
  examples = getattr(dataset, split)
  if not isinstance(examples, Examples):
    return None
  if len(examples) * dataset.dims > compressors.LARGEST:
    raise CodeError(
      f"{split} of '{dataset.name}' has {len(examples) * dataset.dims:,} tokens; compressors take "
      f'at most {compressors.LARGEST:,}'
    )
  return np.asarray(examples.tokens_NxT[:, : dataset.dims])


def _make(
  name: str, tokens: np.ndarray, bits: float | np.ndarray, packed: str = '', note: str = ''
) -> Row:
  """A row of so many bits, in all or (N,) of every example."""
  total = float(np.sum(bits))
  each = bits if isinstance(bits, np.ndarray) else None
  return Row(name, total, total / tokens.size, packed, note, bits_N=each)


def _histogram(dataset: Dataset, split: str, tokens: np.ndarray) -> Row:
  name = HISTOGRAM
  mean = histogram.split_bits(dataset, split)
  if mean is None:
    return Row(name, None, None, note='left out: the training split is endless')
  bits = mean * tokens.size
  note = 'fitted on the split itself' if split == 'train' else 'fitted on train'
  return _make(name, tokens, bits, note=f'{note}; its table not counted')


def _general(
  compressor: compressors.Compressor, dataset: Dataset, tokens: np.ndarray
) -> Iterator[Row]:
  for packed in packing.packings(packing.layout(dataset), len(tokens)):
    bits = 8 * len(compressor.compress(packed.pack(tokens)))
    yield _make(compressor.name, tokens, bits, packed.name)


def _after_train(
  compressor: compressors.Compressor, dataset: Dataset, tokens: np.ndarray, alone: Sequence[Row]
) -> list[Row]:
  """C(train and split) - C(train), in the first packing and in the split's best one.

  Not in all of them: train is some ten times larger, and so is the time.
  """
  name, of = f'{compressor.name} after train', packing.layout(dataset)
  if dataset.epoch is None:
    return [Row(name, None, None, note='left out: the training split is endless')]
  window = compressors.WINDOWS.get(compressor.name, compressors.LARGEST)
  if (dataset.epoch * dataset.dims + tokens.size) * tokens.itemsize > window:
    return [Row(name, None, None, note='left out: more than a window holds')]
  train = tokens_of(dataset, 'train')
  both = np.concatenate([train, tokens])
  # A sheet has another number across for another number of examples, hence by place.
  best = min(range(len(alone)), key=lambda i: alone[i].bits)
  rows = []
  for place in sorted({0, best}):
    whole, part = (packing.packings(of, len(some))[place] for some in (both, train))
    bits = 8 * (
      len(compressor.compress(whole.pack(both))) - len(compressor.compress(part.pack(train)))
    )
    rows.append(_make(name, tokens, bits, whole.name, 'C(train+split) - C(train), no file'))
  return rows


def _pictures(kind: str, dataset: Dataset, tokens: np.ndarray) -> list[Row]:
  of = packing.layout(dataset)
  if of.picture is None:
    return [Row(kind, None, None, note='left out: tokens are neither grey levels nor RGB bytes')]
  if kind == 'JPEG XL lossless' and pictures.NO_JXL:
    return [Row(kind, None, None, note=f'n/a: {pictures.NO_JXL}')]
  encode = {'PNG': pictures.png, 'WebP lossless': pictures.webp}.get(kind, pictures.jxl)
  rows = []
  for sheet in pictures.sheets(of, len(tokens)):
    data = encode(sheet.draw(tokens), of.vocabulary)
    if data is not None:
      rows.append(_make(kind, tokens, 8 * len(data), sheet.name))
  return rows or [Row(kind, None, None, note='left out: larger than the format allows')]


def _adaptive(
  dataset: Dataset, split: str, tokens: np.ndarray, say: Callable[[str], None], after_train: bool
) -> list[Row]:
  """Codes from nothing; then the mixture after the training split."""
  of = packing.layout(dataset)
  picture = of.picture if dataset.dims == math.prod(of.picture or ()) else None
  layout = counting.Layout(of.vocabulary, of.dims, picture, of.ordinal)
  singles = {'adaptive histogram': None} | (_OF_PICTURES if picture else _OF_SEQUENCES)
  names = [*singles, COUNTING]
  if tokens.size > _MOST_COUNTED or of.vocabulary > counting.MOST_VALUES:
    note = f'left out: more than {_MOST_COUNTED:,} tokens, or {counting.MOST_VALUES} values'
    return [Row(name, None, None, note=note) for name in names]
  rows = []
  for name, context in singles.items():
    say(name)
    expert = experts.Histogram(of.dims, of.vocabulary)
    if context is not None:
      expert = counting.Contexts(layout, len(tokens), context)
    bits = adaptive.bits_of(expert, tokens, experts.chunks(len(tokens), _BATCH))
    rows.append(_make(name, tokens, bits, note='from nothing, no file'))
  rows += _mixtures(dataset, layout, tokens, say)
  if after_train and split != 'train':
    say(f'{COUNTING} after train')
    rows.append(_mixture_after_train(dataset, layout, tokens))
  return rows


def counted_after_train(dataset: Dataset, split: str) -> float:
  """Bits per dimension of a split by the mixture that has read the training split.

  Raises:
    CodeError: an endless training split.
  """
  tokens, of = tokens_of(dataset, split), packing.layout(dataset)
  if tokens is None or dataset.epoch is None:
    raise CodeError(f"'{dataset.name}' draws its training examples for ever: there is no file")
  picture = of.picture if dataset.dims == math.prod(of.picture or ()) else None
  layout = counting.Layout(of.vocabulary, of.dims, picture, of.ordinal)
  return _mixture_after_train(dataset, layout, tokens).bits_per_dim


def _mixtures(
  dataset: Dataset, layout: counting.Layout, tokens: np.ndarray, say: Callable[[str], None]
) -> list[Row]:
  """The mixture's files: of text one, of other data one by rows and one by columns."""
  if _is_text(dataset):
    say(COUNTING)
    text = dataclasses.replace(layout, continued=True)
    bits = 8 * len(counted_file(text, tokens.reshape(-1), {'kind': container.BYTES}))
    return [_make(COUNTING, tokens, bits, 'one stream of bytes', 'from nothing, a file')]
  orders = {ROWS: None}
  if layout.picture:
    height, width, channels = layout.picture
    whole = np.arange(layout.length).reshape(height, width, channels)
    orders[COLUMNS] = whole.swapaxes(0, 1).reshape(-1)
  rows = []
  for name, order in orders.items():
    say(f'{COUNTING}, {name}')
    turned, part = layout, tokens
    if order is not None:
      turned = dataclasses.replace(layout, picture=(width, height, channels))
      part = tokens[:, order]
    fields = {'kind': container.ARRAY, 'dtype': '<i4', 'shape': (layout.length,)}
    bits = 8 * len(counted_file(turned, part.reshape(-1), fields))
    rows.append(_make(COUNTING, tokens, bits, name, 'from nothing, a file'))
  return rows


def _is_text(dataset: Dataset) -> bool:
  """Whether examples are windows of a file of bytes."""
  return not dataset.shape and dataset.pixels is None and dataset.vocabulary == 256


def counted_file(layout: counting.Layout, flat: np.ndarray, fields: dict[str, Any]) -> bytes:
  """The file of symbols by the counting code alone; `fields` of the header but for the total."""
  predictor = adaptive.Adaptive(adaptive.Settings(layout, _BATCH), flat.size)
  total = flat.size if fields['kind'] == container.BYTES else flat.size // layout.length
  header = container.Header(total=total, **fields, **predictor.claims())
  out = io.BytesIO()
  codec.encode(predictor, codec.Source(flat.size, lambda a, b: flat[a:b]), header, out)
  return out.getvalue()


def _mixture_after_train(dataset: Dataset, layout: counting.Layout, tokens: np.ndarray) -> Row:
  """The split's own part of the code of train and split."""
  name = f'{COUNTING} after train'
  if dataset.epoch is None:
    return Row(name, None, None, note='left out: the training split is endless')
  first = max(0, dataset.epoch - max(1, (_MOST_COUNTED - tokens.size) // dataset.dims))
  kept = np.asarray(dataset.train.tokens_NxT[first : dataset.epoch, : dataset.dims])
  both = np.concatenate([kept, tokens])
  if _is_text(dataset):
    expert = counting.Counting(dataclasses.replace(layout, continued=True), len(both))
    adaptive.text_bits(expert, kept.reshape(-1), layout.length)
    bits = adaptive.text_bits(expert, tokens.reshape(-1), layout.length)
  else:
    expert = counting.Counting(layout, len(both))
    bits = adaptive.bits_of(expert, both, experts.chunks(len(both), _BATCH))[len(kept) :]
  note = 'the rows after those of train, no file'
  if first:
    note = f'after the last {len(kept):,} rows of train, no file'
  return _make(name, tokens, bits, note=note)
