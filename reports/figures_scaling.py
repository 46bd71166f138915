"""Pictures of bits along training: against the probe, and against codes of the labels.

Against the probe a panel is an objective and a line is a size, the form of figure 3 of Chen et al.
2020, "Generative Pretraining from Pixels".
"""

from collections.abc import Callable, Mapping, Sequence

from matplotlib import axes, figure, ticker
import numpy as np

from reports import canvas, styles
from reports.label_sets import LEARNERS
from reports.reading import Curves
from reports.styles import INK, Kind, Style

ACCURACY = 'probe/linear/accuracy'
BITS, LOSS = 'validation/bits_per_dim', 'validation/loss'
TOKENS = 'validation/token_accuracy'
_ACROSS = 3  # panels side by side
_Y_LABEL = 'quick probe on validation'


def checkpoints(
  runs: Sequence[Mapping], curves: Curves, key: str
) -> tuple[list[int], np.ndarray, np.ndarray] | None:
  """`key` and the probe's accuracy at the steps after 0 at which all of the runs measured both.

  Args:
    runs: replicates of one objective at one size; those that measured nothing have no say.
    curves: training curves by workdir.
    key: what is on the horizontal axis, as in metrics.jsonl.

  Returns:
    (steps, values_SxX, accuracy_SxX), or None where fewer than two steps are left.
  """
  tables = []
  for run in runs:
    points = [
      point
      for point in curves.get(run['workdir'], ())
      if point['step'] > 0 and point.get(key) is not None and point.get(ACCURACY) is not None
    ]
    if points:
      tables.append({point['step']: (point[key], point[ACCURACY]) for point in points})
  steps = sorted(set.intersection(*map(set, tables))) if tables else []
  if len(steps) < 2:
    return None
  pairs_SxXx2 = np.asarray([[table[step] for step in steps] for table in tables], float)
  return steps, pairs_SxXx2[..., 0], pairs_SxXx2[..., 1]


def scaling(results: Mapping, curves: Curves) -> figure.Figure | None:
  """Validation bits, or the own loss where there is no likelihood, against the quick probe."""
  groups = styles.grouped(results)
  keys = {kind: BITS if _coded(runs) else LOSS for kind, runs in groups.items()}

  def name(runs: Sequence[Mapping]) -> str:
    if not _coded(runs):
      return f'own validation loss,\n{runs[0].get("loss_unit") or "no likelihood"}'
    bound = runs[0]['code'] == 'upper_bound'
    return 'validation bits per dimension' + (' (≤)' if bound else '')

  made = _panels(results, curves, keys, name)
  for axis in made.axes if made else ():
    axis.invert_xaxis()
  return made


def scaling_by_tokens(results: Mapping, curves: Curves) -> figure.Figure | None:
  """The share of tokens that were predicted right on validation, against the quick probe."""

  def name(runs: Sequence[Mapping]) -> str:
    return f'validation token accuracy,\n{runs[0].get("token_accuracy_of") or "any token"}'

  return _panels(results, curves, dict.fromkeys(styles.grouped(results), TOKENS), name, 'x')


def _coded(runs: Sequence[Mapping]) -> bool:
  return any(run['code'] != 'none' for run in runs)


