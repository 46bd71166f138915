r"""How many bits X and Y share, by code lengths: C(Y) - C(Y|X) and C(X) + C(Y) - C(XY).

python -m codes.mutual_information --pair=chain --out=DIR
python -m codes.mutual_information --pair=all --config=experiments/digits.py --out=DIR

The network's code is prequential: it starts uniform and pays for what it learns, so its lengths are
those of a whole description and no weights are left out. C(Y|X) codes y_i with x_i before it in the
sequence; for two data sets it codes Y after having learnt X. "mixture" is the Bayes mixture of that
and of coding each alone (for XY: of one network for both, each alone, and Y given X after X), a bit
or two longer than the best of them: K(Y|X) can't exceed K(Y) by more than a constant, and neither
can this code. Where learning costs more than there is to learn
the network alone shows a negative number, and that is not hidden. Classical compressors take
C(Y|X) = C(XY) - C(X), with X and Y one after the other ("whole") or row by row ("rows").
"""

from collections.abc import Callable, Sequence
import hashlib
import json
import os
import pathlib
import sys
from typing import Any

from absl import flags
import numpy as np

from launch import entry
from runs.errors import UserError

MADE_UP = ('noise', 'chain', 'itself')
LABELLED = ('labels', 'permuted_labels')
OF_DATA = ('labels', 'permuted_labels', 'halves', 'sets', 'image_itself')
_NETWORK = (
  ('width', 64, 'Of the network.'),
  ('layers', 2, 'Of the network.'),
  ('heads', 4, 'Of the network.'),
  ('chunk', 0, 'Examples coded between trainings; 0: 16 of a data set, 64 made up.'),
  ('updates', 0, 'Updates of a training; 0: 8 of a data set, 2 made up.'),
  ('batch', 0, 'Examples of an update; 0: 32 of a data set, 128 made up.'),
  ('seed', 0, 'Of the network and its updates.'),
)
# For data sets, and for endless sources of short sequences.
_DEFAULTS = {
  False: {'chunk': 16, 'updates': 8, 'batch': 32, 'learning_rate': 2e-3},
  True: {'chunk': 64, 'updates': 2, 'batch': 128, 'learning_rate': 5e-3},
}
# The network needs more of the chain until learning its reverse costs under 5 % of what is shared.
_MADE_UP_ROWS = {'noise': 40_000, 'chain': 100_000, 'itself': 40_000}
_GZIP_WINDOW = 2**15
_CLASSICAL = ('gzip', 'bzip2', 'xz', 'zstd')
Measure = Callable[..., np.ndarray]


def main(argv: Sequence[str], overrides: Sequence[str]) -> None:
  names = _check(argv)
  from codes import pairs
  from runs import configs
  from training import preemption

  # Lengths are kept with --out, and only then.
  (preemption.install if flags.FLAGS.out else preemption.end_at_once)()
  dataset = None
  if set(names) & set(OF_DATA):
    path, _, objective = flags.FLAGS.config.partition(':')
    config = configs.load(path, objective or 'autoregressive', overrides)
    from runs import experiment

    dataset, other = experiment.load_datasets(config, flags.FLAGS.data_dir)
  path = os.path.join(flags.FLAGS.out or '', 'results.json')
  earlier, found = _read(path) if flags.FLAGS.out else [], []
  for name in names:
    try:
      if name in MADE_UP:
        pair = pairs.MADE_UP[name](flags.FLAGS.rows or _MADE_UP_ROWS[name])
      elif name in LABELLED and len(names) > 1 and dataset.classes is None:
        print(f"\n{name}: left out, '{dataset.name}' has no labels", file=sys.stderr)
        continue
      elif name == 'sets':
        pair = pairs.sets(dataset, flags.FLAGS.rows, None if other is dataset else other)
      else:
        pair = pairs.OF_DATA[name](dataset, flags.FLAGS.rows)
      measure = (
        _remembering(flags.FLAGS.out, _measure(name in MADE_UP)) if flags.FLAGS.neural else None
      )
      found.append(result(pair, measure))
    except ValueError as error:
      raise UserError(f'{name}: {error}') from error
    print('\n'.join(lines(found[-1])), flush=True)
    if flags.FLAGS.out:
      from training.metrics import write_atomically

      write_atomically(path, json.dumps(_merged(earlier, found), indent=1) + '\n')
  if any(pair['bytes'] > _GZIP_WINDOW for pair in found):
    print(
      '\ngzip looks back 32 kB. With X and Y one after the other and longer than that, it has '
      'forgotten X when it comes to Y, and finds nothing even in X with itself.'
    )


