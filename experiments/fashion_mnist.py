# python -m launch.compare --config=experiments/fashion_mnist.py --workdir=/tmp/fashion_mnist
"""Fashion-MNIST: 14x14 area means of 16 grey levels.

The pixels themselves, lossless: --config.data.size=28 --config.data.levels=256. Another labelled
set to probe: --config.probe_data.name=mnist.
"""

import ml_collections

from experiments import base

TRAINED = ('autoregressive', 'masked', 'masked_diffusion', 'gaussian_diffusion')
COMPARE = (*TRAINED, 'untrained', 'untrained_causal')
SEEDS = (0,)
IMAGES = {'tokens': 'grey', 'size': 14, 'levels': 16, 'validation': 2000}


def get_config(objective: str = 'autoregressive') -> ml_collections.ConfigDict:
  config = base.get_base(objective)
  config.data.update({'name': 'fashion_mnist', **IMAGES})
  config.probe_data = ml_collections.ConfigDict({'name': '', **IMAGES})
  config.training.batch_size = 64
  config.training.steps = 400
  config.evaluation.draws = 2
  config.evaluation.validation_draws = 1
  # An hour of two cores. All labels, noise levels and the slower probes: --config.probe.*.
  config.probe.train_rows = 10_000
  config.probe.levels = False
  config.probe.suite = ('linear', 'ridge', 'knn', 'mlp', 'prequential', 'geometry')
  return config
