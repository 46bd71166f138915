# python -m launch.compare --config=experiments/fashion_mnist.py --workdir=/tmp/fashion_mnist
"""Fashion-MNIST: 14x14 area means of 16 grey levels.

The pixels themselves, lossless: --config.data.size=28 --config.data.levels=256. Another labelled
set to probe: --config.probe_data.name=mnist.
"""

import ml_collections

from experiments import base

SEEDS = (0,)
IMAGES = {'tokens': 'grey', 'size': 14, 'levels': 16, 'validation': 5000}


def get_config(objective: str = 'autoregressive') -> ml_collections.ConfigDict:
  config = base.get_base(objective)
  config.data = ml_collections.ConfigDict({'name': 'fashion_mnist', **IMAGES})
  config.probe_data = ml_collections.ConfigDict({'name': '', **IMAGES})
  config.training.batch_size = 64
  config.evaluation.draws = 4
  config.evaluation.validation_draws = 1
  return config
