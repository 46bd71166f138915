"""What all pictures of the report share: axes, labels at line ends, bands over replicates.

Only matplotlib's object interface is used, so nothing here touches a display or global state.
"""

from collections.abc import Sequence
import textwrap
from typing import Any

from matplotlib import axes, figure, ticker
from matplotlib.backends import backend_agg
import numpy as np

from reports.styles import DPI, INK, Style

# Names that a legend inside an axis has room for.
_INSIDE = 7
_LETTER = 0.068  # inches of a letter in a legend
# Letters of a title that the narrowest panel has room for.
_TITLE = 36
End = tuple[float, float, str, str]  # of a line: x, y, its name, its colour


def blank(width: float, height: float) -> figure.Figure:
  """An empty figure, in inches."""
  made = figure.Figure(figsize=(width, height), dpi=DPI, layout='constrained')
  backend_agg.FigureCanvasAgg(made)
  return made


def tidy(axis: axes.Axes, x: str, y: str, title: str = '', percent: str = '') -> None:
  """Labels, and the look that all axes share; `percent` names the axes that hold fractions."""
  axis.set_xlabel(x, color=INK)
  axis.set_ylabel(y, color=INK)
  if title:
    axis.set_title(title, loc='left', fontsize=10, color=INK)
  axis.spines[['top', 'right']].set_visible(False)
  axis.spines[['left', 'bottom']].set_color('#BBBBBB')
  axis.tick_params(colors='#555555', labelsize=9)
  axis.grid(axis='y', color='#ECECEC', linewidth=0.8)
  axis.set_axisbelow(True)
  for name, one in (('x', axis.xaxis), ('y', axis.yaxis)):
    if name in percent:
      one.set_major_locator(ticker.MaxNLocator(6, steps=[1, 2, 5, 10]))
      one.set_major_formatter(ticker.FuncFormatter(lambda value, _: f'{100 * value:.4g}%'))


def narrow(title: str) -> str:
  """A title as lines that the narrowest panel has room for."""
  return '\n'.join(textwrap.wrap(title, _TITLE, break_on_hyphens=False))


def legend(axis: axes.Axes, loc: str = 'best', inside: int = _INSIDE) -> None:
  """The names of an axis' lines: in it, or below the figure where they are more than `inside`."""
  handles, names = axis.get_legend_handles_labels()
  look = {'frameon': False, 'fontsize': 8.5, 'labelcolor': INK}
  if len(names) <= inside:
    axis.legend(loc=loc, **look)
    return
  made = axis.figure
  wide = _LETTER * max(map(len, names)) + 0.45
  across = min(3, max(1, int(made.get_figwidth() / wide)))
  made.set_figheight(made.get_figheight() + 0.2 * -(-len(names) // across))
  made.legend(handles, names, loc='outside lower center', ncols=across, **look)


def free_place(markers: Sequence, taken: Sequence, distance: float) -> tuple[int, np.ndarray]:
  """Beside which of `markers` a short text has most room, and its offset (x, y) from there.

  Args:
    markers: (x, y) of those that the text may belong to.
    taken: (x, y) of everything there is, these markers too.
    distance: of the text from its marker, in the same unit.
  """
  offsets = distance * np.array([(0, 1), (1, 0), (0.7, 0.7), (0.7, -0.7), (-0.7, 0.7), (0, -1)])
  places_MxOx2 = np.asarray(markers)[:, None] + offsets
  away = places_MxOx2[:, :, None] - np.asarray(taken)
  room_MxO = np.round(np.hypot(away[..., 0], away[..., 1]).min(-1), 3)
  which, offset = np.unravel_index(np.argmax(room_MxO), room_MxO.shape)  # the first of equals
  return int(which), offsets[offset]


def label_ends(axis: axes.Axes, ends: Sequence[End]) -> None:
  """Writes each line's name right of its end, spread so that none overlap."""
  if not ends:
    return
  axis.figure.canvas.draw()  # settles the limits and the height the labels have to share
  height = axis.get_window_extent().height / axis.figure.dpi * 72
  low, high = axis.get_ylim()
  wanted = [(y - low) / (high - low) for _, y, _, _ in ends]
  places = spread(wanted, gap=11.5 / height)
  right = max(x for x, _, _, _ in ends)
  for (x, y, name, colour), place in zip(ends, places, strict=True):
    axis.annotate(
      name, xy=(x, y), xycoords='data', xytext=(1.03, place), textcoords='axes fraction',
      color=colour, fontsize=8.5, va='center', annotation_clip=False,
      arrowprops={'arrowstyle': '-', 'color': colour, 'lw': 0.6, 'alpha': 0.6,
                  'shrinkA': 0, 'shrinkB': 2, 'relpos': (0, 0.5)},
    )  # fmt: skip
  axis.set_xlim(right=right)


def spread(wanted: Sequence[float], gap: float) -> list[float]:
  """The places nearest to `wanted` (axes fractions) that keep their order and are `gap` apart."""
  order = np.argsort(wanted, kind='stable')
  clusters: list[list[float]] = []  # [sum of wanted first places, count]; merged when they touch
  for rank, index in enumerate(order):
    clusters.append([wanted[index] - rank * gap, 1])
    while len(clusters) > 1 and (
      clusters[-2][0] / clusters[-2][1] >= clusters[-1][0] / clusters[-1][1]
    ):
      total, count = clusters.pop()
      clusters[-1][0] += total
      clusters[-1][1] += count
  firsts = [total / count for total, count in clusters for _ in range(int(count))]
  places = [0.0] * len(wanted)
  for rank, index in enumerate(order):
    places[index] = float(firsts[rank] + rank * gap)
  return places


def mean_line(axis: axes.Axes, x: Sequence[float], rows_SxX: np.ndarray, style: Style) -> End:
  """A band with a marker a value; returns its end, for `label_ends`."""
  band(axis, x, rows_SxX, style, marker=style.marker, markersize=4)
  return x[-1], rows_SxX.mean(0)[-1], style.label + style.mark, style.colour


def band(axis: axes.Axes, x: Sequence[float], rows: np.ndarray, style: Style, **line: Any) -> None:
  """Draws the mean over replicates of rows_SxX, and their range where there is more than one."""
  mean = rows.mean(axis=0)
  axis.plot(x, mean, color=style.colour, linestyle=style.line, linewidth=1.7, clip_on=False, **line)
  if len(rows) > 1:
    low, high = rows.min(axis=0), rows.max(axis=0)
    axis.fill_between(x, low, high, color=style.colour, alpha=0.14, linewidth=0)
