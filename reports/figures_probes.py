"""Pictures of the probes beside the headline: code lengths, similarity of representations."""

from collections.abc import Mapping, Sequence
import math

from matplotlib import figure
import numpy as np

from probes.measures import at
from reports import alignment, canvas, styles
from reports.styles import FAINT, INK, Style

_CURVE = ('prequential', 'all', 'curve')
_MOST_LAYERS = 13  # layers of one run shown in the similarity map, evenly spaced


def loss_against_labels(results: Mapping) -> figure.Figure | None:
  """Bits a label while coding, against labels seen: the loss-data curve, linear and MLP."""
  lines = [
    (style, [run.get('probes') or {} for run in runs]) for style, runs in styles.lines(results)
  ]
  raw = results['controls'].get('raw') or {}
  lines.append((Style('raw input', FAINT, '_', '-.'), [raw]))
  shown = [
    key
    for key in ('linear_bits', 'mlp_bits')
    if any(_curve(probes, key) for _, members in lines for probes in members)
  ]
  if not shown:
    return None
  made = canvas.blank(4.9 * len(shown), 4.1)
  for axis, key in zip(np.atleast_1d(made.subplots(1, len(shown))), shown, strict=True):
    ends = []
    for style, members in lines:
      curves = [curve for probes in members if (curve := _curve(probes, key))]
      curves = [curve for curve in curves if curve.keys() == curves[0].keys()]
      if curves:
        values = np.asarray([list(curve.values()) for curve in curves], float)
        ends.append(canvas.mean_line(axis, list(curves[0]), values, style))
    axis.set_xscale('log')
    name = {'linear_bits': 'linear', 'mlp_bits': 'MLP'}[key]
    canvas.tidy(axis, 'labels seen before', f'bits a label, {name} probe')
    if classes := results.get('classes'):
      axis.axhline(math.log2(classes), color=FAINT, linewidth=1, linestyle=(0, (4, 3)))
    canvas.label_ends(axis, ends)
  return made


def _curve(probes: Mapping, key: str) -> dict[int, float]:
  """Bits a label by the number of labels seen before the block; {} where not measured."""
  blocks = at(probes, _CURVE) or ()
  return {b['labels']: b[key] for b in blocks if b['labels'] and b.get(key) is not None}


def similarity(results: Mapping, features: Mapping[str, np.ndarray]) -> figure.Figure | None:
  """Debiased CKA between the layers of one run of every objective, a heat map.

  Args:
    results: the content of results.json.
    features: workdir -> test features (layers, N, D) of the same examples.
  """
  chosen = []
  for style, runs in styles.lines(results):
    run = next((run for run in runs if run['workdir'] in features), None)
    if run is not None:
      chosen.append((style, run, features[run['workdir']]))
  if len(chosen) < 2:
    return None
  rows = {array.shape[1] for _, _, array in chosen}
  if len(rows) > 1 or min(rows) < 4 or _apart([run for _, run, _ in chosen]):
    return None
  picked = [_spaced(len(array)) for _, _, array in chosen]
  values = alignment.cka_matrix(
    [array[layers] for (_, _, array), layers in zip(chosen, picked, strict=True)]
  )
  return _heat_map(values, [style for style, _, _ in chosen], picked)


def _apart(runs: Sequence[Mapping]) -> bool:
  """Whether the runs were probed on different examples (another draw of the source)."""
  settings = [run.get('settings_of_data') for run in runs]
  return any(other != settings[0] for other in settings)


def _spaced(layers: int) -> np.ndarray:
  return np.unique(np.linspace(0, layers - 1, min(layers, _MOST_LAYERS)).round().astype(int))


def _heat_map(
  values: np.ndarray, looks: Sequence[Style], picked: Sequence[np.ndarray]
) -> figure.Figure:
  side = min(11.0, max(5.5, 0.2 * len(values) + 2.2))
  made = canvas.blank(side + 0.9, side)
  axis = made.subplots()
  image = axis.imshow(values, cmap='Blues', vmin=0, vmax=1)
  ends = np.cumsum([len(layers) for layers in picked])
  for end in ends[:-1]:
    axis.axhline(end - 0.5, color='white', linewidth=2)
    axis.axvline(end - 0.5, color='white', linewidth=2)
  middles = [end - len(layers) / 2 - 0.5 for end, layers in zip(ends, picked, strict=True)]
  names = [style.label for style in looks]
  axis.set_xticks(middles, names, rotation=35, ha='right', fontsize=8.5)
  axis.set_yticks(middles, names, fontsize=8.5)
  axis.tick_params(length=0, colors=INK)
  axis.spines[:].set_visible(False)
  bar = made.colorbar(image, ax=axis, shrink=0.7)
  bar.ax.tick_params(labelsize=8, colors='#555555')
  bar.set_label('debiased CKA', fontsize=8.5, color=INK)
  return made
