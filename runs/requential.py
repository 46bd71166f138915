"""The requential code of a run's network: trained once more, with a student beside it."""

from typing import Any

import jax
import tqdm

from codes import prequential, requential
from runs import experiment, finished, measured, ordering
from runs.errors import UserError
from training import keys, preemption

# Of the keys of a seed, that of the teacher's draws.
_STREAM = 7


def measure(workdir: str, data_dir: str, average: int) -> dict[str, Any]:
  """`codes.requential.describe` by the config of a run, with all of its updates.

  Args:
    workdir: a finished run that reads tokens in turn.
    data_dir: prepared data sets.
    average: updates that the moving average of both networks reaches back; 0 for none.

  Returns:
    The fields of `Described` but by_step, average, and of teacher and student the bits per
    dimension on validation.
  """
  config, _ = finished.read(workdir)
  built = experiment.build(config, data_dir, workdir)
  try:
    reading = prequential.reading(built.objective, built.model, built.space)
  except ValueError as error:
    raise UserError(f'{workdir}: {error}; only its draws and probabilities are exact') from error
  if built.objective.code.value != 'exact' or len(built.objective.members()) > 1:
    raise UserError(f'{workdir}: a requential code is for one exact code and no other loss')
  if config.training.init_from:
    raise UserError(f'{workdir} started from the weights of another run, which are not described')
  if ordering.describe(built)['data_order'] is not None:
    raise UserError(f'{workdir} saw its data in an order of its own, which is not described')
  if config.objective.get('order') == 'annealed':
    raise UserError(f'{workdir} learnt rows in random orders too, which are not described')
  steps, batch = config.training.steps, config.training.batch_size
  draws = jax.random.fold_in(keys.key(config.training.seed), _STREAM)
  teacher, student = (
    requential.Network(built.task, reading, config.optimizer, steps, batch, average, draws)
    for _ in range(2)
  )
  slots = list(reading.order)
  rows = (built.batches[step]['tokens'][:, slots] for step in range(steps))
  with tqdm.tqdm(rows, 'requential', steps, leave=False, unit='step', disable=None) as shown:
    try:
      made = requential.describe(teacher, student, shown, preemption.check)
    except ValueError as error:
      raise UserError(f'{workdir}: {error}') from error
  found = {name: value for name, value in made._asdict().items() if name != 'by_step'}
  for name, side in (('teacher', teacher), ('student', student)):
    values = built.per_example(side.params, built.dataset.validation, 1, measured.VALIDATION)
    found[name] = measured.bits_per_dim(built, values['nats'])
  return found | {'average': average}
