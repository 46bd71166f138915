"""Scalars to TensorBoard and to a plain file, without TensorFlow; files here or in a bucket."""

import contextlib
import json
import math
import os
import secrets
import time
from typing import Any

from etils import epath
import numpy as np

from training.board import Board

_COLUMNS = ('step', 'tokens', 'flops', 'wall')  # Not in TensorBoard.
_REMOTE_SECONDS = 120.0  # Every flush sends whole files to a bucket.


def is_remote(path: str) -> bool:
  """Whether a path is in a bucket (gs://...) rather than in a file system."""
  return '://' in path


class MetricsWriter:
  """Writes `metrics.jsonl` and TensorBoard events into one directory.

  What an earlier process wrote after the restored step, or at all if nothing was restored, is
  dropped from both, so that a curve never shows a step twice. Of several processes one is `active`;
  the others write nothing. A row is on disk when `write` returns. In a bucket, where nothing can be
  appended, files are replaced at every `flush`, and every two minutes.
  """

  def __init__(
    self,
    workdir: str,
    resumed_step: int | None = None,
    active: bool = True,
    unmeasured: bool = False,
  ):
    """`unmeasured` says that everything due at the restored step will be measured again."""
    self._board = None
    if not active:
      return
    self._path = os.path.join(workdir, 'metrics.jsonl')
    kept = [] if resumed_step is None else read_curve(self._path, resumed_step)
    if unmeasured:
      kept = [row for row in kept if row['step'] < resumed_step or 'train/loss' in row]
    self._lines = [json.dumps(row) + '\n' for row in kept]
    write_atomically(self._path, ''.join(self._lines))
    purge = 0 if resumed_step is None else resumed_step + (not unmeasured)
    self._board = Board(workdir, purge)
    self._flushed = time.monotonic()
    for row in kept if unmeasured else ():
      if row['step'] == resumed_step:  # It was purged, and is no measurement.
        self._show(resumed_step, {k: v for k, v in row.items() if k not in _COLUMNS})
    self._board.flush()

  def write(self, step: int, values: dict[str, Any], **columns: float) -> None:
    """One row of scalars. `columns` (tokens, flops, wall) go to the file only, grey pictures (HxW
    uint8) to TensorBoard only."""
    if self._board is None:
      return
    pictures = {name: value for name, value in values.items() if np.ndim(value) == 2}
    for name, picture_HxW in pictures.items():
      self._board.picture(name, picture_HxW, step)
    scalars = {name: float(value) for name, value in values.items() if name not in pictures}
    self._show(step, scalars)
    finite = {k: v for k, v in {**columns, **scalars}.items() if math.isfinite(v)}
    line = json.dumps({'step': step, **finite}) + '\n'
    if is_remote(self._path):
      self._lines.append(line)
      if time.monotonic() - self._flushed > _REMOTE_SECONDS:
        self.flush()
      return
    with open(self._path, 'a', encoding='utf-8') as file:
      file.write(line)
    self._board.flush()

  def _show(self, step: int, scalars: dict[str, float]) -> None:
    for name, value in scalars.items():
      self._board.scalar(name, value, step)

  def flush(self) -> None:
    """Puts on disk what was written; call it before a checkpoint that claims these steps."""
    if self._board is None:
      return
    self._board.flush()
    if is_remote(self._path):
      write_atomically(self._path, ''.join(self._lines))
    self._flushed = time.monotonic()

  def close(self) -> None:
    if self._board is not None:
      self.flush()
      self._board.close()


def read_curve(path: str, last_step: int | None = None) -> list[dict[str, float]]:
  """Rows of a metrics.jsonl; a line cut short by a killed process is skipped."""
  rows = []
  if not epath.Path(path).exists():
    return rows
  for line in epath.Path(path).read_text().splitlines():
    try:
      row = json.loads(line)
    except json.JSONDecodeError:
      continue
    if last_step is None or row['step'] <= last_step:
      rows.append(row)
  return rows


def write_atomically(path: str, content: str | bytes) -> None:
  """Replaces a file in one step: a reader or a killed writer never sees half of it."""
  content = content.encode() if isinstance(content, str) else content
  if is_remote(path):
    epath.Path(path).write_bytes(content)
    return
  part = os.path.join(os.path.dirname(os.path.abspath(path)), f'.writing-{secrets.token_hex(8)}')
  try:
    with open(part, 'xb') as file:
      file.write(content)
    os.replace(part, path)
  finally:
    with contextlib.suppress(FileNotFoundError):
      os.unlink(part)
