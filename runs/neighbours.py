"""Classification by compression beside the network of a finished run."""

from collections.abc import Sequence
from typing import Any

from codes import adapted, distances, neighbours
from runs import experiment, finished, run
from runs.errors import UserError


def classify(
  workdir: str,
  data_dir: str,
  *,
  compressors: Sequence[str],
  counts: tuple[int, int, int],
  seed: int,
  sizes: Sequence[float],
  class_sizes: Sequence[float],
  class_steps: int,
  symmetric: bool,
) -> dict[str, Any]:
  """Every classifier of `codes.neighbours` on rows of the probed data.

  Args:
    workdir: a finished run whose code is exact.
    data_dir: prepared data sets.
    compressors: names in `codes.compressors`.
    counts: training, validation and test rows.
    seed: of the choice of rows.
    sizes, class_sizes: of the network's steps, to choose from.
    class_steps: steps on each class.
    symmetric: also from test row to training row.

  Returns:
    dataset, seed, rows (asked for), used_rows, classes, step_sizes, class_step_sizes, classifiers
    (name -> `codes.distances.Accuracy` as a dict), and left_out: why the network is not among
    them, or None.
  """
  config, _ = finished.read(workdir)
  built = experiment.build(config, data_dir, workdir)
  if built.mesh.size > 1:
    raise UserError('this runs on one device: hide the others, as with CUDA_VISIBLE_DEVICES=0')
  state, _ = run.restore(built, workdir, best=False)
  rows = neighbours.choose_rows(built.probe_dataset, *counts, seed)
  nats = adapted.make_nats(built.objective, built.apply, built.space)
  lengths = adapted.Lengths(nats, state.params, chunk=config.evaluation.batch_size)
  found, left_out = [('pixels, kNN', neighbours.pixels(rows))], None
  for short in compressors:
    found += neighbours.classical(rows, short)
  try:
    for row in neighbours.neural(rows, lengths, sizes, class_sizes, class_steps, symmetric):
      found.append(row)
  except distances.NoneFinite as error:
    left_out = f'the network is left out: {error}'
  return {
    'dataset': built.probe_dataset.name,
    'seed': seed,
    'rows': counts,
    'used_rows': [len(rows.train), len(rows.validation), len(rows.test)],
    'classes': rows.classes,
    'step_sizes': list(sizes),
    'class_step_sizes': list(class_sizes),
    'classifiers': {name: accuracy._asdict() for name, accuracy in found},
    'left_out': left_out,
  }
