"""What all pictures of the report share: styles, axes, labels at line ends, bands over replicates.

Only matplotlib's object interface is used, so nothing here touches a display or global state.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
from typing import Any

from matplotlib import axes, colors, figure, ticker
from matplotlib.backends import backend_agg
import numpy as np

# Okabe and Ito's palette without yellow and black, told apart by colour-blind readers and in grey
# by the markers; greys are for what was never trained.
COLOURS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#56B4E9', '#E69F00', '#7A5195', '#8C6D31')
_GREYS = ('#555555', '#999999', '#222222', '#BBBBBB')
_MARKERS = 'osD^vP*X'
INK, FAINT = '#333333', '#8A8A8A'
DPI = 144
Kind = tuple[str, str | None]
Curves = Mapping[str, Sequence[Mapping[str, Any]]]


@dataclasses.dataclass(frozen=True)
class Style:
  """How one objective (at one size) is drawn, the same in every picture."""

  label: str
  colour: str
  marker: str
  line: str


def kind_of(run: Mapping) -> Kind:
  """What one line in a picture stands for."""
  return run['objective'], run.get('size')


def styles(results: Mapping) -> dict[Kind, Style]:
  """A fixed style for each objective and size, by its place in the summary.

  An objective keeps its colour over sizes; the smaller a size, the paler, and its own marker.
  """
  sizes = list(dict.fromkeys(entry['size'] for entry in results['summary']))
  trained = _names(results, lambda entry: entry.get('trained', True))
  controls = _names(results, lambda entry: not entry.get('trained', True))
  made = {}
  for entry in results['summary']:
    label, name = entry['objective'], entry['objective']
    if name in trained:
      place = trained.index(name)
      colour, line = COLOURS[place % len(COLOURS)], '-' if not entry['saw_labels'] else '--'
      marker = _MARKERS[place % len(_MARKERS)]
    else:
      place = controls.index(name)
      colour, line, marker = _GREYS[place % len(_GREYS)], ':', 'ds'[place % 2]
    if len(sizes) > 1:
      label += f' {entry["size"]}'
      rank = sizes.index(entry['size'])
      colour = _paler(colour, 0.6 * (len(sizes) - 1 - rank) / (len(sizes) - 1))
      marker = _MARKERS[rank % len(_MARKERS)]
    made[kind_of(entry)] = Style(label, colour, marker, line)
  return made


def _names(results: Mapping, wanted: Callable[[Mapping], bool]) -> list[str]:
  return list(dict.fromkeys(entry['objective'] for entry in results['summary'] if wanted(entry)))


def _paler(colour: str, share: float) -> str:
  """`colour` mixed with that share of white."""
  return colors.to_hex([(1 - share) * part + share for part in colors.to_rgb(colour)]).upper()


def grouped(results: Mapping) -> dict[Kind, list[dict]]:
  """The selected runs of every line, in the order of the summary."""
  groups = {kind_of(entry): [] for entry in results['summary']}
  for run in results['runs']:
    if run['selected']:
      groups[kind_of(run)].append(run)
  return groups


# Canvas.


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


def label_ends(axis: axes.Axes, ends: Sequence[tuple[float, float, str, str]]) -> None:
  """Writes each line's name right of its end (x, y, name, colour), spread so that none overlap."""
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


def band(axis: axes.Axes, x: Sequence[float], rows: np.ndarray, style: Style, **line: Any) -> None:
  """Draws the mean over replicates of rows_SxX, and their range where there is more than one."""
  mean = rows.mean(axis=0)
  axis.plot(x, mean, color=style.colour, linestyle=style.line, linewidth=1.7, clip_on=False, **line)
  if len(rows) > 1:
    low, high = rows.min(axis=0), rows.max(axis=0)
    axis.fill_between(x, low, high, color=style.colour, alpha=0.14, linewidth=0)


def scientific(value: float) -> str:
  """A large number as 1.2e13, without padding."""
  if not value:
    return '0'
  mantissa, exponent = f'{value:.2e}'.split('e')
  return f'{mantissa.rstrip("0").rstrip(".")}e{int(exponent)}'
