"""When something beside the update happens."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Schedule:
  """Steps at which an evaluator runs or a checkpoint is saved; step 0 is before any update.

  Attributes:
    every: at its multiples, from the first on; 0 is never.
    at: and at these steps.
    last: and after the last update.
    minutes: and when so much time has passed since the last checkpoint (checkpoints alone); 0 is
      never.
  """

  every: int = 0
  at: tuple[int, ...] = ()
  last: bool = True
  minutes: float = 0.0

  def __post_init__(self):
    """Raises ValueError, without the schedule's name, for a setting that can't be."""
    if self.every < 0:
      raise ValueError(f'every must not be negative, not {self.every}')
    if any(step < 0 for step in self.at):
      raise ValueError(f'at must hold steps from 0 on, not {min(self.at)}')
    if not self.minutes >= 0:
      raise ValueError(f'minutes must not be negative, not {self.minutes}')

  def due(self, step: int, steps: int) -> bool:
    """Whether it is time after update `step` of `steps`."""
    regular = self.every > 0 and step > 0 and step % self.every == 0
    return regular or step in self.at or (self.last and step == steps)
