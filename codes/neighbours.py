r"""Classification by compression: gzip and other codes beside a trained network's own.

python -m codes.neighbours --workdir=RUN --compressor=gzip,xz --train_rows=200 --test_rows=300

Every row of the table has the same labelled training rows (balanced by class), the same validation
rows, which choose k and step sizes, and the same test rows, which are read once. The rows:

  pixels, kNN: Euclidean distance of the raw tokens (of their values where a token is a colour).
  gzip, kNN: normalised compression distance, see `codes.distances`.
  gzip, by class: the class after whose training rows the test row adds the fewest bytes.
  network, kNN: the distance C(y | x_i) - C(y), C(y | x_i) being the code length of y after one
    plain gradient step on -log p(x_i); exact, see `codes.adapted`. With --symmetric the mean of
    both directions.
  network, by class: the least C(y | X_c) after --class_steps steps on the mean of class c.

The network has been trained on the training split without labels before, which the compressors
have not; its bits on test are the record's, not these.
"""

from collections.abc import Callable, Iterator, Sequence
import json
from typing import Any, NamedTuple

from absl import flags
import numpy as np

from codes import adapted, compressors, distances, tables
from data.dataset import Dataset, Examples
from launch import entry
from probes import selection
from runs.errors import UserError

NEIGHBOURS = (1, 2, 3, 5, 10, 20)


class Rows(NamedTuple):
  """What every classifier is given.

  Attributes:
    train, validation, test: tokens (N, T) as the network sees them; `labels_*` theirs, (N,).
    classes: K.
    vocabulary, ordinal, values_VxK: see `data.dataset.Dataset`.
  """

  train: np.ndarray
  labels_train: np.ndarray
  validation: np.ndarray
  labels_validation: np.ndarray
  test: np.ndarray
  labels_test: np.ndarray
  classes: int
  vocabulary: int
  ordinal: bool
  values_VxK: np.ndarray | None


def choose_rows(dataset: Dataset, train: int, validation: int, test: int, seed: int) -> Rows:
  """Balanced training rows, and random validation and test rows; all of a split that has fewer.

  Raises:
    ValueError: no labels, an endless training split, or no balanced subset so large.
  """
  if dataset.classes is None:
    raise ValueError(f"'{dataset.name}' has no labels")
  if not isinstance(dataset.train, Examples):
    raise ValueError(f"'{dataset.name}' draws its training examples for ever")
  labels = np.asarray(dataset.train.labels_N)
  kept = selection.balanced_subset(labels, train, dataset.classes, seed)
  arrays = [dataset.train.tokens_NxT[kept], labels[kept]]
  for part, count in ((dataset.validation, validation), (dataset.test, test)):
    some = np.sort(np.random.default_rng(seed).permutation(len(part))[:count])
    arrays += [part.tokens_NxT[some], part.labels_N[some]]
  of = (dataset.classes, dataset.vocabulary, dataset.ordinal, dataset.values_VxK)
  return Rows(*arrays, *of)


def by_neighbours(
  rows: Rows, candidates: Sequence[tuple[dict[str, float], Callable[[np.ndarray], np.ndarray]]]
) -> distances.Accuracy:
  """kNN under the best of some distances (tokens (Q, T) -> (Q, N)) and the best k."""
  tried = []
  for place, (settings, distance) in enumerate(candidates):
    far_QxN = distance(rows.validation)
    if not np.isfinite(far_QxN).all():
      continue  # The network diverged.
    tried += [
      (settings | {'k': k, 'place': place}, _votes(far_QxN, rows, k))
      for k in NEIGHBOURS
      if k <= len(rows.train)
    ]
  best, validation = distances.choose(tried, rows.labels_validation)
  chosen = dict(tried[best][0])
  far_QxN = candidates[chosen.pop('place')][1](rows.test)
  if not np.isfinite(far_QxN).all():
    raise distances.NoneFinite('the best step size gives code lengths that are not finite on test')
  votes = _votes(far_QxN, rows, int(chosen['k']))
  return distances.judge(votes, rows.labels_test, validation, chosen)


def _votes(distance_QxN: np.ndarray, rows: Rows, k: int) -> np.ndarray:
  return distances.votes(distance_QxN, rows.labels_train, rows.classes, k)


