# python -m launch.train --config=experiments/cifar10.py:autoregressive --workdir=/tmp/cifar10
"""CIFAR-10: 32x32 pixels of a palette of 512 colours fitted to train, as in iGPT (lossy).

The 3,072 bytes themselves, lossless, for accelerators: --config.data.tokens=bytes. Another
palette, such as OpenAI's: --config.data.palette=FILE.npy.
"""

import ml_collections

from experiments import base

# A palette is no scale, so Gaussian diffusion has no place here.
COMPARE = ('autoregressive', 'masked', 'masked_diffusion', 'untrained', 'untrained_causal')
SEEDS = (0,)


def get_config(objective: str = 'autoregressive') -> ml_collections.ConfigDict:
  config = base.get_base(objective)
  images = {'tokens': 'palette', 'size': 0, 'clusters': 512, 'palette': '', 'validation': 5000}
  config.data.update({'name': 'cifar10', **images})
  config.probe_data = ml_collections.ConfigDict({'name': '', **images})
  config.evaluation.draws = 4
  config.evaluation.validation_draws = 1
  return config