def _merged(earlier: Sequence[dict], found: Sequence[dict]) -> list[dict]:
  """Pairs measured by earlier commands, then those measured now."""
  now = {pair['pair'] for pair in found}
  return [pair for pair in earlier if pair['pair'] not in now] + list(found)


def _read(path: str) -> list[dict]:
  try:
    with open(path, encoding='utf-8') as file:
      return json.load(file)
  except FileNotFoundError:
    return []
  except ValueError as error:
    raise UserError(f'{path} is not a results.json of this command: {error}') from error


def _check(argv: Sequence[str]) -> list[str]:
  if len(argv) > 1:
    raise UserError(f"'{argv[1]}' is not a flag; flags start with --")
  names = list(flags.FLAGS.pair)
  if names == ['all']:
    names = [name for name in MADE_UP + OF_DATA if name != 'image_itself']
  for name in names:
    if name not in MADE_UP + OF_DATA:
      raise UserError(f"pair '{name}' is unknown; known: all, {', '.join(MADE_UP + OF_DATA)}")
  for name in ('rows', *(name for name, *_ in _NETWORK)):
    if flags.FLAGS[name].value < 0:
      raise UserError(f'--{name} must not be negative, not {flags.FLAGS[name].value}')
  if 0 < flags.FLAGS.rows < 4:
    raise UserError(f'--rows must be at least 4, not {flags.FLAGS.rows}')
  if flags.FLAGS.out:
    os.makedirs(flags.FLAGS.out, exist_ok=True)
  return names


def _measure(made_up: bool) -> tuple[Measure, str]:
  """Bits of sequences by a network that learns, and a description of all that decides them."""
  from codes import learner, lengths, network

  names = (*(name for name, *_ in _NETWORK), 'learning_rate')
  chosen = {name: flags.FLAGS[name].value for name in names}
  chosen |= {k: v for k, v in _DEFAULTS[made_up].items() if not chosen[k]}
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

  # Other versions, other programs and other machines compute other last bits, or other lengths.
  return measure, repr((settings, network.program(), _program()))


def _program() -> str:
  """A digest of the source that decides the lengths, without comments and docstrings."""
  from codes import prequential

  root = pathlib.Path(__file__).parent.parent
  files = [root / 'codes' / name for name in ('learner.py', 'lengths.py', 'prequential.py')]
  for package in ('models', 'objectives', 'training'):
    files += sorted((root / package).glob('*.py'))
  found = hashlib.sha256()
  for path in files:
    found.update(prequential.stripped(path.read_text(encoding='utf-8')).encode())
  return found.hexdigest()


def _remembering(directory: str | None, made: tuple[Measure, str]) -> Measure:
  """Keeps every length in `directory`, if there is one: an interrupted command goes on."""
  measure, settings = made
  if directory is None:
    return measure

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


def result(pair: Any, measure: Measure | None) -> dict[str, Any]:
  """All code lengths of a pair, in bits, and what they say X and Y share.

  Returns:
    pair, note, truth (bits or None), rows, bytes (of X), row_bytes, and codes: a list of name,
    layout, x, y, y_given_x, x_given_y, xy, yx (bits), stderr (of the network's C(Y) - C(Y|X), over
    rows; None elsewhere) and shared: the four estimates in bits.
  """
  codes = []
  if measure is not None:
    codes += neural(pair, measure)
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
    'rows': len(pair.x_NxT),
    'bytes': int(pair.x_NxT.size),
    'row_bytes': [pair.x_NxT.shape[1], pair.y_NxT.shape[1]],
    'codes': codes,
  }


