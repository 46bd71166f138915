"""The report's pictures: every function takes the content of results.json and returns a Figure.

Only matplotlib's object interface is used, so nothing here touches a display or global state.
Curves are {workdir: points}, points as `launch.results.read_curve` returns them.
"""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any

from matplotlib import axes, figure, ticker, transforms
from matplotlib.backends import backend_agg
import numpy as np

from launch import results as results_lib

# Okabe and Ito's palette without yellow and black, told apart by colour-blind readers and in grey
# by the markers; greys are for what was never trained.
_COLOURS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#56B4E9', '#E69F00', '#7A5195', '#8C6D31')
_GREYS = ('#555555', '#999999', '#222222', '#BBBBBB')
_MARKERS = 'osD^vP*X'
_INK, _FAINT = '#333333', '#8A8A8A'
_ACCURACY = 'test accuracy of the probe'
NAMES = (
  'bits_against_accuracy', 'accuracy_by_layer', 'accuracy_by_labels', 'training_curves',
  'accuracy_during_training',
)  # fmt: skip
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
  """A fixed style for each objective, by its place in the summary."""
  sizes = {entry['size'] for entry in results['summary']}
  made, trained, controls = {}, 0, 0
  for entry in results['summary']:
    label = entry['objective'] + (f' {entry["size"]}' if len(sizes) > 1 else '')
    if entry.get('trained', True):
      colour, line = _COLOURS[trained % len(_COLOURS)], '-' if not entry['saw_labels'] else '--'
      marker = _MARKERS[trained % len(_MARKERS)]
      trained += 1
    else:
      colour, line, marker = _GREYS[controls % len(_GREYS)], ':', 'ds'[controls % 2]
      controls += 1
    made[kind_of(entry)] = Style(label, colour, marker, line)
  return made


def _grouped(results: Mapping) -> dict[Kind, list[dict]]:
  groups = {kind_of(entry): [] for entry in results['summary']}
  for run in results['runs']:
    if run['selected']:
      groups[kind_of(run)].append(run)
  return groups


# Canvas.


def _figure(width: float, height: float) -> figure.Figure:
  made = figure.Figure(figsize=(width, height), dpi=144, layout='constrained')
  backend_agg.FigureCanvasAgg(made)
  return made


def _tidy(axis: axes.Axes, x: str, y: str, title: str = '', percent: str = '') -> None:
  axis.set_xlabel(x, color=_INK)
  axis.set_ylabel(y, color=_INK)
  if title:
    axis.set_title(title, loc='left', fontsize=10, color=_INK)
  axis.spines[['top', 'right']].set_visible(False)
  axis.spines[['left', 'bottom']].set_color('#BBBBBB')
  axis.tick_params(colors='#555555', labelsize=9)
  axis.grid(axis='y', color='#ECECEC', linewidth=0.8)
  axis.set_axisbelow(True)
  if 'y' in percent:
    axis.yaxis.set_major_locator(ticker.MaxNLocator(6, steps=[1, 2, 5, 10]))
    axis.yaxis.set_major_formatter(ticker.FuncFormatter(lambda y, _: f'{100 * y:.4g}%'))


def _label_ends(axis: axes.Axes, ends: Sequence[tuple[float, float, str, str]]) -> None:
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


def _band(axis: axes.Axes, x: Sequence[float], rows: np.ndarray, style: Style, **line: Any) -> None:
  """Draws the mean over seeds of rows_SxX, and their range where there is more than one."""
  mean = rows.mean(axis=0)
  axis.plot(x, mean, color=style.colour, linestyle=style.line, linewidth=1.7, clip_on=False, **line)
  if len(rows) > 1:
    low, high = rows.min(axis=0), rows.max(axis=0)
    axis.fill_between(x, low, high, color=style.colour, alpha=0.14, linewidth=0)


# Pictures of the results.


def _primary(results: Mapping) -> tuple[str, str] | None:
  """The declared primary probe, or what is nearest to it in these runs."""
  pairs = results_lib.probe_counts(results['runs'])
  return results_lib.PRIMARY if results_lib.PRIMARY in pairs else (pairs[0] if pairs else None)


def _labels_name(labels: str) -> str:
  return 'all labels' if labels == 'all' else f'{labels} labels'