def _panels(
  results: Mapping,
  curves: Curves,
  keys: Mapping[Kind, str],
  name: Callable[[Sequence[Mapping]], str],
  percent: str = '',
) -> figure.Figure | None:
  """A panel for each objective with something to show; `name` of its runs labels its axis."""
  looks, groups, lines = styles.styles(results), styles.grouped(results), {}
  for kind, runs in groups.items():
    found = checkpoints(runs, curves, keys[kind])
    if found is not None:
      lines.setdefault(kind[0], []).append((kind, *found[1:]))
  if not lines:
    return None
  sizes = list(dict.fromkeys(kind[1] for kind in groups))
  across = min(_ACROSS, len(lines))
  down = -(-len(lines) // across)
  made = canvas.blank(3.1 * across + 0.6, 3.1 * down)
  made.get_layout_engine().set(h_pad=0.1)
  places = made.subplots(down, across, squeeze=False, sharey=True).ravel()
  for place, (axis, (objective, members)) in enumerate(zip(places, lines.items(), strict=False)):
    for kind, x_SxX, y_SxX in members:
      _line(axis, x_SxX, y_SxX, looks[kind], kind[1], 3 + 1.2 * sizes.index(kind[1]))
    runs = groups[members[0][0]]
    title = objective + (' (saw all labels)' if runs[0].get('saw_labels') else '')
    title = canvas.narrow(title)
    canvas.tidy(axis, name(runs), '' if place % across else _Y_LABEL, title, percent + 'y')
    axis.margins(0.08)
    if len(sizes) > 1:
      axis.legend(frameon=False, fontsize=8.5, labelcolor=INK)
  for axis in places[len(lines) :]:
    axis.remove()
  return made


def _line(
  axis: axes.Axes,
  x_SxX: np.ndarray,
  y_SxX: np.ndarray,
  style: Style,
  size: str | None,
  point: float,
) -> None:
  """The mean over runs with a point a checkpoint, a larger one for the last; runs are thin."""
  x, y = x_SxX.mean(0), y_SxX.mean(0)
  axis.plot(x, y, color=style.colour, linestyle=style.line, linewidth=1.5, marker='o',
            markersize=point, label=size)  # fmt: skip
  axis.plot(x[-1:], y[-1:], 'o', color=style.colour, markersize=point + 4, markeredgecolor='white',
            linestyle='none')  # fmt: skip
  for own_x, own_y in zip(x_SxX, y_SxX, strict=True) if len(x_SxX) > 1 else ():
    axis.plot(own_x, own_y, color=style.colour, linewidth=0.6, alpha=0.5, zorder=1)


# Against codes of the labels.


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
  looks = styles.styles(results)
  made = canvas.blank(3.2 * len(columns) + 0.6, 2.9 * len(rows))
  made.get_layout_engine().set(h_pad=0.1)
  places = made.subplots(len(rows), len(columns), squeeze=False, sharex='col')
  for down, learner in enumerate(rows):
    for across, objective in enumerate(columns):
      axis, entry = places[down, across], entries.get((learner, objective))
      if entry is None:
        axis.set_visible(False)
        continue
      _code_panel(axis, entry, looks)
      bound = entry['code'] == 'upper_bound'
      x = 'validation bits per dimension' + (' (≤)' if bound else '')
      title = canvas.narrow(f'{objective}, ' + ('upper bound' if bound else 'exact'))
      y = f'label code, {learner}, bits' if across == 0 else ''
      canvas.tidy(axis, x if down == len(rows) - 1 else '', y, title if down == 0 else '')
      axis.margins(0.12)
      axis.xaxis.set_major_locator(ticker.MaxNLocator(4))
  return made


def _count(entry: Mapping) -> int:
  return sum(len(run['points']) for run in entry['runs'])


def _code_panel(axis: axes.Axes, entry: Mapping, looks: Mapping[tuple, Style]) -> None:
  sizes = list(dict.fromkeys(run['size'] for run in entry['runs']))
  for run in entry['runs']:
    style = looks[entry['objective'], run['size']]
    _code_line(axis, run['points'], style, entry['code'] == 'upper_bound')
  if len(sizes) > 1:
    for size in sizes:
      style = looks[entry['objective'], size]
      axis.plot([], [], style.marker, color=style.colour, linestyle='none', label=size)
    axis.legend(frameon=False, fontsize=8.5, labelcolor=INK)


def _code_line(axis: axes.Axes, points: Sequence[Mapping], style: Style, bound: bool) -> None:
  """One run: its checkpoints joined in the order of training, the last one larger."""
  x, y = ([point[name] for point in points] for name in ('bits', 'code'))
  face = 'white' if bound else style.colour
  look = {'color': style.colour, 'marker': style.marker, 'markerfacecolor': face}
  axis.plot(x, y, linewidth=0.9, alpha=0.7, markersize=4, **look)
  axis.plot(x[-1:], y[-1:], markersize=8, linestyle='none', markeredgewidth=1.6, **look)