def neural(pair: Any, measure: Measure) -> list[dict[str, Any]]:
  """The network's lengths, and those of its mixture with coding X and Y each alone."""
  from codes.lengths import either

  x, y, v = pair.x_NxT, pair.y_NxT, pair.vocabulary
  x_bits, y_bits = measure(x, v), measure(y, v)
  if pair.joined:
    forward, backward = np.concatenate([x, y], 1), np.concatenate([y, x], 1)
    y_given_x = measure(forward, v, given=x.shape[1])
    x_given_y = measure(backward, v, given=y.shape[1])
    xy, yx = measure(forward, v).sum(), measure(backward, v).sum()
    stderr = float(np.std(y_bits - y_given_x, ddof=1) * np.sqrt(len(y)))
  else:
    y_given_x = measure(np.concatenate([x, y]), v)[len(x) :]
    x_given_y = measure(np.concatenate([y, x]), v)[len(y) :]
    # The chain rule holds by the way they are coded.
    xy, yx = x_bits.sum() + y_given_x.sum(), y_bits.sum() + x_given_y.sum()
    stderr = None
  sums = [float(part.sum()) for part in (x_bits, y_bits, y_given_x, x_given_y)]
  a, b, y_x, x_y = sums
  conditional = (either(y_x, b), either(x_y, a))
  joint = (either(xy, a + b, a + y_x), either(yx, a + b, b + x_y))
  return [
    _code('network', '', *sums, float(xy), float(yx), stderr),
    _code('mixture', '', a, b, *conditional, *joint),
  ]


def classical(pair: Any) -> list[dict[str, Any]]:
  """The same by general compressors; tokens are bytes, or two bytes where there are many."""
  from codes.compressors import COMPRESSORS

  kind = np.uint8 if pair.vocabulary <= 256 else np.dtype('<u2')
  x, y = (np.ascontiguousarray(part, kind) for part in (pair.x_NxT, pair.y_NxT))
  layouts = {'whole': (x.tobytes() + y.tobytes(), y.tobytes() + x.tobytes())}
  if pair.joined:
    both = (np.concatenate(parts, 1).tobytes() for parts in ((x, y), (y, x)))
    layouts['rows'] = tuple(both)
  found = []
  for name in _CLASSICAL:
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


def lines(found: dict[str, Any]) -> list[str]:
  """A table of one pair for people; bits, and shares of C(Y)."""
  truth = '' if found['truth'] is None else f'; known to share {found["truth"]:,.0f} bits'
  rows = [f'\n{found["pair"]}: {found["note"]}{truth}']
  names = ('C(X)', 'C(Y)', 'C(Y|X)', 'C(XY)')
  shared = ('C(Y)-C(Y|X)', 'C(X)-C(X|Y)', 'C(X)+C(Y)-C(XY)', 'C(X)+C(Y)-C(YX)')
  head = f'{"code":14}' + ''.join(f'{name:>12}' for name in names)
  rows.append(head + ' |' + ''.join(f'{name:>17}' for name in shared) + f'{"of C(Y)":>9}')
  for code in found['codes']:
    values = (code['x'], code['y'], code['y_given_x'], code['xy'])
    label = f'{code["name"]} {code["layout"]}'.strip()
    row = f'{label:14}' + ''.join(f'{value:12,.0f}' for value in values) + ' |'
    row += ''.join(f'{code["shared"][name]:17,.0f}' for name in shared)
    row += f'{100 * code["shared"][shared[0]] / code["y"]:8.1f}%' if code['y'] else ''
    rows.append(row)
  return rows


def define_flags() -> None:
  flags.DEFINE_list(
    'pair', ['all'], f'Of {", ".join(MADE_UP + OF_DATA)}; all: all but image_itself.'
  )
  flags.DEFINE_string('config', 'experiments/digits.py', 'Whose data the pairs are of.')
  flags.DEFINE_string('data_dir', '~/tensorflow_datasets', 'Prepared data sets.')
  flags.DEFINE_integer('rows', 0, 'Examples; 0: all of a data set, 40,000 or 100,000 made up.')
  flags.DEFINE_string('out', None, 'Directory for results.json; lengths are kept there.')
  flags.DEFINE_bool('neural', True, 'Without it, classical compressors only.')
  for name, default, help_ in _NETWORK:
    flags.DEFINE_integer(name, default, help_)
  flags.DEFINE_float('learning_rate', 0.0, '0: 2e-3 of a data set, 5e-3 made up.')


if __name__ == '__main__':
  define_flags()
  entry.run(main, takes_config=True)
