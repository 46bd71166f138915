"""Grids of examples that the models drew, beside real ones."""

from collections.abc import Mapping, Sequence
import math

from matplotlib import axes, figure
import numpy as np

from reports import canvas, styles
from reports.styles import INK

COLUMNS = 8
_ROWS = 8
_ACROSS = 3  # grids side by side
_GAP = 255  # white, as the page


def sample_grid(
  samples_NxT: np.ndarray, shape: Sequence[int], alphabet: int, columns: int = COLUMNS
) -> np.ndarray:
  """Examples as one grey picture, a pixel a token, row by row with white lines between.

  Args:
    samples_NxT: values 0..alphabet-1 in raster order.
    shape: rows and columns of an example; their product is T.
    alphabet: number of values; 0 is black, alphabet-1 white.
    columns: examples side by side.

  Returns:
    uint8 (height, width). Places without an example are white.
  """
  samples = np.asarray(samples_NxT)
  rows, width = (int(side) for side in shape)
  grey = np.round(samples * (255 / (alphabet - 1))).astype(np.uint8).reshape(-1, rows, width)
  down = max(1, math.ceil(len(grey) / columns))
  picture = np.full((down * (rows + 1) - 1, columns * (width + 1) - 1), _GAP, np.uint8)
  for place, example in enumerate(grey):
    top, left = place // columns * (rows + 1), place % columns * (width + 1)
    picture[top : top + rows, left : left + width] = example
  return picture


def samples(results: Mapping, drawn: Mapping[str, np.ndarray]) -> figure.Figure | None:
  """A grid an objective, of its first replicate that has samples, and one of real examples."""
  grids, shape = [], None
  for style, runs in styles.lines(results):
    having = (run for run in runs if run.get('sample_shape') and run['workdir'] in drawn)
    run = next(having, None)
    if run is None:
      continue
    shape = run['sample_shape']
    grids.append((f'{style.label}, seed {run["seed"]}', style.colour, drawn[run['workdir']]))
  if not grids:
    return None
  if real := results['controls'].get('real_samples'):
    grids.append(('real, from test', INK, np.asarray(real)))
  down = math.ceil(len(grids) / _ACROSS)
  made = canvas.blank(3.0 * _ACROSS, 3.2 * down)
  made.get_layout_engine().set(h_pad=0.1, w_pad=0.1)
  places = made.subplots(down, _ACROSS, squeeze=False).ravel()
  for axis, (title, colour, values) in zip(places, grids, strict=False):
    picture = sample_grid(values[: COLUMNS * _ROWS], shape, results['alphabet'])
    _show(axis, picture, title, colour)
  for axis in places[len(grids) :]:
    axis.set_visible(False)
  return made


def _show(axis: axes.Axes, picture: np.ndarray, title: str, colour: str) -> None:
  axis.imshow(picture, cmap='gray', vmin=0, vmax=255, interpolation='nearest')
  axis.set_title(title, loc='left', fontsize=9.5, color=colour)
  axis.set_axis_off()
