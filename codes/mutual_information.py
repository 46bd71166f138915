"""How many bits X and Y share, by code lengths: C(Y) - C(Y|X) and C(X) + C(Y) - C(XY).

The network's code is prequential: it starts uniform and pays for what it learns, so its lengths are
those of a whole description and no weights are left out. C(Y|X) codes y_i with x_i before it in the
sequence; for two data sets it codes Y after having learnt X. "mixture" is the Bayes mixture of that
and of coding each alone (for XY: of one network for both, each alone, and Y given X after X), a bit
or two longer than the best of them: K(Y|X) can't exceed K(Y) by more than a constant, and neither
can this code. Where learning costs more than there is to learn
the network alone shows a negative number, and that is not hidden. The same by the counting code,
which needs no network. Classical compressors take
C(Y|X) = C(XY) - C(X), with X and Y one after the other ("whole") or row by row ("rows").
"""

from collections.abc import Callable, Sequence
import hashlib
import json
import os
import pathlib
from typing import Any

import numpy as np

from codes import adaptive, counting, experts, learner, lengths, network, pairs, program
from codes.compressors import COMPRESSORS
from codes.errors import CodeError

# Of the network's training, for data sets and for endless sources of short sequences.
OF_DATA = {'chunk': 16, 'updates': 8, 'batch': 32, 'learning_rate': 2e-3}
MADE_UP = {'chunk': 64, 'updates': 2, 'batch': 128, 'learning_rate': 5e-3}
_GZIP_WINDOW = 2**15
_CLASSICAL = ('gzip', 'bzip2', 'xz', 'zstd', 'brotli', 'ppmd')
# Rows that the counting code takes at a time, at most.
_COUNTED = 256
# Tokens times values beyond which it is left out: minutes an estimate.
_MOST_COUNTED = 2**25
Measure = Callable[..., np.ndarray]


def network_measure(made_up: bool, asked: dict[str, float], directory: str | None) -> Measure:
  """Bits of sequences by a network that learns.

  Args:
    made_up: whether the pair is drawn from an endless source, rather than of a data set.
    asked: width, layers, heads and seed of the network, and settings by the names of OF_DATA, of
      which 0 is the default.
    directory: where every length is kept, so that an interrupted command goes on; or None.
  """
  defaults = MADE_UP if made_up else OF_DATA
  chosen = asked | {name: value for name, value in defaults.items() if not asked[name]}
  optimizer = {
    'learning_rate': chosen['learning_rate'], 'warmup_steps': 10, 'end_fraction': 1.0,
    'beta1': 0.9, 'beta2': 0.95, 'weight_decay': 0.01, 'clip_norm': 1.0,
  }  # fmt: skip
  schedule = learner.Schedule(
    chosen['chunk'], chosen['updates'], chosen['batch'], True, chosen['seed']
  )
  shape = (chosen['width'], chosen['layers'], chosen['heads'])
  settings = lengths.Settings(*shape, optimizer, schedule)

  def measure(tokens_NxT, vocabulary, given=0, coded=0) -> np.ndarray:
    return lengths.bits(tokens_NxT, vocabulary, settings, given, coded)

  if directory is None:
    return measure
  # Other versions, other programs and other machines compute other last bits, or other lengths.
  return remembering(directory, measure, repr((settings, network.program(), _program())))


def _program() -> str:
  """A digest of the source that decides the lengths, without comments and docstrings."""
  root = pathlib.Path(__file__).parent.parent
  files = [root / 'codes' / name for name in ('learner.py', 'lengths.py', 'prequential.py')]
  for package in ('models', 'objectives', 'training'):
    files += sorted((root / package).glob('*.py'))
  found = hashlib.sha256()
  for path in files:
    found.update(program.stripped(path.read_text(encoding='utf-8')).encode())
  return found.hexdigest()


def remembering(directory: str, measure: Measure, settings: str) -> Measure:
  """Keeps every length in `directory`; `settings` say what else than the tokens decides it."""

  def remembered(tokens_NxT, vocabulary, given=0, coded=0) -> np.ndarray:
    used = given + coded if coded else tokens_NxT.shape[1]
    content = np.ascontiguousarray(tokens_NxT[:, :used], '<i4')
    name = repr((settings, content.shape, vocabulary, given)).encode() + content.tobytes()
    path = os.path.join(directory, f'lengths_{hashlib.sha256(name).hexdigest()[:24]}.npy')
    if not os.path.exists(path):
      found = measure(tokens_NxT, vocabulary, given, coded)
      partial = path.replace('.npy', '.partial.npy')
      np.save(partial, found)
      os.replace(partial, path)
    return np.load(path)

  return remembered


def merged(earlier: Sequence[dict], found: Sequence[dict]) -> list[dict]:
  """Pairs measured by earlier commands, then those measured now."""
  now = {pair['pair'] for pair in found}
  return [pair for pair in earlier if pair['pair'] not in now] + list(found)


def read(path: str) -> list[dict]:
  """The pairs of a results.json; none where there is no such file."""
  try:
    with open(path, encoding='utf-8') as file:
      return json.load(file)
  except FileNotFoundError:
    return []
  except ValueError as error:
    raise CodeError(f'{path} is not a results.json of this command: {error}') from error


