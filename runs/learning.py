"""How a code learns: which experts, and what a stream says of them."""

import dataclasses
import itertools

from codes import adaptive, counting, packing, prequential
from data import text
from data.dataset import Dataset
from runs import experiment
from runs.errors import UserError

# Where a run goes on learning: of the config's learning rate, and updates of a training. On the
# validation images of digits 1, 4 and 16 updates were all longer than none.
_LESS, _FEW, _MANY = 0.1, 4, 40


@dataclasses.dataclass(frozen=True)
class Learning:
  """How a code learns.

  Attributes:
    networks: whether networks are among its experts.
    counts: whether the counting code is.
    chunk: rows coded between trainings, at most; batches grow up to it, where `growing`.
    growing: see `chunk`.
    updates: of a training, a network for each number; none for 40, or 4 where a run goes on.
    rates: of learning, a network for each; none for the config's own, or a tenth of it where a run
      goes on.
    seeds: networks of each of these.
    average: updates that the moving average of the parameters reaches back; 0 for none.
    calibrated: whether a temperature follows what was coded.
    replay: as in `codes.learner.Schedule`.
  """

  networks: bool = True
  counts: bool = True
  chunk: int = 64
  growing: bool = True
  updates: tuple[int, ...] = ()
  rates: tuple[float, ...] = ()
  seeds: int = 1
  average: int = 100
  calibrated: bool = True
  replay: bool = True


def settings(
  built: experiment.Experiment, dataset: Dataset, how: Learning, goes_on: bool = False
) -> adaptive.Settings:
  """What a header says of a code that learns; UserError where it can't be made.

  A run that goes on has one expert more, which is its network as it is.

  Args:
    built: of the networks.
    dataset: whose examples are coded.
    how: see there.
    goes_on: whether networks start from those of a finished run.
  """
  of, order, plain = packing.layout(dataset), None, []
  if how.networks:
    try:
      order = prequential.reading(built.objective, built.model, built.space).order
    except ValueError as error:
      way = 'only such a run goes on learning' if goes_on else '--mode=counting needs no network'
      raise UserError(f'{error}; {way}') from error
    rate = built.config.optimizer.learning_rate
    rates = how.rates or (rate * _LESS if goes_on else rate,)
    if goes_on:
      plain.append(_network(built, how, 0, rate, 0))
    updates = how.updates or (_FEW if goes_on else _MANY,)
    for chosen in itertools.product(updates, rates, range(how.seeds)):
      plain.append(_network(built, how, *chosen))
  raster = order is None or order == tuple(range(of.dims))
  layout = counting.Layout(
    of.vocabulary, of.dims, of.picture if raster else None, of.ordinal,
    text.is_text(built.config.data),
  )  # fmt: skip
  return adaptive.Settings(
    layout, how.chunk, 32 if how.growing else 0, how.counts, tuple(plain),
    order=None if raster else order,
  )  # fmt: skip


def _network(
  built: experiment.Experiment, how: Learning, updates: int, rate: float, number: int
) -> dict:
  config = built.config
  schedule = {
    'chunk': how.chunk, 'updates': updates, 'batch': config.training.batch_size,
    'replay': how.replay, 'seed': config.training.seed + number,
  }  # fmt: skip
  made = prequential.describe(built.model, config, schedule, how.average, how.calibrated)
  made['optimizer']['learning_rate'] = rate
  return made