def by_class(
  rows: Rows, candidates: Sequence[tuple[dict[str, float], Callable[[np.ndarray], np.ndarray]]]
) -> distances.Accuracy:
  """The cheapest class under the best of some costs (tokens (Q, T) -> (Q, K))."""
  # Validation and test together: to learn the classes is most of the work. Nothing of the test
  # rows enters the choice.
  both, cut = np.concatenate([rows.validation, rows.test]), len(rows.validation)
  costs = [(settings, cost(both)) for settings, cost in candidates]
  # Without those under which the network diverged.
  tried = [(s, distances.cheapest(c)) for s, c in costs if np.isfinite(c).all()]
  halves = [(settings, votes[:cut]) for settings, votes in tried]
  best, validation = distances.choose(halves, rows.labels_validation)
  settings, votes = tried[best]
  return distances.judge(votes[cut:], rows.labels_test, validation, settings)


def pixels(rows: Rows) -> distances.Accuracy:
  """kNN on the raw tokens: levels as numbers, colours by their values, else one-hot."""
  table = rows.values_VxK
  if table is None:
    table = np.arange(rows.vocabulary)[:, None] if rows.ordinal else np.eye(rows.vocabulary)

  def flat(tokens: np.ndarray) -> np.ndarray:
    return table[tokens].reshape(len(tokens), -1)

  return by_neighbours(rows, [({}, lambda y: distances.squared(flat(y), flat(rows.train)))])


def classical(rows: Rows, short: str) -> Iterator[tuple[str, distances.Accuracy]]:
  """A compressor's two rows."""
  compress = compressors.COMPRESSORS[short].compress
  dtype = np.uint8 if rows.vocabulary <= 256 else np.dtype('<u2')

  def files(tokens: np.ndarray) -> list[bytes]:
    return [row.astype(dtype).tobytes() for row in tokens]

  bank = files(rows.train)
  yield (
    f'{short}, kNN',
    by_neighbours(rows, [({}, lambda y: distances.ncd(compress, files(y), bank))]),
  )

  def cost(tokens: np.ndarray) -> np.ndarray:
    return distances.by_class(compress, files(tokens), bank, rows.labels_train, rows.classes)

  yield f'{short}, by class', by_class(rows, [({}, cost)])


def neural(
  rows: Rows,
  lengths: adapted.Lengths,
  sizes: Sequence[float],
  class_sizes: Sequence[float],
  class_steps: int,
  symmetric: bool,
) -> Iterator[tuple[str, distances.Accuracy]]:
  """The network's two rows."""

  def distance(size: float) -> Callable[[np.ndarray], np.ndarray]:
    def far(y_QxT: np.ndarray) -> np.ndarray:
      there = lengths.after_each(rows.train, y_QxT, size) - lengths.alone(y_QxT)[:, None]
      if not symmetric:
        return there
      back = lengths.after_each(y_QxT, rows.train, size) - lengths.alone(rows.train)[:, None]
      return (there + back.T) / 2

    return far

  name = 'network, kNN' + (', symmetric' if symmetric else '')
  yield name, by_neighbours(rows, [({'step': size}, distance(size)) for size in sizes])

  def cost(size: float) -> Callable[[np.ndarray], np.ndarray]:
    settings = (rows.labels_train, rows.classes)
    return lambda y: lengths.after_class(rows.train, *settings, y, size, class_steps)

  steps = {'steps': class_steps}
  yield 'network, by class', by_class(rows, [(steps | {'step': s}, cost(s)) for s in class_sizes])


def render(found: Sequence[tuple[str, distances.Accuracy]], form: Any = tables.terminal) -> str:
  """The table as text, in a form of `codes.tables`."""
  head = ('classifier', 'test accuracy, %', 'validation, %', 'tied, %', 'chosen on validation')
  lines = [
    (
      name,
      f'{100 * a.accuracy:.1f} ± {100 * a.stderr:.1f}',
      f'{100 * a.validation:.1f}',
      f'{100 * a.tied:.0f}',
      ', '.join(f'{key} {value:g}' for key, value in a.chosen.items()) or '–',
    )
    for name, a in found
  ]
  return form(head, lines, right=(1, 2, 3))


def caption(name: str, rows: Rows) -> str:
  """What the rows were."""
  return (
    f'{name}: {len(rows.train)} labelled training rows, balanced; {len(rows.validation)} '
    f'validation rows choose; {len(rows.test)} test rows. Chance: {100 / rows.classes:.1f} %.\n'
    '± binomial standard error over test rows. Tied classes share the credit: no tie is counted as '
    'right.\nThe network was trained on the training split without labels; the others were not.'
  )


