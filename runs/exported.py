"""Writes a finished run in the format of other libraries."""

import os
import shutil

from codes import prequential
from models import imagegpt
from runs import finished
from runs.errors import UserError


def imagegpt_directory(workdir: str, data_dir: str, out: str, best: bool = False) -> str:
  """Writes an autoregressive run as an ImageGPT checkpoint of Hugging Face; returns a line on it.

  Args:
    workdir: of the run.
    data_dir: prepared data sets.
    out: a directory that is not there yet; it appears whole.
    best: the best checkpoint on validation, not the last.

  Raises:
    UserError: the run is not finished, or its network is none that the format can hold.
  """
  if os.path.exists(out):
    raise UserError(f'--out={out} is there already: name a new directory')
  built, params = finished.coded(workdir, data_dir, best)
  model = built.model
  try:
    reading = prequential.reading(built.objective, model, built.space)
    imagegpt.check(model)
  except ValueError as error:
    raise UserError(f'{workdir}: {error}') from error
  if reading.order != tuple(range(reading.dims)):
    order = built.config.objective.order
    raise UserError(f"{workdir} reads its tokens in order '{order}', ImageGPT in raster order")
  if reading.window is not None:
    raise UserError(f'{workdir} looks back {reading.window} tokens, ImageGPT at all of them')
  part = f'{out.rstrip("/")}.partial'
  try:
    shutil.rmtree(part, ignore_errors=True)
    os.makedirs(part)
    imagegpt.write(part, model, params['backbone'])
    os.replace(part, out.rstrip('/'))
  except OSError as error:
    raise UserError(f'{out} can not be written: {error.strerror}') from error
  finally:
    shutil.rmtree(part, ignore_errors=True)
  return (
    f'{out}: {model.layers} layers, width {model.width}, {model.vocabulary} colours and the start '
    f'token {model.vocabulary}, {model.length} positions'
  )
