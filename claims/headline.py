"""One picture of the claims that are asked for first, of their committed records."""

import io
import pathlib

from claims import CLAIMS, diffusion_compute, diffusion_linear, drawing, hardest_task, more_linear
from claims import records as kept
from claims.judging import Test
from reports import canvas

NUMBERS = (19, 20, 21, 24)


def advantages(folder: pathlib.Path) -> dict[str, Test]:
  """Accuracy at 100 labels, autoregressive less each other objective, by data and objective."""
  linear, diffusion = (kept.read_csv(kept.committed(CLAIMS[n], folder)) for n in (19, 21))
  made = {
    f'{source}, {more_linear.PAIR[1]}': more_linear.difference(
      linear, source, more_linear.PRIMARY, more_linear.PAIR
    )
    for source in more_linear.SOURCES
  }
  return made | diffusion_linear.against(diffusion, diffusion_linear.REFERENCE)


def picture(folder: pathlib.Path = kept.COMMITTED) -> bytes | None:
  """PNG: who is more linear, whether harder tasks make it so, what equal regret costs; None while
  one of their claims has no records."""
  if not all(kept.committed(CLAIMS[number], folder) for number in NUMBERS):
    return None
  made = canvas.blank(9.6, 3.2)
  left, middle, right = made.subplots(1, 3)
  drawing.forest(left, sorted(advantages(folder).items()), 'points at 100 labels, AR − it', 100)
  hardest_task.doses(middle, kept.read_csv(kept.committed(CLAIMS[20], folder)), 'hierarchy')
  diffusion_compute.regrets(right, kept.read_csv(kept.committed(CLAIMS[24], folder)))
  for axis, title in zip(
    made.axes,
    (
      'Is it more linear?',
      'Because its task is harder? (hierarchy)',
      'What does equal regret cost?',
    ),
    strict=True,
  ):
    axis.set_title(title, fontsize=8, loc='left')
  target = io.BytesIO()
  made.savefig(target, format='png', dpi=110, metadata={'Software': None})
  return target.getvalue()
