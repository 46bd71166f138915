"""Every objective at the compute of the cheapest one, read off the curves.

Equal updates are not equal compute: block diffusion, say, pays for two sequences a step. The point
of a longer run lies inside its schedule, its rate has not fallen yet: it is a lower limit of what a
run of that length would reach.
"""

from collections.abc import Mapping, Sequence

from reports import reading

BITS, ACCURACY = 'validation/bits_per_dim', 'probe/linear/accuracy'
_SAME = 0.01  # totals this close (relative) are equal


def add(runs: Sequence[dict], curves: reading.Curves) -> None:
  """Adds `at_equal_flops` to runs, in place, where trained ones of a size differ in their total.

  It is {'flops' (the least total of any trained selected run of that size), 'bits_per_dim' and
  'accuracy' (validation; of the small probe), each at the last point of the run's curve within them
  that has it, 'step' (of the bits, or of the accuracy where there are none), 'share' (of these
  FLOPs, spent by then), 'accuracy_step'}; no number is interpolated.
  """
  for size in {run.get('size') for run in runs}:
    members = [
      run
      for run in runs
      if run['selected'] and run.get('size') == size and run.get('trained', True)
      and run.get('train_flops')
    ]  # fmt: skip
    totals = [run['train_flops'] for run in members]
    if totals and max(totals) > (1 + _SAME) * min(totals):
      for run in members:
        run['at_equal_flops'] = _within(run, curves.get(run['workdir'], ()), min(totals))


def _within(run: Mapping, curve: Sequence[Mapping], flops: float) -> dict:
  found = {'flops': flops, 'step': None, 'bits_per_dim': None, 'accuracy': None}
  steps: dict[str, tuple[int, float]] = {}
  for point in curve:
    spent = point.get('flops')
    if spent is None:
      spent = point['step'] * (run.get('flops_per_step') or 0)
    if point['step'] and spent <= flops * (1 + _SAME):
      measured = {'bits_per_dim': point.get(BITS), 'accuracy': point.get(ACCURACY)}
      measured = {name: value for name, value in measured.items() if value is not None}
      found |= measured
      steps |= dict.fromkeys(measured, (point['step'], min(1.0, spent / flops)))
  own = steps.get('accuracy', (None, None))
  step, share = steps.get('bits_per_dim', own)
  return found | {'step': step, 'share': share, 'accuracy_step': own[0]}
