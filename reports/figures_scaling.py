"""Pictures of bits against probe along training, a panel an objective and a line a size.

The form is that of figure 3 of Chen et al. 2020, "Generative Pretraining from Pixels".
"""

from collections.abc import Callable, Mapping, Sequence

from matplotlib import axes, figure
import numpy as np

from reports import canvas
from reports.canvas import Curves, Kind, Style

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
  groups = canvas.grouped(results)
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

  return _panels(results, curves, dict.fromkeys(canvas.grouped(results), TOKENS), name, 'x')


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
  looks, groups, lines = canvas.styles(results), canvas.grouped(results), {}
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
    canvas.tidy(axis, name(runs), '' if place % across else _Y_LABEL, title, percent + 'y')
    axis.margins(0.08)
    if len(sizes) > 1:
      axis.legend(frameon=False, fontsize=8.5, labelcolor=canvas.INK)
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
