"""What a learner that knows the law of the source pays for the labels."""

from typing import Any

import numpy as np

from data.dataset import with_fewer
from probes import prequential
from runs import experiment, finished


def truth_bits(truth: Any, tokens_NxT: np.ndarray, labels_N: np.ndarray) -> np.ndarray:
  """-log2 p(label | the whole clean input), (N,), where the label is the root of the source's tree.

  Not negative: float32 leaves some 1e-7 above a probability of 1.
  """
  tokens_NxT = np.asarray(tokens_NxT)[:, : truth.dims]
  root_NxV = np.asarray(truth.infer(tokens_NxT, np.ones(tokens_NxT.shape, bool)).latents[0])[:, 0]
  p_N = np.take_along_axis(root_NxV, np.asarray(labels_N)[:, None], axis=1)[:, 0]
  return -np.log2(np.minimum(p_N.astype(np.float64), 1.0))


def add_truth(table: dict, data_dir: str) -> str | None:
  """Fills in truth_bits of a set of labels whose source is known; a line where it can't."""
  config = finished.config_of(table['workdir'])
  probed = experiment.load_datasets(config, data_dir)[1]
  if config.probe.train_rows:
    probed = with_fewer(probed, config.probe.train_rows)
  if probed.digest != table['data']:
    return (
      f'{table["workdir"]}: no true regret, its labels were {table["data"][:12]} and are made '
      f'differently now, {probed.digest[:12]}'
    )
  train, count = probed.train, table['labels']
  order = prequential.coding_order(len(train), count, table['seed'])
  table['truth_bits'] = float(
    truth_bits(probed.truth, train.tokens_NxT[order], train.labels_N[order]).sum()
  )
  return None
