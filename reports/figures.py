"""The report's main pictures: functions take the content of results.json and return a Figure.

So do those of `figures_probes`, `figures_samples`, `figures_scaling`, `figures_training` and
`figures_truth`; None where there is nothing to show. Curves are {workdir: points}, points as
`reports.reading.read_curve` returns them. `reports.pictures` lists all that the report has.
"""

from collections.abc import Mapping, Sequence
import itertools

from matplotlib import axes, figure, patheffects, ticker, transforms
import numpy as np

from probes.measures import at
from reports import canvas, numbers, styles, summary
from reports.styles import FAINT, Style

_ACCURACY = 'test accuracy of the probe'
# Objectives up to which their names stand beside their markers; more have numbers there.
_NAMED = 4


# Pictures of the results.


def _labels_name(labels: str) -> str:
  return 'all labels' if labels == 'all' else f'{labels} labels'


def bits_against_accuracy(results: Mapping) -> figure.Figure | None:
  """One marker a run: exact codes filled, bounds open with an arrow, without bits apart."""
  pair = summary.measured_primary(results['runs'])
  if pair is None:
    return None
  looks, groups = styles.styles(results), styles.grouped(results)
  coded = [
    kind for kind, runs in groups.items() if any(r['bits_per_dim'] is not None for r in runs)
  ]
  apart = [kind for kind in groups if kind not in coded]
  made = canvas.blank(8.2 + 0.3 * max(0, len(apart) - 3), 4.3)
  ratios = [3.0, 0.42 * max(len(apart), 1) + 0.3]
  left, right = made.subplots(1, 2, sharey=True, width_ratios=ratios)
  drawn = [
    (kind, points)
    for kind in coded
    if (points := _coded_markers(left, groups[kind], pair, looks[kind]))
  ]
  for place, kind in enumerate(apart):
    values = [summary.accuracy(run, *pair) for run in groups[kind]]
    values = [value for value in values if value is not None]
    style = looks[kind]
    right.plot([place] * len(values), values, style.marker, color=style.colour, markersize=7,
               alpha=0.85, linestyle='none')  # fmt: skip
  reference = (results['controls'].get('raw') or {}).get(pair[0], {}).get(pair[1], {})
  if reference.get('accuracy') is not None:
    for axis in (left, right):
      axis.axhline(reference['accuracy'], color=FAINT, linewidth=1, linestyle=(0, (4, 3)))
    # Beside the axes, where no marker is.
    (right if apart else left).annotate(
      'raw\ninput', (1, reference['accuracy']), xycoords=('axes fraction', 'data'), va='center',
      xytext=(4, 0), textcoords='offset points', fontsize=8, color=FAINT,
    )  # fmt: skip
  name = f'{_ACCURACY}, {_labels_name(pair[1])}'
  canvas.tidy(left, 'bits per dimension on test (fewer is better)', name, percent='y')
  title = numbers.no_bits_text([groups[kind][0] for kind in apart])
  canvas.tidy(right, '', '', title)
  ticks = [looks[kind].label + looks[kind].mark.replace(' (', '\n(', 1) for kind in apart]
  right.set_xticks(range(len(apart)), ticks, rotation=35, ha='right')
  right.set_xlim(-0.6, max(len(apart), 1) - 0.4)
  right.set_facecolor('#F6F6F6')
  left.margins(x=0.16, y=0.12)
  _name(left, [(looks[kind], groups[kind][0]['code'], points) for kind, points in drawn])
  if not coded:
    left.set_xticks([])
    left.set_xlabel('no run has bits on test')
  if not apart:
    right.set_visible(False)
  return made