def bits_against_accuracy(results: Mapping) -> figure.Figure | None:
  """One marker a run: exact codes filled, bounds open with an arrow, no likelihood apart."""
  pair = _primary(results)
  if pair is None:
    return None
  looks, groups = styles(results), _grouped(results)
  coded = [
    kind for kind, runs in groups.items() if any(r['bits_per_dim'] is not None for r in runs)
  ]
  apart = [kind for kind in groups if kind not in coded]
  made = _figure(8.2, 4.3)
  ratios = [3.0, 0.42 * max(len(apart), 1) + 0.3]
  left, right = made.subplots(1, 2, sharey=True, width_ratios=ratios)
  for kind in coded:
    _coded_markers(left, groups[kind], pair, looks[kind])
  for place, kind in enumerate(apart):
    values = [results_lib.accuracy(run, *pair) for run in groups[kind]]
    values = [value for value in values if value is not None]
    style = looks[kind]
    right.plot([place] * len(values), values, style.marker, color=style.colour, markersize=7,
               alpha=0.85, linestyle='none')  # fmt: skip
  reference = (results['controls'].get('raw') or {}).get(pair[0], {}).get(pair[1], {})
  if reference.get('accuracy') is not None:
    for axis in (left, right):
      axis.axhline(reference['accuracy'], color=_FAINT, linewidth=1, linestyle=(0, (4, 3)))
    left.annotate('raw input', (0.01, reference['accuracy']), xycoords=('axes fraction', 'data'),
                  xytext=(0, 3), textcoords='offset points', fontsize=8, color=_FAINT)  # fmt: skip
  name = f'{_ACCURACY}, {_labels_name(pair[1])}'
  _tidy(left, 'bits per dimension on test (fewer is better)', name, percent='y')
  _tidy(right, '', '', 'no likelihood')
  right.set_xticks(
    range(len(apart)), [looks[kind].label for kind in apart], rotation=35, ha='right'
  )
  right.set_xlim(-0.6, max(len(apart), 1) - 0.4)
  right.set_facecolor('#F6F6F6')
  left.margins(x=0.16, y=0.12)
  if not coded:
    left.set_xticks([])
    left.set_xlabel('no run has a likelihood')
  if not apart:
    right.set_visible(False)
  return made


def _coded_markers(axis: axes.Axes, runs: Sequence[dict], pair: tuple[str, str], style: Style):
  points = [(run['bits_per_dim'], results_lib.accuracy(run, *pair)) for run in runs]
  points = [point for point in points if None not in point]
  if not points:
    return
  bound = runs[0]['code'] == 'upper_bound'
  x, y = zip(*points, strict=True)
  axis.plot(x, y, style.marker, color=style.colour, markersize=7, linestyle='none', alpha=0.85,
            markerfacecolor='white' if bound else style.colour, markeredgewidth=1.6)  # fmt: skip
  if bound:  # the likelihood's own bits lie somewhere to the left of a bound
    shifted = transforms.offset_copy(axis.transData, axis.figure, x=-24, units='points')
    for point in points:
      arrow = {'arrowstyle': '->', 'color': style.colour, 'shrinkA': 4}
      axis.annotate('', point, point, xycoords=shifted, textcoords='data', arrowprops=arrow)
  top = max(points, key=lambda point: point[1])
  axis.annotate(style.label + (' (≤)' if bound else ''), top, xytext=(0, 8), ha='center',
                textcoords='offset points', color=style.colour, fontsize=9)  # fmt: skip


def accuracy_by_layer(results: Mapping) -> figure.Figure | None:
  """Validation accuracy of the all-labels probe at every layer, mean and range over seeds."""
  looks, ends = styles(results), []
  made = _figure(7.6, 4.0)
  axis = made.subplots()
  for kind, runs in _grouped(results).items():
    rows = [((run.get('probes') or {}).get('linear') or {}).get('all') or {} for run in runs]
    rows = [row['by_layer_validation'] for row in rows if row.get('by_layer_validation')]
    rows = [row for row in rows if None not in row and len(row) == len(rows[0])]
    if not rows:
      continue
    values = np.asarray(rows, float)
    _band(
      axis, range(values.shape[1]), values, looks[kind], marker=looks[kind].marker, markersize=4
    )
    ends.append((values.shape[1] - 1, values.mean(0)[-1], looks[kind].label, looks[kind].colour))
  if not ends:
    return None
  _tidy(axis, 'layer (0: the embeddings)', 'validation accuracy, all labels', percent='y')
  axis.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
  _label_ends(axis, ends)
  return made


