"""The picture of bits per dimension against codes of the labels, a panel an objective."""

from collections.abc import Mapping, Sequence

from matplotlib import axes, figure

from reports import canvas
from reports.canvas import Style
from reports.label_sets import LEARNERS


def label_codes(results: Mapping) -> figure.Figure | None:
  """Points are checkpoints, lines join those of a run; rows are learners, columns objectives."""
  entries = {(e['learner'], e['objective']): e for e in results.get('theory') or ()}
  # A learner of which every panel would hold a single point shows nothing.
  rows = [
    name
    for name in LEARNERS
    if any(_count(entry) > 1 for key, entry in entries.items() if key[0] == name)
  ]
  if not rows:
    return None
  columns = list(dict.fromkeys(key[1] for key in entries))
  looks = canvas.styles(results)
  made = canvas.blank(3.2 * len(columns) + 0.6, 2.9 * len(rows))
  made.get_layout_engine().set(h_pad=0.1)
  places = made.subplots(len(rows), len(columns), squeeze=False, sharex='col')
  for down, learner in enumerate(rows):
    for across, objective in enumerate(columns):
      axis, entry = places[down, across], entries.get((learner, objective))
      if entry is None:
        axis.set_visible(False)
        continue
      _panel(axis, entry, looks)
      bound = entry['code'] == 'upper_bound'
      x = 'validation bits per dimension' + (' (≤)' if bound else '')
      title = f'{objective}, ' + ('upper bound' if bound else 'exact')
      y = f'label code, {learner}, bits' if across == 0 else ''
      canvas.tidy(axis, x if down == len(rows) - 1 else '', y, title if down == 0 else '')
      axis.margins(0.12)
  return made


def _count(entry: Mapping) -> int:
  return sum(len(run['points']) for run in entry['runs'])


def _panel(axis: axes.Axes, entry: Mapping, looks: Mapping[tuple, Style]) -> None:
  sizes = list(dict.fromkeys(run['size'] for run in entry['runs']))
  for run in entry['runs']:
    style = looks[entry['objective'], run['size']]
    _run(axis, run['points'], style, entry['code'] == 'upper_bound')
  if len(sizes) > 1:
    for size in sizes:
      style = looks[entry['objective'], size]
      axis.plot([], [], style.marker, color=style.colour, linestyle='none', label=size)
    axis.legend(frameon=False, fontsize=8.5, labelcolor=canvas.INK)


def _run(axis: axes.Axes, points: Sequence[Mapping], style: Style, bound: bool) -> None:
  """One run: its checkpoints joined in the order of training, the last one larger."""
  x, y = ([point[name] for point in points] for name in ('bits', 'code'))
  face = 'white' if bound else style.colour
  look = {'color': style.colour, 'marker': style.marker, 'markerfacecolor': face}
  axis.plot(x, y, linewidth=0.9, alpha=0.7, markersize=4, **look)
  axis.plot(x[-1:], y[-1:], markersize=8, linestyle='none', markeredgewidth=1.6, **look)
