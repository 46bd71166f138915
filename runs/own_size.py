"""The two-part code and the training-time code of a finished run."""

from collections.abc import Sequence
from typing import Any

from codes import own_size, training_time
from objectives import Code
from reports import reading
from runs import assessment, experiment, finished, ordering, run


def measure(workdir: str, data_dir: str) -> dict[str, Any]:
  """Run, two-part code (None without a likelihood) and training-time code of one run.

  Returns:
    run (what the record says of it), two_part (`two_part`) and training_time
    (`codes.training_time.first_epoch`).
  """
  config, record = finished.read(workdir)
  built = experiment.build(config, data_dir, workdir)
  made = {'run': {name: record.get(name) for name in ('objective', 'seed', 'size', 'dataset')}}
  made['run'] |= {'code': record['code'], 'bits_per_dim': record['bits_per_dim']}
  made['run']['validation'] = (record.get('validation') or {}).get('bits_per_dim')
  made['two_part'], curve = None, ()
  if record['code'] in ('exact', 'upper_bound'):
    state, _ = run.restore(built, workdir, best=False)
    made['two_part'], curve = two_part(built, state.params), reading.read_curve(workdir)
  if (reason := _no_code_in_training(built)) is not None:
    made['training_time'] = {'bits_per_dim': None, 'reason': reason}
    return made
  made['training_time'] = training_time.first_epoch(
    curve,
    batch_size=config.training.batch_size,
    epoch=built.dataset.epoch,
    log_every=config.training.log_every,
  )
  return made


def _no_code_in_training(built: experiment.Experiment) -> str | None:
  """Why the losses of training are no code of its examples; None where they are."""
  if built.config.training.init_from:
    # Its weights had learned before, and would have to be sent.
    return 'its training started from the weights of another run'
  if built.objective.code is Code.ESTIMATE:
    return 'its bits in training are by a learned normaliser, and probabilities need not sum to 1'
  if len(built.objective.members()) > 1:
    return 'the bits in its log are of a share of the examples alone'
  if built.config.data.get('order', ordering.SHUFFLED) != ordering.SHUFFLED:
    return 'its examples came in an order that the receiver would have to be told'
  return None


def two_part(
  built: experiment.Experiment, params: Any, bits: Sequence[int] = own_size.BITS
) -> dict[str, Any]:
  """`codes.own_size.measure` by the bits of training (validation) and of the record (test)."""
  own = built.config.evaluation
  how = {
    'validation': (own.validation_draws, assessment.VALIDATION),
    'test': (built.objective.draws(own.draws, built.space), assessment.TEST),
  }

  def bits_of(params: Any, split: str) -> float:
    values = built.per_example(params, getattr(built.dataset, split), *how[split])
    return assessment.bits_per_dim(built, values['nats'])

  found = own_size.measure(built.dataset, params, bits_of, bits)
  return {'code': built.objective.code.value, **found}
