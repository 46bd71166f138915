"""Joins a pretrained network, an objective and the trainer into `probes.finetune.Tuner`."""

from collections.abc import Callable
import hashlib
import os
import pathlib
from typing import Any

import numpy as np

from objectives import finetuning as loss_lib
from objectives import scoring
from probes.finetune import Tuner
from training import finetuning


def make_tuner(experiment: Any, params: Any) -> Tuner:
  """Fine-tunes copies of `params` on the experiment's probed data set."""
  fits: dict[tuple, finetuning.Fits] = {}

  def tune(
    rows, labels, *, layer, learning_rate, at, ask, batch_size, generative, weight_decay, warmup,
    seed,
  ) -> np.ndarray:  # fmt: skip
    settings = (layer, generative, weight_decay, warmup)
    if settings not in fits:
      fits[settings] = _make_fits(experiment, params, *settings)
    split, asked = ask
    dataset = experiment.probe_dataset
    return fits[settings].fit(
      {'tokens': dataset.train.tokens_NxT[rows], 'label': np.asarray(labels, np.int32)},
      learning_rate=learning_rate,
      at=at,
      ask={'tokens': getattr(dataset, split).tokens_NxT[asked]},
      batch_size=batch_size,
      seed=seed,
    )

  return tune


def _make_fits(
  experiment: Any, params: Any, layer: int, generative: float, weight_decay: float, warmup: int
) -> finetuning.Fits:
  parts = (experiment.objective, experiment.apply, experiment.space, layer)
  head = loss_lib.init_head(experiment.model.width, experiment.probe_dataset.classes)
  config, decayed = experiment.config, (*experiment.task.decayed, 'head_DxC')
  return finetuning.Fits(
    {**params, 'head': head},
    finetuning.make_optimizer(
      config.optimizer, weight_decay, warmup, decayed, experiment.task.unclipped
    ),
    scoring.draw,
    loss_lib.make_loss(*parts, generative),
    loss_lib.make_logits(*parts),
    config.optimizer.clip_norm,
    experiment.mesh,
    config.probe.batch_size,
  )


def remembering(
  tuner: Tuner, directory: str | os.PathLike, progress: Callable[[], Any] = lambda: None
) -> Tuner:
  """Keeps every fit's logits in `directory`: what an interrupted call computed is not lost.

  A fit is recognised by its arguments; the network is taken to be the same.
  """
  directory = pathlib.Path(directory)
  directory.mkdir(parents=True, exist_ok=True)

  def tune(rows, labels, **settings) -> np.ndarray:
    split, asked = settings['ask']
    name = hashlib.sha256()
    for part in (rows, labels, asked):
      name.update(np.ascontiguousarray(part, np.int64).tobytes())
    plain = {key: value for key, value in settings.items() if key != 'ask'}
    name.update(repr((len(rows), split, sorted(plain.items()))).encode())
    path = directory / f'{name.hexdigest()[:32]}.npy'
    if path.exists():
      progress()
      return np.load(path)
    logits = tuner(rows, labels, **settings)
    partial = path.with_suffix('.partial.npy')
    np.save(partial, logits)
    os.replace(partial, path)
    progress()
    return logits

  return tune
