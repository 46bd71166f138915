"""What a command leaves beside what it prints: --out=FILE.json."""

import os
from typing import Any

from runs.errors import UserError


def check(path: str | None) -> None:
  """UserError unless a file could be put there; before the work, not after it."""
  if path is not None and not os.path.isdir(os.path.dirname(os.path.abspath(path))):
    raise UserError(f'--out={path}: there is no such directory')
  if path is not None and os.path.isdir(path):
    raise UserError(f'--out={path} is a directory; name a file')


def write(path: str | None, made: Any) -> None:
  """Writes JSON, whole or not at all, null for what is not finite; nothing without a path."""
  from runs import whole
  from training.metrics import write_atomically

  if path:
    write_atomically(path, whole.dumps(made))
