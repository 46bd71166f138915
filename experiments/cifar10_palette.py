# python -m launch.train --config=experiments/cifar10_palette.py --workdir=RUN --config.data.path=F
"""CIFAR-10 that is in ImageGPT's 512 colours already: an .npz file, read by path (data/arrays.py).

F has train_tokens and test_tokens (N, 1024), their labels, and the palette. 16x16 pixels, by area
means of the colours: --config.data.size=16.
"""

import ml_collections

from experiments import arrays, cifar10

COMPARE, SEEDS = cifar10.COMPARE, cifar10.SEEDS


def get_config(objective: str = 'autoregressive') -> ml_collections.ConfigDict:
  config = arrays.get_config(objective)
  config.data.validation = config.probe_data.validation = 5000
  config.evaluation.draws = 4
  config.evaluation.validation_draws = 1
  return config