def result(pair: pairs.Pair, measure: Measure | None) -> dict[str, Any]:
  """All code lengths of a pair, in bits, and what they say X and Y share.

  Args:
    pair: X and Y.
    measure: the network's lengths; None for the classical compressors alone.

  Returns:
    pair, note, truth (bits or None), realised (the same of these very rows, or None), rows, bytes
    (of X), row_bytes, and codes: a list of name, layout, x, y, y_given_x, x_given_y, xy, yx (bits),
    stderr (of a learning code's C(Y) - C(Y|X), over rows, from two; None elsewhere) and shared: the
    four estimates in bits.

  Raises:
    CodeError: training diverges.
  """
  codes = []
  if measure is not None:
    try:
      codes += neural(pair, measure)
    except ValueError as error:
      raise CodeError(f'{pair.name}: {error}') from error
  values = (pair.x_NxT.size + pair.y_NxT.size) * pair.vocabulary
  if pair.vocabulary <= counting.MOST_VALUES and values <= _MOST_COUNTED:
    for code in neural(pair, counting_measure(pair.ordinal)):
      codes.append(code | {'name': _COUNTING_NAMES[code['name']]})
  codes += classical(pair)
  for code in codes:
    code['shared'] = {
      'C(Y)-C(Y|X)': code['y'] - code['y_given_x'],
      'C(X)-C(X|Y)': code['x'] - code['x_given_y'],
      'C(X)+C(Y)-C(XY)': code['x'] + code['y'] - code['xy'],
      'C(X)+C(Y)-C(YX)': code['x'] + code['y'] - code['yx'],
    }
  return {
    'pair': pair.name,
    'note': pair.note,
    'truth': pair.truth,
    'realised': pair.realised,
    'rows': len(pair.x_NxT),
    'bytes': int(pair.x_NxT.size),
    'row_bytes': [pair.x_NxT.shape[1], pair.y_NxT.shape[1]],
    'codes': codes,
  }


_COUNTING_NAMES = {'network': 'counting', 'mixture': 'its mixture'}


def counting_measure(ordinal: bool) -> Measure:
  """Bits of sequences by the counting code, from nothing; what is given it learns from as well."""

  def measure(tokens_NxT, vocabulary, given=0, coded=0) -> np.ndarray:
    end = given + coded if coded else tokens_NxT.shape[1]
    rows_NxT = np.asarray(tokens_NxT[:, :end], np.int64)
    layout = counting.Layout(vocabulary, end, None, ordinal)
    expert = counting.Counting(layout, len(rows_NxT))
    batches = experts.chunks(len(rows_NxT), _COUNTED)
    return adaptive.bits_of(expert, rows_NxT, batches, given=given)

  return measure


def neural(pair: pairs.Pair, measure: Measure) -> list[dict[str, Any]]:
  """The lengths of a code that learns, and those of its mixture with coding X and Y each alone."""
  x, y, v = pair.x_NxT, pair.y_NxT, pair.vocabulary
  x_bits, y_bits = measure(x, v), measure(y, v)
  if pair.joined:
    forward, backward = np.concatenate([x, y], 1), np.concatenate([y, x], 1)
    y_given_x = measure(forward, v, given=x.shape[1])
    x_given_y = measure(backward, v, given=y.shape[1])
    xy, yx = measure(forward, v).sum(), measure(backward, v).sum()
    differences = y_bits - y_given_x
    stderr = float(np.std(differences, ddof=1) * np.sqrt(len(y))) if len(y) > 1 else None
  else:
    y_given_x = measure(np.concatenate([x, y]), v)[len(x) :]
    x_given_y = measure(np.concatenate([y, x]), v)[len(y) :]
    # The chain rule holds by the way they are coded.
    xy, yx = x_bits.sum() + y_given_x.sum(), y_bits.sum() + x_given_y.sum()
    stderr = None
  sums = [float(part.sum()) for part in (x_bits, y_bits, y_given_x, x_given_y)]
  a, b, y_x, x_y = sums
  conditional = (lengths.either(y_x, b), lengths.either(x_y, a))
  joint = (lengths.either(xy, a + b, a + y_x), lengths.either(yx, a + b, b + x_y))
  return [
    _code('network', '', *sums, float(xy), float(yx), stderr),
    _code('mixture', '', a, b, *conditional, *joint),
  ]


def classical(pair: pairs.Pair) -> list[dict[str, Any]]:
  """The same by general compressors; tokens are bytes, or two bytes where there are many."""
  kind = np.uint8 if pair.vocabulary <= 256 else np.dtype('<u2')
  x, y = (np.ascontiguousarray(part, kind) for part in (pair.x_NxT, pair.y_NxT))
  layouts = {'whole': (x.tobytes() + y.tobytes(), y.tobytes() + x.tobytes())}
  if pair.joined:
    both = (np.concatenate(parts, 1).tobytes() for parts in ((x, y), (y, x)))
    layouts['rows'] = tuple(both)
  found = []
  for name in filter(COMPRESSORS.__contains__, _CLASSICAL):
    compress = COMPRESSORS[name].compress
    a, b = (8 * len(compress(part.tobytes())) for part in (x, y))
    for layout, joint in layouts.items():
      xy, yx = (8 * len(compress(data)) for data in joint)
      found.append(_code(name, layout, a, b, xy - a, yx - b, xy, yx))
  return found


def _code(name, layout, x, y, y_given_x, x_given_y, xy, yx, stderr=None) -> dict[str, Any]:
  return {
    'name': name, 'layout': layout, 'x': x, 'y': y, 'y_given_x': y_given_x,
    'x_given_y': x_given_y, 'xy': xy, 'yx': yx, 'stderr': stderr,
  }  # fmt: skip


def gzip_forgot(found: Sequence[dict]) -> bool:
  """Whether X of some pair is longer than gzip looks back."""
  return any(pair['bytes'] > _GZIP_WINDOW for pair in found)