def accuracy_by_labels(results: Mapping) -> figure.Figure | None:
  """Test accuracy against the number of labels (log), mean and range over seeds."""
  pairs = [pair for pair in results_lib.probe_counts(results['runs']) if pair[0] == 'linear']
  counts = sorted(int(labels) for _, labels in pairs if labels.isdigit())
  columns = [str(count) for count in counts] + ['all'] * (('linear', 'all') in pairs)
  if not columns:
    return None
  end = 3 * counts[-1] if counts else 1  # 'all' has its own place: its number is the data set's
  places = dict(zip(columns, [*counts, end], strict=False))
  looks, ends = styles(results), []
  made = _figure(7.6, 4.2)
  axis = made.subplots()
  lines = [(looks[kind], runs) for kind, runs in _grouped(results).items()]
  if (raw := results['controls'].get('raw') or {}).get('linear'):
    lines.append((Style('raw input', _FAINT, '_', '-.'), [{'probes': raw}]))
  for style, runs in lines:
    rows = [[results_lib.accuracy(run, 'linear', column) for column in columns] for run in runs]
    values = np.asarray(rows, float)  # None becomes NaN: that count was not measured
    shown = np.isfinite(values).all(axis=0)
    if not shown.any():
      continue
    x = np.asarray([places[column] for column in columns], float)[shown]
    _band(axis, x, values[:, shown], style, marker=style.marker, markersize=4)
    label = style.label + (' (saw all labels)' if runs[0].get('saw_labels') else '')
    ends.append((x[-1], values[:, shown].mean(0)[-1], label, style.colour))
  axis.set_xscale('log')
  _tidy(axis, 'labels the probe was fitted on', _ACCURACY, percent='y')
  axis.set_xticks([places[column] for column in columns], columns)
  axis.minorticks_off()
  _label_ends(axis, ends)
  return made


# Pictures of the training.


def _aligned(
  runs: Sequence[dict], curves: Curves, key: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
  """(steps_X, flops_X, values_SxX) at the steps that all seeds measured, or None."""
  tables = [
    {point['step']: point for point in curves.get(run['workdir'], ()) if point.get(key) is not None}
    for run in runs
  ]
  tables = [table for table in tables if table]
  steps = sorted(set.intersection(*map(set, tables))) if tables else []
  if not steps:
    return None
  per_step = runs[0].get('flops_per_step') or np.nan
  flops = [tables[0][step].get('flops') for step in steps]
  flops = [
    step * per_step if value is None else value for step, value in zip(steps, flops, strict=True)
  ]
  values = [[table[step][key] for step in steps] for table in tables]
  return np.asarray(steps, float), np.asarray(flops, float), np.asarray(values, float)


def _curve_panel(
  axis: axes.Axes, results: Mapping, curves: Curves, key: str, flops: bool, kinds: Sequence[Kind]
) -> bool:
  """Draws `key` against steps or FLOPs for `kinds`; returns whether there was anything to draw."""
  looks, groups, drawn = styles(results), _grouped(results), False
  for kind in kinds:
    aligned = _aligned(groups[kind], curves, key)
    if aligned is None:
      continue
    x, rows = aligned[1 if flops else 0], aligned[2]
    if not np.isfinite(x).all():
      continue
    bound = key.endswith('bits_per_dim') and groups[kind][0]['code'] == 'upper_bound'
    name = looks[kind].label + (' (≤)' if bound else '')
    _band(axis, x, rows, looks[kind], marker='.' if len(x) == 1 else None, label=name)
    drawn = True
  if not drawn:
    axis.set_visible(False)
    return False
  if flops:
    axis.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: scientific(value)))
  axis.legend(frameon=False, fontsize=8.5, labelcolor=_INK)
  return True


def scientific(value: float) -> str:
  """A large number as 1.2e13, without padding."""
  if not value:
    return '0'
  mantissa, exponent = f'{value:.2e}'.split('e')
  return f'{mantissa.rstrip("0").rstrip(".")}e{int(exponent)}'


