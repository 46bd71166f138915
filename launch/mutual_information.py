r"""How many bits X and Y share, by code lengths: C(Y) - C(Y|X) and C(X) + C(Y) - C(XY).

python -m launch.mutual_information --pair=chain --out=DIR
python -m launch.mutual_information --pair=all --config=experiments/digits.py --out=DIR

`codes.mutual_information` says how the lengths are made and what a negative number means.
"""

from collections.abc import Sequence
import os

from absl import flags

from launch import entry
from runs.errors import UserError

_PAIRS = (
  ('noise', 'chain', 'itself')
  + ('labels', 'permuted_labels', 'halves', 'sets', 'image_itself')
)  # fmt: skip
_NETWORK = (
  ('width', 64, 'Of the network.'),
  ('layers', 2, 'Of the network.'),
  ('heads', 4, 'Of the network.'),
  ('chunk', 0, 'Examples coded between trainings; 0: 16 of a data set, 64 made up.'),
  ('updates', 0, 'Updates of a training; 0: 8 of a data set, 2 made up.'),
  ('batch', 0, 'Examples of an update; 0: 32 of a data set, 128 made up.'),
  ('seed', 0, 'Of the network and its updates.'),
)


def main(argv: Sequence[str], overrides: Sequence[str]) -> None:
  names = _check(argv)
  from codes import compressors
  from codes import mutual_information as library
  from reports import codes_text
  from runs import mutual_information
  from training import preemption

  chosen, found = flags.FLAGS, []
  # Lengths are kept with --out, and only then.
  (preemption.install if chosen.out else preemption.end_at_once)()
  asked = {name: chosen[name].value for name in [*(n for n, *_ in _NETWORK), 'learning_rate']}
  for pair in mutual_information.survey(
    names, chosen.config, overrides, chosen.data_dir, chosen.rows,
    asked if chosen.neural else None, chosen.out,
  ):  # fmt: skip
    found.append(pair)
    print(codes_text.shared(pair), flush=True)
  for name, reason in compressors.MISSING.items():
    print(f'\n{name}: n/a: {reason}')
  if library.gzip_forgot(found):
    print(
      '\ngzip looks back 32 kB. With X and Y one after the other and longer than that, it has '
      'forgotten X when it comes to Y, and finds nothing even in X with itself.'
    )


def _check(argv: Sequence[str]) -> list[str]:
  entry.no_arguments(argv)
  names = list(flags.FLAGS.pair)
  if names == ['all']:
    names = [name for name in _PAIRS if name != 'image_itself']
  for name in names:
    if name not in _PAIRS:
      raise UserError(f"pair '{name}' is unknown; known: all, {', '.join(_PAIRS)}")
  for name in ('rows', *(name for name, *_ in _NETWORK)):
    if flags.FLAGS[name].value < 0:
      raise UserError(f'--{name} must not be negative, not {flags.FLAGS[name].value}')
  if 0 < flags.FLAGS.rows < 4:
    raise UserError(f'--rows must be at least 4, not {flags.FLAGS.rows}')
  if flags.FLAGS.out:
    os.makedirs(flags.FLAGS.out, exist_ok=True)
  return names


def define_flags() -> None:
  flags.DEFINE_list('pair', ['all'], f'Of {", ".join(_PAIRS)}; all: all but image_itself.')
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