def _open(workdir: str, data_dir: str) -> tuple[Any, Any]:
  """The experiment and the parameters of a finished run."""
  from runs import configs, experiment, run

  saved = configs.with_new_probes(configs.from_plain(configs.read_saved(workdir)['config']))
  if run.read_record(workdir) is None:
    raise UserError(f'{workdir} is not finished; launch.train goes on with it')
  built = experiment.build(saved, data_dir)
  if built.mesh.size > 1:
    raise UserError('this runs on one device: hide the others, as with CUDA_VISIBLE_DEVICES=0')
  state, _ = run.restore(built, workdir, best=False)
  return built, state.params


def main(argv: Sequence[str]) -> None:
  chosen = flags.FLAGS
  if len(argv) > 1:
    raise UserError(f"'{argv[1]}' is not a flag; flags start with --")
  if chosen.workdir is None:
    raise UserError('--workdir=DIR (a finished run) is needed')
  unknown = [name for name in chosen.compressor if name not in compressors.COMPRESSORS]
  if unknown:
    known = ', '.join(compressors.COMPRESSORS)
    raise UserError(f"--compressor: '{unknown[0]}' is unknown; known: {known}")
  sizes = entry.numbers('step_sizes', chosen.step_sizes, float)
  class_sizes = entry.numbers('class_step_sizes', chosen.class_step_sizes, float)
  if not all(0 < size < float('inf') for size in sizes + class_sizes):
    raise UserError('step sizes must be positive and finite')
  out = chosen.out
  entry.check_out(out)
  built, params = _open(chosen.workdir, chosen.data_dir)
  counts = (chosen.train_rows, chosen.validation_rows, chosen.test_rows)
  try:
    rows = choose_rows(built.probe_dataset, *counts, chosen.seed)
    nats = adapted.make_nats(built.objective, built.apply, built.space)
  except ValueError as error:
    raise UserError(str(error)) from error
  lengths = adapted.Lengths(nats, params, chunk=built.config.evaluation.batch_size)
  found = [('pixels, kNN', pixels(rows))]
  for short in chosen.compressor:
    found += classical(rows, short)
  failed = None
  try:
    for row in neural(rows, lengths, sizes, class_sizes, chosen.class_steps, chosen.symmetric):
      found.append(row)
  except distances.NoneFinite as error:
    failed = f'the network is left out: {error}'
  print(caption(built.probe_dataset.name, rows))
  tried = [', '.join(f'{size:g}' for size in some) for some in (sizes, class_sizes)]
  print(f'Step sizes tried: kNN {tried[0]}; by class {tried[1]}.\n')
  print(render(found))
  if out is not None:
    content = {'dataset': built.probe_dataset.name, 'seed': chosen.seed, 'rows': counts}
    content['classifiers'] = {name: accuracy._asdict() for name, accuracy in found}
    with open(out, 'w') as file:
      json.dump(content, file, indent=1, allow_nan=False)
  if failed:
    raise UserError(failed)


def _define_flags() -> None:
  """Only for the command: other commands import this module, and have flags of these names."""
  flags.DEFINE_string('workdir', None, 'Directory of a finished run whose code is exact.')
  flags.DEFINE_string('data_dir', '~/tensorflow_datasets', 'Prepared data sets.')
  flags.DEFINE_list('compressor', ['gzip', 'bzip2', 'xz', 'zstd'], 'Compressors beside it.')
  flags.DEFINE_integer('train_rows', 200, 'Labelled training rows.', lower_bound=1)
  flags.DEFINE_integer('validation_rows', 100, 'Rows that choose.', lower_bound=1)
  flags.DEFINE_integer('test_rows', 300, 'Rows that are judged.', lower_bound=1)
  flags.DEFINE_integer('seed', 0, 'Of the choice of rows.', lower_bound=0)
  flags.DEFINE_list('step_sizes', ['3e-6', '1e-5', '3e-5'], 'Of one step on one row, in nats.')
  flags.DEFINE_list(
    'class_step_sizes', ['1e-3', '2e-3', '4e-3'], 'Of steps on the mean of a class.'
  )
  flags.DEFINE_integer('class_steps', 20, 'Steps on each class.', lower_bound=1)
  flags.DEFINE_bool('symmetric', False, 'Also from test row to training row; twice the time.')
  flags.DEFINE_string('out', None, 'Write everything here, as JSON.')


if __name__ == '__main__':
  _define_flags()
  entry.run(main)
