"""Pictures for sources whose law is known: regret against compute and size, latents by layer."""

from collections.abc import Mapping, Sequence

from matplotlib import axes, figure, ticker
import numpy as np

from reports import canvas, regret, styles, summary
from reports.figures_training import aligned
from reports.reading import Curves
from reports.styles import INK, Kind, Style

_REGRET = 'regret, bits per dimension'
_ACROSS = 3  # heat maps side by side
_ANNOTATED = 9  # columns of a heat map up to which every cell holds its number


def _label(style: Style, kind: str | None) -> str:
  return style.label + (' (≤)' if kind == 'bound' else '')


def _log_band(axis: axes.Axes, x: np.ndarray, rows: np.ndarray, style: Style, label: str) -> bool:
  """Mean and range over replicates on two log axes; what is not above zero has no place there."""
  mean, low, high = rows.mean(0), rows.min(0), rows.max(0)
  shown = (x > 0) & (mean > 0)
  if not shown.any():
    return False
  axis.plot(x[shown], mean[shown], color=style.colour, linestyle=style.line, linewidth=1.7,
            marker='.', markersize=4, label=label)  # fmt: skip
  if len(rows) > 1:
    low = np.maximum(low, mean[shown].min() / 3)
    axis.fill_between(
      x[shown], low[shown], high[shown], color=style.colour, alpha=0.14, linewidth=0
    )
  return True


def regret_curves(results: Mapping, curves: Curves) -> figure.Figure | None:
  """Validation regret against training tokens and against FLOPs, on logarithmic axes."""
  made = canvas.blank(9.0, 4.0)
  left, right = made.subplots(1, 2, sharey=True)
  drawn = False
  for style, runs in styles.lines(results):
    found = aligned(runs, curves, regret.CURVE)
    if found is None:
      continue
    steps, flops, rows = found
    tokens = _tokens(runs[0], steps)
    label = _label(style, (runs[0].get('truth') or {}).get('kind'))
    for axis, x in ((left, tokens), (right, flops)):
      if np.isfinite(x).all():
        drawn |= _log_band(axis, x, rows, style, label)
  if not drawn:
    return None
  for axis, x, y in ((left, 'training tokens', _REGRET), (right, 'training FLOPs', '')):
    axis.set_xscale('log')
    axis.set_yscale('log')
    canvas.tidy(axis, x, y)
    axis.grid(axis='x', color='#ECECEC', linewidth=0.8)
    axis.tick_params(which='minor', color='#BBBBBB')
  canvas.legend(left, 'lower left')
  return made


def _tokens(run: Mapping, steps: np.ndarray) -> np.ndarray:
  """Training tokens after so many steps, those before its start included."""
  before = (run.get('init_from') or {}).get('tokens_seen') or 0
  own = (run.get('tokens_seen') or np.nan) - before
  return before + steps * own / (run.get('steps') or 1)


def regret_by_size(results: Mapping) -> figure.Figure | None:
  """Regret on test against backbone parameters; only where several sizes were trained."""
  looks, lines = styles.styles(results), {}
  for kind, runs in styles.grouped(results).items():
    values = [(run.get('truth') or {}).get('regret_bits_per_dim') for run in runs]
    values = [value for value in values if value is not None]
    size = runs[0].get('parameters_backbone')
    if values and size and np.mean(values) > 0:
      lines.setdefault(kind[0], []).append((size, values, kind, runs[0]['truth'].get('kind')))
  lines = {name: sorted(points) for name, points in lines.items() if len(points) > 1}
  if not lines:
    return None
  made = canvas.blank(7.6, 4.0)
  axis, ends = made.subplots(), []
  axis.set_xscale('log')
  axis.set_yscale('log')
  for name, points in lines.items():
    style = looks[points[-1][2]]  # the largest size has the objective's own colour
    x, mean = [point[0] for point in points], [float(np.mean(point[1])) for point in points]
    low = [max(min(point[1]), 1e-2 * m) for point, m in zip(points, mean, strict=True)]
    axis.plot(x, mean, color=style.colour, marker='o', markersize=5, linewidth=1.7)
    axis.vlines(x, low, [max(point[1]) for point in points], color=style.colour, alpha=0.5)
    ends.append((x[-1], mean[-1], name + (' (≤)' if points[0][3] == 'bound' else ''), style.colour))
  canvas.tidy(axis, 'parameters of the backbone', _REGRET)
  for log_axis in (axis.xaxis, axis.yaxis):
    log_axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: styles.scientific(value)))
    log_axis.set_minor_formatter(ticker.NullFormatter())
  axis.legend(
    [axis.lines[i] for i in range(len(ends))], [end[2] for end in ends], frameon=False,
    fontsize=8.5, labelcolor=INK,
  )  # fmt: skip
  return made