def _with(results: Mapping, curves: Curves, key: str) -> list[Kind]:
  groups = _grouped(results).items()
  return [kind for kind, runs in groups if _aligned(runs, curves, key) is not None]


def training_curves(results: Mapping, curves: Curves) -> figure.Figure | None:
  """Validation bits against steps and FLOPs; below, the losses of objectives without bits."""
  bits = _with(results, curves, 'validation/bits_per_dim')
  losses = [kind for kind in _with(results, curves, 'validation/loss') if kind not in bits]
  if not bits and not losses:
    return None
  titles = {
    'validation/bits_per_dim': ('validation bits per dimension', 'Bits', bits),
    'validation/loss': (
      'own validation loss', 'No likelihood: own loss, heights do not compare', losses),
  }  # fmt: skip
  keys = [key for key, (_, _, kinds) in titles.items() if kinds]
  made = _figure(9.0, 3.3 * len(keys))
  made.get_layout_engine().set(h_pad=0.12)
  panels = made.subplots(len(keys), 2, squeeze=False, sharey='row')
  for row, key in zip(panels, keys, strict=True):
    name, title, kinds = titles[key]
    for flops, axis in enumerate(row):
      drawn = _curve_panel(axis, results, curves, key, bool(flops), kinds)
      x = 'training FLOPs' if flops else 'steps'
      _tidy(axis, x, '' if flops else name, '' if flops else title)
      if drawn and flops:
        axis.get_legend().remove()
    if key == 'validation/bits_per_dim':
      _reference_bits(row, results['controls'])
    elif all(value > 0 for axis in row for line in axis.lines for value in line.get_ydata()):
      row[0].set_yscale('log')
      for set_formatter in (row[0].yaxis.set_major_formatter, row[0].yaxis.set_minor_formatter):
        set_formatter(ticker.LogFormatter(labelOnlyBase=False))
      row[0].tick_params(which='minor', colors='#555555', labelsize=9)
  return made


def _reference_bits(row: Sequence[axes.Axes], controls: Mapping) -> None:
  histogram = controls.get('histogram_bits_per_dim')
  if histogram is None:
    return
  for axis in row:
    axis.axhline(histogram, color=_FAINT, linewidth=1, linestyle=(0, (4, 3)), zorder=0)
  row[0].annotate('per-pixel histogram', (0.99, histogram), xytext=(0, 3), fontsize=8, color=_FAINT,
                  xycoords=('axes fraction', 'data'), textcoords='offset points',
                  ha='right')  # fmt: skip


def accuracy_during_training(results: Mapping, curves: Curves) -> figure.Figure | None:
  """The small probe that runs during training, against training FLOPs."""
  key = 'probe/linear/accuracy'
  kinds = _with(results, curves, key)
  made = _figure(7.6, 3.6)
  axis = made.subplots()
  if not kinds or not _curve_panel(axis, results, curves, key, True, kinds):
    return None
  _tidy(axis, 'training FLOPs', 'validation accuracy of the small probe', percent='y')
  return made


def layer_curve(record: Mapping) -> figure.Figure | None:
  """Validation accuracy by layer of one run (for TensorBoard); None if it was not probed."""
  result = ((record.get('probes') or {}).get('linear') or {}).get('all') or {}
  values = result.get('by_layer_validation')
  if not values:
    return None
  made = _figure(5.0, 3.2)
  axis = made.subplots()
  axis.plot(range(len(values)), values, color=_COLOURS[0], marker='o', linewidth=1.7)
  if isinstance(result.get('layer'), int):
    axis.axvline(result['layer'], color=_FAINT, linewidth=1, linestyle=(0, (4, 3)), zorder=0)
  title = f'{record["objective"]}, seed {record["seed"]}'
  _tidy(axis, 'layer (0: the embeddings)', 'validation accuracy, all labels', title, percent='y')
  axis.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
  return made


def draw_all(results: Mapping, curves: Curves) -> dict[str, figure.Figure]:
  """Every picture that these results have something to show in, by file name without ending."""
  made = {
    'bits_against_accuracy': bits_against_accuracy(results),
    'accuracy_by_layer': accuracy_by_layer(results),
    'accuracy_by_labels': accuracy_by_labels(results),
    'training_curves': training_curves(results, curves),
    'accuracy_during_training': accuracy_during_training(results, curves),
  }
  return {name: picture for name, picture in made.items() if picture is not None}
