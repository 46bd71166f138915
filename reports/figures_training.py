"""Pictures of the training: curves against steps and FLOPs."""

from collections.abc import Mapping, Sequence

from matplotlib import axes, figure, ticker
import numpy as np

from reports import canvas, styles
from reports.reading import Curves
from reports.styles import FAINT, Kind


def aligned(
  runs: Sequence[dict], curves: Curves, key: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
  """(steps_X, flops_X, values_SxX) at the steps that all replicates measured, or None."""
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
  looks, groups, drawn = styles.styles(results), styles.grouped(results), False
  for kind in kinds:
    found = aligned(groups[kind], curves, key)
    if found is None:
      continue
    x, rows = found[1 if flops else 0], found[2]
    if not np.isfinite(x).all():
      continue
    signs = {'upper_bound': ' (≤)', 'estimate': ' (≈)'} if key.endswith('bits_per_dim') else {}
    name = (
      looks[kind].label
      + ('' if signs else looks[kind].mark)
      + signs.get(groups[kind][0]['code'], '')
    )
    canvas.band(axis, x, rows, looks[kind], marker='.' if len(x) == 1 else None, label=name)
    drawn = True
  if not drawn:
    axis.set_visible(False)
    return False
  if flops:
    axis.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: styles.scientific(value)))
  return True


def _with(results: Mapping, curves: Curves, key: str) -> list[Kind]:
  groups = styles.grouped(results).items()
  return [kind for kind, runs in groups if aligned(runs, curves, key) is not None]


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
  made = canvas.blank(9.0, 3.3 * len(keys))
  made.get_layout_engine().set(h_pad=0.12)
  panels = made.subplots(len(keys), 2, squeeze=False, sharey='row')
  for row, key in zip(panels, keys, strict=True):
    name, title, kinds = titles[key]
    for flops, axis in enumerate(row):
      drawn = _curve_panel(axis, results, curves, key, bool(flops), kinds)
      x = 'training FLOPs' if flops else 'steps'
      canvas.tidy(axis, x, '' if flops else name, '' if flops else title)
      if drawn and not flops:
        canvas.legend(axis)
    if key == 'validation/bits_per_dim':
      _reference_bits(row, results['controls'])
    elif all(value > 0 for axis in row for line in axis.lines for value in line.get_ydata()):
      row[0].set_yscale('log')
      row[0].yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
      row[0].yaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f'{value:g}'))
      row[0].yaxis.set_minor_formatter(ticker.NullFormatter())
      low, high = row[0].get_ylim()
      if sum(low <= place <= high for place in row[0].get_yticks()) < 2:
        row[0].yaxis.set_major_locator(ticker.MaxNLocator(5))
  return made


def _reference_bits(row: Sequence[axes.Axes], controls: Mapping) -> None:
  histogram = controls.get('histogram_bits_per_dim')
  if histogram is None:
    return
  for axis in row:
    axis.axhline(histogram, color=FAINT, linewidth=1, linestyle=(0, (4, 3)), zorder=0)
  row[0].annotate('per-position histogram', (0.99, histogram), xytext=(0, 3), fontsize=8,
                  color=FAINT, xycoords=('axes fraction', 'data'), textcoords='offset points',
                  ha='right')  # fmt: skip


def accuracy_during_training(results: Mapping, curves: Curves) -> figure.Figure | None:
  """The small probe that runs during training, against training FLOPs."""
  key = 'probe/linear/accuracy'
  kinds = _with(results, curves, key)
  made = canvas.blank(7.6, 3.6)
  axis = made.subplots()
  if not kinds or not _curve_panel(axis, results, curves, key, True, kinds):
    return None
  canvas.tidy(axis, 'training FLOPs', 'validation accuracy of the small probe', percent='y')
  canvas.legend(axis)
  return made