def regret_by_hidden(results: Mapping) -> figure.Figure | None:
  """Regret of the views with k hidden tokens, for objectives that hide; also of other codes."""
  looks, drawn = styles.styles(results), False
  made = canvas.blank(7.6, 3.6)
  axis = made.subplots()
  for entry in results['summary']:
    style = looks[styles.kind_of(entry)]
    lines = [(style.label, '-', entry.get('regret_by_k'))]
    lines += [(f'{style.label}, by {name.replace("_", " ")}', '--', other.get('regret_by_k'))
              for name, other in entry['also'].items()]  # fmt: skip
    for label, line, values in lines:
      if values:
        axis.plot(range(1, len(values) + 1), np.asarray(values, float), line, color=style.colour,
                  linewidth=1.7, marker='.', label=label)  # fmt: skip
        drawn = True
  if not drawn:
    return None
  canvas.tidy(axis, 'hidden tokens', _REGRET)
  axis.axhline(0, color='#BBBBBB', linewidth=1, zorder=0)
  axis.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
  canvas.legend(axis)
  return made


# Latents.


def latents(results: Mapping) -> figure.Figure | None:
  """Probe accuracy of every level's latents by layer, a heat map an objective."""
  entries = [entry for entry in results['summary'] if entry.get('latents')]
  if not entries:
    return None
  looks, nodes = styles.styles(results), _nodes(results)
  raw = summary.level_means(results['controls'].get('raw_latents') or {})
  chances = [c for entry in entries for c in entry['latents_chance'].values() if c is not None]
  down = -(-len(entries) // _ACROSS)
  levels = max(len(entry['latents']) for entry in entries)
  made = canvas.blank(9.4, (0.95 + 0.42 * levels) * down)
  places = made.subplots(down, _ACROSS, squeeze=False).ravel()
  for index, (axis, entry) in enumerate(zip(places, entries, strict=False)):
    kind: Kind = styles.kind_of(entry)
    _heat_map(axis, entry, raw, min(chances, default=0.0), looks[kind])
    names = [_level_name(level, nodes, entry) for level in entry['latents']]
    axis.set_yticks(range(len(names)), names if index % _ACROSS == 0 else [''] * len(names))
  for axis in places[len(entries) :]:
    axis.set_visible(False)
  return made


def _nodes(results: Mapping) -> dict[str, int]:
  """Latents a level, by level."""
  names = next(run['latents']['linear'] for run in results['runs']
               if (run.get('latents') or {}).get('linear'))  # fmt: skip
  levels = [name.split('/')[0] for name in names]
  return {level: levels.count(level) for level in levels}


def _level_name(level: str, nodes: Mapping[str, int], entry: Mapping) -> str:
  name = 'root' if nodes.get(level) == 1 else f'level {level} (mean of {nodes.get(level)})'
  chance = entry['latents_chance'].get(level)
  return name if chance is None else f'{name}, chance {100 * chance:.0f}%'


def heat_values(entry: Mapping, raw: Mapping[str, float | None]) -> np.ndarray:
  """Accuracies (levels, layers), with the raw input as column 0 where there is one."""
  rows: list[Sequence[float | None]] = [
    ([raw.get(level)] if raw else []) + list(values) for level, values in entry['latents'].items()
  ]
  return np.asarray(rows, float)


def _heat_map(
  axis: axes.Axes, entry: Mapping, raw: Mapping[str, float | None], lowest: float, style: Style
) -> None:
  values = heat_values(entry, raw)
  axis.imshow(values, cmap='Blues', vmin=lowest, vmax=1.0, aspect='auto')
  layers = values.shape[1] - bool(raw)
  ticks = (['raw'] if raw else []) + [str(layer) for layer in range(layers)]
  every = max(1, layers // 8)
  shown = [i for i, tick in enumerate(ticks) if tick == 'raw' or (i - bool(raw)) % every == 0]
  axis.set_xticks(shown, [ticks[i] for i in shown])
  if raw:
    axis.axvline(0.5, color='white', linewidth=4)
  if values.shape[1] <= _ANNOTATED:
    middle = (lowest + 1) / 2
    for (row, column), value in np.ndenumerate(values):
      if np.isfinite(value):
        colour = 'white' if value > middle + 0.1 else INK
        axis.text(column, row, f'{100 * value:.0f}', ha='center', va='center', fontsize=8,
                  color=colour)  # fmt: skip
  axis.set_title(style.label, loc='left', fontsize=9.5, color=style.colour)
  axis.tick_params(length=0, labelsize=8.5, colors='#555555')
  axis.spines[:].set_visible(False)
  axis.set_xlabel('layer', fontsize=8.5, color='#555555')
