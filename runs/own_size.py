"""The two-part code and the training-time code of a finished run."""

from collections.abc import Sequence
from typing import Any

from codes import own_size
from runs import experiment, finished, measured, run, single_epoch


def measure(workdir: str, data_dir: str) -> dict[str, Any]:
  """Run, two-part code (None without a likelihood) and training-time code of one run.

  Returns:
    run (what the record says of it), two_part (`two_part`) and training_time
    (`single_epoch.measure`).
  """
  config, record = finished.read(workdir)
  built = experiment.build(config, data_dir, workdir)
  made = {'run': {name: record.get(name) for name in ('objective', 'seed', 'size', 'dataset')}}
  made['run'] |= {'code': record['code'], 'bits_per_dim': record['bits_per_dim']}
  made['run']['validation'] = (record.get('validation') or {}).get('bits_per_dim')
  made['two_part'] = None
  if record['code'] in ('exact', 'upper_bound'):
    state, _ = run.restore(built, workdir, best=False)
    made['two_part'] = two_part(built, state.params)
  made['training_time'] = single_epoch.measure(built, workdir)
  return made


def two_part(
  built: experiment.Experiment, params: Any, bits: Sequence[int] = own_size.BITS
) -> dict[str, Any]:
  """`codes.own_size.measure` by the bits of training (validation) and of the record (test)."""
  own = built.config.evaluation
  how = {
    'validation': (own.validation_draws, measured.VALIDATION),
    'test': (built.objective.draws(own.draws, built.space), measured.TEST),
  }

  def bits_of(params: Any, split: str) -> float:
    values = built.per_example(params, getattr(built.dataset, split), *how[split])
    return measured.bits_per_dim(built, values['nats'])

  found = own_size.measure(built.dataset, params, bits_of, bits)
  return {'code': built.objective.code.value, **found}
