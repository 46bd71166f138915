"""What figures of claims share: intervals in rows, small multiples."""

from collections.abc import Sequence
from typing import Any

from matplotlib import axes, figure
import numpy as np

from claims.judging import Test
from reports import canvas
from reports.styles import COLOURS, FAINT

WIDTH = 6.4  # inches
_NEAR = (45, 7)  # pixels within which names would meet


def colour(place: int) -> str:
  return COLOURS[place % len(COLOURS)]


def panels(count: int = 1, height: float = 3.0) -> tuple[figure.Figure, Sequence[axes.Axes]]:
  """A figure with so many axes side by side."""
  made = canvas.blank(WIDTH, height)
  return made, list(made.subplots(1, count, squeeze=False)[0])


def forest(
  axis: axes.Axes,
  tests: Sequence[tuple[str, Test]],
  label: str,
  scale: float = 1.0,
  lines: Sequence[float] = (0.0,),
) -> None:
  """A row a test, from above: its mean and interval; thin lines where it matters."""
  for x in lines:
    axis.axvline(scale * x, color=FAINT, linewidth=0.8, linestyle='--' if x else '-')
  for place, (_, test) in enumerate(tests):
    if test.seeds > 1:
      ends = [scale * test.low, scale * test.high]
      axis.plot(ends, [place, place], color=colour(0), linewidth=1.7)
      axis.plot(scale * test.mean, place, 'o', color=colour(0), markersize=5)
  canvas.tidy(axis, label, '')
  axis.set_yticks(range(len(tests)), [name for name, _ in tests])
  axis.set_ylim(len(tests) - 0.5, -0.5)


def named(axis: axes.Axes, name: str, at: tuple[float, float]) -> None:
  """A small name beside a point, below those that have been put there before."""
  axis.autoscale_view()  # Where things are depends on all that is drawn by now.
  place = axis.transData.transform
  near = [text for text in axis.texts if (np.abs(place(text.xy) - place(at)) < _NEAR).all()]
  axis.annotate(name, at, (4, 3 - 6 * len(near)), fontsize=5, textcoords='offset points')


def series(axis: axes.Axes, x: Any, y: Any, place: int, name: str, **style: Any) -> None:
  """One line with markers."""
  style = {'marker': 'o', 'markersize': 3, 'linewidth': 1.5} | style
  axis.plot(x, y, color=colour(place), label=name, **style)
