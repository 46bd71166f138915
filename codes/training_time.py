"""The single-epoch code: every example coded by the network before it learned from it.

A training step's loss is that of the parameters before the step, on examples that a first epoch has
not shown yet. Where the loss metric is a code, its sum over the first epoch is therefore the length
of a prequential code without replay: no weights are sent, the receiver trains along. The training
log holds means over windows of steps; a window is weighted by its number of steps, and one that
reaches into the second epoch is left out.

The length falls into two areas under the curve of the loss. What lies below the loss that is
reached in the end is noise, which a learner of this kind can't tell from chance; what lies above it
is structure: what learning cost, an estimate of the description length of what was learnt (Finzi
and others, 2026, arXiv 2601.03220: epiplexity and time-bounded entropy, by prequential coding).
The loss that is reached is the mean over the last tenth of the steps, each before its update.
"""

from collections.abc import Mapping, Sequence

CURVE = 'train/bits_per_dim'


# Of the covered steps, those whose mean is the loss that is reached.
_LAST = 0.1


def first_epoch(
  curve: Sequence[Mapping], *, batch_size: int, epoch: int | None, log_every: int, dims: int
) -> dict:
  """Bits per dimension of the training examples, each before its update.

  Args:
    curve: the points of metrics.jsonl, by step.
    batch_size: examples a step.
    epoch: training examples; None for an endless source, of which every step is new.
    log_every: steps a window at most.
    dims: of an example.

  Returns:
    bits_per_dim (mean over the steps that are covered, None if there are none), reason (why there
    are none), steps, examples and share (of the first epoch; None for an endless source); reached
    (bits per dimension at the end), structure_bits and noise_bits, which add up to the length.
  """
  found = {'bits_per_dim': None, 'reason': None, 'steps': 0, 'examples': 0, 'share': None}
  found |= {'reached': None, 'structure_bits': None, 'noise_bits': None}
  rows = [(int(p['step']), p[CURVE]) for p in curve if p.get(CURVE) is not None]
  if not rows:
    return found | {'reason': 'no training step has its bits recorded'}
  last = None if epoch is None else epoch // batch_size
  windows, before = [], 0
  for step, bits in sorted(rows):
    if last is not None and step > last:
      break
    if step - before > log_every:
      return found | {'reason': f'steps {before + 1} to {step - log_every} are not in the log'}
    windows.append((step - before, bits))
    before = step
  if not before:
    return found | {
      'reason': f'the first window of the log, {rows[0][0]} steps, is longer than the first epoch, '
      f'{last} whole steps'
    }
  mean, reached = _mean(windows), _mean(_last(windows, _LAST * before))
  examples = before * batch_size
  return {
    'bits_per_dim': mean, 'reason': None, 'steps': before, 'examples': examples,
    'share': None if epoch is None else examples / epoch, 'reached': reached,
    'structure_bits': (mean - reached) * examples * dims, 'noise_bits': reached * examples * dims,
  }  # fmt: skip


def _last(windows: Sequence[tuple[int, float]], steps: float) -> Sequence[tuple[int, float]]:
  """The fewest windows at the end that hold so many steps."""
  for start in range(len(windows) - 1, -1, -1):
    if sum(size for size, _ in windows[start:]) >= steps:
      return windows[start:]
  return windows


def _mean(windows: Sequence[tuple[int, float]]) -> float:
  return sum(size * bits for size, bits in windows) / sum(size for size, _ in windows)