def _coded_markers(
  axis: axes.Axes, runs: Sequence[dict], pair: tuple[str, str], style: Style
) -> list[tuple[float, float]]:
  """Draws a marker a run that has bits and the probe; returns where."""
  points = [(run['bits_per_dim'], summary.accuracy(run, *pair)) for run in runs]
  points = [point for point in points if None not in point]
  if not points:
    return []
  code = runs[0]['code']
  x, y = zip(*points, strict=True)
  face = 'white' if _sign(code) else style.colour
  axis.plot(x, y, style.marker, color=style.colour, markersize=7, linestyle='none', alpha=0.85,
            markerfacecolor=face, markeredgewidth=1.6)  # fmt: skip
  if code == 'upper_bound':  # the likelihood's own bits lie somewhere to the left of a bound
    shifted = transforms.offset_copy(axis.transData, axis.figure, x=-24, units='points')
    for point in points:
      arrow = {'arrowstyle': '->', 'color': style.colour, 'shrinkA': 4}
      axis.annotate('', point, point, xycoords=shifted, textcoords='data', arrowprops=arrow)
  return points


def _sign(code: str) -> str:
  return {'upper_bound': ' (≤)', 'estimate': ' (≈)'}.get(code, '')


def _name(axis: axes.Axes, drawn: Sequence[tuple[Style, str, list[tuple[float, float]]]]) -> None:
  """Names objectives at their highest marker; of many, or close ones, numbers and a legend."""
  if len(drawn) <= _NAMED:
    names = []
    for style, code, points in drawn:
      top = max(points, key=lambda point: point[1])
      names.append(
        axis.annotate(style.label + style.mark + _sign(code), top, xytext=(0, 8), ha='center',
                      textcoords='offset points', color=style.colour, fontsize=9)
      )  # fmt: skip
    axis.figure.canvas.draw()  # settles where they are
    boxes = [name.get_window_extent() for name in names]
    if not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2)):
      return
    for name in names:
      name.remove()
  for number, (style, code, _) in enumerate(drawn, start=1):
    face = 'white' if _sign(code) else style.colour
    axis.plot([], [], style.marker, color=style.colour, markersize=6, linestyle='none',
              markerfacecolor=face, markeredgewidth=1.4,
              label=f'{number} {style.label}{style.mark}{_sign(code)}')  # fmt: skip
  canvas.legend(axis, inside=0)
  axis.figure.canvas.draw()  # settles how far markers are apart
  points_of_pixels = 72 / axis.figure.dpi
  markers = [points_of_pixels * axis.transData.transform(points) for _, _, points in drawn]
  taken = list(np.concatenate(markers))
  for (_, code, _), own in zip(drawn, markers, strict=True):
    if code == 'upper_bound':  # Its arrows, too.
      taken += [place - (shift, 0) for place in own for shift in (8, 16, 24)]
  halo = [patheffects.withStroke(linewidth=2, foreground='white')]
  for number, ((style, _, points), own) in enumerate(zip(drawn, markers, strict=True), start=1):
    which, offset = canvas.free_place(own, taken, 11)
    taken.append(own[which] + offset)
    axis.annotate(str(number), points[which], xytext=tuple(offset), textcoords='offset points',
                  ha='center', va='center', color=style.colour, fontsize=8.5, fontweight='bold',
                  path_effects=halo)  # fmt: skip


def accuracy_by_layer(results: Mapping) -> figure.Figure | None:
  """Validation accuracy of the all-labels probe at every layer, mean and range over replicates."""
  made, ends = canvas.blank(7.6, 4.0), []
  axis = made.subplots()
  for style, runs in styles.lines(results):
    rows = [at(run, ('probes', 'linear', 'all', 'by_layer_validation')) for run in runs]
    rows = [row for row in rows if row]
    rows = [row for row in rows if None not in row and len(row) == len(rows[0])]
    if rows:
      values = np.asarray(rows, float)
      ends.append(canvas.mean_line(axis, range(values.shape[1]), values, style))
  if not ends:
    return None
  canvas.tidy(axis, 'layer (0: the embeddings)', 'validation accuracy, all labels', percent='y')
  axis.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
  canvas.label_ends(axis, ends)
  return made


