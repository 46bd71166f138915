"""The single-epoch code: every example coded by the network before it learned from it.

A training step's loss is that of the parameters before the step, on examples that a first epoch has
not shown yet. Where the loss metric is a code, its sum over the first epoch is therefore the length
of a prequential code without replay: no weights are sent, the receiver trains along. The training
log holds means over windows of steps; a window is weighted by its number of steps, and one that
reaches into the second epoch is left out.
"""

from collections.abc import Mapping, Sequence

CURVE = 'train/bits_per_dim'


def first_epoch(
  curve: Sequence[Mapping], *, batch_size: int, epoch: int | None, log_every: int
) -> dict:
  """Bits per dimension of the training examples, each before its update.

  Args:
    curve: the points of metrics.jsonl, by step.
    batch_size: examples a step.
    epoch: training examples; None for an endless source, of which every step is new.
    log_every: steps a window at most.

  Returns:
    bits_per_dim (mean over the steps that are covered, None if there are none), reason (why there
    are none), steps, examples and share (of the first epoch; None for an endless source).
  """
  found = {'bits_per_dim': None, 'reason': None, 'steps': 0, 'examples': 0, 'share': None}
  rows = [(int(p['step']), p[CURVE]) for p in curve if p.get(CURVE) is not None]
  if not rows:
    return found | {'reason': 'no training step has its bits recorded'}
  last = None if epoch is None else epoch // batch_size
  total, before = 0.0, 0
  for step, bits in sorted(rows):
    if last is not None and step > last:
      break
    if step - before > log_every:
      return found | {'reason': f'steps {before + 1} to {step - log_every} are not in the log'}
    total += (step - before) * bits
    before = step
  if not before:
    return found | {
      'reason': f'the first window of the log, {rows[0][0]} steps, is longer than the first epoch, '
      f'{last} whole steps'
    }
  share = None if epoch is None else before * batch_size / epoch
  return found | {'bits_per_dim': total / before, 'steps': before,
                  'examples': before * batch_size, 'share': share}  # fmt: skip