def accuracy_by_labels(results: Mapping) -> figure.Figure | None:
  """Test accuracy against the number of labels (log), mean and range over replicates."""
  pairs = [pair for pair in summary.probe_counts(results['runs']) if pair[0] == 'linear']
  counts = sorted(int(labels) for _, labels in pairs if labels.isdigit())
  columns = [str(count) for count in counts] + ['all'] * (('linear', 'all') in pairs)
  if not columns:
    return None
  end = 3 * counts[-1] if counts else 1  # 'all' has its own place: its number is the data set's
  places = dict(zip(columns, [*counts, end], strict=False))
  made, ends = canvas.blank(7.6, 4.2), []
  axis = made.subplots()
  lines = styles.lines(results)
  if (raw := results['controls'].get('raw') or {}).get('linear'):
    lines.append((Style('raw input', FAINT, '_', '-.'), [{'probes': raw}]))
  for style, runs in lines:
    rows = [[summary.accuracy(run, 'linear', column) for column in columns] for run in runs]
    values = np.asarray(rows, float)  # None becomes NaN: that count was not measured
    shown = np.isfinite(values).all(axis=0)
    if shown.any():
      x = np.asarray([places[column] for column in columns], float)[shown]
      ends.append(canvas.mean_line(axis, x, values[:, shown], style))
  axis.set_xscale('log')
  canvas.tidy(axis, 'labels the probe was fitted on', _ACCURACY, percent='y')
  axis.set_xticks([places[column] for column in columns], columns)
  axis.minorticks_off()
  canvas.label_ends(axis, ends)
  return made


def accuracy_by_level(results: Mapping) -> figure.Figure | None:
  """Validation accuracy against noise level or mask ratio, with the clean input at the left."""
  made, ends = canvas.blank(7.6, 4.0), []
  axis = made.subplots()
  for style, runs in styles.lines(results):
    curves = [_level_curve(run) for run in runs]
    curves = [curve for curve in curves if curve and curve.keys() == (curves[0] or {}).keys()]
    if not curves:
      continue
    levels = list(curves[0])[1:]
    values = np.asarray([list(curve.values()) for curve in curves], float)
    ends.append(canvas.mean_line(axis, levels, values[:, 1:], style))
    mean = values.mean(0)
    axis.plot([0, levels[0]], mean[:2], color=style.colour, linewidth=1, linestyle=(0, (1, 2)))
    axis.plot([0], mean[:1], style.marker, color=style.colour, markerfacecolor='white',
              markersize=7, markeredgewidth=1.6, clip_on=False)  # fmt: skip
  if not ends:
    return None
  x = 'noise level or mask ratio (open marker at 0: the clean input)'
  canvas.tidy(axis, x, 'validation accuracy, all labels', percent='y')
  axis.set_xlim(left=0)
  canvas.label_ends(axis, ends)
  return made


def _level_curve(run: Mapping) -> dict[float | None, float] | None:
  """Validation accuracy by level, None (clean) first; None if any of it is missing."""
  found = summary.by_level(run)
  curve = {None: (found.get('clean') or {}).get('validation')}
  curve |= {at['level']: at.get('validation') for at in found.get('by_level') or ()}
  return None if len(curve) < 2 or None in curve.values() else curve


def layer_curve(record: Mapping) -> figure.Figure | None:
  """Validation accuracy by layer of one run (for TensorBoard); None if it was not probed."""
  result = at(record, ('probes', 'linear', 'all')) or {}
  values = result.get('by_layer_validation')
  if not values:
    return None
  made = canvas.blank(5.0, 3.2)
  axis = made.subplots()
  axis.plot(range(len(values)), values, color=styles.COLOURS[0], marker='o', linewidth=1.7)
  if isinstance(result.get('layer'), int):
    axis.axvline(result['layer'], color=FAINT, linewidth=1, linestyle=(0, (4, 3)), zorder=0)
  title = f'{record["objective"]}, seed {record["seed"]}'
  canvas.tidy(
    axis, 'layer (0: the embeddings)', 'validation accuracy, all labels', title, percent='y'
  )
  axis.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
  return made
